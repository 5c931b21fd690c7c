"""The processor as the processing_class of transformers.Trainer."""

import torch
from tiny_models import some_inputs, tiny_model
from transformers import Trainer, TrainingArguments, pipeline

from hrm_hf import HrmProcessor
from hrm_hf.hrm.puzzle_identifiers import PuzzleIdentifiers


def test_a_trainer_takes_the_processor_and_saves_it_with_each_checkpoint(tmp_path):
    model = tiny_model(puzzle_emb_ndim=0, num_puzzle_identifiers=2)
    identifiers = PuzzleIdentifiers(["<blank>", "second"])
    processor = HrmProcessor(grid_shape=(4, 4), puzzle_identifiers=identifiers)
    rows = [{"input_ids": ids, "labels": ids, "puzzle_identifiers": torch.tensor(0)} for ids in some_inputs(4)]
    args = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        save_steps=1,
        per_device_train_batch_size=2,
        use_cpu=True,
        report_to="none",
        include_num_input_tokens_seen="non_padding",
    )
    Trainer(model, args, train_dataset=rows, processing_class=processor).train()
    for step in (1, 2):
        solver = pipeline("puzzle-solving", model=str(tmp_path / f"checkpoint-{step}"), device="cpu")
        assert solver.processor.puzzle_identifiers.names == identifiers.names
        assert len(solver("1..4..1..1..4..1")["solution"]) == 16
    assert "tokenizer" not in processor.to_dict()
