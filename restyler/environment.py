"""What a run ran on, so that its figures can be made again: code, packages, devices. Nothing about whose they are."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("vocal-restyler", "torch", "torchaudio", "diffusers", "accelerate", "encodec", "numpy")
GIT_TIMEOUT_S = 30.0


def environment(device: torch.device) -> dict[str, Any]:
    """As JSON has it; no host, no user, no path.

    revision: of the git checkout that the code lies in, dirty: whether its files differ from that; None without one.
    devices: of the device's kind, as this process sees them.
    """
    revision, dirty = _checkout(Path(__file__).resolve())
    on_gpu = device.type == "cuda"
    return {
        "revision": revision,
        "dirty": dirty,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "devices": [_gpu(number) for number in range(torch.cuda.device_count())] if on_gpu else [],
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
    }


def _gpu(number: int) -> dict[str, Any]:
    facts = torch.cuda.get_device_properties(number)
    return {"name": facts.name, "memory_gib": round(facts.total_memory / 2**30, 1)}


def _version(name: str) -> str | None:
    if name == "torch":
        return str(torch.__version__)  # tells the CUDA it was built for too
    try:
        return version(name)
    except PackageNotFoundError:  # code that is run without having been installed
        return None


def _checkout(file: Path) -> tuple[str | None, bool | None]:
    """Revision and dirtiness of the checkout that tracks `file`.

    A file that merely lies in some repository, as an environment in another project's folder does, is not its code.
    """
    if _git(file, "ls-files", "--error-unmatch", file.name) is None:
        return None, None
    revision, changes = _git(file, "rev-parse", "HEAD"), _git(file, "status", "--porcelain", "--untracked-files=no")
    return revision, None if revision is None or changes is None else bool(changes)


def _git(file: Path, *arguments: str) -> str | None:
    """What git says in the folder of `file`; None where it fails, hangs or is not there."""
    # GIT_DIR and the like are set inside hooks, and would make git speak of another repository.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(file.parent), *arguments],
            env=variables,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
