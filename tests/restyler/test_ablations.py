"""What comparisons of designs stand on: options that only they need, and tables that measure once and tell truly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from scipy import stats

from audio.io import write
from codec.pocket import PocketCodec
from restyler.ablate import main
from restyler.ablate_sampling import FINEST, Way, fewest_steps
from restyler.ablation_scores import COLUMNS, paired, scores
from restyler.audition import Audition
from restyler.building import build_model
from restyler.config import DenoiserConfig, load_config
from restyler.material import Material, load_material
from restyler.processes import make_accelerator

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "configs" / "tiny.yaml"
SMALL = {
    "conditioner": {"controls": []},
    "denoiser": {"width": 24, "depth": 1, "heads": 2},
    "optim": {"lr": 0.02, "warmup_steps": 0},
    "training": {"steps": 2, "batch_size": 2, "crop_s": 0.5, "reference_s": 0.4, "save_every": 2},
    "validation": {"every": 2, "examples": 2, "buckets": 2, "takes": 0},
    "sampling": {"guidance": 1.0, "sigma": 0.5},
}

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def test_the_error_of_the_mix_is_that_of_the_velocity_times_t_squared(model: Path) -> None:
    codec = PocketCodec.from_pretrained(model / "codec").eval()
    batch = {name: torch.randn(3, codec.latent_dim, 20) for name in ("raw", "mix", "noise", "reference")}
    batch |= {"t": torch.tensor([0.1, 0.5, 1.0]), "sigma": torch.ones(3), "told": torch.ones(3, dtype=torch.bool)}
    batch |= {"style": torch.full((3,), -1), "reference_frames": torch.zeros(3, dtype=torch.long)}
    batch |= {"controls": torch.full((3, 4), torch.nan), "frame_mask": torch.ones(3, 20, dtype=torch.bool)}
    of_mix, of_velocity = (
        build_model(load_config(TINY, ["denoiser.width=24", "denoiser.heads=2", *more]), codec, [])(batch)  # type: ignore[arg-type]
        for more in (["loss.weighting=mix"], [])
    )
    torch.testing.assert_close(of_mix, of_velocity * batch["t"] ** 2)


def test_latents_may_stay_as_the_codec_gives_them(model: Path, write_pairs: Callable, tmp_path: Path) -> None:
    """The same cached latents, once standardised by the codec's statistics and once not."""
    codec = PocketCodec.from_pretrained(model / "codec")
    codec.set_statistics(torch.linspace(-1, 1, codec.latent_dim), torch.linspace(0.5, 2, codec.latent_dim))
    codec.save_pretrained(tmp_path / "codec")

    pairs = f"{{kind: folder, path: {write_pairs(tmp_path / 'pairs', seconds=1.2)}, validation_fraction: 0.5"
    data = f"data={pairs}, loudness_lufs: -18, cache: {tmp_path / 'cache'}}}"

    def material(standardise: str) -> Material:
        small = ["conditioner.controls=[]", "training.crop_s=0.5", "validation.takes=0"]
        config = load_config(TINY, [*small, data, f"codec.path={tmp_path / 'codec'}", f"standardise={standardise}"])
        assert isinstance(config, DenoiserConfig)
        return load_material(config, make_accelerator(precision="no", batch_size=8, parts=1))

    usual = material("true")
    encoded = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.safetensors")}
    plain = material("false")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.safetensors")} == encoded
    mean, std = codec.latent_mean[:, None], codec.latent_std[:, None]
    for name in ("raw", "mix"):
        ours, theirs = (one.train.numbered(3, seed=0, purpose="crop")[name] for one in (plain, usual))
        torch.testing.assert_close(ours, theirs * std + mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(plain.statistics.residual_std, usual.statistics.residual_std * codec.latent_std)
    assert plain.codec.fingerprint() != usual.codec.fingerprint() == codec.fingerprint()
    audio = torch.randn(1, 2, 4800)
    torch.testing.assert_close(plain.codec.encode(audio), plain.codec.encode_raw(audio))


def test_the_standard_error_is_that_of_a_paired_t_test() -> None:
    some, others = torch.randn(2, 7, generator=torch.Generator().manual_seed(0)).tolist()
    mean, error = paired(some, others)
    assert mean / error == pytest.approx(stats.ttest_rel(some, others).statistic)


def test_the_fewest_steps_are_those_within_the_tolerance_or_better() -> None:
    distances = {1: 1.03, 2: 1.021, 4: 1.019, 8: 1.3, 50: 1.0}
    table = {Way("euler", steps, FINEST.guidance, FINEST.sigma): value for steps, value in distances.items()}
    others = {Way("heun", 1, FINEST.guidance, FINEST.sigma): 0.5, Way("euler", 1, 3.0, FINEST.sigma): 0.5}
    assert fewest_steps(table | others) == 4
    assert fewest_steps(table | {Way("euler", 1, FINEST.guidance, FINEST.sigma): 0.2}) == 1


@pytest.fixture
def place(model: Path, vocal: Callable, write_pairs: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with two small designs and three takes, two of them for validation."""
    folder = write_pairs(tmp_path / "pairs", seconds=1.2)
    rows = [
        {"key": key, "raw": f"raw/{key}.wav", "mix": f"mix/{key}.wav", "split": split, "style": "near"}
        for key, split in (("a", "train"), ("b", "validation"), ("c", "validation"))
    ]
    for side, channels in (("raw", 1), ("mix", 2)):
        write(folder / side / "c.wav", vocal(1.2, 48_000, channels=channels, seed=3), tags={})
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {"kind": "folder", "path": "pairs", "validation_fraction": 0.5, "loudness_lufs": -18.0, "cache": "cache"}
    plain = SMALL | {"extends": str(TINY), "data": data, "codec": {"kind": "pocket", "path": str(model / "codec")}}
    (tmp_path / "configs" / "ablations").mkdir(parents=True)
    write_design(tmp_path, "plain", plain)
    write_design(tmp_path, "other", {"extends": "plain.yaml", "denoiser": {"predicts": "velocity"}})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_design(place: Path, name: str, tree: dict) -> None:
    (place / "configs" / "ablations" / f"{name}.yaml").write_text(yaml.safe_dump(tree))


@pytest.mark.slow  # trains
def test_designs_are_trained_and_measured_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--runs", "runs", "--takes", "2", "--seconds", "1"]
    assert main(arguments) == 0
    table = capsys.readouterr().out.splitlines()
    table = table[next(number for number, line in enumerate(table) if line.startswith("| design")) :]
    rows = {cells[0].strip(): cells for cells in (line.strip("|").split("|") for line in table if line.startswith("|"))}
    assert len({len(cells) for cells in rows.values()}) == 1
    kept = {path: path.stat().st_mtime_ns for path in place.rglob("runs/*/[sp]*/*") if path.is_file()}
    one = "euler_1_guidance1_sigma0.5.json"
    plain, other = (
        json.loads((place / "runs" / name / "scores" / one).read_text())["scores"] for name in ("plain", "other")
    )
    assert float(rows["plain"][2]) == pytest.approx(sum(plain["mss_lr"]) / 2, abs=6e-4)
    difference = sum(other["mss_lr"]) / 2 - sum(plain["mss_lr"]) / 2
    assert abs(difference) > 1e-3
    assert float(rows["other"][3].split("±")[0].replace("−", "-")) == pytest.approx(difference, abs=6e-4)

    assert main(arguments) == 0
    again = capsys.readouterr().out.splitlines()
    assert again == table
    assert {path: path.stat().st_mtime_ns for path in kept} == kept

    write_design(place, "other", {"extends": "plain.yaml", "denoiser": {"raw_take": "concatenation"}})
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "denoiser.raw_take: 'skip' → 'concatenation'" in error and error.count("\n") == 1


def test_nothing_is_trained_while_a_set_is_still_to_be_made(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_design(place, "other", {"extends": "plain.yaml", "data": {"path": "elsewhere"}})
    assert main([]) == 2
    assert "other.yaml: data.path: elsewhere is still to be made" in capsys.readouterr().err
    assert not (place / "runs").exists()


def test_scores_are_taken_from_disk_only_for_the_same_weights_and_takes(
    model: Path, build_pipeline: Callable, vocal: Callable, tmp_path: Path
) -> None:
    takes = [Audition(f"take {n}", vocal(1, 48_000, channels=2, seed=n), vocal(1, 48_000, channels=2, seed=n + 5), None)
             for n in range(2)]  # fmt: skip
    way = Way("euler", 1, 1.0, 0.5)
    found = scores(model, takes, way, kept=tmp_path)
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(COLUMNS, 2)
    assert found["apart"][0] > 0
    assert scores(model, takes, way, kept=tmp_path) == found
    assert scores(model, takes[::-1], way, kept=tmp_path)["mss_lr"] == found["mss_lr"][::-1]
    build_pipeline(sigma=2.0).save_pretrained(tmp_path / "another")
    exact = scores(tmp_path / "another", takes, way, kept=tmp_path)  # float32, where `model` was rounded
    assert exact != found
    assert exact["mss_lr"] == pytest.approx(found["mss_lr"], rel=0.05)
