"""Effect chains that jobs bring along: read by the code of `restyler sample`, and never a way to the server's files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from audio.errors import InputError
from audio.io import read_tags
from audio.parts import ProgramStep, find_part
from audio.parts_kinds import Number
from restyler import remote
from restyler.command import shown
from restyler.serving.chains import allowed_parts, read_job_chains
from restyler.serving.requests import JobRequest

RATE_HZ = 48_000
FAST = ["--render=codec", "--guard=off", "--variations=1"]
BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in pairwise("abcdefghi")
)

LEAST_VOCAL_CHAIN = {each.name: each.low for each in find_part("vocal_chain").parameters if isinstance(each, Number)}


def read(part: str, *, programs: bool = False, field: str = "after") -> Any:
    chains = {field: {"name": "chain.yaml", "yaml": f"styles: {{one: [{part}]}}"}}
    return read_job_chains(chains, allowed=allowed_parts(programs=programs), sample_rate=RATE_HZ)


@pytest.mark.parametrize("programs", [False, True])
@pytest.mark.parametrize(
    "part",
    [
        "{convolution: {impulse_response: /etc/passwd, wet_db: 0}}",
        "{convolution: {impulse_response: {files: '/**/*.wav'}, wet_db: 0}}",
        "{preset: {table: /etc/passwd}}",
        "{gain: {gain_db: {table: /etc/passwd, column: root}}}",
        "{gain: {gain_db: {table: ../secret.csv, column: root}}}",
        "{vst3: {path: /tmp/evil.vst3}}",
        "{ladspa: {path: /tmp/evil.so}}",
        "{lv2: {uri: 'urn:evil'}}",
        "{ffmpeg: {filter: amovie, parameters: {filename: /etc/passwd}}}",
        "{ffmpeg: {filter: 'volume,amovie=/etc/passwd'}}",
        "{ffmpeg: {filter: ladspa, parameters: {file: /tmp/evil.so}}}",
        "{ffmpeg: {filter: firequalizer, parameters: {dumpfile: /tmp/x}}}",
        "{ffmpeg: {filter: volume, parameters: {/volume: /etc/passwd}}}",
        "{sox: {effect: noisered, parameters: {profile: /etc/passwd}}}",
        "{sox: {effect: ladspa}}",
        "{shell: {command: ls}}",
    ],
)
def test_no_chain_leads_to_a_file_or_plugin_of_the_server(part: str, programs: bool) -> None:
    """Nor do refusals tell what is in one, or whether it is there."""
    with pytest.raises(InputError, match=r"^after: ") as told:
        read(part, programs=programs)
    assert "root:" not in str(told.value) and "no such file" not in str(told.value).lower()


def test_programs_are_the_operators_to_allow() -> None:
    part = "{sox: {effect: swap}}"
    with pytest.raises(InputError, match="no part is called «sox»"):
        read(part)
    if shutil.which("sox") is None:
        pytest.skip("needs sox")
    (step,) = read(part, programs=True).after.steps
    assert isinstance(step, ProgramStep)


@pytest.mark.parametrize(
    ("yaml", "told"),
    [
        (BOMB, "aliases"),
        ("[" * 7000, "up to 20 deep"),
        ("#" + "]" * 3900 + "\n" + "[" * 3900, "up to 20 deep"),
        ("[" * 19 + ("#" + "}" * 40 + "\n" + "[" * 19) * 120, "up to 20 deep"),
        ("- " * 3900, "up to 20 deep"),
        ("styles: {one: [{gain: {gain_db: " + "9" * 5000 + "}}]}", "not valid YAML|lies within"),
        ("styles: {one: [{gain: {gain_db: -3}}], two: [{gain: {gain_db: -3}}]}", "has 2 styles"),
        ("styles: {one: [" + "{gain: {gain_db: 0}}, " * 17 + "]}", "up to 16 parts"),
        ("styles: {one: [" + "{reverb: {wet_db: 0, t60_mid_s: 16}}, " * 2 + "]}", "30 s together here, not 32.0 s"),
        ("styles: {one: [" + "{ping_pong_delay: {time_ms: 1, wet_db: 0}}, " * 3 + "]}", "2000 echoes .*, not 3000"),
        (f"styles: {{one: [{{vocal_chain: {LEAST_VOCAL_CHAIN}}}]}}", "2000 echoes .*, not 10000"),
        ("!!python/object/apply:os.system ['ls']", "not valid YAML"),
    ],
)
def test_what_would_fill_memory_or_take_hours_is_refused(yaml: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_job_chains(
            {"after": {"name": "c", "yaml": yaml}}, allowed=allowed_parts(programs=True), sample_rate=RATE_HZ
        )


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (
            "{reverb: {wet_db: 0, t60_mid_s: {uniform: [1, 29]}}}, {reverb: {wet_db: 0, t60_low_s: {choice: [2, 1]}}}",
            31,
        ),
        (
            "{reverb: {wet_db: 0, t60_mid_s: {choice: ["
            + "1, " * 300
            + "30"
            + ", 1" * 300
            + "]}}}, {reverb: {wet_db: 0}}",
            31,
        ),
        ("{ping_pong_delay: {time_ms: {uniform: [1, 500]}, wet_db: 0}}, " * 3, 3000),
    ],
)
def test_what_a_reverb_leaves_to_chance_is_taken_at_its_worst(parts: str, told: int) -> None:
    """Every mix draws its own, so a job is small only if all that it may draw is."""

    def read_it(field: str) -> None:
        chain = {"name": "c", "yaml": f"styles: {{one: [{parts}]}}"}
        read_job_chains({field: chain}, allowed=allowed_parts(programs=False), sample_rate=RATE_HZ)

    with pytest.raises(InputError, match=f"not {told}"):
        read_it("reverb")
    read_it("after")  # which plays what seed 0 draws, and no more


def test_every_second_mix_of_a_job_hears_its_reverb_and_no_other_chain_says_every() -> None:
    chain = {"name": "c", "yaml": "every: 2\nstyles: {one: [{reverb: {wet_db: -6}}]}"}
    sends = read_job_chains({"reverb": chain}, allowed=allowed_parts(programs=False), sample_rate=RATE_HZ).reverb
    assert [sends.heard_by(seed) for seed in range(4)] == [True, False, True, False]
    with pytest.raises(InputError, match="«every» is said of buses"):
        read_job_chains({"after": chain}, allowed=allowed_parts(programs=False), sample_rate=RATE_HZ)


@pytest.mark.parametrize(
    "chain", [{"yaml": "x" * 8001}, {"yaml": ""}, {"yaml": "x", "name": "../x"}, {"yaml": "x", "path": "/x"}, "x", 1]
)
def test_a_chain_is_a_bounded_text_with_the_name_of_a_file(chain: Any) -> None:
    with pytest.raises(ValidationError):
        JobRequest.model_validate({"take": "0123456789abcdef", "after": chain})


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    (tmp_path / "room.yaml").write_text("styles: {room: [{reverb: {wet_db: -6, seed: 1}}]}\n")
    return tmp_path / "room.yaml"


def test_remote_with_chains_makes_the_files_of_sample(
    real_service: Any,
    sample: Callable[..., int],
    vocal_file: Callable[..., Path],
    chain: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(remote.KEY_VARIABLE, real_service.key)
    left = chain.with_name("left.yaml")
    left.write_text("styles: {left: [{pan: {pan_percent: -40}}]}\n")
    line = [str(vocal_file("take.wav", 1.0)), *FAST, f"--before={left}", f"--after={left}", f"--reverb={chain}"]
    assert remote.main([*line, "--server", real_service.url, "--out", str(tmp_path / "far")]) == 0
    assert sample(*line) == 0
    far, here = (tmp_path / out / "take" / "mix_00.wav" for out in ("far", "out"))
    assert far.read_bytes() == here.read_bytes()
    assert sample(line[0], *FAST[:2], "--overwrite", "--variations=1") == 0
    assert not np.array_equal(soundfile.read(far)[0], soundfile.read(here)[0])
    bad = chain.with_name("bad.yaml")
    bad.write_text("styles: {one: [{ladspa: {path: /tmp/x.so}}]}\n")
    capsys.readouterr()
    assert (
        remote.main([line[0], *FAST, "--after", str(bad), "--server", real_service.url, "--out", str(tmp_path / "no")])
        == 2
    )
    said = capsys.readouterr().err
    assert "after: bad.yaml: style «one», part 1 (ladspa): no part is called" in said and not (tmp_path / "no").exists()
    assert shown(said.strip()) == said.strip()


@pytest.mark.parametrize(("said", "rooms"), [([], False), (["--reverb=bundled"], True), (["--reverb=none"], False)])
def test_the_bundled_reverb_of_a_job_is_that_of_sample(
    real_service: Any,
    sample: Callable[..., int],
    vocal_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    said: list[str],
    rooms: bool,
) -> None:
    monkeypatch.setenv(remote.KEY_VARIABLE, real_service.key)
    line = [str(vocal_file("take.wav", 1.0)), *FAST, *said]
    assert remote.main([*line, "--server", real_service.url, "--out", str(tmp_path / "far")]) == 0
    assert ("  in rooms.yaml  " in capsys.readouterr().out) is rooms
    assert sample(*line) == 0
    far, here = (tmp_path / out / "take" / "mix_00.wav" for out in ("far", "out"))
    assert far.read_bytes() == here.read_bytes() and ("reverb" in read_tags(far)) is rooms


def test_a_refusal_names_the_field(real_service: Any, take_bytes: bytes) -> None:
    with httpx.Client(
        base_url=real_service.url,
        headers={"Authorization": f"Bearer {real_service.key}"},
        timeout=60,
        verify=False,
    ) as client:
        take = client.post("/v1/takes", params={"name": "t.wav"}, content=take_bytes).json()["id"]
        room = {"yaml": "styles: {room: [{reverb: {wet_db: -6}}]}"}
        for field, line, said in (
            ("reverb", "no bus is called dry", {"reverb": {"yaml": "styles: {dry: [{gain: {gain_db: 0}}]}"}}),
            ("before", "before: ", {"before": {"yaml": "nothing"}, "after": room}),
            ("before", "need another render than transfer", {"after": room, "render": "transfer"}),
            ("reverb", "reverb: bundled, none, or a chain as an object with yaml and name", {"reverb": "hall"}),
            ("reverb", "reverb.yaml: ", {"reverb": {"yaml": ""}}),
            ("reverb", "reverb: Input should be a valid dictionary", {"reverb": 1}),
        ):
            answer = client.post("/v1/jobs", json={"take": take, **said})
            assert answer.status_code == 422, answer.text
            assert answer.json()["field"] == field and line in answer.json()["error"], answer.text
