"""The page in real headless Chromium: whole pages by mouse and by keyboard, through reloads and a killed server."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import pytest

from restyler.listen import balance, storage

PHONE = {"width": 390, "height": 844}
SCRIPT = "<script>document.body.dataset.run = 1</script><img src=x onerror=alert(1)>"
RATED = {"A": 20, "B": 61, "C": 100}


@pytest.fixture(scope="module")
def server(make_test: Callable, serve: Callable) -> Any:
    return serve(make_test("mushra", "abx", listeners=8, headphone_check=True))


def saved(page: Any) -> None:
    page.wait_for_selector("body[data-saved=saved]")


def sound(page: Any, slot: str) -> Any:
    return page.get_by_role("button", name=f"Play {'the reference' if slot == 'R' else f'sound {slot}'}")


def slider(page: Any, slot: str) -> Any:
    return page.get_by_label(f"Rating of sound {slot}")


def hear(page: Any, slot: str, way: str) -> None:
    """Until the page counts it as heard; meanwhile it alone plays."""
    if way == "mouse":
        sound(page, slot).click()
    else:
        page.keyboard.press(slot.lower())
    page.get_by_role("button", name=f"{'reference' if slot == 'R' else f'sound {slot}'}, heard").wait_for()
    assert page.locator("[aria-pressed=true]").count() == 1
    assert sound(page, slot).get_attribute("aria-pressed") == "true"


def rate(page: Any, slot: str, value: int, way: str) -> None:
    """Moves the slider of the sound that plays, the only one that can be moved."""
    enabled = [name for name in RATED if slider(page, name).is_enabled()]
    assert enabled == [slot]
    if way == "mouse":
        box = slider(page, slot).bounding_box()
        thumb = 16
        at = thumb / 2 + (box["width"] - thumb) * value / 100
        page.mouse.click(box["x"] + at, box["y"] + box["height"] / 2)
    else:
        page.keyboard.press("Home")
        for _ in range(value // 10):
            page.keyboard.press("PageUp")
        for _ in range(value % 10):
            page.keyboard.press("ArrowRight")
    value_now = int(slider(page, slot).input_value())
    assert abs(value_now - value) <= (1 if way == "mouse" else 0)


def break_storage(server: Any, way: str) -> Callable[[], Any]:
    """Kills the server, or has its disk full, until what is returned is called."""
    if way == "mouse":
        server.kill()
        return lambda: server.start()
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    size = (server.made.folder / "answers.sqlite3-wal").stat().st_size
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, limits[1]))
    return lambda: resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)


def mushra(page: Any, way: str, server: Any, shot: Callable) -> dict[str, int]:
    """A whole page, reloaded, its server killed or its disk full in the middle; what was rated."""
    next_button = page.get_by_role("button", name="Next")
    assert not any(slider(page, name).is_enabled() for name in RATED)
    hear(page, "A", way)
    rate(page, "A", RATED["A"], way)
    saved(page)
    page.get_by_label("Comment").fill(SCRIPT)
    saved(page)
    page.reload()
    sound(page, "A").wait_for()
    assert slider(page, "A").get_attribute("aria-valuetext") == f"{slider(page, 'A').input_value()}, Poor"
    assert slider(page, "B").get_attribute("aria-valuetext") == "not rated"
    assert "heard" in sound(page, "A").get_attribute("aria-label")
    assert page.get_by_label("Comment").input_value() == SCRIPT
    hear(page, "B", way)
    mend = break_storage(server, way)
    rate(page, "B", RATED["B"], way)
    page.wait_for_selector("body[data-saved=unsaved]")
    assert "Not saved yet" in page.inner_text("#saved")
    hear(page, "C", way)
    rate(page, "C", RATED["C"], way)
    shot(page, f"mushra-{way}")
    assert next_button.is_disabled() and "Still to hear: reference" in page.inner_text("#missing")
    mend()
    saved(page)
    hear(page, "R", way)
    done = {name: int(slider(page, name).input_value()) for name in RATED}
    next_button.click() if way == "mouse" else page.keyboard.press("Enter")
    return done


def abx(page: Any, way: str, shot: Callable) -> None:
    for slot in "ABX":
        assert page.get_by_role("button", name="Next").is_disabled()
        hear(page, slot, way)
    if way == "mouse":
        page.get_by_label("X is A").click()
        shot(page, "abx-mouse")
        page.get_by_role("button", name="Next").click()
    else:
        page.keyboard.press("ArrowRight")
        shot(page, "abx-keyboard")
        page.keyboard.press("Enter")


@pytest.mark.parametrize(
    ("way", "other_way", "listener"),
    [("mouse", "keyboard", 0), pytest.param("keyboard", "mouse", 1, marks=pytest.mark.slow)],
)
def test_a_listener_does_a_mushra_and_an_abx_page(
    way: str, other_way: str, listener: int, server: Any, page_of: Callable, client_of: Callable, shot: Callable
) -> None:
    """The first page in one way, the second in the other."""
    client = client_of(server, listener)
    client.begin()
    page = page_of(server, listener)
    rated: dict[str, int] = {}
    for number in range(2):
        page.get_by_role("heading", name=f"Page {number + 1} of 2").wait_for()
        page.wait_for_selector("#missing")
        state = client.state()
        if state["kind"] == "mushra":
            rated = mushra(page, way, server, shot)
        else:
            abx(page, other_way, shot)
    page.get_by_role("heading", name="Thank you").wait_for()
    shot(page, f"finish-{way}")
    order = {p.trial.kind: p for p in balance.pages(server.made.plan, listener)}
    answers = [row for row in storage.answers(server.made.folder) if row.listener == storage.listener_name(listener)]
    scores = {row.condition: row.score for row in answers if row.kind == "mushra"}
    slots = [order["mushra"].trial.stimuli[index].condition for index in order["mushra"].slots]
    assert scores == {condition: rated[slot] for condition, slot in zip(slots, "ABC", strict=True)}
    assert {row.comment for row in answers if row.kind == "mushra"} == {SCRIPT}
    (choice,) = [row.choice for row in answers if row.kind == "abx"]
    assert choice == ("correct" if order["abx"].slots[2] == order["abx"].slots[0] else "incorrect")
    assert page.evaluate("document.body.dataset.run") is None


def test_consent_level_and_headphones_come_first(
    server: Any, page_of: Callable, client_of: Callable, shot: Callable
) -> None:
    page = page_of(server, 2)
    begin = page.get_by_role("button", name="Begin")
    begin.wait_for()
    assert "You may stop at any time." in page.inner_text("main")
    assert begin.is_disabled()
    shot(page, "consent")
    page.get_by_label("I have read this").check()
    begin.click()
    ready = page.get_by_role("button", name="My level is set")
    ready.wait_for()
    assert ready.is_disabled()  # before the noise was heard
    shot(page, "level")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_role("button", name="Play noise").dblclick()  # while it loads
    ready.click()
    assert sum("/sound/" in url for url in asked) == 1  # two noises could not be stopped
    page.get_by_role("heading", name="Headphone check 1 of 6").wait_for()
    assert page.get_by_role("button", name="Second").is_disabled()
    page.get_by_role("button", name="Play the three tones").click()
    shot(page, "headphones")
    page.get_by_role("button", name="Second").click()  # when the tones are over
    page.get_by_role("heading", name="Headphone check 2 of 6").wait_for()
    client = client_of(server, 2)
    assert client.state()["number"] == 1
    client.begin()
    page.reload()
    page.get_by_role("heading", name="Page 1 of 2").wait_for()


def test_every_page_fits_a_phone_and_names_nothing(
    make_test: Callable, serve: Callable, page_of: Callable, client_of: Callable, shot: Callable
) -> None:
    """No sideways scrolling at 390 × 844; and no name of a condition, item, trial or file anywhere in the page."""
    server = serve(make_test("mushra", "abx", "ab", "rating", "acr", "ccr", listeners=1, sounds=6))
    page = page_of(server, 0, PHONE)
    fits = "document.documentElement.scrollWidth <= innerWidth"
    to_touch = "button, summary, input[type=range], input[type=number], .choices label"
    low = f"[...document.querySelectorAll('{to_touch}')].filter(one => one.getBoundingClientRect().height < 44).length"
    page.wait_for_selector("#agree")
    assert page.evaluate(fits)
    client = client_of(server, 0)
    state = client.begin()
    while state["stage"] == "page":
        page.reload()
        page.wait_for_selector("#missing")
        assert page.evaluate(fits)
        assert page.evaluate(low) == 0  # pixels that a finger needs
        shot(page, f"phone-{state['kind']}")
        page.set_viewport_size({"width": 1000, "height": 800})
        shot(page, f"desktop-{state['kind']}")
        page.set_viewport_size(PHONE)
        source = page.content().replace(state["question"], "")
        for secret in ("ours", "theirs", "anchor", "system ", "item of", ".wav", "mushra-", "a test"):
            assert secret not in source
        client.hear_all(state)
        for one in state["sounds"]:
            if one["slot"] != "R":
                field = one["slot"] if state["kind"] in ("mushra", "rating") else "choice"
                client.rate(state["page"], field, "A" if state["kind"] in ("ab", "abx") else 1)
        assert client.post("submit", page=state["page"]).status_code == 200
        state = client.state()


def test_a_rating_made_without_a_connection_survives_a_reload(
    server: Any, page_of: Callable, client_of: Callable
) -> None:
    client = client_of(server, 3)
    state = client.begin()
    if state["kind"] != "mushra":
        client.hear_all(state)
        client.rate(0, "choice", "A")
        client.post("submit", page=0)
    number = client.state()["page"]
    page = page_of(server, 3)
    page.wait_for_selector("#missing")
    page.route("**/rating", lambda route: route.abort())
    hear(page, "B", "keyboard")
    rate(page, "B", 42, "keyboard")
    page.wait_for_selector("body[data-saved=unsaved]")
    page.reload()
    page.wait_for_selector("#missing")
    assert slider(page, "B").input_value() == "42"  # the browser kept it
    assert client.state()["values"] == {}
    page.unroute("**/rating")
    saved(page)
    assert (client.state()["page"], client.state()["values"]) == (number, {"B": 42})
    page.context.set_offline(True)
    hear(page, "C", "keyboard")
    rate(page, "C", 7, "keyboard")
    page.wait_for_selector("body[data-saved=unsaved]")
    page.context.set_offline(False)
    saved(page)
    assert client.state()["values"] == {"B": 42, "C": 7}
    page.route("**/rating", lambda route: route.fulfill(status=409, json={"error": "closed"}))
    rate(page, "C", 8, "keyboard")
    page.get_by_text("Not taken by the server: closed").wait_for()  # never «Saved»
    assert page.get_attribute("body", "data-saved") == "unsaved"


def test_a_second_tab_waits_for_the_first(server: Any, page_of: Callable, client_of: Callable) -> None:
    client_of(server, 4).begin()
    first = page_of(server, 4)
    first.wait_for_selector("#missing")
    second = first.context.new_page()
    second.goto(server.page(4))
    second.get_by_role("heading", name="Open in another tab").wait_for()
    assert second.locator("#missing").count() == 0
    first.close()
    second.wait_for_selector("#missing")


def test_the_picture_tells_neither_what_x_is_nor_a_sound_that_is_alone(server: Any, page_of: Callable) -> None:
    one, other, alone, all_three = page_of(server, 5).evaluate(
        """async () => {
          const { envelope } = await import("/page/wave.js");
          const made = (shape) => {
            const buffer = new AudioBuffer({ length: 4000, sampleRate: 48000 });
            buffer.copyToChannel(new Float32Array(4000).map((_, n) => shape(n / 4000)), 0);
            return buffer;
          };
          const [a, b] = [made((t) => t), made((t) => 1 - t * t)];
          const pictures = [{ A: a, B: b, X: a }, { A: a, B: b, X: b }, { A: a }, { A: a, B: b, C: b }];
          return pictures.map((sounds) => Array.from(envelope(new Map(Object.entries(sounds)))));
        }"""
    )
    assert one == other and len(set(alone)) == 1
    assert one != all_three and len(set(one)) > 100  # else it would be no picture
