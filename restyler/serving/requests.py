"""What is asked of the service, and what it answers, as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    create_model,
    model_validator,
)

from restyler.sample_plan import BUNDLED_REVERB, CHAINS, KNOBS, LONGEST_CHAIN, MOST_REFERENCES, NO_REVERB
from restyler.serving import sample_fields

LONGEST_NAME = 200
MOST_CONTROLS = 64


class Strict(BaseModel):
    """Nothing is guessed: other keys, other types, NaN and infinity are refused."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


def plain_name(text: str) -> str:
    """A name as people give one: no control characters, and something to see. Raises ValueError for another."""
    if not text.strip() or not text.isprintable():
        raise ValueError("a name is printable text, and not only blanks")
    return text


Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(plain_name)]
Identity = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16}$", description="an id that the service gave")]
Whole = BeforeValidator(sample_fields._whole)


class LikedMix(Strict):
    job: Identity
    mix: Annotated[int, Field(ge=0, le=99), Whole]


class ReferenceTake(Strict):
    take: Identity
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0


def plain_file_name(text: str) -> str:
    """Raises ValueError for a name that leads into another folder."""
    if "/" in text or "\\" in text or text in (".", ".."):
        raise ValueError("the name of a chain is that of a file, without its folder")
    return text


class ChainText(Strict):
    """An effect chain, as `restyler sample` reads it from a file."""

    yaml: Annotated[str, Field(min_length=1, max_length=LONGEST_CHAIN)]
    name: Annotated[Name, Field(max_length=40), AfterValidator(plain_file_name)] = "chain.yaml"


def _kind_of_reverb(value: Any) -> str | None:
    if isinstance(value, str):
        return WORD if value in (BUNDLED_REVERB, NO_REVERB) else None
    return CHAIN


WORD, CHAIN = "word", ""  # a chain's fields are called as those of `after`
Reverb = Annotated[
    Annotated[ChainText, Tag(CHAIN)] | Annotated[Literal["bundled", "none"], Tag(WORD)],
    Discriminator(
        _kind_of_reverb,
        custom_error_type="reverb",
        custom_error_message="bundled, none, or a chain as an object with yaml and name",
    ),
]
_SampleFields: Any = create_model("_SampleFields", __base__=Strict, **sample_fields.fields())


class JobRequest(_SampleFields):
    """A take and how it is to be restyled: the options of `restyler sample`; what is not given, the model decides."""

    take: Identity
    name: Name | None = Field(default=None, description="of the job (default: the take's)")
    like: LikedMix | None = Field(default=None, description="more like this mix of an earlier job of the same take")
    reference: Annotated[list[ReferenceTake], Field(max_length=MOST_REFERENCES)] = Field(
        default=[], description="finished vocals, uploaded as takes, whose style to take over"
    )
    controls: dict[str, float] = Field(
        default={},
        max_length=MOST_CONTROLS,
        description="what the mix is to change, by the names of /v1/model; the knobs are "
        + ", ".join(f"{knob} ({control})" for knob, (control, _) in KNOBS.items()),
    )

    before: ChainText | None = Field(default=None, description="an effect chain that the take goes through first")
    after: ChainText | None = Field(default=None, description="an effect chain that each mix goes through")
    reverb: Reverb | None = Field(
        default=None,
        description="buses of reverb and delay beside each mix; bundled: a room and echoes for every second one "
        "(default: the model's, as `restyler sample` has it)",
    )

    def said(self) -> dict[str, Any]:
        """What was given, as JSON holds it."""
        given: dict[str, Any] = self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        chains = {name: chain.model_dump() for name in CHAINS if isinstance(chain := getattr(self, name), ChainText)}
        return given | chains | {"take": self.take}


class JobChange(Strict):
    name: Name


class MixChange(Strict):
    name: Name | None = Field(default=None, description="null takes the name away")
    picked: bool | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("nothing is changed: name or picked is needed")
        if "picked" in self.model_fields_set and self.picked is None:
            raise ValueError("picked is true or false")
        return self


class Problem(BaseModel):
    """Every refusal."""

    error: str = Field(description="one line for people")
    field: str | None = Field(description="of the request, that is to blame")


class TakeAnswer(BaseModel):
    id: str
    name: str
    duration_s: float
    sample_rate_hz: int
    channels: int
    bytes: int = Field(description="of the file as it was uploaded")
    created: str = Field(description="ISO 8601, UTC")


class TakeList(BaseModel):
    takes: list[TakeAnswer]


class WaveformAnswer(BaseModel):
    low: list[float]
    high: list[float]


class MixAnswer(BaseModel):
    number: int
    seed: str = Field(description="a whole number, or the way between seeds, such as 3 7@0.25")
    styles: dict[str, float] = Field(description="names with their shares")
    chosen: dict[str, str] = Field(description="the settings that made it, as they stand in its comment")
    drawn: dict[str, float] = Field(description="controls that its seed drew, in dB")
    loudness_lufs: float
    true_peak_dbtp: float
    limited: bool = Field(description="quieter than wanted, for the sake of its true peak")
    seconds: float = Field(description="its duration")
    has_chain: bool
    name: str | None
    picked: bool
    model_config = ConfigDict(extra="allow")


State = Literal["queued", "running", "done", "failed", "cancelled"]


class JobAnswer(BaseModel):
    id: str
    name: str
    take: str
    state: State
    position: int | None = Field(description="jobs before it in the queue; null where it does not wait")
    progress: float = Field(ge=0, le=1)
    variations: int = Field(description="mixes that it makes")
    created: str
    started: str | None
    ended: str | None
    error: str | None
    request: dict[str, Any]
    mixes: list[MixAnswer]


class JobList(BaseModel):
    jobs: list[JobAnswer]


class ModelAnswer(BaseModel):
    name: str
    sample_rate_hz: int
    styles: list[str]
    controls: dict[str, dict[str, Any]]
    knobs: dict[str, dict[str, Any]]
    ways: list[str]
    defaults: dict[str, Any]
    limits: dict[str, int | float]
