"""Plans of mixes by presets."""

from __future__ import annotations

import time
import zlib
from pathlib import Path

from audio.presets import read_presets, training_names
from audio.styles import find_styles
from restyler.chain_tables import preset_values
from restyler.phrases import Phrase, Piece, Recording
from restyler.synthesis_plan import STYLES, mixes_crc32, plan_preset_takes


def test_thousands_of_mixes_are_planned_in_seconds_and_each_by_its_preset(preset_table: Path) -> None:
    recording = Recording(next(p for n in range(99) if _trains(p := Path(f"{n}.wav"))), "anna", 8.0, "")
    phrases = [Phrase(f"take{n}", (Piece(recording, 0, 8, 0.2),), 1.0) for n in range(1500)]
    start_s = time.process_time()
    takes = plan_preset_takes(phrases, preset_table, mixes_per_take=4, seed=3)
    assert time.process_time() - start_s < 4  # some 10 s where styles and values are found for every mix
    chains = read_presets(preset_table)
    styles = find_styles([chains[name] for name in training_names(preset_table, list(chains))], count=STYLES)
    for take in takes[:20]:
        for mix in take.mixes:
            (step,) = mix.steps
            seed = zlib.crc32(f"3/{take.phrase.key}/{mix.chain}".encode())
            expected = preset_values(preset_table, mix.chain, chains[mix.chain], seed=seed)
            assert list(step.values.items()) == list(expected.items())
            assert mix.style == styles.of(chains[mix.chain])
    assert mixes_crc32(takes, {}) == mixes_crc32(iter(takes), {}) != mixes_crc32(takes[:-1], {})


def _trains(path: Path) -> bool:
    return Recording(path, "anna", 8.0, "").split == "train"
