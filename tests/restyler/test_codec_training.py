import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from audio import io
from audio.errors import InputError
from audio.singing import demo_take
from audio.waveform import Waveform
from codec.losses import reconstruction_losses
from codec.pocket import PocketCodec
from restyler.codec_config import CodecConfig
from restyler.codec_data import excerpt_streams, vary
from restyler.codec_start import latent_statistics, start_from_principal_components
from restyler.codec_training import CodecTask, build_codec_to_train, sdr_db, train_codec
from restyler.config import load_config
from restyler.optimisation import learning_rate

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = [
    "codec.width=16", "codec.encoder_blocks=1", "codec.decoder_blocks=1", "training.batch_size=2",
    "training.crop_s=0.2", "training.workers=0", "tracking.log_every=1", "validation.batches=2", "validation.every=4",
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


def trained(config, steps):
    """A task after so many steps, from the codec's start."""
    training, validation = streams(config)
    task = CodecTask(config, Accelerator(), build_codec_to_train(config, training), training, validation)
    for number in range(steps):
        one_step(task, number, training.batch(number))
    return task


def one_step(task, number, batch):
    """What was measured, as plain numbers."""
    measured = {name: float(total) / weight for name, (total, weight) in task.backward(number, iter([batch])).items()}
    finite = bool(np.isfinite(measured["grad_norm"]))
    task.update(learning_rate(number, task.config.training.steps, task.config.optim), finite=finite)
    return measured | {"skipped": not finite}


def flat(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def weights(run, step, part="codec"):
    state = torch.load(run / "checkpoints" / f"step_{step:06d}" / "state.pt", weights_only=True)["task"]
    return state if part is None else {name.removeprefix("codec."): v for name, v in state[part]["model"].items()}


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


def test_sources_are_heard_by_their_weights(sounds, tmp_path):
    """One source holds positive samples alone, the other negative ones, four times as long."""
    for name, seconds, sign in (("few", 1, 1), ("many", 4, -1)):
        (tmp_path / name).mkdir()
        for number in range(6):
            io.write(
                tmp_path / name / f"{number}.wav",
                Waveform(torch.full((1, 48_000 * seconds), 0.5 * sign), 48_000),
                tags={},
            )
    sources = json.dumps(
        [{"path": str(tmp_path / "few"), "weight": 3.0}, {"path": str(tmp_path / "many"), "weight": 1.0}]
    )
    stream = streams(load(sounds, f"data.sources={sources}", "data.augment=false", "training.batch_size=400"))[0]
    share = (stream.batch(0).sum((1, 2)) > 0).float().mean()
    assert float(share) == pytest.approx(3 / 4, abs=0.06)  # nearly three standard deviations


def test_rooms_come_from_the_impulse_responses(sounds, tmp_path):
    """An echo half an excerpt later fills the excerpt's silent half, which otherwise stays far below the other."""
    echo = torch.zeros(1, 48_000)
    echo[0, 4_800] = 0.1
    io.write(tmp_path / "echo.wav", Waveform(echo, 48_000), tags={})
    responses = streams(load(sounds, f"data.impulse_responses={tmp_path}"))[0].impulse_responses
    assert len(responses) == 1
    burst = np.zeros((2, 9_600))
    burst[:, :4_800] = np.sin(np.arange(4_800) / 5)

    def filled(responses):
        varied = [vary(burst, np.random.default_rng(seed), responses, 48_000) for seed in range(100)]
        halves = np.array([[(half**2).mean() for half in np.split(each, 2, axis=1)] for each in varied])
        return (halves.min(axis=1) > 0.01 * halves.max(axis=1)).sum()

    assert filled(responses) > filled([]) + 15  # of 35 that are given a room


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
    config = load(sounds, "training.steps=8", "training.save_every=4", "training.level_share=0")
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
    exported = PocketCodec.from_pretrained(tmp_path / "whole" / "codec")
    state = torch.load(tmp_path / "whole/checkpoints/step_000008/state.pt", weights_only=True)
    for parameter, average in zip(exported.parameters(), state["task"]["codec"]["average"], strict=True):
        assert torch.equal(parameter, average)
    assert exported.latent_std.ne(1).all()
    # What validation heard is what is exported.
    validation = streams(config)[1]
    with torch.no_grad():
        heard = [
            reconstruction_losses(audio, exported.decode_frames(exported.encode_frames(audio)), sample_rate=48_000)
            for audio in map(validation.batch, range(2))
        ]
    expected = float(torch.cat([terms["log_magnitude"] for terms in heard]).mean())
    assert rows(tmp_path / "whole", "val_log_magnitude")[-1] == pytest.approx(expected, rel=1e-5)


def test_what_the_decoder_lacks_in_level_is_made_up_for_in_the_export_alone(sounds, tmp_path):
    task = trained(load(sounds), 0)
    for share in (0.0, 0.5, 1.0):
        task.config.training.__dict__["level_share"] = share
        task.export(tmp_path / f"{share}", 0)
    none, half, whole = (PocketCodec.from_pretrained(tmp_path / f"{share}") for share in (0.0, 0.5, 1.0))
    gains = [one.decoder_linear.weight.norm(dim=1) / none.decoder_linear.weight.norm(dim=1) for one in (half, whole)]
    torch.testing.assert_close(gains[0].square(), gains[1], rtol=1e-3, atol=0)
    assert gains[1].max() > 1.1
    assert none.fingerprint() == whole.fingerprint()
    assert torch.equal(none.decoder_linear.weight, task.codec.decoder_linear.weight)


def test_a_codec_learns_what_it_hears_again_and_again(sounds):
    config = load(sounds, "training.steps=99", "start.components=16", "optim.lr=3e-3", "optim.schedule=constant")
    task = trained(config, 0)
    losses = [one_step(task, number, task.training.batch(0))["loss"] for number in range(12)]
    assert losses[-1] < 0.7 * losses[0]  # found: 0.51


def test_rows_are_means_of_the_steps_since_the_last_one_whenever_a_run_was_stopped(sounds, tmp_path):
    every = load(sounds, "training.steps=6", "training.save_every=4")
    assert train_codec(every, tmp_path / "every") == 0
    losses = rows(tmp_path / "every", "loss")
    some = load(sounds, "training.steps=6", "training.save_every=4", "tracking.log_every=3")
    assert train_codec(some, tmp_path / "some") == 0
    assert rows(tmp_path / "some", "loss") == pytest.approx([np.mean(losses[:3]), np.mean(losses[3:])])
    crash = tmp_path / "some" / "checkpoints" / "step_000006"
    crash.rename(crash.with_name(crash.name + ".unfinished"))
    assert train_codec(some, tmp_path / "some") == 0  # from step 4
    assert rows(tmp_path / "some", "loss") == pytest.approx([np.mean(losses[:3]), np.mean(losses[3:])])


def test_the_loss_is_the_weighted_sum_of_its_terms(sounds):
    chosen = {"waveform": 2.0, "convergence": 3.0, "log_magnitude": 0.0, "mel": 7.0}
    task = trained(load(sounds, f"losses={json.dumps(chosen)}"), 0)
    measured = one_step(task, 0, task.training.batch(0))
    assert measured["log_magnitude"] > 0
    assert measured["loss"] == pytest.approx(sum(weight * measured[name] for name, weight in chosen.items()), rel=1e-5)


def test_latent_noise_makes_another_codec(sounds):
    plain, again, noisy = (
        flat(trained(load(sounds, f"training.latent_noise={noise}"), 1).codec) for noise in (0.0, 0.0, 0.2)
    )
    assert torch.equal(plain, again)
    assert not torch.equal(plain, noisy)


def test_two_processes_hear_what_one_hears(sounds, tmp_path, two_processes):
    """The noise on the latents too is that of the whole batch. Later steps part: Adam enlarges rounding."""
    few = ["training.steps=3", "training.batch_size=4", "validation.batches=1"]
    assert train_codec(load(sounds, *few), tmp_path / "one") == 0
    sources = json.dumps([{"path": str(sounds), "weight": 1.0}])
    chosen = dict(text.split("=", 1) for text in [*SMALL, f"data.sources={sources}", *few])
    settings = [f"{key}={value}" for key, value in chosen.items()]
    two_processes(["train.py", "configs/codec.yaml", *settings, "--run-dir", str(tmp_path / "two")])
    one, two = rows(tmp_path / "one", "loss"), rows(tmp_path / "two", "loss")
    assert one[0] == pytest.approx(two[0], rel=1e-6)
    assert one == pytest.approx(two, rel=1e-3)


RIVALS = {"adversarial": 3.0, "feature": 3.0, "filters": 4, "lr": 2e-3}


@pytest.mark.parametrize("change", [{"adversarial": 30.0}, {"feature": 30.0}, {"lr": 1e-4}])
def test_every_setting_of_the_discriminator_counts(sounds, change):
    """The weights act on the codec alone; the learning rate on the discriminator, and through it on the codec."""
    first, second = (trained(load(sounds, f"adversarial={json.dumps(RIVALS | each)}"), 1) for each in ({}, change))
    assert not torch.equal(flat(first.codec), flat(second.codec))
    assert torch.equal(flat(first.discriminator), flat(second.discriminator)) == ("lr" not in change)


def test_a_step_that_is_not_finite_changes_neither_codec_nor_discriminator(sounds):
    task = trained(load(sounds, f"adversarial={json.dumps(RIVALS)}"), 1)
    before = [flat(task.codec), flat(task.discriminator)], task.balancer.state_dict()
    broken = task.training.batch(1)
    broken[0, 0, 500] = float("nan")
    assert one_step(task, 1, broken)["skipped"]
    after = [flat(task.codec), flat(task.discriminator)], task.balancer.state_dict()
    assert all(map(torch.equal, before[0], after[0]))
    assert before[1] == after[1]
    assert not one_step(task, 2, task.training.batch(2))["skipped"]
    assert not torch.equal(flat(task.discriminator), after[0][1])


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
    config = load(sounds, "training.steps=4", "training.save_every=2", f"adversarial={json.dumps(RIVALS)}")
    assert train_codec(config, tmp_path / "rivals") == 0
    assert train_codec(load(sounds, "training.steps=4"), tmp_path / "alone") == 0
    alone, rivals = (weights(tmp_path / run, 4)["decoder_out.weight"] for run in ("alone", "rivals"))
    assert (alone - rivals).abs().max() > 1e-5
    earlier, later = (weights(tmp_path / "rivals", step, "discriminator") for step in (2, 4))
    assert all(not torch.equal(earlier[name], later[name]) for name in earlier if name.endswith("weight_v"))
    assert all(0 < value < 4 for value in rows(tmp_path / "rivals", "discriminator"))
    # A crash after step 2: the discriminator and the balancer's averages go on as well.
    whole = weights(tmp_path / "rivals", 4, None)
    crash = tmp_path / "rivals" / "checkpoints" / "step_000004"
    crash.rename(crash.with_name(crash.name + ".unfinished"))
    assert train_codec(config, tmp_path / "rivals") == 0
    resumed = weights(tmp_path / "rivals", 4, None)
    assert resumed["balancer"] == whole["balancer"]
    for part in ("codec", "discriminator"):
        ours, theirs = resumed[part]["model"], whole[part]["model"]
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items()), part


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["training.crop_s=0.04"], r"training\.crop_s: 0\.04 s are 1920 samples .* at least 2048 needed"),
        (["training.crop_s=0.001"], r"training\.crop_s: 0\.001 s are 0 samples"),
        (
            ['losses={"waveform": 0, "convergence": 0, "log_magnitude": 0, "mel": 0}'],
            "losses: at least one weight above 0",
        ),
    ],
)
def test_settings_that_cannot_train_are_refused_before_anything_is_written(sounds, tmp_path, overrides, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        train_codec(load(sounds, *overrides), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_silent_sources_are_refused_before_anything_is_written(sounds, tmp_path):
    silent = tmp_path / "silent"
    silent.mkdir()
    for number in range(8):
        io.write(silent / f"{number}.wav", Waveform(torch.full((1, 30_000), 9e-4), 48_000), tags={})
    sources = json.dumps([{"path": str(sounds), "weight": 1.0}, {"path": str(silent), "weight": 1.0}])
    with pytest.raises(InputError, match="silent: silent: the train split has nothing above -60 dBFS"):
        train_codec(load(sounds, f"data.sources={sources}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_statistics_of_hardly_any_sound_are_refused(sounds):
    codec = PocketCodec(width=8, encoder_blocks=1, decoder_blocks=1)
    quiet = [torch.full((1, 2, 9_600), 1e-5)]
    with pytest.raises(InputError, match="too quiet"):
        latent_statistics(codec, quiet)
    with pytest.raises(InputError, match="too quiet"):
        start_from_principal_components(codec, quiet, components=20)


def test_an_empty_folder_and_other_sizes_are_refused(sounds, tmp_path):
    with pytest.raises(InputError, match="no audio files"):
        train_codec(load(tmp_path), tmp_path / "run")
    with pytest.raises(InputError, match=r"codec\.kernel"):
        load(sounds, "codec.kernel=6")
    with pytest.raises(InputError, match=r"start\.components"):
        load(sounds, "start.components=256")
