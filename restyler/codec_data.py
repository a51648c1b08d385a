"""Sound for codec training: any audio folders, cut and varied into short stereo excerpts.

A codec needs coverage of *sound*: levels from whisper to full scale, rooms, noise floors, tilts, widths, silence. An
excerpt is a pure function of (seed, step, number in its batch), so a resumed run, and one of several processes, sees
what an uninterrupted one would have seen.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from scipy.signal import fftconvolve
from torch.utils.data import IterableDataset, get_worker_info
from tqdm import tqdm

from audio.errors import InputError
from audio.io import read
from codec.losses import FFT_SIZES
from restyler.codec_config import CodecDataSection
from restyler.pairs import split_of
from restyler.takes import AUDIO_SUFFIXES

LONGEST_RESPONSE_S = 1.0
SILENT_PEAK = 1e-3
BAND_EDGE = 2 ** (1 / 96) - 1  # width of the slope of a band limit over its frequency


def find_audio(folder: Path) -> list[Path]:
    """Audio files below a folder in sorted order. Raises InputError where there is none."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: no audio files ({' '.join(sorted(AUDIO_SUFFIXES))}) there")
    return paths


def load_int16(path: Path, sample_rate: int) -> np.ndarray:
    """A file at `sample_rate` as int16 [samples channels], mono or stereo: compact enough to keep hours in memory.

    What lies over full scale is brought down by one gain. Raises InputError as audio.io.read does.
    """
    samples = read(path).resampled(sample_rate).samples
    samples = samples / samples.abs().amax().clamp_min(1.0)
    return (samples * 32767).round().to(torch.int16).numpy().T.copy()


def excerpt_streams(
    data: CodecDataSection, *, sample_rate: int, hop_samples: int, seed: int, batch_size: int, crop_s: float
) -> tuple[ExcerptStream, ExcerptStream]:
    """Training and validation excerpts, whole frames long. Validation has other files, chosen by a hash of their
    path below the source's folder, and no augmentation. Raises InputError where a source can't be read or split, has
    nothing above −60 dBFS in either split, or excerpts are shorter than the longest window of the losses."""
    samples = round(crop_s * sample_rate / hop_samples) * hop_samples
    if samples < max(FFT_SIZES):
        raise InputError(
            f"training.crop_s: {crop_s:g} s are {samples} samples of whole frames; at least {max(FFT_SIZES)} needed, "
            "the longest window of the losses"
        )
    pools: dict[str, list[list[np.ndarray]]] = {"train": [], "validation": []}
    for source in data.sources:
        folder = Path(source.path)
        split: dict[str, list[np.ndarray]] = {"train": [], "validation": []}
        paths = find_audio(folder)
        with ThreadPoolExecutor() as threads:  # decoding and resampling leave Python to the other threads
            sounds = threads.map(lambda path: load_int16(path, sample_rate), paths)
            for path, sound in tqdm(zip(paths, sounds, strict=True), f"reading {folder.name}", len(paths), unit="file"):
                split[split_of(path.relative_to(folder).as_posix(), data.validation_fraction)].append(sound)
        for name, pool in split.items():
            if not pool:
                raise InputError(
                    f"{folder}: no file falls in the {name} split (data.validation_fraction is "
                    f"{data.validation_fraction})"
                )
            if max(np.abs(audio).max() for audio in pool) < SILENT_PEAK * 32767:
                raise InputError(f"{folder}: silent: the {name} split has nothing above -60 dBFS")
            pools[name].append(pool)
    responses = []
    for path in find_audio(Path(data.impulse_responses)) if data.impulse_responses else []:
        response = load_int16(path, sample_rate)[: round(LONGEST_RESPONSE_S * sample_rate)].T.astype(np.float32)
        responses.append(np.broadcast_to(response, (2, response.shape[1])) / np.sqrt((response**2).sum() + 1e-9))
    weights = [source.weight for source in data.sources]

    def stream(name: str, *, augment: bool, seed: int) -> ExcerptStream:
        return ExcerptStream(
            pools[name],
            weights,
            responses,
            sample_rate=sample_rate,
            samples=samples,
            batch_size=batch_size,
            seed=seed,
            augment=augment,
        )

    return stream("train", augment=data.augment, seed=seed), stream("validation", augment=False, seed=seed)


class ExcerptStream(IterableDataset[torch.Tensor]):
    """Batches of varied stereo excerpts, float32 [batch 2 samples], from `start_step` on without end."""

    def __init__(
        self,
        pools: Sequence[Sequence[np.ndarray]],
        weights: Sequence[float],
        impulse_responses: Sequence[np.ndarray],
        *,
        sample_rate: int,
        samples: int,
        batch_size: int,
        seed: int,
        augment: bool,
    ) -> None:
        self.pools, self.impulse_responses = pools, impulse_responses
        # Within a pool a file counts by its length, so every second is as likely as any other.
        self.lengths = [np.array([len(a) for a in pool], dtype=float) for pool in pools]
        self.weights = np.array(weights, dtype=float) / np.sum(weights)
        self.sample_rate, self.samples, self.batch_size = sample_rate, samples, batch_size
        self.seed, self.start_step, self.augment = seed, 0, augment
        self.share = range(batch_size)  # of each batch, that iterating gives

    def without_augmentation(self) -> ExcerptStream:
        """The same sound as it is on disk."""
        plain = copy.copy(self)
        plain.augment = False
        return plain

    def __iter__(self) -> Iterator[torch.Tensor]:
        worker = get_worker_info()  # DataLoader takes from its workers in turn
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in itertools.count(self.start_step + first, stride):
            yield self.batch(step, self.share)

    def batch(self, step: int, share: range | None = None) -> torch.Tensor:
        """The excerpts of one step, or a share of them: each is a function of (seed, step, its number)."""
        numbers = range(self.batch_size) if share is None else share
        excerpts = [self._excerpt(np.random.default_rng([self.seed, step, number])) for number in numbers]
        return torch.from_numpy(np.stack(excerpts))

    def _excerpt(self, rng: np.random.Generator) -> np.ndarray:
        pool = rng.choice(len(self.pools), p=self.weights)
        lengths = self.lengths[pool]
        audio = self.pools[pool][rng.choice(len(lengths), p=lengths / lengths.sum())]
        start = int(rng.integers(-self.samples // 8, max(1, len(audio) - self.samples)))
        cut = audio[max(0, start) : start + self.samples].astype(np.float32).T / 32768
        cut = np.pad(cut, ((0, 0), (max(0, -start), 0)))
        cut = np.pad(cut, ((0, 0), (0, self.samples - cut.shape[1])))
        excerpt = np.repeat(cut, 2, axis=0) if cut.shape[0] == 1 else cut
        return vary(excerpt, rng, self.impulse_responses, self.sample_rate) if self.augment else excerpt


def band_limited(audio: np.ndarray, *, limit_hz: float, sample_rate: int) -> np.ndarray:
    """Audio [channels samples] without what lies above `limit_hz`; the slope is an eighth of a semitone wide."""
    spectrum = np.fft.rfft(audio)
    frequencies = np.fft.rfftfreq(audio.shape[1], 1 / sample_rate)
    return np.fft.irfft(spectrum * np.clip((limit_hz - frequencies) / (limit_hz * BAND_EDGE), 0, 1), audio.shape[1])


def vary(
    audio: np.ndarray, rng: np.random.Generator, impulse_responses: Sequence[np.ndarray], sample_rate: int
) -> np.ndarray:
    """One excerpt [2 samples] under random tilt, room, width, noise floor, band limit, fade and level."""
    samples = audio.shape[1]
    if impulse_responses and rng.random() < 0.35:
        response = impulse_responses[int(rng.integers(len(impulse_responses)))]
        wet = fftconvolve(audio, response, axes=1)[:, :samples]
        scale = np.sqrt((audio**2).mean() / max(float((wet**2).mean()), 1e-12))
        audio = audio + wet * scale * 10 ** (rng.uniform(-25, 0) / 20)
    if rng.random() < 0.5:  # a smooth random equaliser: gains at octave-spaced points, interpolated
        frequencies = np.fft.rfftfreq(samples, 1 / sample_rate)
        points = np.geomspace(40, 20000, 10)
        gain_db = np.interp(np.log(np.maximum(frequencies, 20)), np.log(points), rng.normal(0, 6, points.size))
        audio = np.fft.irfft(np.fft.rfft(audio) * 10 ** (gain_db / 20), samples)
    if rng.random() < 0.3:  # width and pan
        mid, side = audio.sum(0) / 2, (audio[0] - audio[1]) / 2 * rng.uniform(0, 2)
        pan = rng.uniform(-0.4, 0.4)
        audio = np.stack([(mid + side) * (1 + pan), (mid - side) * (1 - pan)])
    if rng.random() < 0.3:  # noise of microphone and room: tilted, partly in common to both channels
        noise = rng.standard_normal((2, samples))
        tilt = np.maximum(np.fft.rfftfreq(samples, 1 / sample_rate), 50.0) ** -rng.uniform(0, 1)
        noise = np.fft.irfft(np.fft.rfft(noise) * tilt, samples)
        noise[1] += rng.uniform(0, 3) * noise[0]
        noise *= 10 ** (rng.uniform(-75, -25) / 20) / max(float(noise.std()), 1e-12)
        audio = audio + noise * max(float(np.abs(audio).max()), 1e-3)
    if rng.random() < 0.25:  # nothing above a frequency, as in what once was an MP3 or had a lower sample rate
        audio = band_limited(audio, limit_hz=rng.uniform(9_000, 20_000), sample_rate=sample_rate)
    if rng.random() < 0.15:  # silence, suddenly or slowly
        edge, length = int(rng.integers(samples)), int(rng.integers(1, samples // 2))
        fade = np.clip((edge - np.arange(samples)) / length + 0.5, 0, 1)
        audio = audio * (fade if rng.random() < 0.5 else fade[::-1])
    if rng.random() < 0.5:
        audio = audio[::-1]
    peak = max(float(np.abs(audio).max()), 1e-5)
    level_db = rng.uniform(-12, -0.5) if rng.random() < 0.6 else rng.uniform(-50, -12)
    return (audio * (rng.choice([-1.0, 1.0]) * 10 ** (level_db / 20) / peak)).astype(np.float32)
