"""The recipes of the package say what their sources say: a value that is changed by accident fails here.

Sources: [P] arXiv 2506.21734; [C] the defaults of the published code, commit 42410da (config/cfg_pretrain.yaml and
config/arch/hrm_v1.yaml); [R] the README of the published code. Those of the Tiny
Recursive Model: arXiv 2510.04871 and its code, commit e7b6871. sudoku_fast: as its file says. The small recipes
have no source but the runs of this project: their values are those that the documentation's figures were measured
with.
"""

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import pytest
from paths import HRM_4X4, ROOT

from hrm_hf.commands.training_run import data_facts, read_arguments
from hrm_hf.commands.training_tasks import TASKS
from hrm_hf.training.arguments import read_recipe

PUBLISHED = dict(
    # [C] arch/hrm_v1.yaml
    **dict(hidden_size=512, num_attention_heads=8, expansion=4.0, H_layers=4, L_layers=4, H_cycles=2, L_cycles=2),
    **dict(pos_encodings="rope", puzzle_emb_ndim=512, halt_max_steps=16, halt_exploration_prob=0.1),
    **dict(token_loss="stablemax"),  # [P] section 2, [C]
    **dict(compute_dtype="auto"),  # [C] forward_dtype bfloat16
    # [C] cfg_pretrain.yaml
    **dict(global_batch_size=768, learning_rate=1e-4, adam_beta1=0.9, adam_beta2=0.95),
    **dict(warmup_steps=2000, lr_min_ratio=1.0),
)
SMALL = dict(
    compute_dtype="auto", global_batch_size=64, puzzle_learning_rate=1e-3, weight_decay=0.1, puzzle_weight_decay=0.1
)
SMALL_SUDOKU = SMALL | dict(
    **dict(hidden_size=64, shared_levels=True, L_layers=2, H_cycles=2, L_cycles=2, gradient_span="last_cycle"),
    **dict(mixer="mlp", pos_encodings="none", halting="halt_only", halt_max_steps=4, online_augmentation=True),
    **dict(learning_rate=4e-3, lr_min_ratio=0.05, max_grad_norm=1.0, num_test=500),
)
ARC = PUBLISHED | dict(  # [C]
    **dict(epochs=100_000, puzzle_learning_rate=1e-2, weight_decay=0.1, puzzle_weight_decay=0.1),
    **dict(eval_steps=10_000, save_steps=10_000),
)
TRM = dict(
    # section 4 of the paper; [C] config/arch/trm.yaml, cfg_pretrain.yaml
    **dict(hidden_size=512, num_attention_heads=8, expansion=4.0, shared_levels=True, L_layers=2, H_cycles=3),
    **dict(gradient_span="last_cycle", mixer="attention", pos_encodings="rope", puzzle_emb_ndim=512),
    **dict(num_prefix_positions=16, halting="halt_only", halt_max_steps=16, token_loss="stablemax"),
    **dict(compute_dtype="auto", global_batch_size=768, learning_rate=1e-4, adam_beta1=0.9, adam_beta2=0.95),
    **dict(warmup_steps=2000, lr_min_ratio=1.0, ema_decay=0.999, ema_warmup=False, halt_exploration_prob=0.1),
)
# [R] epochs=50000 lr=1e-4 puzzle_emb_lr=1e-4 weight_decay=1.0 puzzle_emb_weight_decay=1.0 arch.H_cycles=3 ema=True
TRM_PUZZLES = TRM | dict(
    **dict(epochs=50_000, puzzle_learning_rate=1e-4, weight_decay=1.0, puzzle_weight_decay=1.0),
    **dict(eval_steps=6500, save_steps=6500),
)
# [R] arch.L_layers=2 arch.H_cycles=3 arch.L_cycles=4 ema=True
TRM_ARC = TRM | dict(
    **dict(L_cycles=4, epochs=100_000, puzzle_learning_rate=1e-2, weight_decay=0.1, puzzle_weight_decay=0.1),
    **dict(eval_steps=10_000, save_steps=10_000),
)
RECIPES = {
    "sudoku_extreme_1k": PUBLISHED
    | dict(
        # [R] python pretrain.py data_path=data/sudoku-extreme-1k-aug-1000 epochs=20000 eval_interval=2000
        #     puzzle_emb_lr=1e-4 weight_decay=1.0 puzzle_emb_weight_decay=1.0; its lr=7e-5 goes with a batch of 384
        **dict(epochs=20_000, puzzle_learning_rate=1e-4, weight_decay=1.0, puzzle_weight_decay=1.0),
        **dict(eval_steps=2600, save_steps=2600),  # 2,000 epochs: 2,000 * 1,000 / 768
    ),
    "sudoku_extreme_full": PUBLISHED
    | dict(
        # [R] epochs=100 eval_interval=10 lr_min_ratio=0.1 global_batch_size=2304 lr=3e-4 puzzle_emb_lr=3e-4
        #     weight_decay=0.1 puzzle_emb_weight_decay=0.1 arch.loss.loss_type=softmax_cross_entropy arch.L_cycles=8
        #     arch.halt_max_steps=8 arch.pos_encodings=learned
        **dict(epochs=100, lr_min_ratio=0.1, global_batch_size=2304, learning_rate=3e-4, puzzle_learning_rate=3e-4),
        **dict(weight_decay=0.1, puzzle_weight_decay=0.1, token_loss="softmax", L_cycles=8, halt_max_steps=8),
        **dict(pos_encodings="learned", eval_steps=16_600, save_steps=16_600),  # 10 epochs
    ),
    "maze_hard_1k": PUBLISHED
    | dict(
        # [R] epochs=20000 eval_interval=2000 lr=1e-4 puzzle_emb_lr=1e-4 weight_decay=1.0 puzzle_emb_weight_decay=1.0
        **dict(epochs=20_000, puzzle_learning_rate=1e-4, weight_decay=1.0, puzzle_weight_decay=1.0),
        **dict(eval_steps=2600, save_steps=2600),
    ),
    "arc_1": ARC,
    "arc_2": ARC,
    "sudoku_trm_mlp": TRM_PUZZLES | dict(L_cycles=6, mixer="mlp", pos_encodings="none"),  # [R] arch.mlp_t=True
    "sudoku_trm_attention": TRM_PUZZLES | dict(L_cycles=6),
    "sudoku_fast": dict(
        # arXiv 2601.19085, and what was tried on a GPU: benchmarks/results/sudoku_9x9_h200
        **dict(hidden_size=384, expansion=3.0, shared_levels=True, L_layers=2, mixer="mlp"),
        **dict(depth_schedule="0:2x6,0.29:3x9,0.58:6x9", gradient_span="last_cycle", pos_encodings="none"),
        **dict(puzzle_emb_ndim=2688, num_prefix_positions=7, halting="halt_only", halt_max_steps=16),
        **dict(token_loss="softmax", label_smoothing=0.2, halting_loss_weight=0.05, compute_dtype="auto"),
        **dict(online_augmentation=True, reveal_prob=0.3, max_steps=10_000, global_batch_size=384),
        **dict(optimizer="muon", muon_learning_rate=0.02, muon_weight_decay=0.005, muon_momentum=0.95),
        **dict(learning_rate=5e-4, weight_decay=0.2, puzzle_learning_rate=1e-3, puzzle_weight_decay=0.1),
        **dict(warmup_steps=100, lr_min_ratio=0.0, max_grad_norm=1.0, ema_decay=0.999, eval_steps=1000),
        **dict(save_steps=2500, compile=True),
    ),
    "maze_trm": TRM_PUZZLES | dict(L_cycles=4),
    "arc_1_trm": TRM_ARC,
    "arc_2_trm": TRM_ARC,
    "sudoku_4x4": SMALL_SUDOKU
    | dict(size=4, max_givens=8, num_train=1700, num_prefix_positions=2)
    | dict(max_steps=300, warmup_steps=50, ema_decay=0.99, eval_steps=100),
    "sudoku_6x6": SMALL_SUDOKU
    | dict(size=6, num_train=2000, num_prefix_positions=4)
    | dict(max_steps=1000, warmup_steps=50, ema_decay=0.99, eval_steps=250),
    "sudoku_9x9": SMALL_SUDOKU
    | dict(size=9, num_train=2000, num_prefix_positions=7)
    | dict(max_steps=4000, warmup_steps=100, ema_decay=0.995, eval_steps=1000),
    "maze_6x6": SMALL
    | dict(H_layers=1, L_layers=1, H_cycles=2, L_cycles=2, learning_rate=2e-3, warmup_steps=100, lr_min_ratio=0.1)
    | dict(height=6, width=6, num_train=20_000, num_test=500, min_steps=12, min_wall_share=0.4, max_wall_share=0.5)
    | dict(hidden_size=64, num_attention_heads=4, pos_encodings="rope", halt_max_steps=4, max_steps=8000)
    | dict(ema_decay=0.999, eval_steps=1000),
}


def test_every_recipe_is_in_the_table():
    assert sorted(RECIPES) == sorted(path.stem for path in (ROOT / "hrm_hf" / "recipes").iterdir())


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_its_source_says(name):
    task = TASKS[name.split("_")[0]]
    parts = read_arguments(task, ["--recipe", name, "--data-dir", "somewhere"])
    values = {key: value for part in parts for key, value in vars(part).items()}
    assert {key: values[key] for key in RECIPES[name]} == RECIPES[name]
    types = tuple(type(part) for part in parts)
    assert read_recipe(ROOT / "hrm_hf" / "recipes" / f"{name}.yaml", types).keys() == RECIPES[name].keys()
    sizes = {"vocab_size": 11, "seq_len": 81, "num_puzzle_identifiers": 1}
    replace(parts[1], compute_dtype="float32").to_config(**sizes)  # they fit each other


@pytest.mark.parametrize(
    ("task", "option"),
    [("sudoku", "--num-aug=5"), ("sudoku", "--size"), ("maze", "--min_steps"), ("maze", "--height")],
)
def test_options_of_the_generator_that_have_no_effect_are_named(task, option, capsys):
    recipe = {"sudoku": str(HRM_4X4), "maze": "maze_6x6"}[task]
    words = ["--recipe", recipe, *([option] if "=" in option else [option, "4"])]
    read_arguments(TASKS[task], words)
    assert capsys.readouterr().err == ""
    read_arguments(TASKS[task], [*words, "--data-dir", "somewhere"])
    name = option.split("=")[0].replace("-", "_").replace("__", "--")
    assert capsys.readouterr().err == f"{name} has no effect: with --data-dir no puzzles are generated\n"


def test_the_checksums_of_the_data_show_how_far_they_are(tmp_path, capsys, every_line):
    content = bytes(2_500_000)
    (tmp_path / "train.h5").write_bytes(content)
    file = SimpleNamespace(path=tmp_path / "train.h5", info=SimpleNamespace(split="train"))
    facts = data_facts(SimpleNamespace(wanted={"size": 4}, train=file, test=None))
    assert facts == {"size": 4, "train.h5": hashlib.sha256(content).hexdigest()}
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(", ")[0] for line in lines] == [f"checksum of train.h5: {n}/3 MB" for n in (1, 2, 3)]
