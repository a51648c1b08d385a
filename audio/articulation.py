"""From notes to movements: the targets of every segment of every syllable, and the bursts of noise between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from audio.glottis import harmonics_below_nyquist, source_spectrum
from audio.score import SYLLABLE, Note, Rest, Voice
from audio.vocal_tract import FORMANTS_HZ, MURMURS_HZ, PLOSIVES, formant_response, upper_response

# Durations and levels relative to the vowel, typical of clear sung diction.
FRICATIVE_S = {"s": 0.13, "sh": 0.13, "f": 0.11}
NOISE_DB = {"s": -10.0, "sh": -8.0, "f": -22.0, "t": -4.0, "k": -4.0, "p": -8.0}
CLOSURE_S, BURST_S, ASPIRATION_S = 0.055, 0.03, 0.035
BREATH_CONSONANT_S, BREATH_CONSONANT_DB = 0.08, -20.0
MURMUR_S, MURMUR_DB = 0.08, -8.0
INHALE_S, INHALE_DB = 0.5, -28.0
MOST_INHALE_SHARE, HELD_SHARE = 0.7, 0.1  # of a rest: the breath, and the stillness before it and after it
EDGE_S = 0.025  # stillness before an attack from silence and after a release, so that the glides of level end there
ATTACK_S, RELEASE_S, HALF_VOICE = 0.05, 0.09, 0.35  # where voice meets silence it passes through this share of itself
MOST_EDGE_SHARE = 0.1  # of a note
GLIDE_SHARE = 0.35  # of a two-vowel syllable, the part that belongs to the second vowel
MOST_CONSONANT_SHARE = 0.3  # of a note, for each of its two consonants: fast notes have short consonants
EFFORT_REFERENCE_DB, EFFORT_DB_PER_OCTAVE = -20.0, 10.0


@dataclass(frozen=True)
class Segment:
    """Targets that hold for a while; levels are linear amplitudes of the source."""

    duration_s: float
    midi: float
    formants_hz: tuple[float, ...]
    return_hz: float
    voicing: float = 0.0
    breath: float = 0.0
    vibrato_cents: float = 0.0


@dataclass(frozen=True)
class Burst:
    """Consonant noise of the given kind, added to what comes out of the tract."""

    kind: str
    start_s: float
    duration_s: float
    level: float


@dataclass(frozen=True)
class Gesture:
    """Segments in time order without gaps, and the bursts on top of them."""

    segments: tuple[Segment, ...]
    bursts: tuple[Burst, ...]


def articulate(notes: Sequence[Note | Rest], voice: Voice, *, sample_rate: int) -> Gesture:
    """Lay out every note's consonants and vowel, every rest's silence and breath, on one time line."""
    segments: list[Segment] = []
    bursts: list[Burst] = []
    for index, item in enumerate(notes):
        before = notes[index - 1] if index > 0 else Rest(1.0)
        after = notes[index + 1] if index + 1 < len(notes) else Rest(1.0)
        if isinstance(item, Rest):
            sung_before = next((note for note in reversed(notes[:index]) if isinstance(note, Note)), None)
            sung_after = next((note for note in notes[index:] if isinstance(note, Note)), None)
            segments += _rest(item, sung_before, sung_after, voice, sample_rate)
        else:
            start_s = sum(segment.duration_s for segment in segments)
            made, noises = _syllable(item, voice, isinstance(before, Rest), isinstance(after, Rest), sample_rate)
            segments += made
            bursts += [replace(noise, start_s=start_s + noise.start_s) for noise in noises]
    return Gesture(tuple(segments), tuple(bursts))


def vowel_formants_hz(vowel: str, pitch_hz: float, voice: Voice) -> tuple[float, ...]:
    """Five formants of a vowel; a first formant below the pitch is raised to it, as singers do by opening the jaw.

    Source of the rule: Sundberg, "Formant technique in a professional female singer", Acustica 32, 1975.
    """
    formants = voice.formant_scale * np.array(FORMANTS_HZ[voice.register][vowel])
    formants[0] = max(formants[0], 1.02 * pitch_hz)
    formants[1] = max(formants[1], 1.2 * formants[0])
    return tuple(formants.tolist())


def _syllable(
    note: Note, voice: Voice, after_silence: bool, before_silence: bool, sample_rate: int
) -> tuple[list[Segment], list[Burst]]:
    match = SYLLABLE.fullmatch(note.syllable)
    assert match is not None  # Note has checked it
    onset, vowels, coda = match.group(1) or "", match.group(2), match.group(3) or ""
    octaves = (note.level_db - EFFORT_REFERENCE_DB) / EFFORT_DB_PER_OCTAVE
    tract = _Tract(note.pitch_hz, voice.return_hz * 2.0**octaves, voice, sample_rate)
    first, last = (
        Segment(0.0, note.midi, vowel_formants_hz(vowel, note.pitch_hz, voice), tract.return_hz)
        for vowel in (vowels[0], vowels[-1])
    )
    head, head_bursts = _consonant(onset, first, note, tract) if onset else ([], [])
    tail, tail_bursts = _consonant(coda, last, note, tract) if coda else ([], [])
    edge_s = min(EDGE_S, MOST_EDGE_SHARE * note.duration_s)
    if after_silence:
        head.insert(0, replace(head[0] if head else first, duration_s=edge_s, voicing=0.0, breath=0.0))
        head_bursts = [replace(burst, start_s=burst.start_s + edge_s) for burst in head_bursts]
    if before_silence:
        tail.append(replace(tail[-1] if tail else last, duration_s=edge_s, voicing=0.0, breath=0.0))
    vowel_s = note.duration_s - _total_s(head) - _total_s(tail)
    attacked_s = min(ATTACK_S, vowel_s / 4) if after_silence and not onset else 0.0
    released_s = vowel_s - (min(RELEASE_S, vowel_s / 4) if before_silence and not coda else 0.0)
    glide_s = vowel_s * (1 - GLIDE_SHARE) if len(vowels) == 2 else vowel_s
    cuts = sorted({0.0, attacked_s, min(voice.vibrato_onset_s, vowel_s), glide_s, released_s, vowel_s})
    body = []
    for start, end in pairwise(cuts):
        base = first if start < glide_s else last
        share = 1.0 if attacked_s <= start < released_s else HALF_VOICE
        body.append(replace(
            base,
            duration_s=end - start,
            voicing=share * tract.voicing(note.level_db, base.formants_hz),
            breath=share * tract.breath(note.level_db + voice.breathiness_db, base.formants_hz),
            vibrato_cents=voice.vibrato_extent_cents if start >= voice.vibrato_onset_s else 0.0,
        ))  # fmt: skip
    tail_start_s = _total_s(head) + vowel_s
    bursts = head_bursts + [replace(burst, start_s=burst.start_s + tail_start_s) for burst in tail_bursts]
    return head + body + tail, bursts


def _consonant(kind: str, vowel: Segment, note: Note, tract: _Tract) -> tuple[list[Segment], list[Burst]]:
    """One consonant next to a vowel whose articulation it already (or still) has; times count from its own start."""
    longest_s = MOST_CONSONANT_SHARE * note.duration_s

    def shortened(*durations_s: float) -> list[float]:
        scale = min(1.0, longest_s / sum(durations_s))
        return [scale * duration for duration in durations_s]

    if kind in MURMURS_HZ:
        murmur = tuple(tract.voice.formant_scale * f for f in MURMURS_HZ[kind]) + vowel.formants_hz[3:]
        voicing = tract.voicing(note.level_db + MURMUR_DB, murmur)
        return [replace(vowel, duration_s=shortened(MURMUR_S)[0], formants_hz=murmur, voicing=voicing)], []
    if kind == "h":
        breath = tract.breath(note.level_db + BREATH_CONSONANT_DB, vowel.formants_hz)
        return [replace(vowel, duration_s=shortened(BREATH_CONSONANT_S)[0], breath=breath)], []
    level = 10 ** ((note.level_db + NOISE_DB[kind]) / 20)
    if kind in PLOSIVES:
        closure_s, burst_s, aspiration_s = shortened(CLOSURE_S, BURST_S, ASPIRATION_S)
        breath = tract.breath(note.level_db + BREATH_CONSONANT_DB, vowel.formants_hz)
        opening = replace(vowel, duration_s=burst_s + aspiration_s, breath=breath)
        return [replace(vowel, duration_s=closure_s), opening], [Burst(kind, closure_s, burst_s, level)]
    (duration_s,) = shortened(FRICATIVE_S[kind])
    return [replace(vowel, duration_s=duration_s)], [Burst(kind, 0.0, duration_s, level)]


def _rest(rest: Rest, before: Note | None, after: Note | None, voice: Voice, sample_rate: int) -> list[Segment]:
    """Silence in which pitch and vowel change from the note before to the note after, so that neither is bent."""
    before, after = before or after, after or before
    if before is None or after is None:
        before = after = Note(voice.lowest_midi, 1.0, "a")
    old, new = (
        Segment(0.0, note.midi, vowel_formants_hz(vowel, note.pitch_hz, voice), voice.return_hz)
        for note, vowel in ((before, _vowels(before)[-1]), (after, _vowels(after)[0]))
    )
    inhale_s = min(INHALE_S, MOST_INHALE_SHARE * rest.duration_s) if rest.inhale else 0.0
    held_s = HELD_SHARE * rest.duration_s
    tract = _Tract(after.pitch_hz, voice.return_hz, voice, sample_rate)
    breath = tract.breath(after.level_db + INHALE_DB, new.formants_hz)
    return [
        replace(old, duration_s=held_s),
        replace(new, duration_s=rest.duration_s - 2 * held_s - inhale_s),
        replace(new, duration_s=inhale_s, breath=breath),
        replace(new, duration_s=held_s),
    ]


def _vowels(note: Note) -> str:
    return "".join(letter for letter in note.syllable if letter in "aeiou")


@dataclass(frozen=True)
class _Tract:
    """Turns a level at the lips into a level at the glottis: divides by what source and tract would make of it."""

    pitch_hz: float
    return_hz: float
    voice: Voice
    sample_rate: int

    def voicing(self, level_db: float, formants_hz: tuple[float, ...]) -> float:
        harmonics = harmonics_below_nyquist(self.pitch_hz, self.sample_rate)
        source = source_spectrum(
            harmonics, np.array(self.pitch_hz), np.array(self.voice.open_quotient), np.array(self.return_hz),
            self.sample_rate,
        )  # fmt: skip
        amplitudes = np.abs(source * self._response(harmonics * self.pitch_hz, formants_hz))
        return float(10 ** (level_db / 20) / np.sqrt(np.sum(amplitudes**2) / 2))

    def breath(self, level_db: float, formants_hz: tuple[float, ...]) -> float:
        frequency_hz: np.ndarray = np.linspace(0.0, self.sample_rate / 2, 1025)
        response = np.abs(self._response(frequency_hz, formants_hz))
        return float(10 ** (level_db / 20) / np.sqrt(np.mean(response**2)))

    def _response(self, frequency_hz: np.ndarray, formants_hz: tuple[float, ...]) -> np.ndarray:
        upper = upper_response(frequency_hz, self.voice.register, self.voice.formant_scale)
        return upper * formant_response(frequency_hz, np.array(formants_hz))


def _total_s(segments: Sequence[Segment]) -> float:
    return sum(segment.duration_s for segment in segments)
