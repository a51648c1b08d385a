"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audio.errors import InputError
from restyler.command import shown
from restyler.takes import made_folders


def require_free(out: Path) -> None:
    """Raises InputError where `out` is anything but absent or an empty folder."""
    try:
        if os.path.lexists(out) and not (out.is_dir() and not out.is_symlink() and not any(out.iterdir())):
            raise InputError(f"{shown(out)}: already exists and is no empty folder; choose another one")
    except OSError as error:
        raise InputError(f"{shown(out)}: cannot be read: {error.strerror}") from None


def require_outside(out: Path, model: Path) -> None:
    """Raises InputError where `out` would lie in the folder of a model, which takes no file that isn't its own."""
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(model)):
        raise InputError(f"{shown(out)}: lies in the model {shown(model)}, which it would damage; choose another one")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """An empty hidden folder beside `out` to write into; it gets the name `out` in the end, and is gone where the block
    raises. Parent folders are made.

    Raises InputError where `out` is not free (`require_free`) or nothing can be written there.
    """
    require_free(out)
    out = Path(os.path.abspath(out))  # noqa: PTH100  (of `.` or `x/..`, no name could be had)
    with made_folders([out.parent]):
        fresh = out.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            fresh.mkdir()
            yield fresh
            fresh.rename(out)
        except OSError as error:
            raise InputError(f"{shown(out)}: cannot be written: {error.strerror}") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
