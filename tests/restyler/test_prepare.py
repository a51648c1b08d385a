"""`restyler prepare` from folders to shards: what is encoded, what is done again, what survives a kill."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess as Ended
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from scipy.fft import next_fast_len

from audio.io import read
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from codec.pocket import PocketCodec
from restyler.model_folder import BUNDLED
from restyler.prepare.command import main
from restyler.prepared import PreparedSet, Stretch

pytestmark = pytest.mark.usefixtures("fresh_accelerator")
SMALL = ["shards.seconds=5", "splits.validation=0.3", "splits.test=0.2"]
Sing = Callable[[int, float], Waveform]


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory, model: Path, sung: Sing, mixed: Callable[..., np.ndarray]
) -> Path:
    """Eight songs, raw takes at 44.1 and 48 kHz; mixes that are late or early, stereo, at their own level. Beside them
    a codec that is sooner done than the bundled one."""
    folder = tmp_path_factory.mktemp("songs")
    (folder / "codec").symlink_to(model / "codec")
    for number in range(8):
        take = sung(number, 5.0)
        rate = 44100 if number % 2 else 48000
        raw = take.resampled(rate).samples[0].numpy()
        mix = mixed(raw, rate, seed=number, late_s=0.3 * number - 0.5)
        for side, samples in (("raw", raw), ("mix", mix.T)):
            (folder / side).mkdir(exist_ok=True)
            soundfile.write(folder / side / f"song{number}_{side}.wav", samples, rate, "PCM_24")
    return folder


def run(folders: Path, out: Path, *overrides: str) -> int:
    kept = [
        text
        for text in command(folders, out, "--workers", "1")
        if not any(text.startswith(f"{o.split('=')[0]}=") for o in overrides)
    ]
    return main([*kept, *overrides])


def command(folders: Path, out: Path, *more: str) -> list[str]:
    codec = f"codec.path={(folders / 'codec').resolve()}"
    return ["--raw", str(folders / "raw"), "--mix", str(folders / "mix"), "--out", str(out), codec, *SMALL, *more]


def shards(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("*-*.*")}


def latents(out: Path) -> dict[tuple[str, float], bytes]:
    """Raw latents of all segments, by take and start."""
    found = {}
    for split in ("train", "validation", "test"):
        part = PreparedSet(str(out)).split(split)
        keys = list(part.takes)
        for number in range(len(part)):
            (array,) = part.read([Stretch(number, 0, 0, int(part.frames[number]))])
            found[keys[part.take[number]], float(part.start_s[number])] = array.tobytes()
    return found


def report(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "report.json").read_text())
    return content


@pytest.fixture(scope="module")
def prepared(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "set"
    assert run(folders, out) == 0
    return out


@pytest.fixture
def heard(prepared: Path, tmp_path: Path) -> Path:
    """A folder for a set of the same songs that need not be heard again; nothing is encoded."""
    out = tmp_path / "set"
    shutil.copytree(prepared / "examined", out / "examined")
    shutil.copy(prepared / "prepare.json", out)
    return out


def test_every_pair_is_used_and_every_file_has_a_fate(folders: Path, prepared: Path) -> None:
    told = report(prepared)
    assert {pair["key"]: (pair["status"], pair["faults"]) for pair in told["pairs"]} == {
        f"song{number}": ("ok", []) for number in range(8)
    }
    assert {file["path"] for file in told["files"]} == {str(path) for path in folders.rglob("*.wav")}
    assert {file["fate"] for file in told["files"]} == {"used"}
    assert told["finished"]


def test_latents_are_those_of_the_aligned_takes_at_the_loudness_of_the_set(folders: Path, prepared: Path) -> None:
    """Against one pass over whole recordings, the mix moved by a phase ramp over its whole spectrum."""
    codec = PocketCodec.from_pretrained(folders / "codec").eval()
    offsets = {pair["key"]: pair["alignment"]["regions"][0]["offset_s"] for pair in report(prepared)["pairs"]}
    expected = {}
    for number in range(8):
        raw, mix = (read(folders / side / f"song{number}_{side}.wav") for side in ("raw", "mix"))
        assert abs(offsets[f"song{number}"] - (0.3 * number - 0.5)) < 0.001
        length = raw.samples.shape[1]
        room = next_fast_len(mix.samples.shape[1] + 20 * mix.sample_rate, real=True) - mix.samples.shape[1]
        padded = np.pad(mix.samples.numpy(), ((0, 0), (0, room)))
        ramp = np.exp(2j * np.pi * np.fft.rfftfreq(padded.shape[1], 1 / mix.sample_rate) * offsets[f"song{number}"])
        moved = np.fft.irfft(np.fft.rfft(padded) * ramp, padded.shape[1])[:, :length].astype(np.float32)
        for side, whole, heard in (
            ("raw", raw.stereo(), raw),
            ("mix", Waveform(torch.from_numpy(moved), mix.sample_rate), mix),
        ):
            gain = 10 ** ((-18 - integrated_loudness_lufs(heard)) / 20)
            with torch.no_grad():
                expected[number, side] = codec.encode_raw(gain * whole.resampled(48000).samples[None])[0].T.numpy()
    segments = 0
    for split in ("train", "validation", "test"):
        part = PreparedSet(str(prepared)).split(split)
        keys = list(part.takes)
        for number in range(len(part)):
            song = int(keys[part.take[number]].removeprefix("song"))
            frames, start = int(part.frames[number]), round(float(part.start_s[number]) * codec.frame_rate_hz)
            found = part.read([Stretch(number, array, 0, frames) for array in (0, 1)])
            for side, latents in zip(("raw", "mix"), found, strict=True):
                wanted = expected[song, side][start : start + frames]
                # The ends of the files are padded otherwise there.
                inner = slice(max(0, 40 - start), min(frames, len(expected[song, side]) - 40 - start))
                error = latents[: len(wanted)][inner] - wanted[inner]
                assert np.sqrt(np.mean(error**2)) < 0.02 * np.std(wanted)
            segments += 1
    assert segments >= 8


def test_a_second_run_does_nothing_and_an_added_song_only_its_own(
    folders: Path, prepared: Path, tmp_path: Path, sung: Sing, mixed: Callable[..., np.ndarray]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (*prepared.glob("*-*.*"), *(prepared / "examined").iterdir())}
    assert run(folders, prepared) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for side in ("raw", "mix"):
        (tmp_path / side).mkdir()
        for path in (folders / side).iterdir():
            (tmp_path / side / path.name).symlink_to(path)
    (tmp_path / "codec").symlink_to(folders / "codec")
    assert run(tmp_path, tmp_path / "out") == 0
    assert shards(tmp_path / "out") == shards(prepared)  # whatever the folders are called
    raw = sung(20, 5.0)
    soundfile.write(tmp_path / "raw/new_raw.wav", raw.samples[0].numpy(), 48000)
    soundfile.write(tmp_path / "mix/new_mix.wav", mixed(raw.samples[0].numpy(), 48000, seed=20, late_s=0.0).T, 48000)
    old = shards(tmp_path / "out")
    assert run(tmp_path, tmp_path / "out", "shards.seconds=600") == 0
    told = report(tmp_path / "out")
    assert {pair["split"] for pair in told["pairs"] if pair["key"] == "new"} <= {"train", "validation", "test"}
    was, now = ({pair["key"]: pair["split"] for pair in report(out)["pairs"]} for out in (prepared, tmp_path / "out"))
    assert {key: now[key] for key in was} == was
    assert not set(shards(tmp_path / "out")) & set(old)  # fewer, longer shards: the old ones are gone
    one, other = (latents(out) for out in (prepared, tmp_path / "out"))
    assert {key: other[key] for key in one} == one


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    folders: Path, prepared: Path, python: Callable[..., list[Ended]], tmp_path: Path
) -> None:
    out = tmp_path / "set"

    def kill(begun: list[int]) -> None:
        while len(list(out.glob("*-*.tar"))) < 2:
            os.kill(begun[0], 0)
            time.sleep(0.005)
        os.kill(begun[0], signal.SIGKILL)

    (killed,) = python((["-m", "restyler.prepare", *command(folders, out, "--workers", "1")], {}), meanwhile=kill)
    assert killed.returncode == -signal.SIGKILL
    assert not (out / "dataset.json").exists()
    done = {path: path.stat().st_mtime_ns for path in out.glob("*-*.tar")}
    assert 2 <= len(done) < len(list(prepared.glob("*-*.tar")))
    assert run(folders, out) == 0
    assert shards(out) == shards(prepared)
    assert (out / "dataset.json").read_bytes() == (prepared / "dataset.json").read_bytes()
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert {path.name for path in out.iterdir() if path.name.startswith(".")} == set()


def test_two_processes_make_the_same_set_as_one(
    folders: Path, prepared: Path, tmp_path: Path, two_processes: Callable[..., list[Ended]]
) -> None:
    out = tmp_path / "set"
    both = two_processes(["-m", "restyler.prepare", *command(folders, out, "--workers", "1")])
    assert shards(out) == shards(prepared)
    assert "".join(process.stdout for process in both).count("report:") == 1


def test_another_codec_is_noticed(folders: Path, prepared: Path, tmp_path: Path) -> None:
    """The bundled one, as where none is named."""
    codec = PocketCodec.from_pretrained(BUNDLED / "codec")
    out = shutil.copytree(prepared, tmp_path / "set")
    old = shards(out)
    assert run(folders, out, "codec.path=bundled") == 0
    new = shards(out)
    assert not set(old) & set(new)
    assert json.loads((out / "dataset.json").read_text())["codec"]["fingerprint"] == codec.fingerprint()


def test_levels_are_those_of_the_settings_and_peaks_stay_under_the_ceiling(folders: Path, heard: Path) -> None:
    assert run(folders, heard, "levels.loudness_lufs=-20.0", "levels.peak_db=-10.0") == 0
    told = report(heard)["pairs"]
    lowered = 0
    for pair in told:
        sides = [(pair[f"{side}_heard"], pair[f"{side}_gain_db"]) for side in ("raw", "mix")]
        loudness = [heard["loudness_lufs"] + gain_db for heard, gain_db in sides]
        peak_db = max(heard["true_peak_db"] + gain_db for heard, gain_db in sides)
        assert loudness[0] == pytest.approx(loudness[1], abs=0.01)
        assert loudness[0] == pytest.approx(-20, abs=0.01) or peak_db == pytest.approx(-10, abs=0.01)
        assert loudness[0] <= -19.99 and peak_db <= -9.99
        lowered += loudness[0] < -20.1
    assert lowered > 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--out", "OUT"], "both --raw DIR and --mix DIR are needed"),
        (["--raw", "RAW", "--out", "OUT"], "both --raw DIR and --mix DIR are needed"),
        (["--manifest", "m.csv", "--raw", "RAW", "--out", "OUT"], "--manifest goes without"),
        (["--raw", "RAW", "--mix", "nowhere", "--out", "OUT"], "nowhere: there is no such folder"),
        (["--raw", "RAW", "--mix", "RAW", "--out", "RAW"], "not a new or empty folder"),
        (["--raw", "RAW", "--mix", "MIX", "--out", "x" * 300], "no folder can be made here"),
        (["--raw", "RAW", "--mix", "MIX", "--out", "LOOP/out"], "no folder can be made here"),
        (["--raw", "RAW", "--mix", "EMPTY", "--out", "OUT"], "none of 0 pairs can be used"),
        (["--raw", "RAW", "--mix", "MIX", "--out", "OUT", "limits.scoer=1"], "did you mean «score»"),
    ],
)
def test_what_can_not_be_done_is_told_in_one_line(
    folders: Path, tmp_path: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    places = {"RAW": folders / "raw", "MIX": folders / "mix", "OUT": tmp_path / "out", "EMPTY": tmp_path / "empty"}
    texts = [str(places.get(text, text)).replace("LOOP", str(tmp_path / "loop")) for text in arguments]
    before = sorted(folders.rglob("*"))
    assert main(texts) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and told in error
    assert sorted(folders.rglob("*")) == before


def test_a_dry_run_prints_the_table_and_writes_nothing(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command(folders, tmp_path / "out"), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:9]] == [f"song{number}" for number in range(8)]
    assert lines[-1] == "8 pairs"
    assert not (tmp_path / "out").exists()


def test_damage_to_a_finished_shard_is_mended_where_it_is_looked_for(folders: Path, heard: Path) -> None:
    out = heard
    assert run(folders, out, "shards.seconds=600") == 0
    good = shards(out)
    for path in out.glob("*-*.tar"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert run(folders, out, "shards.seconds=600") == 0
    assert shards(out) != good
    assert run(folders, out, "--verify", "shards.seconds=600") == 0
    assert shards(out) == good
