import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from audio import io
from audio.errors import InputError
from audio.singing import demo_take
from audio.waveform import Waveform
from codec.pocket import PocketCodec
from restyler.codec_config import CodecConfig
from restyler.codec_data import excerpt_streams
from restyler.codec_start import latent_statistics, start_from_principal_components
from restyler.codec_training import build_codec_to_train, sdr_db, train_codec
from restyler.config import load_config

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = [
    "codec.width=16", "codec.encoder_blocks=1", "codec.decoder_blocks=1", "training.batch_size=2",
    "training.crop_s=0.2", "training.workers=0", "training.log_every=1", "validation.batches=2", "validation.every=4",
    "start.batches=4", "optim.warmup_steps=1", "data.impulse_responses=null", "data.validation_fraction=0.4",
]  # fmt: skip


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """A folder of eight short pieces of the demo take, in stereo that differs, at another rate."""
    folder = tmp_path_factory.mktemp("sounds")
    samples = demo_take(44_100).samples
    for number in range(8):
        part = samples[:, number * 40_000 : (number + 1) * 40_000]
        stereo = torch.cat([part, 0.7 * part.roll(5 + number, 1)])
        io.write(folder / f"part_{number}.wav", Waveform(stereo, 44_100), tags={})
    return folder


def load(sounds, *overrides):
    sources = json.dumps([{"path": str(sounds), "weight": 1.0}])
    chosen = dict(text.split("=", 1) for text in [*SMALL, f"data.sources={sources}", *overrides])
    config = load_config(CONFIGS / "codec.yaml", [f"{key}={value}" for key, value in chosen.items()])
    assert isinstance(config, CodecConfig)
    return config


def streams(config):
    return excerpt_streams(
        config.data, sample_rate=48_000, hop_samples=320, seed=config.seed,
        batch_size=config.training.batch_size, crop_s=config.training.crop_s,
    )  # fmt: skip


def rows(run, key):
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row[key] for row in found if key in row]


def weights(run, step, part="codec"):
    return torch.load(run / "checkpoints" / f"step_{step:06d}" / "state.pt", weights_only=True)[part]


def test_excerpts_depend_on_seed_and_step_alone(sounds):
    config = load(sounds)
    first, second = streams(config)[0], streams(config)[0]
    expected = [first.batch(step) for step in range(3, 7)]
    second.start_step = 3
    for workers in (0, 2):
        loaded = itertools.islice(DataLoader(second, batch_size=None, num_workers=workers), 4)
        for batch, other in zip(loaded, expected, strict=True):
            assert torch.equal(batch, other)
    assert not torch.equal(expected[0], expected[1])


def test_excerpts_vary_and_stay_within_full_scale(sounds):
    stream = streams(load(sounds, "training.batch_size=64"))[0]
    varied = stream.batch(0)
    peaks_db = 20 * varied.abs().amax((1, 2)).log10()
    assert peaks_db.max() <= -0.49 and peaks_db.max() - peaks_db.min() > 30
    assert varied.isfinite().all()
    assert stream.without_augmentation().batch(0).ne(varied).any()


def test_validation_hears_other_files(sounds):
    training, validation = streams(load(sounds))
    heard = {audio.tobytes() for pool in training.pools for audio in pool}
    assert all(audio.tobytes() not in heard for pool in validation.pools for audio in pool)
    assert sum(len(pool) for stream in (training, validation) for pool in stream.pools) == 8


def test_principal_components_are_the_best_linear_code(sounds):
    """With the networks silent, the round trip's error energy in scaled coefficients is the sum of the eigenvalues left
    out, and the code has unit variance."""
    stream = streams(load(sounds, "training.batch_size=16"))[0].without_augmentation()
    batches = [stream.batch(step) for step in range(3)]
    codec = PocketCodec(width=8, encoder_blocks=1, decoder_blocks=1)
    for layer in (codec.encoder_out, codec.decoder_out):
        torch.nn.init.zeros_(layer.weight)
    codec.decoder_out.bias.data.zero_()
    codec.decoder_out.bias.data[640:] = -100  # no copied highs either
    start_from_principal_components(codec, batches, components=60)
    torch.nn.init.zeros_(codec.encoder_out.weight)
    with torch.no_grad():
        coefficients, level = codec.analyse(torch.cat(batches))
        y = (coefficients / codec.bin_scale)[level > np.log(1e-3)]
        code = y @ codec.encoder_linear.weight.T
        error = (code @ codec.decoder_linear.weight.T - y).square().mean(0).sum()
    spectrum = np.linalg.svd(y.numpy().astype(float), compute_uv=False) ** 2 / len(y)
    assert float(error) == pytest.approx(spectrum[60:].sum(), rel=1e-2)
    np.testing.assert_allclose(code[:, :60].square().mean(0), 1, rtol=1e-2)
    assert codec.encoder_linear.weight[60:].abs().max() == 0


def test_statistics_standardise_active_frames(sounds):
    stream = streams(load(sounds, "training.batch_size=8"))[1]
    batches = [stream.batch(step) for step in range(3)]
    codec = PocketCodec(width=8, encoder_blocks=1, decoder_blocks=1)
    start_from_principal_components(codec, batches, components=20)
    codec.set_statistics(*latent_statistics(codec, batches))
    with torch.no_grad():
        latents = torch.cat([codec.encode(batch) for batch in batches])
    active = (latents[:, 0] * codec.latent_std[0] + codec.latent_mean[0]) > np.log(1e-3)
    active = latents.transpose(1, 2)[active]
    torch.testing.assert_close(active.mean(0), torch.zeros(128), atol=1e-2, rtol=0)
    torch.testing.assert_close(active.std(0), torch.ones(128), atol=1e-2, rtol=0)


def test_sdr_is_known():
    audio = torch.randn(3, 2, 1000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sdr_db(audio, 0.9 * audio), torch.full((3,), 20.0), atol=1e-3, rtol=0)


def test_training_improves_resumes_exactly_and_exports(sounds, tmp_path):
    config = load(sounds, "training.steps=8", "training.save_every=4")
    assert train_codec(config, tmp_path / "whole") == 0
    whole = weights(tmp_path / "whole", 8)
    # The same run, its last four steps lost to a crash: they are done again, to the same bits.
    assert train_codec(config, tmp_path / "cut") == 0
    crash = tmp_path / "cut" / "checkpoints" / "step_000008"
    crash.rename(crash.with_name(crash.name + ".unfinished"))
    assert train_codec(config, tmp_path / "cut") == 0
    for name, value in weights(tmp_path / "cut", 8).items():
        assert torch.equal(value, whole[name]), name
    assert rows(tmp_path / "cut", "loss") == rows(tmp_path / "whole", "loss")
    validation = rows(tmp_path / "whole", "val_log_magnitude")
    assert validation[-1] < validation[0]
    exported = PocketCodec.from_pretrained(tmp_path / "whole" / "codec")
    state = torch.load(tmp_path / "whole/checkpoints/step_000008/state.pt", weights_only=True)
    for parameter, average in zip(exported.parameters(), state["ema"]["shadow_params"], strict=True):
        assert torch.equal(parameter, average)
    assert exported.latent_std.ne(1).all()


def test_fine_tuning_with_a_frozen_encoder_keeps_the_latents(sounds, tmp_path):
    assert train_codec(load(sounds, "training.steps=2"), tmp_path / "first") == 0
    before = PocketCodec.from_pretrained(tmp_path / "first" / "codec")
    start = json.dumps({"kind": "codec", "path": str(tmp_path / "first" / "codec"), "frozen_encoder": True})
    config = load(sounds, "training.steps=2")
    frozen = config.model_copy(update={"start": type(config).model_validate_json(
        json.dumps(config.model_dump(mode="json") | {"start": json.loads(start)})).start})  # fmt: skip
    assert train_codec(frozen, tmp_path / "second") == 0
    after = PocketCodec.from_pretrained(tmp_path / "second" / "codec")
    assert after.fingerprint() == before.fingerprint()
    assert not torch.equal(after.decoder_out.weight, before.decoder_out.weight)
    other = frozen.model_copy(update={"codec": frozen.codec.model_copy(update={"width": 24})})
    with pytest.raises(InputError, match="width is 16"):
        build_codec_to_train(other, None)


def test_discriminator_takes_part(sounds, tmp_path):
    """With the adversarial term the codec goes another way than without, and the discriminator changes from step to
    step, from what its own loss tells it."""
    adversarial = json.dumps({"adversarial": 3.0, "feature": 3.0, "filters": 4, "lr": 2e-3})
    config = load(sounds, "training.steps=4", "training.save_every=2", f"adversarial={adversarial}")
    assert train_codec(config, tmp_path / "rivals") == 0
    assert train_codec(load(sounds, "training.steps=4"), tmp_path / "alone") == 0
    alone, rivals = (weights(tmp_path / run, 4)["decoder_out.weight"] for run in ("alone", "rivals"))
    assert (alone - rivals).abs().max() > 1e-5
    earlier, later = (weights(tmp_path / "rivals", step, "discriminator") for step in (2, 4))
    assert all(not torch.equal(earlier[name], later[name]) for name in earlier if name.endswith("weight_v"))
    assert all(0 < value < 4 for value in rows(tmp_path / "rivals", "discriminator"))


def test_an_empty_folder_and_other_sizes_are_refused(sounds, tmp_path):
    with pytest.raises(InputError, match="no audio files"):
        train_codec(load(tmp_path), tmp_path / "run")
    with pytest.raises(InputError, match=r"codec\.kernel"):
        load(sounds, "codec.kernel=6")
    with pytest.raises(InputError, match=r"start\.components"):
        load(sounds, "start.components=128")
