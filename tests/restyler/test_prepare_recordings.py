"""The same recording under several names: never in two splits, told as what it is; and records that stay true."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import restyler.prepare.examining as examining
from audio.waveform import Waveform
from restyler.prepare.config import load_prepare_config
from restyler.prepare.examining import examine, examine_all, read_record, takes_of
from restyler.prepare.judging import Judged, judge
from restyler.prepare.matching import Matched, Pair

RATE_HZ = 48_000
Sing = Callable[[int, float], Waveform]
Mix = Callable[..., np.ndarray]
RESTYLER = "import os, sys; os.chdir(sys.argv.pop(1)); from restyler.cli import main; sys.exit(main())"


class Studio:
    """Writes files, and has pairs of them judged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pairs: list[Pair] = []

    def write(self, name: str, samples: np.ndarray) -> Path:
        path = self.folder / f"{name}.wav"
        soundfile.write(path, samples.T, RATE_HZ, "PCM_24")
        return path

    def pair(self, key: str, raw: Path, mix: Path, **facts: Any) -> None:
        self.pairs.append(Pair(key, facts.pop("take", key), raw, mix, facts.pop("song", key), **facts))

    def judged(self, *overrides: str) -> Judged:
        takes = takes_of(self.pairs)
        list(examine_all(takes, self.folder / "records", workers=1))
        config = load_prepare_config(None, ["splits={by: [song], validation: 0.4, test: 0.3}", *overrides])
        return judge(Matched(tuple(self.pairs)), takes, self.folder / "records", config, frame_rate_hz=150.0)


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def codes(judged: Judged) -> dict[str, list[str]]:
    return {verdict.pair.key: [fault.code for fault in verdict.faults] for verdict in judged.verdicts}


def splits(judged: Judged) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for segment in judged.segments:
        for mix in segment.mixes:
            found.setdefault(mix.key, set()).add(segment.take.split)
    return found


def test_one_song_under_many_names_is_in_one_split(studio: Studio, sung: Sing, mixed: Mix) -> None:
    """Copies at another level, trimmed, and mixed again; with names whose hashes alone would part them."""
    raw = sung(40, 7.0).samples[0].numpy()
    for number in range(6):
        copy = (0.9 - 0.1 * number) * raw[500 * number :]
        studio.pair(
            f"n{number}",
            studio.write(f"r{number}", copy),
            studio.write(f"m{number}", mixed(copy, RATE_HZ, seed=number)),
        )
    judged = studio.judged()
    assert len(set().union(*splits(judged).values())) == 1
    assert sum(any(code.startswith("duplicate") for code in found) for found in codes(judged).values()) >= 5


def test_a_mix_that_is_the_raw_take_of_another_pair_ties_them(studio: Studio, sung: Sing, mixed: Mix) -> None:
    for number in range(4):
        raw = sung(50 + number, 5.0).samples[0].numpy()
        once = mixed(raw, RATE_HZ, seed=1)
        files = [
            studio.write(f"{name}{number}", x)
            for name, x in (("raw", raw), ("once", once), ("twice", mixed(once[0], RATE_HZ, seed=2)))
        ]
        studio.pair(f"a{number}", files[0], files[1])
        studio.pair(f"b{number}", files[1], files[2])
    found = splits(studio.judged())
    assert len(found) == 8
    for number in range(4):
        assert found[f"a{number}"] == found[f"b{number}"]


def test_two_excerpts_of_a_session_are_no_duplicates_but_share_a_split(studio: Studio, sung: Sing, mixed: Mix) -> None:
    raw = sung(60, 24.0).samples[0].numpy()
    mix = mixed(raw, RATE_HZ, seed=3)
    for name, span in (("a", slice(0, 14 * RATE_HZ)), ("b", slice(9 * RATE_HZ, 24 * RATE_HZ))):
        studio.pair(name, studio.write(f"raw_{name}", raw[span]), studio.write(f"mix_{name}", mix[:, span]))
    judged = studio.judged()
    assert codes(judged) == {"a": [], "b": []}
    assert splits(judged)["a"] == splits(judged)["b"]


def test_of_two_copies_the_healthy_one_is_kept(studio: Studio, sung: Sing, mixed: Mix) -> None:
    raw = sung(61, 10.0).samples[0].numpy()
    mix = mixed(raw, RATE_HZ, seed=4)
    broken = mix.copy()
    for start in np.argsort(-np.abs(mix[0]))[::2000][:8]:
        broken[:, start : start + 1200] = 0
    studio.pair("a", studio.write("raw_a", raw), studio.write("mix_a", broken))
    studio.pair("b", studio.write("raw_b", 0.9 * raw), studio.write("mix_b", 0.9 * mix))
    found = codes(studio.judged())
    assert {"dropouts_mix", "duplicate"} <= set(found["a"])
    assert found["b"] == []


def test_a_file_that_changes_while_it_is_heard_has_no_record(
    studio: Studio, sung: Sing, mixed: Mix, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = sung(62, 5.0).samples[0].numpy()
    studio.pair("a", studio.write("raw", raw), studio.write("mix", mixed(raw, RATE_HZ, seed=5)))
    (take,) = takes_of(studio.pairs)
    inspect = examining.inspect

    def disturbed(path: Path, proxy: Path) -> Any:
        found = inspect(path, proxy)
        studio.write("raw", sung(63, 5.0).samples[0].numpy())
        return found

    (studio.folder / "records").mkdir()
    monkeypatch.setattr(examining, "inspect", disturbed)
    examine(take, studio.folder / "records")
    assert read_record(take, studio.folder / "records") is None
    monkeypatch.undo()
    assert codes(studio.judged()) == {"a": ["wrong_pair"]}


def test_a_record_is_of_the_files_as_they_are(studio: Studio, sung: Sing, mixed: Mix) -> None:
    """Same size, same time of change: the inode's own time tells."""
    raw = sung(64, 5.0).samples[0].numpy()
    path = studio.write("raw", raw)
    studio.pair("a", path, studio.write("mix", mixed(raw, RATE_HZ, seed=6)))
    assert codes(studio.judged()) == {"a": []}
    status = path.stat()
    studio.write("raw", 0 * raw)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert codes(studio.judged()) == {"a": ["silent_raw"]}


def test_what_could_not_be_read_is_tried_again(studio: Studio, sung: Sing, mixed: Mix) -> None:
    raw = sung(65, 5.0).samples[0].numpy()
    link = studio.folder / "mix.wav"
    link.symlink_to(studio.folder / "not mounted" / "mix.wav")
    studio.pair("a", studio.write("raw", raw), link)
    assert codes(studio.judged()) == {"a": ["unreadable_mix"]}
    records = {path: path.stat().st_mtime_ns for path in (studio.folder / "records").iterdir()}
    assert codes(studio.judged()) == {"a": ["unreadable_mix"]}
    assert {path: path.stat().st_mtime_ns for path in records} != records


@pytest.mark.slow
def test_two_workers_find_what_one_does_and_leave_nothing_behind(studio: Studio, sung: Sing, mixed: Mix) -> None:
    for number in range(3):
        raw = sung(66 + number, 4.0).samples[0].numpy()
        studio.pair(
            f"a{number}", studio.write(f"r{number}", raw), studio.write(f"m{number}", mixed(raw, RATE_HZ, seed=7))
        )
    takes = takes_of(studio.pairs)
    for name, workers in (("one", 1), ("two", 2)):
        assert sorted(take.key for take in examine_all(takes, studio.folder / name, workers=workers)) == [
            "a0",
            "a1",
            "a2",
        ]
    one, two = ([read_record(take, studio.folder / name) for take in takes] for name in ("one", "two"))
    assert one == two
    assert sorted(path.name for path in (studio.folder / "two").iterdir()) == sorted(take.record_name for take in takes)


def test_a_take_that_kills_its_process_is_told_and_the_others_go_on(studio: Studio, sung: Sing) -> None:
    """Every process is killed as soon as it is there: each take dies twice."""
    for number in range(2):
        path = studio.write(f"r{number}", sung(66, 4.0).samples[0].numpy())
        studio.pair(f"a{number}", path, path)
    takes = takes_of(studio.pairs)
    over = threading.Event()

    def kill() -> None:
        while not over.is_set():
            for child in multiprocessing.active_children():
                child.kill()
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        done = [take.key for take in examine_all(takes, studio.folder / "records", workers=2)]
    finally:
        over.set()
        killer.join()
    assert sorted(done) == ["a0", "a1"]
    for take in takes:
        record = read_record(take, studio.folder / "records")
        assert record is not None and all("died" in file["problem"] for file in record["files"].values())


def test_names_that_are_no_utf8_are_heard_and_told(
    tmp_path: Path, sung: Sing, mixed: Mix, python: Callable[..., list[Any]]
) -> None:
    raw = sung(69, 5.0).samples[0].numpy()
    for side, samples in (("raw", raw), ("mix", mixed(raw, RATE_HZ, seed=8).T)):
        folder = tmp_path / side / os.fsdecode(b"caf\xe9")
        folder.mkdir(parents=True)
        soundfile.write(tmp_path / "x.wav", samples, RATE_HZ, "PCM_24")
        (tmp_path / "x.wav").rename(folder / "song.wav")
    command = ["prepare", "--raw", "raw", "--mix", "mix", "--out", "out", "--workers", "1"]
    (done,) = python((["-c", RESTYLER, str(tmp_path), *command], {}))
    assert done.returncode == 0, done.stderr[-1000:]
    assert "1 pairs are fine" in done.stdout
    assert "caf" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
