"""The folder of a run: bound only by a run that can work, its checkpoints in order, its pipeline that of the newest."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from audio.errors import InputError
from restyler.checkpoints import RunFolder, replace_folder
from restyler.pipeline import VocalRestylePipeline
from restyler.train import main

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMALL = {
    "data.takes": "8",
    "data.seconds": "1.5",
    "denoiser.width": "48",
    "denoiser.depth": "1",
    "denoiser.heads": "2",
    "training.steps": "3",
    "training.batch_size": "4",
    "training.crop_s": "0.3",
    "training.reference_s": "0.2",
    "training.precision": "no",
    "training.save_every": "2",
    "validation.examples": "1",
    "validation.buckets": "2",
}


pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture(scope="module")
def arguments(model: Path, synthetic_cache: Path) -> Callable[..., list[str]]:
    """arguments(run_dir, **{"optim.lr": "1"}): the command line of a small run; all share one cache."""
    common = SMALL | {"codec.path": str(model / "codec"), "data.cache": str(synthetic_cache)}

    def build(run_dir: Path, **changes: str) -> list[str]:
        overrides = [f"{key}={value}" for key, value in (common | changes).items()]
        return [str(CONFIGS / "tiny.yaml"), *overrides, "--run-dir", str(run_dir)]

    return build


@pytest.fixture(scope="module")
def finished(arguments: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps: copy it, don't change it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(arguments(folder)) == 0
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def assert_averaged_weights(run: Path, checkpoint: str) -> None:
    """The pipeline holds the averaged weights of that checkpoint, bit for bit."""
    state = torch.load(run / "checkpoints" / checkpoint / "state.pt", weights_only=True)
    pipeline = VocalRestylePipeline.from_pretrained(run / "pipeline")
    exported = [*pipeline.conditioner.parameters(), *pipeline.denoiser.parameters()]
    averaged = state["task"]["average"]
    assert len(exported) == len(averaged)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(exported, averaged, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(averaged, state["task"]["model"].values(), strict=False))


def test_a_deleted_pipeline_comes_back(run: Path, arguments: Callable[..., list[str]]) -> None:
    assert_averaged_weights(run, "step_000003")
    shutil.rmtree(run / "pipeline")
    assert main(arguments(run)) == 0
    assert_averaged_weights(run, "step_000003")


def test_a_pipeline_of_an_earlier_step_is_made_anew(run: Path, arguments: Callable[..., list[str]]) -> None:
    """What a kill between checkpoint and export leaves: here step 3 is there, and the pipeline is that of step 2."""
    (run / "checkpoints" / "step_000003").rename(run / "later")
    shutil.rmtree(run / "pipeline")
    earlier = arguments(run)
    assert main(earlier) == 0  # from step 2: as after a kill, step 3 is trained again
    assert_averaged_weights(run, "step_000003")
    (run / "pipeline" / ".step").write_text("2")
    before = (run / "pipeline" / "manifest.json").stat().st_ino
    assert main(earlier) == 0
    assert (run / "pipeline" / "manifest.json").stat().st_ino != before
    assert (run / "pipeline" / ".step").read_text() == "3"


def test_a_damaged_pipeline_is_made_anew(run: Path, arguments: Callable[..., list[str]]) -> None:
    (run / "pipeline" / "denoiser" / "config.json").unlink()
    assert main(arguments(run)) == 0
    assert_averaged_weights(run, "step_000003")


def test_what_a_kill_between_the_two_renames_left_comes_back(tmp_path: Path) -> None:
    (tmp_path / ".model.old").mkdir()
    (tmp_path / ".model.old" / "file").write_text("before")

    def fail(fresh: Path) -> None:
        assert (tmp_path / "model" / "file").read_text() == "before"
        fresh.mkdir()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_folder(tmp_path / "model", fail)
    assert (tmp_path / "model" / "file").read_text() == "before"

    def write(fresh: Path) -> None:
        fresh.mkdir()
        (fresh / "file").write_text("after")

    replace_folder(tmp_path / "model", write)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "file").read_text() == "after"


def test_checkpoints_are_ordered_by_step_not_by_name(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    for step in (980_000, 990_000, 1_000_000, 1_010_000):
        run.save(step, {"step": step}, keep=3)
        (run.checkpoints / f"step_{step}.backup").mkdir()  # somebody else's
        newest = run.newest()
        assert newest is not None
        assert run.load(newest) == {"step": step}
    kept = sorted(path.name for path in run.checkpoints.iterdir() if "backup" not in path.name)
    assert kept == ["step_1000000", "step_1010000", "step_990000"]


IMPOSSIBLE = [
    ({"denoiser.heads": "7"}, "denoiser: the width is divisible by twice the heads"),
    ({"sampling.guidance": "25.0"}, "sampling.guidance: should be less than or equal to 20, not 25.0"),
    ({"sampling.steps": "2000"}, "sampling.steps: should be less than or equal to 1000, not 2000"),
    ({"sampling.window_s": "0.01"}, "sampling.window_s, sampling.context_s: a window keeps at least 4 frames"),
    ({"sampling.window_s": "1", "sampling.context_s": "0.5"}, "between its contexts, not 0 (window_frames 150"),
    ({"training.crop_s": "0.001"}, "training.crop_s: at least one frame of the codec (0.0067 s), not 0.001 s"),
    ({"training.reference_s": "0.001"}, "training.reference_s: at least one frame of the codec (0.0067 s)"),
    ({"codec.path": "/nowhere"}, "codec.path: no pocket codec can be read from /nowhere"),
]


@pytest.mark.parametrize(("changes", "message"), IMPOSSIBLE)
def test_what_can_not_work_is_refused_and_does_not_bind_the_folder(
    arguments: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    message: str,
) -> None:
    bad = arguments(tmp_path / "run", **changes)
    for extra in (["--dry-run"], []):  # the rehearsal fails as the run does
        assert main([*bad, *extra]) == 2
        assert message in error_line(capsys)
        assert list(tmp_path.iterdir()) == []


def test_after_a_mistyped_command_the_right_one_works_in_the_same_folder(
    arguments: Callable[..., list[str]], tmp_path: Path
) -> None:
    assert main(arguments(tmp_path, **{"denoiser.heads": "7"})) == 2
    assert main(arguments(tmp_path)) == 0


def test_a_config_that_was_never_begun_leaves_another_run_as_it_is(
    run: Path, arguments: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "config.json").read_bytes()
    assert main(arguments(run, **{"optim.lr": "1", "training.steps": "9"})) == 2
    assert "undo optim.lr: 0.003 → 1.0; training.steps: 3 → 9" in error_line(capsys)
    assert (run / "config.json").read_bytes() == before


@pytest.mark.parametrize("content", ["[]", "{", b"\xff"])
def test_a_damaged_record_of_the_config_is_told(tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / "config.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=r"not usable as a run folder: config\.json can't be read"):
        RunFolder(tmp_path).check("config", {})


def folder_arguments(
    arguments: Callable[..., list[str]], pairs: Path, tmp_path: Path, config: str = "tiny"
) -> list[str]:
    """A run on a folder of pairs; of its keys a and b, b goes to validation."""
    data = (
        f"{{kind: folder, path: {pairs}, validation_fraction: 0.25, loudness_lufs: -18, cache: {tmp_path / 'cache'}}}"
    )
    kept = [text for text in arguments(tmp_path / "run") if not text.startswith("data.")]
    return [*kept, f"data={data}", "conditioner.controls=[]"]


@pytest.mark.parametrize("style", ["none", "any"])
def test_a_style_whose_name_commands_understand_otherwise_is_refused(
    arguments: Callable[..., list[str]],
    write_pairs: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    style: str,
) -> None:
    pairs = write_pairs(tmp_path / "pairs", seconds=1.0)
    rows: list[dict[str, Any]] = [
        {"key": key, "raw": f"raw/{key}.wav", "mix": f"mix/{key}.wav", "style": style, "split": split}
        for key, split in (("a", "train"), ("b", "validation"))
    ]
    (pairs / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for extra in (["--dry-run"], []):
        assert main([*folder_arguments(arguments, pairs, tmp_path), *extra]) == 2
        assert f"a style can't be called '{style}'" in error_line(capsys)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()  # told before anything is encoded


def test_a_copy_of_a_training_take_does_not_validate(
    arguments: Callable[..., list[str]],
    write_pairs: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pairs = write_pairs(tmp_path / "pairs", seconds=1.0)
    shutil.copy(pairs / "raw" / "a.wav", pairs / "raw" / "b.wav")
    assert main(folder_arguments(arguments, pairs, tmp_path)) == 2
    assert "b.wav: one recording in two splits, as «a»" in error_line(capsys)


def test_a_rehearsal_without_the_codecs_weights_fails_as_the_run_would(
    write_pairs: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = write_pairs(tmp_path / "pairs", seconds=1.0)
    data = (
        f"{{kind: folder, path: {pairs}, validation_fraction: 0.25, loudness_lufs: -18, cache: {tmp_path / 'cache'}}}"
    )
    base = [str(CONFIGS / "base.yaml"), f"data={data}", "codec.weights=/nowhere", "training.precision=no"]
    lines = []
    for extra in (["--dry-run"], []):
        assert main([*base, "--run-dir", str(tmp_path / "run"), *extra]) == 2
        lines.append(error_line(capsys))
    assert lines[0] == lines[1]
    assert "/nowhere" in lines[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("part", ["shapes", "names", "average", "progress", "optimiser"])
def test_a_checkpoint_of_another_model_is_told_in_one_line(
    run: Path, arguments: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], part: str
) -> None:
    file = run / "checkpoints" / "step_000003" / "state.pt"
    state = torch.load(file, weights_only=True)
    task = state["task"]
    name = next(iter(task["model"]))
    match part:
        case "shapes":
            task["model"][name] = torch.zeros(3, 3)
        case "names":
            task["model"]["another"] = task["model"].pop(name)
        case "average":
            task["average"][0] = torch.zeros(3)
        case "progress":
            state["progress"]["unknown"] = 1
        case "optimiser":
            del task["optimiser"]
    torch.save(state, file)
    (file.parent / "SHA256SUMS").unlink()  # with it, the checkpoint is a damaged one
    assert main(arguments(run)) == 2
    assert "step_000003: not a checkpoint of this config's model: " in error_line(capsys)


@pytest.mark.parametrize("part", ["shapes", "names", "sizes", "cut", "gone"])
def test_a_codec_that_is_not_whole_is_told_in_one_line(
    model: Path, arguments: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    folder = Path(shutil.copytree(model / "codec", tmp_path / "codec"))
    file = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    match part:
        case "shapes":
            save_file(tensors | {"encoder_linear.weight": torch.zeros(3, 3)}, file)
        case "names":
            tensors["another"] = tensors.pop("encoder_linear.weight")
            save_file(tensors, file)
        case "sizes":
            (folder / "config.json").write_text('{"_class_name": "PocketCodec", "width": "x"}')
        case "cut":
            file.write_bytes(file.read_bytes()[:1000])
        case "gone":
            file.unlink()
    assert main([*arguments(tmp_path / "run", **{"codec.path": str(folder)}), "--dry-run"]) == 2
    assert f"codec.path: no pocket codec can be read from {folder}: " in error_line(capsys)


def test_wandb_without_a_login_is_told(
    arguments: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert main(arguments(tmp_path / "run", **{"tracking.wandb": "online"})) == 2
    assert "tracking.wandb: online needs a login" in error_line(capsys)
    assert not (tmp_path / "run").exists()
