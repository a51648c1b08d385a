"""Too little memory: told in one line with what to change, and how much fits is found out by trying."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "data.takes=8", "data.seconds=1.5", "denoiser.width=96", "denoiser.depth=4", "denoiser.heads=2",
    "training.crop_s=1.4", "training.reference_s=0.4", "training.precision=no", "training.steps=2",
    "validation.examples=1", "validation.takes=0",
]  # fmt: skip
SCRIPT = """
import resource, sys
from pathlib import Path
import torch
import restyler.training, restyler.limits
from restyler.train import main
torch.set_num_threads(1)
line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))
limit = int(line.split()[1]) * 1024 + int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(main(sys.argv[2:]))
"""


def limited(mib: int, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Trains where no more than mib MiB of memory can be had beside what the program itself needs."""
    command = [sys.executable, "-c", SCRIPT, str(mib), str(ROOT / "configs" / "tiny.yaml"), *SMALL, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow  # begins a training as large as what is allowed
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux holds a process to RLIMIT_AS")
def test_out_of_memory_is_told_with_what_to_change(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
    shared = [f"data.cache={tmp_path / 'cache'}", "training.batch_size=256"]
    failed = limited(800, [*shared, "--run-dir", str(tmp_path / "run")])
    assert failed.returncode == 2, failed.stderr
    (line,) = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert "out of memory; raise training.accumulation" in line


@pytest.mark.slow  # searches twice
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux holds a process to RLIMIT_AS")
def test_more_memory_holds_larger_parts(tmp_path: Path) -> None:
    shared = [f"data.cache={tmp_path / 'cache'}", "training.batch_size=256"]
    sizes = []
    for mib in (2400, 800):  # the first one encodes the takes too
        found = limited(mib, [*shared, "--find-batch-size"])
        assert found.returncode == 0, found.stderr
        sizes.append(int(found.stdout.split(" of 256 examples")[0].split()[-1]))
        (one,) = [line for line in found.stdout.splitlines() if line.endswith("for 1 process")]
        assert f"training.accumulation={256 // sizes[-1]} " in one
    assert 1 <= sizes[1] < sizes[0] <= 256
