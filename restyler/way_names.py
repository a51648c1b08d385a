"""Names of the ways of rendering (`restyler.ways`); apart from them, so that `--help` doesn't wait for torch."""

from __future__ import annotations

CODEC, RESIDUAL, TRANSFER = "codec", "residual", "transfer"
WAYS = (CODEC, RESIDUAL, TRANSFER)
DEFAULT_WAY = RESIDUAL
