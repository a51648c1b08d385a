"""What the service is asked for, from the options of `restyler remote`, which are those of `restyler sample`."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from audio.errors import InputError
from restyler.command import shown
from restyler.sample_plan import CHAINS, LONGEST_CHAIN

LOCAL = frozenset({"takes", "out", "overwrite"})  # files here, which the service never hears of
UPLOADED = frozenset({"reference", "like"})  # files that stand in the request by their ids there
RENAMED = {"peak": "peak_dbtp", "control": "controls"}


def wishes(options: argparse.Namespace, names: Collection[str], parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The part of a request that comes from options alone: those that say something else than their default, and no
    others, so that the service fills in its model's defaults as `restyler sample` does.

    names: of all options that `restyler sample` shares with `parser`.
    """
    found = dict[str, Any]()
    for name in sorted(set(names) - LOCAL - UPLOADED):
        value = getattr(options, name)
        if value != parser.get_default(name):
            found[RENAMED.get(name, name)] = _said(name, value)
    return found


def _said(name: str, value: Any) -> Any:
    """An option's value as the service takes it."""
    if name == "control":
        return dict(value)
    return chain_text(value) if name in CHAINS and isinstance(value, Path) else value


def chain_text(path: Path) -> dict[str, str]:
    """A file of an effect chain as the service takes it. Raises InputError for what is no text or too long."""
    try:
        with path.open("rb") as file:
            text = file.read(4 * LONGEST_CHAIN + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text, or too long"
        raise InputError(f"{shown(path)}: the chains can't be read: {reason}") from None
    if len(text) > LONGEST_CHAIN:
        raise InputError(f"{shown(path)}: a service takes chains of up to {LONGEST_CHAIN} signs, not {len(text)}")
    return {"yaml": text, "name": path.name}


def request(
    wished: Mapping[str, Any], *, take: str, references: Sequence[tuple[str, float]], like: tuple[str, int] | None
) -> dict[str, Any]:
    """The whole request. take: its id. references: ids of takes with their weights. like: a job's id and the number of
    a mix of it."""
    asked = {"take": take, **wished}
    if references:
        asked["reference"] = [{"take": reference, "weight": weight} for reference, weight in references]
    if like is not None:
        asked["like"] = {"job": like[0], "mix": like[1]}
    return asked
