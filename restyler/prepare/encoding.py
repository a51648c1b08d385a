"""From planned segments to their latents: the codec hears them aligned, at their level, with the sound around them.

Neighbouring segments of a take are encoded in one go: a codec has to hear some sound on either side of what it encodes,
and its time is what preparing costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audio import features
from audio.alignment import Region
from audio.alignment_reading import aligned
from audio.errors import InputError
from audio.waveform import Waveform
from codec.base import LatentCodec
from restyler.prepare.examining import stamps_of
from restyler.prepare.plan import PlannedMix, PlannedSegment
from restyler.prepare.reading import StretchReader
from restyler.shards import Segment

RESAMPLED_S = 0.05  # read on either side of what the codec hears: farther than resampling looks at any rate


class Encoder:
    """Encodes segments with one codec. Files are read forwards, so a take's stretches come in the order of time."""

    def __init__(self, codec: LatentCodec, device: torch.device) -> None:
        if codec.frame_rate_hz != round(codec.frame_rate_hz):
            raise ValueError(f"a second holds whole frames, not {codec.frame_rate_hz}")
        self.codec, self.device = codec.to(device), device
        self._readers: dict[Path, StretchReader] = {}
        self._take: Path | None = None

    def segments(self, planned: Sequence[PlannedSegment]) -> list[Segment]:
        """Reads and encodes some segments of one stretch (see PlannedSegment), or all of it: the latents are the same.

        Raises InputError for a file that is damaged, gone or of another content.
        """
        take = planned[0].take
        if self._take != take.path:
            self._take, self._readers = take.path, {}
        latents: list[list[np.ndarray]] = []  # of every file, for every segment
        measured: list[list[dict[str, float | None]]] = []
        first, stop = self.codec.heard_frames(*planned[0].stretch)
        for path, samples in self.sides(planned[0], first, stop):
            whole = self._encoded(samples)
            latents.append([_checked(whole[one.start_frame - first : one.stop_frame - first], path) for one in planned])
            measured.append([self._features(samples, one, first) for one in planned])
        if any(stamps_of([path]) != {path: stamp} for path, stamp in take.stamps.items()):
            raise InputError(f"{take.path} or one of its mixes: changed since it was heard")
        return [
            Segment(one.name, raw, tuple(mixes), self._facts(one, own))
            for one, (raw, *mixes), own in zip(
                planned, zip(*latents, strict=True), zip(*measured, strict=True), strict=True
            )
        ]

    def sides(self, planned: PlannedSegment, first: int, stop: int) -> Iterator[tuple[Path, torch.Tensor]]:
        """Raw take and mixes at their levels, from frame `first` of the take up to `stop`, one after the other."""
        # Files are read from one whole second to another: that is a whole sample at any rate.
        rate = round(self.codec.frame_rate_hz)
        first_s, last_s = math.floor(first / rate - RESAMPLED_S), math.ceil(stop / rate + RESAMPLED_S)
        hop = self.codec.hop_samples
        inside = slice((first - first_s * rate) * hop, (stop - first_s * rate) * hop)
        yield planned.take.path, self._raw(planned, first_s, last_s)[:, inside]
        for mix, region in zip(planned.mixes, planned.regions, strict=True):
            yield mix.path, self._mix(mix, region, first_s, last_s)[:, inside]

    def _raw(self, planned: PlannedSegment, first_s: int, last_s: int) -> torch.Tensor:
        reader = self._reader(planned.take.path)
        return self._levelled(reader.stretch(first_s, last_s), reader.sample_rate, planned.take.gain_db)

    def _mix(self, mix: PlannedMix, region: Region, first_s: int, last_s: int) -> torch.Tensor:
        reader = self._reader(mix.path)
        around = replace(region, start_s=float(first_s), stop_s=float(last_s))  # what is around may lie outside it
        samples = aligned(
            lambda *times_s: reader.stretch(*times_s).numpy(),
            mix.alignment,
            around,
            first_s,
            last_s,
            reader.sample_rate,
        )
        return self._levelled(torch.from_numpy(samples), reader.sample_rate, mix.gain_db)

    def _reader(self, path: Path) -> StretchReader:
        if path not in self._readers:
            self._readers[path] = StretchReader(path)
        return self._readers[path]

    def _levelled(self, samples: torch.Tensor, sample_rate: int, gain_db: float) -> torch.Tensor:
        waveform = Waveform(samples, sample_rate).stereo().resampled(self.codec.sample_rate)
        return waveform.samples * 10 ** (gain_db / 20)

    @torch.no_grad()
    def _encoded(self, samples: torch.Tensor) -> np.ndarray:
        """[2 samples] → float16 [frames latent]."""
        latents = self.codec.encode_raw(samples[None].to(self.device))[0]
        found: np.ndarray = latents.T.to("cpu", torch.float16).contiguous().numpy()
        return found

    def _features(self, samples: torch.Tensor, planned: PlannedSegment, first: int) -> dict[str, float | None]:
        """Tone, width, dynamics and space; None for each where the segment is silent: then they are not defined."""
        start, stop = ((at - first) * self.codec.hop_samples for at in (planned.start_frame, planned.stop_frame))
        waveform = Waveform(samples[:, start:stop], self.codec.sample_rate)
        if not waveform.samples.any():
            return dict.fromkeys(features.FEATURES)
        return dict(features.measure(waveform))

    def _facts(self, planned: PlannedSegment, measured: Sequence[dict[str, float | None]]) -> dict[str, Any]:
        take = planned.take
        return {
            "key": take.key,
            "song": take.song,
            "singer": take.singer,
            "audio_hash": take.content,
            "start_s": planned.start_frame / self.codec.frame_rate_hz,
            "frames": planned.frames,
            "raw_gain_db": take.gain_db,
            "digest": planned.digest(),
            "mixes": [
                {
                    "key": mix.key,
                    "style": mix.style,
                    "chain": mix.chain,
                    "mix_gain_db": mix.gain_db,
                    "controls": {"raw": measured[0], "mix": of_mix},
                }
                for mix, of_mix in zip(planned.mixes, measured[1:], strict=True)
            ],
        }


def _checked(latents: np.ndarray, path: Path) -> np.ndarray:
    if not np.isfinite(latents).all():
        raise InputError(f"{path}: its latents are not finite in half precision; is the codec trained?")
    return latents
