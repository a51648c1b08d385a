"""One call of `restyler sample`, and after what it prints a line with its CPU seconds and the most memory that it held,
in MiB."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from restyler.sample import main

if __name__ == "__main__":
    code = main(sys.argv[1:])
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Not its ru_maxrss: a process that starts another hands its own to it.
    (highest,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    print(f"{used.ru_utime + used.ru_stime:.1f} {int(highest.split()[1]) / 1024:.1f}")
    sys.exit(code)
