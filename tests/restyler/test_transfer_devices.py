"""The differentiable chain against the parts that render, and its gradients against differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import scipy.fft
import scipy.signal
import torch
from auraloss.freq import MultiResolutionSTFTLoss

from audio.filters import Filter, sections
from audio.loudness import brought_to
from audio.parts import Step, render
from audio.parts_builtin import FLAT_Q
from audio.waveform import Waveform
from codec.losses import a_weighting
from restyler.transfer.devices import chain, compressor, noise_bank
from restyler.transfer.distance import WEIGHTS, Target, _Spectral
from restyler.transfer.filters import TONE, coefficients, response, turns
from restyler.transfer.fit import HEARD_LUFS, as_steps
from restyler.transfer.fourier import signals, spectra
from restyler.transfer.knobs import KNOBS, places, values

RATE_HZ = 48_000
SILENCE = RATE_HZ
Sung = Callable[[int, float], Waveform]

BUSY = {
    "high_pass.frequency_hz": 90.0, "low_shelf.gain_db": -3.0, "peak1.gain_db": 4.0, "peak2.gain_db": -2.0,
    "peak3.gain_db": 3.0, "peak4.gain_db": -4.0, "high_shelf.gain_db": 5.0, "low_pass.frequency_hz": 15000.0,
    "compressor.threshold_db": -22.0, "compressor.ratio": 4.0, "width.width_percent": 60.0, "pan.pan_percent": 20.0,
    "ping_pong_delay.time_ms": 180.0, "ping_pong_delay.wet_db": -9.0, "reverb.wet_db": -14.0,
    "reverb.t60_low_s": 0.7, "reverb.t60_mid_s": 0.6, "reverb.t60_high_s": 0.4,
}  # fmt: skip
WHOLE = {name: BUSY.get(name, knob.start) for name, knob in KNOBS.items()}


def tensors(**changed: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(float(value)) for name, value in (WHOLE | changed).items()}


def without(steps: tuple[Step, ...], *names: str) -> tuple[Step, ...]:
    return tuple(step for step in steps if step.name not in names)


@pytest.fixture(scope="module")
def take(sung: Sung) -> Waveform:
    """With silence ahead, for what goes round the end."""
    sound = brought_to(sung(1, 1.0), HEARD_LUFS).samples[:1, :RATE_HZ]
    return Waveform(torch.nn.functional.pad(sound, (SILENCE, 0)), RATE_HZ)


@pytest.fixture(scope="module")
def bank() -> torch.Tensor:
    return noise_bank(RATE_HZ, RATE_HZ, np.random.default_rng(0))


def test_all_but_the_noise_is_as_rendered(take: Waveform, bank: torch.Tensor) -> None:
    told = {"reverb.wet_db": -300.0}
    steps = without(as_steps(WHOLE, stereo=True, seed=0), "reverb")
    other = torch.nn.functional.pad(take.samples, (999, 0))[:, :-999] * 0.5
    for heard in (take.samples, torch.cat([take.samples, other])):
        rendered = render(steps, Waveform(heard, RATE_HZ)).samples[:, SILENCE:]
        found = chain(tensors(**told), spectra(heard), bank, RATE_HZ)[:, SILENCE:]
        error = (found - rendered).square().sum() / rendered.square().sum()
        assert 10 * torch.log10(error) < -45  # values are written with four digits


def test_the_reverb_is_as_loud_as_wide_and_decays_as_rendered(bank: torch.Tensor) -> None:
    told = {"ping_pong_delay.wet_db": -300.0, "reverb.correlation": 0.5, "pan.pan_percent": 0.0}
    steps = without(as_steps(WHOLE | told, stereo=False, seed=1), "ping_pong_delay", "compressor")
    click = torch.zeros(1, 2 * RATE_HZ)
    click[0, RATE_HZ // 2] = 1e-4  # under the threshold
    dry = render(without(steps, "reverb"), Waveform(click, RATE_HZ)).samples
    rendered = render(steps, Waveform(click, RATE_HZ)).samples - dry
    found = chain(tensors(**told), spectra(click), bank, RATE_HZ) - dry

    def facts(wet: torch.Tensor) -> list[float]:
        late = wet[:, RATE_HZ // 2 + RATE_HZ // 5 :]
        return [10 * torch.log10(part.square().sum()).item() for part in (wet, late, wet[0] - wet[1])]

    assert facts(found) == pytest.approx(facts(rendered), abs=0.6)


def test_the_response_is_that_of_scipy_for_the_sections_of_the_parts() -> None:
    found = response(tensors(), TONE, turns(4096), RATE_HZ).numpy()
    bands = [step for step in as_steps(WHOLE, stereo=False, seed=0) if "frequency_hz" in step.values]
    filters = tuple(Filter(step.name, **step.values) for step in bands)  # type: ignore[arg-type]
    _, wanted = scipy.signal.sosfreqz(sections(filters, RATE_HZ), worN=np.linspace(0, np.pi, 2049))
    inner = slice(3, -3)
    assert np.abs(20 * np.log10(np.abs(found[inner]) / np.abs(wanted[inner]))).max() < 0.05


@pytest.mark.parametrize("kind", TONE)
def test_every_filter_is_that_of_the_parts_between_all_bounds(kind: str) -> None:
    random = np.random.default_rng(0)
    for frequency_hz, gain_db, q in random.uniform([20, -18, 0.4], [20000, 18, 5], (20, 3)):
        told = {"gain_db": gain_db} if not kind.endswith("_pass") else {}
        told["q"] = q if kind == "peak" else FLAT_Q
        filters = (Filter(kind, frequency_hz=frequency_hz, **told),)  # type: ignore[arg-type]
        exact = [torch.tensor([value], dtype=torch.double) for value in (frequency_hz, told["q"])]
        gain = torch.tensor([gain_db], dtype=torch.double) if "gain_db" in told else None
        b, a = (each[0].numpy() for each in coefficients(kind, *exact, gain, RATE_HZ))
        at, wanted = scipy.signal.sosfreqz(sections(filters, RATE_HZ), worN=np.linspace(0.001, 3.1, 99))
        assert np.allclose(scipy.signal.freqz(b, a, worN=at)[1], wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["threshold_db", "ratio", "attack_ms", "release_ms", "makeup_db"])
def test_the_gradient_of_the_compressor_is_its_difference(take: Waveform, name: str) -> None:
    sound = take.samples[:, SILENCE:]

    def level(**changed: float) -> torch.Tensor:
        told = {knob: value.clone().requires_grad_() for knob, value in tensors(**changed).items()}
        loud = compressor(told, sound, RATE_HZ).square().mean().log()
        loud.backward()
        grad = told[f"compressor.{name}"].grad
        assert grad is not None
        return torch.stack([loud.detach(), grad])

    at = WHOLE[f"compressor.{name}"]
    step = abs(at) * 0.03 + 0.01
    low, here, high = (level(**{f"compressor.{name}": at + shift}) for shift in (-step, 0.0, step))
    assert here[1] == pytest.approx((high[0] - low[0]).item() / (2 * step), rel=0.1)


def test_every_knob_has_a_gradient(take: Waveform, bank: torch.Tensor) -> None:
    at = places(BUSY).requires_grad_()
    heard = torch.cat([take.samples, torch.roll(take.samples, 99, dims=1)])
    out = chain(values(at), spectra(heard), bank, RATE_HZ)
    target = torch.roll(out.detach()[:, SILENCE:], 50, dims=1) * 1.3
    Target(target, RATE_HZ).distance(out[:, SILENCE:]).backward()
    assert at.grad is not None
    for name, slope in zip(KNOBS, at.grad, strict=True):
        assert slope.isfinite() and slope != 0, name


def test_places_and_values_are_inverse() -> None:
    for name, value in values(places(WHOLE)).items():
        assert value.item() == pytest.approx(WHOLE[name], rel=1e-3, abs=2e-2), name


def test_the_distance_is_that_of_auraloss_and_of_nothing_nothing(sung: Sung, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of left and right without weights, at the same hops."""
    one, other = (brought_to(sung(number, 1.0), -18).stereo().samples[:, :RATE_HZ] for number in (5, 6))
    assert Target(one, RATE_HZ).distance(one).item() == 0
    sizes = [128, 512, 2048]
    settings = {"fft_sizes": sizes, "hop_sizes": [size // 2 for size in sizes], "win_lengths": sizes}
    wanted = MultiResolutionSTFTLoss(**settings)(one[None], other[None]).item()
    monkeypatch.setattr("restyler.transfer.distance.WEIGHTS", dict.fromkeys(WEIGHTS, 0.0) | {"lr": 1.0})
    monkeypatch.setattr("restyler.transfer.distance.a_weighting", torch.ones_like)
    assert Target(other, RATE_HZ).distance(one).item() == pytest.approx(wanted, rel=0.03)


def test_distance_and_gradient_are_those_of_the_plain_formula(sung: Sung) -> None:
    """Spectra by `torch.stft`, gradients by autograd, for a mix whose side lies between nothing and 20 dB below."""
    one, other = (brought_to(sung(number, 1.0), -18).stereo().samples[:, : RATE_HZ // 3] for number in (5, 6))
    mix = torch.stack([other[0], other[0] + 0.1 * one[0] * (torch.arange(len(other[0])) > 5000)])
    mix, estimate = mix.double(), torch.stack([one[0], 0.8 * one[0] + 0.05 * other[0]]).double().requires_grad_()

    def views(samples: torch.Tensor, size: int) -> torch.Tensor:
        window = torch.hann_window(size, dtype=torch.double)
        left, right = torch.stft(samples, size, size // 2, window=window, return_complex=True, pad_mode="constant")
        weights = a_weighting(torch.fft.rfftfreq(size, 1 / RATE_HZ)).double()[:, None]
        return torch.stack([left, right, left + right, left - right]).abs() * weights

    wanted = torch.zeros((), dtype=torch.double)
    for size in (128, 512, 2048):
        found, asked = views(estimate, size), views(mix, size)
        floor = torch.full_like(asked, 1e-4)
        floor[3] = torch.maximum(floor[3], 1e-3 * asked[2])
        found, asked = torch.maximum(found, floor), torch.maximum(asked, floor)
        whole = asked.square().sum(dim=(1, 2)).sqrt()
        whole[3] = torch.maximum(whole[3], 0.03 * whole[2])
        each = (found - asked).square().sum(dim=(1, 2)).sqrt() / whole
        each = each + (found.log() - asked.log()).abs().mean(dim=(1, 2))
        wanted = wanted + (each[:2].mean() + 0.5 * each[2:].mean()) / 3
    wanted.backward()
    assert estimate.grad is not None
    again = estimate.detach().float().requires_grad_()
    value = _Spectral.apply(again, Target(mix.float(), RATE_HZ).resolutions)
    value.backward()
    assert again.grad is not None
    assert value.item() == pytest.approx(wanted.item(), rel=1e-4)
    error = (again.grad - estimate.grad).square().sum() / estimate.grad.square().sum()
    assert error.sqrt() < 0.03  # of single precision


def test_the_gradient_by_hand_is_that_of_differences() -> None:
    """In double precision, where both ends of the excerpt weigh as its middle does."""
    generator = torch.Generator().manual_seed(1)
    torch.set_default_dtype(torch.float64)
    try:
        one, way = (torch.randn(2, 3000, generator=generator) for _ in range(2))
        target = Target(0.1 * torch.stack([one[0] + 0.1 * one[1], one[0]]), RATE_HZ)
        one = (0.1 * one).requires_grad_()
        target.distance(one).backward()
        with torch.no_grad():
            low, high = (target.distance(one + shift * way).item() for shift in (-1e-7, 1e-7))
    finally:
        torch.set_default_dtype(torch.float32)
    assert one.grad is not None
    assert (one.grad * way).sum().item() == pytest.approx((high - low) / 2e-7, rel=1e-5)


@pytest.mark.parametrize("channels", [1, 2])
def test_spectra_and_signals_are_real_transforms_with_their_gradients(channels: int) -> None:
    generator = torch.Generator().manual_seed(channels)
    samples = torch.randn(channels, 480, generator=generator)
    found = spectra(samples)
    assert np.abs(found.numpy() - scipy.fft.rfft(samples.numpy())).max() < 1e-4
    assert np.abs(signals(found).numpy() - scipy.fft.irfft(found.numpy())).max() < 1e-6
    # What a real transform has no use for, imaginary parts of its ends, counts for nothing here too.
    anything = torch.randn(channels, 241, dtype=torch.complex64, generator=generator)
    assert np.abs(signals(anything).numpy() - scipy.fft.irfft(anything.numpy())).max() < 1e-6
    exact = [samples[:, :10].double().requires_grad_(), anything[:, :6].to(torch.complex128).requires_grad_()]
    assert torch.autograd.gradcheck(spectra, exact[:1])
    assert torch.autograd.gradcheck(signals, exact[1:])


def test_steps_leave_out_what_does_nothing() -> None:
    quiet = {name: knob.start for name, knob in KNOBS.items()}
    quiet |= {"ping_pong_delay.wet_db": -59.0, "reverb.wet_db": -59.0, "high_pass.frequency_hz": 16.0}
    steps = as_steps(quiet | {"peak2.gain_db": 2.34567}, stereo=True, seed=0)
    assert [step.name for step in steps] == ["peak", "low_pass", "compressor"]
    assert steps[0] == replace(steps[0], values={"frequency_hz": 1000.0, "gain_db": 2.346, "q": 1.0})
