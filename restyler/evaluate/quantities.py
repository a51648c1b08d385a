"""What a measured number is called, its unit, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Quantity:
    """One column of the benchmark. what: one sentence for readers of the table."""

    name: str
    unit: str
    better: Literal["lower", "higher"]
    what: str
