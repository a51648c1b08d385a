"""`restyler listen design`: from folders of renders to a test's folder, by what lies in it and by what it refuses."""

from __future__ import annotations

import functools
import json
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyloudnorm
import pytest
import soundfile
import torch
import yaml

from audio.waveform import Waveform
from restyler.cli import main
from restyler.listen.balance import pages
from restyler.listen.design import advice, token_hash
from restyler.listen.excerpts import active_starts, cut
from restyler.listen.plan import ListeningTest, Trial, read_plan

RATE = 48_000
SONGS = ("one", "two")
BASE: dict[str, Any] = {
    "name": "Vocal styles",
    "seed": 4,
    "listeners": 3,
    "raw": "takes",
    "excerpt": {"duration_s": 0.6},
    "conditions": {"ours": "ours", "theirs": "theirs"},
}


@functools.cache
def tone(seed: int) -> np.ndarray:
    time_s = np.arange(round(1.6 * RATE)) / RATE
    harmonics = np.arange(1, 20)[:, None]
    return (np.cos(2 * np.pi * 150 * (seed + 2) * harmonics * time_s) / harmonics).sum(axis=0)


def voice(seed: int, *, gain: float = 0.2, colour: float = 0.0) -> np.ndarray:
    """1.6 s of stereo that sounds from 0.8 s to 1.5 s: [samples 2]."""
    time_s = np.arange(round(1.6 * RATE)) / RATE
    noise = 1e-5 * np.random.default_rng(seed).standard_normal(len(time_s))
    sound = gain * tone(seed) * ((time_s > 0.8) & (time_s < 1.5)) + noise
    return np.stack([sound, (1 - colour) * sound + colour * np.roll(sound, 40)], axis=1)


def sung(seed: int) -> np.ndarray:
    return voice(seed)[round(0.8 * RATE) :]


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("material")
    for number, song in enumerate(SONGS):
        for name, sound in {
            f"takes/{song}": voice(number)[:, 0],
            f"mixes/{song}": voice(number, gain=0.1, colour=0.4),
            f"ours/{song}": voice(number, gain=0.05, colour=0.3),
            f"theirs/{song}": voice(number, gain=0.25, colour=0.1),
            f"draws/{song}_00": voice(number, gain=0.04),
            f"draws/{song}_01": voice(number, gain=0.03),
            f"sampled/{song}/mix_00": voice(number, gain=0.1, colour=0.2),
            f"sampled/{song}/mix_01": voice(number, gain=0.1, colour=0.5),
            f"renders/plain row/{song}_00": voice(number, gain=0.1, colour=0.6),
            f"renders/other row/{song}_00": voice(number, gain=0.1, colour=0.7),
            f"early/{song}": np.concatenate([sung(number), 0.02 * sung(number)]),
            f"late/{song}": np.concatenate([0.02 * sung(number), sung(number)]),
            f"twice/{song}": np.concatenate([sung(number), sung(number)]),
        }.items():
            path = folder / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, sound, RATE, "PCM_24")
    return folder


def design(material: Path, out: Path, *trials: dict[str, Any], **changes: Any) -> int:
    """Exit code of the command on BASE with these trials. A change to None takes a key away."""
    tree = {key: value for key, value in (BASE | changes | {"trials": list(trials)}).items() if value is not None}
    spec = material / f"spec-{out.parent.name}.yaml"
    spec.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return main(["listen", "design", str(spec), "--out", str(out)])


def designed(material: Path, out: Path, *trials: dict[str, Any], **changes: Any) -> ListeningTest:
    assert design(material, out, *trials, **changes) == 0
    return read_plan(out)


def real(plan: ListeningTest) -> list[Trial]:
    return [trial for trial in plan.trials if not trial.training]


def unpractised(plan: ListeningTest) -> ListeningTest:
    return plan.model_copy(update={"trials": tuple(real(plan))})


def conditions(trial: Trial) -> list[str]:
    return [stimulus.condition for stimulus in trial.stimuli]


def heard(test: Path, name: str) -> np.ndarray:
    return soundfile.read(test / "stimuli" / name)[0]


def test_a_mushra_test_holds_what_the_recommendation_asks_for(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = tmp_path / "TEST"
    plan = designed(material, test, {"kind": "mushra", "repeats": 1}, reference="mixes", mix="mixes")
    shown = capsys.readouterr().out
    assert "2 items; BS.1534-3 advises at least 5 for 2 systems" in shown
    assert "3 comparisons" in shown  # ours, theirs, raw
    assert "practice; BS" not in shown and "no pages for practice" in advice(unpractised(plan))[1]
    assert Counter(trial.item for trial in real(plan) if not trial.repeat_of) == dict.fromkeys(SONGS, 1)
    [repeat] = [trial for trial in plan.trials if trial.repeat_of]
    [original] = [trial for trial in plan.trials if trial.id == repeat.repeat_of]
    assert repeat.stimuli == original.stimuli
    [training] = [trial for trial in plan.trials if trial.training]
    assert plan.trials[0] == training
    for trial in plan.trials:
        assert conditions(trial) == ["reference", "anchor35", "anchor70", "ours", "theirs", "raw"]
        assert [one.role for one in trial.stimuli] == ["reference", "anchor35", "anchor70", "system", "system", "raw"]
        assert trial.reference is not None
        assert trial.reference.file != trial.stimuli[0].file
        assert np.array_equal(heard(test, trial.reference.file), heard(test, trial.stimuli[0].file))
        files = [test / "stimuli" / one.file for one in (trial.reference, *trial.stimuli)]
        assert len({path.stat().st_size for path in files}) == 1
        assert len(set(files)) == 7
        header = {path.read_bytes()[:400] for path in files}
        assert len({data[: data.index(b"data")] for data in header}) == 1  # no chunk tells one from another
        assert all(one.role not in path.name for one, path in zip(trial.stimuli, files[1:], strict=True))
    assert sorted(path.name for path in (test / "stimuli").iterdir()) == sorted(
        {one.file for trial in plan.trials for one in (trial.reference, *trial.stimuli) if one}
    )


def test_sounds_are_matched_in_loudness_by_the_gain_that_is_recorded(material: Path, tmp_path: Path) -> None:
    test = tmp_path / "TEST"
    plan = designed(material, test, {"kind": "mushra"}, reference="mixes", loudness_lufs=-25.0)
    for trial in real(plan):
        for one in trial.stimuli:
            sound = heard(test, one.file)
            assert sound.shape == (round(0.6 * RATE), 2)
            lufs = pyloudnorm.Meter(RATE, "DeMan").integrated_loudness(sound)
            assert one.loudness_lufs == pytest.approx(lufs, abs=0.01)
            if not one.condition.startswith("anchor"):
                assert lufs == pytest.approx(-25, abs=0.05)
                source = soundfile.read(one.source, always_2d=True)[0]
                start = round(trial.start_s * RATE)
                middle = slice(start + 300, start + len(sound) - 300)
                expected = np.broadcast_to(source[middle] * 10 ** (one.gain_db / 20), (len(sound) - 600, 2))
                assert np.abs(sound[300:-300] - expected).max() < 2e-5
        gains = {one.condition: one.gain_db for one in trial.stimuli}
        assert gains["anchor35"] == gains["anchor70"] == gains["reference"]


def test_where_a_peak_would_clip_the_whole_item_is_lowered_together(material: Path, tmp_path: Path) -> None:
    plans = [
        designed(material, tmp_path / str(lufs), {"kind": "rating"}, loudness_lufs=lufs) for lufs in (-25.0, -10.0)
    ]
    for quiet, loud in zip(*(real(plan) for plan in plans), strict=True):
        raised = [b.gain_db - a.gain_db for a, b in zip(quiet.stimuli, loud.stimuli, strict=True)]
        assert max(raised) - min(raised) < 1e-3
        assert raised[0] < 15
        peaks = [np.abs(heard(tmp_path / "-10.0", one.file)).max() for one in loud.stimuli]
        assert 10 ** (-3 / 20) < max(peaks) <= 10 ** (-1 / 20)


def test_excerpts_lie_where_the_voice_sounds_and_fade_by_a_raised_cosine(material: Path, tmp_path: Path) -> None:
    test = tmp_path / "TEST"
    plan = designed(material, test, {"kind": "acr", "conditions": ["ours"]})
    assert all(0.75 <= trial.start_s <= 0.95 for trial in plan.trials)
    flat = Waveform(torch.ones(2, RATE), RATE)
    faded = cut(flat, 0.25, 0.5).samples.numpy()
    assert faded.shape == (2, RATE // 2)
    assert np.all(faded[:, 240:-240] == 1)
    position = (np.arange(240) + 0.5) / 240
    assert np.allclose(faded[:, :240], np.sin(np.pi / 2 * position) ** 2, atol=1e-6)
    assert np.allclose(faded[:, -240:], faded[:, :240][:, ::-1], atol=1e-6)


def test_several_excerpts_of_an_item_do_not_overlap() -> None:
    loud = torch.zeros(1, 10 * RATE)
    noise = torch.randn(1, 10 * RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    for start, stop in ((1.0, 3.0), (4.5, 5.7), (8.0, 9.2)):  # in the first two that overlap would be the most active
        loud[:, round(start * RATE) : round(stop * RATE)] = 1.0
    first, second, third = active_starts(Waveform(noise * loud, RATE), 1.5, 3)
    assert 1.0 <= first <= 1.5
    assert 4.2 <= second <= 4.5
    assert 7.7 <= third <= 8.0


def test_pairs_of_every_kind(material: Path, tmp_path: Path) -> None:
    plan = designed(
        material,
        tmp_path / "TEST",
        {"kind": "paired", "ties": True, "training": 0},
        {"kind": "ab", "pairs": [["ours", "raw"]], "reference": True, "training": 0},
        {"kind": "abx", "pairs": [["ours", "reference"]], "trials_per_pair": 5, "training": 0},
        {"kind": "ccr", "pairs": [["raw", "theirs"]], "question": "Better?", "training": 2},
        {"kind": "acr", "training": 0},
        reference="mixes",
        conditions={"ours": "ours", "theirs": "theirs", "drawn": "draws"},
        draw=1,
    )
    by_kind = {kind: [trial for trial in real(plan) if trial.kind == kind] for kind in ("ab", "abx", "ccr", "acr")}
    paired, similar = by_kind["ab"][:6], by_kind["ab"][6:]
    assert Counter(tuple(conditions(trial)) for trial in paired) == dict.fromkeys(
        [("ours", "theirs"), ("ours", "drawn"), ("theirs", "drawn")], 2
    )
    assert all(trial.ties and trial.reference is None for trial in paired)
    assert [conditions(trial) for trial in similar] == [["ours", "raw"]] * 2
    assert all(trial.reference and not trial.ties and "similar" in trial.question for trial in similar)
    assert [conditions(trial) for trial in by_kind["abx"]] == [["ours", "reference"]] * 5
    assert sorted(Counter(trial.item for trial in by_kind["abx"]).values()) == [2, 3]
    assert {trial.question for trial in by_kind["ccr"]} == {"Better?"}
    assert sorted(trial.id for trial in plan.trials if trial.training) == ["training-ccr-01", "training-ccr-02"]
    assert Counter(name for trial in by_kind["acr"] for name in conditions(trial)) == dict.fromkeys(
        ["ours", "theirs", "drawn", "raw"], 2
    )
    assert {Path(one.source).name for trial in paired for one in trial.stimuli if one.condition == "drawn"} == {
        f"{song}_01.wav" for song in SONGS
    }
    assert len({trial.id for trial in plan.trials}) == len(plan.trials)


def test_the_variations_of_a_take_are_rated_with_take_and_mix_among_them(material: Path, tmp_path: Path) -> None:
    plan = designed(
        material, tmp_path / "TEST", {"kind": "rating"}, conditions=None, variations="sampled", mix="mixes",
        evaluate={"folder": ".", "rows": ["plain row"]},
    )  # fmt: skip
    for trial in plan.trials:
        assert conditions(trial) == ["plain row", "variation_00", "variation_01", "raw", "mix"]
        assert {Path(one.source).parent.name for one in trial.stimuli[1:3]} == {trial.item}
        assert trial.reference is None


def test_patterns_name_files_by_what_their_star_stands_for(material: Path, tmp_path: Path) -> None:
    plan = designed(
        material, tmp_path / "TEST", {"kind": "ab", "pairs": [["a", "b"]]}, raw=None,
        conditions={"a": "draws/*_00.wav", "b": "sampled/*/mix_01.wav"},
    )  # fmt: skip
    assert {trial.item for trial in plan.trials} == set(SONGS)


def test_the_same_spec_gives_the_same_test_but_other_links(material: Path, tmp_path: Path) -> None:
    trials = ({"kind": "rating"}, {"kind": "abx", "pairs": [["ours", "raw"]], "repeats": 2})
    first, again, other = (
        designed(material, tmp_path / str(number), *trials, seed=seed) for number, seed in enumerate((4, 4, 5))
    )
    tokens = {"owner_token_sha256", "listener_tokens_sha256"}
    assert first.model_dump(exclude=tokens) == again.model_dump(exclude=tokens)
    assert first.owner_token_sha256 != again.owner_token_sha256
    assert not {one.file for trial in first.trials for one in trial.stimuli} & {
        one.file for trial in other.trials for one in trial.stimuli
    }
    for trial in first.trials:
        for one in trial.stimuli:
            assert (tmp_path / "0/stimuli" / one.file).read_bytes() == (tmp_path / "1/stimuli" / one.file).read_bytes()
    assert [page.slots for page in pages(first, 1)] == [page.slots for page in pages(again, 1)]


def test_only_the_links_hold_the_tokens_and_only_their_owner_may_look(material: Path, tmp_path: Path) -> None:
    test = tmp_path / "TEST"
    plan = designed(material, test, {"kind": "rating"})
    lines = [line.split() for line in (test / "links.txt").read_text().splitlines() if not line.startswith("#")]
    assert [name for name, _ in lines] == ["owner", "1", "2", "3"]
    tokens = [token for _, token in lines]
    assert [token_hash(token) for token in tokens] == [plan.owner_token_sha256, *plan.listener_tokens_sha256]
    assert len(set(tokens)) == 4
    assert min(map(len, tokens)) >= 22
    assert not any(token in (test / "test.json").read_text() for token in tokens)
    assert stat.S_IMODE((test / "links.txt").stat().st_mode) == 0o600
    assert stat.S_IMODE(test.stat().st_mode) == 0o700
    document = json.loads((test / "test.json").read_text())
    assert document["headphone_check"] is True
    assert designed(material, tmp_path / "other", {"kind": "rating"}, headphone_check=False).headphone_check is False


def test_what_else_the_spec_says_is_what_the_plan_holds(material: Path, tmp_path: Path) -> None:
    said = {"consent": "Will you?", "instructions": "Listen.", "finish": "Bye.", "name": "Other"}
    plan = designed(
        material, tmp_path / "TEST", {"kind": "rating"}, {"kind": "abx", "pairs": [["ours", "raw"]]},
        items=["one", "two"], excerpt={"duration_s": 0.6, "per_item": 2}, raw="twice",
        conditions={"ours": "early", "theirs": "late"}, power={"effect_d": 1.2, "share": 0.9, "alpha": 0.01}, **said,
    )  # fmt: skip
    assert {key: getattr(plan, key) for key in said} == said
    rating, abx = plan.power
    assert (rating.effect, rating.alpha, rating.test) == (1.2, 0.01 / 3, "wilcoxon")
    assert (abx.effect, abx.alpha, abx.test) == (0.9, 0.01, "binomtest")
    assert {trial.item for trial in plan.trials} == {"one 1", "one 2", "two 1", "two 2"}
    starts = {trial.item: trial.start_s for trial in plan.trials}
    assert starts["one 2"] - starts["one 1"] >= 0.6


def test_blocks_that_ask_the_same_are_one_family_as_in_the_analysis(material: Path, tmp_path: Path) -> None:
    paired, further = {"kind": "paired"}, {"kind": "ab", "pairs": [["ours", "raw"], ["theirs", "ours"]]}
    plan = designed(
        material, tmp_path / "TEST", paired, further, {"kind": "ab", "pairs": [["ours", "raw"]], "question": "?"}
    )
    assert [power.alpha for power in plan.power] == [0.05 / 2, 0.05]


@pytest.mark.parametrize(
    ("folders", "leader"),
    [
        ({"raw": "late", "reference": "early", "mix": "early", "conditions": {"ours": "early"}}, "late"),
        ({"raw": None, "reference": "late", "mix": "early", "conditions": {"ours": "early"}}, "late"),
        ({"raw": None, "mix": "late", "conditions": {"ours": "early"}}, "late"),
        ({"raw": None, "conditions": {"ours": "late", "theirs": "early"}}, "late"),
        ({"raw": "early", "reference": "late", "mix": "late", "conditions": {"ours": "late"}}, "early"),
    ],
)
def test_the_raw_take_says_where_else_the_reference_the_mix_or_the_first_system(
    folders: dict[str, Any], leader: str, material: Path, tmp_path: Path
) -> None:
    plan = designed(material, tmp_path / "TEST", {"kind": "acr", "conditions": ["ours"]}, items=["one"], **folders)
    starts = {trial.start_s for trial in plan.trials}
    assert max(starts) < 0.2 if leader == "early" else min(starts) > 0.7
