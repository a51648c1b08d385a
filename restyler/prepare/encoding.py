"""From a planned segment to its latents: the codec hears it aligned, at its level, with the sound around it."""

from __future__ import annotations

import math
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

MARGIN_S = 1  # of sound on either side of a segment: more than any codec here hears past a frame


class Encoder:
    """Encodes segments with one codec. Files are read forwards, so segments of a take come in the order of time."""

    def __init__(self, codec: LatentCodec, device: torch.device) -> None:
        if codec.frame_rate_hz != round(codec.frame_rate_hz):
            raise ValueError(f"a second holds whole frames, not {codec.frame_rate_hz}")
        self.codec, self.device = codec.to(device), device
        self._readers: dict[Path, StretchReader] = {}
        self._take: Path | None = None

    def segment(self, planned: PlannedSegment) -> Segment:
        """Reads and encodes one segment. Raises InputError for a file that is damaged, gone or of another content."""
        take = planned.take
        if self._take != take.path:
            self._take, self._readers = take.path, {}
        rate = round(self.codec.frame_rate_hz)
        first_s = math.floor(planned.start_frame / rate) - MARGIN_S
        last_s = math.ceil(planned.stop_frame / rate) + MARGIN_S
        skip = planned.start_frame - first_s * rate
        sides = [
            self._raw(planned, first_s, last_s),
            *(self._mix(*two, first_s, last_s) for two in zip(planned.mixes, planned.regions, strict=True)),
        ]
        latents, measured = [], []
        for path, samples in zip((take.path, *(mix.path for mix in planned.mixes)), sides, strict=True):
            latents.append(self._encoded(samples, skip, planned.frames, path))
            hop = self.codec.hop_samples
            inside = samples[:, skip * hop : (skip + planned.frames) * hop]
            measured.append(_features(Waveform(inside, self.codec.sample_rate)))
        if any(stamps_of([path]) != {path: stamp} for path, stamp in take.stamps.items()):
            raise InputError(f"{take.path} or one of its mixes: changed since it was heard")
        return Segment(planned.name, latents[0], tuple(latents[1:]), self._facts(planned, measured))

    def _raw(self, planned: PlannedSegment, first_s: int, last_s: int) -> torch.Tensor:
        reader = self._reader(planned.take.path)
        return self._levelled(reader.stretch(first_s, last_s), reader.sample_rate, planned.take.gain_db)

    def _mix(self, mix: PlannedMix, region: Region, first_s: int, last_s: int) -> torch.Tensor:
        reader = self._reader(mix.path)
        around = replace(region, start_s=float(first_s), stop_s=float(last_s))  # the margins may lie outside it
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
    def _encoded(self, samples: torch.Tensor, skip: int, frames: int, path: Path) -> np.ndarray:
        latents = self.codec.encode_raw(samples[None].to(self.device))[0, :, skip : skip + frames]
        found: np.ndarray = latents.T.to("cpu", torch.float16).contiguous().numpy()
        if not np.isfinite(found).all():
            raise InputError(f"{path}: its latents are not finite in half precision; is the codec trained?")
        return found

    def _facts(self, planned: PlannedSegment, measured: list[dict[str, float | None]]) -> dict[str, Any]:
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


def _features(waveform: Waveform) -> dict[str, float | None]:
    """Tone, width, dynamics and space; None for each where the segment is silent: then they are not defined."""
    if not waveform.samples.any():
        return dict.fromkeys(features.FEATURES)
    return dict(features.measure(waveform))
