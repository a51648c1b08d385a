"""Content: voices of known pitch, known shifts and known envelopes."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from scipy.signal import fftconvolve

from audio.singing import demo_take
from audio.waveform import Waveform
from restyler.evaluate import speaker
from restyler.evaluate.content import CONTENT, content, envelope_correlation, onset_shift_ms, pitch_errors
from restyler.evaluate.pitch import HOP_S, pitch

RATE = 44_100


def voice(f0_hz, rate=RATE, noise=0.0, seed=0):
    """Harmonics of a moving pitch, f0_hz [samples], with a voice's slope of the spectrum."""
    random = np.random.default_rng(seed)
    phase = 2 * np.pi * np.cumsum(f0_hz) / rate
    harmonics = range(1, int(0.45 * rate / f0_hz.max()) + 1)
    sound = sum(np.sin(k * phase + random.uniform(0, 2 * np.pi)) / k**1.2 for k in harmonics if k < 40)
    sound = 0.1 * sound / np.std(sound) + 0.1 * noise * random.standard_normal(len(sound))
    return Waveform(torch.from_numpy(sound[None].astype(np.float32)), rate)


def vibrato(centre_hz, seconds=2.0, cents=80.0, rate_hz=5.5, glide_cents=0.0, rate=RATE):
    time = np.arange(round(seconds * rate)) / rate
    return centre_hz * 2 ** ((cents * np.sin(2 * np.pi * rate_hz * time) + glide_cents * time / seconds) / 1200)


def reverberant(waveform, t60_s=1.5, level=0.5):
    random = np.random.default_rng(3)
    time = np.arange(round(t60_s * waveform.sample_rate)) / waveform.sample_rate
    tails = random.standard_normal((2, len(time))) * 10 ** (-3 * time / t60_s)
    tails *= level / np.linalg.norm(tails, axis=1, keepdims=True)
    dry = waveform.stereo().samples.numpy()
    wet = fftconvolve(dry, tails, axes=1)[:, : dry.shape[1]]
    return Waveform(torch.from_numpy((dry + wet).astype(np.float32)), waveform.sample_rate)


@pytest.fixture(scope="module")
def take():
    return Waveform(demo_take(RATE).samples[:, : 6 * RATE], RATE)


# -- pitch


@pytest.mark.parametrize("centre_hz", [75.0, 110.0, 233.0, 440.0, 950.0])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_pitch_is_followed_through_vibrato_and_glides(centre_hz, noise):
    f0_hz = vibrato(centre_hz, glide_cents=300.0)
    course = pitch(voice(f0_hz, noise=noise)).f0_hz[5:-5]
    expected = f0_hz[(np.arange(5, 5 + len(course)) * HOP_S * RATE).astype(int)]
    assert np.isfinite(course).all()
    cents = 1200 * np.log2(course / expected)
    assert np.sqrt(np.mean(cents**2)) < 12 and abs(np.median(cents)) < 3


def test_noise_and_silence_have_no_pitch():
    random = np.random.default_rng(0)
    sound = Waveform(torch.from_numpy(0.1 * random.standard_normal((1, 2 * RATE)).astype(np.float32)), RATE)
    assert pitch(sound).voiced.mean() < 0.03
    assert not pitch(Waveform(torch.zeros(2, RATE), RATE)).voiced.any()


def test_neither_polarity_nor_an_inverted_side_changes_the_pitch(take):
    expected = pitch(take).f0_hz
    opposed = Waveform(torch.cat([take.samples, -take.samples]), RATE)
    assert pitch(opposed).f0_hz == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_reverb_leaves_the_pitch_where_it_was(take):
    """Direct sound 12 dB over a tail of 1.5 s, through legato notes."""
    found = content(take.stereo(), reverberant(take, level=0.25))
    assert found["f0_gross_percent"] < 3 and found["f0_rmse_cents"] < 25
    assert found["voicing_error_percent"] < 8


def test_a_shift_of_pitch_is_measured_in_cents():
    pair = [voice(f0) for f0 in (vibrato(220.0), 2 ** (34 / 1200) * vibrato(220.0))]
    found = content(*pair)
    assert found["f0_rmse_cents"] == pytest.approx(34, abs=1)
    assert found["f0_gross_percent"] == 0 and found["voicing_error_percent"] < 2
    assert content(pair[0], voice(1.05 * vibrato(220.0)))["f0_gross_percent"] == 100


def test_lost_voice_is_a_share_of_the_sounding_moments():
    sung = voice(vibrato(220.0))
    half = sung.samples.shape[1] // 2
    hiss = 0.1 * torch.randn(1, half, generator=torch.Generator().manual_seed(0))
    found = content(sung, Waveform(torch.cat([sung.samples[:, :half], hiss], 1), RATE))
    assert found["voicing_error_percent"] == pytest.approx(50, abs=4)
    assert found["f0_rmse_cents"] < 10
    tail_alone = pitch_errors(sung, sung, np.ones(200, bool))
    assert tail_alone["voicing_error_percent"] == 0


def test_what_has_no_pitch_has_no_error_of_pitch():
    hiss = Waveform(0.1 * torch.randn(1, 2 * RATE, generator=torch.Generator().manual_seed(0)), RATE)
    found = pitch_errors(hiss, voice(vibrato(220.0)), np.ones(200, bool))
    assert np.isnan(found["f0_rmse_cents"]) or found["f0_gross_percent"] > 0
    assert found["voicing_error_percent"] > 90


# -- envelope and time


def test_the_take_itself_has_its_whole_content(take):
    found = content(take, Waveform(0.3 * take.samples, RATE))
    assert found["f0_rmse_cents"] < 0.01 and found["f0_gross_percent"] == found["voicing_error_percent"] == 0
    assert found["envelope_correlation"] == pytest.approx(1, abs=1e-6) and found["onset_shift_ms"] < 0.01
    assert set(found) == {one.name for one in CONTENT} - (set() if speaker.available() else {"speaker_similarity"})


def test_envelopes_that_move_together_or_against_each_other():
    random = np.random.default_rng(1)
    time = np.arange(4 * RATE) / RATE
    signs = random.choice([-0.1, 0.1], len(time))
    swell_db = 3 * np.sin(2 * np.pi * 1.5 * time)

    def moved(curve_db):
        return Waveform(torch.from_numpy((signs * 10 ** (curve_db / 20))[None].astype(np.float32)), RATE)

    assert envelope_correlation(moved(swell_db), moved(0.4 * swell_db)) == pytest.approx(1, abs=0.002)
    assert envelope_correlation(moved(swell_db), moved(-swell_db)) == pytest.approx(-1, abs=0.002)
    quarter = 3 * np.sin(2 * np.pi * 1.5 * time + np.pi / 3)
    assert envelope_correlation(moved(swell_db), moved(quarter)) == pytest.approx(0.5, abs=0.02)
    assert np.isnan(envelope_correlation(moved(0 * time), moved(swell_db)))


@pytest.mark.parametrize("shift_ms", [-80.0, -7.3, -1.0, 0.4, 3.0, 21.7, 150.0])
def test_a_known_shift_of_onsets_is_found(take, shift_ms):
    shift = round(shift_ms * RATE / 1000)
    later = Waveform(take.samples.roll(shift, 1), RATE)
    assert onset_shift_ms(take, later) == pytest.approx(1000 * shift / RATE, abs=0.3)
    assert onset_shift_ms(take, reverberant(later, level=0.25)) == pytest.approx(1000 * shift / RATE, abs=1.5)


def test_another_length_is_refused(take):
    with pytest.raises(ValueError, match="as long as its take"):
        content(take, Waveform(take.samples[:, 1:], RATE))


# -- speaker


@pytest.fixture
def random_weights(tmp_path, monkeypatch):
    """A package of the name and layout that carries the weights, with random ones."""
    generator = torch.Generator().manual_seed(0)
    lstm, linear = torch.nn.LSTM(40, 256, 3), torch.nn.Linear(256, 256)
    state = {f"lstm.{name}": value for name, value in lstm.state_dict().items()}
    state |= {f"linear.{name}": value for name, value in linear.state_dict().items()}
    state = {name: 0.1 * torch.randn(value.shape, generator=generator) for name, value in state.items()}
    folder = tmp_path / "resemblyzer"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('its code is not to be run')\n")
    torch.save({"model_state": state | {"similarity_weight": torch.ones(1)}}, folder / "pretrained.pt")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    speaker._network.cache_clear()
    yield state
    speaker._network.cache_clear()


def test_embeddings_ignore_level_and_polarity(random_weights, take):
    assert speaker.available()
    embedding = speaker.embedding(take)
    assert embedding.shape == (256,) and float(embedding.norm()) == pytest.approx(1, abs=1e-5)
    assert speaker.similarity(take, Waveform(-0.1 * take.samples, RATE)) == pytest.approx(1, abs=1e-4)
    assert speaker.similarity(take, voice(vibrato(110.0))) < 0.999
    assert content(take, take)["speaker_similarity"] == pytest.approx(1, abs=1e-5)


def test_the_embedding_is_the_mean_over_parts_of_the_last_state(random_weights):
    """Three parts, each through the network's equations written out, against the batch."""
    sound = voice(vibrato(180.0, seconds=3.1, rate=16_000), rate=16_000)
    level = sound.samples[0] / sound.samples.square().mean().sqrt() * 10**-1.5
    frames = speaker._mel_powers(level)
    vectors = []
    for start in (0, 77, 154):
        part = torch.zeros(160, 40)
        part[: len(frames[start : start + 160])] = frames[start : start + 160]
        for layer in range(3):
            weights = [
                random_weights[f"lstm.{kind}_l{layer}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            hidden, cell, out = torch.zeros(256), torch.zeros(256), []
            for frame in part:
                gates = weights[0] @ frame + weights[2] + weights[1] @ hidden + weights[3]
                keep_in, forget, new, show = gates.chunk(4)
                cell = forget.sigmoid() * cell + keep_in.sigmoid() * new.tanh()
                hidden = show.sigmoid() * cell.tanh()
                out.append(hidden)
            part = torch.stack(out)
        vector = (random_weights["linear.weight"] @ part[-1] + random_weights["linear.bias"]).relu()
        vectors.append(vector / vector.norm())
    mean = torch.stack(vectors).mean(0)
    assert len(frames) <= 154 + 160
    assert float(speaker.embedding(sound) @ (mean / mean.norm())) == pytest.approx(1, abs=1e-5)


@pytest.mark.skipif(not speaker.available(), reason="needs the weights in Resemblyzer")
def test_a_voice_is_nearer_to_its_own_mix_than_to_another_voice(shared_data):
    from audio import io

    folder = shared_data / "research/pairs"
    names = ("HopAlong_SisterCities", "FamilyBand_Again", "Auctioneer_OurFutureFaces")
    takes, mixes = ([io.read(folder / f"{name}__{side}.mp3") for name in names] for side in ("dry", "wet"))
    table = np.array([[speaker.similarity(take, mix) for mix in mixes] for take in takes])
    assert np.diag(table).min() > table[~np.eye(3, dtype=bool)].max()
