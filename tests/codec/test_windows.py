"""The stream that windows are cut from is the stream that they are joined into, whatever its length and chunks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.windows import WindowGrid, cut, join, whole_frames

GRID = WindowGrid(length=16, hop=7, margin=2, fade=4)


def _chunks(stream: torch.Tensor, sizes: list[int]) -> list[torch.Tensor]:
    """`stream` in chunks of the given sizes, again and again until it is used up."""
    chunks = []
    while stream.shape[-1] > 0:
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(stream[..., :size])
        stream = stream[..., size:]
    return chunks


@settings(deadline=None)
@given(st.integers(1, 90), st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_joining_what_was_cut_gives_the_stream_back(length: int, sizes: list[int]) -> None:
    stream = torch.arange(length, dtype=torch.float64)[None]
    windows = cut(_chunks(stream, sizes), GRID)
    torch.testing.assert_close(torch.cat(list(join(windows, GRID)), dim=-1), stream, rtol=0, atol=1e-12)


@settings(deadline=None)
@given(st.integers(1, 90), st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_windows_do_not_depend_on_the_chunks(length: int, sizes: list[int]) -> None:
    stream = torch.arange(length)[None]
    whole, chunked = list(cut([stream], GRID)), list(cut(_chunks(stream, sizes), GRID))
    assert [start for start, _ in whole] == [start for start, _ in chunked]
    for start, window in whole:
        assert torch.equal(window, stream[:, start : start + GRID.length])
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(whole, chunked, strict=True))


def test_windows_stand_on_the_grid_and_the_last_one_ends_with_the_stream() -> None:
    assert [start for start, _ in cut([torch.zeros(1, 16 + 3 * 7)], GRID)] == [0, 7, 14, 21]
    assert [start for start, _ in cut([torch.zeros(1, 16 + 2 * 7 + 1)], GRID)] == [0, 7, 14, 15]
    assert [window.shape[-1] for _, window in cut([torch.zeros(1, 5)], GRID)] == [5]


def test_margins_are_never_heard_between_windows() -> None:
    # Windows that are wrong in their margins, where they meet a neighbour, still join into the right stream.
    stream = torch.rand(1, 60, dtype=torch.float64)
    spoilt = []
    for start, window in cut([stream], GRID):
        window = window.clone()
        if start > 0:
            window[..., : GRID.margin] = 1e6
        if start + GRID.length < 60:
            window[..., -GRID.margin :] = 1e6
        spoilt.append((start, window))
    torch.testing.assert_close(torch.cat(list(join(spoilt, GRID)), dim=-1), stream)


def test_a_step_from_one_window_to_the_next_becomes_a_smooth_monotonic_fade() -> None:
    grid = WindowGrid(length=150, hop=75, margin=15, fade=45)
    joined = torch.cat(list(join([(0, torch.zeros(1, 150)), (75, torch.ones(1, 150))], grid)), dim=-1)[0]
    steps = joined.diff()
    assert joined.shape == (225,)
    assert torch.equal(joined[:90], torch.zeros(90))
    assert torch.equal(joined[135:], torch.ones(90))
    assert bool((steps >= 0).all())
    assert float(steps.max()) < 0.04  # a sin² over 45 frames is steepest at π/90


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 15, 16, 17, 40])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_last_frame_is_completed_by_the_mirrored_end(length: int, size: int) -> None:
    stream = torch.arange(length)[None]
    whole = torch.cat(list(whole_frames(_chunks(stream, [size]), 8)), dim=-1)
    there_and_back = torch.cat([stream, stream.flip(-1)], dim=-1)[0].tolist() * 8
    assert whole[0].tolist() == there_and_back[: -(-length // 8) * 8]


def test_an_empty_stream_and_an_impossible_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        list(whole_frames([torch.zeros(1, 0)], 8))
    with pytest.raises(ValueError, match="at least one chunk"):
        list(cut([], GRID))
    with pytest.raises(ValueError, match="must fit into one window"):
        WindowGrid(length=16, hop=7, margin=3, fade=4)
