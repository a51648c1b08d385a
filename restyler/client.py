"""The service from Python: takes, jobs, their events and files, over HTTP (extra `remote`).

    with Client("http://127.0.0.1:8765", key) as client:
        take = client.upload(Path("take.wav"))
        job = client.submit({"take": take["id"], "variations": 4, "style": "any"})
        for event in client.events(job["id"]):
            if event.kind == "mix":
                number = event.data["number"]
                client.download_mix(job["id"], number, Path(f"mix_{number:02d}.wav"))

What the server answers comes back as it is, as dicts; the OpenAPI document of the service says what stands in them.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from audio.errors import InputError
from restyler.client_events import Event, parse_events
from restyler.client_files import opened, received, sent
from restyler.client_refusals import (
    RefusedError,
    UnreachableError,
    import_httpx,
    refusal,
    require_key,
    require_server,
    transport_error,
)
from restyler.command import shown
from restyler.progress import Progress

if TYPE_CHECKING:
    import httpx

Facts = dict[str, Any]
ENDED = ("done", "failed", "cancelled")
CONNECT_S, SILENCE_S = 10.0, 60.0  # a server that lives sends a heartbeat every 15 s
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
FEWEST_RECONNECTS = 4  # of a stream of events, also without patience


class Client:
    """One server and one key. Every method raises `RefusedError`, in one line, for what the server refuses,
    `UnreachableError` where it can't be reached or breaks off, and InputError for a file that can't be read or written.

    server: its URL, http or https, with the path where the service is mounted. key: sent as a bearer token, to no other
    address: redirects are not followed.
    patience_s: how long one call waits in all where the server is busy (429 and 503, by its Retry-After) or can't be
    reached; 0: not at all. sleep, clock: for a pause of some seconds, and for the seconds that have gone by.
    """

    def __init__(
        self,
        server: str,
        key: str,
        *,
        patience_s: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        http = import_httpx()
        self.server = require_server(server)
        self._patience_s, self._sleep, self._clock = patience_s, sleep, clock
        self._http: httpx.Client = http.Client(
            base_url=self.server,
            headers={"Authorization": f"Bearer {require_key(key)}", "Accept": "application/json"},
            timeout=http.Timeout(SILENCE_S, connect=CONNECT_S),
            follow_redirects=False,
            trust_env=http.URL(self.server).host not in ("127.0.0.1", "localhost", "::1"),  # a proxy has its own
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections."""
        self._http.close()

    def model(self) -> Facts:
        """What the server's model can do, its defaults, and the limits of the service."""
        return self._call("GET", "/v1/model")

    # Takes

    def upload(self, path: Path, *, name: str | None = None, progress: Progress | None = None) -> Facts:
        """A take from a file, streamed. name: what it is called there; the file's by default. progress: told (bytes
        sent, bytes in all)."""
        name = path.name if name is None else name
        query = {"name": name.encode(errors="replace").decode()}  # a file's name may hold bytes that are no UTF-8

        def send() -> httpx.Response:
            with opened(path) as (handle, size):
                headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
                body = sent(handle, size, path, progress)
                return self._http.post("/v1/takes", params=query, headers=headers, content=body)

        return self._json(self._patiently(send, repeatable=False))

    def takes(self) -> list[Facts]:
        """All takes of this key."""
        return self._call("GET", "/v1/takes")["takes"]

    def take(self, take: str) -> Facts:
        """One take by its id."""
        return self._call("GET", f"/v1/takes/{_part(take)}")

    def waveform(self, take: str, *, points: int) -> Facts:
        """The outline of a take: `low` and `high`, so many points each."""
        return self._call("GET", f"/v1/takes/{_part(take)}/waveform", params={"points": points})

    def download_take(self, take: str, path: Path, *, form: Literal["original", "wav"] = "original") -> Path:
        """The recording as it was uploaded, or as WAV of 48 kHz and 16 bit."""
        return self._download(f"/v1/takes/{_part(take)}/audio", path, {"format": form})

    def delete_take(self, take: str) -> None:
        """RefusedError while a job of it waits or runs."""
        self._delete(f"/v1/takes/{_part(take)}")

    # Jobs

    def submit(self, request: Mapping[str, Any], *, idempotency_key: str | None = None) -> Facts:
        """A job. request: `take` and whatever controls are to differ from the defaults. idempotency_key: given again,
        it gives the same job again; a new one each time by default, so that a repeated try makes one job."""
        headers = {"Idempotency-Key": idempotency_key or secrets.token_urlsafe(16)}
        return self._call("POST", "/v1/jobs", json=dict(request), headers=headers)

    def jobs(self, *, state: str | None = None, limit: int | None = None, before: str | None = None) -> list[Facts]:
        """Jobs of this key, newest first: those in one state, so many at most, those before the one of that id."""
        wishes = {"state": state, "limit": limit, "before": before}
        query = {name: value for name, value in wishes.items() if value is not None}
        return self._call("GET", "/v1/jobs", params=query)["jobs"]

    def job(self, job: str) -> Facts:
        """One job by its id."""
        return self._call("GET", f"/v1/jobs/{_part(job)}")

    def rename_job(self, job: str, name: str) -> Facts:
        """The job with its new name."""
        return self._call("PATCH", f"/v1/jobs/{_part(job)}", json={"name": name})

    def change_mix(self, job: str, number: int, *, name: str | None = None, picked: bool | None = None) -> Facts:
        """Names a mix, or picks it (or no longer)."""
        wishes = {"name": name, "picked": picked}
        changes = {name: value for name, value in wishes.items() if value is not None}
        return self._call("PATCH", f"/v1/jobs/{_part(job)}/mixes/{number}", json=changes)

    def cancel(self, job: str) -> Facts:
        """Stops a job that waits or runs."""
        return self._call("POST", f"/v1/jobs/{_part(job)}/cancel", repeatable=False)

    def delete_job(self, job: str) -> None:
        """A job that has ended, with its mixes."""
        self._delete(f"/v1/jobs/{_part(job)}")

    def events(self, job: str, *, after: str | None = None) -> Iterator[Event]:
        """What happens to a job, from its beginning or after the event of that id, until it has ended.

        A connection that breaks is made anew, and goes on after the last event that came; given up where nothing new
        has come for the client's patience and a few tries.
        """
        tries, since = 0, self._clock()
        while True:
            try:
                for event in self._event_stream(job, after):
                    after, tries, since = event.id or after, 0, self._clock()
                    yield event
                    if event.kind == "state" and event.data["state"] in ENDED:
                        return
                if self.job(job)["state"] in ENDED:  # the caller knew its last event already
                    return
                broken: UnreachableError | RefusedError = UnreachableError(
                    f"{self.server}: the events of job {shown(job)} broke off"
                )
                pause_s = 0.0
            except UnreachableError as error:
                broken, pause_s = error, 0.0
            except RefusedError as error:
                if error.retry_after_s is None:
                    raise
                broken, pause_s = error, error.retry_after_s
            pause_s = max(pause_s, _pause_s(tries))
            tries += 1
            if tries > FEWEST_RECONNECTS and self._clock() - since + pause_s > self._patience_s:
                raise broken
            self._sleep(pause_s)

    def _event_stream(self, job: str, after: str | None) -> Iterator[Event]:
        headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": after})
        with (
            transport_error(self.server),
            self._http.stream("GET", f"/v1/jobs/{_part(job)}/events", headers=headers) as response,
        ):
            self._require_success(response)
            yield from parse_events(response.iter_bytes())

    # Files

    def download_mix(self, job: str, number: int, path: Path, *, form: Literal["wav", "flac"] = "wav") -> Path:
        """A finished mix."""
        return self._download(f"/v1/jobs/{_part(job)}/mixes/{number}", path, {"format": form})

    def download_chain(self, job: str, number: int, path: Path, *, form: Literal["yaml", "txt"] = "yaml") -> Path:
        """The chain of a mix that was rendered by one: its settings, or the same to read."""
        return self._download(f"/v1/jobs/{_part(job)}/mixes/{number}/chain", path, {"format": form})

    def download_archive(self, job: str, path: Path) -> Path:
        """All that a job made, as ZIP."""
        return self._download(f"/v1/jobs/{_part(job)}/archive", path, {})

    def _download(self, address: str, path: Path, query: Mapping[str, str]) -> Path:
        """Into a file that is there whole or not at all, replacing one of the name."""

        def fetch() -> httpx.Response:
            as_it_is = {"Accept": "*/*", "Accept-Encoding": "identity"}
            with self._http.stream("GET", address, params=query, headers=as_it_is) as response:
                if response.is_success:
                    received(response.iter_bytes(), path)
                else:
                    response.read()
                return response

        self._require_success(self._patiently(fetch, repeatable=True))
        return path

    # Calls

    def _call(self, method: str, address: str, *, repeatable: bool = True, **parts: Any) -> Any:
        return self._json(self._patiently(lambda: self._http.request(method, address, **parts), repeatable=repeatable))

    def _delete(self, address: str) -> None:
        self._require_success(self._patiently(lambda: self._http.delete(address), repeatable=False))

    def _patiently(self, call: Callable[[], httpx.Response], *, repeatable: bool) -> httpx.Response:
        """The answer of a call, made again while the server says that it is busy, or can't be reached, for as long as
        patience lasts. repeatable: also where a call broke off that may have had its effect."""
        tries, until = 0, self._clock() + self._patience_s
        while True:
            pause_s = _pause_s(tries)
            try:
                with transport_error(self.server):
                    answer = call()
                busy = refusal(answer) if answer.status_code in (429, 503) else None
                if busy is None or self._clock() + (busy.retry_after_s or pause_s) > until:
                    return answer
                pause_s = busy.retry_after_s or pause_s
            except UnreachableError as error:
                if not (repeatable or error.nothing_sent) or self._clock() + pause_s > until:
                    raise
            tries += 1
            self._sleep(pause_s)

    def _require_success(self, answer: httpx.Response) -> None:
        if not answer.is_success:
            answer.read()
            raise refusal(answer)

    def _json(self, answer: httpx.Response) -> Any:
        self._require_success(answer)
        try:
            return answer.json()
        except ValueError:
            raise InputError(f"{self.server}: no such service: its answer is no JSON") from None


def _pause_s(tries: int) -> float:
    return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries, 10)))


def _part(text: str) -> str:
    """Of a path: an id, whatever it holds."""
    return quote(text, safe="")
