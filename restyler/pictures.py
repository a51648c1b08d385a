"""Pictures of audio for the report: an envelope as an SVG path, a spectrogram as a PNG."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence

import numpy as np
from PIL import Image

from audio import on_disk
from audio.waveform import Waveform

Array = np.ndarray

ENVELOPE_COLUMNS = 600
SPECTROGRAM_COLUMNS = 800
SPECTROGRAM_ROWS = 160
LOWEST_HZ = 50.0
HIGHEST_HZ = 20_000.0
DYNAMIC_RANGE_DB = 80.0
WINDOW_SAMPLES = 2048
SHORTEST_HOP_SAMPLES = 256
WINDOWS_AT_ONCE = 64
GAP_PIXELS = 4  # between spectrograms that are stacked

# Dark to light, evenly spaced; lightness only rises, so that level reads in grey print and without colour vision.
COLOURS = ((6, 6, 18), (38, 18, 74), (92, 26, 110), (158, 42, 100), (217, 78, 72), (246, 143, 64), (252, 214, 140))


def envelope_heights(samples: Array) -> Array:
    """Highest |sample| per column, [2 columns]; samples: [2 samples]."""
    length = samples.shape[1]
    columns = min(ENVELOPE_COLUMNS, length)
    edges = np.arange(columns + 1) * length // columns
    heights = np.zeros((len(samples), columns), samples.dtype)
    for column, (start, stop) in enumerate(itertools.pairwise(edges)):
        heights[:, column] = np.abs(samples[:, start:stop]).max(axis=1)
        on_disk.let_go(samples)
    return heights


def envelope_path(heights: Array, peak: float) -> str:
    """SVG path in a box of 600 × 100 of `envelope_heights`: the left channel upwards, the right channel downwards;
    `peak` (linear) reaches the edge of the box."""
    scaled = heights / peak * 50
    x = np.arange(scaled.shape[1]) * ENVELOPE_COLUMNS / scaled.shape[1]
    up = [f"{a:.0f} {50 - b:.1f}" for a, b in zip(x, scaled[0], strict=True)]
    down = [f"{a:.0f} {50 + b:.1f}" for a, b in zip(x, scaled[1], strict=True)]
    return "M" + "L".join(up + down[::-1]) + "Z"


def curve_path(values_db: Array, *, top_db: float, range_db: float) -> str:
    """SVG path in a box of 600 × 100: values [points], evenly spaced, from the left edge to the right; `top_db` is the
    upper edge, range_db below it the lower one, where what is lower stays."""
    y = np.clip((top_db - values_db) / range_db, 0, 1) * 100
    x = np.linspace(0, ENVELOPE_COLUMNS, len(y)) if len(y) > 1 else np.array([0.0])
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def spectrogram_db(samples: Array, sample_rate: int) -> Array:
    """Mean power density of both channels in dB, [rows columns]; rows from HIGHEST_HZ down, evenly spaced in octaves.

    samples: [2 samples]. Rows above the Nyquist frequency hold −inf. A row's power comes from the interpolated
    integral of the spectrum over its band, so that low rows, narrower than an FFT bin, are right as well.
    """
    hop = max(SHORTEST_HOP_SAMPLES, samples.shape[1] // (4 * SPECTROGRAM_COLUMNS))
    starts = np.arange(0, samples.shape[1], hop)
    window = np.hanning(WINDOW_SAMPLES).astype(samples.dtype)
    powers = []
    for some in np.split(starts, range(WINDOWS_AT_ONCE, len(starts), WINDOWS_AT_ONCE)):
        first, stop = some[0] - WINDOW_SAMPLES // 2, some[-1] + WINDOW_SAMPLES // 2  # silence around the signal
        heard = samples[:, max(0, first) : stop]
        heard = np.pad(heard, ((0, 0), (max(0, -first), stop - max(0, first) - heard.shape[1])))
        frames = np.lib.stride_tricks.sliding_window_view(heard, WINDOW_SAMPLES, axis=1)[:, some - some[0]]
        powers.append(np.mean(np.abs(np.fft.rfft(frames * window)) ** 2, axis=0))
        on_disk.let_go(samples)
    power = np.concatenate(powers)  # [frames bins]
    columns = min(SPECTROGRAM_COLUMNS, len(starts))
    first = np.arange(columns) * len(starts) // columns
    power = np.add.reduceat(power, first, axis=0) / np.diff(first, append=len(starts))[:, None]

    integral = np.cumsum(np.pad(power, ((0, 0), (1, 0))), axis=1)
    bin_edges_hz = (np.arange(integral.shape[1]) - 0.5) * sample_rate / WINDOW_SAMPLES
    edges_hz = np.geomspace(HIGHEST_HZ, LOWEST_HZ, SPECTROGRAM_ROWS + 1)
    bands = np.stack([-np.diff(np.interp(edges_hz, bin_edges_hz, line)) for line in integral], axis=1)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(bands / -np.diff(edges_hz)[:, None])


def spectrogram_png(density_db: Array, top_db: float) -> bytes:
    """A PNG with a palette; `top_db` is the brightest colour, DYNAMIC_RANGE_DB below it the darkest."""
    file = io.BytesIO()
    spectrogram_image(density_db, top_db).save(file, "PNG", optimize=True)
    return file.getvalue()


def stacked(references: Sequence[Waveform], estimates: Sequence[Waveform]) -> Image.Image:
    """Spectrograms of stereo waveforms of one length, one below the other, in colours that mean the same level in all:
    the brightest is the loudest of the references."""
    sides = [*references, *estimates]
    densities = [spectrogram_db(side.samples.cpu().numpy(), side.sample_rate) for side in sides]
    top_db = max(float(density.max()) for density in densities[: len(references)])
    images = [spectrogram_image(density, top_db).convert("RGB") for density in densities]
    width, height = images[0].size
    whole = Image.new("RGB", (width, len(images) * (height + GAP_PIXELS) - GAP_PIXELS), "white")
    for number, image in enumerate(images):
        whole.paste(image, (0, number * (height + GAP_PIXELS)))
    return whole


def spectrogram_image(density_db: Array, top_db: float) -> Image.Image:
    level = np.clip((density_db - top_db) / DYNAMIC_RANGE_DB + 1, 0, 1)
    anchors = np.linspace(0, 255, len(COLOURS))
    palette = np.stack([np.interp(np.arange(256), anchors, channel) for channel in np.transpose(COLOURS)], axis=1)
    image = Image.fromarray((level * 255).astype(np.uint8), mode="L")
    image.putpalette(palette.astype(np.uint8).tobytes())
    return image
