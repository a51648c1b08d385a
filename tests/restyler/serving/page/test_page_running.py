"""The page while jobs run on the real service: lost connections, a full queue, cancelling, deleting; and how much it
keeps in memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import soundfile

pytestmark = pytest.mark.slow
RATE_HZ = 48_000
MEMORY = """
async ([take, job, mostBytes]) => {
  const { Deck, TAKE } = await import("/page/deck.js");
  const failures = [];
  const failed = (slot, error) => failures.push(String(error));
  const deck = new Deck(48000, take, { changed: () => {}, failed, mostBytes });
  for (const { number } of job.mixes) deck.add(number, `/jobs/${job.id}/mixes/${number}?format=wav`);
  await deck.last;
  const seen = [];
  for (const slot of [0, 1, 2, 3, 0, TAKE, 3]) {
    await deck.choose(slot);
    seen.push([slot, deck.player.slot, deck.player.sounds.size]);
  }
  const states = [...deck.slots.values()].map(({ state }) => state).sort();
  deck.close();
  return { seen, states, failures };
}
"""


@pytest.fixture(scope="module")
def take(api: httpx.Client, sung: Callable) -> dict[str, Any]:
    made = io.BytesIO()
    soundfile.write(made, 0.2 * sung(3, 3.0).samples.numpy().T[: 5 * RATE_HZ], RATE_HZ, format="FLAC")
    return dict(api.post("/takes", params={"name": "take.flac"}, content=made.getvalue()).json())


def test_a_running_job_survives_a_lost_connection_and_is_cancelled_and_deleted(
    open_page: Callable, api: httpx.Client, take: dict[str, Any]
) -> None:
    page = open_page()
    asked: list[str | None] = []
    page.on("request", lambda one: asked.append(one.headers.get("last-event-id")) if "/events" in one.url else None)
    page.get_by_text("Takes on the server").click()
    page.get_by_role("button", name="Use take.flac").click()
    page.get_by_label("Number").fill("16")
    page.get_by_role("button", name="Make the mixes").click()
    page.get_by_role("button", name="Hear Mix 00").wait_for()

    page.get_by_role("button", name="Make the mixes").click()  # one job at a time is what this service takes
    page.locator("#alert").get_by_text("Try again in").wait_for()
    assert "Too much at once" in page.inner_text("#alert-text")
    refused = page.locator("#alert").get_by_text("No answer from the server")
    page.route("**/events", lambda route: route.abort())  # then the connection breaks, as a restarted page has it too
    page.reload()
    page.locator("#progress-text").get_by_text("trying again").wait_for()
    assert refused.count() == 0  # nothing that a person has to do
    page.unroute("**/events")
    page.get_by_role("button", name="Hear Mix 02").wait_for()
    assert "of 16 mixes" in page.inner_text("#progress-text")

    page.get_by_role("button", name="Cancel").click()
    page.locator("#jobs > li").nth(0).get_by_text("cancelled").wait_for()
    (job,) = api.get("/jobs", params={"limit": 1}).json()["jobs"]
    assert job["state"] == "cancelled" and 3 <= len(job["mixes"]) < 16
    page.get_by_role("button", name="Delete this job").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert api.get(f"/jobs/{job['id']}").status_code == 200
    page.get_by_role("button", name="Delete this job").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.locator("#status:text-is('Deleted.')").wait_for()
    assert api.get(f"/jobs/{job['id']}").status_code == 404


def test_events_go_on_after_the_last_that_came(open_page: Callable, api: httpx.Client, take: dict[str, Any]) -> None:
    """The module alone, its stream cut after some events by the network: no event twice, none lost."""
    page = open_page()
    job = api.post("/jobs", json={"take": take["id"], "variations": 2}).json()
    script = """
    async (id) => {
      const { follow } = await import("/page/events.js");
      const real = window.fetch;
      const asked = [];
      let cut = 2;
      window.fetch = async (url, options) => {
        asked.push(options.headers["Last-Event-ID"] ?? null);
        const response = await real(url, options);
        if (cut-- <= 0) return response;
        let left = 3;
        const transform = (chunk, out) => (left-- > 0 ? out.enqueue(chunk) : out.error(new TypeError("cut")));
        const short = new TransformStream({ transform });
        return new Response(response.body.pipeThrough(short), { status: response.status, headers: response.headers });
      };
      const told = [];
      const lost = [];
      const tell = (event, said) => told.push([event, said.number ?? said.state ?? null]);
      await follow(id, tell, (gone) => lost.push(gone), new AbortController().signal);
      window.fetch = real;
      return { told, asked, lost };
    }
    """
    made = page.evaluate(script, job["id"])
    assert [number for event, number in made["told"] if event == "mix"] == [0, 1]
    assert made["told"][-1] == ["state", "done"]
    assert len(made["asked"]) == 3 and made["asked"][0] is None and None not in made["asked"][1:]
    assert [int(one) for one in made["asked"][1:]] == sorted(int(one) for one in made["asked"][1:])
    assert made["lost"] == [False, True, False, True, False]


def test_no_more_is_decoded_than_fits_and_what_is_chosen_comes(
    open_page: Callable, api: httpx.Client, take: dict[str, Any]
) -> None:
    made = api.post("/jobs", json={"take": take["id"], "variations": 4}).json()
    with api.stream("GET", f"/jobs/{made['id']}/events") as events:
        for _ in events.iter_lines():
            pass
    job = api.get(f"/jobs/{made['id']}").json()
    page = open_page()
    three = 3.5 * take["duration_s"] * RATE_HZ * 2 * 4
    result = page.evaluate(MEMORY, [take, job, three])
    assert result["failures"] == []
    assert [chosen for chosen, _, _ in result["seen"]] == [heard for _, heard, _ in result["seen"]]
    assert {count for _, _, count in result["seen"]} == {3}
    assert result["states"] == ["asleep", "asleep", "ready", "ready", "ready"]
