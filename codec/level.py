"""The level of a waveform as a track of dB values at the frame rate, and a waveform brought to such a track.

Level is mean-square power over all channels, never of their sum: an anti-phase pair is as loud as an in-phase one.
0 dB is a full-scale square wave (a full-scale sine has −3 dB). Power is smoothed over time by a Hann kernel and
shifted up by a floor before the logarithm, so that silence is a finite value, the track has no kink there, and the
way back, subtracting the floor, is exact.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

FLOOR_DB = -80.0
FLOOR_POWER = 10 ** (FLOOR_DB / 10)
# What lies 30 dB under the floor is silence: far above the rounding of a float32 track, below 16-bit dither.
SILENCE_POWER = FLOOR_POWER * 1e-3
SMOOTHING_FRAMES = 15


def smoothed_power(waveform: torch.Tensor, hop_samples: int) -> torch.Tensor:
    """[batch channels samples], a whole number of frames → mean-square power [batch 1 frames], smoothed.

    Always in float32, whatever the precision of the network: silence must stay 0, and −100 dB a number. At the ends
    the kernel covers the frames that there are, so that a stationary signal has a flat track.
    """
    batch, channels, samples = waveform.shape
    frames = waveform.float().reshape(batch, channels, samples // hop_samples, hop_samples)
    power = frames.square().mean(dim=(1, 3)).unsqueeze(1)
    kernel = torch.hann_window(SMOOTHING_FRAMES + 2, periodic=False, dtype=power.dtype, device=power.device)[1:-1]
    half = SMOOTHING_FRAMES // 2

    def smooth(track: torch.Tensor) -> torch.Tensor:
        return (F.pad(track, (half, half)).unfold(-1, SMOOTHING_FRAMES, 1) * kernel).sum(dim=-1)

    return smooth(power) / smooth(torch.ones_like(power))


def power_to_db(power: torch.Tensor) -> torch.Tensor:
    """Power → dB above a full-scale square wave, with the floor added: silence is FLOOR_DB exactly."""
    return 10 * torch.log10(power + FLOOR_POWER)


def db_to_power(level_db: torch.Tensor) -> torch.Tensor:
    """The inverse of `power_to_db`; what lies under SILENCE_POWER becomes exactly 0."""
    power = 10 ** (level_db / 10) - FLOOR_POWER
    return torch.where(power > SILENCE_POWER, power, torch.zeros_like(power))


def match_level(waveform: torch.Tensor, power: torch.Tensor, hop_samples: int) -> torch.Tensor:
    """Brings a waveform to a level track by a smooth gain.

    waveform: [batch channels samples]. power: the wanted smoothed power [batch 1 frames]; 0 gives digital silence.
    The gain is √(wanted / own), both smoothed alike, and runs linearly between the centres of the frames. A waveform
    that has the wanted dynamics already is therefore only scaled; one that has others is given the wanted ones.
    """
    own = smoothed_power(waveform, hop_samples).clamp_min(torch.finfo(torch.float32).tiny)
    audible = power > 0  # kept out of the root, whose gradient at 0 is infinite
    gain = (torch.where(audible, power, own) / own).sqrt() * audible
    return waveform * F.interpolate(gain, scale_factor=hop_samples, mode="linear", align_corners=False)
