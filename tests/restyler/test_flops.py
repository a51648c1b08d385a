"""FLOPs of training against closed forms, and peaks of cards by the names that torch gives them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from conditioning.conditioner import StyleConditioner
from diffusion.denoiser import Denoiser
from diffusion.layers import Attention, FeedForward, rotary_table
from restyler.building import TrainingModel
from restyler.flops import peak_flops, training_flops

LATENT, WIDTH, DEPTH, HEADS, EMBED, MLP, KERNEL, FRAMES = 6, 32, 3, 2, 8, 4, 7, 40
PATCH, TOKENS = 2, 20
BIG = 10  # frames of the reference


class Called(nn.Module):
    """A module, called with a batch as a loss is."""

    def __init__(self, module: nn.Module, call: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.module, self.call = module, call

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.call(self.module, batch)


def linear(inputs: int, outputs: int, tokens: int, *, backward: int = 2) -> int:
    """Forward, and as much again for each gradient: of the weight, and of the input where there is a use for it."""
    return (1 + backward) * 2 * inputs * outputs * tokens


def attention_products(width: int, tokens: int) -> int:
    """Scores and their weighted sum, and two gradients of each; the heads share the width."""
    return 3 * 2 * 2 * tokens * tokens * width


def test_linear_layers_cost_six_flops_a_weight_and_token() -> None:
    """The 6·N of the field, less the gradient of the first layer's input, which nobody needs."""
    layers = nn.Sequential(nn.Linear(16, 64), nn.SiLU(), nn.Linear(64, 64), nn.Linear(64, 4))
    weights = 16 * 64 + 64 * 64 + 64 * 4
    tokens = 3 * 11
    assert training_flops(layers, torch.randn(3, 11, 16)) == 6 * weights * tokens - 2 * 16 * 64 * tokens


@pytest.mark.parametrize("masked", [False, True])
def test_attention_costs_its_projections_and_four_products_of_tokens_with_tokens(masked: bool) -> None:
    tokens, width = 24, 32
    mask = torch.arange(tokens)[None] < 20 if masked else None
    table = rotary_table(tokens, width // 4, torch.device("cpu"))
    model = Called(Attention(width, 4), lambda attention, x: attention(x, table, mask))
    expected = linear(width, 3 * width, tokens, backward=1) + linear(width, width, tokens)
    assert training_flops(model, torch.randn(1, tokens, width)) == expected + attention_products(width, tokens)


@pytest.mark.parametrize("groups", [1, 4, 8])
def test_convolutions_cost_what_their_groups_leave(groups: int) -> None:
    """Each output is a sum over kernel and the inputs of its group; two gradients, of which the first has one."""
    layers = nn.Sequential(
        nn.Conv1d(8, 8, 5, padding="same", groups=groups), nn.Conv1d(8, 16, 3, stride=2, groups=groups)
    )
    expected = 2 * 2 * 50 * 5 * 8 * 8 // groups + 3 * 2 * 24 * 3 * 8 * 16 // groups
    assert training_flops(layers, torch.randn(1, 8, 50)) == expected
    back = nn.ConvTranspose1d(8, 16, 4, stride=2, groups=groups)
    assert training_flops(back, torch.randn(1, 8, 50)) == 2 * 2 * 50 * 4 * 8 * 16 // groups


def make_model() -> TrainingModel:
    denoiser = Denoiser(LATENT, EMBED, "x", width=WIDTH, depth=DEPTH, heads=HEADS, patch_frames=PATCH)
    conditioner = StyleConditioner(LATENT, EMBED, ["dry", "wet"], [], 8)
    return TrainingModel(conditioner, denoiser)


def make_batch(size: int) -> dict[str, torch.Tensor]:
    return {
        "raw": torch.randn(size, LATENT, FRAMES),
        "mix": torch.randn(size, LATENT, FRAMES),
        "noise": torch.randn(size, LATENT, FRAMES),
        "t": torch.full((size,), 0.5),
        "sigma": torch.full((size,), 0.5),
        "style": torch.zeros(size, dtype=torch.long),
        "reference": torch.randn(size, LATENT, BIG),
        "reference_frames": torch.full((size,), BIG),
        "told": torch.ones(size, dtype=torch.bool),
        "frame_mask": torch.ones(size, FRAMES, dtype=torch.bool),
    }


def test_the_denoiser_costs_the_sum_of_its_parts() -> None:
    """Of one block, from two depths: what else there is does not depend on the depth."""
    shallow = Denoiser(LATENT, EMBED, "x", width=WIDTH, depth=DEPTH - 1, heads=HEADS, patch_frames=PATCH)
    model, other = make_model(), make_model()
    other.denoiser = shallow
    batch = make_batch(1)
    block = linear(WIDTH, 3 * WIDTH, TOKENS) + linear(WIDTH, WIDTH, TOKENS) + attention_products(WIDTH, TOKENS)
    block += linear(WIDTH, MLP * WIDTH, TOKENS) + linear(MLP * WIDTH, WIDTH, TOKENS)
    block += 3 * 2 * KERNEL * WIDTH * TOKENS + linear(WIDTH, 6 * WIDTH, 1)
    assert training_flops(model, batch) - training_flops(other, batch) == block


def test_it_grows_with_the_batch() -> None:
    model = make_model()
    assert training_flops(model, make_batch(3)) == 3 * training_flops(model, make_batch(1))


def test_what_gradient_checkpointing_computes_again_is_not_counted() -> None:
    model, batch = make_model(), make_batch(1)
    plain = training_flops(model, batch)
    model.denoiser.enable_gradient_checkpointing()
    assert training_flops(model, batch) == plain
    assert model.denoiser.gradient_checkpointing


def test_counting_leaves_no_trace() -> None:
    model = Called(FeedForward(8, 16, 3), lambda layer, x: layer(x, None))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters = list(model.parameters())
    parameters[0].grad = torch.ones_like(parameters[0])
    generator = torch.get_rng_state()
    training_flops(model, torch.zeros(1, 5, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(parameters[0].grad, torch.ones_like(parameters[0]))
    assert all(parameter.grad is None for parameter in parameters[1:])
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_counts_as_the_cpu_does() -> None:
    model, batch = make_model(), make_batch(1)
    on_cpu = training_flops(model, batch)
    model.cuda()
    assert training_flops(model, {name: tensor.cuda() for name, tensor in batch.items()}) == on_cpu


@pytest.mark.parametrize(
    ("name", "precision", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4),
        ("NVIDIA H100 PCIe", "bf16", 756.0),
        ("NVIDIA H200", "bf16", 989.4),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312.0),
        ("NVIDIA A100 80GB PCIe", "fp16", 312.0),
        ("A100-PCIE-40GB", "no", 19.5),
        ("NVIDIA A10", "bf16", 125.0),
        ("NVIDIA A10G", "bf16", 70.0),
        ("NVIDIA L4", "bf16", 121.0),
        ("NVIDIA L40S", "bf16", 362.05),
        ("NVIDIA GeForce RTX 4090", "bf16", 165.2),
        ("GeForce RTX 3090", "no", 35.6),
        ("Tesla V100-SXM2-16GB", "fp16", 125.0),
        ("Tesla T4", "no", 8.1),
    ],
)
def test_cards_are_known_by_the_names_that_torch_gives_them(name: str, precision: str, tflops: float) -> None:
    assert peak_flops(name, precision) == pytest.approx(tflops * 1e12, rel=1e-12)


@pytest.mark.parametrize(
    "name",
    [
        "CPU",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",  # a seventh of the card
        "NVIDIA GH200 480GB",
        "NVIDIA A100X",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA L40",
        "NVIDIA T4G",
        "NVIDIA B2000",
    ],
)
def test_a_card_that_is_only_named_alike_has_no_peak(name: str) -> None:
    assert peak_flops(name, "bf16") is None
    assert peak_flops(name, "fp16") is None
    assert peak_flops(name, "no") is None


@pytest.mark.parametrize("name", ["Tesla V100-SXM2-32GB", "Tesla T4"])
def test_a_card_without_tensor_cores_for_bf16_has_no_peak_for_it(name: str) -> None:
    assert peak_flops(name, "bf16") is None
    assert peak_flops(name, "fp16") is not None


def test_an_unknown_precision_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="fp8"):
        peak_flops("NVIDIA L4", "fp8")
