"""`sample.py --render`: what each way writes, and that nothing half-written or stale stays behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import sosfilt

from audio.filters import Filter
from audio.io import read, read_tags
from audio.loudness import integrated_loudness_lufs
from audio.waveform import Waveform
from restyler.chain_settings import render_again
from restyler.pipeline import VocalRestylePipeline
from restyler.rendering import render
from restyler.ways import Way, round_trip

Run = Callable[..., int]
VocalFile = Callable[..., Path]


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit that is over sooner; how good it is is asked elsewhere."""
    monkeypatch.setattr("restyler.transfer.fit.STEPS", 2)
    monkeypatch.setattr("restyler.transfer.start.TONE_STEPS", 5)


def difference_db(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(np.mean((one - other) ** 2) + 1e-30))


@pytest.mark.usefixtures("few_steps")
def test_transfer_writes_the_mix_and_its_chain_which_renders_it_again(
    sample: Run, vocal_file: VocalFile, tmp_path: Path
) -> None:
    take = vocal_file("My Take.wav", rate=44_100, subtype="PCM_24")
    assert sample(take, "--variations", 2, "--render", "transfer", "--lufs", -20) == 0
    folder = tmp_path / "out" / "My Take"
    names = [f"mix_{number:02d}{suffix}" for number in range(2) for suffix in (".txt", ".wav", ".yaml")]
    assert [file.name for file in sorted(folder.iterdir())] == names
    for file in folder.glob("*.wav"):
        mix = read(file)
        assert mix.samples.shape == read(take).stereo().resampled(48_000).samples.shape
        assert integrated_loudness_lufs(mix) == pytest.approx(-20, abs=0.1)
        again, style = render_again(file.with_suffix(".yaml"))
        assert style == "fitted"
        assert difference_db(again.samples.numpy(), mix.samples.numpy()) < -110
        assert read_tags(file)["render"] == "transfer"
        assert file.name in file.with_suffix(".txt").read_text(encoding="utf-8")


@pytest.mark.usefixtures("few_steps")
def test_the_bar_advances_through_the_fit(
    pipeline: VocalRestylePipeline, vocal: Callable[..., Waveform], vocal_file: VocalFile, tmp_path: Path
) -> None:
    """By the steps of each mix's fit, beside all that is told of the model's own work."""
    told: dict[str, list[tuple[int, int]]] = {}
    for way in ("codec", "transfer"):
        seen: list[tuple[int, int]] = []
        paths = [tmp_path / f"{way}_{number}.wav" for number in range(2)]
        options = {"way": way, "raw": vocal_file("raw.wav"), "guarded": False}
        mixes = render(
            pipeline, vocal(0.5, 48_000), pipeline.settings(), seeds=[0, 1], paths=paths, tags={},
            progress=lambda *pieces, seen=seen: seen.append(pieces), **options,
        )  # fmt: skip
        assert len(list(mixes)) == 2
        told[way] = seen
    plain, fitted = told["codec"], told["transfer"]
    assert [done for done, _ in fitted] == sorted(done for done, _ in fitted)
    assert {total for _, total in fitted} == {plain[-1][1] + 2 * 2}
    assert fitted[-1] == (plain[-1][1] + 4, plain[-1][1] + 4)
    assert len(fitted) == len(plain) + 4


@pytest.mark.usefixtures("few_steps")
def test_a_mix_is_its_seeds_whatever_is_made_with_it(
    pipeline: VocalRestylePipeline, vocal: Callable[..., Waveform], vocal_file: VocalFile, tmp_path: Path
) -> None:
    """Byte for byte, with its chain: made as the first, after another, and once more."""
    take, raw = vocal(0.5, 48_000), vocal_file("raw.wav")
    made = []
    for name, seeds in (("alone", [1]), ("after", [0, 1]), ("again", [1])):
        paths = [tmp_path / name / f"{seed}.wav" for seed in seeds]
        paths[0].parent.mkdir()
        options = {"way": "transfer", "raw": raw, "guarded": False}
        list(render(pipeline, take, pipeline.settings(), seeds=seeds, paths=paths, tags={}, **options))
        made.append([paths[-1].read_bytes(), paths[-1].with_suffix(".yaml").read_bytes()])
    assert made[0] == made[1] == made[2]


@pytest.mark.usefixtures("few_steps")
def test_the_three_ways_differ_and_say_so(sample: Run, vocal_file: VocalFile, tmp_path: Path) -> None:
    take = vocal_file("take.wav")
    mixes = {}
    for way in ("codec", "residual", "transfer"):
        assert sample(take, "--variations", 1, "--render", way, "--out", tmp_path / way) == 0
        [file] = (tmp_path / way).rglob("*.wav")
        assert read_tags(file)["render"] == way
        mixes[way] = soundfile.read(file)[0]
    pairs = [("codec", "residual"), ("codec", "transfer"), ("residual", "transfer")]
    assert all(difference_db(mixes[one], mixes[other]) > -80 for one, other in pairs)


def test_residual_gives_the_take_back_where_the_mix_is_what_the_codec_leaves_of_it(
    pipeline: VocalRestylePipeline, vocal: Callable[..., Waveform]
) -> None:
    take = vocal(1.0, 44_100)
    way = Way("residual", pipeline, take)
    out = way(round_trip(pipeline, way.take), seed=0).waveform
    assert difference_db(out.samples.numpy(), way.take.samples.numpy()) < -100


@pytest.mark.usefixtures("few_steps")
def test_files_of_a_chain_are_claimed_before_anything_is_made(
    sample: Run, vocal_file: VocalFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take = vocal_file("take.wav")
    notes = tmp_path / "out" / "take" / "mix_00.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("my own notes")
    assert sample(take, "--variations", 1, "--render", "transfer") == 2
    assert f"{notes}: already exists" in capsys.readouterr().err
    assert [file.name for file in notes.parent.iterdir()] == ["mix_00.txt"]
    assert sample(take, "--variations", 1, "--render", "codec") == 0
    assert notes.read_text() == "my own notes"


@pytest.mark.usefixtures("few_steps")
def test_a_mix_without_a_chain_leaves_none_of_an_earlier_one(
    sample: Run, vocal_file: VocalFile, tmp_path: Path
) -> None:
    take, folder = vocal_file("take.wav"), tmp_path / "out" / "take"
    assert sample(take, "--variations", 1, "--render", "transfer") == 0
    assert len(list(folder.iterdir())) == 3
    (folder / "mix_00.wav").unlink()
    assert sample(take, "--variations", 1, "--render", "codec") == 2  # the chain may be all that is left of a mix
    assert len(list(folder.iterdir())) == 2
    assert sample(take, "--variations", 1, "--render", "codec", "--overwrite") == 0
    assert [file.name for file in folder.iterdir()] == ["mix_00.wav"]


@pytest.mark.usefixtures("few_steps")
def test_a_chain_whose_mix_cannot_be_written_goes(
    pipeline: VocalRestylePipeline, vocal: Callable[..., Waveform], vocal_file: VocalFile, tmp_path: Path
) -> None:
    take, path = vocal(0.3, 48_000), tmp_path / "mix.wav"
    tags = {"too": 3000 * "x"}
    with pytest.raises(ValueError, match="tags"):
        list(
            render(pipeline, take, pipeline.settings(), seeds=[0], paths=[path], tags=tags, way="transfer",
                   raw=vocal_file("raw.wav"))
        )  # fmt: skip
    assert [file.name for file in tmp_path.iterdir() if file.stem == "mix"] == []


def test_a_mono_take_gets_no_width(
    pipeline: VocalRestylePipeline, vocal: Callable[..., Waveform], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the codec leaves of it differs between the channels, if by little: nothing that a width could act on."""
    monkeypatch.setattr("restyler.transfer.fit.STEPS", 1)
    monkeypatch.setattr("restyler.transfer.start.TONE_STEPS", 2)
    mono, stereo = vocal(0.4, 48_000), vocal(0.4, 48_000, channels=2)
    ways = [Way("transfer", pipeline, take) for take in (mono, stereo)]
    ways[0].decoded = Waveform(ways[0].decoded.samples * torch.tensor([[1.0], [1.001]]), 48_000)
    found = [[step.name for step in way(stereo, seed=0).steps] for way in ways]
    assert [("width" in names) for names in found] == [False, True]


def test_a_chain_is_fitted_to_what_is_kept_of_the_mix(
    pipeline: VocalRestylePipeline, vocal: Callable[..., Waveform], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mix that is the take with treble 14 dB down: the chain at less strength takes less of it down. The chain is all
    of the mix, nothing fades into it any more."""
    monkeypatch.setattr("restyler.transfer.fit.STEPS", 10)
    take = vocal(0.6, 48_000)
    shelf = Filter("high_shelf", 2_000.0, 0.7, -14.0).section(48_000)
    treble_db = []
    for strength in (0.0, 0.5, 1.0):
        way = Way("transfer", pipeline, take, strength=strength)
        dull = sosfilt(shelf, way.decoded.samples.numpy())
        made = way(Waveform(torch.from_numpy(dull.astype(np.float32)), 48_000), seed=0).waveform
        assert way.kept(made) is made
        power = np.abs(np.fft.rfft(made.samples[0].numpy())) ** 2
        hz = np.fft.rfftfreq(made.samples.shape[1], 1 / 48_000)
        treble_db.append(10 * np.log10(power[hz > 4_000].sum() / power[hz < 1_000].sum()))
    falls = np.diff(treble_db)
    assert (falls < -2).all(), treble_db
    faded_db = 20 * np.log10(0.5 + 0.5 * 10 ** (-14 / 20))  # half of each, in phase
    assert falls[0] == pytest.approx(faded_db, abs=2.5), treble_db


def test_an_unknown_way_is_refused(sample: Run, vocal_file: VocalFile, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample(vocal_file("take.wav"), "--render", "magic") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "magic" in error
    assert "transfer" in error
