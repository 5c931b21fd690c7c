"""The plain twin: training step and evaluation of the Hierarchical Reasoning Model as its published code does them,
with the options of its config that make it a Tiny Recursive Model.

What every benchmark is measured against and what the fast paths are tested against, so it stays plain: one segment
after the other in eager mode, weights and activations in float32 (another dtype of the activations is an option), the
input embedded again in every forward, a whole second forward for the target of q_continue, stablemax in float64, the
optimiser as a loop over the tensors, and in evaluation all segments for every puzzle. Of hrm_hf it takes weights by
their names (`HrmForPuzzleSolving.state_dict()`) and the fields of a config, and no code.

arXiv 2506.21734, and the behaviour of its published code. Shapes: B batch, S cells, P prefix positions, T = P + S,
D hidden, N heads, K = D / N, V vocabulary, E width of the puzzle table, U distinct puzzles.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F

Carry = tuple[torch.Tensor, torch.Tensor]  # z_H, z_L: (B, T, D), detached
Batch = dict[str, torch.Tensor]  # input_ids (B, S), labels (B, S) with -100 = ignored, puzzle_identifiers (B,)

TABLE = "model.puzzle_embeddings.weight"
NOT_TRAINED_BY_ADAM = (TABLE, "model.z_H_init", "model.z_L_init")


class PlainHrm:
    """The model: weights by name, and what one segment does with them.

    Args:
        config: has the fields of `hrm_hf.HrmConfig`; its `compute_dtype` is not looked at. (Its `halting` may be
            "halt_only", which the published code does not know: to hold ours to.)
        dtype: of the activations; weights are float32 and cast where they are used.
        device: where weights and batches are.
    """

    def __init__(self, config: Any, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"):
        self.config, self.dtype, self.device = config, dtype, torch.device(device)
        self.prefix = config.num_prefix_positions  # P
        if self.prefix is None:
            self.prefix = math.ceil(config.puzzle_emb_ndim / config.hidden_size)
        self.weights: dict[str, torch.Tensor] = {}
        self.rotary = self._rotary_tables() if config.pos_encodings == "rope" else None

    def load(self, state_dict: dict[str, torch.Tensor]) -> "PlainHrm":
        """Takes copies of these weights; returns itself."""
        for name, value in state_dict.items():
            weight = value.detach().to(self.device, torch.float32, copy=True)
            self.weights[name] = weight.requires_grad_(name not in NOT_TRAINED_BY_ADAM)
        return self

    def initial_carry(self, rows: int) -> Carry:
        """The init vectors at every position, (rows, T, D) each."""
        shape = (rows, self.prefix + self.config.seq_len, self.config.hidden_size)
        z_H, z_L = self.weights["model.z_H_init"], self.weights["model.z_L_init"]
        return z_H.to(self.dtype).expand(shape), z_L.to(self.dtype).expand(shape)

    def puzzle_vectors(self, puzzle_identifiers: torch.Tensor) -> torch.Tensor | None:
        """Copies of the rows of the puzzle table, (B, E); None for a model without one."""
        return self.weights[TABLE][puzzle_identifiers].detach() if self.prefix else None

    def segment(
        self, carry: Carry, batch: Batch, puzzle_vectors: torch.Tensor | None = None
    ) -> tuple[Carry, torch.Tensor, torch.Tensor, torch.Tensor]:
        """One segment: the last updates, as many as `gradient_span` says, carry gradients, all earlier ones do not.

        Args:
            carry: from `initial_carry` or the segment before.
            batch: its `input_ids` and `puzzle_identifiers` are read.
            puzzle_vectors: (B, E), in place of the table's rows, so that they can have a gradient.
        Returns:
            the new carry, logits (B, S, V), q_halt and q_continue (B,) float32.
        """
        config = self.config
        embedding = self._embed(batch, puzzle_vectors)  # (B, T, D)
        z_H, z_L = carry
        updates = ("L" * config.L_cycles + "H") * config.H_cycles
        spans = {"last_updates": 2, "last_cycle": config.L_cycles + 1, "segment": len(updates)}
        first_with_gradient = len(updates) - spans[config.gradient_span]
        for number, level in enumerate(updates):
            with torch.set_grad_enabled(torch.is_grad_enabled() and number >= first_with_gradient):
                if level == "L":
                    z_L = self._level("L", z_L, z_H + embedding)
                else:
                    z_H = self._level("L" if config.shared_levels else "H", z_H, z_L)
        logits = self._linear(z_H, "lm_head.weight")[:, self.prefix :]
        q = self._linear(z_H[:, 0], "q_head.weight", "q_head.bias").float()
        return (z_H.detach(), z_L.detach()), logits, q[:, 0], q[:, 1]

    def _embed(self, batch: Batch, puzzle_vectors: torch.Tensor | None) -> torch.Tensor:
        width = self.config.hidden_size
        embedding = F.embedding(batch["input_ids"], self.weights["model.embed_tokens.weight"]).to(self.dtype)
        if self.prefix:
            if puzzle_vectors is None:
                puzzle_vectors = self.puzzle_vectors(batch["puzzle_identifiers"])
            padded = F.pad(puzzle_vectors.to(self.dtype), (0, self.prefix * width - puzzle_vectors.shape[1]))
            embedding = torch.cat((padded.view(-1, self.prefix, width), embedding), dim=1)  # (B, T, D)
        if self.config.pos_encodings == "learned":
            positions = self.weights["model.embed_positions.weight"].to(self.dtype)
            embedding = 0.707106781 * (embedding + positions)
        return math.sqrt(width) * embedding

    def _level(self, level: str, state: torch.Tensor, injection: torch.Tensor) -> torch.Tensor:
        x = state + injection
        for layer in range(getattr(self.config, f"{level}_layers")):
            name = f"model.{level}_level.layers.{layer}"
            if self.config.mixer == "attention":
                x = self._rms(x + self._attention(x, f"{name}.self_attn"))
            else:
                turned = x.transpose(1, 2)  # (B, D, T)
                x = self._rms(turned + self._swiglu(turned, f"{name}.mlp_t")).transpose(1, 2)
            x = self._rms(x + self._swiglu(x, f"{name}.mlp"))
        return x

    def _attention(self, x: torch.Tensor, name: str) -> torch.Tensor:
        rows, positions, width = x.shape
        heads = self.config.num_attention_heads
        qkv = self._linear(x, f"{name}.qkv_proj.weight").view(rows, positions, 3 * heads, width // heads)
        query, key, value = qkv.transpose(1, 2).split(heads, dim=1)  # (B, N, T, K) each
        if self.rotary is not None:
            query, key = self._rotate(query), self._rotate(key)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self._linear(mixed.transpose(1, 2).reshape(x.shape), f"{name}.o_proj.weight")

    def _swiglu(self, x: torch.Tensor, name: str) -> torch.Tensor:
        gate, up = self._linear(x, f"{name}.gate_up_proj.weight").chunk(2, dim=-1)
        return self._linear(F.silu(gate) * up, f"{name}.down_proj.weight")

    def _linear(self, x: torch.Tensor, weight: str, bias: str | None = None) -> torch.Tensor:
        return F.linear(x, self.weights[weight].to(x.dtype), None if bias is None else self.weights[bias].to(x.dtype))

    def _rms(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        return (wide * torch.rsqrt((wide * wide).mean(-1, keepdim=True) + self.config.rms_norm_eps)).to(x.dtype)

    def _rotate(self, x: torch.Tensor) -> torch.Tensor:
        cos, sin = self.rotary
        wide = x.float()
        left, right = wide.chunk(2, dim=-1)
        return (wide * cos + torch.cat((-right, left), dim=-1) * sin).to(x.dtype)

    def _rotary_tables(self) -> tuple[torch.Tensor, torch.Tensor]:
        head_dim = self.config.hidden_size // self.config.num_attention_heads
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=self.device) / head_dim
        positions = torch.arange(self.prefix + self.config.seq_len, dtype=torch.float32, device=self.device)
        angles = torch.outer(positions, 1.0 / self.config.rope_theta**exponents).repeat(1, 2)  # (T, K)
        return angles.cos(), angles.sin()


class PlainTraining:
    """Training with adaptive computation: slots that keep their puzzle until they halt, one optimiser step a segment.

    Args:
        twin: loaded; its weights are trained in place. After a step their gradients are still there.
        lr, betas, weight_decay: of AdamATan2; puzzle_lr, puzzle_weight_decay: of the puzzle table's sign-SGD.
        halt_exploration_prob: chance that a slot may not halt before a drawn step.
        warmup_steps: steps of linear warm-up from 0; the rates are constant afterwards.
        ema_decay: of the average of the trained weights (`averages`), which the Tiny Recursive Model keeps.
    """

    def __init__(
        self,
        twin: PlainHrm,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 1.0,
        puzzle_lr: float = 1e-4,
        puzzle_weight_decay: float = 1.0,
        halt_exploration_prob: float = 0.1,
        warmup_steps: int = 0,
        ema_decay: float | None = None,
    ):
        self.twin, self.lr, self.betas, self.weight_decay = twin, lr, betas, weight_decay
        self.puzzle_lr, self.puzzle_weight_decay = puzzle_lr, puzzle_weight_decay
        self.halt_exploration_prob, self.warmup_steps = halt_exploration_prob, warmup_steps
        self.trained = [weight for name, weight in twin.weights.items() if name not in NOT_TRAINED_BY_ADAM]
        self.moments = [(torch.zeros_like(weight), torch.zeros_like(weight)) for weight in self.trained]
        self.ema_decay = ema_decay
        self.averages = [] if ema_decay is None else [weight.detach().clone() for weight in self.trained]
        self.puzzle_vectors: torch.Tensor | None = None  # (B, E) of the last step, with their gradient
        self.carry: Carry | None = None
        self.steps = self.halted = self.data = None  # (B,) int32, (B,) bool, Batch: set by the first step
        self.updates = 0

    def step(self, batch: dict[str, Any], draws: tuple[torch.Tensor, torch.Tensor] | None = None) -> dict[str, float]:
        """One segment of every slot and one update of all weights.

        Args:
            batch: the puzzles offered; slots that have halted take theirs.
            draws: uniform reals (B,) and integers (B,) in [2, halt_max_steps]; None draws them here.
        Returns:
            sums over the slots: losses over all, the rest over halted slots with labels.
        """
        config, device = self.twin.config, self.twin.device
        batch = {name: torch.as_tensor(batch[name]).to(device, torch.int64) for name in batch}
        self._refill(batch)
        labels = self.data["labels"]
        rows = len(labels)
        if self.twin.prefix:
            self.puzzle_vectors = self.twin.puzzle_vectors(self.data["puzzle_identifiers"]).requires_grad_()
        self.carry, logits, q_halt, q_continue = self.twin.segment(self.carry, self.data, self.puzzle_vectors)

        with torch.no_grad():
            self.steps = self.steps + 1
            last = self.steps >= config.halt_max_steps
            self.halted, target = last, None
            if config.halt_max_steps > 1:
                if draws is None:
                    draws = torch.rand(rows), torch.randint(2, config.halt_max_steps + 1, (rows,))
                uniform, drawn = (draw.to(device) for draw in draws)
                min_steps = torch.where(uniform < self.halt_exploration_prob, drawn, 0)
                wants_to_halt = q_halt > (q_continue if config.halting == "q_learning" else 0)
                self.halted = (last | wants_to_halt) & (self.steps >= min_steps)
            if config.halt_max_steps > 1 and config.halting == "q_learning":
                _, _, next_halt, next_continue = self.twin.segment(self.carry, self.data)
                target = torch.sigmoid(torch.where(last, next_halt, torch.maximum(next_halt, next_continue)))

        num_labels = (labels != -100).sum(-1)  # (B,)
        right = (logits.argmax(-1) == labels) & (labels != -100)
        solved = right.sum(-1) == num_labels
        of_cells = token_losses(logits, labels, config.token_loss, config.label_smoothing)
        losses = {
            "lm_loss": (of_cells.sum(-1) / num_labels.clamp(min=1)).sum(),
            "q_halt_loss": F.binary_cross_entropy_with_logits(q_halt, solved.float(), reduction="sum"),
        }
        if target is not None:
            losses["q_continue_loss"] = F.binary_cross_entropy_with_logits(q_continue, target, reduction="sum")
        for weight in self.trained:
            weight.grad = None
        halting = losses["q_halt_loss"] + losses.get("q_continue_loss", 0)
        ((losses["lm_loss"] + config.halting_loss_weight * halting) / rows).backward()

        counted = self.halted & (num_labels > 0)
        scores = {
            "count": torch.ones_like(num_labels),
            "accuracy": right.sum(-1) / num_labels.clamp(min=1),
            "exact_accuracy": solved,
            "q_halt_accuracy": (q_halt >= 0) == solved,
            "steps": self.steps,
        }
        sums = {name: torch.where(counted, score, 0).sum() for name, score in scores.items()} | losses
        self._update()
        return {name: value.item() for name, value in sums.items()}

    def _refill(self, batch: Batch) -> None:
        """Halted slots take the puzzle offered to them, with a fresh carry; at the start all are halted."""
        rows, device = len(batch["labels"]), self.twin.device
        fresh = self.twin.initial_carry(rows)
        if self.carry is None:
            self.carry, self.data = fresh, batch
            self.halted = torch.ones(rows, dtype=torch.bool, device=device)
            self.steps = torch.zeros(rows, dtype=torch.int32, device=device)
        halted = self.halted
        self.carry = tuple(torch.where(halted[:, None, None], new, old) for new, old in zip(fresh, self.carry))
        self.steps = torch.where(halted, 0, self.steps)
        for name, old in self.data.items():
            self.data[name] = torch.where(halted.view(-1, *[1] * (old.ndim - 1)), batch[name], old)

    def _update(self) -> None:
        self.updates += 1
        warm = min(1.0, self.updates / self.warmup_steps) if self.warmup_steps else 1.0
        if self.puzzle_vectors is not None:
            update_puzzle_table(
                self.twin.weights[TABLE],
                self.data["puzzle_identifiers"],
                self.puzzle_vectors.grad,
                self.puzzle_lr * warm,
                self.puzzle_weight_decay,
            )
        adam_atan2(self.trained, self.moments, self.updates, self.lr * warm, self.betas, self.weight_decay)
        for average, weight in zip(self.averages, self.trained):
            average.mul_(self.ema_decay).add_(weight.detach(), alpha=1 - self.ema_decay)


def token_losses(logits: torch.Tensor, labels: torch.Tensor, kind: str, smoothing: float = 0.0) -> torch.Tensor:
    """Cross entropy of each cell (B, S), 0 where the label is -100, by "softmax" or "stablemax" probabilities.

    Stablemax puts s(x) = x + 1 (x >= 0) or 1 / (1 - x) (x < 0) in the place of exp(x), in float64. smoothing: of the
    labels, for softmax.
    """
    if kind == "softmax":
        how = {"ignore_index": -100, "reduction": "none", "label_smoothing": smoothing}
        return F.cross_entropy(logits.float().transpose(1, 2), labels, **how)
    x = logits.double()
    # Clamped, since where() would pass on the NaN gradient of the branch that it does not take.
    s = torch.where(x < 0, 1 / (1 - x.clamp(max=0)), 1 + x.clamp(min=0))
    probabilities = s / s.sum(-1, keepdim=True)
    known = labels != -100
    of_label = probabilities.gather(-1, torch.where(known, labels, 0)[..., None])[..., 0]
    return torch.where(known, -torch.log(of_label), 0)


@torch.no_grad()
def adam_atan2(
    weights: list[torch.Tensor],
    moments: list[tuple[torch.Tensor, torch.Tensor]],
    update: int,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> None:
    """AdamATan2, update number `update` (from 1), tensor by tensor: decay, both moments, then the step."""
    for weight, (mean, square) in zip(weights, moments, strict=True):
        weight.mul_(1 - lr * weight_decay)
        mean.mul_(betas[0]).add_(weight.grad, alpha=1 - betas[0])
        square.mul_(betas[1]).addcmul_(weight.grad, weight.grad, value=1 - betas[1])
        denominator = square.sqrt() / math.sqrt(1 - betas[1] ** update)
        weight.add_(torch.atan2(mean, denominator), alpha=-lr / (1 - betas[0] ** update))


@torch.no_grad()
def update_puzzle_table(
    table: torch.Tensor, identifiers: torch.Tensor, gradients: torch.Tensor, lr: float, weight_decay: float
) -> None:
    """Sign-SGD on the rows that occurred: gradients (B, E) of equal identifiers (B,) are summed first."""
    distinct, places = identifiers.unique(return_inverse=True)
    sums = torch.zeros(len(distinct), table.shape[1], device=table.device).index_add_(0, places, gradients)  # (U, E)
    table[distinct] = table[distinct] * (1 - lr * weight_decay) - lr * sums.sign()


@torch.no_grad()
def plain_solve(
    twin: PlainHrm, input_ids: torch.Tensor, puzzle_identifiers: torch.Tensor, segments: int = 16
) -> tuple[torch.Tensor, torch.Tensor]:
    """Evaluation: every puzzle runs all segments and the last one answers.

    Returns:
        sequences (B, S) int64 and q_halt_logits (B,) float32.
    """
    batch = {"input_ids": input_ids.long(), "puzzle_identifiers": puzzle_identifiers.long()}
    carry = twin.initial_carry(len(input_ids))
    for _ in range(segments):
        carry, logits, q_halt, _ = twin.segment(carry, batch)
    return logits.argmax(-1), q_halt
