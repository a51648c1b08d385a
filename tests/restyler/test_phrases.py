"""Which recordings make a phrase, and what of them is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from restyler.phrases import Phrase, Piece, Recording, find_recordings, plan_phrases, read_phrase

RATE_HZ = 48000


def test_singers_with_like_names_keep_their_own_files(tmp_path: Path) -> None:
    for singer in ("Ann B", "Ann-B", "Ann?B"):
        (tmp_path / singer).mkdir()
        soundfile.write(tmp_path / singer / "take.wav", np.ones(RATE_HZ), RATE_HZ)
    twice = [tmp_path, tmp_path / "Ann B" / "take.wav"]
    phrases = plan_phrases(find_recordings(twice, None), passes=2, shift_probability=0.5, seed=0)
    assert len({phrase.key for phrase in phrases}) == len(phrases) == 6


def test_a_piece_reads_no_more_than_its_stretch(tmp_path: Path) -> None:
    """Damage after a piece does not matter to it."""
    path = tmp_path / "zzz.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(30 * 44100), 44100, subtype="FLOAT")
    recording = Recording(path, "bert", 30.0, "")
    phrase = Phrase("one", (Piece(recording, 10.0, 12.5, 0.2),), speed=1.0)
    before = read_phrase(phrase, RATE_HZ)
    sound, _ = soundfile.read(path)
    sound[13 * 44100 :] = np.nan
    soundfile.write(path, sound, 44100, subtype="FLOAT")
    assert bool((read_phrase(phrase, RATE_HZ).samples == before.samples).all())
