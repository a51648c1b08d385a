import errno
import json
import os
import re
from pathlib import Path

import pytest
import torch

from audio import io
from audio.features import brightness_db
from audio.waveform import Waveform
from conditioning.conditioner import StyleConditioner
from restyler import bench, bundle
from restyler.bench_diversity import print_diversity, spread_db
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
    assert float(found["encode"]) > 0
    assert re.search(r"\npeak memory of all this +\d+\.\d\d GiB\n$", printed)
    for row in ("a style drawn by each seed", "one style"):
        (spreads,) = re.findall(rf"^  {row} +(.*)$", printed, re.MULTILINE)
        assert len(spreads.split()) == 4 and all(0 < float(spread) < 60 for spread in spreads.split())
    assert "style told for 1" in printed


@pytest.mark.slow  # sings and measures for a dozen seconds
def test_sung_pairs_need_no_recordings(model, capsys):
    assert bench.main(["--model", str(model), "--limit", "1", "--seconds", "2"]) == 0
    printed = capsys.readouterr().out
    (distance,) = re.findall(r"raw take \(floor\) +([\d.]+)", printed)
    assert 0.1 < float(distance) < 10 and "1 pairs" in printed


def test_denoised_is_what_a_user_gets(build_pipeline, vocal, capsys):
    """Style and guidance as sample.py has them by default: as many passes of the network."""
    pipeline, passes = build_pipeline(guidance=2.0), []
    bench.print_speed(pipeline, 2)
    pipeline.denoiser.register_forward_hook(lambda *_: passes.append(1))
    list(pipeline.stream(vocal(2, 48_000), pipeline.settings(style="any"), seeds=[0], max_batch=1))
    assert re.search(rf"denoiser evaluations a mix +{len(passes)} windows", capsys.readouterr().out)
    assert len(passes) == 3 * 2 * 2  # windows, steps, with and without the style


def test_diversity_of_a_model_without_styles(pipeline, vocal, tmp_path, capsys):
    io.write(tmp_path / "take.wav", vocal(1, 48_000), tags={})
    bare = StyleConditioner(pipeline.codec.latent_dim, 16, [], list(pipeline.defaults.controls), 8)
    parts = pipeline.components | {"conditioner": bare}
    untold = VocalRestylePipeline(**parts, sampling=dict(pipeline.config.sampling))
    print_diversity(untold, [tmp_path / "take.wav"], (0, 1))
    (row,) = re.findall(r"^  nothing told +(.*)$", capsys.readouterr().out, re.MULTILINE)
    assert all(float(spread) > 0 for spread in row.split())


def test_the_spread_of_mixes_without_noise_is_none(pipeline, vocal):
    still = VocalRestylePipeline(**pipeline.components, sampling=dict(pipeline.config.sampling) | {"sigma": 0.0})
    take = vocal(1, 48_000)
    assert max(spread_db(still, take, pipeline.styles[0], (0, 1)).values()) < 0.01
    drawn = spread_db(still, take, "any", (0, 1))
    settings = still.settings(style="any")
    mixes = [still(take, seeds=[seed], style=still.style_of(settings, seed))[0] for seed in (0, 1)]
    brightness = [brightness_db(Waveform(mix, 48_000)) for mix in mixes]
    assert drawn["brightness_db"] == pytest.approx(abs(brightness[0] - brightness[1]), abs=0.01)


def test_a_bundle_is_half_the_size_and_sounds_the_same(model, vocal, card, tmp_path):
    out = tmp_path / "bundle"
    assert bundle.main([str(model), str(out), "--card", str(card), "--steps", "3", "--scheduler", "heun"]) == 0
    assert (out / "README.md").read_text() == "# A model\n"
    weights = [sum(p.stat().st_size for p in folder.rglob("*.safetensors")) for folder in (out, model)]
    assert weights[0] < 0.6 * weights[1]
    whole, half = VocalRestylePipeline.from_pretrained(model), VocalRestylePipeline.from_pretrained(out)
    assert half.defaults.steps == 3 and type(half.scheduler).__name__ == "FlowMatchHeunDiscreteScheduler"
    assert half.defaults.sigma == whole.defaults.sigma
    assert half.defaults.guidance_for(referred=True) == whole.defaults.guidance  # as there
    assert not [file for file in out.rglob("*.json") if str(model) in file.read_text()]  # no paths
    half.scheduler = whole.scheduler
    take = vocal(1, 48_000)
    mixes = [pipeline(take, seeds=[1], steps=2) for pipeline in (whole, half)]
    error = (mixes[0] - mixes[1]).square().mean() / mixes[0].square().mean()
    assert 10 * torch.log10(error) < -35


def test_a_bundle_can_follow_references_as_it_does_not_follow_styles(model, card, tmp_path):
    chosen = ["--guidance", "2", "--reference-guidance", "0.5"]
    assert bundle.main([str(model), str(tmp_path / "bundle"), "--card", str(card), *chosen]) == 0
    defaults = VocalRestylePipeline.from_pretrained(tmp_path / "bundle").defaults
    assert [defaults.guidance_for(referred=referred) for referred in (False, True)] == [2.0, 0.5]


def test_a_bundle_can_keep_less_of_its_mixes(model, card, tmp_path):
    assert bundle.main([str(model), str(tmp_path / "bundle"), "--card", str(card), "--strength", "0.6"]) == 0
    assert VocalRestylePipeline.from_pretrained(tmp_path / "bundle").defaults.strength == 0.6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "0"], "steps"),
        (["--strength", "1.1"], "0 to 1"),
        (["--reference-guidance", "21"], "guidance: 0 to 20"),
        (["--sigma", "9"], "sigma"),
        (["--scheduler", "none"], "unknown sampler"),
        (["--card", "absent.md"], "absent.md"),
    ],
)
def test_bundles_that_can_not_be_made(model, card, tmp_path, capsys, arguments, said):
    assert bundle.main([str(model), str(tmp_path / "out"), "--card", str(card), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["file", "file/bundle", "empty", "x" * 300, "/proc/bundle"])
def test_a_bundle_goes_where_nothing_is(model, card, tmp_path, capsys, place):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert bundle.main([str(model), str(tmp_path / place), "--card", str(card)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert str(tmp_path / place) in line or str((tmp_path / place).parent) in line
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bundle_that_fails_half_way_leaves_nothing(model, card, tmp_path, capsys, monkeypatch):
    """The disk is full when the last file comes."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    before = sorted(tmp_path.rglob("*"))
    assert bundle.main([str(model), str(tmp_path / "new" / "bundle"), "--card", str(card)]) == 2
    assert "No space left" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
