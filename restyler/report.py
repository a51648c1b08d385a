"""The page that a producer sees first: raw take and mixes side by side, self-contained or beside its sounds."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from string import Template

import numpy as np

from audio.spectrum import THIRD_OCTAVES_HZ
from restyler.guards_loudness import short_term_lufs, trajectories
from restyler.pictures import (
    DYNAMIC_RANGE_DB,
    HIGHEST_HZ,
    LOWEST_HZ,
    curve_path,
    envelope_path,
    spectrogram_png,
)
from restyler.report_versions import Shown, Version, data_uri

__all__ = ["MARK", "Version", "escape", "is_report", "page_html", "report_html"]

TEMPLATE = Path(__file__).with_name("report.html")
MARK = '<meta name="generator" content="vocal-restyler">'
RULER_HZ = (10_000, 1_000, 100)
HIGHEST_KEY = 9  # versions are switched by one digit
SPECTRUM_RANGE_DB = 60.0
LOUDNESS_RANGE_DB = 30.0
EMBEDDED, LINKED = "data:", "'self' file:"  # what a page may play


def report_html(title: str, lead: str, versions: Sequence[Version]) -> str:
    """As `page_html`, of versions whose waveforms are at hand."""
    return page_html(title, lead, [Shown.of(version) for version in versions])


def page_html(title: str, lead: str, versions: Sequence[Shown]) -> str:
    """The page as text. Nothing in it asks the network for anything, and every given text is escaped.

    The first version is selected at the start, and the spectrum and the loudness of the others are drawn over its own.
    Switching is level-matched: each version is turned down to the integrated loudness of the quietest one. Raises
    ValueError where the versions differ in length or sample rate or are not stereo.
    """
    if len({version.form for version in versions}) != 1:
        raise ValueError("a report compares stereo versions of one length and sample rate")
    _, samples, rate = versions[0].form
    gains_db = [min(version.loudness_lufs for version in versions) - version.loudness_lufs for version in versions]
    peak = max(float(version.heights.max()) for version in versions)
    matched = list(zip(versions, gains_db, strict=True))
    top_db = max(float(version.density_db.max()) + gain_db for version, gain_db in matched)
    spectra = [version.thirds_db + gain_db for version, gain_db in matched]
    courses = [short_term_lufs(version.powers) + gain_db for version, gain_db in matched]
    blocks = []
    for index, (version, gain_db) in enumerate(matched):
        pictures = (
            f'<svg viewBox="0 0 600 100" preserveAspectRatio="none" aria-hidden="true">'
            f'<path d="{envelope_path(version.heights, peak)}"/></svg>\n<div class="spectrogram">{_ruler()}\n'
            f'<img src="{data_uri("image/png", spectrogram_png(version.density_db + gain_db, top_db))}" '
            f'alt="Spectrogram of {escape(version.name)}"></div>'
        )
        blocks.append(_version_html(index, version, gain_db, pictures, _curves(index, versions, spectra, courses)))
    linked = any(not version.source.startswith("data:") for version in versions)
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        mark=MARK,
        title=escape(title),
        lead=escape(lead),
        versions="\n".join(blocks),
        duration_s=f"{samples / rate:.6f}",
        sample_rate=rate,
        last=min(len(versions) - 1, HIGHEST_KEY),
        lowest_hz=f"{LOWEST_HZ:.0f}",
        highest_hz=f"{HIGHEST_HZ:,.0f}",
        range_db=f"{DYNAMIC_RANGE_DB:.0f}",
        media=f"{EMBEDDED} {LINKED}" if linked else EMBEDDED,
        sound="the files beside this page, and FLAC, 16 bit" if linked else "FLAC, 16 bit",
    )


def is_report(path: Path) -> bool:
    """Whether a file is a page of `report_html`; no file that can't be read is."""
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(1024)
    except OSError:
        return False


def _version_html(index: int, version: Shown, gain_db: float, pictures: str, curves: str) -> str:
    shown = "".join(f"<span>{escape(key)} <b>{escape(value)}</b></span>" for key, value in version.facts.items())
    folded = "".join(
        f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
        for title, text in version.details.items()
    )
    checked = " checked" if index == 0 else ""
    return f"""<div class="version" data-gain-db="{gain_db:.3f}">
<label class="head"><input type="radio" name="version" value="{index}"{checked}>
<span class="name">{escape(version.name)}</span><span class="facts">{shown}</span></label>
<div class="plots">{pictures}
<div class="head-line"></div></div>
<div class="curves">{curves}</div>{folded}
<audio controls preload="metadata" src="{escape(version.source)}"></audio>
</div>"""


def _curves(index: int, versions: Sequence[Shown], spectra: Sequence[np.ndarray], courses: Sequence[np.ndarray]) -> str:
    """Spectrum and loudness of a version over those of the first, level-matched."""
    top_db, loudest = (max(float(one.max()) for one in curves) for curves in (spectra, courses))
    spectrum = f"Third octaves, {THIRD_OCTAVES_HZ[0]:.0f} Hz to {THIRD_OCTAVES_HZ[-1] / 1000:.0f} kHz"
    loudness = "Short-term loudness"
    if index:
        apart = spectra[index] - spectra[0]
        heard = np.isfinite(apart) & (spectra[0] > top_db - SPECTRUM_RANGE_DB)
        if heard.any():
            spectrum += f": {apart[heard].min():+.1f} to {apart[heard].max():+.1f} dB against the first"
        found = trajectories(versions[0].powers, versions[index].powers)
        if found.counted.any():
            loudness += (
                f": {-100 * found.slope:.0f} % narrower than the first, and within {found.furthest_db:.1f} dB of that"
            )
    pairs = [
        (spectrum, spectra, top_db, SPECTRUM_RANGE_DB),
        (loudness, courses, loudest, LOUDNESS_RANGE_DB),
    ]
    drawn = []
    for caption, curves, top, span_db in pairs:
        paths = [f'<path class="first" d="{curve_path(curves[0], top_db=top, range_db=span_db)}"/>']
        if index:
            paths.append(f'<path d="{curve_path(curves[index], top_db=top, range_db=span_db)}"/>')
        drawn.append(
            f'<figure><svg viewBox="0 0 600 100" preserveAspectRatio="none" aria-hidden="true">{"".join(paths)}</svg>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    return "".join(drawn)


def _ruler() -> str:
    octaves = np.log(HIGHEST_HZ / LOWEST_HZ)
    heights = {f"{hz:d}": 100 * np.log(HIGHEST_HZ / hz) / octaves for hz in RULER_HZ}
    return "".join(f'<span style="top:{height:.1f}%">{hz} Hz</span>' for hz, height in heights.items())


def escape(text: str) -> str:
    """Harmless in element text and in quoted attributes; bytes of a file name that are no UTF-8 are shown as \\xNN."""
    return html.escape(text.encode("utf-8", "backslashreplace").decode("utf-8"))
