import json
import re
from pathlib import Path

import pytest
import torch

from audio import io
from restyler import bench, bundle
from restyler.pipeline import VocalRestylePipeline


@pytest.fixture(scope="module")
def model(build_pipeline, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "model"
    build_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "card.md"
    path.write_text("# A model\n")
    return path


def test_distances_are_zero_where_the_mix_is_the_take(model, vocal, tmp_path, capsys):
    """Then the raw take is at distance 0, and take and mix through the codec are the same row."""
    for side in ("raw", "mix"):
        (tmp_path / side).mkdir()
        io.write(tmp_path / side / "a.wav", vocal(1.5, 48_000, channels=2), tags={})
    row = {"key": "a", "raw": "raw/a.wav", "mix": "mix/a.wav", "style": "wide hall", "split": "test"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    assert bench.main(["--model", str(model), "--pairs", str(tmp_path), "--seconds", "2"]) == 0
    printed = capsys.readouterr().out
    found = dict(re.findall(r"^  (\S.*?) {2,}([\d.]+) ", printed, re.MULTILINE))
    assert float(found["raw take (floor)"]) == 0
    assert float(found["raw take through the codec"]) == float(found["the mix through the codec (ceiling)"]) > 0
    assert float(found["ours, best of four"]) <= float(found["ours, expected draw"])
    assert float(found["encode"]) > 0 and "peak memory" in found
    assert "style told for 1" in printed


def test_sung_pairs_need_no_recordings(model, capsys):
    assert bench.main(["--model", str(model), "--limit", "1", "--seconds", "2"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"raw take \(floor\) +0\.\d", printed) and "1 pairs" in printed


def test_a_bundle_is_half_the_size_and_sounds_the_same(model, vocal, card, tmp_path):
    out = tmp_path / "bundle"
    assert bundle.main([str(model), str(out), "--card", str(card), "--steps", "3", "--scheduler", "heun"]) == 0
    assert (out / "README.md").read_text() == "# A model\n"
    weights = [sum(p.stat().st_size for p in folder.rglob("*.safetensors")) for folder in (out, model)]
    assert weights[0] < 0.6 * weights[1]
    whole, half = VocalRestylePipeline.from_pretrained(model), VocalRestylePipeline.from_pretrained(out)
    assert half.defaults.steps == 3 and type(half.scheduler).__name__ == "FlowMatchHeunDiscreteScheduler"
    assert half.defaults.sigma == whole.defaults.sigma
    half.scheduler = whole.scheduler
    take = vocal(1, 48_000)
    mixes = [pipeline(take, seeds=[1], steps=2) for pipeline in (whole, half)]
    error = (mixes[0] - mixes[1]).square().mean() / mixes[0].square().mean()
    assert 10 * torch.log10(error) < -35


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "0"], "steps"),
        (["--sigma", "9"], "sigma"),
        (["--scheduler", "none"], "unknown sampler"),
        (["--card", "absent.md"], "absent.md"),
    ],
)
def test_bundles_that_can_not_be_made(model, card, tmp_path, capsys, arguments, said):
    assert bundle.main([str(model), str(tmp_path / "out"), "--card", str(card), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
