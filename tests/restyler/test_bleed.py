"""Bleed that is known, because it was put there, is found again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import signal

from audio.io import read
from audio.waveform import Waveform
from restyler.bleed import measure_bleed

RATE = 44_100  # of every published model
SONGS = ("Britpop", "Country1", "Disco", "Grunge")

Song = tuple[np.ndarray, np.ndarray, int]


def stereo(samples: np.ndarray, rate: int) -> Waveform:
    return Waveform(torch.from_numpy(np.stack([samples, samples]).astype(np.float32)), rate)


def level(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def gated_noise(seed: int, seconds: float, rate_hz: float, band_hz: tuple[float, float]) -> np.ndarray:
    """Noise of a band that comes and goes `rate_hz` times a second, in steps of its own."""
    random = np.random.default_rng(seed)
    gates = np.repeat(random.uniform(size=int(seconds * rate_hz) + 1), int(RATE / rate_hz))[: int(seconds * RATE)] ** 2
    noise = signal.sosfilt(signal.butter(2, band_hz, "bandpass", fs=RATE, output="sos"), random.normal(size=len(gates)))
    return 0.1 * gates * noise / level(noise)


def toy_song(seconds: float = 20) -> tuple[np.ndarray, np.ndarray]:
    """A voice and an accompaniment that overlap in time and frequency, and are independent."""
    return gated_noise(1, seconds, 3, (200, 5000)), gated_noise(2, seconds, 2, (60, 7000))


def found_db(voice: np.ndarray, bleed: np.ndarray, song: np.ndarray, rate: int) -> float:
    measured = measure_bleed(stereo(voice + bleed, rate), stereo(song, rate)).level_db
    assert measured is not None
    return measured


def scaled_to(bleed: np.ndarray, voice: np.ndarray, bleed_db: float) -> np.ndarray:
    return bleed * level(voice) / level(bleed) * 10 ** (bleed_db / 20)


@pytest.mark.parametrize("bleed_db", [-10, -20, -30, -40])
@pytest.mark.parametrize("left_behind", [0, 0.2])
def test_a_known_bleed_is_found_whether_or_not_some_voice_was_left_behind(bleed_db: float, left_behind: float) -> None:
    voice, accompaniment = toy_song()
    kept = voice * (1 - left_behind)
    bleed = scaled_to(accompaniment, kept, bleed_db)
    assert found_db(kept, bleed, voice + accompaniment, RATE) == pytest.approx(bleed_db, abs=2)


def test_the_measure_does_not_depend_on_level() -> None:
    voice, accompaniment = toy_song()
    vocal, song = voice + 0.05 * accompaniment, voice + accompaniment
    loud = measure_bleed(stereo(vocal, RATE), stereo(song, RATE))
    quiet = measure_bleed(stereo(0.01 * vocal, RATE), stereo(0.01 * song, RATE))
    assert loud.level_db == pytest.approx(quiet.level_db, abs=0.01)


def test_a_clean_voice_measures_as_the_floor_and_a_longer_song_lowers_it() -> None:
    floors = []
    for seconds in (8, 40):
        voice, accompaniment = toy_song(seconds)
        clean = measure_bleed(stereo(voice, RATE), stereo(voice + accompaniment, RATE))
        assert clean.level_db is not None and clean.floor_db is not None
        assert clean.level_db <= clean.floor_db + 3 < -40
        floors.append(clean.floor_db)
    assert floors[1] < floors[0] - 3


def test_bleed_of_one_channel_alone_is_found() -> None:
    voice, accompaniment = toy_song()
    song = np.stack([voice, voice]) + np.stack([accompaniment, 0 * accompaniment])
    vocal = np.stack([voice + 0.1 * accompaniment, voice])
    known_db = 20 * np.log10(level(0.1 * accompaniment) / level(voice)) - 10 * np.log10(2)
    bleed = measure_bleed(*(Waveform(torch.from_numpy(x.astype(np.float32)), RATE) for x in (vocal, song)))
    assert bleed.level_db == pytest.approx(known_db, abs=2)


def test_what_can_not_be_measured_says_why() -> None:
    voice, accompaniment = toy_song()
    song = voice + accompaniment

    def why(vocal: np.ndarray, song: np.ndarray) -> str:
        bleed = measure_bleed(stereo(vocal, RATE), stereo(song, RATE))
        assert (bleed.level_db, bleed.floor_db) == (None, None)
        return bleed.why

    assert why(0 * song, song) == "no_voice"
    assert why(0.0001 * song, song) == "no_voice"
    assert why(song, song) == "no_accompaniment"
    assert why(voice[:RATE], song[:RATE]) == "too_short"
    assert why(voice[:1000], song[:1000]) in ("too_short", "no_voice")


def test_vocal_and_song_must_fit_together() -> None:
    voice, accompaniment = toy_song(2)
    with pytest.raises(ValueError, match="one shape"):
        measure_bleed(stereo(voice, RATE), stereo(accompaniment[:-1], RATE))
    with pytest.raises(ValueError, match="sample rate"):
        measure_bleed(stereo(voice, RATE), stereo(accompaniment, RATE + 1))


@pytest.fixture(scope="module")
def real_songs(shared_data: Path) -> list[Song]:
    """Dry voice and accompaniment of four songs, equally loud. The accompaniment is the sum of the raw tracks less the
    voice, which stands in it by one gain: it is what least squares leaves."""
    songs = []
    for name in SONGS:
        voice, tracks = (
            read(shared_data / "research" / "megami" / f"samples_MusicDelta_{name}_{kind}.wav_norm.flac")
            for kind in ("dry_4instr_vocals", "equal_loudness_anchor")
        )
        v, t = (waveform.samples.double().mean(0).numpy() for waveform in (voice, tracks))
        a = t - v * (t @ v) / (v @ v)
        songs.append((0.05 * v / level(v), 0.05 * a / level(a), voice.sample_rate))
    return songs


def everything(accompaniment: np.ndarray, voice: np.ndarray, rate: int) -> np.ndarray:
    return accompaniment


def bass(accompaniment: np.ndarray, voice: np.ndarray, rate: int) -> np.ndarray:
    return signal.sosfiltfilt(signal.butter(3, 300, "lowpass", fs=rate, output="sos"), accompaniment)


def cymbals(accompaniment: np.ndarray, voice: np.ndarray, rate: int) -> np.ndarray:
    return signal.sosfiltfilt(signal.butter(3, 3000, "highpass", fs=rate, output="sos"), accompaniment)


def under_the_voice(accompaniment: np.ndarray, voice: np.ndarray, rate: int) -> np.ndarray:
    smooth = np.hanning(rate // 10) / np.hanning(rate // 10).sum()
    envelope = np.sqrt(signal.oaconvolve(voice**2, smooth, "same").clip(0))
    gate = (envelope > 0.3 * level(voice)).astype(float)
    return accompaniment * signal.oaconvolve(gate, smooth, "same")


@pytest.mark.parametrize(
    ("kind", "bleed_db", "below", "above"),
    [
        *[(everything, bleed_db, 2.0, 2.0) for bleed_db in (-10, -20, -40)],
        *[(bass, bleed_db, 3.5, 2.0) for bleed_db in (-10, -30)],
        *[(cymbals, bleed_db, 1.0, 1.0) for bleed_db in (-20, -40)],
        (under_the_voice, -20, 6.5, 1.0),
    ],
)
def test_known_bleed_of_real_songs_is_found(
    real_songs: list[Song], kind: Callable[..., np.ndarray], bleed_db: float, below: float, above: float
) -> None:
    """Voice and accompaniment of one song share key, beat and pauses: what they have in common is no bleed."""
    for voice, accompaniment, rate in real_songs:
        bleed = scaled_to(kind(accompaniment, voice, rate), voice, bleed_db)
        error_db = found_db(voice, bleed, voice + accompaniment, rate) - bleed_db
        assert -below < error_db < above


def test_a_clean_voice_of_a_real_song_measures_as_no_bleed(real_songs: list[Song]) -> None:
    for voice, accompaniment, rate in real_songs:
        assert found_db(voice, 0 * voice, voice + accompaniment, rate) < -50
