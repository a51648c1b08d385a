"""`make bench-train`: what training costs beside the network itself, measured side by side in one run.

Bare: forward and backward of the same network on batches that lie in memory. Training: the same steps through
`restyler train`, with data, clipping, optimiser, average and log. Efficiency: the rate of two processes with one thread
each over twice that of one (CPU; on a machine with several GPUs give --processes).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch.utils.data import default_collate

from restyler.building import build_model, compile_blocks
from restyler.command import Parser, command, integer
from restyler.config import DenoiserConfig, load_config
from restyler.devices import pick_device
from restyler.draws import TrainingExamples
from restyler.dry_run import device_name
from restyler.material import load_material
from restyler.processes import make_accelerator, peak_memory_gib
from restyler.training import train

ROWS = 3  # of the log, after a first one that warms up


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m restyler.bench_train", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("config", type=Path, nargs="?", default=Path("configs/pocket.yaml"), help="configs/pocket.yaml")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="values to change, as YAML")
    parser.add_argument("--steps", type=integer(1, 1000), default=4, metavar="N", help="in each of 3 rounds; 4")
    parser.add_argument("--processes", type=integer(2, 64), default=2, metavar="N", help="for the efficiency; 2")
    options = parser.parse_intermixed_args(argv)
    with tempfile.TemporaryDirectory() as place:
        settings = [
            f"data={{kind: synthetic, takes: 8, seconds: 6, loudness_lufs: -18, cache: {place}/cache}}",
            f"training.steps={(ROWS + 1) * options.steps}",
            f"tracking.log_every={options.steps}",
            "validation.takes=0",
            "validation.best=val_loss",
            "validation.examples=2",
            "training.save_every=1000000",
            *options.overrides,
        ]
        config = load_config(options.config, settings)
        assert isinstance(config, DenoiserConfig)
        before_s, device = bare_step_s(config, options.steps)
        with contextlib.redirect_stdout(io.StringIO()):
            train(config, Path(place) / "run")
        after_s, _ = bare_step_s(config, options.steps)
        bare_s = (before_s + after_s) / 2
        rows = training_rows(Path(place) / "run")
        audio_s = config.training.batch_size * config.training.crop_s
        step_s = statistics.median(audio_s / row["audio_s_per_s"] for row in rows)
        print(f"\n{options.config.stem}, batch {config.training.batch_size} × {config.training.crop_s:g} s, {device}")
        drift = f"{after_s / before_s - 1:+.1%} from before to after"
        print(f"  {'bare forward and backward':34} {1000 * bare_s:10.1f} ms, {drift}")
        print(f"  {'step of training':34} {1000 * step_s:10.1f} ms, {step_s / bare_s - 1:+.1%}")
        print(f"  {'share of waiting for data':34} {max(row['data_wait'] for row in rows):10.2%}")
        print(f"  {'computation':34} {rows[-1]['tflops_per_s']:10.3g} TFLOP/s{_mfu(rows[-1])}")
        print(f"  {'peak memory':34} {peak_memory_gib(pick_device('auto')):10.2f} GiB")
        one, many = (launched_rate(options.config, settings, place, n) for n in (1, options.processes))
        name, efficiency = f"{options.processes} processes", many / one / options.processes
        print(f"  {name:34} {many / one:10.2f} × one, efficiency {efficiency:.0%}")
    return 0


def _mfu(row: dict[str, Any]) -> str:
    return f", MFU {row['mfu']:.1%}" if "mfu" in row else ""


def bare_step_s(config: DenoiserConfig, steps: int) -> tuple[float, str]:
    """Median seconds of forward and backward alone, in the config's precision and parts; and the device in words."""
    training = config.training
    accelerator = make_accelerator(
        precision=training.precision, batch_size=training.batch_size, parts=training.accumulation
    )
    material = load_material(config, accelerator)
    model = build_model(config, material.codec.to(accelerator.device), material.train.styles).to(accelerator.device)
    if training.compile:
        compile_blocks(model)
    examples = TrainingExamples(material.train, config)
    size = training.batch_size // training.accumulation
    parts = [
        send_to_device(default_collate([examples[first + n] for n in range(size)]), accelerator.device)
        for first in range(0, training.batch_size, size)
    ]
    times = []
    for _ in range(2 + ROWS * steps):
        model.zero_grad(set_to_none=True)
        started = time.perf_counter()
        for batch in parts:
            with accelerator.autocast():
                loss = model(batch).mean() / len(parts)
            loss.backward()
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:]), device_name(accelerator.device)


def training_rows(run: Path) -> list[dict[str, Any]]:
    """The log's rows about steps, without the first."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "audio_s_per_s" in row][1:]


def launched_rate(config: Path, settings: Sequence[str], place: str, processes: int) -> float:
    """Seconds of audio a second, of `restyler train` by so many processes with one thread each."""
    run = Path(place) / f"processes_{processes}"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if pick_device("auto").type == "cpu":
        environment |= {"ACCELERATE_USE_CPU": "true"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [*launch, "-m", "restyler.train", str(config), *settings, "--run-dir", str(run)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return statistics.median(row["audio_s_per_s"] for row in training_rows(run))


if __name__ == "__main__":
    sys.exit(main())
