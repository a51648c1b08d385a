"""Hostile recordings against the real service: each is refused in one line or taken, and nothing of it stays behind."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

RATE = 8000
MOST_GROWTH_BYTES = 150 << 20  # of the process that decodes: what two uploads at once may need, and then never more
REFUSED = (400, 413, 422)


def voice(seconds: float, *, channels: int = 1) -> np.ndarray:
    """[samples channels]: something to hear."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 220 * time) * (1 + np.sin(2 * np.pi * 3 * time)) / 2
    return np.repeat(tone[:, None], channels, axis=1)


def encoded(samples: np.ndarray, form: str = "WAV", subtype: str | None = None, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def silent_flac(hours: float, *, at_the_start: np.ndarray | None = None) -> bytes:
    """Hours in a file of some hundred kilobytes."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE, 1, "PCM_16", format="FLAC") as sink:
        if at_the_start is not None:
            sink.write(at_the_start)
        block = np.zeros((RATE * 60, 1), dtype=np.int16)
        for _ in range(round(hours * 60)):
            sink.write(block)
    return file.getvalue()


def with_flac_length(flac: bytes, samples: int) -> bytes:
    """Another length in STREAMINFO: 36 bits from its 13th byte's lower half on (RFC 9639, 8.2)."""
    start = flac.index(b"fLaC") + 8 + 13
    head = bytes([flac[start] & 0xF0 | samples >> 32]) + struct.pack(">I", samples & 0xFFFFFFFF)
    return flac[:start] + head + flac[start + 5 :]


def wav(**forged: int) -> bytes:
    """One second, with other numbers in its header than are true."""
    plain: dict[str, int] = {
        "riff": 36 + 2 * RATE, "kind": 1, "channels": 1, "rate": RATE, "pace": 2 * RATE, "align": 2, "bits": 16,
        "data": 2 * RATE, "fmt": 16,
    }  # fmt: skip
    said = plain | forged
    head = struct.pack("<4sI4s4sI", b"RIFF", said["riff"], b"WAVE", b"fmt ", said["fmt"])
    form = struct.pack("<HHIIHH", *(said[name] for name in ("kind", "channels", "rate", "pace", "align", "bits")))
    samples = (voice(1.0) * 32767).astype("<i2").tobytes()
    return head + form + struct.pack("<4sI", b"data", said["data"]) + samples


FORGED: dict[str, bytes | Callable[[], bytes]] = {
    "data of nothing": wav(data=0),
    "0 channels": wav(channels=0),
    "3 channels": wav(channels=3, align=6),
    "65535 channels": wav(channels=65535, align=65534),
    "0 Hz": wav(rate=0),
    "4 GHz": wav(rate=0xFFFFFFFF),
    "1 Hz": wav(rate=1, pace=2),
    "0 bit": wav(bits=0, align=0),
    "65535 bit": wav(bits=65535),
    "an endless fmt": wav(fmt=0xFFFFFFF0),
    "an unknown kind": wav(kind=0xABCD),
    "hours by its FLAC header": with_flac_length(encoded(voice(1.0), "FLAC"), (1 << 36) - 1),
    "an hour of silence": lambda: silent_flac(1.0),  # made where it is needed: it takes a second
    "silence": encoded(np.zeros((RATE, 1))),
    "NaN": encoded(np.full((RATE, 1), np.nan), subtype="FLOAT"),
    "one infinity at the end": encoded(np.concatenate([voice(1.0), [[np.inf]]]), subtype="FLOAT"),
    "1e30": encoded(voice(1.0) * 1e30, subtype="FLOAT"),
    "NaN in double": encoded(np.concatenate([voice(1.0), [[-np.nan]]]), subtype="DOUBLE"),
    "nothing": b"",
    "one byte": b"R",
    "a ZIP": b"PK\3\4" + bytes(5000),
    "a page": b"<script>alert(1)</script>" * 100,
    "a playlist": b"#EXTM3U\n/etc/passwd\n",
    "cut in half": encoded(voice(2.0), "FLAC")[:2000],
}


@pytest.fixture
def upload(real_service: Any) -> Iterator[Callable[..., httpx.Response]]:
    """upload(content, name="a take") with a key of its own."""
    with httpx.Client(
        base_url=real_service.url, headers={"Authorization": f"Bearer {real_service.key}"}, verify=False
    ) as client:
        yield lambda content, name="a take": client.post(
            "/v1/takes", params={"name": name}, content=content, timeout=60.0
        )


def temporary_files(data: Path) -> list[Path]:
    return [file for name in ("uploads", "trash") for file in (data / name).rglob("*")]


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_recording_is_refused_in_one_line_and_leaves_nothing(
    what: str, real_service: Any, upload: Callable[..., httpx.Response]
) -> None:
    taken = {path.name for path in (real_service.data / "takes").iterdir()}
    before = real_service.rss_bytes()
    forged = FORGED[what]
    answer = upload(forged() if callable(forged) else forged)
    assert answer.status_code in REFUSED, answer.text
    line = answer.json()["error"]
    assert line and "\n" not in line and str(real_service.data) not in line and ".audio" not in line
    assert not temporary_files(real_service.data)
    assert {path.name for path in (real_service.data / "takes").iterdir()} == taken
    assert real_service.rss_bytes() - before < MOST_GROWTH_BYTES


def test_a_stream_of_unknown_length_is_as_long_as_it_is(
    real_service: Any, upload: Callable[..., httpx.Response]
) -> None:
    assert upload(wav(data=0xFFFFFFFF)).json()["duration_s"] == pytest.approx(1.0)


def test_a_bomb_whose_header_lies_is_not_decoded_beyond_it(
    real_service: Any, upload: Callable[..., httpx.Response]
) -> None:
    bomb = with_flac_length(silent_flac(1.0, at_the_start=voice(1.0)), RATE)
    before = real_service.rss_bytes()
    answer = upload(bomb)
    assert answer.status_code in (201, *REFUSED)
    if answer.status_code == 201:
        assert answer.json()["duration_s"] == pytest.approx(1.0)
    assert real_service.rss_bytes() - before < MOST_GROWTH_BYTES


def test_what_is_in_its_tags_is_nobodys_business(real_service: Any, upload: Callable[..., httpx.Response]) -> None:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE, 1, "PCM_16", format="WAV") as sink:
        sink.title = "<script>alert('tag')</script>"
        sink.comment = "../../../etc/passwd\0\r\nX-Evil: 1"
        sink.write(voice(1.0))
    answer = upload(file.getvalue())
    assert answer.status_code == 201
    assert "alert" not in answer.text and "passwd" not in answer.text


NAMES = {
    "a way up": "../../../../etc/passwd",
    "an absolute path": "/etc/passwd",
    "a Windows path": "..\\..\\C:\\boot.ini",
    "a header": 'x"\r\nSet-Cookie: evil=1\r\n\r\n<script>',
    "nothing to see": "\u200b",
    "from right to left": "take\u202egnp.wav",
    "a script": "<img src=x onerror=alert(1)>",
    "NUL": "take\0.wav",
    "very long": "a" * 50_000,
    "only blanks": "   ",
    "a device": "CON",
    "a template": "{{7*7}}${7*7}%s%n",
    "SQL": "x'; DROP TABLE takes; --",
    "a quote": '"; filename="evil.html',
}


@pytest.mark.parametrize("what", NAMES)
def test_a_name_is_only_text(what: str, real_service: Any, upload: Callable[..., httpx.Response]) -> None:
    name = NAMES[what]
    answer = upload(wav(), name)
    assert answer.status_code in (201, 422), answer.text[:300]
    if answer.status_code == 422:
        assert "\n" not in answer.json()["error"]
        return
    take = answer.json()
    assert take["name"] == name
    with httpx.Client(
        base_url=real_service.url,
        headers={"Authorization": f"Bearer {real_service.key}"},
        timeout=60,
        verify=False,
    ) as client:
        audio = client.get(f"/v1/takes/{take['id']}/audio", params={"format": "original"})
        assert audio.content == wav()
        assert not {"set-cookie"} & set(audio.headers)
        assert audio.headers["x-content-type-options"] == "nosniff"
        assert "html" not in audio.headers["content-type"]
        disposition = audio.headers.get("content-disposition", "")
        assert disposition.isascii() and disposition.isprintable() and ".html" not in disposition.split("filename*")[0]
        assert client.delete(f"/v1/takes/{take['id']}").is_success
    inside = [path for path in real_service.data.rglob("*") if "passwd" in path.name or "evil" in path.name]
    assert not inside and not Path(real_service.data.parent / "etc").exists()


def mutated(original: bytes, chance: random.Random) -> bytes:
    """One recording with a few mistakes: bits, cuts, repetitions, zeros, numbers at their ends."""
    content = bytearray(original)
    for _ in range(chance.randint(1, 6)):
        if not content:
            break
        place = chance.randrange(min(len(content), chance.choice([64, 256, len(content)])))
        match chance.randrange(6):
            case 0:
                content[place] ^= 1 << chance.randrange(8)
            case 1:
                content[place : place + 4] = chance.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\1\0\0\0"])
            case 2:
                del content[place : place + chance.randint(1, 400)]
            case 3:
                content[place:place] = content[place : place + chance.randint(1, 400)]
            case 4:
                del content[place:]
            case 5:
                content[place : place + 16] = chance.randbytes(16)
    return bytes(content)


def originals() -> list[bytes]:
    kinds = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "MS_ADPCM"), ("WAVEX", "PCM_24"), ("FLAC", "PCM_16")]
    kinds += [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"), ("AU", "ULAW")]
    kinds += [("CAF", "ALAC_16"), ("W64", "PCM_16"), ("RF64", "PCM_16"), ("VOC", "PCM_16"), ("NIST", "PCM_16")]
    return [encoded(voice(0.5), form, subtype) for form, subtype in kinds]


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_recordings_are_taken_or_refused_and_cost_no_memory(
    count: int, real_service: Any, upload: Callable[..., httpx.Response]
) -> None:
    chance, every, statuses = random.Random(count), originals(), dict[int, int]()
    with httpx.Client(
        base_url=real_service.url, headers={"Authorization": f"Bearer {real_service.key}"}, verify=False
    ) as client:
        settled = 0
        for number in range(count):
            answer = upload(mutated(every[number % len(every)], chance))
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            assert answer.status_code in (201, *REFUSED), answer.text
            if answer.status_code == 201:
                assert 0.1 <= answer.json()["duration_s"] <= 600
                assert client.delete(f"/v1/takes/{answer.json()['id']}").is_success
            else:
                assert "\n" not in answer.json()["error"] and answer.json()["error"].isprintable()
            if number == count // 10:
                settled = real_service.rss_bytes()
    assert real_service.rss_bytes() - settled < MOST_GROWTH_BYTES / 4
    assert not temporary_files(real_service.data)
    assert set(statuses) >= {201, 422}, "neither all taken nor all refused"
    print(f"{count} mutated recordings: {statuses}, memory +{(real_service.rss_bytes() - settled) / 2**20:.1f} MiB")
