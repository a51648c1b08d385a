"""Waveforms: files, loudness and true peak, effects, measured features, a singing voice to test with.

The two names that every other package needs are here; the rest is imported from its module, so that a script
which only reads a file does not load filters and effects.
"""

from typing import TYPE_CHECKING, Any

from audio.errors import InputError

if TYPE_CHECKING:
    from audio.waveform import Waveform

__all__ = ["InputError", "Waveform"]


def __getattr__(name: str) -> Any:
    """Waveform when it is asked for: it brings torch, for which a command that refuses an option need not wait."""
    if name != "Waveform":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from audio.waveform import Waveform

    return Waveform
