"""What hands do on the page beside pressing buttons: dropping files, dragging over the waveform, adding references; and
what it does for those who want less motion."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import soundfile

pytestmark = pytest.mark.slow
RATE_HZ = 48_000
SECONDS = 3.0
DROP = """
([type, files]) => {
  const dragged = new DataTransfer();
  for (const [name, content] of files) {
    const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
    dragged.items.add(new File([bytes], name, { type: "audio/wav" }));
  }
  const event = new DragEvent(type, { dataTransfer: dragged, bubbles: true, cancelable: true });
  document.querySelector("main").dispatchEvent(event);
  return event.defaultPrevented;
}
"""
MOVES = """
new Promise((resolve) => {
  const head = document.querySelector("#head");
  let moves = 0;
  const watcher = new MutationObserver((changes) => (moves += changes.length));
  watcher.observe(head, { attributes: true, attributeFilter: ["style"] });
  setTimeout(() => { watcher.disconnect(); resolve(moves); }, 1200);
})
"""


@pytest.fixture(scope="module")
def sound(sung: Callable) -> bytes:
    made = io.BytesIO()
    samples = 0.2 * sung(3, SECONDS).samples.numpy().T[: round(SECONDS * RATE_HZ)]
    soundfile.write(made, samples, RATE_HZ, format="WAV", subtype="PCM_24")
    return made.getvalue()


@pytest.fixture(scope="module")
def take(api: httpx.Client, sound: bytes) -> dict[str, Any]:
    return dict(api.post("/takes", params={"name": "a take.wav"}, content=sound).json())


def used(page: Any, name: str) -> None:
    page.get_by_text("Takes on the server").click()
    page.get_by_role("button", name=f"Use {name}").first.click()
    page.locator(".hear[aria-busy=false]").first.wait_for()


def test_a_dropped_file_becomes_the_take_and_several_are_refused(
    open_page: Callable, api: httpx.Client, sound: bytes
) -> None:
    page = open_page()
    before = len(api.get("/takes").json()["takes"])
    content = base64.b64encode(sound).decode()
    assert page.evaluate(DROP, ["dragenter", [["one.wav", content]]]) is False
    assert "over" in page.get_attribute("#drop", "class")
    assert page.evaluate(DROP, ["dragover", [["one.wav", content]]]) is True  # else the browser would open the file
    assert page.evaluate(DROP, ["drop", [["one.wav", content], ["two.wav", content]]]) is True
    page.locator("#alert").get_by_text("One take at a time").wait_for()
    assert len(api.get("/takes").json()["takes"]) == before
    assert "over" not in (page.get_attribute("#drop", "class") or "")
    page.evaluate(DROP, ["drop", [["dropped here.wav", content]]])
    page.locator("#take-name").get_by_text("dropped here.wav").wait_for()
    (stored,) = [one for one in api.get("/takes").json()["takes"] if one["name"] == "dropped here.wav"]
    assert api.get(f"/takes/{stored['id']}/audio").content == sound


def test_dragging_over_the_waveform_loops_that_part_and_a_click_goes_there(
    open_page: Callable, take: dict[str, Any]
) -> None:
    page = open_page()
    used(page, take["name"])
    box = page.locator("#wave").bounding_box()

    def across(first: float, last: float) -> None:
        """In shares of the take, from the right to the left as well."""
        page.mouse.move(box["x"] + first * box["width"], box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + last * box["width"], box["y"] + box["height"] / 2, steps=4)
        page.mouse.up()

    across(0.75, 0.25)
    page.get_by_text("Loop a part", exact=True).click()
    looped = [float(page.get_by_label(label, exact=True).input_value()) for label in ("From, s", "to, s")]
    assert looped == pytest.approx([0.25 * SECONDS, 0.75 * SECONDS], abs=0.02)
    shown = page.evaluate(
        "[document.querySelector('#region').style.left, document.querySelector('#region').style.width]"
    )
    assert [float(each.rstrip("%")) for each in shown] == pytest.approx([25, 50], abs=0.7)
    page.locator("#play").click()
    places = set()
    for _ in range(24):
        page.wait_for_timeout(80)
        places.add(float(page.locator("#seek").input_value()))
    assert len(places) > 5 and min(places) >= 0.24 * SECONDS and max(places) <= 0.76 * SECONDS
    page.locator("#play").click()
    across(0.5, 0.5)
    assert float(page.locator("#seek").input_value()) == pytest.approx(0.5 * SECONDS, abs=0.02)
    page.get_by_role("button", name="Whole take").click()
    assert page.locator("#region").is_hidden()


def test_references_go_into_the_job_with_their_weights(open_page: Callable, api: httpx.Client, sound: bytes) -> None:
    page = open_page()
    page.set_input_files("#file", {"name": "sung.wav", "mimeType": "audio/wav", "buffer": sound})
    page.locator("#take-name").get_by_text("sung.wav").wait_for()
    for name in ("loved.wav", "liked.wav", "gone.wav"):
        page.set_input_files("#reference-file", [{"name": name, "mimeType": "audio/wav", "buffer": sound}])
        page.get_by_label(f"Weight of {name}").wait_for()
    page.get_by_label("Weight of loved.wav").fill("3")
    page.get_by_role("button", name="Remove gone.wav").click()
    assert page.locator("#references > li").count() == 2
    page.get_by_label("Number").fill("1")
    page.get_by_role("button", name="Make the mixes").click()
    page.get_by_text("All 1 mixes are there.").wait_for()
    job = api.get("/jobs", params={"limit": 1}).json()["jobs"][0]
    names = {one["id"]: one["name"] for one in api.get("/takes").json()["takes"]}
    told = [(names[one["take"]], one.get("weight", 1)) for one in job["request"]["reference"]]
    assert told == [("loved.wav", 3), ("liked.wav", 1)]
    api.delete(f"/jobs/{job['id']}")


def test_the_place_moves_twice_a_second_for_those_who_want_less_motion(
    open_page: Callable, take: dict[str, Any]
) -> None:
    moves = {}
    for wish in ("reduce", "no-preference"):
        page = open_page(reduced_motion=wish)
        used(page, take["name"])
        page.locator("#play").click()
        moves[wish] = page.evaluate(MOVES)
        page.locator("#play").click()
        moving = page.evaluate("getComputedStyle(document.querySelector('button')).transitionDuration")
        assert (moving != "0s") == (wish == "no-preference")
    assert moves["reduce"] <= 4 and moves["no-preference"] > 3 * max(1, moves["reduce"])
