"""Your own grid puzzle, from its rules to solved ones: gravity, where the stones of each column fall to the bottom.

python examples/own_puzzle.py [STEPS] makes the data, trains a small model (about a minute on a CPU) and solves one.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from hrm_hf import HrmConfig, HrmProcessor, PuzzleError, PuzzleSolvingPipeline
from hrm_hf.data import PuzzleSetInfo, PuzzleWriter, load_puzzles, training_batches
from hrm_hf.hrm.puzzle_codecs import CODECS, PuzzleCodec
from hrm_hf.training import HrmTrainer, HrmTrainingArguments, seeded_model

SHAPE, SYMBOLS = (5, 5), ".ab"  # a grid is (rows, columns) uint8 of 0 empty, 1 stone a, 2 stone b


def read(puzzle, grid_shape, box_shape):
    rows = puzzle.split() if isinstance(puzzle, str) else puzzle
    grid = np.array([[SYMBOLS.find(cell) if isinstance(cell, str) else cell for cell in row] for row in rows])
    if grid.shape != grid_shape or not ((grid >= 0) & (grid < len(SYMBOLS))).all():
        raise PuzzleError(f"{grid_shape[0]} rows of {grid_shape[1]} characters from {SYMBOLS!r} are needed")
    return grid.astype(np.uint8)


def fall(grids):
    return np.take_along_axis(grids, np.argsort(grids != 0, axis=-2, kind="stable"), axis=-2)


CODECS["gravity"] = PuzzleCodec(
    vocabulary=lambda grid_shape: ["PAD", *SYMBOLS],  # token id 0 is PAD in every task
    read=read,
    is_solution=lambda question, answer, box_shape: bool((fall(question) == answer).all()),
)
processor = HrmProcessor(task="gravity", grid_shape=SHAPE)
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
for seed, (split, num) in enumerate({"train": 5000, "test": 200}.items()):
    questions = np.random.default_rng(seed).integers(0, len(SYMBOLS), (num, *SHAPE), dtype=np.uint8)
    cells = np.stack([questions, fall(questions)], axis=1).reshape(num, 2, -1) + np.uint8(1)  # (num, 2, S)
    names = tuple(processor.vocabulary)
    info = PuzzleSetInfo("gravity", split, len(names), names, SHAPE, num_aug=0, seed=seed)
    with PuzzleWriter(folder / f"{split}.h5", info) as writer:
        writer.add_puzzle("all", [cells], rows_are="puzzles", attributes={}, arrays={})

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 800
sizes = dict(
    hidden_size=64, num_attention_heads=4, H_layers=1, L_layers=1, pos_encodings="learned", puzzle_emb_ndim=64
)
model = seeded_model(HrmConfig(vocab_size=len(names), seq_len=25, halt_max_steps=3, **sizes), seed=0)
rates = dict(learning_rate=2e-3, weight_decay=0.1, warmup_steps=50, lr_min_ratio=0.1)
args = HrmTrainingArguments(global_batch_size=64, max_steps=steps, **rates)
batches = training_batches(folder / "train.h5", global_batch_size=64, seed=0)
trainer = HrmTrainer(model, args, batches, eval_dataset=load_puzzles(folder / "test.h5"), processor=processor)
print(f"step {steps}: " + ", ".join(f"{name} {value:.4f}" for name, value in trainer.train().items()))
puzzle = "a.b..\n.....\nab.b.\n..a..\nb...a"
result = PuzzleSolvingPipeline(model.eval(), processor)(puzzle)
print(f"{puzzle}\n\nbecomes, valid: {result['valid']}\n\n{result['solution']}")
