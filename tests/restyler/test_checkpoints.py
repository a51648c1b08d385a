"""Checkpoints of a run: nothing that was announced is ever lost, and nothing damaged is ever gone on from."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.errors import InputError
from restyler.checkpoints import RunFolder

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # hundreds of saves: a disk takes its time with each
FILES = ["state.pt", "facts.json", "SHA256SUMS"]


def make_state(step: int, size: int = 8) -> dict[str, Any]:
    values = torch.arange(size, dtype=torch.float32) + step
    return {"weights": {"a": values, "b": values.to(torch.bfloat16)}, "step": step, "none": None, "pair": [1, 0.5]}


def assert_state_of(step: int, state: dict[str, Any] | None) -> None:
    assert state is not None
    expected = make_state(step, len(state["weights"]["a"]))
    assert state | {"weights": None} == expected | {"weights": None}
    for name, tensor in expected["weights"].items():
        assert torch.equal(state["weights"][name], tensor) and state["weights"][name].dtype == tensor.dtype


def names(run: RunFolder) -> list[str]:
    return sorted(path.name for path in run.checkpoints.iterdir())


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """With checkpoints of the steps 100 and 200."""
    folder = RunFolder(tmp_path / "run")
    for step in (100, 200):
        folder.save(step, make_state(step), keep=3, score=step / 1000)
    return folder


def test_what_was_saved_comes_back_and_sha256sum_agrees(run: RunFolder) -> None:
    newest, state, remarks = run.newest_intact(set_aside=True)
    assert (newest, remarks) == (run.checkpoints / "step_000200", [])
    assert_state_of(200, state)
    assert sorted(path.name for path in (run.checkpoints / "step_000200").iterdir()) == sorted(FILES)
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=newest, check=True)


def test_a_folder_without_checkpoints_has_none(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.newest_intact(set_aside=True) == (None, None, [])
    assert run.best() is None
    (run.checkpoints / "step_000100.unfinished").mkdir(parents=True)
    assert run.newest_intact(set_aside=True) == (None, None, [])


def test_a_loaded_state_is_ones_own(run: RunFolder) -> None:
    """It is mapped from the file: what is done to it must not reach the file, nor the file's end reach it."""
    newest, state, _ = run.newest_intact(set_aside=True)
    assert newest is not None and state is not None
    state["weights"]["a"].mul_(2)
    assert_state_of(200, run.newest_intact(set_aside=True)[1])
    shutil.rmtree(newest)
    assert torch.equal(state["weights"]["a"], 2 * make_state(200)["weights"]["a"])
    assert torch.equal(state["weights"]["b"], make_state(200)["weights"]["b"])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["flipped", "cut"])
def test_one_flipped_bit_or_a_missing_end_is_noticed(run: RunFolder, name: str, how: str) -> None:
    file = run.checkpoints / "step_000200" / name
    whole, before = file.read_bytes(), file.stat()
    for position in range(0, len(whole), 1 + len(whole) // 100):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        file.write_bytes(changed if how == "flipped" else whole[:position])
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # a disk that forgets does not tell when
        checkpoint, state, (remark,) = run.newest_intact(set_aside=False)
        assert checkpoint == run.checkpoints / "step_000100"
        assert_state_of(100, state)
        damaged = run.checkpoints / "step_000200"
        assert remark == f"{damaged}: damaged (its checksum does not fit), going back to step_000100"
        with pytest.raises(InputError, match=r"step_000200: the checkpoint can't be read: its checksum does not fit"):
            run.load(damaged)
    file.write_bytes(whole)
    assert_state_of(200, run.newest_intact(set_aside=False)[1])


@pytest.mark.parametrize("name", ["state.pt", "facts.json"])
def test_a_missing_file_is_noticed(run: RunFolder, name: str) -> None:
    (run.checkpoints / "step_000200" / name).unlink()
    checkpoint, _, (remark,) = run.newest_intact(set_aside=False)
    assert checkpoint == run.checkpoints / "step_000100"
    assert f"{name} can't be read: No such file" in remark


def test_a_checkpoint_under_another_steps_name_is_noticed(run: RunFolder) -> None:
    shutil.copytree(run.checkpoints / "step_000100", run.checkpoints / "step_000300")
    checkpoint, _, (remark,) = run.newest_intact(set_aside=False)
    assert checkpoint == run.checkpoints / "step_000200"
    assert "step_000300: damaged (it is the checkpoint of step 100)" in remark


def test_a_checkpoint_without_checksums_loads_or_is_passed_over(run: RunFolder) -> None:
    """Earlier versions wrote none."""
    for name in ("facts.json", "SHA256SUMS"):
        (run.checkpoints / "step_000200" / name).unlink()
    assert_state_of(200, run.newest_intact(set_aside=False)[1])
    assert run.best() == (run.checkpoints / "step_000100", 0.1)
    file = run.checkpoints / "step_000200" / "state.pt"
    whole = file.read_bytes()
    for length in range(0, len(whole), 1 + len(whole) // 50):
        file.write_bytes(whole[:length])
        checkpoint, state, (remark,) = run.newest_intact(set_aside=False)
        assert checkpoint == run.checkpoints / "step_000100"
        assert_state_of(100, state)
        assert "step_000200: damaged (it has no checksum, and state.pt can't be loaded: " in remark
        assert "\n" not in remark


def test_what_is_damaged_is_set_aside_as_it_is_and_its_step_can_be_saved_again(run: RunFolder) -> None:
    for name in ("step_000200.damaged", "step_000200.damaged2"):
        file = run.checkpoints / "step_000200" / "state.pt"
        broken = file.read_bytes()[: -len(name)]
        file.write_bytes(broken)
        assert "step_000200" in names(run)
        _, _, (remark,) = run.newest_intact(set_aside=True)
        assert remark.endswith(f"going back to step_000100 (kept as {name})")
        assert "step_000200" not in names(run)
        assert (run.checkpoints / name / "state.pt").read_bytes() == broken
        run.save(200, make_state(200), keep=3)
        assert_state_of(200, run.newest_intact(set_aside=True)[1])


def test_where_nothing_is_intact_all_is_named_and_nothing_touched(run: RunFolder) -> None:
    for step in (100, 200):
        (run.checkpoints / f"step_000{step}" / "state.pt").write_bytes(b"")
    with pytest.raises(InputError, match=r"every checkpoint is damaged: step_000200: .*; step_000100: ") as caught:
        run.newest_intact(set_aside=True)
    assert "\n" not in str(caught.value)
    assert names(run) == ["step_000100", "step_000200"]


def test_a_step_is_saved_once(run: RunFolder) -> None:
    with pytest.raises(ValueError, match="step_000200 is saved already"):
        run.save(200, make_state(1), keep=3)
    assert_state_of(200, run.newest_intact(set_aside=True)[1])


def test_of_equal_scores_the_earlier_is_best_and_what_is_no_number_is_none(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    for step, score in enumerate([None, float("nan"), 0.5, float("-inf"), 0.5]):
        run.save(step, {}, keep=9, score=score)
    assert run.best() == (run.checkpoints / "step_000002", 0.5)


SCORES = st.none() | st.integers(-3, 3).map(lambda number: number / 2)


@settings(max_examples=25, deadline=None)
@given(
    keep=st.integers(1, 3),
    saves=st.lists(
        st.tuples(SCORES, st.booleans(), st.sampled_from(["", "", "", "best", "any"]), st.randoms()), max_size=12
    ),
)
def test_the_newest_and_the_best_stay(keep: int, saves: list[tuple[float | None, bool, str, Any]]) -> None:
    """Against a model that remembers every checkpoint that is there, its score, and whether it is intact."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        run = RunFolder(Path(folder) / "run")
        scores: dict[int, float | None] = {}
        intact: set[int] = set()
        aside: set[int] = set()
        for step, (score, resumed, damage, random) in enumerate(saves, start=1):
            scored = sorted((value, at) for at, value in scores.items() if value is not None)
            victims = [at for _, at in scored[:1]] if damage == "best" else sorted(scores) if damage == "any" else []
            if victims:
                victim = random.choice(victims)
                (run.checkpoints / f"step_{victim:06d}" / "state.pt").write_bytes(b"")
                intact.discard(victim)
            if resumed:
                run = RunFolder(Path(folder) / "run")
            run.save(step, {"step": step}, keep=keep, score=score)
            scores[step] = score
            intact.add(step)
            best = None
            for value, at in sorted((value, at) for at, value in scores.items() if value is not None):
                if at in intact:
                    best = (run.checkpoints / f"step_{at:06d}", value)
                    break
                aside.add(at)
                del scores[at]
            stay = {*sorted(scores)[-keep:]} | ({int(best[0].name[-6:])} if best else set())
            scores = {at: value for at, value in scores.items() if at in stay}
            expected = {f"step_{at:06d}" for at in scores} | {f"step_{at:06d}.damaged" for at in aside}
            assert set(names(run)) == expected
            assert run.best() == best
            assert run.newest_intact(set_aside=False)[1] == {"step": step}


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond; Python ignores the signal, so that writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_refused_and_nothing_lost(run: RunFolder, reason: str, needed_mib: str) -> None:
    before = names(run)
    with pytest.raises(InputError) as caught:
        run.save(300, make_state(300, 200_000), keep=1, score=0.0)
    line = str(caught.value)
    assert line.startswith(f"{run.checkpoints / 'step_000300'}: the checkpoint can't be written: {reason} (")
    assert f"({needed_mib} MiB needed, " in line and " MiB free)" in line and "\n" not in line
    assert line.endswith(f"goes on from {run.checkpoints / 'step_000200'}")
    assert names(run) == before
    assert_state_of(200, run.newest_intact(set_aside=True)[1])
    assert run.best() == (run.checkpoints / "step_000100", 0.1)


def test_a_write_that_fails_anywhere_is_told_and_loses_nothing(run: RunFolder) -> None:
    with TemporaryDirectory() as folder:
        whole = RunFolder(Path(folder))
        whole.save(300, make_state(300, 200_000), keep=1)
        size = (whole.checkpoints / "step_000300" / "state.pt").stat().st_size
    for limit in [0, 1, 64, 1000, size // 3, size // 2, size - 1000, size - 1]:
        with largest_file(limit):
            assert_refused_and_nothing_lost(run, "File too large", f"{size / 2**20:.1f}")
    with largest_file(size):
        run.save(300, make_state(300, 200_000), keep=1, score=0.0)
    assert names(run) == ["step_000300"]


def test_the_first_checkpoint_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with largest_file(1000), pytest.raises(InputError, match=r"begins again: there is no earlier checkpoint$"):
        run.save(300, make_state(300, 200_000), keep=1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs mount")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs the right to mount a tmpfs: {error.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_told_and_loses_nothing(small_disk: Path) -> None:
    run = RunFolder(small_disk / "run")
    for step in (100, 200):
        run.save(step, make_state(step), keep=3, score=step / 1000)
    filler = small_disk / "filler"
    free = shutil.disk_usage(small_disk).free
    page = 4096
    for left in [0, page, 4 * page, 256 * page]:
        filler.write_bytes(bytes(free - left))
        assert shutil.disk_usage(small_disk).free == left
        assert_refused_and_nothing_lost(run, "No space left on device", "1.1")
    filler.unlink()
    run.save(300, make_state(300, 200_000), keep=1, score=0.0)
    assert names(run) == ["step_000300"]


SAVING = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from restyler.checkpoints import RunFolder

def save_for_ever(folder, first, announce):
    run, step = RunFolder(folder), first
    while True:
        state = {"step": step, "weights": torch.full((100_000,), float(step))}
        run.save(step, state, keep=1, score=float(-step % 5))
        os.write(announce, b"%d\\n" % step)
        step += 1

folder, random = Path(sys.argv[1]), random.Random(5)
first, torn = 1, 0
for attempt in range(20):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            save_for_ever(folder, first, write)
        finally:
            os._exit(1)
    os.close(write)
    announced = os.read(read, 20)
    time.sleep(random.uniform(0, 0.1))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    while more := os.read(read, 4096):
        announced += more
    os.close(read)
    last = int(announced.split()[-1])
    run = RunFolder(folder)
    names = sorted(path.name for path in run.checkpoints.iterdir())
    unfinished = [name for name in names if name.endswith(".unfinished")]
    torn += bool(unfinished)
    for name in set(names) - set(unfinished):
        assert (run.checkpoints / name / "SHA256SUMS").exists() and run.load(run.checkpoints / name)
    _, state, remarks = run.newest_intact(set_aside=True)
    assert remarks == [], remarks
    assert last <= state["step"] <= last + 1, (last, names)
    assert torch.equal(state["weights"], torch.full((100_000,), float(state["step"])))
    assert len(names) - len(unfinished) <= 3 and len(unfinished) <= 2, names  # newest, best, and one to be deleted
    assert run.best()[1] == (0 if state["step"] >= 5 else min(-step % 5 for step in range(1, state["step"] + 1)))
    first = state["step"] + 1
run.save(first, {}, keep=1)
assert not list(run.checkpoints.glob("*.unfinished"))
print(torn)
"""


def test_a_kill_at_any_moment_loses_nothing_that_was_announced() -> None:
    with TemporaryDirectory(dir=MEMORY) as folder:  # on a disk nearly all the time is fsync's, when all is written
        command = [sys.executable, "-c", SAVING, f"{folder}/run"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0  # some kills came in the midst of a save


def test_metrics_after_a_step_are_forgotten_and_torn_rows_dropped(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    rows = [{"step": step, "loss": 1 / (1 + step)} for step in range(6)]
    for row in rows:
        run.log(row)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'\0\xff{"step": 3, "lo\n')
    run.log(rows[2])
    run.forget_after(3)
    kept = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert kept == [*rows[:4], rows[2]]


def test_metrics_that_cannot_be_written_are_told_in_one_line(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.log({"step": 0})
    with largest_file(20), pytest.raises(InputError, match=r"metrics\.jsonl: can't be written: File too large$"):
        run.log({"step": 1, "loss": 0.5})
    run.forget_after(1)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 0}\n'
