"""The pages of a webMUSHRA configuration, checked: which trials they ask for."""

from __future__ import annotations

import difflib
import html
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from audio.errors import InputError
from restyler.command import shown
from restyler.listen.plan import Kind
from restyler.listen.stimuli import OPEN
from restyler.listen.texts import QUESTIONS

TOP_KEYS = {
    *("testname", "testId", "bufferSize", "stopOnErrors", "showButtonPreviousPage", "remoteService", "pages"),
    *("language", "showResults"),
}
_PAGE = {"type", "id", "name", "content"}
_SHOWN = {*_PAGE, "showWaveform", "enableLooping", "reference", "stimuli", "switchBack"}
_ANCHORED = {"createAnchor35", "createAnchor70"}
PAGE_KEYS: dict[str, set[str]] = {
    "generic": _PAGE,
    "consent": {*_PAGE, "mustConsent"},
    "volume": {*_PAGE, "stimulus", "defaultVolume"},
    "mushra": {*_SHOWN, *_ANCHORED, "strict", "randomize", "showConditionNames"},
    "bs1116": {*_SHOWN, *_ANCHORED, "showConditionNames"},
    "paired_comparison": {*_SHOWN, "unforced"},
    "likert_multi_stimulus": {*_PAGE, "mustRate", "mustPlayback", "stimuli", "response"},
    "likert_single_stimulus": {
        *(*_PAGE, "mustRate", "mustPlayback", "stimuli", "response", "showWaveform", "maxStimuli")
    },
    "finish": {*_PAGE, "showResults", "writeResults", "questionnaire", "popupContent"},
}
TESTED: dict[str, Kind] = {
    "mushra": "mushra",
    "bs1116": "mushra",
    "paired_comparison": "abx",
    "likert_multi_stimulus": "rating",
    "likert_single_stimulus": "acr",
}

Tree = Mapping[str, Any]
Heading = tuple[str, str, str]


@dataclass(frozen=True)
class Draft:
    """A trial before its sounds are there. sounds: by condition, the file; OPEN is the open reference's."""

    where: str
    id: str
    kind: Kind
    item: str
    question: str
    sounds: Mapping[str, str]
    anchors: Sequence[str] = ()
    strict: bool = True


def checked_pages(tree: Tree, source: str) -> list[tuple[str, Tree]]:
    """The pages in order, out of all nested lists, each with what errors call it.

    Raises InputError for a page or a key that is unknown, and where nothing is judged.
    """
    _refuse_unknown(tree, TOP_KEYS, source)
    found = []
    for number, page in enumerate(_flat(tree.get("pages"), source), start=1):
        where = f"{source}: page {shown(page.get('id', number))}"
        kind = page.get("type")
        if kind not in PAGE_KEYS:
            raise InputError(f"{where}: a page of type {kind!r} is not known here (known: {', '.join(PAGE_KEYS)})")
        _refuse_unknown(page, PAGE_KEYS[kind], f"{where} ({kind})")
        found.append((where, page))
    if not any(page["type"] in TESTED for _, page in found):
        raise InputError(f"{source}: no page on which anything is judged")
    return found


def drafts(pages: Sequence[tuple[str, Tree]]) -> list[Draft]:
    """The trials of all pages. Raises InputError for a page without sounds, reference or id, and an id given twice."""
    tested = [(where, page) for where, page in pages if page["type"] in TESTED]
    headings = Counter(_heading(page) for _, page in tested if _is_original(page, tested))
    found = [draft for where, page in tested for draft in _drafts(where, page, headings)]
    for name, count in Counter(draft.id for draft in found).items():
        if count > 1:
            where = next(draft.where for draft in found if draft.id == name)
            raise InputError(f"{where}: the id is given {count} times; results are told apart by it")
    if all(is_training(draft.id) for draft in found):
        raise InputError(f"{found[0].where}: all pages are for practice: their ids begin with «training»")
    return found


def is_training(page_id: str) -> bool:
    """Pages for practice are those that are called so; webMUSHRA makes no difference."""
    return page_id.startswith("training")


def as_text(content: str) -> str:
    """What a page's HTML says, without its tags."""
    lines = re.sub(r"(?i)<br\s*/?>|</(p|div|li|h\d)>", "\n", content)
    return html.unescape(re.sub(r"<[^>]*>", "", lines)).strip()


def _flat(pages: Any, source: str) -> Iterator[Tree]:
    if not isinstance(pages, list):
        raise InputError(f"{source}: «pages» is a list, not {pages!r}")
    for place, page in enumerate(pages):
        if isinstance(page, list):
            yield from _flat(page, source)
        elif isinstance(page, dict):
            yield page
        elif not (page == "random" and place == 0):
            raise InputError(f"{source}: {page!r} is no page; «random» stands first in a list of pages")


def _refuse_unknown(tree: Tree, known: set[str], where: str) -> None:
    for key in tree:
        if key not in known:
            near = difflib.get_close_matches(str(key), sorted(known), n=1)
            hint = f", did you mean «{near[0]}»?" if near else f" (allowed: {', '.join(sorted(known))})"
            raise InputError(f"{where}: unknown key «{shown(key)}»{hint}")


def _heading(page: Tree) -> Heading:
    """What a listener reads on a page, and its type."""
    return str(page["type"]), str(page.get("name", "")), str(page.get("content", ""))


def _is_original(page: Tree, tested: Sequence[tuple[str, Tree]]) -> bool:
    name = str(page.get("id", ""))
    repeats = name.endswith("-again") and any(other.get("id") == name[: -len("-again")] for _, other in tested)
    return not repeats and not is_training(name)


def _drafts(where: str, page: Tree, headings: Mapping[Heading, int]) -> Iterator[Draft]:
    """The trials of one page: of a page that asks for each stimulus by itself as many as it has stimuli."""
    kind = TESTED[page["type"]]
    stimuli = page.get("stimuli")
    if not isinstance(stimuli, dict) or not stimuli or not all(isinstance(path, str) for path in stimuli.values()):
        raise InputError(f"{where}: «stimuli» names the sounds: a mapping of names to files")
    name = str(page.get("id") or "")
    if not name:
        raise InputError(f"{where}: «id» is missing; results are told apart by it")
    title = str(page.get("name") or "")
    # A heading that several such pages share is no name of an item: they would be taken for one.
    item = title if title and (headings[_heading(page)] <= 1 or kind in ("abx", "acr")) else name
    question = as_text(str(page.get("content") or "")) or QUESTIONS[kind]
    reference = page["reference"] if isinstance(page.get("reference"), str) else ""
    if kind in ("mushra", "abx") and not reference:
        raise InputError(f"{where}: «reference» is missing; {page['type']} needs one")
    if "reference" in stimuli and kind in ("mushra", "abx"):
        raise InputError(f"{where}: the hidden reference is added by itself; «stimuli» are the others")
    anchors = [name for name, key in (("anchor35", "createAnchor35"), ("anchor70", "createAnchor70")) if page.get(key)]
    taken = [anchor for anchor in anchors if anchor in stimuli]
    if taken:
        raise InputError(f"{where}: «{taken[0]}» is both a stimulus and to be created")
    strict = page.get("strict", True) is not False
    draft = Draft(where, name, kind, item, question, stimuli, anchors, strict)
    match page["type"]:
        case "mushra":
            yield replace(draft, sounds={OPEN: reference, "reference": reference, **stimuli})
        case "likert_multi_stimulus":
            yield draft
        case one:
            for number, (condition, path) in enumerate(stimuli.items(), start=1):
                sounds = {condition: path}
                if one != "likert_single_stimulus":
                    sounds = {"reference": reference, **sounds}
                if one == "bs1116":
                    sounds = {OPEN: reference, **sounds}
                yield replace(draft, id=name if len(stimuli) == 1 else f"{name}-{number}", sounds=sounds)


def left_out(pages: Sequence[tuple[str, Tree]]) -> Iterator[str]:
    """What the configuration asks for and the plan doesn't keep."""
    told: list[tuple[Callable[[Tree], Any], str]] = [
        (lambda page: page.get("showConditionNames"), "showConditionNames: nobody is told what is heard"),
        (lambda page: page.get("unforced"), "unforced: of A and B one has to be chosen"),
        (lambda page: page.get("maxStimuli"), "maxStimuli: all of the stimuli are asked for"),
        (lambda page: page.get("type") == "bs1116", "bs1116: graded from 0 to 100, both sounds of each pair"),
        (lambda page: page.get("type") == "likert_multi_stimulus", "likert_multi_stimulus: rated from 0 to 100"),
        (lambda page: page.get("type") == "likert_single_stimulus", "likert_single_stimulus: graded from 1 to 5"),
        (lambda page: page.get("questionnaire"), "questionnaire: a listener's link stands for the listener"),
    ]
    for asks, line in told:
        if any(asks(page) for _, page in pages):
            yield f"not as in webMUSHRA: {line}"
