"""From a loaded model and a take to finished files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.utils import logging as diffusers_logging

from audio.io import write
from audio.loudness import integrated_loudness_lufs, match_loudness, true_peak_db
from audio.waveform import Waveform
from restyler.command import shown
from restyler.devices import pick_device
from restyler.model_folder import MANIFEST
from restyler.pipeline import VocalRestylePipeline
from restyler.progress import Progress
from restyler.settings import Settings
from restyler.way_names import DEFAULT_WAY
from restyler.ways import Way, chain_beside

TRUE_PEAK_CEILING_DB = -1.1  # a tenth under −1 dBTP: meters differ by about that much


@dataclass(frozen=True)
class Mix:
    """A finished mix: written to `path`; `limited` where the peak ceiling kept it from the wanted loudness.

    chosen: the settings that made it, as text, as they stand in the file. drawn: the controls that its seed drew.
    """

    path: Path
    seed: int
    chosen: Mapping[str, str]
    drawn: Mapping[str, float]
    waveform: Waveform
    limited: bool

    def line(self) -> str:
        """One line for the terminal."""
        levels = f"{integrated_loudness_lufs(self.waveform):.1f} LUFS, {true_peak_db(self.waveform):.1f} dBTP"
        note = " (quieter than wanted: the peak ceiling of -1 dBTP wins)" if self.limited else ""
        style = f"  {self.chosen['style']}" if "style" in self.chosen else ""
        drawn = "".join(f"  {name.removesuffix('_db')} {value:+.1f} dB" for name, value in self.drawn.items())
        return f"{shown(self.path)}  seed {self.seed}{style}{drawn}  {levels}{note}"


def load_model(folder: Path, device: str) -> VocalRestylePipeline:
    """The model in `folder` on `device`: auto (the first GPU if there is one), cpu, cuda or cuda:N.

    Raises InputError for a device that is unknown or absent, and for a folder that is no intact model.
    """
    place = pick_device(device)
    # TF32 would keep ten bits of every convolution's input: a mix would depend on the device audibly more than by
    # rounding.
    torch.backends.cudnn.allow_tf32 = False
    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()  # weights that don't fit are refused, no reason to warn as well
    return VocalRestylePipeline.from_pretrained(folder, device=place)


def model_name(folder: Path) -> str:
    """Folder name and a hash over the manifest, which holds the hash of every file: says exactly which model it was."""
    return f"{folder.resolve().name} {hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()[:12]}"


def render(
    pipeline: VocalRestylePipeline,
    take: Waveform,
    settings: Settings,
    *,
    seeds: Sequence[int],
    paths: Sequence[Path],
    tags: Mapping[str, str],
    reference: Waveform | None = None,
    loudness_lufs: float | None = None,
    max_batch: int = 1,
    progress: Progress | None = None,
    way: str = DEFAULT_WAY,
    raw: Path | None = None,
) -> Iterator[Mix]:
    """Write one mix per seed, each as soon as it is done: 24 bit, at the codec's rate, exactly as long as the take.

    loudness_lufs: integrated loudness of the mixes; the take's own if None. One gain brings a mix there, or as near
    as its true peak stays under −1 dBTP. tags: what else to write into each file beside seed and settings.
    way: one of WAYS (`restyler.ways`); transfer writes the chain beside each mix, which names the take's file, `raw`.
    Raises InputError where a file can't be written, ValueError for transfer without `raw`.
    """
    take_lufs = integrated_loudness_lufs(take)
    target_lufs = take_lufs if loudness_lufs is None else loudness_lufs
    # Mixes are measured at the loudness of training: at that of a quiet take the gate at −70 LUFS would cut into them.
    lift = 10 ** ((pipeline.defaults.loudness_lufs - take_lufs) / 20)
    finish = Way(way, pipeline, take)
    mixes = pipeline.stream(take, settings, seeds=seeds, reference=reference, max_batch=max_batch, progress=progress)
    every = pipeline.told(take, settings, seeds)
    for samples, seed, told, path in zip(mixes, seeds, every, paths, strict=True):
        made = finish(Waveform(samples, pipeline.codec.sample_rate), seed=seed)
        lift_db = 0.0 if made.steps else 20 * math.log10(lift)  # a chain's mix is as loud as what it hears
        lifted = Waveform(made.waveform.samples * 10 ** (lift_db / 20), made.waveform.sample_rate)
        matched = match_loudness(lifted, target_lufs, peak_db=TRUE_PEAK_CEILING_DB)
        said = vars(settings) | vars(told) | {"render": way}
        if not settings.told and reference is None:
            del said["guidance"]  # it had nothing to follow
        drawn = {name: value for name, value in told.controls.items() if name not in settings.controls}
        if not drawn:
            del said["spread"]  # it had nothing to spread
        chosen = {name: str(value) for name, value in said.items() if value not in (None, {})}
        with chain_beside(path, made, raw=raw, output_gain_db=matched.gain_db + lift_db):
            write(path, matched.waveform, tags={**tags, "seed": str(seed), **chosen})
        yield Mix(path, seed, chosen, drawn, matched.waveform, matched.limited)
