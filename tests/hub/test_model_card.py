"""The model card says what was measured, all of it, and nothing else."""

import json

import jinja2
import jinja2.meta
import pytest
from huggingface_hub import ModelCard
from paths import ROOT

from hrm_hf.hrm.errors import ArgumentError
from hrm_hf.hub import model_card
from hrm_hf.hub.model_card import write_model_card

FIELDS = dict(
    model_name="tiny-sudoku",
    task="sudoku",
    train_dataset="2,000 generated puzzles",
    dataset="Generated 4x4 Sudoku, unseen",
    metrics={"count": 500.0, "exact_accuracy": 0.984, "accuracy": 0.9971, "segments": 2.25},
    recipe={"learning_rate": 1e-3, "note": "two | bars\nand a line"},
    hardware="2 CPU cores",
    seed=0,
    steps=1200,
)


def test_card_read_back_holds_the_measured_numbers(tmp_path):
    card = ModelCard.load(write_model_card(tmp_path, **FIELDS))
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results == {"exact_accuracy": 0.984, "accuracy": 0.9971, "segments": 2.25}
    assert {result.dataset_name for result in card.data.eval_results} == {FIELDS["dataset"]}
    assert {result.dataset_type for result in card.data.eval_results} == {"generated-4x4-sudoku-unseen"}
    assert (card.data.model_name, card.data.license) == ("tiny-sudoku", "apache-2.0")
    assert {"hrm", "puzzle-solving", "sudoku"} <= set(card.data.tags)
    assert "datasets" not in card.data.to_dict()


def test_card_of_a_model_with_shared_levels_names_the_tiny_recursive_model(tmp_path):
    plain = write_model_card(tmp_path, **FIELDS).read_text()
    tiny = write_model_card(tmp_path, **FIELDS | {"recipe": {"shared_levels": True}}).read_text()
    for part in ("one network is both levels", "arxiv:2510.04871", "tiny-recursive-model", "Less is More"):
        assert part in tiny and part not in plain


def test_card_states_run_use_licence_limits_and_source(tmp_path):
    text = write_model_card(
        tmp_path,
        **FIELDS,
        location="user/tiny",
        example="1...",
        limitations=["Made for a test."],
    ).read_text()
    for part in (
        "500 puzzles",
        "| `exact_accuracy` | 0.9840 |",
        "| `learning_rate` | 0.001 |",
        r"two \| bars and a line",
        "Data: 2,000 generated puzzles",
        "Hardware: 2 CPU cores",
        "Seed: 0",
        "Optimiser steps: 1200",
        'pipeline("puzzle-solving", model="user/tiny")',
        'solver("1...")',
        "Made for a test.",
        "Apache-2.0",
        "2506.21734",
    ):
        assert part in text
    assert "None" not in text


def test_data_set_of_the_hub_is_linked(tmp_path):
    card = ModelCard.load(write_model_card(tmp_path, **FIELDS, dataset_id="user/puzzles"))
    assert card.data.datasets == ["user/puzzles"]
    assert {result.dataset_type for result in card.data.eval_results} == {"user/puzzles"}


@pytest.mark.parametrize("name", FIELDS)
def test_missing_field_is_named(tmp_path, name):
    empty = {} if isinstance(FIELDS[name], dict) else "" if isinstance(FIELDS[name], str) else None
    with pytest.raises(ArgumentError, match=f"card's {name} is"):
        write_model_card(tmp_path, **(FIELDS | {name: empty}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.98", None])
def test_number_that_nobody_measured_is_refused(tmp_path, value):
    with pytest.raises(ArgumentError, match="'exact_accuracy'.*finite"):
        write_model_card(tmp_path, **(FIELDS | {"metrics": {"exact_accuracy": value}}))


def test_every_variable_of_the_template_is_filled(tmp_path, monkeypatch):
    given = {}

    def record(cls, card_data, template_path, **values):
        given.update(values)
        return ModelCard("---\nlicense: apache-2.0\n---\n")

    monkeypatch.setattr(model_card.ModelCard, "from_template", classmethod(record))
    write_model_card(tmp_path, **FIELDS)
    template = jinja2.Environment().parse(model_card.TEMPLATE.read_text())
    assert jinja2.meta.find_undeclared_variables(template) <= {"card_data", *given}


def test_card_in_the_repository_root_is_the_template():
    root_card = ROOT / "MODEL_CARD.md"
    assert root_card.resolve() == model_card.TEMPLATE.resolve()


def test_values_stay_beside_the_card_and_fill_it_again(tmp_path):
    fields = FIELDS | {"example": "1...", "limitations": ["Made for a test."], "dataset_id": "user/puzzles"}
    first = write_model_card(tmp_path, **fields, location="path/to/this/folder").read_text()
    again = tmp_path / "again"
    again.mkdir()
    values = json.loads((tmp_path / "card_values.json").read_text())
    second = write_model_card(again, **(values | {"location": "user/tiny"})).read_text()
    assert first.replace("path/to/this/folder", "user/tiny") == second != first
    assert json.loads((again / "card_values.json").read_text()) == values | {"location": "user/tiny"}


def test_card_of_a_checkpoint_with_code_says_how_to_load_it_without_the_package(tmp_path):
    assert "trust_remote_code" not in write_model_card(tmp_path, **FIELDS).read_text()
    text = write_model_card(tmp_path, **FIELDS, location="user/tiny", with_code=True).read_text()
    assert 'pipeline(model="user/tiny", trust_remote_code=True)' in text
