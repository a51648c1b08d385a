"""What the database keeps, what answers stand for, and the sounds of the checks."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.errors import InputError
from restyler.listen import headphones, sessions, storage
from restyler.listen.balance import Page
from restyler.listen.plan import ListeningTest
from restyler.listen.sounds import packed, wav_bytes
from restyler.listen.writer import StorageError, Writer

RATE_HZ = 48_000


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 100)), min_size=1, unique_by=lambda one: one[0]), st.data())
def test_the_highest_number_wins_in_whatever_order_messages_come(messages: list[tuple[int, int]], data: Any) -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(storage.SCHEMA)
    for sequence, value in data.draw(st.permutations(messages + messages)):
        storage.note_rating(connection, 0, 0, "A", value, sequence, 0.0)
    assert storage.ratings(connection, 0, 0) == {"A": max(messages)[1]}
    assert storage.last_sequence(connection, 0) == max(messages)[0]
    connection.close()


def rating(value: int, sequence: int = 1) -> Callable[[sqlite3.Connection], Any]:
    return lambda connection: storage.note_rating(connection, 0, 0, f"{value}", value, sequence, 0.0)


def failing(connection: sqlite3.Connection) -> None:
    storage.note_rating(connection, 0, 0, "undone", 1, 1, 0.0)
    raise ValueError("after a change")


def test_what_one_message_breaks_undoes_its_own_changes_alone(make_test: Callable) -> None:
    made = make_test("acr")
    connection = storage.connect(made.folder, made.plan)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: synced at every commit
    writer = Writer(connection)

    async def crowd() -> list[Any]:
        works = [rating(1), failing, rating(2), lambda connection: connection.execute("INSERT INTO meta VALUES (1)")]
        return await asyncio.gather(*map(writer.run, [*works, rating(3)]), return_exceptions=True)

    done = asyncio.run(crowd())
    assert done[0] is True and done[2] is True and done[4] is True
    assert isinstance(done[1], ValueError) and isinstance(done[3], StorageError)
    other = sqlite3.connect(made.folder / storage.DATABASE)  # what is acknowledged is there for others
    assert storage.ratings(other, 0, 0) == {"1": 1, "2": 2, "3": 3}
    other.close()
    writer.close()


def test_a_full_database_refuses_what_does_not_fit_and_goes_on(make_test: Callable) -> None:
    made = make_test("acr")
    connection = storage.connect(made.folder, made.plan)
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    writer = Writer(connection)
    large = "x" * 200_000

    async def crowd() -> list[Any]:
        def too_much(connection: sqlite3.Connection) -> None:
            storage.note_rating(connection, 0, 0, "comment", large, 1, 0.0)

        read = lambda connection: storage.pages_done(connection, 0)  # noqa: E731
        return await asyncio.gather(*map(writer.run, [rating(1), too_much, read]), return_exceptions=True)

    done = asyncio.run(crowd())
    assert done[0] is True and isinstance(done[1], StorageError) and done[2] == 0
    assert storage.ratings(connection, 0, 0) == {"1": 1}
    writer.close()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_pairs_are_turned_to_the_order_of_their_names(order: tuple[int, int], make_test: Callable) -> None:
    made = make_test("ab", "ccr", "abx")
    ab, ccr, abx = made.plan.trials
    a, b = (ab.stimuli[index].condition for index in order)
    for choice, preferred in (("A", a), ("B", b), ("tie", None)):
        (row,) = sessions.resolve(Page(ab, order), {"choice": choice}, listener="L001", time_s=None)
        assert (row.condition, row.other, row.choice, row.score) == ("ours", "theirs", preferred, None)
    second = ccr.stimuli[order[1]].condition  # judged against the first
    for score in (-3, 0, 1):
        (row,) = sessions.resolve(Page(ccr, order), {"choice": score}, listener="L001", time_s=1.5)
        assert (row.condition, row.score) == ("ours", score if second == "ours" else -score)
        assert row.time_s == 1.5
    for x in order:
        for choice in "AB":
            (row,) = sessions.resolve(Page(abx, (*order, x)), {"choice": choice}, listener="L001", time_s=None)
            assert row.choice == ("correct" if order["AB".index(choice)] == x else "incorrect")


def test_without_the_extra_the_command_says_what_to_install(
    make_test: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from restyler.listen.serve_command import main

    for module in ("restyler.listen.serving", "restyler.listen.server"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main([str(make_test("acr").folder)]) == 2
    assert 'pip install "vocal-restyler[listen]"' in capsys.readouterr().err


def test_each_listener_meets_every_order_of_the_tones_once() -> None:
    asked = [headphones.orders(3, listener) for listener in range(50)]
    for orders in asked:
        assert len(set(orders)) == len(orders) == headphones.QUESTIONS
        answers = [headphones.correct_answer(order) for order in orders]
        assert sorted(answers) == [1, 1, 2, 2, 3, 3]
    assert len({tuple(orders) for orders in asked}) > 40
    assert headphones.orders(3, 7) == headphones.orders(3, 7)


def test_the_quiet_tone_is_6_db_lower_and_the_antiphase_one_cancels_in_the_air() -> None:
    order = ("antiphase", "quiet", "plain")
    frames = headphones.tones(order, RATE_HZ, -23.0)
    step = round((headphones.TONE_S + headphones.PAUSE_S) * RATE_HZ)
    antiphase, quiet, plain = (frames[n * step : n * step + RATE_HZ] for n in range(3))
    assert np.abs(antiphase.sum(axis=1)).max() == 0
    for ear in (0, 1):
        assert np.abs(antiphase[:, ear]).max() == pytest.approx(np.abs(plain[:, ear]).max())
        ratio_db = 10 * np.log10(np.mean(quiet[:, ear] ** 2) / np.mean(plain[:, ear] ** 2))
        assert ratio_db == pytest.approx(-6)
    spectrum = np.abs(np.fft.rfft(plain[:, 0]))
    assert np.argmax(spectrum) == 200  # Hz, as the tone lasts one second


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
@pytest.mark.parametrize("lufs", [-23.0, -30.5])
def test_the_noise_is_as_loud_as_the_test(lufs: float, tmp_path: Path) -> None:
    noise = headphones.level_noise(RATE_HZ, lufs)
    (tmp_path / "noise.wav").write_bytes(wav_bytes(noise, RATE_HZ, seed=1))
    command = ["ffmpeg", "-nostats", "-i", tmp_path / "noise.wav", "-af", "ebur128=framelog=verbose", "-f", "null", "-"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    measured = float(told.split("I:")[-1].split("LUFS")[0])
    assert measured == pytest.approx(lufs, abs=0.1)
    steps = np.abs(np.diff(noise[:, 0]))
    assert abs(noise[0, 0] - noise[-1, 0]) <= steps.max()  # it loops without a click


def test_noise_stays_within_24_bits() -> None:
    full = np.array([2**23 - 1, -(2**23)] * 5000, dtype=np.int32)
    data = np.frombuffer(packed(full, np.random.default_rng(0)), dtype=np.uint8).reshape(-1, 3)
    values = np.pad(data, ((0, 0), (1, 0))).copy().view("<i4").reshape(-1) >> 8
    assert set(values - full) == {-1, 0, 1}
    assert set((values - full)[::2]) == {-1, 0} and set((values - full)[1::2]) == {0, 1}


def test_an_answered_test_is_bound_to_its_plan(make_test: Callable) -> None:
    made = make_test("acr")

    class Later(ListeningTest):
        """The plan of a later version, read from the same file."""

        new: int = 0

    storage.connect(made.folder, made.plan).close()
    storage.connect(made.folder, made.plan).close()
    storage.connect(made.folder, Later(**made.plan.__dict__)).close()
    with pytest.raises(InputError, match="another plan"):
        storage.connect(made.folder, made.plan.model_copy(update={"seed": 6}))
