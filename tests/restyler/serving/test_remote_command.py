"""`restyler remote` against the real service: the files of `restyler sample`, interrupted calls, refusals."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import soundfile

from audio.io import read_tags
from restyler import remote
from restyler.chain_settings import render_again
from restyler.client import Client
from restyler.remote_record import NAME, read_record

FAST = ["--render=codec", "--guard=off"]


@pytest.fixture
def restyle(real_service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """restyle(*arguments, out="far") → exit code; mixes go to tmp_path/out."""
    monkeypatch.setenv(remote.KEY_VARIABLE, real_service.key)

    def run(*arguments: object, out: str = "far") -> int:
        return remote.main([*map(str, arguments), "--server", real_service.url, "--out", str(tmp_path / out)])

    return run


@pytest.fixture
def client(real_service: Any) -> Any:
    with Client(real_service.url, real_service.key) as client:
        yield client


def files(folder: Path) -> dict[str, bytes]:
    every = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != NAME)
    return {str(file.relative_to(folder)): file.read_bytes() for file in every}


def test_the_files_are_those_of_sample_byte_by_byte(
    restyle: Callable[..., int],
    sample: Callable[..., int],
    vocal_file: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    takes = [vocal_file("lead one.wav", 1.2), vocal_file("Übung.flac", 0.7, 44_100, 2)]
    said = [*takes, *FAST, "--variations=2", "--seed=11", "--width=5", "--strength=.7", "--lufs=-20", "--peak=-2"]
    said += [f"--reference={vocal_file('finished & loud.wav', 0.8, 48_000, 2)}=2"]  # by that name in every comment
    assert restyle(*said) == 0
    far = capsys.readouterr().out.replace("/far/", "/out/")
    assert sample(*said) == 0
    assert files(tmp_path / "far") == files(tmp_path / "out")
    assert sorted(files(tmp_path / "far")) == [f"{take.stem}/mix_0{n}.wav" for take in sorted(takes) for n in range(2)]
    assert sorted(far.splitlines()) == sorted(capsys.readouterr().out.splitlines()), "the same lines too"


def test_more_like_one_that_was_fetched_and_a_reference(
    restyle: Callable[..., int], vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take, reference = vocal_file("take.wav", 1.0), vocal_file("reference.wav", 0.8, 48_000, 2)
    assert restyle(take, *FAST, "--variations=2", f"--reference={reference}=2") == 0
    liked = tmp_path / "far" / "take" / "mix_01.wav"
    like = [take, "--like", liked, f"--reference={reference}=2"]
    assert restyle(*like, "--around=0", out="same") == 0
    again = tmp_path / "same" / "take" / "mix_00.wav"
    assert np.array_equal(soundfile.read(again)[0], soundfile.read(liked)[0]), "0 away is that mix again"
    assert restyle(*like, "--around=1", "--variations=1", out="near") == 0
    assert read_tags(tmp_path / "near" / "take" / "mix_00.wav")["seed"] != read_tags(liked)["seed"]
    capsys.readouterr()
    copied = tmp_path / "copied.wav"
    copied.write_bytes(liked.read_bytes())
    assert restyle(take, "--like", copied, out="none") == 2
    assert "copied.wav: not a mix that `restyler remote` fetched" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.slow  # it is fitted
def test_a_chain_lies_beside_its_mix_and_leads_to_the_take(
    restyle: Callable[..., int], vocal_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = vocal_file("sung/take.wav", 0.6)
    assert restyle(take, "--render=transfer", "--variations=1", "--guard=off") == 0
    folder = tmp_path / "far" / "take"
    assert sorted(file.name for file in folder.iterdir()) == [NAME, "mix_00.txt", "mix_00.wav", "mix_00.yaml"]
    again, _ = render_again(folder / "mix_00.yaml")
    written = soundfile.read(folder / "mix_00.wav")[0].T
    assert np.abs(again.samples.numpy() - written).max() < 1e-5


@pytest.mark.slow
def test_interrupted_it_goes_on_with_the_same_job_and_fetches_what_is_missing(
    restyle: Callable[..., int],
    client: Client,
    python: Callable[..., list[CompletedProcess[str]]],
    real_service: Any,
    vocal_file: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    take = vocal_file("take.wav", 3.0)
    options = [str(take), *FAST, "--variations=9", "--steps=60"]
    folder = tmp_path / "far" / "take"
    known = {job["id"] for job in client.jobs(limit=200)}
    program = "import sys; from restyler.remote import main; sys.exit(main())"
    arguments = ["-c", program, *options, "--server", real_service.url, "--out", str(tmp_path / "far")]

    def kill(pids: list[int]) -> None:
        deadline = time.monotonic() + 100
        while not (folder / "mix_00.wav").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(pids[0], signal.SIGKILL)

    python((arguments, {remote.KEY_VARIABLE: real_service.key}), meanwhile=kill)
    arrived = {path.name: path.stat().st_mtime_ns for path in folder.glob("mix_*.wav")}
    record = read_record(folder)
    assert record is not None and 1 <= len(arrived) < 9 and not record.done
    assert restyle(*options[:-1], "--steps=61") == 2, "another wish is not gone on with"
    assert "already exists" in capsys.readouterr().err
    assert restyle(*options) == 0
    assert sorted(path.name for path in folder.glob("mix_*.wav")) == [f"mix_{n:02d}.wav" for n in range(9)]
    settled = sorted(arrived)[:-1]  # the last one may have been under way
    assert {name: (folder / name).stat().st_mtime_ns for name in settled} == {name: arrived[name] for name in settled}
    (job,) = (job for job in client.jobs(limit=200) if job["id"] not in known)
    assert job["id"] == record.job and job["state"] == "done"
    assert restyle(*options) == 2 and "already exists" in capsys.readouterr().err
    assert restyle(*options, "--overwrite") == 0


def test_refused_nothing_is_written_and_nothing_goes_on_there(
    restyle: Callable[..., int],
    client: Client,
    vocal_file: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    take, odd = vocal_file("take.wav", 0.6), tmp_path / "odd.wav"
    odd.write_bytes(b"RIFF" + bytes(60))
    known = client.takes()
    refusals = {
        ("--style=polka",): "polka",
        ("--control=nonsense_db=1",): "nonsense_db",
        ("--width=5", "--control=width_db=6"): "not width_db twice",
        ("--between", "1", "1", "4"): "two different seeds",
        ("--around=.5",): "--like",
    }
    for options, reason in refusals.items():
        assert restyle(take, *options) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1 and reason in said
        assert not (tmp_path / "far").exists()
    assert restyle(take, odd) == 2 and "odd.wav" in capsys.readouterr().err
    assert restyle(take, tmp_path / "none.wav") == 2 and "none.wav" in capsys.readouterr().err
    assert not (tmp_path / "far").exists()
    new = [each for each in client.takes() if each not in known]
    assert len(new) == 2, "only what can be judged by the service alone was sent: a style and a control"
    assert all(job["take"] not in [each["id"] for each in new] for job in client.jobs(limit=200))


def test_forgotten_nothing_of_it_is_left_at_the_server(
    restyle: Callable[..., int], client: Client, vocal_file: Callable[..., Path], tmp_path: Path
) -> None:
    takes, jobs = client.takes(), client.jobs(limit=200)
    assert restyle(vocal_file("take.wav", 0.6), *FAST, "--variations=1", "--forget") == 0
    assert (client.takes(), client.jobs(limit=200)) == (takes, jobs)
    assert [file.name for file in (tmp_path / "far" / "take").iterdir()] == ["mix_00.wav"]


def test_the_record_holds_no_key(
    restyle: Callable[..., int], real_service: Any, vocal_file: Callable[..., Path]
) -> None:
    take = vocal_file("take.wav", 0.6)
    assert restyle(take, *FAST, "--variations=1") == 0
    text = (take.parent / "far" / "take" / NAME).read_text()
    assert real_service.key not in text and json.loads(text)["done"] is True
