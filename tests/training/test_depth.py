"""depth_schedule: the cycles of the training steps, of what is evaluated and of what is exported."""

import pytest
import torch
from tiny_models import perturbed, tiny_model
from training_parts import Rows, arguments, batch

from hrm_hf import ArgumentError, HrmForPuzzleSolving
from hrm_hf.training import HrmTrainer
from hrm_hf.training.depth import depth_stages


def test_a_schedule_is_read():
    assert depth_stages("0:1x2,0.3:2x4, 0.6:3x6") == [(0.0, 1, 2), (0.3, 2, 4), (0.6, 3, 6)]
    assert depth_stages("0:64x1") == [(0.0, 64, 1)]


@pytest.mark.parametrize(
    "text",
    ["", "1x2", "0:1x2,", "0:1", "0:1x2 0.5:2x2", "0.1:1x2", "0:1x2,0:2x2", "0:1x2,0.6:2x2,0.3:3x3", "0:1x2,1:2x2"]
    + [
        "0:0x2",
        "0:1x65",
        "-0:1x2",
        "nan:1x2",
        "0:1x2,1e-1:2x2",
        "0:1x2,0.5:2.5x2",
        "0:1x2,0.5:999999999999x2",
        "0:²x2",
    ],
)
def test_what_is_no_schedule_is_refused(text):
    with pytest.raises(ArgumentError, match="depth_schedule is .*it must be START:HxL,... such as 0:1x2.*") as refused:
        arguments(depth_schedule=text)
    assert "\n" not in str(refused.value)


def test_a_last_stage_that_is_never_trained_is_refused(tmp_path):
    stages = {"depth_schedule": "0:1x1,0.5:2x2"}
    with pytest.raises(
        ArgumentError, match="begins after step 1, but max_steps is 1: give more steps, or fewer stages"
    ):
        HrmTrainer(tiny_model(), arguments(max_steps=1, **stages), [])
    settings = {"output_dir": str(tmp_path), "lr_min_ratio": 1.0, "state_steps": 1, "state_limit": 9}
    HrmTrainer(tiny_model(), arguments(max_steps=6, **stages, **settings), [batch(0)]).train()
    settings["resume"] = str(tmp_path / "state-00000002")
    with pytest.raises(ArgumentError, match="begins after step 3, but max_steps is 3"):
        HrmTrainer(tiny_model(), arguments(max_steps=3, **stages, **settings), [batch(0)]).train()


def updates_of(model: HrmForPuzzleSolving) -> list[str]:
    """Grows by one letter with every update of a level."""
    found = []
    model.model.H_level.register_forward_hook(lambda *_: found.append("H"))
    model.model.L_level.register_forward_hook(lambda *_: found.append("L"))
    return found


def test_steps_have_the_cycles_of_their_stage_and_all_else_those_of_the_last(tmp_path):
    model, seen = tiny_model(halting="halt_only"), []
    found = updates_of(model)

    class Watched(HrmTrainer):
        def training_step(self, *args):
            found.clear()
            sums = super().training_step(*args)
            seen.append("".join(found))
            assert (model.config.H_cycles, model.config.L_cycles) == (3, 2)
            return sums

        def evaluate(self, halt=False):
            found.clear()
            scores = super().evaluate(halt)
            assert "".join(found).startswith("LLHLLHLLH")
            return scores

    settings = {"max_steps": 10, "depth_schedule": "0:1x1,0.3:2x1,0.55:3x2", "eval_steps": 2, "save_steps": 2}
    Watched(model, arguments(**settings, output_dir=str(tmp_path)), [batch(0)], eval_dataset=Rows()).train()
    assert seen == 3 * ["LH"] + 3 * ["LHLH"] + 4 * ["LLHLLHLLH"]  # a stage begins where so many steps are done
    for name in ("checkpoint-2", "checkpoint-best", "checkpoint-final"):
        config = HrmForPuzzleSolving.from_pretrained(tmp_path / name).config
        assert (config.H_cycles, config.L_cycles) == (3, 2)


def weights_after(steps: int, options: dict, **settings) -> dict[str, torch.Tensor]:
    trainer = HrmTrainer(perturbed(tiny_model(**options)), arguments(learning_rate=0.01, **settings), [])
    for step in range(steps):
        trainer.training_step(batch(step))
        trainer.optimizer_step()
    return trainer.model.state_dict()


def test_a_stage_is_training_with_its_cycles():
    deep = {"H_cycles": 2, "L_cycles": 3}
    want = weights_after(2, {"H_cycles": 1, "L_cycles": 3})
    got = weights_after(2, {}, max_steps=4, depth_schedule="0:1x3,0.5:2x3")
    assert all(torch.equal(got[name], tensor) for name, tensor in want.items())
    third = weights_after(3, {}, max_steps=4, depth_schedule="0:1x3,0.5:2x3")
    assert any(not torch.equal(third[name], weights_after(3, deep)[name]) for name in third)
    one = weights_after(3, {}, max_steps=4, depth_schedule="0:2x3")
    assert all(torch.equal(one[name], tensor) for name, tensor in weights_after(3, deep).items())
