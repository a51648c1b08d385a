"""`restyler listen analyse` and `import`: from answers to a report, and what is refused."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import html
import io
import itertools
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from audio.errors import InputError
from restyler.listen import storage
from restyler.listen.analyse_command import main as analyse
from restyler.listen.analysis import analyse as analysis
from restyler.listen.analysis_report import as_csv, page
from restyler.listen.answer_files import checked, read_answers, write_answers
from restyler.listen.blocks import Settings
from restyler.listen.import_command import main as import_results
from restyler.listen.plan import ListeningTest, Power, Stimulus, Trial, write_plan
from restyler.listen.simulate import Truth, simulate
from restyler.listen.text_tables import Table

pytest.importorskip("matplotlib")
ROLES = {"reference", "anchor35", "anchor70", "raw", "mix"}
NASTY = "$x_1^$ <script>alert(1)</script> & \\frac"
MEANS = {"reference": 97.0, "anchor35": 20.0, "anchor70": 45.0, NASTY: 65.0, "theirs": 55.0}
ANALYSE = "import sys; from restyler.listen.analyse_command import main; sys.exit(main())"
KINDS = ("mushra", "rating", "ab", "abx", "acr", "ccr")
EXCHANGED = ("mushra", "rating", "abx", "acr")  # with webMUSHRA


def stimulus(condition):
    role = condition if condition in ROLES else "system"
    file = f"{condition.encode().hex()[:12]}.wav"
    return Stimulus(condition=condition, role=role, file=file, source="s", gain_db=0.0, loudness_lufs=-23.0)


def trials(kind, items=4):
    names = {"mushra": [*MEANS], "rating": [NASTY, "raw", "theirs"], "acr": [NASTY]}.get(kind, [NASTY, "theirs"])
    again = [(f"{kind}-0-again", 0, f"{kind}-0", False), (f"training-{kind}", 0, None, True)]
    return [
        Trial(
            id=name, kind=kind, item=f"song {item}", repeat_of=of, training=training, question=f"{kind}?", start_s=0.0,
            reference=stimulus("reference") if kind == "mushra" else None, stimuli=tuple(map(stimulus, names)),
        )
        for name, item, of, training in [*((f"{kind}-{item}", item, None, False) for item in range(items)), *again]
    ]  # fmt: skip


def made(kinds):
    return ListeningTest(
        format=1, name="Vocals <2>", seed=0, consent="c", instructions="i", finish="f", headphone_check=False,
        sample_rate_hz=48_000, duration_s=9.0, listeners=20, owner_token_sha256="0", listener_tokens_sha256=(),
        power=(Power(test="wilcoxon", effect=0.7, alpha=0.01, power=0.61, listeners=20),),
        trials=tuple(trial for kind in kinds for trial in trials(kind)),
    )  # fmt: skip


def answered(plan):
    truth = Truth(
        means=MEANS | {"raw": 30.0}, noise_sd=2, log_strengths={NASTY: 0.5, "theirs": 0.0}, share_correct=0.8,
        careless=frozenset({4}),
    )  # fmt: skip
    found = simulate(plan, 9, truth, np.random.default_rng(1))
    found[0] = dataclasses.replace(found[0], comment='<img src=x onerror="alert(1)">', time_s=12.5)
    return found


def written(folder, plan, answers):
    folder.mkdir()
    write_plan(folder, plan)
    write_answers(folder / "answers.json", answers)
    return folder


@pytest.fixture
def plan():
    return made(KINDS)


@pytest.fixture
def answers(plan):
    return answered(plan)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A test of all kinds, analysed: its folder, and what was printed."""
    plan = made(KINDS)
    folder = written(tmp_path_factory.mktemp("full") / "TEST", plan, answered(plan))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert run(folder, "--webmushra-csv", folder / "results") == 0
    return folder, printed.getvalue()


@pytest.fixture
def small(tmp_path):
    """A test of ratings alone: fewer figures."""
    plan = made(["rating"])
    return written(tmp_path / "TEST", plan, answered(plan))


def run(folder, *more):
    return analyse([str(folder), "--answers", str(folder / "answers.json"), *map(str, more)])


def test_a_report_with_everything(full):
    folder, printed = full
    assert "9 listeners, 8 kept" in printed and "left out: listener 5: hidden reference" in printed
    report = json.loads((folder / "report" / "report.json").read_text())
    assert [block["kind"] for block in report["blocks"]] == list(KINDS)
    assert [one["listener"] for one in report["screening"] if not one["kept"]] == ["listener 5"]
    for block in report["blocks"]:
        assert block["listeners"] == 8 and (block.get("retests") or block.get("same_choices"))
    rows = list(csv.DictReader((folder / "report" / "table-01-mushra.csv").open()))
    assert [row["condition"] for row in rows] == ["reference", NASTY, "theirs", "anchor70", "anchor35"]
    assert float(rows[1]["mean"]) == pytest.approx(65, abs=3)
    latex = (folder / "report" / "table-01-mushra.tex").read_text()
    for file in (folder / "report").glob("*.tex"):
        assert file.read_text().isascii(), file  # LaTeX knows no other signs by itself
    assert r"\$x\_1\textasciicircum{}\$ $<$script$>$" in latex and r"\textbackslash{}frac" in latex


def test_figures_are_vectors_with_their_text_as_text(full):
    figures = full[0] / "report" / "figures"
    names = {file.stem for file in figures.iterdir()}
    assert {"01-mushra-conditions", "01-mushra-items", "03-ab-strengths", "04-abx-right", "06-ccr-differences"} <= names
    for name in names:
        ElementTree.parse(figures / f"{name}.svg")
        pdf = (figures / f"{name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF") and b"/FontFile2" in pdf  # the font is in the file
    texts = "".join(ElementTree.parse(figures / "01-mushra-conditions.svg").getroot().itertext())
    assert NASTY in texts and "theirs" in texts


def test_the_page_holds_no_script_and_asks_for_nothing(full):
    page = (full[0] / "report" / "report.html").read_text()
    assert "<script" not in page and "<img src=x" not in page
    assert "<td>0.01</td><td>61%</td>" in page  # the power that was planned
    assert html.escape(NASTY) in page and html.escape('<img src=x onerror="alert(1)">') in page
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page) and "@import" not in page
    assert "img-src data:" in page


def test_the_same_answers_give_the_same_bytes(small, tmp_path):
    run(small, "--out", tmp_path / "one")
    run(small, "--out", tmp_path / "two")
    files = sorted(file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 10  # report.html, report.json, table.csv, table.tex, three figures in two forms
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_options_reach_the_report(small, tmp_path):
    run(small, "--alpha", 0.01, "--seed", 7, "--retest-limit", 15, "--out", tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["alpha"], report["seed"], report["blocks"][0]["power"]["alpha"]) == (0.01, 7, 0.01 / 3)
    (out,) = (one for one in report["screening"] if not one["kept"])
    assert out["listener"] == "listener 5" and "points apart on average, above 15" in out["reasons"][0]
    assert "99% interval" in (tmp_path / "out" / "report.html").read_text()


def test_levels_between_whole_percents_are_told_and_the_smallest_alpha_works(small, tmp_path, capsys):
    assert run(small, "--alpha", 0.005, "--out", tmp_path / "out") == 0
    assert "99.5% interval" in (tmp_path / "out" / "report.html").read_text()
    assert run(small, "--alpha", 0.001, "--out", tmp_path / "no") == 2
    assert "--alpha" in capsys.readouterr().err


def test_nothing_of_an_earlier_report_is_left_but_other_files_are(small, tmp_path):
    names = ("figures/02-ab-strengths.svg", "table-02-ab.tex", "table-02-notes.tex", "figures/mine.svg")
    (tmp_path / "figures").mkdir()
    for name in names:
        (tmp_path / name).write_text("old")
    assert run(small, "--out", tmp_path) == 0
    assert [name for name in names if (tmp_path / name).exists()] == ["table-02-notes.tex", "figures/mine.svg"]
    assert (tmp_path / "figures/01-rating-conditions.svg").exists()


def test_a_table_for_programs_has_numbers_that_they_read():
    table = Table("t", "", ("pair", "mean", "interval"), (("a − b", "−0.30", "[−1.20, −0.40]"),))
    ((pair, mean, interval),) = list(csv.reader(io.StringIO(as_csv(table))))[1:]
    assert (pair, float(mean), json.loads(interval)) == ("a − b", -0.3, [-1.2, -0.4])


def test_webmushra_results_go_out_and_come_back(full, answers, tmp_path):
    folder, printed = full
    assert "webMUSHRA has no results of ab" in printed and "webMUSHRA has no results of ccr" in printed
    files = sorted((folder / "results").iterdir())
    assert [file.name for file in files] == ["lms.csv", "lss.csv", "mushra.csv", "paired_comparison.csv"]
    assert (
        files[2]
        .read_text()
        .startswith(
            "session_test_id,listener,session_uuid,trial_id,rating_stimulus,rating_score,rating_time,rating_comment\n"
        )
    )
    out = tmp_path / "back.json"
    assert import_results(["webmushra", *map(str, files), "--test", str(folder), "--out", str(out)]) == 0
    assert set(read_answers(out)) == {one for one in answers if one.kind in EXCHANGED}


def test_webmushra_files_that_cannot_be_read_are_named(tmp_path, plan, capsys):
    small = written(tmp_path / "TEST", plan, [])

    def refused(text):
        file = tmp_path / "lss.csv"
        file.write_text(text)
        out = tmp_path / "out.json"
        assert import_results(["webmushra", str(file), "--test", str(small), "--out", str(out)]) == 2
        assert not out.exists()
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and "lss.csv" in error
        return error

    head = "session_test_id,listener,trial_id,stimuli_rating,stimuli,rating_time\n"
    row = f'Vocals <2>,ann,acr-0," 4 ","{NASTY}",900\n'
    assert "can't be told apart" in refused(head.replace("listener,", "age,") + row)
    assert "row 3 has 7 values under 6 columns" in refused(head + row + "Vocals <2>,bob,33,acr-0, 4 ,x,900\n")
    assert "names no listener" in refused(head + row.replace("ann", " "))
    assert "from 1 to 5" in refused(head + row.replace(" 4 ", " 6 "))
    assert "runs the test" in refused(head + row.replace("Vocals", "Drums"))
    assert "is no result file" in refused("a,b\n1,2\n")
    assert "is no CSV" in refused('session_test_id,"a\n')
    (tmp_path / "lss.csv").write_text(head + row)
    out = tmp_path / "out.json"
    import_results(["webmushra", str(tmp_path / "lss.csv"), "--test", str(small), "--out", str(out)])
    (one,) = read_answers(out)
    assert (one.listener, one.trial, one.score, one.time_s, one.item) == ("ann", "acr-0", 4.0, 0.9, "song 0")


def test_bs1116_grades_become_points(plan, tmp_path):
    pair = Trial(
        id="pair", kind="mushra", item="song", question="q", reference=stimulus("reference"), start_s=0.0,
        stimuli=(stimulus("reference"), stimulus("theirs")),
    )  # fmt: skip
    folder = tmp_path / "small"
    folder.mkdir()
    write_plan(folder, plan.model_copy(update={"trials": (pair,)}))
    (tmp_path / "bs1116.csv").write_text(
        "session_test_id,listener,trial_id,rating_reference,rating_non_reference,rating_reference_score,"
        "rating_non_reference_score,rating_time,choice_comment\nVocals <2>,ann,pair,reference,theirs,5,3.4,100,\n"
    )
    out = tmp_path / "out.json"
    import_results(["webmushra", str(tmp_path / "bs1116.csv"), "--test", str(folder), "--out", str(out)])
    assert {one.condition: one.score for one in read_answers(out)} == pytest.approx({"reference": 100, "theirs": 60})


def test_beaqle_results(plan, tmp_path, capsys):
    small = written(tmp_path / "TEST", plan, [])
    page = plan.trials[0]
    labels = {"Reference": 95, **{name: 40 + number for number, name in enumerate([*MEANS][1:])}}
    other = next(one for one in page.stimuli if one.condition == "theirs")
    by_file = {
        "TestID": "mushra-1",
        "Runtime": 8000,
        "rating": labels | {"4": 77},
        "filename": {"4": f"audio/{other.file}"},
    }
    del by_file["rating"]["theirs"]
    document = [
        {"TestID": "mushra-0", "Runtime": 12_000, "rating": labels},
        by_file,
        {"TestID": "mushra-2"},  # not shown
        {"UserName": "Ann", "UserEmail": "ann@example.org", "UserComment": ""},
    ]
    file, out = tmp_path / "ann_2.txt", tmp_path / "out.json"

    def read(content):
        file.write_text(json.dumps(content))
        return import_results(["beaqle", str(file), "--test", str(small), "--out", str(out)])

    assert read(document) == 0
    found = {(one.trial, one.condition): one for one in read_answers(out)}
    assert len(found) == 10 and "example.org" not in out.read_text()
    assert found["mushra-0", "reference"].score == 95 and found["mushra-0", "reference"].role == "reference"
    assert found["mushra-1", "theirs"].score == 77 and found["mushra-1", "theirs"].listener == "ann_2"
    assert found["mushra-0", "theirs"].time_s == 12
    for bad, told in (
        ([True, False], "which page"),
        ([{"TestID": "x", "rating": labels}], "no such page"),
        ([{"TestID": "mushra-0", "rating": {"Reference": 9}}], "no rating of"),
        ([{"TestID": "mushra-0", "rating": labels | {"theirs": "9"}}], "no score"),
        ([{"TestID": "mushra-0", "rating": labels | {"theirs": 101}}], "from 0 to 100"),
        ({"rating": 1}, "a list"),
    ):
        assert read(bad) == 2
        assert told in capsys.readouterr().err


def test_answers_that_the_test_cannot_have_had(plan, answers):
    one = answers[0]
    abx = next(each for each in answers if each.kind == "abx")
    for bad, told in (
        (dataclasses.replace(one, trial="x"), "no such page"),
        (dataclasses.replace(one, item="x"), "not so the answer"),
        (dataclasses.replace(one, condition="x"), "compares"),
        (dataclasses.replace(one, role="raw"), "not raw"),
        (dataclasses.replace(one, score=100.5), "from 0 to 100"),
        (dataclasses.replace(one, score=None), "from 0 to 100"),
        (dataclasses.replace(abx, choice=NASTY), "the choice is one of"),
    ):
        with pytest.raises(InputError, match=told):
            checked(plan, [bad])
    with pytest.raises(InputError, match="twice"):
        checked(plan, [one, one])
    with pytest.raises(InputError, match="no answers yet"):
        checked(plan, [])


def test_damaged_answer_files_are_refused(small, tmp_path, capsys):
    for text in ("{", '{"format": "x", "answers": []}', '{"format": "listening-test-answers-1", "answers": [{}]}'):
        (small / "answers.json").write_text(text)
        assert run(small) == 2
        assert "answers.json" in capsys.readouterr().err
    assert not (small / "report").exists()
    assert analyse([str(small)]) == 2
    assert "answers.sqlite3" in capsys.readouterr().err


def test_answers_of_the_server_are_read_while_it_may_run(tmp_path, small, plan):
    """Held by an open connection, as a server holds it; and by a real process."""
    plan = made(["rating"])
    answers = answered(plan)
    connection = storage.connect(small, plan)
    pages = itertools.groupby(answers, key=lambda one: (one.listener, one.trial))
    for number, (_, rows) in enumerate(pages):
        storage.note_submitted(connection, 0, number, trial="t", training=False, rows=list(rows), at_s=0.0)
    process = subprocess.run(
        [sys.executable, "-c", ANALYSE, small, "--out", tmp_path / "live"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    connection.close()
    assert (process.returncode, process.stderr) == (0, ""), process.stderr
    report = json.loads((tmp_path / "live" / "report.json").read_text())
    assert report == analysis(plan, answers, Settings(seed=0, alpha=0.05)).content


def test_any_answers_get_a_report():
    """Few listeners, gaps, everybody the same, nobody right: nothing is computed that can't be, and all is JSON."""
    random = np.random.default_rng(0)
    plan = made(KINDS)
    for _ in range(12):
        sure = float(random.choice([0.0, 0.5, 1.0]))
        truth = Truth(
            means=MEANS | {"raw": 30.0}, noise_sd=float(random.choice([0, 20])), share_correct=sure,
            log_strengths={NASTY: 30 * sure, "theirs": 0.0},
        )  # fmt: skip
        answers = [one for one in simulate(plan, int(random.integers(1, 6)), truth, random) if random.random() < 0.8]
        content = analysis(plan, checked(plan, answers), Settings(seed=0, alpha=0.05)).content
        json.dumps(content, allow_nan=False)
        page(content, [[] for _ in content["blocks"]])


def test_without_matplotlib_it_is_said(small, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as Python marks a module that is not there
    assert run(small) == 2
    assert 'pip install "vocal-restyler[listen]"' in capsys.readouterr().err
    assert not (small / "report").exists()


def test_one_listener_gets_a_report_that_says_what_is_missing(small, plan, answers):
    alone = [one for one in answers if one.listener == "listener 1"]
    for block in analysis(plan, alone, Settings(seed=0, alpha=0.05)).content["blocks"]:
        assert block["kind"] == "abx" or any("two listeners or more" in reason for reason in block["not_computed"])
    write_answers(small / "answers.json", [one for one in alone if one.kind == "rating"])
    assert run(small) == 0


def test_a_test_that_screens_everybody_out_says_so(small, answers):
    write_answers(small / "answers.json", [one for one in answers if one.kind == "rating"])
    assert run(small, "--retest-limit", 0) == 0
    report = json.loads((small / "report" / "report.json").read_text())
    assert report["blocks"][0]["not_computed"] == ["every listener was screened out"]
