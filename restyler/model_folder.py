"""The folder of a saved model: a manifest that says which files belong to it, and how they are checked."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from audio.errors import InputError

MANIFEST = "manifest.json"
FORMAT = 1
BUNDLED = Path(__file__).parent / "bundled" / "pocket"


def write_manifest(folder: Path) -> None:
    """Write manifest.json: size and SHA-256 of every file under `folder`, hidden ones apart.

    Call it again after adding a file such as a model card: a file that is not listed is refused at load.
    """
    files = {name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for name, path in _files(folder).items()}
    text = json.dumps({"format": FORMAT, "files": files}, indent=2, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def check_manifest(folder: Path) -> None:
    """Check a model folder against its manifest before anything in it is read.

    It finds damage (a cut download, a large-file pointer, a mixture of two models), it is no signature. Sizes are
    compared first, so a file that is far too large is never read.

    Raises InputError with one line: no folder, no manifest, another format, a file that is missing, altered or not
    listed.
    """
    if not os.path.isdir(folder):  # noqa: PTH112  (Path.is_dir raises for a name that is too long)
        raise InputError(f"{folder}: not a model folder (no such folder)")
    listed = _listed(folder)
    present = _files(folder)
    for name in sorted(listed.keys() | present.keys()):
        if name not in present:
            raise InputError(f"{folder}: the model is incomplete: {name} is missing")
        if name not in listed:
            raise InputError(f"{folder}: {name} does not belong to this model (not listed in {MANIFEST})")
        expected, size = listed[name], present[name].stat().st_size
        if size != expected["bytes"]:
            raise InputError(f"{folder}: the model is damaged: {name} has {size} bytes instead of {expected['bytes']}")
        if _sha256(present[name]) != expected["sha256"]:
            raise InputError(f"{folder}: the model is damaged: {name} differs from its SHA-256 in {MANIFEST}")


def _listed(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder}: not a model folder (no {MANIFEST} in it)") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a manifest: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{path}: not a manifest of format {FORMAT}")
    listed = manifest.get("files")
    well_formed = isinstance(listed, dict) and all(
        isinstance(entry, dict) and entry.keys() == {"bytes", "sha256"} for entry in listed.values()
    )
    if not isinstance(listed, dict) or not well_formed:
        raise InputError(f"{path}: its list of files is damaged")
    return listed


def _files(folder: Path) -> dict[str, Path]:
    """Regular files below `folder` by relative name; hidden ones (.DS_Store and the like) and the manifest left out."""
    relative = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {
        name.as_posix(): path
        for name, path in relative.items()
        if name != Path(MANIFEST) and not any(part.startswith(".") for part in name.parts)
    }


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
