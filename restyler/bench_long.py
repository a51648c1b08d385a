"""`python -m restyler.bench_long`: whole takes from the file to the mixes, each in a process of its own, with the curve
of its memory over time.

Prints a table, and writes it with all curves into a folder: memory.csv and memory.svg.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from restyler.command import Parser, command, integer, number, shown
from restyler.model_folder import BUNDLED
from restyler.way_names import DEFAULT_WAY, WAYS

MINUTES = (1.0, 3.0, 10.0)
EVERY_S = 0.1
SUNG_S = 20.0
PAUSE_S = 0.4  # between recordings
RATE_HZ = 48_000


@dataclass(frozen=True)
class Ran:
    """minutes: of the take. seconds: of the whole process. memory: (seconds since its start, MiB resident), as it
    went. peak_mib: the most, by the kernel's own count."""

    minutes: float
    seconds: float
    cpu_s: float
    memory: tuple[tuple[float, float], ...]
    peak_mib: float
    printed: str


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m restyler.bench_long", description="Time and memory of whole takes.")
    add = parser.add_argument
    add("--minutes", type=number(0.1, 600), nargs="+", default=list(MINUTES), metavar="M", help="of the takes; 1 3 10")
    add("--variations", type=integer(1, 100), default=1, metavar="N", help="mixes of each; 1")
    add("--render", choices=WAYS, default=DEFAULT_WAY, help=f"as of sample.py; {DEFAULT_WAY}")
    add("--model", type=Path, default=BUNDLED, metavar="DIR", help="of the model; the bundled one")
    add("--voices", type=Path, metavar="DIR", help="of recordings, strung together; a voice that the project sings")
    add("--out", type=Path, default=Path("out/bench_long"), metavar="DIR", help="for table and curves; %(default)s")
    options = parser.parse_args(argv)

    import tempfile

    from audio.io import make_folder, write_text_atomic

    make_folder(options.out)
    arguments = ["--model", str(options.model), "--variations", str(options.variations), "--render", options.render]
    ran = []
    with tempfile.TemporaryDirectory() as folder:
        for minutes in sorted(options.minutes):
            take = string_together(Path(folder) / f"take_{minutes:g}.wav", minutes, options.voices)
            ran.append(measured(take, minutes, [*arguments, "--out", str(Path(folder) / f"{minutes:g}")]))
            print(ran[-1].printed, end="")
    lines = table(ran, options.variations, options.render)
    print("\n".join(lines))
    rows = ["minutes,seconds,MiB", *(f"{one.minutes:g},{when},{mib}" for one in ran for when, mib in one.memory)]
    write_text_atomic(options.out / "memory.csv", "\n".join(rows) + "\n")
    write_text_atomic(options.out / "memory.svg", picture(ran))
    print(f"{shown(options.out / 'memory.svg')}  the curves")
    return 0


def string_together(path: Path, minutes: float, voices: Path | None) -> Path:
    """Writes a mono take of that length at 48 kHz: the recordings of a folder one after the other, or sung phrases."""
    import soundfile

    with soundfile.SoundFile(path, "w", RATE_HZ, 1, "PCM_24") as sink:
        left = round(minutes * 60 * RATE_HZ)
        for samples in _voices(voices):
            sink.write(samples[:left])
            left -= len(samples[:left])
            if left == 0:
                break
    return path


def _voices(folder: Path | None) -> Iterator[np.ndarray]:
    """Without end: mono recordings at 48 kHz with a peak of a half, [samples], pauses between them."""
    from audio.errors import InputError
    from audio.io import read
    from restyler.sing import random_take
    from restyler.takes import AUDIO_SUFFIXES

    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES) if folder else []
    if folder and not files:
        raise InputError(f"{shown(folder)}: a folder without recordings")
    sung = random_take(SUNG_S, sample_rate=RATE_HZ, generator=np.random.default_rng(0)) if not files else None
    for file in itertools.cycle(files or [None]):
        waveform = read(file).resampled(RATE_HZ) if file else sung
        samples = waveform.samples.mean(dim=0).numpy() if waveform else np.zeros(0)
        peak = np.abs(samples).max(initial=0.0)
        if peak > 0:
            yield samples * (0.5 / peak)
            yield np.zeros(round(PAUSE_S * RATE_HZ))
        elif len(files) == 1:
            raise InputError(f"{shown(file)}: silent")


def measured(take: Path, minutes: float, arguments: Sequence[str]) -> Ran:
    """One call of `restyler sample` in a process of its own. Raises InputError where it fails."""
    from audio.errors import InputError

    program = [sys.executable, "-m", "restyler.bench_long_child", str(take), "--timing", *arguments]
    started = time.perf_counter()
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        memory = []
        while process.poll() is None:
            mib = resident_mib(process.pid)
            if mib:
                memory.append((round(time.perf_counter() - started, 2), round(mib, 1)))
            time.sleep(EVERY_S)
        seconds = time.perf_counter() - started
        printed, complaint = process.communicate()
    if process.returncode:
        raise InputError(f"{shown(take)}: {complaint.strip().splitlines()[-1] if complaint.strip() else 'failed'}")
    *lines, last = printed.splitlines()
    cpu_s, peak_mib = map(float, last.split())
    return Ran(minutes, seconds, cpu_s, tuple(memory), peak_mib, "".join(f"{line}\n" for line in lines))


def resident_mib(process: int) -> float:
    """Memory that a process holds now; 0 for one that has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(found[0]) / 1024 if found else 0.0


def table(ran: Sequence[Ran], variations: int, way: str) -> list[str]:
    """peak, and by how much it grew for each minute more than the take before."""
    lines = [f"{variations} mixes, {way}", "minutes  seconds  × real time  CPU s  peak MiB  MiB a minute more"]
    for before, one in zip([None, *ran], ran, strict=False):
        more = "" if before is None else f"{(one.peak_mib - before.peak_mib) / (one.minutes - before.minutes):18.1f}"
        speed = variations * one.minutes * 60 / one.seconds
        lines.append(
            f"{one.minutes:7g} {one.seconds:8.1f} {speed:12.2f} {one.cpu_s:6.0f} {one.peak_mib:9.0f} {more}".rstrip()
        )
    return lines


def picture(ran: Sequence[Ran]) -> str:
    """The curves as an SVG: memory over the share of the run that has passed, so that takes of all lengths compare."""
    import io

    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4))
    for one in ran:
        when, mib = np.array(one.memory).T
        axes.plot(when / one.seconds, mib, label=f"{one.minutes:g} min, {one.seconds:.0f} s")
    axes.set(xlabel="share of the run", ylabel="resident memory, MiB", ylim=(0, None), xlim=(0, 1))
    axes.legend()
    axes.grid(alpha=0.3)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return drawn.getvalue()


if __name__ == "__main__":
    sys.exit(main())
