"""The command hrm-solve: text, files and JSON of each task, pictures, steps, and one clear line for what is wrong."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import warm_processes
from hub_server import HubServer
from sudoku_grids import ANSWER, QUESTION

from hrm_hf import HrmConfig, HrmForPuzzleSolving, HrmProcessor
from hrm_hf.commands import solve as solve_command
from hrm_hf.commands.solve import main
from hrm_hf.hrm.puzzle_identifiers import BLANK_NAME, PuzzleIdentifiers

SIZES = dict(
    hidden_size=32, num_attention_heads=2, H_layers=1, L_layers=1, num_puzzle_identifiers=3, puzzle_emb_ndim=32
)
MAZE = "S# \n   \n# G\n"
HARD = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."
ARC_TASK = {"train": [], "test": [{"input": [[1, 2]]}, {"input": [[3]], "output": [[4]]}]}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A folder with fresh weights for each task."""
    names = PuzzleIdentifiers([BLANK_NAME, "aaaa", "aaaa_t1_0123456789"])
    processors = {
        "sudoku": HrmProcessor(grid_shape=(4, 4)),
        "maze": HrmProcessor(task="maze", grid_shape=(3, 3)),
        "arc": HrmProcessor(task="arc", grid_shape=(4, 4), puzzle_identifiers=names),
    }
    folders = {}
    for task, processor in processors.items():
        folders[task] = str(tmp_path_factory.mktemp(task))
        torch.manual_seed(0)
        config = HrmConfig(vocab_size=processor.vocab_size, seq_len=processor.num_cells, halt_max_steps=2, **SIZES)
        HrmForPuzzleSolving(config).save_pretrained(folders[task])
        processor.save_pretrained(folders[task])
    return folders


@pytest.fixture
def said(capsys):
    """Runs the command and gives what it wrote: stdout after success, stderr's one line after bad input."""

    def run(*arguments, expect: int = 0) -> str:
        assert main([str(argument) for argument in arguments]) == expect
        out, err = capsys.readouterr()
        if expect:
            assert err.startswith("error: ") and err.count("\n") == 1, err
        return err if expect else out

    return run


def test_sudoku_as_text_and_as_file(checkpoints, said, tmp_path):
    text = said("--checkpoint", checkpoints["sudoku"], "1... .... .... ...2")
    assert text.startswith("1 . | . .\n") and "segment(s), confidence" in text and "valid: False" in text
    file = tmp_path / "puzzle.txt"
    file.write_text("1...\n....\n....\n...2\n")
    assert said("--checkpoint", checkpoints["sudoku"], file) == text
    assert said("--checkpoint", checkpoints["sudoku"], f"@{file}") == text
    file = tmp_path / "puzzle.json"
    file.write_text(json.dumps([[1, 0, 0, 0], [0] * 4, [0] * 4, [0, 0, 0, 2]]))
    assert said("--checkpoint", checkpoints["sudoku"], file) == text


@pytest.mark.parametrize("asked, dtype", [([], None), (["--compute-dtype", "bfloat16"], "bfloat16")])
def test_the_dtype_that_is_asked_for_reaches_the_model(checkpoints, said, monkeypatch, asked, dtype):
    chosen = []
    monkeypatch.setattr("hrm_hf.hrm.solving.chosen_dtype", lambda asked, *_: chosen.append(asked) or "float32")
    said("--checkpoint", checkpoints["sudoku"], *asked, "1... .... .... ...2")
    assert chosen == [dtype]


def test_a_pasted_puzzle_and_its_file(checkpoints, said, tmp_path):
    text = said("--checkpoint", checkpoints["sudoku"], "1... .... .... ...2")
    (tmp_path / "puzzle.sdk").write_bytes(b"\xef\xbb\xbf#A somebody\r\n[Puzzle]\r\n1XXX\r\nXXXX\r\nXXXX\r\nXXX2\r\n")
    assert said("--checkpoint", checkpoints["sudoku"], tmp_path / "puzzle.sdk") == text
    (tmp_path / "puzzle.json").write_text(json.dumps([["1", "", "", ""], [""] * 4, [""] * 4, ["", "", "", "2"]]))
    assert said("--checkpoint", checkpoints["sudoku"], tmp_path / "puzzle.json") == text
    assert said("--checkpoint", checkpoints["sudoku"], "1 - | - -\n- - | - -\n----+----\n- - | - -\n- - | - 2") == text


@pytest.mark.parametrize("name", ["nosuch.sdk", "no/such/folder.ss", "my puzzle.sud", "NOSUCH.TXT", "puzzles.csv"])
def test_a_file_that_is_not_there_is_called_so(checkpoints, said, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    line = said("--checkpoint", checkpoints["sudoku"], name, expect=2)
    assert line == f"error: {name}: there is no such file\n"


@pytest.mark.parametrize("name", ["nosuch", "./nosuch", "puzzle.png", "nosuch.md"])
def test_what_is_neither_a_puzzle_nor_a_file_is_called_both(checkpoints, said, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for task in ("sudoku", "maze"):
        line = said("--checkpoint", checkpoints[task], name, expect=2)
        assert line.endswith("; there is no file of that name either\n")


def test_a_maze_of_numbers_as_file(checkpoints, said, tmp_path):
    (tmp_path / "maze.txt").write_text(MAZE)
    text = said("--checkpoint", checkpoints["maze"], tmp_path / "maze.txt")
    for numbers in ([[2, 0, 1], [1, 1, 1], [0, 1, 3]], [[2, 1, 0], [0, 0, 0], [1, 0, 3]]):
        (tmp_path / "maze.json").write_text(json.dumps(numbers))
        assert said("--checkpoint", checkpoints["maze"], tmp_path / "maze.json") == text


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A folder with fresh weights for 16x16."""
    folder = tmp_path_factory.mktemp("large")
    processor = HrmProcessor(grid_shape=(16, 16), box_shape=(4, 4))
    torch.manual_seed(0)
    config = HrmConfig(vocab_size=processor.vocab_size, seq_len=256, halt_max_steps=1, **SIZES)
    HrmForPuzzleSolving(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bordered(tmp_path_factory):
    """A folder with fresh weights for mazes of 5x5."""
    folder = tmp_path_factory.mktemp("bordered")
    processor = HrmProcessor(task="maze", grid_shape=(5, 5))
    torch.manual_seed(0)
    config = HrmConfig(vocab_size=processor.vocab_size, seq_len=25, halt_max_steps=1, **SIZES)
    HrmForPuzzleSolving(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_what_counts_from_0_is_drawn_so(large, said, tmp_path):
    from_one = "123456789ABCDEFG" + "." * 240
    drawn = said("--checkpoint", large, from_one)
    from_zero = drawn.translate(str.maketrans("123456789ABCDEFG", "0123456789ABCDEF")).split("segment(s)")[0]
    assert drawn.startswith("1 2 3 4 | 5 6 7 8 | 9 A B C | D E F G\n")
    (tmp_path / "numbers.json").write_text(json.dumps([[*range(16)], *([[None] * 16] * 15)]))
    for puzzle in ("0123456789ABCDEF" + "." * 240, "0123456789abcdef" + "?" * 240, tmp_path / "numbers.json"):
        text = said("--checkpoint", large, puzzle)
        assert text.startswith("0 1 2 3 | 4 5 6 7 | 8 9 A B | C D E F\n") and "G" not in text
        assert text.split("\n\n")[:2] == from_zero.split("\n\n")[:2]


def test_maze_as_file(checkpoints, said, tmp_path):
    (tmp_path / "maze.txt").write_text(MAZE)
    text = said("--checkpoint", checkpoints["maze"], tmp_path / "maze.txt")
    assert "|S# |\n|   |\n|# G|" in text and "valid: False" in text


def test_a_maze_within_a_border_is_drawn(tmp_path, said, bordered):
    """Walls and ways join start and goal: in numbers alone it would not be told which is which."""
    text = said("--checkpoint", bordered, "#####\n#S  #\n### #\n#G  #\n#####")
    assert text.startswith("+-----+\n|#####|\n|#S  #|\n")


def test_arc_task_as_file(checkpoints, said, tmp_path):
    (tmp_path / "aaaa.json").write_text(json.dumps(ARC_TASK))
    text = said("--checkpoint", checkpoints["arc"], tmp_path / "aaaa.json")
    assert text.startswith("1 2\n") and "test input 1: " in text and "of 2 votes" in text
    assert text.rstrip().endswith("right: False")  # the second test input has its answer in the file
    (tmp_path / "challenges.json").write_text(json.dumps({"bbbb": {}, "aaaa": ARC_TASK}))
    assert said("--checkpoint", checkpoints["arc"], tmp_path / "challenges.json", "--name", "aaaa") == text
    one = said("--checkpoint", checkpoints["arc"], tmp_path / "aaaa.json", "--num-augmentations", "1")
    assert "1 of 1 votes" in one
    (tmp_path / "grid.json").write_text("[[1, 2]]")
    text = said("--checkpoint", checkpoints["arc"], tmp_path / "grid.json", "--name", "aaaa")
    assert text.startswith("1 2\n") and "segment(s)" in text and "valid" not in text


def test_picture(checkpoints, said, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "aaaa.json").write_text(json.dumps(ARC_TASK))
    (tmp_path / "maze.txt").write_text(MAZE)
    for task, puzzle in (("sudoku", "1" + "." * 15), ("maze", tmp_path / "maze.txt"), ("arc", tmp_path / "aaaa.json")):
        picture = tmp_path / f"{task}.png"
        said("--checkpoint", checkpoints[task], "--picture", picture, puzzle)
        assert picture.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("task", "arguments", "named"),
    [
        ("sudoku", ["11" + "." * 14], "the digit 1 stands twice"),
        ("sudoku", ["@nowhere.txt"], "nowhere.txt"),
        ("maze", ["S#G"], "maze"),
        ("arc", ["aaaa.json", "--name", "bbbb"], "task 'bbbb'.*not trained on"),
        ("arc", ["damaged.json"], "damaged.json is not valid JSON"),
        ("arc", ["challenges.json"], "challenges.json holds neither"),
        ("arc", ["challenges.json", "--name", "bbbb"], "challenges.json holds 1 entries by name.*--name bbbb"),
        ("sudoku", ["1" + "." * 15, "--num-augmentations", "2"], "num_augmentations is 2, but only whole ARC tasks"),
        ("arc", ["aaaa.json", "--num-augmentations", "0"], "num_augmentations is 0"),
    ],
)
def test_bad_puzzles_are_one_line(checkpoints, said, tmp_path, monkeypatch, task, arguments, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "aaaa.json").write_text(json.dumps(ARC_TASK))
    (tmp_path / "damaged.json").write_text('{"train": ')
    (tmp_path / "challenges.json").write_text(json.dumps({"aaaa": ARC_TASK}))
    line = said("--checkpoint", checkpoints[task], *arguments, expect=2)
    assert re.search(named, line), line


def test_checkpoints_that_are_none_are_one_line(said, tmp_path):
    missing = tmp_path / "no" / "folder" / "here"
    assert f"there is no folder {missing}" in said("--checkpoint", missing, "1" * 16, expect=2)
    assert "config.json: there is no such file" in said("--checkpoint", tmp_path, "1" * 16, expect=2)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert "is no puzzle model" in said("--checkpoint", tmp_path, "1" * 16, expect=2)


def test_a_damaged_checkpoint_is_one_line(checkpoints, said, tmp_path):
    folder = shutil.copytree(checkpoints["sudoku"], tmp_path / "damaged")
    (folder / "processor_config.json").unlink()
    assert "processor_config.json" in said("--checkpoint", folder, "1" + "." * 15, expect=2)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert f"{weights} is missing, damaged or cut short" in said("--checkpoint", folder, "1" + "." * 15, expect=2)


SOLVES = """
import json, sys
from hrm_hf.commands import solve as solve_command
from hrm_hf.commands.solve import main
for name in json.loads(sys.argv[1]):
    assert main(["--checkpoint", name, "1..............."]) == (0 if name == "you/sudoku" else 2), name
"""


def test_what_can_be_wrong_with_a_hub_id_is_told_apart(checkpoints, tmp_path):
    def run(environment: dict, *names: str, before: str = "") -> list[str]:
        done = warm_processes.run(["-c", before + SOLVES, json.dumps(names)], environment)
        assert done.returncode == 0, done.stderr
        assert not names[0].endswith("sudoku") or done.stdout.startswith("1 . | . .")
        return [line for line in done.stderr.splitlines() if line.startswith("error: ")]

    with HubServer() as hub:
        files = {path.name: path.read_bytes() for path in Path(checkpoints["sudoku"]).iterdir()}
        hub.add("model", "you/sudoku", files)
        hub.add("model", "you/bert", {"config.json": b'{"model_type": "bert"}'})
        pickled = {"config.json": files["config.json"], "pytorch_model.bin": b"x"}
        hub.add("model", "you/pickled", pickled)
        hub.add("model", "you/cut", files | {"model.safetensors": files["model.safetensors"][:-10]})
        names = ["you/sudoku", "you/none", "you/bert", "you/pickled", "you/cut"]
        none, bert, pickled, cut = run(hub.environment(tmp_path / "home"), *names)
        assert "the model you/none: Repository not found; check the name" in none
        assert "you/bert is no puzzle model" in bert
        assert "models--you--pickled" in pickled and "has no weights: neither model.safetensors nor" in pickled
        assert "model.safetensors is missing, damaged or cut short" in cut
        assert not any(path.endswith("pytorch_model.bin") for _, path in hub.requests)
        (token,) = run(hub.environment(tmp_path / "other", token="hf_wrong"), "you/none")
        assert "the model you/none: Invalid credentials" in token and "hf_wrong" not in token
        environment = hub.environment(tmp_path / "third")
    without_waiting = "import time; time.sleep = lambda seconds: None\n"  # before each of huggingface_hub's retries
    (network,) = run(environment, "you/none", before=without_waiting)  # nobody listens there any more
    assert "could not be reached" in network or "out of reach" in network


def test_a_name_goes_with_a_puzzle_or_task_in_a_dict(checkpoints, said, tmp_path):
    (tmp_path / "puzzle.json").write_text(json.dumps({"puzzle": [[1, 2]]}))
    text = said("--checkpoint", checkpoints["arc"], tmp_path / "puzzle.json", "--name", "aaaa")
    assert text.startswith("1 2\n")
    line = said("--checkpoint", checkpoints["arc"], tmp_path / "puzzle.json", "--name", "bbbb", expect=2)
    assert "'bbbb'" in line
    (tmp_path / "task.json").write_text(json.dumps({"task": ARC_TASK, "name": "bbbb"}))
    assert "of 2 votes" in said("--checkpoint", checkpoints["arc"], tmp_path / "task.json", "--name", "aaaa")


@pytest.fixture
def with_steps(monkeypatch):
    """Hand-made steps, two attempts of one segment, to what the command solves."""
    solve = solve_command.solve

    def solve_with_steps(solver, item, num_augmentations, return_steps=False):
        found = solve(solver, item, num_augmentations)
        if not return_steps:
            return found
        (solved,) = found
        processor = solver.processor
        text = processor.decode(processor.encode(item["puzzle"]), like="?\n?")
        width, cells = solved.prediction.shape[1], np.ones(solved.prediction.shape)
        answer = processor.decode(processor._encode_grid(solved.prediction).reshape(-1), like=text)
        step = {"segment": 1, "solution": answer, "cell_confidence": cells}
        steps = [
            step | {"attempt": 1, "confidence": 0.25, "changed": [[0, 1], [1, width - 1]], "pinned": []},
            step | {"attempt": 2, "confidence": 0.875, "changed": [[0, 0]], "pinned": [[0, 0]]},
        ]
        return [solved._replace(puzzle=text, steps=steps)]

    monkeypatch.setattr(solve_command, "solve", solve_with_steps)


def test_steps_are_drawn_between_question_and_answer(checkpoints, said, with_steps):
    puzzle = "1... .... .... ...2"
    question, answer, summary = said("--checkpoint", checkpoints["sudoku"], puzzle).split("\n\n")
    text = said("--checkpoint", checkpoints["sudoku"], "--steps", puzzle)
    blocks = text.split("\n\n")
    assert [blocks[0], *blocks[3:]] == [question, answer, summary]
    first, *lines = blocks[1].split("\n")
    assert first == "attempt 1, segment 1: confidence 0.25, 2 cells changed (*)"
    assert [line.count("*") for line in lines] == [1, 1, 0, 0, 0]
    assert lines[0][3] == "*" and lines[1][9] == "*"  # behind the second digit, and behind the last of a line
    assert [line.replace("*", " ").rstrip() for line in lines] == answer.split("\n")
    assert blocks[2].startswith("attempt 2, segment 1, 1 guessed: confidence 0.88, 1 cell changed (*)\n")


def test_steps_of_mazes_and_arc_grids(checkpoints, said, with_steps, tmp_path):
    (tmp_path / "maze.txt").write_text(MAZE)
    text = said("--checkpoint", checkpoints["maze"], "--steps", tmp_path / "maze.txt")
    assert "attempt 1, segment 1: confidence 0.25, 2 cells changed\n+---+\n|" in text and "*" not in text


def test_steps_of_a_puzzle_that_counts_from_0(large, said, with_steps):
    puzzle = "0123456789ABCDEF" + "." * 240
    text = said("--checkpoint", large, "--steps", puzzle)
    blocks = text.split("\n\n")
    assert blocks[1].startswith("attempt 1, segment 1: ") and "G" not in text  # the words keep their numbers
    lines = blocks[1].split("\n")[1:]
    assert [line.replace("*", " ").rstrip() for line in lines] == blocks[3].split("\n")


def test_animation(checkpoints, large, said, with_steps, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "maze.txt").write_text(MAZE)
    puzzles = {"sudoku": "1" + "." * 15, "maze": tmp_path / "maze.txt"}
    for task, puzzle in puzzles.items():
        text = said("--checkpoint", checkpoints[task], "--animate", tmp_path / f"{task}.GIF", puzzle)
        assert "segment(s)" in text and "attempt" not in text  # the steps are not drawn as text
        assert (tmp_path / f"{task}.GIF").read_bytes()[:4] == b"GIF8"
    for name, puzzle in (("from_0", "0123456789ABCDEF"), ("from_1", "123456789ABCDEFG")):
        said("--checkpoint", large, "--animate", tmp_path / f"{name}.gif", puzzle + "." * 240)
    assert (tmp_path / "from_0.gif").read_bytes() != (tmp_path / "from_1.gif").read_bytes()


@pytest.mark.parametrize("option", [["--steps"], ["--animate", "out.gif"]])
def test_steps_to_a_whole_arc_task_are_refused_before_it_is_solved(said, tmp_path, monkeypatch, option):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hrm_hf.commands.solve.load_solver", lambda _: pytest.fail("the checkpoint was loaded"))
    (tmp_path / "aaaa.json").write_text(json.dumps(ARC_TASK))
    line = said("--checkpoint", "any", *option, "aaaa.json", expect=2)
    assert line.startswith(f"error: {option[0]} shows the steps to one grid, not to a whole ARC task; give one input")


@pytest.mark.parametrize(("option", "file"), [("--animate", "thinking.gif"), ("--picture", "solved.png")])
def test_a_missing_matplotlib_is_named_before_anything_is_read(said, tmp_path, monkeypatch, option, file):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hrm_hf.commands.solve.load_solver", lambda _: pytest.fail("the checkpoint was loaded"))
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    line = said("--checkpoint", "any", option, file, "1" * 16, expect=2)
    assert line.endswith("matplotlib, which is missing: pip install hrm-hf[plot]\n")


@pytest.mark.parametrize(
    ("option", "file", "named"),
    [
        ("--picture", "solved.jpg", "solved.jpg: a picture is a PNG file; give a name that ends in .png"),
        ("--picture", "nowhere/solved.png", "nowhere/solved.png: there is no folder nowhere"),
        ("--animate", "thinking.png", "thinking.png: an animation is a GIF file; give a name that ends in .gif"),
        ("--animate", "nowhere/thinking.gif", "nowhere/thinking.gif: there is no folder nowhere"),
    ],
)
def test_a_picture_that_cannot_be_is_refused_before_anything_is_read(said, tmp_path, monkeypatch, option, file, named):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hrm_hf.commands.solve.load_solver", lambda _: pytest.fail("the checkpoint was loaded"))
    assert said("--checkpoint", "any", option, file, "1" * 16, expect=2) == f"error: {option} {named}\n"


def test_a_folder_is_not_called_missing(checkpoints, said, tmp_path):
    assert f"{tmp_path}: it is a folder" in said("--checkpoint", checkpoints["sudoku"], f"@{tmp_path}", expect=2)


def test_the_folder_of_a_run_says_where_its_checkpoints_are(checkpoints, said, tmp_path):
    for name in ("checkpoint-100", "checkpoint-best"):
        shutil.copytree(checkpoints["sudoku"], tmp_path / "run" / name)
    run = tmp_path / "run"
    hint = f"{run} is the folder of a run; name a checkpoint, such as {run}/checkpoint-"
    assert said("--checkpoint", run, "1" * 16, expect=2) == f"error: {hint}best\n"
    shutil.copytree(checkpoints["sudoku"], run / "checkpoint-final")
    assert said("--checkpoint", run, "1" * 16, expect=2) == f"error: {hint}final\n"
    said("--checkpoint", run / "checkpoint-final", "1" + "." * 15)


def test_a_task_shows_how_far_it_is(checkpoints, tmp_path, capsys, every_line):
    (tmp_path / "aaaa.json").write_text(json.dumps(ARC_TASK))
    assert main(["--checkpoint", checkpoints["arc"], str(tmp_path / "aaaa.json")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("solving: ")]
    assert lines[0].startswith("solving: 0/4 rows, ") and lines[-1].startswith("solving: 4/4 rows, ")


def test_without_a_checkpoint_the_model_of_the_package_solves(said):
    lines = said(QUESTION).splitlines()
    assert "".join(lines[12:23]).replace("|", "").replace(" ", "").replace("-", "").replace("+", "") == ANSWER
    assert re.fullmatch(r"\d+ segment\(s\), confidence [01]\.\d{3}, valid: True", lines[-1])
    assert said(QUESTION, "--check").splitlines()[-1] == "the exact solver finds exactly one solution"
    assert said(HARD).endswith("valid: True\n")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["142.23....32..1."], "16 cells; expected 9 x 9 = 81 (write a sign"),
        (
            ["142.23....32..1."],
            "the model that comes with hrm_hf solves 9x9 Sudokus: for other puzzles give --checkpoint",
        ),
        (["TASK.json"], "for ARC; this model's task is 'sudoku'; the model that comes with hrm_hf solves 9x9 Sudokus"),
        (["S# G"], "for other puzzles give --checkpoint"),
        (["abc"], "for other puzzles give --checkpoint"),
        ([QUESTION, "--attempts", "0"], "num_attempts is 0; allowed: integers from 1 to 1024"),
        ([QUESTION, "--attempts", "2000"], "num_attempts is 2000"),
        ([f"5{QUESTION[1:2]}5{QUESTION[3:]}"], "the digit 5 stands twice in row 1"),
    ],
)
def test_what_the_model_of_the_package_cannot_solve_is_one_line(said, tmp_path, arguments, named):
    (tmp_path / "TASK.json").write_text(json.dumps(ARC_TASK))
    arguments = [tmp_path / word if word == "TASK.json" else word for word in arguments]
    assert named in said(*arguments, expect=2)


@pytest.mark.parametrize(
    ("question", "words"), [(f".1{QUESTION[2:]}", "finds no solution"), ("." * 81, "finds several solutions")]
)
def test_a_puzzle_without_one_solution_is_said_to_be_so(said, question, words):
    *_, summary, checked = said(question, "--attempts", "2", "--check").splitlines()
    assert "in 2 attempts" in summary and summary.endswith("valid: False") and checked == f"the exact solver {words}"


def test_attempts_of_a_checkpoint(checkpoints, said, tmp_path):
    puzzle = "1..4..1..1..4..1"
    line = said("--checkpoint", checkpoints["sudoku"], puzzle, "--attempts", "3", "--strategy", "noise").splitlines()[
        -1
    ]
    assert " in 3 attempts, " in line
    sudoku, maze = (["--checkpoint", checkpoints[task]] for task in ("sudoku", "maze"))
    assert "--select says how to ask again: give --attempts N too" in said(
        *sudoku, puzzle, "--select", "vote", expect=2
    )
    (tmp_path / "maze.txt").write_text(MAZE)
    asked = [*maze, tmp_path / "maze.txt"]
    assert "--check counts the solutions of a Sudoku" in said(*asked, "--check", expect=2)
    assert "'maze' does not offer" in said(*asked, "--attempts", "2", "--strategy", "guess", expect=2)
