"""What the service is asked for, from the options of `restyler remote`, which are those of `restyler sample`."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from typing import Any

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
            found[RENAMED.get(name, name)] = dict(value) if name == "control" else value
    return found


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
