"""Which files belong together, from their names alone: nothing is guessed, nothing gets lost."""

from pathlib import Path, PurePath

import pytest

from audio.errors import InputError
from restyler.prepare.config import load_prepare_config
from restyler.prepare.manifest import read_manifest
from restyler.prepare.matching import Matched, match_folders
from restyler.prepare.names import parse

WORDS = load_prepare_config(None, ()).matching


def match(folder: Path, raws: list[str], mixes: list[str], raw: str = "raw", mix: str = "mix") -> Matched:
    for side, names in ((raw, raws), (mix, mixes)):
        (folder / side).mkdir(exist_ok=True, parents=True)
        for name in names:
            path = folder / side / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.touch()
    return match_folders(
        folder / raw,
        folder / mix,
        raw_words=WORDS.raw_words,
        mix_words=WORDS.mix_words,
        singer_folders=True,
        out=folder / "out",
    )


def names_of(matched: Matched) -> set[tuple[str, str, str]]:
    return {(pair.key, pair.raw.name, pair.mix.name) for pair in matched.pairs}


@pytest.mark.parametrize(
    ("raw", "mix"),
    [
        ("song.wav", "song.flac"),
        ("song_raw.wav", "song_mix.wav"),
        ("Song - Dry.wav", "song (wet).mp3"),
        ("dry_song.wav", "WET song.wav"),
        ("song__dry.mp3", "song__wet.mp3"),
        ("song_take1_raw.wav", "song_mix_take 01.wav"),
        ("song_raw_take2.wav", "song_T2_mix.wav"),
        ("song_take2.wav", "song_mix.wav"),
        ("song_raw.wav", "song_mix2.wav"),
        ("Caf\u00e9_raw.wav", "Cafe\u0301_mix.wav"),
        ("Ann/song.wav", "Ann/song.wav"),
        ("Ann/song.wav", "song.wav"),
        ("Ann/raw/song.wav", "Ann/mix/song.wav"),
        ("Dry_raw.wav", "Dry_mix.wav"),
        ("wet_raw.wav", "wet.wav"),
        ("C# minor_raw.wav", "C# minor_mix.wav"),
        ("कि.wav", "कि.wav"),
        ("♥_raw.wav", "♥_mix.wav"),
    ],
)
def test_a_raw_take_finds_its_mix(tmp_path: Path, raw: str, mix: str) -> None:
    matched = match(tmp_path, [raw], [mix])
    assert [(pair.raw, pair.mix) for pair in matched.pairs] == [(tmp_path / "raw" / raw, tmp_path / "mix" / mix)]
    assert not matched.leftovers


@pytest.mark.parametrize(
    ("raw", "mix"),
    [
        ("song1.wav", "song2.wav"),
        ("verse_1.wav", "verse_2.wav"),
        ("song_take1_raw.wav", "song_take2_mix.wav"),
        ("Ann/song.wav", "Bob/song.wav"),
        ("song.wav", "songs.wav"),
        ("C# minor.wav", "C minor.wav"),
        ("कि.wav", "का.wav"),
        ("♥.wav", "★.wav"),
        ("---.wav", "!!!.wav"),
    ],
)
def test_names_that_differ_are_no_pair(tmp_path: Path, raw: str, mix: str) -> None:
    matched = match(tmp_path, [raw], [mix])
    assert not matched.pairs
    assert {(one.path.name, one.code) for one in matched.leftovers} == {
        (Path(raw).name, "unmatched"),
        (Path(mix).name, "unmatched"),
    }


def test_several_mixes_of_a_take_each_have_a_key_of_their_own(tmp_path: Path) -> None:
    matched = match(tmp_path, ["song_raw.wav"], ["song_mix1.wav", "song_mix_2.wav", "song_wet.wav"])
    assert names_of(matched) == {
        (f"song/{mix}", "song_raw.wav", f"{mix}.wav") for mix in ("song_mix1", "song_mix_2", "song_wet")
    }
    assert {pair.take for pair in matched.pairs} == {"song"}


def test_a_mix_without_a_take_number_is_not_dealt_to_one_of_two_takes(tmp_path: Path) -> None:
    matched = match(tmp_path, ["a_take1_raw.wav", "a_take2_raw.wav"], ["a_take1_mix.wav", "a_mix.wav"])
    assert names_of(matched) == {("a_take1", "a_take1_raw.wav", "a_take1_mix.wav")}
    assert {(one.path.name, one.code) for one in matched.leftovers} == {
        ("a_take2_raw.wav", "ambiguous"),
        ("a_mix.wav", "ambiguous"),
    }
    (song,) = {pair.song for pair in matched.pairs}
    assert song == "a"


def test_two_formats_of_one_name_are_ambiguous(tmp_path: Path) -> None:
    matched = match(tmp_path, ["a.wav", "a.mp3", "b.wav"], ["a.wav", "b.wav"])
    assert names_of(matched) == {("b", "b.wav", "b.wav")}
    assert {(one.path.parent.name, one.path.name, one.code) for one in matched.leftovers} == {
        ("raw", "a.wav", "ambiguous"),
        ("raw", "a.mp3", "ambiguous"),
        ("mix", "a.wav", "ambiguous"),
    }


def test_every_file_is_in_a_pair_or_told(tmp_path: Path) -> None:
    raws = ["a.wav", "notes.txt", "b_take1.wav", "c/d.wav", "c/e_raw.wav", "x.wav", ".hidden.wav"]
    mixes = ["a_mix.wav", "a.aif", "b.wav", "d.wav", "cover.jpg", "y.wav", "none"]
    matched = match(tmp_path, raws, mixes)
    told = [one.path for one in matched.leftovers]
    paired = [path for pair in matched.pairs for path in (pair.raw, pair.mix)]
    assert len(told) == len(set(told))
    visible = {path for path in tmp_path.rglob("*") if path.is_file() and not path.name.startswith(".")}
    assert set(told) | set(paired) == visible
    assert not set(told) & set(paired)


def test_one_folder_for_both_sides_goes_by_the_names(tmp_path: Path) -> None:
    both = ["a_raw.wav", "a_mix.wav", "b/raw/c.wav", "b/mix/c.wav", "d.wav", "e_raw_mix.wav"]
    matched = match(tmp_path, both, [], raw="all", mix="all")
    assert names_of(matched) == {("a", "a_raw.wav", "a_mix.wav"), ("b/c", "c.wav", "c.wav")}
    assert {(one.path.name, one.code) for one in matched.leftovers} >= {("d.wav", "unmatched")}


def test_a_mix_folder_inside_the_raw_folder_is_searched_once(tmp_path: Path) -> None:
    matched = match(tmp_path, ["a.wav"], ["a.wav"], raw="takes", mix="takes/mixed")
    assert [(pair.raw, pair.mix) for pair in matched.pairs] == [
        (tmp_path / "takes/a.wav", tmp_path / "takes/mixed/a.wav")
    ]
    assert not matched.leftovers


def test_what_was_written_before_is_not_taken_for_a_take(tmp_path: Path) -> None:
    (tmp_path / "raw/out").mkdir(parents=True)
    (tmp_path / "raw/out/x.wav").touch()
    (tmp_path / "mix").mkdir()
    matched = match_folders(
        tmp_path / "raw",
        tmp_path / "mix",
        raw_words=["raw"],
        mix_words=["mix"],
        singer_folders=True,
        out=tmp_path / "raw/out",
    )
    assert not matched.leftovers


def test_the_first_folder_names_the_singer_if_so_wished(tmp_path: Path) -> None:
    (pair,) = match(tmp_path, ["Ann/album/song_raw.wav"], ["Ann/album/song_mix.wav"]).pairs
    assert (pair.singer, pair.song, pair.key) == ("Ann", "ann/album/song", "Ann/album/song")
    (pair,) = match_folders(
        tmp_path / "raw", tmp_path / "mix", raw_words=["raw"], mix_words=["mix"], singer_folders=False, out=tmp_path
    ).pairs
    assert pair.singer is None


def test_names_that_differ_in_signs_alone_each_find_their_own(tmp_path: Path) -> None:
    matched = match(tmp_path, ["C minor!.wav", "C minor.wav"], ["C minor!_mix.wav", "C minor_mix.wav"])
    assert {(pair.raw.stem, pair.mix.stem) for pair in matched.pairs} == {
        ("C minor!", "C minor!_mix"),
        ("C minor", "C minor_mix"),
    }


def test_the_folder_of_a_side_is_no_singer(tmp_path: Path) -> None:
    both = ["raw/Ann/a.wav", "mix/Ann/a.wav", "raw/Bob/b.wav", "mix/Bob/b.wav"]
    assert {pair.singer for pair in match(tmp_path, both, [], raw="all", mix="all").pairs} == {"Ann", "Bob"}


def test_a_folder_that_links_back_is_searched_once(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for name in ("loop", "again"):
        (tmp_path / "raw" / name).symlink_to(tmp_path / "raw")
    matched = match(tmp_path, ["a.wav"], ["a.wav"])
    assert len(matched.pairs) == 1
    assert not matched.leftovers


def test_two_pairs_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("raw,mix,key\n0.wav,m.wav,a\n0.wav,b.wav,a\n1.wav,x.wav,a/b\n")
    with pytest.raises(InputError, match=r"«a/b».*b\.wav.*x\.wav"):
        read_manifest(tmp_path / "p.csv")


def test_matching_ten_thousand_files_takes_no_square_of_time(tmp_path: Path) -> None:
    raws, mixes = ([f"s{number:05d}_{side}.wav" for number in range(2000)] for side in ("raw", "mix"))
    assert len(match(tmp_path, raws, mixes).pairs) == 2000


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        match_folders(
            tmp_path / "nowhere",
            tmp_path,
            raw_words=["raw"],
            mix_words=["mix"],
            singer_folders=True,
            out=tmp_path / "out",
        )


def test_the_words_are_those_of_the_config() -> None:
    assert parse(PurePath("song_di.wav"), ["di"]).shown == "song"
    assert parse(PurePath("song_di.wav"), ["raw"]).shown == "song_di"


def test_a_manifest_tells_what_names_do_not(tmp_path: Path) -> None:
    manifest = tmp_path / "pairs.csv"
    manifest.write_text(
        "\ufeffraw,mix,song,singer,style,split,remark\n"
        "r/1.wav,m/x.wav,Blue,Ann,air,test,good\n"
        "r/1.wav,n/x.wav,Blue,Ann,dark,test,\n"
        "r/2.wav,m/y.wav,,,,,\n"
    )
    one, other, last = read_manifest(manifest)
    assert (one.raw, one.mix) == (tmp_path / "r/1.wav", tmp_path / "m/x.wav")
    assert (one.take, one.song, one.singer, one.style, one.split) == ("r/1", "Blue", "Ann", "air", "test")
    assert {one.key, other.key} == {"r/1/m/x.wav", "r/1/n/x.wav"}
    assert (last.key, last.song, last.singer, last.split) == ("r/2", "r/2", None, None)


def test_a_manifest_in_json_lines_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("raw,mix,key,singer\na.wav,b.wav,k,S\n")
    (tmp_path / "p.jsonl").write_text('{"raw": "a.wav", "mix": "b.wav", "key": "k", "singer": "S", "gain": 3}\n\n')
    assert read_manifest(tmp_path / "p.csv") == read_manifest(tmp_path / "p.jsonl")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("p.csv", "raw,mix\n", "holds no pairs"),
        ("p.csv", "raw,song\na,b\n", "line 2: the column «mix»"),
        ("p.csv", "raw,mix\na,\n", "line 2: the column «mix»"),
        ("p.csv", "raw,mix\na,b,c\n", "line 2: not as many fields"),
        ("p.csv", 'raw,mix\n"a,b\n', "not valid CSV"),
        ("p.csv", "raw,mix,split\na,b,dev\n", "train, validation, test"),
        ("p.csv", "raw,mix\na,b\nc,b\n", "line 3: the mix b is already in line 2"),
        ("p.csv", "raw,mix,key\na,b,k\nc,d,k\n", "line 3: two raw files"),
        ("p.csv", "raw,mix,key\na,b,k\na,d,l\n", "line 3: a has two keys"),
        ("p.jsonl", "{", "line 1: not valid JSON"),
        ("p.jsonl", "[1]", "line 1: a row is a JSON object"),
        ("p.jsonl", '{"raw": "a", "mix": 3}', "line 1: «mix» is a non-empty text, not 3"),
        ("p.jsonl", '{"raw": "a", "mix": "\\ud800"}', "line 1: «mix» is no Unicode text"),
        ("p.txt", "raw,mix\n", ".csv or .jsonl"),
        ("p.csv", "raw,mix,Singer\na,b,Ann\n", "line 2: the column «Singer» is spelled «singer»"),
        ("p.jsonl", '{"raw": "a", "mix": "b", "Song ": "c"}', "line 1: the column «Song » is spelled «song»"),
        ("p.jsonl", '{"raw": "a\\u0000b", "mix": "b"}', "line 1: «raw» is no path"),
        ("p.jsonl", '{"raw": ".", "mix": "b"}', "line 1: «raw» is no path"),
    ],
)
def test_a_manifest_that_can_not_be_right_is_refused_by_its_line(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=r"p\.(csv|jsonl|txt)") as refusal:
        read_manifest(tmp_path / name)
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)
