"""Audio that a prepared set keeps for listening: what is chosen, written, kept, and read back by training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from audio.alignment import Alignment, Region
from audio.errors import InputError
from audio.io import read
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from codec.pocket import PocketCodec
from restyler.audition_takes import auditions_of_sets
from restyler.config import PreparedData
from restyler.dataset_index import CodecFacts
from restyler.listening import LISTENING
from restyler.prepare.command import main
from restyler.prepare.encoding import Encoder
from restyler.prepare.examining import stamps_of
from restyler.prepare.listening import write_listening
from restyler.prepare.plan import PlannedMix, PlannedSegment, PlannedTake
from restyler.prepared import PreparedSet
from restyler.prepared_sets import open_sets
from restyler.shards import Segment

LATE_S = 0.25
Write = Callable[..., list[PlannedSegment]]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(PocketCodec(width=16, encoder_blocks=1, decoder_blocks=1), torch.device("cpu"))


@pytest.fixture
def planned(tmp_path: Path, vocal: Callable[..., Waveform], encoder: Encoder) -> Write:
    """planned(number, gain=1.0, styles=("hall", "room")): a take of 3 s at 44.1 kHz whose mixes come LATE_S late, half
    as loud, one of them silent where `gain` is 0, and the one segment 0.5 to 2.5 s of it."""

    def make(number: int, gain: float = 1.0, styles: tuple[str | None, ...] = ("hall", "room")) -> list[PlannedSegment]:
        raw = vocal(3.0, 44_100, seed=number).samples.numpy()
        paths = [tmp_path / f"{number}.{name}.wav" for name in ("raw", *map(str, range(len(styles))))]
        soundfile.write(paths[0], raw[0], 44_100, "FLOAT")
        for mix, path in enumerate(paths[1:]):
            late = np.pad(0.5 * (gain if mix == 0 else 1.0) * raw, ((0, 0), (round(LATE_S * 44_100), 0)))
            soundfile.write(path, late[0], 44_100, "FLOAT")
        region = Region(0.0, 3.0, LATE_S)
        aligned = Alignment((region,), 1.0, 1, 1.0, 1.0, 1.0, 0.0)
        mixes = tuple(
            PlannedMix(f"{number}/{mix}", path, f"{number} {mix} {gain}", aligned, 6.0, style, None)
            for mix, (path, style) in enumerate(zip(paths[1:], styles, strict=True))
        )
        take = PlannedTake(
            f"take {number}", paths[0], f"{number}", f"{number}", None, "validation", 0.0, stamps_of(paths), mixes
        )
        regions = (region,) * len(mixes)
        start, stop = (round(time_s * encoder.codec.frame_rate_hz) for time_s in (0.5, 2.5))
        return [PlannedSegment(f"{number:016x}-{start:08d}", take, mixes, regions, start, stop, (start, stop))]

    return make


def kept(out: Path) -> list[dict[str, Any]]:
    takes: list[dict[str, Any]] = json.loads((out / LISTENING).read_text())["takes"]
    return takes


def files(out: Path) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in sorted(out.rglob("*")) if path.is_file()}


def test_both_sides_are_kept_in_time_and_as_the_codec_hears_them(
    planned: Write, encoder: Encoder, tmp_path: Path, vocal: Callable[..., Waveform]
) -> None:
    out = tmp_path / "set"
    out.mkdir()
    write_listening(out, planned(1), encoder, takes=1, loudness_lufs=-18.0)
    (take,) = kept(out)
    assert (take["name"], take["key"]) == (f"take 1, {take['style']}", "take 1")
    raw, mix = (read(out / take[side]["name"]) for side in ("raw", "mix"))
    assert raw.samples.shape == mix.samples.shape == (2, 96_000) and raw.sample_rate == mix.sample_rate == 48_000
    expected = vocal(3.0, 44_100, seed=1).resampled(48_000).samples[:, 24_000:120_000]
    assert float((raw.samples - expected)[:, 10:-10].abs().max()) < 1e-3
    assert float((mix.samples * 2 / 10 ** (6 / 20) - expected)[:, 10:-10].abs().max()) < 2e-3


def test_takes_differ_first_and_silence_is_passed_over(planned: Write, encoder: Encoder, tmp_path: Path) -> None:
    segments = [segment for number in range(4) for segment in planned(number, gain=0.0 if number else 1.0)]
    write_listening(tmp_path, segments, encoder, takes=4, loudness_lufs=-18.0)
    order = kept(tmp_path)
    assert sorted(take["key"] for take in order) == [f"take {n}" for n in range(4)]
    for number in range(1, 4):  # the first mix of these is silent, whatever the turn of its style
        assert [take["style"] for take in order if take["key"] == f"take {number}"] == ["room"]
    write_listening(tmp_path, segments, encoder, takes=100, loudness_lufs=-18.0)
    assert len(kept(tmp_path)) == 5 and len(list((tmp_path / "listening").iterdir())) == 10
    write_listening(tmp_path, [], encoder, takes=4, loudness_lufs=-18.0)
    assert kept(tmp_path) == [] and list((tmp_path / "listening").iterdir()) == []


def test_only_what_changed_is_written_again(planned: Write, encoder: Encoder, tmp_path: Path) -> None:
    out = tmp_path / "set"
    out.mkdir()
    segments = [*planned(1), *planned(2)]
    write_listening(out, segments, encoder, takes=2, loudness_lufs=-18.0)
    before, listed = files(out), (out / LISTENING).read_bytes()
    (out / "listening" / "notes.txt").write_text("of somebody else")
    write_listening(out, segments[::-1], encoder, takes=2, loudness_lufs=-18.0)
    assert {name: files(out)[name] for name in before} == before
    damaged = out / kept(out)[0]["mix"]["name"]
    damaged.write_bytes(b"fLaC")
    (out / kept(out)[1]["raw"]["name"]).unlink()
    write_listening(out, segments, encoder, takes=2, loudness_lufs=-18.0)
    assert (out / LISTENING).read_bytes() == listed and damaged.stat().st_size > 1000
    louder = replace(segments[0].take, gain_db=1.0)
    write_listening(out, [replace(segments[0], take=louder), segments[1]], encoder, takes=2, loudness_lufs=-18.0)
    assert len(files(out)) == 4 + 2  # those of the old level are gone, what isn't ours stays
    (out / LISTENING).write_bytes(b"{}")  # as after a power cut: all is written anew, to the same end
    write_listening(out, segments, encoder, takes=2, loudness_lufs=-18.0)
    assert (out / LISTENING).read_bytes() == listed


@pytest.fixture
def opened(
    planned: Write,
    encoder: Encoder,
    tmp_path: Path,
    toy_segment: Callable[..., Segment],
    write_set: Callable[..., Path],
) -> Callable[..., tuple[list[PreparedSet], str]]:
    """opened(*takes kept, protocol="") → sets with so many takes each, and the digest that a run notes. None: a set
    prepared before audio was kept; −1: one without a validation split, which has none."""

    def make(*counts: int | None, protocol: str = "") -> tuple[list[PreparedSet], str]:
        facts = CodecFacts.of(encoder.codec)
        paths = []
        for number, count in enumerate(counts):
            validation = [] if count == -1 else [toy_segment(4 * number + 1, latent_dim=facts.latent_dim)]
            path = tmp_path / f"set {number}"
            write_set(path, [toy_segment(4 * number, latent_dim=facts.latent_dim)], validation, codec=facts)
            if count is not None and count >= 0:
                segments = [segment for take in range(count) for segment in planned(10 * number + take)]
                write_listening(path, segments, encoder, takes=8, loudness_lufs=-18.0)
            paths.append(f"{protocol}{path}")
        sets = open_sets(PreparedData.model_validate({"kind": "prepared", "sets": paths}), codec_fingerprint=None)
        return sets.sets, sets.digest

    return make


def test_takes_of_several_sets_come_in_turn_at_the_loudness_of_the_sets(
    opened: Callable[..., tuple[list[PreparedSet], str]],
) -> None:
    sets, _ = opened(1, -1, 2, protocol="file://")
    found = auditions_of_sets(sets, takes=3, take_s=1.5)
    keys = [take.name.split(",")[0] for take in found]
    assert (keys[0], keys[2]) == ("take 0", "take 0") and keys[1] in ("take 20", "take 21")
    assert len({take.name for take in found}) == 3
    assert {take.style for take in found} == {"hall", "room"}
    for take in found:
        assert take.raw.samples.shape == take.mix.samples.shape == (2, 72_000)
        assert [integrated_loudness_lufs(side) for side in (take.raw, take.mix)] == pytest.approx([-18, -18], abs=0.01)
    assert len(auditions_of_sets(sets, takes=100, take_s=10.0)) == 6  # each take with each of two mixes
    assert auditions_of_sets(sets, takes=0, take_s=1.5) == []


def test_a_set_without_audio_or_with_damaged_audio_is_told(
    opened: Callable[..., tuple[list[PreparedSet], str]], tmp_path: Path
) -> None:
    older, digest = opened(None)
    with pytest.raises(InputError, match=r"set 0/listening.json.*prepare it again, or set validation.takes=0"):
        auditions_of_sets(older, takes=1, take_s=1.5)
    assert auditions_of_sets(older, takes=0, take_s=1.5) == []
    with pytest.raises(InputError, match=r"no audio was kept for listening.*validation.takes=0"):
        auditions_of_sets(opened(0)[0], takes=1, take_s=1.5)
    one, same = opened(1)
    assert same == digest  # audio for listening is no training data
    for name, data, told in (
        (kept(tmp_path / "set 0")[0]["mix"]["name"], b"fLaC", "mix.flac: damaged"),
        (LISTENING, b'{"format": 2}', "listening.json: no list of takes"),
        (LISTENING, (tmp_path / "set 0" / LISTENING).read_bytes().replace(b"listening/", b"../"), "no list of takes"),
    ):
        (tmp_path / "set 0" / name).write_bytes(data)
        with pytest.raises(InputError, match=told):
            auditions_of_sets(one, takes=1, take_s=1.5)


@pytest.mark.usefixtures("fresh_accelerator")
def test_restyler_prepare_keeps_as_many_takes_as_it_is_told(
    sung: Callable[[int, float], Waveform], mixed: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    """Of the validation split alone; a second run changes nothing, and mends what was damaged."""
    for number in range(3):
        raw = sung(number, 5.0).samples[0].numpy()
        for side, samples in (("raw", raw), ("mix", mixed(raw, 48_000, seed=number, late_s=0.2).T)):
            (tmp_path / side).mkdir(exist_ok=True)
            soundfile.write(tmp_path / side / f"{number}.wav", samples, 48_000, "PCM_24")
    rows = [
        f"{number},raw/{number}.wav,mix/{number}.wav,{('train', 'validation', 'test')[number]}" for number in range(3)
    ]
    (tmp_path / "pairs.csv").write_text("\n".join(["key,raw,mix,split", *rows]) + "\n")
    arguments = ["--manifest", str(tmp_path / "pairs.csv"), "--out", str(tmp_path / "set"), "--workers", "1"]
    assert main(arguments) == 0
    out = tmp_path / "set"
    takes = kept(out)
    assert [take["key"] for take in takes] == ["1"]
    before, data = files(out), (out / takes[0]["raw"]["name"]).read_bytes()
    (out / takes[0]["raw"]["name"]).write_bytes(data[:-1])
    assert main([*arguments, "--verify"]) == 0
    assert (out / takes[0]["raw"]["name"]).read_bytes() == data
    unchanged = [name for name in before if name.endswith((".tar", LISTENING))]
    assert {name: files(out)[name] for name in unchanged} == {name: before[name] for name in unchanged}
    shards = {name for name in before if name.endswith(".tar")}
    assert main([*arguments, "listening.takes=0"]) == 0
    assert kept(out) == [] and {name for name in files(out) if name.endswith((".tar", ".flac"))} == shards
