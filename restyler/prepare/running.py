"""The steps of `restyler prepare`, over one process or many that share a disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env
from tqdm import tqdm

from audio.errors import InputError
from audio.io import make_folder, write_text_atomic
from restyler.building import build_codec
from restyler.dataset_index import CodecFacts, DatasetIndex, ShardInfo, Shards, write_index
from restyler.pairs import SPLITS
from restyler.prepare.config import PrepareConfig
from restyler.prepare.encoding import Encoder
from restyler.prepare.examining import SCRATCH, Take, examine_all, forget, takes_of
from restyler.prepare.judging import Judged, judge
from restyler.prepare.listening import write_listening
from restyler.prepare.matching import Matched
from restyler.prepare.plan import PlannedShard, plan_shards
from restyler.prepare.report import write_report
from restyler.prepare.shard_making import OldSegments, UnreadableTakeError, make_shard, remove_others
from restyler.processes import one_verdict
from restyler.shards import finished_shard, remove_unfinished
from restyler.takes import refuse_foreign

SETTINGS = "prepare.json"  # marks a folder that this command fills
RECORDS = "examined"
PATIENCE = timedelta(days=30)  # of processes that wait for one another
ROUNDS = 3  # of examining and encoding, while files change under the work


def prepare(matched: Matched, out: Path, config: PrepareConfig, *, workers: int, verify: bool = False) -> int:
    """Examines, judges, encodes and reports; the exit code, 0. verify: finished shards are read and checked.

    Raises InputError where the folder holds something else, no pair can be used, or files keep changing.
    """
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=PATIENCE)  # as Accelerator reads it
    (matched,) = broadcast_object_list([matched])  # files may come while processes search the folders one by one
    with one_verdict():
        if state.is_main_process:
            _claim(out, config)
    codec = build_codec(config.codec, seed=0)
    facts = CodecFacts.of(codec)
    takes = takes_of(matched.pairs)
    encoder = Encoder(codec, state.device)
    for _ in range(ROUNDS):
        _examine(takes, out / RECORDS, state, workers)
        judged, shards = _planned(matched, takes, out, config, facts, state)
        failed = _encode(shards, out, encoder, facts, state, verify)
        if not failed:
            break
        for take in takes:  # what can't be read any more is heard again, and then left out with its reason
            if take.key in failed and state.is_main_process:
                forget(take, out / RECORDS)
        state.wait_for_everyone()
    else:
        raise InputError(f"{next(iter(failed.values()))}; it could be read before: is something writing there?")
    with one_verdict():
        if state.is_main_process:
            assert judged is not None
            heard = [segment for shard in shards if shard.split == "validation" for segment in shard.segments]
            loudness_lufs = config.levels.loudness_lufs
            write_listening(out, heard, encoder, takes=config.listening.takes, loudness_lufs=loudness_lufs)
            _finish(judged, shards, out, config, facts)
    state.wait_for_everyone()
    return 0


def _claim(out: Path, config: PrepareConfig) -> None:
    refuse_foreign(out, SETTINGS)
    make_folder(out / RECORDS)
    write_text_atomic(out / SETTINGS, json.dumps(config.model_dump(mode="json"), indent=1) + "\n")
    remove_unfinished(out)
    for left in (out / RECORDS).glob(f"{SCRATCH}*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)


def _examine(takes: Sequence[Take], records: Path, state: PartialState, workers: int) -> None:
    share = takes[state.process_index :: state.num_processes]
    with one_verdict():
        done = examine_all(share, records, workers=workers)
        for _ in tqdm(done, total=len(share), unit="take", desc="listening", disable=not state.is_main_process):
            pass


def _planned(
    matched: Matched, takes: Sequence[Take], out: Path, config: PrepareConfig, facts: CodecFacts, state: PartialState
) -> tuple[Judged | None, list[PlannedShard]]:
    """The main process judges and plans for all; only it has the verdicts."""
    judged: Judged | None = None
    shards: list[PlannedShard] = []
    with one_verdict():
        if state.is_main_process:
            judged = judge(matched, takes, out / RECORDS, config, frame_rate_hz=facts.frame_rate_hz)
            shards = plan_shards(
                judged.segments,
                frame_rate_hz=facts.frame_rate_hz,
                shard_s=config.shards.seconds,
                made_with={"codec": facts.model_dump(), "loudness_lufs": config.levels.loudness_lufs},
            )
            write_report(out, judged, facts, finished=False)
            if not shards:
                raise InputError(f"{out}: none of {len(judged.verdicts)} pairs can be used; report.html there says why")
    (shards,) = broadcast_object_list([shards])
    return judged, shards


def _encode(
    shards: Sequence[PlannedShard], out: Path, encoder: Encoder, facts: CodecFacts, state: PartialState, verify: bool
) -> dict[str, str]:
    """Makes this process's share of the shards. Returns the takes that could not be read, by key, of all processes."""
    share = shards[state.process_index :: state.num_processes]
    old = OldSegments(out, facts)
    failed: dict[str, str] = {}
    bar = tqdm(
        total=sum(shard.seconds(facts.frame_rate_hz) for shard in share),
        desc="encoding",
        bar_format="{l_bar}{bar}| {n:.0f}/{total:.0f} s of takes [{elapsed}<{remaining}, {rate_fmt}]",
        disable=not state.is_main_process,
    )
    with one_verdict(), bar:
        for shard in share:
            try:
                make_shard(shard, out, encoder, old, verify=verify, progress=bar.update)
            except UnreadableTakeError as error:
                failed[error.take.key] = str(error)
    return dict(gather_object(list(failed.items())))


def _finish(
    judged: Judged, shards: Sequence[PlannedShard], out: Path, config: PrepareConfig, facts: CodecFacts
) -> None:
    made: dict[str, list[ShardInfo]] = {split: [] for split in SPLITS}
    for shard in shards:
        info = finished_shard(out, shard.stem)
        if info is None:
            raise InputError(f"{out / shard.stem}.tar: gone, or not written by every process to the same disk")
        made[shard.split].append(info)
    index = DatasetIndex(
        format=1,
        codec=facts,
        loudness_lufs=config.levels.loudness_lufs,
        settings=config.model_dump(mode="json"),
        shards=Shards(**made),
    )
    write_index(out, index)
    remove_others(out, index.shards.all())
    write_report(out, judged, facts, finished=True)
    print(_summary(judged, shards, facts, out))


def _summary(judged: Judged, shards: Sequence[PlannedShard], facts: CodecFacts, out: Path) -> str:
    counts = {
        status: sum(verdict.status == status for verdict in judged.verdicts) for status in ("ok", "flagged", "rejected")
    }
    minutes = {
        split: sum(shard.seconds(facts.frame_rate_hz) for shard in shards if shard.split == split) / 60
        for split in SPLITS
    }
    lines = [
        f"{counts['ok']} pairs are fine, {counts['flagged']} used with a remark, {counts['rejected']} left out;"
        f" {len(judged.leftovers)} files in no pair",
        ", ".join(f"{split} {length:.1f} min" for split, length in minutes.items()),
    ]
    empty = [split for split in ("train", "validation") if not minutes[split]]
    if empty:
        lines.append(
            f"nothing fell into {' and '.join(empty)}: training needs both; with few songs or singers give"
            " splits in a manifest, or set splits.by, splits.validation and splits.test"
        )
    return "\n".join([*lines, f"report: {out / 'report.html'}"])
