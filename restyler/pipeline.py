"""The whole road from a raw take to mixes as one object, saved and loaded in the folder format of diffusers."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from audio.errors import InputError
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from codec.base import LatentCodec
from codec.encodec48 import Encodec48Codec  # noqa: F401  (diffusers loads custom components only from modules
from codec.pocket import PocketCodec  # noqa: F401          that are already imported)
from conditioning.conditioner import StyleConditioner
from diffusion.denoiser import Denoiser
from diffusion.sampling import Scheduler, count_estimates, prepare, sample
from restyler.command import shown
from restyler.encoded import EncodedTake, levelled
from restyler.model_folder import check_manifest, check_weights, write_manifest
from restyler.noise import Seed, noise_fields
from restyler.progress import Progress, Work
from restyler.saying import References, as_references, conditions, heard_in
from restyler.settings import ANY_STYLE, NO_STYLE, SamplingDefaults, Settings
from restyler.stopwatch import CODEC, DENOISER, Stopwatch
from restyler.telling import Told, style_of, told


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
        self.defaults = SamplingDefaults.read(sampling)
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
        spread: float | None = None,
        referred: bool = False,
    ) -> Settings:
        """The caller's wishes, checked, over the model's defaults.

        style: one of `styles`, "any" for one that is drawn by each seed, None for not told.
        controls: by name, in their own unit, within four standard deviations of the training pairs; those left out
        are drawn by each seed, or not told (`spread`).
        steps: 1 … 1000. guidance: 0 … 20, 1 follows style, reference and controls as trained.
        sigma: how freely the mixes may differ, 0 … the denoiser's `sigma_max`.
        spread: 0 … 2, how far controls that are left out lie apart; 1 as in the training pairs of that style on takes
        like this one, 0: they are not told.
        referred: whether a reference will be given too, for which guidance has a default of its own and spread has 0.

        Raises InputError for what is unknown or out of range.
        """
        defaults, bridge = self.defaults, self.denoiser.config.path == "bridge"
        if sigma is not None and not bridge:
            raise InputError("sigma has no meaning for this model: its path starts from noise alone")
        chosen = Settings(
            style=style,
            controls=dict(controls or {}),
            steps=defaults.steps if steps is None else steps,
            guidance=defaults.guidance_for(referred=referred) if guidance is None else guidance,
            sigma=defaults.sigma if sigma is None else sigma,
            spread=(0.0 if referred else defaults.spread) if spread is None else spread,
        )
        if style not in (None, ANY_STYLE):
            self.conditioner.style_index(style)
        if style == ANY_STYLE and not self.styles:
            raise InputError(f"style {ANY_STYLE!r}: this model has no styles")
        chosen.check(defaults)
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
        reference: References = None,
        controls: Mapping[str, float] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        sigma: float | None = None,
        spread: float | None = None,
        max_batch: int = 4,
        progress: Progress | None = None,
    ) -> torch.Tensor:
        """One mix per seed, [seeds channels samples] at the codec's sample rate, on the CPU.

        raw: the take, mono or stereo, any rate. The others as in `settings` and `stream`. Raises InputError as they do.
        """
        wishes: dict[str, Any] = {"steps": steps, "guidance": guidance, "sigma": sigma, "spread": spread}
        settings = self.settings(style=style, controls=controls, referred=bool(as_references(reference)), **wishes)
        mixes = self.stream(raw, settings, seeds=seeds, reference=reference, max_batch=max_batch, progress=progress)
        return torch.stack(list(mixes))

    def stream(
        self,
        raw: Waveform,
        settings: Settings,
        *,
        seeds: Sequence[Seed],
        said: Sequence[Told] | None = None,
        reference: References = None,
        max_batch: int,
        progress: Progress | None = None,
    ) -> Iterator[torch.Tensor]:
        """Mixes one after the other, each [channels samples] as long as the take (resampled to the codec's rate), at
        the take's own level; the rest is as for `mixes`."""
        watch = Stopwatch()
        every = self.told(raw, settings, seeds) if said is None else said
        take = self.encoded(raw)
        gain = take.gain
        options: dict[str, Any] = {"reference": reference, "max_batch": max_batch, "progress": progress}
        for mix in self.mixes(take, settings, seeds=seeds, said=every, watch=watch, **options):
            yield mix.div_(gain)
            del mix

    def encoded(self, raw: Waveform, *, tail_s: float = 0.0, name: str = "the take") -> EncodedTake:
        """A take, mono or stereo, at any rate, as `mixes` wants it. tail_s: silence after its end, in which the mixes
        ring out. Raises InputError, which names it, where it is silent."""
        raw = raw.resampled(self.codec.sample_rate)
        loudness_lufs = integrated_loudness_lufs(raw)
        if loudness_lufs == -float("inf"):
            raise InputError(f"{name} is silent: all of it lies below -70 LUFS")
        gain = 10 ** ((self.defaults.loudness_lufs - loudness_lufs) / 20)
        tail_samples = round(tail_s * raw.sample_rate)
        waveform = levelled(raw, gain, tail_samples)
        return EncodedTake(waveform, self._encode(waveform), gain, loudness_lufs, tail_samples)

    @torch.no_grad()
    def mixes(
        self,
        take: EncodedTake,
        settings: Settings,
        *,
        seeds: Sequence[Seed],
        said: Sequence[Told],
        reference: References = None,
        max_batch: int,
        progress: Progress | None = None,
        watch: Stopwatch,
    ) -> Iterator[torch.Tensor]:
        """Mixes one after the other, each [channels samples] as long as the take, at the loudness of training.

        A seed's noise comes from its own CPU generator, so a mix depends neither on the other seeds, nor on
        `max_batch` (mixes denoised at once), nor, but for rounding, on the device. Memory grows with the take only
        by its latents and its samples: networks see windows.
        said: what each mix is told.
        reference: recordings whose style is to be taken over, the mean of what is heard in each by its weight.
        progress: called with (work done, in all) from the start to the last decoded mix; the estimate of a window for
        one seed is one piece of work, and so is everything that is encoded or decoded.

        Raises InputError where the reference is silent.
        """
        if not seeds or max_batch < 1:
            raise ValueError(f"at least one seed and a batch of at least 1, not {list(seeds)} and {max_batch}")
        references, listened = as_references(reference), list[torch.Tensor]()
        a_mix = self.count_estimates(take.waveform.samples.shape[1], settings) + 1
        work = Work(1 + len(references) + len(seeds) * a_mix, progress)
        work.add(1)  # the take
        for one in references:
            with watch.of(CODEC):
                listened.append(self.encoded(one.waveform, name="the reference").latents)
            work.add(1)
        with watch.of(DENOISER):
            heard = heard_in(self.conditioner, listened, [one.weight for one in references])
        tail_frames = take.latents.shape[-1] - self.codec.frames(take.take_samples)
        options: dict[str, Any] = {"heard": heard, "tail_frames": tail_frames}
        for done in range(0, len(seeds), max_batch):
            batch, now = seeds[done : done + max_batch], said[done : done + max_batch]
            advance = functools.partial(work.add, len(batch))
            with watch.of(DENOISER):
                found = self.denoise(take.latents, settings, now, seeds=batch, progress=advance, **options)
            for place in range(len(batch)):
                # No name holds a mix while the next one is made: each takes as much memory as the take.
                yield self._decoded(found[place], take, work, watch)
            del found

    def _decoded(self, latents: torch.Tensor, take: EncodedTake, work: Work, watch: Stopwatch) -> torch.Tensor:
        with watch.of(CODEC):
            decoded = self.codec.decode(latents[None], samples=take.waveform.samples.shape[1])[0].cpu()
        work.add(1)
        return decoded

    @torch.no_grad()
    def denoise(
        self,
        latents: torch.Tensor,
        settings: Settings,
        said: Sequence[Told],
        *,
        seeds: Sequence[Seed],
        heard: torch.Tensor | None = None,
        tail_frames: int = 0,
        progress: Callable[[], None] | None = None,
    ) -> torch.Tensor:
        """Latents of the mixes of `seeds`, denoised at once, [seeds latent frames].

        latents: of the take, [1 latent frames]. said: to each of `seeds`, by `told`. heard: in references, by
        `saying.heard_in`. tail_frames: how many of the frames come after the take's end: before it, the noise of a seed
        is what it is without them. progress: called after every estimate of a window (`count_estimates` of them).
        """
        every = conditions(self.conditioner, self.defaults, latents, said, heard)
        says_something = bool(every.pooled.any())  # else there is nothing to exaggerate, at twice the cost
        return sample(
            self.denoiser,
            every,
            scheduler=self.scheduler,
            steps=settings.steps,
            guidance=settings.guidance if says_something else 1.0,
            sigma=settings.sigma,
            noise=noise_fields(seeds, latents.shape[1:], tail_frames).to(self.device),
            window_frames=self.defaults.window_frames,
            context_frames=self.defaults.context_frames,
            progress=progress,
        )

    def count_estimates(self, samples: int, settings: Settings) -> int:
        """Estimates of windows that `denoise` makes for a take of `samples` at the codec's rate."""
        return count_estimates(
            self.scheduler,
            steps=settings.steps,
            frames=self.codec.frames(samples),
            window_frames=self.defaults.window_frames,
            context_frames=self.defaults.context_frames,
        )

    @torch.no_grad()
    def _encode(self, waveform: Waveform) -> torch.Tensor:
        return self.codec.encode(waveform.samples.to(self.device)[None])

    def style_of(self, settings: Settings, seed: int) -> str | None:
        """The style that the mix of this seed is told; `restyler.telling` says how one is drawn."""
        return style_of(settings.style, self.styles, seed)

    def told(self, raw: Waveform, settings: Settings, seeds: Sequence[Seed]) -> list[Told]:
        """What the mix of each seed is told besides a reference; see `restyler.telling.told`. Raises ValueError for a
        walk between seeds, which draws nothing."""
        plain = [seed for seed in seeds if isinstance(seed, int)]
        if len(plain) < len(seeds):
            raise ValueError(f"what a mix between seeds is told has to be said: {[str(seed) for seed in seeds]}")
        return told(raw.resampled(self.codec.sample_rate), settings, self.defaults, self.styles, plain)

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
        for file in folder.rglob("config.json"):  # where a part was loaded from is nobody else's business
            fields = json.loads(file.read_text(encoding="utf-8"))
            fields.pop("_name_or_path", None)
            file.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        write_manifest(folder)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, device: torch.device | str = "cpu"
    ) -> VocalRestylePipeline:
        """Load a folder that `save_pretrained` wrote, as float32; never from a network.

        Raises InputError for a folder that is no model, damaged or incomplete (`check_manifest`), and for one whose
        parts don't fit each other or this version.
        """
        folder = Path(pretrained_model_name_or_path)
        check_manifest(folder)
        try:
            pipeline = super().from_pretrained(folder, use_safetensors=True, local_files_only=True)
        except Exception as error:  # diffusers, safetensors and torch raise many types for what doesn't fit
            (reason, *_) = f"{error}\n".splitlines()[0].split(". ")  # the rest is advice to programmers
            raise InputError(f"{shown(folder)}: the model can't be loaded: {reason}") from error
        check_weights(folder, pipeline.components)
        return pipeline.to(device)
