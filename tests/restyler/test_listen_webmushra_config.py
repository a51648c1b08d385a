"""webMUSHRA's configurations, written and read: what another program would find in them, and the way there and back."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from restyler.cli import main
from restyler.listen.anchors import ANCHORS
from restyler.listen.plan import ListeningTest, Trial, read_plan

RATE = 48_000
SPEC: dict[str, Any] = {
    "name": "Vocal Styles, 1",
    "seed": 2,
    "listeners": 3,
    "conditions": {"a": "a", "b": "b"},
    "raw": "raw",
    "reference": "reference",
    "excerpt": {"duration_s": 0.5},
    "consent": "Do you?\n\nYes & <no>",
    "trials": [
        {"kind": "mushra", "repeats": 1},
        {"kind": "rating", "conditions": ["a", "b"], "training": 0},
        {"kind": "abx", "pairs": [["a", "reference"]], "trials_per_pair": 3, "training": 0},
        {"kind": "acr", "conditions": ["b"], "training": 0},
    ],
}


def put(path: Path, seed: int, *, seconds: float = 0.6, rate: int = RATE, gain: float = 0.3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, gain * np.random.default_rng(seed).uniform(-1, 1, round(seconds * rate)), rate, "PCM_16")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("a", "b", "raw", "reference")):
        for song in ("s1", "s2"):
            put(tmp_path / name / f"{song}.wav", number)
    return tmp_path


def run(folder: Path, tree: dict[str, Any], test: str, *arguments: str, name: str = "spec.yaml") -> int:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return main(["listen", "design", str(folder / name), "--out", str(folder / test), *arguments])


def facts(trial: Trial) -> tuple[Any, ...]:
    """What a trial asks, without where its sounds came from."""
    sounds = [(one.condition, one.role) for one in trial.stimuli]
    return (
        *(trial.id, trial.kind, trial.item, trial.repeat_of, trial.training, trial.question, trial.reference is None),
        sorted(sounds),
    )


def sound(test: Path, trial: Trial, condition: str) -> np.ndarray:
    [one] = [one for one in trial.stimuli if one.condition == condition]
    return soundfile.read(test / "stimuli" / one.file)[0]


def test_a_plan_goes_there_and_comes_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, SPEC, "ONE", "--webmushra", str(folder / "WEB")) == 0
    config = folder / "WEB/configs/vocal_styles_1.yaml"
    assert f"{config}: the same for webMUSHRA" in capsys.readouterr().out
    there = ["listen", "design", str(config), "--out", str(folder / "TWO"), "--listeners", "5", "--seed", "9"]
    assert main(there) == 0
    one, two = read_plan(folder / "ONE"), read_plan(folder / "TWO")
    assert sorted(map(facts, one.trials)) == sorted(map(facts, two.trials))
    for key in ("name", "consent", "instructions", "finish", "headphone_check", "sample_rate_hz", "duration_s"):
        assert getattr(one, key) == getattr(two, key)
    assert (two.seed, two.listeners, len(two.listener_tokens_sha256)) == (9, 5, 5)
    by_id = {trial.id: trial for trial in two.trials}
    for trial in one.trials:
        for stimulus in trial.stimuli:
            ours = sound(folder / "ONE", trial, stimulus.condition)
            assert np.array_equal(ours, sound(folder / "TWO", by_id[trial.id], stimulus.condition))


def test_what_is_written_is_what_webmushra_reads(folder: Path) -> None:
    assert run(folder, SPEC, "ONE", "--webmushra", str(folder / "WEB")) == 0
    tree = yaml.safe_load((folder / "WEB/configs/vocal_styles_1.yaml").read_text(encoding="utf-8"))
    assert tree["testId"] == "Vocal Styles, 1"
    assert tree["bufferSize"] in (256, 512, 1024, 2048, 4096, 8192, 16384)
    kinds = [page["type"] for page in tree["pages"] if isinstance(page, dict)]
    assert kinds == ["consent", "generic", "volume", "mushra", "finish"]
    assert html.unescape(tree["pages"][0]["content"].replace("<br>", "\n")) == SPEC["consent"]
    assert tree["pages"][-1]["questionnaire"] == [
        {"type": "text", "label": "Your number as a listener", "name": "listener"}
    ]
    mark, *blocks = tree["pages"][-2]
    assert mark == "random"
    assert all(block[0] == "random" for block in blocks)
    pages = {page["id"]: page for block in blocks for page in block[1:]}
    assert {page["type"] for page in pages.values()} == {
        *("mushra", "likert_multi_stimulus", "paired_comparison", "likert_single_stimulus")
    }
    mushra, abx = pages["mushra-01"], pages["abx-01"]
    assert set(mushra["stimuli"]) == {"anchor35", "anchor70", "a", "b", "raw"}  # it adds the hidden reference itself
    assert mushra["reference"] not in mushra["stimuli"].values()
    assert (mushra["createAnchor35"], mushra["createAnchor70"], mushra["showConditionNames"]) == (False, False, False)
    assert list(abx["stimuli"]) == ["a"]
    assert [step["value"] for step in pages["rating-01"]["response"]] == list(range(0, 101, 10))
    for page in pages.values():
        files = [*page["stimuli"].values(), *([page["reference"]] if "reference" in page else [])]
        infos = [soundfile.info(folder / "WEB" / name) for name in files]  # relative to webMUSHRA's own folder
        assert len({(info.frames, info.samplerate, info.channels) for info in infos}) == 1


def test_one_system_beside_the_reference_is_a_page_of_bs1116(folder: Path) -> None:
    tree = SPEC | {"raw": None, "trials": [{"kind": "mushra", "conditions": ["a"], "anchors": False, "training": 0}]}
    tree = {key: value for key, value in tree.items() if value is not None}
    assert run(folder, tree, "ONE", "--webmushra", str(folder / "WEB")) == 0
    config = folder / "WEB/configs/vocal_styles_1.yaml"
    pages = yaml.safe_load(config.read_text(encoding="utf-8"))["pages"]
    assert [page["type"] for page in pages[-2][1][1:]] == ["bs1116", "bs1116"]
    assert main(["listen", "design", str(config), "--out", str(folder / "TWO")]) == 0
    one, two = (sorted(map(facts, read_plan(folder / name).trials)) for name in ("ONE", "TWO"))
    assert one == two


@pytest.mark.parametrize("kind", ["ab", "ccr"])
def test_what_webmushra_has_no_page_for_is_refused(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = SPEC | {"trials": [{"kind": kind, "pairs": [["a", "b"]]}]}
    assert run(folder, tree, "ONE", "--webmushra", str(folder / "WEB")) == 2
    assert f"webMUSHRA has no page for {kind} trials" in capsys.readouterr().err
    assert not (folder / "ONE").exists()
    assert not (folder / "WEB").exists()


def test_a_configuration_that_is_there_is_not_written_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "WEB/configs").mkdir(parents=True)
    (folder / "WEB/configs/vocal_styles_1.yaml").write_text("mine", encoding="utf-8")
    assert run(folder, SPEC, "ONE", "--webmushra", str(folder / "WEB")) == 2
    assert "vocal_styles_1.yaml: already exists" in capsys.readouterr().err
    assert not (folder / "ONE").exists()
    assert (folder / "WEB/configs/vocal_styles_1.yaml").read_text(encoding="utf-8") == "mine"


MUSHRA = {
    "type": "mushra",
    "id": "m1",
    "name": "Song one",
    "content": "Judge <b>all</b> of<br/>it &amp; more",
    "showWaveform": True,
    "enableLooping": True,
    "reference": "configs/audio/ref.wav",
    "createAnchor35": True,
    "createAnchor70": False,
    "stimuli": {"C1": "configs/audio/c1.wav", "C2": "configs/audio/c2.wav"},
}
FOREIGN: dict[str, Any] = {
    "testname": "A test",
    "testId": "a_test",
    "bufferSize": 2048,
    "stopOnErrors": True,
    "showButtonPreviousPage": True,
    "remoteService": "service/write.php",
    "pages": [
        {"type": "generic", "id": "first", "name": "Welcome", "content": "<p>Hello.</p>"},
        {"type": "generic", "id": "second", "name": "Welcome", "content": "<ul><li>Listen.</li></ul>"},
        MUSHRA | {"id": "training_1"},
        ["random", MUSHRA, ["random", MUSHRA | {"id": "m2", "name": "Song two"}]],
        {
            "type": "paired_comparison",
            "id": "p",
            "name": "Pairs",
            "unforced": "Can't tell",
            "reference": "configs/audio/ref.wav",
            "stimuli": MUSHRA["stimuli"],
        },
        {
            "type": "likert_single_stimulus",
            "id": "l",
            "name": "Single",
            "mustRate": True,
            "stimuli": MUSHRA["stimuli"],
            "response": [{"value": "not at all", "label": "Not at all", "img": "star.png"}],
        },
        {"type": "finish", "name": "End", "content": "Bye", "showResults": True, "writeResults": True},
    ],
}


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    for number, name in enumerate(("ref", "c1", "c2")):
        put(tmp_path / f"configs/audio/{name}.wav", number, rate=44_100, gain=1.0)
    return tmp_path


def read_foreign(foreign: Path) -> ListeningTest:
    assert run(foreign, FOREIGN, "TEST", name="configs/test.yaml") == 0
    return read_plan(foreign / "TEST")


def test_a_configuration_made_elsewhere_becomes_a_test(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = read_foreign(foreign)
    shown = capsys.readouterr().out
    assert "not as in webMUSHRA: unforced" in shown
    assert "not as in webMUSHRA: likert_single_stimulus" in shown
    assert "not as in webMUSHRA: bs1116" not in shown
    assert (plan.name, plan.instructions, plan.finish) == ("a_test", "Hello.\n\nListen.", "Bye")
    assert (plan.listeners, plan.headphone_check, plan.power) == (20, False, ())
    assert [(trial.id, trial.kind, trial.training) for trial in plan.trials] == [
        ("training_1", "mushra", True),
        ("m1", "mushra", False),
        ("m2", "mushra", False),
        *((f"p-{number}", "abx", False) for number in (1, 2)),
        *((f"l-{number}", "acr", False) for number in (1, 2)),
    ]
    one = plan.trials[1]
    assert (one.item, one.question) == ("Song one", "Judge all of\nit & more")
    assert [stimulus.condition for stimulus in one.stimuli] == ["reference", "C1", "C2", "anchor35"]
    assert one.reference is not None
    assert one.reference.file not in [stimulus.file for stimulus in one.stimuli]


def test_its_sounds_stay_as_they_are_and_the_anchor_is_made(foreign: Path) -> None:
    plan = read_foreign(foreign)
    trial = plan.trials[1]
    reference, anchor = (sound(foreign / "TEST", trial, name) for name in ("reference", "anchor35"))
    taps = ANCHORS["anchor35"].taps(RATE)
    expected = np.stack([np.convolve(channel, taps, mode="same") for channel in reference.T], axis=1)
    assert np.abs(anchor - expected).max() < 1e-6
    gains = {stimulus.gain_db for trial in plan.trials for stimulus in trial.stimuli}
    assert len(gains) == 1  # full-scale noise overshoots when it is resampled: all are turned down alike
    assert -6 < min(gains) < 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "spatial_localization"}, "page m1: a page of type 'spatial_localization' is not known here"),
        ({"showWaveforms": True}, "page m1 (mushra): unknown key «showWaveforms», did you mean «showWaveform»?"),
        ({"stimuli": {"C1": "configs/audio/none.wav"}}, "page m1: no file configs/audio/none.wav below"),
        ({"stimuli": ["configs/audio/c1.wav"]}, "page m1: «stimuli» names the sounds"),
        ({"stimuli": {"reference": "configs/audio/c1.wav"}}, "the hidden reference is added by itself"),
        ({"stimuli": {"anchor35": "configs/audio/c1.wav"}}, "«anchor35» is both a stimulus and to be created"),
        ({"reference": None}, "page m1: «reference» is missing; mushra needs one"),
        ({"id": ""}, "«id» is missing"),
        ({"id": "training_m"}, "all pages are for practice"),
        ({"stimuli": {"C1": "configs/audio/short.wav"}}, "short.wav: 4800 samples (0.1000 s) shorter than"),
        ({"stimuli": {"C1": "configs/audio/quiet.wav"}}, "quiet.wav: silent"),
        ({"stimuli": {f"C{number}": "configs/audio/c1.wav" for number in range(11)}}, "13 sounds; at most 12"),
    ],
)
def test_pages_that_can_not_be_shown_are_refused_by_name(
    change: dict[str, Any], said: str, foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(foreign / "configs/audio/short.wav", 0, seconds=0.5, rate=44_100)
    put(foreign / "configs/audio/quiet.wav", 0, rate=44_100, gain=0.0)
    assert run(foreign, FOREIGN | {"pages": [MUSHRA | change]}, "TEST", name="configs/test.yaml") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (foreign / "TEST").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"page": []}, "unknown key «page», did you mean «pages»?"),
        ({"pages": [MUSHRA, "random"]}, "'random' is no page; «random» stands first"),
        ({"pages": {"a": MUSHRA}}, "«pages» is a list"),
        ({"pages": [MUSHRA, MUSHRA]}, "page m1: the id is given 2 times"),
        ({"pages": FOREIGN["pages"][:2]}, "no page on which anything is judged"),
    ],
)
def test_configurations_that_can_not_be_right(
    change: dict[str, Any], said: str, foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(foreign, FOREIGN | change, "TEST", name="configs/test.yaml") == 2
    assert said in capsys.readouterr().err


def test_more_than_twelve_seconds_are_for_tests_that_are_not_strict(
    foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("ref", "c1", "c2")):
        put(foreign / f"configs/audio/{name}.wav", number, seconds=12.1)
    page = MUSHRA | {"createAnchor35": False}
    assert run(foreign, FOREIGN | {"pages": [page]}, "TEST", name="configs/test.yaml") == 2
    assert "12.10 s long; at most 12 s, or «strict: false»" in capsys.readouterr().err
    assert run(foreign, FOREIGN | {"pages": [page | {"strict": False}]}, "TEST", name="configs/test.yaml") == 0
