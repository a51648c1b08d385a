"""The benchmark's row of the hybrid: told little space, with one plate beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from audio.loudness import integrated_loudness_lufs
from audio.parts import Step, find_part, render
from audio.waveform import Waveform
from restyler.evaluate.evaluation_set import Song
from restyler.evaluate.hybrid_row import PLATE, SOFT_PLATE, hybrid_rows, raw_with_plate_row
from restyler.evaluate.model_rows import sampled_rows
from restyler.evaluate.rows import deterministic_rows
from restyler.pipeline import VocalRestylePipeline
from restyler.sends import ROOMS, read_sends
from restyler.settings import ANY_STYLE
from restyler.way_names import RESIDUAL


def test_it_is_the_dry_model_and_what_the_plate_makes_of_it(
    pipeline: VocalRestylePipeline, vocal: Callable[..., Waveform]
) -> None:
    """Against the parts rendered one by one, as loud as the take."""
    rate = pipeline.codec.sample_rate
    take = vocal(0.7, rate)
    song = Song(key="a", song="a", take=take, mix=take.stereo(), style=None, renders={})

    def as_decoded(_: Waveform, decoded: Waveform) -> Waveform:
        return decoded

    own_row = sampled_rows(pipeline, {RESIDUAL: as_decoded}, draws=2, seed=5)[0]
    plate, rooms, others, average = hybrid_rows(pipeline, as_decoded, own_row, draws=2, seed=5)
    found = plate.render(song)
    mean, deviation = pipeline.defaults.controls["space_db"]
    told = {"space_db": mean - 3 * deviation}
    dry = pipeline(take, seeds=[5, 6], style=ANY_STYLE if pipeline.styles else None, controls=told)
    for mix, samples in zip(found, dry, strict=True):
        sent = render(steps_of(PLATE[:1]), Waveform(samples, rate))
        wet = render(steps_of(PLATE[1:]), sent).samples - sent.samples
        whole = (Waveform(samples, rate).stereo().samples + wet).numpy()
        gain = (mix.samples.numpy() * whole).sum() / (whole**2).sum()
        np.testing.assert_allclose(mix.samples.numpy(), gain * whole, atol=1e-5)
        assert np.abs(gain * wet.numpy()).max() > 1e-3
        assert mix.samples.shape == song.mix.samples.shape and mix.sample_rate == rate
        assert integrated_loudness_lufs(mix) == pytest.approx(integrated_loudness_lufs(take), abs=0.01)
    own = pipeline(take, seeds=[5, 6], style=ANY_STYLE if pipeline.styles else None)  # 5 has none, 6 has a room
    sends = read_sends(ROOMS, sample_rate=rate)
    every = replace(sends, chains=replace(sends.chains, every=1))
    cases = [(5, rooms, own[0], {}), (6, rooms, dry[1], sends.drawn(6)), (5, others, dry[0], every.drawn(5))]
    for number, row, samples, room in [*cases, (6, others, own[1], {})]:
        mix, base = row.render(song)[number - 5].samples.numpy(), Waveform(samples, rate).stereo().samples
        buses = room.values()
        assert len(buses) in (0, 2)
        added = [render(list(steps), Waveform(base, rate)).samples - base for steps in buses]
        whole = (base + sum(added, torch.zeros(()))).numpy()
        np.testing.assert_allclose(mix, (mix * whole).sum() / (whole**2).sum() * whole, atol=1e-5)
    sigma = 0.0 if pipeline.denoiser.config.path == "bridge" else None
    plain = {"style": None, "steps": 1, "guidance": 1.0, "sigma": sigma, "spread": 0.0}
    alone = deterministic_rows(pipeline, {RESIDUAL: as_decoded})[-1]
    for row, answer in (
        (average, Waveform(pipeline(take, seeds=[0], controls=told, **plain)[0], rate)),
        (alone, Waveform(pipeline(take, seeds=[0], **plain)[0], rate)),
        (raw_with_plate_row(), take.stereo()),
    ):
        (found,) = row.render(song)
        sent = render(steps_of(SOFT_PLATE[:1]), answer)
        whole = (answer.stereo().samples + render(steps_of(SOFT_PLATE[1:]), sent).samples - sent.samples).numpy()
        expected = (found.samples.numpy() * whole).sum() / (whole**2).sum() * whole
        np.testing.assert_allclose(found.samples.numpy(), expected, atol=1e-5, err_msg=row.name)
        assert integrated_loudness_lufs(found) == pytest.approx(integrated_loudness_lufs(take), abs=0.01), row.name


def steps_of(plate: Sequence[tuple[str, Mapping[str, float]]]) -> list[Step]:
    return [Step(name, find_part(name).checked(values)) for name, values in plate]
