"""Settings saved beside a mix: whatever their names and paths, they are read back as they were."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audio.parts import Step
from restyler.chain_files import content_digest, identity
from restyler.chain_settings import Rendered, settings_text
from restyler.chains import STYLE_NAME, read_chains
from restyler.synthesis_plan import fingerprint
from restyler.yamltree import parse

RENDERED = Rendered("../raw/take.flac", 1e-7, -3.5)
PLATE = "DragonflyPlateReverb.vst3"
GAIN = [Step("gain", {"gain_db": -3.0})]


@settings(deadline=None)
@given(style=st.from_regex(STYLE_NAME, fullmatch=True).filter(lambda name: name == name.strip()))
@example("08")
@example("1e3")
@example("0x1f")
@example("null")
@example("true")
@example("no")
@example("1_000")
@example("12 - a")
def test_any_name_of_a_style_is_read_back(tmp_path_factory: pytest.TempPathFactory, style: str) -> None:
    path = tmp_path_factory.getbasetemp() / "mix.yaml"
    path.write_text(settings_text(style, GAIN, RENDERED, folder=path.parent), encoding="utf-8")
    found = read_chains(path)
    assert list(found.styles) == [style]
    assert list(found.draw(style, 0, key="", seed=0, is_test=False)) == GAIN


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.from_regex(r"[-+.0-9eExob_:]{1,6}")


@settings(deadline=None)
@given(raw=TEXTS, plugin=TEXTS, key=TEXTS, value=TEXTS)
def test_any_text_is_read_back(raw: str, plugin: str, key: str, value: str) -> None:
    steps = [Step("vst3", {key: value, f"{key}2": 1e-9}, f"/{plugin}")]
    tree = parse(settings_text("a", steps, Rendered(raw, 0.1, 1e22), folder=Path("/some/where")), "")
    assert tree == {
        "rendered": {"raw": raw, "input_gain_db": 0.1, "output_gain_db": 1e22},
        "styles": {"a": [{"vst3": {"path": f"/{plugin}", "parameters": {key: value, f"{key}2": 1e-9}}}]},
    }


def test_plain_words_need_no_quotes() -> None:
    assert '"' not in settings_text("dark_wet", GAIN, RENDERED, folder=Path("/some/where"))


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/music/anna/rooms/a.wav", "../../rooms/a.wav"),
        ("/music/anna/pairs/mix/a.wav", "a.wav"),
        ("/usr/lib/vst3/Plate.vst3", "/usr/lib/vst3/Plate.vst3"),
    ],
)
def test_a_path_is_relative_to_the_settings_where_both_are_of_one_tree(path: str, written: str) -> None:
    steps = [Step("convolution", {"impulse_response": path, "wet_db": -9.0}), Step("vst3", {}, path)]
    tree = yaml.safe_load(settings_text("a", steps, RENDERED, folder=Path("/music/anna/pairs/mix")))
    room, plugin = tree["styles"]["a"]
    assert (room["convolution"]["impulse_response"], plugin["vst3"]["path"]) == (written, written)


def test_a_bundle_is_what_is_in_it(tmp_path: Path) -> None:
    """Equal in another folder; another for another content, file name or name of its own."""

    def bundle(folder: str, files: dict[str, bytes], name: str = "Plate.vst3") -> Path:
        for file, content in files.items():
            (tmp_path / folder / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name / file).write_bytes(content)
        return tmp_path / folder / name

    first = bundle("one", {"Contents/x86/Plate.so": b"code", "Contents/info.json": b"{}"})
    same = bundle("two", {"Contents/info.json": b"{}", "Contents/x86/Plate.so": b"code"})
    others = [
        bundle("three", {"Contents/x86/Plate.so": b"Code", "Contents/info.json": b"{}"}),
        bundle("four", {"Contents/Plate.so": b"code", "Contents/info.json": b"{}"}),
        bundle("five", {"Contents/x86/Plate.so": b"code"}),
    ]
    assert content_digest(same) == content_digest(first)
    assert len({content_digest(path) for path in (first, *others)}) == 4
    renamed = bundle("six", {"Contents/info.json": b"{}", "Contents/x86/Plate.so": b"code"}, name="Hall.vst3")
    assert identity(same) == identity(first) != identity(renamed)


def test_a_plugin_that_has_moved_is_drawn_and_named_alike(tmp_path: Path) -> None:
    places = [Path(os.environ.get("VOCAL_RESTYLER_VST3", "/usr/lib/vst3")), Path.home() / ".vst3"]
    plate = next((found for place in places if (found := place / PLATE).exists()), None)
    if plate is None:
        pytest.skip(f"needs {PLATE} (Debian: dragonfly-reverb-vst3) where plugins lie, or VOCAL_RESTYLER_VST3")

    def drawn(folder: Path) -> tuple[Step, str]:
        found = read_chains(folder / "chains.yaml")
        (step,) = found.draw("a", 0, key="take", seed=0, is_test=False)
        (folder / "mix.yaml").write_text(settings_text("a", [step], RENDERED, folder=folder))
        assert list(read_chains(folder / "mix.yaml").draw("a", 0, key="", seed=1, is_test=False)) == [step]
        assert str(tmp_path) not in (folder / "mix.yaml").read_text()
        return step, fingerprint([step], found.files)

    shutil.copytree(plate, tmp_path / "one" / "plugins" / PLATE)
    (tmp_path / "one" / "chains.yaml").write_text(
        f"styles: {{a: [{{vst3: {{path: plugins/{PLATE}, parameters: {{decay_s: {{uniform: [1, 2]}}}}}}}}]}}"
    )
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (first, first_name), (second, second_name) = drawn(tmp_path / "one"), drawn(tmp_path / "two")
    assert (first.values, first_name) == (second.values, second_name)
    assert first.path != second.path
    (tmp_path / "two" / "plugins" / PLATE / "moduleinfo.json").write_text("{}")  # as another release has
    changed, changed_name = drawn(tmp_path / "two")
    assert changed.values == first.values and changed_name != first_name
