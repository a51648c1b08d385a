"""The `restyler` command: finds the command that is meant and hands the arguments over."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import version

from audio.errors import InputError
from restyler.command import command

COMMANDS = {
    "demo": ("restyler.demo", "sing a demo take and restyle it into four different mixes"),
    "sample": ("restyler.sample", "restyle raw vocal takes"),
    "watch": ("restyler.watch", "restyle takes as a DAW exports them into a folder"),
    "remote": ("restyler.remote", "restyle raw vocal takes by a service on this or another machine"),
    "styles": ("restyler.styles", "list the styles of a model"),
    "evaluate": ("restyler.evaluate.command", "score a model or rendered files against finished mixes"),
    "listen": ("restyler.listen.command", "design, serve and analyse listening tests"),
    "serve": ("restyler.serving.command", "serve a model: a page and an HTTP API"),
    "keys": ("restyler.serving.keys_command", "make, list and revoke keys of the service"),
    "train": ("restyler.train", "train on pairs of raw takes and mixes"),
    "prepare": ("restyler.prepare.command", "make a training set of latents from raw takes and finished mixes"),
    "join": ("restyler.join", "make one folder of pairs from several"),
    "bundle": ("restyler.bundle", "write a trained model in half precision, with its card"),
    "export": ("restyler.exporting.command", "write a model for ONNX Runtime, a model hub or a live plugin"),
    "distil": ("restyler.student.distil", "make pairs of takes and a model's mixes for the live student"),
    "separate": ("restyler.separate", "extract the vocal of finished songs"),
    "sing": ("restyler.sing", "write dry takes by random voices of the project's own"),
    "rack": ("restyler.rack", "put a recording through an effect chain of parts, plugins and programs"),
    "synthesize": ("restyler.synthesize", "make pairs from dry voices and effect chains"),
}
USAGE = (
    "usage: restyler COMMAND …\n\n"
    + "\n".join(f"  {name:<12}{what}" for name, (_, what) in COMMANDS.items())
    + ("\n\n`restyler COMMAND --help` explains a command; `restyler --version` prints the version.")
)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code of the command."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    match arguments:
        case ["--help" | "-h"]:
            print(USAGE)
            return 0
        case ["--version"]:
            print(f"restyler {version('vocal-restyler')}")
            return 0
        case [name, *rest] if name in COMMANDS:
            return importlib.import_module(COMMANDS[name][0]).main(rest)
    given = f"unknown command {arguments[0]!r}" if arguments else "no command given"
    raise InputError(f"{given} (allowed: {', '.join(COMMANDS)}; see restyler --help)")
