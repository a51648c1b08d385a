"""The pocket codec: a small codec for 48 kHz stereo vocals that works entirely at the latent frame rate.

    mid, side ─ MDCT ─▶ coefficients ÷ level ÷ bin scale ─ linear + ConvNeXt ─▶ 255 channels  + log level

Three ideas keep it small. The MDCT hands the network a critically sampled signal at the frame rate, and a linear
path around the networks carries the waveform's phase from the first step (in the spirit of Vocos, Siuzdak 2023, whose
decoder also works at the frame rate). The level of the sound is taken out and travels as a channel of its own, so quiet
passages keep the same relative precision as loud ones and silence stays silence; the decoder is held to that level,
whatever it makes of the shape. Highs that the linear path can't afford are filled by copies of lower bins under a
decoded gain, as in spectral band replication (Dietz et al. 2002).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from diffusers import ModelMixin  # noqa: F401  (diffusers finds custom components by this name in their module)
from diffusers.configuration_utils import register_to_config
from torch import nn

from audio import on_disk
from codec.base import LatentCodec
from codec.mdct import dct_iv, inverse_mdct, mdct

FLOOR_DBFS = -90.0  # the level channel never goes below this RMS
FLOOR_POWER = 10 ** (FLOOR_DBFS / 10)
LEVEL_REACH_FRAMES = 12  # the level is smoothed by a Hann window that reaches this far to both sides
MAX_CORRECTION = 10.0  # 20 dB: sound unlike any voice, such as noise in anti-phase, is decoded up to 17 dB too soft
EXCITATION_BINS = (24, 104)  # 1.8 … 7.8 kHz at 48 kHz: where highs are copied from


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over frames, then a two-layer network per frame (Liu et al. 2022)."""

    def __init__(self, width: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width)
        self.project = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [batch frames width]
        y = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return x + self.scale * self.project(F.gelu(self.expand(self.norm(y))))


class PocketCodec(LatentCodec):
    """48 kHz stereo ↔ `latent_dim` × 150 frames/s; channel 0 is the natural log of the RMS level.

    Everything is local: a latent frame depends on `context_frames` neighbours at most, and so does the audio, so
    windows with that context give exactly what one pass gives; long audio is coded in windows of `window_frames`.
    """

    ENCODER_PREFIXES = ("encoder", "bin_scale")

    @register_to_config
    def __init__(
        self,
        sample_rate: int = 48_000,
        hop_samples: int = 320,
        latent_dim: int = 128,
        width: int = 384,
        kernel: int = 7,
        expansion: int = 3,
        encoder_blocks: int = 3,
        decoder_blocks: int = 6,
        window_frames: int = 1500,
    ) -> None:
        super().__init__()
        self.sample_rate, self.hop_samples, self.latent_dim, self.channels = sample_rate, hop_samples, latent_dim, 2
        self.window_frames = window_frames
        self.context_frames = max(encoder_blocks, decoder_blocks) * (kernel // 2) + LEVEL_REACH_FRAMES + 2
        coefficients = 2 * hop_samples
        self.register_buffer("basis", dct_iv(hop_samples), persistent=False)
        reach = 2 * LEVEL_REACH_FRAMES + 1
        self.register_buffer("level_window", torch.hann_window(reach + 2, periodic=False)[1:-1], persistent=False)
        self.level_window /= self.level_window.sum()
        self.register_buffer("bin_scale", torch.ones(coefficients))

        def blocks(count: int) -> nn.Sequential:
            return nn.Sequential(*(ConvNeXtBlock(width, kernel, expansion) for _ in range(count)))

        self.encoder_linear = nn.Linear(coefficients, latent_dim - 1, bias=False)
        self.encoder_in = nn.Linear(2 * coefficients, width)
        self.encoder_net = blocks(encoder_blocks)
        self.encoder_out = nn.Linear(width, latent_dim - 1)
        self.decoder_linear = nn.Linear(latent_dim - 1, coefficients, bias=False)
        self.decoder_in = nn.Linear(latent_dim, width)
        self.decoder_net = blocks(decoder_blocks)
        self.decoder_norm = nn.LayerNorm(width)
        self.decoder_out = nn.Linear(width, 2 * coefficients)
        nn.init.normal_(self.encoder_out.weight, std=0.01)
        nn.init.normal_(self.decoder_out.weight, std=0.01)
        nn.init.zeros_(self.encoder_out.bias)
        nn.init.zeros_(self.decoder_out.bias)
        self.decoder_out.bias.data[coefficients:] = -3.0  # copied highs start 26 dB below the bin's usual level
        signs = torch.randint(0, 2, (hop_samples,), generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.register_buffer("side_signs", signs.float(), persistent=False)
        self._register_statistics()

    # -- analysis and synthesis around the networks

    def analyse(self, waveform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[batch 2 samples], a multiple of the hop → level-free coefficients of mid and side, divided by the level,
        [batch frames 2·hop], and the level (natural log of the RMS) [batch frames]."""
        left, right = waveform[:, 0], waveform[:, 1]
        mid_side = torch.stack([left + right, left - right], dim=1) * math.sqrt(0.5)
        coefficients = mdct(mid_side, self.basis).permute(0, 2, 1, 3).flatten(2)
        level = 0.5 * torch.log(self._smoothed_power(coefficients) + FLOOR_POWER)
        return coefficients * torch.exp(-level)[..., None], level

    def synthesise(self, coefficients: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """The inverse of `analyse`; coefficients of another power are brought to the level, raised by 20 dB at most."""
        coefficients = coefficients * torch.exp(level)[..., None]
        wanted = (torch.exp(2 * level) - FLOOR_POWER).clamp_min(0)
        # The small shares of the floor keep silence silent and the slope of the root finite.
        own = self._smoothed_power(coefficients) + 0.01 * FLOOR_POWER
        gain = ((wanted + 1e-6 * FLOOR_POWER) / own).sqrt().clamp_max(MAX_CORRECTION)
        mid_side = (coefficients * gain[..., None]).unflatten(-1, (2, -1)).permute(0, 2, 1, 3)
        mid, side = inverse_mdct(mid_side, self.basis).unbind(1)
        return torch.stack([mid + side, mid - side], dim=1) * math.sqrt(0.5)

    def _smoothed_power(self, coefficients: torch.Tensor) -> torch.Tensor:
        """[batch frames 2·hop] → mean square over the coefficients, smoothed over the frames, [batch frames]."""
        power = coefficients.square().mean(-1)
        return F.conv1d(power[:, None], self.level_window[None, None], padding=LEVEL_REACH_FRAMES)[:, 0]

    def encode_frames(self, waveform: torch.Tensor) -> torch.Tensor:
        """One pass of the encoder: [batch 2 samples], a multiple of the hop → raw latents [batch latent frames]."""
        coefficients, level = self.analyse(waveform)
        y = coefficients / self.bin_scale
        features = torch.cat([y, torch.log1p(8 * y.abs())], dim=-1)
        shape = self.encoder_linear(y) + self.encoder_out(self.encoder_net(self.encoder_in(features)))
        return torch.cat([level[..., None], shape], dim=-1).transpose(1, 2)

    def decode_frames(self, latents: torch.Tensor) -> torch.Tensor:
        """One pass of the decoder: raw latents [batch latent frames] → [batch 2 frames·hop]."""
        z = latents.transpose(1, 2)
        linear = self.decoder_linear(z[..., 1:])
        scaled = torch.cat([z[..., :1] * 0.3, z[..., 1:]], dim=-1)  # a log level spans several units
        hidden = self.decoder_norm(self.decoder_net(self.decoder_in(scaled)))
        detail, log_gain = self.decoder_out(hidden).chunk(2, dim=-1)
        y = linear + detail + torch.exp(log_gain.clamp(max=4)) * self._excitation(linear)
        return self.synthesise(y * self.bin_scale, z[..., 0])

    def _excitation(self, linear: torch.Tensor) -> torch.Tensor:
        """Copies of the middle bins, flattened to unit level, over the whole of mid and (signs mixed) side."""
        source = linear[..., EXCITATION_BINS[0] : EXCITATION_BINS[1]]
        local = F.avg_pool1d(source.square(), 9, stride=1, padding=4, count_include_pad=False)
        tile = source / torch.sqrt(local + 1e-4)
        copies = -(-self.hop_samples // tile.shape[-1])
        mid = tile.repeat(1, 1, copies)[..., : self.hop_samples]
        return torch.cat([mid, mid * self.side_signs], dim=-1)

    @torch.no_grad()
    def raise_bins(self, gains: torch.Tensor) -> None:
        """From now on the decoder gives each coefficient, mid and side, this much louder: gains [2·hop], above 0.

        In the weights, so that nothing of it has to be carried beside them; the encoder and its latents stay.
        """
        count = len(self.bin_scale)
        if gains.shape != (count,) or not bool((gains > 0).all()):
            raise ValueError(f"{count} gains above 0, not {list(gains.shape)}")
        linear, out = self.decoder_linear, self.decoder_out
        linear.weight *= gains[:, None]
        out.weight[:count] *= gains[:, None]
        out.bias[:count] *= gains
        # Copies are flattened to unit level over nine bins, which undoes gains that change slowly from bin to bin: how
        # loud they are is decoded.
        out.bias[count:] += gains.log()

    # -- any length

    def heard_frames(self, first: int, stop: int) -> tuple[int, int]:
        return max(0, first - self.context_frames), stop + self.context_frames

    def encode_raw(self, waveform: torch.Tensor) -> torch.Tensor:
        frames = self.frames(waveform.shape[-1])
        latents = on_disk.empty(len(waveform), self.latent_dim, frames, like=waveform)
        for low, high, keep in self._windows(frames):
            heard = waveform[..., low * self.hop_samples : high * self.hop_samples]
            heard = F.pad(heard, (0, (high - low) * self.hop_samples - heard.shape[-1]))
            latents[..., low + keep.start : low + keep.stop] = self.encode_frames(heard)[..., keep]
            on_disk.let_go(latents, waveform)
        return latents

    def decode_raw(self, latents: torch.Tensor, samples: int) -> torch.Tensor:
        waveform = on_disk.empty(len(latents), self.channels, samples, like=latents)
        for low, high, keep in self._windows(latents.shape[-1]):
            start, stop = ((low + frame) * self.hop_samples for frame in (keep.start, keep.stop))
            decoded = self.decode_frames(latents[..., low:high])[..., keep.start * self.hop_samples :]
            waveform[..., start:stop] = decoded[..., : min(stop, samples) - start]
            on_disk.let_go(waveform, latents)
        return waveform

    def _windows(self, frames: int) -> list[tuple[int, int, slice]]:
        """Windows that cover `frames`: first frame, last frame + 1 (both with context), and the part to keep."""
        windows = []
        for start in range(0, frames, self.window_frames):
            stop = min(start + self.window_frames, frames)
            low, high = max(0, start - self.context_frames), min(frames, stop + self.context_frames)
            windows.append((low, high, slice(start - low, stop - low)))
        return windows
