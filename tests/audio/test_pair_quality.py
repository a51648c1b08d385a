"""Measures of a pair on made takes whose faults are known."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from scipy.signal import butter, fftconvolve, lfilter, sosfilt

from audio.effects import Compressor, compress
from audio.filters import Filter, equalise
from audio.pair_quality import PairMeasures, PairMeter, measure_pair

RATE_HZ = 16_000


def syllables(seconds: float, seed: int, *, pause_share: float = 0.5) -> np.ndarray:
    """Coloured noise in bursts of 0.1 to 0.5 s with random tone and level, between pauses; noise floor at −80 dB."""
    random = np.random.default_rng(seed)
    pieces: list[np.ndarray] = []
    while sum(map(len, pieces)) < seconds * RATE_HZ:
        if random.random() < pause_share:
            pieces.append(np.zeros(int(random.uniform(0.1, 1.0) * RATE_HZ)))
            continue
        noise = random.standard_normal(int(random.uniform(0.1, 0.5) * RATE_HZ))
        centre_hz = 300 * 20 ** random.random()
        sos = butter(1, [centre_hz / 1.5, centre_hz * 1.2], "bandpass", fs=RATE_HZ, output="sos")
        coloured = sosfilt(sos, noise) + 0.05 * noise
        pieces.append(coloured * 10 ** (random.uniform(-15, 0) / 20) * 0.1 / coloured.std())
    take = np.concatenate(pieces)[: round(seconds * RATE_HZ)]
    return (take + 1e-5 * random.standard_normal(len(take))).astype(np.float32)


def bursts(samples: int, seed: int) -> np.ndarray:
    """White noise that sounds a tenth of the time, 60 ms at least: music without a relation to anything."""
    random = np.random.default_rng(seed)
    on = np.repeat(random.random(samples // 960 + 1) < 0.1, 960)[:samples]
    return (on * random.standard_normal(samples)).astype(np.float32)


def reverberant(take: np.ndarray, t60_s: float, wet_db: float, seed: int = 0) -> np.ndarray:
    """The take plus exponentially decaying noise after it, of that level against the take."""
    random = np.random.default_rng(seed)
    time_s = np.arange(round(1.2 * t60_s * RATE_HZ)) / RATE_HZ
    tail = fftconvolve(take, random.standard_normal(len(time_s)) * 10 ** (-3 * time_s / t60_s))[: len(take)]
    return (take + tail * take.std() / tail.std() * 10 ** (wet_db / 20)).astype(np.float32)


def echoing(take: np.ndarray, delay_s: float, feedback: float) -> np.ndarray:
    delay, echoes = round(delay_s * RATE_HZ), np.zeros(len(take))
    for number in range(1, 10):
        start = number * delay
        echoes[start:] += feedback ** (number - 1) * take[: max(0, len(take) - start)]
    return (take + 0.5 * echoes).astype(np.float32)


def all_pass(take: np.ndarray, stages: int) -> np.ndarray:
    """A chain of second-order all-passes about 1 kHz: every magnitude kept, each stage delays 1 kHz by up to 1.1 ms."""
    radius, angle = 0.8, 2 * np.pi * 1000 / RATE_HZ
    denominator = np.array([1, -2 * radius * np.cos(angle), radius**2])
    for _ in range(stages):
        take = lfilter(denominator[::-1], denominator, take)
    return take.astype(np.float32)


def mixed(take: np.ndarray) -> np.ndarray:
    """An ordinary mix: two filters, 4 : 1 compression, echoes and a reverb of 1.5 s."""
    filters = (Filter("high_shelf", 3000, 0.7, 5.0), Filter("peak", 400, 1.0, -4.0))
    compressor = Compressor(-25.0, 4.0, 3.0, 80.0, 8.0)
    direct = compress(compressor, equalise(filters, take[None].astype(np.float64), RATE_HZ), RATE_HZ)[0]
    return reverberant(echoing(direct, 0.37, 0.4), 1.5, -9)


@pytest.fixture(scope="module")
def take() -> np.ndarray:
    return syllables(30, seed=0)


def measure(raw: np.ndarray, mix: np.ndarray) -> SimpleNamespace:
    """The measures of a pair that has them all."""
    values = asdict(measure_pair(raw, mix))
    assert None not in values.values()
    return SimpleNamespace(**values)


def test_a_gain_is_no_mix(take: np.ndarray) -> None:
    measures = measure(take, 3 * take)
    assert measures.change_db < 1e-3 and measures.bleed_db == pytest.approx(-50)
    assert measures.similarity == pytest.approx(1) and measures.phase_agreement == pytest.approx(1, abs=1e-3)
    assert measures.raw_reverberance_db == pytest.approx(measures.mix_reverberance_db)


def test_levels_do_not_matter(take: np.ndarray) -> None:
    usual = vars(measure(take, mixed(take)))
    assert vars(measure(1e-3 * take, 20 * mixed(take))) == pytest.approx(usual, rel=1e-2, abs=1e-2)


def test_however_it_is_cut() -> None:
    """Three sections, so that the past of the later ones is carried over."""
    raw = syllables(160, seed=1)
    mix = mixed(raw)
    meter, random, start = PairMeter(), np.random.default_rng(0), 0
    while start < len(raw):
        stop = start + int(random.integers(1, 400_000))
        meter.update(raw[start:stop], mix[start:stop])
        start = stop
    assert meter.result() == measure_pair(raw, mix)


def test_silent_minutes_say_nothing() -> None:
    raw = syllables(61, seed=2)
    mix = mixed(raw)
    rest = np.zeros(150 * RATE_HZ, np.float32)
    alone, among = (asdict(measure_pair(a, b)) for a, b in ((raw, mix), (np.r_[raw, rest], np.r_[mix, rest])))
    assert among == pytest.approx(alone, rel=0.15, abs=0.5)


@pytest.mark.parametrize("seed", range(3))
def test_encoded_delayed_or_inverted_is_still_the_raw_take(seed: int) -> None:
    raw = syllables(15, seed)
    file = io.BytesIO()
    soundfile.write(file, 2 * np.roll(raw, 8), RATE_HZ, format="MP3", bitrate_mode="CONSTANT", compression_level=0.0)
    encoded = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")[0][: len(raw)]
    assert measure(raw, encoded).change_db < 0.5
    assert measure(raw, -np.roll(raw, 16)).change_db < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_a_gentle_mix_is_a_change(seed: int) -> None:
    raw = syllables(15, seed)
    shelf = equalise((Filter("high_shelf", 2000, 0.7, 3.0),), raw[None].astype(np.float64), RATE_HZ)
    gentle = compress(Compressor(-22.0, 2.0, 5.0, 100.0, 0.0), shelf, RATE_HZ)[0].astype(np.float32)
    assert measure(raw, gentle).change_db > 0.8


@pytest.mark.parametrize("bleed_db", [-5, -10, -15, -20])
def test_music_is_found_at_its_level(bleed_db: float) -> None:
    """Noise of the mix's own spectrum, so that every band holds the same share; half the time is without voice."""
    raw = syllables(25, seed=3)
    music = bursts(len(raw), seed=4)
    spectrum, own = (np.abs(np.fft.rfft(side)) for side in (raw, music))
    smooth = [fftconvolve(side**2, np.ones(2001) / 2001, mode="same") for side in (spectrum, own)]
    music = np.fft.irfft(np.fft.rfft(music) * np.sqrt(smooth[0] / smooth[1]), len(raw)).astype(np.float32)
    mix = raw + music * raw.std() / music.std() * 10 ** (bleed_db / 20)
    level_db = bleed_db - 10 * np.log10(1 + 10 ** (bleed_db / 10))
    assert measure(raw, mix).bleed_db == pytest.approx(level_db, abs=3)
    assert measure(raw, mix).bleed_db < level_db  # some of it lies under the voice


@pytest.mark.parametrize("seed", range(3))
def test_tails_and_echoes_are_no_bleed(seed: int) -> None:
    raw = syllables(20, seed)
    for mix in (mixed(raw), reverberant(raw, 3.0, 0, seed), echoing(raw, 0.5, 0.6)):
        assert measure(raw, mix).bleed_db < -42
    hiss = 10 ** (-40 / 20) * raw.std() * np.random.default_rng(seed).standard_normal(len(raw))
    assert measure(raw, raw + hiss.astype(np.float32)).bleed_db < -42


def test_a_filter_keeps_the_phase_and_an_all_pass_does_not(take: np.ndarray) -> None:
    filters = (Filter("high_pass", 120, 0.7), Filter("peak", 2500, 1.5, 9.0), Filter("high_shelf", 4000, 0.7, -8.0))
    equalised = equalise(filters, take[None].astype(np.float64), RATE_HZ)[0].astype(np.float32)
    assert measure(take, equalised).phase_agreement > 0.95
    agreements = [measure(take, all_pass(take, stages)).phase_agreement for stages in (0, 5, 15, 50)]
    assert agreements == sorted(agreements, reverse=True)
    dispersed = measure(take, all_pass(take, 15))
    assert dispersed.phase_agreement < 0.5 < 0.9 < min(dispersed.similarity, dispersed.phase_coherence)


def test_phases_that_no_filter_explains(take: np.ndarray) -> None:
    """All magnitudes of the take, its phases redrawn every 0.1 s: neither measure of phase holds."""
    random = np.random.default_rng(5)
    frames = np.fft.rfft(take[: len(take) // 1600 * 1600].reshape(-1, 1600))
    scattered = np.fft.irfft(np.abs(frames) * np.exp(2j * np.pi * random.random(frames.shape))).ravel()
    measures = measure(take[: len(scattered)], scattered.astype(np.float32))
    assert measures.phase_agreement < 0.15 and measures.phase_coherence < 0.3 < measures.similarity


def test_another_take_is_unlike() -> None:
    own, other = syllables(30, seed=6), syllables(30, seed=7)
    assert measure(own, mixed(other)).similarity < 0.3 < 0.7 < measure(own, mixed(own)).similarity


def test_reverberance_grows_with_the_reverb_and_its_level(take: np.ndarray) -> None:
    def heard_db(t60_s: float, wet_db: float) -> float:
        measures = measure(take, reverberant(take, t60_s, wet_db))
        assert measures.mix_reverberance_db is not None
        return measures.mix_reverberance_db

    dry_db = measure(take, take).raw_reverberance_db
    by_level = [dry_db, *(heard_db(1.0, wet_db) for wet_db in (-25, -18, -12))]
    by_time = [dry_db, *(heard_db(t60_s, -12) for t60_s in (0.25, 0.5, 1.0))]
    assert np.diff(by_level).min() > 0.5 and np.diff(by_time).min() > 0.5
    assert heard_db(1.0, -12) > dry_db + 10


def test_exchanged_sides_show(take: np.ndarray) -> None:
    there, back = measure(take, mixed(take)), measure(mixed(take), take)
    assert back.raw_reverberance_db == there.mix_reverberance_db > there.raw_reverberance_db + 3


def test_silence_and_scraps_have_no_measures(take: np.ndarray) -> None:
    nothing = PairMeasures(None, None, None, None, None, None, None)
    silence = np.zeros_like(take)
    assert (
        measure_pair(silence, silence) == measure_pair(take, silence) == measure_pair(take[:100], take[:100]) == nothing
    )
    assert PairMeter().result() == nothing
    only_mix = measure_pair(silence, take)
    assert only_mix.bleed_db == pytest.approx(0, abs=0.1) and only_mix.similarity is None
    assert json.loads(json.dumps(asdict(only_mix), allow_nan=False))["change_db"] is None


def test_sides_must_be_of_one_length(take: np.ndarray) -> None:
    with pytest.raises(ValueError, match="one length"):
        PairMeter().update(take, take[:-1])
