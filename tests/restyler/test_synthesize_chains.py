"""`restyler synthesize --chains` and its augmentations, from files to files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio import io
from audio.loudness import integrated_loudness_lufs
from audio.parts import PARTS
from restyler.chain_settings import render_again
from restyler.chains import read_chains
from restyler.pairs import read_pairs
from restyler.phrases import Phrase, Piece, Recording
from restyler.synthesis_plan import Augmentation, augmented, fingerprint, plan_chain_takes
from restyler.synthesize import main

RATE_HZ = 48000
CHAINS = """
styles:
  near:
    - compressor: {threshold_db: {uniform: [-30, -20]}, ratio: 4, makeup_db: 2}
    - high_shelf: {frequency_hz: 6000, gain_db: {uniform: [2, 6]}}
  far:
    - reverb: {wet_db: {uniform: [-12, -6]}, t60_mid_s: {uniform: [0.5, 1]}}
  plain:
    - gain: {gain_db: -3}
"""


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """Two singers with a recording each, a tone in syllables."""
    for number, singer in enumerate(("anna", "bert")):
        (tmp_path / "voices" / singer).mkdir(parents=True)
        times = np.arange(round(2.5 * RATE_HZ)) / RATE_HZ
        tone = sum(np.sin(2 * np.pi * 220 * (number + 1) * k * times) / k for k in range(1, 9))
        sound = 0.1 * tone * np.clip(np.sin(2 * np.pi * 1.5 * times) + 0.5, 0, 1)
        soundfile.write(tmp_path / "voices" / singer / "take1.wav", sound, RATE_HZ)
    return tmp_path / "voices"


@pytest.fixture
def chain_file(tmp_path: Path) -> Path:
    (tmp_path / "chains.yaml").write_text(CHAINS)
    return tmp_path / "chains.yaml"


def run(voices: Path, chains: Path, out: Path, *options: str) -> list[dict]:
    fixed = ["--mixes-per-take", "3", "--workers", "1", "--shift-probability", "0"]
    assert main([str(voices), "--chains", str(chains), "--out", str(out), *fixed, *options]) == 0
    return [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()]


def samples(path: Path) -> np.ndarray:
    return soundfile.read(path, always_2d=True)[0]


def phrases(count: int, split: str = "train") -> list[Phrase]:
    """Phrases of recordings that need not exist; the split is forced by their singer."""
    recordings = (Recording(Path(f"{n}.wav"), "anna", 8.0, "", test_only=split == "test") for n in range(10 * count))
    fit = [recording for recording in recordings if recording.split == split][:count]
    return [Phrase(f"take{n}", (Piece(recording, 0, 8, 0.2),), 1.0) for n, recording in enumerate(fit)]


def test_pairs_by_chains_train_and_can_be_rendered_again(voices: Path, chain_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    rows = run(voices, chain_file, out, "--level-range", "3", "--invert-probability", "0.5")
    assert len(read_pairs(out, validation_fraction=0.0, needed=())) == len(rows) == 6
    assert Counter((row["key"], row["style"]) for row in rows) == {
        (key, style): 1 for key in {row["key"] for row in rows} for style in ("near", "far", "plain")
    }
    for row in rows:
        mix = samples(out / row["mix"])
        again, style = render_again(out / row["settings"])
        assert style == row["style"]
        np.testing.assert_allclose(again.samples.numpy().T, mix, atol=2e-6)  # what 24 bits round off, twice
        assert integrated_loudness_lufs(io.read(out / row["mix"])) == pytest.approx(-18, abs=0.05)
        assert 0 < abs(row["level_db"]) <= 3
        if style == "plain":
            np.testing.assert_allclose(mix[:, 0], samples(out / row["raw"])[:, 0], atol=1e-6)


def test_settings_are_a_file_of_chains_for_the_same_mix(voices: Path, chain_file: Path, tmp_path: Path) -> None:
    for row in run(voices / "anna", chain_file, tmp_path / "first"):
        out = tmp_path / row["style"]
        settings = tmp_path / "first" / row["settings"]
        (again,) = run(voices / "anna", settings, out, "--mixes-per-take", "1")
        assert again["chain"] == row["chain"]
        np.testing.assert_array_equal(samples(out / again["mix"]), samples(tmp_path / "first" / row["mix"]))


def test_mixes_by_presets_can_be_rendered_again(voices: Path, preset_table: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    arguments = ["--presets", str(preset_table), "--mixes-per-take", "2", "--workers", "1"]
    assert main([str(voices / "anna"), *arguments, "--out", str(out)]) == 0
    for line in (out / "pairs.jsonl").read_text().splitlines():
        row = json.loads(line)
        again, style = render_again(out / row["settings"])
        assert style == row["style"]
        np.testing.assert_allclose(again.samples.numpy().T, samples(out / row["mix"]), atol=2e-6)


def test_a_mix_stays_what_it_is_when_takes_and_styles_are_added(voices: Path, chain_file: Path, tmp_path: Path) -> None:
    few = run(voices / "bert", chain_file, tmp_path / "few")
    chain_file.write_text(CHAINS + "  loud: [{saturation: {drive_db: 12}}]\n")
    many = run(voices, chain_file, tmp_path / "many", "--mixes-per-take", "4")
    assert len(many) == 8
    assert {row["mix"] for row in few} < {row["mix"] for row in many}
    for row in few:
        np.testing.assert_array_equal(samples(tmp_path / "few" / row["mix"]), samples(tmp_path / "many" / row["mix"]))


@pytest.mark.parametrize("mixes", [1, 2, 3, 5])
def test_styles_are_dealt_out_evenly(chain_file: Path, mixes: int) -> None:
    chains = read_chains(chain_file)
    for split in ("train", "test"):
        takes = plan_chain_takes(phrases(31, split), chains, mixes_per_take=mixes, seed=2)
        dealt = Counter(mix.style for take in takes for mix in take.mixes)
        assert set(dealt) == set(chains.styles) and max(dealt.values()) - min(dealt.values()) <= 1
        for take in takes:
            own = Counter(mix.style for mix in take.mixes)
            assert max(own.values()) - min(own[style] for style in chains.styles) <= 1
            assert len({mix.name for mix in take.mixes}) == mixes
            drawn = [mix.chain for mix in take.mixes if mix.style != "plain"]
            assert len(set(drawn)) == len(drawn)
    assert takes == plan_chain_takes(phrases(31, "test"), chains, mixes_per_take=mixes, seed=2)
    assert takes != plan_chain_takes(phrases(31, "test"), chains, mixes_per_take=mixes, seed=3)


def test_mixes_with_equal_values_share_a_chain(chain_file: Path) -> None:
    chain_file.write_text("styles: {room: [{reverb: {wet_db: -9}}], dull: [{low_pass: {frequency_hz: 5000}}]}")
    takes = plan_chain_takes(phrases(9), read_chains(chain_file), mixes_per_take=2, seed=0)
    assert {mix.style: mix.chain for take in takes for mix in take.mixes}.keys() == {"room", "dull"}
    assert len({mix.chain for take in takes for mix in take.mixes}) == 2
    rooms = [mix.steps for take in takes for mix in take.mixes if mix.style == "room"]
    assert len({steps[0].values["seed"] for steps in rooms}) == len(rooms)
    assert len({fingerprint(steps, {}) for steps in rooms}) == 1


def test_augmentations_are_drawn_as_often_and_as_far_as_asked(chain_file: Path) -> None:
    takes = plan_chain_takes(phrases(300), read_chains(chain_file), mixes_per_take=2, seed=0)
    assert list(augmented(takes, Augmentation(), seed=0)) == takes
    asked = Augmentation(level_range_db=6.0, invert_probability=0.3, pitch_probability=0.6, pitch_range_semitones=3.0)
    found = list(augmented(takes, asked, seed=0))
    levels = np.array([mix.level_db for take in found for mix in take.mixes])
    assert np.abs(levels).max() <= 6 and np.std(levels) == pytest.approx(6 / np.sqrt(3), rel=0.05)
    assert np.mean([take.inverted for take in found]) == pytest.approx(0.3, abs=0.07)
    shifts = np.array([take.pitch_semitones for take in found])
    assert np.mean(shifts != 0) == pytest.approx(0.6, abs=0.07)
    assert np.abs(shifts).max() <= 3 and np.std(shifts[shifts != 0]) == pytest.approx(3 / np.sqrt(3), rel=0.1)
    alone = list(augmented(takes[7:8], asked, seed=0))
    assert alone == found[7:8] != list(augmented(takes[7:8], asked, seed=1))


def test_an_inverted_take_has_inverted_mixes(voices: Path, chain_file: Path, tmp_path: Path) -> None:
    upright = run(voices / "anna", chain_file, tmp_path / "upright")
    turned = run(voices / "anna", chain_file, tmp_path / "turned", "--invert-probability", "1")
    assert [row["inverted"] for row in (*upright, *turned)] == [False] * 3 + [True] * 3
    for row in turned:
        for side in ("raw", "mix"):
            found, expected = (samples(tmp_path / place / row[side]) for place in ("turned", "upright"))
            np.testing.assert_allclose(found, -expected, atol=1e-6)


def test_a_level_moves_the_sound_against_the_thresholds(voices: Path, chain_file: Path, tmp_path: Path) -> None:
    """The louder a chain hears the take, the more its compressor takes off."""
    chain_file.write_text("styles: {near: [{compressor: {threshold_db: -24, ratio: 8, release_ms: 20}}]}")
    rows = run(voices / "anna", chain_file, tmp_path / "pairs", "--level-range", "12")
    ranges_db = []
    for row in rows:
        mix = samples(tmp_path / "pairs" / row["mix"])[: 2 * RATE_HZ, 0].reshape(-1, 960)
        levels_db = 20 * np.log10(np.sqrt((mix**2).mean(axis=1)) + 1e-9)
        ranges_db.append(np.std(levels_db[levels_db > levels_db.max() - 25]))
    levels = [row["level_db"] for row in rows]
    assert np.ptp(levels) > 3
    assert list(np.argsort(levels)) == list(np.argsort(ranges_db)[::-1])


def test_pitch_moves_with_length_and_formants_kept(tmp_path: Path, chain_file: Path) -> None:
    """A buzz of 200 Hz under one broad formant: its harmonics move, the formant stays, and so does the length."""
    times = np.arange(4 * RATE_HZ) / RATE_HZ
    weights = {k: np.exp(-(((200 * k - 1200) / 500) ** 2)) for k in range(1, 40)}
    buzz = 0.1 * sum(weight * np.sin(2 * np.pi * 200 * k * times) for k, weight in weights.items())
    (tmp_path / "voices").mkdir()
    soundfile.write(tmp_path / "voices" / "buzz.wav", buzz, RATE_HZ)
    pitch = ["--pitch-probability", "1", "--pitch-range", "4", "--mixes-per-take", "1", "--seed", "1"]
    (row,) = run(tmp_path / "voices", chain_file, tmp_path / "pairs", *pitch)
    (still,) = run(tmp_path / "voices", chain_file, tmp_path / "still", "--mixes-per-take", "1", "--seed", "1")
    moved, unmoved = (samples(tmp_path / place / row["raw"])[:, 0] for place in ("pairs", "still"))
    assert (still["pitch_semitones"], len(moved)) == (0.0, len(unmoved))
    assert 1 < abs(row["pitch_semitones"]) <= 4
    spectrum = np.abs(np.fft.rfft(moved[RATE_HZ : 3 * RATE_HZ] * np.hanning(2 * RATE_HZ)))
    autocorrelation = np.fft.irfft(np.abs(np.fft.rfft(moved[RATE_HZ : 3 * RATE_HZ], 4 * RATE_HZ)) ** 2)
    period = 120 + int(np.argmax(autocorrelation[120:480]))
    assert 12 * np.log2(RATE_HZ / period / 200) == pytest.approx(row["pitch_semitones"], abs=0.1)
    centre_hz = float((spectrum**2 * np.arange(len(spectrum)) / 2).sum() / (spectrum**2).sum())
    assert centre_hz == pytest.approx(1200, rel=0.05)


def test_an_interrupted_run_needs_its_settings_and_its_rooms(
    voices: Path, chain_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "room.wav", np.exp(-np.arange(9600) / 900), RATE_HZ)
    chain_file.write_text("styles: {room: [{convolution: {impulse_response: room.wav, wet_db: -9}}]}")
    arguments = [str(voices), "--chains", str(chain_file), "--out", str(tmp_path / "pairs"), "--workers", "1"]
    assert main(arguments) == 0
    settings = sorted((tmp_path / "pairs" / "mix").glob("*.yaml"))
    before = settings[0].read_bytes()
    settings[0].unlink()
    assert main(arguments) == 0
    assert settings[0].read_bytes() == before
    soundfile.write(tmp_path / "room.wav", np.exp(-np.arange(9600) / 500), RATE_HZ)
    assert main(arguments) == 2
    assert "with other settings" in capsys.readouterr().err


def test_a_chain_that_leaves_nothing_to_hear_is_named(
    voices: Path, chain_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain_file.write_text("styles: {shut: [{gain: {gain_db: -60}}, {gate: {threshold_db: 0, ratio: 100}}]}")
    arguments = [str(voices), "--chains", str(chain_file), "--out", str(tmp_path / "pairs"), "--workers", "1"]
    assert main(arguments) == 2
    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: anna-") and "the style «shut» leaves nothing to hear" in error


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--out", "o"], "one of the arguments --presets --chains is required"),
        (["--out", "o", "--presets", "p.csv", "--chains", "c.yaml"], "not allowed with argument"),
        (["--out", "o", "--chains", "none.yaml"], "none.yaml: the chains can't be read: No such file"),
        (["--out", "o", "--chains", "c.yaml", "--pitch-range", "13"], "not a number from 0 to 12"),
        (["--list-parts", "reverbs"], "no part is called «reverbs» (did you mean reverb?); a plugin is named by"),
        (["--list-parts", "none.vst3"], "none.vst3: there is no such plugin"),
        (["--list-parts", 300 * "x"], "xxx» (allowed: "),
        (["--list-parts", 300 * "x" + ".vst3"], "xxx.vst3: there is no such plugin"),
    ],
)
def test_bad_usage_is_one_line(options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["voices", *options]) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1


def test_parts_are_listed_without_voices(capsys: pytest.CaptureFixture[str]) -> None:
    def listed(*names: str) -> list[str]:
        with pytest.raises(SystemExit) as end:
            main(["--list-parts", *names])
        assert end.value.code == 0
        return capsys.readouterr().out.splitlines()

    lines = listed()
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == list(PARTS)
    gate = listed("gate")
    start = lines.index(gate[0])
    assert gate == lines[start : start + len(PARTS["gate"].parameters) + 1]
