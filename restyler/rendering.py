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
from restyler.command import DEFAULT_PEAK_DBTP, shown
from restyler.devices import pick_device
from restyler.model_folder import MANIFEST
from restyler.noise import Seed, start_of
from restyler.pipeline import VocalRestylePipeline
from restyler.progress import Progress
from restyler.saying import References
from restyler.settings import Settings
from restyler.strength import at_strength
from restyler.telling import Told
from restyler.way_names import DEFAULT_WAY, TRANSFER
from restyler.ways import Way, chain_beside

METERS_DIFFER_DB = 0.1  # about; a mix stays so far under its ceiling
TRUE_PEAK_CEILING_DB = DEFAULT_PEAK_DBTP - METERS_DIFFER_DB


@dataclass(frozen=True)
class Mix:
    """A finished mix: written to `path`; `limited` where the peak ceiling kept it from the wanted loudness.

    seed: what its noise is made of. styles: names and shares. chosen: the settings that made it, as text, as they stand
    in the file. drawn: the controls that its seed drew.
    """

    path: Path
    seed: Seed
    styles: Mapping[str, float]
    chosen: Mapping[str, str]
    drawn: Mapping[str, float]
    waveform: Waveform
    limited: bool

    def line(self) -> str:
        """One line for the terminal."""
        levels = f"{integrated_loudness_lufs(self.waveform):.1f} LUFS, {true_peak_db(self.waveform):.1f} dBTP"
        ceiling = f"the peak ceiling of {float(self.chosen['peak_dbtp']):g} dBTP wins"
        note = f" (quieter than wanted: {ceiling})" if self.limited else ""
        style = "".join(f"  {name}" + (f" {share:.0%}" if share < 1 else "") for name, share in self.styles.items())
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
    seeds: Sequence[Seed],
    paths: Sequence[Path],
    tags: Mapping[str, str],
    said: Sequence[Told] | None = None,
    reference: References = None,
    strength: float = 1.0,
    loudness_lufs: float | None = None,
    peak_dbtp: float = DEFAULT_PEAK_DBTP,
    max_batch: int = 1,
    progress: Progress | None = None,
    way: str = DEFAULT_WAY,
    raw: Path | None = None,
) -> Iterator[Mix]:
    """Write one mix per seed, each as soon as it is done: 24 bit, at the codec's rate, exactly as long as the take.

    said, reference: as in `VocalRestylePipeline.stream`.
    strength: 0 is the take, 1 the whole mix (`restyler.strength`).
    loudness_lufs: integrated loudness of the mixes; the take's own if None. One gain brings a mix there, or as near
    as its true peak stays under `peak_dbtp`. tags: what else to write into each file beside seed and settings.
    way: one of WAYS (`restyler.ways`); transfer writes the chain beside each mix, which names the take's file, `raw`.
    Raises InputError where a file can't be written, ValueError for transfer without `raw` or with less strength than 1:
    the chain alone would not be the mix.
    """
    if way == TRANSFER and strength != 1:
        raise ValueError(f"a chain is the whole mix, not {strength} of it")
    take_lufs = integrated_loudness_lufs(take)
    target_lufs = take_lufs if loudness_lufs is None else loudness_lufs
    # Mixes are measured at the loudness of training: at that of a quiet take the gate at −70 LUFS would cut into them.
    lift = 10 ** ((pipeline.defaults.loudness_lufs - take_lufs) / 20)
    finish = Way(way, pipeline, take)
    dry = Waveform(finish.take.samples * lift, finish.take.sample_rate)
    every = pipeline.told(take, settings, seeds) if said is None else said
    mixes = pipeline.stream(
        take, settings, seeds=seeds, said=every, reference=reference, max_batch=max_batch, progress=progress
    )
    for samples, seed, told, path in zip(mixes, seeds, every, paths, strict=True):
        made = finish(Waveform(samples, pipeline.codec.sample_rate), seed=start_of(seed))
        lift_db = 0.0 if made.steps else 20 * math.log10(lift)  # a chain's mix is as loud as what it hears
        lifted = Waveform(made.waveform.samples * 10 ** (lift_db / 20), made.waveform.sample_rate)
        kept = at_strength(dry, lifted, strength)
        matched = match_loudness(kept, target_lufs, peak_db=peak_dbtp - METERS_DIFFER_DB)
        drawn = {name: value for name, value in told.controls.items() if name not in settings.controls}
        said_now = vars(settings) | {"style": told.style, "controls": dict(told.controls), "render": way}
        said_now |= {"strength": float(strength), "lufs": loudness_lufs, "peak_dbtp": float(peak_dbtp)}
        if not (told.styles or told.controls or reference):
            del said_now["guidance"]  # it had nothing to follow
        if not drawn:
            del said_now["spread"]  # it had nothing to spread
        chosen = {name: str(value) for name, value in said_now.items() if value not in (None, {})}
        chosen |= {"drawn": " ".join(drawn)} if drawn else {}
        with chain_beside(path, made, raw=raw, output_gain_db=matched.gain_db + lift_db):
            write(path, matched.waveform, tags={**tags, "seed": str(seed), **chosen})
        yield Mix(path, seed, told.styles, chosen, drawn, matched.waveform, matched.limited)
