"""Anything that a web form or a caller could send as a puzzle is answered or refused, soon and by a documented error.

Each property takes tiny models with fresh weights: what they answer does not matter, only that they do.
"""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_inputs import examples, mutated, mutated_text, nothing_written_outside, result_or_documented
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from transformers import pipeline

from hrm_hf import HrmConfig, HrmForPuzzleSolving, HrmProcessor
from hrm_hf.commands.solve import main
from hrm_hf.commands.solve import solve as solve_item
from hrm_hf.hrm.errors import ArgumentError, PuzzleError
from hrm_hf.hrm.pipeline_puzzle import MAX_SEGMENTS
from hrm_hf.hrm.puzzle_identifiers import BLANK_NAME, PuzzleIdentifiers
from hrm_hf.hrm.puzzle_questions import MAX_TEST_INPUTS

NAMES = [BLANK_NAME, "aaaa", "aaaa_t1_0123456789", "aaaa_t6_0213456789"]
PROCESSORS = {
    "sudoku": HrmProcessor(grid_shape=(4, 4)),
    "maze": HrmProcessor(task="maze", grid_shape=(3, 3)),
    "arc": HrmProcessor(task="arc", grid_shape=(4, 4), puzzle_identifiers=PuzzleIdentifiers(NAMES)),
}
TEXTS = {"sudoku": "1..4..1..1..4..1", "maze": "S# \n   \n# G", "arc": "12\n34"}
LISTS = {
    "sudoku": [[1, 0, 0, 4], [0, 0, 1, 0], [0, 1, 0, 0], [4, 0, 0, 1]],
    "maze": [[2, 0, 1], [1, 1, 1], [0, 1, 3]],
    "arc": [[1, 2], [3, 4]],
}
ARC_TASK = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[1, 2]]}, {"input": [[3]]}]}
CHARACTERS = "0123456789.# SGo\n\r\t\0\x1b\x7f\u2028\u200b\ufeff٠١٢٣१௧１２３²½Ⅳ一🟦😀é\ud800xX-+eE_|*?,;:/[]\"'─│"
SIZES = dict(
    hidden_size=16,
    num_attention_heads=2,
    expansion=1,
    H_layers=1,
    L_layers=1,
    H_cycles=1,
    L_cycles=1,
    halt_max_steps=2,
    puzzle_emb_ndim=16,
    num_puzzle_identifiers=len(NAMES),
)


def make_solver(task: str):
    processor = PROCESSORS[task]
    torch.manual_seed(0)
    config = HrmConfig(vocab_size=processor.vocab_size, seq_len=processor.num_cells, **SIZES)
    return pipeline("puzzle-solving", model=HrmForPuzzleSolving(config), processor=processor, device="cpu")


SOLVERS = {task: make_solver(task) for task in PROCESSORS}
TASKS = st.sampled_from(list(PROCESSORS))


class Nothing(Exception):
    """Documented nowhere: all exceptions go on to the test."""


class Raises:
    """An object whose every method that a reader might call raises."""

    def __len__(self):
        raise KeyError("no length")

    __iter__ = __getitem__ = __array__ = __repr__ = __index__ = __float__ = __len__


def deep(levels: int) -> list:
    grid = [1]
    for _ in range(levels):
        grid = [grid]
    return grid


HUGE = np.broadcast_to(np.uint8(1), (100_000, 100_000))  # 1e10 cells in one byte
HUGE_TENSOR = torch.ones(1, dtype=torch.uint8).expand(100_000, 100_000)
HUGE_ROW = np.broadcast_to(np.int64(1), 2**40)
ITSELF: list = []
ITSELF.append(ITSELF)
ODD_OBJECTS = (
    *(None, True, False, 0, -1, 10**5000, -(10**5000), 1.5, math.nan, math.inf, 1j, b"1..4", bytearray(b"12"), ...),
    *({1, 2}, frozenset(), range(16), range(10**12), memoryview(b"\1" * 16), object(), Raises(), int, len),
    *([], (), {}, "", deep(4000), ITSELF, [ITSELF] * 4, [Raises()] * 16, [[Raises()] * 4] * 4, "1" * 1_000_000),
    *("\n" * 1_000_000, "S" * 70_000, ["12", [1, 2]], [[1, 2], "12"], ["12", 3], [np.array(5)] * 4, [HUGE_ROW] * 4),
    *(HUGE, HUGE_TENSOR, HUGE_ROW, HUGE.T[::7, ::3], [HUGE] * 4),
    *(np.array(1), np.array(None), np.zeros((0, 4)), np.zeros((4, 0)), np.zeros((4, 4), "S1"), np.zeros((4, 4), "U1")),
    *(
        np.full((4, 4), None),
        np.full((4, 4), deep(50), object),
        np.zeros((4, 4), [("a", "i4")]),
        np.zeros(16, "M8[s]"),
    ),
    *(np.array(LISTS["sudoku"], np.longdouble), np.asfortranarray(LISTS["maze"]), np.array(LISTS["arc"], "O")),
    *(
        np.ma.masked_array(LISTS["sudoku"], mask=True),
        np.array(LISTS["sudoku"]).view(np.matrix),
        np.array(LISTS["sudoku"], ">i8"),
    ),
    *(
        torch.zeros(4, 4).to_sparse(),
        torch.zeros(4, 4, device="meta"),
        torch.zeros(4, 4, dtype=torch.complex64).conj(),
    ),
    *(torch.nn.Parameter(torch.tensor(LISTS["sudoku"], dtype=torch.float64)), torch.tensor(3), torch.zeros(0, 4)),
    *(torch.tensor(LISTS["arc"]).T, torch.zeros(4, 4, dtype=torch.bool), torch.full((4, 4), math.nan)),
    *(torch.tensor(LISTS["sudoku"]).to(torch.float8_e5m2), torch.tensor(LISTS["sudoku"]).to(torch.uint64)),
    *(
        np.array(LISTS["sudoku"], np.uint64) + np.uint64(2**63),
        np.array(LISTS["sudoku"], np.uint64),
        np.float16(LISTS["sudoku"]),
    ),
    *({"puzzle": "1..4..1..1..4..1"}, {"puzzle": None, 3: 4}, {"task": None}, {"task": ARC_TASK, "name": "x" * 10**6}),
    *({"puzzle": LISTS["arc"], "puzzle_identifier": deep(4000)}, {"task": ARC_TASK, "name": "aaaa", (): ()}),
    *({"puzzle": LISTS["arc"], "puzzle_identifier": 10**5000}, {"task": ARC_TASK, 1: 2}, {"task": deep(9), "name": 1}),
)

odd_objects = st.integers(0, len(ODD_OBJECTS) - 1).map(ODD_OBJECTS.__getitem__)  # some of them cannot be shown
numbers = st.one_of(
    st.integers(-2, 17),
    st.integers(),
    st.floats(),
    st.sampled_from([2**63, -(2**63) - 1, 10**400, math.nan, True, None, np.int8(3), np.float32(2), np.bool_(True)]),
)
cells = st.one_of(numbers, st.text(CHARACTERS, max_size=3), st.binary(max_size=2), st.complex_numbers())
ragged = st.recursive(
    cells, lambda inner: st.one_of(st.lists(inner, max_size=5), st.tuples(inner, inner)), max_leaves=30
)
any_array = st.one_of(
    arrays.arrays(
        st.one_of(arrays.scalar_dtypes(), arrays.array_dtypes(), arrays.nested_dtypes()),
        st.one_of(
            st.sampled_from([(4, 4), (16,), (3, 3), (9,), (2, 2), (1, 4), (4, 4, 1)]), arrays.array_shapes(min_dims=0)
        ),
    ),
    arrays.arrays(
        st.sampled_from("bBhHiIqQefdg?"),
        st.sampled_from([(4, 4), (16,), (3, 3), (2, 2)]),
        elements=st.integers(0, 1),
        fill=st.nothing(),
    ),
)
DTYPES = {value for value in vars(torch).values() if isinstance(value, torch.dtype)} - {torch.complex32}  # it warns
DTYPES = sorted(DTYPES, key=str)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    shape = draw(st.sampled_from([(4, 4), (16,), (3, 3), (2, 2), (), (0,), (1, 4, 4)]))
    values = torch.tensor(draw(st.lists(st.integers(-1, 5), min_size=16, max_size=16)))[: math.prod(shape)].reshape(
        shape
    )
    try:
        return values.to(draw(st.sampled_from(DTYPES)))
    except (RuntimeError, TypeError):  # no such conversion
        return values


@st.composite
def near_puzzles(draw: st.DrawFn, task: str) -> object:
    """A puzzle that could be right, with a few cells or the form changed."""
    grid = np.array(LISTS[task])
    for _ in range(draw(st.integers(0, 2))):
        grid[draw(st.integers(0, len(grid) - 1)), draw(st.integers(0, len(grid) - 1))] = draw(st.integers(0, 5))
    form = draw(
        st.sampled_from(["array", "list", "flat", "tuple", "text", "float", "tensor", "object", "view", "rows"])
    )
    if form == "text":
        return draw(mutated_text(TEXTS[task]))
    forms = {
        "array": grid,
        "list": grid.tolist(),
        "flat": grid.ravel().tolist(),
        "tuple": tuple(map(tuple, grid.tolist())),
        "float": grid.astype(np.float16),
        "tensor": torch.from_numpy(grid.copy()),
        "object": grid.astype(object),
        "view": np.repeat(grid, 2, axis=1)[:, ::2],
        "rows": list(grid),
    }
    made = forms[form]
    if isinstance(made, list) and draw(st.booleans()):
        made[draw(st.integers(0, len(made) - 1))] = draw(ragged)
    return made


def anything(task: str) -> st.SearchStrategy:
    return st.one_of(
        near_puzzles(task),
        near_puzzles(task),
        st.text(CHARACTERS, max_size=40),
        st.text(max_size=20),
        ragged,
        any_array,
        tensors(),
        odd_objects,
        st.dictionaries(st.one_of(st.sampled_from(["puzzle", "puzzle_identifier", "task", "name"]), cells), ragged),
        st.builds(lambda puzzle, row: {"puzzle": puzzle, "puzzle_identifier": row}, near_puzzles(task), cells),
    )


def hostile(quick: int):
    return settings(max_examples=examples(quick), suppress_health_check=list(HealthCheck))


class TestProcessor:
    @hostile(90)
    @given(st.data())
    def test_one_puzzle(self, data):
        task = data.draw(TASKS)
        processor, puzzle = PROCESSORS[task], data.draw(anything(task))
        ids = result_or_documented(lambda: processor.encode(puzzle), PuzzleError)
        for read in (processor.read, processor.draw):
            result_or_documented(lambda read=read: read(puzzle), PuzzleError)
        if ids is None:
            return
        assert ids.shape == (processor.num_cells,) and ids.dtype == np.int64
        answer = data.draw(
            arrays.arrays(np.int64, processor.num_cells, elements=st.integers(-1, processor.vocab_size))
        )
        decoded = processor.decode(answer, like=puzzle)  # what was read can be answered
        assert processor.is_valid(puzzle, decoded) in (True, False, None)
        assert isinstance(decoded, str) == isinstance(puzzle, str)

    @hostile(50)
    @given(st.data())
    def test_a_batch_names_the_bad_one(self, data):
        task = data.draw(TASKS)
        processor, bad = PROCESSORS[task], data.draw(anything(task))
        place = data.draw(st.integers(0, 2))
        batch = [TEXTS[task], LISTS[task], np.array(LISTS[task])]
        batch.insert(place, bad)
        identifiers = data.draw(st.one_of(st.none(), ragged, cells, any_array, tensors(), st.just([1, 2, 3, 0])))
        readable = result_or_documented(lambda: processor.encode(bad), PuzzleError) is not None
        try:
            inputs = result_or_documented(lambda: processor(batch, identifiers, data.draw(st.just("np"))), Nothing)
            assert readable and inputs["input_ids"].shape == (4, processor.num_cells)
        except PuzzleError as error:
            assert str(error).startswith(f"puzzle {place}: ") != readable
            assert len(str(error)) < 2000

    @hostile(50)
    @given(st.data())
    def test_decoding(self, data):
        task = data.draw(TASKS)
        processor = PROCESSORS[task]
        ids = data.draw(st.one_of(anything(task), st.just([1] * processor.num_cells)))
        like = data.draw(anything(task))
        result_or_documented(lambda: processor.decode(ids, like=like), ArgumentError)
        result_or_documented(lambda: processor.batch_decode(ids, like), ArgumentError)
        result_or_documented(lambda: processor.is_valid(like, ids), PuzzleError)

    @hostile(30)
    @given(st.one_of(TASKS, ragged, odd_objects), *[st.one_of(ragged, odd_objects)] * 2)
    def test_settings(self, task, grid_shape, box_shape):
        result_or_documented(lambda: HrmProcessor(task, grid_shape, box_shape), ArgumentError)
        result_or_documented(lambda: HrmProcessor("maze", [grid_shape, 2**30]), ArgumentError)
        result_or_documented(lambda: PROCESSORS["sudoku"]([], return_tensors=box_shape), ArgumentError)


class TestPipeline:
    @hostile(60)
    @given(st.data())
    def test_one_item(self, data):
        task = data.draw(TASKS)
        item = data.draw(anything(task))
        answer = result_or_documented(lambda: SOLVERS[task](item), PuzzleError)
        if isinstance(answer, dict):
            assert math.isfinite(np.mean(answer["confidence"]))

    @hostile(30)
    @given(st.data())
    def test_a_batch_names_the_bad_one(self, data):
        task = data.draw(TASKS)
        good = {"puzzle": TEXTS[task], "puzzle_identifier": 1}
        bad, place = data.draw(anything(task)), data.draw(st.integers(0, 2))
        batch = [good, good]
        batch.insert(place, bad)
        as_stream = data.draw(st.booleans())
        try:
            answers = result_or_documented(lambda: list(SOLVERS[task](iter(batch) if as_stream else batch)), Nothing)
            assert len(answers) == 3
        except PuzzleError as error:
            assert str(error).startswith(f"item {place}: ") and len(str(error)) < 2000

    @hostile(20)
    @given(st.dictionaries(st.sampled_from(["max_segments", "halt", "batch_size", "num_augmentations", "x"]), numbers))
    def test_parameters(self, parameters):
        result_or_documented(lambda: SOLVERS["sudoku"](TEXTS["sudoku"], **parameters), ArgumentError)

    @hostile(60)
    @given(st.data())
    def test_arc_tasks(self, data):
        kind = data.draw(st.sampled_from(["text", "parts", "grids"]))
        if kind == "text":
            try:
                task = json.loads(data.draw(mutated_text(json.dumps(ARC_TASK))))
            except (ValueError, RecursionError):
                return
        elif kind == "parts":
            pair = st.dictionaries(st.sampled_from(["input", "output", "x"]), st.one_of(anything("arc"), ragged))
            task = {part: data.draw(st.one_of(st.lists(pair, max_size=3), ragged)) for part in ("train", "test")}
        else:
            task = {"train": [], "test": [{"input": data.draw(anything("arc"))}]}
        name = data.draw(
            st.one_of(st.just("aaaa"), st.just("aaaa"), st.sampled_from(NAMES), mutated_text("aaaa"), cells)
        )
        answer = result_or_documented(lambda: SOLVERS["arc"]({"task": task, "name": name}), PuzzleError)
        if answer is not None:
            assert len(answer["solutions"]) == len(task["test"]) and 1 <= answer["num_augmentations"] <= 3


@pytest.mark.parametrize("task", PROCESSORS)
def test_every_odd_object(task):
    """Those that once were read by an accident of Python, copied at full size, or could not even be shown."""
    processor, good = PROCESSORS[task], TEXTS[task]
    for odd in ODD_OBJECTS:
        result_or_documented(lambda odd=odd: processor([good, odd]), PuzzleError)
        result_or_documented(lambda odd=odd: processor([good, good], puzzle_identifiers=odd), PuzzleError)
        result_or_documented(lambda odd=odd: processor.decode(odd, like=good), ArgumentError)
        result_or_documented(lambda odd=odd: processor.decode([1] * processor.num_cells, like=odd), ArgumentError)
        result_or_documented(lambda odd=odd: SOLVERS[task](odd), PuzzleError)
        result_or_documented(lambda odd=odd: SOLVERS[task]([good, odd]), PuzzleError)
        result_or_documented(lambda odd=odd: SOLVERS[task](good, max_segments=odd), ArgumentError, PuzzleError)
        task_of_it = {"train": odd, "test": [{"input": odd}]}
        result_or_documented(lambda item=task_of_it: SOLVERS["arc"]({"task": item, "name": "aaaa"}), PuzzleError)


def test_limits_are_named():
    with pytest.raises(ArgumentError, match=f"max_segments is an integer of 16610 bits; .* 1 to {MAX_SEGMENTS}"):
        SOLVERS["sudoku"](TEXTS["sudoku"], max_segments=10**5000)
    task = {"train": [], "test": [{"input": [[1]]}] * (MAX_TEST_INPUTS + 1)}
    with pytest.raises(PuzzleError, match=f"has {MAX_TEST_INPUTS + 1} test inputs"):
        SOLVERS["arc"]({"task": task, "name": "aaaa"})
    with pytest.raises(PuzzleError, match="100000, 100000.* at most"):
        PROCESSORS["sudoku"].encode(HUGE_TENSOR)
    with pytest.raises(ArgumentError, match="65536"):
        HrmProcessor("maze", (10**6, 10**6))
    with pytest.raises(PuzzleError, match="an integer of 16610 bits"):
        PROCESSORS["sudoku"](TEXTS["sudoku"], puzzle_identifiers=10**5000)
    with pytest.raises(PuzzleError, match=re.escape("aaaa_t9_0123456789")):  # before anything is solved
        names = PuzzleIdentifiers([BLANK_NAME, "aaaa", "aaaa_t9_0123456789", ""])
        solver = pipeline(
            "puzzle-solving",
            model=SOLVERS["arc"].model,
            processor=HrmProcessor("arc", (4, 4), puzzle_identifiers=names),
            device="cpu",
        )
        solver({"task": ARC_TASK, "name": "aaaa"})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs the command on a text or a file's bytes; loading, which is the same for all, is done once."""
    root = tmp_path_factory.mktemp("command")
    (root / "in").mkdir()
    patch = pytest.MonkeyPatch()
    patch.setattr("hrm_hf.commands.solve.load_solver", SOLVERS.__getitem__)
    patch.chdir(root / "in")

    def run(capsys, task: str, argument: str, *more: str, file: bytes | None = None) -> None:
        if file is not None:
            Path(argument).write_bytes(file)
        with nothing_written_outside(root, root / "in"):
            code = result_or_documented(lambda: main(["--checkpoint", task, *more, "--", argument]), SystemExit)
        out, err = capsys.readouterr()
        assert code in (0, 2)
        assert (code == 0) == bool(out)
        if code:
            assert err.startswith("error: ") and err.count("\n") == 1 and err[:-1].isprintable()

    yield run
    patch.undo()


class TestCommand:
    """hrm-solve with files and strings: exit code 0, or 2 with one line on stderr."""

    @hostile(30)
    @given(st.data())
    def test_strings(self, run, capsys, data):
        task = data.draw(TASKS)
        argument = data.draw(
            st.one_of(mutated_text(TEXTS[task]), st.text(CHARACTERS, max_size=30), st.text(max_size=9))
        )
        run(
            capsys, task, argument, *data.draw(st.sampled_from([[], ["--name", "aaaa"], ["--num-augmentations", "1"]]))
        )

    @hostile(60)
    @given(st.data())
    def test_files(self, run, capsys, data):
        task = data.draw(TASKS)
        seeds = [TEXTS[task], json.dumps(LISTS[task]), json.dumps({"puzzle": LISTS[task], "puzzle_identifier": 1})]
        if task == "arc":
            seeds += [json.dumps(ARC_TASK), json.dumps({"aaaa": ARC_TASK})] * 2
        seed = data.draw(st.sampled_from(seeds))
        text = mutated_text(seed).map(lambda text: text.encode("utf-8", "surrogatepass"))
        content = data.draw(st.one_of(mutated(seed.encode()), text))
        name = data.draw(st.sampled_from(["aaaa.json", "aaaa.txt", "aaaa.json", "@aaaa.json"]))
        more = data.draw(st.sampled_from([[], ["--name", "aaaa"], ["--name", "\ud800\n"]]))
        if name.startswith("@"):
            Path(name[1:]).write_bytes(content)
            run(capsys, task, name, *more)
        else:
            run(capsys, task, name, *more, file=content)

    def test_an_endless_file(self, run, capsys):
        run(capsys, "sudoku", "@/dev/zero")


def test_solving_an_item_takes_no_other_arguments():
    with pytest.raises(ArgumentError, match="num_augmentations"):
        solve_item(SOLVERS["sudoku"], {"puzzle": TEXTS["sudoku"]}, 2)
