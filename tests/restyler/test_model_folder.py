"""Folders of models that are damaged, of another version, or don't fit together: refused in one clear line."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from audio.errors import InputError
from restyler.cli import main
from restyler.model_folder import FORMAT, check_manifest, write_manifest
from restyler.pipeline import VocalRestylePipeline

Run = Callable[..., int]


def flip_one_bit(model: Path) -> str:
    file = next((model / "denoiser").glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    return f"denoiser/{file.name}"


def replace_by_pointer(model: Path) -> str:
    file = next((model / "codec").glob("*.safetensors"))
    file.write_text("version https://git-lfs.github.com/spec/v1\n")
    return "bytes"


def enlarge(model: Path) -> str:
    with (model / "codec" / "config.json").open("r+b") as file:
        file.truncate(1 << 40)  # sparse: reading it would take minutes
    return str(1 << 40)


def remove(model: Path) -> str:
    (model / "scheduler" / "scheduler_config.json").unlink()
    return "scheduler/scheduler_config.json is missing"


def add_code(model: Path) -> str:
    (model / "codec" / "codec.pocket.py").write_text("raise SystemExit")
    return "codec.pocket.py"


def remove_manifest(model: Path) -> str:
    (model / "manifest.json").unlink()
    return "no manifest.json"


def break_manifest(model: Path) -> str:
    (model / "manifest.json").write_text(json.dumps({"format": FORMAT, "files": {"model_index.json": 3}}))
    return "damaged"


def older_manifest(model: Path) -> str:
    text = (model / "manifest.json").read_text()
    (model / "manifest.json").write_text(text.replace(f'"format": {FORMAT}', f'"format": {FORMAT - 1}'))
    return f"another version: its format is {FORMAT - 1}"


@pytest.mark.parametrize(
    "harm",
    [
        flip_one_bit, replace_by_pointer, enlarge, remove, add_code, remove_manifest, break_manifest, older_manifest
    ],
)  # fmt: skip
def test_a_harmed_folder_is_refused(model: Path, tmp_path: Path, harm: Callable[[Path], str]) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    check_manifest(folder)
    message = harm(folder)
    with pytest.raises(InputError) as refusal:
        VocalRestylePipeline.from_pretrained(folder)
    assert message in str(refusal.value)
    assert str(folder) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_model_card_can_be_added_and_hidden_files_are_nobodys_business(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    (folder / "README.md").write_text("# A model")
    (folder / ".DS_Store").write_bytes(b"\0")
    write_manifest(folder)
    check_manifest(folder)
    assert "README.md" in json.loads((folder / "manifest.json").read_text())["files"]
    assert ".DS_Store" not in json.loads((folder / "manifest.json").read_text())["files"]


# -- whole by its manifest, but no model


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    file = next(folder.glob("*.safetensors"))
    weights = load_file(file)
    change(weights)
    save_file(weights, file)


INCONSISTENT: dict[str, Callable[[Path], object]] = {
    "cut index": lambda model: (model / "model_index.json").write_text("{"),
    "index of something else": lambda model: (model / "model_index.json").write_text("[]"),
    "no sampling": lambda model: edit(model / "model_index.json", lambda index: index.pop("sampling")),
    "no steps": lambda model: edit(model / "model_index.json", lambda index: index["sampling"].update(steps=0)),
    "no such class": lambda model: edit(
        model / "model_index.json", lambda index: index.update(codec=["os", "Nothing"])
    ),
    "other width": lambda model: edit(model / "denoiser" / "config.json", lambda config: config.update(width=64)),
    "other depth": lambda model: edit(model / "denoiser" / "config.json", lambda config: config.update(depth=2)),
    "no latent_dim": lambda model: edit(model / "denoiser" / "config.json", lambda config: config.pop("latent_dim")),
    "other codec": lambda model: edit(model / "denoiser" / "config.json", lambda c: c.update(codec_fingerprint="0")),
    "other shape": lambda model: change_weights(model / "denoiser", lambda w: w.update({"skip.bias": torch.zeros(3)})),
    "a tensor less": lambda model: change_weights(model / "denoiser", lambda weights: weights.pop("skip.bias")),
    "a tensor more": lambda model: change_weights(model / "denoiser", lambda w: w.update({"more": torch.zeros(3)})),
    "no weights": lambda model: next((model / "codec").glob("*.safetensors")).write_bytes(b"nothing of the kind"),
}


@pytest.mark.parametrize("change", INCONSISTENT.values(), ids=INCONSISTENT)
def test_a_model_that_does_not_fit_together_is_one_clear_line(
    model: Path, sample: Run, vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], object],
) -> None:  # fmt: skip
    folder = tmp_path / "inconsistent"
    shutil.copytree(model, folder)
    change(folder)
    write_manifest(folder)
    assert sample(vocal_file("take.wav"), "--model", folder) == 2
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    assert line.startswith(f"error: {folder}: ")
    assert out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("config", ["{", "[]", "{}"])
def test_styles_of_a_model_that_does_not_fit_together(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], config: str
) -> None:
    folder = tmp_path / "inconsistent"
    shutil.copytree(model, folder)
    (folder / "conditioner" / "config.json").write_text(config)
    write_manifest(folder)
    assert main(["styles", "--model", str(folder)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert str(folder) in line


def test_a_folder_whose_name_is_no_utf8_is_one_clear_line(
    model: Path, sample: Run, vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(model, folder)
    assert sample(vocal_file("take.wav"), "--model", folder) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "caf\\udce9" in line and "UTF-8" in line


@pytest.mark.parametrize("mode", [0o000, 0o444], ids=oct)
def test_what_may_not_be_read_is_not_called_missing(model: Path, mode: int) -> None:
    with tempfile.TemporaryDirectory() as name:  # not tmp_path: only its owner may enter that
        folder = Path(name) / "model"
        shutil.copytree(model, folder)
        for place in (folder.parent, folder, *(path for path in folder.rglob("*") if path.is_dir())):
            place.chmod(0o755)
        (folder / "denoiser").chmod(mode)
        root = os.geteuid() == 0
        if root:  # root may read everything
            os.seteuid(65534)
        try:
            with pytest.raises(InputError, match=r"denoiser.*: cannot be read: Permission denied"):
                check_manifest(folder)
        finally:
            if root:
                os.seteuid(0)
            (folder / "denoiser").chmod(0o755)
