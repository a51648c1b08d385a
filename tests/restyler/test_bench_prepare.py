"""The benchmark of preparing prints what it measured."""

import re

import pytest

from restyler.bench_prepare import main


@pytest.mark.slow  # measures for half a minute
@pytest.mark.usefixtures("fresh_accelerator")
def test_the_share_of_the_codecs_own_speed_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "2", "--codec", "pocket"]) == 0
    printed = capsys.readouterr().out
    found = re.search(r"pocket +([0-9.]+) +([0-9]+)% of the codec's own ([0-9.]+)", printed)
    assert found is not None
    speed, percent, own = map(float, found.groups())
    assert percent == pytest.approx(100 * speed / own, abs=2)
    assert 0 < speed < own
    parts = re.search(
        r"([0-9.]+) s: listening ([0-9.]+), encoding ([0-9.]+) \(([0-9]+)%\), the rest ([0-9.]+)", printed
    )
    assert parts is not None
    whole_s, listening_s, encoding_s, of_encoding, rest_s = map(float, parts.groups())
    assert whole_s == pytest.approx(listening_s + encoding_s + rest_s, abs=0.2)
    assert percent < of_encoding and encoding_s > 0
