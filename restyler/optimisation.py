"""What turns gradients into weights: learning rate over time, weight decay, clipping, averaging; sharded or not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from restyler.sections import EmaSection, OptimSection

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)  # gathered from all shards, on the main process alone


def learning_rate(step: int, steps: int, optim: OptimSection) -> float:
    """Learning rate of step 0 … steps − 1: linear warm-up, then constant or half a cosine down to nearly zero."""
    if step < optim.warmup_steps:
        return optim.lr * (step + 1) / optim.warmup_steps
    if optim.schedule == "constant":
        return optim.lr
    done = (step - optim.warmup_steps) / max(1, steps - optim.warmup_steps)
    return optim.lr * 0.5 * (1 + math.cos(math.pi * done))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices and kernels alone: not for biases, norms, embeddings and scales."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    decayed = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in embeddings]
    others = [p for p in model.parameters() if p.ndim < 2 or id(p) in embeddings]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


class Optimisation:
    """A model as it is trained: wrapped for its processes, with AdamW and an average of its weights (EMA).

    wrapped: what a forward pass that is trained goes through. model: the same weights, without the wrapper.
    Weights, moments and average are float32 whatever the precision of the computation. Under FSDP2 each process holds
    its part of all three; `state` and `weights` gather them, and are for every process to call.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[dict[str, Any]],
        accelerator: Accelerator,
        optim: OptimSection,
        ema: EmaSection | None,
        *,
        lr: float | None = None,
    ) -> None:
        """ema: None for a model of which no average is wanted. lr: the peak rate, where it isn't that of `optim`."""
        self.accelerator, self._clip = accelerator, optim.clip
        model.to(accelerator.device)
        adamw = torch.optim.AdamW(list(groups), lr=optim.lr if lr is None else lr, betas=optim.betas, fused=True)
        self.wrapped, self._optimiser = accelerator.prepare(model, adamw)
        self.model: nn.Module = accelerator.unwrap_model(self.wrapped, keep_torch_compile=False)
        self._trained = [p for group in adamw.param_groups for p in group["params"]]
        self._ema: EMAModel | None = None
        if ema is not None:  # of what was prepared: of the shards, where there are any
            self._ema = EMAModel(
                self._parts(), decay=ema.decay, use_ema_warmup=True, power=ema.warmup_power, foreach=True
            )

    def backward(self, loss: torch.Tensor) -> None:
        self.accelerator.backward(loss)

    def clip(self, limit: float | None = None) -> torch.Tensor:
        """Limits the norm of all gradients together; the norm before that, the same in every process."""
        self.accelerator.unscale_gradients(self._optimiser)
        gradients = [parameter.grad for parameter in self._trained if parameter.grad is not None]
        total = get_total_norm(gradients, foreach=True)
        norm = (total.full_tensor() if isinstance(total, DTensor) else total).detach().float()
        limit = self._clip if limit is None else limit
        if norm > limit:  # else torch's clip_grad_norm_ would multiply all of them by one
            clip_grads_with_norm_(self._trained, limit, total, foreach=True)
        return norm

    def step(self, lr: float, *, finite: bool) -> None:
        """Moves weights and average, unless the gradient isn't finite; clears the gradient."""
        for group in self._optimiser.param_groups:
            group["lr"] = lr
        # The scaler of fp16 skips by itself, and must see what isn't finite to adapt.
        if finite or self.accelerator.scaler is not None:
            self._optimiser.step()
        if finite and self._ema is not None:
            self._ema.step(self._parts())
        self._optimiser.zero_grad(set_to_none=True)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model has its averaged weights."""
        assert self._ema is not None
        self._ema.store(self._parts())
        self._ema.copy_to(self._parts())
        yield  # what is raised inside ends the run: nothing is put back then
        self._ema.restore(self._parts())

    def _parts(self) -> list[torch.Tensor]:
        """This process's part of every weight: all of it, or its shard; as views, to be changed in place."""
        for module in self.model.modules():
            if isinstance(module, FSDPModule):  # a forward pass that no backward follows leaves weights gathered
                module.reshard()
        return [_local(weight).detach().requires_grad_(weight.requires_grad) for weight in self.model.parameters()]

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the present weights on the CPU, whole; {} in processes other than the main one if sharded."""
        weights: dict[str, Any] = get_model_state_dict(self.model, options=WHOLE)
        on_cpu = self.accelerator.device.type == "cpu"  # there, what was gathered may be the weights themselves
        return {name: weight.clone() if on_cpu else weight for name, weight in weights.items()}

    def state(self) -> dict[str, Any]:
        """All that a later run needs to go on, whatever the number of its processes and whether it shards."""
        scaler = self.accelerator.scaler
        average = self._ema
        return {
            "model": get_model_state_dict(self.model, options=WHOLE),
            "optimiser": self._moments(),
            "average": self._averages(average) if average else None,
            "averaged_steps": average.optimization_step if average else 0,
            "scaler": scaler.state_dict() if scaler else None,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Raises RuntimeError, ValueError, KeyError, TypeError or AttributeError for the state of another model."""
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self.model, state["model"], options=options)
        if state["optimiser"] is not None:
            set_optimizer_state_dict(self.model, self._plain_optimiser(), state["optimiser"], options=options)
        if self._ema is not None:
            weights = list(self.model.parameters())
            if [tensor.shape for tensor in state["average"]] != [weight.shape for weight in weights]:
                raise ValueError("its averaged weights have other shapes")
            for ours, theirs, weight in zip(self._ema.shadow_params, state["average"], weights, strict=True):
                ours.copy_(_cut_like(weight, theirs.to(ours.device)))
            self._ema.optimization_step = state["averaged_steps"]
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def _moments(self) -> dict[str, Any] | None:
        """AdamW's state; None before its first step (asked for it then, torch would make one up by taking a step)."""
        if not self._plain_optimiser().state:
            return None
        moments: dict[str, Any] = get_optimizer_state_dict(self.model, self._plain_optimiser(), options=WHOLE)
        return moments

    def _averages(self, ema: EMAModel) -> list[torch.Tensor]:
        """Whole, on the CPU, in the order of the model's weights; for every process to call."""
        found = []
        for average, weight in zip(ema.shadow_params, self.model.parameters(), strict=True):
            if isinstance(weight, DTensor):
                sharded = DTensor.from_local(
                    average, weight.device_mesh, weight.placements, shape=weight.shape, stride=weight.stride()
                )
                average = sharded.full_tensor()
            found.append(average.detach().to("cpu", copy=True))
        return found

    def _plain_optimiser(self) -> torch.optim.Optimizer:
        return self._optimiser.optimizer


def _local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _cut_like(weight: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """This process's part of `whole`, as it is of `weight`."""
    if not isinstance(weight, DTensor):
        return whole
    return distribute_tensor(whole, weight.device_mesh, weight.placements).to_local()
