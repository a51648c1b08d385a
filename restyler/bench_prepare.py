"""How fast `restyler prepare` is, against the bare codec on the same audio: what all the rest of it costs.

What is encoded counts alone: pauses that `prepare` leaves out don't make it quicker. Where the time went is told as
well: the start of processes, which takes much of a short set's time, takes no more of a long one's.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from restyler.command import Parser, command, integer

if TYPE_CHECKING:  # the processes that listen load this module too: what it needs is loaded where it is used
    from codec.base import LatentCodec
    from restyler.prepare.matching import Matched

TAKES = 8  # with three mixes each
CODECS = {
    "pocket": "codec={kind: pocket, path: bundled}",
    "encodec": "codec={kind: encodec_48khz, weights: random}",
}


@dataclass(frozen=True)
class Measured:
    """Seconds. encoded_s: of audio, in all segments' takes and mixes. bare_s: of the codec alone for as much audio.
    listening_s: until the last file is heard, with the start of the processes that do it. encoding_s: from then on
    until the last shard is there. whole_s: of `prepare`, with what comes before and after."""

    encoded_s: float
    bare_s: float
    listening_s: float
    encoding_s: float
    whole_s: float


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m restyler.bench_prepare", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=integer(2, 600), default=14, metavar="S", help="of each of 8 takes; 14")
    parser.add_argument("--codec", choices=list(CODECS), default=None, help="that one alone")
    options = parser.parse_args(argv)
    from audio.io import duration_s
    from restyler.config import SyntheticData
    from restyler.prepare.manifest import read_manifest
    from restyler.prepare.matching import Matched
    from restyler.synthetic import synthetic_pairs

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = SyntheticData(
            kind="synthetic", takes=TAKES, seconds=float(options.seconds), loudness_lufs=-18.0, cache=place
        )
        pairs = synthetic_pairs(data, seed=1, sample_rate=48_000)
        files = sorted({file for pair in pairs for file in (pair.raw, pair.mix)})
        audio_s = sum(map(duration_s, files))
        matched = Matched(read_manifest(pairs[0].raw.parents[1] / "pairs.jsonl"))
        print(f"\n{'preparing, hours of audio an hour':34} {len(files)} files, {audio_s / 60:.1f} min")
        for name in [options.codec] if options.codec else CODECS:
            found = measured(matched, files, folder / name, CODECS[name])
            own = found.encoded_s / found.bare_s
            share = f"{found.bare_s / found.whole_s:.0%} of the codec's own {own:.1f}"
            print(f"  {name:32} {found.encoded_s / found.whole_s:8.1f}   {share}")
            rest_s = found.whole_s - found.listening_s - found.encoding_s
            print(
                f"  {'':32} {found.whole_s:8.1f} s: listening {found.listening_s:.1f}, encoding {found.encoding_s:.1f}"
                f" ({found.bare_s / found.encoding_s:.0%}), the rest {rest_s:.1f}"
            )
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "restyler.prepare", "--help"], check=True, stdout=subprocess.DEVNULL)
    print(f"  {'start of the command, not counted':32} {time.perf_counter() - started:8.1f} s")
    return 0


def measured(matched: Matched, files: Sequence[Path], out: Path, override: str) -> Measured:
    """The codec alone, and `restyler prepare`; where its time goes is told by the times of the files that it writes."""
    from audio.io import duration_s
    from restyler.building import build_codec
    from restyler.prepare.config import load_prepare_config
    from restyler.prepare.running import RECORDS, prepare
    from restyler.shard_reading import read_dataset, read_shard_indices
    from restyler.storage import Storage

    config = load_prepare_config(None, [override])
    bare_s = encoding_s(build_codec(config.codec, seed=0), files)
    began, started = time.time(), time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        prepare(matched, out, config, workers=os.cpu_count() or 1)
    whole_s = time.perf_counter() - started
    heard, encoded = (
        max(path.stat().st_mtime for path in out.glob(pattern)) for pattern in (f"{RECORDS}/*.json", "*.tar")
    )
    storage = Storage(str(out))
    made = read_dataset(storage)
    indices = read_shard_indices(storage, made.shards.all())
    frames = sum(entry.frames * len(entry.offsets) for index in indices for entry in index.entries)
    encoded_s = frames / made.codec.frame_rate_hz
    bare_s *= encoded_s / sum(map(duration_s, files))
    return Measured(encoded_s, bare_s, heard - began, encoded - heard, whole_s)


def encoding_s(codec: LatentCodec, files: Sequence[Path]) -> float:
    """Seconds that the codec itself takes for the audio of all files, read beforehand, each in one call."""
    import torch

    from audio.io import read

    total = 0.0
    with torch.no_grad():
        for number, file in enumerate([files[0], *files]):
            samples = read(file).stereo().resampled(codec.sample_rate).samples[None]
            started = time.perf_counter()
            codec.encode_raw(samples)
            total += time.perf_counter() - started if number else 0.0  # the first time is to warm up
    return total


if __name__ == "__main__":
    sys.exit(main())
