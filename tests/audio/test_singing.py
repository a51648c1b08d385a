"""The singing synthesiser, measured from outside: pitch, vibrato, formants, levels, noise, silence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import linalg, signal

from audio.score import ONSETS
from audio.singing import VOICES, Note, Rest, Voice, demo_take, random_phrase, sing
from audio.vocal_tract import FORMANTS_HZ

RATE = 48_000
STEADY = Voice(
    "tenor", 40, 60, vibrato_extent_cents=0.0, breathiness_db=-np.inf, jitter=0.0, shimmer=0.0, drift_cents=0.0
)


def sung(notes: list[Note | Rest], voice: Voice = STEADY, *, seed: int = 0, rate: int = RATE) -> np.ndarray:
    return sing(notes, voice, sample_rate=rate, generator=np.random.default_rng(seed)).samples[0].numpy().astype(float)


def rms_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(samples**2) + 1e-30))


def part(samples: np.ndarray, start_s: float, end_s: float) -> np.ndarray:
    return samples[round(start_s * RATE) : round(end_s * RATE)]


def band_db(samples: np.ndarray, low_hz: float, high_hz: float) -> float:
    frequency, power = signal.periodogram(samples, RATE)
    return float(10 * np.log10(power[(frequency >= low_hz) & (frequency < high_hz)].sum() * frequency[1] + 1e-30))


def centroid_hz(samples: np.ndarray) -> float:
    frequency, power = signal.welch(samples, RATE, nperseg=4096)
    return float((frequency * power).sum() / power.sum())


def autocorrelation_pitch_hz(samples: np.ndarray, expected_hz: float) -> float:
    """Highest autocorrelation peak between half and twice the expected pitch, refined by a parabola."""
    lags = signal.correlate(samples, samples, method="fft")[len(samples) - 1 :]
    shortest, longest = int(RATE / (2 * expected_hz)) + 1, int(2 * RATE / expected_hz)
    peak = shortest + int(np.argmax(lags[shortest:longest] * (1 - 0.02 * np.linspace(0, 1, longest - shortest))))
    left, middle, right = lags[peak - 1 : peak + 2]
    return RATE / (peak + 0.5 * (left - right) / (left - 2 * middle + right))


def pitch_track_hz(samples: np.ndarray, pitch_hz: float) -> np.ndarray:
    """Instantaneous frequency of the fundamental (analytic signal of the band around it), smoothed to 50 Hz."""
    band = signal.butter(4, [0.7 * pitch_hz, 1.4 * pitch_hz], "bandpass", fs=RATE, output="sos")
    phase = np.unwrap(np.angle(signal.hilbert(signal.sosfiltfilt(band, samples))))
    return signal.sosfiltfilt(signal.butter(2, 50.0, fs=RATE, output="sos"), np.diff(phase) * RATE / (2 * np.pi))


def cents(ratio: np.ndarray | float) -> np.ndarray:
    return 1200 * np.log2(ratio)


def lpc_formants_hz(samples: np.ndarray, count: int) -> np.ndarray:
    """The lowest `count` resonances of the linear prediction (autocorrelation method) of the part below 5.5 kHz."""
    low_rate = 11_000
    x = signal.resample_poly(samples, 11, 48)
    x = np.append(x[0], x[1:] - 0.97 * x[:-1]) * np.hamming(len(x))
    lags = signal.correlate(x, x, method="fft")[len(x) - 1 :][:15]
    roots = np.roots(np.append(1, -linalg.solve_toeplitz(lags[:14], lags[1:15])))
    roots = roots[(roots.imag > 0) & (-np.log(abs(roots)) * low_rate / np.pi < 500)]
    return np.sort(np.angle(roots) * low_rate / (2 * np.pi))[:count]


@pytest.mark.parametrize("name", VOICES)
def test_notes_have_the_pitch_that_was_asked_for(name: str) -> None:
    voice = VOICES[name]
    notes = [Note(midi, 1.2, "la") for midi in np.linspace(voice.lowest_midi, voice.highest_midi, 4)]
    samples = sung(notes, voice)
    for index, note in enumerate(notes):
        measured = autocorrelation_pitch_hz(part(samples, 1.2 * index + 0.4, 1.2 * index + 1.1), note.pitch_hz)
        assert abs(cents(measured / note.pitch_hz)) < 30


@pytest.mark.parametrize(("rate_hz", "extent_cents"), [(5.0, 40.0), (6.5, 100.0)])
def test_vibrato_has_the_rate_and_the_extent_that_were_asked_for(rate_hz: float, extent_cents: float) -> None:
    voice = replace(STEADY, vibrato_rate_hz=rate_hz, vibrato_extent_cents=extent_cents, vibrato_onset_s=0.5)
    deviation = cents(pitch_track_hz(sung([Note(57, 5.0, "u")], voice), 220.0) / 220.0)
    vibrating = part(deviation, 0.9, 4.7)
    spectrum = abs(np.fft.rfft(vibrating * np.hanning(len(vibrating)), 8 * len(vibrating)))
    assert np.argmax(spectrum) * RATE / (8 * len(vibrating)) == pytest.approx(rate_hz, rel=0.08)
    assert np.sqrt(2) * vibrating.std() == pytest.approx(extent_cents, rel=0.25)
    assert abs(part(deviation, 0.15, 0.35)).max() < 0.1 * extent_cents


def test_portamento_sets_the_time_from_note_to_note() -> None:
    def glide_s(portamento_s: float) -> float:
        samples = sung([Note(57, 0.8, "u"), Note(61, 0.8, "u")], replace(STEADY, portamento_s=portamento_s))
        semitones = 12 * np.log2(part(pitch_track_hz(samples, 245.0), 0.4, 1.2) / 220.0)
        return float(np.sum((semitones > 0.4) & (semitones < 3.6)) / RATE)

    assert glide_s(0.25) == pytest.approx(0.5 * 0.25, rel=0.3)
    assert glide_s(0.4) > 1.4 * glide_s(0.25)


def test_jitter_shimmer_and_drift_disturb_a_steady_note() -> None:
    def wander_cents(voice: Voice) -> float:
        return float(cents(part(pitch_track_hz(sung([Note(57, 4.0, "u")], voice), 220.0), 0.5, 3.5) / 220.0).std())

    def tremble(voice: Voice) -> float:
        samples = part(sung([Note(57, 2.0, "a")], voice), 0.3, 1.8)
        envelope = part(abs(signal.hilbert(samples)), 0.1, 1.4)
        smooth = signal.sosfiltfilt(signal.butter(2, 60.0, fs=RATE, output="sos"), envelope)
        return float(smooth.std() / smooth.mean())

    assert wander_cents(STEADY) < 0.5
    assert 3.0 < wander_cents(replace(STEADY, jitter=0.01)) < 20.0
    assert wander_cents(replace(STEADY, drift_cents=12.0)) == pytest.approx(12.0, rel=0.5)
    assert tremble(STEADY) < 0.02
    assert 0.03 < tremble(replace(STEADY, shimmer=0.1)) < 0.1


@pytest.mark.parametrize("register", FORMANTS_HZ)
@pytest.mark.parametrize("vowel", "aeiou")
def test_vowels_have_their_formants(register: str, vowel: str) -> None:
    voice = replace(STEADY, register=register, formant_scale=1.05, return_hz=20_000.0, vibrato_extent_cents=100.0)
    measured = lpc_formants_hz(part(sung([Note(38, 1.5, vowel)], voice), 0.5, 1.3), 3)
    np.testing.assert_allclose(measured, 1.05 * np.array(FORMANTS_HZ[register][vowel][:3]), rtol=0.12)


def test_two_vowels_glide_from_the_first_to_the_second() -> None:
    samples = sung([Note(38, 1.5, "ai")])
    np.testing.assert_allclose(lpc_formants_hz(part(samples, 0.3, 0.7), 2), FORMANTS_HZ["tenor"]["a"][:2], rtol=0.15)
    np.testing.assert_allclose(lpc_formants_hz(part(samples, 1.1, 1.35), 2), FORMANTS_HZ["tenor"]["i"][:2], rtol=0.15)


def test_a_pitch_above_the_first_formant_raises_it() -> None:
    frequency, power = signal.periodogram(part(sung([Note(81, 1.0, "i")]), 0.4, 0.8), RATE, window="hann")
    assert frequency[np.argmax(power)] == pytest.approx(880.0, abs=5.0)  # the vowel's own first formant is 290 Hz


@pytest.mark.parametrize("midi", [69.3, 88.0])
def test_nothing_but_harmonics_without_noise(midi: float) -> None:
    """Aliased partials would fall between the harmonics."""
    note = Note(midi, 2.5, "a")
    samples = part(sung([note], replace(STEADY, return_hz=50_000.0)), 0.5, 2.3)
    power = abs(np.fft.rfft(samples * signal.windows.blackmanharris(len(samples)))) ** 2
    frequency = np.fft.rfftfreq(len(samples), 1 / RATE)
    between = abs((frequency / note.pitch_hz + 0.5) % 1 - 0.5) * note.pitch_hz > 8.0
    assert power[between].max() < 1e-8 * power.max()
    assert power[between].sum() < 1e-7 * power.sum()


@pytest.mark.parametrize("level_db", [-60.0, -35.0, -16.0])
@pytest.mark.parametrize("vowel", "aiu")
def test_vowels_have_the_level_that_was_asked_for(level_db: float, vowel: str) -> None:
    samples = sung([Note(52, 1.0, vowel, level_db)], VOICES["tenor"])
    assert rms_db(part(samples, 0.3, 0.8)) == pytest.approx(level_db, abs=1.5)


def test_louder_is_brighter() -> None:
    soft, loud = (part(sung([Note(50, 1.0, "a", level)]), 0.3, 0.8) for level in (-45.0, -18.0))
    tilt_soft, tilt_loud = (band_db(x, 2000, 6000) - band_db(x, 80, 1000) for x in (soft, loud))
    assert tilt_loud > tilt_soft + 6


def test_breath_noise_has_its_level_under_the_harmonics() -> None:
    def noise_db(breathiness_db: float) -> float:
        voice = replace(STEADY, breathiness_db=breathiness_db)
        harmonic = part(sung([Note(57, 1.5, "a")]), 0.4, 1.2)
        return rms_db(part(sung([Note(57, 1.5, "a")], voice), 0.4, 1.2) - harmonic) - rms_db(harmonic)

    assert noise_db(-20.0) == pytest.approx(-20.0, abs=1.5)
    assert noise_db(-40.0) == pytest.approx(-40.0, abs=1.5)


def test_breath_noise_pulsates_with_the_voice() -> None:
    notes: list[Note | Rest] = [Note(57, 2.5, "a")]
    noise = part(sung(notes, replace(STEADY, breathiness_db=-20.0)) - sung(notes), 0.4, 2.2)
    hiss = signal.sosfilt(signal.butter(4, 3000, "high", fs=RATE, output="sos"), noise)
    frequency, power = signal.periodogram(hiss**2, RATE)
    near = (frequency > 120) & (frequency < 320)
    assert frequency[near][np.argmax(power[near])] == pytest.approx(220.0, abs=1.0)


@pytest.mark.parametrize(
    "brighter",
    [{"return_hz": 8000.0}, {"formant_scale": 1.3}, {"open_quotient": 0.35}, {"breathiness_db": -8.0}],
    ids=lambda change: next(iter(change)),
)
def test_voices_differ_in_brightness(brighter: dict[str, float]) -> None:
    plain = replace(STEADY, return_hz=1500.0, open_quotient=0.8)
    notes: list[Note | Rest] = [Note(50, 1.0, "e")]
    assert centroid_hz(sung(notes, replace(plain, **brighter))) > 1.1 * centroid_hz(sung(notes, plain))


@pytest.mark.parametrize(
    ("syllable", "low_hz", "high_hz"), [("sa", 5000, 10_000), ("sha", 2500, 5500), ("fa", 3000, 16_000)]
)
def test_fricatives_are_bursts_of_high_noise(syllable: str, low_hz: float, high_hz: float) -> None:
    samples = sung([Note(50, 1.0, syllable)])
    fricative, vowel = part(samples, 0.055, 0.125), part(samples, 0.5, 0.9)
    assert band_db(fricative, low_hz, high_hz) > rms_db(fricative) - 2
    assert band_db(vowel, low_hz, high_hz) < rms_db(vowel) - 8
    assert rms_db(vowel) - 30 < rms_db(fricative) < rms_db(vowel) - 5


@pytest.mark.parametrize("consonant", ONSETS)
def test_consonants_interrupt_the_voice_or_not(consonant: str) -> None:
    """Between tied notes the fundamental goes on through nasals and /l/ and stops for everything voiceless."""
    samples = sung([Note(57, 0.6, "a"), Note(57, 0.6, consonant + "a")])
    band = signal.butter(4, [150, 300], "bandpass", fs=RATE, output="sos")
    fundamental = signal.sosfiltfilt(band, samples)
    frames_db = [rms_db(part(fundamental, t, t + 0.02)) for t in np.arange(0.3, 0.9, 0.01)]
    dip_db = float(np.median(frames_db)) - min(frames_db)
    assert dip_db < 15 if consonant in ("m", "n", "l") else dip_db > 20


@pytest.mark.parametrize("coda", ["s", "t", "n"])
def test_last_consonants_come_last(coda: str) -> None:
    plain, closed = (sung([Note(57, 1.0, syllable), Rest(0.2)]) for syllable in ("a", "a" + coda))
    np.testing.assert_allclose(part(closed, 0.2, 0.55), part(plain, 0.2, 0.55), atol=1e-6)
    assert rms_db(part(closed, 0.75, 0.98) - part(plain, 0.75, 0.98)) > rms_db(plain) - 25


def test_plosives_burst_from_dark_to_bright() -> None:
    bursts = [part(sung([Note(50, 0.8, syllable)]), 0.08, 0.105) for syllable in ("pa", "ka", "ta")]
    centroids = [centroid_hz(np.pad(burst, 2048)) for burst in bursts]
    assert centroids == sorted(centroids)
    assert centroids[2] > 2 * centroids[0]


def test_rests_are_silent_unless_the_singer_inhales() -> None:
    def rest(inhale: bool, level_db: float) -> np.ndarray:
        notes = [Note(57, 0.5, "na", level_db), Rest(1.0, inhale=inhale), Note(60, 0.5, "so", level_db)]
        return part(sung(notes, VOICES["alto"]), 0.6, 1.4)

    assert abs(rest(False, -20.0)).max() < 10 ** (-120 / 20)
    for level_db in (-20.0, -50.0):
        assert level_db - 33 < rms_db(part(rest(True, level_db), 0.4, 0.65)) < level_db - 24


def test_chance_comes_from_the_generator_alone() -> None:
    notes: list[Note | Rest] = [Note(57, 0.5, "sha"), Rest(0.2, inhale=True), Note(60, 0.4, "tim")]
    first = sung(notes, VOICES["alto"], seed=1)
    np.random.default_rng().standard_normal(10)
    np.testing.assert_array_equal(first, sung(notes, VOICES["alto"], seed=1))
    assert rms_db(first - sung(notes, VOICES["alto"], seed=2)) > rms_db(first) - 10


@pytest.mark.parametrize("seed", range(5))
def test_any_voice_sings_any_phrase_cleanly(seed: int) -> None:
    generator = np.random.default_rng(seed)
    voice = Voice.random(generator)
    phrase = [*random_phrase(generator, voice), Note(voice.lowest_midi, 0.5, "pa", -16.0)]
    take = sing(phrase, voice, sample_rate=RATE, generator=generator)
    samples = take.samples[0].numpy().astype(float)
    assert take.samples.shape == (1, round(sum(item.duration_s for item in phrase) * RATE))
    assert np.isfinite(samples).all()
    assert abs(samples).max() < 1.0
    assert abs(samples.mean()) < 1e-3 * np.sqrt(np.mean(samples**2))


def test_random_voices_differ() -> None:
    generator = np.random.default_rng(0)
    takes = [sung([Note(57, 0.6, "a")], Voice.random(generator)) for _ in range(12)]
    highs_db = [band_db(take, 4000, 16_000) - band_db(take, 80, 4000) for take in takes]
    assert max(highs_db) > min(highs_db) + 15


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100])
def test_the_same_voice_at_every_sample_rate(rate: int) -> None:
    score: list[Note | Rest] = [Note(50, 0.7, "lai"), Note(55, 0.7, "na")]
    take = sung(score, rate=rate)
    assert len(take) == round(1.4 * rate)
    edges_hz = np.arange(100.0, 0.4 * rate, 500.0)

    def bands_db(samples: np.ndarray, samples_rate: int) -> np.ndarray:
        frequency, power = signal.periodogram(samples, samples_rate, window="hann")
        return 10 * np.log10(np.histogram(frequency, edges_hz, weights=power)[0])

    np.testing.assert_allclose(bands_db(take, rate), bands_db(sung(score), RATE), atol=0.5)


def test_the_demo_take_is_always_the_same_and_well_levelled() -> None:
    take, again = demo_take(), demo_take()
    assert (take.samples == again.samples).all()
    assert take.samples.shape[0] == 1
    assert 10.0 < take.duration_s < 12.0
    assert 0.25 < float(take.samples.abs().max()) < 0.9
