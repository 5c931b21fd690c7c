"""The card of a data set says what its files hold, all of it, and nothing that nobody stated."""

import jinja2
import jinja2.meta
import numpy as np
import pytest
from huggingface_hub import DatasetCard

from hrm_hf.data import GridExample, PuzzleFile, PuzzleSetInfo, PuzzleWriter
from hrm_hf.hrm.errors import ArgumentError
from hrm_hf.hub import dataset_card

STATED = dict(license="cc-by-4.0", source="Made up for a test.")


@pytest.fixture
def sudokus(tmp_path):
    """train.h5: 3 originals with 4 variants each; test.h5: a block of 7."""
    shared = dict(task="sudoku", vocab_size=6, vocabulary=("PAD", "blank", *"1234"), grid_shape=(4, 4))
    cells = np.random.default_rng(0).integers(0, 6, (7, 2, 16), dtype=np.uint8)
    train = PuzzleSetInfo(split="train", num_aug=3, seed=5, box_shape=(2, 2), **shared)
    with PuzzleWriter(tmp_path / "train.h5", train) as writer:
        for number in range(3):
            writer.add_puzzle(str(number), [cells[:4]], "variants", {}, {})
    test = PuzzleSetInfo(split="test", num_aug=0, seed=5, box_shape=(2, 2), **shared)
    with PuzzleWriter(tmp_path / "test.h5", test) as writer:
        writer.add_puzzle("0", [cells], "puzzles", {}, {})
    return [PuzzleFile(tmp_path / "train.h5"), PuzzleFile(tmp_path / "test.h5")]


@pytest.fixture
def grids(tmp_path):
    """A file of native grids with names."""
    vocabulary = ("PAD", "EOS", " ", "|", '"')
    info = PuzzleSetInfo("grids", "train", 5, vocabulary, (30, 20), 1, 0, num_puzzle_identifiers=9, eos_id=1)
    arrays = {
        "transform": np.array([0, 4], dtype=np.uint8),
        "identifier": np.array([1, 8], dtype=np.int32),
        "name": np.array(["a", "a_t4"], dtype="S"),
    }
    with PuzzleWriter(tmp_path / "grids.h5", info) as writer:
        example = GridExample(np.full((2, 5), 2, dtype=np.uint8), (1, 3), (1, 2))
        writer.add_puzzle("a", [example, example, example], "variants", {}, arrays)
    return [PuzzleFile(tmp_path / "grids.h5")]


def test_metadata_of_the_hub(sudokus):
    data = DatasetCard(dataset_card.dataset_card(sudokus, "you/sudokus", **STATED)).data.to_dict()
    assert data["license"] == "cc-by-4.0"
    assert data["size_categories"] == "n<1K"
    assert data["viewer"] is False
    assert {"hrm", "sudoku", "hdf5"} <= set(data["tags"])


def test_what_the_files_hold(sudokus):
    text = dataset_card.dataset_card(sudokus, "you/sudokus", **STATED)
    train, test = (file.path.stat().st_size for file in sudokus)
    for part in (
        "# you/sudokus",
        "task `sudoku`",
        'load_puzzles("you/sudokus", split="test")',
        'training_batches("you/sudokus", global_batch_size=64, seed=0)',
        "(16,) each",
        f"| train | `train.h5` | {train} | 12 | 3 | 12 | 3 | 5 |",
        f"| test | `test.h5` | {test} | 7 | 7 | 7 | 0 | 5 |",
        "Every grid has 4 x 4 cells with boxes of 2 x 2. A label of code 0 is not scored.",
        '| 1 | "blank" |\n| 2 | "1" |',
        "all share row 0",
        "(rows, 2, 16): input and label",
        "Made up for a test.",
        "`cc-by-4.0`",
    ):
        assert part in text
    for absent in ("EOS", "input_shape", "None", "{{", "Undefined"):
        assert absent not in text


def test_native_grids_names_and_odd_vocabulary(grids):
    text = dataset_card.dataset_card(grids, "you/grids", **STATED)
    for part in (
        "frames of 30 x 20 cells; code 1 closes a grid, code 0 fills the rest. A label of code 0",
        '| 2 | " " |\n| 3 | "\\|" |\n| 4 | "\\"" |',
        "needs 9 rows",
        "`input_shape`",
        "| train | `grids.h5` |",
        "| 6 | 1 | 2 | 1 | 0 |",
    ):
        assert part in text
    assert "boxes" not in text and "(rows, 2," not in text


def test_tables_and_code_are_whole_lines(sudokus, grids):
    """A blank line inside a table, or none before it, would show it as text."""
    for files in (sudokus, grids):
        lines = dataset_card.dataset_card(files, "you/name", **STATED).splitlines()
        for before, line, after in zip(lines, lines[1:], lines[2:]):
            if line.startswith("| ---"):
                assert before.startswith("|") and after.startswith("|")
            if line.startswith("|") and not before.startswith("|"):
                assert before == "" and after.startswith("| ---")
            if line.startswith("#"):
                assert before == after == ""


@pytest.mark.parametrize("name", ["license", "source"])
@pytest.mark.parametrize("value", ["", " \n"])
def test_nothing_is_guessed(sudokus, name, value):
    with pytest.raises(ArgumentError, match=f"card's {name} is"):
        dataset_card.dataset_card(sudokus, "you/name", **(STATED | {name: value}))


@pytest.mark.parametrize(
    ("num_rows", "name"), [(999, "n<1K"), (1000, "1K<n<10K"), (3_831_994, "1M<n<10M"), (10**9, "n>1B")]
)
def test_sizes_have_the_names_of_the_hub(num_rows, name):
    assert dataset_card.size_category(num_rows) == name


def test_every_variable_of_the_template_is_filled(sudokus, monkeypatch):
    given = {}

    def record(cls, card_data, template_path, **values):
        given.update(values)
        return DatasetCard("---\nlicense: mit\n---\n")

    monkeypatch.setattr(dataset_card.DatasetCard, "from_template", classmethod(record))
    dataset_card.dataset_card(sudokus, "you/name", **STATED)
    template = jinja2.Environment().parse(dataset_card.TEMPLATE.read_text())
    assert jinja2.meta.find_undeclared_variables(template) == {"card_data", *given}
