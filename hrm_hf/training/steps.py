"""One training step: one segment of every slot, then one optimiser step; one process or many.

Halted slots take the puzzles offered; forward with gradient; under Q-learning one more segment, without gradient and
for the q values alone, gives the target of q_continue; the loss is summed over the global batch; puzzle table first,
then AdamATan2 and, where it is asked for, Muon.
With several processes slot i of the global batch lives on process i // (B / processes), and the draws of exploration
are made for all slots on every process, then sliced, so that neither depends on the number of processes.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from ..hrm.errors import ArgumentError, DataError
from ..hrm.halting import q_continue_targets
from ..hrm.losses import segment_losses
from ..hrm.modeling_hrm import HrmForPuzzleSolving
from ..progress import get_logger
from ..scores.compiled import compiled_block
from .adam_atan2 import NamedMoments, make_adam_atan2
from .arguments import HrmTrainingArguments
from .depth import depth_stages
from .finite_watch import FiniteWatch
from .sign_sgd import SparseSignSGD
from .slots import (
    ActSlots,
    Batch,
    Exploration,
    ExplorationDraws,
    SlotParts,
    exploration_min_steps,
    on_device,
    training_halt,
)
from .step_graph import PassResult, StepGraph
from .step_metrics import segment_sums
from .weights import WeightAverage

logger = get_logger(__name__)
PUZZLE_TABLE = "model.puzzle_embeddings.weight"


class TrainingSteps:
    """Model, optimisers and slots, and the steps that they take; of HrmTrainer all but the run.

    Attributes:
        step: optimiser steps done.
        model, distributed_model: the same weights, with and without DistributedDataParallel around them.
        slots: this process's, one entry for each accumulation part; empty before the first step.
        depths: the stages of `depth_schedule`, if there is one: steps done before it, H_cycles, L_cycles.
        row_losses: (B,) losses of the last step, for each part.
    """

    def __init__(self, model: HrmForPuzzleSolving, args: HrmTrainingArguments, accelerator: Accelerator):
        self.args, self.accelerator = args, accelerator
        self.local_batch_size = args.local_batch_size(accelerator.num_processes)
        self.first_row = accelerator.process_index * self.local_batch_size  # of the global batch, on this process
        self.run_block = compiled_block(accelerator.device) if args.compile else None
        self.model, self.distributed_model = self._prepare_model(model)
        table = self.model.model.puzzle_embeddings
        trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        dense = {n: p for n, p in trained.items() if table is None or p is not table.weight}
        self.dense, matrices, self.muon, self.muon_moments = [*dense.values()], {}, None, None
        if args.optimizer == "muon":
            matrices = {n: p for n, p in dense.items() if "_level.layers." in n and p.ndim == 2}
            if not matrices:
                raise ArgumentError("optimizer is muon, but no matrix of the blocks is trained: take adam_atan2")
            how = {"weight_decay": args.muon_weight_decay, "momentum": args.muon_momentum}
            self.muon = torch.optim.Muon([*matrices.values()], lr=0.0, **how)
            self.muon_moments = NamedMoments(self.muon, [*matrices])
        rest = {n: p for n, p in dense.items() if n not in matrices}
        betas = (args.adam_beta1, args.adam_beta2)
        self.dense_optimizer = make_adam_atan2([*rest.values()], 0.0, betas, args.weight_decay, args.compile)
        self.moments = NamedMoments(self.dense_optimizer, [*rest])
        self.puzzle_optimizer = None  # it has no state
        if table is not None and table.weight.requires_grad:
            table.sparse = True
            self.puzzle_optimizer = SparseSignSGD(
                table.weight,
                lr=0.0,
                weight_decay=args.puzzle_weight_decay,
                gather=accelerator.gather if accelerator.num_processes > 1 else None,
                local_rows=self.local_batch_size,
                loss_scale=accelerator.num_processes,
            )
        self.average = None
        if args.ema_decay is not None:
            self.average = WeightAverage(self.dense, args.ema_decay, args.ema_warmup)
        self.finite = FiniteWatch(self.model, accelerator.device)
        self.slots = SlotParts(args.gradient_accumulation_steps, accelerator.device)
        self.exploration = Exploration(args.global_batch_size, self.model.config.halt_max_steps, args.seed)
        self.step = 0
        self.depths: list[list[int]] = []
        for share, *cycles in depth_stages(args.depth_schedule) if args.depth_schedule is not None else ():
            self.depths.append([math.ceil(round(share * args.max_steps, 6)), *cycles])
            self._set_depth(*cycles)
        self.check_depths()
        self.row_losses: list[torch.Tensor] = []
        self.graph = self._step_graph()

    def _step_graph(self) -> StepGraph | None:
        """For compiled steps on one GPU; says what `compile` takes elsewhere."""
        if not self.args.compile:
            return None
        why = ""
        if self.accelerator.device.type == "cuda":
            if self.distributed_model is self.model and self.args.gradient_accumulation_steps == 1:
                return StepGraph(self.model)
            why = "; a CUDA graph of the pass needs one process and one accumulation step"
        logger.info(f"compile: blocks and optimiser are compiled{why}")
        return None

    def _prepare_model(self, model: HrmForPuzzleSolving) -> tuple[HrmForPuzzleSolving, torch.nn.Module]:
        model.train()
        dense = [p for name, p in model.named_parameters() if p.requires_grad and name != PUZZLE_TABLE]
        if self.accelerator.num_processes > 1 and dense:
            # The table's sparse gradient is gathered by its own optimiser.
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, [PUZZLE_TABLE])
        # DistributedDataParallel refuses a model of which it would have no gradient to join.
        prepared = self.accelerator.prepare_model(model) if dense else model.to(self.accelerator.device)
        plain = self.accelerator.unwrap_model(prepared, keep_torch_compile=False)
        if isinstance(prepared, DistributedDataParallel):
            prepared.forward_sync_buffers = False  # the init vectors never change after the start
        if self.accelerator.num_processes > 1 and plain.model.puzzle_embeddings is not None:
            # What DDP ignores it does not broadcast either.
            table = plain.model.puzzle_embeddings.weight
            table.data.copy_(broadcast(table.data))
        return plain, prepared

    def training_step(self, batch: dict[str, Any], draws: ExplorationDraws | None = None) -> dict[str, torch.Tensor]:
        """Runs one segment of every slot and leaves the gradients in the parameters; no weight changes.

        batch: this process's part of the global batch offered to the slots. draws: for the GLOBAL batch; None takes
        them from the trainer's generator. Returns sums over this process's slots, see `segment_sums`.
        """
        args = self.args
        draws = draws or self.exploration.draw()
        min_steps = on_device(exploration_min_steps(draws, args.halt_exploration_prob), self.accelerator.device)
        own = slice(self.first_row, self.first_row + self.local_batch_size)
        min_steps = min_steps[own].chunk(args.gradient_accumulation_steps)
        offered = self._split(batch)
        if not self.slots:
            self.slots[:] = [ActSlots.all_halted(self.model, part) for part in offered]
        totals: dict[str, torch.Tensor] = {}
        self.row_losses = []
        for i, part in enumerate(offered):
            last = i == len(offered) - 1
            given = self.slots[i], part, min_steps[i]
            no_sync = nullcontext() if last else self.accelerator.no_sync(self.distributed_model)
            with no_sync, self._depth_of_the_step():
                done = self._pass(*given) if self.graph is None else self.graph.run(self._pass, *given)
            self.slots[i] = done.slots
            self.row_losses.append(done.row_losses)
            totals = {name: totals.get(name, 0) + value for name, value in done.sums.items()}
        return totals

    def _split(self, batch: dict[str, Any]) -> list[Batch]:
        given = {name: torch.as_tensor(batch[name]) for name in ("input_ids", "labels", "puzzle_identifiers")}
        self.model.check_labels(given["labels"])  # ids are checked by the model, but not on an accelerator
        self.model.model.check_inputs(given["input_ids"], given["puzzle_identifiers"])
        shape, labels_shape = tuple(given["input_ids"].shape), tuple(given["labels"].shape)
        if labels_shape != shape:
            raise DataError(f"a training batch has input_ids {shape}, labels {labels_shape}: the shapes must be equal")
        if shape[0] != self.local_batch_size:
            raise DataError(f"a training batch has {shape[0]} rows; this process expects {self.local_batch_size}")
        num_parts = self.args.gradient_accumulation_steps
        tensors = {name: on_device(tensor.long(), self.accelerator.device) for name, tensor in given.items()}
        parts = zip(*(tensor.chunk(num_parts) for tensor in tensors.values()), strict=True)
        return [dict(zip(tensors, part, strict=True)) for part in parts]

    def _pass(self, slots: ActSlots, offered: Batch, min_steps: torch.Tensor) -> PassResult:
        """Forward and backward of one part. The host waits for nothing: no value of a tensor is asked for."""
        losses, slots, sums = self._segment(slots, offered, min_steps)
        # The published loss is a sum over the global batch; DDP averages over processes.
        self.accelerator.backward(losses.sum() * self.accelerator.num_processes / self.args.global_batch_size)
        return PassResult(losses.detach(), slots, sums)

    def _segment(
        self, slots: ActSlots, offered: Batch, min_steps: torch.Tensor
    ) -> tuple[torch.Tensor, ActSlots, dict[str, torch.Tensor]]:
        config = self.model.config
        slots = slots.refilled(self.model, offered)
        data = slots.data
        steps = slots.steps + 1
        targets = None
        with self.model.model.kept_weights():  # for both passes
            embeddings = self.model.model.embed(data["input_ids"], data["puzzle_identifiers"])
            how = {"carry": slots.carry, "num_segments": 1, "run_block": self.run_block}
            out = self.distributed_model(inputs_embeds=embeddings, **how)
            if config.halting == "q_learning" and config.halt_max_steps > 1:
                # the plain module, because DDP has nothing to do here
                following = self.model.q_logits_ahead(out.carry, embeddings.detach(), self.run_block)
                targets = q_continue_targets(*following, steps, config.halt_max_steps)
        outputs = out.logits, out.q_halt_logits, out.q_continue_logits
        losses = segment_losses(*outputs, data["labels"], config.token_loss, targets, config.label_smoothing)
        q_logits = out.q_halt_logits.detach(), out.q_continue_logits.detach()
        halted = training_halt(steps, *q_logits, min_steps, config.halt_max_steps, config.halting)
        sums = segment_sums(losses, out.logits, out.q_halt_logits, data["labels"], steps, halted)
        return losses.total(config.halting_loss_weight), ActSlots(out.carry, steps, halted, data), sums

    def check_depths(self) -> None:
        """Raises ArgumentError where the last stage, with which the model is exported, would never be trained."""
        if self.depths and self.depths[-1][0] >= self.args.max_steps:
            found = f"the last stage of depth_schedule begins after step {self.depths[-1][0]}"
            raise ArgumentError(f"{found}, but max_steps is {self.args.max_steps}: give more steps, or fewer stages")

    @contextmanager
    def _depth_of_the_step(self) -> Iterator[None]:
        """Inside the block the model has the cycles of the present step, outside those of the last stage: what is
        evaluated is what is exported, and scores of different steps can be compared."""
        for first, *cycles in self.depths:
            if first <= self.step:
                self._set_depth(*cycles)
        try:
            yield
        finally:
            if self.depths:
                self._set_depth(*self.depths[-1][1:])

    def _set_depth(self, H_cycles: int, L_cycles: int) -> None:
        config = self.model.config
        config.H_cycles, config.L_cycles = H_cycles, L_cycles

    @torch.no_grad()
    def clip_gradients(self) -> torch.Tensor:
        """Scales the dense gradients where the norm of all is above `max_grad_norm`; returns that norm, 0-d.

        It is the norm that `torch.nn.utils.clip_grad_norm_` takes of the whole model: the puzzle table's gradient
        counts with one summed row for each puzzle in the global batch. The table's own gradient stays as it is,
        because sign-SGD reads nothing of it but the signs. Every process and every number of them has the same norm.
        """
        dense = [p for p in self.dense if p.grad is not None]
        rows = None if self.puzzle_optimizer is None else self.puzzle_optimizer.gradient_rows()
        norm = get_total_norm([p.grad for p in dense] + ([] if rows is None else [rows]))
        clip_grads_with_norm_(dense, self.args.max_grad_norm, norm)
        return norm

    def optimizer_step(self) -> None:
        """Clips the gradients, updates the puzzle table, then the weights, then their average; clears gradients."""
        args = self.args
        self.step += 1
        if args.max_grad_norm is not None:
            self.clip_gradients()
        bases = {self.puzzle_optimizer: args.puzzle_learning_rate, self.dense_optimizer: args.learning_rate}
        bases[self.muon] = args.muon_learning_rate
        for optimizer, base in bases.items():
            if optimizer is not None:
                for group in optimizer.param_groups:
                    group["lr"] = self.learning_rate(base)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()

    def learning_rate(self, base: float) -> float:
        """The rate of the present step, see `learning_rate_at`."""
        args = self.args
        return learning_rate_at(self.step, base, args.warmup_steps, args.max_steps, args.lr_min_ratio)


def learning_rate_at(step: int, base_lr: float, warmup_steps: int, total_steps: int, min_ratio: float) -> float:
    """The rate of update number `step`, counted from 1: the published code raises its counter, then reads the rate.

    It rises to base_lr in warmup_steps, then falls as a cosine to min_ratio * base_lr at total_steps (1.0: it stays);
    afterwards it stays, where the published cosine would rise again.
    """
    if step < warmup_steps:
        return base_lr * step / max(1, warmup_steps)
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return base_lr * (min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * progress)))
