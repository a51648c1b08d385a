"""Where a listener is, and what each message of their browser changes. Transactions and HTTP are the server's."""

from __future__ import annotations

import functools
import sqlite3
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from restyler.listen import balance, headphones, sessions, storage
from restyler.listen.plan import ListeningTest, Stimulus
from restyler.listen.sessions import RefusedError
from restyler.listen.sounds import address
from restyler.sections import NonNegative, Section, first_mistake


class Consent(Section):
    agree: Literal[True]


class Level(Section):
    pass


class Check(Section):
    number: NonNegative
    answer: Annotated[int, Field(ge=1, le=3)]


class Heard(Section):
    page: NonNegative
    slot: str


class Rating(Section):
    page: NonNegative
    field: str
    value: int | float | str
    sequence: Annotated[int, Field(ge=1, lt=1 << 53)]  # of one browser, rising: a late duplicate overwrites nothing


class Submit(Section):
    page: NonNegative


@dataclass(frozen=True)
class Flow:
    """A test as its listeners walk through it. secret: what addresses are made with. now_s: seconds since 1970."""

    plan: ListeningTest
    secret: str
    now_s: Callable[[], float]

    def state(self, connection: sqlite3.Connection, listener: int) -> dict[str, Any]:
        """What a listener is to be shown: a stage, and what belongs to it. Neither conditions nor items nor files."""
        storage.note_step(connection, listener, "arrived", self.now_s())
        stage, number = self._place(connection, listener)
        sound = {"stage": stage, "sample_rate_hz": self.plan.sample_rate_hz}
        match stage:
            case "consent":
                return {"stage": stage, "text": self.plan.consent}
            case "level":
                return {**sound, "sound": self.address(listener, stage, 0)}
            case "headphones":
                asked = {"number": number, "of": headphones.QUESTIONS, "sound": self.address(listener, stage, number)}
                return sound | asked
            case "finished":
                return {"stage": stage, "text": self.plan.finish}
        storage.note_opened(connection, listener, number, self.now_s())
        page = self._pages(listener)[number]
        return {
            **sound,
            "page": number,
            "of": len(self._pages(listener)),
            "kind": page.trial.kind,
            "training": page.trial.training,
            "question": page.trial.question,
            "instructions": self.plan.instructions,
            "ties": page.trial.ties,
            "heard_s": None if page.trial.kind in sessions.HEARD_WHOLE else sessions.HEARD_S,
            "sounds": [{"slot": slot, "sound": self.address(listener, number, slot)} for slot in sessions.slots(page)],
            "values": dict(storage.ratings(connection, listener, number)),
            "heard": sorted(storage.heard(connection, listener, number)),
            "sequence": storage.last_sequence(connection, listener),
        }

    def act(self, connection: sqlite3.Connection, listener: int, action: str, body: bytes) -> dict[str, Any]:
        """Does what a message asks and says what is kept. Raises RefusedError."""
        model, do = ACTIONS[action]
        try:
            message = model.model_validate_json(body)
        except ValidationError as error:
            where, item = first_mistake(error)
            raise RefusedError(422, f"{action}: {where}: {item['msg']}".replace("\n", " ")) from error
        return do(self, connection, listener, message)

    def sound(self, connection: sqlite3.Connection, listener: int, wanted: str) -> tuple[str, int, Stimulus | None]:
        """Which sound an address is: (stage, question, None) of the checks, ("page/slot", 0, stimulus) of a page.

        Only those of the page that the listener is at are there: RefusedError (404) for all others.
        """
        stage, number = self._place(connection, listener)
        if stage in ("level", "headphones") and wanted == self.address(listener, stage, number):
            return (stage, number, None)
        if stage == "page":
            for slot, stimulus in sessions.slots(self._pages(listener)[number]).items():
                if wanted == self.address(listener, number, slot):
                    return (f"{number}/{slot}", 0, stimulus)
        raise RefusedError(404, "not found")

    def address(self, listener: int, *where: int | str) -> str:
        return address(self.secret, listener, *where)

    @functools.cached_property
    def loudness_lufs(self) -> float:
        """Of the checks' sounds: what the test's sounds are brought to, in the middle."""
        return statistics.median(sound.loudness_lufs for trial in self.plan.trials for sound in trial.stimuli)

    @functools.cached_property
    def _known_pages(self) -> dict[int, tuple[balance.Page, ...]]:
        return {}

    def _pages(self, listener: int) -> tuple[balance.Page, ...]:
        if listener not in self._known_pages:
            self._known_pages[listener] = balance.pages(self.plan, listener)
        return self._known_pages[listener]

    def _place(self, connection: sqlite3.Connection, listener: int) -> tuple[str, int]:
        """A listener's stage, and the number of the question or page."""
        consented, levelled = storage.steps(connection, listener)
        if not consented:
            return ("consent", 0)
        if not levelled:
            return ("level", 0)
        if self.plan.headphone_check and (asked := storage.checks_done(connection, listener)) < headphones.QUESTIONS:
            return ("headphones", asked)
        done = storage.pages_done(connection, listener)
        return ("page", done) if done < len(self._pages(listener)) else ("finished", 0)

    def _at_page(self, connection: sqlite3.Connection, listener: int, number: int) -> bool:
        """Whether that page is open; False where it has been submitted. Raises RefusedError (409) for a later one."""
        if number < storage.pages_done(connection, listener):
            return False
        if self._place(connection, listener) != ("page", number):
            raise RefusedError(409, f"page {number} is not open yet")
        return True

    def _consent(self, connection: sqlite3.Connection, listener: int, _: Consent) -> dict[str, Any]:
        storage.note_step(connection, listener, "consent", self.now_s())
        return {"saved": True}

    def _level(self, connection: sqlite3.Connection, listener: int, _: Level) -> dict[str, Any]:
        if self._place(connection, listener)[0] == "consent":
            raise RefusedError(409, "consent comes first")
        storage.note_step(connection, listener, "level", self.now_s())
        return {"saved": True}

    def _check(self, connection: sqlite3.Connection, listener: int, message: Check) -> dict[str, Any]:
        if message.number >= storage.checks_done(connection, listener):
            if self._place(connection, listener) != ("headphones", message.number):
                raise RefusedError(409, f"question {message.number} is not open")
            right = headphones.correct_answer(headphones.orders(self.plan.seed, listener)[message.number])
            correct = message.answer == right
            storage.note_check(connection, listener, message.number, message.answer, correct, self.now_s())
        return {"saved": True}

    def _heard(self, connection: sqlite3.Connection, listener: int, message: Heard) -> dict[str, Any]:
        if self._at_page(connection, listener, message.page):
            slot = sessions.checked_slot(self._pages(listener)[message.page], message.slot)
            storage.note_heard(connection, listener, message.page, slot, self.now_s())
        return {"saved": True}

    def _rating(self, connection: sqlite3.Connection, listener: int, message: Rating) -> dict[str, Any]:
        if not self._at_page(connection, listener, message.page):
            raise RefusedError(409, f"page {message.page} is submitted and closed")
        value = sessions.checked_value(self._pages(listener)[message.page], message.field, message.value)
        newest = storage.note_rating(
            connection, listener, message.page, message.field, value, message.sequence, self.now_s()
        )
        return {"saved": True, "newest": newest}

    def _submit(self, connection: sqlite3.Connection, listener: int, message: Submit) -> dict[str, Any]:
        if self._at_page(connection, listener, message.page):
            page = self._pages(listener)[message.page]
            values = storage.ratings(connection, listener, message.page)
            sessions.require_complete(page, storage.heard(connection, listener, message.page), values)
            now_s, opened_s = self.now_s(), storage.opened_s(connection, listener, message.page)
            rows = sessions.resolve(
                page,
                values,
                listener=storage.listener_name(listener),
                time_s=None if opened_s is None or opened_s > now_s else now_s - opened_s,  # the clock was set back
            )
            storage.note_submitted(
                connection,
                listener,
                message.page,
                trial=page.trial.id,
                training=page.trial.training,
                rows=rows,
                at_s=now_s,
            )
            if message.page + 1 == len(self._pages(listener)):
                storage.note_step(connection, listener, "finished", now_s)
        return {"saved": True}


Do = Callable[[Flow, sqlite3.Connection, int, Any], dict[str, Any]]
ACTIONS: Mapping[str, tuple[type[Section], Do]] = {
    "consent": (Consent, Flow._consent),
    "level": (Level, Flow._level),
    "check": (Check, Flow._check),
    "heard": (Heard, Flow._heard),
    "rating": (Rating, Flow._rating),
    "submit": (Submit, Flow._submit),
}
