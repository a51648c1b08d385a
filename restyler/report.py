"""The page that a producer sees first: raw take and mixes side by side, one self-contained file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import numpy as np
import soundfile

from audio.loudness import integrated_loudness_lufs, true_peak_db
from audio.waveform import Waveform
from restyler.pictures import DYNAMIC_RANGE_DB, HIGHEST_HZ, LOWEST_HZ, envelope_path, spectrogram_db, spectrogram_png

TEMPLATE = Path(__file__).with_name("report.html")
MARK = '<meta name="generator" content="vocal-restyler">'
RULER_HZ = (10_000, 1_000, 100)
HIGHEST_KEY = 9  # versions are switched by one digit


@dataclass(frozen=True)
class Version:
    """One thing to hear: the raw take or a mix.

    waveform: stereo; every version of a report has the same length and sample rate.
    facts: shown beside the measured loudness, true peak and width, in this order.
    """

    name: str
    waveform: Waveform
    facts: Mapping[str, str] = field(default_factory=dict)


def report_html(title: str, lead: str, versions: Sequence[Version]) -> str:
    """The page as text. Nothing in it asks the network for anything, and every given text is escaped.

    The first version is selected at the start. Switching is level-matched: each version is turned down to the
    integrated loudness of the quietest one. Raises ValueError where the versions differ in length or sample rate
    or are not stereo.
    """
    shapes = {(*version.waveform.samples.shape, version.waveform.sample_rate) for version in versions}
    if len(shapes) != 1 or next(iter(shapes))[0] != 2:
        raise ValueError("a report compares stereo versions of one length and sample rate")
    rate = versions[0].waveform.sample_rate
    loudness = [integrated_loudness_lufs(version.waveform) for version in versions]
    gains_db = [min(loudness) - level for level in loudness]
    samples = [version.waveform.samples.numpy() for version in versions]
    densities = [spectrogram_db(one, rate) + gain for one, gain in zip(samples, gains_db, strict=True)]
    peak = max(float(np.abs(one).max()) for one in samples)
    top_db = max(float(density.max()) for density in densities)
    blocks = [
        _version_html(
            index,
            version,
            loudness[index],
            gains_db[index],
            envelope_path(samples[index], peak),
            spectrogram_png(densities[index], top_db),
        )
        for index, version in enumerate(versions)
    ]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        mark=MARK,
        title=escape(title),
        lead=escape(lead),
        versions="\n".join(blocks),
        duration_s=f"{versions[0].waveform.duration_s:.6f}",
        sample_rate=rate,
        last=min(len(versions) - 1, HIGHEST_KEY),
        lowest_hz=f"{LOWEST_HZ:.0f}",
        highest_hz=f"{HIGHEST_HZ:,.0f}",
        range_db=f"{DYNAMIC_RANGE_DB:.0f}",
    )


def is_report(path: Path) -> bool:
    """Whether a file is a page of `report_html`; no file that can't be read is."""
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(1024)
    except OSError:
        return False


def _version_html(index: int, version: Version, loudness_lufs: float, gain_db: float, path: str, png: bytes) -> str:
    facts = {
        **version.facts,
        "loudness": f"{loudness_lufs:.1f} LUFS",
        "true peak": f"{true_peak_db(version.waveform):.1f} dBTP",
        "width": _width(version.waveform.samples.numpy()),
    }
    shown = "".join(f"<span>{escape(key)} <b>{escape(value)}</b></span>" for key, value in facts.items())
    checked = " checked" if index == 0 else ""
    return f"""<div class="version" data-gain-db="{gain_db:.3f}">
<label class="head"><input type="radio" name="version" value="{index}"{checked}>
<span class="name">{escape(version.name)}</span><span class="facts">{shown}</span></label>
<div class="plots"><svg viewBox="0 0 600 100" preserveAspectRatio="none" aria-hidden="true"><path d="{path}"/></svg>
<div class="spectrogram">{_ruler()}
<img src="{_data_uri("image/png", png)}" alt="Spectrogram of {escape(version.name)}"></div>
<div class="head-line"></div></div>
<audio controls src="{_data_uri("audio/flac", _flac(version.waveform))}"></audio>
</div>"""


def _ruler() -> str:
    octaves = np.log(HIGHEST_HZ / LOWEST_HZ)
    heights = {f"{hz:d}": 100 * np.log(HIGHEST_HZ / hz) / octaves for hz in RULER_HZ}
    return "".join(f'<span style="top:{height:.1f}%">{hz} Hz</span>' for hz, height in heights.items())


def _width(samples: np.ndarray) -> str:
    """Energy of the side over that of the mid, in dB."""
    mid, side = (
        float(np.sum(np.square(x, dtype=np.float64))) for x in (samples[0] + samples[1], samples[0] - samples[1])
    )
    if side == 0:
        return "mono"
    return "side only" if mid == 0 else f"side {round(10 * np.log10(side / mid))} dB"


def _flac(waveform: Waveform) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform.samples.numpy().T, waveform.sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def escape(text: str) -> str:
    """Harmless in element text and in quoted attributes; bytes of a file name that are no UTF-8 are shown as \\xNN."""
    return html.escape(text.encode("utf-8", "backslashreplace").decode("utf-8"))
