"""The report of one take: its mixes as they come, then one page beside them."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from audio.errors import InputError
from audio.io import write, write_text_atomic
from audio.waveform import Waveform
from restyler.command import shown
from restyler.encoded import levelled
from restyler.guards import Verdict
from restyler.rendering import Mix
from restyler.report import is_report, page_html
from restyler.report_versions import Shown, Version

PAGE = "report.html"
TAKE = "report_take.flac"  # the raw take as the page plays it, where its sounds lie beside it
EMBEDDED_S = 150.0  # of sound, over all versions, that a page holds itself: some 15 MB


class TakeReport:
    """Collects what a page shows of a take and its mixes; of each mix only what is drawn and, in short reports, played.

    take: at the mixes' rate; under mixes that ring on after its end it is drawn and played as long as they. count: of
    mixes. The page, and its take where sounds lie beside it, are written by `write`.
    """

    def __init__(self, page: Path, title: str, take: Waveform, *, count: int, lead: str) -> None:
        self.page, self._title, self._lead = page, title, lead
        self._take = levelled(take, 1.0, 0)
        self._linked = take.duration_s * (count + 1) > EMBEDDED_S
        self._versions = list[Shown]()

    def add(self, mix: Mix) -> None:
        if not self._versions:
            ringing = mix.waveform.samples.shape[1] - self._take.samples.shape[1]
            self._take = levelled(self._take, 1.0, ringing)
            self._versions.append(Shown.of(Version("Raw take", self._take, link=TAKE if self._linked else None)))
        facts = {"seed": str(mix.seed), **mix.chosen}
        if "controls" in facts:
            values: dict[str, float] = ast.literal_eval(facts["controls"])
            facts["controls"] = ", ".join(
                f"{name.removesuffix('_db')} {value:+.1f} dB" for name, value in values.items()
            )
        details = {} if mix.verdict is None else {"Guards": verdict_text(mix.verdict)}
        to_read = mix.path.with_suffix(".txt")
        if mix.chosen.get("render") == "transfer":
            details["Chain"] = to_read.read_text(encoding="utf-8")
        link = quote(mix.path.name) if self._linked else None
        self._versions.append(Shown.of(Version(mix.path.stem, mix.waveform, facts, details, link)))

    def write(self) -> None:
        """Raises InputError where the files can't be written."""
        if self._linked:
            write(self.page.with_name(TAKE), self._take, tags={"what": "the raw take of a report"})
        write_text_atomic(self.page, page_html(self._title, self._lead, self._versions))


def require_no_report(folder: Path, *, overwrite: bool, kept: Mapping[Path, str]) -> None:
    """Raises InputError where a page, or a take of one, would replace a file that no report is, one of `kept` (files,
    and what they are) or, unless `overwrite`, any file."""
    originals = {os.path.realpath(path): what for path, what in kept.items()}
    for file in (folder / PAGE, folder / TAKE):
        if os.path.realpath(file) in originals:
            what = originals[os.path.realpath(file)]
            raise InputError(f"{shown(file)}: the report would replace {what}; use another --out")
        ours = is_report(file) if file.name == PAGE else is_report(folder / PAGE)
        if os.path.lexists(file) and not (overwrite and ours):
            raise InputError(f"{shown(file)}: already exists; use another --out" + (", or --overwrite" if ours else ""))


def verdict_text(verdict: Verdict) -> str:
    """Line by line, for people."""
    found = "nothing strays" if verdict.measures else "too little of the take sounds to judge it by"
    lines = [verdict.note() or f"As it came: {found}."]
    lines += [f"fault: {fault}" for fault in verdict.faults]
    lines += [f"seed {verdict.instead_of}, not let out: {fault}" for fault in verdict.refused]
    lines.append(f"loudness: at most {verdict.loudness_db:.1f} dB from the course that the take's asks for")
    lines += [f"{name}: {value:.2f} in the worst ten seconds" for name, value in verdict.measures.items()]
    return "\n".join(lines)
