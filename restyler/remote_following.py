"""One job followed to its end: its mixes are fetched as they are made."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from audio.errors import InputError
from audio.io import write_text_atomic
from restyler.chain_settings import with_raw
from restyler.client import Client
from restyler.command import shown
from restyler.mix_line import mix_line
from restyler.progress import progress_bar
from restyler.remote_errands import Errand

STEPS_OF_THE_BAR = 1000


def follow(client: Client, errand: Errand, what: str) -> None:
    """Until all mixes are here, under the names that `restyler sample` would write.

    what: in front of the progress bar. Raises InputError where the job fails or somebody cancels it.
    """
    with progress_bar(what) as progress:
        for mix in client.job(errand.job)["mixes"]:
            _fetch(client, errand, mix)
        for event in client.events(errand.job):
            if event.kind == "progress":
                progress(round(event.data["progress"] * STEPS_OF_THE_BAR), STEPS_OF_THE_BAR)
            elif event.kind == "mix":
                _fetch(client, errand, event.data)
        job = client.job(errand.job)
        for mix in job["mixes"]:
            _fetch(client, errand, mix)
    if job["state"] != "done":
        reason = job.get("error") or "it was cancelled there"
        raise InputError(f"{shown(errand.take.path)}: not finished by the server: {shown(reason)}")
    missing = [mix.name for mix in errand.take.mixes if not errand.record.files.get(mix.name)]
    if missing:
        raise InputError(f"{shown(errand.take.path)}: the server made no {', '.join(missing)}")
    errand.keep(replace(errand.record, done=True))


def _fetch(client: Client, errand: Errand, mix: dict[str, Any]) -> None:
    """One mix with its chain, unless it is here already."""
    number = mix["number"]
    if not isinstance(number, int) or not 0 <= number < len(errand.take.mixes):
        raise InputError(f"{client.server}: made a mix that nobody asked for: {number!r}")
    path = errand.take.mixes[number]
    known = errand.record.files
    if known.get(path.name) and os.path.isfile(path):  # noqa: PTH113 - see takes.py
        return
    errand.keep(replace(errand.record, files={**known, path.name: ""}))  # ours, should this process end right after it
    if mix["has_chain"]:
        _fetch_chain(client, errand, number, path)
    client.download_mix(errand.job, number, path)
    errand.keep(errand.record.with_file(path))
    tqdm.write(_line(path, mix))


def _fetch_chain(client: Client, errand: Errand, number: int, path: Path) -> None:
    for form in ("yaml", "txt"):
        client.download_chain(errand.job, number, path.with_suffix(f".{form}"), form=form)
    settings = path.with_suffix(".yaml")
    here = Path(os.path.relpath(errand.take.path.resolve(), path.parent.resolve())).as_posix()
    write_text_atomic(settings, with_raw(settings.read_text(encoding="utf-8"), here))


def _line(path: Path, mix: dict[str, Any]) -> str:
    ceiling_dbtp = float(mix["chosen"]["peak_dbtp"]) if mix["limited"] else None
    names = ("styles", "drawn", "loudness_lufs", "true_peak_dbtp")
    said = {"seed": str(mix["seed"]), "reverb": mix["chosen"].get("reverb")} | {name: mix[name] for name in names}
    return mix_line(path, ceiling_dbtp=ceiling_dbtp, **said)
