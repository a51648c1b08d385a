"""From pairs to a student: what is learned, what is kept, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import butter, lfilter

from audio import io
from audio.errors import InputError
from audio.features import measure
from audio.waveform import Waveform
from restyler.bench_live import main as bench_live
from restyler.bundle import main as bundle
from restyler.config import load_config
from restyler.dry_run import describe
from restyler.metrics import spectral_distance
from restyler.sing import random_take
from restyler.student.config import StudentConfig
from restyler.student.data import Crops, read_distilled, read_held_out
from restyler.student.distilling import appended
from restyler.student.files import Student, load_student, save_student
from restyler.student.training import train_student
from restyler.train import main

ROOT = Path(__file__).resolve().parents[3]
RATE = 48_000
STYLES = ["dark", "plain"]
SMALL = [
    "student.heard_bands=16", "student.gain_bands=10", "student.room_bands=4", "student.width=16",
    "student.told_width=8", "student.room_frames=20", "training.batch_size=1", "training.crop_s=0.25",
    "training.run_up_s=0.1", "training.steps=18", "training.save_every=18", "validation.every=18",
    "validation.pairs=1", "optim.warmup_steps=2", "optim.lr=2e-2", "ema.decay=0.5", "tracking.log_every=6",
]  # fmt: skip


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three takes with mixes that are 12 dB softer above 2 kHz and wider: two to train on, one to validate."""
    folder = tmp_path_factory.mktemp("distilled")
    rows = []
    for number, split in enumerate(("train", "train", "validation")):
        take = random_take(1.2, sample_rate=RATE, generator=np.random.default_rng(number)).samples[:, : 12 * RATE // 10]
        low = torch.from_numpy(lfilter(*butter(1, 2_000, fs=RATE), take.numpy()).astype(np.float32))
        mix = torch.cat([0.25 * take + 0.75 * low, 0.25 * take + 0.75 * low.roll(40, 1)])
        for side, samples in (("raw", take), ("mix", mix)):
            io.make_folder(folder / side)
            io.write(folder / side / f"{number}.flac", Waveform(samples, RATE), tags={})
        knobs = {"brightness": 0.5, "space": 0.5, "style": float(number % 2)}
        rows.append({"key": f"{number}", "raw": f"raw/{number}.flac", "mix": f"mix/{number}.flac", "split": split})
        rows[-1]["knobs"] = knobs
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "distillation.json").write_text(json.dumps({"styles": STYLES, "model": "pocket 0123"}))
    return folder


def load(folder: Path, *overrides: str) -> StudentConfig:
    config = load_config(ROOT / "configs" / "student.yaml", [*SMALL, f"data.path={folder}", *overrides])
    assert isinstance(config, StudentConfig)
    return config


@pytest.fixture(scope="module")
def run(distilled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "student"
    assert train_student(load(distilled), folder) == 0
    return folder


def logged(run: Path, key: str) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row[key] for row in rows if key in row]


def test_it_comes_nearer_to_the_mixes_of_a_voice_it_never_heard(run: Path) -> None:
    before, after = logged(run, "val_mss_lr")
    raw = logged(run, "val_raw_mss_lr")
    assert after < 0.8 * before
    assert after < 0.9 * raw[0] and raw[0] == raw[1]


def test_validation_measures_what_the_exported_student_does(run: Path, distilled: Path) -> None:
    student = load_student(run / "student")
    (pair,) = read_distilled(distilled).validation
    take, mix = (torch.from_numpy(side).float() / 32767 for side in (pair.take, pair.mix))
    ours = Waveform(student.network(take[None], torch.from_numpy(pair.knobs)[None])[0], RATE)
    assert spectral_distance(Waveform(mix, RATE), ours).lr == pytest.approx(logged(run, "val_mss_lr")[-1], rel=1e-3)
    assert student.styles == STYLES and student.teacher == "pocket 0123"


def test_a_run_that_is_over_trains_nothing_and_one_of_other_pairs_is_refused(
    run: Path, distilled: Path, tmp_path: Path
) -> None:
    weights = (run / "student" / "student.safetensors").read_bytes()
    assert train_student(load(distilled), run) == 0
    assert (run / "student" / "student.safetensors").read_bytes() == weights
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for name in ("raw", "mix", "distillation.json"):
        (fewer / name).symlink_to(distilled / name)
    lines = (distilled / "pairs.jsonl").read_text().splitlines(keepends=True)
    (fewer / "pairs.jsonl").write_text("".join(lines[1:]))
    with pytest.raises(InputError, match="data"):
        train_student(load(fewer), run)


def test_a_crop_is_a_function_of_seed_step_and_number_and_both_sides_are_in_time(distilled: Path) -> None:
    pairs = read_distilled(distilled).train
    crops = Crops(pairs, samples=9_600, batch_size=3, seed=4)
    takes, mixes, knobs = crops.batch(7)
    again = iter(crops)
    for _ in range(7):
        next(again)
    assert all(torch.equal(one, two) for one, two in zip(crops.batch(7), next(again), strict=True))
    assert takes.shape == (3, 9_600) and mixes.shape == (3, 2, 9_600) and knobs.shape == (3, 3)
    for take, mix in zip(takes, mixes, strict=True):  # the low pass delays by less than a millisecond
        lag = np.correlate(mix[0].numpy(), take.numpy()[200:-200], "valid").argmax() - 200
        assert abs(lag) < 48
    other = Crops(pairs, samples=9_600, batch_size=3, seed=5).batch(7)[0]
    assert not torch.equal(takes, other)


def test_a_dry_run_tells_sizes_and_writes_nothing(distilled: Path) -> None:
    text = describe(load(distilled))
    assert "2 to train on, 1 to validate; styles: dark, plain" in text
    assert f"{sum(p.numel() for p in _network(distilled).parameters()):,} parameters" in text


def _network(folder: Path) -> torch.nn.Module:
    from restyler.student.files import build_student

    return build_student(load(folder).student.model_dump(), STYLES)


def test_a_student_is_read_as_it_was_written_and_damage_is_refused(
    student: Student, student_folder: Path, tmp_path: Path
) -> None:
    back = load_student(student_folder)
    ours, theirs = student.network.state_dict(), back.network.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    save_student(tmp_path / "half", student, dtype=torch.float16)
    half = load_student(tmp_path / "half").network.state_dict()
    assert all(torch.equal(half[name], ours[name].half().float()) for name in ours)
    weights = tmp_path / "half" / "student.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match="damaged"):
        load_student(tmp_path / "half")


def test_a_bundle_is_the_same_student_in_half_precision_with_its_card(
    student: Student, student_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card, out = tmp_path / "card.md", tmp_path / "out"
    card.write_text("# Mine\n")
    assert bundle([str(student_folder), str(out), "--card", str(card), "--steps", "2"]) == 2
    assert "--steps: a live student doesn't sample" in capsys.readouterr().err
    assert not out.exists()
    assert bundle([str(student_folder), str(out), "--card", str(card)]) == 0
    assert (out / "README.md").read_text() == "# Mine\n"
    ours = student.network.state_dict()
    assert all(torch.equal(w, ours[name].half().float()) for name, w in load_student(out).network.state_dict().items())


def test_a_folder_that_is_another_model_is_refused(model: Path) -> None:
    with pytest.raises(InputError, match="not a student"):
        load_student(model)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "pairs.jsonl").unlink(), "restyler distil"),
        (lambda folder: (folder / "distillation.json").write_text("{}"), "no distillation.json"),
        (lambda folder: (folder / "pairs.jsonl").write_text('{"key": 1}\n'), "line 1"),
        (lambda folder: _rename(folder, "brightness"), "line 1"),
        (lambda folder: _keep(folder, "train"), "no pair for validation"),
    ],
)
def test_pairs_that_cannot_be_used_are_refused(
    distilled: Path, tmp_path: Path, change: Callable[[Path], object], said: str
) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    for name in ("raw", "mix"):
        (folder / name).symlink_to(distilled / name)
    for name in ("pairs.jsonl", "distillation.json"):
        (folder / name).write_bytes((distilled / name).read_bytes())
    change(folder)
    with pytest.raises(InputError, match=said):
        read_distilled(folder)


def _keep(folder: Path, split: str) -> None:
    lines = (folder / "pairs.jsonl").read_text().splitlines(keepends=True)
    (folder / "pairs.jsonl").write_text("".join(line for line in lines if split in line))


def _rename(folder: Path, knob: str) -> None:
    text = (folder / "pairs.jsonl").read_text()
    (folder / "pairs.jsonl").write_text(text.replace(f'"{knob}"', '"other"'))


def test_a_line_that_was_cut_off_counts_for_nothing_and_goes_before_more_is_written(
    distilled: Path, tmp_path: Path
) -> None:
    for name in ("raw", "mix", "distillation.json"):
        (tmp_path / name).symlink_to(distilled / name)
    whole = (distilled / "pairs.jsonl").read_bytes()
    (tmp_path / "pairs.jsonl").write_bytes(whole + b'{"key": "3", "raw"')
    assert len(read_distilled(tmp_path).train) == 2
    assert (tmp_path / "pairs.jsonl").read_bytes() == whole + b'{"key": "3", "raw"'  # who reads doesn't write
    with appended(tmp_path) as sink:
        with pytest.raises(InputError, match="another"), appended(tmp_path):
            pass
        sink.write(whole.splitlines(keepends=True)[0])
    assert (tmp_path / "pairs.jsonl").read_bytes() == whole + whole.splitlines(keepends=True)[0]


def test_bad_configs_are_refused_before_anything_is_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = str(ROOT / "configs" / "student.yaml")
    off = [f"losses.{name}=0" for name in ("convergence", "log_magnitude", "mel", "level")]
    for overrides, said in (
        (off, "at least one weight"),
        (["student.gain_bands=1"], "student.gain_bands"),
        ([f"data.path={tmp_path}"], "restyler distil"),
    ):
        assert main([config, *overrides, "--run-dir", str(tmp_path / "run")]) == 2
        assert said in capsys.readouterr().err
    assert main([config, "--find-batch-size"]) == 2
    assert "the batch of a student is small" in capsys.readouterr().err


@pytest.mark.slow
def test_the_bench_tells_latency_speed_both_distances_and_what_the_knobs_turn(
    run: Path, distilled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench_live(["--student", str(run / "student"), "--seconds", "1", "--pairs", str(distilled)]) == 0
    said = capsys.readouterr().out
    assert "latency 960 samples" in said
    assert "nearer (MSS_lr) in 1 of 1" in said
    assert said.count("real-time factor") >= 4
    assert "mean of 1 held-out takes" in said
    assert [said.count(f"  {knob} ") for knob in ("brightness", "space")] == [5, 5]
    student, (pair,) = load_student(run / "student"), read_held_out(distilled, STYLES)
    take = torch.from_numpy(pair.take).float()[None] / 32767
    mix = student.network(take, torch.tensor([[0.5, 0.5, 1.0]]))[0]
    more = [measure(Waveform(sound, RATE))["brightness_db"] for sound in (mix, take.expand(2, -1))]
    (line,) = [line for line in said.splitlines() if line.startswith(f"  style {STYLES[1]} ")]
    assert float(line.split()[2]) == pytest.approx(more[0] - more[1], abs=0.011)


def test_held_out_pairs_are_those_of_no_training(distilled: Path) -> None:
    assert [pair.key for pair in read_held_out(distilled, STYLES)] == ["2"]
    with pytest.raises(InputError, match="other styles"):
        read_held_out(distilled, ["plain"])
