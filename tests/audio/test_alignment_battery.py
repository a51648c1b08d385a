"""Many pairs with random chains: how often offset and polarity are right, and how often a wrong pair is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from audio import Waveform
from audio.alignment import Alignment, align
from audio.delay import PingPongDelay
from audio.effects import Compressor, EffectChain, render
from audio.filters import Filter
from audio.io import read
from audio.presets import read_presets
from audio.reverb import Reverb
from audio.singing import VOICES, Note, Rest, random_phrase, sing

RATE_HZ = 16_000
LONGEST_SHIFT_S = 5.0
LEAST_SCORE = 0.25  # what the true pairs of this file keep clear of on one side, the wrong ones on the other


@cache
def singing(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    singer = list(VOICES.values())[seed % len(VOICES)]
    score: list[Note | Rest] = []
    while sum(one.duration_s for one in score) < 12:
        score += random_phrase(random, singer)
    return sing(score, singer, sample_rate=RATE_HZ, generator=random).samples[0].numpy()


def random_chain(random: np.random.Generator) -> EffectChain:
    """An equaliser, compression, echoes and a reverb as vocal mixes have them, 3 dB below the voice at most."""
    draw = random.uniform
    equaliser = (
        Filter("high_pass", draw(40, 200), 0.7),
        Filter("low_shelf", draw(120, 400), 0.7, draw(-6, 6)),
        Filter("peak", draw(300, 5000), draw(0.5, 3), draw(-8, 8)),
        Filter("high_shelf", draw(2500, 6000), 0.7, draw(-6, 9)),
    )
    echoes = PingPongDelay(
        draw(80, 400), draw(0, 0.5), draw(0, 0.3), Filter("low_pass", draw(2000, 7000), 0.7), -60, 60
    )
    reverb = Reverb((250.0, 2000.0), (draw(0.3, 3), draw(0.3, 2)), draw(-20, -3), -60.0, 0.0, draw(0, 60), ())
    compressor = Compressor(draw(-40, -20), draw(1.5, 12), draw(0.5, 20), draw(30, 400), 0.0)
    return EffectChain(equaliser, compressor, echoes, reverb, draw(0, 0.5), draw(-30, 30))


def finished(raw: np.ndarray, chain: EffectChain, random: np.random.Generator) -> np.ndarray:
    """A mono mix: chain, some drive, noise 10 to 40 dB below."""
    level = raw / np.sqrt(np.mean(raw[np.abs(raw) > 0.01 * np.abs(raw).max()] ** 2)) * 0.1
    take = Waveform(torch.from_numpy(level.astype(np.float32))[None], RATE_HZ)
    mix = render(chain, take, seed=int(random.integers(2**31))).samples.numpy().mean(axis=0)
    drive = random.uniform(1, 10) / np.abs(mix).max()
    mix = np.tanh(drive * mix) / drive
    noise_db = random.uniform(-40, -10)
    return mix + random.standard_normal(len(mix)) * mix.std() * 10 ** (noise_db / 20)


def moved(mix: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, float, int]:
    """The mix up to 5 s later or earlier, perhaps inverted, at another level: (mix, offset in s, polarity)."""
    shift = round(random.uniform(-LONGEST_SHIFT_S, LONGEST_SHIFT_S) * RATE_HZ)
    if -shift > len(mix) / 2:
        shift = -shift
    polarity = int(random.choice([-1, 1]))
    placed = np.pad(mix, (max(0, shift), 0))[max(0, -shift) :]
    return (polarity * 10 ** random.uniform(-1, 0.3) * placed).astype(np.float32), shift / RATE_HZ, polarity


def outcomes(
    count: int, draw: Callable[[np.random.Generator], tuple[np.ndarray, EffectChain]]
) -> Iterable[tuple[float, bool, float]]:
    """Of so many pairs the error in s, whether the polarity is right, and the score; infinite, False, 0 if refused."""
    for seed in range(count):
        random = np.random.default_rng([seed, 9])
        raw, chain = draw(random)
        mix, offset_s, polarity = moved(finished(raw, chain, random), random)
        alignment = align(raw, mix, RATE_HZ)
        if alignment is None:
            yield np.inf, False, 0.0
        else:
            yield error_s(alignment, offset_s), alignment.polarity == polarity, alignment.score


def error_s(alignment: Alignment, offset_s: float) -> float:
    """The largest distance of any region from where it should be."""
    return max(
        abs((alignment.rate - 1) * at_s + region.offset_s - offset_s)
        for region in alignment.regions
        for at_s in (region.start_s, region.stop_s)
    )


@pytest.mark.parametrize("count", [20, pytest.param(60, marks=pytest.mark.slow)])
def test_sung_pairs_are_placed_within_a_millisecond_and_upright(count: int) -> None:
    errors_s, upright, scores = zip(
        *outcomes(count, lambda random: (singing(int(random.integers(8))), random_chain(random))), strict=True
    )
    assert np.mean(np.array(errors_s) < 1e-3) >= 0.99
    assert np.mean(upright) >= 0.99
    assert min(scores) > LEAST_SCORE


@pytest.mark.parametrize("count", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_no_mix_of_another_song_is_taken(count: int) -> None:
    random = np.random.default_rng(11)
    for index in range(count):
        mix = finished(singing(index), random_chain(random), random)
        assert align(singing((index + 1) % 8), mix.astype(np.float32), RATE_HZ) is None


def real(path: Path) -> np.ndarray:
    samples = read(path).resampled(RATE_HZ).samples.numpy().mean(axis=0)
    return samples[: 20 * RATE_HZ]


@pytest.mark.slow
def test_real_pairs_are_placed_within_a_millisecond_and_upright(shared_data: Path) -> None:
    """300 pairs of real singing and speech, mixed by random chains and those of released mixes."""
    paths = sorted((shared_data / "research/gtsinger").glob("*.flac"))
    paths += sorted((shared_data / "research/pairs").glob("*__dry.mp3"))
    takes = [real(path) for path in paths]
    presets = list(read_presets(shared_data / "presets/internal/decoded.csv").values())

    def draw(random: np.random.Generator) -> tuple[np.ndarray, EffectChain]:
        take = takes[int(random.integers(len(takes)))]
        return take, random_chain(random) if random.random() < 0.5 else presets[int(random.integers(len(presets)))]

    errors_s, upright, scores = zip(*outcomes(300, draw), strict=True)
    assert np.mean(np.array(errors_s) < 1e-3) >= 0.99
    assert np.mean(upright) >= 0.99
    assert np.mean(np.array(scores) > LEAST_SCORE) >= 0.99


@pytest.mark.slow
def test_no_real_stranger_and_no_other_take_is_taken(shared_data: Path) -> None:
    """All takes of one phrase by one singer against each other, and 200 pairs of different phrases."""
    paths = sorted((shared_data / "research/gtsinger").glob("*.flac"))
    takes = {path.name: real(path) for path in paths if not path.name.startswith("speech")}
    phrases: dict[str, list[str]] = {}
    for name in takes:
        phrases.setdefault(name.rsplit("-", 2)[0] if name.startswith("EN") else name.split("_")[0], []).append(name)
    same = [pair for names in phrases.values() for pair in permutations(names, 2)]
    random = np.random.default_rng(12)
    phrase_of = {name: phrase for phrase, names in phrases.items() for name in names}
    drawn = [tuple(random.choice(list(takes), 2, replace=False)) for _ in range(240)]
    different = [pair for pair in drawn if phrase_of[pair[0]] != phrase_of[pair[1]]][:200]
    assert len(same) > 80 and len(different) == 200
    taken = [align(takes[one], takes[other], RATE_HZ) for one, other in [*same, *different]]
    assert sum(each is not None and each.score > LEAST_SCORE for each in taken) == 0


def test_real_mixes_are_recognised_and_their_phase_told(shared_data: Path) -> None:
    """A copy, an equalised and an inverted one, a mix whose phase was turned past recognition, and a stranger."""
    folder = shared_data / "research/pairs"

    def pair(song: str, other: str | None = None) -> Alignment | None:
        return align(real(folder / f"{song}__dry.mp3"), real(folder / f"{other or song}__wet.mp3"), RATE_HZ)

    copy, equalised, turned = (
        pair(song) for song in ("MatthewEntwistle_DontYouEver", "MusicDelta_Beatles", "BigTroubles_Phantom")
    )
    assert copy is not None and equalised is not None and turned is not None
    assert copy.regions[0].offset_s == pytest.approx(0, abs=1e-5)
    assert min(copy.score, copy.phase_agreement) > 0.95
    assert equalised.regions[0].offset_s == pytest.approx(0, abs=1e-3)
    assert equalised.phase_agreement > 0.8
    assert turned.phase_agreement < 0.6
    assert turned.score > LEAST_SCORE
    assert pair("MusicDelta_Beatles", "MusicDelta_Disco") is None
