"""The row of the live student (`restyler.student`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from audio.waveform import Waveform
from restyler.evaluate.evaluation_set import Song
from restyler.evaluate.row import Row, as_loud, like
from restyler.student.files import Student
from restyler.student.spectra import SAMPLE_RATE_HZ

STUDENT = "live student"


def student_row(student: Student) -> Row:
    """One mix by each style, brightness and space in the middle, at full strength; told nothing of the song."""
    count = max(1, len(student.styles))

    @torch.no_grad()
    def render(song: Song) -> Sequence[Waveform]:
        take = song.take.resampled(SAMPLE_RATE_HZ).samples.mean(0, keepdim=True)
        mixes = []
        for number in range(count):
            knobs = torch.tensor([[0.5, 0.5, number / max(1, count - 1)]])
            mix = Waveform(student.network(take, knobs)[0], SAMPLE_RATE_HZ)
            mixes.append(as_loud(like(song.mix, mix), song.take))
        return mixes

    return Row(STUDENT, f"the live student: {count} mixes, one by each style", render)
