"""The benchmark of preparing prints what it measured."""

import re

import pytest

from restyler.bench_prepare import main


@pytest.mark.usefixtures("fresh_accelerator")
def test_the_share_of_the_codecs_own_speed_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "2", "--codec", "pocket"]) == 0
    found = re.search(r"pocket +([0-9.]+) +([0-9]+)% of the codec's own ([0-9.]+)", capsys.readouterr().out)
    assert found is not None
    speed, percent, own = map(float, found.groups())
    assert percent == pytest.approx(100 * speed / own, abs=2)
    assert 0 < speed < own
