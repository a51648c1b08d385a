"""`python -m restyler.bench_live`: the live student's latency and speed, and how near it comes to the sampler."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from audio.waveform import Waveform
from restyler.command import Parser, command, integer, shown
from restyler.metrics import spectral_distance
from restyler.student.data import read_held_out
from restyler.student.files import BUNDLED_STUDENT, Student, load_student
from restyler.student.spectra import SAMPLE_RATE_HZ
from restyler.student.streaming import StreamingStudent

BLOCKS = (64, 128, 512, 2048)
IMPULSE_SAMPLES = 3 * SAMPLE_RATE_HZ
MIDDLE = (0.5, 0.5, 0.5)


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="python -m restyler.bench_live",
        description="Latency, speed on one core, and, with --pairs, the distance to the sampler's mixes.",
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
        print_distances(student, options.pairs)
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
def print_distances(student: Student, folder: Path) -> None:
    """Of student and raw take to the sampler's mix, at equal loudness, over pairs that nothing was trained on."""
    rows: dict[str, list[tuple[float, float]]] = {"raw take": [], "student": []}
    for pair in read_held_out(folder, student.styles):
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


if __name__ == "__main__":
    sys.exit(main())
