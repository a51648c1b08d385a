"""Losses weighed by the gradients that they have, not by their values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch


class LossBalancer:
    """Gives every loss a fixed share of the gradient at the model's output, whatever its own scale.

    The loss i with weight λ_i contributes the gradient λ_i / Σ λ · g_i / ⟨‖g_i‖⟩, where g_i is its gradient with
    respect to the output and ⟨‖g_i‖⟩ a moving average of that gradient's norm (Défossez et al. 2022, section 3.4,
    «Balancer», with R = 1).

    weights: λ of each loss, not negative, at least one positive. decay: of the moving average, in [0, 1), without
    bias towards its start.
    """

    def __init__(self, weights: Mapping[str, float], *, decay: float = 0.999) -> None:
        if not weights or min(weights.values()) < 0 or max(weights.values()) <= 0:
            raise ValueError(f"loss weights are not negative and one is positive: {dict(weights)}")
        if not 0 <= decay < 1:
            raise ValueError(f"a moving average decays by a factor in [0, 1), not {decay}")
        self.weights = dict(weights)
        self.decay = decay
        self._sums: dict[str, tuple[float, float]] = {}  # decayed sums of norms, and of ones

    def __call__(
        self,
        losses: Mapping[str, torch.Tensor],
        output: torch.Tensor,
        *,
        over_all: Callable[[torch.Tensor], torch.Tensor] = lambda squares: squares,
    ) -> torch.Tensor:
        """A scalar to call backward on: it carries the balanced gradient to `output` and what made it.

        losses: scalars that depend on `output`, under the names that have weights. Raises ValueError for other names.
        over_all: where `output` is one process's share of a batch, from the squared norms of its gradients [losses] to
        those of the whole batch's, so that all processes keep the same averages.
        Where one of their gradients is not finite the balanced one is NaN and the averages stay as they are: such a
        step is the caller's to skip, and must not weigh on those that follow.
        """
        if losses.keys() != self.weights.keys():
            raise ValueError(f"losses {sorted(losses)} do not have the weights {sorted(self.weights)}")
        own = {name: torch.autograd.grad(loss, output, retain_graph=True)[0] for name, loss in losses.items()}
        squares = torch.stack([gradient.square().sum() for gradient in own.values()])
        norms = dict(zip(own, over_all(squares).sqrt().tolist(), strict=True))
        if not all(map(math.isfinite, norms.values())):
            return (output * math.nan).sum()
        gradient = torch.zeros_like(output)
        for name, norm in norms.items():
            total, count = self._sums.get(name, (0.0, 0.0))
            total, count = self.decay * total + norm, self.decay * count + 1
            self._sums[name] = total, count
            if total > 0:
                share = self.weights[name] / sum(self.weights.values())
                gradient += share * own[name] / (total / count)
        return (output * gradient).sum()

    def state_dict(self) -> dict[str, tuple[float, float]]:
        """The moving averages, for a checkpoint."""
        return dict(self._sums)

    def load_state_dict(self, state: Mapping[str, tuple[float, float]]) -> None:
        """Goes on with the moving averages of a checkpoint."""
        self._sums = {name: (total, count) for name, (total, count) in state.items()}
