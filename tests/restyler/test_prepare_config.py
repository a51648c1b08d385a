"""The settings of `restyler prepare`: typed, explained, and none without effect."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from audio.alignment import Alignment, Region
from audio.errors import InputError
from audio.inspection import Inspection
from audio.pair_quality import PairMeasures
from restyler.prepare.config import DEFAULTS, ActionsSection, LimitsSection, PrepareConfig, load_prepare_config
from restyler.prepare.matching import Pair
from restyler.prepare.verdicts import Fault, Verdict, file_faults, pair_faults

ROOT = Path(__file__).resolve().parents[2]
HEARD = Inspection(
    duration_s=10.0,
    sample_rate=48000,
    channels=2,
    loudness_lufs=-20.0,
    true_peak_db=-3.0,
    sample_peak_db=-3.1,
    dc_db=-70.0,
    dc_to_rms_db=-50.0,
    clipped_samples=0,
    clipped_tops=0,
    dropouts=0,
    dropout_times_s=(),
    side_db=-60.0,
    quiet_channel_db=-1.0,
    levels="",
    loud_db=-15.0,
    noise_floor_db=-80.0,
    active_s=9.0,
    bandwidth_hz=20000.0,
    third_octaves_db=(),
    audio_hash="",
    file_hash="",
)
ALIGNED = Alignment(
    regions=(Region(0.0, 10.0, 0.1),),
    rate=1.0,
    polarity=1,
    score=0.9,
    phase_agreement=0.9,
    coverage=1.0,
    residual_ms=0.01,
)
MEASURED = PairMeasures(
    change_db=2.0,
    bleed_db=-48.0,
    similarity=0.9,
    phase_agreement=0.9,
    phase_coherence=0.9,
    raw_reverberance_db=5.0,
    mix_reverberance_db=15.0,
)
# What is measured, the limit that lets it pass, and the code that is told by the limit as it is.
CASES: dict[str, tuple[dict[str, Any], float, str]] = {
    "quietest_lufs": ({"loudness_lufs": -65.0}, -70.0, "silent_raw"),
    "clipped_samples_per_s": ({"clipped_samples": 100}, 20.0, "clipped_raw"),
    "clipped_samples": ({"clipped_samples": 100}, 200, "clipped_raw"),
    "dropouts": ({"dropouts": 1, "dropout_times_s": (2.0,)}, 1, "dropouts_raw"),
    "dc_to_rms_db": ({"dc_to_rms_db": -10.0}, -5.0, "dc_raw"),
    "bandwidth_hz": ({"bandwidth_hz": 11000.0}, 10000.0, "narrow_raw"),
    "quiet_channel_db": ({"quiet_channel_db": -50.0}, -60.0, "one_channel_raw"),
    "raw_side_db": ({"side_db": -20.0}, -10.0, "stereo_raw"),
    "score": ({"score": 0.2}, 0.1, "wrong_pair"),
    "similarity": ({"similarity": 0.3}, 0.2, "wrong_pair"),
    "clock_ppm": ({"rate": 48 / 44.1}, 200_000.0, "clock"),
    "drift_ppm": ({"rate": 1.0001}, 200.0, "drift"),
    "settled_phase": ({"polarity": -1}, 0.95, "inverted"),
    "coverage": ({"coverage": 0.4}, 0.3, "partial"),
    "change_db": ({"change_db": 0.2}, 0.1, "unprocessed"),
    "phase_agreement": ({"measured_phase_agreement": 0.1}, 0.05, "rephased"),
    "bleed_db": ({"bleed_db": -20.0}, -10.0, "bleed"),
    "raw_reverberance_db": ({"raw_reverberance_db": 25.0, "mix_reverberance_db": 26.0}, 30.0, "wet_raw"),
    "swapped_db": ({"raw_reverberance_db": 20.0, "mix_reverberance_db": 15.0}, 6.0, "swapped"),
}


def found(config: PrepareConfig, **measures: Any) -> set[str]:
    """The codes of a healthy pair that is changed so."""

    def changed(whole: Any, prefix: str = "") -> Any:
        names = {field.name for field in dataclasses.fields(whole)}
        mine = {name.removeprefix(prefix): value for name, value in measures.items() if name.startswith(prefix)}
        return dataclasses.replace(whole, **{name: value for name, value in mine.items() if name in names})

    measured = changed(changed(MEASURED), "measured_")
    faults = [*file_faults("raw", changed(HEARD), config), *pair_faults(changed(ALIGNED), measured, config)]
    return {fault.code for fault in faults}


def test_a_healthy_pair_has_no_faults() -> None:
    assert found(load_prepare_config(None, ())) == set()


def test_every_limit_has_a_case() -> None:
    assert set(CASES) == set(LimitsSection.model_fields)


@pytest.mark.parametrize("limit", CASES)
def test_a_limit_decides_what_is_told(limit: str) -> None:
    measures, lenient, code = CASES[limit]
    assert code in found(load_prepare_config(None, ()), **measures)
    assert code not in found(load_prepare_config(None, [f"limits.{limit}={lenient}"]), **measures)


@pytest.mark.parametrize(("side", "code"), [("raw", "stereo_raw"), ("mix", None)])
def test_only_a_raw_take_has_to_be_one_voice(side: Any, code: str | None) -> None:
    wide = dataclasses.replace(HEARD, side_db=-10.0)
    codes = [fault.code for fault in file_faults(side, wide, load_prepare_config(None, ()))]
    assert codes == ([code] if code else [])


def test_every_action_is_that_of_a_code_in_the_documentation() -> None:
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    missing = [code for code in ActionsSection.model_fields if f"`{code}`" not in text]
    assert missing == []


def test_the_file_of_defaults_states_and_explains_every_key() -> None:
    def keys(tree: dict[str, Any], prefix: str = "") -> set[str]:
        inner = {k: keys(v, f"{prefix}{k}.") if isinstance(v, dict) else {prefix + k} for k, v in tree.items()}
        return set().union(*inner.values())

    text = DEFAULTS.read_text(encoding="utf-8")
    assert keys(load_prepare_config(None, ()).model_dump(mode="json")) == keys(yaml.safe_load(text))
    before_actions = text.split("\nactions:")[0].splitlines()
    lines = [line for line in before_actions if ": " in line and not line.startswith("#")]
    assert [line for line in lines if " # " not in line] == []


def test_a_file_states_what_differs_and_an_override_wins(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("segments: {longest_s: 9.0, gap_s: 2.0}\n")
    config = load_prepare_config(tmp_path / "mine.yaml", ["segments.gap_s=3.0"])
    assert (config.segments.longest_s, config.segments.gap_s, config.segments.lead_s) == (9.0, 3.0, 0.25)
    assert load_prepare_config(ROOT / "configs/prepare_encodec.yaml", ()).codec.kind == "encodec_48khz"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("splits.tset=0.1", "did you mean «test»"),
        ("splits={by: [song], validation: 0.6, test: 0.5}", "leave nothing to train on"),
        ("segments.longest_s=0.5", "shortest_s"),
        ("actions.bleed=warn", "reject"),
        ("actions.bleed=warn", "actions.bleed"),
        ("matching.raw_words=[Raw]", "small letters"),
        ("matching.raw_words=[mix]", "words for both sides: mix"),
        ("matching.mix_words=[final mix]", "matching.mix_words"),
        ("limits.score=.nan", "limits.score"),
        ("splits.by=[album]", "splits.by"),
        ("levels.peak_db=1.0", "levels.peak_db"),
        ("shards.seconds=0", "shards.seconds"),
    ],
)
def test_settings_that_can_not_be_right_are_refused(override: str, told: str) -> None:
    with pytest.raises(InputError) as refusal:
        load_prepare_config(None, [override])
    assert told in str(refusal.value)


def test_an_action_decides_what_becomes_of_the_pair() -> None:
    pair = Pair("k", "t", Path("r"), Path("m"), "s")
    for actions, status in (
        ((), "ok"),
        (("off",), "ok"),
        (("flag", "off"), "flagged"),
        (("flag", "reject"), "rejected"),
    ):
        verdict = Verdict(pair, tuple(Fault("bleed", action, "") for action in actions))
        assert verdict.status == status
        assert "off" not in {fault.action for fault in verdict.faults}
