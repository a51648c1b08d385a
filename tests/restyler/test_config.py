"""The config: every shipped file is valid, every mistake is told in one line that names the key."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from audio.errors import InputError
from restyler.config import TASKS, load_config, validate
from restyler.differences import differences
from restyler.yamltree import merge, override_tree, parse, read_tree

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
BASE = CONFIGS / "base.yaml"


def keys(tree: dict, prefix: str = "") -> set[str]:
    found = set()
    for key, value in tree.items():
        found |= keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
    return found


ABLATIONS = sorted(path.stem for path in (CONFIGS / "ablations").glob("*.yaml"))


@pytest.mark.parametrize("name", ["base", "large", "pocket", "tiny", *(f"ablations/{name}" for name in ABLATIONS)])
def test_shipped_configs_validate(name: str) -> None:
    assert load_config(CONFIGS / f"{name}.yaml").task == "denoiser"


@pytest.mark.parametrize("name", [name for name in ABLATIONS if name != "plain"])
def test_an_ablation_states_what_it_changes_and_no_more(name: str) -> None:
    """In ten lines; nothing of what it states is as in plain.yaml already."""
    path = CONFIGS / "ablations" / f"{name}.yaml"
    plain, changed = (load_config(path.with_stem(stem)).model_dump(mode="json") for stem in ("plain", name))
    stated = yaml.safe_load(path.read_text())
    assert stated.pop("extends") == "plain.yaml" and path.read_text().startswith("# ")
    assert sum(line.strip() != "" and not line.startswith("#") for line in path.read_text().splitlines()) <= 10
    assert {key for key in differences(plain, changed) if not key.startswith("path.")} == {
        key for key in keys(stated) if not key.startswith("path.")
    }
    assert (plain["path"] != changed["path"]) == ("path" in stated)


def test_base_states_and_explains_every_key() -> None:
    config = load_config(BASE)
    assert keys(config.model_dump(mode="json")) == keys(yaml.safe_load(BASE.read_text()))
    lines = [line for line in BASE.read_text().splitlines() if ": " in line and not line.startswith("#")]
    assert [line for line in lines if " # " not in line] == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1E5", 1e5),
        ("-.5e+2", -50.0),
        ("7", 7),
        ("010", 10),
        ("1:30", "1:30"),
        ("no", "no"),
        ("off", "off"),
        ("true", True),
        ("~", None),
        ("", None),
        ("2026-11-23", "2026-11-23"),
        ("1.2.3", "1.2.3"),
        ("[3e-4, on]", [3e-4, "on"]),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    found = parse(text, "test")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lrr=1", "optim.lrr: unknown key, did you mean «lr»?"),
        ("zzz=1", "zzz: unknown key (allowed: codec, conditioner, data"),
        ("optim.lr=fast", "optim.lr: should be a valid number, not 'fast'"),
        ("optim.lr=-1", "optim.lr: should be greater than 0, not -1"),
        ("optim.lr=.nan", "optim.lr: should be a finite number"),
        ("training.steps=1.5", "training.steps: should be a valid integer, not 1.5"),
        ("training.steps='5'", "training.steps: should be a valid integer, not '5'"),
        ("training.precision=fp8", "training.precision: should be 'auto', 'no', 'bf16' or 'fp16', not 'fp8'"),
        ("training.accumulation=3", "training: batch_size (64) is not a multiple of accumulation (3)"),
        ("optim.betas=[0.9, 1.0]", "optim.betas.1: should be less than 1, not 1.0"),
        ("codec.kind=mp3", "codec.kind: should be one of encodec_48khz, pocket, not 'mp3'"),
        ("codec={kind: pocket, path: p, pth: x}", "codec.pth: unknown key, did you mean «path»?"),
        ("codec={kind: pocket}", "codec.path: missing"),
        ("data.sets=[]", "data.sets: List should have at least 1 item"),
        ("data.sets=my/set", "data.sets: should be a valid array, not 'my/set'"),
        ("data.sets=[{path: a, weight: 0}]", "data.sets.0.weight: should be greater than 0, not 0"),
        ("data.sets=[{path: a, weight: 1, wieght: 1}]", "data.sets.0.wieght: unknown key, did you mean «weight»?"),
        ("data.sets=[3]", "data.sets.0: should be an object, not 3"),
        ("data.kind=cd", "data.kind: should be one of folder, prepared, synthetic, not 'cd'"),
        ("time=0.5", "time: should be an object, not 0.5"),
        ("path.sigma_min=2", "path: sigma_min (2.0) is above sigma_max (1.5)"),
        ("sampling.sigma=1.6", "sampling.sigma: 0 to path.sigma_max (1.5), not 1.6"),
        ("sampling.sigma=null", "sampling.sigma: 0 to path.sigma_max (1.5), not None"),
        ("path={kind: noise}", "sampling.sigma: the path noise has none: null"),
        ("loss.weighting=even", "loss.weighting: should be 'velocity' or 'mix', not 'even'"),
        ("denoiser.predicts=noise", "denoiser.predicts: should be 'mix' or 'velocity', not 'noise'"),
        ("denoiser.raw_take=none", "denoiser.raw_take: should be 'skip' or 'concatenation', not 'none'"),
        ("standardise=1", "standardise: should be a valid boolean, not 1"),
        ("conditioner.controls=[loud]", "conditioner.controls: ['loud'] are not different names out of brightness_db"),
        ("conditioner.controls=[width_db, width_db]", "are not different names out of"),
        ("task=dance", "task: 'dance' is not one of codec, denoiser"),
        ("task=[a]", "task: ['a'] is not one of codec, denoiser"),
        ("optim={[a]: 1}", "not valid YAML: a key is a word"),
        ("optim={? {a: 1} : 1}", "not valid YAML: a key is a word"),
        ("seed=!!timestamp 2026-11-23", "not valid YAML: could not determine a constructor for the tag"),
        ("data.path=!!binary aGk=", "not valid YAML: could not determine a constructor for the tag"),
        ("optim=!!set {a, b}", "not valid YAML: could not determine a constructor for the tag"),
        ("seed=!!int x", "not valid YAML: ValueError"),
        ("seed=!!int [1]", "not valid YAML: TypeError"),
        ("seed=!!bool x", "not valid YAML: KeyError"),
        ("seed=" + "1" * 5000, "not valid YAML: ValueError"),
        ("optim=&x {lr: *x}", "not valid YAML: ValueError: Circular reference"),
        ("conditioner.controls=&x [*x]", "not valid YAML: ValueError: Circular reference"),
        ("seed=" + "[" * 600, "not valid YAML: RecursionError"),
        ("data.path=\udcff", "not valid YAML: "),
        ('data.path="\\ud800"', "not valid YAML: UnicodeEncodeError"),
        ("optim.lr", "optim.lr: an override looks like key=value"),
        ("=3", "=3: an override looks like key=value"),
        ("optim..lr=3", "optim..lr=3: an override looks like key=value"),
        ("optim.lr=[1", "optim.lr=[1, line 1: not valid YAML"),
    ],
)
def test_one_mistake_is_one_line(override: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load_config(BASE, [override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", ["5", "x", "[]", "{}", "null", "[a]", "{a: 1}", "{kind: 1}", "{kind: [1]}", "true"])
@pytest.mark.parametrize("name", ["base", "codec"])
def test_no_value_of_any_key_is_a_traceback(name: str, value: str) -> None:
    tree = read_tree(CONFIGS / f"{name}.yaml")
    for key in sorted(keys(tree) | tree.keys()):
        with contextlib.suppress(InputError):
            validate(merge(tree, override_tree([f"{key}={value}"])), TASKS[tree["task"]], name)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(InputError) as error:
        load_config(BASE, ["optim.lr=0", "training.stesp=1", "seed=-1"])
    lines = str(error.value).splitlines()
    assert {line.split(": ")[1] for line in lines} == {"optim.lr", "training.stesp", "seed"}


@pytest.mark.parametrize("overrides", [["seed=1", "seed=2"], ["optim=1", "optim.lr=2"], ["optim.lr=2", "optim=1"]])
def test_overrides_that_contradict_each_other_are_refused(overrides: list[str]) -> None:
    with pytest.raises(InputError, match="given twice"):
        load_config(BASE, overrides)


def test_a_repeated_key_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("optim:\n  lr: 1\n  clip: 1\n  lr: 2\n")
    with pytest.raises(InputError, match=r"twice\.yaml, line 4: .*«lr» is given twice"):
        read_tree(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "a config is a mapping of keys, not list"),
        ("", "a config is a mapping of keys, not NoneType"),
        ("a: [1\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system [x]\n", "not valid YAML"),
        ("extends: missing.yaml\n", "missing.yaml: the config can't be read"),
        ("extends: [a]\n", "«extends» names one file"),
    ],
)
def test_files_that_are_no_config(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"bad\.yaml|missing\.yaml") as error:
        read_tree(path)
    assert message in str(error.value)


def test_extends_is_relative_to_the_file_and_the_child_wins(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.yaml").write_text("x: {p: 1, q: 1}\ny: 1\n")
    (tmp_path / "deep" / "b.yaml").write_text("extends: ../a.yaml\nx: {q: 2}\nz: 2\n")
    (tmp_path / "c.yaml").write_text("extends: deep/b.yaml\nz: 3\n")
    assert read_tree(tmp_path / "c.yaml") == {"x": {"p": 1, "q": 2}, "y": 1, "z": 3}


def test_a_loop_of_extends_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(InputError, match=r"a\.yaml → b\.yaml → a\.yaml"):
        read_tree(tmp_path / "a.yaml")


def test_a_config_can_not_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_config(BASE).optim.lr = 1.0


def test_a_set_named_by_its_path_alone_weighs_one() -> None:
    sets = load_config(BASE, ["data.sets=[my/set, {path: s3://bucket/other, weight: 3}]"]).data.sets
    assert [(one.path, one.weight) for one in sets] == [("my/set", 1), ("s3://bucket/other", 3)]
