"""Programs that fail, hang or are missing, and values that would be something else than values."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from audio.errors import InputError
from audio.external import external, external_part
from audio.external_ffmpeg import escaped
from audio.external_process import Pipe
from audio.parts import ProgramStep, render
from audio.waveform import Waveform

SOUND = Waveform(0.1 * torch.ones(2, 4800), 48000)


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    external.cache_clear()


def needs(name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}")


@pytest.mark.parametrize(
    "text",
    ["x;anullsink", "x,volume=0", "x'", "[in]x[out]", "-y", "x:dumpfile=stolen", "a\\", "\\'", "stereo|c0=c0,volume=0"],
)
def test_a_hostile_value_stays_a_value(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg must speak of exactly this text, as one that is no channel layout, and do nothing else."""
    needs("ffmpeg")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="pan: failed") as told:
        render([ProgramStep("ffmpeg", {"args": text}, None, "pan")], SOUND)
    assert "\n" not in str(told.value) and not list(tmp_path.iterdir())


def test_ffmpeg_reads_an_escaped_text_as_it_was() -> None:
    needs("ffmpeg")
    for text in ("a:b", "it's", "[x],;y", "back\\slash", "-y", "a\\\\:'[]"):
        with pytest.raises(InputError) as told:
            render([ProgramStep("ffmpeg", {"args": text + "|c0=c0"}, None, "pan")], SOUND)
        assert f"'{text}'" in str(told.value), escaped(text)


@pytest.mark.parametrize("text", ["two\nlines", "nul\0", "\x1b[31m", ""])
def test_what_does_not_print_is_no_value(text: str) -> None:
    needs("ffmpeg")
    with pytest.raises(ValueError, match="args is a text of one line"):
        external_part("ffmpeg", "pan", None).checked({"args": text})


def test_a_number_can_be_no_option() -> None:
    needs("sox")
    with pytest.raises(ValueError, match="frequency_hz lies within"):
        external_part("sox", "highpass", None).checked({"frequency_hz": -1})
    with pytest.raises(ValueError, match="frequency_hz lies within"):
        external_part("sox", "highpass", None).checked({"frequency_hz": "--effects-file=x"})


@pytest.mark.parametrize("name", ["amovie", "ametadata", "asendcmd", "azmq", "atempo", "volume,amovie=x", "-i"])
def test_filters_that_touch_files_sockets_or_time_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="no filter that works on sound alone is called"):
        external("ffmpeg", name, None)


@pytest.mark.parametrize(("name", "values"), [("loudnorm", {}), ("rubberband", {"tempo": 2.0})])
def test_a_filter_that_changes_rate_or_length_is_refused(name: str, values: dict) -> None:
    needs("ffmpeg")
    with pytest.raises(InputError, match=f"{name}: gives .* neither rate, channels nor length"):
        render([ProgramStep("ffmpeg", values, None, name)], SOUND)


@pytest.mark.parametrize(
    ("kind", "named", "program"), [("ffmpeg", "volume", "ffmpeg"), ("sox", "reverb", "sox"), ("lv2", "u:x", "ffmpeg")]
)
def test_a_missing_program_is_named_with_how_to_install_it(
    kind: str, named: str, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=f"^{program} is not installed .*apt install {program}"):
        external(kind, named, None)


def test_a_missing_plugin_is_named(tmp_path: Path) -> None:
    needs("ffmpeg")
    with pytest.raises(InputError, match=r"none\.so: there is no such LADSPA library"):
        external("ladspa", None, str(tmp_path / "none.so"))
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(InputError, match=r"text\.so: can't be loaded as a LADSPA library"):
        external("ladspa", None, str(tmp_path / "text.so"))
    needs("lv2info")
    with pytest.raises(InputError, match="urn:none: no such LV2 plugin is installed"):
        external("lv2", "urn:none", None)


def pipe(code: str, *, patience_s: float = 30.0) -> Pipe:
    """A real process of its own: Python instead of a program of sound."""
    return Pipe([sys.executable, "-S", "-c", code], name="part", channels=2, outputs=2, patience_s=patience_s)


COPY = "import sys, shutil; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"


def test_what_is_fed_comes_back_however_much_it_says_on_stderr() -> None:
    loud = "import sys\nfor _ in range(20000): print('x' * 100, file=sys.stderr)\n" + COPY
    fed = np.random.default_rng(0).standard_normal((2, 500_000)).astype(np.float32)
    running = pipe(loud)
    blocks = [running.feed(fed[:, at : at + 100_000]) for at in range(0, 500_000, 100_000)]
    np.testing.assert_array_equal(np.concatenate([*blocks, running.finish()], axis=1), fed)
    running.close()


def feed_much(running: Pipe) -> None:
    for _ in range(20):
        running.feed(np.zeros((2, 100_000)))
    running.finish()


def test_a_killed_program_is_told() -> None:
    running = pipe(COPY)
    running.feed(np.zeros((2, 1000)))
    os.kill(running.process.pid, signal.SIGKILL)
    with pytest.raises(InputError, match=r"part: was killed \(signal 9\)"):
        feed_much(running)
    running.close()


@pytest.mark.parametrize("code", ["import time; time.sleep(60)", COPY + "; import time; time.sleep(60)"])
def test_a_program_that_hangs_is_stopped(code: str) -> None:
    running = pipe(code, patience_s=0.7)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"part: no answer within 0\.7 s"):
        feed_much(running)
    assert time.monotonic() - began < 20
    running.close()
    assert running.process.poll() is not None


def test_a_program_that_fails_says_why_and_leaves_no_thread() -> None:
    before = threading.active_count()
    running = pipe("import sys; print('because', file=sys.stderr); sys.exit(3)")
    with pytest.raises(InputError, match=r"part: failed \(exit code 3\): because"):
        running.finish()
    running.close()
    assert threading.active_count() == before


def test_a_flood_without_an_end_of_line_takes_no_memory() -> None:
    flood = "import sys\nfor _ in range(120): sys.stderr.write('x' * 1_000_000)\n" + COPY
    running, fed = pipe(flood), np.ones((2, 1000), np.float32)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    np.testing.assert_array_equal(np.concatenate([running.feed(fed), running.finish()], axis=1), fed)
    running.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib < 60_000


def test_what_a_program_started_ends_with_it(tmp_path: Path) -> None:
    """A grandchild that keeps the pipes open would be waited for for ever."""
    child = f"import time, os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    running = pipe(f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {child!r}])", patience_s=1.5)
    with pytest.raises(InputError, match=r"no answer within 1\.5 s"):
        running.finish()
    running.close()
    assert has_ended(int((tmp_path / "pid").read_text()))


OWNER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job, and all below it, ignores
import numpy as np
from audio.external_process import Pipe
running = Pipe([sys.executable, "-S", "-c", sys.argv[1]], name="part", channels=2, outputs=2)
running.feed(np.zeros((2, 1000)))
try:
    print(running.process.pid, flush=True)
    running.finish()
except KeyboardInterrupt:
    running.close()
    sys.exit(130)
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_no_program_is_left_when_its_owner_ends(sign: signal.Signals) -> None:
    """Ctrl-C reaches all of a terminal's group: the owner answers it, and the program has not failed before."""
    code = "import sys, time\nwhile data := sys.stdin.buffer.read(8000): sys.stdout.buffer.write(data)\n"
    slow = code + ("time.sleep(60)" if sign == signal.SIGINT else "")
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, slow], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert owner.stdout is not None
    program = int(owner.stdout.readline())
    os.killpg(owner.pid, sign)
    assert owner.wait(20) == (130 if sign == signal.SIGINT else -9)
    owner.stdout.close()
    assert has_ended(program)


def has_ended(pid: int) -> bool:
    """Whether a process that is no child of ours ends within a second or two."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" in status.read_text()  # ended, where nobody collects orphans
