"""Makes docs/pictures/service.png: the service's page with the bundled model and a take that the project sings itself.

    .venv/bin/python scripts/service_picture.py

Needs Chromium and the extras `dev` and `serve`.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from audio.io import write
from audio.singing import demo_take

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "pictures" / "service.png"
VIEW = {"width": 1120, "height": 760}
SERVE = "import sys; from restyler.cli import main; sys.exit(main())"


@contextlib.contextmanager
def service(folder: Path) -> Iterator[str]:
    """The link of a running service."""
    arguments = [sys.executable, "-c", SERVE, "serve", "--data", str(folder / "data"), "--port", "0", "--grace", "0"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait(60)


def picture(link: str, take: Path, target: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=VIEW, color_scheme="light")
        page.set_default_timeout(300_000)
        page.goto(link)
        page.wait_for_selector("body[data-ready]")
        page.set_input_files("#file", take)
        page.wait_for_selector("#drop.has")
        page.get_by_label("Space", exact=True).fill("6")
        page.get_by_label("Strength", exact=True).fill("0.9")
        page.get_by_role("button", name="Make the mixes").click()
        page.locator("#job-tools").get_by_text("Delete").wait_for()
        page.locator("#versions > li").nth(2).get_by_role("button", name="Pick").click()
        page.keyboard.press("2")
        box = page.locator("#wave").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 40)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.62 * box["width"], box["y"] + 40, steps=5)
        page.mouse.up()
        page.wait_for_timeout(9_000)  # until what was said last is no longer shown
        page.screenshot(path=target)
        browser.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "verse two.wav", demo_take(48_000), tags={})
        with service(folder) as link:
            picture(link, folder / "verse two.wav", folder / "service.png")
        PICTURE.parent.mkdir(exist_ok=True)
        colours = Image.open(folder / "service.png").convert("RGB").quantize(128, method=Image.Quantize.MEDIANCUT)
        colours.save(PICTURE, optimize=True)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
