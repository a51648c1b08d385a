"""Who does the jobs: the interface between the service and its workers, plain data both ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias


@dataclass(frozen=True)
class JobOrder:
    """One job as a worker needs it.

    job: its id. arguments: of `restyler sample`, with the take's file first, without --out. folder: where mix_00.wav
    and so on go; it is there, and nobody makes it anew. made: numbers of the mixes that are kept already.
    chains: of effects by their fields, each with `name` and `yaml`; parts: the kinds of parts that they may have.
    """

    job: str
    arguments: tuple[str, ...]
    folder: str
    made: tuple[int, ...] = ()
    chains: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress:
    """part: 0 … 1 of all the work of the job's present attempt."""

    job: str
    part: float


@dataclass(frozen=True)
class MixDone:
    """A mix lies in its file. facts: as `restyler.serving.work.facts` tells them."""

    job: str
    number: int
    facts: dict[str, Any]


@dataclass(frozen=True)
class Finished:
    """All mixes lie in their files."""

    job: str


@dataclass(frozen=True)
class Stopped:
    """The job was cancelled, and nothing more is done for it."""

    job: str


@dataclass(frozen=True)
class Failed:
    """error: one line; doing the job again would end the same way."""

    job: str
    error: str


@dataclass(frozen=True)
class Lost:
    """The worker that did the job has died, or was ended; another may do it."""

    job: str
    why: str


Report: TypeAlias = Progress | MixDone | Finished | Stopped | Failed | Lost
LAST_REPORTS = (Finished, Stopped, Failed, Lost)  # exactly one of these ends an order


class Executor(Protocol):
    """`start` returns at once; `ready` once a worker has its model. slots: orders that it takes at the same time.

    submit: never more than `slots` that have had none of the last reports; `report` is called from any thread.
    cancel: of an order that runs; one that has ended, or never was, is none of its business. stop: waits up to grace_s
    for what runs, then ends the workers; each order that has not ended by then has been reported Lost.
    """

    slots: int

    @property
    def ready(self) -> bool: ...

    def start(self) -> None: ...

    def submit(self, order: JobOrder, report: Callable[[Report], None]) -> None: ...

    def cancel(self, job: str) -> None: ...

    def stop(self, grace_s: float) -> None: ...
