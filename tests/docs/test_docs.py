"""Documentation that cannot rot: what it names exists, and what exists is named."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import prometheus_client
import pytest

from benchmarks import live_delay
from serving.observe import metrics
from serving.settings import PREFIX, Settings
from training import settings as use_case_settings

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")])
TEXT = {page.relative_to(CHECKOUT).as_posix(): page.read_text() for page in PAGES}
EVERYTHING = "\n".join(TEXT.values())
MAKEFILE = (CHECKOUT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, flags=re.MULTILINE))


def code(text: str) -> str:
    """What stands as code in a page: indented or fenced blocks, and what is between backticks."""
    fenced = re.findall(r"```.*?```", text, flags=re.DOTALL)
    indented = re.findall(r"^(?: {4}|\t).*$", text, flags=re.MULTILINE)
    inline = re.findall(r"`[^`\n]+`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return "\n".join([*fenced, *indented, *inline])


def test_make_alone_lists_every_command_with_its_purpose() -> None:
    """One line each, from the target's own comment."""
    listing = subprocess.run(["make"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout

    listed = dict(re.findall(r"^  make (\S+) +(\S.*)$", listing, flags=re.MULTILINE))
    assert listed.keys() == TARGETS
    phony = set(re.findall(r"^\.PHONY: (\S+)$", MAKEFILE, flags=re.MULTILINE))
    assert phony == TARGETS


@pytest.mark.parametrize("target", sorted(TARGETS - {"help"}))
def test_every_make_command_is_documented(target: str) -> None:
    """Somewhere a reader of the docs meets it."""
    assert re.search(rf"\bmake {target}\b", code(EVERYTHING)), f"no page shows `make {target}`"


def test_every_make_command_in_the_docs_exists() -> None:
    """And nobody is sent to one that does not."""
    for page, text in TEXT.items():
        for target in re.findall(r"(?:^[`\s]*|[`;&])make ([a-z][a-z-]*)", code(text), flags=re.MULTILINE):
            assert target in TARGETS, f"{page} shows `make {target}`, which the Makefile has not"


def test_every_variable_in_a_make_command_exists() -> None:
    """`make serve PORT=8080`: the Makefile reads each of them."""
    for page, text in TEXT.items():
        for command in re.findall(r"\bmake [a-z][^\n`]*", code(text)):
            for variable in re.findall(r"\b([A-Z_]+)=", command):
                assert f"$({variable})" in MAKEFILE, f"{page}: `{command}`"


@pytest.mark.parametrize("package", ["training", "deploy"])
def test_every_command_in_the_docs_exists(package: str) -> None:
    """As `--help` lists them."""
    usage = subprocess.run(
        [sys.executable, "-m", package, "--help"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout
    for page, text in TEXT.items():
        for command in re.findall(rf"python -m {package} ([a-z]+)", code(text)):
            assert re.search(rf"^ +{command}\b|[{{,]{command}[,}}]", usage, flags=re.MULTILINE), (
                f"{page} shows `python -m {package} {command}`"
            )


def test_every_variable_that_the_code_reads_is_documented() -> None:
    """OKAMOCHI_* of the server and of everything else; and the docs name no other."""
    read = {PREFIX + field.name.upper() for field in dataclasses.fields(Settings)}
    for package in ("training", "serving", "artifact", "deploy", "tests"):
        for source in (CHECKOUT / package).rglob("*.py"):
            read |= set(re.findall(r"environ(?:\.get\(|\[)[\"'](OKAMOCHI_[A-Z_]+)", source.read_text()))
    named = set(re.findall(r"OKAMOCHI_[A-Z_]*[A-Z]", EVERYTHING))

    assert not read - named, "in no page"
    assert not named - read, "in the pages, but nothing reads them"


def test_every_key_of_a_use_case_is_documented() -> None:
    """In the tables of your-own-data.md; and these name no other."""
    page = TEXT["docs/your-own-data.md"]
    tables = "\n".join(re.findall(r"^\|.*\|$", page, flags=re.MULTILINE))
    first_cells = "\n".join(re.findall(r"^\| ([^|]*) \|", page, flags=re.MULTILINE))
    keys = set(use_case_settings.UseCase.__struct_fields__) - {"file", "gate", "live", "canary", "rank"}
    keys |= set(use_case_settings.fairness_measures(None))
    tables_of = (use_case_settings.Gate, use_case_settings.Read, use_case_settings.Model)
    others = (
        use_case_settings.Candidates,
        use_case_settings.CardWords,
        use_case_settings.CanaryBounds,
        use_case_settings.Live,
        use_case_settings.Rank,
        use_case_settings.PictureInput,
    )
    for table in (*tables_of, *others):
        keys |= set(table.__struct_fields__)
    for source in msgspec.inspect.type_info(use_case_settings.Source).types:  # type: ignore[union-attr]
        assert f"`{source.tag}`" in first_cells, f"source.kind {source.tag}"
        for field in source.fields:
            assert f"`{field.name}`" in tables, f"source.{field.name}"

    named = set(re.findall(r"`\[?([a-z_]+)\]?`", first_cells))
    kinds = {source.tag for source in msgspec.inspect.type_info(use_case_settings.Source).types}  # type: ignore[union-attr]
    assert {f"`{name}`" for name in use_case_settings.ALL_METRICS} <= set(re.findall(r"`[a-z0-9_]+`", tables))
    assert keys - named == set(), "in no table"
    assert named - keys - kinds - {"gate", "live", "canary", "rank"} == set(), "in a table, but no key"


def test_the_delays_of_the_rule_are_those_of_the_simulation() -> None:
    """The table of live-quality.md is what the script prints."""
    assert live_delay.table() in TEXT["docs/live-quality.md"]


def test_every_metric_is_documented() -> None:
    """By the name that Prometheus shows, with its labels; and no other."""
    shown = {
        sample.name + ("_total" if sample.type == "counter" else ""): ", ".join(collector._labelnames)
        for collector in vars(metrics).values()
        if isinstance(collector, prometheus_client.metrics.MetricWrapperBase)
        for sample in collector.describe()
    }
    rows = re.findall(
        r"^\| `(okamochi_[a-z_]+)` \| ([^|]*) \|", TEXT["docs/operations.md"], flags=re.MULTILINE
    )
    named = dict(rows)
    assert len(rows) == len(named)

    assert named == shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    """Pages, pictures and files of the checkout."""
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)|(?:src|href)=\"([^\"#]+)\"", page.read_text()):
        link = target[0] or target[1]
        if "://" not in link:
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_every_page_is_reachable_from_the_readme() -> None:
    """By links, a page at a time."""
    found, waiting = set[Path](), [CHECKOUT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in found:
            continue
        found.add(page)
        links = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text())
        waiting += [(page.parent / link).resolve() for link in links if "://" not in link]

    lost = set(PAGES) - found - set((CHECKOUT / "docs" / "decisions").glob("*.md"))
    assert not lost, "no page links to these"


def in_step(text: str) -> dict[str, list[str]]:
    """What two languages of one page have in common: commands, links, figures."""
    blocks = re.findall(r"^ {4}.*$", text, flags=re.MULTILINE)
    prose = re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)
    commands = sorted(re.findall(r"`[^`\n]+`", prose))
    links = sorted(link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if not link.startswith("README"))
    figures = sorted(re.findall(r"\d[\d,.]*\d|\d", re.sub(r"`[^`\n]+`|\]\([^)]*\)", "", prose)))
    return {"blocks": blocks, "commands": commands, "links": links, "figures": figures}


def test_the_readme_in_chinese_says_what_the_english_one_says() -> None:
    """Commands, links and figures: whoever changes one page changes the other."""
    english, chinese = in_step(TEXT["README.md"]), in_step(TEXT["README.zh-CN.md"])

    for kind, found in english.items():
        assert chinese[kind] == found, f"{kind} of README.md and README.zh-CN.md differ"


@pytest.mark.parametrize(
    "lock", sorted((CHECKOUT / "requirements").glob("*.txt")), ids=lambda lock: lock.stem
)
def test_a_lock_pins_everything_and_names_no_index(lock: Path) -> None:
    """Where packages come from is the business of whoever installs them."""
    text = lock.read_text()
    pins = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]

    assert "://" not in text
    assert not re.search(r"^--?[a-z]", text, flags=re.MULTILINE), "an option line"
    for pin in pins:
        assert re.match(r"[^ ;]+==", pin), pin.splitlines()[0]
        assert "--hash=sha256:" in pin, pin.splitlines()[0]
