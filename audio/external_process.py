"""A program of other makers as a pipe: float32 frames in at stdin, float32 frames out at stdout, in bounded memory.

No shell is between: a program gets a list of arguments. Its output and what it says on stderr are read by threads of
their own, so that neither side can wait for the other for ever.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from audio.errors import InputError

PATIENCE_S = 60.0  # how long a program may take for one block, and for its end
READ_BYTES = 1 << 16
KEPT_LINES = 20  # of stderr
LONGEST_LINE_BYTES = 300  # of those: what is longer is cut, however it floods
BYTES_A_SAMPLE = 4
MOST_AHEAD_FRAMES = 1 << 25  # beyond what it was given: a program that never ends is stopped before memory is full


class Pipe:
    """One running program. name: for messages.

    arguments: the program and its arguments; it reads `channels` interleaved and writes `outputs` of them.
    """

    def __init__(
        self, arguments: Sequence[str], *, name: str, channels: int, outputs: int, patience_s: float = PATIENCE_S
    ) -> None:
        self._name, self._outputs, self._patience_s = name, outputs, patience_s
        self._late = False
        self._given_frames = self._came_bytes = 0
        self._came: deque[bytes] = deque()
        self._rest = b""
        self._said: deque[str] = deque(maxlen=KEPT_LINES)
        self.channels = channels
        try:
            self.process = subprocess.Popen(
                list(arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                # A group of its own: Ctrl-C is ours to answer, and all that it may have started ends with it.
                process_group=0,
            )
        except OSError as error:
            raise InputError(f"{name}: {arguments[0]} can't be started: {error.strerror}") from None
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._read, self._listen)]
        for thread in self._threads:
            thread.start()

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """[channels n] → [outputs m] float32, what has come by now; how much that is does not depend on us.

        Raises InputError, in the program's own words, where it has ended or takes longer than its patience.
        """
        if not samples.shape[1]:
            return self._taken()
        self._given_frames += samples.shape[1]
        data = memoryview(samples.T.astype(np.float32).tobytes())
        assert self.process.stdin is not None
        with self._watched():
            try:
                while data:
                    data = data[self.process.stdin.write(data) or 0 :]
            except OSError:  # it has ended: `finish` says why
                self._raise_ended(early=True)
        return self._taken()

    def finish(self) -> np.ndarray:
        """The rest. Raises InputError where the program fails, is killed, or does not end."""
        assert self.process.stdin is not None
        with self._watched():
            with contextlib.suppress(OSError):
                self.process.stdin.close()
            for thread in self._threads:
                thread.join()
            self.process.wait()
        if self.process.returncode or self._late:
            self._raise_ended(early=False)
        if self._came_bytes % (self._outputs * BYTES_A_SAMPLE):
            raise InputError(f"{self._name}: gives other channels than {self._outputs}")
        clipped = [line for line in self._said if "clipped" in line]
        if clipped:
            raise InputError(f"{self._name}: clips ({clipped[0]}); put a gain before it")
        return self._taken()

    def close(self) -> None:
        """Ends the program where it still runs, and everything that belongs to it."""
        self._kill()
        for thread in self._threads:
            thread.join()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()

    def _taken(self) -> np.ndarray:
        parts = [self._rest]
        while self._came:
            parts.append(self._came.popleft())
        data = b"".join(parts)
        whole = len(data) // (self._outputs * BYTES_A_SAMPLE) * self._outputs * BYTES_A_SAMPLE
        self._rest = data[whole:]
        return np.frombuffer(data[:whole], np.float32).reshape(-1, self._outputs).T

    def _read(self) -> None:
        assert self.process.stdout is not None
        frame_bytes = self._outputs * BYTES_A_SAMPLE
        while data := self.process.stdout.read(READ_BYTES):
            self._came.append(data)
            self._came_bytes += len(data)
            if self._came_bytes // frame_bytes > self._given_frames + MOST_AHEAD_FRAMES:
                self._said.append("it does not stop giving sound")
                self._kill()
                return

    def _listen(self) -> None:
        assert self.process.stderr is not None
        begun, cut = b"", False  # what of a line there is; whether its rest is passed over
        while data := self.process.stderr.read(READ_BYTES):
            for piece in data.splitlines(keepends=True):
                begun += b"" if cut else piece[:LONGEST_LINE_BYTES]
                cut = len(begun) >= LONGEST_LINE_BYTES
                if piece.endswith((b"\n", b"\r")):
                    self._say(begun)
                    begun, cut = b"", False
        self._say(begun)

    def _say(self, line: bytes) -> None:
        text = " ".join(line[:LONGEST_LINE_BYTES].decode(errors="replace").split())
        if text:
            self._said.append(text)

    def _kill(self) -> None:
        """The program and what it started. It is not waited for."""
        if self.process.returncode is None:  # else its number may be another's by now
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Stops the program, and so whatever waits for it, where it takes longer than its patience."""
        watch = threading.Timer(self._patience_s, self._stop)
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:
            watch.cancel()
            watch.join()

    def _stop(self) -> None:
        self._late = True
        self._kill()

    def _raise_ended(self, *, early: bool) -> None:
        for thread in self._threads:
            thread.join()
        code = self.process.wait()
        if self._late:
            raise InputError(f"{self._name}: no answer within {self._patience_s:g} s; it was stopped")
        how = f"was killed (signal {-code})" if code < 0 else f"failed (exit code {code})"
        if early and code == 0:
            how = "ended before the sound did"
        raise InputError(f"{self._name}: {how}" + (f": {self._said[0]}" if self._said else ""))
