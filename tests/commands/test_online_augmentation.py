"""hrm-train with symmetries and revealed cells drawn at every visit: what is stored, resumed and refused."""

import pytest
from made_up_arc import made_up_task, original_layout, write_folder
from run_records import broken_at, log_of
from training_command import reset_accelerate

from hrm_hf.commands import build, train
from hrm_hf.data import PuzzleFile

SMALL = "--num-train 12 --num-test 4 --global-batch-size 8 --cpu-threads 1 --warmup-steps 1 --max-steps 6"
SMALL += " --hidden-size 32 --num-attention-heads 2 --state-steps 1 --state-limit 9 --halt-max-steps 2"
DRAWN = ["--online_augmentation", "true", "--reveal_prob", "0.5"]
pytestmark = pytest.mark.usefixtures("process_as_before")


def hrm_train(*words: object) -> int:
    reset_accelerate()
    return train.main([*map(str, words)])


def test_the_file_holds_originals_only_and_a_resumed_run_is_the_unbroken_one(tmp_path, capsys):
    run, words = tmp_path / "run", ["sudoku", *SMALL.split()]
    assert hrm_train(*words, *DRAWN, "--output-dir", run) == 0
    info = PuzzleFile(run / "data" / "train.h5").info
    assert info.num_groups == info.num_puzzles == 12
    card = (run / "checkpoint-final" / "README.md").read_text()
    assert "| `online_augmentation` | True |" in card and "| `reveal_prob` | 0.5 |" in card
    again = broken_at(run, 3, tmp_path / "again")
    assert (
        hrm_train(*words, "--online-augmentation", "false", "--num-aug", 0, "--output-dir", again, "--resume", "auto")
        != 0
    )
    assert "online_augmentation was True, now it is False" in capsys.readouterr().err
    assert hrm_train(*words, *DRAWN, "--output-dir", again, "--resume", "auto") == 0
    assert log_of(again) == log_of(run)
    ours, theirs = ((each / "checkpoint-final" / "model.safetensors").read_bytes() for each in (again, run))
    assert ours == theirs


def test_what_a_game_does_not_have_is_refused_by_one_line(tmp_path, capsys):
    write_folder(tmp_path / "tasks", original_layout({"aaaaaaaa": made_up_task(1, num_test=1)}))
    made = ["--num-aug", "1", "--frame-size", "4", "--workers", "1", str(tmp_path / "tasks")]
    assert build.main(["arc", "--output-dir", str(tmp_path / "arc"), *made]) == 0
    arc = ["arc", "--data-dir", tmp_path / "arc", "--max-steps", 1, "--global-batch-size", 1]
    for words, message in (
        (["sudoku", "--reveal_prob", 1.5], "reveal_prob is 1.5; allowed is 0 to 1"),
        (["maze", "--reveal_prob", 0.5], "reveal_prob is 0.5, but the task 'maze' has no blanks"),
        ([*arc, *DRAWN[:2]], "the task 'arc' has no symmetries to draw"),
    ):
        capsys.readouterr()
        assert hrm_train(*words, "--output-dir", tmp_path / "run") != 0
        said = capsys.readouterr().err.splitlines()
        assert message in said[-1] and not any("Traceback" in line for line in said)
    assert not (tmp_path / "run" / "data").exists()
