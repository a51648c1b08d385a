"""Pairs in a folder: found by key, split by key, and every mistake told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from audio.errors import InputError
from restyler.pairs import read_pairs, split_of


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_folders_are_matched_by_key_not_by_order(tmp_path: Path) -> None:
    touch(tmp_path, "raw/b.wav", "raw/a/x.flac", "raw/c.wav", "mix/c.mp3", "mix/a/x.wav", "mix/b.wav", "raw/.hidden")
    pairs = read_pairs(tmp_path, validation_fraction=0.2)
    assert {pair.key: (pair.raw.name, pair.mix.name) for pair in pairs} == {
        "a/x": ("x.flac", "x.wav"),
        "b": ("b.wav", "b.wav"),
        "c": ("c.wav", "c.mp3"),
    }


def test_files_without_partner_are_all_named(tmp_path: Path) -> None:
    touch(tmp_path, "raw/a.wav", "raw/b.wav", "mix/b.wav", "mix/c.wav")
    with pytest.raises(InputError, match=r"without a partner: raw/a, mix/c$"):
        read_pairs(tmp_path, validation_fraction=0.5)


def test_two_files_for_one_key_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "raw/a.wav", "raw/a.flac", "mix/a.wav")
    with pytest.raises(InputError, match=r"a\.wav and .*a\.flac: two files for the key «a»"):
        read_pairs(tmp_path, validation_fraction=0.5)


def test_split_is_a_matter_of_the_key_alone() -> None:
    before = {f"song {n}": split_of(f"song {n}", 0.1) for n in range(2000)}
    assert 150 < sum(split == "validation" for split in before.values()) < 250  # 200 ± 3.7 standard deviations
    wider = {key: split_of(key, 0.2) for key in before}
    assert all(wider[key] == "validation" for key, split in before.items() if split == "validation")


def test_a_manifest_without_splits_keeps_the_mixes_of_a_take_together(tmp_path: Path) -> None:
    rows = [{"key": f"k{n}", "raw": f"r{n}.wav", "mix": f"m{n}_{m}.wav"} for n in range(12) for m in range(3)]
    touch(tmp_path, *(row[side] for row in rows for side in ("raw", "mix")))
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pairs = read_pairs(tmp_path, validation_fraction=0.3)
    assert len(pairs) == 36
    assert all(len({pair.split for pair in pairs if pair.key == key}) == 1 for key in {pair.key for pair in pairs})


ROW = {"key": "a", "raw": "r.wav", "mix": "m.wav", "split": "train"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], r"line 1: not valid JSON"),
        (["[]"], r"line 1: a row is a JSON object"),
        ([json.dumps(ROW | {"key": 3})], r"line 1: «key» is a non-empty text, not 3"),
        ([json.dumps({k: v for k, v in ROW.items() if k != "mix"})], r"«mix» is a non-empty text, not None"),
        ([json.dumps(ROW | {"split": "dev"})], r"«split» is one of train, validation, test, not 'dev'"),
        ([json.dumps(ROW), json.dumps(ROW | {"key": "b"})], r"line 2: the mix m\.wav is given twice"),
        (
            [json.dumps(ROW), json.dumps(ROW | {"mix": "n.wav", "split": "test"})],
            r"«a» is in two splits, train and test",
        ),
        ([json.dumps(ROW | {"raw": "gone.wav"})], r"there is no .*gone\.wav"),
        ([json.dumps(ROW)], r"none of its 1 pairs is in the validation split"),
        ([json.dumps(ROW), json.dumps(ROW | {"mix": "./m.wav"})], r"line 2: the mix \./m\.wav is given twice"),
        (
            [
                json.dumps(ROW),
                json.dumps(ROW | {"key": "b", "raw": "x/../r.wav", "mix": "n.wav", "split": "validation"}),
            ],
            r"r\.wav: one recording in two splits, as «a» \(.*r\.wav\) in train and as «b» in validation",
        ),
        ([json.dumps(ROW | {"key": "\ud800"})], r"line 1: «key» is no Unicode text: '\\ud800'"),
        ([json.dumps(ROW | {"raw": "r\udcff.wav"})], r"line 1: «raw» is no Unicode text"),
        ([json.dumps(ROW | {"raw": "r" * 5000})], r"line 1: there is no .*rrr"),
        ([json.dumps(ROW | {"mix": "m\0.wav"})], r"line 1: there is no "),
        (["[" * 100_000], r"line 1: a number or a nesting beyond all measure"),
        (["1" * 10_000], r"line 1: a number or a nesting beyond all measure"),
    ],
)
def test_a_bad_manifest_is_told_with_its_line(tmp_path: Path, lines: list[str], message: str) -> None:
    touch(tmp_path, "r.wav", "m.wav", "n.wav", "x/y.wav")
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match=message) as error:
        read_pairs(tmp_path, validation_fraction=0.0)
    assert "\n" not in str(error.value)


def test_a_manifest_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_bytes(b"\xff\xfe{")
    with pytest.raises(InputError, match=r"pairs\.jsonl: can't be read: not UTF-8 text"):
        read_pairs(tmp_path, validation_fraction=0.0)
    (tmp_path / "pairs.jsonl").unlink()
    (tmp_path / "pairs.jsonl").mkdir()
    with pytest.raises(InputError, match=r"pairs\.jsonl: can't be read: Is a directory"):
        read_pairs(tmp_path, validation_fraction=0.0)


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85"])
def test_what_is_a_line_break_to_unicode_alone_may_stand_in_a_text(tmp_path: Path, sign: str) -> None:
    touch(tmp_path, "r.wav", "m.wav")
    (tmp_path / "pairs.jsonl").write_text(json.dumps(ROW | {"key": f"a{sign}b"}, ensure_ascii=False) + "\n")
    (pair,) = read_pairs(tmp_path, validation_fraction=0.0, needed=())
    assert pair.key == f"a{sign}b"


def test_one_file_under_two_names_does_not_leak_into_validation(tmp_path: Path) -> None:
    """Folders: by a link. Copies are told by their content, where latents are made (test_training)."""
    keys = [f"song {number}" for number in range(40)]
    trained, validated = (next(k for k in keys if split_of(k, 0.5) == split) for split in ("train", "validation"))
    touch(tmp_path, f"raw/{trained}.wav", f"mix/{trained}.wav", f"mix/{validated}.wav")
    (tmp_path / "raw" / f"{validated}.wav").symlink_to(tmp_path / "raw" / f"{trained}.wav")
    with pytest.raises(InputError, match="one recording in two splits"):
        read_pairs(tmp_path, validation_fraction=0.5)
    assert len(read_pairs(tmp_path, validation_fraction=0.0, needed=())) == 2  # two keys of one split may share it


def test_missing_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        read_pairs(tmp_path / "no", validation_fraction=0.1)
    with pytest.raises(InputError, match=r"neither pairs\.jsonl nor the folders raw and mix"):
        read_pairs(tmp_path, validation_fraction=0.1)
