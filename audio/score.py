"""What is sung and who sings it: notes, rests and voices, given or drawn at random."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from audio.errors import InputError
from audio.vocal_tract import FORMANTS_HZ, Register

ONSETS = ("sh", "s", "f", "h", "t", "k", "p", "m", "n", "l")
CODAS = ("sh", "s", "f", "t", "k", "p", "m", "n", "l")
SYLLABLE = re.compile(f"({'|'.join(ONSETS)})?([aeiou]{{1,2}})({'|'.join(CODAS)})?")

LEVEL_RANGE_DB = (-80.0, -16.0)
MIDI_RANGE = (30.0, 90.0)
VOICE_RANGES = {
    "formant_scale": (0.7, 1.4),
    "vibrato_rate_hz": (1.0, 12.0),
    "vibrato_extent_cents": (0.0, 300.0),
    "vibrato_onset_s": (0.0, 10.0),
    "portamento_s": (0.01, 1.0),
    "breathiness_db": (-np.inf, 0.0),
    "open_quotient": (0.2, 1.0),
    "return_hz": (200.0, 100_000.0),
    "jitter": (0.0, 0.1),
    "shimmer": (0.0, 0.3),
    "drift_cents": (0.0, 100.0),
}


def _check_range(what: str, value: float, allowed: tuple[float, float]) -> None:
    if not allowed[0] <= value <= allowed[1]:
        raise InputError(f"{what} is {value}; allowed is {allowed[0]} to {allowed[1]}")


@dataclass(frozen=True)
class Note:
    """One sung syllable.

    midi: pitch, 69 is 440 Hz, fractions allowed, 30 to 90.
    duration_s: from the start of its first consonant to the end of its last, at least 0.1 s.
    syllable: an optional consonant (sh s f h t k p m n l), one vowel (a e i o u) or a glide between two ("ai"), and an
        optional last consonant (all but h).
    level_db: RMS of the vowel in dBFS, −80 to −16; louder is also brighter. Random voices peak up to 15 dB above it;
        a far more pressed voice (small open quotient, high return_hz) may pass full scale at the top of the range.
    """

    midi: float
    duration_s: float
    syllable: str
    level_db: float = -20.0

    def __post_init__(self) -> None:
        if not SYLLABLE.fullmatch(self.syllable):
            raise InputError(
                f"can't sing the syllable {self.syllable!r}: allowed are an optional consonant ({' '.join(ONSETS)}), "
                f"one or two vowels (a e i o u) and an optional consonant ({' '.join(CODAS)})"
            )
        _check_range("a note's pitch (MIDI)", self.midi, MIDI_RANGE)
        _check_range("a note's level (dBFS)", self.level_db, LEVEL_RANGE_DB)
        _check_range("a note's duration (s)", self.duration_s, (0.1, 60.0))

    @property
    def pitch_hz(self) -> float:
        return float(440.0 * 2.0 ** ((self.midi - 69.0) / 12.0))


@dataclass(frozen=True)
class Rest:
    """Silence between phrases; with `inhale` the singer audibly takes breath in it, for half a second at most."""

    duration_s: float
    inhale: bool = False

    def __post_init__(self) -> None:
        _check_range("a rest's duration (s)", self.duration_s, (0.02, 60.0))


@dataclass(frozen=True)
class Voice:
    """A singer; VOICE_RANGES holds what is allowed.

    register: whose vowels; formant_scale: all formants times this (a longer throat is below 1).
    lowest_midi, highest_midi: the compass that random phrases keep to.
    vibrato_rate_hz, vibrato_extent_cents (from the middle to the peak), vibrato_onset_s (after the vowel's start).
    portamento_s: time of the glide from note to note.
    breathiness_db: breath noise against the vowel's level, −inf for none.
    open_quotient: open share of the glottal period, larger is softer; return_hz: corner above which the source falls
        more steeply at −20 dBFS (one octave lower for every 10 dB less).
    jitter, shimmer: standard deviation from cycle to cycle of f0 and of amplitude, as fractions.
    drift_cents: standard deviation of the slow wandering of pitch.
    """

    register: Register
    lowest_midi: float
    highest_midi: float
    formant_scale: float = 1.0
    vibrato_rate_hz: float = 5.7
    vibrato_extent_cents: float = 50.0
    vibrato_onset_s: float = 0.3
    portamento_s: float = 0.09
    breathiness_db: float = -28.0
    open_quotient: float = 0.6
    return_hz: float = 2500.0
    jitter: float = 0.004
    shimmer: float = 0.03
    drift_cents: float = 5.0

    def __post_init__(self) -> None:
        if self.register not in FORMANTS_HZ:
            raise InputError(f"unknown register {self.register!r}: allowed are {', '.join(FORMANTS_HZ)}")
        for name, allowed in VOICE_RANGES.items():
            _check_range(f"a voice's {name}", getattr(self, name), allowed)
        if not MIDI_RANGE[0] <= self.lowest_midi <= self.highest_midi - 4 <= MIDI_RANGE[1] - 4:
            compass = f"{self.lowest_midi} to {self.highest_midi}"
            raise InputError(f"a voice's compass (MIDI) is {compass}; allowed: 4 semitones or more within 30 to 90")

    @classmethod
    def random(cls, generator: np.random.Generator) -> Voice:
        """Any singer: from pure to rough, dark to bright, pressed to breathy, straight to wobbling."""
        base = VOICES[str(generator.choice(list(VOICES)))]
        return cls(
            register=base.register,
            lowest_midi=base.lowest_midi + generator.uniform(-3, 3),
            highest_midi=base.highest_midi + generator.uniform(-3, 3),
            formant_scale=generator.uniform(0.88, 1.15),
            vibrato_rate_hz=generator.uniform(4.5, 7.0),
            vibrato_extent_cents=generator.uniform(0.0, 110.0),
            vibrato_onset_s=generator.uniform(0.0, 0.6),
            portamento_s=generator.uniform(0.03, 0.16),
            breathiness_db=generator.uniform(-45.0, -14.0),
            open_quotient=generator.uniform(0.45, 0.85),
            return_hz=float(np.exp(generator.uniform(np.log(700.0), np.log(6000.0)))),
            jitter=generator.uniform(0.001, 0.012),
            shimmer=generator.uniform(0.005, 0.1),
            drift_cents=generator.uniform(1.0, 15.0),
        )


VOICES: dict[str, Voice] = {
    "soprano": Voice("soprano", 60, 79, vibrato_rate_hz=6.0, open_quotient=0.65),
    "alto": Voice("alto", 55, 74, vibrato_rate_hz=5.6, open_quotient=0.62),
    "tenor": Voice("tenor", 48, 67, vibrato_rate_hz=5.8, open_quotient=0.55, return_hz=4000.0),
    "bass": Voice("bass", 40, 60, vibrato_rate_hz=5.3, open_quotient=0.5, return_hz=3500.0),
}

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10), "pentatonic": (0, 2, 4, 7, 9)}


def random_phrase(generator: np.random.Generator, voice: Voice) -> list[Note | Rest]:
    """Three to eight notes of a random scale in the voice's compass, rising and falling in level, then a rest."""
    scale = SCALES[str(generator.choice(list(SCALES)))]
    tonic = generator.uniform(0, 12)
    pitches = np.array([tonic + 12 * octave + step for octave in range(8) for step in scale])
    pitches = pitches[(pitches >= voice.lowest_midi) & (pitches <= voice.highest_midi)]
    position = int(generator.integers(len(pitches)))
    count = int(generator.integers(3, 9))
    loudest_db = generator.uniform(-36.0, LEVEL_RANGE_DB[1])
    beat_s = generator.uniform(0.2, 0.5)
    phrase: list[Note | Rest] = []
    for index in range(count):
        position = int(np.clip(position + generator.integers(-3, 4), 0, len(pitches) - 1))
        beats = generator.choice([1, 2, 4]) if index < count - 1 else generator.choice([4, 6])
        arc_db = 8 * np.sin(np.pi * (index + 0.5) / count) - 8
        level_db = float(loudest_db + arc_db)
        phrase.append(Note(float(pitches[position]), float(beats * beat_s), random_syllable(generator), level_db))
    phrase.append(Rest(float(generator.uniform(0.3, 1.0)), inhale=bool(generator.random() < 0.7)))
    return phrase


def random_syllable(generator: np.random.Generator) -> str:
    def maybe(consonants: tuple[str, ...], probability: float) -> str:
        return str(generator.choice(consonants)) if generator.random() < probability else ""

    vowel = str(generator.choice(list("aeiou")))
    glide = maybe(("i", "u"), 0.15)
    return maybe(ONSETS, 0.8) + vowel + (glide if glide != vowel else "") + maybe(CODAS, 0.25)
