"""What the service counts, in Prometheus' text format (version 0.0.4); no owners, keys or names."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
COUNTERS = {
    "uploads": "Takes that were accepted.",
    "upload_bytes": "Bytes of takes that were accepted.",
    "mixes": "Mixes that were made.",
    "lost": "Times that a job lost its worker.",
    "refused": "Requests that were refused, by reason.",
    "requests": "Requests that were answered, by route, method and status.",
    "ended": "Jobs that ended, by state.",
}
GAUGES = {
    "jobs": "Jobs that are kept, by state.",
    "queue_length": "Jobs that wait.",
    "stored_bytes": "Takes and mixes on disk, with those that accepted jobs will make.",
    "ready": "Whether a worker has its model.",
}
Labels = tuple[tuple[str, str], ...]


class Metrics:
    """From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[Labels]] = {name: Counter() for name in COUNTERS}
        self._durations_s: Counter[float] = Counter()
        self._seconds, self._jobs = 0.0, 0
        for name in ("uploads", "upload_bytes", "mixes", "lost"):
            self._counts[name][()] = 0

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        with self._lock:
            self._counts[name][tuple(sorted(labels.items()))] += amount  # type: ignore[assignment]

    def job_ended(self, state: str, seconds: float) -> None:
        """seconds: since it first ran."""
        self.add("ended", state=state)
        with self._lock:
            self._jobs, self._seconds = self._jobs + 1, self._seconds + seconds
            for bound in BUCKETS_S:
                self._durations_s[bound] += seconds <= bound

    def text(self, gauges: Mapping[str, Mapping[Labels, float]]) -> str:
        """gauges: the values of GAUGES by their labels."""
        lines = []
        with self._lock:
            for name, what in COUNTERS.items():
                lines += _family(f"restyler_{name}_total", "counter", what, self._counts[name])
            lines += _heading("restyler_job_seconds", "histogram", "From the start of a job to its end.")
            for bound in BUCKETS_S:
                lines.append(f'restyler_job_seconds_bucket{{le="{bound!r}"}} {self._durations_s[bound]}')
            lines.append(f'restyler_job_seconds_bucket{{le="+Inf"}} {self._jobs}')
            lines.append(f"restyler_job_seconds_sum {self._seconds!r}")
            lines.append(f"restyler_job_seconds_count {self._jobs}")
        for name, what in GAUGES.items():
            lines += _family(f"restyler_{name}", "gauge", what, gauges[name])
        return "\n".join(lines) + "\n"


def _heading(name: str, kind: str, what: str) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]


def _family(name: str, kind: str, what: str, values: Mapping[Labels, float]) -> list[str]:
    lines = _heading(name, kind, what)
    for labels, value in sorted(values.items()):
        said = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
        lines.append(f"{name}{{{said}}} {value}" if said else f"{name} {value}")
    return lines


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
