"""`restyler rack`: files in, files out, with every kind of part at once."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pedalboard
import pytest
import soundfile

from audio.io import read_tags
from restyler.chain_settings import Rendered, settings_text
from restyler.chains import read_chains
from restyler.rack import main
from restyler.synthesize import main as synthesize

RATE_HZ = 44100
LADSPA = Path("/usr/lib/ladspa/fast_lookahead_limiter_1913.so")
LV2 = "http://plugin.org.uk/swh-plugins/sc4"
EVERY_KIND = f"""
styles:
  all kinds:
    - high_pass: {{frequency_hz: 80}}
    - ffmpeg: {{filter: acompressor, parameters: {{threshold: {{uniform: [0.05, 0.2]}}, ratio: 3, link: maximum}}}}
    - sox: {{effect: reverb, parameters: {{reverberance_percent: 30, wet_gain_db: -6}}}}
    - ladspa: {{path: {LADSPA}, plugin: fastLookaheadLimiter, parameters: {{limit_db: -6}}}}
    - lv2: {{uri: "{LV2}", parameters: {{threshold: -20, ratio: 2}}}}
    - compressor: {{threshold_db: -24, ratio: 3}}
    - convolution: {{impulse_response: room.wav, wet_db: -20}}
    - gain: {{gain_db: -6}}
"""


@pytest.fixture
def take(tmp_path: Path) -> Path:
    times = np.arange(RATE_HZ * 2) / RATE_HZ
    tone = (
        0.1
        * np.random.default_rng(1).standard_normal(len(times))
        * np.clip(np.sin(2 * np.pi * 1.5 * times) + 0.5, 0, 1)
    )
    soundfile.write(tmp_path / "take.wav", np.stack([tone, 0.5 * tone], axis=1), RATE_HZ, "PCM_24")
    decay = np.exp(-np.arange(9_000) / 2000) * np.random.default_rng(0).standard_normal(9_000)
    soundfile.write(tmp_path / "room.wav", 0.1 * decay, RATE_HZ)
    return tmp_path / "take.wav"


def chain(folder: Path, *parts: str) -> Path:
    text = "styles:\n  only:\n" + "".join(f"    - {part}\n" for part in parts)
    (folder / "chain.yaml").write_text(text)
    return folder / "chain.yaml"


@pytest.fixture
def every_kind(tmp_path: Path) -> Path:
    for name in ("ffmpeg", "sox", "lv2info", "lv2ls"):
        if shutil.which(name) is None:
            pytest.skip(f"needs {name}")
    if not LADSPA.exists() or LV2 not in subprocess.run(["lv2ls"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("needs LADSPA and LV2 plugins (Debian: swh-plugins, swh-lv2)")
    (tmp_path / "all.yaml").write_text(EVERY_KIND)
    return tmp_path / "all.yaml"


def read(path: Path) -> np.ndarray:
    return soundfile.read(path, always_2d=True)[0].T


def test_a_chain_with_all_kinds_is_aligned_whole_and_the_same_again(
    every_kind: Path, take: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one.wav", "two.wav"):
        assert main([str(every_kind), str(take), str(tmp_path / name), "--seed", "4", "--tail", "0.5"]) == 0
    assert (tmp_path / "one.wav").read_bytes() == (tmp_path / "two.wav").read_bytes()
    found, raw = read(tmp_path / "one.wav"), read(take)
    assert found.shape == (2, RATE_HZ * 2 + RATE_HZ // 2) and "8 parts  2.50 s" in capsys.readouterr().out
    length = 2 * found.shape[1]
    likeness = np.fft.irfft(np.fft.rfft(found[0], length) * np.conj(np.fft.rfft(raw[0], length)))
    assert likeness.argmax() == 0
    assert found[0].std() > 1.2 * found[1].std()  # the sides stay sides
    tags = read_tags(tmp_path / "one.wav")
    assert tags["rack"].startswith("all.yaml ") and (tags["style"], tags["seed"]) == ("all kinds", "4")
    assert main([str(every_kind), str(take), str(tmp_path / "one.wav"), "--seed", "5", "--overwrite"]) == 0
    assert not np.array_equal(read(tmp_path / "one.wav")[:, :RATE_HZ], found[:, :RATE_HZ])  # the threshold is drawn


def test_all_kinds_on_a_real_take(every_kind: Path, shared_data: Path, take: Path, tmp_path: Path) -> None:
    voice = next(iter(sorted((shared_data / "voices" / "dry").rglob("*.flac"))), None)
    if voice is None:
        pytest.skip("needs a dry voice")
    assert main([str(every_kind), str(voice), str(tmp_path / "mix.flac")]) == 0
    facts = soundfile.info(tmp_path / "mix.flac"), soundfile.info(voice)
    assert (facts[0].frames, facts[0].samplerate, facts[0].channels) == (facts[1].frames, facts[1].samplerate, 2)


def test_settings_and_pairs_hold_programs_too(every_kind: Path, take: Path, tmp_path: Path) -> None:
    chains = read_chains(every_kind)
    steps = chains.draw("all kinds", 0, key="", seed=4, is_test=False)
    text = settings_text("all kinds", steps, Rendered("take.wav", 0.0, 0.0), folder=tmp_path)
    (tmp_path / "saved.yaml").write_text(text)
    assert read_chains(tmp_path / "saved.yaml").draw("all kinds", 7, key="x", seed=9, is_test=True) == steps
    (tmp_path / "voices" / "anna").mkdir(parents=True)
    shutil.copy(take, tmp_path / "voices" / "anna" / "a.wav")
    line = [str(tmp_path / "voices"), "--chains", str(every_kind), "--out", str(tmp_path / "pairs")]
    assert synthesize([*line, "--mixes-per-take", "1", "--workers", "1"]) == 0
    assert len(list((tmp_path / "pairs" / "mix").glob("*.flac"))) == 1


def test_a_pedalboard_part_is_pedalboard(take: Path, tmp_path: Path) -> None:
    parts = chain(tmp_path, "saturation: {drive_db: 6}", "freeverb: {room_size: 0.3, wet: 0.05}", "gain: {gain_db: -6}")
    assert main([str(parts), str(take), str(tmp_path / "out.wav")]) == 0
    room = pedalboard.Reverb(room_size=0.3, damping=0.5, wet_level=0.05, dry_level=0.5, width=1.0)
    board = pedalboard.Pedalboard([pedalboard.Distortion(6), room, pedalboard.Gain(-6)])
    np.testing.assert_allclose(read(tmp_path / "out.wav"), board(read(take).astype(np.float32), RATE_HZ), atol=1e-6)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (["gain: {gain_db: 40}"], "would peak at .* dBFS; end the chain with a gain of"),
        (["ffmpeg: {filter: amovie}"], "no filter that works on sound alone"),
        (["ffmpeg: {filter: pan, parameters: {args: 'x;anullsink'}}"], "pan: failed"),
        (["ffmpeg: {filter: volume, parameters: {volum: 1}}"], "did you mean volume"),
        (["ffmpeg: {filter: rubberband, parameters: {tempo: 2}}"], "neither rate, channels nor length"),
        (["sox: {effect: bass}"], "bass needs gain_db"),
        (["sox: {effect: bass, parameters: {gain_db: '3; rm'}}"], "gain_db lies within"),
        (["ladspa: {path: none.so}"], "there is no such LADSPA library"),
        (["lv2: {url: x}"], "did you mean uri"),
        (["shell: {command: ls}"], "no part is called"),
    ],
)
def test_what_cant_be_is_refused_in_one_line_and_nothing_is_written(
    parts: list[str], told: str, take: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ffmpeg", "sox", "lv2info"):
        if shutil.which(name) is None:
            pytest.skip(f"needs {name}")
    before = sorted(tmp_path.iterdir())
    file = chain(tmp_path, *parts)
    assert main([str(file), str(take), str(tmp_path / "out.wav")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and re.search(told, lines[0])
    assert sorted(tmp_path.iterdir()) == sorted([*before, file])


def test_no_file_is_replaced_unasked(take: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = chain(tmp_path, "gain: {gain_db: -3}")
    raw = take.read_bytes()
    assert main([str(parts), str(take), str(take), "--overwrite"]) == 2 and take.read_bytes() == raw
    (tmp_path / "out.wav").write_text("mine")
    assert main([str(parts), str(take), str(tmp_path / "out.wav")]) == 2
    assert (tmp_path / "out.wav").read_text() == "mine"
    assert "already exists" in capsys.readouterr().err
    assert main([str(parts), str(take), str(tmp_path / "out.mp3")]) == 2


def test_a_list_says_what_the_real_parts_declare(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ffmpeg", "sox"):
        if shutil.which(name) is None:
            pytest.skip(f"needs {name}")

    def listed(*names: str) -> str:
        with pytest.raises(SystemExit):
            main(["--list", *names])
        return capsys.readouterr().out

    assert "compressor: above the threshold" in listed() and "acompressor" in listed("ffmpeg")
    assert "attack: 0.01 … 2000 (default: 20) – set attack" in listed("ffmpeg", "acompressor")
    assert "reverberance_percent: 0 … 100 % (default: 50)" in listed("sox", "reverb")
    assert "latency: measured by an impulse" in listed("ffmpeg", "superequalizer")
    assert main(["--list", "ffmpeg", "amovie"]) == 2


def test_settings_are_lines_to_dial_in(
    every_kind: Path, take: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every part with all that it is set to, as the file says it; what is drawn is said to be."""

    def told(path: Path) -> list[str]:
        with pytest.raises(SystemExit):
            main(["--settings", str(path)])
        return capsys.readouterr().out.splitlines()

    lines = told(every_kind)
    assert lines[0] == "all kinds, in the order of the sound, as drawn from seed 0" and len(lines) == 9
    assert re.fullmatch(r" 1  High-pass +80 Hz, 12 dB/oct, Q 0\.71", lines[1])
    assert "acompressor, threshold 0." in lines[2] and "ratio 3, link maximum" in lines[2]
    assert "reverberance_percent 30 %" in lines[3] and "limit_db -6 dB" in lines[4]
    assert "threshold -20 dB" in lines[5] and "ratio 3.0:1" in lines[6]
    assert "room.wav" in lines[7] and "wet_db -20 dB" in lines[7] and lines[8].endswith("-6.0 dB")
    fixed = chain(tmp_path, "gain: {gain_db: -3}", "reverb: {wet_db: -6}")
    assert told(fixed)[0] == "only, in the order of the sound"  # its noise is no setting
    (tmp_path / "buses.yaml").write_text("every: 3\nstyles: {plate: [{gain: {gain_db: -3}}]}\n")
    assert told(tmp_path / "buses.yaml")[0] == "heard by one of 3 mixes"
    assert main(["--settings", str(tmp_path / "none.yaml")]) == 2


def test_no_file_of_the_chain_is_replaced(take: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, room = chain(tmp_path, "convolution: {impulse_response: room.wav, wet_db: -20}"), tmp_path / "room.wav"
    before = room.read_bytes()
    assert main([str(file), str(take), str(room), "--overwrite"]) == 2
    assert "would replace a file of the chain" in capsys.readouterr().err and room.read_bytes() == before


def test_a_tag_tells_chains_apart_by_their_recordings(take: Path, tmp_path: Path) -> None:
    file = chain(tmp_path, "convolution: {impulse_response: room.wav, wet_db: -20}")
    for name in ("one.wav", "two.wav"):
        assert main([str(file), str(take), str(tmp_path / name)]) == 0
        soundfile.write(tmp_path / "room.wav", 0.1 * np.eye(1, 9_000)[0], RATE_HZ)
    assert read_tags(tmp_path / "one.wav")["rack"] != read_tags(tmp_path / "two.wav")["rack"]
