"""What the page really plays, recorded in Chromium behind its audio graph: each sample of the test's sounds tells which
sound it is of, and where."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from restyler.listen import balance

RATE_HZ = 48_000
DURATION_S = 4.0
FADE = 240  # samples of 5 ms
RECORDER = Path(__file__).parents[1].joinpath("recorder.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def server(make_test: Callable, serve: Callable) -> Any:
    return serve(make_test("rating", listeners=1, duration_s=DURATION_S))


@pytest.fixture
def page(server: Any, page_of: Callable, client_of: Callable) -> tuple[Any, dict[str, int]]:
    """A rating page with its recorder on, and the number of the sound in each slot."""
    client_of(server, 0).begin()
    (shown,) = balance.pages(server.made.plan, 0)
    return recorded(page_of, server), {slot: index + 1 for slot, index in zip("ABC", shown.slots, strict=True)}


def recorded(page_of: Callable, server: Any) -> Any:
    opened = page_of(server, 0, script=RECORDER)
    opened.wait_for_selector("#missing")
    opened.wait_for_function("window.recording")
    return opened


def recording(page: Any) -> np.ndarray:
    """Everything that was played, from the first sample over −80 dBFS on; silence where nothing was."""
    page.wait_for_timeout(200)
    pieces = page.evaluate("recorded.map(([frame, samples]) => [frame, Array.from(samples)])")
    first, last = pieces[0][0], pieces[-1][0] + len(pieces[-1][1])
    samples = np.zeros(last - first)
    for frame, piece in pieces:
        samples[frame - first : frame - first + len(piece)] = piece
    return samples[np.flatnonzero(samples > 1e-4)[0] :]


def expected(number: int, place: np.ndarray) -> np.ndarray:
    """conftest.sawtooth, at samples into the sound."""
    return 0.05 * number + 0.04 * place / (DURATION_S * RATE_HZ)


def test_switching_keeps_the_place_and_fades_out_then_in(page: tuple[Any, dict[str, int]]) -> None:
    opened, numbers = page
    order = "ABCA"
    for slot in order:
        opened.keyboard.press(slot.lower())
        opened.wait_for_timeout(300)
    opened.keyboard.press(" ")
    samples = recording(opened)
    assert np.abs(np.diff(samples)).max() < 0.0013 + 1e-4  # the steepest of 5 ms raised-cosine fades: no click anywhere
    silent = np.flatnonzero(samples < 1e-4)
    zeros = [group[np.argmin(samples[group])] for group in np.split(silent, np.flatnonzero(np.diff(silent) > 1) + 1)]
    edges = [zero for zero in zeros if FADE < zero < len(samples) - FADE]
    inner = edges[:3]  # between A and B, B and C, C and A; then the stop
    plain = np.arange(2 * FADE, inner[0] - 2 * FADE)
    # Where the first sound is at sample 0 of the recording: from then on it runs on, whatever is chosen.
    start = float(np.median((samples[plain] - 0.05 * numbers["A"]) / 0.04 * DURATION_S * RATE_HZ - plain))
    assert 0 < start < 20  # it began at its beginning, and rose over −80 dBFS within some samples
    bounds = [plain[0], *inner]
    for slot, begin, end in zip(order, bounds, [*inner, inner[-1] + 4000], strict=True):
        steady = np.arange(begin + 2 * FADE, end - 2 * FADE)
        assert len(steady) > 2000
        error = samples[steady] - expected(numbers[slot], steady + start)
        assert np.abs(error).max() < 1e-6  # 5 samples would be 1e-6
        assert abs(error.mean()) < 2e-7
    for zero, (before, after) in zip(inner, itertools.pairwise(order), strict=True):
        near = np.arange(zero - 2 * FADE, zero + 2 * FADE)
        old, new = (expected(numbers[slot], near + start) for slot in (before, after))
        worst = []
        for middle in zero + np.arange(-1.5, 1.5, 0.05):  # the fade may begin between two samples
            t = (near - middle) / FADE
            fade = 0.5 - 0.5 * np.cos(np.pi * np.clip(np.abs(t), 0, 1))
            worst.append(np.abs(samples[near] - np.where(t < 0, old, new) * fade).max())
        assert min(worst) < 0.002 * old.max()


def test_a_chosen_part_loops_with_faded_ends(page: tuple[Any, dict[str, int]]) -> None:
    opened, numbers = page
    opened.keyboard.press("b")
    opened.get_by_label("Loop to").fill("1.6")
    opened.get_by_label("Loop to").press("Tab")
    opened.get_by_label("Loop from").fill("1.0")
    opened.get_by_label("Loop from").press("Tab")
    opened.wait_for_timeout(300)
    opened.evaluate("recorded.length = 0")
    opened.wait_for_timeout(1500)
    samples = recording(opened)
    assert np.abs(np.diff(samples)).max() < 0.0014
    place_s = (samples - 0.05 * numbers["B"]) / 0.04 * DURATION_S
    quiet = np.flatnonzero(samples < 1e-4)
    ends = quiet[np.flatnonzero(np.diff(quiet, prepend=-FADE) > 1)]
    assert set(np.diff(ends)) <= {28_799, 28_800, 28_801}  # 0.6 s
    inside = place_s[samples > 0.05 * numbers["B"]]
    assert inside.max() < 1.6 and np.quantile(inside, 0.05) > 0.99
    for label, value in (("Loop from", "1.3"), ("Loop from", "-1"), ("Loop to", "9")):  # too short; outside
        opened.get_by_label(label).fill(value)
        opened.get_by_label(label).press("Tab")
        values = [opened.get_by_label(name).input_value() for name in ("Loop from", "Loop to")]
        assert values == ["1.00", "1.60"]


def test_sounds_heard_whole_begin_anew_after_the_last_has_faded_out(
    make_test: Callable, serve: Callable, page_of: Callable, client_of: Callable
) -> None:
    server = serve(make_test("ccr", listeners=1, duration_s=2.0))
    client = client_of(server, 0)
    client.begin()
    client.post("heard", page=0, slot="A")  # else B is locked
    opened = recorded(page_of, server)
    for slot, wait_ms in (("a", 300), ("b", 1100), ("b", 900)):
        opened.keyboard.press(slot)
        opened.wait_for_timeout(wait_ms)
    assert client.state()["heard"] == ["A"]  # twice the same half of B is not the whole
    opened.keyboard.press(" ")
    samples = recording(opened)
    silent = np.flatnonzero(samples < 1e-6)
    ends = silent[np.flatnonzero(np.diff(silent, prepend=-FADE) > FADE)]
    assert len(ends) >= 3  # A's, B's, B's: each is out before the next comes in
    assert np.abs(np.diff(samples)).max() < 0.0013 + 1e-4
