"""The folder of a saved model: a manifest that says which files belong to it, and how they are checked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn

from audio.errors import InputError
from restyler.command import is_utf8, shown
from restyler.digests import sha256

MANIFEST = "manifest.json"
FORMAT = 2  # counts up when the weights of an older model no longer fit the code
BUNDLED = Path(__file__).parent / "bundled" / "pocket"


def write_manifest(folder: Path) -> None:
    """Write manifest.json: size and SHA-256 of every file under `folder`, hidden ones apart.

    Call it again after adding a file such as a model card: a file that is not listed is refused at load.
    """
    files = {name: {"bytes": _bytes(path), "sha256": sha256(path)} for name, path in _files(folder).items()}
    text = json.dumps({"format": FORMAT, "files": files}, indent=2, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def check_manifest(folder: Path) -> None:
    """Check a model folder against its manifest before anything in it is read.

    It finds damage (a cut download, a large-file pointer, a mixture of two models), it is no signature. Sizes are
    compared first, so a file that is far too large is never read.

    Raises InputError with one line: no folder, no manifest, another format, a file that is missing, altered, not
    listed or can't be read.
    """
    if not os.path.isdir(folder):  # noqa: PTH112  (Path.is_dir raises for a name that is too long)
        raise InputError(f"{shown(folder)}: not a model folder (no such folder)")
    if not is_utf8(str(folder)):
        raise InputError(f"{shown(folder)}: safetensors can't open a path that is no UTF-8; rename the folder")
    listed = _listed(folder)
    present = _files(folder)
    for name in sorted(listed.keys() | present.keys()):
        if name not in present:
            raise InputError(f"{shown(folder)}: the model is incomplete: {name} is missing")
        if name not in listed:
            raise InputError(f"{shown(folder)}: {name} does not belong to this model (not listed in {MANIFEST})")
        expected, size = listed[name], _bytes(present[name])
        if size != expected["bytes"]:
            raise InputError(
                f"{shown(folder)}: the model is damaged: {name} has {size} bytes instead of {expected['bytes']}"
            )
        if sha256(present[name]) != expected["sha256"]:
            raise InputError(f"{shown(folder)}: the model is damaged: {name} differs from its SHA-256 in {MANIFEST}")


def listed_files(folder: Path) -> list[str]:
    """Relative names of the files that belong to a model folder, the manifest apart. Raises InputError as
    `check_manifest` does."""
    check_manifest(folder)
    return sorted(_listed(folder))


def _listed(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{shown(folder)}: not a model folder (no {MANIFEST} in it)") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{shown(path)}: cannot be read as a manifest: {error}") from None
    if not isinstance(manifest, dict):
        raise InputError(f"{shown(path)}: not a manifest")
    if manifest.get("format") != FORMAT:
        raise InputError(
            f"{shown(folder)}: a model of another version: its format is {manifest.get('format')!r}, "
            f"this version of vocal-restyler reads {FORMAT}"
        )
    listed = manifest.get("files")
    well_formed = isinstance(listed, dict) and all(
        isinstance(entry, dict) and entry.keys() == {"bytes", "sha256"} for entry in listed.values()
    )
    if not isinstance(listed, dict) or not well_formed:
        raise InputError(f"{shown(path)}: its list of files is damaged")
    return listed


def check_weights(folder: Path, parts: Mapping[str, object]) -> None:
    """Check that the weights in `folder` are those of the loaded modules among `parts`, no fewer and no more.

    Raises InputError: what loaded in spite of that would be another model, or partly untrained.
    """
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            stored: set[str] = set()
            for file in (folder / name).glob("*.safetensors"):
                with safe_open(file, framework="pt") as weights:
                    stored |= set(weights.keys())
            other = sorted(stored ^ part.state_dict().keys())
            if other:
                raise InputError(f"{shown(folder)}: the weights of the {name} don't fit its config ({other[0]})")


def _files(folder: Path) -> dict[str, Path]:
    """Regular files below `folder` by relative name; hidden ones (.DS_Store and the like) and the manifest left out."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{shown(error.filename)}: cannot be read: {error.strerror}") from error

    found: dict[str, Path] = {}
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = [Path(place, name) for name in names if not name.startswith(".")]
        found |= {path.relative_to(folder).as_posix(): path for path in files}
    found.pop(MANIFEST, None)
    return found


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise InputError(f"{shown(path)}: cannot be read: {error.strerror}") from error
