"""docs/listening.md: its specs can be used, its tables of keys are whole, and what it says was measured holds."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import indent

import numpy as np
import pytest
import soundfile

from restyler.cli import main
from restyler.listen.anchors import ANCHORS
from restyler.listen.plan import read_plan
from restyler.listen.power import Question, power_table
from restyler.listen.spec import Block, EvaluateSection, ExcerptSection, PowerSection, Spec
from restyler.sections import Section

TEXT = (Path(__file__).resolve().parents[2] / "docs/listening.md").read_text(encoding="utf-8")
SPECS = re.findall(r"(?m)^    name: (?:.*\n)(?:    .*\n)+", TEXT)


@pytest.mark.parametrize("spec", SPECS, ids=["renders", "variations"])
def test_a_spec_of_the_document_makes_a_test(spec: str, tmp_path: Path) -> None:
    folders = ["takes", "mixes", "renders/ours", "renders/preset"]
    files = [f"{folder}/{song}.wav" for folder in folders for song in ("song1", "song2")]
    files += [f"out/{song}/mix_{number:02d}.wav" for song in ("song1", "song2") for number in range(8)]
    for seed, name in enumerate(files):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, 0.1 * np.random.default_rng(seed).standard_normal(24_000), 48_000)
    (tmp_path / "spec.yaml").write_text(spec, encoding="utf-8")
    assert main(["listen", "design", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "TEST")]) == 0
    first = [one.condition for one in read_plan(tmp_path / "TEST").trials[0].stimuli]
    assert len(first) == (10 if "variations" in spec else 4)


@pytest.mark.parametrize("section", [Spec, Block, ExcerptSection, PowerSection, EvaluateSection])
def test_every_key_is_explained(section: type[Section]) -> None:
    tables = "\n".join(line for line in TEXT.splitlines() if line.startswith("|")) + "`kind`" + "`trials`"
    assert [key for key in section.model_fields if f"`{key}`" not in tables] == []


def test_defaults_are_those_that_the_document_names() -> None:
    assert (ExcerptSection().duration_s, ExcerptSection().per_item, PowerSection().alpha) == (10, 1, 0.05)
    assert (Block(kind="rating").training, Block(kind="rating").repeats) == (1, 0)
    assert (Spec.model_fields["loudness_lufs"].default, Spec.model_fields["draw"].default) == (-23, 0)


def test_the_table_of_power_is_the_commands_own() -> None:
    asked = PowerSection()
    questions = [Question("rating", "wilcoxon", 6), Question("paired", "sign test", 1)]
    table = power_table(questions, 20, asked.effect_d, asked.share, asked.alpha)
    assert indent(table, "    ") in TEXT


def test_the_anchors_fall_as_far_as_the_document_says() -> None:
    frequency_hz = np.linspace(4000, 24_000, 4001)
    taps = ANCHORS["anchor35"].taps(48_000)
    response = np.exp(-2j * np.pi * np.outer(frequency_hz / 48_000, np.arange(len(taps)))) @ taps
    assert 20 * np.log10(np.abs(response).max()) == pytest.approx(-60, abs=1)
