"""The singer's filter: formants that move, and the spectra of consonants.

Formant frequencies are those that the Csound manual gives for sung vowels ("Formant Values" in its appendix); the
bandwidths are rounded means of the same table. The response is a cascade of resonances (Fant, Acoustic Theory of
Speech Production, 1960): its peaks get their relative levels from their frequencies, as in a tube. Above the fifth
formant it goes on with all the higher resonances of a uniform tube, in closed form: leaving them out would take tens
of decibels from the highs.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Register = Literal["soprano", "alto", "tenor", "bass"]

FORMANTS_HZ: dict[Register, dict[str, tuple[float, float, float, float, float]]] = {
    "soprano": {
        "a": (800, 1150, 2900, 3900, 4950),
        "e": (350, 2000, 2800, 3600, 4950),
        "i": (270, 2140, 2950, 3900, 4950),
        "o": (450, 800, 2830, 3800, 4950),
        "u": (325, 700, 2700, 3800, 4950),
    },
    "alto": {
        "a": (800, 1150, 2800, 3500, 4950),
        "e": (400, 1600, 2700, 3300, 4950),
        "i": (350, 1700, 2700, 3700, 4950),
        "o": (450, 800, 2830, 3500, 4950),
        "u": (325, 700, 2530, 3500, 4950),
    },
    "tenor": {
        "a": (650, 1080, 2650, 2900, 3250),
        "e": (400, 1700, 2600, 3200, 3580),
        "i": (290, 1870, 2800, 3250, 3540),
        "o": (400, 800, 2600, 2800, 3000),
        "u": (350, 600, 2700, 2900, 3300),
    },
    "bass": {
        "a": (600, 1040, 2250, 2450, 2750),
        "e": (400, 1620, 2400, 2800, 3100),
        "i": (250, 1750, 2600, 3050, 3340),
        "o": (400, 750, 2400, 2600, 2900),
        "u": (350, 600, 2400, 2675, 2950),
    },
}
BANDWIDTHS_HZ = (60.0, 85.0, 115.0, 130.0, 145.0)
# First resonance of the uniform tube, closed at the glottis, open at the lips; the others are its odd multiples.
TUBE_HZ: dict[Register, float] = {"soprano": 560.0, "alto": 540.0, "tenor": 500.0, "bass": 480.0}
TUBE_BANDWIDTH_HZ, TUBE_BANDWIDTH_SHARE = 60.0, 0.04  # bandwidth of a tube resonance: a constant, and a share of f

# Murmurs of the voiced consonants: the first three formants of an adult (Fant 1960; Stevens, Acoustic Phonetics, 1998).
MURMURS_HZ = {"m": (270.0, 1100.0, 2250.0), "n": (280.0, 1500.0, 2450.0), "l": (360.0, 1150.0, 2750.0)}

RINGING_S = 0.08  # the narrowest resonance has fallen by 130 dB after this time
FRAMES_PER_BATCH = 128

# Noise of the voiceless consonants: peak in Hz and width in octaves of a bell over the logarithm of frequency, after
# the spectra in Stevens 1998. /h/ has no spectrum of its own: it is breath through the vowel that follows.
NOISES = {
    "s": (7000.0, 0.45), "sh": (3600.0, 0.5), "f": (7500.0, 1.2),
    "t": (4500.0, 0.6), "k": (2000.0, 0.4), "p": (900.0, 0.8),
}  # fmt: skip
PLOSIVES = ("t", "k", "p")
NOISE_FLOOR = 0.03  # of the bell's peak: no turbulence is confined to a band


def resonance(frequency_hz: np.ndarray, centre_hz: np.ndarray | float, bandwidth_hz: np.ndarray | float) -> np.ndarray:
    """Second-order resonance with gain 1 at 0 Hz: F² / (F² − f² + i·f·B)."""
    squared = np.square(centre_hz)
    return squared / (squared - frequency_hz**2 + 1j * frequency_hz * bandwidth_hz)


def upper_response(frequency_hz: np.ndarray, register: Register, formant_scale: float) -> np.ndarray:
    """All resonances of a uniform tube from the sixth on, with gain 1 at 0 Hz: fixed for one voice.

    A lossy tube's response is 1 / cosh(πs / 2) with s = (i·f + β) / f₁; as cosh(πs / 2) is the product of all
    1 + s² / (2n − 1)² (Euler), multiplying by the first five of these factors takes the first five resonances away.
    """
    first_hz = formant_scale * TUBE_HZ[register]
    loss = (TUBE_BANDWIDTH_HZ + TUBE_BANDWIDTH_SHARE * frequency_hz) / (2 * first_hz)
    s = loss + 1j * frequency_hz / first_hz
    at_zero = TUBE_BANDWIDTH_HZ / (2 * first_hz)
    response = np.cosh(np.pi / 2 * at_zero) / np.cosh(np.pi / 2 * s)
    for odd in (1, 3, 5, 7, 9):
        response *= (1 + s**2 / odd**2) / (1 + at_zero**2 / odd**2)
    return response


def fade_below_nyquist(frequency_hz: np.ndarray, sample_rate: int) -> np.ndarray:
    """1 up to 0.45 of the sample rate, then a half cosine down to 0 at Nyquist, as a converter's filter has it.

    A response that is not real at Nyquist would ring for the whole length of the FFT.
    """
    return 0.5 + 0.5 * np.cos(np.pi * np.clip((frequency_hz / sample_rate - 0.45) / 0.05, 0.0, 1.0))


def formant_response(frequency_hz: np.ndarray, formants_hz: np.ndarray) -> np.ndarray:
    """Response of five formants [..., 5] at the frequencies [bins]: shape [..., bins]."""
    response = np.ones((*formants_hz.shape[:-1], len(frequency_hz)), np.complex128)
    for index, bandwidth in enumerate(BANDWIDTHS_HZ):
        response *= resonance(frequency_hz, formants_hz[..., index, None], bandwidth)
    return response


def filter_moving(
    source: np.ndarray,
    formants_hz: np.ndarray,
    register: Register,
    formant_scale: float,
    *,
    hop_samples: int,
    sample_rate: int,
) -> np.ndarray:
    """Pass a signal through formants that move from frame to frame, without clicks; the length is kept.

    source: [samples] = (frames − 1)·hop. formants_hz: [frames, 5]. Every frame's filter sees the signal through a Hann
    window two hops long, so the result is a crossfade between the outputs of fixed filters, and formants that stand
    still make exactly one fixed filter.
    """
    fft_samples = 1 << int(RINGING_S * sample_rate + 2 * hop_samples).bit_length()
    frequency = np.fft.rfftfreq(fft_samples, 1 / sample_rate)
    upper = upper_response(frequency, register, formant_scale) * fade_below_nyquist(frequency, sample_rate)
    window = 0.5 - 0.5 * np.cos(np.pi * np.arange(2 * hop_samples) / hop_samples)
    framed = sliding_window_view(np.pad(source, hop_samples), 2 * hop_samples)[::hop_samples]
    output = np.zeros(len(source) + hop_samples + fft_samples)
    for start in range(0, len(framed), FRAMES_PER_BATCH):
        batch = slice(start, start + FRAMES_PER_BATCH)
        distinct, which = np.unique(formants_hz[batch], axis=0, return_inverse=True)
        response = upper * formant_response(frequency, distinct)
        filtered = np.fft.irfft(np.fft.rfft(framed[batch] * window, fft_samples) * response[which], fft_samples)
        for frame, ringing in enumerate(filtered, start):
            output[frame * hop_samples : frame * hop_samples + fft_samples] += ringing
    return output[hop_samples : hop_samples + len(source)]


def consonant_noise(kind: str, duration_s: float, *, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """Noise of the consonant `kind` with an RMS of 1 before its envelope; plosives decay, fricatives swell and fade."""
    samples = round(duration_s * sample_rate)
    centre, width = NOISES[kind]
    frequency = np.fft.rfftfreq(samples, 1 / sample_rate)
    bell = np.exp(-0.5 * (np.log2(np.maximum(frequency, 1.0) / centre) / width) ** 2)
    spectrum = np.fft.rfft(generator.standard_normal(samples)) * (bell + NOISE_FLOOR * (frequency > 0))
    noise = np.fft.irfft(spectrum, samples)
    noise /= np.sqrt(np.mean(noise**2))
    position = (np.arange(samples) + 0.5) / samples
    if kind in PLOSIVES:
        return noise * np.minimum(position / 0.05, 1.0) * np.exp(-5 * position) * (1 - position)
    return noise * np.minimum(1.0, 3 * np.sin(np.pi * position) ** 2)
