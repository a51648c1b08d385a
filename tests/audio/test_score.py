"""Notes, voices and random phrases: what may be sung, and that chance keeps to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from audio.errors import InputError
from audio.score import LEVEL_RANGE_DB, VOICES, Note, Rest, Voice, random_phrase
from audio.singing import sing


def test_pitch_in_hertz() -> None:
    assert Note(69, 1.0, "a").pitch_hz == pytest.approx(440.0)
    assert Note(57.5, 1.0, "a").pitch_hz == pytest.approx(220.0 * 2 ** (0.5 / 12))


@pytest.mark.parametrize("seed", range(50))
def test_random_phrases_keep_to_the_singers_compass(seed: int) -> None:
    generator = np.random.default_rng(seed)
    voice = Voice.random(generator)
    *notes, last = random_phrase(generator, voice)
    assert isinstance(last, Rest)
    assert 3 <= len(notes) <= 8
    for note in notes:
        assert isinstance(note, Note)
        assert voice.lowest_midi <= note.midi <= voice.highest_midi
        assert note.level_db < LEVEL_RANGE_DB[1]


def test_random_phrases_use_every_vowel_and_follow_their_generator() -> None:
    def text(seed: int) -> str:
        generator = np.random.default_rng(seed)
        phrases = [random_phrase(generator, VOICES["alto"]) for _ in range(20)]
        return " ".join(item.syllable for phrase in phrases for item in phrase if isinstance(item, Note))

    assert text(0) == text(0) != text(1)
    assert set("aeioushfhtkpmnl") <= set(text(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Note(57, 1.0, "xa"), "'xa'"),
        (lambda: Note(57, 1.0, "aeo"), "'aeo'"),
        (lambda: Note(57, 1.0, "a", 0.0), "level"),
        (lambda: Note(20, 1.0, "a"), "pitch"),
        (lambda: Note(57, 0.01, "a"), "duration"),
        (lambda: Note(57, float("nan"), "a"), "duration"),
        (lambda: Rest(0.0), "rest"),
        (lambda: replace(VOICES["alto"], register="baritone"), "baritone"),
        (lambda: replace(VOICES["alto"], lowest_midi=73), "compass"),
        (lambda: replace(VOICES["alto"], open_quotient=0.0), "open_quotient"),
        (lambda: sing([], VOICES["alto"], sample_rate=48_000, generator=np.random.default_rng(0)), "nothing to sing"),
        (lambda: sing([Rest(1.0)], VOICES["alto"], sample_rate=8000, generator=np.random.default_rng(0)), "8000 Hz"),
    ],
)
def test_what_cannot_be_sung_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
