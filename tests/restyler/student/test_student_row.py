"""The live student in the tables of `restyler evaluate`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import soundfile
import torch

from audio.waveform import Waveform
from restyler.cli import main
from restyler.student.files import Student

RATE = 44_100


def test_its_mixes_by_every_style_are_scored_as_they_are(
    student: Student, student_folder: Path, vocal: Callable[..., Waveform], tmp_path: Path
) -> None:
    """The mix is what the student makes of the take by its second style: that draw is no distance away, so that the
    best of the draws is 0, and the others are not."""
    take = Waveform(0.5 * vocal(2.0, RATE).samples, RATE)
    heard = take.resampled(48_000)
    made = Waveform(student.network(heard.samples, torch.tensor([[0.5, 0.5, 0.5]]))[0], 48_000).resampled(RATE)
    mix = Waveform(0.3 * made.samples[:, : take.samples.shape[1]], RATE)
    for side, sound in (("raw", take), ("mix", mix)):
        (tmp_path / "set" / side).mkdir(parents=True)
        soundfile.write(tmp_path / "set" / side / "a.wav", sound.samples.T.numpy(), RATE, subtype="FLOAT")
    row = {"key": "a", "raw": "raw/a.wav", "mix": "mix/a.wav", "song": "a", "split": "test"}
    (tmp_path / "set" / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    arguments = ["--set", str(tmp_path / "set"), "--out", str(tmp_path / "out"), "--student", str(student_folder)]
    assert main(["evaluate", *arguments, "--renders", str(tmp_path / "set" / "mix"), "--rows", "live student"]) == 0
    (record,) = [json.loads(path.read_text()) for path in (tmp_path / "out" / "scores").glob("*.json")]
    distances = [draw["fidelity"]["mss_lr"] for draw in record["draws"]]
    assert len(distances) == len(student.styles)
    assert distances[1] < 0.02
    assert min(distances[0], distances[2]) > 3 * distances[1] and min(distances[0], distances[2]) > 0.05
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "student" in json.dumps(report)
