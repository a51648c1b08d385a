"""Training that begins with the weights of a saved model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from audio.errors import InputError
from restyler.building import TrainingModel, build_model
from restyler.config import DenoiserConfig, load_config
from restyler.pipeline import VocalRestylePipeline

ROOT = Path(__file__).resolve().parents[2]
SIZES = [
    "denoiser.width=32",
    "denoiser.depth=1",
    "denoiser.heads=2",
    "conditioner.embed_dim=16",
    "conditioner.reference_width=8",
    "conditioner.controls=[width_db, space_db]",
    "path.sigma_max=2.0",
]


def config(path: Path | str, *changes: str) -> DenoiserConfig:
    settings = [*SIZES, "start.kind=model", f"start.path={path}"]
    changed = {change.partition("=")[0] for change in changes}
    kept = [setting for setting in settings if setting.partition("=")[0] not in changed]
    loaded = load_config(ROOT / "configs/tiny.yaml", [*kept, *changes])
    assert isinstance(loaded, DenoiserConfig)
    return loaded


@pytest.fixture(scope="module")
def source(model: Path) -> VocalRestylePipeline:
    return VocalRestylePipeline.from_pretrained(model)


def start(source: VocalRestylePipeline, path: Path | str, styles: list[str]) -> TrainingModel:
    return build_model(config(path), source.codec, styles)


def test_it_starts_as_the_model_and_styles_are_known_by_name(model: Path, source: VocalRestylePipeline) -> None:
    begun = start(source, model, ["my room", "wide hall", "dry booth"])
    for name, weight in begun.denoiser.state_dict().items():  # the scale of the residual among them
        assert torch.equal(weight, source.denoiser.state_dict()[name]), name
    for name, weight in begun.conditioner.state_dict().items():
        if name != "style_embedding.weight":
            assert torch.equal(weight, source.conditioner.state_dict()[name]), name
    known = source.conditioner.style_embedding.weight[[source.styles.index(n) for n in ("wide hall", "dry booth")]]
    assert torch.equal(begun.conditioner.style_embedding.weight[1:], known)
    fresh = build_model(load_config(ROOT / "configs/tiny.yaml", SIZES), source.codec, ["my room", "b", "c"])  # type: ignore[arg-type]
    assert torch.equal(begun.conditioner.style_embedding.weight[0], fresh.conditioner.style_embedding.weight[0])
    assert all(parameter.requires_grad for parameter in begun.parameters())


def test_a_set_without_styles_may_start_from_a_model_that_has_some(model: Path, source: VocalRestylePipeline) -> None:
    assert not hasattr(start(source, model, []).conditioner, "style_embedding")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("denoiser.depth=2", "depth is 1 there and 2 here"),
        ("path.sigma_max=1.5", "sigma_max is 2.0 there and 1.5 here"),
        ("conditioner.controls=[width_db]", r"controls is \['width_db', 'space_db'\] there"),
        ("start.path=/nowhere", "/nowhere"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    model: Path, source: VocalRestylePipeline, change: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_model(config(model, change), source.codec, [])


def test_a_model_on_another_codec_is_refused(model: Path, source: VocalRestylePipeline) -> None:
    other = VocalRestylePipeline.from_pretrained(model).codec
    other.set_statistics(other.latent_mean + 1, other.latent_std)
    with pytest.raises(InputError, match="codec_fingerprint is"):
        build_model(config(model), other, [])
