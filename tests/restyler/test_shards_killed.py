"""Writing shards, killed: whatever the moment, what is there is whole, and the next run makes the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import os, signal, sys
from pathlib import Path
import numpy as np
from restyler.shards import Segment, finished_shard, remove_unfinished, write_shard

def segments(shard, count):
    for number in range(3):
        count()  # in the midst of a shard
        raw = np.full((200, 4), shard * 10 + number, np.float16)
        told = {"key": "m", "style": None, "chain": None, "controls": {"raw": {}, "mix": {}}}
        yield Segment(f"{shard}-{number}", raw, (raw + 1,), {"key": "k", "start_s": 0, "frames": 200, "mixes": [told]})

def run(folder, deadly):
    moments = 0

    def count(event="", arguments=()):
        nonlocal moments
        if not event or (event in ("open", "os.rename", "os.remove") and str(folder) in str(arguments[0])):
            moments += 1
            if moments == deadly:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    for shard in range(2):
        if not finished_shard(folder, f"train-{shard}"):
            write_shard(folder, f"train-{shard}", segments(shard, count), frame_rate_hz=100)
    remove_unfinished(folder)

def child(folder, deadly):
    if not (process := os.fork()):
        run(folder, deadly)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}

root = Path(sys.argv[1])
assert child(root / "0", 0) == 0
whole = content(root / "0")
for deadly in range(1, 100):
    if (code := child(root / str(deadly), deadly)) == 0:
        break
    assert code == -signal.SIGKILL, code
    left = content(root / str(deadly)) if (root / str(deadly)).exists() else {}
    for name in left:  # a tar file that is there is complete, and so is its index
        if name.endswith(".tar"):
            assert left[name] == whole[name] and left[name[:-3] + "json"] == whole[name[:-3] + "json"]
    assert child(root / str(deadly), 0) == 0
    assert content(root / str(deadly)) == whole
print(deadly - 1, *sorted(whole))
"""


def test_a_kill_at_any_moment_leaves_complete_shards_and_the_next_run_finishes_them(tmp_path: Path) -> None:
    """Real processes that end by SIGKILL when they open, rename or remove their nth file, or at their nth segment."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    moments, *names = done.stdout.split()
    assert 20 < int(moments) < 99
    assert names == ["train-0.json", "train-0.tar", "train-1.json", "train-1.tar"]
