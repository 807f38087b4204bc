"""The console in a real Chromium, on a real server of two workers that asks for keys.

Each test fails as well if the page logs an error, breaks its content security policy, or asks another host.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from artifact.manifest import ONNX
from serving.access import keys
from tests.bento_server import bento_server, prepare, store
from tests.serving import artifacts
from tests.serving.console import scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from tests.servers import Server

    Open = Callable[..., Page]

pytestmark = pytest.mark.deep

WAIT_MS = 15_000
expect.set_options(timeout=WAIT_MS)

ROLES: dict[str, tuple[tuple[Any, ...], list[str]]] = {
    "all": (("predict", "explain", "observe"), []),
    "predict": (("predict",), []),
    "iris": (("predict", "explain", "observe"), ["iris"]),
}
EXPECTED_REFUSALS = ("401", "403", "404", "422", "503")
"""Chromium logs each reply of these statuses as an error; they are what these tests ask for."""


class Kept(NamedTuple):
    server: Server
    secrets: dict[str, str]
    lock: Path
    newer: str  # a line of models.lock with another version of linear

    def post(self, path: str, body: Any) -> httpx.Response:
        headers = {"X-API-Key": self.secrets["all"]}
        return httpx.post(self.server.url + path, json=body, headers=headers)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """Two workers, six models, of which the forest is refused; a shadow and a canary."""
    folder = tmp_path_factory.mktemp("console")
    work = folder / "work"
    iris = artifacts.iris(folder / "iris").path
    cancer = artifacts.breast_cancer(folder / "breast_cancer").path
    prepare(
        work,
        {
            "customers": (scene.customers(folder / "customers").path, "3"),
            "iris": (iris, "12"),
            "breast_cancer": (cancer, "2"),
            "linear": (artifacts.linear(folder / "linear").path, "1"),
            "quiet": (scene.quiet(folder / "quiet").path, "1"),
            "forest": (artifacts.breast_cancer(folder / "forest", trees=2).path, "7"),
        },
    )
    linear = artifacts.linear(folder / "linear2", slope=3).path
    *lines, newer = store(
        work, [("iris", iris, "13"), ("breast_cancer", cancer, "4"), ("linear", linear, "2")]
    )
    lock = work / "models.lock"
    lock.write_text(f"{lock.read_text()}{lines[0]} shadow\n{lines[1]} canary=20\n")
    (damaged,) = (work / "bentoml" / "models" / "okamochi-forest").rglob(ONNX)
    damaged.write_bytes(damaged.read_bytes() + b"!")
    made = {name: keys.make(name, roles, models=models) for name, (roles, models) in ROLES.items()}
    keys.write(folder / "keys.json", [key for _, key in made.values()])
    settings = {"OKAMOCHI_WORKERS": "2", "OKAMOCHI_KEYS": str(folder / "keys.json")}
    with bento_server(work, settings=settings, ready="/livez") as server:
        yield Kept(server, {name: secret for name, (secret, _) in made.items()}, lock, newer)


@pytest.fixture(scope="module")
def browser(program: Callable[[str], str]) -> Iterator[Browser]:
    chromium = program("chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def open_page(kept: Kept, browser: Browser) -> Iterator[Open]:
    """Open a path of the console in a tab of its own, with a key or without."""
    wrong: list[str] = []
    contexts = []

    def start(path: str = "/console", who: str = "all", **options: Any) -> Page:
        context = browser.new_context(viewport={"width": 1200, "height": 800}, **options)
        contexts.append(context)
        if who:
            secret = kept.secrets.get(who, who)
            context.add_init_script(
                f"sessionStorage.getItem('began') || (sessionStorage.setItem('began', 1), "
                f"sessionStorage.setItem('okamochi-key', '{secret}'))"
            )
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda asked: asked.url.startswith((kept.server.url, "data:")) or wrong.append(asked.url),
        )
        page.goto(kept.server.url + path)
        return page

    yield start
    for context in contexts:
        context.close()
    refusals = tuple(f"status of {status}" for status in EXPECTED_REFUSALS)
    assert [each for each in wrong if not any(refusal in each for refusal in refusals)] == []


def model_card(page: Page, name: str) -> Any:
    return page.locator("article.model", has=page.get_by_role("link", name=name, exact=True))


def is_narrow(page: Page) -> bool:
    """Whether nothing makes the page wider than its window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_the_overview_shows_what_is_live_and_what_is_refused_and_why(open_page: Open) -> None:
    page = open_page()
    expect(page.locator("article.model")).to_have_count(5)
    iris = model_card(page, "iris")
    expect(iris).to_contain_text("version 12")
    expect(iris).to_contain_text("Shadow, version 13")
    expect(model_card(page, "breast_cancer")).to_contain_text("Canary, version 4")
    refused = page.locator(".refused li")
    expect(refused).to_have_count(1)
    expect(refused).to_contain_text("forest is refused")
    expect(refused).to_contain_text("model.onnx")
    expect(page.locator("#status")).to_have_text("Not ready")


def test_a_model_without_traffic_says_so(open_page: Open) -> None:
    page = open_page()
    quiet = model_card(page, "quiet")
    expect(quiet.locator(".big")).to_have_text(["\N{EN DASH}"] * 3)
    expect(quiet.locator(".empty").first).to_have_text("No requests yet")
    expect(quiet).to_contain_text("No outcomes yet")
    text = page.locator("main").inner_text()
    for nonsense in ("NaN", "undefined", "null", "Infinity"):
        assert nonsense not in text


def test_the_figures_are_those_of_all_workers_and_move(open_page: Open, kept: Kept) -> None:
    """Each request has a connection of its own, so that both workers answer some."""
    page = open_page()
    card = model_card(page, "breast_cancer")
    row = [13.0] * 30
    before = counted(kept, "breast_cancer")
    for _ in range(40):
        assert kept.post("/models/breast_cancer/predict", {"features": [row]}).status_code == 200
    assert kept.post("/models/breast_cancer/predict", {"features": [[1]]}).status_code == 422
    assert counted(kept, "breast_cancer") == before + 41
    expect(card).to_contain_text(f"{before + 41} since the start")
    expect(card).to_contain_text("1 refused")
    expect(card).to_contain_text("p99; p50")
    line = card.locator("svg .line0").first
    page.wait_for_function("path => path.getAttribute('d').includes('L')", arg=line.element_handle())
    drawn = line.get_attribute("d")
    page.wait_for_function(
        "([path, was]) => path.getAttribute('d') !== was", arg=[line.element_handle(), drawn]
    )


def counted(kept: Kept, name: str) -> int:
    headers = {"X-API-Key": kept.secrets["all"]}
    state = httpx.get(f"{kept.server.url}/console/state.json", headers=headers).json()
    return int(sum(state["looked"]["models"].get(name, {}).get("requests", {}).values()))


def test_a_row_is_answered_with_probabilities_a_set_the_reasons_and_every_version(open_page: Open) -> None:
    page = open_page("/console/iris")
    page.get_by_label("petal_length").fill("1.2")
    page.get_by_label("petal_width").fill("0.2")
    page.get_by_role("button", name="Predict").click()
    answer = page.locator(".answer")
    expect(answer.locator(".prediction")).to_have_text("setosa")
    expect(answer).to_contain_text("A set that holds the outcome in at least 90 % of rows")
    expect(answer.locator(".bars").first).to_contain_text("virginica")
    expect(answer.locator(".waterfall li")).to_have_count(6)
    expect(answer.locator(".waterfall")).to_contain_text("petal_length = 1.2")
    versions = answer.locator("tbody tr")
    expect(versions).to_have_count(2)
    expect(versions.nth(1)).to_contain_text("shadow")
    expect(versions.nth(1)).to_contain_text("agrees")


def test_a_regression_has_an_interval_and_warns_outside_its_training(open_page: Open) -> None:
    page = open_page("/console/linear")
    page.get_by_label("x", exact=True).fill("500")
    page.get_by_role("button", name="Predict").click()
    answer = page.locator(".answer")
    expect(answer.locator(".prediction")).to_have_text("1000")
    expect(answer).to_contain_text("A range that holds the outcome in at least 90 % of rows")
    expect(answer.locator(".warnings")).to_contain_text("x")


def test_a_refused_cell_is_told_at_its_field(open_page: Open) -> None:
    page = open_page("/console/customers")
    page.get_by_label("age", exact=True).fill("abc")
    page.get_by_label("since").fill("")
    page.get_by_label("age", exact=True).press("Enter")
    age = page.locator(".field", has=page.get_by_label("age", exact=True))
    expect(age.locator(".error")).to_contain_text("expected a number")
    expect(page.get_by_label("age", exact=True)).to_be_focused()
    expect(page.locator(".field", has=page.get_by_label("since")).locator(".error")).to_be_visible()
    page.get_by_role("button", name="Example").click()
    expect(age.locator(".error")).to_be_hidden()
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".prediction")).to_be_visible()


def test_a_name_that_is_markup_does_nothing(open_page: Open) -> None:
    """As a column, a category, a class, and in the card; images are the logo and the card's own picture."""
    page = open_page("/console/customers")
    page.get_by_label("plan").select_option(scene.EVIL)
    page.get_by_label(scene.CHINESE).fill(scene.EVIL)
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".waterfall")).to_contain_text(f"{scene.CHINESE} = {scene.EVIL}")
    expect(page.locator(".card")).to_contain_text(scene.EVIL)
    expect(page.locator(".answer")).to_contain_text(scene.EVIL)
    assert page.locator("img").count() == 2
    assert page.evaluate("window.broken") is None


def test_the_card_shows_the_pictures_that_it_holds(open_page: Open) -> None:
    """As an image, in which nothing runs; one that the card does not hold is not fetched."""
    page = open_page("/console/customers")
    shown = page.locator(".card img")
    expect(shown).to_have_count(1)
    expect(shown).to_have_attribute("alt", f"Partial dependence on {scene.EVIL}: it rises.")
    shown.scroll_into_view_if_needed()
    assert shown.evaluate(
        "async it => { await it.decode(); return [it.naturalWidth, it.naturalHeight]; }"
    ) == [
        320,
        200,
    ]
    expect(page.locator(".card blockquote")).to_have_text("To fill in: owner, contact.")
    expect(page.locator(".card")).to_contain_text("![From elsewhere]")
    expect(page.locator(".card")).not_to_contain_text("data:image")
    assert page.evaluate("window.broken") is None


def test_every_field_has_a_label_a_hint_and_a_value_that_works(open_page: Open) -> None:
    page = open_page("/console/customers")
    expect(page.locator(".field")).to_have_count(40)
    for i in range(40):
        control = page.locator(".field").nth(i).locator("input, select, textarea").first
        name = control.evaluate("it => it.labels[0].textContent")
        expect(page.get_by_label(name, exact=True)).to_be_visible()
        assert (
            control.evaluate(
                "it => document.getElementById(it.getAttribute('aria-describedby').split(' ')[0]).textContent"
            )
            or name == "plan"
        )
    assert page.get_by_label(scene.CHINESE).evaluate("it => it.list.options.length") == 200
    expect(page.get_by_label("since")).to_have_value("2020-05-17")
    expect(page.locator(".field", has=page.get_by_label("age", exact=True))).to_contain_text(
        "18 to 90 in training, whole"
    )


@pytest.mark.parametrize("path", ["/console", "/console/customers", "/console/iris", "/console/linear"])
@pytest.mark.parametrize("width", [360, 2200])
def test_no_page_is_wider_than_its_window(open_page: Open, path: str, width: int) -> None:
    page = open_page(path)
    page.set_viewport_size({"width": width, "height": 800})
    expect(page.locator(".chart").first).to_be_visible()
    if path != "/console":
        page.get_by_role("button", name="Predict").click()
        expect(page.locator(".waterfall")).to_be_visible()
    assert is_narrow(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_the_light_and_in_the_dark(open_page: Open, scheme: Any) -> None:
    """4.5 to 1, as WCAG 2.2 wants it, of every text on the background that it stands on."""
    page = open_page("/console/iris", color_scheme=scheme)
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".waterfall")).to_be_visible()
    assert page.evaluate(CONTRAST) == []
    light = page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor")
    assert (light == "rgb(245, 243, 239)") == (scheme == "light")


CONTRAST = """() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = node => {
    for (; node; node = node.parentElement) {
      const found = numbers(getComputedStyle(node).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !node.checkVisibility()) continue;
    if (node.closest("noscript, option")) continue;
    const pair = [light(numbers(getComputedStyle(node).color)), light(ground(node))].sort((a, b) => b - a);
    const ratio = (pair[0] + .05) / (pair[1] + .05);
    if (ratio < 4.5) found.push(`${node.textContent.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""


def test_the_console_can_be_used_by_keyboard_alone(open_page: Open) -> None:
    """From the overview to an answer and back; the focus can be seen wherever it is."""
    page = open_page()
    expect(page.locator("article.model")).to_have_count(5)
    tab_to(page, "iris")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("iris")
    expect(page.get_by_label("sepal_length")).to_be_visible()
    tab_to(page, "Predict")
    page.keyboard.press("Enter")
    expect(page.locator(".prediction")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("What is live")


def tab_to(page: Page, text: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        found, outline = page.evaluate(
            "() => { const it = document.activeElement;"
            " return [it.textContent.trim(), getComputedStyle(it).outlineStyle]; }"
        )
        assert outline != "none", f"the focus on {found!r} cannot be seen"
        if found == text:
            return
    raise AssertionError(f"Tab does not lead to {text!r}")


def test_the_page_of_a_refused_or_unknown_model_says_why(open_page: Open) -> None:
    page = open_page("/console/forest")
    expect(page.locator(".notice")).to_contain_text("model.onnx")
    page = open_page("/console/nobody")
    expect(page.locator(".notice")).to_contain_text("nobody")


def test_a_version_beside_the_champion_and_what_changed_are_shown(open_page: Open) -> None:
    page = open_page("/console/breast_cancer")
    expect(page.locator(".versions thead")).to_contain_text("canary, version 4")
    expect(page.locator(".timeline")).to_contain_text("Version 4 is canary for 20 % of the callers")
    expect(page.locator(".timeline")).to_contain_text("Version 2 was trained")


def test_a_new_version_goes_live_under_a_row_that_is_half_typed(open_page: Open, kept: Kept) -> None:
    page = open_page("/console/linear")
    expect(page.locator(".head .badge").first).to_have_text("version 1")
    page.get_by_label("x", exact=True).fill("7")
    before = kept.lock.read_text()
    lines = [kept.newer if line.startswith("linear ") else line for line in before.splitlines()]
    kept.lock.write_text("\n".join(lines) + "\n")
    try:
        expect(page.locator(".head .badge").first).to_have_text("version 2")
        expect(page.get_by_label("x", exact=True)).to_have_value("7")
        expect(page.locator(".timeline")).to_contain_text("Version 2 is champion")
        expect(page.locator(".timeline")).to_contain_text("Version 1 is champion no more")
    finally:
        kept.lock.write_text(before)
    until_both_workers_serve(kept, "1")


def until_both_workers_serve(kept: Kept, version: str) -> None:
    """Each request has a connection of its own, which either worker takes."""
    end = time.monotonic() + WAIT_MS / 1000
    while {kept.post("/models/linear/predict", {"x": 1}).json()["version"] for _ in range(20)} != {version}:
        assert time.monotonic() < end
        time.sleep(0.2)


# ---- keys


def test_without_a_key_the_page_asks_for_one_and_keeps_it_for_the_tab(open_page: Open, kept: Kept) -> None:
    page = open_page(who="")
    page.get_by_label("Key", exact=True).fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This key is unknown.")
    page.get_by_label("Key", exact=True).fill(kept.secrets["all"])
    page.keyboard.press("Enter")
    expect(page.locator("article.model")).to_have_count(5)
    page.reload()
    expect(page.locator("article.model")).to_have_count(5)
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    assert kept.secrets["all"] not in page.content()
    other = page.context.new_page()
    other.goto(f"{kept.server.url}/console")
    expect(other.get_by_label("Key", exact=True)).to_be_visible()
    page.get_by_role("button", name="Forget the key").click()
    expect(page.get_by_label("Key", exact=True)).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('okamochi-key')") is None


def test_a_key_without_the_right_to_figures_is_told_and_can_still_predict(open_page: Open) -> None:
    page = open_page(who="predict")
    expect(page.locator(".notice")).to_contain_text("lacks the right 'observe'")
    page = open_page("/console/iris", who="iris")
    expect(page.locator("main")).to_contain_text("This key is for some models only")
    expect(page.locator(".timeline")).to_contain_text("Version 12 was trained")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".prediction")).to_have_text("versicolor")
    expect(page.locator(".waterfall")).to_be_visible()
    page = open_page("/console/customers", who="iris")
    expect(page.locator(".notice")).to_contain_text("lacks the right to this model")


def test_a_key_without_the_right_to_explain_gets_the_answer_alone(open_page: Open) -> None:
    page = open_page("/console/iris", who="predict")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator(".prediction")).to_have_text("versicolor")
    expect(page.locator(".why")).to_contain_text("lacks the right 'explain'")
