"""What can be wrong with a server, a key and an answer, as errors of one line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from audio.errors import InputError
from restyler.command import one_line, shown

if TYPE_CHECKING:
    import httpx

LONGEST_KEY = 512
LONGEST_REASON = 500


class RefusedError(InputError):
    """What the server refused, in its own words.

    status: of HTTP. field: what of the request is meant, where it says so. retry_after_s: when a busy server is to be
    asked again.
    """

    def __init__(self, reason: str, *, status: int, field: str | None = None, retry_after_s: float | None = None):
        super().__init__(reason)
        self.status, self.field, self.retry_after_s = status, field, retry_after_s


class UnreachableError(InputError):
    """No answer, or one that broke off. nothing_sent: the server can't have done anything yet."""

    def __init__(self, reason: str, *, nothing_sent: bool = False) -> None:
        super().__init__(reason)
        self.nothing_sent = nothing_sent


def import_httpx() -> ModuleType:
    """Raises InputError where the extra is not installed."""
    try:
        import httpx
    except ImportError:
        raise InputError('a client of the service needs httpx: pip install "vocal-restyler[remote]"') from None
    return httpx


def require_server(url: str) -> str:
    """The URL of a service without a / at its end. Raises InputError for anything else, and says nothing of a key that
    may stand in it."""
    wanted = "a server is named like http://127.0.0.1:8765 or https://example.org/restyler"
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise InputError(wanted) from None
    if parts.username is not None or parts.query or "#" in url:
        raise InputError(f"{wanted}, without a key: that comes from a file or the environment")
    if not known or not url.isprintable() or " " in url:
        raise InputError(f"{wanted}, not {shown(url)}")
    return url.rstrip("/")


def require_key(key: str) -> str:
    """Raises InputError, without the key, for what can't be one."""
    if not key or len(key) > LONGEST_KEY or not all("!" <= sign <= "~" for sign in key):
        raise InputError("a key is one word of plain letters, digits and signs, as `restyler keys` prints it")
    return key


def refusal(answer: httpx.Response) -> RefusedError:
    """The error of an answer that has been read."""
    reason, field = f"{answer.status_code} {answer.reason_phrase}", None
    try:
        said = answer.json()
        if isinstance(said, dict) and isinstance(said.get("error"), str):
            reason = one_line(Exception(said["error"]))[:LONGEST_REASON]
            field = said["field"] if isinstance(said.get("field"), str) else None
    except ValueError:
        pass  # no JSON: not the service itself, but something before it
    whole = f"{answer.url.host}: {shown(reason)}" + (f" ({shown(field)})" if field and field not in reason else "")
    return RefusedError(whole, status=answer.status_code, field=field, retry_after_s=_retry_after_s(answer))


def _retry_after_s(answer: httpx.Response) -> float | None:
    """The header's seconds; None where it is absent or a date, which the service never sends."""
    try:
        seconds = float(answer.headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


@contextmanager
def transport_error(server: str) -> Iterator[None]:
    """Around calls of httpx: its errors become `UnreachableError`."""
    import httpx

    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise UnreachableError(f"{server}: cannot be reached: {_reason(error)}", nothing_sent=True) from error
    except (httpx.TransportError, httpx.StreamError, httpx.DecodingError) as error:
        raise UnreachableError(f"{server}: the connection broke off: {_reason(error)}") from error
    except httpx.InvalidURL as error:
        raise InputError(f"{server}: no address: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return shown(one_line(error) or type(error).__name__)
