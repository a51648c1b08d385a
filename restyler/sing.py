"""`restyler sing`: dry takes by random voices of the project's own synthesiser, free for any use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from audio import io
from audio.errors import InputError
from audio.loudness import true_peak_db
from audio.score import Note, Rest, Voice, random_phrase
from audio.singing import sing
from audio.waveform import Waveform
from restyler.command import Parser, command, integer, number, shown
from restyler.takes import made_folders

SAMPLE_RATE_HZ = 48000
PEAK_DB = -6.0


def random_take(seconds: float, *, sample_rate: int, generator: np.random.Generator) -> Waveform:
    """One random voice, singing whole random phrases until `seconds` are reached; mono, a little longer than that."""
    voice = Voice.random(generator)
    notes: list[Note | Rest] = []
    while sum(note.duration_s for note in notes) < seconds:
        notes += random_phrase(generator, voice)
    return sing(notes, voice, sample_rate=sample_rate, generator=generator)


def sing_voice(folder: Path, number: int, *, seconds: float, seed: int) -> None:
    """Writes FOLDER/voice_NNNN/take.flac, true peak at −6 dBTP. A folder a voice, so that the folder names the singer.

    A function of seed, number and seconds alone.
    """
    path = folder / f"voice_{number:04d}" / "take.flac"
    take = random_take(seconds, sample_rate=SAMPLE_RATE_HZ, generator=np.random.default_rng([seed, number]))
    gain = 10 ** ((PEAK_DB - true_peak_db(take)) / 20)
    io.make_folder(path.parent)
    io.write(path, Waveform(take.samples * gain, take.sample_rate), tags={"singer": path.parent.name})


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    parser = Parser(prog="restyler sing", description="Write dry takes by random voices, one folder a voice.")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; must be empty or not exist")
    parser.add_argument("--voices", type=integer(1, 9999), default=60)
    parser.add_argument("--seconds", type=number(1, 600), default=14.0, help="at least, of each voice")
    parser.add_argument("--seed", type=integer(0, 2**31 - 1), default=0)
    options = parser.parse_args(argv)

    from tqdm import tqdm

    with made_folders([options.out]):
        try:
            used = any(options.out.iterdir())
        except OSError as error:
            raise InputError(f"{shown(options.out)}: cannot be read: {error.strerror}") from error
        if used:
            raise InputError(f"{shown(options.out)}: there are files in it already; sing into a new folder")
        for voice in tqdm(range(options.voices), unit="voice"):
            sing_voice(options.out, voice, seconds=options.seconds, seed=options.seed)
    print(f"{options.voices} voices in {shown(options.out)}")
    return 0
