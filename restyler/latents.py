"""Every recording encoded once: a cache of latents on disk, keyed by what they depend on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from tqdm import tqdm

from audio import features
from audio.errors import InputError
from audio.io import make_folder, read, write_bytes_atomic
from audio.loudness import integrated_loudness_lufs
from codec.base import LatentCodec

FORMAT = 1  # of an entry; a change of what is stored, or of how features are measured, raises it


@dataclass(frozen=True)
class Recording:
    """One cached recording: where its latents lie, how long it is, and what was measured on its audio."""

    path: Path
    frames: int
    features: dict[str, float]

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Raw latents of the frames start … stop − 1, [latent frames] in float32; only these are read from disk."""
        with safe_open(self.path, framework="pt") as file:
            part: torch.Tensor = file.get_slice("latents")[start:stop]
        return part.T.float()


class LatentCache:
    """FOLDER/<hash of the audio file>-<codec fingerprint>-….safetensors, raw latents [frames latent] in float16.

    Every recording is brought to `loudness_lufs` first, as takes are when sampling.
    Frames come first on disk, so that a crop is one contiguous read. A changed file or codec has another name, so
    nothing ever needs to be invalidated; old entries may be deleted at any time. Latents are kept as the codec's
    network gives them: standardisation statistics may be measured on them first.
    """

    def __init__(self, folder: Path, codec: LatentCodec, *, loudness_lufs: float) -> None:
        self.folder, self.codec, self.loudness_lufs = folder, codec, loudness_lufs
        self._hashes: dict[Path, str] = {}
        self.suffix = f"-{codec.fingerprint()}-{loudness_lufs:g}-v{FORMAT}.safetensors"

    def fill(self, files: Sequence[Path], *, device: torch.device, process: int, processes: int) -> None:
        """Encodes this process's share of those `files` that the cache lacks, or holds damaged; every process must
        take part.

        Raises InputError for audio that can't be read or is silent.
        """
        make_folder(self.folder)
        every = sorted({self._place(file): file for file in files}.items())  # files of one content share an entry
        share = [(place, file) for place, file in every[process::processes] if _stored(place) is None]
        self.codec.to(device)
        for place, file in tqdm(share, desc="encoding", mininterval=1.0, disable=not share or process > 0):
            self._encode(file, place, device)
        self.codec.to("cpu")

    def recording(self, file: Path) -> Recording:
        """A file that the cache holds."""
        place = self._place(file)
        recording = _stored(place)
        if recording is None:
            raise InputError(f"{place}: the latents of {file} are gone or damaged; run again to encode it anew")
        return recording

    def _place(self, file: Path) -> Path:
        return self.folder / (self.content_hash(file) + self.suffix)

    def content_hash(self, file: Path) -> str:
        if file not in self._hashes:
            try:
                with file.open("rb") as stream:
                    self._hashes[file] = hashlib.file_digest(stream, "sha256").hexdigest()[:32]
            except OSError as error:
                raise InputError(f"{file}: can't be read: {error.strerror}") from None
        return self._hashes[file]

    @torch.no_grad()
    def _encode(self, file: Path, place: Path, device: torch.device) -> None:
        waveform = read(file).stereo().resampled(self.codec.sample_rate)
        loudness_lufs = integrated_loudness_lufs(waveform)
        if loudness_lufs == -math.inf:
            raise InputError(f"{file}: silent: all of it lies below -70 LUFS")
        samples = waveform.samples * 10 ** ((self.loudness_lufs - loudness_lufs) / 20)
        latents = self.codec.encode_raw(samples[None].to(device))[0].T.to("cpu", torch.float16).contiguous()
        if not latents.isfinite().all():
            raise InputError(f"{file}: its latents are not finite in half precision; is the codec trained?")
        measured = features.measure(waveform)
        write_bytes_atomic(place, save({"latents": latents}, metadata={"features": json.dumps(measured)}))


def _stored(place: Path) -> Recording | None:
    """The entry at `place`, or None where there is none, or a damaged one (of a full disk, of a power cut)."""
    try:
        with safe_open(place, framework="pt") as entry:
            frames = entry.get_slice("latents").get_shape()[0]
            measured = json.loads(entry.metadata()["features"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None
    return Recording(place, frames, measured)
