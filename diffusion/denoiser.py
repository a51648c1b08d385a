"""The denoiser: estimates the mix's latents from a point on the path, the raw take and the style."""

from __future__ import annotations

from typing import Literal

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from einops import rearrange
from torch import nn

from audio.errors import InputError
from conditioning.conditions import Conditions
from diffusion import path as paths
from diffusion.layers import Block, fourier_features, modulate, rotary_table, zero_linear

_TIME_FEATURES = 32

Prediction = Literal["mix", "velocity"]
RawTake = Literal["skip", "concatenation"]


class Denoiser(ModelMixin, ConfigMixin):
    """A transformer over latent frames around a modulated skip.

        mix = raw + (g + G)·raw + (h + H)·deviation + residual_std·F

    deviation is what z_t adds to knowing the raw take (`path.deviation`: z_t − raw for the bridge). g and h are one
    gain per latent channel, functions of c, which embeds t, σ and the pooled style: an equaliser is close to that, so
    the skip learns tone within a few steps. G, H and F are what the transformer reads in raw, deviation / residual_std
    and c, for every channel and frame: gains that follow the voice, as those of a compressor do, and let noise through
    where a tail belongs; and what no gain can make. A narrow network never has to copy take or noise. All of them
    start at zero: untrained, the estimate is exactly the raw take. Whatever the size of the residual, the transformer
    reads a deviation of unit scale and F has unit scale; g, G, h and H are plain factors on what they multiply.

    latent_dim: channels of the latents. embed_dim: width of `Conditions.pooled`.
    codec_fingerprint: `LatentCodec.fingerprint()` of the latents it was trained on.
    path: "bridge" or "noise", see `diffusion.path`.
    width, depth, heads: of the transformer. patch_frames: latent frames per token.
    mlp_ratio: hidden width of the feed-forward over width. conv_kernel: tokens, odd.
    sigma_max: the largest σ that training draws and sampling allows (path "bridge").

    The last two are for comparisons, their defaults are what the above describes. predicts: "velocity", and the sum
    without its first term is the path's velocity, of which mix = z_t − t·velocity; untrained, the estimate is z_t.
    raw_take: "concatenation", and the sum is residual_std·F alone: the take is known as an input beside z_t, no more.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        latent_dim: int,
        embed_dim: int,
        codec_fingerprint: str,
        path: paths.PathKind = "bridge",
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        patch_frames: int = 2,
        mlp_ratio: float = 4.0,
        conv_kernel: int = 7,
        sigma_max: float = 1.0,
        predicts: Prediction = "mix",
        raw_take: RawTake = "skip",
    ) -> None:
        super().__init__()
        if path not in ("bridge", "noise"):
            raise ValueError(f"the path is 'bridge' or 'noise', not {path!r}")
        if predicts not in ("mix", "velocity"):
            raise ValueError(f"what is predicted is 'mix' or 'velocity', not {predicts!r}")
        if raw_take not in ("skip", "concatenation"):
            raise ValueError(f"the raw take comes by 'skip' or 'concatenation', not {raw_take!r}")
        if width % (2 * heads):
            raise ValueError(f"the width is divisible by twice the heads, not {width} by 2·{heads}")
        if conv_kernel % 2 == 0:
            raise ValueError(f"the convolution's kernel is odd, not {conv_kernel}")
        if patch_frames < 1 or sigma_max <= 0:
            raise ValueError(f"patch_frames and sigma_max are positive, not {patch_frames} and {sigma_max}")
        features = 2 * _TIME_FEATURES * (2 if path == "bridge" else 1)
        self.register_buffer("residual_std", torch.ones(latent_dim))
        self.embed_condition = nn.Sequential(
            nn.Linear(features + embed_dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        if raw_take == "skip":
            self.skip = zero_linear(width, 2 * latent_dim)
        self.embed_frames = nn.Linear(2 * latent_dim * patch_frames, width)
        self.blocks = nn.ModuleList(Block(width, heads, round(mlp_ratio * width), conv_kernel) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = zero_linear(width, 2 * width)
        self.out = zero_linear(width, (3 if raw_take == "skip" else 1) * latent_dim * patch_frames)
        self.gradient_checkpointing = False

    def set_residual_std(self, std: torch.Tensor) -> None:
        """Standard deviation of mix − raw per latent channel, [latent], positive; measured on the training pairs.

        It is the unit of σ and the scale of what the network adds to the skip; 1 until it is set.
        """
        if std.shape != self.residual_std.shape or not bool((std > 0).all() and std.isfinite().all()):
            raise ValueError(f"residual_std is {len(self.residual_std)} positive numbers, not {std.tolist()}")
        self.residual_std.copy_(std)

    def start(self, raw: torch.Tensor, sigma: torch.Tensor | None, noise: torch.Tensor) -> torch.Tensor:
        """Where the path of this denoiser starts: raw and noise [batch latent frames], sigma [batch].

        Raises InputError for a σ outside 0 … sigma_max (it was never trained), ValueError for σ on the path "noise".
        """
        if noise.shape != raw.shape:
            raise ValueError(f"the noise has the take's shape {list(raw.shape)}, not {list(noise.shape)}")
        self._check_sigma(sigma, raw.shape[0])
        if sigma is None:
            return noise
        if not bool(((sigma >= 0) & (sigma <= self.config.sigma_max)).all()):
            raise InputError(f"sigma is from 0 to {self.config.sigma_max:g} for this model, not {sigma.tolist()}")
        return paths.bridge_start(raw, sigma, noise, self.residual_std)

    def forward(
        self,
        noisy: torch.Tensor,
        t: torch.Tensor,
        sigma: torch.Tensor | None,
        conditions: Conditions,
        frame_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Estimate of the mix, [batch latent frames], zero in padded frames.

        noisy: z_t, [batch latent frames]. t: [batch], 0 … 1. sigma: [batch] on the path "bridge", None on "noise".
        frame_mask: bool [batch frames], False in padding, whose content has no influence; at least one True per item.
        """
        raw = conditions.aligned
        if noisy.shape != raw.shape or raw.shape[1] != self.config.latent_dim or t.shape != raw.shape[:1]:
            raise ValueError(
                f"noisy and raw are both [batch {self.config.latent_dim} frames] and t [batch], "
                f"not {list(noisy.shape)}, {list(raw.shape)} and {list(t.shape)}"
            )
        self._check_sigma(sigma, raw.shape[0])
        if frame_mask is not None:
            padding = ~frame_mask[:, None]
            noisy, raw = noisy.masked_fill(padding, 0.0), raw.masked_fill(padding, 0.0)
        deviation = paths.deviation(noisy, raw, t, self.config.path)
        with torch.autocast(raw.device.type, enabled=False):
            condition = self._condition(t, sigma, conditions.pooled)
        outputs = self._read_frames(raw, deviation, condition, frame_mask)
        answer = self._answer(raw, deviation, condition, outputs)
        mix = answer if self.config.predicts == "mix" else noisy - t[:, None, None] * answer
        return mix if frame_mask is None else mix.masked_fill(padding, 0.0)

    def _answer(
        self, raw: torch.Tensor, deviation: torch.Tensor, condition: torch.Tensor, outputs: torch.Tensor
    ) -> torch.Tensor:
        """The class's formula: the mix, or the velocity, [batch latent frames]; outputs as of `_read_frames`."""
        scale = self.residual_std[:, None]
        if self.config.raw_take == "concatenation":
            return scale * outputs
        with torch.autocast(raw.device.type, enabled=False):
            gains = self.skip(condition)[:, :, None]
        gain_raw, gain_deviation = (gains + outputs[:, : gains.shape[1]]).chunk(2, dim=1)
        start = raw if self.config.predicts == "mix" else torch.zeros_like(raw)
        return start + gain_raw * raw + gain_deviation * deviation + scale * outputs[:, gains.shape[1] :]

    def _condition(self, t: torch.Tensor, sigma: torch.Tensor | None, pooled: torch.Tensor) -> torch.Tensor:
        features = [fourier_features(t, _TIME_FEATURES), pooled.float()]
        if sigma is not None:
            features.append(fourier_features(sigma / self.config.sigma_max, _TIME_FEATURES))
        return self.embed_condition(torch.cat(features, dim=1))

    def _read_frames(
        self,
        raw: torch.Tensor,
        deviation: torch.Tensor,
        condition: torch.Tensor,
        frame_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """G, H and F of the class's formula one after the other, [batch 3·latent frames]; F alone without a skip."""
        frames, patch = raw.shape[2], self.config.patch_frames
        missing = -frames % patch
        unit = deviation if self.config.path == "noise" else deviation / self.residual_std[:, None]
        stacked = nn.functional.pad(torch.cat([raw, unit], dim=1), (0, missing))
        tokens = rearrange(stacked, "batch latent (token patch) -> batch token (patch latent)", patch=patch)
        token_mask = None
        if frame_mask is not None:
            token_mask = nn.functional.pad(frame_mask, (0, missing)).unflatten(1, (-1, patch)).any(dim=2)
        x = self.embed_frames(tokens).float()
        table = rotary_table(x.shape[1], self.config.width // self.config.heads, x.device)
        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(block, x, condition, table, token_mask)
            else:
                x = block(x, condition, table, token_mask)
        with torch.autocast(x.device.type, enabled=False):
            shift, scale = self.modulation(condition)[:, None].chunk(2, dim=-1)
            patches = self.out(modulate(self.norm(x), shift, scale))
        out = rearrange(patches, "batch token (patch channel) -> batch channel (token patch)", patch=patch)
        return out[:, :, :frames]

    def _check_sigma(self, sigma: torch.Tensor | None, batch: int) -> None:
        if self.config.path == "noise":
            if sigma is not None:
                raise ValueError("the path 'noise' has no sigma: pass None")
        elif sigma is None or sigma.shape != (batch,):
            raise ValueError(f"the path 'bridge' needs a sigma of shape [{batch}]")
