"""The singer's sound source: a band-limited glottal pulse train, and the irregularities that make it alive.

The pulse is the polynomial flow derivative of KLGLOTT88 (Klatt & Klatt, J. Acoust. Soc. Am. 87, 1990), whose Fourier
coefficients have a closed form, followed by the first-order low-pass that stands for the return phase of the
Liljencrants–Fant model (Fant, Liljencrants & Lin, STL-QPSR 4/1985): the softer the voice, the slower the folds close,
the steeper the spectrum. Summing harmonics that all lie below Nyquist leaves nothing to alias.
"""

from __future__ import annotations

import numpy as np

FADE_START, FADE_END = 0.45, 0.49  # harmonics fade out between these fractions of the sample rate
FRAMES_PER_BLOCK = 32  # so that one block of Horner's scheme stays in the processor's cache


def pulse_coefficients(harmonics: np.ndarray, open_quotient: np.ndarray) -> np.ndarray:
    """Fourier coefficients of one period of the flow derivative, shapes broadcast against each other.

    Over a period of length 1 the derivative is 2x − 3x² with x = t / open_quotient while the glottis is open
    (0 ≤ x ≤ 1), and 0 afterwards; its mean is 0, its negative peak −1 at closure.
    harmonics: 1, 2, …; open_quotient: open share of the period, 0 to 1.
    """
    a = 2j * np.pi * harmonics * open_quotient
    decay = np.exp(-a)
    first_moment = (1 - decay * (1 + a)) / a**2
    second_moment = (2 - decay * (a**2 + 2 * a + 2)) / a**3
    return open_quotient * (2 * first_moment - 3 * second_moment)


def source_spectrum(
    harmonics: np.ndarray, f0_hz: np.ndarray, open_quotient: np.ndarray, return_hz: np.ndarray, sample_rate: int
) -> np.ndarray:
    """Complex amplitudes of the source's harmonics (one-sided: the signal is the real part of their sum).

    f0_hz, open_quotient and return_hz broadcast against harmonics. return_hz is the corner of the return phase:
    above it the source falls by 6 dB per octave more. Harmonics fade to nothing before Nyquist.
    """
    frequency = harmonics * f0_hz
    fade = np.clip((FADE_END * sample_rate - frequency) / ((FADE_END - FADE_START) * sample_rate), 0.0, 1.0)
    return 2 * fade * pulse_coefficients(harmonics, open_quotient) / (1 + 1j * frequency / return_hz)


def harmonics_below_nyquist(f0_hz: float, sample_rate: int) -> np.ndarray:
    return np.arange(1, int(FADE_END * sample_rate / f0_hz) + 1)


def glottal_phase(f0_hz: np.ndarray, *, hop_samples: int, sample_rate: int) -> np.ndarray:
    """Phase in radians at every sample, from f0 at control frames `hop_samples` apart: (frames − 1)·hop samples."""
    position = np.arange((len(f0_hz) - 1) * hop_samples) / hop_samples
    return 2 * np.pi / sample_rate * np.cumsum(np.interp(position, np.arange(len(f0_hz)), f0_hz))


def glottal_source(
    phase: np.ndarray,
    f0_hz: np.ndarray,
    amplitude: np.ndarray,
    open_quotient: np.ndarray,
    return_hz: np.ndarray,
    *,
    hop_samples: int,
    sample_rate: int,
) -> np.ndarray:
    """Band-limited glottal flow derivative [samples]; everything but `phase` is given at the control frames.

    Within a hop the harmonics' complex amplitudes are interpolated linearly: Horner's scheme evaluates the sum with
    the amplitudes of the frame before and of the frame after, and the two are crossfaded.
    """
    intervals = len(f0_hz) - 1
    carrier = np.exp(1j * phase).astype(np.complex64).reshape(intervals, hop_samples)
    rise = (np.arange(hop_samples) / hop_samples).astype(np.float32)
    output = np.zeros((intervals, hop_samples))
    for start in range(0, intervals, FRAMES_PER_BLOCK):
        frames = slice(start, min(start + FRAMES_PER_BLOCK, intervals) + 1)
        if not amplitude[frames].any():
            continue
        harmonics = harmonics_below_nyquist(f0_hz[frames].min(), sample_rate)
        spectrum = amplitude[frames] * source_spectrum(
            harmonics[:, None], f0_hz[frames], open_quotient[frames], return_hz[frames], sample_rate
        )
        block = carrier[frames.start : frames.stop - 1]
        before_after = np.stack([spectrum[:, :-1], spectrum[:, 1:]], axis=1).astype(np.complex64)
        total = np.zeros((2, *block.shape), np.complex64)
        for harmonic in before_after[::-1]:
            total += harmonic[:, :, None]
            total *= block
        output[frames.start : frames.stop - 1] = total[0].real * (1 - rise) + total[1].real * rise
    return output.reshape(-1)


def cycle_noise(f0_hz: np.ndarray, *, frame_rate_hz: float, generator: np.random.Generator) -> np.ndarray:
    """Noise of unit variance per glottal cycle, read at the control frames: the shape of jitter and of shimmer."""
    cycles = np.cumsum(f0_hz) / frame_rate_hz
    return np.interp(cycles, np.arange(int(cycles[-1]) + 2), generator.standard_normal(int(cycles[-1]) + 2))


def slow_noise(frames: int, *, rate_hz: float, frame_rate_hz: float, generator: np.random.Generator) -> np.ndarray:
    """Smooth random drift: independent standard normal values `rate_hz` times a second, joined by half cosines."""
    position = np.arange(frames) * rate_hz / frame_rate_hz
    values = generator.standard_normal(int(position[-1]) + 2)
    index = position.astype(int)
    weight = 0.5 - 0.5 * np.cos(np.pi * (position - index))
    return values[index] * (1 - weight) + values[index + 1] * weight
