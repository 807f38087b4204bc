"""Champion beside shadow and canary, for people and programs."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from training.decide.live_report import said

if TYPE_CHECKING:
    from training.decide.comparison import Comparison, Ruling, Why
    from training.decide.live import Estimate
    from training.settings import Live

_LEFT_OUT: dict[Why, str] = {
    "decided": "led to an earlier decision",
    "equal": "are equal to one that counts",
    "future": "have a time in the future",
    "unusable": "have an outcome that is not one of the model's classes or not a number, or lack a score",
}


def told(found: Comparison, ruling: Ruling, live: Live) -> str:
    """What a person reads of a shadow."""
    lines = [
        f"Shadow (version {found.shadow}) beside the champion (version {found.champion}) on the same rows"
    ]
    if not found.rows:
        lines.append("  No row that both scored is in the log yet.")
    elif math.isnan(found.agreement):
        lines.append(f"  {found.rows} rows; the predictions differ by {found.distance:.4g} on average")
    else:
        lines.append(
            f"  {found.rows} rows; the same label on {100 * found.agreement:.2f} %; "
            f"the probabilities differ by {found.distance:.4g} on average"
        )
    if found.champion_quality is not None and found.shadow_quality is not None:
        lines.append(f"  {found.metric}, champion  {said(found.champion_quality)}")
        lines.append(f"  {found.metric}, shadow    {said(found.shadow_quality)}")
    if found.evidence.rows:
        lines.append(
            f"  difference of the loss ({found.loss}), champion minus shadow: {found.evidence.mean:+.4g}, "
            f"with {100 * (1 - found.level):.4g} % between {found.low:+.4g} and {found.high:+.4g}, "
            "however often one looks"
        )
    lines += [f"  {n} rows do not count: they {_LEFT_OUT[why]}." for why, n in found.left_out.items()]
    lines.append(f"  {ruling.reason}")
    lines.append(f"  {_next(found, ruling, live)}")
    return "\n".join(lines)


def _next(found: Comparison, ruling: Ruling, live: Live) -> str:
    if ruling.action == "wait":
        if not found.evidence.rows:
            return f"The rule needs {live.min_rows} rows or more whose outcome is known."
        if ruling.rows_left is None:
            return "The rule keeps looking: both models lost the same on each row so far."
        return (
            f"The rule keeps looking: about {ruling.rows_left} more rows, if the difference stays as it is."
        )
    if ruling.action == "keep":
        return "The rule changes nothing."
    does = f"The rule says: {ruling.action}"
    key = "promote_shadow" if ruling.action == "promote" else "roll_back"
    if ruling.acts:
        return f"{does}. `deploy follow` does so by itself ({key} = true under [live])."
    return f"{does}. Nothing does so by itself: {key} is not set under [live] in the use case."


def told_canary(version: str, metric: str, quality: Estimate | None, rows: int) -> str:
    """What a person reads of a canary, which answers rows of its own."""
    if quality is None:
        return f"Canary (version {version}): {rows} rows that it answered have a known outcome."
    return (
        f"Canary (version {version}), on the rows that it answered itself\n  {metric}  {said(quality)}\n"
        "  The champion answered other rows, so the two are not compared."
    )


def as_dict(found: Comparison, ruling: Ruling) -> dict[str, Any]:
    """What a program reads of a shadow."""
    return {**asdict(found), "better": found.evidence.better, "rule": asdict(ruling)}
