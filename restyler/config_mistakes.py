"""A mistake in a config, as pydantic found it, told in one line with the keys that the file shows."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic.fields import FieldInfo

from restyler.sections import Section


def explain(schema: type[Section], item: Any) -> str:
    """One pydantic error as one line: where, what is wrong, what is allowed."""
    shown, model, place = _walk(schema, item["loc"])
    dotted = ".".join(shown)
    match item["type"]:
        case "extra_forbidden":
            return f"{dotted}: unknown key{_suggest(shown[-1], sorted(model.model_fields) if model else [])}"
        case "missing":
            return f"{dotted}: missing"
        case "union_tag_invalid" | "union_tag_not_found":
            kinds = ", ".join(sorted(_members(place)))
            return f"{dotted}.kind: should be one of {kinds}, not {item['input'].get('kind')!r}"
        case "value_error":
            return ": ".join(filter(None, [dotted, item["msg"].removeprefix("Value error, ")]))
        case _:
            return f"{dotted}: {item['msg'].removeprefix('Input ')}, not {item['input']!r}"


def _walk(
    schema: type[Section], location: Sequence[int | str]
) -> tuple[list[str], type[Section] | None, FieldInfo | None]:
    """Follows an error's location: the keys as the file shows them, the section of the last one, and its field."""
    shown: list[str] = []
    model: type[Section] | None = schema
    place: FieldInfo | None = None
    for step in location:
        if step in _members(place):  # pydantic names the member of a union, the file does not
            model, place = _members(place)[str(step)], None
            continue
        if place is not None:
            model = _section_of(place)
        place = model.model_fields.get(str(step)) if model else None
        shown.append(str(step))
    return shown, model, place


def _members(place: FieldInfo | None) -> dict[str, type[Section]]:
    """The members of a tagged union by their `kind`."""
    if place is None or place.discriminator is None:
        return {}
    return {get_args(member.model_fields["kind"].annotation)[0]: member for member in get_args(place.annotation)}


def _section_of(place: FieldInfo) -> type[Section] | None:
    """The section that a field holds, alone or in a list."""
    candidates = (place.annotation, *get_args(place.annotation))
    return next((one for one in candidates if isinstance(one, type) and issubclass(one, Section)), None)


def _suggest(key: str, allowed: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, allowed, n=1)
    return f", did you mean «{near[0]}»?" if near else f" (allowed: {', '.join(allowed)})"
