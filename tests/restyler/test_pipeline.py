"""The pipeline: what a mix depends on and what it does not, and the folder that carries it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from audio.errors import InputError
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from codec.encodec48 import Encodec48Codec
from codec.pocket import PocketCodec
from conditioning.conditioner import StyleConditioner
from restyler.pipeline import VocalRestylePipeline
from restyler.rendering import load_model

Build = Callable[..., VocalRestylePipeline]
Vocal = Callable[..., Waveform]


def difference_db(one: torch.Tensor, other: torch.Tensor) -> float:
    """Power of the difference over the power of the second, in dB."""
    return float(10 * torch.log10((one - other).square().mean() / other.square().mean()))


# -- what a mix depends on


@pytest.mark.parametrize("max_batch", [1, 3])
def test_the_same_seed_gives_the_same_mix_whatever_the_batch(
    pipeline: VocalRestylePipeline, take: Waveform, max_batch: int
) -> None:
    together = pipeline(take, seeds=[5, 6, 7, 8], max_batch=4)
    apart = pipeline(take, seeds=[8, 7, 6, 5], max_batch=max_batch).flip(0)
    for one, other in zip(together, apart, strict=True):
        assert difference_db(one, other) < -80


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_seed_gives_the_same_mix_on_a_gpu(model: Path, pipeline: VocalRestylePipeline, take: Waveform) -> None:
    on_cpu = VocalRestylePipeline.from_pretrained(model)(take, seeds=[1, 2], style=pipeline.styles[0], guidance=2.0)
    on_gpu = load_model(model, "cuda")(take, seeds=[1, 2], style=pipeline.styles[0], guidance=2.0)
    assert difference_db(on_gpu, on_cpu) < -80


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": [4]},
        {"style": "warm plate"},
        {"controls": {"space_db": 2.0}},
        {"steps": 3},
        {"sigma": 0.5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_changes_the_mix(pipeline: VocalRestylePipeline, take: Waveform, change: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"seeds": [3]}
    assert difference_db(pipeline(take, **plain | change), pipeline(take, **plain)) > -60


def test_what_is_told_matters(pipeline: VocalRestylePipeline, vocal: Vocal, take: Waveform) -> None:
    styles = [pipeline(take, seeds=[0], style=name) for name in pipeline.styles]
    references = [pipeline(take, seeds=[0], reference=vocal(0.5, 44_100, channels=2, seed=seed)) for seed in (1, 2)]
    for one, other in [(styles[0], styles[1]), (styles[1], styles[2]), tuple(references)]:
        assert difference_db(one, other) > -60


def test_any_style_deals_every_style_once_and_by_the_seed_alone(pipeline: VocalRestylePipeline, take: Waveform) -> None:
    settings = pipeline.settings(style="any")
    count = len(pipeline.styles)
    deals = [[pipeline.style_of(settings, seed) for seed in range(start, start + count)] for start in (0, count, 300)]
    assert all(sorted(map(str, deal)) == sorted(pipeline.styles) for deal in deals)
    assert len({tuple(deal) for deal in deals}) > 1
    together = pipeline(take, seeds=[0, 1, 2], style="any")
    for seed, mix in enumerate(together):
        alone = pipeline(take, seeds=[seed], style=pipeline.style_of(settings, seed))[0]
        assert difference_db(mix, alone) < -80


def test_any_style_needs_styles(pipeline: VocalRestylePipeline) -> None:
    bare = StyleConditioner(pipeline.codec.latent_dim, 16, [], list(pipeline.defaults.controls), 8)
    parts = pipeline.components | {"conditioner": bare}
    with pytest.raises(InputError, match="has no styles"):
        VocalRestylePipeline(**parts, sampling=dict(pipeline.config.sampling)).settings(style="any")
    for word in ("any", "none"):
        reserved = StyleConditioner(pipeline.codec.latent_dim, 16, [word], list(pipeline.defaults.controls), 8)
        parts = pipeline.components | {"conditioner": reserved}
        with pytest.raises(InputError, match=word):
            VocalRestylePipeline(**parts, sampling=dict(pipeline.config.sampling))


def test_the_level_of_a_reference_does_not_matter(pipeline: VocalRestylePipeline, vocal: Vocal, take: Waveform) -> None:
    reference = vocal(0.5, 48_000, channels=2, seed=1)
    quiet = Waveform(reference.samples * 0.05, 48_000)
    loud_mix, quiet_mix = (pipeline(take, seeds=[0], reference=each) for each in (reference, quiet))
    assert difference_db(quiet_mix, loud_mix) < -80


def test_a_reference_has_a_default_guidance_of_its_own(
    pipeline: VocalRestylePipeline, vocal: Vocal, take: Waveform
) -> None:
    parts, sampling = pipeline.components, dict(pipeline.config.sampling) | {"guidance": 3.0}
    alike = VocalRestylePipeline(**parts, sampling=sampling)
    apart = VocalRestylePipeline(**parts, sampling=sampling | {"reference_guidance": 1.0})
    told: dict[str, Any] = {"seeds": [0], "reference": vocal(0.5, 48_000, channels=2, seed=1)}
    assert torch.equal(apart(take, **told), alike(take, **told, guidance=1.0))
    assert torch.equal(apart(take, **told, guidance=3.0), alike(take, **told))
    assert difference_db(apart(take, **told), alike(take, **told)) > -60
    assert torch.equal(apart(take, seeds=[0], style="wide hall"), alike(take, seeds=[0], style="wide hall"))


def test_guidance_exaggerates_what_is_told_and_nothing_else(pipeline: VocalRestylePipeline, take: Waveform) -> None:
    told = [pipeline(take, seeds=[0], style="wide hall", guidance=guidance) for guidance in (0.0, 1.0, 3.0)]
    untold = [pipeline(take, seeds=[0], guidance=guidance) for guidance in (1.0, 3.0)]
    assert difference_db(told[2], told[1]) > -60
    assert difference_db(told[0], untold[0]) < -80  # guidance 0 ignores the style
    assert torch.equal(untold[0], untold[1])


def test_without_noise_every_seed_gives_the_same_mix(pipeline: VocalRestylePipeline, take: Waveform) -> None:
    first, second = pipeline(take, seeds=[0, 1], sigma=0.0)
    assert difference_db(first, second) < -80


def test_controls_are_told_in_units_of_the_training_pairs(build_pipeline: Build, take: Waveform) -> None:
    narrow = build_pipeline(controls={"width_db": (0.0, 1.0), "space_db": (0.0, 1.0)})
    wide = build_pipeline(controls={"width_db": (2.0, 10.0), "space_db": (0.0, 1.0)})
    mixes = [narrow(take, seeds=[0], controls={"width_db": 0.7}), wide(take, seeds=[0], controls={"width_db": 9.0})]
    assert difference_db(mixes[1], mixes[0]) < -80


def test_the_takes_level_goes_through(pipeline: VocalRestylePipeline, take: Waveform) -> None:
    loud = pipeline(take, seeds=[0])
    quiet = pipeline(Waveform(take.samples * 10 ** (-25 / 20), 48_000), seeds=[0])
    assert difference_db(quiet * 10 ** (25 / 20), loud) < -80


def test_networks_see_the_training_loudness(pipeline: VocalRestylePipeline, take: Waveform) -> None:
    seen: list[torch.Tensor] = []
    encode = pipeline.codec.encode
    hook = lambda waveform: seen.append(waveform) or encode(waveform)  # noqa: E731
    pipeline.codec.encode = hook
    try:
        pipeline(take, seeds=[0, 1])
    finally:
        del pipeline.codec.encode
    assert len(seen) == 1  # encoded once for all variations
    assert integrated_loudness_lufs(Waveform(seen[0][0], 48_000)) == pytest.approx(-18, abs=0.01)


def test_mono_is_stereo_with_equal_channels(pipeline: VocalRestylePipeline, take: Waveform) -> None:
    assert torch.equal(pipeline(take, seeds=[0]), pipeline(take.stereo(), seeds=[0]))


@pytest.mark.parametrize(("samples", "rate"), [(4_801, 48_000), (31_999, 44_100), (8_000, 16_000)])
def test_mixes_are_exactly_as_long_as_the_take(
    pipeline: VocalRestylePipeline, vocal: Vocal, samples: int, rate: int
) -> None:
    take = Waveform(vocal(1.0, rate).samples[:, :samples], rate)
    mixes = pipeline(take, seeds=[0, 1])
    assert mixes.shape == (2, 2, -(-samples * 48_000 // rate))


def test_the_denoiser_never_sees_more_than_a_window(pipeline: VocalRestylePipeline, vocal: Vocal) -> None:
    frames: list[int] = []
    handle = pipeline.denoiser.register_forward_pre_hook(lambda _, inputs: frames.append(inputs[0].shape[-1]))
    pipeline(vocal(6.0, 48_000), seeds=[0], steps=1)
    handle.remove()
    assert len(frames) > 5
    assert max(frames) <= pipeline.defaults.window_frames


def test_progress_counts_every_window_from_the_first_encoding_to_the_last_decoding(
    pipeline: VocalRestylePipeline, vocal: Vocal
) -> None:
    """One step, so that a bar which counts steps would jump from nothing to all."""
    take, events = vocal(3.0, 48_000), list[Any]()
    decode = pipeline.codec.decode
    pipeline.codec.decode = lambda latents, *, samples: (decode(latents, samples=samples), events.append("decoded"))[0]
    handle = pipeline.denoiser.register_forward_hook(lambda *_: events.append("window"))
    try:
        pipeline(take, seeds=[0, 1, 2], steps=1, max_batch=2, progress=lambda *told: events.append(told))
    finally:
        del pipeline.codec.decode
        handle.remove()
    seen = [event for event in events if isinstance(event, tuple)]
    windows = events.count("window") // 2  # two batches
    total = 1 + 3 * (windows + 1)
    assert windows > 3
    assert {in_all for _, in_all in seen} == {total}
    done = [pieces for pieces, _ in seen]
    assert done == sorted(set(done)) and done[:2] == [0, 1]
    assert len(done) == 2 + 2 * windows + 3
    assert events[-2:] == ["decoded", (total, total)]


def test_a_reference_is_part_of_the_work(pipeline: VocalRestylePipeline, vocal: Vocal, take: Waveform) -> None:
    seen: list[tuple[int, int]] = []
    pipeline(take, seeds=[0], reference=vocal(0.5, 44_100), progress=lambda *told: seen.append(told))
    assert [done for done, _ in seen] == list(range(seen[0][1] + 1))


def test_mixes_come_one_after_the_other(pipeline: VocalRestylePipeline, take: Waveform) -> None:
    told: list[tuple[int, int]] = []
    mixes = pipeline.stream(
        take, pipeline.settings(), seeds=[0, 1], max_batch=1, progress=lambda *pieces: told.append(pieces)
    )
    next(mixes)
    done, total = told[-1]
    assert done - 1 == (total - 1) / 2  # encoded, one of two mixes made: the second has not begun


def test_a_model_whose_path_starts_from_noise(build_pipeline: Build, take: Waveform) -> None:
    pipeline = build_pipeline(path="noise", sigma=None)
    first, second = pipeline(take, seeds=[0, 1])
    assert difference_db(first, second) > -60
    with pytest.raises(InputError, match="sigma"):
        pipeline(take, seeds=[0], sigma=1.0)


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"style": "warm plait"}, "warm plate"),
        ({"controls": {"spice_db": 1.0}}, "spice_db.*space_db"),
        ({"controls": {"space_db": float("nan")}}, "space_db"),
        ({"controls": {"space_db": 12.1}}, "-12 to 12"),
        ({"steps": 0}, "steps"),
        ({"steps": 1001}, "1000"),
        ({"guidance": float("nan")}, "guidance"),
        ({"guidance": -0.1}, "guidance"),
        ({"sigma": 2.1}, "0 to 2"),
        ({"sigma": float("inf")}, "sigma"),
    ],
)
def test_wishes_out_of_range_are_refused(pipeline: VocalRestylePipeline, wishes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipeline.settings(**wishes)


def test_silence_is_refused(pipeline: VocalRestylePipeline, take: Waveform) -> None:
    silence = Waveform(torch.full((1, 48_000), 1e-5), 48_000)
    with pytest.raises(InputError, match="take is silent"):
        pipeline(silence, seeds=[0])
    with pytest.raises(InputError, match="reference is silent"):
        pipeline(take, seeds=[0], reference=silence)


# -- the folder


def test_another_codecs_latents_are_refused(pipeline: VocalRestylePipeline) -> None:
    torch.manual_seed(11)
    stranger = PocketCodec(width=16, encoder_blocks=1, decoder_blocks=1)
    with pytest.raises(InputError, match=stranger.fingerprint()):
        VocalRestylePipeline(
            stranger, pipeline.conditioner, pipeline.denoiser, pipeline.scheduler, dict(pipeline.config.sampling)
        )


def test_a_saved_model_gives_the_same_mix(pipeline: VocalRestylePipeline, take: Waveform, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "model")
    loaded = VocalRestylePipeline.from_pretrained(tmp_path / "model")
    wishes: dict[str, Any] = {"seeds": [0], "style": "dry booth", "controls": {"width_db": 2.0}}
    assert difference_db(loaded(take, **wishes), pipeline(take, **wishes)) < -100
    assert loaded.defaults == pipeline.defaults
    assert loaded.config.training == {"seed": 7}
    assert loaded.styles == pipeline.styles


def test_a_half_precision_model_survives_rounds(model: Path, tmp_path: Path) -> None:
    VocalRestylePipeline.from_pretrained(model).save_pretrained(tmp_path / "again", dtype=torch.float16)
    for name in ("codec", "conditioner", "denoiser"):
        first, again = (
            load_file(next((folder / name).glob("*.safetensors"))) for folder in (model, tmp_path / "again")
        )
        assert first.keys() == again.keys()
        for key in first:
            assert first[key].dtype == torch.float16
            assert torch.equal(first[key], again[key])


def test_saving_leaves_the_pipeline_as_it_was(pipeline: VocalRestylePipeline, take: Waveform, tmp_path: Path) -> None:
    before = pipeline(take, seeds=[0])
    pipeline.save_pretrained(tmp_path / "model", dtype=torch.float16)
    assert torch.equal(pipeline(take, seeds=[0]), before)


def test_weights_that_do_not_fit_half_precision_are_not_saved(build_pipeline: Build, tmp_path: Path) -> None:
    pipeline = build_pipeline()
    pipeline.denoiser.skip.bias.data[0] = 1e6
    with pytest.raises(ValueError, match="denoiser"):
        pipeline.save_pretrained(tmp_path / "model", dtype=torch.float16)


def test_a_folder_holds_no_pickle(model: Path) -> None:
    suffixes = {file.suffix for file in model.rglob("*") if file.is_file()}
    assert suffixes == {".json", ".safetensors"}


def test_whoever_may_read_the_folder_may_read_the_weights(model: Path) -> None:
    assert len({file.stat().st_mode for file in model.rglob("*") if file.is_file()}) == 1


def test_a_model_replaces_nothing(pipeline: VocalRestylePipeline, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not empty"):
        pipeline.save_pretrained(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_official_codecs_architecture_takes_the_same_road(
    build_pipeline: Build, vocal: Vocal, tmp_path: Path
) -> None:
    build_pipeline(Encodec48Codec.from_seed(0), steps=1).save_pretrained(tmp_path / "model")
    take = vocal(0.7, 44_100)
    mixes = VocalRestylePipeline.from_pretrained(tmp_path / "model")(take, seeds=[0, 1])
    assert mixes.shape == (2, 2, 33_600)
    assert difference_db(mixes[0], mixes[1]) > -60
