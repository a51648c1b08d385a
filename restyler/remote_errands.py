"""The jobs that one call of `restyler remote` needs: new ones, and those that an interrupted call began."""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from audio.errors import InputError
from audio.io import read_tags
from restyler.client import ENDED, Client
from restyler.client_refusals import RefusedError
from restyler.command import shown
from restyler.digests import sha256
from restyler.progress import progress_bar
from restyler.remote_record import NAME, Record, liked_mix, read_record, write_record
from restyler.remote_request import request
from restyler.takes import Take, plan, read_take
from restyler.way_names import DEFAULT_WAY
from restyler.ways import companions, require_no_chain, require_raw_names


@dataclass
class Errand:
    """One take: where its mixes go, what is asked for, and what is known of the job."""

    take: Take
    record: Record
    wished: Mapping[str, Any]
    like: tuple[str, int] | None
    references: Sequence[tuple[Path, float]]
    uploads: dict[str, str] = field(repr=False)  # shared by the errands of a call: ids of what was sent, by SHA-256

    @property
    def folder(self) -> Path:
        return self.take.mixes[0].parent

    @property
    def job(self) -> str:
        """Raises ValueError before there is one."""
        if self.record.job is None:
            raise ValueError("the job has not been accepted yet")
        return self.record.job

    def keep(self, record: Record) -> None:
        """The record from now on, and on disk."""
        write_record(self.folder, record)
        self.record = record


def find_errands(
    client: Client,
    paths: Sequence[Path],
    out: Path,
    *,
    variations: int,
    overwrite: bool,
    others: Mapping[Path, str],
    wished: Mapping[str, Any],
    references: Sequence[tuple[Path, float]],
    like: Path | None,
) -> list[Errand]:
    """Everything checked that can be checked here; nothing sent yet but a question about the model.

    Raises InputError as `restyler sample` does, for the same reasons, before anything is written.
    """
    model = client.model()
    if not isinstance(model, dict) or not isinstance(model.get("sample_rate_hz"), int):
        raise InputError(f"{client.server}: no service of this kind: it doesn't say which model it has")
    way = str(wished.get("render") or (read_tags(like).get("render") if like else None) or DEFAULT_WAY)
    # What is there already is judged below: files that an interrupted call brought are no obstacle.
    takes = plan(paths, out, variations=variations, overwrite=True, others=others, companions=companions(way))
    require_raw_names(way, paths)
    for path in [*paths, *(path for path, _ in references)]:
        read_take(path, model["sample_rate_hz"])
    liked = liked_mix(like, client.server) if like else None
    asked = {
        "wishes": dict(wished),
        "reference": [[sha256(path), weight] for path, weight in references],
        "like": None if liked is None else list(liked),
    }
    uploads = dict[str, str]()
    errands = []
    for take in takes:
        new = Record(client.server, sha256(take.path), _as_json(asked), secrets.token_urlsafe(16))
        record = _going_on(client, take, new) or new
        if not overwrite:
            _require_free(take, record)
        errands.append(Errand(take, record, wished, liked, references, uploads))
    return errands


def _as_json(facts: dict[str, Any]) -> dict[str, Any]:
    """As a record gives it back: tuples are lists there."""
    return {name: [*map(list, value)] if isinstance(value, tuple) else value for name, value in facts.items()}


def _going_on(client: Client, take: Take, new: Record) -> Record | None:
    """The record of an interrupted call that asked for the same, whose job or take is still there."""
    old = read_record(take.mixes[0].parent)
    if old is None or old.done or (old.server, old.take_sha256, old.asked) != (new.server, new.take_sha256, new.asked):
        return None
    try:
        if old.job is not None:
            return old if client.job(old.job)["state"] not in ("failed", "cancelled") else None
        for upload in old.uploads.values():
            client.take(upload)
        return old
    except RefusedError as error:
        if error.status != 404:
            raise
        return None


def _require_free(take: Take, record: Record) -> None:
    """Raises InputError where a mix or its chain would replace a file that this errand did not bring."""
    known = record.files
    for mix in take.mixes:
        if not os.path.lexists(mix):
            continue
        if mix.name not in known or (known[mix.name] and known[mix.name] != sha256(mix)):
            raise InputError(f"{shown(mix)}: already exists; use another --out, or --overwrite")
    require_no_chain(mix for mix in take.mixes if mix.name not in known)


def start(client: Client, errands: Sequence[Errand]) -> Iterator[Errand]:
    """Every errand, its job accepted, in order: as many as the server takes before the first is yielded, and further
    ones as those end.

    Where one is refused, those that this call began are cancelled, and nothing of them is left behind.
    """
    begun, waiting = list[Errand](), deque[Errand]()
    try:
        for errand in errands:
            while errand.record.job is None:
                begun.append(errand)
                try:
                    _submit(client, errand)
                except RefusedError as error:
                    if error.status != 429 or not waiting:
                        raise
                    yield waiting.popleft()
            waiting.append(errand)
    except InputError:
        _give_up(client, begun)
        raise
    yield from waiting


def _submit(client: Client, errand: Errand) -> None:
    take = _uploaded(client, errand, errand.take.path)
    references = [(_uploaded(client, errand, path), weight) for path, weight in errand.references]
    asked = request(errand.wished, take=take, references=references, like=errand.like)
    job = client.submit(asked, idempotency_key=errand.record.idempotency_key)
    errand.keep(replace(errand.record, job=job["id"]))
    if job.get("position"):
        tqdm.write(f"{shown(errand.take.path)}: accepted, {job['position']} before it")


def _uploaded(client: Client, errand: Errand, path: Path) -> str:
    """The id of a file there: sent now, unless this call or the one it goes on with has sent it."""
    digest = sha256(path)
    known = errand.uploads | errand.record.uploads
    if digest not in known:
        with progress_bar(f"sending {shown(path.name)}") as progress:
            known[digest] = client.upload(path, progress=progress)["id"]
    errand.uploads[digest] = known[digest]
    errand.keep(replace(errand.record, uploads={**errand.record.uploads, digest: known[digest]}))
    return known[digest]


def _give_up(client: Client, begun: Sequence[Errand]) -> None:
    for errand in begun:
        if errand.record.files:
            continue  # its mixes have come already, or it was another call's
        with suppress(InputError):  # the refusal itself is what the user is told
            if errand.record.job is not None:
                client.cancel(errand.record.job)
        (errand.folder / NAME).unlink(missing_ok=True)


def forget(client: Client, errands: Sequence[Errand]) -> None:
    """Deletes at the server what a call brought there. Raises RefusedError where another job still needs a take."""
    for errand in errands:
        if client.job(errand.job)["state"] in ENDED:
            client.delete_job(errand.job)
        (errand.folder / NAME).unlink(missing_ok=True)
    for take in {id for errand in errands for id in errand.record.uploads.values()}:
        client.delete_take(take)
