"""ARC: reading grids, frames of token ids and the way back, and the augmentations that votes undo.

A grid is (h, w) uint8 of colours 0..9; a frame is (H, W) uint8 token ids: a grid somewhere in it, a line of EOS
directly below and directly right of the grid, PAD elsewhere.
"""

import re
from dataclasses import dataclass

import numpy as np

from .errors import PuzzleError
from .grids import PuzzleCodec, Shape, check_grids, read_grid
from .pasted_text import text_lines
from .symmetry import dihedral, inverse_dihedral

PAD_ID, EOS_ID, FIRST_COLOUR_ID = 0, 1, 2  # token ids; colour c is c + 2
NUM_COLOURS = 10
FRAME_SHAPE = (30, 30)  # the largest grid of the ARC collections

AUGMENTED_NAME = re.compile(r"(.+)_t([0-9]+)_([0-9]{10})", re.DOTALL)


def parse_grid(grid: object, max_shape: Shape = FRAME_SHAPE) -> np.ndarray:
    """A grid in any form of `read_grid` that has rows -> (h, w) uint8, 1 x 1 up to `max_shape`.

    In text a cell is a character, or what stands between commas, semicolons, tabs or bars. Raises PuzzleError, and
    nothing else, for anything else.
    """

    def fit(written: tuple[int, ...]) -> tuple[Shape, str]:
        if len(written) != 2 or not all(1 <= size <= most for size, most in zip(written, max_shape, strict=True)):
            size, most = (" x ".join(map(str, shape)) for shape in (written, max_shape))
            raise PuzzleError(f"the grid has {size} cells: allowed are grids from 1 x 1 to {most}, row by row")
        return written, "0123456789"

    return read_grid([grid] if isinstance(grid, str) else grid, "grid", fit, _readings)  # a line is a row


def _readings(text: str) -> list[list[list[str]]]:
    """Of a text one."""
    lines = [line.strip().strip("|").strip().removesuffix(",") for line in text_lines(text.strip())]
    delimiters = re.compile(r"[,;\t|]")
    return [[delimiters.split(line) if delimiters.search(line) else list("".join(line.split())) for line in lines]]


def parse_side(pair: object, side: str, where: str, max_shape: Shape = FRAME_SHAPE) -> np.ndarray:
    """The "input" or "output" of one pair of a task's JSON object; `where` names the pair in a PuzzleError."""
    if not isinstance(pair, dict) or pair.get(side) is None:
        raise PuzzleError(f"{where} has no {side!r}: expected an object with 'input' and 'output'")
    try:
        return parse_grid(pair[side], max_shape)
    except PuzzleError as error:
        raise PuzzleError(f"{where}, {side}: {error}") from None


def draw(grid: np.ndarray) -> str:
    """The grid as text for people: a line of digits per row, which `parse_grid` reads; "(empty)" for 0 x 0."""
    return "\n".join(" ".join(map(str, row)) for row in check_grids(grid, NUM_COLOURS - 1).tolist()) or "(empty)"


def frame(grid: np.ndarray, frame_shape: Shape = FRAME_SHAPE) -> np.ndarray:
    """The grid's token ids in the top left corner of a frame (H, W) uint8; PuzzleError for what holds no colours.

    EOS fills the cells directly below the grid (in its columns) and directly right of it (in its rows) as far as they
    lie in the frame; the corner between them, and all else, is PAD.
    """
    rows, columns = np.shape(grid)
    ids = np.full(frame_shape, PAD_ID, np.uint8)
    ids[rows : rows + 1, :columns] = EOS_ID  # an empty slice where the line falls outside the frame
    ids[:rows, columns : columns + 1] = EOS_ID
    ids[:rows, :columns] = check_grids(grid, NUM_COLOURS - 1) + FIRST_COLOUR_ID
    return ids


def cut_sizes(frames: np.ndarray) -> np.ndarray:
    """(N, H, W) integer token ids -> (N, 2) int64: rows and columns of the grid that each frame shows.

    It is the largest rectangle from the top left corner that holds colours only, of equal areas the one with fewest
    rows; 0 x 0 where the corner itself is no colour. Any other id, out of the vocabulary too, ends the grid.
    """
    ends = (frames < FIRST_COLOUR_ID) | (frames >= FIRST_COLOUR_ID + NUM_COLOURS)  # where no colour is
    first_end = np.where(ends.any(axis=2), ends.argmax(axis=2), frames.shape[2])  # (N, H) leading colours of each row
    widths = np.minimum.accumulate(first_end, axis=1)  # (N, H) columns of the rectangle whose last row this is
    areas = widths * np.arange(1, frames.shape[1] + 1)
    last = areas.argmax(axis=1)  # the first of equals: fewest rows
    columns = np.take_along_axis(widths, last[:, None], axis=1)[:, 0]
    return np.stack([np.where(columns > 0, last + 1, 0), columns], axis=1).astype(np.int64)


def cut(frame: np.ndarray) -> np.ndarray:
    """The grid (h, w) uint8 that a frame (H, W) of token ids shows; see `cut_sizes`."""
    rows, columns = cut_sizes(frame[None])[0]
    return (frame[:rows, :columns] - FIRST_COLOUR_ID).astype(np.uint8)


@dataclass(frozen=True)
class ArcAugmentation:
    """A symmetry of ARC tasks: a dihedral transform (`symmetry`), 0 to 7; colour i becomes colours[i]."""

    transform: int = 0
    colours: tuple[int, ...] = tuple(range(NUM_COLOURS))

    @classmethod
    def parse(cls, name: str) -> tuple[str, "ArcAugmentation"]:
        """An identifier's name -> (task, augmentation). A name of another form is a task's own: identity.

        '<task>_t<transform>_<10 digits>', digit i = the colour that i becomes; PuzzleError where these are none.
        """
        parts = AUGMENTED_NAME.fullmatch(name)
        if not parts:
            return name, cls()
        if parts[2] not in tuple("01234567") or len(set(parts[3])) < NUM_COLOURS:
            allowed = "a transform from 0 to 7 and a permutation of the 10 colours"
            raise PuzzleError(f"{name[:200]!r} is no augmentation of a task: expected {allowed}")
        return parts[1], cls(int(parts[2]), tuple(map(int, parts[3])))

    @staticmethod
    def task_of(name: str) -> str:
        """The task in an identifier's name, like the first of `parse` but quicker: the augmentation is not checked."""
        parts = AUGMENTED_NAME.fullmatch(name)
        return parts[1] if parts else name

    def apply(self, grid: np.ndarray) -> np.ndarray:
        """Grids (..., h, w) of colours -> uint8 of the same shape, or (..., w, h) where the transform turns them."""
        recoloured = np.array(self.colours, np.uint8)[check_grids(grid, NUM_COLOURS - 1)]
        return np.ascontiguousarray(dihedral(recoloured, self.transform))

    def undo(self, grid: np.ndarray) -> np.ndarray:
        """The grids that `apply` turns into these: undo(apply(grid)) == grid."""
        former_colours = np.argsort(self.colours).astype(np.uint8)
        return np.ascontiguousarray(
            inverse_dihedral(former_colours[check_grids(grid, NUM_COLOURS - 1)], self.transform)
        )


CODEC = PuzzleCodec(  # the grid stands top left in a frame of grid_shape
    vocabulary=lambda grid_shape: ["PAD", "EOS", *map(str, range(NUM_COLOURS))],
    read=lambda puzzle, grid_shape, box_shape: parse_grid(puzzle, grid_shape),
    encode=frame,
    decode=cut,
    write=lambda grid, question: "\n".join("".join(map(str, row)) for row in grid.tolist()),
    draw=lambda grid, box_shape: draw(grid),
)
