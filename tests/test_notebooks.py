"""The notebook's own cells, run from top to bottom in a kernel, on a few seconds of sound."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from restyler.config import SyntheticData
from restyler.synthetic import synthetic_pairs

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "train_on_your_mixes.ipynb"
TINY = [
    "conditioner.embed_dim=64", "conditioner.reference_width=32", "denoiser.width=48", "denoiser.depth=1",
    "denoiser.heads=2", "training.steps=2", "training.batch_size=2", "training.crop_s=0.5", "training.reference_s=0.4",
    "training.workers=0", "training.save_every=2", "validation.every=2",
    "validation.examples=1", "validation.takes=1", "validation.take_s=1", "validation.seeds=2", "tracking.log_every=1",
]  # fmt: skip


def test_every_cell_runs_on_a_users_folders(tmp_path: Path) -> None:
    data = SyntheticData(kind="synthetic", takes=8, seconds=3.0, loudness_lufs=-18.0, cache=str(tmp_path / "cache"))
    for side in ("raw", "mix"):
        (tmp_path / side).mkdir()
    for pair in synthetic_pairs(data, seed=3, sample_rate=48_000):
        if pair.style == "bright":
            shutil.copy(pair.raw, tmp_path / "raw" / f"{pair.key}_raw.flac")
            shutil.copy(pair.mix, tmp_path / "mix" / f"{pair.key}_mix.flac")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    (settings,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    folders = {"RAW": "raw", "MIX": "mix", "SET": "set", "RUN": "run"}
    settings.source += "".join(f"\n{name} = {str(tmp_path / folder)!r}" for name, folder in folders.items())
    settings.source += f"\nREPOSITORY = {str(ROOT)!r}\nSTART = []\nSETTINGS = {TINY!r}"
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert (tmp_path / "set" / "report.html").exists()
    assert len(list((tmp_path / "run" / "mixes").rglob("mix_*.wav"))) == 4
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    kinds = [kind for output in shown for kind in output.get("data", {})]
    assert "image/svg+xml" in kinds and sum("Audio" in str(output.get("data", "")) for output in shown) >= 4


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
