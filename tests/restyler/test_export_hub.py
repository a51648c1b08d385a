"""`restyler export hub`: what comes back from a repository is the same model, with a card that the hub reads."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import ModelCardData

from audio.waveform import Waveform
from restyler.cli import main
from restyler.model_folder import BUNDLED
from restyler.pipeline import VocalRestylePipeline


def export(model: Path, out: Path, *more: str | Path) -> int:
    return main(["export", "hub", "--model", str(model), "--out", str(out), *map(str, more)])


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    assert line.startswith("error: ") and out == ""
    return line


def card_data(folder: Path) -> ModelCardData:
    """As the hub's own library reads it."""
    return ModelCard.load(folder / "README.md").data


def git(*arguments: str | Path) -> None:
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    person = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *person, *map(str, arguments)], check=True, capture_output=True, env=os.environ | settings)


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hub") / "deep" / "model"
    assert export(model, out, "--license", "apache-2.0") == 0
    return out


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_clone_of_a_pushed_folder_makes_the_same_mix(
    model: Path, exported: Path, take: Waveform, tmp_path: Path
) -> None:
    bare, work, clone = tmp_path / "hub.git", tmp_path / "work", tmp_path / "clone"
    git("init", "--bare", "--initial-branch", "main", bare)
    shutil.copytree(exported, work)
    git("-C", work, "init", "--initial-branch", "main")
    git("-C", work, "add", "--all")
    git("-C", work, "commit", "-m", "model")
    git("-C", work, "push", bare, "main")
    git("clone", bare, clone)
    ours, theirs = (VocalRestylePipeline.from_pretrained(folder) for folder in (model, clone))
    for name in ("codec", "conditioner", "denoiser"):
        one, other = (getattr(each, name).state_dict() for each in (ours, theirs))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    told = {"seeds": [3], "style": ours.styles[0], "guidance": 2.0}
    assert torch.equal(ours(take, **told), theirs(take, **told))
    assert {path.name for path in clone.iterdir()} >= {"README.md", "LICENSE", ".gitattributes", "model_index.json"}


def test_a_snapshot_of_links_into_a_cache_loads(exported: Path, take: Waveform, tmp_path: Path) -> None:
    """As `huggingface_hub` lays a downloaded model out: links to files named by their hashes."""
    files = [path for path in exported.rglob("*") if path.is_file()]
    for number, file in enumerate(files):
        link = tmp_path / "snapshot" / file.relative_to(exported)
        link.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "blobs").mkdir(exist_ok=True)
        shutil.copyfile(file, tmp_path / "blobs" / str(number))
        link.symlink_to(tmp_path / "blobs" / str(number))
    loaded = VocalRestylePipeline.from_pretrained(tmp_path / "snapshot")
    assert torch.equal(loaded(take, seeds=[0]), VocalRestylePipeline.from_pretrained(exported)(take, seeds=[0]))


def test_the_weights_go_byte_for_byte(model: Path, exported: Path) -> None:
    for file in [*model.rglob("*.safetensors"), *model.rglob("*.json")]:
        if file.name != "manifest.json":
            assert (exported / file.relative_to(model)).read_bytes() == file.read_bytes()
    assert (exported / "LICENSE").read_text() == (Path(__file__).parents[2] / "LICENSE").read_text()


def test_the_hub_reads_the_card_of_a_model_without_one(exported: Path, pipeline: VocalRestylePipeline) -> None:
    data = card_data(exported)
    assert (data.license, data.pipeline_tag, data.library_name) == ("apache-2.0", "audio-to-audio", "vocal-restyler")
    assert {"audio", "vocals"} <= set(data.tags)
    text = ModelCard.load(exported / "README.md").text
    assert all(f"`{name}`" in text for name in [*pipeline.styles, *pipeline.defaults.controls])


def test_the_bundled_models_card_keeps_what_it_says(tmp_path: Path) -> None:
    assert export(BUNDLED, tmp_path / "hub") == 0
    kept, data = ModelCard.load(BUNDLED / "README.md"), card_data(tmp_path / "hub")
    assert data.license == kept.data.license and data.library_name == kept.data.library_name
    assert set(data.tags) >= set(kept.data.tags) and data.pipeline_tag == "audio-to-audio"
    text = (tmp_path / "hub" / "README.md").read_text()
    assert kept.text.strip() in text


def test_an_exported_folder_is_exported_again_as_it_is(exported: Path, tmp_path: Path) -> None:
    assert export(exported, tmp_path / "again") == 0
    for file in [path for path in exported.rglob("*") if path.is_file()]:
        assert (tmp_path / "again" / file.relative_to(exported)).read_bytes() == file.read_bytes(), file.name


def test_another_card_and_another_licence(model: Path, tmp_path: Path) -> None:
    card, terms = tmp_path / "card.md", tmp_path / "terms.txt"
    front = "---\nlicense: cc-by-4.0\ntags: [choir]\nlibrary_name: mine\n---\n"
    card.write_text(f"{front}# Ours\n", encoding="utf-8-sig")  # as some editors save it
    terms.write_text("Take it, name us.\n")
    assert export(model, tmp_path / "hub", "--card", card, "--license-file", terms) == 0
    data = card_data(tmp_path / "hub")
    assert (data.license, data.library_name) == ("cc-by-4.0", "mine") and data.tags[0] == "choir"
    assert (tmp_path / "hub" / "LICENSE").read_text() == "Take it, name us.\n"
    assert ModelCard.load(tmp_path / "hub" / "README.md").text.strip().startswith("# Ours")


CARDS = {
    "states no licence": "# No front matter",
    "has no end": "---\nlicense: mit\n",
    "no YAML": "---\nlicense: [\n---\n",
    "month must be in 1..12": "---\nlicense: mit\ndate: 2026-13-01\n---\n",
    "no mapping": "---\n- license\n---\n",
    "list of words": "---\nlicense: apache-2.0\ntags: {a: 1}\n---\n",
    "has a name of": "---\nlicense: 3 lines\n---\n",
    "its file by --license-file": "---\nlicense: cc-by-4.0\n---\n",
}


@pytest.mark.parametrize("said", CARDS)
def test_a_card_that_can_not_be_is_one_clear_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], said: str
) -> None:
    (tmp_path / "card.md").write_text(CARDS[said])
    assert export(model, tmp_path / "hub", "--card", tmp_path / "card.md") == 2
    assert said in refusal(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["card.md"]


def test_two_licences_that_contradict_each_other(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(exported, tmp_path / "hub", "--license", "mit") == 2
    assert "apache-2.0" in (line := refusal(capsys)) and "mit" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["onnx", "hub"])
def test_nothing_is_written_over(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    full, link = tmp_path / "full", tmp_path / "link"
    full.mkdir()
    (full / "thesis.txt").write_text("years of work")
    link.symlink_to(tmp_path / "nowhere")
    for place in (full, full / "thesis.txt", link):
        assert main(["export", kind, "--model", str(model), "--out", str(place)]) == 2
        assert str(place) in (line := refusal(capsys)) and "no empty folder" in line
    assert (full / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("kind", ["onnx", "hub"])
def test_nothing_is_written_into_the_model(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """It would be refused ever after, for files that are not its own."""
    (tmp_path / "link").symlink_to(model)
    before = sorted(model.rglob("*"))
    for out in (model / "export", tmp_path / "link" / "export"):
        assert main(["export", kind, "--model", str(model), "--out", str(out)]) == 2
        assert "lies in the model" in refusal(capsys)
    assert sorted(model.rglob("*")) == before


def test_an_empty_folder_is_filled(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    assert export(exported, tmp_path / "hub") == 0
    assert (tmp_path / "hub" / "manifest.json").is_file()


def test_a_damaged_model_is_refused_before_anything_is_written(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model, tmp_path / "model")
    next((tmp_path / "model" / "codec").glob("*.safetensors")).write_bytes(b"")
    for kind in ("onnx", "hub"):
        assert main(["export", kind, "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out")]) == 2
        assert "damaged" in refusal(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("words", [[], ["flac"]])
def test_export_names_what_it_writes(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", *words]) == 2
    line = refusal(capsys)
    assert "onnx" in line and "hub" in line
