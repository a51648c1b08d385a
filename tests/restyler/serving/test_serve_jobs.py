"""Takes in, mixes out: over a real socket, by a real worker, held against what the command line makes."""

from __future__ import annotations

import io
import json
import os
import signal
import time
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
import torch

from audio.io import read, read_tags
from audio.loudness import integrated_loudness_lufs, true_peak_db
from audio.waveform import Waveform
from restyler.model_folder import BUNDLED
from restyler.sample import main


def uploaded(client: httpx.Client, data: bytes, name: str = "take.wav") -> dict[str, Any]:
    answer = client.post("/v1/takes", params={"name": name}, content=data)
    assert answer.status_code == 201, answer.text
    return answer.json()


def started(client: httpx.Client, take: str, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/jobs", json={"take": take, **fields})
    assert answer.status_code == 202, answer.text
    return answer.json()


def ended(client: httpx.Client, job: str, *, within_s: float = 60) -> dict[str, Any]:
    until = time.monotonic() + within_s
    while (found := client.get(f"/v1/jobs/{job}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def client(live: Any) -> httpx.Client:
    return live.client()


@pytest.fixture(scope="module")
def take(client: httpx.Client, take_bytes: bytes) -> dict[str, Any]:
    return uploaded(client, take_bytes, "Ma prise № 1/../x.wav")


@pytest.fixture(scope="module")
def done(client: httpx.Client, take: dict[str, Any]) -> dict[str, Any]:
    job = started(
        client, take["id"], variations=3, style="any", seed=5, lufs=-24, render="codec", peak_dbtp=-3, guard="off"
    )
    return ended(client, job["id"])


def test_a_job_makes_the_files_of_the_command_line(
    client: httpx.Client, done: dict[str, Any], take_bytes: bytes, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "take.wav").write_bytes(take_bytes)
    options = ["--variations=3", "--style=any", "--seed=5", "--lufs=-24", "--render=codec", "--peak=-3"]
    options += ["--guard=off"]
    assert (
        main([str(tmp_path / "take.wav"), "--model", str(model), "--out", str(tmp_path), "--device=cpu", *options]) == 0
    )
    assert done["state"] == "done" and done["progress"] == 1 and len(done["mixes"]) == 3
    for number in range(3):
        ours = client.get(f"/v1/jobs/{done['id']}/mixes/{number}").content
        assert ours == (tmp_path / "take" / f"mix_{number:02d}.wav").read_bytes()


def test_a_mix_is_told_as_it_measures(client: httpx.Client, done: dict[str, Any], tmp_path: Path) -> None:
    for mix in done["mixes"]:
        path = tmp_path / "mix.wav"
        path.write_bytes(client.get(f"/v1/jobs/{done['id']}/mixes/{mix['number']}").content)
        waveform, tags = read(path), read_tags(path)
        assert mix["loudness_lufs"] == pytest.approx(integrated_loudness_lufs(waveform), abs=0.001)
        assert mix["true_peak_dbtp"] == pytest.approx(true_peak_db(waveform), abs=0.001)
        assert mix["limited"] == (integrated_loudness_lufs(waveform) < -24.01)
        assert mix["seconds"] == waveform.duration_s and mix["seed"] == tags["seed"]
        assert list(mix["styles"]) == [tags["style"]] and mix["chosen"]["lufs"] == "-24.0"


def test_flac_holds_the_same_samples_and_comment(client: httpx.Client, done: dict[str, Any], tmp_path: Path) -> None:
    for form in ("wav", "flac"):
        answer = client.get(f"/v1/jobs/{done['id']}/mixes/1", params={"format": form})
        assert answer.headers["content-type"] == f"audio/{form}"
        (tmp_path / f"mix.{form}").write_bytes(answer.content)
    wav, flac = (soundfile.read(tmp_path / f"mix.{form}", dtype="int32")[0] for form in ("wav", "flac"))
    assert np.array_equal(wav, flac)
    assert read_tags(tmp_path / "mix.wav") == read_tags(tmp_path / "mix.flac")


def test_ranges_and_names_of_downloads(client: httpx.Client, done: dict[str, Any]) -> None:
    address = f"/v1/jobs/{done['id']}/mixes/0"
    whole = client.get(address)
    part = client.get(address, headers={"Range": "bytes=100-199"})
    assert part.status_code == 206 and part.content == whole.content[100:200]
    assert client.get(address, headers={"Range": "bytes=99999999-"}).status_code == 416
    assert whole.headers["content-disposition"] == (
        "attachment; filename*=UTF-8''Ma%20prise%20%E2%84%96%201_.._x.wav%20mix%2000.wav"
    )


def test_the_archive_holds_every_mix_under_safe_and_unique_names(client: httpx.Client, take: dict[str, Any]) -> None:
    job = ended(client, started(client, take["id"], variations=2, name="../..\\CON <x>", guard="off")["id"])
    for number in range(2):
        answer = client.patch(f"/v1/jobs/{job['id']}/mixes/{number}", json={"name": "/etc/passwd", "picked": True})
        assert answer.status_code == 200 and answer.json()["picked"] is True
    with zipfile.ZipFile(io.BytesIO(client.get(f"/v1/jobs/{job['id']}/archive").content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(set(names)) == 2 and all(set(name).isdisjoint('/\\:*?"<>|') for name in names), names
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        mix = client.get(f"/v1/jobs/{job['id']}/mixes/1").content
        assert archive.read(names[1]) == mix


def test_more_like_a_mix_and_between_seeds(client: httpx.Client, take: dict[str, Any], done: dict[str, Any]) -> None:
    liked = {"job": done["id"], "mix": 1}
    same = ended(client, started(client, take["id"], like=liked, around=0, variations=1)["id"])
    again = client.get(f"/v1/jobs/{same['id']}/mixes/0").content
    assert again == client.get(f"/v1/jobs/{done['id']}/mixes/1").content
    walk = ended(client, started(client, take["id"], between=[0, 1, 3], guard="off")["id"])
    assert [mix["seed"] for mix in walk["mixes"]] == ["0", "0 1@0.5", "1"]


@pytest.mark.slow
def test_a_chain_lies_beside_its_mix_and_shows_no_path(client: httpx.Client, take: dict[str, Any], live: Any) -> None:
    job = ended(client, started(client, take["id"], variations=1, render="transfer", name="mine", guard="off")["id"])
    assert job["mixes"][0]["has_chain"] is True, job
    chain = client.get(f"/v1/jobs/{job['id']}/mixes/0/chain").text
    assert "raw: mine\n" in chain and take["id"] not in chain and ".audio" not in chain
    assert client.get(f"/v1/jobs/{job['id']}/mixes/0/chain", params={"format": "txt"}).status_code == 200
    with zipfile.ZipFile(io.BytesIO(client.get(f"/v1/jobs/{job['id']}/archive").content)) as archive:
        assert sorted(archive.namelist()) == [f"mine mix 00.{form}" for form in ("txt", "wav", "yaml")]
        assert archive.read("mine mix 00.yaml").decode() == chain


def test_a_reference_is_heard(
    client: httpx.Client, take: dict[str, Any], vocal: Callable[..., Waveform], done: dict[str, Any]
) -> None:
    other = io.BytesIO()
    soundfile.write(other, vocal(1.0, 44_100, channels=2, seed=3).samples.numpy().T, 44_100, format="FLAC")
    reference = uploaded(client, other.getvalue(), "finished.flac")
    told = ended(
        client, started(client, take["id"], variations=1, reference=[{"take": reference["id"]}], guard="off")["id"]
    )
    untold = ended(client, started(client, take["id"], variations=1, style="none", spread=0, guard="off")["id"])
    files = [client.get(f"/v1/jobs/{job['id']}/mixes/0").content for job in (told, untold)]
    assert files[0] != files[1]


def test_the_overview_of_a_take_is_its_lowest_and_highest_samples(
    client: httpx.Client, take: dict[str, Any], take_bytes: bytes
) -> None:
    samples, _ = soundfile.read(io.BytesIO(take_bytes))
    for points in (1, 7, 500):
        shown = client.get(f"/v1/takes/{take['id']}/waveform", params={"points": points}).json()
        assert len(shown["low"]) == len(shown["high"]) == points
        assert min(shown["low"]) == pytest.approx(samples.min(), abs=1e-5)
        assert max(shown["high"]) == pytest.approx(samples.max(), abs=1e-5)
    parts = np.array_split(samples, 4000)
    whole = client.get(f"/v1/takes/{take['id']}/waveform", params={"points": 4000}).json()
    assert whole["high"] == pytest.approx([part.max() for part in parts], abs=1e-5)


def test_a_take_comes_back_as_it_was_and_as_a_browser_plays_it(
    client: httpx.Client, vocal: Callable[..., Waveform], take: dict[str, Any], take_bytes: bytes
) -> None:
    assert client.get(f"/v1/takes/{take['id']}/audio").content == take_bytes
    loud = io.BytesIO()
    samples = vocal(0.7, 44_100, seed=2).samples.numpy()
    samples *= 3 / np.abs(samples).max()  # over full scale, as floating point may be
    soundfile.write(loud, samples.T, 44_100, format="WAV", subtype="FLOAT")
    other = uploaded(client, loud.getvalue())
    played, rate = soundfile.read(
        io.BytesIO(client.get(f"/v1/takes/{other['id']}/audio", params={"format": "wav"}).content)
    )
    expected = Waveform(torch.from_numpy(samples / 3), 44_100).resampled(48_000).samples.numpy()[0]
    assert rate == 48_000 and np.abs(played - np.clip(expected, -1, 1)).max() < 1e-3


def test_events_tell_all_of_a_job_and_go_on_where_one_was_lost(client: httpx.Client, take: dict[str, Any]) -> None:
    job = started(client, take["id"], variations=3, steps=40, guard="off")

    def events(last: int | None = None, most: int = 1000) -> list[tuple[int, str, Any]]:
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        found: list[tuple[int, str, Any]] = []
        with client.stream("GET", f"/v1/jobs/{job['id']}/events", headers=headers) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            event: dict[str, str] = {}
            for line in stream.iter_lines():
                name, _, value = line.partition(": ")
                if line:
                    event[name] = value
                else:
                    found.append((int(event["id"]), event["event"], json.loads(event["data"])))
                    if len(found) == most:
                        break
        return found

    first = events(most=4)
    rest = events(last=first[-1][0])
    told = [*first, *rest]
    numbers = [number for number, _, _ in told]
    assert numbers == sorted(set(numbers))
    assert [data["number"] for _, kind, data in told if kind == "mix"] == [0, 1, 2]
    progress = [data["progress"] for _, kind, data in told if kind == "progress"]
    assert progress == sorted(progress) and progress[0] < progress[-1] == 1  # how many between depends on the machine
    assert rest[-1][1] == "state" and rest[-1][2]["state"] == "done" and len(rest[-1][2]["mixes"]) == 3
    assert rest[-1][2] == client.get(f"/v1/jobs/{job['id']}").json()
    assert events(last=rest[-1][0]) == []
    assert [kind for _, kind, _ in events()] == ["state"]


def test_a_cancelled_job_stops_in_the_midst_of_a_mix(client: httpx.Client, take: dict[str, Any], live: Any) -> None:
    job = started(client, take["id"], variations=16, steps=900, guard="off")
    while client.get(f"/v1/jobs/{job['id']}").json()["progress"] == 0:
        time.sleep(0.02)
    answer = client.post(f"/v1/jobs/{job['id']}/cancel")
    assert answer.status_code == 200 and answer.json()["state"] == "cancelled"
    pid, asked_s = live.service.executor.worker_pid, time.monotonic()
    after = ended(client, started(client, take["id"], variations=1, guard="off")["id"])
    assert after["state"] == "done" and time.monotonic() - asked_s < 15
    assert live.service.executor.worker_pid == pid, "the worker was ended, not the job"
    assert client.get(f"/v1/jobs/{job['id']}").json()["state"] == "cancelled"
    assert client.post(f"/v1/jobs/{job['id']}/cancel").status_code == 409
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert not live.service.places.job(job["id"]).exists()


def test_jobs_are_listed_newest_first_and_in_pages(client: httpx.Client, take: dict[str, Any]) -> None:
    every = client.get("/v1/jobs", params={"limit": 200}).json()["jobs"]
    assert [job["created"] for job in every] == sorted((job["created"] for job in every), reverse=True)
    pages, before = [], {}
    while page := client.get("/v1/jobs", params={"limit": 2, **before}).json()["jobs"]:
        pages += page
        before = {"before": page[-1]["id"]}
    assert pages == every
    done = client.get("/v1/jobs", params={"state": "done", "limit": 200}).json()["jobs"]
    assert done == [job for job in every if job["state"] == "done"]
    renamed = client.patch(f"/v1/jobs/{every[0]['id']}", json={"name": "Übung 2"}).json()
    assert renamed["name"] == "Übung 2" and client.get(f"/v1/jobs/{every[0]['id']}").json() == renamed


@pytest.mark.slow
def test_a_dead_worker_loses_no_job_and_no_mix(client: httpx.Client, take: dict[str, Any], live: Any) -> None:
    job = started(client, take["id"], variations=6, steps=60, guard="off")
    folder = live.service.places.job(job["id"])
    while not (made := sorted(folder.glob("mix_*.wav"))):
        time.sleep(0.01)
    os.kill(live.service.executor.worker_pid, signal.SIGKILL)
    made = {path: path.stat().st_ino for path in sorted(folder.glob("mix_*.wav"))}
    found = ended(client, job["id"])
    assert found["state"] == "done" and [mix["number"] for mix in found["mixes"]] == list(range(6))
    assert 0 < len(made) < 6 and {path: path.stat().st_ino for path in made} == made, "made twice"
    alone = ended(client, started(client, take["id"], variations=6, steps=60, guard="off")["id"])
    for number in range(6):
        both = [client.get(f"/v1/jobs/{one}/mixes/{number}").content for one in (job["id"], alone["id"])]
        assert both[0] == both[1]


def test_a_take_that_vanished_fails_its_job_in_one_line(client: httpx.Client, live: Any, take_bytes: bytes) -> None:
    other = uploaded(client, take_bytes)
    blocker = started(client, uploaded(client, take_bytes)["id"], variations=2, steps=100, guard="off")
    job = started(client, other["id"])
    live.service.places.audio(other["id"]).unlink()
    found = ended(client, job["id"])
    assert found["state"] == "failed" and found["error"].startswith("take: cannot be read"), found
    assert ended(client, blocker["id"])["state"] == "done"


@pytest.mark.slow
def test_a_real_take_by_the_bundled_model(
    start_service: Callable[..., AbstractContextManager[Any]], shared_data: Path, tmp_path: Path
) -> None:
    source = sorted((shared_data / "research" / "gtsinger").rglob("*.flac"))
    if not source:
        pytest.skip("needs the takes of research/gtsinger")
    with start_service(tmp_path / "data", "--model", str(BUNDLED), "--limit-requests-a-minute=100000") as service:
        client = httpx.Client(
            base_url=service.url, headers={"Authorization": f"Bearer {service.key}"}, timeout=60, verify=False
        )
        assert len(client.get("/v1/model").json()["styles"]) == 7
        real = uploaded(client, source[0].read_bytes(), source[0].name)
        job = ended(client, started(client, real["id"], variations=2, brightness=3)["id"], within_s=300)
        assert job["state"] == "done", job
        for number, mix in enumerate(job["mixes"]):
            path = tmp_path / f"{number}.wav"
            path.write_bytes(client.get(f"/v1/jobs/{job['id']}/mixes/{number}").content)
            assert read(path).duration_s == pytest.approx(real["duration_s"], abs=1e-3)
            assert true_peak_db(read(path)) <= -1 and mix["chosen"]["controls"].startswith("{'brightness_db': 3.0")
