"""What a decoder lacks in level, bin by bin, made up for by a fixed gain."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from codec.pocket import PocketCodec
from restyler.codec_start import ACTIVE_RMS

SMOOTHED_BINS = 9  # 675 Hz: what one bin's noise says of its neighbours


@torch.no_grad()
def lacking_gains(codec: PocketCodec, batches: Sequence[torch.Tensor]) -> torch.Tensor:
    """How much softer than the sound itself the coefficients of its round trip are, as gains [2 · hop]; of the middle:
    those of the side are 1.

    A decoder that can't know the waveform of the highs is nearest to it, in the mean, with less energy than they have.
    The ratio of mean squares over active frames, each frame at the level of the original, so that loud and soft ones
    count alike; smoothed over nine bins. The side lacks more, but what stands for it is noise: raised, it took mixes
    farther from their engineers' (docs/log.md).

    batches: stereo excerpts, each [batch 2 samples], a multiple of the hop. Raises ValueError for too little sound.
    """
    wanted = torch.zeros(codec.hop_samples, dtype=torch.float64, device=codec.bin_scale.device)
    found = torch.zeros_like(wanted)
    for batch in batches:
        original, level = codec.analyse(batch)
        decoded, own_level = codec.analyse(codec.decode_frames(codec.encode_frames(batch)))
        decoded = decoded * torch.exp(own_level - level)[..., None]
        active = level > math.log(ACTIVE_RMS)
        for total, middle in ((wanted, original), (found, decoded)):
            total += middle[active][:, : codec.hop_samples].double().square().sum(0)
    if not bool((found > 0).all()):
        raise ValueError("levels of a decoder need sound in every bin")
    log_gains = (wanted / found).log().div(2)
    reach = SMOOTHED_BINS // 2
    smoothed = F.avg_pool1d(F.pad(log_gains[None], (reach, reach), mode="replicate"), SMOOTHED_BINS, 1)[0]
    return torch.cat([smoothed.exp(), torch.ones_like(smoothed)]).to(codec.bin_scale.dtype)
