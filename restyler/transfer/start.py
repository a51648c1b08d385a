"""Where the search for a chain begins: tone by long-term spectra, dynamics by levels, echoes by deconvolution."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import torch
from scipy.signal import stft

from audio.effects import Compressor, compress
from restyler.transfer.devices import equalise
from restyler.transfer.filters import TONE, response
from restyler.transfer.fourier import spectra
from restyler.transfer.knobs import EQUALISER, KNOBS, places, values

TONE_FRAME_S = 0.043
TONE_HZ = np.geomspace(30, 18000, 64)
TONE_STEPS = 100
TONE_RATE = 0.12
LEVEL_FRAME_S = 0.02
ACTIVE_DB = 30.0  # under the loudest frames: what lies deeper is pause, and tells of noise and reverb
RATIOS = (2.0, 4.0, 8.0)
TIMES_MS = ((1.0, 50.0), (5.0, 120.0), (30.0, 250.0))
ECHO_S = (0.06, 0.95)  # where an echo is looked for: what comes sooner is room
ECHO_HZ = (200.0, 5000.0)
ECHO_SMOOTH_S = 0.003
ECHO_OVER = 20.0  # the energy of an echo against the median of the response
DECONVOLUTION_FLOOR = 0.03
SHARES = (20, 50, 80)  # of the active frames, in percent, that lie under the threshold


def first_guess(take: np.ndarray, mix: np.ndarray, sample_rate: int) -> dict[str, float]:
    """Values of some knobs for a take [channels samples] and its mix [2 samples] of the same length."""
    length = take.shape[1] // 2 * 2
    # The louder channel, not the middle: that could be silent.
    dry, wet = (each[(each**2).sum(axis=1).argmax(), :length] for each in (take, mix))
    found = tone(dry, wet, sample_rate)
    at = {name: torch.tensor(float(found.get(name, knob.start))) for name, knob in KNOBS.items()}
    with torch.no_grad():
        equalised = equalise(at, spectra(torch.from_numpy(dry)[None].float()), sample_rate)[0].numpy()
    return found | dynamics(equalised, wet, sample_rate) | echo(equalised, wet, sample_rate)


def tone(dry: np.ndarray, wet: np.ndarray, sample_rate: int) -> dict[str, float]:
    """Values of the equaliser that turns the long-term spectrum of one signal into the other's, but for a gain."""
    frame = round(TONE_FRAME_S * sample_rate) // 2 * 2
    spectra = [np.abs(stft(each, sample_rate, nperseg=frame)[2]) ** 2 for each in (dry, wet)]
    loudness = spectra[0].sum(axis=0)
    active = loudness > loudness.max() * 10 ** (-ACTIVE_DB / 10)
    frequency_hz = np.fft.rfftfreq(frame, 1 / sample_rate)
    bands = [_in_bands(each[:, active].mean(axis=1), frequency_hz) for each in spectra]
    # Where the take has nothing to lift, the ratio says nothing.
    weight = torch.from_numpy((bands[0] > bands[0].max() * 1e-7).astype(np.float32))
    wanted_db = torch.from_numpy((10 * np.log10((bands[1] + 1e-15) / (bands[0] + 1e-15))).astype(np.float32))
    names = [name for name in KNOBS if name.split(".")[0] in EQUALISER]
    gains = torch.tensor([name.endswith("gain_db") for name in names])
    at = places({}, names).requires_grad_()
    level_db = ((wanted_db * weight).sum() / weight.sum()).clone().requires_grad_()
    turn = torch.exp(-2j * torch.pi * torch.from_numpy(TONE_HZ).float() / sample_rate)
    rates = [{"params": [at], "lr": TONE_RATE}, {"params": [level_db], "lr": 4 * TONE_RATE}]
    optimiser = torch.optim.Adam(rates)
    for _ in range(TONE_STEPS):
        optimiser.zero_grad()
        found_db = 20 * torch.log10(response(values(at, names), TONE, turn, sample_rate).abs() + 1e-6) + level_db
        loss = ((found_db - wanted_db).abs() * weight).sum() / weight.sum()
        loss = loss + 0.01 * at[gains].square().sum()
        loss.backward()
        optimiser.step()
    return {name: value.item() for name, value in values(at, names).items()}


def _in_bands(power: np.ndarray, frequency_hz: np.ndarray) -> np.ndarray:
    """Power around each of TONE_HZ, smoothed over a third of an octave either side."""
    distance = np.abs(np.log2(np.maximum(frequency_hz, 1)[None] / TONE_HZ[:, None]))
    weights = np.clip(1 - distance * 4, 0, None)
    nearest = np.abs(frequency_hz[None] - TONE_HZ[:, None]).argmin(axis=1)
    weights[np.arange(len(TONE_HZ)), nearest] += 1e-3
    return np.asarray((weights @ power) / weights.sum(axis=1))


def dynamics(dry: np.ndarray, wet: np.ndarray, sample_rate: int) -> dict[str, float]:
    """Values of the compressor under which the level of one signal moves as the other's does."""
    frame = round(LEVEL_FRAME_S * sample_rate)
    level_db, target_db = (_levels_db(each, frame) for each in (dry, wet))
    active = level_db > level_db.max() - ACTIVE_DB
    peaks_db = level_db[active] + 6.0  # a voice's smoothed peak level over its RMS
    best: tuple[float, Mapping[str, float]] = (np.inf, {})
    thresholds_db = [float(np.percentile(peaks_db, share)) for share in SHARES]
    for threshold_db, ratio, (attack_ms, release_ms) in [
        (0.0, 1.1, TIMES_MS[1]),
        *itertools.product(thresholds_db, RATIOS, TIMES_MS),
    ]:
        told = {"threshold_db": threshold_db, "ratio": ratio, "attack_ms": attack_ms, "release_ms": release_ms}
        out_db = _levels_db(compress(Compressor(**told, makeup_db=0.0), dry[None], sample_rate)[0], frame)
        difference_db = (target_db - out_db)[active]
        makeup_db = float(np.median(difference_db))
        error_db = float(np.abs(difference_db - makeup_db).mean())
        if error_db < best[0]:
            best = error_db, told | {"makeup_db": makeup_db}
    return {f"compressor.{name}": value for name, value in best[1].items()}


def echo(dry: np.ndarray, wet: np.ndarray, sample_rate: int) -> dict[str, float]:
    """Time and level of the first echo, where the response from one signal to the other has one; else nothing."""
    size = 2 * len(dry)
    take, mix = np.fft.rfft(dry, size), np.fft.rfft(wet, size)
    power = np.abs(take) ** 2
    voiced = np.fft.rfftfreq(size, 1 / sample_rate)
    band = (voiced > ECHO_HZ[0]) & (voiced < ECHO_HZ[1])
    response = np.fft.irfft(band * mix * take.conj() / (power + DECONVOLUTION_FLOOR * power[band].mean()), size)
    smooth = round(ECHO_SMOOTH_S * sample_rate)
    energy = np.convolve(response**2, np.ones(smooth), mode="same")
    first, last = (round(time_s * sample_rate) for time_s in ECHO_S)
    direct = max(energy[:smooth].max(), energy[-smooth:].max())
    heard = energy[first : min(last, len(dry) // 2)]
    if len(heard) == 0 or not heard.max() > ECHO_OVER * np.median(heard) or heard.max() < 1e-4 * direct:
        return {}
    time_ms = 1000 * (first + int(heard.argmax())) / sample_rate
    return {
        "ping_pong_delay.time_ms": time_ms,
        "ping_pong_delay.wet_db": 10 * float(np.log10(min(heard.max() / direct, 1.0))),
    }


def _levels_db(samples: np.ndarray, frame: int) -> np.ndarray:
    whole = samples[: len(samples) // frame * frame].reshape(-1, frame)
    return np.asarray(10 * np.log10((whole**2).mean(axis=1) + 1e-10))
