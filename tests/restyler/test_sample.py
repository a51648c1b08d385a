"""`sample.py`: files in, files out, and everything that can be wrong with them."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyloudnorm
import pytest
import scipy.signal
import soundfile

from audio.errors import InputError
from audio.io import read_tags
from audio.waveform import Waveform
from conditioning.conditioner import StyleConditioner
from restyler.pipeline import VocalRestylePipeline
from restyler.rendering import render
from restyler.takes import made_folders

ROOT = Path(__file__).resolve().parents[2]
Vocal = Callable[..., Waveform]
Run = Callable[..., int]


def mixes(folder: Path) -> dict[str, np.ndarray]:
    return {file.stem: soundfile.read(file)[0] for file in sorted(folder.glob("*.wav"))}


def level_of_difference_db(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(np.mean((one - other) ** 2) + 1e-30))


def loudness_lufs(samples: np.ndarray, rate: int) -> float:
    return float(
        pyloudnorm.Meter(rate).integrated_loudness(samples if samples.ndim == 2 else np.stack([samples] * 2, 1))
    )


def true_peak_db(samples: np.ndarray) -> float:
    return float(20 * np.log10(np.abs(scipy.signal.resample_poly(samples, 16, 1, axis=0)).max()))


def without_styles(pipeline: VocalRestylePipeline) -> VocalRestylePipeline:
    bare = StyleConditioner(pipeline.codec.latent_dim, 16, [], list(pipeline.defaults.controls), 8)
    parts = pipeline.components | {"conditioner": bare}
    return VocalRestylePipeline(**parts, sampling=dict(pipeline.config.sampling))


# -- the files


def test_the_command_writes_finished_mixes(model: Path, vocal_file: Callable[..., Path], tmp_path: Path) -> None:
    take = vocal_file("My Take.flac", seconds=1.0, rate=44_100, gain=0.2)
    run = subprocess.run(
        [sys.executable, ROOT / "sample.py", take, "--model", model, "--out", tmp_path / "out", "--variations", "3",
         "--seed", "40", "--style", "wide hall", "--device", "cpu", "--guard", "off"],  # random weights garble
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    files = sorted((tmp_path / "out" / "My Take").iterdir())
    assert [file.name for file in files] == ["mix_00.wav", "mix_01.wav", "mix_02.wav"]
    wanted = loudness_lufs(*soundfile.read(take))
    for index, file in enumerate(files):
        info = soundfile.info(file)
        assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", "PCM_24", 48_000, 2)
        assert info.frames == 48_000
        samples, rate = soundfile.read(file)
        assert true_peak_db(samples) <= -1.0
        assert loudness_lufs(samples, rate) == pytest.approx(wanted, abs=0.1)
        assert f"seed {40 + index}" in run.stdout.splitlines()[index]
        tags = json.loads(soundfile.SoundFile(file).comment)
        assert (tags["seed"], tags["style"], tags["steps"]) == (str(40 + index), "wide hall", "2")
        assert tags["model"].startswith("small ")
    three = list(mixes(tmp_path / "out" / "My Take").values())
    assert level_of_difference_db(three[0], three[1]) > -60
    assert level_of_difference_db(three[1], three[2]) > -60


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {"subtype": "PCM_16", "channels": 2}),
        ("a.wav", {"subtype": "FLOAT", "rate": 96_000}),
        ("a.aiff", {"subtype": "PCM_24", "rate": 8_000}),
        ("a.ogg", {"rate": 44_100}),
        ("a.mp3", {"rate": 32_000, "channels": 2}),
    ],
)
def test_formats_and_rates(
    sample: Run, vocal_file: Callable[..., Path], tmp_path: Path, name: str, options: Any
) -> None:
    take = vocal_file(name, **options)
    assert sample(take, "--variations", 1) == 0
    samples, rate = soundfile.read(take)
    [mix] = mixes(tmp_path / "out" / "a").values()
    assert mix.shape == (-(-len(samples) * 48_000 // rate), 2)


def test_a_mix_depends_on_its_seed_alone(sample: Run, vocal_file: Callable[..., Path], tmp_path: Path) -> None:
    take = vocal_file("take.wav")
    assert sample(take, "--seed", 4, "--variations", 3) == 0
    assert sample(take, "--seed", 5, "--variations", 2, "--batch", 2, "--out", tmp_path / "other") == 0
    first, second = mixes(tmp_path / "out" / "take"), mixes(tmp_path / "other" / "take")
    assert level_of_difference_db(first["mix_01"], second["mix_00"]) < -80
    assert level_of_difference_db(first["mix_02"], second["mix_01"]) < -80
    assert level_of_difference_db(first["mix_00"], first["mix_01"]) > -60


def test_every_option_changes_the_mix(sample: Run, vocal_file: Callable[..., Path], tmp_path: Path) -> None:
    take, reference = vocal_file("take.wav"), vocal_file("reference.flac", seconds=0.3, rate=44_100, channels=2)
    styled = ["--style", "warm plate"]
    options: dict[str, Sequence[object]] = {
        "plain": ["--style", "none"],
        "any": ["--style", "any"],
        "style": styled,
        "guidance": [*styled, "--guidance", 4],
        "reference": ["--reference", reference],
        "control": ["--control", "space_db=3"],
        "sigma": ["--style", "none", "--sigma", 0.3],
        "steps": ["--style", "none", "--steps", 4],
        "loudness": ["--style", "none", "--lufs", -30],
    }
    results = {}
    for name, arguments in options.items():
        assert sample(take, "--variations", 1, "--out", tmp_path / name, *arguments) == 0
        results[name] = mixes(tmp_path / name / "take")["mix_00"]
    assert sample(take, "--variations", 1, "--out", tmp_path / "default") == 0
    default = mixes(tmp_path / "default" / "take")["mix_00"]
    assert level_of_difference_db(default, results["any"]) < -80, "a style is drawn unless told otherwise"
    for name in options:
        before = "style" if name == "guidance" else "plain"
        assert name == "plain" or level_of_difference_db(results[name], results[before]) > -80, name
    assert read_tags(tmp_path / "reference" / "take" / "mix_00.wav")["reference"] == "reference.flac"
    assert "space_db" in read_tags(tmp_path / "control" / "take" / "mix_00.wav")["controls"]


def test_loudness_can_be_asked_for_and_the_peak_wins(
    sample: Run, vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take = vocal_file("take.wav", gain=0.1)
    assert sample(take, "--variations", 1, "--lufs", -23.5, "--out", tmp_path / "quiet") == 0
    assert "peak ceiling" not in capsys.readouterr().out
    assert loudness_lufs(mixes(tmp_path / "quiet" / "take")["mix_00"], 48_000) == pytest.approx(-23.5, abs=0.05)
    assert sample(take, "--variations", 1, "--lufs", 0, "--out", tmp_path / "loud") == 0
    assert "peak ceiling" in capsys.readouterr().out
    loud = mixes(tmp_path / "loud" / "take")["mix_00"]
    assert -1.3 < true_peak_db(loud) <= -1.0
    # One gain, no limiter: the two differ by a factor alone.
    quiet = mixes(tmp_path / "quiet" / "take")["mix_00"]
    factor = np.sum(loud * quiet) / np.sum(quiet**2)
    assert level_of_difference_db(loud, quiet * factor) < -110


def test_a_mix_that_comes_out_far_below_a_quiet_take_is_matched_all_the_same(
    build_pipeline: Callable[..., VocalRestylePipeline], vocal: Vocal, tmp_path: Path
) -> None:
    """At the take's −59 LUFS it would lie under the gate of −70 LUFS, and so have no loudness."""
    pipeline = build_pipeline()
    decode = pipeline.codec.decode
    pipeline.codec.decode = lambda latents, *, samples: 0.1 * decode(latents, samples=samples)
    take = vocal(1.0, 48_000)
    gain = 10 ** ((-59 - loudness_lufs(take.samples[0].numpy(), 48_000)) / 20)
    quiet = Waveform(take.samples * gain, 48_000)
    list(render(pipeline, quiet, pipeline.settings(), seeds=[0], paths=[tmp_path / "mix.wav"], tags={}))
    assert loudness_lufs(*soundfile.read(tmp_path / "mix.wav")) == pytest.approx(-59, abs=0.1)


@pytest.mark.parametrize("style", ["none", "any"])
def test_guidance_stands_in_a_file_only_where_it_had_something_to_follow(
    sample: Run, vocal_file: Callable[..., Path], tmp_path: Path, style: str
) -> None:
    assert sample(vocal_file("take.wav"), "--variations", 1, "--style", style) == 0
    assert ("guidance" in read_tags(tmp_path / "out" / "take" / "mix_00.wav")) == (style == "any")


def test_a_model_without_styles_follows_no_guidance(
    pipeline: VocalRestylePipeline, sample: Run, vocal_file: Callable[..., Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    without_styles(pipeline).save_pretrained(tmp_path / "model")
    arguments = [vocal_file("take.wav"), "--model", tmp_path / "model", "--variations", 1]
    assert sample(*arguments, "--guidance", 3) == 2
    assert "--guidance needs something to follow" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert sample(*arguments) == 0
    assert "guidance" not in read_tags(tmp_path / "out" / "take" / "mix_00.wav")
    assert sample(*arguments, "--guidance", 3, "--control", "space_db=3", "--overwrite") == 0
    assert read_tags(tmp_path / "out" / "take" / "mix_00.wav")["guidance"] == "3.0"


def test_a_folder_is_a_batch(
    sample: Run, vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("songs/b.WAV", "songs/a.flac", "songs/deeper/c.wav", "single.wav"):
        vocal_file(name)
    (tmp_path / "songs" / "notes.txt").write_text("lyrics")
    (tmp_path / "songs" / ".hidden").write_text("")
    assert sample(tmp_path / "songs", tmp_path / "single.wav", "--variations", 2) == 0
    written = sorted(file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.wav"))
    assert written == [f"{take}/mix_0{i}.wav" for take in ("a", "b", "single") for i in range(2)]
    printed = capsys.readouterr().out
    assert "notes.txt: passed over" in printed
    assert "hidden" not in printed


def test_odd_names(
    sample: Run, vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("-lead é 🎤.wav", "two\nlines.wav", "a.b.wav"):
        take = vocal_file(name)
        assert sample(take, "--variations", 1) == 0
        assert (tmp_path / "out" / take.stem / "mix_00.wav").is_file()
    assert len(capsys.readouterr().out.splitlines()) == 3


# -- nothing is lost


def test_existing_mixes_are_kept_unless_told_otherwise(
    sample: Run, vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take = vocal_file("take.wav")
    other = vocal_file("other.wav")
    assert sample(take, "--variations", 1) == 0
    file = tmp_path / "out" / "take" / "mix_00.wav"
    before = file.read_bytes()
    capsys.readouterr()
    assert sample(other, take, "--variations", 1, "--seed", 1) == 2
    assert str(file) in capsys.readouterr().err
    assert file.read_bytes() == before
    assert not (tmp_path / "out" / "other").exists()
    assert sample(other, take, "--variations", 1, "--seed", 1, "--overwrite") == 0
    assert file.read_bytes() != before


def test_a_take_is_never_replaced(sample: Run, vocal_file: Callable[..., Path], tmp_path: Path) -> None:
    take = vocal_file("out/mix_00/mix_00.wav")
    before = take.read_bytes()
    assert sample(take, "--overwrite") == 2
    assert take.read_bytes() == before


def test_the_reference_is_never_replaced(
    sample: Run, vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mix one likes best is a likely reference, and it lies where the next mixes go."""
    take = vocal_file("take.wav")
    reference = vocal_file("out/take/mix_01.wav", channels=2)
    before = reference.read_bytes()
    assert sample(take, "--reference", reference, "--overwrite") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert str(reference) in line and "reference" in line
    assert reference.read_bytes() == before
    assert [file.name for file in reference.parent.iterdir()] == ["mix_01.wav"]


@pytest.mark.parametrize("ending", [KeyboardInterrupt, InputError])
def test_folders_without_a_mix_go_and_those_with_one_stay(tmp_path: Path, ending: type[BaseException]) -> None:
    def interrupted_after(*mixes: str) -> None:
        with made_folders([tmp_path / "out" / "first", tmp_path / "out" / "second"]):
            for mix in mixes:
                (tmp_path / "out" / mix).write_text("")
            raise ending

    with pytest.raises(ending):
        interrupted_after()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ending):
        interrupted_after("first/mix_00.wav")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["first", "mix_00.wav", "out"]


def test_takes_of_one_name_are_not_mixed_up(
    sample: Run, vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = vocal_file("monday/lead.wav"), vocal_file("tuesday/Lead.flac")
    assert sample(first, second) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert str(first) in line
    assert str(second) in line
    assert not (tmp_path / "out").exists()


def test_mixes_appear_one_by_one_under_a_progress_bar_and_ctrl_c_leaves_whole_files(
    model: Path, vocal_file: Callable[..., Path], tmp_path: Path
) -> None:
    take, folder = vocal_file("take.wav"), tmp_path / "out" / "take"
    leader, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    process = subprocess.Popen(
        [sys.executable, ROOT / "sample.py", take, "--model", model, "--out", tmp_path / "out", "--variations", "100",
         "--steps", "30"],
        stdout=subprocess.DEVNULL, stderr=terminal,
        # A suite that runs in the background of a script has Ctrl-C ignored, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    os.set_blocking(leader, False)
    shown, deadline = b"", time.monotonic() + 200
    while not (folder / "mix_01.wav").exists():
        assert process.poll() is None, shown
        assert time.monotonic() < deadline
        time.sleep(0.05)
        with contextlib.suppress(BlockingIOError):
            shown += os.read(leader, 1 << 16)
    process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 60
    while process.poll() is None:  # read on: a terminal that nobody reads fills, and whoever writes to it waits
        assert time.monotonic() < deadline
        time.sleep(0.05)
        with contextlib.suppress(BlockingIOError):
            shown += os.read(leader, 1 << 16)
    assert process.returncode == 130
    with contextlib.suppress(BlockingIOError):
        shown += os.read(leader, 1 << 16)
    os.close(terminal)
    os.close(leader)
    assert b"take 1 of 1" in shown
    assert re.search(rb" [1-9][0-9]*/3101 ", shown)  # encoded once, 100 mixes of 30 steps and a decoding each
    assert shown.rstrip().endswith(b"interrupted")
    files = sorted(folder.iterdir())
    assert 2 <= len(files) < 100
    assert all(soundfile.info(file).frames == 28_800 for file in files)
