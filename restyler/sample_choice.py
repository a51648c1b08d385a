"""What one call of `restyler sample` makes of every take, from its options and, with --like, from an earlier mix."""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from audio.bwf import read_time_stamp
from audio.errors import InputError
from audio.waveform import Waveform
from restyler.command import DEFAULT_PEAK_DBTP, shown
from restyler.liked import Liked, around, between_seeds, file_digest, read_liked, reference_tags, same_references
from restyler.noise import Seed, start_of
from restyler.pipeline import VocalRestylePipeline
from restyler.progress import Progress
from restyler.rack_chain import Rack, latency_lines, read_rack, same_chain, through
from restyler.rendering import Mix, render
from restyler.sample_plan import (
    BUNDLED_REVERB,
    CHAINS,
    DEFAULT_AROUND,
    NO_REVERB,
    default_variations,
    require_names_fit,
    wished_controls,
)
from restyler.saying import Reference
from restyler.sends import ROOMS, Sends, dry_space_db, read_sends
from restyler.settings import ANY_STYLE, NO_STYLE, SPACE, SamplingDefaults, Settings
from restyler.stems import CHAIN_STEMS, DRY
from restyler.stopwatch import CODEC, FILES, Stopwatch
from restyler.takes import Take, read_take
from restyler.telling import Told
from restyler.way_names import DEFAULT_WAY, TRANSFER

T = TypeVar("T")


@dataclass(frozen=True)
class Chains:
    """What the files that the options of the same names name lead to; --reverb has words for some without a file."""

    before: Rack | None = None
    after: Rack | None = None
    reverb: Sends | None = None


def read_chain_options(options: argparse.Namespace, *, sample_rate: int) -> Chains:
    """Their programs are tried, so that what they refuse shows before anything is made. Raises InputError."""
    before, after = (None if path is None else read_rack(path) for path in (options.before, options.after))
    for rack in (before, after):
        latency_lines(rack.steps if rack else (), sample_rate)
    named = options.reverb not in (None, BUNDLED_REVERB, NO_REVERB)
    return Chains(before, after, read_sends(options.reverb, sample_rate=sample_rate) if named else None)


class Choice:
    """The options' values, with the defaults of the model or those of the mix of --like filled in, all of it checked.

    model: its tag. chains: those that the options name, where they are read already. Raises InputError for options that
    don't fit each other, the model, or the mix of --like.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        pipeline: VocalRestylePipeline,
        takes: Sequence[Path],
        *,
        model: str,
        chains: Chains | None = None,
    ) -> None:
        self._options, self._pipeline, self._model = options, pipeline, model
        chains = chains or read_chain_options(options, sample_rate=pipeline.codec.sample_rate)
        self.before, self.after, self.reverb = chains.before, chains.after, chains.reverb
        if self.reverb is None and (options.reverb == BUNDLED_REVERB or _has_models_reverb(options, pipeline.defaults)):
            self.reverb = self._rooms
        liked = self._read_liked(takes, model) if options.like else None
        self._liked = liked
        self.settings = liked.settings if liked else _settings(options, pipeline, little_space=False)
        sent = self.reverb is not None and not liked
        self._sent = _settings(options, pipeline, little_space=True) if sent else self.settings
        self.variations: int = (
            options.between[2] if options.between else options.variations or default_variations(options)
        )
        self.way: str = options.render or (liked.way if liked else DEFAULT_WAY)
        self.strength: float = _first(options.strength, liked.strength if liked else pipeline.defaults.strength)
        self.lufs: float | None = _first(options.lufs, liked.lufs if liked else None)
        self.peak_dbtp: float = _first(options.peak, liked.peak_dbtp if liked else DEFAULT_PEAK_DBTP)
        self.tail_s: float = _first(options.tail, liked.tail_s if liked else 0.0)
        self.guarded: bool = options.guard == "on" if options.guard else liked.guarded if liked else True
        if self.way == TRANSFER and (self.before or self.after or self.reverb):
            raise InputError(
                "--before, --after and --reverb, that of the mix of --like too, need another --render than transfer: "
                "its chain would not be the mix"
            )
        if not liked:
            self._require_effect()
        if options.between and len({self._hears_buses(seed) for seed in options.between[:2]}) == 2:
            raise InputError(
                "--between: one of the two mixes hears the buses of --reverb, and the other none (`every`)"
            )
        if options.stems and not self.reverb and self.way != TRANSFER:
            raise InputError(f"--stems needs --reverb, or --render transfer: a mix by {self.way} alone is one sound")

    def _read_liked(self, takes: Sequence[Path], model: str) -> Liked:
        mix = self._options.like
        if len({os.path.realpath(path) for path in takes}) > 1:
            raise InputError(f"--like {shown(mix)}: a mix of one take, not of {len(takes)}")
        read_take(takes[0], self._pipeline.codec.sample_rate)
        liked = read_liked(mix, self._pipeline, model=model, take=file_digest(takes[0]))
        _ = self.references  # a file that can't be one is refused as such
        if not same_references(reference_tags(self._options.reference), liked.references):
            had = liked.references.get("reference", "none")
            raise InputError(f"--like {shown(mix)}: give the same --reference as for that mix: {shown(had)}")
        had_reverb = liked.chains.get("reverb")
        if self._options.reverb is None and had_reverb is not None and same_chain(self._rooms.tag, had_reverb):
            require_names_fit(self._options, more_chains=1)
            self.reverb = self._rooms
        chains = self._chain_tags | ({"reverb": self.reverb.tag} if self.reverb else {})
        for name in CHAINS:
            if not same_chain(chains.get(name), liked.chains.get(name)):
                had = liked.chains.get(name, "none")
                raise InputError(f"--like {shown(mix)}: give the same --{name} as for that mix: {shown(had)}")
        return liked

    @cached_property
    def _rooms(self) -> Sends:
        return read_sends(ROOMS, sample_rate=self._pipeline.codec.sample_rate)

    @property
    def _chain_tags(self) -> dict[str, str]:
        """Of the chains that every mix goes through."""
        return {name: chain.tag for name, chain in (("before", self.before), ("after", self.after)) if chain}

    @property
    def stems(self) -> tuple[str, ...]:
        """Of the stems that are written beside each mix, the names; a chain may have no delay or no reverb."""
        if not self._options.stems:
            return ()
        return (DRY, *(self.reverb.names if self.reverb else CHAIN_STEMS.values()))

    def _heard(self, take: Path) -> Waveform:
        """What is encoded: the take, through the chain of --before."""
        waveform = read_take(take, self._pipeline.codec.sample_rate)
        return through(self.before.steps, waveform) if self.before else waveform

    @cached_property
    def references(self) -> list[Reference]:
        """Read once. Raises InputError for a file that can't be one."""
        rate = self._pipeline.codec.sample_rate
        return [Reference(read_take(path, rate), weight) for path, weight in self._options.reference]

    def mixes(self, take: Waveform) -> tuple[Sequence[Seed], Sequence[Told]]:
        """Of one take: what decides each mix, and what it is told."""
        options = self._options
        if options.between:
            settings = self._settings_of(options.between[0])
            return between_seeds(self._pipeline, take, settings, *options.between)
        if self._liked:
            first, like = _first(options.seed, self._liked.next_seed), self._hears_buses(start_of(self._liked.seed))
            alike = (seed for seed in itertools.count(first) if self._hears_buses(seed) is like)
            seeds = list(itertools.islice(alike, self.variations))
            return around(self._pipeline, take, self._liked, seeds, _first(options.around, DEFAULT_AROUND))
        return self._plain_seeds, self._told(take, self._plain_seeds)

    @property
    def _plain_seeds(self) -> range:
        first = _first(self._options.seed, 0)
        return range(first, first + self.variations)

    def _require_effect(self) -> None:
        """Raises InputError for a guidance or a spread that would do nothing in any of the mixes."""
        options = self._options
        used = [self._settings_of(seed) for seed in (options.between or ())[:2] or self._plain_seeds]
        if options.guidance is not None and not options.reference and not any(settings.told for settings in used):
            raise InputError(
                "--guidance needs something to follow: a --style, a --reference, a --control or a --spread"
            )
        every = self._pipeline.defaults.controls.keys()
        if options.spread and all(settings.controls.keys() == every for settings in used):
            raise InputError("--spread has nothing to spread: every control of the model is told")

    def _hears_buses(self, seed: int) -> bool:
        return self.reverb is not None and self.reverb.heard_by(seed)

    def _settings_of(self, seed: int) -> Settings:
        return self._sent if self._hears_buses(seed) else self.settings

    def _told(self, take: Waveform, seeds: Sequence[int]) -> list[Told]:
        """Only where a room by hand comes behind it, the model is told to make little space of its own."""
        found: dict[int, Told] = {}
        for settings, in_rooms in ((self._sent, True), (self.settings, False)):
            if these := [seed for seed in seeds if self._hears_buses(seed) is in_rooms]:
                found |= zip(these, self._pipeline.told(take, settings, these), strict=True)
        return [found[seed] for seed in seeds]

    def render(
        self,
        take: Take,
        *,
        progress: Progress | None = None,
        numbers: Sequence[int] | None = None,
        watch: Stopwatch | None = None,
    ) -> Iterator[Mix]:
        """Writes the mixes of one take as `rendering.render` does. numbers: of those to write; by default all.
        watch: is told where the time goes."""
        watch = watch or Stopwatch()
        with watch.of(FILES):
            waveform = self._heard(take.path)
        seeds, said = self.mixes(waveform)
        chosen = range(len(seeds)) if numbers is None else numbers
        with watch.of(CODEC):
            encoded = self._pipeline.encoded(waveform, tail_s=self.tail_s)
        del waveform  # the encoded take has it, and it is large
        yield from render(
            self._pipeline,
            encoded,
            self.settings,
            seeds=[seeds[number] for number in chosen],
            paths=[take.mixes[number] for number in chosen],
            tags={**self.tags, "take": file_digest(take.path)},
            said=[said[number] for number in chosen],
            reference=self.references,
            strength=self.strength,
            loudness_lufs=self.lufs,
            peak_dbtp=self.peak_dbtp,
            max_batch=self._options.batch,
            progress=progress,
            way=self.way,
            raw=take.path,
            guarded=self.guarded,
            watch=watch,
            after=self.after.steps if self.after else (),
            sends=self.reverb,
            stems=self._options.stems,
            stamp=read_time_stamp(take.path),
            resampled=self._options.around != 0,  # that mix again is wanted, whatever is wrong with it
        )

    @property
    def tags(self) -> dict[str, str]:
        """What stands in every mix's comment: model, references and chains, but for buses, which not all may hear."""
        return {"model": self._model, **self._reference_tags, **self._chain_tags}

    @cached_property
    def _reference_tags(self) -> dict[str, str]:
        return reference_tags(self._options.reference)


def _has_models_reverb(options: argparse.Namespace, defaults: SamplingDefaults) -> bool:
    """Whether the mixes get the reverb that the model has by default: where --reverb says nothing, and nothing else
    says how they are to sound, where to lie, or that they are chains or the take itself."""
    style = options.style not in (None, ANY_STYLE)
    told = style or options.reference or wished_controls(options) or options.like or options.between
    mixed = options.render != TRANSFER and options.strength != 0
    return options.reverb is None and defaults.reverb != NO_REVERB and mixed and not told


def _first(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value


def _settings(options: argparse.Namespace, pipeline: VocalRestylePipeline, *, little_space: bool) -> Settings:
    """little_space: for mixes that stand in a room by hand."""
    controls = wished_controls(options)
    told = bool(options.reference) or bool(controls)
    if little_space:
        controls = {SPACE: dry_space_db(pipeline.defaults)} | controls
    style = options.style or (NO_STYLE if told or not pipeline.styles else ANY_STYLE)
    return pipeline.settings(
        style=None if style == NO_STYLE else style,
        controls=controls,
        steps=options.steps,
        guidance=options.guidance,
        sigma=options.sigma,
        spread=options.spread,
        referred=bool(options.reference),
    )
