import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion.windows import plan_windows


@settings(deadline=None)  # a busy machine is no bug
@given(frames=st.integers(1, 700), kept=st.integers(4, 90), context=st.integers(0, 40))
def test_windows_cover_every_frame_with_weights_that_sum_to_one(frames: int, kept: int, context: int) -> None:
    size = kept + 2 * context
    windows = plan_windows(frames, size, context)
    total = torch.zeros(frames, dtype=torch.float64)
    for window in windows:
        assert window.stop - window.start == len(window.weight) == min(size, frames)
        assert (window.weight >= 0).all()
        total[window.start : window.stop] += window.weight.double()
        if window.start > 0:
            assert not window.weight[:context].any()
        if window.stop < frames:
            assert not window.weight[len(window.weight) - context :].any()
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-6)
    assert windows[0].start == 0
    assert windows[-1].stop == frames


@settings(deadline=None)  # a busy machine is no bug
@given(frames=st.integers(1, 700), kept=st.integers(8, 90), context=st.integers(0, 40))
def test_no_join_is_harder_than_a_quarter_of_what_is_kept(frames: int, kept: int, context: int) -> None:
    for window in plan_windows(frames, kept + 2 * context, context):
        if len(window.weight) > 1:
            assert window.weight.diff().abs().max() <= 1 / (kept // 4) + 1e-6


def test_a_take_that_fits_is_one_window() -> None:
    (window,) = plan_windows(50, 50, 10)
    assert (window.start, window.stop) == (0, 50)
    assert bool((window.weight == 1).all())


@pytest.mark.parametrize(("size", "context"), [(20, 9), (20, -1), (3, 0)])
def test_windows_that_keep_nothing_are_refused(size: int, context: int) -> None:
    with pytest.raises(ValueError, match="window_frames"):
        plan_windows(100, size, context)
