"""Other rows in a checkpoint's puzzle table: for a data set that numbers its puzzles otherwise, or cut for the Hub."""

from collections.abc import Sequence

import torch
from torch import nn

from ..hrm.errors import ArgumentError
from ..hrm.modeling_hrm import HrmForPuzzleSolving, HrmPuzzleTable
from ..hrm.solving import check_count


@torch.no_grad()
def rearrange_puzzle_table(
    model: HrmForPuzzleSolving, rows: Sequence[int] | torch.Tensor, unknown: str = "blank"
) -> None:
    """Gives the puzzle table other rows in another order.

    Call this before an optimizer is built: unless nothing changes, the table is a new parameter of the same dtype,
    device and requires_grad.

    Args:
        rows: (n,) int, n >= 1; new row i is old row `rows[i]`, or for -1 what `unknown` says.
        unknown: "blank" (old row 0) or "mean" (of all old rows but row 0; row 0 where it is the only one).
    Raises:
        ArgumentError: a model without a puzzle table, rows outside it, or another `unknown`.
    """
    table = _puzzle_table(model, "unknown", unknown)
    rows, old = torch.as_tensor(rows), table.weight
    if rows.ndim != 1 or rows.numel() == 0 or rows.is_floating_point() or rows.dtype == torch.bool:
        raise ArgumentError(f"rows have shape {tuple(rows.shape)} and dtype {rows.dtype}; allowed: (n,) integers")
    for outside in rows[(rows < -1) | (rows >= len(old))].tolist():
        raise ArgumentError(f"rows hold {outside}; allowed: 0 to {len(old) - 1}, rows of the puzzle table, and -1")
    rows = rows.to(old.device, torch.long)
    if torch.equal(rows, torch.arange(len(old), device=old.device)):
        return
    new = old.index_select(0, rows.clamp(min=0))  # (n, E)
    if unknown == "mean" and len(old) > 1:
        new[rows < 0] = old[1:].mean(0)  # (E,)
    table.weight = nn.Parameter(new, requires_grad=old.requires_grad)
    table.num_embeddings = model.config.num_puzzle_identifiers = len(new)


def resize_puzzle_table(model: HrmForPuzzleSolving, num: int, new_rows: str = "blank") -> None:
    """Cuts the puzzle table to `num` rows, at least 1, or adds rows at its end; see `rearrange_puzzle_table`.

    new_rows: what added rows hold, "blank" or "mean".
    """
    old_rows = _puzzle_table(model, "new_rows", new_rows).num_embeddings
    check_count("num", num)
    rows = torch.arange(num)
    rearrange_puzzle_table(model, rows.where(rows < old_rows, -1), unknown=new_rows)


def _puzzle_table(model: HrmForPuzzleSolving, name: str, value: str) -> HrmPuzzleTable:
    if model.model.puzzle_embeddings is None:
        raise ArgumentError("the model has no puzzle table (its puzzle_emb_ndim is 0)")
    if value not in ("blank", "mean"):
        raise ArgumentError(f"{name} is {value!r}; allowed: 'blank', 'mean'")
    return model.model.puzzle_embeddings
