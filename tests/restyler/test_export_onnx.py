"""ONNX graphs: they compute what the model computes, say what they are, and an export is whole or not there."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyloudnorm
import pytest
import torch

from audio.errors import InputError
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from codec.encodec48 import Encodec48Codec
from diffusion.sampling import make_scheduler, prepare
from diffusion.windows import plan_windows
from restyler.cli import main
from restyler.exporting.facts import facts
from restyler.exporting.graphs import Graph, graphs
from restyler.exporting.onnx_graphs import Difference, difference, require_same, write_graph
from restyler.new_folder import new_folder
from restyler.pipeline import VocalRestylePipeline

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "onnx_sample.py"
Build = Callable[..., VocalRestylePipeline]


@pytest.fixture(scope="module")
def parts(pipeline: VocalRestylePipeline) -> dict[str, Graph]:
    return {graph.name: graph for graph in graphs(pipeline)}


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    """What the example defines."""
    return runpy.run_path(str(EXAMPLE))


# -- the networks that are exported, in PyTorch


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 9_999])
@torch.no_grad()
def test_the_codecs_graphs_are_the_codec(pipeline: VocalRestylePipeline, parts: dict[str, Graph], samples: int) -> None:
    waveform = 0.1 * torch.randn(3, 2, samples, generator=torch.Generator().manual_seed(samples))
    latents = pipeline.codec.encode(waveform)
    assert torch.equal(parts["encoder"].module(waveform), latents)
    assert torch.equal(parts["decoder"].module(latents)[..., :samples], pipeline.codec.decode(latents, samples=samples))


@torch.no_grad()
def test_what_is_told_goes_through_the_conditioners_graph(
    pipeline: VocalRestylePipeline, parts: dict[str, Graph]
) -> None:
    inputs = parts["conditioner"].drawn({"batch": 4, "frames": 9}, torch.Generator().manual_seed(0))
    module, nothing = parts["conditioner"].module, float("nan")
    untold = {
        "reference": inputs["reference"],
        "reference_frames": torch.zeros(4, dtype=torch.int64),
        "style": torch.full((4,), -1),
        "controls": torch.full((4, 2), nothing),
    }
    assert not module(**untold).any()
    for name, value in {
        "style": torch.tensor([0, 1, 2, 0]),
        "controls": torch.tensor([[0.5, nothing]] * 4),
        "reference_frames": torch.tensor([9, 5, 1, 2]),
    }.items():
        assert module(**untold | {name: value}).any(dim=1).all(), name


def test_a_model_has_the_inputs_that_mean_something_to_it(build_pipeline: Build) -> None:
    noisy = {graph.name: graph for graph in graphs(build_pipeline(path="noise", sigma=None))}
    assert [port.name for port in noisy["denoiser"].inputs] == ["noisy", "raw", "t", "pooled"]
    drawn = noisy["denoiser"].drawn({"batch": 2, "frames": 5}, torch.Generator().manual_seed(0))
    assert noisy["denoiser"].module(**drawn).shape == (2, 128, 5)


# -- as files


def test_a_graph_runs_as_in_pytorch_and_another_one_is_found_out(parts: dict[str, Graph], tmp_path: Path) -> None:
    """All four take most of a minute: test_export_onnx_runs.py."""
    graph, file = parts["conditioner"], tmp_path / "graph.onnx"
    write_graph(graph, file)
    found = difference(graph, file)
    assert found.of > 0 and found.relative < 1e-5
    require_same(graph, found)
    model = onnx.load(file)
    axes = {
        port.name: [place.dim_param or place.dim_value for place in port.type.tensor_type.shape.dim]
        for port in (*model.graph.input, *model.graph.output)
    }
    assert axes == {port.name: list(port.axes) for port in (*graph.inputs, graph.output)}
    assert not any(text in file.read_bytes() for text in (str(ROOT).encode(), b"site-packages", b".py"))
    weight = max(graph.module.parameters(), key=torch.numel)
    with torch.no_grad():
        weight *= 1.01
        changed = difference(graph, file)
        weight /= 1.01
    with pytest.raises(InputError, match=r"^conditioner: ONNX Runtime differs from PyTorch by .*$"):
        require_same(graph, changed)


@pytest.mark.parametrize("found", [Difference(float("nan"), 1.0), Difference(2e-5, 1.0), Difference(1e-9, 0.0)])
def test_what_is_no_rounding_is_refused(parts: dict[str, Graph], found: Difference) -> None:
    with pytest.raises(InputError):
        require_same(parts["decoder"], found)


@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp"])
def test_the_facts_say_what_the_model_does(
    pipeline: VocalRestylePipeline, parts: dict[str, Graph], solver: str
) -> None:
    scheduler = make_scheduler(solver)
    other = VocalRestylePipeline(**pipeline.components | {"scheduler": scheduler}, sampling=pipeline.config.sampling)
    told = json.loads(json.dumps(facts(other, [(parts["decoder"], Difference(1e-6, 1.0))], model="m", versions={})))
    assert told["solver"] == solver and told["steps"] == other.defaults.steps
    for steps, grid in told["grids"].items():
        times = prepare(scheduler, int(steps)).sigmas
        assert len(grid) == int(steps) + 1 and grid == torch.unique_consecutive(times).tolist()
    assert told["hop_samples"] * told["graphs"]["decoder"]["inputs"]["latents"]["axes"].count("frames") == 320
    assert np.array_equal(np.float32(told["path"]["residual_std"]), other.denoiser.residual_std.numpy())
    assert [one["name"] for one in told["controls"]] == ["width_db", "space_db"]


# -- the command


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    assert line.startswith("error: ") and out == ""
    return line


def test_a_codec_that_is_no_single_pass_is_refused(
    build_pipeline: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_pipeline(Encodec48Codec.from_seed(0, n_filters=4)).save_pretrained(tmp_path / "model")
    assert main(["export", "onnx", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out")]) == 2
    assert "Encodec48Codec" in (line := error_line(capsys)) and "PocketCodec" in line
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_names_the_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["export", "onnx", "--out", str(tmp_path / "out")]) == 2
    assert package in (line := error_line(capsys)) and 'pip install "vocal-restyler[onnx]"' in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [InputError("no"), OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_folder_is_whole_or_not_there(tmp_path: Path, failure: BaseException) -> None:
    def write() -> None:
        with new_folder(tmp_path / "a" / "b") as fresh:
            (fresh / "half.onnx").write_text("half")
            raise failure

    with pytest.raises((InputError, KeyboardInterrupt)):
        write()
    assert list(tmp_path.iterdir()) == []


# -- what the example has in NumPy


@pytest.mark.parametrize("frames", [1, 200, 201, 999, 4_321])
def test_the_examples_windows_are_the_samplers(example: dict[str, Any], frames: int) -> None:
    ours = plan_windows(frames, 200, 50)
    theirs = example["windows"](frames, window_frames=200, context_frames=50)
    assert [(one.start, one.stop) for one in ours] == [(start, stop) for start, stop, _ in theirs]
    for one, (*_, weight) in zip(ours, theirs, strict=True):
        assert np.allclose(one.weight.numpy(), weight, atol=1e-4)
        assert weight.dtype == np.float32
    total = np.zeros(frames)
    for start, stop, weight in theirs:
        total[start:stop] += weight
    assert np.allclose(total, 1, atol=1e-6)


@pytest.mark.parametrize("rate", [44_100, 48_000])
@pytest.mark.parametrize("seconds", [0.25, 3.33, 3.37])
def test_the_examples_loudness_is_that_of_other_meters(
    example: dict[str, Any], vocal: Callable[..., Waveform], rate: int, seconds: float
) -> None:
    take = vocal(seconds, rate, channels=2)
    take.samples[:, : take.samples.shape[1] // 3] *= 0.01  # something to gate
    found = example["loudness_lufs"](take.samples.numpy(), rate)
    assert found == pytest.approx(integrated_loudness_lufs(take), abs=0.01)
    if seconds > 0.4:
        meter = pyloudnorm.Meter(rate, filter_class="DeMan")
        assert found == pytest.approx(meter.integrated_loudness(take.samples.numpy().T.astype(np.float64)), abs=0.05)
    assert example["loudness_lufs"](np.zeros((2, rate), np.float32), rate) == -np.inf


FOLDERS = {
    "no folder that": {},
    "'format'": {"facts.json": "{}"},
    "list indices": {"facts.json": "[]"},
    "facts of format 2": {"facts.json": '{"format": 2}'},
    "encoder.onnx: cannot be loaded": {
        "facts.json": '{"format": 1, "graphs": {"encoder": {"file": "encoder.onnx"}}}', "encoder.onnx": "x"
    },
}  # fmt: skip


@pytest.mark.parametrize("said", FOLDERS)
def test_the_example_refuses_a_folder_of_something_else(example: dict[str, Any], tmp_path: Path, said: str) -> None:
    for name, text in FOLDERS[said].items():
        (tmp_path / name).write_text(text)
    with pytest.raises(example["RefusedError"], match=rf"^{tmp_path}[:/].*{said}") as found:
        example["Model"](tmp_path, 1)
    assert "\n" not in str(found.value)


REFUSED = {
    "mix.mp3: a mix is a .wav file": ["take.wav", "mix.mp3"],
    "take.wav: a mix would take the place of what is heard": ["take.wav", "./take.wav"],
    "'-1' is no whole number": ["take.wav", "mix.wav", "--seed", "-1"],
}


@pytest.mark.parametrize("said", REFUSED)
def test_the_example_refuses_what_can_not_be(tmp_path: Path, said: str) -> None:
    (tmp_path / "take.wav").write_text("not replaced")
    words = [sys.executable, EXAMPLE, tmp_path, *REFUSED[said]]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    *_, line = done.stderr.splitlines()
    assert done.returncode == 2 and said in line
    assert (tmp_path / "take.wav").read_text() == "not replaced" and len(list(tmp_path.iterdir())) == 1
