"""Proxies are read like arrays and leave nothing of themselves in memory."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from audio.proxy import Proxy


def in_memory_mb() -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1000


def test_its_slices_are_those_of_the_array(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    samples.tofile(tmp_path / "proxy")
    proxy = Proxy(tmp_path / "proxy")
    assert (len(proxy), proxy.shape) == (1000, (1000,))
    for part in (np.s_[:], np.s_[:7], np.s_[990:2000], np.s_[300:300], np.s_[500:20], np.s_[1000:], np.s_[-5:-1]):
        np.testing.assert_array_equal(proxy[part], samples[part])
    with pytest.raises(ValueError, match="in steps of 2"):
        proxy[::2]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the figures that Linux gives")
def test_what_was_read_does_not_stay_in_memory(tmp_path: Path) -> None:
    """80 MB, block by block; of a memory map all of it would count."""
    np.ones(20_000_000, np.float32).tofile(tmp_path / "proxy")
    proxy = Proxy(tmp_path / "proxy")
    before_mb = in_memory_mb()
    total = sum(float(proxy[start : start + 100_000].sum()) for start in range(0, len(proxy), 100_000))
    assert total == len(proxy)
    assert in_memory_mb() - before_mb < 10
