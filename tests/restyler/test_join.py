"""`restyler join`: the same pairs, in the same splits, found from another place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from restyler.join import main
from restyler.pairs import read_pairs


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """A table with everything, and a folder of files with equal names; both have a take called x."""
    told, plain = tmp_path / "here" / "told", tmp_path / "plain"
    for folder in (told, plain):
        for side in ("raw", "mix"):
            (folder / side).mkdir(parents=True)
            for take in ("x", "y"):
                (folder / side / f"{take}.wav").write_text(f"{folder.name} {side} {take}")
    rows = [
        {"key": take, "raw": f"raw/{take}.wav", "mix": f"mix/{take}.wav", "split": split, "style": "air", "chain": "c1"}
        for take, split in (("x", "test"), ("y", "validation"))
    ]
    (told / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [told, plain]


def contents(pairs: list) -> dict[str, tuple]:
    return {p.key: (p.raw.read_text(), p.mix.read_text(), p.split, p.style, p.chain) for p in pairs}


def test_every_pair_keeps_its_files_split_and_style(folders: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "far" / "away" / "all"
    assert main([*map(str, folders), "--out", str(out), "--validation-fraction", "0.5"]) == 0
    expected = {
        f"{folder.name}/{key}": content
        for folder in folders
        for key, content in contents(read_pairs(folder, validation_fraction=0.5, needed=())).items()
    }
    assert contents(read_pairs(out, validation_fraction=0.0, needed=())) == expected
    assert len(expected) == 4


def test_it_refuses_two_folders_of_one_name_and_a_table_that_is_there(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = tmp_path / "there" / "plain"
    twin.parent.mkdir()
    twin.symlink_to(folders[1])
    for pairs in ([folders[1], folders[1]], [folders[1], twin], [folders[0], tmp_path / "nowhere"]):
        assert main([*map(str, pairs), "--out", str(tmp_path / "all")]) == 2
        assert not (tmp_path / "all").exists()
    assert main([str(folders[0]), "--out", str(folders[0])]) == 2
    assert "pairs.jsonl exists" in capsys.readouterr().err
