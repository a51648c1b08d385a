"""A stream of any length cut into overlapping windows, and windows cross-faded back into one stream.

The windows stand on a fixed grid that begins with the stream, so they do not depend on the chunks in which the
stream arrives. Only the last one leaves the grid: it is flush with the stream's end, so that it has a full
window of context too. Everything works on the last axis and keeps no more than a window and a chunk in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class WindowGrid:
    """Where windows begin and what of them is used, all in the same unit (frames, or samples).

    length: of a window. hop: from one window's beginning to the next. margin: discarded at either end of a window
    where it meets a neighbour. fade: cross-fade from one window to the next, right after the margin of the next.
    """

    length: int
    hop: int
    margin: int
    fade: int

    def __post_init__(self) -> None:
        if self.hop < 1 or self.margin < 0 or self.fade < 0:
            raise ValueError("windows need a positive hop, and a margin and fade of at least 0")
        if self.hop + 2 * self.margin + self.fade > self.length:
            raise ValueError("a hop, two margins and a fade must fit into one window")

    def around(self, first: int, stop: int) -> tuple[int, int]:
        """(from, to): the shortest stretch of a stream, from a window's start to a window's end, whose windows make
        first … stop − 1 of it just as those of the whole stream do."""
        earliest = max(0, (first - self.margin - self.fade) // self.hop)
        latest = max(0, (stop - 1 - self.margin) // self.hop)
        return earliest * self.hop, latest * self.hop + self.length

    def times(self, factor: int) -> WindowGrid:
        """The same grid in a unit `factor` times smaller."""
        return WindowGrid(self.length * factor, self.hop * factor, self.margin * factor, self.fade * factor)


def whole_frames(chunks: Iterable[torch.Tensor], frame: int) -> Iterator[torch.Tensor]:
    """The stream, its end mirrored until its length is a multiple of `frame`.

    Mirrored rather than zeroed: neither a step nor a fall in level belongs to the recording.
    """
    total, held = 0, None
    for chunk in chunks:
        total += chunk.shape[-1]
        held = chunk if held is None else torch.cat([held, chunk], dim=-1)
        ready = held.shape[-1] - frame  # one frame is held back: the end can be mirrored from it
        if ready > 0:
            yield held[..., :ready]
            held = held[..., ready:]
    if held is None or total == 0:
        raise ValueError("a stream has at least one sample")
    available = held.shape[-1]
    index = torch.arange(available + -total % frame, device=held.device) % (2 * available)
    yield held[..., torch.where(index < available, index, 2 * available - 1 - index)]


def cut(chunks: Iterable[torch.Tensor], grid: WindowGrid) -> Iterator[tuple[int, torch.Tensor]]:
    """Windows of the stream as (start, window). A stream shorter than a window is one short window."""
    begin, start, held = 0, 0, None  # where `held` begins, where the next window starts
    for chunk in chunks:
        held = chunk if held is None else torch.cat([held, chunk], dim=-1)
        while start + grid.length <= begin + held.shape[-1]:
            yield start, held[..., start - begin : start - begin + grid.length]
            start += grid.hop
        needed = max(start - grid.hop, begin)  # the last window starts no earlier than the latest one did
        begin, held = needed, held[..., needed - begin :]
    if held is None:
        raise ValueError("a stream has at least one chunk")
    last = max(begin + held.shape[-1] - grid.length, 0)
    if start == 0 or last > start - grid.hop:
        yield last, held[..., last - begin :]


def join(windows: Iterable[tuple[int, torch.Tensor]], grid: WindowGrid) -> Iterator[torch.Tensor]:
    """Windows as `cut` gives them → the stream in chunks. Fades are sin², so the two weights sum to one."""
    position, tail = 0, None  # what is not final yet, and where it begins
    for start, window in windows:
        if tail is None:
            tail = window
            continue
        seam = start + grid.margin - position
        yield tail[..., :seam]
        old = tail[..., seam : seam + grid.fade]
        new = window[..., grid.margin : grid.margin + grid.fade]
        phase = (torch.arange(grid.fade, device=window.device) + 0.5) * (math.pi / 2 / max(grid.fade, 1))
        faded = old + phase.sin().square().to(window.dtype) * (new - old)
        position, tail = start + grid.margin, torch.cat([faded, window[..., grid.margin + grid.fade :]], dim=-1)
    if tail is not None:
        yield tail
