"""One mix of a raw take with NumPy and ONNX Runtime alone, from a folder that `restyler export onnx` wrote.

    python examples/onnx_sample.py ONNX take.wav mix.wav --style bright_long

It goes the road of the project's own pipeline, decoded alone (`sample.py --render codec --spread 0 --guard off`): the
take is brought to the loudness of training and encoded, noise is put on it, the denoiser's estimates of the mix lead to
the mix's latents, and these are decoded. Networks see windows, so that memory is bounded for takes of any length. The
noise of a seed is NumPy's, so that the mix of a seed is not the one that `sample.py` makes of it; --noise takes noise
from a file. Needs the packages numpy, onnxruntime and soundfile.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np

FORMAT = 1  # of facts.json
PEAK = 10 ** (-1 / 20)


class RefusedError(Exception):
    """Bad input, in one line."""


class Model:
    """The graphs and their facts."""

    def __init__(self, folder: Path, threads: int) -> None:
        import onnxruntime

        try:
            self.facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
            if self.facts["format"] != FORMAT:
                raise ValueError(f"facts of format {self.facts['format']}, this example reads {FORMAT}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RefusedError(f"{folder}: no folder that `restyler export onnx` wrote: {error}") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads  # 0: as many as there are cores
        self.sessions = {}
        for name, graph in self.facts["graphs"].items():
            file = folder / graph["file"]
            try:
                self.sessions[name] = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # onnxruntime's own have no base in common
                raise RefusedError(f"{file}: cannot be loaded: {' '.join(str(error).split())}") from None

    def __call__(self, name: str, **inputs: np.ndarray) -> np.ndarray:
        return self.sessions[name].run(None, inputs)[0]

    def encode(self, waveform: np.ndarray) -> np.ndarray:
        """[2 samples] → [1 latent frames]."""
        hop = self.facts["hop_samples"]
        frames = -(-waveform.shape[1] // hop)
        whole = np.pad(waveform, ((0, 0), (0, frames * hop - waveform.shape[1])))[None]
        pieces = [
            self("encoder", waveform=whole[:, :, low * hop : high * hop])[:, :, keep]
            for low, high, keep in self.codec_windows(frames)
        ]
        return np.concatenate(pieces, axis=2)

    def decode(self, latents: np.ndarray, samples: int) -> np.ndarray:
        """[1 latent frames] → [2 samples]."""
        hop = self.facts["hop_samples"]
        pieces = [
            self("decoder", latents=latents[:, :, low:high])[0, :, keep.start * hop : keep.stop * hop]
            for low, high, keep in self.codec_windows(latents.shape[2])
        ]
        return np.concatenate(pieces, axis=1)[:, :samples]

    def codec_windows(self, frames: int) -> list[tuple[int, int, slice]]:
        """First frame and last + 1 of each window, both with context, and what of it to keep."""
        length, context = self.facts["codec"]["window_frames"], self.facts["codec"]["context_frames"]
        windows = []
        for start in range(0, frames, length):
            low, stop = max(0, start - context), min(start + length, frames)
            windows.append((low, min(frames, stop + context), slice(start - low, stop - low)))
        return windows

    def told(self, style: str | None, controls: dict[str, float], reference: np.ndarray | None) -> np.ndarray:
        """What the mix is told, as one vector [1 embed]. reference: latents of one, [1 latent frames]."""
        inputs: dict[str, np.ndarray] = {}
        if self.facts["styles"]:
            inputs["style"] = np.array([-1 if style is None else self.facts["styles"].index(style)])
        if self.facts["controls"]:
            row = [(controls.get(one["name"], math.nan) - one["mean"]) / one["std"] for one in self.facts["controls"]]
            inputs["controls"] = np.array([row], np.float32)
        frames = 0 if reference is None else reference.shape[2]
        if reference is None:
            reference = np.zeros((1, self.facts["latent_channels"], 1), np.float32)
        return self("conditioner", **inputs, reference=reference, reference_frames=np.array([frames]))

    def sample(
        self, raw: np.ndarray, pooled: np.ndarray, noise: np.ndarray, grid: list[float], sigma: float, guidance: float
    ) -> np.ndarray:
        """Latents of the mix, [1 latent frames], along the grid of times from 1 to 0. raw and noise: as it."""
        path, heun = self.facts["path"], self.facts["solver"] == "heun"
        z = noise
        if path["kind"] == "bridge":
            z = raw + np.float32(sigma) * np.array(path["residual_std"], np.float32)[:, None] * noise
        for t, after in itertools.pairwise(grid):
            now = self.velocity(z, raw, pooled, t, sigma, guidance)
            ahead = z + np.float32(after - t) * now
            if heun and after > 0:
                now = (now + self.velocity(ahead, raw, pooled, after, sigma, guidance)) / 2
                ahead = z + np.float32(after - t) * now
            z = ahead
        return z

    def velocity(
        self, z: np.ndarray, raw: np.ndarray, pooled: np.ndarray, t: float, sigma: float, guidance: float
    ) -> np.ndarray:
        """dz/dt at time t, from estimates of the mix window by window, blended."""
        inputs = {"t": np.array([t], np.float32)}
        if self.facts["path"]["kind"] == "bridge":
            inputs["sigma"] = np.array([sigma], np.float32)
        mix = np.zeros_like(z)
        for start, stop, weight in windows(z.shape[2], **self.facts["denoiser"]):
            part = slice(start, stop)
            inputs |= {"noisy": z[:, :, part], "raw": raw[:, :, part]}
            estimate = self("denoiser", **inputs, pooled=pooled)
            if guidance != 1 and pooled.any():
                without = self("denoiser", **inputs, pooled=np.zeros_like(pooled))
                estimate = without + np.float32(guidance) * (estimate - without)
            mix[:, :, part] += weight * estimate
        return (z - mix) / np.float32(t)


def windows(frames: int, window_frames: int, context_frames: int) -> list[tuple[int, int, np.ndarray]]:
    """First frame, last + 1 and weights of windows that cover a take; their outer contexts weigh nothing, their
    neighbours fade into each other, and in every frame the weights add up to one."""
    if frames <= window_frames:
        return [(0, frames, np.ones(frames, np.float32))]
    kept = window_frames - 2 * context_frames
    fade, last = kept // 4, frames - window_frames
    gaps = -(-last // (kept - fade))
    starts = np.array([i * last // gaps for i in range(gaps + 1)])
    centres = (starts[:-1] + starts[1:] + window_frames) / 2
    rises = np.clip((np.arange(frames) + 0.5 - centres[:, None]) / fade + 0.5, 0, 1)
    edges = np.concatenate([np.ones((1, frames)), rises, np.zeros((1, frames))])
    weights = (edges[:-1] - edges[1:]).astype(np.float32)
    return [(a, a + window_frames, weight[a : a + window_frames]) for a, weight in zip(starts, weights, strict=True)]


def loudness_lufs(waveform: np.ndarray, rate: int) -> float:
    """Integrated loudness of [2 samples] (ITU-R BS.1770-4): K-weighting, blocks of 400 ms every 100 ms, two gates. The
    filters' analogue prototypes are those that give the standard's coefficients at 48 kHz (De Man 2014); they are
    applied by their frequency responses."""
    size = waveform.shape[1] + 2 * rate  # 2 s after the end: the high-pass has rung out long before
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(size))
    weighting = np.ones_like(z)
    for frequency_hz, q, gain in ((1681.974450955533, 0.7071752369554196, 10 ** (3.999843853973347 / 20)),
                                  (38.13547087602444, 0.5003270373238773, None)):  # fmt: skip
        k = math.tan(math.pi * frequency_hz / rate)
        bottom = np.array([1 - k / q + k * k, 2 * (k * k - 1), 1 + k / q + k * k])
        top = bottom[2] * np.array([1.0, -2.0, 1.0])  # of the high-pass, as the standard has it
        if gain is not None:
            middle = gain**0.4996667741545416 * k / q
            top = np.array([gain - middle + k * k, 2 * (k * k - gain), gain + middle + k * k])
        weighting *= np.polyval(top, z) / np.polyval(bottom, z)
    heard = np.fft.irfft(np.fft.rfft(waveform.astype(np.float64), size) * weighting, size)[:, : waveform.shape[1]]
    block, hop = min(round(0.4 * rate), waveform.shape[1]), round(0.1 * rate)
    energy = np.concatenate([[0.0], np.cumsum(np.square(heard).sum(axis=0))])
    # As other meters have it, the last block may reach over the end by half a step.
    starts = np.arange(round((waveform.shape[1] - block) / hop) + 1) * hop
    power = (energy[np.minimum(starts + block, waveform.shape[1])] - energy[starts]) / block
    loud = power[power > 10 ** ((-70 + 0.691) / 10)]
    loud = loud[loud > 0.1 * loud.mean()] if len(loud) else loud
    return -0.691 + 10 * math.log10(loud.mean()) if len(loud) else -math.inf


def read_levelled(file: Path, facts: dict) -> tuple[np.ndarray, float]:
    """[2 samples] float32 at the loudness of training, and the file's own loudness in LUFS."""
    import soundfile

    try:
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise RefusedError(f"{file}: cannot be read: {error}") from None
    if rate != facts["sample_rate_hz"] or samples.shape[1] > 2:
        raise RefusedError(
            f"{file}: {samples.shape[1]} channels at {rate} Hz; this example takes one or two at "
            f"{facts['sample_rate_hz']} Hz (convert it: sox in.wav -r {facts['sample_rate_hz']} out.wav)"
        )
    if not np.isfinite(samples).all():
        raise RefusedError(f"{file}: some of its samples are no numbers")
    waveform = np.ascontiguousarray(np.broadcast_to(samples.T, (2, len(samples))))
    loudness = loudness_lufs(waveform, rate) if len(samples) else -math.inf
    if loudness == -math.inf:
        raise RefusedError(f"{file}: silent: all of it lies below -70 LUFS")
    return waveform * np.float32(10 ** ((facts["loudness_lufs"] - loudness) / 20)), loudness


def write(file: Path, waveform: np.ndarray, rate: int) -> None:
    """24 bit, under its name whole or not at all."""
    import soundfile

    unfinished = file.with_name(f".{file.name}.tmp")
    try:
        soundfile.write(unfinished, waveform.T, rate, subtype="PCM_24", format="WAV")
        unfinished.replace(file)
    except (OSError, soundfile.LibsndfileError) as error:
        raise RefusedError(f"{file}: cannot be written: {error}") from None
    finally:
        unfinished.unlink(missing_ok=True)


def natural(text: str) -> int:
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("model", type=Path, metavar="ONNX", help="folder that `restyler export onnx` wrote")
    parser.add_argument("take", type=Path, metavar="TAKE", help="raw take, one or two channels at the model's rate")
    parser.add_argument("mix", type=Path, metavar="MIX", help="WAV file to write, 24 bit, as loud as the take")
    parser.add_argument("--style", help="one of the model's styles (default: not told)")
    parser.add_argument("--control", action="append", default=[], metavar="NAME=VALUE", help="any number of them")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="recording whose style is to be taken over")
    parser.add_argument("--steps", metavar="N", help="solver steps; those of facts.json")
    parser.add_argument("--sigma", type=float, metavar="S", help="how freely mixes may differ (default: the model's)")
    parser.add_argument("--guidance", type=float, metavar="G", help="how far to exaggerate (default: the model's)")
    parser.add_argument("--seed", type=natural, default=0, help="of the noise (default 0)")
    parser.add_argument("--noise", type=Path, metavar="FILE", help=".npy of the noise instead, [latent frames]")
    parser.add_argument("--threads", type=natural, default=0, metavar="N", help="of ONNX Runtime; 0: all cores")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    if options.mix.suffix.lower() != ".wav":
        raise RefusedError(f"{options.mix}: a mix is a .wav file")
    if options.mix.resolve() in [heard.resolve() for heard in (options.take, options.reference) if heard]:
        raise RefusedError(f"{options.mix}: a mix would take the place of what is heard")
    model = Model(options.model, options.threads)
    facts = model.facts
    if facts["solver"] not in ("euler", "heun"):
        raise RefusedError(f"the solver is {facts['solver']}; here are euler and heun (restyler bundle sets it)")
    if options.style is not None and options.style not in facts["styles"]:
        raise RefusedError(f"unknown style {options.style!r} (allowed: {', '.join(facts['styles']) or 'none'})")
    known = {one["name"]: one for one in facts["controls"]}
    controls: dict[str, float] = {}
    for text in options.control:
        name, _, value = text.partition("=")
        try:
            controls[name] = float(value)
            one = known[name]
        except (ValueError, KeyError):
            allowed = ", ".join(known) or "none"
            raise RefusedError(f"{text!r} is not NAME=NUMBER of a control (allowed: {allowed})") from None
        if not one["lowest"] <= controls[name] <= one["highest"]:
            raise RefusedError(f"{name}: {one['lowest']:.4g} to {one['highest']:.4g} is possible, not {value}")
    steps = options.steps or str(facts["steps"])
    if steps not in facts["grids"]:
        raise RefusedError(f"--steps is one of {', '.join(facts['grids'])}, not {steps}")
    bridge, sigma = facts["path"]["kind"] == "bridge", options.sigma
    if sigma is not None and not (bridge and 0 <= sigma <= facts["path"]["sigma_max"]):
        raise RefusedError(f"--sigma is from 0 to {facts['path'].get('sigma_max', 0):g}, where the path is a bridge")
    usual = facts["reference_guidance" if options.reference else "guidance"]
    guidance = usual if options.guidance is None else options.guidance
    if not 0 <= guidance <= 20:
        raise RefusedError(f"--guidance is from 0 to 20, not {guidance:g}")
    sigma = facts["sigma"] if sigma is None else sigma
    take, loudness = read_levelled(options.take, facts)
    raw = model.encode(take)
    if options.noise:
        try:
            noise = np.load(options.noise)
        except (OSError, ValueError, EOFError) as error:
            raise RefusedError(f"{options.noise}: cannot be read: {error}") from None
        real = isinstance(noise, np.ndarray) and noise.dtype.kind == "f" and np.isfinite(noise).all()
        if not real or noise.shape != raw.shape[1:]:
            raise RefusedError(f"{options.noise}: an array {list(raw.shape[1:])} of finite real numbers is needed")
        noise = noise.astype(np.float32)[None]
    else:
        noise = np.random.default_rng(options.seed).standard_normal(raw.shape, np.float32)
    reference = model.encode(read_levelled(options.reference, facts)[0]) if options.reference else None
    pooled = model.told(options.style, controls, reference)
    mix = model.decode(model.sample(raw, pooled, noise, facts["grids"][steps], sigma, guidance), take.shape[1])
    gain = 10 ** ((loudness - loudness_lufs(mix, facts["sample_rate_hz"])) / 20)
    limited = gain * np.abs(mix).max() > PEAK
    mix *= np.float32(PEAK / np.abs(mix).max() if limited else gain)
    write(options.mix, mix, facts["sample_rate_hz"])
    held = ", held to -1 dBFS" if limited else ""
    print(f"{options.mix}  {loudness_lufs(mix, facts['sample_rate_hz']):.1f} LUFS{held}")


if __name__ == "__main__":
    try:
        run(arguments())
    except RefusedError as refusal:
        print("error:", refusal, file=sys.stderr)
        sys.exit(2)
