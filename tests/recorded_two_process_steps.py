"""Run by two processes: the recorded two-process steps through HrmTrainer; rank 0 saves what came out.

torchrun --nproc_per_node 2 tests/recorded_two_process_steps.py OUT.safetensors
"""

import sys

import torch
from golden_fixtures import golden_batch, golden_json, golden_model, golden_tensors, golden_training_arguments
from safetensors.torch import save_file

from hrm_hf.training import HrmTrainer, SparseSignSGD, make_accelerator
from hrm_hf.training.step_metrics import means


def main(target: str) -> None:
    recorded = golden_json("F/config.json")["model"]
    args = golden_training_arguments(recorded, exploration_prob=0.0)
    accelerator = make_accelerator(args)
    trainer = HrmTrainer(golden_model(recorded, "F/train2proc_init.safetensors"), args, [], accelerator)
    rank, part = accelerator.process_index, args.local_batch_size(accelerator.num_processes)
    out = {"num_processes": torch.tensor(accelerator.num_processes)}
    for step in (1, 2, 3):
        batch = golden_batch(
            golden_tensors(f"F/train2proc_step{step}.safetensors"), slice(rank * part, (rank + 1) * part)
        )
        sums = trainer.training_step(batch)
        reduced = accelerator.reduce(torch.stack(list(sums.values())), reduction="sum")
        for name, value in means(dict(zip(sums, reduced.tolist(), strict=True)), args.global_batch_size).items():
            out[f"step{step}.mean.{name}"] = torch.tensor(value, dtype=torch.float64)
        for name, parameter in trainer.model.named_parameters():
            if parameter.grad.is_sparse:
                identifiers, gradient = trainer.puzzle_optimizer.global_gradient()
                out[f"step{step}.identifiers"] = identifiers
            else:
                gradient = parameter.grad
            out[f"step{step}.grad.{name}"] = gradient.clone()
        out[f"step{step}.halted"] = accelerator.gather(trainer.slots[0].halted)
        out[f"step{step}.steps"] = accelerator.gather(trainer.slots[0].steps)
        trainer.optimizer_step()
        for name, tensor in trainer.model.state_dict().items():
            both = accelerator.gather(tensor.flatten().contiguous()).view(accelerator.num_processes, *tensor.shape)
            assert torch.equal(both[0], both[-1]), f"the processes disagree on {name}"
            out[f"step{step}.param.{name}"] = tensor.clone()
    out |= recorded_sign_sgd(accelerator)
    if accelerator.is_main_process:
        save_file(out, target)
    accelerator.wait_for_everyone()
    torch.distributed.destroy_process_group()


def recorded_sign_sgd(accelerator) -> dict[str, torch.Tensor]:
    """The recorded table updates; the processes hold different numbers of distinct puzzles."""
    given, recorded = golden_tensors("F/sparse_signsgd.safetensors"), golden_json("F/config.json")["sparse"]
    table, out, rank = torch.nn.Parameter(given["weights_0"].clone()), {}, accelerator.process_index
    for step, lr in enumerate(recorded["lr"], start=1):
        identifiers = given[f"step{step}.ids_rank{rank}"].long()
        gradient = 3.0 * given[f"step{step}.grad_rank{rank}"]
        table.grad = torch.sparse_coo_tensor(identifiers[None], gradient, table.shape, check_invariants=True)
        optimizer = SparseSignSGD(table, lr, recorded["wd"], accelerator.gather, len(identifiers), loss_scale=3.0)
        out[f"sparse{step}.identifiers"], out[f"sparse{step}.gradient"] = optimizer.global_gradient()
        optimizer.step()
        out[f"sparse{step}.weights"] = table.detach().clone()
    return out


if __name__ == "__main__":
    main(sys.argv[1])
