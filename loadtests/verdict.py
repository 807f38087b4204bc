"""Compare figures with objectives; the verdict as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loadtests.tally import Window, percentile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loadtests.objectives import Objectives

TIMES = (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99))


@dataclass(frozen=True)
class Line:
    """One row of the verdict; `met` is None for a figure without an objective."""

    name: str
    measured: str
    wanted: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Stage:
    """The requests while a shape held a number of users.

    Parameters
    ----------
    seconds
        The length of the windows that lie wholly within the stage.
    """

    users: int
    seconds: float
    window: Window


def judge(window: Window, seconds: float, objectives: Objectives) -> list[Line]:
    """Compare the requests of a period with the objectives."""
    if not window.finished:
        return [Line("requests", "none was answered", "some", met=False)]
    lines = [Line("requests", f"{window.finished:,}")]
    for name, fraction in TIMES:
        found = percentile(window.times, fraction)
        lines.append(_at_most(name, found, getattr(objectives, name), _milliseconds))
    allowed = objectives.shed_rate
    errors = window.error + (window.shed if allowed is None else 0)
    lines.append(_at_most("error_rate", errors / window.finished, objectives.error_rate, _fraction))
    if allowed is not None or window.shed:
        lines.append(_at_most("shed_rate", window.shed / window.finished, allowed, _fraction))
    answered = min(1.0, window.good / window.due) if window.due else 0.0
    lines.append(_at_least("goodput", answered, objectives.goodput, _fraction))
    rate = window.good / seconds if seconds else 0.0
    lines.append(_at_least("goodput_per_s", rate, objectives.goodput_per_s, _rate))
    return lines


def passed(lines: Sequence[Line]) -> bool:
    """Whether no objective was missed."""
    return all(line.met is not False for line in lines)


def knee(stages: Sequence[Stage], objectives: Objectives) -> Stage | None:
    """The last stage before the first that misses an objective.

    The objective `goodput_per_s` is left out here: the knee itself is compared with it.
    """
    found = None
    for stage in stages:
        lines = [
            line for line in judge(stage.window, stage.seconds, objectives) if line.name != "goodput_per_s"
        ]
        if not passed(lines):
            break
        found = stage
    return found


def judge_steps(stages: Sequence[Stage], whole: Window, objectives: Objectives) -> list[Line]:
    """The figures of the knee, or of the first stage if there is none; errors count in all stages."""
    if not stages:
        return [Line("steps", "none", "one second of a step", met=False)]
    best = knee(stages, objectives)
    shown = best or stages[0]
    rate = shown.window.good / shown.seconds if shown.seconds else 0.0
    if best is None:
        head = Line("knee", "below the first step", "within", met=False)
    else:
        above = "above " if best is stages[-1] else ""
        head = Line("knee", f"{above}{rate:,.0f}/s, {best.users} users", "within", met=True)
    lines = judge(shown.window, shown.seconds, objectives)
    if whole.finished and objectives.error_rate is not None:
        everywhere = whole.error / whole.finished
        lines.append(_at_most("error_rate, all steps", everywhere, objectives.error_rate, _fraction))
    return [head, *lines]


def table(title: str, lines: Sequence[Line], notes: Sequence[str] = ()) -> str:
    """The verdict as text; its last line is PASSED or FAILED."""
    rows = [("", "measured", "wanted", "")]
    marks = {True: "ok", False: "MISSED", None: ""}
    rows += [(line.name, line.measured, line.wanted, marks[line.met]) for line in lines]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    text = [f"Verdict: {title}"]
    for name, measured, wanted, mark in rows:
        row = f"  {name:<{widths[0]}}  {measured:>{widths[1]}}  {wanted:>{widths[2]}}  {mark}"
        text.append(row.rstrip())
    text += notes
    missed = [line.name for line in lines if line.met is False]
    text.append(f"FAILED: {', '.join(missed)}" if missed else "PASSED")
    return "\n".join(text)


def steps_table(stages: Sequence[Stage]) -> str:
    """One line for each stage."""
    names = ("users", "due/s", "good/s", "p50 ms", "p99 ms", "shed", "errors")
    text = ["".join(f"{name:>10}" for name in names)]
    for stage in stages:
        window, seconds = stage.window, stage.seconds or 1.0
        cells = (
            str(stage.users),
            f"{window.due / seconds:,.0f}",
            f"{window.good / seconds:,.0f}",
            *(_milliseconds(percentile(window.times, fraction)) for fraction in (0.5, 0.99)),
            str(window.shed),
            str(window.error),
        )
        text.append("".join(f"{cell:>10}" for cell in cells))
    return "\n".join(text)


def _at_most(name: str, found: float | None, bound: float | None, show: _Show) -> Line:
    if bound is None:
        return Line(name, show(found))
    return Line(name, show(found), f"<= {show(bound)}", met=found is not None and found <= bound)


def _at_least(name: str, found: float, bound: float | None, show: _Show) -> Line:
    if bound is None:
        return Line(name, show(found))
    return Line(name, show(found), f">= {show(bound)}", met=found >= bound)


def _milliseconds(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _fraction(value: float | None) -> str:
    return "none" if value is None else f"{value:.2%}" if value == 0 or value >= 0.0001 else f"{value:.2g}"


def _rate(value: float | None) -> str:
    return "none" if value is None else f"{value:,.1f}"


if TYPE_CHECKING:
    from collections.abc import Callable

    _Show = Callable[[float | None], str]
