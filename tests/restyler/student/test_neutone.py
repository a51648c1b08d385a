"""The live student as Neutone SDK loads it: the same sound, block by block, as all at once.

What compiles its wrapper is slow; the student below it is compiled and streamed in test_student_network.py."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("neutone_sdk", reason="the extra neutone is not installed")

from neutone_sdk import SampleQueueWrapper
from neutone_sdk.metadata import validate_metadata
from neutone_sdk.utils import load_neutone_model, model_to_torchscript

from restyler.exporting.neutone import main, wrapped
from restyler.exporting.neutone_wrapper import KNOBS
from restyler.student.files import Student
from restyler.student.spectra import LATENCY_SAMPLES

SETTING = {"strength": 1.0, "brightness": 0.2, "space": 0.9, "style": 0.65}


@pytest.fixture(scope="module")
def plugin(student: Student) -> Any:
    """As the plugins have it: the SDK's queue around its wrapper around the student, in TorchScript."""
    return model_to_torchscript(SampleQueueWrapper(wrapped(student)))


def played(plugin: Any, take: torch.Tensor, block: int, setting: dict[str, float]) -> torch.Tensor:
    """The take through the plugin in a stereo host, from its first sample on."""
    plugin.set_daw_sample_rate_and_buffer_size(48_000, block)
    plugin.reset()
    late = plugin.calc_model_delay_samples() + plugin.calc_buffering_delay_samples()
    count = -(-(take.shape[1] + late) // block)
    padded = torch.nn.functional.pad(take, (0, count * block - take.shape[1])).expand(2, -1)
    knobs = torch.tensor([[setting[name]] for name in KNOBS]).expand(-1, block).contiguous()
    with torch.no_grad():
        blocks = [plugin.forward(piece.contiguous(), knobs).clone() for piece in padded.split(block, 1)]
    return torch.cat(blocks, dim=1)[:, late : late + take.shape[1]]


@pytest.mark.slow
@pytest.mark.parametrize("block", [128, 441, 2048])
def test_it_plays_what_the_network_makes_of_the_whole_take(
    plugin: Any, student: Student, sung: torch.Tensor, block: int
) -> None:
    knobs = torch.tensor([[SETTING["brightness"], SETTING["space"], SETTING["style"]]])
    whole = student.network(sung, knobs)[0]
    torch.testing.assert_close(played(plugin, sung, block, SETTING), whole, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_no_strength_plays_the_take(plugin: Any, sung: torch.Tensor) -> None:
    assert torch.equal(played(plugin, sung, 512, SETTING | {"strength": 0.0}), sung.expand(2, -1))


@pytest.mark.slow
def test_its_metadata_are_what_the_sdk_asks_for(plugin: Any, student: Student) -> None:
    metadata = plugin.to_metadata()
    assert validate_metadata(metadata | {"sample_sound_files": []}, True)
    told = metadata["neutone_parameters"]
    assert [told[f"p{number}"]["name"] for number in range(1, 5)] == list(KNOBS)
    assert metadata["model_type"] == "mono-stereo"
    assert metadata["technical_links"] == {}  # the SDK would ask the network about each
    assert all(style in metadata["model_long_description"] for style in student.styles)
    assert plugin.calc_model_delay_samples() == LATENCY_SAMPLES


def test_bad_input_is_refused_in_one_line_and_nothing_is_written(
    student_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there.nm"
    there.write_text("somebody's")
    for out, student, said in (
        (tmp_path / "student.zip", student_folder, "*.nm"),
        (there, student_folder, "already exists"),
        (tmp_path / "new.nm", tmp_path / "nowhere", "no such folder"),
    ):
        assert main(["--student", str(student), "--out", str(out)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    assert there.read_text() == "somebody's"
    assert [path.name for path in tmp_path.iterdir()] == ["there.nm"]


@pytest.mark.slow
def test_the_sdk_saves_loads_and_compares_it(
    student: Student, student_folder: Path, sung: torch.Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "student.nm"
    assert main(["--student", str(student_folder), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "saved, loaded and compared by Neutone SDK" in said.out and said.err == ""
    assert [path.name for path in tmp_path.iterdir()] == ["student.nm"]
    assert logging.root.manager.disable < logging.WARNING  # it is only quiet while it works
    loaded, metadata = load_neutone_model(str(out))
    assert len(metadata["sample_sound_files"]) == 1 and json.dumps(metadata)
    knobs = torch.tensor([[SETTING["brightness"], SETTING["space"], SETTING["style"]]])
    whole = student.network(sung, knobs)[0]
    torch.testing.assert_close(played(loaded, sung, 300, SETTING), whole, atol=1e-5, rtol=0)
