"""The notebook's own cells, run from top to bottom in a kernel, on a few seconds of sound."""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient

from audio import io
from audio.effects import render
from audio.loudness import match_loudness
from audio.waveform import Waveform
from restyler.sing import random_take
from restyler.synthetic import CHAINS

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "train_on_your_mixes.ipynb"
TINY = [
    "conditioner.embed_dim=64", "conditioner.reference_width=32", "denoiser.width=48", "denoiser.depth=1",
    "denoiser.heads=2", "training.steps=2", "training.batch_size=2", "training.crop_s=0.5", "training.reference_s=0.4",
    "training.workers=0", "training.save_every=2", "validation.every=2",
    "validation.examples=1", "validation.takes=1", "validation.take_s=1", "validation.seeds=2", "tracking.log_every=1",
]  # fmt: skip


def test_every_cell_runs_on_a_users_folders(tmp_path: Path) -> None:
    for side in ("raw", "mix"):
        (tmp_path / side).mkdir()
    for number in range(4):  # by the hash of its name, the last is for validation
        sung = random_take(3.0, sample_rate=48_000, generator=np.random.default_rng([3, number]))
        take = Waveform(sung.samples[:, : 3 * 48_000], 48_000)
        for side, sound in (("raw", take), ("mix", render(CHAINS["bright"], take, seed=number))):
            levelled = match_loudness(sound, -18.0).waveform
            io.write(tmp_path / side / f"take_{number:03d}_{side}.flac", levelled, tags={})
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
