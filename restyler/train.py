"""Train a denoiser on pairs of raw takes and mixes, a codec on any audio, or a live student on a model's mixes.

restyler train CONFIG [section.key=value …] [--run-dir DIR] [--dry-run | --find-batch-size]

To resume, run the same command again. SIGTERM or Ctrl-C finishes the step, saves, and exits with 143 or 130.
Many GPUs: accelerate launch --config_file configs/accelerate/one_node.yaml [--num_processes N] train.py CONFIG …
Many processes on CPUs: ACCELERATE_USE_CPU=true torchrun --nproc_per_node N train.py CONFIG …
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from audio.errors import InputError
from restyler.codec_config import CodecConfig
from restyler.codec_training import train_codec
from restyler.command import Parser, command
from restyler.config import DenoiserConfig, load_config
from restyler.dry_run import describe
from restyler.limits import batch_that_fits
from restyler.processes import told_once
from restyler.student.config import StudentConfig
from restyler.student.training import train_student
from restyler.training import train


@command
def main(argv: Sequence[str] | None = None) -> int:
    with told_once():
        return run(argv)


def run(argv: Sequence[str] | None) -> int:
    parser = Parser(prog="restyler train", description=(__doc__ or "").splitlines()[0])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a YAML file of configs/")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="values to change, as YAML")
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="folder of the run; runs/<CONFIG> if not given")
    rehearsal = parser.add_mutually_exclusive_group()
    rehearsal.add_argument("--dry-run", action="store_true", help="print config, sizes, memory, time; write nothing")
    rehearsal.add_argument(
        "--find-batch-size", action="store_true", help="print how many examples fit into memory at once; train nothing"
    )
    options = parser.parse_intermixed_args(argv)

    config = load_config(options.config, options.overrides)
    if options.dry_run:
        print(describe(config))
        return 0
    if options.find_batch_size:
        if not isinstance(config, DenoiserConfig):
            raise InputError(f"--find-batch-size: for task denoiser; the batch of a {config.task} is small")
        print(batch_that_fits(config))
        return 0
    run_dir = options.run_dir or Path("runs") / options.config.stem
    if isinstance(config, CodecConfig):
        return train_codec(config, run_dir)
    return train_student(config, run_dir) if isinstance(config, StudentConfig) else train(config, run_dir)


if __name__ == "__main__":  # for launchers that want a module: torchrun … -m restyler.train CONFIG
    sys.exit(main())
