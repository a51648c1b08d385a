"""What is found of a run where it was tracked: by wandb's own reader of its files, and by TensorBoard's."""

from __future__ import annotations

import io
import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from audio.errors import InputError
from audio.waveform import Waveform
from restyler.checkpoints import RunFolder
from restyler.sections import TrackingSection
from restyler.tracking import Tracking, check_tracking

PLAYED, SEEN, KEPT = "take/mix 1", "take/spectrogram", b"weights"
BIT = 1 / 2**15  # of 16
TENSORBOARD = find_spec("tensorboard") is not None
needs_tensorboard = pytest.mark.skipif(not TENSORBOARD, reason="needs the extra: pip install -e '.[tensorboard]'")


def section(wandb: str = "off", *, tensorboard: bool = False) -> TrackingSection:
    return TrackingSection.model_validate(
        {"wandb": wandb, "project": "a-project", "tensorboard": tensorboard, "log_every": 1}
    )


def checkpoint(run: RunFolder, step: int) -> None:
    (run.checkpoints / f"step_{step:06d}").mkdir(parents=True, exist_ok=True)


def loss(step: int, attempt: int) -> float:
    return 1 / (1 + step) + attempt


@dataclass(frozen=True)
class Tracked:
    """A run that failed after step 4, and went on from the checkpoint of step 2 to step 6."""

    run: RunFolder
    sound: Waveform
    picture: Image.Image
    wandb: list[list[dict[str, Any]]]  # the records of each attempt, as wandb's reader gives them


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracked]:
    run = RunFolder(tmp_path_factory.mktemp("tracked"))
    model = run.path / "pipeline"
    (model / "codec").mkdir(parents=True)
    samples = torch.rand(2, 4800, generator=torch.Generator().manual_seed(0)) * 1.9 - 0.95
    sound = Waveform(samples, 48_000)
    picture = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10, mode="L")
    picture.putpalette(bytes(range(256)) * 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB__SERVICE_WAIT", "250")  # seconds for its own process to start on a busy machine
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        for attempt, steps in enumerate((range(5), range(3, 7))):
            (model / "codec" / "weights").write_bytes(KEPT + bytes([attempt]))
            chosen = section("offline", tensorboard=TENSORBOARD)
            tracking = Tracking.begin(chosen, run, config={"optim": {"lr": 0.1}}, environment={"cpus": 7})
            with suppress(InterruptedError), tracking:
                for step in steps:
                    values = {"loss": loss(step, attempt), "nan": math.nan, "inf": math.inf, "none": None}
                    tracking.scalars(values | ({"val_loss": 0.5} if step % 3 == 0 else {}), step)
                    if step % 3 == 0:
                        tracking.sounds({PLAYED: sound}, step)
                        tracking.pictures({SEEN: picture}, step)
                tracking.model(model, steps[-1])
                if attempt == 0:
                    raise InterruptedError
            (model / "codec" / "weights").write_bytes(b"changed since")
            checkpoint(run, 2)
            time.sleep(1)  # wandb names its folders by the second
        folders = sorted((run.path / "wandb").glob("offline-run-*"))
        yield Tracked(run, sound, picture, [read_by_wandb(folder) for folder in folders])


def read_by_wandb(folder: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def of_kind(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in records if record["type"] == kind]


def rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row["item"] for row in of_kind(records, "history")]


def test_wandb_has_both_attempts_as_one_run_with_what_it_is_about(tracked: Tracked) -> None:
    assert len(tracked.wandb) == 2
    for records in tracked.wandb:
        (about,) = of_kind(records, "run")
        assert about["run_id"] == tracked.run.identity()
        assert about["project"] == "a-project"
        config = about["config"]["update"]
        assert (config["optim"], config["environment"]) == ({"lr": 0.1}, {"cpus": 7})
    assert [of_kind(records, "exit")[0].get("exit_code", 0) for records in tracked.wandb] == [1, 0]


def test_wandb_is_told_nothing_of_whose_machine_it_is(tracked: Tracked) -> None:
    """wandb would by itself: host, user, paths, arguments, the remote of git."""
    told = json.dumps([record for records in tracked.wandb for record in records if record["type"] != "files"])
    for secret in (platform.node(), sys.executable, str(Path.cwd()), *sys.argv[1:]):
        assert len(secret) < 4 or secret not in told, secret


def test_a_record_that_fails_is_told_no_more_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path / "run")
    tracking = Tracking.begin(section(tensorboard=True), run, config={}, environment={})
    run.path.mkdir()
    (run.path / "tensorboard").write_text("a file where its folder should be")
    for step in (1, 2):
        tracking.scalars({"loss": 1.0}, step)
    tracking.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("TensorBoard failed and is told no more of this run: ")


def test_wandb_loses_no_row_of_a_run_that_went_back_in_steps(tracked: Tracked) -> None:
    """Its own step only rises; ours is a value, and what all others are drawn over."""
    for attempt, (records, steps) in enumerate(zip(tracked.wandb, (range(5), range(3, 7)), strict=True)):
        found = [(row["step"], row["loss"]) for row in rows(records) if "loss" in row]
        assert found == [(step, loss(step, attempt)) for step in steps]
        own = [row["_step"] for row in rows(records)]
        assert own == sorted(set(own))
        (metric,) = [metric for metric in of_kind(records, "metric") if metric.get("glob_name") == "*"]
        assert metric["step_metric"] == "step"


def test_what_is_not_finite_is_left_out(tracked: Tracked) -> None:
    names = {name for records in tracked.wandb for row in rows(records) for name in row}
    assert "val_loss" in names
    assert not names & {"nan", "inf", "none"}


def test_wandb_plays_the_sounds_and_shows_the_pictures(tracked: Tracked) -> None:
    folders = sorted((tracked.run.path / "wandb").glob("offline-run-*"))
    for folder, records, expected in zip(folders, tracked.wandb, ([0, 3], [3, 6]), strict=True):
        players = [row for row in rows(records) if f"{PLAYED}.path" in row]
        assert [row["step"] for row in players] == expected
        for row in players:
            assert row[f"{PLAYED}._type"] == "audio-file"
            assert_sounds_like((folder / "files" / row[f"{PLAYED}.path"]).read_bytes(), tracked.sound)
        shown = [row for row in rows(records) if f"{SEEN}.path" in row]
        assert [row["step"] for row in shown] == expected
        for row in shown:
            assert_looks_like((folder / "files" / row[f"{SEEN}.path"]).read_bytes(), tracked.picture)


def test_wandb_keeps_the_model_as_it_was_within_the_run_folder(tracked: Tracked) -> None:
    for attempt, (records, step) in enumerate(zip(tracked.wandb, (4, 6), strict=True)):
        (artifact,) = of_kind(records, "artifact")
        assert (artifact["type"], artifact["name"]) == ("model", f"pipeline-{tracked.run.identity()}")
        assert set(artifact["aliases"]) == {"latest", f"step-{step}"}
        (file,) = artifact["manifest"]["contents"]
        assert file["path"] == "codec/weights"
        assert Path(file["local_path"]).is_relative_to(tracked.run.path)
        assert Path(file["local_path"]).read_bytes() == KEPT + bytes([attempt])


@needs_tensorboard
def test_tensorboard_has_one_series_without_doubled_steps(tracked: Tracked) -> None:
    found = read_by_tensorboard(tracked.run)
    assert set(found.Tags()["scalars"]) == {"loss", "val_loss"}
    series = [(event.step, event.value) for event in found.Scalars("loss")]
    expected = [(step, loss(step, attempt=int(step > 2))) for step in range(7)]
    assert [step for step, _ in series] == [step for step, _ in expected]
    assert [value for _, value in series] == pytest.approx([value for _, value in expected], rel=1e-6)
    assert [event.step for event in found.Scalars("val_loss")] == [0, 3, 6]
    text = found.Tensors("run/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert json.loads(text.removeprefix("```json").removesuffix("```")) == {
        "optim": {"lr": 0.1},
        "environment": {"cpus": 7},
    }


@needs_tensorboard
def test_tensorboard_plays_the_sounds_and_shows_the_pictures(tracked: Tracked) -> None:
    found = read_by_tensorboard(tracked.run)
    assert [event.step for event in found.Audio(PLAYED)] == [0, 3, 6]
    for event in found.Audio(PLAYED):
        assert (event.sample_rate, event.content_type) == (48_000, "audio/wav")
        assert_sounds_like(event.encoded_audio_string, tracked.sound)
    assert [event.step for event in found.Images(SEEN)] == [0, 3, 6]
    for event in found.Images(SEEN):
        assert_looks_like(event.encoded_image_string, tracked.picture)


@needs_tensorboard
@pytest.mark.parametrize(
    ("newest", "first", "left"),
    [
        (4, 6, [0, 2, 4, 6]),  # step 5, of which the older attempt wrote, is not written again
        (5, 4, [0, 2, 4]),  # the checkpoint of step 5 was damaged
    ],
)
def test_tensorboard_forgets_what_came_after_the_checkpoint(
    tmp_path: Path, newest: int, first: int, left: list[int]
) -> None:
    run = RunFolder(tmp_path)
    for steps in ((0, 2, 4, 5, 6), (first,)):
        with Tracking.begin(section(tensorboard=True), run, config={}, environment={}) as tracking:
            for step in steps:
                tracking.scalars({"loss": 1.0}, step)
        checkpoint(run, newest)
    assert [event.step for event in read_by_tensorboard(run).Scalars("loss")] == left


@needs_tensorboard
def test_what_a_killed_run_told_tensorboard_is_there(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    tracking = Tracking.begin(section(tensorboard=True), run, config={}, environment={})
    for step in range(3):
        tracking.scalars({"loss": 1.0}, step)
    try:
        assert [event.step for event in read_by_tensorboard(run).Scalars("loss")] == [0, 1, 2]
    finally:
        tracking.close()


def test_a_run_that_is_not_tracked_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("wandb", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)  # importing it would fail
    check_tracking(section())
    with Tracking.begin(section(), RunFolder(tmp_path), config={}, environment={}) as tracking:
        tracking.scalars({"loss": 1.0}, 1)
        tracking.sounds({PLAYED: Waveform(torch.zeros(1, 9), 48_000)}, 1)
        tracking.pictures({SEEN: Image.new("L", (2, 2))}, 1)
        tracking.model(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_told_with_what_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as in an environment without the extra
    with pytest.raises(InputError, match=r"pip install 'vocal-restyler\[tensorboard\]'"):
        check_tracking(section(tensorboard=True))


def test_wandb_that_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's id may not hold a slash: wandb's own check, before it starts anything."""
    run = RunFolder(tmp_path)
    (tmp_path / "identity").write_text("not/an id")
    monkeypatch.setenv("WANDB__SERVICE_WAIT", "250")
    with pytest.raises(InputError, match=r"tracking\.wandb: offline can't be begun: ") as caught:
        Tracking.begin(section("offline"), run, config={}, environment={})
    assert len(str(caught.value).splitlines()) == 1


def read_by_tensorboard(run: RunFolder) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    kinds = ("scalars", "audio", "images", "tensors")
    found = EventAccumulator(str(run.path / "tensorboard"), size_guidance=dict.fromkeys(kinds, 0))
    return found.Reload()


def assert_sounds_like(file: bytes, sound: Waveform) -> None:
    samples, rate = soundfile.read(io.BytesIO(file), dtype="float32", always_2d=True)
    assert rate == sound.sample_rate
    assert samples.T.shape == tuple(sound.samples.shape)
    assert np.abs(samples.T - sound.samples.numpy()).max() <= BIT


def assert_looks_like(file: bytes, picture: Image.Image) -> None:
    found = Image.open(io.BytesIO(file)).convert("RGB")
    assert np.array_equal(np.asarray(found), np.asarray(picture.convert("RGB")))
