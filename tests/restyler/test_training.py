"""Training as its users meet it: through train.py, interrupted, resumed, in one process or two."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from audio.singing import demo_take
from audio.waveform import Waveform
from restyler.config import load_config
from restyler.optimisation import learning_rate
from restyler.pipeline import VocalRestylePipeline
from restyler.settings import DEFAULT_SPREAD
from restyler.statistics import draws_of_recordings
from restyler.synthetic import synthetic_pairs

ROOT = Path(__file__).resolve().parents[2]
ENTRY = run_path(str(ROOT / "train.py"))["main"]
STEPS = 24
SPEED = {"seconds", "audio_s_per_s", "data_wait", "memory_gib", "tflops_per_s"}  # what the machine decides
SMALL = [
    "data.takes=8",
    "data.seconds=1.5",
    "denoiser.width=48",
    "denoiser.depth=1",
    "denoiser.heads=2",
    f"training.steps={STEPS}",
    "training.crop_s=0.5",
    "training.reference_s=0.4",
    "training.precision=no",
    "training.save_every=9",
    "validation.every=8",
    "validation.examples=3",
    "validation.buckets=2",
    "validation.takes=1",
    "validation.take_s=1",
    "tracking.log_every=3",
]
Rows = list[dict[str, Any]]
Ended = subprocess.CompletedProcess[str]


pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture(scope="module")
def settings(model: Path, synthetic_cache: Path) -> list[str]:
    """Arguments of a small run on synthetic pairs, which all runs share through their cache."""
    return ["configs/tiny.yaml", *SMALL, f"codec.path={model / 'codec'}", f"data.cache={synthetic_cache}"]


@pytest.fixture(scope="module")
def run(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert entry_point([*settings, "--run-dir", str(folder)]) == 0
    return folder


def entry_point(arguments: list[str]) -> int:
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        return ENTRY(arguments)
    finally:
        os.chdir(before)


def metrics(run: Path) -> Rows:
    """All rows, without what depends on the machine's speed."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in SPEED} for row in rows]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": tensor
        for part in ("conditioner", "denoiser")
        for name, tensor in load_file(run / "pipeline" / part / "diffusion_pytorch_model.safetensors").items()
    }


def assert_same_run(first: Path, second: Path) -> None:
    """Bitwise."""
    assert metrics(first) == metrics(second)
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_loss_falls_below_the_stated_share_of_copying_the_take(run: Path) -> None:
    validated = [row for row in metrics(run) if "val_loss" in row]
    assert [row["step"] for row in validated] == [0, 8, 16, 24]
    # Untrained, the estimate is the raw take itself; the rest of the run must do much better, at every time.
    assert validated[-1]["val_loss"] < 0.75 * validated[0]["val_loss"]
    for bucket in ("val_loss_t0.5", "val_loss_t1"):
        assert validated[-1][bucket] < validated[0][bucket]


def test_metrics_have_a_row_for_every_few_steps(run: Path) -> None:
    rows = [row for row in metrics(run) if "loss" in row]
    assert [row["step"] for row in rows] == list(range(3, STEPS + 1, 3))
    config = load_config(ROOT / "configs/tiny.yaml", SMALL)
    assert [row["lr"] for row in rows] == [learning_rate(row["step"] - 1, STEPS, config.optim) for row in rows]
    assert all(row["grad_norm"] > 0 and row["skipped"] == 0 for row in rows)
    timed = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if "audio_s" in line]
    assert all(row.keys() >= SPEED and 0 <= row["data_wait"] <= 1 and row["memory_gib"] > 0.1 for row in timed)
    # All steps together took no longer than the run, validation included.
    assert sum(3 * 8 * 0.5 / row["audio_s_per_s"] for row in timed) <= timed[-1]["seconds"]


def test_the_run_folder_holds_a_model_that_restyles(run: Path) -> None:
    pipeline = VocalRestylePipeline.from_pretrained(run / "pipeline")
    assert pipeline.styles == ["bright", "dark hall", "echo"]
    take = Waveform(demo_take().samples[:, 48_000:72_000], 48_000)
    bright, dark = (pipeline(take, seeds=[1], style=style, steps=2)[0] for style in ("bright", "dark hall"))
    assert bright.shape == (2, 24_000)
    assert (bright - dark).std() > 0.01 * bright.std()
    assert pipeline.config.training == json.loads((run / "config.json").read_text())
    assert set(pipeline.defaults.controls) == set(pipeline.conditioner.config.controls)


def test_a_run_measures_how_controls_are_spread(run: Path, settings: list[str]) -> None:
    """Against the recordings themselves, style by style."""
    config = load_config(ROOT / settings[0], settings[1:])
    defaults = VocalRestylePipeline.from_pretrained(run / "pipeline").defaults
    pairs = synthetic_pairs(config.data, seed=config.seed, sample_rate=48_000)
    wanted = draws_of_recordings(pairs, config.conditioner.controls, 48_000)
    assert defaults.spread == DEFAULT_SPREAD
    assert defaults.draws.keys() == wanted.keys() == {"none", "bright", "dark hall", "echo"}
    for style, joint in wanted.items():
        assert defaults.draws[style].names == joint.names
        np.testing.assert_allclose(defaults.draws[style].mean, joint.mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(defaults.draws[style].covariance, joint.covariance, rtol=1e-4, atol=1e-5)


def test_only_the_newest_checkpoints_stay(run: Path) -> None:
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step_000018", "step_000024"]


def test_a_finished_run_stays_as_it_is(run: Path, settings: list[str]) -> None:
    before = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
    assert entry_point([*settings, "--run-dir", str(run)]) == 0
    assert {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()} == before


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(
    run: Path, settings: list[str], python: Callable[..., list[Ended]], tmp_path: Path, number: signal.Signals
) -> None:
    """The signal goes to all processes of the run, the readers of examples too, as launchers and terminals send it; and
    without readers it goes on."""
    folder = tmp_path / "stopped"
    log = folder / "metrics.jsonl"

    def stop(begun: list[int]) -> None:
        while not (log.exists() and '"step": 3' in log.read_text()):
            os.kill(begun[0], 0)
            time.sleep(0.02)
        os.killpg(begun[0], number)

    command = ["train.py", *settings, "training.workers=2", "--run-dir", str(folder)]
    (stopped,) = python((command, {}), meanwhile=stop)
    assert stopped.returncode == 128 + number, stopped
    newest = max(int(path.name.removeprefix("step_")) for path in (folder / "checkpoints").iterdir())
    assert 3 <= newest < STEPS
    assert entry_point([*settings, "--run-dir", str(folder)]) == 0
    assert_same_run(run, folder)


def test_a_killed_run_goes_on_from_its_newest_complete_checkpoint(
    run: Path, settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a power cut leaves: metrics beyond the checkpoint, a torn line, and a checkpoint half written."""
    folder = tmp_path / "killed"
    take_along(run, folder, "step_000018")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 25, "lo')
    torn = folder / "checkpoints" / "step_000024.unfinished"
    torn.mkdir()
    (torn / "state.pt").write_bytes(b"half")
    assert entry_point([*settings, "--run-dir", str(folder)]) == 0
    assert "resuming after step 18" in capsys.readouterr().out
    assert_same_run(run, folder)
    assert not torn.exists()


def test_accumulation_and_workers_change_nothing_but_rounding(run: Path, settings: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    take_along(run, folder, "step_000018")
    changed = ["training.accumulation=4", "training.workers=2"]
    assert entry_point([*settings, *changed, "--run-dir", str(folder)]) == 0
    assert_close_runs(run, folder)


def launch(config: str, *arguments: str, port: int, rank: int | None = None) -> subprocess.Popen[str]:
    """`accelerate launch` with a file of configs/accelerate, on CPUs."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", f"configs/accelerate/{config}"]
    command += ["--num_processes", "2", "--main_process_port", str(port)]
    command += [] if rank is None else ["--machine_rank", str(rank)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "train.py", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes_do_what_one_does(
    run: Path, settings: list[str], two_processes: Callable[..., list[Ended]], tmp_path: Path
) -> None:
    folder = tmp_path / "two"
    first, second = two_processes(["train.py", *settings, "--run-dir", str(folder)])
    assert "processes: 2, on cpu" in first.stdout  # two that know of each other, not one, and not twice one
    assert "processes: " not in second.stdout
    assert_close_runs(run, folder)


@pytest.mark.slow  # that two processes do is told above; this one is about launchers and the config for them
def test_two_machines_do_what_one_process_does(run: Path, settings: list[str], tmp_path: Path) -> None:
    """Both of them are this one; they find each other as two machines would."""
    folder, port = tmp_path / "two", free_port()
    machines = [launch("nodes.yaml", *settings, "--run-dir", str(folder), port=port, rank=rank) for rank in (0, 1)]
    outputs = [machine.communicate(timeout=240)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    assert "processes: 2, on cpu" in outputs[0]  # two that know of each other, not one, and not twice one
    assert "processes: " not in outputs[1]
    assert_close_runs(run, folder)


def test_shards_take_over_from_one_process_and_hand_back(
    run: Path, settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """FSDP2 goes on from a checkpoint that was written without shards, and what it writes is resumed without them."""
    folder = tmp_path / "sharded"
    take_along(run, folder, "step_000018")
    process = launch("fsdp2.yaml", *settings, "--run-dir", str(folder), port=free_port())
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert "sharded over 2 processes" in output and "resuming after step 18" in output
    assert_close_runs(run, folder)
    shutil.rmtree(folder / "pipeline")  # what is exported anew comes from the checkpoint of all shards
    assert entry_point([*settings, "--run-dir", str(folder)]) == 0
    assert_close_runs(run, folder)


def take_along(run: Path, folder: Path, checkpoint: str) -> None:
    """What a run folder holds right after that checkpoint, and the metrics of all steps."""
    shutil.copytree(run / "checkpoints" / checkpoint, folder / "checkpoints" / checkpoint)
    for name in ("config.json", "data.json", "metrics.jsonl"):
        shutil.copy(run / name, folder / name)


def assert_close_runs(first: Path, second: Path) -> None:
    """The same up to the order of additions: losses, audio and weights."""
    for ours, theirs in zip(metrics(first), metrics(second), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)
    ours, theirs = weights(first), weights(second)
    for name in ours:
        assert (ours[name] - theirs[name]).norm() <= 1e-3 * ours[name].norm() + 1e-6, name


def test_wandb_offline_writes_its_files_and_metrics_do_not_change(
    run: Path, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB__SERVICE_WAIT", "250")  # seconds for its own process to start on a busy machine
    folder = tmp_path / "tracked"
    take_along(run, folder, "step_000018")
    assert entry_point([*settings, "tracking.wandb=offline", "--run-dir", str(folder)]) == 0
    (written,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    deadline = time.monotonic() + 60  # wandb's own process writes the file, and may be slower than ours
    while written.stat().st_size <= 1000:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert metrics(folder) == metrics(run)
    assert not (run / "wandb").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.lr=1e-3", "optim.lr: 0.003 → 0.001"),
        ("data.seconds=1", "data.seconds: 1.5 → 1.0"),
        ("training.batch_size=6", "training.batch_size: 8 → 6"),
    ],
)
def test_another_config_in_a_used_run_folder_is_refused(
    run: Path, settings: list[str], capsys: pytest.CaptureFixture[str], change: str, message: str
) -> None:
    arguments = [text for text in settings if text.split("=")[0] != change.split("=")[0]]
    assert entry_point([*arguments, change, "--run-dir", str(run)]) == 2
    assert message in capsys.readouterr().err


def test_other_data_in_a_used_run_folder_are_refused(
    settings: list[str], write_pairs: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [text for text in settings if not text.startswith("data.")] + ["conditioner.controls=[]"]
    pairs = write_pairs(tmp_path / "pairs", seconds=1.0)
    arguments += [
        f"data={{kind: folder, path: {pairs}, validation_fraction: 0.5, loudness_lufs: -18, cache: {tmp_path}}}"
    ]
    arguments += ["training.steps=1", "training.batch_size=2", "--run-dir", str(tmp_path / "run")]
    arguments = [text for text in arguments if text != f"training.steps={STEPS}"]
    assert entry_point(arguments) == 0
    (pairs / "mix" / "b.wav").write_bytes((pairs / "mix" / "a.wav").read_bytes())
    assert entry_point(arguments) == 2
    assert "started with another data" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_told_in_one_line(
    run: Path, settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("config.json", "data.json", "checkpoints/step_000018/state.pt"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).write_bytes((run / part).read_bytes()[:5000])
    assert entry_point([*settings, "--run-dir", str(tmp_path)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "step_000018" in line


def test_steps_that_are_not_finite_are_skipped_counted_and_finally_refused(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A learning rate without bounds breaks the weights at the first step; all later ones are skipped."""
    arguments = [text for text in settings if not text.startswith(("training.steps", "tracking", "validation.every"))]
    arguments += ["optim.lr=1e30", "optim.warmup_steps=0", "training.max_skipped=4", "tracking.log_every=1"]
    arguments += ["validation.every=100", "training.steps=100", "--run-dir", str(tmp_path / "run")]
    assert entry_point(arguments) == 2
    assert "not finite for 5 steps in a row, up to step 6" in capsys.readouterr().err
    rows = [row for row in metrics(tmp_path / "run") if "loss" in row]
    assert [row["skipped"] for row in rows] == [0, 1, 2, 3, 4]
    assert all(row["loss"] is None for row in rows[1:])  # a skipped step has no loss to average


@pytest.mark.parametrize("path", ["bridge", "noise"])
def test_both_paths_train_in_half_precision_with_and_without_checkpointing(
    run: Path, settings: list[str], tmp_path: Path, path: str
) -> None:
    precision = "fp16" if torch.cuda.is_available() else "bf16"
    changed = {"training.steps": "3", "training.precision": precision, "training.save_every": "2"}
    changed |= {"path.kind": "noise", "sampling.sigma": "null"} if path == "noise" else {}
    kept = [text for text in settings if text.split("=")[0] not in changed]
    losses = []
    for checkpointing in ("true", "false"):
        folder = tmp_path / checkpointing
        arguments = [*kept, *(f"{key}={value}" for key, value in changed.items())]
        arguments += [f"training.gradient_checkpointing={checkpointing}", "--run-dir", str(folder)]
        assert entry_point(arguments) == 0
        assert VocalRestylePipeline.from_pretrained(folder / "pipeline").denoiser.config.path == path
        losses.append(metrics(folder)[-1]["val_loss"])
        state = torch.load(folder / "checkpoints" / "step_000002" / "state.pt", weights_only=True)
        assert (state["task"]["scaler"] is not None) == (precision == "fp16")
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    if path == "bridge":  # the same first steps as the run in single precision, but for rounding
        half, single = metrics(folder)[1]["loss"], metrics(run)[1]["loss"]
        assert half != single
        assert half == pytest.approx(single, rel=0.05)


@pytest.mark.slow
def test_tiny_as_shipped_keeps_its_word(tmp_path: Path) -> None:
    """What configs/tiny.yaml promises in its first lines: its time, and the share that is left of the loss at t = 1.

    There the estimate is made from take, style and noise alone; at smaller t, z_t shows the mix.
    """
    arguments = ["configs/tiny.yaml", f"data.cache={tmp_path / 'cache'}", "--run-dir", str(tmp_path / "run")]
    started = time.monotonic()
    subprocess.run([sys.executable, "train.py", *arguments], cwd=ROOT, check=True)
    assert time.monotonic() - started < 120
    validated = [row["val_loss_t1"] for row in metrics(tmp_path / "run") if "val_loss" in row]
    assert validated[-1] < 0.75 * validated[0]
