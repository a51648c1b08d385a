"""`restyler bundle`: a trained model as a folder to hand on, in half precision, with its card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restyler.command import Parser, command


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    parser = Parser(
        prog="restyler bundle",
        description="Write a trained model once more, in half precision and with a model card: half the size, the same "
        "sound. The sampling defaults that ride in it can be set anew.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="folder of a saved model, for example RUN/pipeline")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; must not exist")
    parser.add_argument("--card", type=Path, required=True, metavar="FILE", help="the model card, kept as README.md")
    parser.add_argument("--scheduler", metavar="NAME", help="euler, heun or dpmpp (default: as it is)")
    parser.add_argument("--steps", type=int, metavar="N", help="default solver steps (default: as they are)")
    parser.add_argument("--sigma", type=float, metavar="S", help="default sigma (default: as it is)")
    parser.add_argument("--guidance", type=float, metavar="G", help="default guidance (default: as it is)")
    options = parser.parse_args(argv)

    import torch

    from audio.errors import InputError
    from audio.io import write_text_atomic
    from diffusion.sampling import make_scheduler
    from restyler.model_folder import write_manifest
    from restyler.pipeline import VocalRestylePipeline

    try:
        card = options.card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{options.card}: the model card can't be read: {error}") from None
    pipeline = VocalRestylePipeline.from_pretrained(options.model)
    chosen = pipeline.settings(steps=options.steps, sigma=options.sigma, guidance=options.guidance)
    defaults = {"steps": chosen.steps, "sigma": chosen.sigma, "guidance": chosen.guidance}
    bundled = VocalRestylePipeline(
        codec=pipeline.codec,
        conditioner=pipeline.conditioner,
        denoiser=pipeline.denoiser,
        scheduler=make_scheduler(options.scheduler) if options.scheduler else pipeline.scheduler,
        sampling=pipeline.defaults.model_dump(mode="json") | defaults,
        training=dict(pipeline.config.training),
    )
    bundled.save_pretrained(options.out, dtype=torch.float16)
    write_text_atomic(options.out / "README.md", card)
    write_manifest(options.out)
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{options.out}  {size / 2**20:.1f} MiB")
    return 0
