"""The knobs of `sample.py`: how much of a mix, between two, around one, several references, and levels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from audio.io import read_tags, write
from audio.waveform import Waveform
from restyler.control_draws import TAKE, JointNormal
from restyler.pipeline import VocalRestylePipeline
from restyler.sample import main, parser
from restyler.sample_plan import wished_controls
from restyler.saying import Reference, heard_in
from restyler.settings import NO_STYLE

Run = Callable[..., int]
Vocal = Callable[..., Waveform]


@pytest.fixture(scope="module")
def drawing_model(
    build_pipeline: Callable[..., VocalRestylePipeline], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A saved model whose mixes draw the controls that are not told."""
    names = ("width_db", "space_db", f"{TAKE}space_db")
    joint = JointNormal.of(names, np.array([1.0, 0.0, -12.0]), np.diag([2.0, 3.0, 9.0]))
    folder = tmp_path_factory.mktemp("models") / "drawing"
    pipeline = build_pipeline(draws={NO_STYLE: joint.model_dump(mode="json")}, spread=1.0, steps=1)
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def mix(drawing_model: Path, vocal_file: Callable[..., Path], tmp_path: Path) -> Callable[..., list[Path]]:
    """mix(*arguments): what `sample.py` makes of one take, in order."""
    take, calls = vocal_file("take.wav", seconds=0.25, gain=0.3), iter(range(100))

    def run(*arguments: object) -> list[Path]:
        out = tmp_path / f"out{next(calls)}"
        assert main([str(part) for part in (take, "--model", drawing_model, "--out", out, *arguments)]) == 0
        return sorted((out / "take").glob("*.wav"))

    return run


def samples(path: Path) -> np.ndarray:
    return soundfile.read(path)[0]


def distance(one: Path, other: Path) -> float:
    return float(np.linalg.norm(samples(one) - samples(other)))


# -- strength


@pytest.mark.parametrize("render", ["residual", "codec"])
def test_no_strength_gives_the_take_and_full_strength_the_mix(
    mix: Callable[..., list[Path]], tmp_path: Path, render: str
) -> None:
    common = ["--variations", 1, "--seed", 3, "--render", render]
    (whole,) = mix(*common)
    (same,) = mix(*common, "--strength", 1)
    assert whole.read_bytes() == same.read_bytes()
    take = samples(tmp_path / "take.wav")
    for loudness, wanted in ([], 1.0), (["--lufs", -40], None):
        (none,) = mix(*common, "--strength", 0, *loudness)
        left, right = samples(none).T
        gain = wanted or float(left @ take / (take @ take))
        assert np.array_equal(left, right)
        assert np.abs(left - gain * take).max() <= 1.1 * 2**-23  # what 24 bits hold


def test_strength_goes_from_the_take_to_the_mix_one_way(mix: Callable[..., list[Path]]) -> None:
    common = ["--variations", 1, "--seed", 3, "--peak", 0]
    made = [mix(*common, "--strength", strength)[0] for strength in (0, 0.2, 0.7, 1)]
    assert all(np.diff([distance(made[0], one) for one in made]) > 0)
    assert all(np.diff([distance(made[-1], one) for one in made]) < 0)
    assert read_tags(made[1])["strength"] == "0.2"


def test_a_model_may_keep_less_of_its_mixes_than_all(
    drawing_model: Path, vocal_file: Callable[..., Path], tmp_path: Path
) -> None:
    """By default; what is asked for, or was heard in the mix of `--like`, comes first."""
    take, less = vocal_file("take.wav", seconds=0.25, gain=0.3), tmp_path / "less"
    pipeline = VocalRestylePipeline.from_pretrained(drawing_model)
    sampling = dict(pipeline.config.sampling) | {"strength": 0.4}
    VocalRestylePipeline(**pipeline.components, sampling=sampling).save_pretrained(less)

    def mix(model: Path, *arguments: object) -> Path:
        out = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        common = (take, "--model", model, "--out", out, "--variations", 1)
        assert main([str(part) for part in (*common, *arguments)]) == 0
        return next((out / "take").glob("*.wav"))

    own = mix(less)
    assert np.array_equal(samples(own), samples(mix(drawing_model, "--strength", 0.4)))
    assert read_tags(own)["strength"] == "0.4"
    whole = mix(less, "--strength", 1)
    assert np.array_equal(samples(whole), samples(mix(drawing_model)))
    assert read_tags(mix(less, "--like", whole, "--around", 0))["strength"] == "1.0"


# -- levels and knobs


def test_the_peak_is_where_it_was_asked_for(mix: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str]) -> None:
    loud, quiet = (mix("--variations", 1, "--lufs", 0, "--peak", peak)[0] for peak in (-1, -9))
    assert "the peak ceiling of -9 dBTP wins" in capsys.readouterr().out
    assert loud.read_bytes() == mix("--variations", 1, "--lufs", 0)[0].read_bytes()
    gain_db = 20 * np.log10(np.abs(samples(quiet)).max() / np.abs(samples(loud)).max())
    assert gain_db == pytest.approx(-8, abs=0.01)
    assert read_tags(quiet)["peak_dbtp"] == "-9.0"


def test_knobs_are_controls_by_another_name(mix: Callable[..., list[Path]]) -> None:
    (knobs,) = mix("--variations", 1, "--width", -1.5, "--space", 1)
    (controls,) = mix("--variations", 1, "--control", "space_db=1", "--control", "width_db=-1.5")
    assert knobs.read_bytes() == controls.read_bytes()
    options = parser().parse_args(["take.wav", "--compression", "1.5", "--brightness", "-2"])
    assert wished_controls(options) == {"dynamics_db": -1.5, "brightness_db": -2.0}  # compressed is less dynamic


def test_diversity_is_sigma_by_another_name_and_a_spread_needs_something_to_spread(
    mix: Callable[..., list[Path]], drawing_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (one,), (other,) = (mix("--variations", 1, name, 0.4) for name in ("--diversity", "--sigma"))
    assert one.read_bytes() == other.read_bytes() and read_tags(one)["sigma"] == "0.4"
    told = ["--control", "space_db=1", "--control", "width_db=1", "--model", str(drawing_model)]
    arguments = [str(tmp_path / "take.wav"), *told, "--spread", "1", "--out", str(tmp_path / "spread")]
    assert main(arguments) == 2
    assert "--spread has nothing to spread" in capsys.readouterr().err


# -- between and around


def test_between_two_seeds_the_ends_are_the_seeds_own_mixes(
    mix: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    first, _, last = mix("--variations", 3)  # as many as there are styles: each has another
    capsys.readouterr()
    way = mix("--between", 0, 2, 4)
    assert [path.name for path in way] == [f"mix_0{number}.wav" for number in range(4)]
    assert (way[0].read_bytes(), way[-1].read_bytes()) == (first.read_bytes(), last.read_bytes())
    assert all(np.diff([distance(way[0], one) for one in way]) > 0)
    ends, middle = [read_tags(path) for path in (first, last)], read_tags(way[1])
    shares = json.loads(middle["style"])
    assert shares == {ends[0]["style"]: pytest.approx(2 / 3), ends[1]["style"]: pytest.approx(1 / 3)}
    assert f"{ends[0]['style']} 67%" in capsys.readouterr().out.splitlines()[1]
    width = [float(tags["controls"].split("'width_db': ")[1].split(",")[0].rstrip("}")) for tags in [*ends, middle]]
    assert width[2] == pytest.approx(2 / 3 * width[0] + 1 / 3 * width[1])


def test_around_a_mix_nothing_gives_it_again_and_all_a_new_seed(mix: Callable[..., list[Path]]) -> None:
    chosen = mix("--variations", 3, "--strength", 0.7, "--peak", -3, "--lufs", -30, "--steps", 2, "--space", 1)[2]
    (again,) = mix("--variations", 1, "--like", chosen, "--around", 0)
    assert again.read_bytes() == chosen.read_bytes()
    common = ["--strength", 0.7, "--peak", -3, "--lufs", -30, "--steps", 2, "--space", 1, "--seed", 8]
    (new,) = mix("--variations", 1, *common)
    (free,) = mix("--variations", 1, "--like", chosen, "--around", 1, "--seed", 8)
    assert np.array_equal(samples(free), samples(new))
    near = [mix("--variations", 1, "--like", chosen, "--around", r, "--seed", 8)[0] for r in (0.3, 0.7)]
    assert all(np.diff([distance(chosen, one) for one in (chosen, *near, free)]) > 0)
    (default,) = mix("--variations", 1, "--like", chosen, "--seed", 8)
    assert default.read_bytes() == near[0].read_bytes()


def test_the_style_of_a_liked_mix_stays_and_likes_can_follow_likes(mix: Callable[..., list[Path]]) -> None:
    middle = mix("--between", 0, 1, 3)[1]
    like = mix("--like", middle, "--variations", 2)[1]
    assert read_tags(like)["seed"] == "0 1@0.5 3@0.3"  # after those that the liked mix comes from
    assert read_tags(like)["style"] == read_tags(middle)["style"]
    assert read_tags(like)["controls"] != read_tags(middle)["controls"]
    (again,) = mix("--like", like, "--around", 0, "--variations", 1)
    assert again.read_bytes() == like.read_bytes()
    (turned,) = mix("--like", like, "--around", 0, "--variations", 1, "--strength", 0)
    assert read_tags(turned) == read_tags(like) | {"strength": "0.0"}
    assert distance(turned, like) > 1e-3


# -- references


def test_several_references_are_their_weighted_mean(pipeline: VocalRestylePipeline, vocal: Vocal) -> None:
    latents = [torch.randn(1, pipeline.codec.latent_dim, frames) for frames in (40, 70)]
    alone = [
        pipeline.conditioner(one, reference=one, reference_frames=torch.tensor([one.shape[-1]])).pooled
        for one in latents
    ]
    for weights in ([1.0, 1.0], [3.0, 1.0]):
        found = heard_in(pipeline.conditioner, latents, weights)
        torch.testing.assert_close(found, (weights[0] * alone[0] + weights[1] * alone[1]) / sum(weights))
    torch.testing.assert_close(heard_in(pipeline.conditioner, latents[:1], [0.3]), alone[0])
    assert heard_in(pipeline.conditioner, [], []) is None


def test_weights_of_references_reach_the_mix_and_the_file(
    mix: Callable[..., list[Path]], vocal_file: Callable[..., Path]
) -> None:
    one, other = (vocal_file(name, channels=2) for name in ("one.wav", "an=other.wav"))
    plain, weighed, tilted = (
        mix("--variations", 1, *(part for name in names for part in ("--reference", name)))[0]
        for names in ([one], [f"{one}=5"], [f"{one}=5", f"{other}=0.5"])
    )
    assert np.array_equal(samples(plain), samples(weighed))
    assert distance(tilted, plain) > 1e-3
    assert read_tags(tilted)["reference"] == "one.wav=5, an=other.wav=0.5"
    assert read_tags(plain)["reference"] == "one.wav"


def test_one_reference_is_as_good_as_a_list_of_one(pipeline: VocalRestylePipeline, vocal: Vocal) -> None:
    take, reference = vocal(0.4, 48_000), vocal(0.3, 44_100, seed=2)
    mixes = [pipeline(take, seeds=[0], reference=told) for told in (reference, [Reference(reference, 2.0)])]
    assert torch.equal(*mixes)


# -- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strength", "1.1"], "0 to 1"),
        (["--strength", "nan"], "0 to 1"),
        (["--peak", "0.1"], "-20 to 0"),
        (["--peak", "-21"], "-20 to 0"),
        (["--brightness", "1"], "brightness_db"),
        (["--compression", "1"], "dynamics_db"),
        (["--space", "99"], "-12 to 12"),
        (["--space", "nan"], "space_db"),
        (["--space", "1", "--control", "space_db=1"], "--space is the same"),
        (["--between", "1", "1", "3"], "two different seeds"),
        (["--between", "1", "2", "1"], "2 to 100"),
        (["--between", "1", "2"], "--between"),
        (["--between", "1", "2", "3", "--seed", "0"], "--seed"),
        (["--between", "1", "2", "3", "--variations", "3"], "--variations"),
        (["--around", "0.5"], "--like"),
        (["--like", "MIX", "--around", "1.5"], "0 to 1"),
        (["--like", "MIX", "--around", "0", "--variations", "2"], "--around 0 gives the one mix"),
        (["--like", "MIX", "--around", "0", "--seed", "3"], "--around 0 gives the one mix"),
        (["--like", "MIX", "--style", "any"], "--style"),
        (["--like", "MIX", "--width", "1"], "--width"),
        (["--like", "MIX", "--between", "1", "2", "3"], "--between"),
        (["--like", "MIX", "--reference", "MIX"], "same --reference as for that mix: none"),
        (["--like", "take.wav"], "take.wav"),
        (["--like", "absent.wav"], "absent.wav"),
        (["--reference", "MIX=0"], "a weight is"),
        (["--reference", "MIX=inf"], "a weight is"),
        (["--reference", "MIX=two"], "MIX=two"),
        (["--reference", "MIX"] * 9, "up to 8"),
        (["--reference", "x" * 900], "--reference: the names"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_can_not_be_is_one_clear_line(
    sample: Run, vocal_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    take = vocal_file("take.wav", seconds=0.3)
    if "--like" in arguments or "--reference" in arguments:
        assert sample(take, "--variations", 1, "--out", tmp_path / "first") == 0
    mix = str(tmp_path / "first" / "take" / "mix_00.wav")
    capsys.readouterr()
    assert sample(take, *(part.replace("MIX", mix) if part.startswith("MIX") else part for part in arguments)) == 2
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    assert line.startswith("error: ")
    assert message.replace("MIX", mix) in line
    assert out == ""
    assert not (tmp_path / "out").exists()


def test_a_liked_mix_is_of_this_take_by_this_model(
    sample: Run, mix: Callable[..., list[Path]], vocal_file: Callable[..., Path], drawing_model: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (chosen,) = mix("--variations", 1)
    take, other = tmp_path / "take.wav", vocal_file("another take.wav", seconds=0.4)
    tags, music = read_tags(chosen), Waveform(torch.zeros(2, 9_600) + 0.1, 48_000)
    edits: dict[str, dict[str, Any]] = {
        "no seed": {"seed": None},
        "no take": {"take": None},
        "walk": {"seed": "3 9@7"},
        "style": {"style": "unheard"},
        "code": {"controls": "os.abort()"},
        "reach": {"controls": "{'width_db': 99.0, 'space_db': 0.0}"},
        "half drawn": {"controls": "{'width_db': 1.0}", "drawn": "width_db"},
        "steps": {"steps": "0"},
        "strength": {"strength": "2"},
        "lufs": {"lufs": "9"},
        "render": {"render": "paint"},
    }
    for name, change in edits.items():
        changed = {key: value for key, value in (tags | change).items() if value is not None}
        write(tmp_path / f"{name}.wav", music, tags=changed)
    calls: list[tuple[list[object], str]] = [
        ([take, "--like", tmp_path / f"{name}.wav"], f"{name}.wav") for name in edits
    ]
    calls += [([other, "--like", chosen], "another take"), ([take, other, "--like", chosen], "one take, not of 2")]
    for arguments, message in calls:
        capsys.readouterr()
        assert main([*map(str, arguments), "--model", str(drawing_model), "--out", str(tmp_path / "new")]) == 2, message
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and message in line
    assert sample(take, "--like", chosen) == 2
    assert "made with another model (drawing" in capsys.readouterr().err
    assert not (tmp_path / "new").exists() and not (tmp_path / "out").exists()


def test_the_liked_mix_is_never_replaced(sample: Run, vocal_file: Callable[..., Path], tmp_path: Path) -> None:
    take = vocal_file("take.wav", seconds=0.3)
    assert sample(take, "--variations", 1) == 0
    chosen = tmp_path / "out" / "take" / "mix_00.wav"
    before = chosen.read_bytes()
    assert sample(take, "--like", chosen, "--overwrite") == 2
    assert chosen.read_bytes() == before
