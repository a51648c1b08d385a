"""One JSON line on stderr for each thing that happens; never a key, a name, an address of a caller, or audio."""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime
from typing import Any


def log(event: str, **facts: Any) -> None:
    """facts: what may be read by whoever reads logs."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    print(json.dumps({"at": now, "event": event} | facts), file=sys.stderr, flush=True)


def owner_digest(owner: str | None) -> str | None:
    """Tells owners apart without saying who they are."""
    return None if owner is None else hashlib.sha256(owner.encode("utf-8", "surrogatepass")).hexdigest()[:12]
