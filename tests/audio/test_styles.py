"""Named styles: reproducible, never empty, and true of what is heard."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import welch

from audio.delay import PingPongDelay
from audio.effects import Compressor, EffectChain, render
from audio.features import dynamics_db
from audio.filters import Filter
from audio.presets import read_presets, training_names
from audio.reverb import Reverb
from audio.styles import Styles, find_styles
from audio.waveform import Waveform

RATE_HZ = 48000


def chain(shelf_db: float = 0.0, *, reverb_db: float = -20.0, t60_s: float = 1.0) -> EffectChain:
    return EffectChain(
        (Filter("high_shelf", 4000, 0.7, shelf_db),),
        Compressor(-20.0, 2.0, 2.0, 80.0, 0.0),
        PingPongDelay(200.0, 0.3, 0.01, Filter("low_pass", 4000, 0.7), -60, 40),
        Reverb((250.0, 2000.0), (t60_s, t60_s), reverb_db, reverb_db, 0.0, 20.0, ()),
        0.0,
        0.0,
    )


@lru_cache
def released(shared_data: Path) -> tuple[tuple[EffectChain, ...], Styles]:
    table = shared_data / "presets" / "internal" / "decoded.csv"
    chains = read_presets(table)
    trained = tuple(chains[name] for name in training_names(table, list(chains)))
    return trained, find_styles(trained, count=7)


def test_two_kinds_of_chains_are_told_apart_and_named() -> None:
    bright = [chain(shelf, reverb_db=-8 + 0.1 * shelf) for shelf in np.linspace(6, 9, 10)]
    dark = [chain(-shelf, reverb_db=-25 + 0.1 * shelf) for shelf in np.linspace(6, 9, 10)]
    styles = find_styles(bright + dark, count=2)
    assert {styles.of(each) for each in bright} == {"bright_wet"}
    assert {styles.of(each) for each in dark} == {"dark_dry"}


def test_a_chain_out_of_all_bounds_still_has_the_nearest_style() -> None:
    chains = [chain(shelf, t60_s=2 ** (shelf / 4)) for shelf in np.linspace(-8, 8, 20)]
    styles = find_styles(chains, count=2)
    assert styles.of(chain(60.0, t60_s=50.0)) == styles.of(chains[-1]) == "bright_long"


def test_styles_do_not_depend_on_anything_but_chains_and_seed() -> None:
    chains = [
        chain(shelf, reverb_db=-20 + 2 * np.sin(9 * shelf), t60_s=1 + np.cos(5 * shelf) / 2)
        for shelf in np.linspace(-8, 8, 40)
    ]
    first, second = find_styles(chains, count=4, seed=3), find_styles(chains, count=4, seed=3)
    assert first.names == second.names
    np.testing.assert_array_equal(first.centres, second.centres)
    assert len(set(first.names)) == 4


def test_more_styles_than_chains_are_refused() -> None:
    with pytest.raises(ValueError, match="2 chains"):
        find_styles([chain(1.0), chain(2.0)], count=3)


def test_chains_that_are_all_the_same_form_no_two_styles() -> None:
    with pytest.raises(ValueError, match="too alike"):
        find_styles([chain(1.0)] * 5, count=2)


def test_the_released_chains_fall_into_seven_styles_of_some_size(shared_data: Path) -> None:
    chains, styles = released(shared_data)
    counts = {name: sum(styles.of(each) == name for each in chains) for name in styles.names}
    assert len(counts) == 7
    assert min(counts.values()) >= 0.05 * len(chains)


def syllables() -> Waveform:
    """A loud and a soft harmonic tone with noise in the highs, about as loud as a take that chains are fed with."""
    seconds = np.arange(round(0.8 * RATE_HZ)) / RATE_HZ
    tone = sum(np.sin(2 * np.pi * 165 * number * seconds + number**2) / number for number in range(1, 60))
    tone += 0.1 * np.random.default_rng(0).standard_normal(len(seconds))
    loud = np.where(seconds % 0.8 < 0.4, 1.0, 0.25)
    return Waveform(torch.from_numpy(0.15 * loud * tone)[None].float(), RATE_HZ)


def heard(each: EffectChain) -> dict[str, float]:
    """One number a word, measured on a rendered voice: larger means more of the second word of each pair."""
    take = syllables()
    followed = Waveform(torch.nn.functional.pad(take.samples, (0, RATE_HZ)), RATE_HZ)
    mix = render(each, followed, seed=0)
    sung = Waveform(mix.samples[:, : take.samples.shape[1]], RATE_HZ)
    frequencies, power = welch(sung.samples.numpy(), RATE_HZ, nperseg=8192)
    level = lambda low, high: 10 * np.log10(power[:, (frequencies >= low) & (frequencies < high)].sum())  # noqa: E731
    tail = mix.samples[:, take.samples.shape[1] :].square().sum(dim=0).numpy()
    early, late = tail[: RATE_HZ // 4].sum(), tail[RATE_HZ // 2 : 3 * RATE_HZ // 4].sum()
    silent_reverb = replace(each.reverb, mid_level_db=-np.inf, side_level_db=-np.inf)
    echoing = render(replace(each, reverb=silent_reverb), followed, seed=0)
    dry = render(replace(each, reverb=silent_reverb, delay=replace(each.delay, gain=0.0)), take, seed=0)
    reverb = mix.samples - echoing.samples
    return {
        "bright": level(4000, 12000) - level(300, 2000),
        "full": level(100, 300) - level(300, 2000),
        "dense": -dynamics_db(dry),
        "long": 10 * np.log10(late / early),
        "wet": 10 * np.log10(float(reverb.square().sum() / dry.samples.square().sum())),
        "echo": 10 * np.log10(late / float(sung.samples.square().sum())),
    }


OPPOSITES = {"dark": "bright", "thin": "full", "open": "dense", "short": "long", "dry": "wet", "plain": "echo"}


@pytest.mark.slow  # renders dozens of chains
def test_the_words_of_a_style_are_true_of_its_members_when_rendered(shared_data: Path) -> None:
    chains, styles = released(shared_data)
    members = {name: [each for each in chains if styles.of(each) == name] for name in styles.names}
    measured = {name: [heard(each) for each in group[:: len(group) // 4]] for name, group in members.items()}
    everyone = [each for group in measured.values() for each in group]
    for name, group in measured.items():
        for word in name.split("_"):
            quality = OPPOSITES.get(word, word)
            difference = np.mean([each[quality] for each in group]) - np.mean([each[quality] for each in everyone])
            assert difference * (-1 if word in OPPOSITES else 1) > 0, (name, word, difference)
