"""Bad input under a launcher: two real processes, one verdict, one line."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from codec.pocket import PocketCodec
from restyler.dataset_index import CodecFacts
from restyler.mixture import turn
from restyler.processes import PRECISION_NAMES, make_accelerator, precision_on
from restyler.shards import Segment

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
TwoProcesses = Callable[..., list[subprocess.CompletedProcess[str]]]


def error_lines(*said: str) -> list[str]:
    return [line for text in said for line in text.splitlines() if line.startswith("error: ")]


def errors_of_two(two_processes: TwoProcesses, arguments: list[str]) -> list[str]:
    """The error lines of a training that two processes refuse."""
    return error_lines(*(process.stderr for process in two_processes(["train.py", *arguments], code=2)))


def launched_errors(arguments: list[str]) -> list[str]:
    """The same under PyTorch's launcher."""
    done = subprocess.run(
        [*LAUNCH, "train.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode != 0
    assert "exitcode  : 2" in done.stderr, done.stderr  # the launcher's report of the process that failed first
    return error_lines(done.stderr)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the CPU's own word is in /proc/cpuinfo")
def test_auto_is_bf16_where_the_cpu_says_that_it_has_it() -> None:
    words = set(Path("/proc/cpuinfo").read_text().split())
    cpu = torch.device("cpu")
    has = bool(words & {"avx512_bf16", "amx_bf16", "bf16", "svebf16"})
    assert precision_on(cpu, "auto") == ("bf16" if has else "no")
    assert [precision_on(cpu, each) for each in ("no", "bf16", "fp16")] == ["no", "bf16", "fp16"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU, Accelerate computes there")
@pytest.mark.parametrize("precision", ["auto", "no", "bf16"])
def test_what_is_computed_has_the_precision_that_a_run_says(precision: str) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)  # one process has one, as it was first asked for
    accelerator = make_accelerator(precision=precision, batch_size=1, parts=1)
    with accelerator.autocast():
        found = torch.nn.functional.linear(torch.ones(1, 4), torch.ones(4, 4)).dtype
    assert str(found) == f"torch.{PRECISION_NAMES[accelerator.mixed_precision]}"
    assert precision == "auto" or accelerator.mixed_precision == precision
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("launched", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_mistyped_config_is_told_once(two_processes: TwoProcesses, launched: bool) -> None:
    arguments = ["configs/tiny.yaml", "optim.lr=fast"]
    (line,) = launched_errors(arguments) if launched else errors_of_two(two_processes, arguments)
    assert "optim.lr: should be a valid number" in line


def test_what_one_process_meets_ends_both_and_is_told_once(
    model: Path,
    write_pairs: Callable[..., Path],
    two_processes: TwoProcesses,
    tmp_path: Path,
) -> None:
    """A damaged recording in the share of the second process, while the first waits for it."""
    pairs = write_pairs(tmp_path / "pairs", seconds=1.0)
    others = [path for path in pairs.rglob("*.wav") if path != pairs / "raw" / "a.wav"]
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in others]
    for length in itertools.count(1):  # files are dealt out in the order of their hashes
        damaged = hashlib.sha256(b"x" * length).hexdigest()
        if sorted([*hashes, damaged]).index(damaged) % 2 == 1:
            break
    (pairs / "raw" / "a.wav").write_bytes(b"x" * length)
    data = (
        f"{{kind: folder, path: {pairs}, validation_fraction: 0.25, loudness_lufs: -18, cache: {tmp_path / 'cache'}}}"
    )
    arguments = ["configs/tiny.yaml", f"data={data}", f"codec.path={model / 'codec'}", "conditioner.controls=[]"]
    arguments += ["training.precision=no", "--run-dir", str(tmp_path / "run")]
    (line,) = errors_of_two(two_processes, arguments)
    assert "a.wav: not audio" in line
    assert not (tmp_path / "run").exists()


def test_damage_that_one_process_meets_in_training_ends_both_and_is_told_once(
    model: Path,
    toy_segment: Callable[..., Segment],
    write_set: Callable[..., Path],
    two_processes: TwoProcesses,
    tmp_path: Path,
) -> None:
    """In the second process's share of the third step, while the first has a gradient to share."""
    segments = [toy_segment(n, frames=60, latent_dim=128) for n in range(20)]
    codec = CodecFacts.of(PocketCodec.from_pretrained(model / "codec"))
    prepared = write_set(tmp_path / "set", segments[:16], segments[16:], codec=codec, per_shard=1)
    met = turn(4 * 2 + 2, counts=[16], weights=[1], seed=0, purpose="crop").segment
    shard = prepared / f"train-{met:03d}.tar"
    data = bytearray(shard.read_bytes())
    data[5000] ^= 1
    shard.write_bytes(data)
    arguments = ["configs/tiny.yaml", f"data={{kind: prepared, sets: [{prepared}]}}", f"codec.path={model / 'codec'}"]
    arguments += ["denoiser.width=48", "denoiser.depth=1", "denoiser.heads=2", "training.precision=no"]
    arguments += ["training.batch_size=4", "training.crop_s=0.3", "training.workers=1", "validation.examples=1"]
    arguments += ["validation.takes=0"]
    (line,) = errors_of_two(two_processes, [*arguments, "--run-dir", str(tmp_path / "run")])
    what = "the checksum is not that of what was written; restyler prepare … --verify makes it anew"
    assert line == f"error: {shard}: damaged: segment s{met:05d}, raw: {what}"
