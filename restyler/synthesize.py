"""`restyler synthesize`: pairs of raw take and mix, rendered from dry voices through effect chains."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from audio import io
from audio.errors import InputError
from audio.loudness import integrated_loudness_lufs, true_peak_db
from audio.parts import PARTS, described, render
from audio.parts_kinds import unknown
from audio.parts_plugin import plugin_part
from audio.pitch_shift import MAX_SEMITONES, shift_pitch
from audio.waveform import Waveform
from restyler.chain_settings import Rendered, settings_text
from restyler.chains import read_chains
from restyler.command import Parser, command, integer, number, printing
from restyler.phrases import find_recordings, plan_phrases, read_phrase
from restyler.synthesis_plan import (
    Augmentation,
    Mix,
    Take,
    augmented,
    mixes_crc32,
    plan_chain_takes,
    plan_preset_takes,
)
from restyler.takes import refuse_foreign
from restyler.worker_pool import worker_pool

SAMPLE_RATE_HZ = 48000
LOUDNESS_LUFS = -18.0
# The presets were fitted to takes of −18 LUFS measured as one channel; the loudness of a mono take counts it twice.
FED_LUFS = -18.0 + 10 * math.log10(2)
PEAK_DB = -1.0
TAIL_S = 1.0

Row = dict[str, Any]


def synthesize_take(take: Take, out: Path) -> list[Row]:
    """Render and write one raw take, its mixes and their settings; their rows of pairs.jsonl. A silent take has none.

    Raw take (doubled to stereo) and mixes come out at −18 LUFS; where the true peak of one would pass −1 dBTP, all of
    them are lowered by one gain. Raises InputError for a mix without sound or beyond all numbers.
    """
    phrase = take.phrase
    voice = shift_pitch(read_phrase(phrase, SAMPLE_RATE_HZ), take.pitch_semitones).samples
    silence = torch.zeros(1, round(TAIL_S * SAMPLE_RATE_HZ))
    source = Waveform(torch.cat([-voice if take.inverted else voice, silence], dim=1), SAMPLE_RATE_HZ)
    source_lufs = integrated_loudness_lufs(source)
    if source_lufs == -math.inf:
        return []
    fed_db = [FED_LUFS - source_lufs + mix.level_db for mix in take.mixes]
    mixes = [_mixed(mix, _amplified(source, gain_db)) for mix, gain_db in zip(take.mixes, fed_db, strict=True)]
    gains_db = [LOUDNESS_LUFS - integrated_loudness_lufs(side) for side in (source, *mixes)]
    peaks_db = [true_peak_db(side) + gain_db for side, gain_db in zip((source, *mixes), gains_db, strict=True)]
    safety_db = min(0.0, PEAK_DB - max(peaks_db))
    raw_gain_db, *mix_gains_db = (gain_db + safety_db for gain_db in gains_db)
    raw_name = f"raw/{phrase.key}.flac"
    io.write(out / raw_name, _amplified(source, raw_gain_db), tags={"singer": phrase.singer})
    rows = []
    for mix, sound, in_db, out_db in zip(take.mixes, mixes, fed_db, mix_gains_db, strict=True):
        mix_name, settings_name = f"mix/{mix.name}.flac", f"mix/{mix.name}.yaml"
        io.write(out / mix_name, _amplified(sound, out_db), tags={"singer": phrase.singer, "chain": mix.chain})
        rendered = Rendered(f"../{raw_name}", input_gain_db=in_db - raw_gain_db, output_gain_db=out_db)
        text = settings_text(mix.style, mix.steps, rendered, folder=out / "mix")
        io.write_text_atomic(out / settings_name, text)
        rows.append(
            {
                "key": phrase.key,
                "raw": raw_name,
                "mix": mix_name,
                "song": phrase.song,
                "singer": phrase.singer,
                "style": mix.style,
                "chain": mix.chain,
                "split": phrase.split,
                "raw_gain_db": round(raw_gain_db, 3),
                "mix_gain_db": round(out_db, 3),
                "settings": settings_name,
                "level_db": round(mix.level_db, 3),
                "speed": round(phrase.speed, 5),
                "pitch_semitones": round(take.pitch_semitones, 3),
                "inverted": take.inverted,
            }
        )
    return rows


def _mixed(mix: Mix, fed: Waveform) -> Waveform:
    sound = render(mix.steps, fed)
    if not bool(sound.samples.isfinite().all()):
        raise InputError(f"{mix.name}: a chain of the style «{mix.style}» gives numbers that are not finite")
    if integrated_loudness_lufs(sound) == -math.inf:
        raise InputError(f"{mix.name}: a chain of the style «{mix.style}» leaves nothing to hear: below -70 LUFS")
    return sound


def _amplified(waveform: Waveform, gain_db: float) -> Waveform:
    return Waveform(waveform.samples * 10 ** (gain_db / 20), waveform.sample_rate)


def synthesize(takes: Sequence[Take], out: Path, settings: dict[str, Any], *, workers: int) -> list[Row]:
    """Render all takes into `out` and write its pairs.jsonl; the rows of it.

    synthesis.json keeps the settings and synthesis.jsonl the takes that are finished, with the bytes of their files:
    after an interruption the same command goes on where it was. Raises InputError for a folder with anything else in
    it.
    """
    plan, log = out / "synthesis.json", out / "synthesis.jsonl"
    wanted = json.dumps(settings, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    refuse_foreign(out, plan.name)
    if plan.exists() and plan.read_bytes() != wanted.encode():
        raise InputError(f"{out}: holds pairs made from other voices or with other settings (see {plan.name})")
    for folder in ("raw", "mix"):
        io.make_folder(out / folder)
    io.write_text_atomic(plan, wanted)
    done = _finished(log, out)
    waiting = [take for take in takes if take.phrase.key not in done]
    with log.open("a", encoding="utf-8") as sink:
        for key, rows in tqdm(_rendered(waiting, out, workers), total=len(waiting), unit="take", desc="synthesize"):
            done[key] = rows
            sizes = {name: (out / name).stat().st_size for name in _files_of(rows)}
            sink.write(json.dumps({"key": key, "rows": rows, "bytes": sizes}, ensure_ascii=False) + "\n")
            sink.flush()
    rows = [row for take in takes for row in done[take.phrase.key]]
    io.write_text_atomic(out / "pairs.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return rows


def _files_of(rows: Sequence[Row]) -> list[str]:
    return [row[side] for row in rows for side in ("raw", "mix", "settings")]


def _finished(log: Path, out: Path) -> dict[str, list[Row]]:
    """Rows of the takes whose files are all there and whole, by key; a last line that was cut off does not count."""
    lines = log.read_bytes().splitlines(keepends=True) if log.exists() else []
    if lines and not lines[-1].endswith(b"\n"):
        io.write_bytes_atomic(log, b"".join(lines[:-1]))
        lines.pop()
    done: dict[str, list[Row]] = {}
    for at, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            key, rows, sizes = entry["key"], entry["rows"], entry["bytes"]
            is_whole = all(_has_bytes(out / name, sizes[name]) for name in _files_of(rows))
        except (ValueError, TypeError, KeyError):
            raise InputError(f"{log}, line {at}: damaged; without that line its take is rendered anew") from None
        if is_whole:
            done[key] = rows
        else:
            done.pop(key, None)
    return done


def _has_bytes(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _rendered(takes: Sequence[Take], out: Path, workers: int) -> Iterator[tuple[str, list[Row]]]:
    """(key, rows) of each take as it is finished, in any order; one worker is this process."""
    if workers == 1:
        for take in takes:
            yield take.phrase.key, synthesize_take(take, out)
        return
    with worker_pool(workers) as pool:
        futures = {pool.submit(synthesize_take, take, out): take.phrase.key for take in takes}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:  # of what waits after an error or an interruption
            pool.shutdown(cancel_futures=True)


def listed_parts(name: str | None) -> str:
    """What the part of that name declares, or the plugin at that path; None: every built-in part.

    Raises InputError for a name that is neither.
    """
    if name is None:
        return "\n".join(map(described, PARTS.values()))
    if name in PARTS:
        return described(PARTS[name])
    if Path(name).suffix or os.path.exists(name):  # noqa: PTH110  (Path's raises for a name that is too long)
        return described(plugin_part(name))
    raise InputError(f"no part is called {unknown(name, PARTS)}; a plugin is named by its path")


def _parser() -> Parser:
    parser = Parser(prog="restyler synthesize", description="Make pairs of raw take and mix from dry voices.")
    parser.add_argument("voices", nargs="+", type=Path, metavar="VOICES", help="folders or files of dry voices")
    chains = parser.add_mutually_exclusive_group(required=True)
    chains.add_argument("--presets", type=Path, help="decoded.csv of a folder of DiffVox presets")
    chains.add_argument("--chains", type=Path, metavar="YAML", help="styles as effect chains; see docs/chains.md")
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
        "--pitch-probability",
        type=number(0, 1),
        default=0.0,
        help="of moving a take's pitch alone, formants and length kept, before it is mixed",
    )
    parser.add_argument(
        "--pitch-range", type=number(0, MAX_SEMITONES), default=2.0, metavar="SEMITONES", help="up to so much"
    )
    parser.add_argument(
        "--invert-probability", type=number(0, 1), default=0.0, help="of turning a take and its mixes upside down"
    )
    parser.add_argument(
        "--level-range",
        type=number(0, 24),
        default=0.0,
        metavar="DB",
        help="each chain hears the take up to so much louder or softer; both sides of a pair end equally loud",
    )
    parser.add_argument(
        "--test-only",
        action="store_true",
        help="put everything into the test split, with the presets that are held out: for singers never trained on",
    )
    parser.add_argument("--seed", type=integer(0, 2**31 - 1), default=0)
    parser.add_argument("--workers", type=integer(1, 256), default=2, help="processes; the pairs do not depend on it")
    parser.add_argument(
        "--list-parts",
        nargs="?",
        action=printing(listed_parts),
        metavar="PART",
        help="print what chains are made of, with units and ranges: all parts, one, or the plugin at a path",
    )
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 after one line about bad input."""
    options = _parser().parse_args(argv)
    chains = read_chains(options.chains) if options.chains else None  # before the voices are read through
    recordings = find_recordings(options.voices, options.manifest, test_only=options.test_only)
    phrases = plan_phrases(
        recordings, passes=options.passes, shift_probability=options.shift_probability, seed=options.seed
    )
    dealt = {"mixes_per_take": options.mixes_per_take, "seed": options.seed}
    if chains:
        planned = plan_chain_takes(phrases, chains, **dealt)
    else:
        planned = plan_preset_takes(phrases, options.presets, **dealt)
    augmentation = Augmentation(
        level_range_db=options.level_range,
        invert_probability=options.invert_probability,
        pitch_probability=options.pitch_probability,
        pitch_range_semitones=options.pitch_range,
    )
    takes = list(augmented(planned, augmentation, seed=options.seed))
    files = chains.files if chains else {}
    settings = {
        "recordings": [[each.path.name, each.singer, each.duration_s, each.digest] for each in recordings],
        "files": sorted(files.values()),
        "mixes_crc32": mixes_crc32(takes, files),
        "mixes_per_take": options.mixes_per_take,
        "passes": options.passes,
        "shift_probability": options.shift_probability,
        "test_only": options.test_only,
        "seed": options.seed,
        **asdict(augmentation),
    }
    rows = synthesize(takes, options.out, settings, workers=options.workers)
    silent = len(takes) - len({row["key"] for row in rows})
    print(f"{len(rows)} pairs in {options.out}" + (f"; {silent} silent takes left out" if silent else ""))
    return 0
