from pathlib import Path

import pytest
import torch

from audio.errors import InputError
from conditioning.conditioner import StyleConditioner

NAN = torch.nan


@pytest.fixture
def conditioner() -> StyleConditioner:
    torch.manual_seed(0)
    return StyleConditioner(
        latent_dim=4,
        embed_dim=8,
        styles=["dry", "hall", "telephone"],
        controls=["brightness", "width"],
        reference_width=16,
    )


@pytest.fixture
def raw() -> torch.Tensor:
    return torch.randn(3, 4, 20, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def reference() -> torch.Tensor:
    return torch.randn(3, 4, 31, generator=torch.Generator().manual_seed(1))


def test_what_is_told_is_summed_and_what_is_not_adds_zero(conditioner, raw, reference) -> None:
    style, frames = torch.tensor([2, -1, 0]), torch.tensor([31, 0, 12])
    controls = torch.tensor([[0.5, NAN], [NAN, NAN], [NAN, NAN]])
    parts = [
        conditioner(raw, style=style).pooled,
        conditioner(raw, reference=reference, reference_frames=frames).pooled,
        conditioner(raw, controls=controls).pooled,
    ]
    together = conditioner(raw, style=style, reference=reference, reference_frames=frames, controls=controls)
    torch.testing.assert_close(together.pooled, sum(parts))
    told = torch.tensor([[True, False, True], [True, False, True], [True, False, False]])
    for part, expected in zip(parts, told, strict=True):
        assert part.any(dim=1).tolist() == expected.tolist()
    assert torch.equal(together.aligned, raw)
    assert not conditioner(raw).pooled.any()


def test_different_things_told_give_different_vectors(conditioner, raw, reference) -> None:
    frames = torch.full((3,), 31)
    variants = [
        conditioner(raw, style=torch.full((3,), 0)).pooled,
        conditioner(raw, style=torch.full((3,), 1)).pooled,
        conditioner(raw, reference=reference, reference_frames=frames).pooled,
        conditioner(raw, reference=2 * reference, reference_frames=frames).pooled,
        conditioner(raw, controls=torch.tensor([[0.0, NAN]]).expand(3, 2)).pooled,
        conditioner(raw, controls=torch.tensor([[NAN, 0.0]]).expand(3, 2)).pooled,
        conditioner(raw, controls=torch.tensor([[0.5, 0.0]]).expand(3, 2)).pooled,
    ]
    distances = torch.cdist(torch.stack([v[0] for v in variants])[None], torch.stack([v[0] for v in variants])[None])[0]
    assert (distances + torch.eye(len(variants))).min() > 1e-3


@pytest.mark.parametrize("filling", [0.0, 1e6, NAN])
@pytest.mark.parametrize("frames", [1, 2, 7, 30])
def test_padding_of_a_reference_has_no_influence(conditioner, raw, reference, frames: int, filling: float) -> None:
    padded = reference.clone()
    padded[1, :, frames:] = filling
    result = conditioner(raw, reference=padded, reference_frames=torch.tensor([31, frames, 31])).pooled
    alone = conditioner(raw[1:2], reference=reference[1:2, :, :frames], reference_frames=torch.tensor([frames])).pooled
    torch.testing.assert_close(result[1:2], alone, rtol=1e-5, atol=1e-6)


def test_when_something_happens_in_a_reference_does_not_matter(conditioner, raw) -> None:
    event = torch.randn(1, 4, 10, generator=torch.Generator().manual_seed(2))
    early, late = (torch.nn.functional.pad(event, (at, 40 - at)) for at in (6, 29))
    frames = torch.tensor([50])
    first, second = (conditioner(raw[:1], reference=x, reference_frames=frames).pooled for x in (early, late))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_a_longer_reference_of_the_same_kind_says_the_same(conditioner, raw) -> None:
    """What counts is the kind of recording, not its length: two takes from one source are closer than two sources."""

    def read(scale: float, frames: int, seed: int) -> torch.Tensor:
        x = scale * torch.randn(1, 4, frames, generator=torch.Generator().manual_seed(seed))
        return conditioner(raw[:1], reference=x, reference_frames=torch.tensor([frames])).pooled

    same = (read(1.0, 2000, 3) - read(1.0, 500, 4)).norm()
    other = (read(1.0, 2000, 3) - read(2.0, 2000, 5)).norm()
    assert same < 0.2 * other


def test_what_is_not_told_sends_back_clean_gradients(conditioner, raw, reference) -> None:
    """NaN controls, missing references (NaN inside) and a reference of one frame: every gradient is finite."""
    missing = reference.clone()
    missing[0] = NAN
    raw.requires_grad_()
    conditions = conditioner(
        raw,
        style=torch.tensor([-1, -1, 1]),
        reference=missing,
        reference_frames=torch.tensor([0, 1, 31]),
        controls=torch.tensor([[NAN, NAN], [NAN, 0.3], [NAN, NAN]]),
    )
    (conditions.pooled.square().sum() + conditions.aligned.sum()).backward()
    for name, parameter in conditioner.named_parameters():
        assert bool(parameter.grad.isfinite().all()), name
        assert parameter.grad.any(), name
    assert not conditioner.style_embedding.weight.grad[[0, 2]].any()


def test_each_item_of_a_batch_is_what_it_is_alone(conditioner, raw, reference) -> None:
    style, frames = torch.tensor([1, -1, 2]), torch.tensor([5, 31, 0])
    controls = torch.tensor([[0.1, NAN], [NAN, NAN], [1.0, -1.0]])
    together = conditioner(raw, style=style, reference=reference, reference_frames=frames, controls=controls).pooled
    for i in range(3):
        one = slice(i, i + 1)
        alone = conditioner(
            raw[one], style=style[one], reference=reference[one], reference_frames=frames[one], controls=controls[one]
        ).pooled
        torch.testing.assert_close(together[one], alone, rtol=1e-5, atol=1e-6)


def test_a_model_may_know_no_styles_and_no_controls(raw, reference) -> None:
    bare = StyleConditioner(latent_dim=4, embed_dim=8, styles=[], controls=[])
    assert not bare(raw, style=torch.full((3,), -1)).pooled.any()
    assert bare(raw, reference=reference, reference_frames=torch.full((3,), 31)).pooled.any()
    with pytest.raises(ValueError, match="style"):
        bare(raw, style=torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="controls"):
        bare(raw, controls=torch.zeros(3, 0))
    with pytest.raises(InputError, match="allowed: none"):
        bare.style_index("dry")


def test_styles_are_found_by_name(conditioner) -> None:
    assert [conditioner.style_index(name) for name in ("dry", "hall", "telephone")] == [0, 1, 2]
    with pytest.raises(InputError, match=r"'telefone', did you mean 'telephone'.*dry, hall, telephone"):
        conditioner.style_index("telefone")


def test_a_saved_conditioner_comes_back_bit_for_bit(tmp_path: Path, conditioner, raw, reference) -> None:
    conditioner.save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    loaded = StyleConditioner.from_pretrained(tmp_path)
    told = {
        "style": torch.tensor([0, 1, 2]),
        "reference": reference,
        "reference_frames": torch.tensor([31, 5, 0]),
        "controls": torch.tensor([[0.1, NAN], [NAN, NAN], [1.0, -1.0]]),
    }
    assert torch.equal(loaded(raw, **told).pooled, conditioner(raw, **told).pooled)
    assert loaded.style_index("hall") == 1
    assert list(loaded.config.controls) == ["brightness", "width"]


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"style": torch.tensor([0, 1, 3])}, "style"),
        ({"style": torch.tensor([0, 1, -2])}, "style"),
        ({"style": torch.tensor([0, 1])}, "style"),
        ({"reference": torch.zeros(3, 4, 5)}, "reference_frames"),
        ({"reference_frames": torch.tensor([1, 1, 1])}, "reference"),
        ({"reference": torch.zeros(3, 5, 5), "reference_frames": torch.tensor([1, 1, 1])}, "reference"),
        ({"reference": torch.zeros(3, 4, 5), "reference_frames": torch.tensor([1, 6, 1])}, "from 0 to 5"),
        ({"reference": torch.zeros(3, 4, 5), "reference_frames": torch.tensor([1, -1, 1])}, "from 0 to 5"),
        ({"controls": torch.zeros(3, 3)}, "controls"),
    ],
)
def test_what_does_not_fit_is_refused(conditioner, raw, told: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        conditioner(raw, **told)


def test_two_styles_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="styles have different names"):
        StyleConditioner(latent_dim=4, embed_dim=8, styles=["dry", "dry"], controls=[])
