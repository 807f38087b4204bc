"""How a model treats groups of people, in words: for the model card, and as a page for anyone."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from training.metrics.fairness import (
    CALIBRATION,
    ERROR,
    FPR,
    MIN_GROUP_ROWS,
    PREDICTION,
    RATES,
    RATIO,
    SELECTION,
    TPR,
)
from training.model_card import table_cell

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.metrics.fairness import Disparity, Fairness, Group, Rate

MAX_GROUPS = 40
MAY_BE_CHANCE = 0.05
FAIRNESS_PAGE = "fairness.html"


def factor_lines(found: Sequence[Fairness]) -> list[str]:
    """Which columns a card compares groups by."""
    columns = list(dict.fromkeys(name for each in found for name in each.columns))
    if not columns:
        return ["- No column of the table is named as `sensitive`, so no groups of people are compared."]
    listed = ", ".join(f"`{name}`" for name in columns)
    together = ", one by one and in pairs" if len(columns) > 1 else ""
    small = f"a group of fewer than {MIN_GROUP_ROWS} rows is not"
    return [f"- Groups are compared by {listed}{together}; {small}."]


def fairness_lines(found: Sequence[Fairness], target: str) -> list[str]:
    """The rates of each group and how far they are apart, as Markdown."""
    lines = ["### Fairness"]
    for each in found:
        rates = list(each.groups[0].rates)
        answer = "" if each.answer is None else f", for {target} = {each.answer}"
        lines += ["", f"By {each.title}{answer}:", ""]
        lines += [f"| group | rows | {' | '.join(RATES[rate] for rate in rates)} |"]
        lines += ["|---|---|" + "---|" * len(rates)]
        for group in each.groups[:MAX_GROUPS]:
            cells = " | ".join(_interval(group.rates[rate]) for rate in rates)
            few = "" if group.judged else " (too few to compare)"
            lines.append(f"| {table_cell(', '.join(group.levels))}{few} | {group.rows:,} | {cells} |")
        if len(each.groups) > MAX_GROUPS:
            lines.append(f"| and {len(each.groups) - MAX_GROUPS} more |" + " |" * (len(rates) + 1))
        lines += ["", *(f"- {apart.sentence}" for apart in each.disparities.values())]
    return lines


def _interval(rate: Rate) -> str:
    if not np.isfinite(rate.value):
        return "-"
    return f"{rate.value:.3g} ({rate.low:.3g} to {rate.high:.3g})"


# ------------------------------------------------------------------------------------------------- the page


def write_fairness_page(title: str, target: str, found: Sequence[Fairness], rows: int, path: Path) -> Path:
    """Write how a model treats groups of people as one HTML file, for a reader who knows no statistics."""
    columns = list(dict.fromkeys(name for each in found for name in each.columns))
    intro = (
        f"<p>Does the model treat groups of people alike? {rows:,} people of known outcome are compared "
        f"by {_listed(columns)}. The thin line at the end of each bar is the range in which the true figure "
        "lies with 95 % certainty: few people, long line. An upright line shows zero where a figure "
        "may be above or below it.</p>"
        f"<p>Groups of fewer than {MIN_GROUP_ROWS} people are shown in grey and not compared. A difference "
        "says that there is something to look at; whether it is unjust, only a person who knows the matter "
        "can say.</p>"
    )
    body = "".join(_part(each, target) for each in found)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}: fairness</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><header><h1>{escape(title)}</h1>{intro}</header>{_summary(found, target)}{body}</body></html>"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, "utf-8")
    return path


def _summary(found: Sequence[Fairness], target: str) -> str:
    """What stands out: rates in which groups differ by more than chance."""
    told = []
    for each in found:
        for rate in dict.fromkeys(apart.rate for apart in each.disparities.values()):
            apart = next(
                one for one in each.disparities.values() if one.rate == rate and one.measure != RATIO
            )
            if np.isfinite(apart.value) and apart.chance <= MAY_BE_CHANCE:
                told.append(f"<li>{_told(each, apart, target)}</li>")
    if not told:
        return (
            "<section><h2>What stands out</h2><p>No difference that chance would not explain.</p></section>"
        )
    return f"<section><h2>What stands out</h2><ul>{''.join(told)}</ul></section>"


def _told(each: Fairness, apart: Disparity, target: str) -> str:
    """One difference as a sentence."""
    assert apart.highest is not None  # noqa: S101 - it has a value
    assert apart.lowest is not None  # noqa: S101 - likewise
    high, low = (
        f"<b>{escape(', '.join(group.levels))}</b> ({_figure(group.rates[apart.rate].value, apart.rate)})"
        for group in (apart.highest, apart.lowest)
    )
    about = escape(_question(apart.rate, target, each))
    return f"By {escape(each.title)}: {about} highest for {high}, lowest for {low}."


def _question(rate: str, target: str, each: Fairness) -> str:
    """What a rate is, in plain words."""
    answer = f"{target} = {each.answer}"
    return {
        SELECTION: f"how often the model answers {answer}:",
        TPR: f"how often the model answers {answer} where that is right:",
        FPR: f"how often the model answers {answer} where that is wrong:",
        CALIBRATION: f"how much more often {answer} comes true than the model's probability says:",
        PREDICTION: f"the mean of the predicted {target}:",
        ERROR: f"how much larger {target} is than predicted, on the mean:",
    }[rate]


def _figure(value: float, rate: str) -> str:
    if not np.isfinite(value):
        return "not known"
    if rate in {SELECTION, TPR, FPR}:
        return f"{value:.0%}"
    return f"{value:+.1%}" if rate == CALIBRATION else f"{value:,.4g}"


def _part(each: Fairness, target: str) -> str:
    rates = list(each.groups[0].rates)
    pictures = "".join(
        f"<h3>{escape(_heading(_question(rate, target, each)))}</h3>{_bars(each.groups, rate)}"
        for rate in rates
    )
    answer = "" if each.answer is None else f" <small>{escape(target)} = {escape(str(each.answer))}</small>"
    return f"<section><h2>By {escape(each.title)}{answer}</h2>{pictures}</section>"


def _heading(question: str) -> str:
    """A question as a heading; only its first letter changes, since names of columns are as they are."""
    return question[0].upper() + question[1:].rstrip(":")


def _bars(groups: Sequence[Group], rate: str) -> str:
    """A bar for each group with a line for its interval, from zero on."""
    shown = [group for group in groups[:MAX_GROUPS] if np.isfinite(group.rates[rate].value)]
    if not shown:
        return "<p>Not known for any group.</p>"
    ends = [0.0] + [end for group in shown for end in _ends(group.rates[rate])]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0

    def at(value: float) -> float:
        return (value - low) / span * 100

    rows = []
    for group in shown:
        found = group.rates[rate]
        start, end = sorted((at(0.0), at(found.value)))
        line = ""
        if np.isfinite(found.low) and np.isfinite(found.high):
            left, width = at(found.low), at(found.high) - at(found.low)
            line = f'<u style="left:{left:.1f}%;width:{width:.1f}%"></u>'
        zero = f'<s style="left:{at(0.0):.1f}%"></s>' if low < 0 else ""  # else the bars begin there
        kind = "bar" if group.judged else "bar few"
        name = escape(", ".join(group.levels))
        rows.append(
            f'<tr><th title="{name}">{name}<small>{group.rows:,} people</small></th><td class="{kind}"><span>'
            f'<i style="left:{start:.1f}%;width:{end - start:.1f}%"></i>{zero}{line}</span></td>'
            f'<td class="figure">{_figure(found.value, rate)}</td></tr>'
        )
    more = f"<p>and {len(groups) - MAX_GROUPS} more groups</p>" if len(groups) > MAX_GROUPS else ""
    return f"<table>{''.join(rows)}</table>{more}"


def _ends(rate: Rate) -> list[float]:
    return [each for each in (rate.value, rate.low, rate.high) if np.isfinite(each)]


def _listed(columns: Sequence[str]) -> str:
    shown = [f"<b>{escape(name)}</b>" for name in columns]
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1]))) if shown else "nothing"


_STYLE = """
:root{--ink:#1d2330;--soft:#667085;--line:#e4e7ec;--paper:#f7f8fa;--card:#fff;--c0:#3b6fb6}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--line:#303744;--paper:#14171d;
--card:#1c2129;--c0:#6b9fe0}}
*{box-sizing:border-box}
body{margin:0 auto;padding:32px 24px;max-width:860px;background:var(--paper);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{margin:0;font-size:26px}h2{margin:0 0 12px;font-size:18px}
h3{margin:18px 0 6px;font-size:14px;font-weight:600}
h2 small{color:var(--soft);font-weight:400;margin-left:8px}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px;margin:0 0 18px}
table{width:100%;border-collapse:collapse;table-layout:fixed}
th{width:34%;text-align:left;font-weight:400;padding:3px 10px 3px 0;overflow:hidden;text-overflow:ellipsis}
th small{display:block;color:var(--soft);font-size:11px}
td.bar span{display:block;position:relative;height:16px;background:var(--paper)}
td.bar i{position:absolute;top:2px;height:12px;background:var(--c0);border-radius:1px}
td.bar s{position:absolute;top:-4px;height:24px;width:1px;background:var(--soft)}
td.bar u{position:absolute;top:7px;height:2px;background:var(--ink)}
td.few i{background:var(--soft);opacity:.5}
td.figure{width:16%;text-align:right;font-variant-numeric:tabular-nums}
ul{margin:0;padding-left:18px}li{margin:4px 0}
"""
