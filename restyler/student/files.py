"""A student as a folder: config.json, student.safetensors and the manifest that tells whether they are whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from audio.errors import InputError
from restyler.command import shown
from restyler.model_folder import check_manifest, write_manifest
from restyler.student.network import StudentNetwork

CONFIG, WEIGHTS, KIND = "config.json", "student.safetensors", "student"
BUNDLED_STUDENT = Path(__file__).parents[1] / "bundled" / "student"


@dataclass(frozen=True)
class Student:
    """styles: in the order of the style knob. teacher: name and hash of the model whose mixes it learned from."""

    network: StudentNetwork
    sizes: dict[str, int]
    styles: list[str]
    teacher: str


def save_student(folder: Path, student: Student, *, dtype: torch.dtype = torch.float32) -> None:
    """Writes all of the folder's files; dtype: of the weights in the file."""
    weights = {
        name: weight.detach().to("cpu", dtype).contiguous() for name, weight in student.network.state_dict().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    config = {"kind": KIND, "sizes": student.sizes, "styles": student.styles, "teacher": student.teacher}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    save_file(weights, folder / WEIGHTS)
    (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)  # safetensors makes it readable by its owner alone
    write_manifest(folder)


def load_student(folder: Path) -> Student:
    """As float32 on the CPU, for inference. Raises InputError for a folder that is no student, or a damaged one."""
    check_manifest(folder)
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if config["kind"] != KIND:
            raise ValueError(f"kind {config['kind']!r}")
        sizes, styles, teacher = dict(config["sizes"]), list(config["styles"]), str(config["teacher"])
        network = build_student(sizes, styles)
        weights = {name: weight.float() for name, weight in load_file(folder / WEIGHTS).items()}
        network.load_state_dict(weights)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(f"{shown(folder)}: not a student that this version reads: {reason}") from None
    network.eval().requires_grad_(False)
    return Student(network, sizes, styles, teacher)


def is_student(folder: Path) -> bool:
    """Whether the folder is meant to be a student, by its config; it may be damaged all the same."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("kind") == KIND


def build_student(sizes: dict[str, int], styles: Sequence[str]) -> StudentNetwork:
    return StudentNetwork(styles=max(1, len(styles)), **sizes)
