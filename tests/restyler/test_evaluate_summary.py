"""From records to figures: closed forms on records made up for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from audio.waveform import Waveform
from restyler.evaluate import summary
from restyler.evaluate.evaluation_set import Entry
from restyler.evaluate.records import Draw, Record, digest, read_record, write_record
from restyler.evaluate.report import report
from restyler.evaluate.roles import absent, parts_of
from restyler.evaluate.row import Row
from restyler.evaluate.scoring import earlier
from restyler.evaluate.tables import Table, figure, markdown, tables, text


def record(key: str, scores: Sequence[float], vectors: Sequence[Sequence[float]] | None = None, **facts: str) -> Record:
    """One pair with a draw for each score; what is 3 away in MSS_ms is 1 away in MSS_lr."""
    effects = vectors or [[0.0, 0.0]] * len(scores)
    draws = tuple(
        Draw({"mss_lr": score, "mss_ms": 3 * score, "mldr": 1.0}, {"f0_rmse_cents": None}, tuple(vector))
        for score, vector in zip(scores, effects, strict=True)
    )
    number = float(sum(map(ord, key)))
    return Record("row", key, facts.get("song", key), draws, (number, number**2 % 7), None)


def songs(records: Sequence[Record]) -> dict[str, str]:
    return {one.key: one.song for one in records}


def test_expected_is_the_mean_over_draws_and_best_the_nearest_draw() -> None:
    records = [record("a", [3, 1, 2]), record("b", [5, 7, 6])]
    expected, best = summary.lines_of("row", records)
    assert (expected.name, best.name) == ("row, expected", "row, best of 3")
    assert expected.values["mss_lr"] == pytest.approx({"a": 2, "b": 6}) and best.values["mss_lr"] == {"a": 1, "b": 5}
    assert best.values["mss_ms"] == {"a": 3, "b": 15}
    assert "f0_rmse_cents" not in expected.values
    [alone] = summary.lines_of("row", [record("a", [3])])
    assert alone.name == "row"


def test_pairs_of_one_song_are_drawn_together() -> None:
    """Two songs of any number of pairs: the interval ends at the means of either song."""
    records = [record("a1", [1], song="a"), record("a2", [1], song="a"), record("b", [4])]
    [line] = summary.lines_of("row", records)
    found = summary.estimates(line, songs(records), seed=0)["mss_lr"]
    assert found == {"mean": [2, 1, 4], "median": [1, 1, 4], "pairs": 3}


def test_one_song_has_no_interval() -> None:
    records = [record("a", [1.5])]
    [line] = summary.lines_of("row", records)
    assert summary.estimates(line, songs(records), seed=0)["mss_lr"]["mean"] == [1.5, None, None]
    assert summary.distribution(records) is None


def test_a_difference_is_paired() -> None:
    """Songs differ far more than the rows do: the difference is known exactly all the same."""
    [line], [base] = (
        summary.lines_of("row", [record(key, [score + shift]) for key, score in (("a", 1), ("b", 50), ("c", 900))])
        for shift in (0, 0.25)
    )
    found = summary.differences(line, base, {"a": "a", "b": "b", "c": "c"}, seed=0)
    assert found["mss_lr"] == [-0.25] * 3 and found["mss_ms"] == [-0.75] * 3


def test_like_is_compared_with_like() -> None:
    """Expected draws with expected ones, the best of two with the best of two, and all of them with a single draw."""
    scores = {"raw take": ([5], [7]), "random preset": ([3, 5], [4, 6]), "ours": ([1, 4], [2, 6])}
    records = {name: [record(key, draws) for key, draws in zip("ab", two, strict=True)] for name, two in scores.items()}
    rows = [Row(name, "what", lambda song: ()) for name in scores]
    [part] = parts_of(rows, records)
    entries = [Entry(key, key, Path(), Path(), style=None, unprocessed=False) for key in "ab"]
    [group] = report(entries, [part], {}, seed=0)["groups"]
    less = {
        line["name"]: {base: found["mss_lr"][0] for base, found in line["differences"].items()}
        for line in group["all"]["lines"]
    }
    assert less["ours, best of 2"] == {"raw take": 1.5 - 6, "random preset": 1.5 - 3.5}
    assert less["ours, expected"] == {"raw take": 3.25 - 6, "random preset": 3.25 - 4.5}
    assert less["raw take"] == {"random preset": 6 - 4.5}


def test_the_best_of_two_is_never_laid_beside_a_single_draw_of_several() -> None:
    """But beside the expected best of two, in every quantity; and beside nothing where the other has fewer."""
    scores = {"raw take": [9], "random preset": [1, 2, 6], "ours": [1, 2], "theirs": [1, 2, 3, 4]}
    records = {name: [record(key, draws) for key in "ab"] for name, draws in scores.items()}
    [part] = parts_of([Row(name, "what", lambda song: ()) for name in scores], records)
    entries = [Entry(key, key, Path(), Path(), style=None, unprocessed=False) for key in "ab"]
    [group] = report(entries, [part], {}, seed=0)["groups"]
    less = {line["name"]: line["differences"] for line in group["all"]["lines"]}
    best_of_two = (1 + 1 + 2) / 3
    assert less["ours, best of 2"]["random preset"]["mss_lr"][0] == pytest.approx(1 - best_of_two, abs=1e-6)
    assert less["ours, best of 2"]["random preset"]["mss_ms"][0] == pytest.approx(3 - 3 * best_of_two, abs=1e-6)
    assert set(less["theirs, best of 4"]) == {"raw take"}
    assert less["theirs, expected"]["random preset"]["mss_lr"][0] == pytest.approx(2.5 - 3)


def test_what_is_missing_or_scored_on_fewer_pairs_is_said() -> None:
    half = (6.0, 12.0)
    rows = [Row("raw take", "", lambda song: ()), Row("told", "", lambda song: ())]
    rows += [Row("raw take, second half", "", lambda song: (), half)]
    records = {"raw take": [record(key, [2]) for key in "abc"], "told": [record("a", [1]), record("b", [])]}
    records["raw take, second half"] = [record("a", [1]), record("b", [2]), record("c", [])]
    parts = parts_of(rows, records)
    assert {"mean preset", "mix through the codec", "Matchering, second half"} <= set(absent(parts))
    assert "raw take" not in absent(parts)
    entries = [Entry(key, key, Path(), Path(), style=None, unprocessed=False) for key in "abc"]
    content = report(entries, parts, {"set": "x", "align": False}, absent=absent(parts), seed=0)
    notes = {table.title: table.note for table in tables(content)}
    assert "3 pairs of 3 songs" in notes["Fidelity to the mix"] and "told (1)" in notes["Fidelity to the mix"]
    assert "2 pairs of 2 songs" in notes["Fidelity to the mix, 6 to 12 s"]


def test_a_pair_without_draws_counts_for_nothing_in_its_row() -> None:
    """And rows that are scored on another part have their own floor, or none."""
    half = (6.0, 12.0)
    rows = [Row("raw take", "", lambda song: ()), Row("raw take, second half", "", lambda song: (), half)]
    rows.append(Row("empty, second half", "", lambda song: (), half))
    records = {"raw take": [record("a", [1]), record("b", [2])]}
    records["raw take, second half"] = [record("a", []), record("b", [2])]
    records["empty, second half"] = [record("a", []), record("b", [])]
    whole, part = parts_of(rows, records)
    assert (whole.scored_s, whole.floor, whole.calibration) == (None, "raw take", None)
    assert (part.scored_s, part.floor, list(part.records)) == (half, "raw take, second half", ["raw take, second half"])
    assert [one.key for one in part.records["raw take, second half"]] == ["b"]


def test_best_of_n_is_the_mean_of_the_pairs_curves() -> None:
    curve = summary.best_of_n_curve([record("a", [1, 2, 3]), record("b", [4, 4, 10])], seed=0)
    assert [point[0] for point in curve] == pytest.approx([(2 + 6) / 2, (4 / 3 + 4) / 2, (1 + 4) / 2], abs=1e-6)


def test_diversity_is_told_as_a_multiple_of_the_calibration() -> None:
    """Vectors three times as far apart as those of the calibration, in every song."""
    near = [[0.0, 0.0], [1.0, 2.0], [4.0, 1.0]]
    far = [[3 * x for x in vector] for vector in near]
    keys = ("a", "b", "cd", "e")
    ours = [record(key, [1, 1, 1], far) for key in keys]
    found = summary.diversity(ours, [record(key, [1, 1, 1], near) for key in keys], seed=0)
    assert found["ratio"] == pytest.approx([3, 3, 3], abs=1e-5)
    distances = [math.dist(near[i], near[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found["pairwise_db"][0] == pytest.approx(3 * np.mean(distances) / math.sqrt(2), abs=1e-5)
    once = [record("a", [1, 1, 1], [near[0]] * 3), *ours[1:]]  # no spread in one song is not left out
    assert summary.diversity(once, [record(key, [1, 1, 1], near) for key in keys], seed=0)["ratio"] == [0, None, None]
    same = summary.diversity([record(key, [1, 1]) for key in keys], ours, seed=0)
    assert same["ratio"] == [0, None, None] and same["conditional_vendi"] == pytest.approx([1, 1, 1], abs=1e-5)


def test_mixes_are_at_no_distance_from_themselves_and_shifted_ones_are() -> None:
    """FAD of a shift is its square in units of the mixes' spread."""
    records = [record(key, [1]) for key in "abcdef"]
    same = [record(one.key, [1], [one.mix_effects]) for one in records]
    spread = np.std([one.mix_effects for one in records], axis=0)
    moved = [record(one.key, [1], [tuple(np.array(one.mix_effects) + 2 * spread)]) for one in records]
    assert summary.distribution(same) == {name: pytest.approx([0, 0, 0], abs=1e-6) for name in ("kad", "fad")}
    assert summary.distribution(moved)["fad"][0] == pytest.approx(2 * 2**2, abs=1e-5)
    assert summary.distribution(moved)["kad"][0] > summary.distribution(same)["kad"][0]


def test_the_jackknife_knows_the_error_of_a_mean() -> None:
    """Of the mean of n values the jackknife's standard error is the usual one."""
    values = np.random.default_rng(0).normal(size=9)
    interval = summary.jackknife(lambda kept: float(values[kept].mean()), [f"song {n}" for n in range(9)])
    error = values.std(ddof=1) / math.sqrt(9)
    assert interval == pytest.approx([values.mean() + side * 1.96 * error for side in (0, -1, 1)], abs=1e-5)


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    one = record("a", [1, 2])
    write_record(tmp_path / "one.json", one)
    assert read_record(tmp_path / "one.json") == one
    assert read_record(tmp_path / "none.json") is None
    (tmp_path / "one.json").write_text("5")
    assert read_record(tmp_path / "one.json") is None
    assert digest("a", 1) == digest("a", 1) != digest("a", 2)


@pytest.mark.parametrize("shift", [0.0, 7.0, -3.0, 2.4, -10.75])
def test_earlier_is_a_delay_undone(shift: float) -> None:
    """A tone moved ahead by samples and parts of them is the tone with another phase."""
    rate, time = 8_000, np.arange(800) / 8_000
    tone, moved = (np.sin(2 * np.pi * 440 * (time + ahead / rate)) for ahead in (0.0, shift))
    found = earlier(Waveform(torch.from_numpy(np.stack([tone, -tone])).float(), rate), shift / rate).samples.numpy()
    inside = slice(100, -100)
    assert np.abs(found[:, inside] - np.stack([moved, -moved])[:, inside]).max() < 1e-4


def test_a_table_stays_a_table() -> None:
    told = Table("Title", "Note.", ("", "a | b"), (("one\ntwo", ([1.0, 0.5, 12.345],)), ("none", ([None] * 3,))))
    rows = [line for line in markdown(told).splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1 and len(rows) == 4
    assert rows[2].split("|")[1:3] == [" one two ", " 1.000 [0.500, 12.35] "]
    assert text([2.0, None, None]) == "2.000" and figure(-123.456) == "-123.5"
