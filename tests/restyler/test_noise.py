"""The noise of seeds, and of what lies between them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.spatial
import scipy.stats
import torch

from audio.errors import InputError
from restyler.noise import MOST_TURNS, Walk, noise, parse_seed, slerp, start_of, toward

SHAPE = (64, 200)


def test_the_ends_of_a_way_are_the_seeds_own_noise() -> None:
    for seed in (0, 12, 2**62):
        assert toward(3, seed, 1.0) == seed and toward(seed, 5, 0.0) == seed
        expected = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(noise(seed, SHAPE), expected)
    assert toward(4, 4, 0.3) == 4


def test_noise_between_seeds_is_as_much_noise_as_any() -> None:
    seed = 3
    for other, part in ((7, 0.5), (8, 0.25), (3, 0.5)):
        seed = toward(seed, other, part)
        field = noise(seed, SHAPE).double().flatten().numpy()
        assert field.std() == pytest.approx(1.0, abs=0.03)
        assert scipy.stats.kstest(field, "norm").pvalue > 0.001


def test_the_way_goes_in_equal_steps_on_a_circle() -> None:
    fields = [noise(toward(1, 2, part), SHAPE).double().flatten().numpy() for part in np.linspace(0, 1, 5)]
    unit = [field / np.linalg.norm(field) for field in fields]
    for found, wanted in zip(unit, scipy.spatial.geometric_slerp(unit[0], unit[-1], np.linspace(0, 1, 5)), strict=True):
        assert found @ wanted > 0.9999  # the fields' own lengths differ by a hundredth


def test_fields_without_a_way_between_them() -> None:
    field = noise(0, SHAPE)
    for other in (field, -field):
        with pytest.raises(ValueError, match="same or the opposite"):
            slerp(field, other, 0.5)


def test_a_walk_is_read_back_from_its_text() -> None:
    walk = toward(toward(3, 7, 1 / 3), 2**62, 0.1)
    assert str(walk) == f"3 7@0.3333333333333333 {2**62}@0.1"
    assert parse_seed(str(walk)) == walk and parse_seed("5") == 5
    assert start_of(walk) == 3 and start_of(9) == 9
    for wrong in ("", "x", "-1", "3 7", "3 7@1.0", "3 7@nan", "3 -7@0.5", "1" * 30, "3 7@0.5  8@0.5"):
        with pytest.raises(ValueError):  # noqa: PT011 - whichever says it
            parse_seed(wrong)


def test_a_walk_that_a_file_could_not_hold_is_refused() -> None:
    seed: int | Walk = 0
    for other in range(1, MOST_TURNS + 1):
        seed = toward(seed, other, 0.5)
    assert parse_seed(str(seed)) == seed
    with pytest.raises(InputError, match=f"{MOST_TURNS} steps"):
        toward(seed, 99, 0.5)
