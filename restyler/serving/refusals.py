"""Why a request is refused, as routes answer it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus


class RefusedError(Exception):
    """status: 400 … 507. line: one clear line. field: of the request, that is to blame. retry_after_s: whole seconds,
    for what passes by itself. reason: a word for the counts of refusals, by default the status' own."""

    def __init__(
        self,
        status: int,
        line: str,
        *,
        field: str | None = None,
        retry_after_s: int | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(line)
        self.status, self.line, self.field, self.retry_after_s = status, line, field, retry_after_s
        self.reason = reason or HTTPStatus(status).phrase.lower().replace(" ", "_")


def not_found(what: str) -> RefusedError:
    """The same for what belongs to somebody else as for what never was."""
    return RefusedError(404, f"no such {what}")


def in_fields(line: str, names: Mapping[str, str], paths: Mapping[str, str]) -> str:
    """A line about a command's options as one about the fields of a job.

    names: of options (without --) and the fields that they are. paths: files of the service, and what to call them.
    """
    for path in sorted(paths, key=len, reverse=True):
        line = line.replace(path, paths[path])
    for name in sorted(names, key=len, reverse=True):
        line = line.replace(f"--{name}", names[name])
    return line.removeprefix("argument ").replace(" (see restyler sample --help)", "")


def field_in(line: str, names: Mapping[str, str]) -> str | None:
    """The field that a line names first, by one of its names; None where it names none."""
    words = [word.strip(".,:;()") for word in line.split()]
    return next((names[word] for word in words if word in names), None)
