"""How groups are treated is told in the card and on a page, and what only a person knows is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tests.training.metrics.test_fairness import people
from training.fairness_report import factor_lines, fairness_lines, write_fairness_page
from training.metrics.fairness import fairness
from training.metrics.truth import truth_of
from training.model_card import QUESTIONS, SECTIONS, model_card
from training.settings import CardWords

if TYPE_CHECKING:
    from pathlib import Path


def found_for(sensitive: pd.DataFrame, paid: np.ndarray, chance: np.ndarray):
    truth = truth_of("binary", paid.tolist(), (False, True), True)
    return fairness(truth, np.column_stack([1 - chance, chance]), sensitive, (False, True))


def test_the_page_says_what_stands_out_and_shows_every_group(tmp_path: Path) -> None:
    sensitive, paid, chance = people()
    sensitive["sex"] = sensitive["sex"].replace({"f": "<women>"})
    path = write_fairness_page(
        "Loans", "paid", found_for(sensitive, paid, chance), 600, tmp_path / "fairness.html"
    )
    page = path.read_text("utf-8")
    summary = page.split("What stands out")[1].split("</section>")[0]
    assert "By sex: how often the model answers paid = True: highest for <b>m</b>" in summary
    assert "<b>&lt;women&gt;</b>" in summary
    assert "By origin:" not in summary, "nothing but chance tells them apart"
    assert "<women>" not in page
    for group in ("north", "south", "west", "&lt;women&gt;, north", "m, west"):
        assert f'title="{group}"' in page
    assert "http" not in page, "it loads nothing from elsewhere"
    assert "<h3>How often the model answers paid = True</h3>" in page, "names are written as they are"
    calibration = page.split("probability says</h3>")[1].split("</table>")[0]
    assert calibration.count("<s ") == calibration.count("<tr>"), "a difference has a line at zero"


def test_a_page_without_a_difference_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    sensitive = pd.DataFrame({"sex": np.tile(["f", "m"], 200)})
    chance = np.repeat(rng.uniform(0, 1, 200), 2)
    paid = np.repeat(rng.random(200) < 0.5, 2)
    found = found_for(sensitive, paid, chance)
    page = write_fairness_page("Loans", "paid", found, 400, tmp_path / "fairness.html").read_text("utf-8")
    assert "No difference that chance would not explain." in page


def test_the_card_names_groups_intervals_and_chance() -> None:
    sensitive, paid, chance = people()
    found = found_for(sensitive[["sex"]], paid, chance)
    lines = "\n".join(fairness_lines(found, "paid"))
    rate = found[0].groups[0].rates["selection_rate"]
    assert (
        f"| f | {found[0].groups[0].rows} | {rate.value:.3g} ({rate.low:.3g} to {rate.high:.3g}) |" in lines
    )
    assert "Demographic parity difference: " in lines
    assert "as far apart in fewer than 0.1% of samples" in lines
    assert "`sex`" in factor_lines(found)[0]
    assert "No column of the table is named as `sensitive`" in factor_lines([])[0]


def test_a_card_has_the_sections_of_model_cards_and_asks_for_what_is_missing() -> None:
    words = CardWords(owner="The loans team", ethics="A refusal is read by a person.")
    text = model_card("Loans", words, {"Metrics": ["- Measured: Accuracy."]})
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(SECTIONS)
    assert "- Owner: The loans team" in text
    assert "- Risks: A refusal is read by a person." in text
    for key in {key for keys in SECTIONS.values() for key in keys} - {"owner", "ethics"}:
        assert f"**to fill in** ({QUESTIONS[key][1]}: `[card] {key}`)" in text
    whole = CardWords(**dict.fromkeys(QUESTIONS, "said"))
    assert "fill in" not in model_card("Loans", whole, {})
