"""What a model's mixes of fixed takes are worth under one way of sampling, kept on disk once it is known."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from audio.errors import InputError
from audio.io import make_folder, write_text_atomic
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from codec.base import LatentCodec
from diffusion.sampling import make_scheduler
from restyler.audition import MEASURES, Audition, distances
from restyler.audition_takes import auditions_of_pairs
from restyler.config import DenoiserConfig, FolderData, load_config
from restyler.metrics import spectral_distance
from restyler.model_folder import MANIFEST
from restyler.pairs import read_pairs
from restyler.pipeline import VocalRestylePipeline

APART = "apart"
COLUMNS = (*MEASURES, APART)
SEEDS = (0, 1)
CONFIGS = Path("configs/ablations")
PLAIN = "plain"  # of CONFIGS: what the others differ from, and whose validation pairs are restyled
Scores = Mapping[str, list[float]]


@dataclass(frozen=True)
class Way:
    """How takes are restyled. sigma: None on the path "noise". told: whether each take's style is told, where the model
    knows it."""

    solver: str
    steps: int
    guidance: float
    sigma: float | None
    told: bool = True

    @property
    def name(self) -> str:
        sigma = "" if self.sigma is None else f"_sigma{self.sigma:g}"
        return f"{self.solver}_{self.steps}_guidance{self.guidance:g}{sigma}{'' if self.told else '_untold'}"


def design(name: str) -> DenoiserConfig:
    """configs/ablations/NAME.yaml. Raises InputError."""
    config = load_config(CONFIGS / f"{name}.yaml")
    if not isinstance(config, DenoiserConfig):
        raise InputError(f"{CONFIGS / name}.yaml: compared are denoisers, not the task {config.task}")
    return config


def fixed_takes(codec: LatentCodec, *, count: int, take_s: float) -> list[Audition]:
    """Takes of the validation pairs of PLAIN, each with one of its mixes, two at the least. Raises InputError for data
    that can't be used."""
    data = design(PLAIN).data
    if not isinstance(data, FolderData):
        raise InputError(f"{CONFIGS / PLAIN}.yaml: data: compared on a folder of pairs, not on {data.kind}")
    pairs = read_pairs(Path(data.path), validation_fraction=data.validation_fraction)
    takes = auditions_of_pairs(
        pairs, takes=count, take_s=take_s, sample_rate=codec.sample_rate, loudness_lufs=data.loudness_lufs
    )
    if len(takes) < 2:
        raise InputError(f"{data.path}: a comparison needs two validation takes with sound at the least")
    return takes


def scores(model: Path, takes: Sequence[Audition], way: Way, *, kept: Path) -> Scores:
    """For every take, in their order: MEASURES, distances of a mix to the engineer's, the mean of SEEDS; and APART, the
    MSS_lr between the mixes of two seeds. NaN for a take of which a mix is silent or not finite.

    kept: a folder where they are written, and read again if the same weights, takes and way are asked for.
    """
    digest = hashlib.sha256((model / MANIFEST).read_bytes())
    for take in takes:
        digest.update(f"{take.name}, {take.style}".encode() + take.mix.samples.numpy().tobytes())
    facts = {"of": digest.hexdigest(), "way": asdict(way), "seeds": list(SEEDS)}
    place = kept / f"{way.name}.json"
    if place.exists():
        found = json.loads(place.read_text(encoding="utf-8"))
        if {name: found[name] for name in facts} == facts:
            return found["scores"]
    pipeline = VocalRestylePipeline.from_pretrained(model)
    pipeline.scheduler = make_scheduler(way.solver)
    rows = [_scored(take, _mixes(pipeline, take, way)) for take in tqdm(takes, desc=way.name, leave=False)]
    measured = {name: [row[number] for row in rows] for number, name in enumerate(COLUMNS)}
    make_folder(kept)
    write_text_atomic(place, json.dumps(facts | {"scores": measured}, indent=1) + "\n")
    return measured


def _mixes(pipeline: VocalRestylePipeline, take: Audition, way: Way) -> list[Waveform]:
    style = take.style if way.told and take.style in pipeline.styles else None
    mixes = pipeline(
        take.raw,
        seeds=SEEDS,
        style=style,
        steps=way.steps,
        guidance=way.guidance,
        sigma=way.sigma,
        spread=0.0,  # controls would be drawn by each seed: one difference at a time
        max_batch=len(SEEDS),
    )
    return [Waveform(samples, pipeline.codec.sample_rate) for samples in mixes]


def _scored(take: Audition, mixes: Sequence[Waveform]) -> tuple[float, ...]:
    """COLUMNS of one take; distances are at equal loudness."""
    if not all(bool(mix.samples.isfinite().all()) and integrated_loudness_lufs(mix) > -math.inf for mix in mixes):
        return (math.nan,) * len(COLUMNS)
    found = [distances(take.mix, mix) for mix in mixes]
    apart = spectral_distance(mixes[0], mixes[-1]).lr
    return *(statistics.fmean(column) for column in zip(*found, strict=True)), apart


@torch.no_grad()
def bounds(takes: Sequence[Audition], codec: LatentCodec) -> dict[str, Scores]:
    """What every table needs: the raw takes as they are, and the mixes through the codec alone."""
    sides: dict[str, list[tuple[float, ...]]] = {"raw take (floor)": [], "the mix through the codec (ceiling)": []}
    for take in takes:
        samples = take.mix.samples[None]
        decoded = codec.decode(codec.encode(samples), samples=samples.shape[-1])[0]
        for row, one in zip(sides.values(), (take.raw, Waveform(decoded, codec.sample_rate)), strict=True):
            row.append(_scored(take, [one]))
    return {
        name: {column: [row[number] for row in rows] for number, column in enumerate(COLUMNS)}
        for name, rows in sides.items()
    }


def paired(some: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Mean of the differences some − others over the same takes, and its standard error."""
    differences = [one - other for one, other in zip(some, others, strict=True)]
    return statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(differences))


def print_row(*cells: str) -> None:
    """One row of a Markdown table."""
    print(f"| {' | '.join(cells)} |", flush=True)


def mean_cell(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.3f}"


def median_cell(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3f}"


def against_cell(some: Sequence[float], others: Sequence[float]) -> str:
    mean, error = paired(some, others)
    return f"{mean:+.3f} ± {error:.3f}".replace("-", "−")
