"""`restyler watch`: takes that appear while it looks, each restyled once, whatever ends it meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import soundfile

from audio.errors import InputError
from restyler import watch, watch_folder
from restyler.sample import main as sample
from restyler.watch_record import NAME, Record

FAST = ["--render=codec", "--guard=off", "--device=cpu"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_folder, "SETTLED_S", 0.3)
    monkeypatch.setattr(watch_folder, "GIVEN_UP_S", 0.9)


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    (tmp_path / "exports").mkdir()
    return tmp_path / "exports"


@pytest.fixture
def run(model: Path, exports: Path) -> Callable[..., int]:
    line = [str(exports), "--model", str(model), "--once", "--every=0.1", *FAST]
    return lambda *arguments: watch.main([*line, *map(str, arguments)])


def mixes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("mix_*.wav"))}


def test_each_take_is_restyled_once_as_sample_does(
    run: Callable[..., int],
    model: Path,
    exports: Path,
    vocal_file: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("lead.wav", "Backing 2.flac"):
        shutil.copy(vocal_file(name), exports)
    (exports / "notes.txt").write_text("no take")
    assert run("--variations=2", "--seed=7") == 0
    line = [str(exports), "--model", str(model), *FAST, "--variations=2", "--seed=7", "--out", str(tmp_path / "there")]
    assert sample(line) == 0
    made = mixes(exports)
    assert made == mixes(tmp_path / "there") and len(made) == 4
    times = {name: (exports / name).stat().st_mtime_ns for name in made}
    os.utime(exports / "lead.wav")  # touched, but the same
    shutil.copy(exports / "lead" / "mix_00.wav", exports / "a mix.wav")
    capsys.readouterr()
    assert run("--variations=2", "--seed=7") == 0
    told = capsys.readouterr().out
    assert "a mix.wav: a mix that this project made" in told and "LUFS" not in told
    assert times == {name: (exports / name).stat().st_mtime_ns for name in made}
    soundfile.write(exports / "lead.wav", soundfile.read(exports / "Backing 2.flac")[0][::-1], 48_000)
    assert run("--variations=2", "--seed=7") == 0
    changed = {name for name, data in mixes(exports).items() if data != made[name]}
    assert changed == {"lead/mix_00.wav", "lead/mix_01.wav"}


def test_a_file_is_waited_for_until_it_is_whole(
    run: Callable[..., int], exports: Path, vocal_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """It stands still for a while with half of what its header promises."""
    whole = vocal_file("late.wav", 1.0).read_bytes()
    (exports / "late.wav").write_bytes(whole[: len(whole) // 2])

    def finish() -> None:
        time.sleep(0.7)
        with (exports / "late.wav").open("ab") as file:
            file.write(whole[len(whole) // 2 :])

    writer = threading.Thread(target=finish)
    writer.start()
    assert run("--variations=1") == 0
    writer.join()
    assert "passed over" not in capsys.readouterr().out
    assert soundfile.info(exports / "late" / "mix_00.wav").frames == 48_000


def test_a_file_is_no_take_before_it_has_stayed_as_it_is(exports: Path, tmp_path: Path) -> None:
    """Even where all of it can be read at any time, as of a streamed WAV. The clock is the test's."""
    now_s, checked = [0.0], list[float]()

    def check(path: Path) -> None:
        checked.append(now_s[0])
        raise InputError(f"{path}: enough")

    watcher = watch_folder.Watcher(
        exports, Record(tmp_path, exports), asked="", check=check, plan=lambda *_: pytest.fail("planned"),
        restyle=lambda *_: None, say=lambda _: None, clock=lambda: now_s[0],
    )  # fmt: skip
    for now_s[0] in (0.0, 0.2, 0.4, 0.6):
        with (exports / "take.wav").open("ab") as file:
            file.write(b"more")
        assert watcher.look()
    for now_s[0] in (0.8, 0.89, 0.91):
        watcher.look()
    assert checked == [0.91]


def test_one_bad_file_is_told_once_and_stops_nothing(
    run: Callable[..., int], exports: Path, vocal_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (exports / "a.wav").write_text("no audio")
    (exports / "empty.wav").touch()
    shutil.copy(vocal_file("good.wav"), exports)
    shutil.copy(vocal_file("good.flac"), exports)
    assert run("--variations=1") == 0
    told = capsys.readouterr().out.splitlines()
    assert sum("passed over" in line for line in told) == 3
    assert any("a.wav: not audio" in line for line in told) and any("empty.wav: empty" in line for line in told)
    assert any("good.wav: its mixes would go where those of good.flac are" in line for line in told)
    assert list(mixes(exports)) == ["good/mix_00.wav"] and not (exports / "a").exists()


def test_foreign_files_are_never_replaced(
    run: Callable[..., int], exports: Path, vocal_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(vocal_file("take.wav"), exports)
    (exports / "take").mkdir()
    (exports / "take" / "mix_00.wav").write_text("mine")
    assert run("--variations=1") == 0
    assert "already exists" in capsys.readouterr().out
    assert (exports / "take" / "mix_00.wav").read_text() == "mine"
    shutil.move(exports / "take.wav", exports / "other.wav")
    assert run("--variations=1") == 0 and len(mixes(exports)) == 2
    (exports / "other" / "mix_00.wav").write_text("mine")
    soundfile.write(exports / "other.wav", soundfile.read(exports / "other.wav")[0][::-1], 48_000)
    assert run("--variations=1") == 0
    assert "mix_00.wav: already exists, and is no mix" in capsys.readouterr().out
    assert (exports / "other" / "mix_00.wav").read_text() == "mine"


def test_mixes_never_go_among_the_takes(
    run: Callable[..., int], exports: Path, vocal_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(vocal_file("exports.wav"), exports)
    shutil.copy(vocal_file("mix_00.wav"), exports)
    kept = (exports / "mix_00.wav").read_bytes()
    assert run("--variations=1", "--out", exports.parent, "--overwrite") == 0
    assert "exports.wav: its mixes would go among the takes" in capsys.readouterr().out
    assert (exports / "mix_00.wav").read_bytes() == kept and (exports.parent / "mix_00" / "mix_00.wav").is_file()


PROGRAM = """
import sys
from audio.errors import InputError
from restyler import watch, watch_folder
watch_folder.SETTLED_S = 0.3
sys.exit(watch.main())
"""


@pytest.mark.slow  # processes of their own, which import for seconds
def test_killed_it_goes_on_with_the_mixes_that_are_missing(
    run: Callable[..., int],
    python: Callable[..., list[CompletedProcess[str]]],
    model: Path,
    exports: Path,
    vocal_file: Callable[..., Path],
    tmp_path: Path,
) -> None:
    shutil.copy(vocal_file("take.wav", 1.0), exports)
    said = ["--variations=10"]
    line = ["-c", PROGRAM, str(exports), "--model", str(model), "--every=0.1", *FAST, *said]

    def kill(pids: list[int]) -> None:
        deadline = time.monotonic() + 60
        while not (exports / "take" / "mix_01.wav").exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(pids[0], signal.SIGKILL)

    python((line, {}), meanwhile=kill)
    there = {name: (exports / name).stat().st_ino for name in mixes(exports)}
    recorded = Record(exports, exports).entries["take.wav"].made
    assert 2 <= len(there) < 10 and set(recorded) <= set(range(len(there)))
    assert run(*said) == 0
    now = mixes(exports)
    assert len(now) == 10
    for number in recorded:
        name = f"take/mix_{number:02d}.wav"
        assert (exports / name).stat().st_ino == there[name], "made again"
    line = [str(exports / "take.wav"), "--model", str(model), *FAST, *said, "--out", str(tmp_path / "there")]
    assert sample(line) == 0 and mixes(tmp_path / "there") == now


@pytest.mark.slow
def test_ctrl_c_ends_it_in_one_line(
    python: Callable[..., list[CompletedProcess[str]]], model: Path, exports: Path
) -> None:
    line = ["-c", PROGRAM, str(exports), "--model", str(model), *FAST]

    def interrupt(pids: list[int]) -> None:
        deadline = time.monotonic() + 60
        while not (exports / ".restyler-watch.lock").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1)
        assert watch.main([str(exports), *FAST]) == 2  # one at a time
        os.kill(pids[0], signal.SIGINT)

    (ended,) = python((line, {}), meanwhile=interrupt)
    assert ended.returncode == 130 and ended.stderr.strip().splitlines()[-1] == "interrupted"


def test_what_cant_be_watched_is_refused(
    run: Callable[..., int], exports: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watch.main([str(tmp_path / "none")]) == 2
    assert "not a folder; one is needed to watch" in capsys.readouterr().err
    assert run("--like", "x.wav") == 2
    (tmp_path / "out").mkdir()
    Record(tmp_path / "out", tmp_path).keep("x.wav", watch_folder.Entry((1, 1), "a", "b"))
    assert run("--out", tmp_path / "out") == 2
    assert "watch that one, or use another --out" in capsys.readouterr().err
    (tmp_path / "out" / NAME).write_text("{}")
    assert run("--out", tmp_path / "out") == 2
    assert "remove it" in capsys.readouterr().err


def test_mixes_stems_and_what_a_rack_writes_keep_the_time_of_the_take(
    run: Callable[..., int], exports: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As FFmpeg wrote and reads it: 15 minutes after midnight, at 44.1 and 48 kHz."""
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        pytest.skip("needs ffmpeg")
    from restyler.rack import main as rack

    take, rooms = exports / "take.wav", tmp_path / "rooms.yaml"
    source = ["-f", "lavfi", "-i", "anoisesrc=duration=0.5:sample_rate=44100:amplitude=0.2:seed=1"]
    stamp = ["-metadata", "time_reference=39690000", "-write_bext", "1"]
    subprocess.run(["ffmpeg", "-v", "error", *source, *stamp, take], check=True)
    rooms.write_text("styles: {room: [{reverb: {wet_db: -6, seed: 1}}]}\n")

    def time_reference(path: Path) -> str:
        line = ["ffprobe", "-v", "error", "-show_entries", "format_tags=time_reference", "-of", "csv=p=0", path]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    assert run("--variations=1", "--reverb", rooms, "--stems") == 0
    for name in ("mix_00.wav", "mix_00.dry.wav", "mix_00.room.wav"):
        assert time_reference(exports / "take" / name) == "43200000"
    assert rack([str(rooms), str(take), str(tmp_path / "rack.wav")]) == 0
    assert time_reference(tmp_path / "rack.wav") == "39690000"
    assert "time stamp" not in capsys.readouterr().out
    assert rack([str(rooms), str(take), str(tmp_path / "rack.flac")]) == 0
    assert "only a .wav holds the recording's time stamp" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--reverb", "--after", "--before"])
def test_what_takes_are_made_with_is_what_its_files_hold(
    run: Callable[..., int], exports: Path, vocal_file: Callable[..., Path], tmp_path: Path, option: str
) -> None:
    """An interrupted take goes on only where that is the same."""
    chain, asked = tmp_path / "chain.yaml", []
    for name, wet_db in (("a", -6), ("b", -6), ("c", -30)):
        chain.write_text(f"styles: {{room: [{{reverb: {{wet_db: {wet_db}, seed: 1}}}}]}}\n")
        shutil.copy(vocal_file(f"{name}.wav"), exports)
        assert run("--variations=1", option, chain) == 0
        asked.append(Record(exports, exports).entries[f"{name}.wav"].asked)
    assert asked[0] == asked[1] != asked[2]
