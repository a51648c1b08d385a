"""All that can be said about a single recording, in one pass over its samples and in bounded memory.

What is measured here are facts, no judgements: thresholds and names of faults belong to those who ask.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audio.activity import STEP_S, active, decode_levels, encode_levels, loud_db, noise_floor_db
from audio.errors import InputError
from audio.faults import FaultMeter
from audio.io import blocks
from audio.meters import LoudnessMeter, StepSums, TruePeakMeter
from audio.spectrum import SpectrumMeter
from audio.streams import StreamResampler
from audio.waveform import Waveform

PROXY_RATE_HZ = 16_000
PIECE_SAMPLES = 1 << 17  # measured at once: what fits a processor's cache


class UnwritableProxyError(InputError):
    """No place for a proxy: nothing is wrong with the recording."""


@dataclass(frozen=True)
class Inspection:
    """A recording in figures. Levels are in dB against full scale (dBFS); −inf where there is nothing.

    duration_s, sample_rate (Hz), channels (1 or 2): as stored.
    loudness_lufs: integrated, of the stereo form (`audio.loudness`). true_peak_db: dBTP. sample_peak_db.
    dc_db: mean of the samples, of the worse channel. dc_to_rms_db: the same against that channel's own RMS; no gain
        changes it, so it tells a faulty converter in a turned-down file too, and is the one to judge by.
    clipped_samples, clipped_tops: see `FaultMeter.clipping`.
    dropouts: gaps of 0.5 to 200 ms of equal samples with abrupt ends. dropout_times_s: where the first 1000 begin.
    side_db: energy of the side (L − R) against that of side and middle together: −inf for mono and equal channels,
        −3 for independent channels or a dead one, 0 for anti-phase.
    quiet_channel_db: energy of the quieter channel against the louder one; 0 for mono, −inf where one is dead.
    levels: in 50 ms steps, see `level_db`. loud_db, noise_floor_db, active_s: by `audio.activity`.
    bandwidth_hz: how far up there is anything. third_octaves_db: mean power in bands (`spectrum.THIRD_OCTAVES_HZ`).
    audio_hash: SHA-256 over rate, channels and decoded samples, the same for a WAV and its FLAC. file_hash: SHA-256 of
        the bytes.
    """

    duration_s: float
    sample_rate: int
    channels: int
    loudness_lufs: float
    true_peak_db: float
    sample_peak_db: float
    dc_db: float
    dc_to_rms_db: float
    clipped_samples: int
    clipped_tops: int
    dropouts: int
    dropout_times_s: tuple[float, ...]
    side_db: float
    quiet_channel_db: float
    levels: str
    loud_db: float
    noise_floor_db: float
    active_s: float
    bandwidth_hz: float
    third_octaves_db: tuple[float, ...]
    audio_hash: str
    file_hash: str

    @property
    def level_db(self) -> np.ndarray:
        """Level [steps of 50 ms] in dBFS, see `audio.activity.decode_levels`."""
        return decode_levels(self.levels)

    def to_record(self) -> dict[str, Any]:
        """As values that JSON has; −inf, which it has not, is None."""

        def plain(value: Any) -> Any:
            if isinstance(value, tuple):
                return [plain(item) for item in value]
            return None if value == -math.inf else value

        return {field.name: plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Inspection:
        """The inverse of `to_record`. Raises TypeError where a figure is missing or unknown."""

        def full(value: Any) -> Any:
            if isinstance(value, list):
                return tuple(full(item) for item in value)
            return -math.inf if value is None else value

        return cls(**{name: full(value) for name, value in record.items()})


def inspect(path: str | Path, proxy: Path | None) -> Inspection:
    """Measures a recording, and writes its proxy where one is asked for.

    proxy: a file to be written: the mean of the channels at 16 kHz, ⌈duration · 16 000⌉ samples of raw float32 that
    `audio.proxy.Proxy` reads. Where anything fails it is gone again.

    Raises InputError where `audio.io.read` does, and UnwritableProxyError where the proxy can't be written.
    """
    if proxy is None:
        return _inspected(path, blocks(path))
    with _removed_on_failure(proxy):
        return _inspected(path, _with_proxy(blocks(path), proxy))


def _inspected(path: str | Path, source: Iterator[Waveform]) -> Inspection:
    first = next(source)  # there is one: files without samples are refused
    meters = _Meters(first.sample_rate, first.channels)
    meters.feed(first.samples.numpy())
    for block in source:
        meters.feed(block.samples.numpy())
    return meters.inspection(_file_hash(path))


def _file_hash(path: str | Path) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


@contextmanager
def _removed_on_failure(file: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def _with_proxy(source: Iterator[Waveform], proxy: Path) -> Iterator[Waveform]:
    """Passes blocks on, and writes their mean over the channels at 16 kHz."""
    resampler: StreamResampler | None = None
    try:
        with proxy.open("wb") as sink:
            for block in source:
                if resampler is None:
                    resampler = StreamResampler(block.sample_rate, PROXY_RATE_HZ)
                sink.write(resampler.feed(block.samples.numpy().mean(axis=0, keepdims=True)).tobytes())
                yield block
            if resampler is not None:
                sink.write(resampler.finish().tobytes())
    except OSError as error:
        raise UnwritableProxyError(f"{proxy}: cannot be written: {error.strerror}") from error


class _Meters:
    """Everything that is summed up while the blocks of one recording come by."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        self.sample_rate, self.channels = sample_rate, channels
        self._samples = 0
        self._loudness = LoudnessMeter(sample_rate)
        self._true_peak = TruePeakMeter()
        self._faults = FaultMeter(sample_rate, channels)
        self._spectrum = SpectrumMeter(sample_rate, channels)
        self._power = StepSums(sample_rate, STEP_S)
        self._peak = 0.0
        self._sum, self._energy = np.zeros(channels), np.zeros(channels)
        self._side = 0.0
        self._middle = 0.0
        self._hashes = [hashlib.sha256() for _ in range(channels)]  # one a channel: the same however blocks are cut

    def feed(self, block: np.ndarray) -> None:
        """block: float32 [channels samples]."""
        for start in range(0, block.shape[1], PIECE_SAMPLES):
            self._feed(np.ascontiguousarray(block[:, start : start + PIECE_SAMPLES]))

    def _feed(self, samples: np.ndarray) -> None:
        self._samples += samples.shape[1]
        self._loudness.feed(samples)
        self._true_peak.feed(samples)
        self._faults.feed(samples)
        self._spectrum.feed(samples)
        power = samples.astype(np.float64) ** 2
        self._power.feed(power.mean(axis=0))
        self._peak = max(self._peak, float(np.abs(samples).max()))
        self._sum += samples.sum(axis=1, dtype=np.float64)
        self._energy += power.sum(axis=1)
        if self.channels == 2:
            side = samples[0] - samples[1]
            middle = samples[0] + samples[1]
            self._side += float(np.vdot(side, side))
            self._middle += float(np.vdot(middle, middle))
        for digest, channel in zip(self._hashes, samples, strict=True):
            digest.update(channel)

    def inspection(self, file_hash: str) -> Inspection:
        """The figures, once all blocks were fed."""
        self._faults.finish()
        clipped_samples, clipped_tops = self._faults.clipping()
        levels = encode_levels(self._power.sums() / self._power.lengths())
        level_db = decode_levels(levels)
        mean, rms = np.abs(self._sum / self._samples), np.sqrt(self._energy / self._samples)
        signal = rms > 0
        together = f"{self.sample_rate} {self.channels} {' '.join(digest.hexdigest() for digest in self._hashes)}"
        return Inspection(
            duration_s=self._samples / self.sample_rate,
            sample_rate=self.sample_rate,
            channels=self.channels,
            loudness_lufs=self._loudness.lufs(),
            true_peak_db=self._true_peak.db(),
            sample_peak_db=_db(self._peak),
            dc_db=_db(float(mean.max())),
            dc_to_rms_db=_db(float((mean[signal] / rms[signal]).max(initial=0.0))),
            clipped_samples=clipped_samples,
            clipped_tops=clipped_tops,
            dropouts=self._faults.dropouts,
            dropout_times_s=tuple(self._faults.dropout_times_s),
            side_db=_db(math.sqrt(self._side / (self._side + self._middle))) if self._side > 0 else -math.inf,
            quiet_channel_db=_db(float(rms.min() / rms.max())) if rms.max() > 0 else -math.inf,
            levels=levels,
            loud_db=loud_db(level_db),
            noise_floor_db=noise_floor_db(level_db),
            active_s=float(self._power.lengths()[active(level_db)].sum() / self.sample_rate),
            bandwidth_hz=self._spectrum.bandwidth_hz(),
            third_octaves_db=self._spectrum.third_octaves_db(),
            audio_hash=hashlib.sha256(together.encode()).hexdigest(),
            file_hash=file_hash,
        )


def _db(amplitude: float) -> float:
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf
