"""Rows of the benchmark: what they draw, at which rate, length and level, and that nothing else decides it."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import torch
from scipy.special import expit, logit

from audio.effects import EffectChain, render
from audio.errors import InputError
from audio.loudness import integrated_loudness_lufs
from audio.parts_vocal_chain import values_of
from audio.presets import read_presets, training_names
from audio.waveform import Waveform
from restyler.evaluate.evaluation_set import Song
from restyler.evaluate.matchering_row import installed, matched, matchering_row
from restyler.evaluate.mean_preset import RAW_COLUMNS, mean_preset, network_t60_s
from restyler.evaluate.model_rows import Finish
from restyler.evaluate.preset_rows import Fit, drawn_presets, preset_rows
from restyler.evaluate.row import LEAST_SCORED_S, REFERENCE_S, Row, first, like
from restyler.evaluate.rows import all_rows, deterministic_rows
from restyler.metrics import spectral_distance
from restyler.pipeline import VocalRestylePipeline
from restyler.settings import ANY_STYLE

RATE = 44_100  # the codec has another


def gain_fit(take: Waveform, mix: Waveform) -> Callable[[Waveform], Waveform]:
    """A chain of one gain a channel: an exact fit where the mix is no more."""
    gains = (mix.samples.square().sum(1) / take.samples.square().sum(1)).sqrt()[:, None]
    return lambda waveform: Waveform(waveform.samples * gains, waveform.sample_rate)


@pytest.fixture(scope="session")
def make_song(vocal: Callable[..., Waveform]) -> Callable[..., Song]:
    """make_song(key="a", seconds=0.7, style=None): a take and a mix that is louder on the left."""

    def make(key: str = "a", seconds: float = 0.7, style: str | None = None) -> Song:
        take = vocal(seconds, RATE).stereo()
        mix = Waveform(take.samples * torch.tensor([[0.9], [0.4]]), RATE)
        return Song(key=key, song=key, take=take, mix=mix, style=style, renders={})

    return make


@pytest.fixture(scope="session")
def make_rows(pipeline: VocalRestylePipeline, read_only_presets: Path) -> Callable[..., dict[str, Row]]:
    """make_rows(draws=2, seed=0, fit=gain_fit): all rows by name."""

    def make(*, draws: int = 2, seed: int = 0, fit: Fit = gain_fit) -> dict[str, Row]:
        ways: dict[str, Finish] = {"codec": lambda _, decoded: decoded, "residual": lambda take, _: take}
        rows = all_rows(
            pipeline,
            finishes={"codec": ways["codec"], "take": ways["residual"]},
            fit=fit,
            presets=preset_rows(read_only_presets, draws=draws, seed=seed),
            deterministic=deterministic_rows(pipeline, ways),
            draws=draws,
            seed=seed,
        )
        assert len({row.name for row in rows}) == len(rows)
        return {row.name: row for row in rows}

    return make


def alike(a: Waveform, b: Waveform, *, within: float = 1e-4) -> bool:
    """Whether the difference, after the best gain, has less than that share of the power."""
    x, y = a.samples.double(), b.samples.double()
    gain = (x * y).sum() / y.square().sum()
    return bool((x - gain * y).square().sum() < within * x.square().sum())


def same(a: Sequence[Waveform], b: Sequence[Waveform]) -> bool:
    return len(a) == len(b) and all(torch.equal(x.samples, y.samples) for x, y in zip(a, b, strict=True))


def test_every_row_gives_its_draws_at_the_rate_and_length_of_the_mix_and_the_same_again(
    make_rows: Callable[..., dict[str, Row]], make_song: Callable[..., Song]
) -> None:
    song = make_song(style="warm plate")
    draws = {name: row.render(song) for name, row in make_rows().items() if row.scored_s is None}
    many = {name for name, found in draws.items() if len(found) == 2}
    assert many == {
        "random preset",
        *(f"ours{told}, {way}" for told in ("", ", style told") for way in ("codec", "take")),
    }
    assert all(len(found) == 1 for name, found in draws.items() if name not in many)
    for found in draws.values():
        assert all(one.sample_rate == RATE and one.samples.shape == song.mix.samples.shape for one in found)
        assert all(bool(one.samples.isfinite().all()) for one in found)
    for name, row in make_rows().items():  # new rows, the songs in another order
        if row.scored_s is None:
            row.render(make_song("b"))
            assert same(row.render(make_song(style="warm plate")), draws[name]), name


def test_what_a_mix_is_finished_to_is_what_the_row_gives_as_loud_as_the_take(
    make_rows: Callable[..., dict[str, Row]], make_song: Callable[..., Song]
) -> None:
    song, rows = make_song(), make_rows()
    for name in (
        "mean preset",
        "random preset",
        "ours, codec",
        "ours, average answer, codec",
        "deterministic network, codec",
        "chain fitted to the mix",
    ):
        for one in rows[name].render(song):
            assert integrated_loudness_lufs(one) == pytest.approx(integrated_loudness_lufs(song.take), abs=0.02), name
    for name in ("ours, take", "deterministic network, residual"):
        assert alike(song.take, rows[name].render(song)[0], within=1e-3), name  # through 48 kHz and back


def test_a_fitted_chain_that_can_be_exact_is_the_mix_but_for_its_level(
    make_rows: Callable[..., dict[str, Row]], make_song: Callable[..., Song]
) -> None:
    heard: list[tuple[int, int]] = []

    def fit(take: Waveform, mix: Waveform) -> Callable[[Waveform], Waveform]:
        heard.append((take.samples.shape[1], mix.samples.shape[1]))
        return gain_fit(take, mix)

    song, rows = make_song(seconds=REFERENCE_S + LEAST_SCORED_S), make_rows(fit=fit)
    for name in ("chain fitted to the mix", "chain fitted to the mix, second half"):
        assert alike(song.mix, rows[name].render(song)[0])
    assert heard == [(8 * RATE, 8 * RATE)]  # fitted once for both
    assert alike(song.mix, rows["chain fitted to the first half, second half"].render(song)[0])
    assert heard[1:] == [(6 * RATE, 6 * RATE)]


def test_rows_with_a_reference_hear_its_first_6_s_alone_and_are_scored_after_them(
    pipeline: VocalRestylePipeline, make_rows: Callable[..., dict[str, Row]], make_song: Callable[..., Song]
) -> None:
    rows, song = make_rows(draws=1), make_song(seconds=REFERENCE_S + LEAST_SCORED_S)
    second = {name for name, row in rows.items() if row.scored_s is not None}
    assert {rows[name].scored_s for name in second} == {(6.0, 12.0)}
    assert {"raw take, second half", "mean preset, second half", "ours, with reference, codec, second half"} <= second
    changed = song.mix.samples.clone()
    changed[:, 6 * RATE :] *= torch.linspace(1, -1, 2 * RATE)
    other = dataclasses.replace(song, mix=Waveform(changed, RATE))
    name = "ours, with reference, codec, second half"
    assert same(rows[name].render(song), rows[name].render(other))
    changed[:, : 6 * RATE] *= torch.linspace(1, -1, 6 * RATE)
    another = dataclasses.replace(song, mix=Waveform(changed, RATE))
    assert not same(rows[name].render(song), rows[name].render(another))
    assert all(len(rows[name].render(make_song(seconds=7.9))) == 0 for name in second)
    silent = song.take.samples.clone()
    silent[:, 6 * RATE :] = 0
    rest = dataclasses.replace(song, take=Waveform(silent, RATE))
    assert all(len(rows[name].render(rest)) == 0 for name in second)


def test_the_style_is_told_where_the_model_knows_it_and_drawn_elsewhere(
    pipeline: VocalRestylePipeline, make_rows: Callable[..., dict[str, Row]], make_song: Callable[..., Song]
) -> None:
    rows, told, unknown = make_rows(seed=5), make_song(style="warm plate"), make_song(style="another")
    assert rows["ours, style told, codec"].render(unknown) == []

    def mixes(style: str) -> torch.Tensor:
        return pipeline(told.take, seeds=(5, 6), style=style)

    for name, style in (("ours, style told, codec", "warm plate"), ("ours, codec", ANY_STYLE)):
        for mix, found in zip(mixes(style), rows[name].render(told), strict=True):
            expected = like(told.mix, Waveform(mix, pipeline.codec.sample_rate))
            assert alike(expected, found)


def test_the_average_answer_knows_no_seed_and_costs_one_estimate(
    pipeline: VocalRestylePipeline, make_rows: Callable[..., dict[str, Row]], make_song: Callable[..., Song]
) -> None:
    calls: list[int] = []
    hook = pipeline.denoiser.register_forward_hook(lambda *_: calls.append(1))
    song = make_song()
    answers = [make_rows(seed=seed)["ours, average answer, codec"].render(song) for seed in (0, 1)]
    hook.remove()
    assert same(*answers) and len(calls) == 2
    again = pipeline(song.take, seeds=[99], steps=1, sigma=0.0, guidance=1.0, spread=0.0)[0]
    assert alike(like(song.mix, Waveform(again, 48_000)), answers[0][0])


def test_the_codec_rows_are_round_trips_that_hear_no_level(
    pipeline: VocalRestylePipeline, make_rows: Callable[..., dict[str, Row]], make_song: Callable[..., Song]
) -> None:
    rows, song = make_rows(), make_song()
    quiet = dataclasses.replace(
        song, **{side: Waveform(getattr(song, side).samples / 50, RATE) for side in ("take", "mix")}
    )
    for name, source in (("raw take through the codec", song.take), ("mix through the codec", song.mix)):
        ours, soft = rows[name].render(song)[0], rows[name].render(quiet)[0]
        assert torch.allclose(50 * soft.samples, ours.samples, atol=1e-4)
        gain = 10 ** ((-18 - integrated_loudness_lufs(source)) / 20)
        levelled = gain * source.resampled(48_000).samples[None]
        direct = pipeline.codec.decode(pipeline.codec.encode(levelled), samples=levelled.shape[-1])[0] / gain
        assert torch.allclose(ours.samples, like(source, Waveform(direct, 48_000)).samples, atol=1e-5)


def test_random_presets_are_different_ones_in_another_order_for_every_song_and_seed(
    read_only_presets: Path, make_song: Callable[..., Song]
) -> None:
    drawn = [drawn_presets(365, 8, seed=seed, key=key) for seed in range(20) for key in ("a", "b")]
    assert all(len(set(one)) == 8 and set(one) <= set(range(365)) for one in drawn)
    assert len({tuple(one) for one in drawn}) == 40
    assert drawn_presets(8, 8, seed=0, key="a") != drawn_presets(8, 8, seed=0, key="b")
    with pytest.raises(InputError, match="9 draws need as many presets to train on, not 8"):
        preset_rows(read_only_presets, draws=9, seed=0)


def test_the_random_draws_are_training_presets_rendered_at_the_level_of_presets(
    read_only_presets: Path, make_song: Callable[..., Song]
) -> None:
    chains, song = read_presets(read_only_presets), make_song()
    names = training_names(read_only_presets, list(chains))
    (index,) = drawn_presets(len(names), 1, seed=3, key=song.key)
    (found,) = preset_rows(read_only_presets, draws=1, seed=3)[1].render(song)
    mono = pyloudnorm.Meter(RATE, "DeMan").integrated_loudness(song.take.samples[:1].numpy().T)
    fed = Waveform(song.take.samples * 10 ** ((-18 - mono) / 20), RATE)  # one channel at −18 LUFS
    assert alike(render(chains[names[index]], fed, seed=0), found, within=1e-6)


def mean_of(table: Path) -> EffectChain:
    return mean_preset(table, read_presets(table))


def write_table(folder: Path, source: Path, order: Sequence[int], trained: Sequence[int]) -> Path:
    """The rows of a table in another order; trained: rows of the old one."""
    folder.mkdir()
    with source.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    with (folder / "decoded.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *(rows[i] for i in order)])
    np.save(folder / "raw_params.npy", np.load(source.with_name("raw_params.npy"))[list(order)])
    np.save(folder / "train_index.npy", np.array([list(order).index(row) for row in trained]))
    return folder / "decoded.csv"


def test_the_mean_preset_is_that_of_the_training_rows_in_any_order(read_only_presets: Path, tmp_path: Path) -> None:
    trained = [0, 1, 2, 3, 5, 6, 8, 9]
    mean = mean_of(read_only_presets)
    shuffled = np.random.default_rng(1).permutation(12).tolist()
    again = mean_of(write_table(tmp_path / "shuffled", read_only_presets, shuffled, trained))
    without = mean_of(write_table(tmp_path / "trained", read_only_presets, trained, trained))
    for other in (again, without):
        found, expected = values_of(other, seed=0), values_of(mean, seed=0)
        assert all(found[name] == pytest.approx(expected[name], rel=1e-9) for name in expected)
    fewer = mean_of(write_table(tmp_path / "fewer", read_only_presets, range(12), trained[:4]))
    assert fewer.compressor.ratio != pytest.approx(mean.compressor.ratio)


def test_the_mean_is_taken_where_the_parameters_are_unbounded(read_only_presets: Path, tmp_path: Path) -> None:
    """A frequency that is a sigmoid of its raw parameter: the mean preset has the sigmoid of the mean, not the mean."""
    path = write_table(tmp_path / "presets", read_only_presets, range(12), range(12))
    raw = np.load(path.with_name("raw_params.npy"))
    column = RAW_COLUMNS["peak1_frequency_hz"]
    told = np.array([values_of(chain, seed=0)["peak1_frequency_hz"] for chain in read_presets(path).values()])
    raw[:, column] = logit(told / 10_000)
    np.save(path.with_name("raw_params.npy"), raw)
    expected = 10_000 * expit(raw[:, column].mean())
    assert abs(expected - told.mean()) > 30
    # Between two of twelve presets the curve is taken for a straight line.
    assert mean_of(path).equaliser[0].frequency_hz == pytest.approx(expected, rel=0.003)


def test_a_table_beside_anothers_raw_parameters_is_refused(read_only_presets: Path, tmp_path: Path) -> None:
    path = write_table(tmp_path / "presets", read_only_presets, range(12), range(12))
    np.save(path.with_name("raw_params.npy"), np.load(path.with_name("raw_params.npy"))[::-1])
    with pytest.raises(InputError, match=r"decoded\.csv: .* does not follow column \d+ of raw_params\.npy"):
        mean_of(path)


@pytest.mark.slow
def test_the_released_presets_have_the_mean_that_diffvox_published(shared_data: Path) -> None:
    folder = shared_data / "presets/internal"
    trained = np.load(folder / "train_index.npy")
    raw = np.load(folder / "raw_params.npy").astype(np.float64)
    published = np.load(folder / "gaussian.npz")["mean"]
    mean = raw[trained].mean(axis=0)
    assert np.allclose(mean[np.load(folder / "feature_mask.npy")], published, atol=1e-5)
    chains = read_presets(folder / "decoded.csv")
    found = values_of(mean_preset(folder / "decoded.csv", chains), seed=0)
    values = [values_of(chain, seed=0) for chain in chains.values()]
    for name, column in RAW_COLUMNS.items():  # as many presets lie below the mean as have a smaller raw parameter
        told = np.array([row[name] for row in values])
        smaller, larger = told[raw[:, column] < mean[column]], told[raw[:, column] > mean[column]]
        low, high = sorted((smaller, larger), key=np.median)
        assert low.max() - 1e-3 <= found[name] <= high.min() + 1e-3, name
    decoded = np.array([chain.reverb.t60_s for chain in chains.values()])
    computed = np.array([network_t60_s(row) for row in raw])
    assert np.median(np.abs(np.log(computed / decoded))) < 0.01


@pytest.mark.skipif(installed(), reason="Matchering is installed")
def test_without_its_package_the_row_of_matchering_is_left_out_and_refused(
    make_rows: Callable[..., dict[str, Row]],
) -> None:
    assert not any("Matchering" in name for name in make_rows())
    with pytest.raises(InputError, match=r"vocal-restyler\[matchering\]"):
        matchering_row()


@pytest.mark.slow
@pytest.mark.skipif(not installed(), reason="needs the extra: pip install 'vocal-restyler[matchering]'")
def test_matchering_brings_the_take_nearer_to_a_mix_that_is_brighter(sung: Callable[[int, float], Waveform]) -> None:
    take = sung(1, 6.0).stereo().resampled(RATE)
    bright = Waveform(take.samples - 0.8 * take.samples.roll(1, 1), RATE)
    found = like(bright, matched(take, first(bright, 3.0)))
    assert spectral_distance(bright, found).lr < 0.5 * spectral_distance(bright, take).lr
