"""ARC: reading tasks and grids with their checks, frames of token ids and the way back, and the augmentation.

A grid is (h, w) uint8 of colours 0..9; a frame is (H, W) uint8 token ids: a grid somewhere in it, a line of EOS
directly below and directly right of the grid, PAD elsewhere. Ranking the answers to many variants is in voting.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .errors import PuzzleError
from .shown_value import shown
from .symmetry import dihedral, inverse_dihedral

PAD_ID, EOS_ID, FIRST_COLOUR_ID = 0, 1, 2  # token ids; colour c is c + 2
NUM_COLOURS = 10
FRAME_SHAPE = (30, 30)  # the largest grid of the ARC collections

_MAX_CELLS = 1_000_000  # a larger array is no grid: refused before it is looked at
_MAX_NAME = 200  # characters of a task's name
_AUGMENTED_NAME = re.compile(r"(.+)_t([0-9]+)_([0-9]{10})", re.DOTALL)
_PLAIN_COLOURS = tuple(range(NUM_COLOURS))


def vocabulary() -> list[str]:
    """The 12 tokens by id: "PAD", "EOS", "0", ..., "9"."""
    return ["PAD", "EOS", *map(str, range(NUM_COLOURS))]


# Reading


class ArcTask(NamedTuple):
    """One task: (input, output) pairs of grids (h, w) uint8; a test pair whose output is not known has None."""

    name: str
    train: list[tuple[np.ndarray, np.ndarray]]
    test: list[tuple[np.ndarray, np.ndarray | None]]


def parse_grid(grid: object, max_shape: tuple[int, int] = FRAME_SHAPE) -> np.ndarray:
    """A grid as a person or a program writes it -> (h, w) uint8, 1 x 1 up to `max_shape`.

    grid: a nested list of colours, an array (h, w), or lines of digits (one str, or a list of them; spaces within a
    line are ignored). Raises PuzzleError, and nothing else, for anything else, naming the row or the cell (counted
    from 1) and the colour.
    """
    try:
        rows = _rows(grid)
        if not 1 <= len(rows) <= max_shape[0]:
            raise PuzzleError(f"the grid has {len(rows)} rows: {_allowed_shape(max_shape)}")
        for i, row in enumerate(rows):
            if not isinstance(row, list | tuple | str):
                raise PuzzleError(f"row {i + 1} is a {type(row).__name__}, not a list of colours")
            if len(row) != len(rows[0]):
                raise PuzzleError(f"row {i + 1} has {len(row)} cells, row 1 has {len(rows[0])}: a grid has equal rows")
        if not 1 <= len(rows[0]) <= max_shape[1]:
            raise PuzzleError(f"the grid has {len(rows[0])} columns: {_allowed_shape(max_shape)}")
        return np.array([[_colour(rows, i, j) for j in range(len(row))] for i, row in enumerate(rows)], np.uint8)
    except PuzzleError:
        raise
    except Exception as error:  # the object is the caller's: its own methods may raise whatever they like
        raise PuzzleError(f"a {type(grid).__name__} cannot be read as a grid ({type(error).__name__})") from error


def parse_task(
    name: str, task: object, need_answers: bool = True, max_shape: tuple[int, int] = FRAME_SHAPE
) -> ArcTask:
    """A task's JSON object {"train": [{"input": rows, "output": rows}, ...], "test": [...]} -> ArcTask.

    With `need_answers` False a test pair may lack its output (or have null), which is then None. Other keys are
    ignored. Raises PuzzleError naming the task, the pair (counted from 1) and the cell: for a grid that `parse_grid`
    refuses, a missing part, a task without test pairs, a name that is not printable ASCII or that reads as the name of
    an augmented task.
    """
    _check_task_name(name)
    if not isinstance(task, dict):
        raise PuzzleError(f"task {name}: a {type(task).__name__} is no task: give an object with 'train' and 'test'")
    pairs: dict[str, list] = {}
    for part in ("train", "test"):
        if not isinstance(task.get(part), list | tuple):
            raise PuzzleError(f"task {name}: {part!r} must be a list of pairs, got a {type(task.get(part)).__name__}")
        pairs[part] = [
            _parse_pair(pair, f"task {name}, {part} pair {i + 1}", part == "train" or need_answers, max_shape)
            for i, pair in enumerate(task[part])
        ]
    if not pairs["test"]:
        raise PuzzleError(f"task {name} has no test pairs: a task has at least one")
    return ArcTask(name, pairs["train"], pairs["test"])


# Frames


def frame(
    grid: np.ndarray, frame_shape: tuple[int, int] = FRAME_SHAPE, offset: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """The grid's token ids in a frame (H, W) uint8, its top left cell at `offset` (row, column).

    EOS fills the cells directly below the grid (in its columns) and directly right of it (in its rows) as far as they
    lie in the frame; the corner between them, and all else, is PAD. Raises PuzzleError where the grid does not fit.
    """
    grid = _check_colours(grid)
    top, left = offset
    bottom, right = top + grid.shape[-2], left + grid.shape[-1]
    if grid.ndim != 2 or top < 0 or left < 0 or bottom > frame_shape[0] or right > frame_shape[1]:
        raise PuzzleError(f"a grid of shape {grid.shape} at {tuple(offset)} does not fit a frame of {frame_shape}")
    ids = np.full(frame_shape, PAD_ID, np.uint8)
    ids[bottom : bottom + 1, left:right] = EOS_ID  # an empty slice where the line falls outside the frame
    ids[top:bottom, right : right + 1] = EOS_ID
    ids[top:bottom, left:right] = grid + FIRST_COLOUR_ID
    return ids


def cut_sizes(frames: np.ndarray) -> np.ndarray:
    """(N, H, W) integer token ids -> (N, 2) int64: rows and columns of the grid that each frame shows.

    It is the largest rectangle from the top left corner that holds colours only, of equal areas the one with fewest
    rows; 0 x 0 where the corner itself is no colour. Any other id, out of the vocabulary too, ends the grid.
    """
    frames = np.asarray(frames)
    if frames.ndim != 3 or frames.dtype.kind not in "iu" or 0 in frames.shape[1:]:
        raise PuzzleError(f"frames must be integers (N, H, W), got {frames.dtype} of shape {frames.shape}")
    is_colour = (frames >= FIRST_COLOUR_ID) & (frames < FIRST_COLOUR_ID + NUM_COLOURS)
    ends = ~is_colour
    first_end = np.where(ends.any(axis=2), ends.argmax(axis=2), frames.shape[2])  # (N, H) leading colours of each row
    widths = np.minimum.accumulate(first_end, axis=1)  # (N, H) columns of the rectangle whose last row this is
    areas = widths * np.arange(1, frames.shape[1] + 1)
    last = areas.argmax(axis=1)  # the first of equals: fewest rows
    columns = np.take_along_axis(widths, last[:, None], axis=1)[:, 0]
    return np.stack([np.where(columns > 0, last + 1, 0), columns], axis=1).astype(np.int64)


def cut(frame: np.ndarray) -> np.ndarray:
    """The grid (h, w) uint8 that a frame (H, W) of token ids shows; see `cut_sizes`."""
    frame = np.asarray(frame)
    rows, columns = cut_sizes(frame[None])[0]
    return (frame[:rows, :columns] - FIRST_COLOUR_ID).astype(np.uint8)


# Augmentation


@dataclass(frozen=True)
class ArcAugmentation:
    """A symmetry of ARC tasks: a dihedral transform (`symmetry`) and a permutation of the colours.

    transform: 0..7. colours: 10 numbers, colour i becomes colours[i]. Raises PuzzleError if they are something else.
    """

    transform: int
    colours: tuple[int, ...]

    def __post_init__(self) -> None:
        if isinstance(self.transform, bool) or self.transform not in range(8):
            raise PuzzleError(f"there is no transform {self.transform!r}: it is one of 0 to 7")
        object.__setattr__(self, "transform", int(self.transform))
        object.__setattr__(self, "colours", tuple(int(colour) for colour in self.colours))
        if sorted(self.colours) != list(_PLAIN_COLOURS):
            raise PuzzleError(f"colours {self.colours} are not a permutation of 0 to {NUM_COLOURS - 1}")

    @classmethod
    def identity(cls) -> "ArcAugmentation":
        return cls(0, _PLAIN_COLOURS)

    @staticmethod
    def draw(num: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Uniform transforms (num,) uint8 and colours (num, 10) uint8, permutations that leave 0 as it is."""
        transforms = generator.integers(0, 8, num, dtype=np.uint8)
        colours = np.tile(np.arange(NUM_COLOURS, dtype=np.uint8), (num, 1))
        colours[:, 1:] = generator.permuted(colours[:, 1:], axis=1)
        return transforms, colours

    @classmethod
    def parse(cls, name: str) -> tuple[str, "ArcAugmentation"]:
        """An identifier's name -> (task, augmentation); see `name`. A name of another form is a task's own: identity.

        Raises PuzzleError for '<task>_t<k>_<10 digits>' whose k is not 0..7 or whose digits are no permutation.
        """
        parts = _AUGMENTED_NAME.fullmatch(name)
        if not parts:
            return name, cls.identity()
        try:
            return parts[1], cls(int(parts[2]), tuple(map(int, parts[3])))
        except ValueError as error:
            raise PuzzleError(f"{name[:200]!r} is no augmentation of a task: {error}") from None

    @staticmethod
    def task_of(name: str) -> str:
        """The task in an identifier's name, like the first of `parse` but quicker: the augmentation is not checked."""
        parts = _AUGMENTED_NAME.fullmatch(name)
        return parts[1] if parts else name

    def name(self, task: str) -> str:
        """'<task>_t<transform>_<10 digits>', digit i = the colour that i becomes; the identity keeps the bare name."""
        if self == ArcAugmentation.identity():
            return task
        return f"{task}_t{self.transform}_{''.join(map(str, self.colours))}"

    def apply(self, grid: np.ndarray) -> np.ndarray:
        """Grids (..., h, w) of colours -> uint8 of the same shape, or (..., w, h) where the transform turns them."""
        recoloured = np.array(self.colours, np.uint8)[_check_colours(grid)]
        return np.ascontiguousarray(dihedral(recoloured, self.transform))

    def undo(self, grid: np.ndarray) -> np.ndarray:
        """The grids that `apply` turns into these: undo(apply(grid)) == grid."""
        recoloured = np.argsort(self.colours).astype(np.uint8)[_check_colours(grid)]
        return np.ascontiguousarray(inverse_dihedral(recoloured, self.transform))


def draw(grid: np.ndarray) -> str:
    """The grid as text for people: a line of digits per row, which `parse_grid` reads; "(empty)" for 0 x 0."""
    grid = _check_colours(grid)
    return "\n".join(" ".join(map(str, row)) for row in grid.tolist()) or "(empty)"


def _rows(grid: object) -> list:
    """The rows of a grid in any allowed form, each a sequence of its cells or a str of digits."""
    if isinstance(grid, str):
        grid = grid.strip().split("\n")
    if hasattr(grid, "__array__"):
        array = np.asarray(grid)
        if array.ndim != 2 or array.dtype.kind not in "iuf":
            raise PuzzleError(f"an array of {array.dtype} and shape {array.shape} is no grid: give integers (h, w)")
        if array.size > _MAX_CELLS:
            raise PuzzleError(f"an array of shape {array.shape} is no grid: it is too large")
        return array.tolist()
    if not isinstance(grid, list | tuple):
        raise PuzzleError(f"a {type(grid).__name__} is no grid: give rows of colours, an array or lines of digits")
    if len(grid) > _MAX_CELLS:
        raise PuzzleError(f"a list of {len(grid)} rows is no grid: it is too large")
    rows = []
    for row in grid:
        if isinstance(row, np.ndarray):
            if row.ndim != 1 or row.size > _MAX_CELLS:
                raise PuzzleError(f"a row is an array of shape {row.shape}, not one of colours")
            row = row.tolist()
        rows.append("".join(row.split()) if isinstance(row, str) else row)
    return rows


def _colour(rows: list, i: int, j: int) -> int:
    value = rows[i][j]
    if isinstance(rows[i], str) and value in "0123456789":
        return int(value)
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or value != value or not 0 <= value < NUM_COLOURS or value != int(value):
        raise PuzzleError(
            f"{shown(value, depth=0)} at row {i + 1}, column {j + 1} is no colour: colours are 0 to {NUM_COLOURS - 1}"
        )
    return int(value)


def _parse_pair(
    pair: object, place: str, need_output: bool, max_shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray | None]:
    if not isinstance(pair, dict):
        raise PuzzleError(f"{place}: a {type(pair).__name__} is no pair: give an object with 'input' and 'output'")
    grids = []
    for part in ("input", "output"):
        if pair.get(part) is None and part == "output" and not need_output:
            grids.append(None)
            continue
        if pair.get(part) is None:
            raise PuzzleError(f"{place} has no {part!r}")
        try:
            grids.append(parse_grid(pair[part], max_shape))
        except PuzzleError as error:
            raise PuzzleError(f"{place}, {part}: {error}") from None
    return grids[0], grids[1]


def _check_task_name(name: object) -> None:
    """A task's name becomes a line of a file and the head of its augmentations' names: it must survive both."""
    if not isinstance(name, str) or not name or not name.isascii() or not name.isprintable() or name != name.strip():
        raise PuzzleError(f"{shown(name)} is no name for a task: give printable ASCII without blanks at its ends")
    if len(name) > _MAX_NAME:
        raise PuzzleError(f"{shown(name)} is no name for a task: it is longer than {_MAX_NAME} characters")
    if _AUGMENTED_NAME.fullmatch(name):
        raise PuzzleError(f"task {name}: names of the form <task>_t<k>_<10 digits> are kept for augmented tasks")


def _check_colours(grid: np.ndarray) -> np.ndarray:
    grid = np.asarray(grid)
    if grid.ndim < 2 or grid.dtype.kind not in "iu":
        raise PuzzleError(f"a grid must hold integers (h, w), got {grid.dtype} of shape {grid.shape}")
    if grid.size and not (int(grid.min()) >= 0 and int(grid.max()) < NUM_COLOURS):
        bad = int(grid.min()) if int(grid.min()) < 0 else int(grid.max())
        raise PuzzleError(f"{bad} is no colour: colours are 0 to {NUM_COLOURS - 1}")
    return grid.astype(np.uint8, copy=False)


def _allowed_shape(max_shape: tuple[int, int]) -> str:
    return f"allowed are grids from 1 x 1 to {max_shape[0]} x {max_shape[1]}"
