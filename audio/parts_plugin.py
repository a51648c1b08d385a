"""Plugins of other makers as parts: VST3 everywhere, Audio Units on macOS, loaded from their path by Pedalboard."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pedalboard
import torch

from audio.errors import InputError
from audio.parts_kinds import Choice, Number, Parameter, Part
from audio.stages import Plugin

PROBE_RATE_HZ = 48000
PROBE_SAMPLES = 512
SUBNORMAL = 1e-40  # in float32


def plugin_part(path: str) -> Part:
    """What the plugin at `path` declares: the names, units and ranges of its own parameters.

    Those that are not given stay as the plugin sets them itself; those that are given are set in that order.
    Raises InputError for a path without a plugin, a plugin that can't be loaded, and an instrument.
    """
    plugin = _load(path)
    parameters = [_declared(name, plugin) for name in plugin.parameters]
    maker = plugin.manufacturer_name or "unknown maker"

    what = f"{plugin.name} {plugin.version} by {maker}"
    return Part(Path(path).name, what, tuple(parameters), partial(process_by_plugin, path), fills_in=False)


def process_by_plugin(path: str, values: Mapping[str, Any], samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """[2 samples] → [2 samples]. The plugin's reported latency is taken off; a mono one hears each side on its own.

    Loaded anew each time: whatever state a plugin keeps, no mix depends on the one before it.
    """
    plugin = _set(path, values)
    sides = samples.astype(np.float32)
    if _takes(plugin, channels=2):
        out = plugin(sides, sample_rate)
    elif _takes(plugin, channels=1):
        out = np.concatenate([plugin(sides[place : place + 1], sample_rate) for place in range(2)])
    else:
        raise InputError(f"{path}: the plugin takes neither stereo nor mono")
    return out.astype(np.float64)


def plugin_stage(path: str, values: Mapping[str, Any], sample_rate: int) -> Plugin:
    """`process_by_plugin` for a sound that comes in blocks."""
    plugin = _set(path, values)
    if _takes(plugin, channels=2):
        return Plugin([_set(path, values)], sample_rate)
    if _takes(plugin, channels=1):
        return Plugin([_set(path, values), _set(path, values)], sample_rate)
    raise InputError(f"{path}: the plugin takes neither stereo nor mono")


def _set(path: str, values: Mapping[str, Any]) -> Any:
    plugin = _load(path)
    for name, value in values.items():
        setattr(plugin, name, value)
    return plugin


def _load(path: str) -> Any:
    if not os.path.exists(path):  # noqa: PTH110  (Path's raises for a name that is too long)
        raise InputError(f"{path}: there is no such plugin")
    flushed = bool(torch.tensor(SUBNORMAL) * 1 == 0)
    try:
        plugin: Any = pedalboard.load_plugin(path)
    except (ImportError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: can't be loaded as a plugin: {' '.join(str(error).split())}") from None
    finally:
        torch.set_flush_denormal(flushed)  # plugins built with fast maths change it for all that this thread computes
    if not plugin.is_effect:
        raise InputError(f"{path}: {plugin.name} is an instrument; an effect is needed")
    return plugin


def _takes(plugin: Any, *, channels: int) -> bool:
    try:
        plugin(np.zeros((channels, PROBE_SAMPLES), np.float32), PROBE_RATE_HZ)
    except ValueError:
        return False
    return True


def _declared(name: str, plugin: Any) -> Parameter:
    declared = plugin.parameters[name]
    current = getattr(plugin, name)
    if declared.type is float:
        low, high, _ = declared.range
        return Number(name, declared.units or "", low, high, current if math.isfinite(current) else None)
    return Choice(name, tuple(declared.valid_values), current)
