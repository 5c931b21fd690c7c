"""What is written about the metrics is true: the examples in the cards run, no name is missing."""

import doctest
import inspect
import re
from pathlib import Path

import pytest

from hrm_hf.scores import arc_pass_at_k, maze_path_accuracy, puzzle_accuracy

CLASSES = [puzzle_accuracy.PuzzleAccuracy, maze_path_accuracy.MazePathAccuracy, arc_pass_at_k.ArcPassAtK]
FOLDER = Path(puzzle_accuracy.__file__).parent
OUTPUTS = {
    "PuzzleAccuracy": ["exact_accuracy", "accuracy", "q_halt_accuracy"],
    "MazePathAccuracy": ["valid_path", "shortest_path"],
    "ArcPassAtK": ["pass@k"],
}


def card_of(metric_class: type) -> str:
    name = Path(inspect.getfile(metric_class)).stem
    return (FOLDER / "metric_cards" / f"{name}.md").read_text(encoding="utf-8")


def run_examples(text: str, name: str) -> None:
    examples = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    assert any(example.want for example in examples.examples)
    assert doctest.DocTestRunner(verbose=False).run(examples).failed == 0


@pytest.mark.parametrize("metric_class", CLASSES)
def test_examples_of_the_card_run(metric_class):
    blocks = re.findall(r"```python\n(.*?)```", card_of(metric_class), flags=re.DOTALL)
    assert "evaluate.load(" in blocks[0]
    for block in blocks:
        run_examples(block, metric_class.__name__)


@pytest.mark.parametrize("metric_class", CLASSES)
def test_docstring_and_card_name_what_goes_in_and_out(metric_class, tmp_path):
    metric = metric_class(cache_dir=str(tmp_path))
    arguments = [name for name in inspect.signature(metric_class._compute).parameters if name != "self"]
    assert set(metric.features) <= set(arguments)
    card, outputs = card_of(metric_class), OUTPUTS[metric_class.__name__]
    for name in [*arguments, *outputs]:
        assert f"- `{name}`" in card
    for name in arguments:
        assert f"    {name}: " in metric.inputs_description
    for name in outputs:
        assert re.search(rf"^    {name}\b", metric.inputs_description, flags=re.MULTILINE)
    assert metric.inputs_description in metric.compute.__doc__
