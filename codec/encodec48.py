"""The official EnCodec 48 kHz stereo model as a codec: its latents before the quantiser, and a level track.

Défossez, Copet, Synnaeve, Adi: High Fidelity Neural Audio Compression (2022), through the `encodec` package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from diffusers import ModelMixin  # noqa: F401  (diffusers finds custom components by this name in their module)
from diffusers.configuration_utils import register_to_config
from encodec import EncodecModel
from encodec.model import ROOT_URL
from encodec.modules import SEANetDecoder, SEANetEncoder

from audio import on_disk
from audio.errors import InputError
from codec.base import LatentCodec
from codec.level import db_to_power, match_level, power_to_db, smoothed_power
from codec.windows import WindowGrid, cut, join, whole_frames

CHECKPOINT = "encodec_48khz-7e698e3e.th"  # the name ends with the first digits of the file's SHA-256
WINDOWS_AT_ONCE = 4


class Encodec48Codec(LatentCodec):
    """EnCodec 48 kHz: 128 latents before the quantiser and the level in dB, at 150 frames/s.

    The model was trained on segments of 1 s, each divided by its own RMS, and every convolution, the decoder's last
    one included, is followed by a norm over the whole window. Two things follow. What it does depends on the window,
    so windows of 1 s on a fixed grid, cross-faded in the latents and again in the waveform, *are* the definition of
    this codec. And its latents carry no level, so the last channel does: every decoded window is brought to the
    level that this channel asks for.

    n_filters: width of the network; the official weights have 32.
    """

    sample_rate = 48_000
    channels = 2
    hop_samples = 320
    latent_dim = 129

    ENCODER_PREFIXES = ("encoder.",)

    # In frames: 1 s every 0.5 s. The LSTM starts anew and the convolutions see mirrored audio at a window's ends, so
    # 0.1 s are discarded there; the long fade makes the change from one window's norms to the next one's gradual.
    grid = WindowGrid(length=150, hop=75, margin=15, fade=45)

    @register_to_config
    def __init__(self, n_filters: int = 32) -> None:
        super().__init__()
        self.encoder = SEANetEncoder(self.channels, n_filters=n_filters, norm="time_group_norm", causal=False)
        self.decoder = SEANetDecoder(self.channels, n_filters=n_filters, norm="time_group_norm", causal=False)
        self._register_statistics()

    @classmethod
    def from_official(cls, repository: Path | None = None) -> Encodec48Codec:
        """The official weights: fetched (and cached) by the `encodec` package, or read from the folder `repository`.

        Raises InputError where they can't be fetched, or the folder or cache holds no such file or another content.
        """
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        if repository is None and (cache / CHECKPOINT).is_file():
            repository = cache  # the package would load it unchecked
        if repository is None:
            try:
                official = EncodecModel.encodec_model_48khz(pretrained=True)
            except (OSError, RuntimeError) as error:
                raise InputError(
                    f"the EnCodec weights could not be fetched ({error}): put {ROOT_URL}{CHECKPOINT} into a folder "
                    "and name that folder"
                ) from error
        else:
            official = EncodecModel.encodec_model_48khz(pretrained=False)
            official.load_state_dict(_checked_weights(repository))
        codec = cls()
        codec.encoder.load_state_dict(official.encoder.state_dict())
        codec.decoder.load_state_dict(official.decoder.state_dict())
        return codec.eval()

    @classmethod
    def from_seed(cls, seed: int, n_filters: int = 32) -> Encodec48Codec:
        """Random weights in the official layout: the road can be run, and trained from the start, without them."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(n_filters=n_filters).eval()

    def heard_frames(self, first: int, stop: int) -> tuple[int, int]:
        """The windows that make them: the grid stays the one that starts with the take."""
        return self.grid.around(first, stop)

    def encode_raw(self, waveform: torch.Tensor) -> torch.Tensor:
        """[batch 2 samples] → [batch 129 frames]; the memory it works in does not grow with the length."""
        latents = on_disk.empty(len(waveform), self.latent_dim, self.frames(waveform.shape[-1]), like=waveform)
        return _filled(latents, self._encode_chunks(waveform.split(self.sample_rate, dim=-1)), waveform)

    def decode_raw(self, latents: torch.Tensor, samples: int) -> torch.Tensor:
        """[batch 129 frames] → [batch 2 samples]; the memory it works in does not grow with the length."""
        waveform = on_disk.empty(len(latents), self.channels, samples, like=latents)
        return _filled(waveform, self._decode_chunks(latents.split(self.grid.length, dim=-1)), latents)

    def encode_stream(self, chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Chunks [batch 2 any] of one waveform → chunks of its standardised latents, equal to those of `encode`.

        Yields with a delay of some windows. Raises ValueError for another number of channels or no sample at all.
        """
        for latents in self._encode_chunks(self._checked(chunks, self.channels)):
            yield (latents - self.latent_mean[:, None]) / self.latent_std[:, None]

    def decode_stream(self, chunks: Iterable[torch.Tensor], *, samples: int) -> Iterator[torch.Tensor]:
        """Chunks [batch 129 any] of standardised latents → chunks of the waveform that `decode` gives.

        Raises ValueError, after the last chunk, where the frames were not `frames(samples)` in all.
        """
        frames, left = 0, samples

        def raw() -> Iterator[torch.Tensor]:
            nonlocal frames
            for latents in self._checked(chunks, self.latent_dim):
                frames += latents.shape[-1]
                yield latents * self.latent_std[:, None] + self.latent_mean[:, None]

        for waveform in self._decode_chunks(raw()):
            yield waveform[..., :left]
            left = max(left - waveform.shape[-1], 0)
        if frames != self.frames(samples):
            raise ValueError(f"{samples} samples are decoded from {self.frames(samples)} frames, not {frames}")

    def _encode_chunks(self, chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        grid = self.grid.times(self.hop_samples)
        windows = cut(whole_frames(chunks, self.hop_samples), grid)
        encoded = _in_batches(self._encode_windows, windows)
        return join(((start // self.hop_samples, latents) for start, latents in encoded), self.grid)

    def _decode_chunks(self, chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        decoded = _in_batches(self._decode_windows, cut(chunks, self.grid))
        grid = self.grid.times(self.hop_samples)
        return join(((start * self.hop_samples, waveform) for start, waveform in decoded), grid)

    def _encode_windows(self, windows: torch.Tensor) -> torch.Tensor:
        """[windows 2 samples] → [windows 129 frames]."""
        latents = self.encoder(windows / window_scale(windows))
        level_db = power_to_db(smoothed_power(windows, self.hop_samples))
        return torch.cat([latents, level_db], dim=1)

    def _decode_windows(self, windows: torch.Tensor) -> torch.Tensor:
        """[windows 129 frames] → [windows 2 samples]."""
        waveform = self.decoder(windows[:, :-1])
        return match_level(waveform, db_to_power(windows[:, -1:]), self.hop_samples)

    def _checked(self, chunks: Iterable[torch.Tensor], channels: int) -> Iterator[torch.Tensor]:
        for chunk in chunks:
            if chunk.ndim != 3 or chunk.shape[1] != channels:
                raise ValueError(f"the stream has chunks [batch {channels} any], not {list(chunk.shape)}")
            yield chunk


def window_scale(windows: torch.Tensor) -> torch.Tensor:
    """What a window is divided by before the encoder, [windows 1 1].

    As in the official model the RMS of the mono sum, but never less than half the RMS of both channels: an
    anti-phase pair, whose sum vanishes, would otherwise be divided by nothing. The two differ only for pairs
    that are out of phase for the most part (uncorrelated channels stand at 0.71).
    """
    mono = windows.mean(dim=1, keepdim=True).square().mean(dim=2, keepdim=True).sqrt()
    both = windows.square().mean(dim=(1, 2), keepdim=True).sqrt()
    return torch.maximum(mono, both / 2) + 1e-8


def _in_batches(
    network: Callable[[torch.Tensor], torch.Tensor], windows: Iterable[tuple[int, torch.Tensor]]
) -> Iterator[tuple[int, torch.Tensor]]:
    """Windows through a network, always the same ones together: a stream's chunks can't change its arithmetic."""
    windows = iter(windows)
    while group := list(islice(windows, WINDOWS_AT_ONCE)):
        outputs = network(torch.cat([window for _, window in group]))
        yield from zip((start for start, _ in group), outputs.chunk(len(group)), strict=True)


def _filled(whole: torch.Tensor, chunks: Iterable[torch.Tensor], source: torch.Tensor) -> torch.Tensor:
    """The chunks one after the other, as far as there is room, in `whole`. source: what they are made of."""
    at = 0
    for chunk in chunks:
        stop = min(at + chunk.shape[-1], whole.shape[-1])
        whole[..., at:stop] = chunk[..., : stop - at]
        at = stop
        on_disk.let_go(whole, source)
    return whole


def _checked_weights(repository: Path) -> dict[str, torch.Tensor]:
    """The official state dict from a local folder, if it is the official one.

    Loaded here and not by the package, which would unpickle onto whatever device the file names.
    """
    file = repository / CHECKPOINT
    try:
        content = file.open("rb")
    except OSError as error:
        raise InputError(f"no EnCodec weights at {file} ({error.strerror}): {ROOT_URL}{CHECKPOINT} has them") from error
    with content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    wanted = file.stem.rpartition("-")[2]
    if not digest.startswith(wanted):
        raise InputError(f"{file} has the checksum {digest[: len(wanted)]}, the official EnCodec weights {wanted}")
    return torch.load(file, map_location="cpu", weights_only=True)
