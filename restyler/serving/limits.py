"""What the service takes from one caller; each field is an option of `restyler serve`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


def _limit(default: float, highest: float, what: str, *, lowest: float = 1) -> Any:
    return dataclasses.field(default=default, metadata={"help": what, "lowest": lowest, "highest": highest})


@dataclass(frozen=True)
class Limits:
    """Of takes, jobs and callers. A whole default is a whole number on the command line too."""

    bytes: int = _limit(200_000_000, 2**40, "of an uploaded take")
    duration_s: float = _limit(600.0, 86_400, "of a take, in seconds")
    samples: int = _limit(120_000_000, 2**36, "of a take once decoded, over all its channels", lowest=8000)
    variations: int = _limit(16, 100, "mixes of one job")
    queue: int = _limit(64, 1_000_000, "jobs that wait, of all callers together")
    in_flight: int = _limit(8, 1_000_000, "jobs of one key that wait or run")
    requests_a_minute: int = _limit(600, 1_000_000, "requests of one key")
    uploads: int = _limit(32, 100_000, "takes of one key that come in at once")
    streams: int = _limit(32, 100_000, "event streams of one key at once")
    stored_bytes: int = _limit(20_000_000_000, 2**50, "takes and mixes that are kept for one key")
    derived_bytes: int = _limit(2_000_000_000, 2**50, "files in other formats that are kept for all keys", lowest=0)
    age_days: float = _limit(30.0, 36_500, "days that takes and jobs are kept", lowest=0.001)
    upload_s: float = _limit(900.0, 86_400, "seconds for an upload to come in")
    pace_bytes_s: int = _limit(4096, 2**30, "least bytes a second of an upload, once it runs for ten seconds", lowest=0)
