"""`python -m restyler.bench_onnx`: PyTorch and ONNX Runtime side by side, each graph of a model on the CPU."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from restyler.command import Parser, command, integer, shown
from restyler.exporting.graphs import Graph, Sizes, graphs
from restyler.exporting.onnx_graphs import require_onnx, session, write_graph
from restyler.model_folder import BUNDLED
from restyler.pipeline import VocalRestylePipeline
from restyler.rendering import load_model

BATCHES = (1, 4)
CALLS = 7


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="python -m restyler.bench_onnx", description="Speed of PyTorch and ONNX Runtime, each graph of a model."
    )
    parser.add_argument("--model", type=Path, default=BUNDLED, metavar="DIR", help="of the model; the bundled one")
    parser.add_argument("--seconds", type=integer(1, 60), default=10, metavar="S", help="length of what it hears; 10")
    options = parser.parse_args(argv)
    require_onnx()
    pipeline = load_model(options.model, "cpu")
    print(f"model {shown(options.model.name)}, {torch.get_num_threads()} threads, {options.seconds} s at once")
    print(f"\n{'multiples of real time':28} {'PyTorch':>10} {'ONNX Runtime':>14} {'quicker by':>12}")
    for one in measured(pipeline, options.seconds, BATCHES):
        heard_s = one.batch * options.seconds
        name, times = f"{one.graph}, batch {one.batch}", (heard_s / one.pytorch_s, heard_s / one.runtime_s)
        print(f"  {name:26} {times[0]:8.1f} × {times[1]:12.1f} × {times[1] / times[0]:10.2f} ×", flush=True)
    return 0


@dataclass(frozen=True)
class Speeds:
    """Of one graph for one batch, each the quickest of CALLS after one that warms up, one of either in turn."""

    graph: str
    batch: int
    pytorch_s: float
    runtime_s: float


def measured(pipeline: VocalRestylePipeline, seconds: int, batches: Sequence[int]) -> Iterator[Speeds]:
    """Every graph with every batch, both on as many threads as PyTorch has, each row as soon as it is known."""
    frames = pipeline.codec.frames(seconds * pipeline.codec.sample_rate)
    with tempfile.TemporaryDirectory() as folder:
        for graph in graphs(pipeline):
            file = Path(folder) / f"{graph.name}.onnx"
            write_graph(graph, file)
            for batch in batches:
                sizes = {"batch": batch, "frames": frames, "samples": frames * pipeline.codec.hop_samples}
                yield _speeds(graph, file, sizes)


@torch.no_grad()
def _speeds(graph: Graph, file: Path, sizes: Sizes) -> Speeds:
    drawn = graph.drawn(sizes, torch.Generator().manual_seed(0))
    runtime = session(file, threads=torch.get_num_threads())
    arrays = {name: tensor.numpy() for name, tensor in drawn.items()}
    calls: list[Callable[[], object]] = [lambda: graph.module(**drawn), lambda: runtime.run(None, arrays)]
    taken = [[_taken_s(call) for call in calls] for _ in range(CALLS + 1)]
    pytorch_s, runtime_s = (min(each) for each in zip(*taken[1:], strict=True))
    return Speeds(graph.name, sizes["batch"], pytorch_s, runtime_s)


def _taken_s(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
