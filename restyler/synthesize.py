"""`restyler synthesize`: pairs of raw take and mix, rendered from dry voices through the effect chains of presets."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from audio import io
from audio.effects import EffectChain, render
from audio.errors import InputError
from audio.loudness import integrated_loudness_lufs, true_peak_db
from audio.presets import read_presets, training_names
from audio.styles import find_styles
from audio.waveform import Waveform
from restyler.command import Parser, command, integer, number
from restyler.phrases import Phrase, find_recordings, plan_phrases, read_phrase

SAMPLE_RATE_HZ = 48000
LOUDNESS_LUFS = -18.0
# The presets were fitted to takes of −18 LUFS measured as one channel; the loudness of a mono take counts it twice.
FED_LUFS = -18.0 + 10 * math.log10(2)
PEAK_DB = -1.0
TAIL_S = 1.0
STYLES = 7

Row = dict[str, Any]


@dataclass(frozen=True)
class Take:
    """One raw take with the chains to render it with: (preset name, style, chain) each."""

    phrase: Phrase
    chains: tuple[tuple[str, str, EffectChain], ...]
    seed: int


def plan_takes(phrases: Sequence[Phrase], presets: Path, *, mixes_per_take: int, seed: int) -> list[Take]:
    """Deal the presets out evenly: those to train on to training and validation takes, the held-out ones to tests.

    Raises InputError where a take or the styles would need more presets, or more different ones, than there are.
    """
    chains = read_presets(presets)
    trained = training_names(presets, list(chains))
    pools = {False: trained, True: sorted(chains.keys() - set(trained))}
    try:
        styles = find_styles([chains[name] for name in trained], count=STYLES)
    except ValueError as error:
        raise InputError(f"{presets}: of the presets to train on, {error}") from error
    random = np.random.default_rng(seed)
    decks: dict[bool, list[str]] = {False: [], True: []}
    takes = []
    for phrase in phrases:
        is_test = phrase.split == "test"
        if mixes_per_take > len(pools[is_test]):
            raise InputError(
                f"{presets}: {len(pools[is_test])} presets for the {phrase.split} split are too few for"
                f" {mixes_per_take} mixes of a take"
            )
        hand: list[str] = []
        deck = decks[is_test]
        while len(hand) < mixes_per_take:
            free = [card for card in deck if card not in hand]
            if free:
                deck.remove(free[0])
                hand.append(free[0])
            else:
                deck += [pools[is_test][index] for index in random.permutation(len(pools[is_test]))]
        takes.append(Take(phrase, tuple((name, styles.of(chains[name]), chains[name]) for name in hand), seed))
    return takes


def synthesize_take(take: Take, out: Path) -> list[Row]:
    """Render and write one raw take and its mixes; their rows of pairs.jsonl. A silent take has none.

    Raw take (doubled to stereo) and mixes come out at −18 LUFS; where the true peak of one would pass −1 dBTP, all of
    them are lowered by one gain.
    """
    silence = torch.zeros(1, round(TAIL_S * SAMPLE_RATE_HZ))
    phrase = take.phrase
    source = Waveform(torch.cat([read_phrase(phrase, SAMPLE_RATE_HZ).samples, silence], dim=1), SAMPLE_RATE_HZ)
    source_lufs = integrated_loudness_lufs(source)
    if source_lufs == -math.inf:
        return []
    fed = _amplified(source, FED_LUFS - source_lufs)
    mixes = [render(chain, fed, seed=_seed(take, name)) for name, _, chain in take.chains]
    gains_db = [LOUDNESS_LUFS - integrated_loudness_lufs(side) for side in (source, *mixes)]
    peaks_db = [true_peak_db(side) + gain_db for side, gain_db in zip((source, *mixes), gains_db, strict=True)]
    safety_db = min(0.0, PEAK_DB - max(peaks_db))
    raw_gain_db, *mix_gains_db = (gain_db + safety_db for gain_db in gains_db)
    raw_name = f"raw/{phrase.key}.flac"
    io.write(out / raw_name, _amplified(source, raw_gain_db), tags={"singer": phrase.singer})
    rows = []
    for (name, style, _), mix, mix_gain_db in zip(take.chains, mixes, mix_gains_db, strict=True):
        mix_name = f"mix/{phrase.key}__{name}.flac"
        io.write(out / mix_name, _amplified(mix, mix_gain_db), tags={"singer": phrase.singer, "chain": name})
        rows.append(
            {
                "key": phrase.key,
                "raw": raw_name,
                "mix": mix_name,
                "song": phrase.song,
                "singer": phrase.singer,
                "style": style,
                "chain": name,
                "split": phrase.split,
                "raw_gain_db": round(raw_gain_db, 3),
                "mix_gain_db": round(mix_gain_db, 3),
            }
        )
    return rows


def _seed(take: Take, preset: str) -> int:
    return zlib.crc32(f"{take.seed}/{take.phrase.key}/{preset}".encode())


def _amplified(waveform: Waveform, gain_db: float) -> Waveform:
    return Waveform(waveform.samples * 10 ** (gain_db / 20), waveform.sample_rate)


def synthesize(takes: Sequence[Take], out: Path, settings: dict[str, Any], *, workers: int) -> list[Row]:
    """Render all takes into `out` and write its pairs.jsonl; the rows of it.

    synthesis.json keeps the settings and synthesis.jsonl the takes that are finished: after an interruption the same
    command goes on where it was. Raises InputError for a folder with anything else in it.
    """
    plan, log = out / "synthesis.json", out / "synthesis.jsonl"
    wanted = json.dumps(settings, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if plan.exists():
        if plan.read_text(encoding="utf-8") != wanted:
            raise InputError(f"{out}: holds pairs made from other voices or with other settings (see {plan.name})")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: not a new or empty folder, and not one that this command began to fill")
    for folder in ("raw", "mix"):
        io.make_folder(out / folder)
    io.write_text_atomic(plan, wanted)
    done = _finished(log, out)
    waiting = [take for take in takes if take.phrase.key not in done]
    with log.open("a", encoding="utf-8") as sink:
        for key, rows in tqdm(_rendered(waiting, out, workers), total=len(waiting), unit="take", desc="synthesize"):
            done[key] = rows
            sink.write(json.dumps({"key": key, "rows": rows}, ensure_ascii=False) + "\n")
            sink.flush()
    rows = [row for take in takes for row in done[take.phrase.key]]
    io.write_text_atomic(out / "pairs.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return rows


def _finished(log: Path, out: Path) -> dict[str, list[Row]]:
    """Rows of the takes whose files are all there, by key; a last line that was cut off does not count."""
    done: dict[str, list[Row]] = {}
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.exists() else []
    for line in lines:
        if line.endswith("\n"):
            entry = json.loads(line)
            if all((out / row[side]).exists() for row in entry["rows"] for side in ("raw", "mix")):
                done[entry["key"]] = entry["rows"]
    if lines and not lines[-1].endswith("\n"):
        io.write_text_atomic(log, "".join(lines[:-1]))
    return done


def _rendered(takes: Sequence[Take], out: Path, workers: int) -> Iterator[tuple[str, list[Row]]]:
    """(key, rows) of each take as it is finished, in any order; one worker is this process."""
    if workers == 1:
        for take in takes:
            yield take.phrase.key, synthesize_take(take, out)
        return
    # Spawned, as a fork of a process in which PyTorch has started threads may hang.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = {pool.submit(synthesize_take, take, out): take.phrase.key for take in takes}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:  # of what waits after an error or an interruption
            pool.shutdown(cancel_futures=True)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    parser = Parser(prog="restyler synthesize", description="Make pairs of raw take and mix from dry voices.")
    parser.add_argument("voices", nargs="+", type=Path, metavar="VOICES", help="folders or files of dry voices")
    parser.add_argument("--presets", type=Path, required=True, help="decoded.csv of a folder of DiffVox presets")
    parser.add_argument("--out", type=Path, required=True, metavar="PAIRS", help="new folder, or one to go on with")
    parser.add_argument(
        "--manifest",
        type=Path,
        help="table (tabs) with the columns file and singer; without it a file's folder is its singer",
    )
    parser.add_argument("--mixes-per-take", type=integer(1, 100), default=4)
    parser.add_argument(
        "--passes",
        type=integer(1, 100),
        default=1,
        help="how often each voice is used, each time joined and shifted otherwise",
    )
    parser.add_argument(
        "--shift-probability",
        type=number(0, 1),
        default=0.5,
        help="of playing a take, pitch and formants, up to 2 semitones higher or lower",
    )
    parser.add_argument(
        "--test-only",
        action="store_true",
        help="put everything into the test split, with the presets that are held out: for singers never trained on",
    )
    parser.add_argument("--seed", type=integer(0, 2**31 - 1), default=0)
    parser.add_argument("--workers", type=integer(1, 256), default=2, help="processes; the pairs do not depend on it")
    options = parser.parse_args(argv)
    recordings = find_recordings(options.voices, options.manifest, test_only=options.test_only)
    phrases = plan_phrases(
        recordings, passes=options.passes, shift_probability=options.shift_probability, seed=options.seed
    )
    takes = plan_takes(phrases, options.presets, mixes_per_take=options.mixes_per_take, seed=options.seed)
    settings = {
        "recordings": [[recording.path.name, recording.singer, recording.duration_s] for recording in recordings],
        "chains_crc32": zlib.crc32(repr([take.chains for take in takes]).encode()),
        "mixes_per_take": options.mixes_per_take,
        "passes": options.passes,
        "shift_probability": options.shift_probability,
        "test_only": options.test_only,
        "seed": options.seed,
    }
    rows = synthesize(takes, options.out, settings, workers=options.workers)
    silent = len(takes) - len({row["key"] for row in rows})
    print(f"{len(rows)} pairs in {options.out}" + (f"; {silent} silent takes left out" if silent else ""))
    return 0
