"""What every codec is to the rest of the system: waveform in, standardised latent frames out, and back."""

from __future__ import annotations

import hashlib
from abc import abstractmethod

import torch
from diffusers import ConfigMixin, ModelMixin

from audio import on_disk

FRAMES_AT_ONCE = 1024


class LatentCodec(ModelMixin, ConfigMixin):
    """Waveform ↔ latents, one continuous stream for audio of any length.

    A subclass sets `sample_rate` (Hz), `channels`, `hop_samples` and `latent_dim` before it calls
    `_register_statistics()`, implements `encode_raw` and `decode_raw`, and names in `ENCODER_PREFIXES` the
    parameters and buffers that define its latents.

    Latents are standardised per channel with statistics pooled over raw takes and mixes; the statistics are
    buffers, so they travel with the weights and never with a convention.
    """

    sample_rate: int
    channels: int
    hop_samples: int
    latent_dim: int

    ENCODER_PREFIXES: tuple[str, ...] = ()

    def _register_statistics(self) -> None:
        self.register_buffer("latent_mean", torch.zeros(self.latent_dim))
        self.register_buffer("latent_std", torch.ones(self.latent_dim))

    @property
    def frame_rate_hz(self) -> float:
        return self.sample_rate / self.hop_samples

    def frames(self, samples: int) -> int:
        """Number of latent frames of `samples` samples: the last one may be partly padding."""
        return -(-samples // self.hop_samples)

    @abstractmethod
    def heard_frames(self, first: int, stop: int) -> tuple[int, int]:
        """(from, to): the frames of a waveform, no fewer than needed, that give its latents first … stop − 1 as they
        are in the whole. `to` may lie after the end of the waveform."""

    @abstractmethod
    def encode_raw(self, waveform: torch.Tensor) -> torch.Tensor:
        """[batch channels samples] → latents as the network gives them, [batch latent frames].

        Both may lie on disk (`audio.on_disk`), and then all but a few windows of them is let go.
        """

    @abstractmethod
    def decode_raw(self, latents: torch.Tensor, samples: int) -> torch.Tensor:
        """The inverse: latents as the network gives them → [batch channels samples]."""

    def encode(self, waveform: torch.Tensor) -> torch.Tensor:
        """[batch channels samples] at `sample_rate`, ±1.0 → standardised latents [batch latent frames].

        Raises ValueError for another number of channels or an empty waveform.
        """
        if waveform.ndim != 3 or waveform.shape[1] != self.channels or waveform.shape[2] == 0:
            raise ValueError(f"the codec encodes [batch {self.channels} samples], not {list(waveform.shape)}")
        raw = self.encode_raw(waveform)
        for part in on_disk.parts(raw, size=FRAMES_AT_ONCE):  # in its own place: a long take has no memory to spare
            raw[..., part].sub_(self.latent_mean[:, None]).div_(self.latent_std[:, None])
        return raw

    def decode(self, latents: torch.Tensor, *, samples: int) -> torch.Tensor:
        """Standardised latents [batch latent frames] → [batch channels samples], exact to the sample.

        Raises ValueError where the number of frames is not `frames(samples)`.
        """
        if latents.ndim != 3 or latents.shape[1] != self.latent_dim or latents.shape[2] != self.frames(samples):
            raise ValueError(
                f"{samples} samples are decoded from [batch {self.latent_dim} {self.frames(samples)}], "
                f"not {list(latents.shape)}"
            )
        raw = on_disk.empty(*latents.shape, like=latents)
        for part in on_disk.parts(raw, latents, size=FRAMES_AT_ONCE):
            raw[..., part] = latents[..., part] * self.latent_std[:, None] + self.latent_mean[:, None]
        return self.decode_raw(raw, samples)

    def set_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Per-channel mean and standard deviation of the raw latents, each [latent]; std must be positive."""
        if mean.shape != (self.latent_dim,) or std.shape != (self.latent_dim,) or not bool((std > 0).all()):
            raise ValueError(f"statistics are two vectors of {self.latent_dim} channels, with a positive std")
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std)

    def fingerprint(self) -> str:
        """Identity of the latent space: a hash over the encoder and the statistics, in half precision.

        Rounding to float16 first makes it the same for the float32 weights of training and the shipped float16
        file. The decoder is left out: fine-tuning it does not change what latents mean.
        """
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            if name.startswith((*self.ENCODER_PREFIXES, "latent_mean", "latent_std")):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().to(torch.float16).contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]
