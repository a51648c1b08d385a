"""Controls that each seed draws: their distribution, what it is conditioned on, and that nothing else changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest, truncnorm

from audio import io
from audio.errors import InputError
from audio.features import FEATURES, measure
from audio.io import read_tags
from audio.waveform import Waveform
from codec.pocket import PocketCodec
from restyler import bundle
from restyler.control_draws import PRIOR_PAIRS, TAKE, JointNormal, draw, joint_normals, take_features
from restyler.pairs import Pair
from restyler.pipeline import VocalRestylePipeline
from restyler.prepared_sets import PreparedSet
from restyler.sample import main as sample_main
from restyler.seeds import generator
from restyler.settings import NO_STYLE, SamplingDefaults
from restyler.shards import Segment
from restyler.statistics import draws_of_recordings, measure_prepared

Build = Callable[..., VocalRestylePipeline]
Vocal = Callable[..., Waveform]
NAMES = ("width_db", "space_db", "brightness_db", f"{TAKE}space_db")
FAR = dict.fromkeys(NAMES[:3], (-1e3, 1e3))


@pytest.fixture(scope="module")
def joint() -> JointNormal:
    random = np.random.default_rng(0)
    factor = random.normal(size=(4, 4))
    return JointNormal.of(NAMES, random.normal(size=4), factor @ factor.T + 0.1 * np.eye(4))


def conditional(joint: JointNormal, told: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Of what is not told, by blocks: μ₁ + Σ₁₂ Σ₂₂⁻¹ (x₂ − μ₂) and Σ₁₁ − Σ₁₂ Σ₂₂⁻¹ Σ₂₁."""
    mean, covariance = np.array(joint.mean), np.array(joint.covariance)
    known = [joint.names.index(name) for name in told]
    free = [index for index in range(len(mean)) if index not in known]
    slope = np.linalg.solve(covariance[np.ix_(known, known)], covariance[np.ix_(known, free)]).T
    given = mean[free] + slope @ (np.array(list(told.values())) - mean[known])
    return given, covariance[np.ix_(free, free)] - slope @ covariance[np.ix_(known, free)]


def drawn(joint: JointNormal, told: dict[str, float], count: int, limits: Any = FAR, spread: float = 1.0) -> np.ndarray:
    """[count controls], in the order of `joint`."""
    found = [draw(joint, told, limits, spread=spread, generator=generator("test", n)) for n in range(count)]
    assert all(list(one) == [name for name in joint.names if name in limits and name not in told] for one in found)
    return np.array([list(one.values()) for one in found])


# -- the distribution


@pytest.mark.parametrize("told", [{f"{TAKE}space_db": 2.0}, {f"{TAKE}space_db": -1.0, "space_db": 4.0}])
def test_draws_have_the_conditional_mean_and_covariance(joint: JointNormal, told: dict[str, float]) -> None:
    count = 1500
    mean, covariance = conditional(joint, told)
    values = drawn(joint, told, count)
    std = np.sqrt(np.diag(covariance))
    assert (np.abs(values.mean(0) - mean) < 4 * std / np.sqrt(count)).all()
    error = np.sqrt((np.outer(std, std) ** 2 + covariance**2) / count)  # of a sample covariance
    assert (np.abs(np.cov(values.T).reshape(covariance.shape) - covariance) < 4 * error).all()
    whitened = np.linalg.solve(np.linalg.cholesky(covariance), (values - mean).T)
    assert all(kstest(row, "norm").pvalue > 1e-3 for row in whitened)


def test_a_spread_scales_the_distance_from_the_mean_alone(joint: JointNormal) -> None:
    told = {f"{TAKE}space_db": 2.0}
    mean, _ = conditional(joint, told)
    once, half = drawn(joint, told, 20), drawn(joint, told, 20, spread=0.5)
    np.testing.assert_allclose(half - mean, 0.5 * (once - mean), rtol=1e-9)


def test_a_seed_keeps_its_chances_whatever_else_is_told(joint: JointNormal) -> None:
    """High stays high: telling one control moves the others only as far as they hang together."""
    apart = JointNormal.of(NAMES, np.array(joint.mean), np.diag(np.diag(joint.covariance)))
    free = drawn(apart, {}, 20)
    np.testing.assert_allclose(drawn(apart, {"width_db": 7.0}, 20), free[:, 1:], rtol=1e-9)


def test_draws_stay_within_their_limits_and_do_not_pile_up_there(joint: JointNormal) -> None:
    """Against what is left of a normal distribution when all beyond the limits is thrown away."""
    single = JointNormal.of(["width_db"], np.array([1.0]), np.array([[4.0]]))
    limits = {"width_db": (-0.5, 3.0)}
    values = drawn(single, {}, 1000, limits)[:, 0]
    many = 1.0 + 2.0 * torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    assert kstest(values, many[(many >= -0.5) & (many <= 3.0)]).pvalue > 1e-3
    far_out = drawn(joint, {f"{TAKE}space_db": 500.0}, 50, dict.fromkeys(NAMES[:3], (-1.0, 1.0)))
    assert (np.abs(far_out) <= 1).all() and (far_out.std(0) > 0).all()


@pytest.mark.parametrize("limits", [(-3.0, 2.0), (1.0, 4.0), (-40.0, -35.0), (30.0, 40.0), (-1e3, 1e3)])
def test_a_draw_is_a_quantile_of_the_cut_off_distribution(limits: tuple[float, float]) -> None:
    """By scipy's truncated normal distribution, on both sides of the mean and far out in either tail."""
    single = JointNormal.of(["width_db"], np.array([-2.0]), np.array([[9.0]]))
    cut = (-2.0 + 3.0 * limits[0], -2.0 + 3.0 * limits[1])
    chances = [torch.rand(1, dtype=torch.float64, generator=generator("test", seed)).item() for seed in range(50)]
    wanted = truncnorm.ppf(chances, *limits, loc=-2.0, scale=3.0)
    np.testing.assert_allclose(drawn(single, {}, 50, {"width_db": cut})[:, 0], wanted, rtol=1e-9)


@pytest.mark.parametrize("spread", [1e-3, 1e-6, 1e-170])
def test_hardly_any_spread_gives_the_mean_or_the_limit_next_to_it(joint: JointNormal, spread: float) -> None:
    """Never a value that would be refused if it were told, and never none: an undefined one would count as not told."""
    told = {f"{TAKE}space_db": 2.0}
    mean, _ = conditional(joint, told)
    values = drawn(joint, told, 50, spread=spread)
    np.testing.assert_allclose(values, np.tile(mean, (50, 1)), atol=50 * spread, rtol=1e-12)
    beyond = JointNormal.of(["width_db"], np.array([50.0]), np.array([[0.7]]))
    if spread > 1e-100:
        outside = drawn(beyond, {}, 200, {"width_db": (-4.0123, 4.0001)}, spread=spread)
        assert (outside <= 4.0001).all() and (outside > 4.0).all()


# -- what is measured


def test_joint_distributions_are_those_of_the_pairs_and_the_prior() -> None:
    """By numpy's weighted covariance; a style with few pairs leans on all of them."""
    random = np.random.default_rng(1)
    values = random.normal(size=(60, 3)) @ random.normal(size=(3, 3))
    weights = random.uniform(0.5, 2.0, size=60)
    styles = ["many"] * 50 + ["few"] * 3 + [None] * 7
    names = ["width_db", "space_db", f"{TAKE}space_db"]
    found = joint_normals(names, values, weights, styles, everything=NO_STYLE)
    assert found.keys() == {NO_STYLE, "many", "few"}
    whole = np.cov(values.T, aweights=weights, ddof=0)
    prior = mixture(whole, np.diag(np.diag(whole)), weights)
    np.testing.assert_allclose(found[NO_STYLE].covariance, prior)
    np.testing.assert_allclose(found[NO_STYLE].mean, np.average(values, axis=0, weights=weights))
    for style, rows in (("many", slice(0, 50)), ("few", slice(50, 53))):
        own = np.cov(values[rows].T, aweights=weights[rows], ddof=0)
        mean = np.average(values[rows], axis=0, weights=weights[rows])
        np.testing.assert_allclose(found[style].covariance, mixture(own, prior, weights[rows]))
        np.testing.assert_allclose(found[style].mean, mixture(mean, np.array(found[NO_STYLE].mean), weights[rows]))


def mixture(own: np.ndarray, prior: np.ndarray, weights: np.ndarray) -> np.ndarray:
    count = weights.sum() ** 2 / (weights**2).sum()
    share = count / (count + PRIOR_PAIRS)
    return share * own + (1 - share) * prior


def test_what_says_nothing_is_left_out() -> None:
    random = np.random.default_rng(2)
    values = np.column_stack([random.normal(size=(30, 2)), np.full(30, -60.0)])  # every take is mono
    names = ["width_db", f"{TAKE}space_db", f"{TAKE}width_db"]
    plain = joint_normals(names, values, np.ones(30), ["one"] * 30, everything=NO_STYLE)
    assert plain["one"].names == ("width_db", f"{TAKE}space_db")
    with_gaps = np.insert(values, 4, [[np.nan, 1.0, -60.0], [9.0, np.nan, -60.0]], axis=0)
    styles = ["one"] * 4 + ["gaps"] * 2 + ["one"] * 26
    assert joint_normals(names, with_gaps, np.ones(32), styles, everything=NO_STYLE) == plain
    flat, undefined = np.full((30, 3), 3.0), np.full((30, 3), np.nan)
    for nothing, columns in ((values, slice(1, None)), (flat, slice(None)), (undefined, slice(None))):
        assert joint_normals(names[columns], nothing[:, columns], np.ones(30), ["one"] * 30, everything=NO_STYLE) == {}
    rounded = np.column_stack([np.full(30, 3.3), values[:, 1]])  # the mean of which is not quite 3.3
    assert joint_normals(names[:2], rounded, random.uniform(size=30), ["one"] * 30, everything=NO_STYLE) == {}


def test_features_of_a_take_short_and_long(vocal: Vocal) -> None:
    take = vocal(3.0, 48_000)
    plain = {TAKE + name: value for name, value in measure(take).items()}
    assert take_features(take) == pytest.approx(plain, abs=1e-9)
    # Half a minute of sound, one and a half of next to nothing, one of nothing.
    loud = Waveform(take.samples.repeat(1, 10), 48_000)
    quiet = 1e-4 * torch.randn(1, 90 * 48_000, generator=torch.Generator().manual_seed(0))
    long = Waveform(torch.cat([loud.samples, quiet, torch.zeros(1, 60 * 48_000)], dim=1), 48_000)
    of_loud = measure(loud)
    assert take_features(long) == pytest.approx({TAKE + name: value for name, value in of_loud.items()}, abs=0.001)
    for seconds in (1, 70):
        with pytest.raises(ValueError, match="silence has no features"):
            take_features(Waveform(torch.zeros(1, seconds * 48_000), 48_000))


def test_prepared_sets_and_recordings_are_measured_alike(
    toy_segment: Callable[..., Segment], write_set: Callable[..., Path], tmp_path: Path, vocal: Vocal
) -> None:
    """Against the distribution of what the recordings themselves measure."""
    pairs, segments, values = [], [], []
    for number in range(6):
        raw = vocal(0.6, 48_000, seed=number)
        mix = Waveform(torch.cat([raw.samples, raw.samples.roll(30 * number + 5, 1)]), 48_000)
        files = {side: tmp_path / f"{side} {number}.wav" for side in ("raw", "mix")}
        for side, waveform in (("raw", raw), ("mix", mix)):
            io.write(files[side], waveform, tags={})
        of_raw, of_mix = (measure(io.read(files[side])) for side in ("raw", "mix"))
        style = ("near", "far")[number % 2]
        pairs.append(Pair(str(number), files["raw"], files["mix"], "train", style))
        segment = toy_segment(number, latent_dim=128, style=style)
        segment.facts["mixes"][0]["controls"] = {"raw": of_raw, "mix": of_mix}
        segments.append(segment)
        changes = [of_mix[name] - of_raw[name] for name in ("space_db", "width_db")]
        values.append([*changes, *of_raw.values()])
    pairs.append(Pair("unheard", tmp_path / "absent.wav", tmp_path / "absent.wav", "validation"))
    names = ["space_db", "width_db", *(TAKE + name for name in FEATURES)]
    wanted = joint_normals(names, np.array(values), np.ones(6), [p.style for p in pairs[:6]], everything=NO_STYLE)
    split = PreparedSet(str(write_set(tmp_path / "set", segments))).split("train")
    codec = PocketCodec(width=16, encoder_blocks=1, decoder_blocks=1)
    prepared = measure_prepared([split], [1], ["space_db", "width_db"], codec, standardise_codec=False).draws
    for found in (draws_of_recordings(pairs, ["space_db", "width_db"], 48_000), prepared):
        assert found.keys() == wanted.keys() == {NO_STYLE, "near", "far"}
        for style, one in found.items():
            assert one.names == wanted[style].names
            np.testing.assert_allclose(one.mean, wanted[style].mean, rtol=1e-5)
            np.testing.assert_allclose(one.covariance, wanted[style].covariance, rtol=1e-4, atol=1e-6)


# -- the mixes


@pytest.fixture(scope="module")
def draws() -> dict[str, Any]:
    """Of the small model's two controls and the space of the take; each style has its own."""
    names, base = (
        ("width_db", "space_db", f"{TAKE}space_db"),
        np.array([[2.0, 0.5, 0.1], [0.5, 3.0, -1.0], [0.1, -1, 9]]),
    )
    found = {NO_STYLE: JointNormal.of(names, np.array([1.0, 0.0, -12.0]), base)}
    found["wide hall"] = JointNormal.of(names, np.array([3.0, 2.0, -12.0]), 0.5 * base)
    return {name: one.model_dump(mode="json") for name, one in found.items()}


@pytest.fixture(scope="module")
def drawing(build_pipeline: Build, draws: dict[str, Any]) -> VocalRestylePipeline:
    return build_pipeline(draws=draws, spread=1.0)


def test_without_a_spread_all_is_as_without_draws(
    drawing: VocalRestylePipeline, pipeline: VocalRestylePipeline, take: Waveform
) -> None:
    for told in ({}, {"style": "any"}, {"controls": {"space_db": 1.0}, "style": "wide hall"}):
        assert torch.equal(drawing(take, seeds=[0, 1], spread=0.0, **told), pipeline(take, seeds=[0, 1], **told))
    assert difference(drawing(take, seeds=[0]), pipeline(take, seeds=[0])) > 1e-5


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).square().mean() / other.square().mean())


def test_a_mix_is_that_of_its_own_controls_whatever_the_other_seeds(
    drawing: VocalRestylePipeline, take: Waveform
) -> None:
    settings = drawing.settings(style="any")
    told = drawing.told(take, settings, [3, 4, 5])
    assert len({one.controls["width_db"] for one in told}) == 3
    assert drawing.told(take, settings, [5, 9, 3])[::2] == [told[2], told[0]]
    together = drawing(take, seeds=[3, 4, 5], style="any")
    for seed, one, mix in zip([3, 4, 5], told, together, strict=True):
        assert one.style == drawing.style_of(settings, seed)
        alone = drawing(take, seeds=[seed], style=one.style, controls=one.controls, spread=0.0)[0]
        assert difference(mix, alone) < 1e-8


def test_told_controls_stay_and_the_others_follow_style_and_take(
    drawing: VocalRestylePipeline, draws: dict[str, Any], take: Waveform
) -> None:
    known = {f"{TAKE}space_db": measure(take)["space_db"]}
    for style in (None, "wide hall", "dry booth"):  # no pair of the last was told
        joint = JointNormal.model_validate(draws[style if style == "wide hall" else NO_STYLE], strict=False)
        settings = drawing.settings(style=style, controls={"width_db": 2.5})
        values = [one.controls for one in drawing.told(take, settings, range(300))]
        assert {one["width_db"] for one in values} == {2.5}
        mean, covariance = conditional(joint, known | {"width_db": 2.5})
        std = float(np.sqrt(covariance[0, 0]))
        spaces = np.array([one["space_db"] for one in values])
        assert abs(spaces.mean() - mean[0]) < 4 * std / np.sqrt(300)
        assert spaces.std() == pytest.approx(std, rel=0.2)
    both = drawing.settings(controls={"width_db": 2.5, "space_db": -1.0})
    assert drawing.told(take, both, [0])[0].controls == both.controls


def test_with_a_reference_nothing_is_drawn_unless_asked_for(
    drawing: VocalRestylePipeline, vocal: Vocal, take: Waveform
) -> None:
    reference = vocal(0.5, 48_000, channels=2, seed=4)
    plain = drawing(take, seeds=[0], reference=reference)
    assert torch.equal(plain, drawing(take, seeds=[0], reference=reference, spread=0.0))
    assert difference(drawing(take, seeds=[0], reference=reference, spread=1.0), plain) > 1e-6


def test_spreads_that_are_not_possible(pipeline: VocalRestylePipeline, drawing: VocalRestylePipeline) -> None:
    for spread in (-0.1, 2.1, float("nan")):
        with pytest.raises(InputError, match="spread: 0 to 2"):
            drawing.settings(spread=spread)
    with pytest.raises(InputError, match="spread: this model doesn't say"):
        pipeline.settings(spread=1.0)
    assert pipeline.settings(spread=0.0) == pipeline.settings()


def test_draws_that_fit_nothing_are_refused(drawing: VocalRestylePipeline) -> None:
    good = drawing.defaults.model_dump(mode="json")
    assert SamplingDefaults.read(good) == drawing.defaults
    singular = {"names": ["width_db", "space_db"], "mean": [0.0, 0.0], "covariance": [[1.0, 1.0], [1.0, 1.0]]}
    wrong: dict[str, dict[str, Any]] = {
        "positive definite": {"draws": {NO_STYLE: singular}},
        "symmetric": {"draws": {NO_STYLE: singular | {"covariance": [[1.0, 0.5], [0.4, 1.0]]}}},
        "row of covariances": {"draws": {NO_STYLE: singular | {"mean": [0.0]}}},
        "entry 'none'": {"draws": {"wide hall": good["draws"]["wide hall"]}},
        "describes the controls": {"draws": good["draws"], "controls": {"width_db": [0.0, 1.0]}},
        "needs draws": {"draws": {}},
    }
    for message, change in wrong.items():
        with pytest.raises(ValueError, match=message) as refusal:
            SamplingDefaults.read(good | change)
        assert "\n" not in str(refusal.value)


# -- commands


def test_drawn_controls_stand_in_the_line_and_in_the_file(
    drawing: VocalRestylePipeline, vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawing.save_pretrained(tmp_path / "model")
    take = vocal_file("take.wav")

    def tags(*arguments: object) -> list[dict[str, str]]:
        common = ["--model", tmp_path / "model", "--out", tmp_path / "out", "--overwrite", "--variations", 2]
        assert sample_main([str(part) for part in (take, *common, *arguments)]) == 0
        return [read_tags(tmp_path / "out" / "take" / f"mix_0{number}.wav") for number in range(2)]

    settings = drawing.settings(style="any")
    expected = drawing.told(io.read(take), settings, [0, 1])
    found = tags()
    lines = capsys.readouterr().out.splitlines()
    for line, one, told in zip(lines, found, expected, strict=True):
        assert one["controls"] == str(told.controls) and one["spread"] == "1.0"
        assert f"width {told.controls['width_db']:+.1f} dB" in line
    plain = tags("--spread", 0)
    assert not {"controls", "spread"} & plain[0].keys()
    assert " dB  " not in capsys.readouterr().out
    told = tags("--control", "width_db=2")
    assert all("'width_db': 2.0" in one["controls"] and "space_db" in one["controls"] for one in told)
    assert not {"controls", "spread"} & tags("--reference", take)[0].keys()
    assert "spread" not in tags("--control", "width_db=2", "--control", "space_db=1")[0]  # which leaves nothing to draw
    assert sample_main([str(take), "--model", str(tmp_path / "model"), "--spread", "3"]) == 2


def test_a_bundle_takes_its_draws_from_pairs(
    model: Path, write_pairs: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, card = write_pairs(tmp_path / "pairs", seconds=1.0), tmp_path / "card.md"
    card.write_text("# A model\n")
    common = ["--card", str(card), "--spread", "0.5"]
    assert bundle.main([str(model), str(tmp_path / "without"), *common]) == 2
    assert "spread" in capsys.readouterr().err
    assert bundle.main([str(model), str(tmp_path / "with"), *common, "--pairs", str(folder)]) == 0
    bundled = VocalRestylePipeline.from_pretrained(tmp_path / "with")
    assert bundled.defaults.spread == 0.5
    pairs = [Pair(key, folder / "raw" / f"{key}.wav", folder / "mix" / f"{key}.wav", "train") for key in ("a", "b")]
    with pytest.raises(InputError, match="can't be called 'none'"):  # the name of what is drawn without a style
        draws_of_recordings([dataclasses.replace(pairs[0], style=NO_STYLE), pairs[1]], ["width_db"], 48_000)
    assert bundled.defaults.draws == draws_of_recordings(pairs, ["width_db", "space_db"], 48_000)
