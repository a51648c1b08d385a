"""The whole road from a raw take to mixes as one object, saved and loaded in the folder format of diffusers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from diffusers import DiffusionPipeline
from pydantic import BaseModel, ConfigDict, Field

from audio.errors import InputError
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from codec.base import LatentCodec
from codec.encodec48 import Encodec48Codec  # noqa: F401  (diffusers loads custom components only from modules
from codec.pocket import PocketCodec  # noqa: F401          that are already imported)
from conditioning.conditioner import StyleConditioner
from conditioning.conditions import Conditions
from diffusion.denoiser import Denoiser
from diffusion.sampling import Scheduler, prepare, sample
from restyler.model_folder import check_manifest, write_manifest
from restyler.seeds import generator

Progress = Callable[[int, int], None]
HIGHEST_GUIDANCE = 20.0  # far beyond what any style survives
HIGHEST_STEPS = 1000
ANY_STYLE = "any"  # a style for each mix, drawn by its seed
NO_STYLE = "none"  # what commands say for «not told»
CONTROL_REACH = 4.0  # standard deviations around the mean of the training pairs


class SamplingDefaults(BaseModel):
    """What sampling needs beside the weights: chosen where the model is trained, saved with it, typed nowhere else.

    steps, guidance, sigma: used unless the caller says otherwise; sigma is None on the path "noise".
    window_frames, context_frames: how a long take is cut (`diffusion.windows.plan_windows`).
    loudness_lufs: what takes and references are brought to before they are encoded, as in training.
    controls: for each control of the conditioner its mean and standard deviation over the training pairs, in the
        control's own unit.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    steps: Annotated[int, Field(ge=1, le=HIGHEST_STEPS)]
    guidance: Annotated[float, Field(ge=0, le=HIGHEST_GUIDANCE)]
    sigma: Annotated[float, Field(ge=0)] | None
    window_frames: Annotated[int, Field(ge=4)]
    context_frames: Annotated[int, Field(ge=0)]
    loudness_lufs: Annotated[float, Field(ge=-70, le=0)]
    controls: dict[str, tuple[float, Annotated[float, Field(gt=0)]]]


@dataclass(frozen=True)
class Settings:
    """How one call samples, every default filled in; made by `VocalRestylePipeline.settings`."""

    style: str | None
    controls: Mapping[str, float]
    steps: int
    guidance: float
    sigma: float | None


class VocalRestylePipeline(DiffusionPipeline):
    """Codec, conditioner, denoiser and scheduler that belong together.

    sampling: the fields of `SamplingDefaults`. training: the resolved config of the run that made the weights, for
    the record; empty where there was none. (They have a default only because diffusers takes every argument without
    one for a component.)

    Raises InputError where the denoiser was trained on another codec's latents, ValueError where the parts don't fit.
    """

    def __init__(
        self,
        codec: LatentCodec,
        conditioner: StyleConditioner,
        denoiser: Denoiser,
        scheduler: Scheduler,
        sampling: dict[str, Any] | None = None,
        training: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if denoiser.config.codec_fingerprint != codec.fingerprint():
            raise InputError(
                f"this denoiser was trained on the latents of another codec (codec_fingerprint "
                f"{denoiser.config.codec_fingerprint}, this codec has {codec.fingerprint()})"
            )
        reserved = {ANY_STYLE, NO_STYLE} & set(conditioner.config.styles)
        if reserved:
            raise InputError(f"a style can't be called {reserved.pop()!r}: that word says something else to commands")
        if sampling is None:
            raise ValueError("the pipeline needs the fields of SamplingDefaults as `sampling`")
        self.defaults = SamplingDefaults.model_validate_json(json.dumps(sampling))
        if set(self.defaults.controls) != set(conditioner.config.controls):
            raise ValueError(f"sampling.controls describes the controls {list(conditioner.config.controls)}, no others")
        self.register_modules(codec=codec, conditioner=conditioner, denoiser=denoiser, scheduler=scheduler)
        self.register_to_config(sampling=self.defaults.model_dump(mode="json"), training=dict(training or {}))
        for module in (codec, conditioner, denoiser):
            module.eval().requires_grad_(False)
        self.settings()  # the defaults must be possible for this denoiser

    @property
    def styles(self) -> list[str]:
        """Names that `style` accepts."""
        return list(self.conditioner.config.styles)

    def settings(
        self,
        *,
        style: str | None = None,
        controls: Mapping[str, float] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        sigma: float | None = None,
    ) -> Settings:
        """The caller's wishes, checked, over the model's defaults.

        style: one of `styles`, "any" for one that is drawn by each seed, None for not told.
        controls: by name, in their own unit, within four standard deviations of the training pairs; those left out
        are not told.
        steps: 1 … 1000. guidance: 0 … 20, 1 follows style, reference and controls as trained.
        sigma: how freely the mixes may differ, 0 … the denoiser's `sigma_max`.

        Raises InputError for what is unknown or out of range.
        """
        defaults, bridge = self.defaults, self.denoiser.config.path == "bridge"
        if sigma is not None and not bridge:
            raise InputError("sigma has no meaning for this model: its path starts from noise alone")
        chosen = Settings(
            style=style,
            controls=dict(controls or {}),
            steps=defaults.steps if steps is None else steps,
            guidance=defaults.guidance if guidance is None else guidance,
            sigma=defaults.sigma if sigma is None else sigma,
        )
        if style not in (None, ANY_STYLE):
            self.conditioner.style_index(style)
        if style == ANY_STYLE and not self.styles:
            raise InputError(f"style {ANY_STYLE!r}: this model has no styles")
        for name, value in chosen.controls.items():
            if name not in defaults.controls:
                raise InputError(f"unknown control {name!r} (allowed: {', '.join(defaults.controls) or 'none'})")
            mean, std = defaults.controls[name]
            if not abs(value - mean) <= CONTROL_REACH * std:
                lowest, highest = mean - CONTROL_REACH * std, mean + CONTROL_REACH * std
                raise InputError(
                    f"control {name}: {lowest:.3g} to {highest:.3g} is possible for this model, not {value:g}"
                )
        if not 1 <= chosen.steps <= HIGHEST_STEPS:
            raise InputError(f"steps: 1 to {HIGHEST_STEPS} are possible, not {chosen.steps}")
        if not 0 <= chosen.guidance <= HIGHEST_GUIDANCE:
            raise InputError(f"guidance: 0 to {HIGHEST_GUIDANCE:g} is possible, not {chosen.guidance}")
        if bridge and not (chosen.sigma is not None and 0 <= chosen.sigma <= self.denoiser.config.sigma_max):
            sigma_max = self.denoiser.config.sigma_max
            raise InputError(f"sigma: 0 to {sigma_max:g} is possible for this model, not {chosen.sigma}")
        prepare(self.scheduler, chosen.steps)
        return chosen

    def __call__(
        self,
        raw: Waveform,
        *,
        seeds: Sequence[int],
        style: str | None = None,
        reference: Waveform | None = None,
        controls: Mapping[str, float] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        sigma: float | None = None,
        max_batch: int = 4,
        progress: Progress | None = None,
    ) -> torch.Tensor:
        """One mix per seed, [seeds channels samples] at the codec's sample rate, on the CPU.

        raw: the take, mono or stereo, any rate. reference: a recording whose style is to be taken over. The others as
        in `settings` and `stream`. Raises InputError as they do.
        """
        settings = self.settings(style=style, controls=controls, steps=steps, guidance=guidance, sigma=sigma)
        mixes = self.stream(raw, settings, seeds=seeds, reference=reference, max_batch=max_batch, progress=progress)
        return torch.stack(list(mixes))

    @torch.no_grad()
    def stream(
        self,
        raw: Waveform,
        settings: Settings,
        *,
        seeds: Sequence[int],
        reference: Waveform | None = None,
        max_batch: int,
        progress: Progress | None = None,
    ) -> Iterator[torch.Tensor]:
        """Mixes one after the other, each [channels samples] as long as the take (resampled to the codec's rate).

        The take is brought to the training loudness, encoded once, and each mix is given the take's own level back.
        A seed's noise comes from its own CPU generator, so a mix depends neither on the other seeds, nor on
        `max_batch` (mixes denoised at once), nor, but for rounding, on the device. Memory grows with the take only
        by its latents and its samples: networks see windows.
        progress: called with (scheduler steps done, in all), over all seeds.

        Raises InputError where the take or the reference is silent.
        """
        if not seeds or max_batch < 1:
            raise ValueError(f"at least one seed and a batch of at least 1, not {list(seeds)} and {max_batch}")
        latents, gain, samples = self._encode(raw, "the take")
        style_reference = None if reference is None else self._encode(reference, "the reference")[0]
        shape = latents.shape[1:]
        for done in range(0, len(seeds), max_batch):
            batch = seeds[done : done + max_batch]
            noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in batch])
            conditions = self._conditions(latents, settings, style_reference, batch)
            told = bool(conditions.pooled.any())  # else there is nothing to exaggerate, at twice the cost
            mixes = sample(
                self.denoiser,
                conditions,
                scheduler=self.scheduler,
                steps=settings.steps,
                guidance=settings.guidance if told else 1.0,
                sigma=settings.sigma,
                noise=noise.to(self.device),
                window_frames=self.defaults.window_frames,
                context_frames=self.defaults.context_frames,
                progress=_over_seeds(progress, done, len(batch), len(seeds)),
            )
            for mix in mixes:
                yield self.codec.decode(mix[None], samples=samples)[0].cpu() / gain

    def _encode(self, waveform: Waveform, name: str) -> tuple[torch.Tensor, float, int]:
        """Latents [1 latent frames] at the training loudness, the gain that led there, and the length in samples."""
        waveform = waveform.stereo().resampled(self.codec.sample_rate)
        loudness_lufs = integrated_loudness_lufs(waveform)
        if loudness_lufs == -float("inf"):
            raise InputError(f"{name} is silent: all of it lies below -70 LUFS")
        gain = 10 ** ((self.defaults.loudness_lufs - loudness_lufs) / 20)
        samples = waveform.samples.to(self.device) * gain
        return self.codec.encode(samples[None]), gain, samples.shape[-1]

    def style_of(self, settings: Settings, seed: int) -> str | None:
        """The style that the mix of this seed is told. "any" deals the styles out in a random order: as many seeds in
        a row as there are styles (from a multiple of their number on) get each of them once."""
        if settings.style != ANY_STYLE:
            return settings.style
        deal, place = divmod(seed, len(self.styles))
        order = torch.randperm(len(self.styles), generator=generator("styles", deal))
        return self.styles[int(order[place])]

    def _conditions(
        self, raw: torch.Tensor, settings: Settings, reference: torch.Tensor | None, seeds: Sequence[int]
    ) -> Conditions:
        """Conditions of the mixes of `seeds`; raw and reference are latents [1 latent frames]."""
        batch, told = len(seeds), dict[str, torch.Tensor]()
        styles = [self.style_of(settings, seed) for seed in seeds]
        indices = [-1 if style is None else self.conditioner.style_index(style) for style in styles]
        told["style"] = torch.tensor(indices, device=self.device)
        if settings.controls:
            scaled = []
            for name in self.conditioner.config.controls:
                mean, std = self.defaults.controls[name]
                scaled.append((settings.controls.get(name, float("nan")) - mean) / std)
            told["controls"] = torch.tensor([scaled] * batch, device=self.device)
        if reference is not None:
            told["reference"] = reference.expand(batch, -1, -1)
            told["reference_frames"] = torch.tensor([reference.shape[-1]] * batch, device=self.device)
        return self.conditioner(raw.expand(batch, -1, -1), **told)

    def save_pretrained(self, save_directory: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Save all that sampling needs as safetensors and JSON, with a manifest of the files' hashes.

        dtype: of the weights on disk; float16 halves the size, and a float16 model is the same after another round.
        Raises InputError where the folder holds something already, ValueError where a weight does not fit `dtype`.
        """
        folder = Path(save_directory)
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder}: already exists and is not empty; choose another folder for the model")
        parts = {name: copy.deepcopy(part) for name, part in self.components.items()}
        for name, part in parts.items():
            if isinstance(part, torch.nn.Module):
                torch.nn.Module.to(part, device="cpu", dtype=dtype)  # diffusers' own warns about models it can't know
                if not all(bool(tensor.isfinite().all()) for tensor in part.state_dict().values()):
                    raise ValueError(f"the {name} has weights that don't fit {dtype}")
        saved = VocalRestylePipeline(**parts, sampling=self.config.sampling, training=self.config.training)
        DiffusionPipeline.save_pretrained(saved, folder, safe_serialization=True)
        for file in folder.rglob("*.safetensors"):  # safetensors makes them readable by their owner alone
            file.chmod((folder / self.config_name).stat().st_mode)
        write_manifest(folder)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, device: torch.device | str = "cpu"
    ) -> VocalRestylePipeline:
        """Load a folder that `save_pretrained` wrote, as float32; never from a network.

        Raises InputError for a folder that is no model, damaged or incomplete (`check_manifest`).
        """
        check_manifest(Path(pretrained_model_name_or_path))
        pipeline = super().from_pretrained(pretrained_model_name_or_path, use_safetensors=True, local_files_only=True)
        return pipeline.to(device)


def _over_seeds(progress: Progress | None, before: int, now: int, seeds: int) -> Progress | None:
    """Progress of one batch of seeds as progress over all seeds."""
    if progress is None:
        return None
    return lambda done, total: progress(before * total + now * done, seeds * total)
