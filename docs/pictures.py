"""Takes the pictures of docs/console.md from a running server, to which it sends requests meanwhile.

    .venv/bin/python docs/pictures.py http://127.0.0.1:3000 credit

It needs Chromium. The second argument is the model whose page is shown.
"""

from __future__ import annotations

import io
import random
import shutil
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from PIL import Image
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import Page

HERE = Path(__file__).parent
TRAFFIC_S = 75
"""How long requests are sent before the first picture, so that the charts have a minute."""
COLORS = 128  # of a picture's palette: a third of the size of one without


def row_of(columns: list[dict[str, Any]]) -> dict[str, Any]:
    """A made row, near the example in its numbers."""
    row = {column["name"]: column["example"] for column in columns}
    for column in columns:
        if column["kind"] == "category":
            row[column["name"]] = random.choice(column["categories"])  # noqa: S311 - no secret
        elif column["kind"] == "number" and column["minimum"] is not None:
            span = column["maximum"] - column["minimum"]
            value = random.gauss(column["example"], span / 8)
            value = min(max(value, column["minimum"]), column["maximum"])
            row[column["name"]] = round(value) if column["integer"] else value
    return row


def send(url: str, ended: threading.Event) -> None:
    """Ask each model, at rates that differ."""
    with httpx.Client(base_url=url) as client:
        names = [model["name"] for model in client.get("/models").json()["models"]]
        columns = {name: client.get(f"/console/models/{name}").json()["columns"] for name in names}
        while not ended.wait(random.uniform(0, 0.03)):  # noqa: S311 - no secret
            name = random.choice(names)  # noqa: S311
            for _ in range(random.randint(1, 6)):  # noqa: S311
                client.post(f"/models/{name}/predict", json={"records": [row_of(columns[name])]})


def take(page: Page, name: str) -> None:
    """Write one picture with a small palette."""
    with Image.open(io.BytesIO(page.screenshot())) as shot:
        shot.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(HERE / name, optimize=True)


def main(url: str, model: str) -> None:
    """Take all pictures."""
    ended = threading.Event()
    sender = threading.Thread(target=send, args=(url, ended))
    sender.start()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        light = chromium.new_page(viewport={"width": 1180, "height": 760})
        dark = chromium.new_page(viewport={"width": 1180, "height": 1090}, color_scheme="dark")
        narrow = chromium.new_page(viewport={"width": 390, "height": 760})
        try:
            light.goto(f"{url}/console")
            light.wait_for_timeout(TRAFFIC_S * 1000)
            take(light, "console.png")
            light.click(f'a[href="/console/{model}"]')
            for page in (light, dark, narrow):
                page.goto(f"{url}/console/{model}")
                page.get_by_role("button", name="Predict").click()
                page.wait_for_selector(".waterfall")
            dark.wait_for_timeout(3000)
            take(dark, "console-model.png")
            narrow.locator(".answer").scroll_into_view_if_needed()
            take(narrow, "console-narrow.png")
        finally:
            ended.set()
            chromium.close()
    sender.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
