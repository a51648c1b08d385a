"""Training on prepared sets through train.py: stopped and resumed, damaged, changed, described, exported."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from codec.pocket import PocketCodec
from restyler.dataset_index import CodecFacts
from restyler.pipeline import VocalRestylePipeline
from restyler.shards import Segment
from restyler.train import main

ROOT = Path(__file__).resolve().parents[2]
STEPS = 30
LUFS = -21.0  # not that of the other configs
SMALL = {
    "denoiser.width": "48",
    "denoiser.depth": "1",
    "denoiser.heads": "2",
    "training.steps": str(STEPS),
    "training.batch_size": "4",
    "training.crop_s": "0.3",
    "training.reference_s": "0.2",
    "training.precision": "no",
    "training.save_every": "13",
    "training.workers": "2",
    "validation.every": "15",
    "validation.examples": "2",
    "validation.buckets": "2",
    "validation.takes": "0",  # these sets hold latents of nothing that could be heard
    "tracking.log_every": "3",
}

SPEED = {"seconds", "audio_s_per_s", "data_wait", "memory_gib", "tflops_per_s"}  # what the machine decides

pytestmark = pytest.mark.usefixtures("fresh_accelerator")
Segments = Callable[[range], Iterator[Segment]]


@pytest.fixture(scope="module")
def segments(toy_segment: Callable[..., Segment]) -> Segments:
    """segments(range(3)): with two mixes each, of 0.4 s."""
    return lambda numbers: (toy_segment(n, frames=60, mixes=2, latent_dim=128, chain="x") for n in numbers)


@pytest.fixture(scope="module")
def prepared(
    model: Path, segments: Segments, write_set: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A set for the small model's codec: copy it, don't change it."""
    codec = CodecFacts.of(PocketCodec.from_pretrained(model / "codec"))
    parts = [list(segments(numbers)) for numbers in (range(10), range(10, 13), range(13, 14))]
    return write_set(tmp_path_factory.mktemp("prepared") / "set", *parts, codec=codec, lufs=LUFS)


@pytest.fixture
def arguments(model: Path, prepared: Path) -> Callable[..., list[str]]:
    """arguments(run_dir, sets="[…]", **{"optim.lr": "1"}): the command line of a small run."""

    def build(run_dir: Path, sets: str | None = None, **changes: str) -> list[str]:
        data = f"{{kind: prepared, sets: {sets or f'[{prepared}]'}}}"
        overrides = SMALL | {"codec.path": str(model / "codec"), "data": data} | changes
        texts = [f"{key}={value}" for key, value in overrides.items()]
        return [str(ROOT / "configs" / "tiny.yaml"), *texts, "--run-dir", str(run_dir)]

    return build


@pytest.fixture
def copied(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "set"))


def results(run: Path) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """Metrics without what depends on the machine's speed, and the exported weights."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [{key: value for key, value in row.items() if key not in SPEED} for row in rows]
    weights = {}
    for part in ("conditioner", "denoiser"):
        weights |= load_file(run / "pipeline" / part / "diffusion_pytorch_model.safetensors")
    return rows, weights


def error_line(text: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    return line


def test_a_run_stopped_in_mid_epoch_goes_on_as_if_nothing_had_happened(
    arguments: Callable[..., list[str]], python: Callable[..., list[Any]], tmp_path: Path
) -> None:
    """A real process under SIGTERM, with two workers: ten segments are no multiple of four examples a step."""
    assert main(arguments(tmp_path / "whole")) == 0
    log = tmp_path / "stopped" / "metrics.jsonl"

    def stop(begun: list[int]) -> None:
        while not (log.exists() and '"step": 3' in log.read_text()):
            os.kill(begun[0], 0)
            time.sleep(0.01)
        os.kill(begun[0], signal.SIGTERM)

    (stopped,) = python((["train.py", *arguments(tmp_path / "stopped")], {}), meanwhile=stop)
    assert stopped.returncode == 128 + signal.SIGTERM, stopped
    assert main(arguments(tmp_path / "stopped")) == 0
    (rows, weights), (other_rows, other_weights) = results(tmp_path / "whole"), results(tmp_path / "stopped")
    assert rows == other_rows
    assert weights.keys() == other_weights.keys()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    pipeline = VocalRestylePipeline.from_pretrained(tmp_path / "whole" / "pipeline")
    assert pipeline.defaults.loudness_lufs == LUFS
    assert pipeline.styles == ["far", "near"]


def test_damage_that_training_meets_ends_it_with_one_line(
    arguments: Callable[..., list[str]], copied: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A flipped byte in the raw latents of one segment, read by one of two worker processes."""
    data = bytearray((copied / "train-004.tar").read_bytes())
    data[5000] ^= 1
    (copied / "train-004.tar").write_bytes(data)
    assert main(arguments(tmp_path / "run", f"[{copied}]")) == 2
    said = capfd.readouterr().err
    what = "damaged: segment s00004, raw: the checksum is not that of what was written"
    what += "; restyler prepare … --verify makes it anew"
    assert error_line(said) == f"error: {copied}/train-004.tar: {what}"
    assert "Traceback" not in said
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # a launcher that ends the run now must not be ignored


@pytest.mark.parametrize("how", ["truncated", "deleted", "index"])
def test_what_is_not_whole_is_told_before_the_folder_is_bound(
    arguments: Callable[..., list[str]], copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    match how:
        case "truncated":
            os.truncate(copied / "train-004.tar", 3000)
        case "deleted":
            (copied / "train-004.tar").unlink()
        case "index":
            (copied / "train-004.json").write_text("{}")
    for extra in (["--dry-run"], []):
        assert main([*arguments(tmp_path / "run", f"[{copied}]"), *extra]) == 2
        assert f"{copied}/train-004." in error_line(capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_a_changed_set_in_a_used_run_folder_is_refused(
    arguments: Callable[..., list[str]],
    copied: Path,
    segments: Segments,
    write_set: Callable[..., Path],
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = arguments(tmp_path / "run", f"[{copied}]", **{"training.steps": "1", "training.workers": "0"})
    assert main(command) == 0
    capsys.readouterr()
    codec = CodecFacts.of(PocketCodec.from_pretrained(model / "codec"))
    write_set(copied, list(segments(range(10))), list(segments(range(11, 13))), codec=codec, lufs=LUFS)
    assert main(command) == 2
    assert "this run was started with another data; choose another --run-dir or undo digest: " in error_line(
        capsys.readouterr().err
    )


def test_weights_reach_the_examples(
    arguments: Callable[..., list[str]],
    prepared: Path,
    segments: Segments,
    write_set: Callable[..., Path],
    model: Path,
    tmp_path: Path,
) -> None:
    """Two sets in other shares are another run: the loss of the first step differs, and the statistics do."""
    codec = CodecFacts.of(PocketCodec.from_pretrained(model / "codec"))
    parts = [list(segments(numbers)) for numbers in (range(20, 23), range(23, 24))]
    other = write_set(tmp_path / "other", *parts, codec=codec, lufs=LUFS)
    losses = set()
    for weight in (1, 3):
        run = tmp_path / str(weight)
        sets = f"[{prepared}, {{path: {other}, weight: {weight}}}]"
        few = {"training.steps": "1", "training.workers": "0", "tracking.log_every": "1"}
        assert main(arguments(run, sets, **few)) == 0
        losses.add(next(row["loss"] for row in results(run)[0] if "loss" in row))
    assert len(losses) == 2


def test_another_codec_is_refused_and_both_are_named(
    arguments: Callable[..., list[str]], prepared: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = PocketCodec.from_pretrained(model / "codec").fingerprint()
    for extra in (["--dry-run"], []):
        assert main([*arguments(tmp_path / "run", **{"codec.path": "bundled"}), *extra]) == 2
        line = error_line(capsys.readouterr().err)
        assert f"{prepared}: prepared with the codec {ours}, and codec of this config is " in line


def test_dry_run_tells_what_there_is_to_train_on(
    arguments: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(tmp_path / "run"), "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "data           0.00 h in 10 segments of 1 sets, 3 segments to validate on" in output
    assert "styles         2: far, near" in output
    assert list(tmp_path.iterdir()) == []
