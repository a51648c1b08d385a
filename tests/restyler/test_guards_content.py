"""Planted faults that the content gate must name, and honest mixing that it must let pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pedalboard
import pytest
import scipy.signal
import torch

from audio.pitch_shift import shift_pitch
from audio.singing import demo_take
from audio.waveform import Waveform
from restyler.guards import HIGHEST, LOWEST, Guard
from restyler.guards_again import MOST_TRIES, faithful
from restyler.guards_content import lag_samples, measured, stretches
from restyler.noise import TRIES_APART, Seed, Walk, another, parse_seed
from restyler.report_take import verdict_text
from restyler.ways import Made

RATE = 24_000
Change = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def take() -> Waveform:
    """A sung phrase."""
    return demo_take(RATE).stereo()


@pytest.fixture(scope="module")
def guard(take: Waveform) -> Guard:
    return Guard(take)


def changed(take: Waveform, change: Change) -> Waveform:
    samples = change(take.samples.double().numpy())
    return Waveform(torch.from_numpy(samples).float().contiguous(), take.sample_rate)


def detuned(cents: float) -> Change:
    """By Rubber Band, time as it was."""

    def change(samples: np.ndarray) -> np.ndarray:
        return shift_pitch(Waveform(torch.from_numpy(samples).float(), RATE), cents / 100).samples.double().numpy()

    return change


def shuffled(samples: np.ndarray) -> np.ndarray:
    pieces = np.array_split(samples, samples.shape[1] // (RATE // 8), axis=1)
    order = np.random.default_rng(0).permutation(len(pieces))
    return np.concatenate([pieces[place] for place in order], axis=1)


def whispered(samples: np.ndarray) -> np.ndarray:
    """Magnitudes kept, phases drawn: a voice without a pitch."""
    _, _, spectra = scipy.signal.stft(samples, nperseg=512)
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, spectra.shape)
    return scipy.signal.istft(np.abs(spectra) * np.exp(1j * phases), nperseg=512)[1][:, : samples.shape[1]]


def delayed(samples: np.ndarray) -> np.ndarray:
    return np.pad(samples, ((0, 0), (RATE // 200, 0)))[:, : samples.shape[1]]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (detuned(40), "pitch 4"),
        (detuned(-70), "pitch"),
        (shuffled, "onsets"),
        (whispered, "voicing wrong in"),
        (delayed, "5.0 ms away"),
        (lambda samples: samples[:, ::-1].copy(), "envelope|level follows"),
        (lambda samples: samples * (np.arange(samples.shape[1]) < 0.6 * samples.shape[1]), "loudness strays"),
        (lambda samples: samples * 1e-9, "nothing is heard"),
    ],
    ids=["sharp", "flat", "shuffled", "whispered", "late", "backwards", "cut short", "silent"],
)
def test_a_planted_fault_is_named(guard: Guard, take: Waveform, change: Change, named: str) -> None:
    _, verdict = guard(changed(take, change), repairs=True)
    assert any(part in fault for fault in verdict.faults for part in named.split("|")), verdict
    assert verdict.excess > 0


@pytest.mark.parametrize(
    "change",
    [
        lambda samples: samples,
        lambda samples: -0.02 * samples,
        lambda samples: np.stack([samples[0], 0.5 * np.roll(samples[1], 40)]),
        lambda samples: scipy.signal.sosfilt(scipy.signal.butter(2, 300, "highpass", fs=RATE, output="sos"), samples),
        lambda samples: np.tanh(4 * samples / np.abs(samples).max()),
    ],
    ids=["itself", "quiet and inverted", "spread", "thin", "driven"],
)
def test_what_mixing_does_passes(guard: Guard, take: Waveform, change: Change) -> None:
    _, verdict = guard(changed(take, change), repairs=True)
    assert verdict.note() == "", verdict


def test_a_chain_passes(guard: Guard, take: Waveform) -> None:
    """Of another maker's devices: equaliser, compressor, room."""
    chain = pedalboard.Pedalboard(
        [
            pedalboard.HighpassFilter(120),
            pedalboard.HighShelfFilter(6000, gain_db=6),
            pedalboard.Compressor(threshold_db=-30, ratio=4, attack_ms=5, release_ms=120),
            pedalboard.Reverb(room_size=0.5, wet_level=0.15, dry_level=0.8, width=1.0),
        ]
    )
    _, verdict = guard(changed(take, lambda samples: chain(samples.astype(np.float32), RATE)), repairs=True)
    assert verdict.note() == "", verdict


def test_a_fault_of_a_moment_is_found_and_its_place_told(take: Waveform) -> None:
    long = Waveform(take.samples.repeat(1, 3), RATE)
    at = take.samples.shape[1]
    faulty = long.samples.clone()
    part = changed(Waveform(long.samples[:, at : at + 4 * RATE], RATE), shuffled)
    faulty[:, at : at + 4 * RATE] = part.samples
    _, verdict = Guard(long)(Waveform(faulty, RATE), repairs=True)
    starts = [part.start / RATE for part in stretches(long)]
    told = {int(fault.split(" from ")[1].split(" ")[0]) for fault in verdict.faults if " from " in fault}
    assert told and len(starts) >= 2
    assert all(start <= at / RATE + 4 and start + 15 >= at / RATE for start in told), (told, at / RATE)
    assert any("onsets" in fault or "level follows" in fault for fault in verdict.faults)


def test_a_second_played_backwards_is_found(guard: Guard, take: Waveform) -> None:
    """While the voice moves; of a vowel that is held for a second nobody hears it."""
    loud = take.samples.square().mean(dim=0)
    energy = torch.nn.functional.avg_pool1d(loud[None], RATE, RATE // 4)[0]
    at = int(energy.argmax()) * RATE // 4
    samples = take.samples.clone()
    samples[:, at : at + RATE] = samples[:, at : at + RATE].flip(1)
    _, verdict = guard(Waveform(samples, RATE), repairs=True)
    assert any("spectrum follows" in fault for fault in verdict.faults), verdict


def test_channels_in_opposite_phase_are_a_take_like_any_other(take: Waveform) -> None:
    """Its middle is empty; a delay is found in the side."""
    opposite = Waveform(take.samples * torch.tensor([[1.0], [-1.0]]), RATE)
    guard = Guard(opposite)
    assert guard(opposite, repairs=True)[1].note() == ""
    _, verdict = guard(changed(opposite, delayed), repairs=True)
    assert any("5.0 ms away" in fault for fault in verdict.faults), verdict


@pytest.mark.parametrize("gate_db", [None, -200.0])
def test_a_room_that_hums_on_in_a_pause_is_no_part_of_the_take(take: Waveform, gate_db: float | None) -> None:
    """Twenty seconds of it, left alone or gated away: a mix without the hum is as good as one with it."""
    moments = torch.arange(20 * RATE) / RATE
    hum = 10 ** (-55 / 20) * torch.sin(2 * torch.pi * 100 * moments).expand(2, -1)
    paused = Waveform(torch.cat([take.samples, hum, take.samples], dim=1), RATE)
    mixed = hum if gate_db is None else hum * 10 ** (gate_db / 20)
    _, verdict = Guard(paused)(Waveform(torch.cat([take.samples, mixed, take.samples], dim=1), RATE), repairs=True)
    assert verdict.note() == "", verdict


def test_of_a_take_that_is_too_short_to_be_judged_nothing_is_claimed(guard: Guard, take: Waveform) -> None:
    short = Waveform(take.samples[:, RATE : RATE + RATE // 2], RATE)
    _, verdict = Guard(short)(short, repairs=True)
    assert verdict.measures == {} and "too little of the take sounds" in verdict_text(verdict)
    assert "nothing strays" in verdict_text(guard(take, repairs=True)[1])


@pytest.mark.parametrize("lag", [-300, -1, 0, 1, 7, 480])
def test_the_lag_is_right_to_the_sample(take: Waveform, lag: int) -> None:
    one = Waveform(take.samples[:, 1000:-1000], RATE)
    other = Waveform(take.samples[:, 1000 - lag : take.samples.shape[1] - 1000 - lag], RATE)
    thin = changed(other, lambda samples: scipy.signal.lfilter([1, -0.9], 1, samples))
    assert lag_samples(one, other) == lag
    assert abs(lag_samples(one, thin) - lag) <= 1


def test_measures_are_the_bounds_names(take: Waveform) -> None:
    ((_, found),) = list(measured(take, take, stretches(take)))[:1]
    assert found.keys() | {"silent"} == HIGHEST.keys() | LOWEST.keys()
    assert found["pitch_cents"] == found["voicing_percent"] == found["lag_ms"] == 0
    assert found["envelope"] == pytest.approx(1)


# -- another seed instead


def test_another_seed_is_far_away_and_keeps_the_way_of_a_walk() -> None:
    assert [another(3, number) for number in (1, 2)] == [3 + TRIES_APART, 3 + 2 * TRIES_APART]
    walk = parse_seed("3 7@0.25 9@0.5")
    assert str(another(walk, 1)) == f"3 7@0.25 {9 + TRIES_APART}@0.5"
    assert len({str(another(seed, number)) for seed in (0, 1, walk) for number in (1, 2, 3)}) == 9


class Singer:
    """Gives the mixes of seeds, in order, and remembers which were asked for."""

    def __init__(self, *mixes: Waveform) -> None:
        self.mixes, self.asked = list(mixes), list[Seed]()

    def __call__(self, seed: Seed) -> Made:
        self.asked.append(seed)
        return Made(self.mixes.pop(0))


def test_a_bad_seed_gives_way_to_the_first_good_one(guard: Guard, take: Waveform) -> None:
    bad, worse = changed(take, detuned(40)), changed(take, whispered)
    singer = Singer(worse, take, bad)
    found = faithful(Made(bad), 5, guard=guard, again=singer)
    assert singer.asked == [another(5, 1), another(5, 2)]
    assert (found.seed, found.waveform.samples is take.samples) == (another(5, 2), True)
    assert (found.verdict.faults, found.verdict.instead_of, found.verdict.tries) == ((), "5", 3)
    assert found.verdict.note().startswith("instead of seed 5: pitch 4")


def test_where_no_seed_is_good_the_least_bad_is_kept_and_told(guard: Guard, take: Waveform) -> None:
    bad, worse = changed(take, detuned(20)), changed(take, whispered)
    singer = Singer(worse, bad, worse)
    found = faithful(Made(worse), Walk(1, ((2, 0.5),)), guard=guard, again=singer)
    assert len(singer.asked) == MOST_TRIES - 1
    assert str(found.seed) == f"1 {2 + 2 * TRIES_APART}@0.5"
    assert (found.verdict.tries, found.verdict.instead_of) == (MOST_TRIES, "1 2@0.5")
    assert "no other seed was better: pitch 2" in found.verdict.note()
    first = faithful(Made(bad), 4, guard=guard, again=Singer(worse, worse, worse))
    assert (first.seed, first.verdict.instead_of) == (4, None)
    assert first.verdict.note().startswith("no other seed was better: pitch 2")


def test_the_very_mix_of_a_seed_can_be_asked_for(guard: Guard, take: Waveform) -> None:
    bad = changed(take, detuned(40))
    found = faithful(Made(bad), 4, guard=guard, again=None)
    assert (found.seed, found.verdict.tries, found.waveform.samples is bad.samples) == (4, 1, True)
    assert found.verdict.note().startswith("pitch 4")
