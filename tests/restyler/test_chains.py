"""The chain language: what is drawn, that nothing else moves a draw, and one clear line for every mistake."""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from audio.errors import InputError
from audio.parts import PARTS, Step, find_part
from audio.parts_kinds import Number
from audio.presets import read_presets, training_names
from restyler.chain_settings import Rendered, render_again, settings_text
from restyler.chain_tables import read_number_table, read_preset_table
from restyler.chain_values import read_value
from restyler.chains import Chains, read_chains

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "chains"
PLATE = "DragonflyPlateReverb.vst3"
SHARES = (np.arange(2000) + 0.5) / 2000
GAIN = Number("gain_db", "dB", -60.0, 60.0)


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    (tmp_path / "rooms").mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).standard_normal(9600) * np.exp(-np.arange(9600) / 1500)
        soundfile.write(tmp_path / "rooms" / f"room{number}.wav", 0.1 * noise, 48000)
    return tmp_path / "rooms"


def chains(tmp_path: Path, text: str) -> Chains:
    (tmp_path / "chains.yaml").write_text(text)
    return read_chains(tmp_path / "chains.yaml")


def draw(
    found: Chains, style: str, number: int = 0, key: str = "take", seed: int = 0, test: bool = False
) -> list[Step]:
    return list(found.draw(style, number, key=key, seed=seed, is_test=test))


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"uniform": [-4, 8]}, stats.uniform(-4, 12)),
        ({"log_uniform": [0.5, 40]}, stats.loguniform(0.5, 40)),
        ({"normal": [2, 3]}, stats.truncnorm(-3, 3, 2, 3)),
        ({"normal": [-24, 3], "within": [-30, -20]}, stats.truncnorm(-2, 4 / 3, -24, 3)),
    ],
)
def test_distributions_are_the_quantiles_of_scipy(node: dict, expected: stats.rv_continuous) -> None:
    found = read_value(node, GAIN)
    np.testing.assert_allclose([found.at(share) for share in SHARES], expected.ppf(SHARES), rtol=1e-9)
    assert found.extremes == pytest.approx(expected.support())


def test_a_choice_gives_each_value_alike_and_a_number_stays() -> None:
    found = read_value({"choice": [-3, 0, 6]}, GAIN)
    assert Counter(found.at(share) for share in (np.arange(300) + 0.5) / 300) == {-3.0: 100, 0.0: 100, 6.0: 100}
    assert {read_value(3, GAIN).at(share) for share in SHARES} == {3.0}


@given(
    low=st.floats(-60, 59.9),
    width=st.floats(0.01, 1e5),
    share=st.floats(0, 1, exclude_max=True),
    form=st.sampled_from(["uniform", "log_uniform", "normal", "within"]),
)
def test_no_draw_ever_leaves_the_range(low: float, width: float, share: float, form: str) -> None:
    """A distribution is refused, or all it gives is allowed."""
    nodes = {
        "uniform": {"uniform": [low, low + width]},
        "log_uniform": {"log_uniform": [low, low + width]},
        "normal": {"normal": [low, width]},
        "within": {"normal": [0, width], "within": [low, low + width]},
    }
    try:
        found = read_value(nodes[form], GAIN)
    except ValueError:
        return
    assert -60 <= float(found.at(share)) <= 60


STYLES = """
styles:
  soft:
    - peak: {frequency_hz: {log_uniform: [200, 2000]}, gain_db: {uniform: [-6, 6]}}
    - peak: {frequency_hz: {log_uniform: [200, 2000]}, gain_db: {uniform: [-6, 6]}}
    - reverb: {wet_db: {uniform: [-20, -10]}}
"""


def test_a_draw_follows_from_seed_take_style_and_number_alone(tmp_path: Path) -> None:
    found = chains(tmp_path, STYLES)
    first = draw(found, "soft")
    assert draw(found, "soft") == first
    others = [draw(found, "soft", number=1), draw(found, "soft", key="other"), draw(found, "soft", seed=1)]
    for other in others:
        assert all(
            step.values[name] != first[at].values[name]
            for at, step in enumerate(other)
            for name in ("frequency_hz", "gain_db", "wet_db", "seed")
            if name in step.values
        )
    assert first[0].values["frequency_hz"] != first[1].values["frequency_hz"]
    # Another style, a part in front and a parameter drawn that had been fixed: what was there keeps its draws.
    more = STYLES.replace("  soft:\n", "  loud:\n    - gain: {gain_db: 3}\n  soft:\n    - saturation: {drive_db: 6}\n")
    grown = draw(chains(tmp_path, more.replace("[-6, 6]}", "[-6, 6]}, q: {uniform: [1, 2]}")), "soft")
    assert [step.name for step in grown] == ["saturation", "peak", "peak", "reverb"]
    assert [dict(step.values) | {"q": 0} for step in grown[1:]] == [dict(step.values) | {"q": 0} for step in first]
    assert 1 <= float(grown[1].values["q"]) <= 2


def test_every_value_is_fixed_and_defaults_are_the_parts_own(tmp_path: Path) -> None:
    (step,) = draw(chains(tmp_path, "styles: {a: [{compressor: {threshold_db: -20, ratio: 2}}]}"), "a")
    assert step.values == {
        "threshold_db": -20.0,
        "ratio": 2.0,
        **{name: find_part("compressor").parameter(name).default for name in ("attack_ms", "release_ms", "makeup_db")},
    }


def test_draws_are_spread_over_takes(tmp_path: Path) -> None:
    found = chains(tmp_path, "styles: {a: [{gain: {gain_db: {normal: [3, 2]}}}, {gain: {gain_db: {uniform: [0, 1]}}}]}")
    values = np.array([[step.values["gain_db"] for step in draw(found, "a", key=f"take{n}")] for n in range(400)])
    assert stats.kstest(values[:, 0], stats.truncnorm(-3, 3, 3, 2).cdf).pvalue > 0.01
    assert abs(np.corrcoef(values.T)[0, 1]) < 0.15


def test_whole_presets_are_held_out_for_tests(tmp_path: Path, preset_table: Path) -> None:
    found = chains(tmp_path, "styles: {fitted: [{preset: {table: presets/decoded.csv}}]}")
    presets = read_presets(preset_table)
    trained = set(training_names(preset_table, list(presets)))
    for test in (False, True):
        drawn = [draw(found, "fitted", key=f"take{number}", test=test)[0] for number in range(120)]
        lines = {float(step.values["peak1_frequency_hz"]) for step in drawn}  # tells the rows apart
        pool = [name for name in presets if (name in trained) != test]
        assert lines == {presets[name].equaliser[0].frequency_hz for name in pool}
        assert len({step.values["seed"] for step in drawn}) == len(drawn)
    np.save(preset_table.with_name("train_index.npy"), np.arange(12))
    with pytest.raises(InputError, match=r"decoded\.csv: no row for test takes"):
        draw(chains(tmp_path, "styles: {fitted: [{preset: {table: presets/decoded.csv}}]}"), "fitted", test=True)


def test_all_columns_of_a_mix_come_from_one_row(tmp_path: Path, preset_table: Path) -> None:
    column = "{table: presets/decoded.csv, column: %s}"
    text = f"compressor: {{threshold_db: {column % 'comp_threshold_db'}, ratio: {column % 'comp_ratio'}}}"
    found = chains(tmp_path, f"styles: {{a: [{{{text}}}, {{gain: {{gain_db: {column % 'peak1_gain_db'}}}}}]}}")
    with preset_table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    trained = set(training_names(preset_table, [row["dry_file"] for row in rows]))
    told = {
        split: {
            tuple(float(row[name]) for name in ("comp_threshold_db", "comp_ratio", "peak1_gain_db"))
            for row in rows
            if (row["dry_file"] in trained) == (split == "train")
        }
        for split in ("train", "test")
    }
    for split in ("train", "test"):
        seen = set()
        for number in range(150):
            first, second = draw(found, "a", key=f"take{number}", test=split == "test")
            seen.add((first.values["threshold_db"], first.values["ratio"], second.values["gain_db"]))
        assert seen == told[split]


def test_a_table_without_an_index_serves_every_split(tmp_path: Path) -> None:
    (tmp_path / "levels.csv").write_text("name,level\nsoft,-6\nloud,3.5\n")
    found = chains(tmp_path, "styles: {a: [{gain: {gain_db: {table: levels.csv, column: level}}}]}")
    for test in (False, True):
        assert {draw(found, "a", key=f"{n}", test=test)[0].values["gain_db"] for n in range(40)} == {-6.0, 3.5}
    assert list(read_number_table(tmp_path / "levels.csv").rows[0]) == ["level"]


def test_files_are_found_beside_the_chains(tmp_path: Path, rooms: Path) -> None:
    part = "convolution: {impulse_response: %s, wet_db: -12}"
    for node in ("{files: rooms/*.wav}", "{choice: [rooms/room0.wav, rooms/room1.wav, rooms/room2.wav]}"):
        found = chains(tmp_path, f"styles: {{a: [{{{part % node}}}]}}")
        drawn = {draw(found, "a", key=f"{n}")[0].values["impulse_response"] for n in range(60)}
        assert drawn == {str(path.resolve()) for path in rooms.iterdir()}
        assert {path: told.split()[0] for path, told in found.files.items()} == {
            str(path.resolve()): path.name for path in rooms.iterdir()
        }


def test_the_example_files_can_be_drawn(tmp_path: Path, rooms: Path, preset_table: Path) -> None:
    shipped = sorted(CONFIGS.glob("*.yaml"))
    assert [path.name for path in shipped] == ["fitted.yaml", "vocals.yaml"]
    for path in shipped:
        found = read_chains(Path(shutil.copy(path, tmp_path)))
        for style in found.styles:
            for step in draw(found, style):
                assert find_part(step.name).checked(step.values) == step.values


@pytest.mark.slow
def test_the_released_presets_can_all_be_drawn(shared_data: Path) -> None:
    table = read_preset_table(shared_data / "presets" / "internal" / "decoded.csv")
    assert (len(table.trained), len(table.held_out)) == (365, 20)


MISTAKES = {
    "": "a file of chains has the section «styles»",
    "[]": "a file of chains has the section «styles»",
    "styles:": "«styles» has names with a list of parts each, not None",
    "styles: {}": "«styles» has names",
    "styles: {1: [{gain: {gain_db: 1}}]}": "«styles» has names",
    "style: {a: []}": "a file of chains has the section «styles»",
    "styles: {a: [{gain: {gain_db: 1}}]}\nstles: 3": "«stles» (did you mean styles?)",
    "styles: {a: []}": "style «a» is a list of 1 to 64 parts, not []",
    "styles: {a: {gain: {gain_db: 1}}}": "style «a» is a list of 1 to 64 parts",
    "styles: {a/b: [{gain: {gain_db: 1}}]}": "letters, digits, _ and -, at most 40, not 'a/b'",
    "styles: {a: [{gain: {gain_db: 1}}], A: [{gain: {gain_db: 1}}]}": "«A» differs from another in capitals alone",
    "styles: {a: [{gain: {gain_db: 1}}], a: []}": "line 1: not valid YAML: the key «a» is given twice",
    "styles: {a: [{gain: {gain_db: 1, gain_db: 2}}]}": "the key «gain_db» is given twice",
    "styles: {a: [gain]}": "style «a», part 1: a part is one name with its parameters, not 'gain'",
    "styles: {a: [{gain: {gain_db: 1}, peak: {}}]}": "part 1: a part is one name",
    "styles: {a: [{gain: [1]}]}": "part 1: «gain» has parameters by name, not [1]",
    "styles: {a: [{gain: {gain_db: 1}}, {gian: {}}]}": "part 2 (gian): no part is called «gian» (did you mean gain?)",
    "styles: {a: [{gain:}]}": "part 1 (gain): gain needs gain_db: -60 … 60 dB",
    "styles: {a: [{gain: {gain: 1}}]}": "gain has no parameter «gain» (did you mean gain_db?)",
    "styles: {a: [{gain: {1: 1}}]}": "gain has no parameter «1»",
    "styles: {a: [{gain: {gain_db: .nan}}]}": "gain_db lies within -60 … 60 dB, not nan",
    "styles: {a: [{gain: {gain_db: .inf}}]}": "not inf",
    "styles: {a: [{gain: {gain_db: 3 dB}}]}": "not '3 dB'",
    "styles: {a: [{gain: {gain_db: [3]}}]}": "not [3]",
    "styles: {a: [{gain: {gain_db: true}}]}": "not True",
    "styles: {a: [{gain: {gain_db: }}]}": "not None",
    "styles: {a: [{gain: {gain_db: {}}}]}": "gain_db is a value or one distribution, not 0 names",
    "styles: {a: [{gain: {gain_db: {unifrom: [1, 2]}}}]}": "«unifrom» (did you mean uniform?)",
    "styles: {a: [{gain: {gain_db: {uniform: [1, 2], normal: [1, 2]}}}]}": "one distribution, not 2 names",
    "styles: {a: [{gain: {gain_db: {uniform: [2, 1]}}}]}": "gain_db: uniform takes the lower number first, not [2, 1]",
    "styles: {a: [{gain: {gain_db: {uniform: [1]}}}]}": "uniform takes a list of two numbers, not [1]",
    "styles: {a: [{gain: {gain_db: {uniform: 3}}}]}": "uniform takes a list of two numbers, not 3",
    "styles: {a: [{gain: {gain_db: {uniform: [.nan, 3]}}}]}": "uniform takes a list of two numbers",
    "styles: {a: [{gain: {gain_db: {uniform: [0, 1" + 400 * "0" + "]}}}]}": "uniform takes a list of two numbers",
    "styles: {a: [{gain: {gain_db: {uniform: [50, 61]}}}]}": "gain_db lies within -60 … 60 dB, not 61.0",
    "styles: {a: [{gain: {gain_db: {log_uniform: [0, 1]}}}]}": "log_uniform takes numbers above 0",
    "styles: {a: [{gain: {gain_db: {normal: [50, 4]}}}]}": "gain_db lies within -60 … 60 dB, not 62.0",
    "styles: {a: [{gain: {gain_db: {normal: [0, 0]}}}]}": "normal takes the mean and a deviation above 0",
    "styles: {a: [{gain: {gain_db: {normal: [0, 1], within: [5, 6]}}}]}": "lies more than 3 deviations from the mean",
    "styles: {a: [{gain: {gain_db: {uniform: [0, 1], within: [0, 1]}}}]}": "«within» belongs to normal, not to uniform",
    "styles: {a: [{gain: {gain_db: {choice: []}}}]}": "choice takes a list of values, not []",
    "styles: {a: [{gain: {gain_db: {choice: [1, 99]}}}]}": "gain_db lies within -60 … 60 dB, not 99",
    "styles: {a: [{reverb: {wet_db: -9, seed: {uniform: [1, 9]}}}]}": "only choice can draw it, not uniform",
    "styles: {a: [{reverb: {wet_db: -9, seed: 1.5}}]}": "seed is a whole number from 0 to 4294967295, not 1.5",
    "styles: {a: [{preset: {}}]}": "table is the path of a decoded.csv of presets, not None",
    "styles: {a: [{preset: {tabel: x.csv}}]}": "there is no «tabel» (did you mean table?) here",
    "styles: {a: [{preset: {table: none.csv}}]}": "part 1: {folder}/none.csv: cannot be read as a table of presets",
    "styles: {a: [{gain: {gain_db: {table: none.csv, column: x}}}]}": "none.csv: cannot be read as a table",
    "styles: {a: [{gain: {gain_db: {table: t.csv}}}]}": "t.csv has no column of numbers «None» (allowed: level)",
    "styles: {a: [{gain: {gain_db: {table: t.csv, column: levle}}}]}": "«levle» (did you mean level?)",
    "styles: {a: [{gain: {gain_db: {table: t.csv, column: name}}}]}": "no column of numbers «name»",
    "styles: {a: [{gain: {gain_db: {table: t.csv, column: [level]}}}]}": "no column of numbers «['level']»",
    "styles: {a: [{gain: {gain_db: {table: t.csv, column: {level: 1}}}}]}": "no column of numbers «{'level': 1}»",
    "styles: {a: [{gate: {threshold_db: {table: t.csv, column: level}}}]}": "t.csv, line 3, column level: threshold_db",
    "styles: {a: [{convolution: {impulse_response: no.wav, wet_db: 0}}]}": "{folder}/no.wav: cannot be read",
    "styles: {a: [{convolution: {impulse_response: t.csv, wet_db: 0}}]}": "t.csv: not audio in any format",
    "styles: {a: [{convolution: {impulse_response: {files: 'no/*'}, wet_db: 0}}]}": "no file is like no/*",
    "styles: {a: [{convolution: {impulse_response: 3, wet_db: 0}}]}": "is the path of an audio file, not 3",
    "styles: {a: [{vst3: {path: no.vst3}}]}": "part 1: {folder}/no.vst3: there is no such plugin",
    "styles: {a: [{vst3: {path: " + 300 * "x" + "}}]}": "xxx: there is no such plugin",
    "styles: {a: [{vst3: {}}]}": "path is that of a plugin, not None",
    "styles: {a: [{vst3: {path: no.vst3, drive: 3}}]}": "there is no «drive» (allowed: parameters, path) here",
    "styles: {a: [{vst3: {path: t.csv, parameters: [1]}}]}": "parameters are given by name, not as [1]",
    "styles: &a {a: [*a]}": "not valid YAML",
    "styles: {a: [{gain: {gain_db: !!python/name:os.system ''}}]}": "not valid YAML",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_that_names_file_and_place(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text("name,level\na,-3\nb,7\n")
    with pytest.raises(InputError) as told:
        chains(tmp_path, text)
    message = str(told.value)
    assert message.startswith(str(tmp_path / "chains.yaml")) and "\n" not in message
    assert MISTAKES[text].replace("{folder}", str(tmp_path)) in message


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["gain", "gain_db", "a", "choice", "", "\0", 300 * "x", "level"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["gain", "gain_db", "uniform", "normal", "within", "choice", "table", "preset", "vst3"]),
            inner,
            max_size=2,
        )
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(value=VALUES)
def test_whatever_stands_there_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    """Never another exception, whether it stands for a section, a style, a part, a parameter or what is in one."""
    folder = tmp_path_factory.getbasetemp()
    (folder / "t.csv").write_text("name,level\na,-3\nb,7\n")
    for tree in (
        value,
        {"styles": value},
        {"styles": {"a": [value]}},
        {"styles": {"a": [{"gain": {"gain_db": value}}]}},
        {"styles": {"a": [{"gain": {"gain_db": {"table": "t.csv", "column": value}}}]}},
        {"styles": {"a": [{"gain": {"gain_db": {"table": value, "column": "level"}}}]}},
        {"styles": {"a": [{"convolution": {"impulse_response": value, "wet_db": -9}}]}},
        {"styles": {"a": [{"convolution": {"impulse_response": {"files": value}, "wet_db": -9}}]}},
        {"styles": {"a": [{"preset": {"table": value}}]}},
        {"styles": {"a": [{"vst3": {"path": value}}]}},
    ):
        path = folder / "fuzz.yaml"
        path.write_text(yaml.safe_dump(tree))
        try:
            found = read_chains(path)
        except InputError:
            continue
        for style in found.styles:
            for step in draw(found, style):
                assert find_part(step.name).checked(step.values) == step.values


def test_settings_are_read_back_bit_for_bit(tmp_path: Path) -> None:
    found = read_chains(CONFIGS / "vocals.yaml")
    for style in found.styles:
        steps = draw(found, style)
        (tmp_path / "mix.yaml").write_text(
            settings_text(style, steps, Rendered("take.wav", 1.25, -3.5), folder=tmp_path)
        )
        assert draw(read_chains(tmp_path / "mix.yaml"), style, number=3, key="another", seed=9) == steps


def test_the_parameters_of_a_plugin_are_drawn_and_read_back(tmp_path: Path) -> None:
    places = [Path(os.environ.get("VOCAL_RESTYLER_VST3", "/usr/lib/vst3")), Path.home() / ".vst3"]
    path = next((place / PLATE for place in places if (place / PLATE).exists()), None)
    if path is None:
        pytest.skip(f"needs {PLATE} (Debian: dragonfly-reverb-vst3) where plugins lie, or VOCAL_RESTYLER_VST3")
    text = "styles: {a: [{vst3: {path: %s, parameters: {algorithm: {choice: [Simple, Tank]}, %s}}}]}"
    found = chains(tmp_path, text % (path, "decay_s: {uniform: [1, 2]}"))
    steps = [draw(found, "a", key=f"{number}") for number in range(20)]
    assert {step.values["algorithm"] for (step,) in steps} == {"Simple", "Tank"}
    assert all(1 <= float(step.values["decay_s"]) <= 2 for (step,) in steps)
    (tmp_path / "mix.yaml").write_text(settings_text("a", steps[0], Rendered("take.wav", 0.0, 0.0), folder=tmp_path))
    assert draw(read_chains(tmp_path / "mix.yaml"), "a") == steps[0]
    for wrong, complaint in (
        ("decay: 2", "did you mean decay_s"),
        ("decay_s: {uniform: [5, 50]}", "within 0.1 … 10 s"),
    ):
        with pytest.raises(InputError, match=f"part 1 .vst3.: .*{complaint}"):
            chains(tmp_path, text % (path, wrong))


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ("", "the section «rendered» has raw, input_gain_db, output_gain_db"),
        ("rendered: {raw: a.wav}", "the section «rendered» has"),
        ("rendered: {raw: 3, input_gain_db: 1.0, output_gain_db: 1.0}", "the section «rendered» has"),
        ("rendered: {raw: a.wav, input_gain_db: .nan, output_gain_db: 1.0}", "rendered.input_gain_db is a number"),
        ("rendered: {raw: a.wav, input_gain_db: 1.0, output_gain_db: 1.0, sample_rate_hz: 1}", "8000 to 384000, not 1"),
        (
            "rendered: {raw: a.wav, input_gain_db: 1.0, output_gain_db: 1.0, rate_hz: 48000}",
            "the section «rendered» has",
        ),
        ("rendered: {raw: a.wav, input_gain_db: 1.0, output_gain_db: 1.0}", "every value fixed"),
    ],
)
def test_settings_that_can_not_be_rendered_again_are_refused(tmp_path: Path, section: str, complaint: str) -> None:
    (tmp_path / "mix.yaml").write_text(f"{section}\nstyles: {{a: [{{gain: {{gain_db: {{uniform: [0, 1]}}}}}}]}}\n")
    with pytest.raises(InputError, match=complaint):
        render_again(tmp_path / "mix.yaml")


def test_the_documentation_lists_every_part() -> None:
    text = (CONFIGS.parents[1] / "docs" / "chains.md").read_text(encoding="utf-8")
    assert [name for name in (*PARTS, "preset", "vst3") if f"| `{name}` |" not in text] == []
