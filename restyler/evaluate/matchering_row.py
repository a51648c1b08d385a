"""The row of Matchering, a program that brings a recording to the level and the spectrum of a reference."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

import soundfile
import torch

from audio.errors import InputError
from audio.loudness import brought_to
from audio.waveform import Waveform
from restyler.evaluate.evaluation_set import Song
from restyler.evaluate.row import REFERENCE_S, Row, first, like, on_second_half

RATE_HZ = 44100  # Matchering's own
LOUDNESS_LUFS = -18.0  # of both files: Matchering takes on the reference's level, and limits what would clip


def installed() -> bool:
    return find_spec("matchering") is not None


def matchering_row() -> Row:
    """The take matched to the first 6 s of the mix by Matchering 2 (Sergree 2022), its defaults, scored after them.

    It equalises mid and side each by the ratio of smoothed spectra, and matches the RMS of the loudest pieces. Raises
    InputError where the optional package is not installed.
    """
    if not installed():
        raise InputError("the row of Matchering needs its package: pip install 'vocal-restyler[matchering]'")

    def render(song: Song) -> list[Waveform]:
        return [like(song.mix, matched(song.take, first(song.mix, REFERENCE_S)))]

    return on_second_half(
        Row(
            "Matchering", "the take matched to the first 6 s of the mix in level and spectrum, by Matchering 2", render
        ),
        name="Matchering, second half",
    )


def matched(take: Waveform, reference: Waveform) -> Waveform:
    """The take as Matchering returns it, stereo at 44.1 kHz. It works from file to file."""
    import matchering

    with tempfile.TemporaryDirectory() as folder:
        names = [str(Path(folder) / name) for name in ("take.wav", "reference.wav", "result.wav")]
        for name, waveform in zip(names, (take, reference), strict=False):
            levelled = brought_to(waveform, LOUDNESS_LUFS).stereo().resampled(RATE_HZ)
            soundfile.write(name, levelled.samples.numpy().T, RATE_HZ, subtype="FLOAT")
        matchering.process(names[0], names[1], [matchering.Result(names[2], "FLOAT")])
        samples, rate = soundfile.read(names[2], dtype="float32", always_2d=True)
    return Waveform(torch.from_numpy(samples.T.copy()), rate)
