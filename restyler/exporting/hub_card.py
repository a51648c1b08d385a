"""The model card of a hub: YAML front matter that the hub sorts and shows models by, and a text for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from audio.errors import InputError
from codec.encodec48 import Encodec48Codec
from restyler.pipeline import VocalRestylePipeline

FENCE = "---"
TASK = "audio-to-audio"
LIBRARY = "vocal-restyler"
TAGS = ("audio", "vocals", "mixing", "latent-diffusion", LIBRARY)


def split_card(card: str, name: str) -> tuple[dict[str, Any], str]:
    """Front matter and text of a card; no front matter, no fields. Raises InputError, which names the card, for a front
    matter that is no YAML mapping or has no end."""
    first, _, rest = card.partition("\n")
    if first.rstrip() != FENCE:
        return {}, card
    lines = rest.split("\n")
    ends = [number for number, line in enumerate(lines) if line.rstrip() == FENCE]
    if not ends:
        raise InputError(f"{name}: its front matter has no end (a line {FENCE})")
    try:
        fields = yaml.safe_load("\n".join(lines[: ends[0]])) or {}
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that there is not
        (reason, *_) = str(error).splitlines()
        raise InputError(f"{name}: its front matter is no YAML: {reason}") from None
    if not isinstance(fields, dict):
        raise InputError(f"{name}: its front matter is no mapping of names to values")
    return fields, "\n".join(lines[ends[0] + 1 :])


def hub_card(fields: Mapping[str, Any], text: str, *, licence: str) -> str:
    """A card that the hub takes: what it has stays, what a hub needs is added; tags are joined."""
    tags = fields.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise InputError(f"tags of the model card are a list of words, not {tags!r}")
    complete = {"library_name": LIBRARY, "pipeline_tag": TASK} | dict(fields)
    complete |= {"license": licence, "tags": [*tags, *(tag for tag in TAGS if tag not in tags)]}
    front = yaml.safe_dump(complete, allow_unicode=True, sort_keys=False, default_flow_style=False, width=1000)
    said = text.strip() + "\n"
    return f"{FENCE}\n{front}{FENCE}\n\n{said}" + ("" if said.endswith(USE) else f"\n{USE}")


USE = """## Load it from this folder

Get the folder as it is (`hf download OWNER/NAME --local-dir FOLDER`, or `git clone`), then

    restyler sample take.wav --model FOLDER

or in Python

    from restyler.pipeline import VocalRestylePipeline

    pipeline = VocalRestylePipeline.from_pretrained("FOLDER")

`manifest.json` holds size and SHA-256 of every file: a folder that is incomplete or altered is refused.
"""


def plain_card(pipeline: VocalRestylePipeline, name: str) -> str:
    """What the model itself can say, for one that has no card."""
    codec, count = pipeline.codec, lambda part: sum(tensor.numel() for tensor in part.parameters())
    styles = ", ".join(f"`{style}`" for style in pipeline.styles) or "none"
    reaches = [(control, *pipeline.defaults.reach(control)) for control in pipeline.defaults.controls]
    controls = ", ".join(f"`{control}` ({low:.3g} to {high:.3g})" for control, low, high in reaches) or "none"
    steps = pipeline.defaults.steps
    lines = [
        f"# {name}",
        "",
        f"One raw vocal take in, several finished stereo mixes out, {codec.sample_rate / 1000:g} kHz: a latent "
        "diffusion model conditioned on the take, for vocal-restyler.",
        "",
        f"- codec: {type(codec).__name__}, {count(codec) / 1e6:.1f} M parameters, {codec.latent_dim} channels at "
        f"{codec.frame_rate_hz:g} frames/s",
        f"- denoiser: {count(pipeline.denoiser) / 1e6:.1f} M parameters, path `{pipeline.denoiser.config.path}`",
        f"- sampling: {steps} step{'s' if steps > 1 else ''} unless told otherwise",
        f"- styles: {styles}",
        f"- controls: {controls}",
    ]
    if isinstance(codec, Encodec48Codec):
        lines.append("- the official weights of EnCodec, where the codec holds them, are under CC BY-NC 4.0")
    return "\n".join(lines)
