"""Whole exports, as `restyler export onnx` writes them: run in ONNX Runtime on real takes, odd lengths and batches, and
sampled from without PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
import torch

from audio.io import read
from audio.loudness import match_loudness
from audio.waveform import Waveform
from diffusion.sampling import make_scheduler
from restyler.bench_onnx import measured
from restyler.cli import main
from restyler.exporting.facts import grids
from restyler.exporting.graphs import graphs
from restyler.exporting.onnx_graphs import session
from restyler.model_folder import BUNDLED
from restyler.noise import noise
from restyler.pipeline import VocalRestylePipeline

pytestmark = pytest.mark.slow  # an export takes most of a minute
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "onnx_sample.py"
ELSEWHERE = ("torch", "audio", "codec", "conditioning", "diffusion", "restyler", "scipy")
RATE = 48_000


def exported(model: Path, out: Path) -> Path:
    assert main(["export", "onnx", "--model", str(model), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def small(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(model, tmp_path_factory.mktemp("small") / "onnx")


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(BUNDLED, tmp_path_factory.mktemp("bundled") / "onnx")


@pytest.fixture(scope="module")
def saved(model: Path) -> VocalRestylePipeline:
    """What lies in the folder: in half precision, unlike the one that was saved."""
    return VocalRestylePipeline.from_pretrained(model)


@pytest.fixture(scope="module")
def takes(shared_data: Path) -> list[Waveform]:
    found = sorted((shared_data / "research" / "gtsinger").rglob("*.flac"))
    if len(found) < 3:
        pytest.skip("needs the takes of research/gtsinger")
    return [read(found[number * len(found) // 3]).resampled(RATE) for number in range(3)]


def without_pytorch(*arguments: str | Path) -> CompletedProcess[str]:
    """The example in a Python that can import neither PyTorch nor this project."""
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({ELSEWHERE})); sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    words = [sys.executable, "-c", code, EXAMPLE, *arguments]
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=300)


def apart_db(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(np.square(one - other).mean() / np.square(other).mean()))


def as_by_the_pipeline(
    pipeline: VocalRestylePipeline, folder: Path, take: Waveform, place: Path, *words: str, **told: Any
) -> float:
    """How far the example's mix lies from the pipeline's, in dB, both of one noise and as loud as the take."""
    soundfile.write(place / "take.wav", take.samples.T.numpy(), RATE, subtype="FLOAT")
    frames = pipeline.codec.frames(take.samples.shape[1])
    np.save(place / "noise.npy", noise(5, (pipeline.codec.latent_dim, frames)).numpy())
    mix = place / "mix.wav"
    done = without_pytorch(folder, place / "take.wav", mix, "--noise", place / "noise.npy", "--threads", "1", *words)
    assert done.returncode == 0, done.stderr
    assert "held" not in done.stdout
    (wanted,) = pipeline(take, seeds=[5], spread=0.0, **told)
    encoded = pipeline.encoded(take)
    loud = Waveform(wanted * encoded.gain, RATE)  # as the example measures it: in what is quieter, gates would cut
    wanted = match_loudness(loud, encoded.loudness_lufs).waveform.samples.numpy()
    found, rate = soundfile.read(mix, dtype="float32", always_2d=True)
    assert rate == RATE and soundfile.info(mix).subtype == "PCM_24" and found.T.shape == wanted.shape
    return apart_db(found.T, wanted)


# -- the graphs


def test_an_export_is_complete_and_says_what_it_is(small: Path, saved: VocalRestylePipeline) -> None:
    told = json.loads((small / "facts.json").read_text())
    assert {path.name for path in small.iterdir()} == {"facts.json", *(f"{name}.onnx" for name in told["graphs"])}
    for graph in graphs(saved):
        onnx.checker.check_model(str(small / f"{graph.name}.onnx"), full_check=True)
        ports = session(small / f"{graph.name}.onnx", threads=1).get_inputs()
        said = told["graphs"][graph.name]["inputs"]
        assert {port.name: port.shape for port in ports} == {name: port["axes"] for name, port in said.items()}
        apart = told["graphs"][graph.name]
        assert 0 < apart["largest_difference_from_pytorch"] < 1e-5 * apart["of_values_up_to"]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("frames", [1, 2, 37, 500, 1_061])
@torch.no_grad()
def test_every_graph_is_the_models_for_odd_lengths(
    bundled: Path, small: Path, saved: VocalRestylePipeline, frames: int, batch: int
) -> None:
    for folder, model in ((small, saved), (bundled, VocalRestylePipeline.from_pretrained(BUNDLED))):
        sizes = {"batch": batch, "frames": frames, "samples": 320 * frames - 7}
        for graph in graphs(model):
            drawn = graph.drawn(sizes, torch.Generator().manual_seed(frames))
            wanted = graph.module(**drawn).numpy()
            arrays = {name: tensor.numpy() for name, tensor in drawn.items()}
            (found,) = session(folder / f"{graph.name}.onnx", threads=1).run(None, arrays)
            assert found.shape == wanted.shape
            assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max(), graph.name


@torch.no_grad()
def test_real_takes_in_a_batch_go_there_and_back_as_in_pytorch(bundled: Path, takes: list[Waveform]) -> None:
    pipeline = VocalRestylePipeline.from_pretrained(BUNDLED)
    shortest = min(take.samples.shape[1] for take in takes) - 11
    batch = torch.stack([take.stereo().samples[:, :shortest] for take in takes])
    encoder, decoder = (session(bundled / f"{name}.onnx", threads=1) for name in ("encoder", "decoder"))
    (latents,) = encoder.run(None, {"waveform": batch.numpy()})
    wanted = pipeline.codec.encode(batch)
    assert apart_db(latents, wanted.numpy()) < -100
    (audio,) = decoder.run(None, {"latents": latents})
    assert apart_db(audio[..., :shortest], pipeline.codec.decode(wanted, samples=shortest).numpy()) < -100


@torch.no_grad()
def test_silence_stays_silence(bundled: Path) -> None:
    """Floors of 10⁻⁹ and less keep it finite: too little for the exporter's optimiser to leave them in."""
    codec = VocalRestylePipeline.from_pretrained(BUNDLED).codec
    encoder, decoder = (session(bundled / f"{name}.onnx", threads=1) for name in ("encoder", "decoder"))
    silence = np.zeros((1, 2, 32_000), np.float32)
    (latents,) = encoder.run(None, {"waveform": silence})
    assert apart_db(latents, codec.encode(torch.from_numpy(silence)).numpy()) < -100
    (audio,) = decoder.run(None, {"latents": latents})
    assert np.abs(audio).max() < 1e-4


# -- sampled without PyTorch


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], {}),
        (
            ["--steps", "3", "--style", "warm plate", "--guidance", "2.5"],
            {"steps": 3, "style": "warm plate", "guidance": 2.5},
        ),
        (["--control", "width_db=4", "--sigma", "0.3"], {"controls": {"width_db": 4.0}, "sigma": 0.3}),
    ],
    ids=["untold", "style", "control"],
)
def test_the_example_makes_the_pipelines_mix_window_by_window(
    small: Path, saved: VocalRestylePipeline, vocal: Callable[..., Waveform], tmp_path: Path, words: list[str],
    told: dict[str, Any],
) -> None:  # fmt: skip
    quiet = Waveform(vocal(13.3, RATE, channels=2).samples * 0.1, RATE)  # of several windows, of the codec's too
    assert as_by_the_pipeline(saved, small, quiet, tmp_path, *words, **told) < -80


def test_the_example_goes_by_heun_where_the_model_does(
    small: Path, saved: VocalRestylePipeline, vocal: Callable[..., Waveform], tmp_path: Path
) -> None:
    scheduler = make_scheduler("heun")
    heun = VocalRestylePipeline(**saved.components | {"scheduler": scheduler}, sampling=saved.config.sampling)
    folder = tmp_path / "onnx"
    folder.mkdir()
    for file in small.glob("*.onnx"):
        (folder / file.name).symlink_to(file)
    told = json.loads((small / "facts.json").read_text()) | {"solver": "heun", "grids": grids(scheduler, 2)}
    (folder / "facts.json").write_text(json.dumps(told))
    quiet = Waveform(vocal(1.3, RATE).samples * 0.1, RATE)
    assert as_by_the_pipeline(heun, folder, quiet, tmp_path, "--steps", "4", steps=4) < -80
    assert as_by_the_pipeline(heun, small, quiet, tmp_path, "--steps", "4", steps=4) > -60  # by Euler it is another


def test_real_takes_by_the_bundled_model(bundled: Path, takes: list[Waveform], tmp_path: Path) -> None:
    pipeline = VocalRestylePipeline.from_pretrained(BUNDLED)
    soundfile.write(tmp_path / "reference.wav", takes[2].samples.T.numpy(), RATE, subtype="FLOAT")
    style = ["--style", "dark_dense", "--control", "brightness_db=6"]
    for take in takes[:2]:
        quiet = Waveform(take.samples * 0.1, RATE)
        told = {"style": "dark_dense", "controls": {"brightness_db": 6.0}}
        assert as_by_the_pipeline(pipeline, bundled, quiet, tmp_path, *style, **told) < -80
    reference = ["--reference", str(tmp_path / "reference.wav")]
    assert as_by_the_pipeline(pipeline, bundled, quiet, tmp_path, *reference, reference=takes[2]) < -80


REFUSED = {
    "unknown style 'rock' (allowed: dry booth, warm plate, wide hall)": ["--style", "rock"],
    "'width_db=much' is not NAME=NUMBER of a control": ["--control", "width_db=much"],
    "width_db: -7 to 9 is possible, not 10": ["--control", "width_db=10"],
    "--steps is one of 1, 2, 3": ["--steps", "5"],
    "--sigma is from 0 to 2": ["--sigma", "2.1"],
    "--guidance is from 0 to 20": ["--guidance", "-1"],
    "nothing.wav: cannot be read": ["--reference", "nothing.wav"],
    "nothing.npy: cannot be read": ["--noise", "nothing.npy"],
    "noise.npy: an array [128, 75] of finite real numbers is needed": ["--noise", "noise.npy"],
}


@pytest.mark.parametrize("said", REFUSED)
def test_the_example_refuses_in_one_line(
    small: Path, vocal: Callable[..., Waveform], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write("take.wav", vocal(0.5, RATE).samples.T.numpy(), RATE)
    np.save("noise.npy", np.full((128, 75), np.nan))
    done = without_pytorch(small, "take.wav", "mix.wav", *REFUSED[said])
    [line] = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith(f"error: {said}"), line
    assert {path.name for path in tmp_path.iterdir()} == {"take.wav", "noise.npy"}


def test_the_seed_decides_the_noise(small: Path, vocal: Callable[..., Waveform], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "take.wav", 0.1 * vocal(0.5, RATE).samples.T.numpy(), RATE)
    mixes = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        done = without_pytorch(small, tmp_path / "take.wav", tmp_path / f"{name}.wav", "--seed", seed)
        assert done.returncode == 0, done.stderr
        mixes.append(soundfile.read(tmp_path / f"{name}.wav")[0])
    assert np.array_equal(mixes[0], mixes[1])
    assert apart_db(mixes[2], mixes[0]) > -60


def test_both_are_timed_on_the_same_work(saved: VocalRestylePipeline) -> None:
    rows = list(measured(saved, 1, (1, 2)))
    assert [(row.graph, row.batch) for row in rows] == [
        (graph.name, batch) for graph in graphs(saved) for batch in (1, 2)
    ]
    assert all(row.pytorch_s > 0 and row.runtime_s > 0 for row in rows)
