"""Measures of a pair on real raw takes and the mixes that engineers made of them."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from audio.pair_quality import measure_pair

RATE_HZ = 16_000
RESEARCH = "research/pairs"
UNPROCESSED = "MatthewEntwistle_DontYouEver"
REPHASED = {"BigTroubles_Phantom", "MusicDelta_80sRock"}
SONGS = ("Britpop", "Country1", "Disco", "Grunge")


def mono(path: Path) -> np.ndarray:
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return np.asarray(resample_poly(samples.mean(axis=1), 160, rate_hz // 100)).astype(np.float32)


def measure(raw: np.ndarray, mix: np.ndarray) -> SimpleNamespace:
    """The measures of a pair that has them all."""
    values = asdict(measure_pair(raw, mix))
    assert None not in values.values()
    return SimpleNamespace(**values)


def aligned(raw: np.ndarray, mix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both cut to the lag within ±0.25 s, and turned to the polarity, of the largest whitened correlation."""
    length = 1 << (len(raw) + len(mix)).bit_length()
    cross = np.fft.rfft(mix, length) * np.fft.rfft(raw, length).conj()
    correlation = np.fft.irfft(cross / (np.abs(cross) ** 0.7 + 1e-9), length)
    lags = np.arange(-4000, 4001)
    lag = int(lags[np.abs(correlation[lags]).argmax()])
    mix = mix * np.sign(correlation[lag]).astype(np.float32)
    raw, mix = raw[max(0, -lag) :], mix[max(0, lag) :]
    count = min(len(raw), len(mix))
    return raw[:count], mix[:count]


@pytest.fixture(scope="module")
def pairs(shared_data: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    folder = shared_data / RESEARCH
    names = sorted(path.name.removesuffix("__dry.mp3") for path in folder.glob("*__dry.mp3"))
    return {name: aligned(mono(folder / f"{name}__dry.mp3"), mono(folder / f"{name}__wet.mp3")) for name in names}


@pytest.fixture(scope="module")
def measured(pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, SimpleNamespace]:
    return {name: measure(*pair) for name, pair in pairs.items()}


def full_mix(shared_data: Path, song: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Raw vocal, the whole song's mix, and the sum of all raw tracks, which are in time with each other."""
    stem = str(shared_data / "research/megami" / f"samples_MusicDelta_{song}_")
    kinds = ("dry_4instr_vocals", "mix_mixture", "equal_loudness_anchor")
    vocal, mix, tracks = (mono(Path(f"{stem}{kind}.wav_norm.flac")) for kind in kinds)
    return vocal, mix, tracks


def test_the_mix_that_is_its_raw_take(measured: dict[str, SimpleNamespace]) -> None:
    assert measured[UNPROCESSED].change_db < 0.3
    assert min(measures.change_db for name, measures in measured.items() if name != UNPROCESSED) > 0.65


def test_encoded_raw_takes_are_no_mixes(pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """As MP3 of about 96 kbit/s, turned up and half a millisecond late."""
    for raw, _ in list(pairs.values())[::4]:
        file = io.BytesIO()
        soundfile.write(
            file, 2 * np.roll(raw, 8), RATE_HZ, format="MP3", bitrate_mode="CONSTANT", compression_level=0.4
        )
        encoded = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")[0][: len(raw)]
        assert measure(raw, encoded).change_db < 0.45


def test_no_vocal_mix_bleeds(measured: dict[str, SimpleNamespace]) -> None:
    assert max(measures.bleed_db for measures in measured.values()) < -38


@pytest.mark.parametrize("song", SONGS)
def test_whole_songs_bleed(shared_data: Path, song: str) -> None:
    vocal, mix, _ = full_mix(shared_data, song)
    assert measure(*aligned(vocal, mix)).bleed_db > -25


def test_music_under_a_vocal_mix_is_found(
    shared_data: Path, pairs: dict[str, tuple[np.ndarray, np.ndarray]], measured: dict[str, SimpleNamespace]
) -> None:
    """Music at −10 dB under the mixes of four other songs, which hardly pause in their twelve seconds."""
    for name, song in zip(("FamilyBand_Again", "HopAlong_SisterCities", UNPROCESSED), SONGS, strict=False):
        vocal, _, tracks = full_mix(shared_data, song)
        music = np.resize(tracks - vocal * (tracks @ vocal) / (vocal @ vocal), len(pairs[name][1]))
        raw, mix = pairs[name]
        rises = [
            measure(raw, mix + music * mix.std() / music.std() * np.float32(10 ** (level_db / 20))).bleed_db
            for level_db in (-20, -10, 0)
        ]
        assert measured[name].bleed_db < rises[0] < rises[1] < rises[2] and rises[1] > -36


def test_raw_takes_are_dry_but_one(measured: dict[str, SimpleNamespace]) -> None:
    """The raw take that sounds as mixed as its mix is the odd one out here too."""
    dry = [measures.raw_reverberance_db for name, measures in measured.items() if name != UNPROCESSED]
    assert max(dry) < 17 and measured[UNPROCESSED].raw_reverberance_db > 22
    for name, measures in measured.items():
        assert name == UNPROCESSED or measures.mix_reverberance_db > measures.raw_reverberance_db + 3


def test_two_mixes_are_rephased(measured: dict[str, SimpleNamespace]) -> None:
    agreements = {name: measures.phase_agreement for name, measures in measured.items()}
    assert max(agreements[name] for name in REPHASED) < 0.18
    assert min(value for name, value in agreements.items() if name not in REPHASED) > 0.3


def test_own_mixes_are_alike_and_others_are_not(
    pairs: dict[str, tuple[np.ndarray, np.ndarray]], measured: dict[str, SimpleNamespace]
) -> None:
    assert min(measures.similarity for measures in measured.values()) > 0.7
    names = list(pairs)
    for raw_name, mix_name in zip(names, names[1:] + names[:1], strict=True):
        raw, mix = aligned(pairs[raw_name][0], pairs[mix_name][1])
        assert measure(raw, mix).similarity < 0.3
