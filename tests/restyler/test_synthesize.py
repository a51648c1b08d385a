"""`restyler synthesize` from files to files: levels, alignment, splits, determinism, resuming, refusals."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile

from audio.presets import read_presets, training_names
from restyler.pairs import read_pairs
from restyler.phrases import Recording, find_recordings, plan_phrases, read_phrase
from restyler.synthesis_plan import plan_preset_takes
from restyler.synthesize import main

RATE_HZ = 48000
MIXES = 2


def syllables(seconds: float, rate_hz: int, seed: int) -> np.ndarray:
    """A vibrating harmonic tone in syllables, with some breath."""
    random = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    phase = 2 * np.pi * random.uniform(110, 300) * (times + 0.002 * np.sin(2 * np.pi * 5 * times))
    tone = sum(np.sin(number * phase) / number for number in range(1, 12)) + 0.05 * random.standard_normal(len(times))
    return 0.1 * tone * np.clip(np.sin(2 * np.pi * 1.5 * times) + 0.5, 0, 1)


def names_of(singer: str, wanted: dict[str, int]) -> list[str]:
    """File names whose hash puts as many recordings of the singer into each split as wanted."""
    left, names = dict(wanted), []
    for number in range(10_000):
        split = Recording(Path(f"take{number}.wav"), singer, 1.0, "").split
        if left.get(split):
            left[split] -= 1
            names.append(f"take{number}.wav")
    return names


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two singers, short recordings of several formats, and one long enough to be cut: for `voices`."""
    folder = tmp_path_factory.mktemp("recorded") / "voices"
    for number, singer in enumerate(("anna", "bert")):
        (folder / singer).mkdir(parents=True)
        for index, name in enumerate(names_of(singer, {"train": 4, "validation": 1, "test": 1})):
            rate_hz = (22050, 44100, 48000)[index % 3]
            sound = syllables(2.0 + 0.3 * index, rate_hz, 10 * number + index)
            soundfile.write(folder / singer / name, np.stack([sound, sound], 1) if index % 2 else sound, rate_hz)
    soundfile.write(folder / "bert" / f"long_{names_of('bert', {'train': 1})[0]}", syllables(15, 44100, 99), 44100)
    (folder / "bert" / "notes.txt").write_text("not a recording")
    return folder


@pytest.fixture
def voices(recorded: Path, tmp_path: Path) -> Path:
    """A test's own copy of the recordings."""
    return shutil.copytree(recorded, tmp_path / "voices")


@pytest.fixture(scope="module")
def finished(recorded: Path, read_only_presets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """voices, presets, and the pairs of the singer anna, made once: for `made`."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(recorded, folder / "voices")
    shutil.copytree(read_only_presets.parent, folder / "presets")
    assert run(folder / "voices" / "anna", folder / "presets" / read_only_presets.name, folder / "pairs") == 0
    return folder


@pytest.fixture
def made(finished: Path, tmp_path: Path) -> Callable[..., int]:
    """A test's own copy of it in tmp_path/made; made(*options, out="pairs") makes the pairs again, or others."""
    folder = shutil.copytree(finished, tmp_path / "made")

    def again(*options: str, out: str = "pairs") -> int:
        return run(folder / "voices" / "anna", folder / "presets" / "decoded.csv", folder / out, *options)

    return again


def run(voices: Path, presets: Path, out: Path, *options: str) -> int:
    return main(
        [
            str(voices),
            "--presets",
            str(presets),
            "--out",
            str(out),
            "--mixes-per-take",
            str(MIXES),
            "--workers",
            "1",
            *options,
        ]
    )


def rows_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()]


def loudness_lufs(stereo: np.ndarray) -> float:
    return pyloudnorm.Meter(RATE_HZ).integrated_loudness(stereo)


def contents(out: Path) -> dict[str, bytes]:
    wanted = [path for path in out.rglob("*") if path.suffix in (".flac", ".yaml") or path.name == "pairs.jsonl"]
    return {str(path.relative_to(out)): path.read_bytes() for path in wanted}


def test_pairs_are_equally_loud_and_in_the_form_that_training_reads(finished: Path) -> None:
    out = finished / "pairs"
    rows = rows_of(out)
    assert len(read_pairs(out, validation_fraction=0.0)) == len(rows)
    assert len({row["mix"] for row in rows}) == len(rows)
    assert {row["singer"] for row in rows} == {"anna"}
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    loudest = []
    for row in rows:
        for side, channels in (("raw", 1), ("mix", 2)):
            info = soundfile.info(out / row[side])
            assert (info.samplerate, info.channels, info.subtype) == (RATE_HZ, channels, "PCM_24")
        raw, _ = soundfile.read(out / row["raw"])
        mix, _ = soundfile.read(out / row["mix"])
        assert len(raw) == len(mix)
        assert max(np.abs(raw).max(), np.abs(mix).max()) <= 10 ** (-1 / 20)
        levels = loudness_lufs(np.stack([raw, raw], 1)), loudness_lufs(mix)
        assert levels[0] == pytest.approx(levels[1], abs=0.02)
        assert max(levels) <= -17.98
        loudest.append(round(max(levels)))
    assert Counter(loudest).most_common(1)[0][0] == -18


def test_clicks_stay_in_place_and_too_high_peaks_lower_both_sides_alike(tmp_path: Path, preset_table: Path) -> None:
    clicks = np.zeros(7 * RATE_HZ)
    clicks[:: RATE_HZ // 2] = 0.5  # crest factor above 40 dB
    (tmp_path / "voices").mkdir()
    soundfile.write(tmp_path / "voices" / "clicks.wav", clicks, RATE_HZ)
    out = tmp_path / "pairs"
    assert run(tmp_path / "voices", preset_table, out, "--shift-probability", "0") == 0
    row = rows_of(out)[0]
    raw, _ = soundfile.read(out / row["raw"])
    mixes = [soundfile.read(out / each["mix"])[0] for each in rows_of(out)]
    for mix in mixes:
        for start in range(RATE_HZ // 2, 13 * RATE_HZ // 2, RATE_HZ // 2):
            about = np.abs(mix[start : start + RATE_HZ // 4]).max(axis=1)
            assert np.argmax(about) <= 3  # the click itself, not its echo
    loudness = [loudness_lufs(side) for side in (*mixes, np.stack([raw, raw], 1))]
    assert max(loudness) < -20
    assert max(loudness) - min(loudness) < 0.02
    assert 0.5 * 10 ** (row["raw_gain_db"] / 20) == pytest.approx(np.abs(raw).max(), rel=0.001)


def test_splits_never_share_a_recording_and_held_out_chains_are_for_tests_only(
    voices: Path, preset_table: Path
) -> None:
    recordings = find_recordings([voices], None)
    phrases = plan_phrases(recordings, passes=9, shift_probability=0.5, seed=0)
    takes = plan_preset_takes(phrases, preset_table, mixes_per_take=3, seed=0)
    splits: dict[Path, set[str]] = {}
    uses: Counter[Path] = Counter()
    for phrase in phrases:
        assert len({piece.recording.singer for piece in phrase.pieces}) == 1
        for piece in phrase.pieces:
            splits.setdefault(piece.recording.path, set()).add(phrase.split)
            uses[piece.recording.path] += piece.start_s == 0
    assert all(len(found) == 1 for found in splits.values())
    assert set(splits) == {recording.path for recording in recordings}
    assert set(uses.values()) == {9}
    names = list(read_presets(preset_table))
    trained = set(training_names(preset_table, names))
    dealt = {
        split: Counter(mix.chain for take in takes if take.phrase.split == split for mix in take.mixes)
        for split in ("train", "validation", "test")
    }
    assert set(dealt["train"]) == trained
    assert set(dealt["validation"]) <= trained
    assert set(dealt["test"]) == set(names) - trained
    together = dealt["train"] + dealt["validation"]
    assert max(together.values()) - min(together.values()) <= 2
    assert all(len({mix.chain for mix in take.mixes}) == 3 for take in takes)


def test_singers_never_trained_on_get_held_out_chains_alone(voices: Path, preset_table: Path) -> None:
    recordings = find_recordings([voices], None, test_only=True)
    phrases = plan_phrases(recordings, passes=1, shift_probability=0, seed=0)
    takes = plan_preset_takes(phrases, preset_table, mixes_per_take=2, seed=0)
    trained = set(training_names(preset_table, list(read_presets(preset_table))))
    assert {phrase.split for phrase in phrases} == {"test"}
    assert not {mix.chain for take in takes for mix in take.mixes} & trained


def test_short_recordings_are_joined_and_long_ones_cut(voices: Path) -> None:
    phrases = plan_phrases(find_recordings([voices], None), passes=5, shift_probability=0, seed=1)
    trained = [
        sum(piece.stop_s - piece.start_s + piece.gap_s for piece in phrase.pieces)
        for phrase in phrases
        if phrase.split == "train"
    ]
    assert 6 <= np.median(trained) <= 12
    assert max(trained) < 16
    assert all(0.2 <= piece.gap_s <= 0.8 for phrase in phrases for piece in phrase.pieces)
    assert len({phrase.key for phrase in phrases}) == len(phrases)
    assert any(piece.start_s > 0 for phrase in phrases for piece in phrase.pieces)


def test_a_phrase_is_its_recordings_in_a_row(voices: Path) -> None:
    for phrase in plan_phrases(find_recordings([voices], None), passes=1, shift_probability=0, seed=2):
        take = read_phrase(phrase, RATE_HZ)
        at = 0
        for piece in phrase.pieces:
            original, rate_hz = soundfile.read(piece.recording.path, always_2d=True)
            length = round((piece.stop_s - piece.start_s) * RATE_HZ)
            part = original.mean(axis=1)[round(piece.start_s * rate_hz) : round(piece.stop_s * rate_hz)]
            heard = take.samples[0, at : at + length].numpy()
            assert np.sqrt(np.mean(heard**2)) == pytest.approx(np.sqrt(np.mean(part**2)), rel=0.02)
            assert not take.samples[0, at + length + 2 : at + length + round(0.19 * RATE_HZ)].any()
            at += length + round(piece.gap_s * RATE_HZ)
        assert take.samples.shape[1] == pytest.approx(at, abs=len(phrase.pieces))


def test_shifting_moves_pitch_and_length_by_up_to_two_semitones(tmp_path: Path) -> None:
    times = np.arange(7 * 44100) / 44100
    soundfile.write(tmp_path / "tone.wav", 0.3 * np.sin(2 * np.pi * 1000 * times), 44100)
    recordings = find_recordings([tmp_path / "tone.wav"], None)

    def pitches_hz(probability: float) -> list[float]:
        found = []
        for phrase in plan_phrases(recordings, passes=8, shift_probability=probability, seed=0):
            samples = read_phrase(phrase, RATE_HZ).samples[0].numpy()
            spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
            found.append(float(np.argmax(spectrum) * RATE_HZ / len(samples)))
            duration_s = len(samples) / RATE_HZ - phrase.pieces[0].gap_s
            assert duration_s * found[-1] == pytest.approx(7 * 1000, rel=0.001)  # as many periods as before
        return found

    assert pitches_hz(0.0) == pytest.approx([1000.0] * 8, abs=0.2)
    shifted = np.array(pitches_hz(1.0))
    assert (np.abs(12 * np.log2(shifted / 1000)) <= 2.1).all()
    assert np.std(12 * np.log2(shifted / 1000)) > 0.4


def test_the_seed_alone_decides_the_files_however_many_workers_make_them(
    made: Callable[..., int], voices: Path, preset_table: Path, tmp_path: Path
) -> None:
    assert made("--workers", "2", out="again") == 0
    assert contents(tmp_path / "made" / "again") == contents(tmp_path / "made" / "pairs")
    recordings = find_recordings([voices], None)

    def plan(seed: int) -> list:
        phrases = plan_phrases(recordings, passes=1, shift_probability=0.5, seed=seed)
        takes = plan_preset_takes(phrases, preset_table, mixes_per_take=MIXES, seed=seed)
        return [(take.phrase, [mix.chain for mix in take.mixes]) for take in takes]

    assert plan(5) == plan(5) != plan(6)


def test_an_interrupted_run_goes_on_where_it_was(made: Callable[..., int], tmp_path: Path) -> None:
    out = tmp_path / "made" / "pairs"
    whole = contents(out)
    log = out / "synthesis.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    assert len(lines) >= 3
    log.write_text("".join(lines[:-1]) + lines[-1][:40])  # killed in the middle of the last line
    lost, kept = (json.loads(lines[index])["rows"][0]["mix"] for index in (-1, 0))
    missing = json.loads(lines[1])["rows"][1]["mix"]
    for name in (lost, missing, "pairs.jsonl"):
        (out / name).unlink()
    before = (out / kept).stat().st_mtime_ns
    assert made() == 0
    assert contents(out) == whole
    assert (out / kept).stat().st_mtime_ns == before
    assert made() == 0
    assert contents(out) == whole


def test_other_settings_do_not_touch_pairs_that_are_there(made: Callable[..., int], tmp_path: Path, capsys) -> None:
    out = tmp_path / "made" / "pairs"
    before = contents(out)
    for options in (["--seed", "1"], ["--shift-probability", "0"], ["--passes", "2"], ["--mixes-per-take", "3"]):
        capsys.readouterr()
        assert made(*options) == 2
        assert "other settings" in capsys.readouterr().err
    assert contents(out) == before


def test_a_folder_with_something_else_in_it_is_left_alone(voices: Path, preset_table: Path, capsys) -> None:
    assert run(voices, preset_table, voices) == 2
    assert str(voices) in capsys.readouterr().err
    assert not (voices / "raw").exists()


def test_singers_come_from_the_manifest(voices: Path, preset_table: Path, tmp_path: Path, capsys) -> None:
    files = sorted(path.relative_to(tmp_path) for path in voices.rglob("*.wav"))
    manifest = tmp_path / "MANIFEST.tsv"
    manifest.write_text("file\tsinger\n" + "".join(f"{path}\tcarla\n" for path in files))
    assert {recording.singer for recording in find_recordings([voices], manifest)} == {"carla"}
    manifest.write_text("file\tsinger\n" + "".join(f"{path}\tcarla\n" for path in files[1:]))
    assert run(voices, preset_table, tmp_path / "pairs", "--manifest", str(manifest)) == 2
    assert files[0].name in capsys.readouterr().err
    manifest.write_text("path\tvoice\n")
    assert run(voices, preset_table, tmp_path / "pairs", "--manifest", str(manifest)) == 2
    assert "columns file and singer" in capsys.readouterr().err


def test_a_silent_voice_is_left_out_and_counted(tmp_path: Path, preset_table: Path, capsys) -> None:
    (tmp_path / "voices").mkdir()
    soundfile.write(tmp_path / "voices" / "quiet.wav", np.zeros(7 * RATE_HZ), RATE_HZ)
    assert run(tmp_path / "voices", preset_table, tmp_path / "pairs") == 0
    assert "1 silent" in capsys.readouterr().out
    assert rows_of(tmp_path / "pairs") == []


@pytest.mark.parametrize("content", [None, b"no audio at all", b""])
def test_voices_that_are_none_are_named(tmp_path: Path, preset_table: Path, capsys, content: bytes | None) -> None:
    (tmp_path / "voices").mkdir()
    if content is not None:
        (tmp_path / "voices" / "song.wav").write_bytes(content)
    assert run(tmp_path / "voices", preset_table, tmp_path / "pairs") == 2
    error = capsys.readouterr().err
    assert ("song.wav" if content is not None else str(tmp_path / "voices")) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "pairs").exists()


def _not_a_number() -> np.ndarray:
    sound = syllables(8, RATE_HZ, 0)
    sound[300_000] = np.nan  # beyond the first block that is read
    return sound


UNUSABLE = {
    "8 channels": (lambda path: soundfile.write(path, np.zeros((RATE_HZ, 8)), RATE_HZ), "8 channels"),
    "NaN": (lambda path: soundfile.write(path, _not_a_number(), RATE_HZ, subtype="FLOAT"), "NaN"),
    "50 ms": (lambda path: soundfile.write(path, np.ones(RATE_HZ // 20), RATE_HZ), "at least 0.1 s"),
    "truncated": (lambda path: _cut(path), "truncated"),
}


def _cut(path: Path) -> None:
    soundfile.write(path, syllables(2, RATE_HZ, 0), RATE_HZ)
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_unusable_recording_is_named_before_anything_is_written(
    voices: Path, preset_table: Path, tmp_path: Path, capsys, kind: str
) -> None:
    make, complaint = UNUSABLE[kind]
    make(voices / "bert" / "zzz.wav")
    assert run(voices, preset_table, tmp_path / "pairs") == 2
    *_, error = capsys.readouterr().err.splitlines()
    assert "zzz.wav: " in error and complaint in error
    assert not (tmp_path / "pairs").exists()


def test_a_singer_whose_name_tags_cannot_hold_is_refused(
    voices: Path, preset_table: Path, tmp_path: Path, capsys
) -> None:
    recording = sorted((voices / "anna").glob("*.wav"))[0]
    manifest = tmp_path / "MANIFEST.tsv"
    for letters, code in ((80, 0), (81, 2)):
        name = "𝄞" * letters  # twelve bytes each in a tag
        manifest.write_text(f"file\tsinger\n{recording.relative_to(tmp_path)}\t{name}\n")
        out = tmp_path / f"pairs_{letters}"
        assert run(recording, preset_table, out, "--manifest", str(manifest)) == code
        assert out.exists() == (code == 0)
    *_, error = capsys.readouterr().err.splitlines()
    assert "MANIFEST.tsv" in error and "81 characters; at most 80 allowed" in error


def test_presets_that_are_all_alike_are_refused(voices: Path, preset_table: Path, tmp_path: Path, capsys) -> None:
    header, first, *others = preset_table.read_text().splitlines()
    settings = first.split(",", 1)[1]
    preset_table.write_text("\n".join([header, *(f"{row.split(',')[0]},{settings}" for row in (first, *others))]))
    raw = np.load(preset_table.with_name("raw_params.npy"))
    np.save(preset_table.with_name("raw_params.npy"), np.repeat(raw[:1], len(raw), axis=0))
    assert run(voices, preset_table, tmp_path / "pairs") == 2
    *_, error = capsys.readouterr().err.splitlines()
    assert "decoded.csv: " in error and "too alike to form 7 styles" in error


def test_too_many_mixes_for_the_chains_there_are(voices: Path, preset_table: Path, tmp_path: Path, capsys) -> None:
    assert run(voices, preset_table, tmp_path / "pairs", "--mixes-per-take", "5") == 2  # 4 are held out
    assert "4 presets for the test split" in capsys.readouterr().err
    np.save(preset_table.with_name("train_index.npy"), np.arange(3))
    assert run(voices, preset_table, tmp_path / "pairs") == 2
    assert "of the presets to train on, 3 chains can't form 7 styles" in capsys.readouterr().err
