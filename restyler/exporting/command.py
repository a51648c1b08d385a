"""`restyler export`: a trained model in the form that another tool reads."""

from __future__ import annotations

from collections.abc import Sequence

from restyler.command import command
from restyler.subcommands import run

COMMANDS = {
    "onnx": (
        "restyler.exporting.onnx",
        "graphs for ONNX Runtime: conditioner, denoiser step, codec encoder and decoder",
    ),
    "hub": ("restyler.exporting.hub", "a folder that a model hub takes as it is: card, licence, weights"),
    "neutone": ("restyler.exporting.neutone", "the live student as a file for the Neutone plugins"),
}


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code of the subcommand."""
    return run("export", COMMANDS, argv, guide="docs/export.md")
