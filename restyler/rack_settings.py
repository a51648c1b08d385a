"""`restyler rack --settings`: a chain as lines to read, and to dial into the devices of a DAW."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audio.external import external_part
from audio.parts import ProgramStep, Step, find_part
from audio.parts_kinds import Number, Part
from audio.parts_plugin import plugin_part
from restyler.chains import Chains, read_chains
from restyler.transfer.text import DEVICES


def settings_of(path: Path) -> str:
    """Every style of a file of chains: a line for each part, in the order of the sound, with what it is set to.

    What a chain draws stands there as `restyler rack` and `restyler sample` draw it from seed 0, and is said to be
    drawn. Raises InputError where `read_chains` does.
    """
    chains = read_chains(path, buses=True)
    some = [f"heard by one of {chains.every} mixes"] if chains.every > 1 else []
    return "\n\n".join([*some, *(_style(chains, name) for name in chains.styles)])


def _style(chains: Chains, style: str) -> str:
    steps, others = (chains.draw(style, 0, key="", seed=seed, is_test=False) for seed in (0, 1))
    drawn = ", as drawn from seed 0" if repr(_audible(steps)) != repr(_audible(others)) else ""
    lines = [f"{place:2}  {_device(step):13} {_settings(step)}" for place, step in enumerate(steps, start=1)]
    return "\n".join([f"{style}, in the order of the sound{drawn}", *lines])


def _audible(steps: Sequence[Step]) -> list[tuple[str, dict[str, object]]]:
    """Without the seeds of noise, which nobody dials in."""
    return [(step.name, {name: value for name, value in step.values.items() if name != "seed"}) for step in steps]


def _device(step: Step) -> str:
    if isinstance(step, ProgramStep):
        return step.name
    return DEVICES[step.name][0] if step.name in DEVICES else "plugin" if step.path else step.name


def _settings(step: Step) -> str:
    if step.path is None and step.name in DEVICES:
        return DEVICES[step.name][1](dict(step.values))
    part = _part(step)
    told = [f"{name} {_value(part, name, value)}" for name, value in step.values.items() if name != "seed"]
    named = part.name if isinstance(step, ProgramStep) or step.path else ""
    return ", ".join(filter(None, [named, *told])) or "as it is"


def _part(step: Step) -> Part:
    if isinstance(step, ProgramStep):
        return external_part(step.name, step.named, step.path)
    return plugin_part(step.path) if step.path else find_part(step.name)


def _value(part: Part, name: str, value: object) -> str:
    parameter = part.parameter(name)
    unit = parameter.unit if isinstance(parameter, Number) else ""
    return (f"{value:.4g}" if isinstance(value, float) else str(value)) + (f" {unit}" if unit else "")
