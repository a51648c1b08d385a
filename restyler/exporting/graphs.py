"""The parts of a model as networks of tensors alone, any batch, any length: what an exported graph computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import nn

from audio.errors import InputError
from codec.base import LatentCodec
from codec.pocket import PocketCodec
from conditioning.conditioner import StyleConditioner
from conditioning.conditions import Conditions
from diffusion.denoiser import Denoiser
from restyler.pipeline import VocalRestylePipeline

Sizes: TypeAlias = Mapping[str, int]
"""Of the axes that may have any length, by name: batch, frames, samples."""


@dataclass(frozen=True)
class Port:
    """An input or the output of a graph. axes: names of those of any length, sizes of the others. draw: random values
    of it, None for the output."""

    name: str
    axes: tuple[str | int, ...]
    meaning: str
    draw: Callable[[tuple[int, ...], Sizes, torch.Generator], torch.Tensor] | None = None

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in self.axes)


@dataclass(frozen=True)
class Graph:
    """module: takes the inputs by their names."""

    name: str
    module: nn.Module
    inputs: tuple[Port, ...]
    output: Port

    def drawn(self, sizes: Sizes, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Random inputs by name."""
        ports = [(port, port.draw) for port in self.inputs]
        return {port.name: draw(port.shape(sizes), sizes, generator) for port, draw in ports if draw is not None}


class Encoder(nn.Module):
    """Waveform of any length → standardised latents; zeros are appended to the last frame."""

    def __init__(self, codec: PocketCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        codec, hop = self.codec, self.codec.hop_samples
        frames = (waveform.shape[-1] + hop - 1) // hop
        whole = F.pad(waveform, (0, hop - 1))[..., : frames * hop]
        return (codec.encode_frames(whole) - codec.latent_mean[:, None]) / codec.latent_std[:, None]


class Decoder(nn.Module):
    """Standardised latents → waveform of whole frames."""

    def __init__(self, codec: PocketCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.codec.decode_frames(latents * self.codec.latent_std[:, None] + self.codec.latent_mean[:, None])


class Conditioner(nn.Module):
    """What a mix is told → one vector."""

    def __init__(self, conditioner: StyleConditioner) -> None:
        super().__init__()
        self.conditioner = conditioner

    def forward(
        self,
        reference: torch.Tensor,
        reference_frames: torch.Tensor,
        style: torch.Tensor | None = None,
        controls: torch.Tensor | None = None,
    ) -> torch.Tensor:
        told = {"style": style, "controls": controls, "reference": reference, "reference_frames": reference_frames}
        conditions: Conditions = self.conditioner(reference, **told)
        return conditions.pooled


class Step(nn.Module):
    """One estimate of the mix."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(
        self,
        noisy: torch.Tensor,
        raw: torch.Tensor,
        t: torch.Tensor,
        pooled: torch.Tensor,
        sigma: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return self.denoiser(noisy, t, sigma, Conditions(aligned=raw, pooled=pooled))


def graphs(pipeline: VocalRestylePipeline) -> list[Graph]:
    """The four graphs of a model. Raises InputError for a codec that is not local (`pocket_codec`)."""
    codec = pocket_codec(pipeline.codec)
    latent = codec.latent_dim
    waveform = Port("waveform", ("batch", codec.channels, "samples"), "audio at sample_rate_hz, ±1.0", _sound)
    latents = Port("latents", ("batch", latent, "frames"), "standardised latents", _fading(codec))
    return [
        Graph("encoder", Encoder(codec), (waveform,), latents),
        _conditioner(pipeline.conditioner),
        _step(pipeline.denoiser),
        Graph("decoder", Decoder(codec), (latents,), waveform),
    ]


def pocket_codec(codec: LatentCodec) -> PocketCodec:
    """Raises InputError for another codec: EnCodec's windows with their cross-fades are its definition, no network of
    one pass."""
    if not isinstance(codec, PocketCodec):
        raise InputError(
            f"the codec {type(codec).__name__} can't be exported as ONNX graphs (allowed: PocketCodec): "
            "it is defined by cross-faded windows"
        )
    return codec


def _conditioner(conditioner: StyleConditioner) -> Graph:
    """A model without styles or controls has no such input."""
    styles, controls = len(conditioner.config.styles), len(conditioner.config.controls)
    latents = ("batch", conditioner.config.latent_dim, "frames")
    inputs = [
        Port("reference", latents, "standardised latents of a reference; anything where there is none", _normal),
        Port("reference_frames", ("batch",), "how many frames of it are real; 0 for no reference", _count),
    ]
    if styles:
        index = "index into styles; −1 for not told"
        inputs.append(
            Port(
                "style", ("batch",), index, lambda shape, _, random: torch.randint(-1, styles, shape, generator=random)
            )
        )
    if controls:
        told = "a column for each of controls: (value − mean) / std; NaN for not told"
        inputs.append(Port("controls", ("batch", controls), told, _some_told))
    output = Port("pooled", ("batch", conditioner.config.embed_dim), "what is told, as one vector; zeros: nothing")
    return Graph("conditioner", Conditioner(conditioner), tuple(inputs), output)


def _step(denoiser: Denoiser) -> Graph:
    latents = ("batch", denoiser.config.latent_dim, "frames")
    inputs = [
        Port("noisy", latents, "the point on the path", _normal),
        Port("raw", latents, "standardised latents of the raw take", _normal),
        Port("t", ("batch",), "time on the path, from 1 (start) to 0 (mix)", _uniform),
        Port("pooled", ("batch", denoiser.config.embed_dim), "from the conditioner; zeros: nothing told", _normal),
    ]
    if denoiser.config.path == "bridge":
        inputs.append(Port("sigma", ("batch",), "how freely the mixes may differ, 0 to sigma_max", _uniform))
    return Graph("denoiser", Step(denoiser), tuple(inputs), Port("mix", latents, "estimate of the mix's latents"))


def _normal(shape: tuple[int, ...], sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=generator)


def _sound(shape: tuple[int, ...], sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
    """Noise that falls from −20 dBFS by 120 dB, then silence: what is quiet shows what loud sounds would hide."""
    samples = shape[-1]
    fade = 10 ** torch.linspace(-1, -7, samples) * (torch.arange(samples) < 0.8 * samples)
    return fade * torch.randn(shape, generator=generator)


@torch.no_grad()
def _fading(codec: PocketCodec) -> Callable[[tuple[int, ...], Sizes, torch.Generator], torch.Tensor]:
    """Random latents that turn into those of silence."""
    silence = codec.encode(torch.zeros(1, codec.channels, codec.hop_samples))

    def draw(shape: tuple[int, ...], sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
        return torch.lerp(torch.randn(shape, generator=generator), silence, torch.linspace(0, 1, shape[-1]))

    return draw


def _uniform(shape: tuple[int, ...], sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(shape, generator=generator)


def _count(shape: tuple[int, ...], sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, sizes["frames"] + 1, shape, generator=generator)


def _some_told(shape: tuple[int, ...], sizes: Sizes, generator: torch.Generator) -> torch.Tensor:
    told = torch.rand(shape, generator=generator) < 0.5
    return torch.where(told, torch.randn(shape, generator=generator), float("nan"))
