"""Reconstruction losses for codecs: pure functions of two stereo signals."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
import torchaudio

FFT_SIZES = (128, 512, 2048)  # hop a quarter, Hann: the resolutions that mixes are scored with (DiffVox, 2025)

MATCHED_RMS = 0.1
FLOOR_RMS = 1e-4  # references below this are not raised further, so silence does not turn into noise
LEVEL_FRAMES = 8  # of the longest window, a quarter apart: what a level is averaged over, 78 ms at 48 kHz
LEAST_POWER = 1e-8
LEAST_SHARE = 1e-7  # of the mean power of a band: what is softer is no colour, it is nothing
SILENCE = 0.02  # A-weighted magnitude below which convergence turns absolute: silence has no relative error


def stereo_views(audio: torch.Tensor) -> torch.Tensor:
    """[batch 2 samples] → left, right, mid and side, [batch 4 samples]; mid and side are half sum and difference."""
    left, right = audio[:, 0], audio[:, 1]
    return torch.stack([left, right, (left + right) / 2, (left - right) / 2], dim=1)


def matched_level(reference: torch.Tensor, estimate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both signals [batch channels samples] by the one gain that brings the reference to an RMS of 0.1.

    A quiet passage then counts as much as a loud one.
    """
    gain = MATCHED_RMS / reference.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(FLOOR_RMS)
    return reference * gain, estimate * gain


def magnitudes(audio: torch.Tensor, n_fft: int) -> torch.Tensor:
    """[… samples] → [… bins frames], each at least the root of LEAST_POWER: Hann windows, hop a quarter."""
    window = torch.hann_window(n_fft, device=audio.device, dtype=audio.dtype)
    spectrum = torch.stft(audio.flatten(0, -2), n_fft, n_fft // 4, window=window, return_complex=True)
    power = spectrum.real.square() + spectrum.imag.square()
    return power.clamp_min(LEAST_POWER).sqrt().unflatten(0, audio.shape[:-1])


def a_weighting(frequencies_hz: torch.Tensor) -> torch.Tensor:
    """Gain of the A curve (IEC 61672-1, annex E), 1 at 1 kHz."""
    f2 = frequencies_hz.double().square()
    gain = (12194.0**2 * f2 * f2) / ((f2 + 20.6**2) * torch.sqrt((f2 + 107.7**2) * (f2 + 737.9**2)) * (f2 + 12194.0**2))
    return (gain * 10 ** (2.0 / 20)).to(frequencies_hz.dtype)


def spectral_losses(
    reference: torch.Tensor, estimate: torch.Tensor, *, sample_rate: int, fft_sizes: Sequence[int] = FFT_SIZES
) -> dict[str, torch.Tensor]:
    """Multi-resolution STFT and mel distances over left, right, mid and side, each [batch].

    convergence: Frobenius norm of the difference of A-weighted magnitudes over that of the reference;
    log_magnitude: mean absolute difference of natural log magnitudes (Yamamoto et al. 2020, eqs. 4 and 5);
    mel: mean absolute difference of natural log power in 80 mel bands of the longest window;
    level: the same of the bands' power averaged over eight frames. Where the waveform is not kept, waveform and
    convergence are least for noise that is too soft; averages of many magnitudes are alike where the energy is right.
    Bands 70 dB below the reference's mean count as empty.
    Convergence is taken on the four views together, and absolutely for silence, so neither an almost empty side nor
    a pause can blow it up.
    """
    x, y = stereo_views(reference), stereo_views(estimate)
    convergence, log_magnitude = [], []
    mel = level = x.new_zeros(x.shape[0])
    for n_fft in fft_sizes:
        a, b = magnitudes(x, n_fft), magnitudes(y, n_fft)
        weight = a_weighting(torch.fft.rfftfreq(n_fft, 1 / sample_rate, device=x.device))[:, None]
        difference, scale = (m.square().mean(dim=(1, 2, 3)).sqrt() for m in ((a - b) * weight, a * weight))
        convergence.append(difference / (scale + SILENCE))
        log_magnitude.append((a.log() - b.log()).abs().mean(dim=(1, 2, 3)))
        if n_fft == max(fft_sizes):
            bank = torchaudio.functional.melscale_fbanks(
                n_fft // 2 + 1, 0.0, sample_rate / 2, 80, sample_rate, norm="slaney", mel_scale="slaney"
            ).to(x)
            powers = [m.square().mT @ bank for m in (a, b)]  # [batch views frames bands]
            mel = _log_difference(*powers, floor=torch.full_like(level, LEAST_POWER))
            quiet = (powers[0].mean(dim=(1, 2, 3)) * LEAST_SHARE).clamp_min(LEAST_POWER)
            level = _log_difference(*(_averaged_over_frames(power) for power in powers), floor=quiet)
    return {
        "convergence": torch.stack(convergence).mean(0),
        "log_magnitude": torch.stack(log_magnitude).mean(0),
        "mel": mel,
        "level": level,
    }


def _log_difference(one: torch.Tensor, other: torch.Tensor, *, floor: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of the natural logs of two powers [batch …], none below `floor` [batch]; [batch]."""
    one, other = (torch.maximum(power.flatten(1), floor[:, None]) for power in (one, other))
    return (one.log() - other.log()).abs().mean(1)


def _averaged_over_frames(power: torch.Tensor) -> torch.Tensor:
    """[batch views frames bands] → means over LEVEL_FRAMES frames (all where they are fewer), a quarter apart."""
    frames = min(LEVEL_FRAMES, power.shape[2])
    return F.avg_pool2d(power, (frames, 1), stride=(max(1, frames // 4), 1))


def reconstruction_losses(
    reference: torch.Tensor, estimate: torch.Tensor, *, sample_rate: int
) -> dict[str, torch.Tensor]:
    """Every reconstruction term at matched level, each [batch]: waveform (L1 over RMS) and the spectral losses."""
    x, y = matched_level(reference, estimate)
    waveform = (x - y).abs().mean(dim=(1, 2)) / x.square().mean(dim=(1, 2)).sqrt().clamp_min(1e-3)
    return {"waveform": waveform, **spectral_losses(x, y, sample_rate=sample_rate)}
