"""What a worker does for one job: the same mixes, by the same code, as `restyler sample` with the job's arguments."""

from __future__ import annotations

import ast
import sys
import time
import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from audio.errors import InputError
from audio.io import read, read_tags
from audio.loudness import integrated_loudness_lufs, true_peak_db
from audio.on_disk import kept_in
from restyler.liked import styles_of
from restyler.model_folder import BUNDLED
from restyler.pipeline import VocalRestylePipeline
from restyler.rendering import model_name
from restyler.sample_choice import Choice
from restyler.serving.chains import options_of, read_job_chains
from restyler.serving.executor import Failed, Finished, JobOrder, MixDone, Progress, Report, Stopped
from restyler.takes import Take, read_take

OUR_ERROR = "an error of the service, not of what was asked; its log says more"
NOT_CHOSEN = frozenset({"model", "take", "reference", "reference_sha256", "seed"})  # tags that are no settings
LIMITED_LU = 0.01  # a mix this much quieter than wanted was held back by its peak; 24 bits hide far less
PROGRESS_S = 0.2  # at least between two reports


class _CancelledError(Exception):
    pass


def mix_path(folder: Path, number: int) -> Path:
    return folder / f"mix_{number:02d}.wav"


def run(
    order: JobOrder,
    pipeline: VocalRestylePipeline,
    report: Callable[[Report], None],
    cancelled: Callable[[], bool],
) -> None:
    """Makes the mixes of a job that are not there yet; what it reports ends with Finished, Failed or Stopped.

    A mix whose file is whole, but not in `order.made`, was made by a worker that could not say so any more: it is
    reported, not made again. cancelled: asked at every piece of work.
    """
    try:
        with kept_in(Path(order.folder)):
            _make(order, pipeline, report, cancelled)
    except _CancelledError:
        report(Stopped(order.job))
    except InputError as error:
        report(Failed(order.job, str(error)))
    except Exception:
        print(traceback.format_exc(), file=sys.stderr, flush=True)
        report(Failed(order.job, OUR_ERROR))
    else:
        report(Finished(order.job))


def _make(
    order: JobOrder,
    pipeline: VocalRestylePipeline,
    report: Callable[[Report], None],
    cancelled: Callable[[], bool],
) -> None:
    options = options_of(order.arguments, order.chains)
    (path,) = options.takes
    chains = read_job_chains(order.chains, allowed=order.parts, sample_rate=pipeline.codec.sample_rate)
    choice = Choice(options, pipeline, [path], model=model_name(options.model or BUNDLED), chains=chains)
    count = choice.variations
    take = Take(path, tuple(mix_path(Path(order.folder), number) for number in range(count)))
    take_lufs = integrated_loudness_lufs(read_take(path, pipeline.codec.sample_rate))
    wanted_lufs = take_lufs if choice.lufs is None else choice.lufs
    told_s = -PROGRESS_S

    def done(number: int) -> None:
        found = facts(take.mixes[number], styles=pipeline.styles, wanted_lufs=wanted_lufs)
        report(MixDone(order.job, number, found))

    unreported = [number for number in range(count) if number not in order.made and is_whole(take.mixes[number])]
    for number in unreported:
        done(number)
    left = [number for number in range(count) if number not in {*order.made, *unreported}]
    if not left:
        return

    def progress(pieces: int, of: int) -> None:
        nonlocal told_s
        if cancelled():
            raise _CancelledError
        now_s = time.monotonic()
        if now_s - told_s >= PROGRESS_S or pieces == of:
            told_s = now_s
            report(Progress(order.job, 1 - (1 - pieces / of) * len(left) / count))

    for number, _ in zip(left, choice.render(take, progress=progress, numbers=left), strict=True):
        done(number)
        if cancelled():
            raise _CancelledError


def is_whole(path: Path) -> bool:
    """Whether a job's mix lies in its file, which is written under another name and renamed: it is whole or absent."""
    try:
        return "seed" in read_tags(path)
    except InputError:
        return False


def facts(path: Path, *, styles: Collection[str], wanted_lufs: float) -> dict[str, Any]:
    """What a finished mix is, from its file: how it was made, and what was measured.

    styles: of the model. wanted_lufs: what it was to be. Raises InputError for a file that can't be read.
    """
    tags, waveform = read_tags(path), read(path)
    chosen = {name: text for name, text in tags.items() if name not in NOT_CHOSEN}
    controls = ast.literal_eval(tags.get("controls", "{}"))
    loudness_lufs = integrated_loudness_lufs(waveform)
    return {
        "seed": tags["seed"],
        "styles": styles_of(tags.get("style"), styles),
        "chosen": chosen,
        "drawn": {name: controls[name] for name in tags.get("drawn", "").split()},
        "loudness_lufs": round(loudness_lufs, 3),
        "true_peak_dbtp": round(true_peak_db(waveform), 3),
        "limited": loudness_lufs < wanted_lufs - LIMITED_LU,
        "seconds": waveform.duration_s,
        "has_chain": path.with_suffix(".yaml").is_file(),
    }
