"""`python -m restyler.bench_live`: the live student's latency, speed, nearness to the sampler, and knobs."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from audio.features import measure
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from restyler.command import Parser, command, integer, shown
from restyler.metrics import spectral_distance
from restyler.student.data import StudentPair, read_held_out
from restyler.student.files import BUNDLED_STUDENT, Student, load_student
from restyler.student.spectra import SAMPLE_RATE_HZ
from restyler.student.streaming import StreamingStudent

BLOCKS = (64, 128, 512, 2048)
IMPULSE_SAMPLES = 3 * SAMPLE_RATE_HZ
MIDDLE = (0.5, 0.5, 0.5)
PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)
KNOB_TAKES = 6  # at most: the knobs are turned on so many of the held-out takes
MEASURED = ("brightness_db", "space_db", "width_db", "loudness_lu")


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="python -m restyler.bench_live",
        description="Latency, speed on one core, and, with --pairs, the distance to the sampler's mixes "
        "and what each knob turns.",
    )
    parser.add_argument(
        "--student", type=Path, default=BUNDLED_STUDENT, metavar="DIR", help="the bundled one if not given"
    )
    parser.add_argument("--seconds", type=integer(1, 600), default=10, metavar="S", help="of noise for the speed; 10")
    parser.add_argument("--pairs", type=Path, metavar="DIR", help="folder of `restyler distil`: its held-out pairs")
    options = parser.parse_args(argv)
    student = load_student(options.student)
    torch.set_num_threads(1)
    print(f"student {shown(options.student.name)}, {sum(p.numel() for p in student.network.parameters()):,} parameters")
    streaming = torch.jit.script(StreamingStudent(student.network))
    print(f"latency {latency_samples(streaming)} samples at strength 0, an impulse through 100-sample blocks")
    for block in BLOCKS:
        factor = real_time_factor(streaming, block, options.seconds)
        print(f"  blocks of {block:>4}   real-time factor {factor:.3f}", flush=True)
    if options.pairs:
        pairs = read_held_out(options.pairs, student.styles)
        print_distances(student, pairs)
        print_knobs(student, [pair.take for pair in pairs[:: -(-len(pairs) // KNOB_TAKES)]])
    return 0


@torch.no_grad()
def latency_samples(streaming: Callable[..., torch.Tensor], block: int = 100) -> int:
    """Where an impulse comes out at strength 0, less where it went in."""
    streaming.reset()  # type: ignore[attr-defined]
    signal, at = torch.zeros(1, IMPULSE_SAMPLES), SAMPLE_RATE_HZ + 37
    signal[0, at] = 1.0
    knobs, strength = torch.tensor([MIDDLE]), torch.zeros(1)
    out = torch.cat([streaming(piece, knobs, strength) for piece in signal.split(block, 1)], dim=1)
    return int(out[0].abs().argmax()) - at


@torch.no_grad()
def real_time_factor(
    streaming: Callable[..., torch.Tensor], block: int, seconds: int, clock: Callable[[], float] = time.process_time
) -> float:
    """Seconds of the processor for a second of sound, after a second that warms up."""
    streaming.reset()  # type: ignore[attr-defined]
    noise = 0.1 * torch.randn(1, (seconds + 1) * SAMPLE_RATE_HZ, generator=torch.Generator().manual_seed(0))
    knobs, strength = torch.tensor([MIDDLE]), torch.ones(1)
    blocks = noise.split(block, 1)
    warm = SAMPLE_RATE_HZ // block
    for piece in blocks[:warm]:
        streaming(piece, knobs, strength)
    began = clock()
    for piece in blocks[warm:]:
        streaming(piece, knobs, strength)
    return (clock() - began) / (sum(piece.shape[1] for piece in blocks[warm:]) / SAMPLE_RATE_HZ)


@torch.no_grad()
def print_distances(student: Student, pairs: Sequence[StudentPair]) -> None:
    """Of student and raw take to the sampler's mix, at equal loudness, over pairs that nothing was trained on."""
    rows: dict[str, list[tuple[float, float]]] = {"raw take": [], "student": []}
    for pair in pairs:
        take, mix = (torch.from_numpy(side).float() / 32767 for side in (pair.take, pair.mix))
        ours = student.network(take[None], torch.from_numpy(pair.knobs)[None])[0]
        for name, side in (("raw take", take.expand(2, -1)), ("student", ours)):
            distance = spectral_distance(Waveform(mix, SAMPLE_RATE_HZ), Waveform(side, SAMPLE_RATE_HZ))
            rows[name].append((distance.lr, distance.ms))
    nearer = sum(ours[0] < raw[0] for ours, raw in zip(rows["student"], rows["raw take"], strict=True))
    print(f"\ndistance to the sampler's mix, {len(rows['student'])} held-out takes    MSS_lr  MSS_ms, median")
    for name, found in rows.items():
        lr, ms = zip(*found, strict=True)
        print(f"  {name:<46} {statistics.mean(lr):10.3f} {statistics.median(ms):15.3f}")
    print(f"  the student is nearer (MSS_lr) in {nearer} of {len(rows['student'])}")


@torch.no_grad()
def print_knobs(student: Student, takes: Sequence[np.ndarray]) -> None:
    """Means over the takes, int16 [samples] each, of what the mix has more of than its take: a knob from end to end,
    the others in the middle."""
    plain = [_measured(torch.from_numpy(take).float().expand(2, -1) / 32767) for take in takes]
    print(f"\nmix less take, mean of {len(takes)} held-out takes" + "".join(f"{name:>16}" for name in MEASURED))
    last = max(1, len(student.styles) - 1)
    places: dict[str, list[tuple[str, float]]] = {
        name: [(f"{place:g}", place) for place in PLACES] for name in ("brightness", "space")
    }
    places["style"] = [(style, number / last) for number, style in enumerate(student.styles)]
    for position, (knob, steps) in enumerate(places.items()):
        for label, place in steps:
            knobs = torch.tensor([MIDDLE])
            knobs[0, position] = place
            mixes = (student.network(torch.from_numpy(take).float()[None] / 32767, knobs)[0] for take in takes)
            more = [
                [mix[name] - take[name] for name in MEASURED]
                for mix, take in zip(map(_measured, mixes), plain, strict=True)
            ]
            means = "".join(f"{statistics.mean(column):16.2f}" for column in zip(*more, strict=True))
            print(f"  {f'{knob} {label}':<41}{means}", flush=True)


def _measured(sound: torch.Tensor) -> dict[str, float]:
    """sound [2 samples]; MEASURED of it."""
    waveform = Waveform(sound, SAMPLE_RATE_HZ)
    return dict(measure(waveform)) | {"loudness_lu": integrated_loudness_lufs(waveform)}


if __name__ == "__main__":
    sys.exit(main())
