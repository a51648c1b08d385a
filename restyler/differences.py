"""How two trees of JSON differ, told so that a person sees what to undo."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def differences(before: Any, now: Any, key: str = "") -> dict[str, str]:
    """What differs between two trees of JSON: {"optim.lr": "0.003 → 1.0"}. A key that is not there counts as null.

    Of lists of objects only those that differ are told.
    """
    if isinstance(before, dict) and isinstance(now, dict):
        names = sorted(before.keys() | now.keys())
        pairs = [(f"{key}.{name}" if key else name, before.get(name), now.get(name)) for name in names]
        return {path: text for path, one, other in pairs for path, text in differences(one, other, path).items()}
    if _objects(before) and _objects(now):
        if len(before) == len(now):
            pairs = [(f"{key}[{at}]", one, other) for at, (one, other) in enumerate(zip(before, now, strict=True))]
            return {path: text for path, one, other in pairs for path, text in differences(one, other, path).items()}
        gone, new = list(before), []
        for item in now:
            gone.remove(item) if item in gone else new.append(item)
        return {key: ", ".join([f"without {item}" for item in gone] + [f"with {item}" for item in new])}
    return {} if before == now else {key: f"{before!r} → {now!r}"}


def covered(key: str, allowed: Collection[str]) -> bool:
    """Whether a key of `differences` is one of these, or lies below one."""
    return any(key == one or key.startswith((f"{one}.", f"{one}[")) for one in allowed)


def _objects(tree: Any) -> bool:
    return isinstance(tree, list) and bool(tree) and all(isinstance(item, dict) for item in tree)
