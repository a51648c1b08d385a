"""Jobs as their owners see them: checked and accepted, cancelled, renamed, deleted."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from audio.errors import InputError
from restyler.sample_plan import CHAINS
from restyler.serving import sample_fields, stored_events, stored_jobs, stored_takes
from restyler.serving.dispatcher import Dispatcher
from restyler.serving.executor import Executor, JobOrder
from restyler.serving.hub import Hub
from restyler.serving.limits import Limits
from restyler.serving.model import ServedModel
from restyler.serving.places import Places
from restyler.serving.rates import Pace
from restyler.serving.refusals import RefusedError, field_in, in_fields
from restyler.serving.requests import JobRequest, MixChange
from restyler.serving.storage import Storage, fresh_id
from restyler.serving.work import mix_path

MIX_BYTES_A_SECOND = 48_000 * 2 * 3  # as `restyler sample` writes them
CHAIN_BYTES = 16_384
FIELDS = sample_fields.field_names()
NAMED = FIELDS | {field: field for field in (*FIELDS.values(), "take")}  # options or fields, as a line calls them


class Jobs:
    """machine: arguments of `restyler sample` that say by which model, and where, jobs are done. parts: kinds of parts
    that chains of jobs may have."""

    def __init__(
        self,
        storage: Storage,
        places: Places,
        limits: Limits,
        model: ServedModel,
        *,
        machine: Sequence[str],
        parts: Sequence[str],
    ) -> None:
        self._storage, self._places, self._limits, self._model = storage, places, limits, model
        self._machine, self._parts = list(machine), tuple(parts)

    def attach(self, executor: Executor, dispatcher: Dispatcher, hub: Hub, pace: Pace) -> None:
        self._executor, self._dispatcher, self._hub, self._pace = executor, dispatcher, hub, pace

    def create(self, owner: str, request: JobRequest, idempotency_key: str | None) -> dict[str, Any]:
        """An accepted job, on disk. The same Idempotency-Key again gives the job that it gave before.

        Raises RefusedError: 404 where take, reference or liked mix are not the owner's; 409 where the key came with
        another request; 422 for what `restyler sample` refuses; 429 for too many jobs; 507 for too many bytes.
        """
        said = request.said()
        with self._storage.reading() as connection:
            known = self._known(connection, owner, idempotency_key, said)
            if known is not None:
                return known
            self._require_room(connection, owner)
            take = stored_takes.one(connection, owner, request.take)
            uses = [("take", take.id)]
            for one in request.reference:
                uses.append(("take", stored_takes.one(connection, owner, one.take).id))
            if request.like is not None:
                stored_jobs.row_of(connection, owner, request.like.job)
                stored_jobs.mix(connection, request.like.job, request.like.mix)
                uses.append(("job", request.like.job))
        variations, tail_s = self._checked(said)
        expected_bytes = round(variations * ((take.duration_s + tail_s) * MIX_BYTES_A_SECOND + CHAIN_BYTES))
        with self._storage.writing() as connection:
            known = self._known(connection, owner, idempotency_key, said)
            if known is not None:
                return known
            self._require_room(connection, owner)
            self._require_there(connection, uses)
            require_bytes(connection, owner, expected_bytes, self._limits)
            identity = fresh_id()
            stored_jobs.add(
                connection,
                identity=identity,
                owner=owner,
                take=take.id,
                name=request.name or take.name,
                request=said,
                variations=variations,
                expected_bytes=expected_bytes,
                uses=uses,
                idempotency_key=idempotency_key,
                at_s=self._storage.clock(),
            )
            answer = stored_jobs.answer(connection, stored_jobs.row_of(connection, owner, identity))
            stored_events.add(connection, identity, "state", answer)
        self._dispatcher.wake()
        return answer

    def _known(
        self, connection: sqlite3.Connection, owner: str, key: str | None, said: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        row = None if key is None else stored_jobs.row_by_key(connection, owner, key)
        if row is None:
            return None
        if json.loads(row["request"]) != said:
            raise RefusedError(409, "this Idempotency-Key came with another request before", field="Idempotency-Key")
        return stored_jobs.answer(connection, row)

    def _require_room(self, connection: sqlite3.Connection, owner: str) -> None:
        slots = self._executor.slots
        if stored_jobs.count(connection, stored_jobs.OPEN, owner) >= self._limits.in_flight:
            line = f"{self._limits.in_flight} jobs of a key may wait or run at once"
            wait_s = self._pace.until_ended_s(stored_jobs.before_first(connection, owner), slots)
            raise RefusedError(429, line, retry_after_s=wait_s, reason="in_flight")
        if stored_jobs.count(connection, ["queued"]) >= self._limits.queue:
            line = f"{self._limits.queue} jobs wait already; no more are taken until one has ended"
            raise RefusedError(429, line, retry_after_s=self._pace.until_ended_s(0, slots), reason="queue")

    @staticmethod
    def _require_there(connection: sqlite3.Connection, uses: Sequence[tuple[str, str]]) -> None:
        for kind, identity in uses:  # one may have been deleted while the rest was checked
            if connection.execute(f"SELECT 1 FROM {kind}s WHERE id = ?", (identity,)).fetchone() is None:
                raise RefusedError(404, f"no such {kind}")

    def _checked(self, said: Mapping[str, Any]) -> tuple[int, float]:
        """How many mixes, and how much longer than the take; raises RefusedError (422) for what can't be made."""
        try:
            choice = self._model.checked(self.arguments(said), chains_of(said), parts=self._parts)
        except InputError as error:
            line = self.line(said, str(error))
            raise RefusedError(422, line, field=field_in(line, NAMED)) from error
        if choice.variations > self._limits.variations:
            field = "between" if "between" in said else "variations"
            line = f"{field}: up to {self._limits.variations} mixes a job are made here, not {choice.variations}"
            raise RefusedError(422, line, field=field)
        return choice.variations, choice.tail_s

    def arguments(self, said: Mapping[str, Any]) -> list[str]:
        """What a job's request is as arguments of `restyler sample`."""
        found = [str(self._places.audio(said["take"])), *self._machine, *sample_fields.arguments(said)]
        if "like" in said:
            found.append(f"--like={self._liked(said)}")
        if isinstance(word := said.get("reverb"), str):
            found.append(f"--reverb={word}")
        for one in said.get("reference", []):
            found.append(f"--reference={self._places.named(one['take'])}={one.get('weight', 1.0)!r}")
        return found + [f"--control={name}={value!r}" for name, value in said.get("controls", {}).items()]

    def line(self, said: Mapping[str, Any], line: str) -> str:
        """A line of `restyler sample` about these arguments, in the words of the request."""
        paths = {str(self._places.named(one["take"])): "reference" for one in said.get("reference", [])}
        paths |= {str(self._liked(said)): "like"} if "like" in said else {}
        paths |= {str(self._places.audio(said["take"])): "take"}
        return in_fields(line, FIELDS, paths | {f"{self._places.data}/": ""})

    def _liked(self, said: Mapping[str, Any]) -> Any:
        return mix_path(self._places.job(said["like"]["job"]), said["like"]["mix"])

    def order(self, row: sqlite3.Row, made: Sequence[int]) -> JobOrder:
        """For a worker."""
        folder = str(self._places.job(row["id"]))
        said = json.loads(row["request"])
        arguments, chains = tuple(self.arguments(said)), chains_of(said)
        return JobOrder(row["id"], arguments, folder, tuple(made), chains, self._parts)

    def said_of(self, row: sqlite3.Row, line: str) -> str:
        """A worker's line about a job, as its owner may read it."""
        return self.line(json.loads(row["request"]), line)

    def one(self, owner: str, identity: str) -> dict[str, Any]:
        with self._storage.reading() as connection:
            return stored_jobs.answer(connection, stored_jobs.row_of(connection, owner, identity))

    def page(self, owner: str, state: str | None, limit: int, before: str | None) -> list[dict[str, Any]]:
        with self._storage.reading() as connection:
            return stored_jobs.page(connection, owner, state=state, limit=limit, before=before)

    def rename(self, owner: str, identity: str, name: str) -> dict[str, Any]:
        with self._storage.writing() as connection:
            stored_jobs.row_of(connection, owner, identity)
            stored_jobs.change(connection, identity, name=name)
            return stored_jobs.answer(connection, stored_jobs.row_of(connection, owner, identity))

    def change_mix(self, owner: str, identity: str, number: int, change: MixChange) -> dict[str, Any]:
        values = {name: getattr(change, name) for name in change.model_fields_set}
        with self._storage.writing() as connection:
            stored_jobs.row_of(connection, owner, identity)
            stored_jobs.mix(connection, identity, number)
            stored_jobs.change_mix(connection, identity, number, **values)
            return stored_jobs.mix(connection, identity, number)

    def cancel(self, owner: str, identity: str) -> dict[str, Any]:
        """Raises RefusedError (409) for a job that has ended."""
        with self._storage.writing() as connection:
            row = stored_jobs.row_of(connection, owner, identity)
            if row["state"] not in stored_jobs.OPEN:
                raise RefusedError(409, f"the job has ended: {row['state']}")
            stored_jobs.change(connection, identity, state="cancelled", ended_s=self._storage.clock())
            answer = stored_jobs.answer(connection, stored_jobs.row_of(connection, owner, identity))
            stored_events.add(connection, identity, "state", answer)
        self._executor.cancel(identity)
        self._hub.wake(identity)
        return answer

    def remove(self, owner: str, identity: str) -> None:
        """Raises RefusedError (409) for a job that waits or runs, or whose mix such a one is made from."""
        with self._storage.writing() as connection:
            row = stored_jobs.row_of(connection, owner, identity)
            if row["state"] in stored_jobs.OPEN:
                raise RefusedError(409, f"the job is {row['state']}: cancel it first")
            if stored_takes.in_use(connection, "job", identity):
                raise RefusedError(409, "a mix of this job is what a waiting or running job is like")
            stored_jobs.remove(connection, identity)
        self._places.throw_away(self._places.job(identity))
        self._places.forget_derived(identity)
        self._hub.wake(identity)


def chains_of(said: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Of a request, those that are files."""
    return {field: chain for field in CHAINS if isinstance(chain := said.get(field), dict)}


def require_bytes(connection: sqlite3.Connection, owner: str, more: int, limits: Limits) -> None:
    """Raises RefusedError (507) where an owner's share of the disk would not hold so many bytes more."""
    used = stored_takes.bytes_of(connection, owner)
    if used + more > limits.stored_bytes:
        line = f"{used} of {limits.stored_bytes} bytes are used, {more} more are needed: delete takes or jobs"
        raise RefusedError(507, line, reason="quota")
