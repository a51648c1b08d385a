"""The live student by itself: exact where nothing is asked of it, causal, relative, and the same block by block."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import get_window, lfilter

from restyler.student.files import Student
from restyler.student.network import LEVEL_FALL_DB_PER_S, _convolved
from restyler.student.spectra import (
    BINS,
    FRAMES_PER_S,
    HOP_SAMPLES,
    LATENCY_SAMPLES,
    SAMPLE_RATE_HZ,
    analysis_window,
    bands_to_bins,
    overlapped,
    spectra,
    synthesis_window,
)
from restyler.student.streaming import REFRESH_FRAMES, StreamingStudent

KNOBS = torch.tensor([[0.3, 0.8, 0.35]])


def streamed(
    streaming: torch.nn.Module, take: torch.Tensor, block: int, *, strength: float = 1.0, knobs: torch.Tensor = KNOBS
) -> torch.Tensor:
    """In blocks, without the samples that come before the take's first one."""
    streaming.reset()  # type: ignore[operator]
    padded = torch.nn.functional.pad(take, (0, LATENCY_SAMPLES))
    blocks = [streaming(piece, knobs, torch.tensor([strength])) for piece in padded.split(block, 1)]
    return torch.cat(blocks, dim=1)[:, LATENCY_SAMPLES:]


@pytest.fixture(scope="module")
def streaming(student: Student) -> torch.nn.Module:
    return torch.jit.script(StreamingStudent(student.network))


def test_the_windows_are_a_hann_window_together() -> None:
    product = analysis_window()[-LATENCY_SAMPLES:] * synthesis_window()
    np.testing.assert_allclose(product, get_window("hann", LATENCY_SAMPLES), atol=1e-6)


def test_spectra_that_nothing_changed_give_the_take_back(sung: torch.Tensor) -> None:
    heard = spectra(sung, analysis_window())
    back = overlapped(heard[:, None], synthesis_window(), sung.shape[1])
    torch.testing.assert_close(back[:, 0], sung, atol=1e-6, rtol=0)


def test_bands_draw_lines_between_their_centres() -> None:
    weights = bands_to_bins(9)
    torch.testing.assert_close(weights.sum(0), torch.ones(BINS))
    assert int((weights > 0).sum(0).max()) == 2
    assert weights.argmax(0).diff().min() >= 0  # in order, and each has bins of its own
    assert set(weights.argmax(0).tolist()) == set(range(9))


def test_the_level_falls_as_it_is_said_to(student: Student) -> None:
    power_db = 20 * torch.randn(2, 300, generator=torch.Generator().manual_seed(0)) - 30
    before_db = torch.tensor([-90.0, 10.0])
    found = student.network.follow(power_db, before_db)
    for row, level in enumerate(before_db.tolist()):
        for frame in range(300):
            level = max(float(power_db[row, frame]), level - LEVEL_FALL_DB_PER_S / FRAMES_PER_S)
            assert float(found[row, frame]) == pytest.approx(level, abs=1e-3)


def test_the_room_is_a_convolution_over_frames() -> None:
    draws = torch.Generator().manual_seed(1)
    sent = torch.randn(1, 50, BINS, dtype=torch.complex64, generator=draws)
    kernel = torch.randn(1, 2, 7, BINS, dtype=torch.complex64, generator=draws)
    found = _convolved(sent, kernel)[0, 1, :, 300].numpy()
    expected = lfilter(kernel[0, 1, :, 300].numpy(), [1.0], sent[0, :, 300].numpy())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_room_dies_away(student: Student) -> None:
    kernel = student.network.room_kernel(student.network.told(KNOBS))
    energy = kernel.abs().square().mean((0, 3)).cumsum(1)
    assert bool((energy[:, 20] / energy[:, -1] > 0.5).all())  # of what there is, most comes early
    assert kernel.shape == (1, 2, student.sizes["room_frames"], BINS)


@pytest.mark.parametrize("block", [63, 441, 480, 1000, 1009])
def test_blocks_of_any_size_give_what_the_whole_take_gives(
    streaming: torch.nn.Module, student: Student, sung: torch.Tensor, block: int
) -> None:
    whole = student.network(sung, KNOBS)[0]
    assert float((whole - sung).abs().max()) > 0.05  # it does something
    torch.testing.assert_close(streamed(streaming, sung, block), whole, atol=1e-5, rtol=0)


def test_single_samples_and_changing_blocks_too(
    streaming: torch.nn.Module, student: Student, sung: torch.Tensor
) -> None:
    take = sung[:, 20_000:23_000]
    whole = student.network(take, KNOBS)[0]
    torch.testing.assert_close(streamed(streaming, take, 1), whole, atol=1e-5, rtol=0)
    streaming.reset()  # type: ignore[operator]
    padded = torch.nn.functional.pad(take, (0, LATENCY_SAMPLES))
    blocks = padded.split([7, 480, 1, 2000, 959, padded.shape[1] - 3447], 1)
    out = torch.cat([streaming(piece, KNOBS, torch.ones(1)) for piece in blocks], dim=1)
    torch.testing.assert_close(out[:, LATENCY_SAMPLES:], whole, atol=1e-5, rtol=0)


def test_no_strength_is_the_take_itself(streaming: torch.nn.Module, sung: torch.Tensor) -> None:
    assert torch.equal(streamed(streaming, sung, 300, strength=0.0), sung.expand(2, -1))


def test_strength_fades_from_the_take_to_the_mix(streaming: torch.nn.Module, sung: torch.Tensor) -> None:
    mix, half = (streamed(streaming, sung, 300, strength=strength) for strength in (1.0, 0.5))
    torch.testing.assert_close(half, (mix + sung) / 2, atol=1e-6, rtol=0)


def test_a_strength_that_is_turned_does_not_jump(streaming: torch.nn.Module) -> None:
    streaming.reset()  # type: ignore[operator]
    tone = torch.sin(2 * torch.pi * 200 / SAMPLE_RATE_HZ * torch.arange(48_000.0))[None]
    blocks = [
        streaming(piece, KNOBS, torch.tensor([float(number % 2)])) for number, piece in enumerate(tone.split(480, 1))
    ]
    steps = torch.cat(blocks, dim=1)[:, 24_000:].diff().abs()
    assert float(steps.max()) < 3 * float(steps.quantile(0.9))


@pytest.mark.parametrize("fault", [float("nan"), float("inf"), -1e20, 101.0])
def test_a_sample_that_is_no_sound_is_silence_and_is_not_remembered(
    streaming: torch.nn.Module, sung: torch.Tensor, fault: float
) -> None:
    broken, mended = sung[:, :9_600].clone(), sung[:, :9_600].clone()
    broken[0, 3_000], mended[0, 3_000] = fault, 0.0
    for strength in (0.0, 1.0):
        assert torch.equal(*(streamed(streaming, take, 300, strength=strength) for take in (broken, mended)))


def test_what_nobody_hears_costs_no_subnormal_numbers(streaming: torch.nn.Module, sung: torch.Tensor) -> None:
    soft = 1e-12 * sung[:, 20_000:24_800]
    assert float(streamed(streaming, soft, 300).abs().max()) == 0.0
    assert torch.equal(streamed(streaming, soft, 300, strength=0.0), soft.expand(2, -1))


@pytest.mark.parametrize(
    ("given", "meant"), [((-1.0, 3.0, 1.5), (0.0, 1.0, 1.0)), ((float("nan"), 0.3, -2.0), (0.5, 0.3, 0.0))]
)
def test_knobs_beyond_their_ends_are_at_their_ends(
    streaming: torch.nn.Module, sung: torch.Tensor, given: tuple[float, ...], meant: tuple[float, ...]
) -> None:
    take = sung[:, 20_000:24_800]
    one, two = (streamed(streaming, take, 300, knobs=torch.tensor([knobs])) for knobs in (given, meant))
    assert torch.equal(one, two)
    for beyond, end in ((1.5, 1.0), (-0.5, 0.0), (float("nan"), 0.0)):
        assert torch.equal(*(streamed(streaming, take, 300, strength=strength) for strength in (beyond, end)))


def test_a_knob_turned_meanwhile_is_heard_soon_and_not_before(streaming: torch.nn.Module, sung: torch.Tensor) -> None:
    at, block = 38_400, 480
    plain = streamed(streaming, sung, block)
    streaming.reset()  # type: ignore[operator]
    turned = torch.tensor([[0.9, 0.1, 0.9]])
    blocks = [
        streaming(piece, turned if number * block >= at else KNOBS, torch.ones(1))
        for number, piece in enumerate(sung.split(block, 1))
    ]
    out = torch.cat(blocks, dim=1)[:, LATENCY_SAMPLES:]
    heard = (out - plain[:, : out.shape[1]]).abs().amax(0) > 1e-6
    first = int(heard.nonzero()[0])
    assert at - LATENCY_SAMPLES <= first <= at + REFRESH_FRAMES * HOP_SAMPLES


def test_the_latency_is_what_it_is_said_to_be(streaming: torch.nn.Module) -> None:
    assert LATENCY_SAMPLES / SAMPLE_RATE_HZ <= 0.020
    streaming.reset()  # type: ignore[operator]
    impulse = torch.zeros(1, 4800)
    impulse[0, 1234] = 1.0
    out = torch.cat([streaming(piece, KNOBS, torch.zeros(1)) for piece in impulse.split(77, 1)], dim=1)
    assert out[0].nonzero().flatten().tolist() == [1234 + LATENCY_SAMPLES]


def test_what_comes_later_is_not_heard(student: Student, sung: torch.Tensor) -> None:
    at = 40_000
    other = sung.clone()
    other[:, at:] = torch.randn(1, sung.shape[1] - at, generator=torch.Generator().manual_seed(3))
    one, two = (student.network(take, KNOBS)[0] for take in (sung, other))
    before = slice(0, at - LATENCY_SAMPLES)  # up to the rounding of a convolution that takes everything at once
    torch.testing.assert_close(one[:, before], two[:, before], atol=1e-6, rtol=0)
    assert not torch.allclose(one[:, at - HOP_SAMPLES : at], two[:, at - HOP_SAMPLES : at])  # else it looks less far


@pytest.mark.parametrize("gain", [-1.0, 0.25, 3.0])
def test_a_louder_or_inverted_take_gives_the_same_mix_louder_or_inverted(
    student: Student, sung: torch.Tensor, gain: float
) -> None:
    sound = sung + 1e-4 * torch.randn(sung.shape, generator=torch.Generator().manual_seed(4))  # no silence, no floor
    plain, other = (student.network(take, KNOBS)[0] for take in (sound, gain * sound))
    torch.testing.assert_close(other, gain * plain, atol=2e-4, rtol=0)


def test_every_knob_changes_the_mix(student: Student, sung: torch.Tensor) -> None:
    plain = student.network(sung, KNOBS)
    for number in range(3):
        turned = KNOBS.clone()
        turned[0, number] = 0.9
        assert float((student.network(sung, turned) - plain).abs().max()) > 1e-3


def test_a_style_between_two_is_told_as_both(student: Student) -> None:
    first = student.network.tell[0]  # told is what follows it, so what goes in is seen through its weights
    shares = [torch.tensor([[0.5, 0.5, place]]) for place in (0.0, 0.5, 0.25)]
    seen = []
    hook = first.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0][0, 2:].tolist()))
    for knobs in shares:
        student.network.told(knobs)
    hook.remove()
    assert seen == [[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]]
