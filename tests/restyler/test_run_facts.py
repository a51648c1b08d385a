"""What a run folder is bound to: what a resumed run may have otherwise, and how it is told what it may not."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from audio.errors import InputError
from restyler.checkpoints import CHANGEABLE_ON_RESUME, RunFolder
from restyler.config import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def changed(value: Any) -> Any:
    return "another" if value is None or isinstance(value, str | list) else not value


def with_leaf(facts: dict[str, Any], key: str) -> dict[str, Any]:
    result = copy.deepcopy(facts)
    *above, last = key.split(".")
    section = result
    for name in above:
        section = section[name]
    section[last] = changed(section[last])
    return result


@pytest.mark.parametrize("config", ["base", "tiny", "codec"])
def test_of_a_config_just_what_is_on_the_list_may_change(tmp_path: Path, config: str) -> None:
    facts = load_config(CONFIGS / f"{config}.yaml").model_dump(mode="json")
    run = RunFolder(tmp_path / "run")
    assert run.claim("config", facts, changeable=CHANGEABLE_ON_RESUME) == []
    kept = (run.path / "config.json").read_bytes()
    accepted = set()
    for key, value in flatten(facts).items():
        other = with_leaf(facts, key)
        line = f"{key}: {value!r} → {changed(value)!r}"
        try:
            told = run.check("config", other, changeable=CHANGEABLE_ON_RESUME)
        except InputError as error:
            told = [str(error)]
            with pytest.raises(InputError):
                run.claim("config", other, changeable=CHANGEABLE_ON_RESUME)
        assert (run.path / "config.json").read_bytes() == kept
        assert line in told or f" or undo {line} (what may change: training.save_every, " in told[0]
        accepted |= {key} if line in told else set()
    expected = {
        key for key in flatten(facts) for name in CHANGEABLE_ON_RESUME if key == name or key.startswith(name + ".")
    }
    assert accepted == expected
    assert "training.keep" in accepted and "training.steps" not in accepted


def test_every_key_of_the_list_is_one_of_a_config() -> None:
    keys = {
        key for name in ("base", "tiny", "codec") for key in flatten(load_config(CONFIGS / f"{name}.yaml").model_dump())
    }
    for name in CHANGEABLE_ON_RESUME:
        assert any(key == name or key.startswith(name + ".") for key in keys), name


def test_an_accepted_change_is_told_once_and_kept(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.claim("config", {"a": {"b": 1, "c": [2]}, "ab": 3})
    facts = {"a": {"b": 1, "c": [5]}, "ab": 3}
    assert run.claim("config", facts, changeable=["a"]) == ["a.c: [2] → [5]"]
    assert json.loads((run.path / "config.json").read_text()) == facts
    assert run.claim("config", facts) == []
    with pytest.raises(InputError, match=r"undo ab: 3 → 4 \(what may change: a\)$"):  # a is no prefix of ab
        run.claim("config", {"a": {"b": 2, "c": [5]}, "ab": 4}, changeable=["a"])
    with pytest.raises(InputError, match=r"undo ab: 3 → 4$"):
        run.check("config", facts | {"ab": 4})


def test_differences_of_lists_show_what_is_another(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    sets = [{"path": f"/sets/{name}", "weight": 1} for name in "abc"]
    run.claim("config", {"data": {"sets": sets}})

    def told(now: list[dict[str, Any]]) -> str:
        with pytest.raises(InputError) as caught:
            run.check("config", {"data": {"sets": now}})
        return str(caught.value).split(" undo ")[1]

    assert told([*sets[:2], sets[2] | {"weight": 5}]) == "data.sets[2].weight: 1 → 5"
    assert told([{"path": "/new", "weight": 2}, *sets]) == "data.sets: with {'path': '/new', 'weight': 2}"
    assert told(sets[1:]) == "data.sets: without {'path': '/sets/a', 'weight': 1}"
    assert told([*sets, sets[0]]) == "data.sets: with {'path': '/sets/a', 'weight': 1}"


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optim": {"lr": 1}} → {"optim.lr": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
