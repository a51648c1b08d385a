"""How much a training step has to compute, and how much a GPU could: their ratio over time is the model FLOPs
utilisation, MFU (Chowdhery et al. 2022, PaLM, appendix B)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

# Dense peaks in TFLOP/s, each as (plain float32, bf16 with float32 sums, fp16 with float32 sums), by what torch calls
# the card, without its brand. Data sheets print what sparse matrices would give, which is twice as much: here it is
# halved. Only whole names: «H100 PCIe» is another card than «H100 80GB HBM3», a laptop's is another than a desktop's,
# and a slice of a GPU (… MIG 1g.10gb) has a share of the peak. float32 is without TF32, as torch multiplies matrices
# unless told otherwise. Cards without tensor cores for bf16 have no peak for it.
_PEAKS = {
    r"B200": (75.0, 2250.0, 2250.0),  # HGX B200 data sheet, an eighth of the board
    r"H200": (66.9, 989.4, 989.4),  # H200 data sheet: the compute of an H100 SXM
    r"H200 NVL": (60.0, 835.5, 835.5),  # H200 data sheet
    r"H100 80GB HBM3": (66.9, 989.4, 989.4),  # H100 architecture white paper: SXM5
    r"H100 PCIe": (51.2, 756.0, 756.0),  # the same
    r"H100 NVL": (60.0, 835.5, 835.5),  # H100 data sheet
    r"A100-(SXM4|PCIE)-\d+GB|A100 80GB PCIe": (19.5, 312.0, 312.0),  # A100 data sheet
    r"A10": (31.2, 125.0, 125.0),  # A10 data sheet
    r"A10G": (35.0, 70.0, 70.0),  # A10G data sheet
    r"L4": (30.3, 121.0, 121.0),  # L4 data sheet
    r"L40S": (91.6, 362.05, 362.05),  # L40S data sheet
    r"V100-SXM2-\d+GB": (15.7, None, 125.0),  # V100 data sheet
    r"V100-PCIE-\d+GB": (14.0, None, 112.0),  # V100 data sheet
    r"T4": (8.1, None, 65.0),  # T4 data sheet
    r"RTX 3090": (35.6, 71.0, 71.0),  # GA102 architecture white paper
    r"RTX 4090": (82.6, 165.2, 165.2),  # Ada architecture white paper
    r"RTX 5090": (104.8, 209.5, 209.5),  # RTX Blackwell architecture white paper
}
_PRECISIONS = ("no", "bf16", "fp16")


def peak_flops(device_name: str, precision: str) -> float | None:
    """Dense peak of a card in FLOP/s; None for one that is not known here, and for a CPU.

    device_name: as torch.cuda.get_device_name() has it. precision: no, bf16 or fp16, as in `training.precision`.
    """
    if precision not in _PRECISIONS:
        raise ValueError(f"the precision is one of {', '.join(_PRECISIONS)}, not {precision!r}")
    name = re.sub(r"^(NVIDIA |Tesla |GeForce )+", "", device_name.strip())
    for pattern, tflops in _PEAKS.items():
        if re.fullmatch(pattern, name):
            peak = tflops[_PRECISIONS.index(precision)]
            return None if peak is None else peak * 1e12
    return None


def training_flops(model: nn.Module, batch: Any) -> int:
    """FLOPs of one forward and backward of `model(batch)` on a batch: of one example, where it holds one.

    Matrix products and convolutions, a multiplication and an addition each counted as one; all else is a few per cent.
    They are what the model needs and not what its kernels do: attention is counted without masks, and nothing twice
    that is computed again to save memory, be it by gradient checkpointing or by attention's own kernels.

    Runs the model in float32 where it lies, and leaves weights and gradients as they are.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward_flops}
    )
    with counter, _without_recomputation(model), sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        # Not backward(): the gradients that a run has gathered are none of our business.
        torch.autograd.grad(model(batch).sum(), parameters, allow_unused=True)
    return int(counter.get_total_flops())


@contextmanager
def _without_recomputation(model: nn.Module) -> Iterator[None]:
    """Gradient checkpointing off, by the switch that models of diffusers have."""
    switched: list[Any] = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]
    for module in switched:
        module.gradient_checkpointing = False
    try:
        yield
    finally:
        for module in switched:
            module.gradient_checkpointing = True


def _convolution_backward_flops(
    grad_shape: list[int],
    x_shape: list[int],
    weight_shape: list[int],
    _bias: Any,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    _output_padding: Any,
    _groups: int,
    wanted: list[bool],
    **_: Any,
) -> int:
    """Each gradient, of input and of weight, costs what the forward pass costs.

    torch's own formula knows nothing of groups: it has the weight's gradient of a depthwise convolution cost as much as
    that of a full one.
    """
    return sum(wanted[:2]) * conv_flop_count(x_shape, weight_shape, grad_shape, transposed=transposed)
