"""A graph as an ONNX file, and how far ONNX Runtime's answers are from PyTorch's."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from audio.errors import InputError
from restyler.exporting.graphs import Graph, Sizes

OPSET = 20
TRACED: Sizes = {"batch": 2, "frames": 41, "samples": 2999}
CHECKED: tuple[Sizes, ...] = (
    {"batch": 1, "frames": 75, "samples": 23_999},
    {"batch": 1, "frames": 301, "samples": 96_113},
    {"batch": 3, "frames": 75, "samples": 23_999},
    {"batch": 3, "frames": 301, "samples": 96_113},
)
BOUND = 1e-5  # of the highest magnitude: −100 dB; rounding alone makes a tenth of it


@dataclass(frozen=True)
class Difference:
    """Between ONNX Runtime and PyTorch on the same inputs: the largest of any value, and the highest magnitude of
    PyTorch's values."""

    largest: float
    of: float

    @property
    def relative(self) -> float:
        return self.largest / self.of if self.of else float(self.largest > 0)


def require_onnx() -> None:
    """Raises InputError, with what to install, where a package of the extra is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f'the package {error.name} is missing: pip install "vocal-restyler[onnx]" brings what ONNX needs'
        ) from None


@torch.no_grad()
def write_graph(graph: Graph, file: Path) -> None:
    """By `torch.export`, the exporter that PyTorch keeps: the older one records one run, lengths and all, with its
    warnings about them. Raises OSError where the file can't be written."""
    import onnx

    drawn = graph.drawn(TRACED, torch.Generator().manual_seed(0))
    dynamic = {
        port.name: {place: axis for place, axis in enumerate(port.axes) if isinstance(axis, str)}
        for port in graph.inputs
    }
    with _quiet():
        program = torch.onnx.export(
            graph.module.eval(),
            (),
            kwargs=drawn,
            input_names=list(drawn),
            output_names=[graph.output.name],
            dynamic_shapes=dynamic,
            opset_version=OPSET,
            dynamo=True,
            optimize=False,  # it drops sums with small constants: the floors that keep silence finite
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _tidy(model, graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)


def session(file: Path, *, threads: int) -> Any:
    """ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


@torch.no_grad()
def difference(graph: Graph, file: Path) -> Difference:
    """The largest over random inputs of two lengths and two batches."""
    runtime, largest, highest = session(file, threads=torch.get_num_threads()), [], []
    for number, sizes in enumerate(CHECKED):
        drawn = graph.drawn(sizes, torch.Generator().manual_seed(number + 1))
        wanted = graph.module(**drawn)
        (got,) = runtime.run(None, {name: tensor.numpy() for name, tensor in drawn.items()})
        if got.shape != wanted.shape:
            raise InputError(f"{graph.name}: ONNX Runtime gives {list(got.shape)}, PyTorch {list(wanted.shape)}")
        largest.append((torch.from_numpy(got) - wanted).abs().max())
        highest.append(wanted.abs().max())
    return Difference(*(float(torch.stack(found).max()) for found in (largest, highest)))  # NaN where one is


def require_same(graph: Graph, found: Difference) -> None:
    """Raises InputError where the two differ by more than rounding."""
    if not found.relative <= BOUND:
        raise InputError(
            f"{graph.name}: ONNX Runtime differs from PyTorch by {found.largest:.1e}, more than {BOUND:g} of the "
            f"highest value {found.of:.1e}: this pair of versions computes something else"
        )


def _tidy(model: Any, graph: Graph) -> None:
    """Axes of the output by the names of the inputs' where they have the same, and no word about where on which
    machine the network's code lay."""
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.ClearField("doc_string")
        if part is not model:
            part.ClearField("metadata_props")
    del model.graph.value_info[:]
    known = {axis for port in graph.inputs for axis in port.axes if isinstance(axis, str)}
    (output,) = model.graph.output
    for axis, place in zip(graph.output.axes, output.type.tensor_type.shape.dim, strict=True):
        if isinstance(axis, str):
            place.dim_param = axis if axis in known or axis in ("frames", "samples") else place.dim_param


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks about its own steps."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), Path(os.devnull).open("w") as nothing, redirect_stdout(nothing):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
