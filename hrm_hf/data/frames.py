"""Grids of assorted sizes as frames of one size, a whole batch at once: shifted, padded, closed with EOS. Only numpy.

`hrm_hf.hrm.arc.frame` says what a frame holds, and makes one of a grid top left. The (input, label) grids of a pair
share one offset. Grids are copied line by line, all lines of one width in one gather: a batch has tens of thousands of
lines, but no more widths than a frame has columns.
"""

import numpy as np


def runs(cells: np.ndarray, width: int) -> np.ndarray:
    """Every run of `width` consecutive cells as one item: a view (len(cells) - width + 1,) of overlapping windows.

    cells: uint8, contiguous, 1-d. Item k begins at cell k, so that one gather (or scatter) copies whole runs.
    """
    return np.ndarray((max(len(cells) - width + 1, 0),), dtype=f"V{width}", buffer=cells, strides=(1,))


def pair_offsets(shapes: np.ndarray, shifts: np.ndarray, frame_shape: tuple[int, int]) -> np.ndarray:
    """Where the top left cells of pairs go: int64 (B, 2) (row, column), uniform over the free room for uniform shifts.

    shapes: int64 (B, 2, 2), (height, width) of input and label; shifts: float64 (B, 2) in [0, 1). The free room of an
    axis is the frame's side less the larger of the two grids' sides.
    """
    room = np.asarray(frame_shape) - shapes.max(axis=1)  # (B, 2)
    return np.floor(shifts * (room + 1)).astype(np.int64)


def frame_pairs(
    cells: np.ndarray,
    starts: np.ndarray,
    shapes: np.ndarray,
    offsets: np.ndarray,
    frame_shape: tuple[int, int],
    pad_id: int,
    eos_id: int,
) -> np.ndarray:
    """Pairs of grids as frames: uint8 (B, 2, S), S = cells of a frame, a fresh array.

    cells: uint8 (any,), contiguous; from cells[starts[b]] on lie the input grid and then the label grid of pair b, row
    by row. starts: int64 (B,); shapes: int64 (B, 2, 2), (height, width) of input and label; offsets: int64 (B, 2), row
    and column of both grids' top left cells. Grids must lie inside the frame: this is not checked.
    """
    rows, cols = frame_shape
    num_grids = 2 * len(starts)
    heights, widths = shapes.reshape(num_grids, 2).T  # (2B,) each, input and label by turns
    tops, lefts = np.repeat(offsets, 2, axis=0).T
    sources = np.stack([starts, starts + heights[::2] * widths[::2]], axis=1).reshape(-1)
    targets = np.arange(num_grids) * (rows * cols) + tops * cols + lefts
    frames = np.full(num_grids * rows * cols, pad_id, dtype=np.uint8)

    below = np.flatnonzero(tops + heights < rows)
    frames[_spans(targets[below] + heights[below] * cols, widths[below])] = eos_id

    by_width = np.argsort(widths, kind="stable")
    grid = np.repeat(by_width, heights[by_width])  # (lines of all grids,), the narrowest grids first
    line = _spans(np.zeros(num_grids, dtype=np.int64), heights[by_width])
    line_widths = widths[grid]
    sources = sources[grid] + line * line_widths
    targets = targets[grid] + line * cols

    right = np.flatnonzero(lefts[grid] + line_widths < cols)
    frames[targets[right] + line_widths[right]] = eos_id

    ends = np.cumsum(np.bincount(line_widths, minlength=cols + 1)).tolist()
    for width in range(1, cols + 1):
        same = slice(ends[width - 1], ends[width])
        if same.start < same.stop:
            runs(frames, width)[targets[same]] = runs(cells, width)[sources[same]]
    return frames.reshape(-1, 2, rows * cols)


def _spans(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """starts[0], starts[0] + 1, ... (lengths[0] of them), starts[1], ...: int64 (sum of lengths,)."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())
