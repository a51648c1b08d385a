from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from audio.errors import InputError
from conditioning.conditions import Conditions
from diffusion import path as paths
from diffusion.denoiser import Denoiser
from diffusion.layers import Attention, rotary_table

Build = Callable[..., Denoiser]


def inputs(batch: int = 2, frames: int = 13, path: str = "bridge") -> dict[str, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(frames)
    return {
        "noisy": torch.randn(batch, 6, frames, generator=generator),
        "t": torch.rand(batch, generator=generator),
        "sigma": torch.rand(batch, generator=generator) if path == "bridge" else None,
        "raw": torch.randn(batch, 6, frames, generator=generator),
        "pooled": torch.randn(batch, 8, generator=generator),
    }


def estimate(denoiser: Denoiser, x: dict, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
    return denoiser(x["noisy"], x["t"], x["sigma"], Conditions(x["raw"], x["pooled"]), frame_mask)


@pytest.mark.parametrize("path", ["bridge", "noise"])
def test_untrained_it_returns_the_raw_take_exactly(path: str) -> None:
    denoiser = Denoiser(latent_dim=6, embed_dim=8, codec_fingerprint="f", path=path, width=32, depth=2, heads=2)
    x = inputs(path=path)
    assert torch.equal(estimate(denoiser, x), x["raw"])


@pytest.mark.parametrize("raw_take", ["skip", "concatenation"])
@pytest.mark.parametrize("path", ["bridge", "noise"])
def test_untrained_a_predictor_of_the_velocity_stays_where_it_is(path: str, raw_take: str) -> None:
    sizes = {"latent_dim": 6, "embed_dim": 8, "codec_fingerprint": "f", "width": 32, "depth": 2, "heads": 2}
    x = inputs(path=path)
    assert torch.equal(estimate(Denoiser(path=path, predicts="velocity", raw_take=raw_take, **sizes), x), x["noisy"])


@pytest.mark.parametrize("path", ["bridge", "noise"])
def test_the_same_weights_give_the_velocity_that_the_mix_is_reckoned_from(path: str, lively_denoiser: Build) -> None:
    """What is added to the raw take in one case is the velocity in the other; without a skip it is the mix itself."""
    x = inputs(path=path)
    for raw_take, first in (("skip", x["raw"]), ("concatenation", 0.0)):
        of_mix, of_velocity = (lively_denoiser(path=path, raw_take=raw_take, predicts=p) for p in ("mix", "velocity"))
        of_velocity.load_state_dict(of_mix.state_dict())
        followed = paths.velocity(x["noisy"], estimate(of_velocity, x), x["t"])
        torch.testing.assert_close(followed, estimate(of_mix, x) - first, rtol=1e-3, atol=1e-4)


def test_without_a_skip_no_gain_reaches_the_take(lively_denoiser: Build) -> None:
    """All that comes out is the last layer's, which has no more outputs than a mix needs."""
    denoiser, x = lively_denoiser(raw_take="concatenation"), inputs()
    assert not any(name.startswith("skip") for name in denoiser.state_dict())
    assert len(denoiser.out.bias) == 6 * denoiser.config.patch_frames
    torch.nn.init.zeros_(denoiser.out.weight)
    expected = denoiser.residual_std * denoiser.out.bias.unflatten(0, (2, 6))[0]  # of the first frame of each token
    torch.testing.assert_close(estimate(denoiser, x)[:, :, 0], expected.expand(2, -1))


@pytest.mark.parametrize("raw_take", ["skip", "concatenation"])
@pytest.mark.parametrize("predicts", ["mix", "velocity"])
@pytest.mark.parametrize("path", ["bridge", "noise"])
def test_every_input_matters(path: str, predicts: str, raw_take: str, lively_denoiser: Build) -> None:
    denoiser, x = lively_denoiser(path=path, predicts=predicts, raw_take=raw_take), inputs(path=path)
    before = estimate(denoiser, x)
    for name, value in x.items():
        if value is not None:
            changed = estimate(denoiser, x | {name: 0.9 * value + 0.01})
            assert (changed - before).abs().amax(dim=(1, 2)).min() > 1e-3, name


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("path", "noise"),
        ("width", 64),
        ("depth", 3),
        ("heads", 4),
        ("patch_frames", 3),
        ("mlp_ratio", 2.0),
        ("conv_kernel", 5),
        ("sigma_max", 2.0),
        ("predicts", "velocity"),
        ("raw_take", "concatenation"),
    ],
)
def test_every_setting_matters(setting: str, value: object, lively_denoiser: Build) -> None:
    x = inputs()
    if setting == "path":
        x["sigma"] = None
    changed = estimate(lively_denoiser(**{setting: value}), x)
    assert (changed - estimate(lively_denoiser(), inputs())).abs().max() > 1e-3


def test_each_item_of_a_batch_is_what_it_is_alone(lively_denoiser: Build) -> None:
    denoiser, x = lively_denoiser(), inputs(batch=3)
    together = estimate(denoiser, x)
    for i in range(3):
        alone = estimate(denoiser, {name: value[i : i + 1] for name, value in x.items()})
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("patch_frames", [1, 2, 5])
def test_padding_has_no_influence(frames: int, patch_frames: int, lively_denoiser: Build) -> None:
    """A short item padded to 17 frames is the short item alone, whatever stands in the padding."""
    denoiser, x = lively_denoiser(patch_frames=patch_frames), inputs(frames=17)
    mask = torch.ones(2, 17, dtype=torch.bool)
    mask[0, frames:] = False
    x["noisy"][0, :, frames:], x["raw"][0, :, frames:] = torch.nan, torch.inf
    padded = estimate(denoiser, x, mask)
    first = {name: value[:1, :, :frames] if value.ndim == 3 else value[:1] for name, value in x.items()}
    torch.testing.assert_close(padded[:1, :, :frames], estimate(denoiser, first), rtol=1e-4, atol=1e-5)
    assert not padded[0, :, frames:].any()
    second = {name: value[1:] for name, value in x.items()}
    torch.testing.assert_close(padded[1:], estimate(denoiser, second), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 3, 8, 151])
def test_it_takes_any_number_of_frames(frames: int, lively_denoiser: Build) -> None:
    result = estimate(lively_denoiser(), inputs(frames=frames))
    assert result.shape == (2, 6, frames)
    assert bool(result.isfinite().all())


def test_attention_depends_on_relative_position_only() -> None:
    """Turning all queries and keys by the same angle changes nothing; reversing the order does."""
    torch.manual_seed(0)
    attention = Attention(32, 2)
    x = torch.randn(1, 9, 32)
    cosine, sine = rotary_table(40, 16, x.device)
    here = attention(x, (cosine[:9], sine[:9]), None)
    there = attention(x, (cosine[25:34], sine[25:34]), None)
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-5)
    backwards = attention(x.flip(1), (cosine[:9], sine[:9]), None).flip(1)
    assert (here - backwards).abs().max() > 1e-3


def test_a_shifted_take_gives_a_shifted_estimate(lively_denoiser: Build) -> None:
    """The same 12 frames at another place of a longer, otherwise masked take: no absolute position is seen."""
    denoiser, x = lively_denoiser(), inputs(frames=12)
    mask = torch.zeros(2, 30, dtype=torch.bool)
    mask[:, 10:22] = True
    moved = {k: torch.nn.functional.pad(v, (10, 8)) if v.ndim == 3 else v for k, v in x.items()}
    there = estimate(denoiser, moved, mask)[:, :, 10:22]
    torch.testing.assert_close(there, estimate(denoiser, x), rtol=1e-4, atol=1e-5)


def test_attention_reaches_everything_that_is_not_masked(lively_denoiser: Build) -> None:
    denoiser, x = lively_denoiser(), inputs(frames=60)
    before = estimate(denoiser, x)
    x["noisy"][:, :, 58] += 3.0
    assert (estimate(denoiser, x) - before)[:, :, :10].abs().max() > 1e-5


@pytest.mark.parametrize("raw_take", ["skip", "concatenation"])
@pytest.mark.parametrize("predicts", ["mix", "velocity"])
def test_what_it_adds_is_in_units_of_the_residual(predicts: str, raw_take: str, lively_denoiser: Build) -> None:
    """A channel whose residual and deviation are ten times smaller gets a tenth of the correction."""
    denoiser, x = lively_denoiser(predicts=predicts, raw_take=raw_take), inputs()
    x["raw"][:] = 0.0
    x["noisy"] = x["noisy"] * denoiser.residual_std[:, None]
    before = estimate(denoiser, x)
    unit = torch.tensor([0.1, 1.0, 10.0, 0.1, 1.0, 10.0])
    denoiser.set_residual_std(denoiser.residual_std * unit)
    torch.testing.assert_close(
        estimate(denoiser, x | {"noisy": x["noisy"] * unit[:, None]}), before * unit[:, None], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("what", ["raw", "noisy"])
def test_its_gains_differ_from_frame_to_frame_and_make_nothing_of_nothing(what: str, lively_denoiser: Build) -> None:
    """Without F, the estimate is a gain on take and deviation: zero where both are, another factor in every frame."""
    denoiser, x = lively_denoiser(), inputs()
    outputs = denoiser.out.weight.data.unflatten(0, (denoiser.config.patch_frames, 3, 6))
    outputs[:, 2] = 0.0
    denoiser.out.bias.data.unflatten(0, (denoiser.config.patch_frames, 3, 6))[:, 2] = 0.0
    other = "noisy" if what == "raw" else "raw"
    silent = torch.rand(2, 6, 13, generator=torch.Generator().manual_seed(1)) < 0.3
    x[what] = x[what].masked_fill(silent, 0.0)
    x[other] = x["raw"].clone() if what == "raw" else torch.zeros_like(x["raw"])  # no deviation, or no take
    result = estimate(denoiser, x)
    assert not result[silent].any()
    factors = (result / x["noisy"]).masked_fill(silent, torch.nan)
    assert all(len(row[~row.isnan()].unique()) > 1 for row in factors.flatten(0, 1))


def test_the_start_of_each_path(lively_denoiser: Build) -> None:
    bridge, x = lively_denoiser(), inputs()
    raw, noise = x["raw"], x["noisy"]
    expected = raw + x["sigma"][:, None, None] * torch.linspace(0.5, 2.0, 6)[:, None] * noise
    torch.testing.assert_close(bridge.start(raw, x["sigma"], noise), expected)
    assert torch.equal(lively_denoiser(path="noise").start(raw, None, noise), noise)


def test_a_saved_denoiser_comes_back_bit_for_bit(tmp_path: Path, lively_denoiser: Build) -> None:
    denoiser = lively_denoiser(
        codec_fingerprint="0123abcd", sigma_max=1.5, predicts="velocity", raw_take="concatenation"
    )
    denoiser.save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    loaded = Denoiser.from_pretrained(tmp_path)
    assert torch.equal(estimate(loaded, inputs()), estimate(denoiser, inputs()))
    assert torch.equal(loaded.residual_std, torch.linspace(0.5, 2.0, 6))
    assert (loaded.config.codec_fingerprint, loaded.config.sigma_max) == ("0123abcd", 1.5)


def gradients(denoiser: Denoiser, **autocast: object) -> dict[str, torch.Tensor]:
    denoiser.zero_grad()
    x = inputs(batch=4, frames=50)
    with torch.autocast("cpu", **autocast):
        result = estimate(denoiser, x)
    (result - inputs(batch=4, frames=50)["raw"].flip(0)).square().mean().backward()
    return {name: parameter.grad.clone() for name, parameter in denoiser.named_parameters()}


def test_bfloat16_autocast_keeps_the_gradients(lively_denoiser: Build) -> None:
    denoiser = lively_denoiser(depth=3, width=64)
    exact = gradients(denoiser, dtype=torch.bfloat16, enabled=False)
    rounded = gradients(denoiser, dtype=torch.bfloat16)
    for name, gradient in exact.items():
        cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), rounded[name].flatten(), dim=0)
        assert cosine > 0.99, f"{name}: {cosine:.4f}"
    assert any(not torch.equal(gradient, rounded[name]) for name, gradient in exact.items())


def test_bfloat16_autocast_leaves_skip_and_untrained_output_exact() -> None:
    denoiser = Denoiser(latent_dim=6, embed_dim=8, codec_fingerprint="f", width=32, depth=2, heads=2)
    x = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = estimate(denoiser, x)
    assert result.dtype == torch.float32
    assert torch.equal(result, x["raw"])


def test_what_sets_gains_and_estimate_stays_in_full_precision(lively_denoiser: Build) -> None:
    """Under autocast the blocks round to bfloat16; condition, skip and the last layers, whose error would go straight
    into the estimate, do not."""
    denoiser, types = lively_denoiser(), {}

    def note(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: types.update({name: output.dtype})

    exact = ("embed_condition", "skip", "modulation", "out")
    for name in (*exact, "embed_frames"):
        getattr(denoiser, name).register_forward_hook(note(name))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        estimate(denoiser, inputs())
    assert types == dict.fromkeys(exact, torch.float32) | {"embed_frames": torch.bfloat16}


def test_gradient_checkpointing_recomputes_and_changes_no_gradient(lively_denoiser: Build) -> None:
    denoiser = lively_denoiser()
    runs = 0

    def count(*_: object) -> None:
        nonlocal runs
        runs += 1

    for block in denoiser.blocks:
        block.register_forward_pre_hook(count)
    plain = gradients(denoiser, enabled=False)
    denoiser.enable_gradient_checkpointing()
    recomputed = gradients(denoiser, enabled=False)
    assert runs == len(denoiser.blocks) * 3
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, msg=name)


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"width": 30, "heads": 4}, "heads"),
        ({"conv_kernel": 4}, "odd"),
        ({"path": "brigde"}, "brigde"),
        ({"patch_frames": 0}, "positive"),
        ({"sigma_max": 0.0}, "positive"),
        ({"predicts": "noise"}, "'mix' or 'velocity', not 'noise'"),
        ({"raw_take": "gains"}, "'skip' or 'concatenation', not 'gains'"),
    ],
)
def test_impossible_sizes_are_refused(setting: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Denoiser(latent_dim=6, embed_dim=8, codec_fingerprint="f", **setting)


def test_wrong_inputs_are_refused(lively_denoiser: Build) -> None:
    bridge, noise, x = lively_denoiser(), lively_denoiser(path="noise"), inputs()
    for denoiser, changes in (
        (bridge, {"sigma": None}),
        (noise, {}),
        (bridge, {"sigma": torch.zeros(1)}),
        (bridge, {"t": torch.zeros(1)}),
        (bridge, {"noisy": torch.zeros(2, 6, 12)}),
        (bridge, {"noisy": torch.zeros(2, 5, 13), "raw": torch.zeros(2, 5, 13)}),
    ):
        with pytest.raises(ValueError, match=r"sigma|noisy and raw"):
            estimate(denoiser, x | changes)
    for bad in (torch.tensor([0.5, 1.01]), torch.tensor([-0.1, 0.5]), torch.tensor([0.5, torch.nan])):
        with pytest.raises(InputError, match="sigma is from 0 to 1"):
            bridge.start(x["raw"], bad, x["noisy"])
    for bad in (torch.ones(5), torch.zeros(6), torch.full((6,), torch.nan)):
        with pytest.raises(ValueError, match="residual_std is 6 positive numbers"):
            bridge.set_residual_std(bad)
