"""Waveforms: files, loudness and true peak, effects, measured features, a singing voice to test with.

The two names that every other package needs are here; the rest is imported from its module, so that a script
which only reads a file does not load filters and effects.
"""

from audio.errors import InputError
from audio.waveform import Waveform

__all__ = ["InputError", "Waveform"]
