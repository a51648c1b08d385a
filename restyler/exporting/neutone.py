"""`restyler export neutone`: the live student as a file that the Neutone plugins load."""

from __future__ import annotations

import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import version
from pathlib import Path
from typing import Any

from audio.errors import InputError
from restyler.command import Parser, command, shown

SUFFIX = ".nm"
EXAMPLE_S = 4.0


def parser() -> Parser:
    options = Parser(
        prog="restyler export neutone",
        description="Write the live student as a file for the Neutone plugins: a TorchScript module with the knobs "
        "strength, brightness, space and style. Neutone SDK saves it, loads it again and compares; nothing is fetched.",
    )
    options.add_argument("--student", type=Path, metavar="DIR", help="folder of a student (default: the bundled one)")
    options.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write, FILE.nm")
    options.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    return options


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    options = parser().parse_args(argv)
    out: Path = options.out
    if out.suffix != SUFFIX:
        raise InputError(f"--out {shown(out)}: the Neutone plugins load files called *{SUFFIX}")
    if os.path.lexists(out) and not (options.overwrite and out.is_file()):
        raise InputError(f"{shown(out)}: already exists; use another --out, or --overwrite")
    require_sdk()

    from restyler.student.files import BUNDLED_STUDENT, load_student
    from restyler.takes import made_folders

    student = load_student(options.student or BUNDLED_STUDENT)
    with made_folders([out.parent]), tempfile.TemporaryDirectory(dir=out.parent, prefix=".neutone-") as folder:
        saved = save(student, Path(folder))
        try:
            os.replace(saved, out)  # noqa: PTH105  (beside it: whole or not at all)
        except OSError as error:
            raise InputError(f"{shown(out)}: cannot be written: {error.strerror}") from error
    print(f"{shown(out)}: {out.stat().st_size / 2**20:.1f} MiB, saved, loaded and compared by Neutone SDK")
    return 0


def require_sdk() -> None:
    """Raises InputError where the extra is not installed."""
    try:
        import neutone_sdk  # noqa: F401
    except ImportError as error:
        raise InputError(f'needs Neutone SDK ({error}): pip install "vocal-restyler[neutone]"') from None


def wrapped(student: Any) -> Any:
    """The student in the SDK's wrapper, as `neutone_sdk.utils.save_neutone_model` takes it."""
    from restyler.exporting.neutone_wrapper import NeutoneStudent
    from restyler.student.streaming import StreamingStudent

    streaming = StreamingStudent(student.network)
    return NeutoneStudent(streaming, styles=student.styles, teacher=student.teacher, version=version("vocal-restyler"))


def save(student: Any, folder: Path) -> Path:
    """Saved by the SDK with all of its checks but that of speed; an example of a sung phrase goes with it.

    The SDK loads what it saved, asks for everything that the plugins ask for, and compares metadata and sound.
    """
    import numpy as np
    from neutone_sdk import SampleQueueWrapper
    from neutone_sdk.audio import AudioSample, AudioSamplePair, render_audio_sample
    from neutone_sdk.utils import save_neutone_model

    from restyler.sing import random_take
    from restyler.student.spectra import SAMPLE_RATE_HZ

    take = random_take(EXAMPLE_S, sample_rate=SAMPLE_RATE_HZ, generator=np.random.default_rng(1))
    example = AudioSample(take.samples[:, : round(EXAMPLE_S * SAMPLE_RATE_HZ)], SAMPLE_RATE_HZ)
    with _quiet():
        mixed = render_audio_sample(SampleQueueWrapper(wrapped(student)), example)[0]
        save_neutone_model(
            wrapped(student),
            folder,
            dump_samples=True,
            submission=True,
            audio_sample_pairs=[AudioSamplePair(example, mixed)],
            speed_benchmark=False,  # restyler.bench_live measures it
        )
    return folder / "model.nm"


@contextmanager
def _quiet() -> Iterator[None]:
    """The SDK tells every step and shows a bar for every sound; its mistakes are exceptions all the same."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TorchScript, which the plugins read, is deprecated
            yield
    finally:
        logging.disable(before)
