"""The student block by block, as a plugin host calls it: any block size, the same sound as all at once.

A module that TorchScript compiles. It keeps what the next block needs: the take's last samples, the recurrent state,
the level, and what went into the room.
"""

import torch
from torch import nn

from restyler.student.network import FLOOR_DB, StudentNetwork
from restyler.student.spectra import BINS, HOP_SAMPLES, LATENCY_SAMPLES, WINDOW_SAMPLES

REFRESH_FRAMES = 8  # knobs are looked at so often, every 80 ms: a room takes a while to be made
QUIETEST = 1e-10  # −200 dB: what is softer is silence to the network, for subnormal numbers take five times as long
LOUDEST = 100.0  # 40 dB above full scale: what is beyond is a fault of the host, and would be remembered for long


class StreamingStudent(nn.Module):
    """Mono blocks in, stereo blocks of the same length out, LATENCY_SAMPLES later; strength fades from the take, as
    late, to the mix."""

    # TorchScript reads these, so they are types here, not text: no `annotations` of the future in this file.
    heard: torch.Tensor
    waiting: torch.Tensor
    late: torch.Tensor
    ready: torch.Tensor
    dry: torch.Tensor
    hidden: torch.Tensor
    level_db: torch.Tensor
    knobs: torch.Tensor
    strength: torch.Tensor
    told: torch.Tensor
    kernel: torch.Tensor
    sent: torch.Tensor

    def __init__(self, network: StudentNetwork) -> None:
        super().__init__()
        self.network = network
        self.hop, self.window, self.latency = HOP_SAMPLES, WINDOW_SAMPLES, LATENCY_SAMPLES
        self.quietest, self.loudest = QUIETEST, LOUDEST
        self.taps = network.room_frames
        self.floor_db, self.refresh = float(FLOOR_DB), REFRESH_FRAMES
        for name, shape in {
            "heard": (1, WINDOW_SAMPLES - HOP_SAMPLES),  # what the next frame sees of the past
            "waiting": (1, 0),  # input that makes no frame yet
            "late": (2, HOP_SAMPLES),  # the second half of the last frame
            "ready": (2, HOP_SAMPLES),  # wet sound to be given out: a frame comes up to a hop after its first sample
            "dry": (1, LATENCY_SAMPLES),  # the take that goes beside it
            "hidden": (1, 1, network.width),
            "level_db": (1,),
            "knobs": (1, 3),
            "strength": (1,),
        }.items():
            self.register_buffer(name, torch.zeros(shape), persistent=False)
        with torch.no_grad():
            told = network.told(self.knobs)
            self.register_buffer("told", told, persistent=False)
            self.register_buffer("kernel", _turned(network.room_kernel(told)), persistent=False)
        self.register_buffer("sent", torch.zeros(self.taps - 1, BINS, dtype=torch.complex64), persistent=False)
        self.frames = 0
        self.begun = False
        self.reset()

    @torch.jit.export
    def reset(self) -> None:
        """As if nothing had been heard."""
        self.heard = torch.zeros_like(self.heard)
        self.waiting = torch.zeros(1, 0)
        self.late = torch.zeros_like(self.late)
        self.ready = torch.zeros(2, self.hop)
        self.dry = torch.zeros(1, self.latency)
        self.hidden = torch.zeros_like(self.hidden)
        self.level_db = torch.full([1], self.floor_db)
        self.sent = torch.zeros_like(self.sent)
        self.frames = 0
        self.begun = False

    def forward(self, block: torch.Tensor, knobs: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
        """block [1 samples], knobs [1 3] as for the network, strength [1], 0 … 1 → [2 samples].

        A strength that is not that of the last block is reached by its end, so that turning it doesn't click. At 0 the
        take comes out as it went in.

        A plugin can't refuse what a host gives it, and must not remember it for ever: samples that are not finite or
        beyond LOUDEST are heard as silence; knobs and strength beyond 0 … 1 are at that end, those that are no number
        are in the middle and at 0.
        """
        block = torch.where(block.abs() <= self.loudest, block, torch.zeros_like(block))
        knobs = torch.nan_to_num(knobs, 0.5).clamp(0.0, 1.0)
        strength = torch.nan_to_num(strength, 0.0).clamp(0.0, 1.0)
        if not self.begun:
            self.strength = strength
        audible = torch.where(block.abs() >= self.quietest, block, torch.zeros_like(block))
        incoming = torch.cat([self.waiting, audible], dim=1)
        count = incoming.shape[1] // self.hop
        for number in range(count):
            piece = incoming[:, number * self.hop : (number + 1) * self.hop]
            self.ready = torch.cat([self.ready, self._frame(piece, knobs)], dim=1)
        self.waiting = incoming[:, count * self.hop :]
        samples = block.shape[1]
        self.dry = torch.cat([self.dry, block], dim=1)
        wet, self.ready = self.ready[:, :samples], self.ready[:, samples:]
        dry, self.dry = self.dry[:, :samples], self.dry[:, samples:]
        share = self.strength + (strength - self.strength) * torch.linspace(0.0, 1.0, samples)
        self.strength = strength
        self.begun = True
        return dry * (1 - share) + wet * share

    def _frame(self, piece: torch.Tensor, knobs: torch.Tensor) -> torch.Tensor:
        """One hop of the take → one hop of the mix that is complete by now."""
        network = self.network
        if self.frames == 0 or (self.frames % self.refresh == 0 and not bool(torch.equal(knobs, self.knobs))):
            self.knobs = knobs
            self.told = network.told(knobs)
            self.kernel = _turned(network.room_kernel(self.told))
        self.frames += 1
        whole = torch.cat([self.heard, piece], dim=1)
        self.heard = whole[:, self.hop :]
        spectrum = torch.fft.rfft(whole * network.analysis)[:, None]
        middle, sent, self.level_db, self.hidden = network.gains(spectrum, self.told, self.level_db, self.hidden)
        through = torch.cat([self.sent, (spectrum * sent)[0]], dim=0)
        self.sent = through[1:]
        room = (self.kernel * through).sum(1)
        mid, side = (spectrum * middle)[0, 0] + room[0], room[1]
        both = (
            torch.fft.irfft(torch.stack([mid + side, mid - side]), self.window)[:, -self.latency :] * network.synthesis
        )
        out = self.late + both[:, : self.hop]
        self.late = both[:, self.hop :]
        return out


def _turned(kernel: torch.Tensor) -> torch.Tensor:
    """[1 2 taps BINS] → [2 taps BINS], the oldest first, as what went in is kept."""
    return kernel[0].flip(1).contiguous()
