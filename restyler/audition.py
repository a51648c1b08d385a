"""Fixed takes restyled with fixed seeds by the weights of the moment: measured, kept to be heard, and shown.

What the network is trained on, an error of latents at single times of the path, is no measure of the mixes that come
out. Here everything is done as for a listener: whole sampling, the codec, and distances as `restyler.bench` has them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

import torch
from PIL import Image

from audio.features import FEATURES
from audio.loudness import integrated_loudness_lufs, match_loudness
from audio.waveform import Waveform
from codec.base import LatentCodec
from restyler.bench_diversity import spread_of
from restyler.metrics import loudness_dynamics_distance, spectral_distance
from restyler.pictures import stacked
from restyler.pipeline import VocalRestylePipeline
from restyler.rendering import TRUE_PEAK_CEILING_DB

MEASURES = ("mss_lr", "mss_ms", "mldr")


@dataclass(frozen=True)
class Audition:
    """One fixed take: as it is restyled, and as an engineer mixed it.

    name: unique among the takes of a run, printable, and fit for a file's name. raw, mix: stereo at the codec's rate,
    of one length and in time, at the loudness of the data. style: that of the mix.
    """

    name: str
    raw: Waveform
    mix: Waveform
    style: str | None


@dataclass(frozen=True)
class Heard:
    """What came of one hearing.

    values, with MEASURE one of mss_lr, mss_ms (`metrics.SpectralDistance`) and mldr
    (`metrics.loudness_dynamics_distance`), all of them distances to the engineer's mix and medians over the takes:
        val_MEASURE: mean of the seeds of a take; val_best_MEASURE: of its seed with the lowest mss_lr.
        val_spread_FEATURE: highest minus lowest over the seeds of a take, in dB, mean over the takes.
        val_failed: mixes, of all, that were silent or not finite. The others are measured without them; NaN stands
        where nothing is left to be measured.
        floor_MEASURE: of the raw takes, left as they are; ceiling_MEASURE: of the mixes through the codec alone.
    sounds: "NAME/raw", "NAME/mix" and "NAME/seed 0" …, within ±1; a mix that failed is missing.
    pictures: by the takes' names, the spectrograms of raw take, mix and seed 0 from top to bottom.
    """

    values: dict[str, float]
    sounds: dict[str, Waveform]
    pictures: dict[str, Image.Image]


class Auditions:
    """Takes that are heard again and again during a training run.

    The same weights give the same values, bit for bit on one machine: noise comes from the seeds alone, and no global
    random state is read or moved.
    """

    def __init__(self, takes: Sequence[Audition], codec: LatentCodec, *, seeds: int) -> None:
        """seeds: 0 … seeds − 1 are rendered of every take. Raises ValueError for takes that can't be compared."""
        if not takes or seeds < 1 or len({take.name for take in takes}) < len(takes):
            raise ValueError(f"at least one take, each of another name, and a seed, not {len(takes)} and {seeds}")
        for take in takes:
            for side in (take.raw, take.mix):
                if side.sample_rate != codec.sample_rate or side.samples.shape != (2, take.raw.samples.shape[1]):
                    raise ValueError(f"{take.name}: raw and mix are stereo, of one length, at {codec.sample_rate} Hz")
        self.takes, self.codec, self.seeds = list(takes), codec, seeds
        self._bounds: dict[str, float] | None = None  # the codec stays as it is: measured once

    @torch.no_grad()
    def hear(self, pipeline: VocalRestylePipeline) -> Heard:
        """Restyles every take as `restyler sample --reverb none` would: the pipeline's own sampling defaults, the
        take's own style told where the pipeline knows it, the take's loudness, peaks under the same ceiling."""
        if self._bounds is None:
            self._bounds = self._measured_bounds()
        expected, best, spreads = [], [], []
        sounds: dict[str, Waveform] = {}
        pictures: dict[str, Image.Image] = {}
        failed = 0
        for take in self.takes:
            mixes = self._rendered(pipeline, take)
            came_out = [mix for mix in mixes if mix is not None]
            failed += len(mixes) - len(came_out)
            found = [distances(take.mix, mix) for mix in came_out]
            if found:
                expected.append(tuple(statistics.fmean(column) for column in zip(*found, strict=True)))
                best.append(min(found))  # by mss_lr, which comes first
            if len(came_out) > 1:
                spreads.append(spread_of(came_out))
            sounds |= {f"{take.name}/raw": take.raw, f"{take.name}/mix": take.mix}
            sounds |= {f"{take.name}/seed {seed}": mix for seed, mix in enumerate(mixes) if mix is not None}
            pictures[take.name] = picture(take.raw, take.mix, mixes[0])
        values = medians("val_", expected) | medians("val_best_", best)
        for name in FEATURES:
            values[f"val_spread_{name}"] = statistics.fmean(spread[name] for spread in spreads) if spreads else math.nan
        return Heard(values | {"val_failed": float(failed)} | self._bounds, sounds, pictures)

    def _rendered(self, pipeline: VocalRestylePipeline, take: Audition) -> list[Waveform | None]:
        """The mix of every seed, None for one that is silent or not finite."""
        style = take.style if take.style in pipeline.styles else None
        mixes = pipeline(take.raw, seeds=range(self.seeds), style=style, max_batch=self.seeds)
        take_lufs = integrated_loudness_lufs(take.raw)
        return [levelled(Waveform(mix, self.codec.sample_rate), take_lufs) for mix in mixes]

    def _measured_bounds(self) -> dict[str, float]:
        floor, ceiling = [], []
        for take in self.takes:
            floor.append(distances(take.mix, take.raw))
            samples = take.mix.samples[None].to(self.codec.device)
            decoded = self.codec.decode(self.codec.encode(samples), samples=samples.shape[-1])[0]
            round_trip = levelled(Waveform(decoded.cpu(), self.codec.sample_rate), integrated_loudness_lufs(take.mix))
            if round_trip is not None:
                ceiling.append(distances(take.mix, round_trip))
        return medians("floor_", floor) | medians("ceiling_", ceiling)


def distances(mix: Waveform, estimate: Waveform) -> tuple[float, ...]:
    """MEASURES, in their order."""
    return *astuple(spectral_distance(mix, estimate)), loudness_dynamics_distance(mix, estimate)


def medians(prefix: str, rows: Iterable[tuple[float, ...]]) -> dict[str, float]:
    """Of every measure over rows of them, by its name; NaN over none."""
    columns = list(zip(*rows, strict=True)) or [()] * len(MEASURES)
    return {
        f"{prefix}{name}": statistics.median(column) if column else math.nan
        for name, column in zip(MEASURES, columns, strict=True)
    }


def levelled(waveform: Waveform, loudness_lufs: float) -> Waveform | None:
    """At that loudness, or as near as its true peak stays under the ceiling of finished mixes; None for a waveform that
    is silent or not finite."""
    if not bool(waveform.samples.isfinite().all()) or integrated_loudness_lufs(waveform) == -math.inf:
        return None
    return match_loudness(waveform, loudness_lufs, peak_db=TRUE_PEAK_CEILING_DB).waveform


def picture(raw: Waveform, mix: Waveform, ours: Waveform | None) -> Image.Image:
    """Their spectrograms; the last is dark without `ours`."""
    return stacked([raw, mix], [ours or Waveform(torch.zeros_like(raw.samples), raw.sample_rate)])
