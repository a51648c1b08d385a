"""From a loaded model and a take to finished files."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.utils import logging as diffusers_logging

from audio.bwf import TimeStamp
from audio.io import write
from audio.loudness import match_loudness
from audio.parts import Step
from audio.waveform import Waveform
from restyler.command import DEFAULT_PEAK_DBTP, require_not_interrupted
from restyler.devices import pick_device
from restyler.encoded import EncodedTake
from restyler.guards import Guard, Verdict
from restyler.guards_again import faithful
from restyler.mix_line import mix_line
from restyler.model_folder import MANIFEST
from restyler.noise import Seed, start_of
from restyler.pipeline import VocalRestylePipeline
from restyler.progress import Beside, Progress
from restyler.rack_chain import through
from restyler.saying import References
from restyler.sends import Sends, summed, wet
from restyler.settings import Settings
from restyler.stems import DRY, stems_beside
from restyler.stopwatch import CODEC as CODEC_SHARE
from restyler.stopwatch import FILES, GUARDS, LEVELS, RENDERING, Stopwatch
from restyler.telling import Told
from restyler.way_names import DEFAULT_WAY, TRANSFER
from restyler.ways import Made, Way, chain_beside

METERS_DIFFER_DB = 0.1  # about; a mix stays so far under its ceiling
TRUE_PEAK_CEILING_DB = DEFAULT_PEAK_DBTP - METERS_DIFFER_DB


@dataclass(frozen=True)
class Mix:
    """A finished mix: written to `path`; `limited` where the peak ceiling kept it from the wanted loudness.

    seed: what its noise is made of. styles: names and shares. chosen: the settings that made it, as text, as they stand
    in the file. drawn: the controls that its seed drew. loudness_lufs, true_peak_db: measured.
    """

    path: Path
    seed: Seed
    styles: Mapping[str, float]
    chosen: Mapping[str, str]
    drawn: Mapping[str, float]
    waveform: Waveform
    limited: bool
    loudness_lufs: float
    true_peak_db: float
    verdict: Verdict | None = None

    def line(self) -> str:
        """One line for the terminal."""
        return mix_line(
            self.path,
            seed=str(self.seed),
            styles=self.styles,
            drawn=self.drawn,
            loudness_lufs=self.loudness_lufs,
            true_peak_dbtp=self.true_peak_db,
            ceiling_dbtp=float(self.chosen["peak_dbtp"]) if self.limited else None,
            reverb=self.chosen.get("reverb"),
            guards=self.verdict.note() if self.verdict else "",
        )


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
    take: Waveform | EncodedTake,
    settings: Settings,
    *,
    seeds: Sequence[Seed],
    paths: Sequence[Path],
    tags: Mapping[str, str],
    said: Sequence[Told] | None = None,
    reference: References = None,
    strength: float | None = None,
    loudness_lufs: float | None = None,
    peak_dbtp: float = DEFAULT_PEAK_DBTP,
    max_batch: int = 1,
    progress: Progress | None = None,
    way: str = DEFAULT_WAY,
    raw: Path | None = None,
    guarded: bool = True,
    resampled: bool = True,
    watch: Stopwatch | None = None,
    after: Sequence[Step] = (),
    sends: Sends | None = None,
    stems: bool = False,
    stamp: TimeStamp | None = None,
) -> Iterator[Mix]:
    """Write one mix per seed, each as soon as it is done: 24 bit, at the codec's rate, exactly as long as the take, and
    as the tail that it was encoded with.

    said, reference: as in `VocalRestylePipeline.mixes`. watch: is told where the time goes.
    strength: 0 is the take, 1 the whole mix (`restyler.strength`); the model's own if None.
    loudness_lufs: integrated loudness of the mixes; the take's own if None. One gain brings a mix there, or as near
    as its true peak stays under `peak_dbtp`. tags: what else to write into each file beside seed and settings.
    way: one of WAYS (`restyler.ways`); transfer writes the chain beside each mix, which names the take's file, `raw`.
    guarded: a mix that is no longer its take gives way to one of another seed, and a loudness that strays is brought
    back (`restyler.guards`). Judged is the whole mix, so that neither strength nor levels choose the seed. resampled:
    whether it may give way; if not, what is wrong with it is said.
    after: an effect chain for each mix, which it hears at the loudness of training, before loudness and peak.
    sends: what hears the mix then, and is added to it, drawn by the mix's seed (`restyler.sends`). stems: whether the
    dry mix and what each bus adds are written too (`restyler.stems`). stamp: when the take began, for the files.
    Raises InputError where a file can't be written, ValueError for transfer without `raw` or with another chain after
    it: the chain alone would not be the mix.
    """
    if way == TRANSFER and (after or sends):
        raise ValueError("a fitted chain is the whole mix, with no other after it")
    watch = watch or Stopwatch()
    every = pipeline.told(_heard(take), settings, seeds) if said is None else said
    with watch.of(CODEC_SHARE):
        encoded = pipeline.encoded(take) if isinstance(take, Waveform) else take
        del take
        strength = pipeline.defaults.strength if strength is None else strength
        finish = Way(way, pipeline, encoded, stems=stems, strength=strength)
    # All is measured at the loudness of training: at that of a quiet take the gate at −70 LUFS would cut into mixes.
    target_lufs = encoded.loudness_lufs if loudness_lufs is None else loudness_lufs
    with watch.of(GUARDS):
        guard = Guard(_heard(encoded)) if guarded else None
    mixes = functools.partial(pipeline.mixes, encoded, settings, reference=reference, watch=watch)

    def made_of(samples: torch.Tensor, seed: Seed, advance: Callable[[], None] | None = None) -> Made:
        with watch.of(RENDERING):
            return finish(Waveform(samples, pipeline.codec.sample_rate), seed=start_of(seed), progress=advance)

    def other(told: Told, seed: Seed) -> Made:
        (samples,) = mixes(seeds=[seed], said=[told], max_batch=1)
        return made_of(samples, seed)

    def finished(made: Made, seed: Seed, told: Told, path: Path) -> Mix:
        lifted, verdict = made.waveform, None
        if guard is not None:
            again = functools.partial(other, told) if resampled else None
            with watch.of(GUARDS):
                judged = faithful(made, seed, guard=guard, again=again)
            made, lifted, seed, verdict = judged.made, judged.waveform, judged.seed, judged.verdict
        with watch.of(LEVELS):
            kept = finish.kept(lifted)
        with watch.of(RENDERING):
            kept = through(after, kept) if after else kept
            buses = sends.drawn(start_of(seed)) if sends else {}
            dry, added = kept, wet(kept, buses)
            kept = summed(dry, added) if added else kept
            parts = {DRY: dry, **added} if stems and sends else made.stems
            del dry, added
        with watch.of(LEVELS):
            # In its own place, unless it is the take, which the next mix needs, or a stem, still to get its gain.
            own = all(kept is not each for each in (encoded.waveform, *parts.values()))
            matched = match_loudness(kept, target_lufs, peak_db=peak_dbtp - METERS_DIFFER_DB, in_place=own)
        drawn = {name: value for name, value in told.controls.items() if name in told.drawn}
        said_now = vars(settings) | {"style": told.style, "controls": dict(told.controls), "render": way}
        said_now |= {"strength": float(strength), "lufs": loudness_lufs, "peak_dbtp": float(peak_dbtp)}
        said_now |= {"tail": encoded.tail_s or None}
        if not (told.styles or told.controls or reference):
            del said_now["guidance"]  # it had nothing to follow
        if not drawn:
            del said_now["spread"]  # it had nothing to spread
        chosen = {name: str(value) for name, value in said_now.items() if value not in (None, {})}
        chosen |= {"drawn": " ".join(drawn)} if drawn else {}
        chosen |= {"reverb": sends.tag} if sends and buses else {}
        chosen["guard"] = "on" if guarded else "off"
        if verdict and verdict.note():
            chosen["guarded"] = verdict.note()
        written = {**tags, "seed": str(seed), **chosen}
        when = stamp.at(matched.waveform.sample_rate) if stamp else None
        beside = stems_beside(path, parts, gain_db=matched.gain_db, tags=written, stamp=when)
        with watch.of(FILES), chain_beside(path, made, raw=raw, output_gain_db=matched.gain_db), beside:
            write(path, matched.waveform, tags=written, stamp=when)
        facts = (matched.limited, matched.loudness_lufs, matched.true_peak_db, verdict)
        return Mix(path, seed, told.styles, chosen, drawn, matched.waveform, *facts)

    work = Beside(len(seeds) * finish.pieces, progress)
    decoded = mixes(seeds=seeds, said=every, max_batch=max_batch, progress=work.others)
    for seed, told, path in zip(seeds, every, paths, strict=True):
        require_not_interrupted()
        # No name holds a mix while the next one is made: each takes as much memory as the take.
        yield finished(made_of(next(decoded), seed, work.add), seed, told, path)


def _heard(take: Waveform | EncodedTake) -> Waveform:
    """Without the silence after its end."""
    if isinstance(take, Waveform):
        return take
    return Waveform(take.waveform.samples[:, : take.take_samples], take.waveform.sample_rate)
