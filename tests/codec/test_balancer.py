"""Gradients at the output have the shares that the weights ask for."""

from __future__ import annotations

import pytest
import torch

from codec.balancer import LossBalancer


def _gradient(balancer: LossBalancer, output: torch.Tensor, **losses: torch.Tensor) -> torch.Tensor:
    output.grad = None
    balancer(losses, output).backward()
    return output.grad


def test_shares_follow_the_weights_and_not_the_scales_of_the_losses() -> None:
    output = torch.tensor([1.0, 1.0], requires_grad=True)
    balancer = LossBalancer({"left": 3, "right": 1})
    # The losses differ by a factor of a million; their gradients point along one axis each.
    gradient = _gradient(balancer, output, left=1e-3 * output[0], right=1e3 * output[1])
    torch.testing.assert_close(gradient, torch.tensor([3 / 4, 1 / 4]))


def test_the_gradient_goes_on_to_what_made_the_output() -> None:
    parameter = torch.tensor([2.0], requires_grad=True)
    output = 5 * parameter
    LossBalancer({"only": 1})({"only": (output * 100).sum()}, output).backward()
    torch.testing.assert_close(parameter.grad, torch.tensor([5.0]))  # unit norm at the output, times 5


def test_norms_are_averaged_over_steps_without_bias_to_the_start() -> None:
    output = torch.ones(1, requires_grad=True)
    balancer = LossBalancer({"only": 1}, decay=0.5)
    assert float(_gradient(balancer, output, only=4 * output.sum())) == pytest.approx(1)
    # average norm: (4/2 + 1) / (1/2 + 1) = 2
    assert float(_gradient(balancer, output, only=1 * output.sum())) == pytest.approx(1 / 2)


def test_a_checkpoint_goes_on_where_it_was() -> None:
    output = torch.ones(1, requires_grad=True)
    first, second = LossBalancer({"only": 1}, decay=0.9), LossBalancer({"only": 1}, decay=0.9)
    _gradient(first, output, only=7 * output.sum())
    second.load_state_dict(first.state_dict())
    expected = _gradient(first, output, only=2 * output.sum()).clone()
    assert torch.equal(_gradient(second, output, only=2 * output.sum()), expected)
    assert float(expected) == pytest.approx(2 / ((0.9 * 7 + 2) / 1.9))


def test_a_loss_without_gradient_adds_nothing() -> None:
    output = torch.ones(2, requires_grad=True)
    balancer = LossBalancer({"flat": 1, "slope": 1})
    gradient = _gradient(balancer, output, flat=(output * 0).sum(), slope=output[0])
    torch.testing.assert_close(gradient, torch.tensor([0.5, 0.0]))


@pytest.mark.parametrize("factor", [float("inf"), float("nan")])
def test_a_gradient_that_is_not_finite_spoils_its_own_step_alone(factor: float) -> None:
    """The step can be seen to be unusable, and the next one is what it would have been without it."""
    output = torch.ones(2, requires_grad=True)
    balancer, undisturbed = LossBalancer({"one": 1, "two": 1}), LossBalancer({"one": 1, "two": 1})
    for each in (balancer, undisturbed):
        _gradient(each, output, one=3 * output[0], two=5 * output[1])
    spoilt = _gradient(balancer, output, one=factor * output[0], two=7 * output[1])
    assert not spoilt.isfinite().any()
    assert balancer.state_dict() == undisturbed.state_dict()
    expected = _gradient(undisturbed, output, one=2 * output[0], two=output[1]).clone()
    assert torch.equal(_gradient(balancer, output, one=2 * output[0], two=output[1]), expected)
    assert (expected > 0).all()


def test_wrong_names_weights_and_decays_are_refused() -> None:
    output = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match="do not have the weights"):
        LossBalancer({"one": 1})({"other": output.sum()}, output)
    with pytest.raises(ValueError, match="not negative"):
        LossBalancer({"one": -1, "two": 3})
    with pytest.raises(ValueError, match="one is positive"):
        LossBalancer({"one": 0})
    with pytest.raises(ValueError, match="decays by a factor"):
        LossBalancer({"one": 1}, decay=1)
