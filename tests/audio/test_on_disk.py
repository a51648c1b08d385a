"""Long tensors on disk: what they hold stays while their memory goes, and nothing is left of them."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio.encoding import encode
from audio.errors import InputError
from audio.io import read, require_signal, write
from audio.loudness import match_loudness, true_peak_db
from audio.on_disk import PART_SAMPLES, empty, existing, kept_in, let_go, parts, zeros
from audio.waveform import Waveform
from restyler.encoded import levelled
from restyler.strength import at_strength

MIB = 1 << 20
LONG = 96 * MIB // 4  # numbers


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def open_files_without_a_name() -> int:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the listing itself has gone
            found.append(str(entry.readlink()))
    return sum(name.endswith("(deleted)") for name in found)


def test_what_is_let_go_takes_no_memory_and_stays(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).standard_normal(PART_SAMPLES).astype(np.float32)
    with kept_in(tmp_path):
        tensor = empty(2, LONG // 2)
        before = resident_bytes()
        for number, part in enumerate(parts(tensor)):
            tensor[:, part] = number + torch.from_numpy(numbers)[: part.stop - part.start]
            assert resident_bytes() - before < 12 * MIB
        assert resident_bytes() - before < 12 * MIB
        view = tensor[1:].numpy()[0, ::-1]
        assert np.array_equal(view[::-1][PART_SAMPLES : 2 * PART_SAMPLES], 1 + numbers)
        tensor.sum()
        assert resident_bytes() - before > 80 * MIB
        let_go(view)  # any view of it, from torch or numpy
        assert resident_bytes() - before < 12 * MIB


def test_what_is_in_memory_is_never_touched(tmp_path: Path) -> None:
    """Outside of `kept_in`, other kinds of numbers, and nothing at all."""
    plain = empty(3, 1000).fill_(2.0)
    with kept_in(tmp_path):
        double = empty(3, 1000, like=plain.double()).fill_(2.0)
        assert empty(0, 5).shape == (0, 5)
        assert zeros(2, 3).tolist() == [[0.0] * 3] * 2 == zeros(2, 3, like=double).tolist()
        let_go(plain, double, np.arange(3), empty(2, 0))
    assert double.dtype == torch.float64
    assert bool((plain == 2).all()) and bool((double == 2).all())
    assert zeros(2, 3).tolist() == [[0.0] * 3] * 2


def test_files_have_no_name_and_go_with_their_tensors_and_their_process(tmp_path: Path) -> None:
    before = open_files_without_a_name()
    with kept_in(tmp_path):
        tensor = zeros(LONG)
        assert open_files_without_a_name() == before + 1 and list(tmp_path.iterdir()) == []
        view = tensor[5:]
        del tensor
        view[0] = 3.0
        assert open_files_without_a_name() == before + 1 and float(view[0]) == 3
        del view
        assert open_files_without_a_name() == before
        ready, tell = os.pipe()
        child = os.fork()
        if child == 0:
            held = zeros(LONG)
            held.fill_(1.0)
            os.write(tell, b"!")
            signal.pause()
        assert os.read(ready, 1) == b"!"
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        for end in (ready, tell):
            os.close(end)
    assert list(tmp_path.iterdir()) == []


def test_a_tensor_outlives_the_block_that_made_it_and_a_block_inside_another(tmp_path: Path) -> None:
    before = open_files_without_a_name()
    with kept_in(tmp_path):
        with kept_in(tmp_path):
            inner = empty(LONG // 8).fill_(2.0)
        outer = empty(LONG // 8).fill_(3.0)
        assert open_files_without_a_name() == before + 2
    plain = empty(LONG // 8)
    assert open_files_without_a_name() == before + 2
    let_go(inner, outer, plain)
    assert bool((inner == 2).all()) and bool((outer == 3).all())
    del inner, outer
    assert open_files_without_a_name() == before


def test_threads_make_and_let_go_at_once(tmp_path: Path) -> None:
    def work(number: int) -> bool:
        with kept_in(tmp_path):  # a thread has its own
            for _ in range(200):
                tensor = empty(5000).fill_(number)
                let_go(tensor)
                if not bool((tensor == number).all()):
                    return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(16)))


def test_no_step_from_file_to_file_holds_a_copy_of_a_long_take(tmp_path: Path) -> None:
    """Each alone, by the kernel's count of its peak: in a whole call the highest of all steps would hide the others."""
    frames = {"short.wav": 4 * PART_SAMPLES, "long.wav": LONG // 4}
    for name, count in frames.items():
        with soundfile.SoundFile(tmp_path / name, "w", 48_000, 1, "PCM_16") as file:
            file.write([0.9])  # a click, so that there is one place only to look for the true peak
            for start in range(1, count, PART_SAMPLES):
                file.write(np.resize([0.1, -0.1, 0.2, -0.2, 0.0], min(PART_SAMPLES, count - start)))

    def steps(name: str) -> Iterator[None]:
        take = read(tmp_path / name)
        yield
        require_signal(take, name)
        yield
        level = levelled(take, 0.5, 1000)
        yield
        matched = match_loudness(level, -20.0)
        yield
        at_strength(level, matched.waveform, 0.5)
        yield
        write(tmp_path / f"mix_{name}", matched.waveform, tags={})
        yield

    def peaks_mib(name: str) -> list[float]:
        found, work = list[float](), steps(name)
        while True:
            Path("/proc/self/clear_refs").write_text("5")  # the kernel counts the peak anew
            before = resident_bytes()
            if next(work, "the end"):
                return found
            status = Path("/proc/self/status").read_text().splitlines()
            (peak,) = (line for line in status if line.startswith("VmHWM:"))
            found.append(int(peak.split()[1]) / 1024 - before / MIB)

    with kept_in(tmp_path):
        peaks_mib("short.wav")
        short, long = peaks_mib("short.wav"), peaks_mib("long.wav")
    assert len(long) == 6
    for few, many in zip(short, long, strict=True):
        assert many - few < 12, (short, long)  # a copy: 24 MiB


def test_a_full_disk_shows_before_anything_is_computed(tmp_path: Path) -> None:
    """It is full for a process that may not write files of more than a MiB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, limits[1]))
    try:
        with kept_in(tmp_path), pytest.raises(InputError, match=r"cannot hold 96 MiB of temporary files: .*TMPDIR"):
            empty(LONG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_tmpdir_is_where_files_go_if_it_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    with kept_in(tmp_path), pytest.raises(InputError, match=r"absent: cannot hold .* No such file"):
        empty(5)
    monkeypatch.setenv("TMPDIR", "")
    with kept_in(Path("/proc/there/not")), pytest.raises(InputError, match="there/not: cannot hold"):
        empty(5)


def test_a_folder_to_be_made_lies_where_its_nearest_parent_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    assert existing(tmp_path) == tmp_path
    for folder in ("new/newer", str(tmp_path / "file" / "new"), "n" * 300 + "/new"):
        assert existing(Path(folder)).resolve() == tmp_path.resolve()


@pytest.mark.parametrize(("rate", "samples"), [(48_000, 600_001), (44_100, 600_001), (44_099, 150_001)])
def test_sound_on_disk_is_sound_in_memory(rate: int, samples: int, tmp_path: Path) -> None:
    """Bit by bit, through reading, resampling, levels and writing; longer than the parts that they work in."""
    noise = torch.randn(2, samples, generator=torch.Generator().manual_seed(rate)) * 0.05
    write(tmp_path / "take.flac", Waveform(noise, rate), tags={})

    def through(name: str) -> tuple[bytes, float, torch.Tensor]:
        take = read(tmp_path / "take.flac").resampled(48_000)
        matched = match_loudness(take, -20.0)
        write(tmp_path / name, matched.waveform, tags={})
        return (tmp_path / name).read_bytes(), true_peak_db(take), matched.waveform.samples

    in_memory = through("memory.wav")
    with kept_in(tmp_path):
        on_disk = through("disk.wav")
        assert on_disk[:2] == in_memory[:2]
        assert torch.equal(on_disk[2], in_memory[2])


def test_an_encoder_tells_of_a_full_disk() -> None:
    """libsndfile does not; /dev/full takes nothing."""
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space"):
        encode(full, [np.zeros((1, 1000))], sample_rate=48_000, channels=1, kind="WAV", comment="{}")
