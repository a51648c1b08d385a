"""Many listeners at once against a real server: nothing acknowledged is lost, and what an answer takes is measured."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from restyler.listen import balance, storage

LISTENERS, FEW = 200, 20
MEDIAN_S, P99_S = 0.1, 1.0  # of a rating, with all listeners at it


async def listen(
    url: str, turns: int, pause_s: float, random: np.random.Generator, times_s: list[float]
) -> tuple[dict[str, float], str]:
    """One listener's whole test of one rating page: `turns` ratings, each `pause_s` after the last, then the end.

    Gives the last acknowledged rating of each slot.
    """
    limits = httpx.Limits(max_connections=2)
    async with httpx.AsyncClient(timeout=60, limits=limits, verify=False) as http:

        async def ask(method: str, path: str, **more: Any) -> httpx.Response:
            while True:  # as the page does: a connection may end while idle
                try:
                    answer = await http.request(method, f"{url}/{path}", **more)
                except httpx.TransportError:
                    await asyncio.sleep(0.5)
                    continue
                assert answer.status_code == 200, answer.text
                return answer

        async def post(action: str, **body: Any) -> None:
            await ask("POST", action, json=body)

        await post("consent", agree=True)
        await post("level")
        state = (await ask("GET", "state")).json()
        for sound in state["sounds"]:
            content = (await ask("GET", f"sound/{sound['sound']}")).content
            assert content[:4] == b"RIFF"
            await post("heard", page=0, slot=sound["slot"])
        await asyncio.sleep(pause_s * random.random())
        slots = [sound["slot"] for sound in state["sounds"]]
        rated = {}
        for turn in range(turns):
            value = round(float(random.uniform(0, 100)), 1)
            started = time.perf_counter()
            await post("rating", page=0, field=slots[turn % len(slots)], value=value, sequence=turn + 1)
            times_s.append(time.perf_counter() - started)
            rated[slots[turn % len(slots)]] = value
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
        await post("submit", page=0)
        return rated, (await ask("GET", "state")).json()["stage"]


def all_at_once(server: Any, listeners: int, turns: int, pause_s: float) -> tuple[list[float], list[dict[str, float]]]:
    async def crowd() -> tuple[list[float], list[tuple[dict[str, float], str]]]:
        times_s: list[float] = []
        generators = np.random.default_rng(1).spawn(listeners)
        each = [listen(server.page(n), turns, pause_s, generators[n], times_s) for n in range(listeners)]
        return times_s, await asyncio.gather(*each)

    times_s, ends = asyncio.run(crowd())
    assert {stage for _, stage in ends} == {"finished"}
    return times_s, [rated for rated, _ in ends]


def require_all_kept(made: Any, rated: list[dict[str, float]]) -> None:
    kept = {(row.listener, row.condition): row.score for row in storage.answers(made.folder)}
    expected = {}
    for listener, values in enumerate(rated):
        (page,) = balance.pages(made.plan, listener)
        for slot, index in zip("ABCDEFGH", page.slots, strict=False):
            expected[storage.listener_name(listener), page.trial.stimuli[index].condition] = values[slot]
    assert kept == expected
    assert Counter(one["pages_submitted"] for one in storage.listeners(made.folder)) == {1: len(rated)}


def test_twenty_listeners_at_once_lose_nothing(make_test: Callable, serve: Callable) -> None:
    made = make_test("rating", listeners=FEW)
    server = serve(made)
    _, rated = all_at_once(server, FEW, turns=6, pause_s=0)
    server.kill()
    require_all_kept(made, rated)  # from what is on disk, after the process was killed


@pytest.mark.slow
def test_two_hundred_listeners_at_once_lose_nothing_and_are_answered_soon(
    make_test: Callable, serve: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight sounds of 10 s each (2.9 MB) for every listener, then a rating a second from each of them, for 40 s."""
    made = make_test("rating", listeners=LISTENERS, sounds=8, duration_s=10.0)
    server = serve(made)
    times_s, rated = all_at_once(server, LISTENERS, turns=40, pause_s=1.0)
    server.kill()
    require_all_kept(made, rated)
    assert len(times_s) == 40 * LISTENERS
    median_s, p99_s = (float(np.quantile(times_s, q)) for q in (0.5, 0.99))
    with capsys.disabled():
        print(f"\n{len(times_s)} ratings: median {1000 * median_s:.1f} ms, p99 {1000 * p99_s:.0f} ms")
    assert median_s < MEDIAN_S and p99_s < P99_S
