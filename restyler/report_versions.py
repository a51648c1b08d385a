"""What a report shows of one recording: measured once, so that the recording itself need not be kept."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import soundfile

from audio import on_disk
from audio.loudness import integrated_loudness_lufs, true_peak_db
from audio.spectrum import SpectrumMeter
from audio.waveform import Waveform
from restyler.guards_loudness import step_powers
from restyler.pictures import envelope_heights, spectrogram_db


@dataclass(frozen=True)
class Version:
    """One thing to hear: the raw take or a mix.

    waveform: stereo; every version of a report has the same length and sample rate.
    facts: shown beside the measured loudness, true peak and width, in this order. details: longer texts by their title,
    folded up. link: where its sound lies, from the page; None: in the page.
    """

    name: str
    waveform: Waveform
    facts: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    link: str | None = None


@dataclass(frozen=True)
class Shown:
    """A version without its waveform.

    form: (channels, samples, sample rate). heights [2 columns], density_db [rows columns]: pictures not yet scaled.
    thirds_db: levels of third octaves in dBFS. powers: `guards_loudness.step_powers`. source: of the sound, a data URI
    or a link.
    """

    name: str
    facts: Mapping[str, str]
    details: Mapping[str, str]
    form: tuple[int, int, int]
    loudness_lufs: float
    heights: np.ndarray
    density_db: np.ndarray
    thirds_db: np.ndarray
    powers: np.ndarray
    source: str

    @classmethod
    def of(cls, version: Version) -> Shown:
        """Raises ValueError for what is not stereo."""
        waveform = version.waveform
        if waveform.channels != 2:
            raise ValueError("a report compares stereo versions of one length and sample rate")
        samples, loudness_lufs = waveform.samples.numpy(), integrated_loudness_lufs(waveform)
        facts = {
            **version.facts,
            "loudness": f"{loudness_lufs:.1f} LUFS",
            "true peak": f"{true_peak_db(waveform):.1f} dBTP",
            "width": _width(samples),
        }
        return cls(
            name=version.name,
            facts=facts,
            details=version.details,
            form=(*samples.shape, waveform.sample_rate),
            loudness_lufs=loudness_lufs,
            heights=envelope_heights(samples),
            density_db=spectrogram_db(samples, waveform.sample_rate),
            thirds_db=_thirds_db(waveform),
            powers=step_powers(waveform),
            source=version.link or data_uri("audio/flac", _flac(waveform)),
        )


def _thirds_db(waveform: Waveform) -> np.ndarray:
    meter = SpectrumMeter(waveform.sample_rate, waveform.channels)
    for part in on_disk.parts(waveform.samples):
        meter.feed(waveform.samples[:, part].numpy())
    return np.array(meter.third_octaves_db())


def _width(samples: np.ndarray) -> str:
    """Energy of the side over that of the mid, in dB."""
    mid, side = 0.0, 0.0
    for part in on_disk.parts(samples):
        left, right = samples[:, part]
        mid += float(np.sum(np.square(left + right, dtype=np.float64)))
        side += float(np.sum(np.square(left - right, dtype=np.float64)))
    if side == 0:
        return "mono"
    return "side only" if mid == 0 else f"side {round(10 * np.log10(side / mid))} dB"


def _flac(waveform: Waveform) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform.samples.numpy().T, waveform.sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
