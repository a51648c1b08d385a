import pytest
import torch

from conditioning.conditions import Conditions


def conditions() -> Conditions:
    generator = torch.Generator().manual_seed(0)
    return Conditions(torch.randn(3, 4, 9, generator=generator), torch.randn(3, 5, generator=generator))


def test_guidance_dropout_silences_the_style_and_never_the_take() -> None:
    told = conditions()
    kept = told.keep(torch.tensor([True, False, True]))
    assert torch.equal(kept.aligned, told.aligned)
    assert torch.equal(kept.pooled[[0, 2]], told.pooled[[0, 2]])
    assert not kept.pooled[1].any()


def test_null_is_keeping_nothing() -> None:
    told = conditions()
    nothing = told.keep(torch.zeros(3, dtype=torch.bool))
    assert torch.equal(told.null().pooled, nothing.pooled)
    assert torch.equal(told.null().aligned, told.aligned)


def test_dropout_survives_a_style_that_is_not_finite() -> None:
    told = Conditions(torch.zeros(1, 4, 9), torch.full((1, 5), torch.nan))
    assert not told.keep(torch.tensor([False])).pooled.any()
    assert not told.null().pooled.any()


def test_a_cut_takes_frames_and_leaves_the_style() -> None:
    told = conditions()
    cut = told.frames(2, 6)
    assert torch.equal(cut.aligned, told.aligned[:, :, 2:6])
    assert torch.equal(cut.pooled, told.pooled)


@pytest.mark.parametrize(("aligned", "pooled"), [((3, 4), (3, 5)), ((3, 4, 9), (3, 5, 1)), ((3, 4, 9), (2, 5))])
def test_shapes_that_do_not_fit_are_refused(aligned: tuple[int, ...], pooled: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="aligned"):
        Conditions(torch.zeros(aligned), torch.zeros(pooled))
