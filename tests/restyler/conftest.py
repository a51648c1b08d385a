"""A small untrained model that does something: random weights everywhere, so that seeds, styles and controls differ."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess as Process
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState

from audio import io
from audio.delay import PingPongDelay
from audio.effects import Compressor, EffectChain, render
from audio.filters import Filter
from audio.reverb import Reverb
from audio.singing import demo_take
from audio.waveform import Waveform
from codec.base import LatentCodec
from codec.pocket import PocketCodec
from conditioning.conditioner import StyleConditioner
from diffusion.denoiser import Denoiser
from diffusion.sampling import make_scheduler
from restyler.dataset_index import CodecFacts, DatasetIndex, Shards, write_index
from restyler.pipeline import VocalRestylePipeline
from restyler.sample import main
from restyler.shards import Segment, write_shard
from restyler.sing import random_take

ROOT = Path(__file__).resolve().parents[2]
SAMPLING: dict[str, Any] = {
    "steps": 2,
    "guidance": 1.0,
    "sigma": 1.0,
    "window_frames": 200,
    "context_frames": 50,
    "loudness_lufs": -18.0,
    "controls": {"width_db": (1.0, 2.0), "space_db": (0.0, 3.0)},
}
STYLES = ["dry booth", "warm plate", "wide hall"]


def make_pipeline(codec: LatentCodec, *, path: str = "bridge", **sampling: Any) -> VocalRestylePipeline:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        conditioner = StyleConditioner(codec.latent_dim, 16, STYLES, list(SAMPLING["controls"]), 8)
        denoiser = Denoiser(
            codec.latent_dim, 16, codec.fingerprint(), path=path, width=32, depth=1, heads=2, sigma_max=2.0
        )
        for parameter in (*conditioner.parameters(), *denoiser.parameters()):
            torch.nn.init.normal_(parameter, std=0.1)
    return VocalRestylePipeline(codec, conditioner, denoiser, make_scheduler("euler"), SAMPLING | sampling, {"seed": 7})


def small_codec() -> PocketCodec:
    """Untrained, but its linear path keeps as much of the sound as 127 of 640 coefficients can."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        codec = PocketCodec(width=16, encoder_blocks=1, decoder_blocks=1)
    torch.nn.init.zeros_(codec.encoder_linear.weight)
    torch.nn.init.zeros_(codec.decoder_linear.weight)
    for latent in range(codec.latent_dim - 1):
        coefficient = latent // 2 + (latent % 2) * codec.hop_samples  # the lowest of mid and side
        codec.encoder_linear.weight.data[latent, coefficient] = 1.0
        codec.decoder_linear.weight.data[coefficient, latent] = 1.0
    return codec


def make_vocal(seconds: float, sample_rate: int, *, channels: int = 1, seed: int = 0) -> Waveform:
    """Harmonics under a moving envelope, with some noise: cheap, and different in every channel."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(round(seconds * sample_rate)) / sample_rate
    envelope = 0.1 + 0.1 * torch.sin(2 * torch.pi * 1.5 * time) ** 2
    harmonics = sum(torch.sin(2 * torch.pi * 200 * k * time + seed) / k for k in range(1, 12))
    noise = torch.randn(channels, len(time), generator=generator)
    return Waveform((envelope * harmonics + 0.01 * noise).float(), sample_rate)


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps its state per process; every run of these tests stands for a process of its own."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    PartialState._reset_state()


@pytest.fixture(scope="session")
def python() -> Iterator[Callable[..., list[Process]]]:
    """python((arguments, environment), …, meanwhile=None): Python once for each, all at once, in the repository, as
    `forks.py` does; meanwhile(process ids) is called as soon as they have begun."""
    forks = [sys.executable, str(Path(__file__).with_name("forks.py"))]
    server = subprocess.Popen(
        forks, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert server.stdin is not None and server.stdout is not None

    def run(
        *programs: tuple[list[str], dict[str, str]], meanwhile: Callable[[list[int]], object] | None = None
    ) -> list[Process]:
        print(json.dumps(programs), file=server.stdin, flush=True)
        begun = json.loads(server.stdout.readline())
        if meanwhile is not None:
            meanwhile(begun)
        answers = json.loads(server.stdout.readline())
        return [Process(arguments, *answer) for (arguments, _), answer in zip(programs, answers, strict=True)]

    yield run
    server.stdin.close()
    server.wait(timeout=60)


@pytest.fixture(scope="session")
def two_processes(python: Callable[..., list[Process]]) -> Callable[..., list[Process]]:
    """two_processes(arguments, code=0): Python twice at once with these arguments in the repository, on the CPU, told
    of each other as a launcher would. Both must end with that exit code, or the second be ended when the first has."""

    def run(arguments: list[str], code: int = 0) -> list[Process]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": "2"}
        meeting |= {"ACCELERATE_USE_CPU": "true"}
        both = python(*((arguments, meeting | {"RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")))
        assert both[0].returncode == code, both
        assert both[1].returncode in ((code, -signal.SIGTERM) if code else (0,)), both
        return both

    return run


@pytest.fixture(scope="session")
def build_pipeline() -> Callable[..., VocalRestylePipeline]:
    """build_pipeline(codec=small, *, path="bridge", **sampling)."""
    return lambda codec=None, **options: make_pipeline(codec or small_codec(), **options)


@pytest.fixture(scope="session")
def vocal() -> Callable[..., Waveform]:
    """vocal(seconds, sample_rate, *, channels=1, seed=0)."""
    return make_vocal


@pytest.fixture(scope="session")
def pipeline() -> VocalRestylePipeline:
    return make_pipeline(small_codec())


@pytest.fixture(scope="session")
def model(pipeline: VocalRestylePipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model: read it, don't change it."""
    folder = tmp_path_factory.mktemp("models") / "small"
    pipeline.save_pretrained(folder, dtype=torch.float16)
    return folder


@pytest.fixture(scope="session")
def take() -> Waveform:
    """1.5 s, mono, 48 kHz: longer than one window of the model."""
    return make_vocal(1.5, 48_000)


@pytest.fixture(scope="session")
def write_pairs() -> Callable[..., Path]:
    """write_pairs(folder, seconds=1.2): two takes (by their keys one for training, one for validation) whose mixes are
    darker and wider; returns the folder."""

    def write(folder: Path, *, seconds: float) -> Path:
        take = demo_take().samples
        for number, key in enumerate(("a", "b")):
            raw = take[:, (number + 1) * 48_000 :][:, : round(seconds * 48_000)]
            mix = torch.cat([raw + raw.roll(1, 1), raw.roll(40 + number, 1)])
            for side, samples in (("raw", raw), ("mix", mix)):
                io.make_folder(folder / side)
                io.write(folder / side / f"{key}.wav", Waveform(0.5 * samples, 48_000), tags={})
        return folder

    return write


TOY_CODEC = CodecFacts(fingerprint="toy", sample_rate=48_000, hop_samples=480, latent_dim=4, frame_rate_hz=100.0)


@pytest.fixture(scope="session")
def synthetic_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For every training's synthetic pairs and their latents: singing them takes longer than the small runs."""
    return tmp_path_factory.mktemp("synthetic")


@pytest.fixture(scope="session")
def toy_segment() -> Callable[..., Segment]:
    """toy_segment(number, frames=300, mixes=1, latent_dim=4, **facts): random latents of its own; without `facts`, a
    take of its own with the style «near» or «far» and mixes without a chain."""

    def make(number: int, frames: int = 300, mixes: int = 1, latent_dim: int = 4, **facts: Any) -> Segment:
        random = np.random.default_rng(number)
        raw = random.normal(1.0, 2.0, (frames, latent_dim)).astype(np.float16)
        key = facts.get("key", f"take {number}")
        told = [
            {
                "key": f"{key}, mix {mix}",
                "style": facts.get("style", ("near", "far")[number % 2]),
                "chain": facts.get("chain"),
                "controls": {
                    side: {name: random.normal() for name in ("brightness_db", "width_db", "dynamics_db", "space_db")}
                    for side in ("raw", "mix")
                },
            }
            for mix in range(mixes)
        ]
        kept = {name: value for name, value in facts.items() if name not in ("style", "chain")}
        return Segment(
            f"s{number:05d}",
            raw,
            tuple((raw + random.normal(0.5, 1.0, raw.shape)).astype(np.float16) for _ in range(mixes)),
            {"key": key, "start_s": 0.0, "frames": frames, "mixes": told} | kept,
        )

    return make


@pytest.fixture(scope="session")
def write_set() -> Callable[..., Path]:
    """write_set(folder, train, validation=[], test=[], codec=toy, loudness_lufs=-18.0, per_shard=4): a prepared set of
    lists of segments; returns the folder."""

    def write(
        folder: Path, *splits: list[Segment], codec: CodecFacts = TOY_CODEC, lufs: float = -18.0, per_shard: int = 4
    ) -> Path:
        shards: dict[str, list[Any]] = {"train": [], "validation": [], "test": []}
        for split, segments in zip(shards, splits, strict=False):
            for first in range(0, len(segments), per_shard):
                part = segments[first : first + per_shard]
                stem = f"{split}-{first:03d}"
                shards[split].append(write_shard(folder, stem, part, frame_rate_hz=codec.frame_rate_hz))
        index = DatasetIndex(format=1, codec=codec, loudness_lufs=lufs, settings={}, shards=Shards(**shards))
        write_index(folder, index)
        return folder

    return write


@pytest.fixture
def vocal_file(vocal: Callable[..., Waveform], tmp_path: Path) -> Callable[..., Path]:
    """vocal_file("take.wav", seconds=0.6, rate=48000, channels=1, subtype=None, gain=1.0) → its path."""

    def make(
        name: str,
        seconds: float = 0.6,
        rate: int = 48_000,
        channels: int = 1,
        subtype: str | None = None,
        gain: float = 1.0,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = vocal(seconds, rate, channels=channels, seed=len(name)).samples.numpy().T * gain
        soundfile.write(path, samples, rate, subtype=subtype)
        return path

    return make


@pytest.fixture
def sample(model: Path, tmp_path: Path) -> Callable[..., int]:
    """sample(*arguments) with the small model and tmp_path/out; returns the exit code."""
    return lambda *arguments: main(["--model", str(model), "--out", str(tmp_path / "out"), *map(str, arguments)])


@pytest.fixture(scope="session")
def sung() -> Callable[[int, float], Waveform]:
    """sung(number, seconds): that voice's song by the project's own synthesiser, dry, mono, 48 kHz."""

    @functools.cache
    def take(number: int, seconds: float) -> Waveform:
        made = random_take(seconds, sample_rate=48_000, generator=np.random.default_rng([123, number]))
        return Waveform(0.5 * made.samples / made.samples.abs().max(), 48_000)

    return take


@pytest.fixture(scope="session")
def mixed() -> Callable[..., np.ndarray]:
    """mixed(raw, rate, *, seed, late_s=0.0): [2 samples] with equaliser, compressor, delay and reverb, so many seconds
    late (or early)."""

    def mix(raw: np.ndarray, rate: int, *, seed: int, late_s: float = 0.0) -> np.ndarray:
        random = np.random.default_rng(seed)
        chain = EffectChain(
            equaliser=(Filter("high_pass", 90.0, 0.7), Filter("high_shelf", 6000.0, 0.7, float(random.uniform(2, 6)))),
            compressor=Compressor(-24.0, 3.0, 5.0, 120.0, 3.0),
            delay=PingPongDelay(280.0, 0.3, 0.05, Filter("low_pass", 4000.0, 0.7), -40.0, 40.0),
            reverb=Reverb(
                band_hz=(500.0, 4000.0),
                t60_s=(1.2, 0.8),
                mid_level_db=-18.0,
                side_level_db=-20.0,
                correlation=0.1,
                pre_delay_ms=20.0,
                equaliser=(),
            ),
            delay_to_reverb=0.3,
            dry_pan_percent=0.0,
        )
        late = round(late_s * rate)
        padded = np.pad(raw, (max(late, 0), rate))[max(-late, 0) :]
        wet = render(chain, Waveform(torch.from_numpy(padded[None].astype(np.float32)), rate), seed=seed)
        return 0.5 * wet.samples.numpy() / float(wet.samples.abs().max())

    return mix


MICROPHONE = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, which plays and records without being asked: its microphone is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required", *MICROPHONE],
        )
        yield started
        started.close()
