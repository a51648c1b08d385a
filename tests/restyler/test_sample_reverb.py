"""`restyler sample --reverb` and `--stems`: buses beside a dry mix."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio.features import space_db
from audio.io import read, read_tags
from audio.parts import Step, find_part, render
from audio.waveform import Waveform
from restyler.model_folder import BUNDLED
from restyler.noise import another
from restyler.pipeline import VocalRestylePipeline
from restyler.sample import main
from restyler.sends import ROOMS, read_sends
from restyler.stems import CHAIN_STEMS, of_chain

Run = Callable[..., int]
RATE_HZ = 48_000
LSB = 2.0**-23
ECHO = "{convolution: {impulse_response: click.wav, wet_db: -6, pre_delay_ms: 100}}"


@pytest.fixture
def take(vocal_file: Callable[..., Path]) -> Path:
    return vocal_file("take.wav", seconds=1.0)


@pytest.fixture
def run(model: Path, take: Path, tmp_path: Path) -> Run:
    common = [str(take), "--model", str(model), "--variations", "1", "--guard", "off"]
    return lambda out, *arguments: main([*common, "--out", str(tmp_path / out), *map(str, arguments)])


def buses(folder: Path, **parts: str) -> Path:
    click = np.zeros(4800)
    click[0] = 1
    soundfile.write(folder / "click.wav", click, RATE_HZ)
    (folder / "buses.yaml").write_text("styles:\n" + "".join(f"  {name}: [{part}]\n" for name, part in parts.items()))
    return folder / "buses.yaml"


def sound(path: Path) -> np.ndarray:
    return soundfile.read(path, always_2d=True)[0].T


def test_stems_are_what_each_bus_makes_and_add_up_to_the_mix(run: Run, tmp_path: Path) -> None:
    file = buses(tmp_path, echo=ECHO, hall=f"{ECHO}, {{gain: {{gain_db: -3}}}}, {{pan: {{pan_percent: -100}}}}")
    assert run("out", "--reverb", file, "--stems", "--tail", "0.5") == 0
    folder = tmp_path / "out" / "take"
    assert sorted(path.name for path in folder.iterdir()) == [
        "mix_00.dry.wav", "mix_00.echo.wav", "mix_00.hall.wav", "mix_00.wav",
    ]  # fmt: skip
    mix, dry, echo, hall = (sound(folder / f"mix_00{name}.wav") for name in ("", ".dry", ".echo", ".hall"))
    np.testing.assert_allclose(dry + echo + hall, mix, atol=2.5 * LSB)  # four roundings
    late = np.pad(dry, ((0, 0), (4800, 0)))[:, : dry.shape[1]] * 10 ** (-6 / 20)
    np.testing.assert_allclose(echo, late, atol=2e-6)
    np.testing.assert_allclose(hall[0], late[0] * 10 ** (-3 / 20) * np.sqrt(2), atol=2e-6)
    assert np.abs(hall[1]).max() < 1e-6 and np.abs(dry).max() > 0.05
    tags = read_tags(folder / "mix_00.hall.wav")
    assert tags["stem"] == "hall" and tags["reverb"].startswith("buses.yaml ")


def test_parts_that_leave_the_dry_sound_give_their_wet_alone(run: Run, tmp_path: Path) -> None:
    """Nothing comes from these before their first echo; one high pass in a bus leaves the dry mix as it is."""
    late = {
        "ping": "{ping_pong_delay: {time_ms: 200, wet_db: 0}}",
        "room": "{reverb: {wet_db: 0, pre_delay_ms: 200, seed: 1}}",
        "high": "{high_pass: {frequency_hz: 9000}}, {freeverb: {wet: 0.3}}",
    }
    assert run("out", "--reverb", buses(tmp_path, **late), "--stems") == 0
    folder = tmp_path / "out" / "take"
    for name in ("ping", "room"):
        wet = sound(folder / f"mix_00.{name}.wav")
        assert np.abs(wet[:, : RATE_HZ // 5 - 1]).max() < 1e-6 < 1e-3 < np.abs(wet).max()
    told = read_tags(folder / "mix_00.wav")["style"]
    assert run("plain", "--space", read_space(folder / "mix_00.wav"), "--style", told) == 0
    plain, dry = sound(tmp_path / "plain" / "take" / "mix_00.wav"), sound(folder / "mix_00.dry.wav")
    gain = (plain * dry).sum() / (dry * dry).sum()
    np.testing.assert_allclose(dry * gain, plain, atol=1e-6)


def read_space(mix: Path) -> str:
    return str(ast.literal_eval(read_tags(mix)["controls"])["space_db"])


def test_of_its_own_space_the_model_is_told_little_unless_it_is_told_else(
    run: Run, pipeline: VocalRestylePipeline, tmp_path: Path
) -> None:
    file = buses(tmp_path, echo=ECHO)
    assert run("little", "--reverb", file) == 0 and run("told", "--reverb", file, "--space", "1.5") == 0
    mean, deviation = pipeline.defaults.controls["space_db"]
    little, told = (tmp_path / out / "take" / "mix_00.wav" for out in ("little", "told"))
    assert float(read_space(little)) == pytest.approx(mean - 3 * deviation) and read_space(told) == "1.5"
    assert "space_db" not in read_tags(little).get("drawn", "")
    assert run("again", "--like", little, "--around", "0", "--reverb", file) == 0
    np.testing.assert_array_equal(sound(tmp_path / "again" / "take" / "mix_00.wav"), sound(little))
    assert run("other", "--like", little, "--around", "0") == 2


@pytest.mark.parametrize(
    ("parts", "options", "told"),
    [
        ({"Dry": ECHO}, [], "no bus is called Dry"),
        ({"all": "{vocal_chain: {}}"}, [], "vocal_chain"),
        ({"é" * 8: ECHO}, [], "at most 40 bytes of a comment"),
        ({f"b{number}": ECHO for number in range(9)}, [], "up to 8 styles"),
        ({"echo": ECHO}, ["--render", "transfer"], "need another --render than transfer"),
        ({"echo": "{ffmpeg: {filter: amovie}}"}, [], "no filter that works on sound alone"),
        ({}, ["--stems"], "--stems needs --reverb, or --render transfer"),
    ],
)
def test_what_cant_be_is_refused_before_anything_is_made(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], parts: dict, options: list, told: str
) -> None:
    line = ["--reverb", buses(tmp_path, **parts)] if parts else []
    assert run("none", *line, *options) == 2
    assert told in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_stems_of_an_earlier_mix_never_lie_beside_another(run: Run, tmp_path: Path) -> None:
    file, folder = buses(tmp_path, echo=ECHO), tmp_path / "out" / "take"
    assert run("out", "--reverb", file, "--stems") == 0
    (folder / "mix_00.notes.wav").write_text("mine")
    (folder / "mix_00.wav").unlink()
    assert run("out") == 2 and run("out", "--overwrite") == 0
    assert sorted(path.name for path in folder.iterdir()) == ["mix_00.notes.wav", "mix_00.wav"]


@pytest.mark.slow  # it is fitted
def test_stems_of_a_chain_add_up_to_its_mix(run: Run, tmp_path: Path) -> None:
    assert run("out", "--render", "transfer", "--stems") == 0
    folder = tmp_path / "out" / "take"
    stems = {name: folder / f"mix_00.{name}.wav" for name in ("dry", "delay", "reverb")}
    heard = {name: sound(path) for name, path in stems.items() if path.exists()}
    np.testing.assert_allclose(sum(heard.values()), sound(folder / "mix_00.wav"), atol=4 * LSB)
    chain = (folder / "mix_00.yaml").read_text()
    there = {"dry"} | {name for part, name in CHAIN_STEMS.items() if f"- {part}:" in chain}
    assert heard.keys() == there > {"dry"}
    assert run("out", "--render", "transfer", "--overwrite") == 0
    assert sorted(path.name for path in folder.iterdir()) == ["mix_00.txt", "mix_00.wav", "mix_00.yaml"]


@pytest.mark.parametrize("names", [["ping_pong_delay", "reverb"], ["reverb"], []])
def test_stems_of_a_chain_by_hand(names: list[str]) -> None:
    """Against the parts rendered one by one."""
    values = {"ping_pong_delay": {"time_ms": 90.0, "wet_db": -9.0}, "reverb": {"wet_db": -9.0, "seed": 4}}
    front = [Step("compressor", find_part("compressor").checked({"threshold_db": -30.0, "ratio": 4.0}))]
    back = [Step(name, find_part(name).checked(values[name])) for name in names]
    noise = Waveform(0.1 * torch.randn(1, 24_000, generator=torch.Generator().manual_seed(1)), RATE_HZ)
    found = of_chain(noise, front + back)
    now = render(front, noise)
    np.testing.assert_allclose(found.pop("dry").samples, now.samples, atol=1e-7)
    for step in back:
        after = render([step], now)
        np.testing.assert_allclose(found.pop(CHAIN_STEMS[step.name]).samples, after.samples - now.samples, atol=1e-6)
        now = after
    assert not found
    if back:
        with pytest.raises(ValueError, match="ends with delay and reverb"):
            of_chain(noise, back + front)


@pytest.mark.slow  # the bundled model
def test_a_real_take_stays_dry_and_rings_as_the_bus_says(shared_data: Path, tmp_path: Path) -> None:
    """Space as `audio.features` measures it, and the energy after the end of the take."""
    found = sorted((shared_data / "research" / "gtsinger").rglob("*.flac"))
    if not found:
        pytest.skip("needs the takes of research/gtsinger")
    sung = read(found[0])
    length = min(sung.samples.shape[1], 6 * sung.sample_rate)
    soundfile.write(tmp_path / "take.wav", sung.samples[:, :length].numpy().T, sung.sample_rate, "PCM_24")
    file = buses(tmp_path, room="{reverb: {wet_db: -8, t60_low_s: 2, t60_mid_s: 2, t60_high_s: 2, seed: 3}}")
    line = [str(tmp_path / "take.wav"), "--model", str(BUNDLED), "--variations", "1", "--tail", "1"]
    assert main([*line, "--reverb", str(file), "--stems", "--out", str(tmp_path / "hybrid")]) == 0
    assert main([*line, "--space", "12", "--out", str(tmp_path / "spacious")]) == 0
    paths = [tmp_path / "hybrid" / "take" / f"mix_00{name}.wav" for name in ("", ".dry")]
    whole, dry, spacious = (read(path) for path in (*paths, tmp_path / "spacious" / "take" / "mix_00.wav"))
    spaces = [space_db(each) for each in (dry, spacious, whole)]
    after = [float((each.samples[:, -RATE_HZ:] ** 2).sum()) for each in (dry, whole)]
    print(f"\nspace {np.round(spaces, 2)} dB; energy after the end {10 * np.log10(after[1] / after[0]):.1f} dB more")
    assert spaces[0] < spaces[1] - 0.3 and spaces[0] < spaces[2] - 2
    assert after[1] > 100 * after[0]


def test_each_mix_draws_its_own_room_and_a_liked_one_keeps_it(run: Run, tmp_path: Path) -> None:
    """The wet levels that arrive are those that the file draws for the seeds."""
    file = buses(tmp_path, room="{convolution: {impulse_response: click.wav, wet_db: {uniform: [-30, 0]}}}")
    assert run("out", "--reverb", file, "--stems", "--variations", 3) == 0
    folder = tmp_path / "out" / "take"
    levels_db = []
    for number in range(3):
        dry, room = (sound(folder / f"mix_0{number}.{name}.wav") for name in ("dry", "room"))
        levels_db.append(10 * np.log10((room**2).sum() / (dry**2).sum()))
    drawn = [read_sends(file, sample_rate=RATE_HZ).drawn(seed)["room"][0].values["wet_db"] for seed in range(3)]
    assert len(set(drawn)) == 3
    np.testing.assert_allclose(levels_db, drawn, atol=0.05)
    liked = folder / "mix_02.wav"
    assert run("again", "--reverb", file, "--like", liked, "--around", 0) == 0
    np.testing.assert_array_equal(sound(tmp_path / "again" / "take" / "mix_00.wav"), sound(liked))
    first = file.read_text()
    for other in ("-30, 0.1", "-30.1, 0"):
        file.write_text(first.replace("-30, 0", other))
        assert run("other", "--reverb", file, "--like", liked, "--around", 0) == 2  # drawn by another law


def test_the_bundled_rooms_differ_in_length_and_level_from_seed_to_seed(run: Run, tmp_path: Path) -> None:
    assert run("out", "--reverb", "bundled", "--stems") == 0
    folder = tmp_path / "out" / "take"
    assert {path.name for path in folder.iterdir()} == {f"mix_00{n}.wav" for n in ("", ".dry", ".room", ".echo")}
    assert read_tags(folder / "mix_00.wav")["reverb"].startswith("rooms.yaml ")
    rooms = [read_sends(ROOMS, sample_rate=RATE_HZ).drawn(seed) for seed in range(0, 400, 2)]
    for bus, name, low, high in (
        ("room", "t60_mid_s", 0.7, 2.9),
        ("room", "wet_db", -28.4, -5.6),
        ("echo", "time_ms", 180, 770),
    ):
        values = [float(room[bus][0].values[name]) for room in rooms]
        assert low <= min(values) and max(values) <= high
        assert max(values) - min(values) > 0.7 * (high - low), name


def test_every_second_mix_stands_in_a_room_and_the_others_are_the_models_own(run: Run, tmp_path: Path) -> None:
    """Those are what comes without buses; the first ones are dry, and told so."""
    file = buses(tmp_path, echo=ECHO)
    file.write_text(file.read_text() + "every: 2\n")
    four = ["--model", BUNDLED, "--variations", 4]  # it draws the controls that nobody told
    assert run("out", "--reverb", file, "--stems", *four) == 0 and run("own", "--reverb", "none", *four) == 0
    out, own = (tmp_path / name / "take" for name in ("out", "own"))
    assert {path.name for path in out.glob("*.echo.wav")} == {"mix_00.echo.wav", "mix_02.echo.wav"}
    spaces = [read_space(out / f"mix_0{number}.wav") for number in range(4)]
    drawn = ["space_db" in read_tags(out / f"mix_0{number}.wav").get("drawn", "") for number in range(4)]
    assert spaces[0] == spaces[2] and drawn == [False, True, False, True]
    for number in (1, 3):
        mix = sound(out / f"mix_0{number}.wav")
        np.testing.assert_allclose(mix, sound(own / f"mix_0{number}.wav"), atol=2 * LSB)  # in another batch
        np.testing.assert_allclose(sound(out / f"mix_0{number}.dry.wav"), mix, atol=2 * LSB)
    assert not np.array_equal(sound(out / "mix_00.dry.wav"), sound(own / "mix_00.wav"))


def test_what_is_like_a_mix_stands_in_a_room_as_it_does(run: Run, model: Path, take: Path, tmp_path: Path) -> None:
    file = buses(tmp_path, echo=ECHO)
    file.write_text(file.read_text() + "every: 2\n")
    assert run("out", "--reverb", file, "--variations", 2) == 0
    assert run("away", "--reverb", file, "--like", tmp_path / "out" / "take" / "mix_01.wav") == 2  # it hears none
    for number, seeds in enumerate((["2", "4"], ["2", "3"])):
        liked = tmp_path / "out" / "take" / f"mix_0{number}.wav"
        like = ["--like", liked, *(["--reverb", file] if number == 0 else [])]
        assert run(f"again{number}", *like, "--around", 0) == 0
        np.testing.assert_array_equal(sound(tmp_path / f"again{number}" / "take" / "mix_00.wav"), sound(liked))
        assert run(f"more{number}", *like, "--around", 1, "--variations", 2, *(["--stems"] if number == 0 else [])) == 0
        more = tmp_path / f"more{number}" / "take"
        assert [read_tags(more / f"mix_0{one}.wav")["seed"] for one in range(2)] == seeds
        assert [(more / f"mix_0{one}.echo.wav").exists() for one in range(2)] == [number == 0] * 2
    for first, last, count in ((2, 4, 3), (1, 3, 0)):
        out = tmp_path / f"between{first}"
        line = ["--model", model, "--out", out, "--reverb", file, "--stems", "--between", first, last, 3]
        assert main(list(map(str, [take, *line]))) == 0
        assert len(list(out.glob("*/*.echo.wav"))) == count and len(list(out.glob("*/*.dry.wav"))) == 3
    assert main(list(map(str, [take, "--model", model, "--reverb", file, "--between", 1, 2, 3]))) == 2
    file.write_text(file.read_text().replace("every: 2", "every: 4"))
    assert run("other", "--reverb", file, "--like", tmp_path / "out" / "take" / "mix_00.wav") == 2


def test_a_seed_in_place_of_another_stands_in_a_room_as_it_does(tmp_path: Path) -> None:
    for every in (1, 2, 3, 7, 64):
        file = buses(tmp_path, echo=ECHO)
        file.write_text(file.read_text() + f"every: {every}\n")
        sends = read_sends(file, sample_rate=RATE_HZ)
        assert [seed for seed in range(2 * every) if sends.heard_by(seed)] == [0, every]
        for seed in range(100):
            assert {sends.heard_by(another(seed, number)) for number in (1, 2, 3)} == {sends.heard_by(seed)}


@pytest.mark.parametrize("every", ["0", "65", "true", "1.5", "two"])
def test_every_is_a_whole_number_and_said_of_buses_alone(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], every: str
) -> None:
    file = buses(tmp_path, echo=ECHO)
    file.write_text(file.read_text() + f"every: {every}\n")
    assert run("none", "--reverb", file) == 2
    assert "every is a whole number from 1 to 64" in capsys.readouterr().err
    assert run("none", "--after", file) == 2
    assert "«every» is said of buses (--reverb) alone" in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_guidance_and_spread_are_refused_where_no_mix_has_a_use_for_them(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seed 0 stands in a room and is told little space, seed 1 is not."""
    file = buses(tmp_path, echo=ECHO)
    file.write_text(file.read_text() + "every: 2\n")
    guided = ["--reverb", file, "--model", BUNDLED, "--style", "none", "--spread", 0, "--guidance", 3]
    assert run("one", *guided, "--seed", 1) == 2 and "--guidance needs something" in capsys.readouterr().err
    assert run("two", *guided, "--seed", 1, "--variations", 2) == 0
    told = [read_tags(tmp_path / "two" / "take" / f"mix_0{number}.wav").get("guidance") for number in range(2)]
    assert told == [None, "3.0"]
    rest = ["--brightness", 4, "--compression", 0.5, "--width", 40, "--spread", 0.5]
    spread = ["--reverb", file, "--model", BUNDLED, *rest]
    assert run("three", *spread, "--seed", 0) == 2 and "--spread has nothing" in capsys.readouterr().err
    assert run("four", *spread, "--seed", 1) == 0
    assert read_tags(tmp_path / "four" / "take" / "mix_00.wav")["drawn"] == "space_db"
