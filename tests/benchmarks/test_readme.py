"""The README's figures are those of the results that are kept, and of no other run."""

from __future__ import annotations

import json
import re

from benchmarks.environments import CHECKOUT


def test_the_readme_shows_the_rates_of_the_results_that_are_kept() -> None:
    results = json.loads((CHECKOUT / "benchmarks/results/results.json").read_text())
    rates: dict[str, dict[str, str]] = {}
    for row in results["rows"]:
        rates.setdefault(row["title"], {})[row["model"]] = f"{row['rate']:,.0f}"
    shown = re.findall(
        r"^\| (?:\*\*)?([^|*]+?)(?:\*\*)? \| ([\d,]+) \| ([\d,]+) \|$",
        (CHECKOUT / "README.md").read_text(),
        re.MULTILINE,
    )
    assert len(shown) == 9, "the README has no table of rates"
    for title, logistic, forest in shown:
        assert rates[title] == {"logistic": logistic, "forest": forest}, title
