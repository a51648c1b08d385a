"""`restyler export onnx`: the model as ONNX graphs with a file of facts, checked against PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from restyler.command import Parser, command, shown


def parser() -> Parser:
    parser = Parser(
        prog="restyler export onnx",
        description="Write a model as four ONNX graphs (encoder, conditioner, denoiser, decoder; any batch, any "
        "length) and facts.json, which says what else a program needs. Each graph is compared with PyTorch.",
    )
    parser.add_argument("--model", type=Path, metavar="DIR", help="folder of a saved model (default: the bundled one)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write; absent or empty")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    options = parser().parse_args(argv)

    import json

    from audio.io import write_text_atomic
    from restyler.exporting.facts import FACTS, facts
    from restyler.exporting.graphs import graphs
    from restyler.exporting.onnx_graphs import difference, require_onnx, require_same, write_graph
    from restyler.model_folder import BUNDLED
    from restyler.new_folder import new_folder, require_free, require_outside
    from restyler.rendering import load_model, model_name

    require_onnx()
    folder = options.model or BUNDLED
    require_free(options.out)
    require_outside(options.out, folder)
    pipeline = load_model(folder, "cpu")
    parts, found = graphs(pipeline), []
    with new_folder(options.out) as fresh:
        for number, graph in enumerate(parts, start=1):
            if sys.stderr.isatty():
                print(f"\r  graph {number} of {len(parts)}: {graph.name:12}", end="\r", file=sys.stderr, flush=True)
            file = fresh / f"{graph.name}.onnx"
            write_graph(graph, file)
            found.append((graph, difference(graph, file)))
            require_same(*found[-1])
        told = facts(pipeline, found, model=model_name(folder), versions=versions())
        write_text_atomic(fresh / FACTS, json.dumps(told, indent=1) + "\n")
    for graph, apart in found:
        size = (options.out / f"{graph.name}.onnx").stat().st_size
        print(
            f"{shown(options.out / graph.name)}.onnx  {size / 2**20:.1f} MiB, differs from PyTorch by "
            f"{apart.largest:.1e} at most, of values up to {apart.of:.3g}"
        )
    print(shown(options.out / FACTS))
    return 0


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("vocal-restyler", "torch", "onnx", "onnxscript", "onnxruntime")}
