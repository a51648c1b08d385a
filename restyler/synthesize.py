"""`restyler synthesize`: pairs of raw take and mix, rendered from dry voices through the effect chains of presets."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyloudnorm
import soundfile
import torch
from tqdm import tqdm

from audio.effects import EffectChain, render
from audio.errors import InputError
from audio.presets import read_presets, training_presets
from audio.styles import find_styles
from audio.waveform import Waveform
from restyler.command import Parser, command, integer
from restyler.phrases import Phrase, find_recordings, plan_phrases, read_phrase

SAMPLE_RATE_HZ = 48000
LOUDNESS_LUFS = -18.0  # of both sides, the raw take doubled to both channels
PEAK_MAX = 10 ** (-1 / 20)
TAIL_S = 1.0


@dataclass(frozen=True)
class Take:
    """One raw take with the chains to render it with: (preset name, style, chain) each."""

    phrase: Phrase
    chains: tuple[tuple[str, str, EffectChain], ...]
    seed: int


def loudness_lufs(waveform: Waveform) -> float:
    return float(pyloudnorm.Meter(waveform.sample_rate).integrated_loudness(waveform.samples.T.numpy()))


def amplified(waveform: Waveform, gain_db: float) -> Waveform:
    return Waveform(waveform.samples * 10 ** (gain_db / 20), waveform.sample_rate)


def write_flac(path: Path, waveform: Waveform) -> None:
    """24-bit FLAC that is either whole or not there."""
    partial = path.with_suffix(".part")
    soundfile.write(str(partial), waveform.samples.T.numpy(), waveform.sample_rate, format="FLAC", subtype="PCM_24")
    os.replace(partial, path)


def synthesize_take(take: Take, out: Path) -> list[dict[str, object]]:
    """Render and write one raw take and its mixes; their rows of pairs.jsonl. A silent take has none.

    Chains are fed at −18 LUFS measured in mono, as they were fitted. Then the raw take, doubled to stereo, and each
    mix are brought to −18 LUFS; where a peak would pass −1 dBFS all of them are lowered by the same gain.
    """
    silence = torch.zeros(1, round(TAIL_S * SAMPLE_RATE_HZ))
    phrase = read_phrase(take.phrase, SAMPLE_RATE_HZ)
    source = Waveform(torch.cat([phrase.samples, silence], dim=1), SAMPLE_RATE_HZ)
    source_lufs = loudness_lufs(source)
    if not np.isfinite(source_lufs):
        return []
    fed_gain_db = LOUDNESS_LUFS - source_lufs
    fed = amplified(source, fed_gain_db)
    raw_gain_db = LOUDNESS_LUFS - loudness_lufs(fed.stereo())
    mixes = []
    for preset, style, chain in take.chains:
        mix = render(chain, fed, seed=zlib.crc32(f"{take.seed}/{take.phrase.key}/{preset}".encode()))
        mixes.append((preset, style, mix, LOUDNESS_LUFS - loudness_lufs(mix)))
    peaks = [float(fed.samples.abs().max()) * 10 ** (raw_gain_db / 20)]
    peaks += [float(mix.samples.abs().max()) * 10 ** (gain_db / 20) for *_, mix, gain_db in mixes]
    safety_db = min(0.0, 20 * np.log10(PEAK_MAX / max(peaks)))
    key = take.phrase.key
    write_flac(out / "raw" / f"{key}.flac", amplified(fed, raw_gain_db + safety_db))
    rows = []
    for preset, style, mix, gain_db in mixes:
        name = f"mix/{key}__{preset}.flac"
        write_flac(out / name, amplified(mix, gain_db + safety_db))
        rows.append({
            "key": key, "raw": f"raw/{key}.flac", "mix": name, "song": take.phrase.song, "singer": take.phrase.singer,
            "style": style, "chain": preset, "split": take.phrase.split,
            "raw_gain_db": round(fed_gain_db + raw_gain_db + safety_db, 3), "mix_gain_db": round(gain_db + safety_db, 3),
        })
    return rows


def plan_takes(phrases: Sequence[Phrase], presets: Path, *, mixes_per_take: int, seed: int) -> list[Take]:
    """Presets dealt out evenly in a shuffled order: those to train on for train and validation, the others for test."""
    chains = read_presets(presets)
    trained = training_presets(presets)
    held_out = sorted(chains.keys() - set(trained))
    styles = find_styles([chains[name] for name in trained])
    takes = []
    random = np.random.default_rng(seed)
    decks: dict[bool, list[str]] = {True: [], False: []}
    for phrase in phrases:
        is_test = phrase.split == "test"
        pool = held_out if is_test else trained
        if mixes_per_take > len(pool):
            raise InputError(f"--mixes-per-take {mixes_per_take}: only {len(pool)} presets for the {phrase.split} split")
        hand: list[str] = []
        while len(hand) < mixes_per_take:
            if not decks[is_test]:
                decks[is_test] = [pool[index] for index in random.permutation(len(pool))]
            card = decks[is_test].pop()
            if card not in hand:
                hand.append(card)
        takes.append(Take(phrase, tuple((name, styles.of(chains[name]), chains[name]) for name in hand), seed))
    return takes


def synthesize(takes: Sequence[Take], out: Path, settings: dict[str, object], *, workers: int) -> int:
    """Render all takes into `out`; the number of pairs. Takes that an earlier, interrupted run finished stay."""
    for folder in ("raw", "mix"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    plan, finished = out / "synthesis.json", out / "synthesis.jsonl"
    if plan.exists():
        if json.loads(plan.read_text()) != settings:
            raise InputError(f"{out}: holds pairs made with other settings (see {plan.name}); choose another folder")
    elif any((out / "raw").iterdir()) or (out / "pairs.jsonl").exists():
        raise InputError(f"{out}: holds pairs that this command did not make; choose another folder")
    plan.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    done: dict[str, list[dict[str, object]]] = {}
    if finished.exists():
        for line in finished.read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # the line that an interruption cut off
            done[entry["key"]] = entry["rows"]
    waiting = [take for take in takes if take.phrase.key not in done]
    with (
        ProcessPoolExecutor(max_workers=workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        finished.open("a") as log,
    ):
        futures = {pool.submit(synthesize_take, take, out): take.phrase.key for take in waiting}
        for future in tqdm(as_completed(futures), total=len(takes), initial=len(done), unit="take", desc="synthesize"):
            done[futures[future]] = future.result()
            log.write(json.dumps({"key": futures[future], "rows": future.result()}) + "\n")
            log.flush()
    rows = [row for take in takes for row in done[take.phrase.key]]
    partial = out / "pairs.jsonl.part"
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.replace(partial, out / "pairs.jsonl")
    return len(rows)


@command
def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="restyler synthesize", description=__doc__ or "")
    parser.add_argument("voices", nargs="+", metavar="VOICES", help="folders or files of dry voices")
    parser.add_argument("--presets", type=Path, required=True, help="decoded.csv of a preset folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for raw/, mix/ and pairs.jsonl")
    parser.add_argument("--manifest", type=Path, help="table of files and singers; without it folders name the singers")
    parser.add_argument("--passes", type=integer(1, 100), default=1, help="how often each voice is used, rearranged")
    parser.add_argument("--mixes-per-take", type=integer(1, 100), default=4)
    parser.add_argument("--seed", type=integer(0, 2**31), default=0)
    parser.add_argument("--workers", type=integer(1, 256), default=2)
    options = parser.parse_args(argv)
    recordings = find_recordings(options.voices, options.manifest)
    phrases = plan_phrases(recordings, passes=options.passes, seed=options.seed)
    takes = plan_takes(phrases, options.presets, mixes_per_take=options.mixes_per_take, seed=options.seed)
    settings = {
        "recordings": [[recording.path.name, recording.singer, recording.duration_s] for recording in recordings],
        "presets": f"{zlib.crc32(options.presets.read_bytes()):08x}",
        "passes": options.passes, "mixes_per_take": options.mixes_per_take, "seed": options.seed,
    }
    count = synthesize(takes, options.out, settings, workers=options.workers)
    print(f"{count} pairs in {options.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
