"""The live student: a causal network that turns the knobs of a mixing desk, frame by frame.

It hears the take in bands, and says how loud each band of the middle is to be and how much of it goes into a room; the
room is noise that dies away, faster or slower in each band, on its own in the middle and at the sides. What it is told
changes how it hears, a fixed equaliser, and the room. The take itself never passes through the network: only gains do,
so that its phase stays, and the mix may be faded into the take without a comb.

Everything is relative to the level of the last seconds, so that a louder take gives the same mix, louder.
"""

import math

import torch
from torch import nn

from restyler.student.spectra import (
    BINS,
    FRAMES_PER_S,
    analysis_window,
    bands_to_bins,
    overlapped,
    spectra,
    synthesis_window,
)

FLOOR_DB = -90.0  # of a band against the level, and of the level against full scale
LEVEL_FALL_DB_PER_S = 3.0
MOST_GAIN_NEPERS = 3.0  # of a band: 26 dB
NOISE_SEED = 20070903  # of the room's noise: part of the network as its weights are
SLOPES = 2  # a room has an early part and a late one


class StudentNetwork(nn.Module):
    """styles: how many the style knob goes over. heard_bands: the take is heard in. gain_bands, room_bands: where gains
    and the room's level and decay are set. width: of the recurrent layer. told_width: of what the knobs become.
    room_frames: how long the room rings on, in frames of 10 ms."""

    # TorchScript reads these, so they are types here, not text: no `annotations` of the future in this file.
    analysis: torch.Tensor
    synthesis: torch.Tensor
    to_bands: torch.Tensor
    gain_bins: torch.Tensor
    room_bins: torch.Tensor
    noise: torch.Tensor

    def __init__(
        self,
        *,
        styles: int,
        heard_bands: int = 40,
        gain_bands: int = 28,
        room_bands: int = 12,
        width: int = 96,
        told_width: int = 48,
        room_frames: int = 100,
    ) -> None:
        super().__init__()
        self.styles, self.gain_bands, self.room_bands, self.width = styles, gain_bands, room_bands, width
        self.heard_bands, self.room_frames = heard_bands, room_frames
        # TorchScript sees attributes, and no constants of the module.
        self.floor_db, self.most_gain, self.slopes = FLOOR_DB, MOST_GAIN_NEPERS, SLOPES
        self.fall_db, self.frames_per_s = LEVEL_FALL_DB_PER_S / FRAMES_PER_S, FRAMES_PER_S
        self.tell = nn.Sequential(
            nn.Linear(2 + styles, told_width), nn.SiLU(), nn.Linear(told_width, told_width), nn.SiLU()
        )
        self.hear = nn.Linear(heard_bands, width)
        self.hear_scale = nn.Linear(told_width, 2 * width)
        self.remember = nn.GRU(width, width, batch_first=True)
        self.say_scale = nn.Linear(told_width, 2 * width)
        self.say = nn.Linear(width, gain_bands + room_bands)
        self.equalise = nn.Linear(told_width, gain_bands)
        self.room = nn.Linear(told_width, 2 * 2 * SLOPES * room_bands)
        self._begin()
        bins = bands_to_bins(heard_bands)
        for name, buffer in {
            "analysis": analysis_window(),
            "synthesis": synthesis_window(),
            "to_bands": (bins / bins.sum(1, keepdim=True)).T.contiguous() / analysis_window().square().sum(),
            "gain_bins": bands_to_bins(gain_bands),
            "room_bins": bands_to_bins(room_bands),
            "noise": _noise(room_frames),
        }.items():
            self.register_buffer(name, buffer, persistent=False)

    def _begin(self) -> None:
        """At its start the network leaves the middle as it is, and its room is short and 20 dB softer."""
        for layer in (self.hear_scale, self.say_scale, self.say, self.equalise, self.room):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def told(self, knobs: torch.Tensor) -> torch.Tensor:
        """Knobs [batch 3], brightness, space and style, 0 … 1 each → what the network is told, [batch told_width]."""
        place = knobs[:, 2:3] * (self.styles - 1)
        shares = (1 - (place - torch.arange(self.styles, device=knobs.device)).abs()).clamp_min(0)
        return self.tell(torch.cat([2 * knobs[:, :2] - 1, shares], dim=1))

    def room_kernel(self, told: torch.Tensor) -> torch.Tensor:
        """How the room answers, complex [batch 2 room_frames BINS], middle and side: exponential decays of noise, an
        early and a late one in each band."""
        batch = told.shape[0]
        level, fall = self.room(told).view(batch, 2, 2, self.slopes, self.room_bands).unbind(1)
        level = torch.matmul(8 * level, self.room_bins)  # [batch 2 SLOPES BINS]; large steps: the weights are small
        fall = torch.matmul(4 * fall, self.room_bins)
        usual_s = torch.tensor([0.03, 0.3], device=told.device)[:, None]  # in which a decay falls by a neper
        usual_level = torch.tensor([-2.5, -4.5], device=told.device)[:, None]
        per_frame = fall.clamp(-2.0, 2.0).exp() / (usual_s * self.frames_per_s)
        time = torch.arange(self.room_frames, device=told.device)[:, None]
        height = (usual_level + level.clamp(-6.0, 4.0))[:, :, :, None, :] - per_frame[:, :, :, None, :] * time
        return height.exp().sum(2) * self.noise

    def follow(self, power_db: torch.Tensor, before_db: torch.Tensor) -> torch.Tensor:
        """The level of each frame, [batch frames], in dB: the loudest of what was, less LEVEL_FALL_DB_PER_S since.

        power_db [batch frames]; before_db [batch], the level before the first of them.
        """
        fall_db = torch.arange(1, power_db.shape[1] + 1, device=power_db.device) * self.fall_db
        return torch.cat([before_db[:, None], power_db + fall_db], dim=1).cummax(dim=1)[0][:, 1:] - fall_db

    def gains(
        self, heard: torch.Tensor, told: torch.Tensor, level_db: torch.Tensor, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the take's spectra [batch frames BINS] make the network do.

        Gains of the middle and of what goes into the room, [batch frames BINS] each, then what to go on from: the level
        [batch] and the recurrent state [1 batch width].
        """
        power = torch.view_as_real(heard).square().sum(-1)
        bands_db = 10 * torch.log10(torch.matmul(power, self.to_bands).clamp_min(1e-12))
        whole_db = 10 * torch.log10(torch.matmul(power, self.to_bands).sum(2).clamp_min(1e-12))
        levels_db = self.follow(whole_db.clamp_min(self.floor_db), level_db)
        relative = ((bands_db - levels_db[:, :, None]).clamp_min(self.floor_db) + 40) / 20
        scale, shift = self.hear_scale(told)[:, None].chunk(2, dim=2)
        felt = nn.functional.silu(self.hear(relative) * (1 + scale) + shift)
        remembered, hidden = self.remember(felt, hidden)
        scale, shift = self.say_scale(told)[:, None].chunk(2, dim=2)
        said = self.say(remembered * (1 + scale) + shift)
        middle = said[:, :, : self.gain_bands] * 4 + self.equalise(told)[:, None] * 4
        sent = said[:, :, self.gain_bands :] * 4
        middle = self.most_gain * torch.tanh(torch.matmul(middle, self.gain_bins) / self.most_gain)
        sent = self.most_gain * torch.tanh(torch.matmul(sent, self.room_bins) / self.most_gain)
        return middle.exp(), sent.exp(), levels_db[:, -1], hidden

    @torch.jit.unused  # what is compiled goes frame by frame
    def forward(self, takes: torch.Tensor, knobs: torch.Tensor) -> torch.Tensor:
        """Whole takes at once: [batch samples] at 48 kHz, knobs [batch 3] → mixes [batch 2 samples], left and right, in
        time with the takes."""
        told = self.told(knobs)
        heard = spectra(takes, self.analysis)
        batch = takes.shape[0]
        before_db = torch.full((batch,), FLOOR_DB, device=takes.device)
        hidden = torch.zeros(1, batch, self.width, device=takes.device)
        middle, sent, _, _ = self.gains(heard, told, before_db, hidden)
        room = _convolved(heard * sent, self.room_kernel(told))
        mid, side = heard * middle + room[:, 0], room[:, 1]
        return overlapped(torch.stack([mid + side, mid - side], dim=1), self.synthesis, takes.shape[1])


def _noise(frames: int) -> torch.Tensor:
    """Complex noise of mean power 1, [2 frames BINS]."""
    draws = torch.Generator().manual_seed(NOISE_SEED)
    return torch.view_as_complex(torch.randn(2, frames, BINS, 2, generator=draws) / math.sqrt(2))


def _convolved(sent: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Spectra [batch frames BINS] over time through [batch 2 taps BINS] → [batch 2 frames BINS], by transforms."""
    frames = sent.shape[1]
    length = 1 << (frames + kernel.shape[2] - 2).bit_length()
    product = torch.fft.fft(sent, length, dim=1)[:, None] * torch.fft.fft(kernel, length, dim=2)
    return torch.fft.ifft(product, dim=2)[:, :, :frames]
