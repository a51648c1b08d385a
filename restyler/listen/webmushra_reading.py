"""A configuration of webMUSHRA as a plan, to be served here with the same sounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audio.errors import InputError
from audio.io import read, require_signal
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from restyler.command import shown
from restyler.listen.anchors import ANCHORS
from restyler.listen.design import token_hash
from restyler.listen.excerpts import Sound
from restyler.listen.plan import ListeningTest, Stimulus, Trial
from restyler.listen.spec import LONGEST_S, MOST_SOUNDS
from restyler.listen.stimuli import OPEN, SAMPLE_RATE_HZ, refuse_unequal, write_sound
from restyler.listen.texts import CONSENT, FINISH, INSTRUCTIONS
from restyler.listen.webmushra_pages import Draft, as_text, checked_pages, drafts, is_training, left_out
from restyler.progress import Progress, Work


@dataclass
class _Sounds:
    """The files that pages name, each read and written once for each part it plays."""

    roots: Sequence[Path]
    folder: Path
    seed: int
    read: dict[str, tuple[Path, Waveform, int]] = field(default_factory=dict)

    def load(self, name: str, where: str) -> tuple[Path, Waveform, int]:
        """Path, stereo sound at the test's rate, and the rate it had."""
        if name not in self.read:
            found = [root / name for root in self.roots if (root / name).is_file()]
            if not found:
                tried = " or ".join(sorted({shown(root) for root in self.roots}))
                raise InputError(f"{where}: no file {shown(name)} below {tried}")
            waveform = read(found[0]).stereo()
            require_signal(waveform, found[0])
            self.read[name] = found[0], waveform.resampled(SAMPLE_RATE_HZ), waveform.sample_rate
        return self.read[name]


def read_webmushra(
    tree: Mapping[str, Any],
    source: Path,
    folder: Path,
    *,
    owner: str,
    tokens: Sequence[str],
    seed: int,
    progress: Progress,
) -> tuple[ListeningTest, list[str]]:
    """Writes folder/stimuli and returns the plan, and what of the configuration it doesn't keep, a line each.

    tree: the configuration, read from `source`. Its paths are relative to webMUSHRA's own folder, which is the nearest
    folder above the configuration, or its own, from where they lead to files. Sounds stay as they are, but for their
    rate. The order of pages is drawn anew for every listener, also where the configuration has a fixed one.

    Raises InputError for a page or a key that is unknown, naming it, a missing file, and unequal lengths on a page.
    """
    pages = checked_pages(tree, shown(source))
    found = drafts(pages)
    sounds = _Sounds(source.absolute().parents, folder, seed)
    for draft in found:
        for name in draft.sounds.values():
            sounds.load(name, draft.where)
    # One gain for all, so that nothing is heard against anything at another level than its author meant.
    peak = max(float(waveform.samples.abs().max()) for _, waveform, _ in sounds.read.values())
    gain = min(1.0, 1 / peak)
    work = Work(len(found), progress)
    trials = []
    for draft in found:
        trials.append(_trial(draft, sounds, gain, {other.id for other in found}))
        work.add(1)
    texts: dict[str, list[str]] = {}
    for _, page in pages:
        if said := as_text(str(page.get("content") or "")):
            texts.setdefault(page["type"], []).append(said)
    plan = ListeningTest(
        format=1,
        name=str(tree.get("testId") or tree.get("testname") or source.stem),
        seed=seed,
        consent="\n\n".join(texts.get("consent", [CONSENT])),
        instructions="\n\n".join(texts.get("generic", [INSTRUCTIONS])),
        finish="\n\n".join(texts.get("finish", [FINISH])),
        headphone_check=any(page["type"] == "volume" for _, page in pages),
        sample_rate_hz=SAMPLE_RATE_HZ,
        duration_s=max(waveform.duration_s for _, waveform, _ in sounds.read.values()),
        listeners=len(tokens),
        owner_token_sha256=token_hash(owner),
        listener_tokens_sha256=tuple(token_hash(token) for token in tokens),
        power=(),
        trials=tuple(trials),
    )
    return plan, list(left_out(pages))


def _trial(draft: Draft, sounds: _Sounds, gain: float, ids: set[str]) -> Trial:
    loaded = {condition: sounds.load(name, draft.where) for condition, name in draft.sounds.items()}
    count = len(loaded) + len(draft.anchors) - (OPEN in loaded)
    if count > MOST_SOUNDS:
        raise InputError(f"{draft.where}: {count} sounds; at most {MOST_SOUNDS} on one page")
    files = {condition: path for condition, (path, _, _) in loaded.items()}
    lengths = {condition: waveform.samples.shape[1] for condition, (_, waveform, _) in loaded.items()}
    refuse_unequal(lengths, {condition: rate for condition, (_, _, rate) in loaded.items()}, files)
    shortest = min(lengths.values())
    if draft.kind == "mushra" and draft.strict and shortest > LONGEST_S * SAMPLE_RATE_HZ:
        raise InputError(
            f"{draft.where}: {shortest / SAMPLE_RATE_HZ:.2f} s long; at most {LONGEST_S:g} s, or «strict: false»"
        )
    heard = {condition: waveform.samples[:, :shortest] * gain for condition, (_, waveform, _) in loaded.items()}
    waveforms = {condition: Waveform(samples, SAMPLE_RATE_HZ) for condition, samples in heard.items()}
    waveforms |= {anchor: ANCHORS[anchor].of(waveforms["reference"]) for anchor in draft.anchors}
    stimuli = {
        condition: _written(sounds, draft, waveform, condition, files, gain)
        for condition, waveform in waveforms.items()
    }
    original = draft.id.removesuffix("-again")
    return Trial(
        id=draft.id,
        kind=draft.kind,
        item=draft.item,
        repeat_of=original if original != draft.id and original in ids else None,
        training=is_training(draft.id),
        question=draft.question,
        reference=stimuli.pop(OPEN, None),
        stimuli=tuple(stimuli.values()),
        start_s=0.0,
    )


def _written(
    sounds: _Sounds, draft: Draft, waveform: Waveform, condition: str, files: Mapping[str, Path], gain: float
) -> Stimulus:
    loudness_lufs = integrated_loudness_lufs(waveform)
    if loudness_lufs == -math.inf:
        raise InputError(f"{draft.where}: «{shown(condition)}» is silent: all of it lies below -70 LUFS")
    sound = Sound(waveform, 20 * math.log10(gain), loudness_lufs)
    return write_sound(sounds.folder, sound, condition, files, draft.id, sounds.seed)
