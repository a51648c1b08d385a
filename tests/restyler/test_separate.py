"""`restyler separate` with models that the demucs package itself writes and reads: some with weights set by hand, so
that their vocals are known, and small ones with random weights."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from audio.io import read, read_tags
from audio.loudness import true_peak_db
from audio.waveform import Waveform
from restyler.cli import main as restyler
from restyler.separate import main
from restyler.separation import load_separator

RATE = 44_100
CODE = "import sys; from restyler.separate import main; sys.exit(main(sys.argv[1:]))"
SETTINGS: dict[str, Any] = {"weights": None, "shifts": 1, "device": torch.device("cpu")}

NEEDED = "needs the extra: pip install -e '.[separate]'"


def save(model: Any, folder: Path, signature: str) -> None:
    """As demucs keeps its models: SIGNATURE-CHECKSUM.th."""
    from demucs.states import get_state, save_with_checksum

    args, kwargs = model._init_args_kwargs
    package = {"klass": type(model), "args": args, "kwargs": kwargs, "state": get_state(model, None)}
    save_with_checksum(package, folder / f"{signature}.th")


def middle_separator(voice_gain: float = 1.0, bleed: float = 0.0) -> Any:
    """A Demucs whose vocals are the middle (L + R) / 2 times `voice_gain`, and `bleed` times what is left of the input.

    gelu(x) − gelu(−x) = x makes its one layer linear; its skip connection doubles, so the decoder halves.
    """
    from demucs.demucs import Demucs

    model = Demucs(
        ["other", "vocals"], channels=4, depth=1, rewrite=False, kernel_size=1, stride=1, dconv_mode=0, normalize=False,
        resample=False, rescale=0, segment=2,
    )  # fmt: skip
    middle = torch.full((2, 2), 0.5)
    vocals = voice_gain * middle + bleed * (torch.eye(2) - middle)
    stems = torch.cat([torch.eye(2) - vocals, vocals])  # [4 outputs, 2 inputs]
    encoder, decoder = model.encoder[0][0], model.decoder[0][0]
    encoder.weight.data = torch.cat([torch.eye(2), -torch.eye(2)])[:, :, None]
    decoder.weight.data = 0.5 * torch.cat([stems, -stems], 1).T[:, :, None]
    for layer in (encoder, decoder):
        layer.bias.data.zero_()
    return model


def random_model(seed: int, stems: tuple[str, ...] = ("drums", "bass", "other", "vocals")) -> Any:
    from demucs.htdemucs import HTDemucs

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return HTDemucs(
            list(stems), channels=8, depth=3, nfft=512, t_layers=1, t_heads=2, bottom_channels=16, segment=1
        )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("demucs") is None:
        pytest.skip(NEEDED)
    folder = tmp_path_factory.mktemp("weights")
    save(middle_separator(), folder, "middle")
    save(middle_separator(bleed=0.2), folder, "bleeding")
    save(middle_separator(voice_gain=3.0), folder, "loud")
    save(random_model(1), folder, "11111111")
    save(random_model(2), folder, "22222222")
    (folder / "small.yaml").write_text("models: ['11111111']\n")
    (folder / "both.yaml").write_text("models: ['11111111', '22222222']\nweights: [[1, 1, 1, 0.5], [1, 1, 1, 1.5]]\n")
    (folder / "one_each.yaml").write_text("models: ['22222222', '11111111']\nweights: [[1, 1, 1, 0], [0, 0, 0, 1]]\n")
    return folder


def make_song(seconds: float, *, rate: int = RATE, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A voice [samples] for the middle, and an accompaniment [2 samples] that has no middle."""
    generator = np.random.default_rng(seed)
    steps = generator.uniform(size=(2, int(seconds * 4) + 1)) ** 2
    voice, side = (
        0.1
        * np.repeat(steps, rate // 4 + 1, axis=1)[:, : int(seconds * rate)]
        * generator.normal(size=(2, int(seconds * rate)))
    )
    return voice - voice.mean(), np.stack([side, -side])


@pytest.fixture
def song(tmp_path: Path) -> Callable[..., Path]:
    """song("name.wav", seconds=5, rate=44100, seed=0) → its path."""

    def make(name: str, seconds: float = 5, *, rate: int = RATE, seed: int = 0) -> Path:
        voice, accompaniment = make_song(seconds, rate=rate, seed=seed)
        soundfile.write(tmp_path / name, (voice + accompaniment).T, rate, subtype="FLOAT")
        return tmp_path / name

    return make


@pytest.fixture
def run(weights: Path, tmp_path: Path) -> Callable[..., int]:
    """run(*songs, model="middle", **options) into tmp_path/out; the exit code."""

    def separate(*songs: Path, model: str = "middle", **options: Any) -> int:
        extra = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        fixed = ["--out", str(tmp_path / "out"), "--model", model, "--weights", str(weights), "--device", "cpu"]
        return main([*map(str, songs), *fixed, *extra])

    return separate


def facts(out: Path, stem: str) -> dict[str, Any]:
    return json.loads((out / "separation.json").read_text())["songs"][stem]


def error(capsys: pytest.CaptureFixture[str]) -> str:
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_the_vocal_is_what_the_model_gives_sample_by_sample(
    song: Callable[..., Path], run: Callable[..., int], tmp_path: Path
) -> None:
    assert run(song("a song.wav", 5)) == 0
    vocal = read(tmp_path / "out" / "a song.flac")
    assert (vocal.sample_rate, soundfile.info(tmp_path / "out" / "a song.flac").subtype) == (RATE, "PCM_24")
    voice, _ = make_song(5)
    np.testing.assert_allclose(vocal.samples.numpy(), np.stack([voice, voice]), atol=2e-6)
    assert facts(tmp_path / "out", "a song")["flags"] == []
    assert facts(tmp_path / "out", "a song")["bleed_db"] < -40


def test_bleed_that_the_model_lets_through_is_measured_and_flagged(
    song: Callable[..., Path], run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = song("song.wav", 12)
    voice, accompaniment = make_song(12)
    known_db = 10 * np.log10(np.mean((0.2 * accompaniment) ** 2) / np.mean(voice**2))
    assert run(path, model="bleeding", max_bleed_db=known_db - 3) == 0
    found = facts(tmp_path / "out", "song")
    assert found["bleed_db"] == pytest.approx(known_db, abs=1.5)
    assert found["flags"] == ["bleed"]
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{tmp_path / 'out' / 'song.flac'}  bleed {found['bleed_db']:.1f} dB  FLAGGED: bleed"
    assert said[1].endswith("1 vocals, 1 flagged")
    written = (tmp_path / "out" / "song.flac").read_bytes()
    assert run(path, model="bleeding", max_bleed_db=known_db + 3) == 0  # judged anew, not separated anew
    assert facts(tmp_path / "out", "song") == found | {"flags": []}
    assert (tmp_path / "out" / "song.flac").read_bytes() == written


def test_a_vocal_that_would_clip_is_lowered_by_one_recorded_gain(
    song: Callable[..., Path], run: Callable[..., int], tmp_path: Path
) -> None:
    assert run(song("song.wav", 3), model="loud") == 0
    vocal = read(tmp_path / "out" / "song.flac")
    gain_db = facts(tmp_path / "out", "song")["gain_db"]
    assert gain_db < -1
    assert -1.15 < true_peak_db(vocal) <= -1
    voice, _ = make_song(3)
    np.testing.assert_allclose(vocal.samples[0].numpy(), 3 * voice * 10 ** (gain_db / 20), atol=1e-4)


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 2), (22_050, 1), (8_000, 2)])
def test_other_rates_and_mono_stay_aligned_and_as_long(
    run: Callable[..., int], tmp_path: Path, rate: int, channels: int
) -> None:
    pulse = np.zeros((2 * rate, channels))
    pulse[rate] = 0.5
    soundfile.write(tmp_path / "pulse.wav", pulse, rate)
    assert run(tmp_path / "pulse.wav") == 0
    vocal = read(tmp_path / "out" / "pulse.flac").samples
    assert vocal.shape == (2, 2 * RATE)
    assert int(vocal[0].abs().argmax()) == RATE


@pytest.mark.parametrize("name", ["small", "both"])
def test_it_agrees_with_what_the_package_itself_separates(weights: Path, name: str) -> None:
    """demucs.api.Separator computes all stems; it also puts the song's offset into every one of them."""
    from demucs.api import Separator

    voice, accompaniment = make_song(0.8)
    song = torch.from_numpy((voice + accompaniment).astype(np.float32))
    whole = Waveform(song, RATE)
    random.seed(0)
    reference = Separator(name, repo=weights, device="cpu", shifts=2).separate_tensor(song)[1]["vocals"] - song.mean()
    random.seed(5)
    expected_draw = random.Random(5).random()
    ours = load_separator(name, **SETTINGS | {"weights": weights, "shifts": 2}).vocal(whole)
    assert random.random() == expected_draw  # the global generator is left as it was
    assert ours.samples.abs().max() > 1e-4
    torch.testing.assert_close(ours.samples, reference, atol=1e-6, rtol=1e-4)


def test_models_without_a_say_in_the_vocals_are_left_out(weights: Path) -> None:
    one_each, small = (load_separator(name, **SETTINGS | {"weights": weights}) for name in ("one_each", "small"))
    assert len(one_each.bag.models) == 1
    assert one_each.fingerprint == small.fingerprint
    assert load_separator("22222222", **SETTINGS | {"weights": weights}).fingerprint != small.fingerprint


def test_it_is_the_same_every_time_and_shifts_change_it(weights: Path) -> None:
    voice, accompaniment = make_song(1.2)
    whole = Waveform(torch.from_numpy((voice + accompaniment).astype(np.float32)), RATE)
    shares: list[float] = []
    separator = load_separator("small", **SETTINGS | {"weights": weights})
    first = separator.vocal(whole, shares.append)
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1 and len(set(shares)) > 2
    assert torch.equal(separator.vocal(whole).samples, first.samples)
    more = load_separator("small", **SETTINGS | {"weights": weights, "shifts": 2}).vocal(whole)
    assert not torch.allclose(more.samples, first.samples, atol=1e-5)


def test_a_killed_run_goes_on_where_it_was(
    song: Callable[..., Path], run: Callable[..., int], weights: Path, tmp_path: Path
) -> None:
    songs = [song(f"{name}.wav", 4, seed=seed) for seed, name in enumerate("abc")]
    out = tmp_path / "out"
    arguments = [*map(str, songs), "--out", str(out), "--model", "middle", "--weights", str(weights), "--device", "cpu"]
    process = subprocess.Popen([sys.executable, "-c", CODE, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(str(out / "a.flac"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = (out / "a.flac").stat().st_mtime_ns
    assert run(*songs) == 0
    assert (out / "a.flac").stat().st_mtime_ns == before
    whole = {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")}
    assert sorted(whole) == ["a.flac", "b.flac", "c.flac", "separation.json"]
    # Stopped after a vocal was written and before it was recorded; and a lost vocal.
    record = json.loads(whole["separation.json"])
    del record["songs"]["b"]
    (out / "separation.json").write_text(json.dumps(record))
    (out / "c.flac").unlink()
    assert run(*songs) == 0
    assert {name: (out / name).read_bytes() for name in whole} == whole
    assert run(song("d.wav", 4, seed=9)) == 0  # a song more
    assert set(json.loads((out / "separation.json").read_text())["songs"]) == set("abcd")


def test_other_settings_other_songs_and_other_peoples_files_are_refused(
    song: Callable[..., Path], run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    path = song("song.wav", 1)
    assert run(path) == 0
    kept = {file: file.read_bytes() for file in out.iterdir()}
    capsys.readouterr()
    assert run(path, device="cuda:99") == 2
    assert "device 'cuda:99' is not there" in error(capsys)
    assert run(path, model="loud") == 2
    assert "other weights or settings" in error(capsys)
    assert run(path, shifts=2) == 2
    assert "other weights or settings" in error(capsys)
    assert run(song("song.wav", 1, seed=3)) == 2
    assert f"{out / 'song.flac'}: was separated from another recording" in error(capsys)
    soundfile.write(out / "mine.flac", np.zeros(1000), RATE)
    assert run(song("mine.wav", 1)) == 2
    assert f"{out / 'mine.flac'}: already exists" in error(capsys)
    (out / "mine.flac").unlink()
    assert {file: file.read_bytes() for file in out.iterdir()} == kept
    assert read_tags(out / "song.flac")["model"] == "middle"
    (out / "separation.json").write_text('{"format": 1')
    assert run(path) == 2
    assert str(out / "separation.json") in error(capsys)


def test_one_bad_song_is_refused_before_any_is_separated(
    song: Callable[..., Path], run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = song("good.wav", 1)
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "silent.wav", np.zeros((RATE, 2)), RATE)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "GOOD.wav").write_bytes(good.read_bytes())
    for bad, said in [
        (tmp_path / "text.wav", "not audio"),
        (tmp_path / "silent.wav", "silent"),
        (tmp_path / "none.wav", "cannot be read"),
        (tmp_path / "other" / "GOOD.wav", "would both become"),
    ]:
        assert run(good, bad) == 2
        line = error(capsys)
        assert str(bad) in line and said in line
        assert not (tmp_path / "out").exists()


def test_a_vocal_never_replaces_a_song(
    song: Callable[..., Path], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = song("song.wav", 1).rename(tmp_path / "song.flac")
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, (RATE, 2)), RATE, format="FLAC")
    assert main([str(path), "--out", str(tmp_path), "--weights", str(weights), "--model", "middle"]) == 2
    assert f"{path}: the vocal would replace a song" in error(capsys)


def test_weights_that_can_not_be_used_are_one_clear_line(
    song: Callable[..., Path], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = song("song.wav", 1)
    broken = tmp_path / "broken"
    broken.mkdir()
    intact = next(weights.glob("middle-*.th"))
    (broken / intact.name).write_bytes(intact.read_bytes()[:-100])
    (broken / "cut.th").write_bytes(intact.read_bytes()[:500])
    (broken / "lost.yaml").write_text("models: ['99999999']\n")
    save(random_model(1, stems=("drums", "other")), broken, "drums")
    nan = middle_separator()
    nan.decoder[0][0].bias.data.fill_(torch.nan)
    save(nan, broken, "nan")
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, name, said in [
        (broken, "middle", "checksum"),
        (broken, "cut", "cannot be loaded"),
        (broken, "lost", "99999999"),
        (broken, "drums", "no stereo vocals"),
        (broken, "nan", "not finite"),
        (weights, "htdemucs", "there are: 11111111, 22222222, bleeding, both, loud, middle, one_each, small"),
        (empty, "htdemucs", "there are: none"),
        (path, "htdemucs", "not a folder"),
    ]:
        arguments = ["--model", name, "--weights", str(folder), "--out", str(tmp_path / "out"), "--device", "cpu"]
        assert main([str(path), *arguments]) == 2
        line = error(capsys)
        assert said in line and (str(folder) in line or name == "nan")
        assert not (tmp_path / "out").exists()


@pytest.mark.skipif(find_spec("demucs") is None, reason=NEEDED)
def test_published_models_are_known_by_name_and_no_network_is_one_clear_line(
    song: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = song("song.wav", 1)
    assert main([str(path), "--out", str(tmp_path / "out"), "--model", "nonsense"]) == 2
    line = error(capsys)
    assert "'nonsense'" in line and "htdemucs, " in line and "htdemucs_ft" in line and "mdx_extra" in line
    nowhere = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "all")}
    environment = os.environ | nowhere | {"HF_HUB_OFFLINE": "1", "TORCH_HOME": str(tmp_path / "torch")}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(path), "--out", str(tmp_path / "out")],
        env={name: value for name, value in environment.items() if name.lower() != "no_proxy"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert "error: model 'htdemucs' cannot be loaded" in done.stderr and "--weights" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


def test_without_the_extra_one_line_says_what_to_install(
    song: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "demucs", None)  # how Python itself marks a module that can't be imported
    assert restyler(["separate", str(song("song.wav", 1)), "--out", str(tmp_path / "out")]) == 2
    assert "pip install 'vocal-restyler[separate]'" in error(capsys)
    assert not (tmp_path / "out").exists()
