"""Frames of grids: the framing of whole batches against a plain loop over cells, and against that of one ARC grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrm_hf.data.frames import frame_pairs, pair_offsets, runs
from hrm_hf.hrm import arc

PAD, EOS = 0, 1


def plain_frame(grid, frame_shape, offset, pad_id=PAD, eos_id=EOS):
    """The rule, cell by cell."""
    frame = np.full(frame_shape, pad_id, dtype=np.uint8)
    (height, width), (top, left) = grid.shape, offset
    for r in range(frame_shape[0]):
        for c in range(frame_shape[1]):
            in_rows, in_cols = top <= r < top + height, left <= c < left + width
            if in_rows and in_cols:
                frame[r, c] = grid[r - top, c - left]
            elif (in_rows and c == left + width) or (in_cols and r == top + height):
                frame[r, c] = eos_id
    return frame


def draw_pairs(generator, count, frame_shape, vocab_size=12):
    """Random pairs of grids, some of them as large as the frame."""
    pairs = []
    for _ in range(count):
        shapes = generator.integers(1, np.array(frame_shape) + 1, (2, 2))
        shapes[generator.random((2, 2)) < 0.15] = min(frame_shape)
        pairs.append([generator.integers(EOS + 1, vocab_size, shape, dtype=np.uint8) for shape in shapes])
    return pairs


def lay_out(pairs, generator):
    """The grids of the pairs in one array, in random order with gaps: (cells, starts, shapes)."""
    cells, starts = [np.full(3, 99, dtype=np.uint8)], np.zeros(len(pairs), dtype=np.int64)
    for b in generator.permutation(len(pairs)):
        starts[b] = sum(map(len, cells))
        cells += [grid.reshape(-1) for grid in pairs[b]] + [np.full(generator.integers(3), 99, dtype=np.uint8)]
    shapes = np.array([[grid.shape for grid in pair] for pair in pairs], dtype=np.int64).reshape(-1, 2, 2)
    return np.concatenate(cells), starts, shapes


@pytest.mark.parametrize("frame_shape", [(30, 30), (5, 9), (9, 4), (1, 1)])
def test_equals_the_plain_loop(frame_shape):
    generator = np.random.default_rng(sum(frame_shape))
    pairs = draw_pairs(generator, 20, frame_shape)
    cells, starts, shapes = lay_out(pairs, generator)
    offsets = pair_offsets(shapes, generator.random((20, 2)), frame_shape)
    frames = frame_pairs(cells, starts, shapes, offsets, frame_shape, PAD, EOS)
    assert frames.shape == (20, 2, frame_shape[0] * frame_shape[1]) and frames.dtype == np.uint8
    for pair, offset, framed in zip(pairs, offsets, frames, strict=True):
        expected = [plain_frame(grid, frame_shape, offset) for grid in pair]
        np.testing.assert_array_equal(framed.reshape(2, *frame_shape), expected)


def test_equals_the_frame_of_one_arc_grid():
    generator = np.random.default_rng(3)
    pairs = draw_pairs(generator, 12, arc.FRAME_SHAPE)
    cells, starts, shapes = lay_out(pairs, generator)
    offsets = np.zeros((12, 2), np.int64)  # top left
    frames = frame_pairs(cells, starts, shapes, offsets, arc.FRAME_SHAPE, arc.PAD_ID, arc.EOS_ID)
    for pair, framed in zip(pairs, frames, strict=True):
        for grid, frame in zip(pair, framed, strict=True):
            colours = grid - arc.FIRST_COLOUR_ID
            one = arc.frame(colours, arc.FRAME_SHAPE)
            np.testing.assert_array_equal(frame.reshape(arc.FRAME_SHAPE), one)


def test_other_codes_for_pad_and_eos():
    grid = np.array([[7, 8]], dtype=np.uint8)
    cells, starts = np.concatenate([grid, grid], axis=None), np.array([0])
    frames = frame_pairs(cells, starts, np.array([[[1, 2], [1, 2]]]), np.array([[0, 1]]), (3, 4), pad_id=4, eos_id=5)
    np.testing.assert_array_equal(frames.reshape(2, 3, 4)[1], [[4, 7, 8, 5], [4, 5, 5, 4], [4, 4, 4, 4]])


def test_no_pairs_give_no_frames():
    none = np.zeros(0, dtype=np.int64)
    frames = frame_pairs(np.zeros(5, np.uint8), none, none.reshape(0, 2, 2), none.reshape(0, 2), (2, 3), PAD, EOS)
    assert frames.shape == (0, 2, 6)


def test_offsets_are_uniform_over_the_free_room_of_the_larger_grid():
    shapes = np.broadcast_to(np.array([[2, 5], [4, 1]]), (6000, 2, 2))
    offsets = pair_offsets(shapes, np.random.default_rng(0).random((6000, 2)), (6, 7))
    for axis in range(2):  # the room is 6 - 4 rows and 7 - 5 columns
        counts = np.bincount(offsets[:, axis])
        assert len(counts) == 3 and (abs(counts - 2000) < 5 * np.sqrt(2000)).all()
    assert (pair_offsets(shapes[:1], np.zeros((1, 2)), (6, 7)) == 0).all()


def test_the_largest_shift_stays_in_the_frame_for_every_room():
    sides = np.arange(1, 257)
    shapes = np.stack([sides, sides], axis=1)[:, None].repeat(2, axis=1)  # (256, 2, 2)
    largest = np.full((256, 2), np.nextafter(1.0, 0.0))
    np.testing.assert_array_equal(pair_offsets(shapes, largest, (256, 256))[:, 0], 256 - sides)


def test_runs_are_windows_of_the_cells():
    cells = np.arange(7, dtype=np.uint8)
    found = runs(cells, 3)[np.array([4, 0])]
    np.testing.assert_array_equal(found.view(np.uint8).reshape(2, 3), [[4, 5, 6], [0, 1, 2]])
    assert len(runs(cells, 7)) == 1 and len(runs(cells, 8)) == 0


@given(st.data())
def test_any_pair_lies_whole_in_its_frame_and_eos_shows_its_size(data):
    rows, cols = data.draw(st.tuples(st.integers(1, 8), st.integers(1, 8)))
    shape = st.tuples(st.integers(1, rows), st.integers(1, cols))
    shapes = [data.draw(shape), data.draw(shape)]
    shift = st.floats(0, 1, exclude_max=True)
    shifts = np.array([[data.draw(shift), data.draw(shift)]])
    grids = [np.full(s, 7 + k, dtype=np.uint8) for k, s in enumerate(shapes)]
    cells = np.concatenate([grid.reshape(-1) for grid in grids])
    shapes = np.array([shapes])
    offsets = pair_offsets(shapes, shifts, (rows, cols))
    frames = frame_pairs(cells, np.array([0]), shapes, offsets, (rows, cols), PAD, EOS).reshape(2, rows, cols)
    top, left = offsets[0]
    for k, ((height, width), frame) in enumerate(zip(shapes[0], frames, strict=True)):
        assert (frame[top : top + height, left : left + width] == 7 + k).all()
        assert (frame == 7 + k).sum() == height * width
        eos = (width if top + height < rows else 0) + (height if left + width < cols else 0)
        assert (frame == EOS).sum() == eos and (frame == PAD).sum() == rows * cols - height * width - eos


@given(st.integers(0, 2**32 - 1), st.integers(0, 9))
def test_random_batches_equal_the_plain_loop(seed, count):
    generator = np.random.default_rng(seed)
    frame_shape = tuple(generator.integers(1, 7, 2).tolist())
    pairs = draw_pairs(generator, count, frame_shape)
    cells, starts, shapes = lay_out(pairs, generator)
    offsets = pair_offsets(shapes, generator.random((count, 2)), frame_shape)
    frames = frame_pairs(cells, starts, shapes, offsets, frame_shape, PAD, EOS)
    expected = [[plain_frame(grid, frame_shape, at).reshape(-1) for grid in pair] for pair, at in zip(pairs, offsets)]
    np.testing.assert_array_equal(frames, np.array(expected, dtype=np.uint8).reshape(frames.shape))
