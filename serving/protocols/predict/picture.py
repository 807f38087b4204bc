"""The explanation of one row as a picture: from the base, one bar a column, to the score."""

from __future__ import annotations

from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SVG = b"image/svg+xml"
MAX_BARS = 12
WIDTH, LEFT, RIGHT = 780, 270, 100  # pixels; the bars lie between the margins
LINE = 26
TOP = 72
MAX_CHARACTERS = 34
MAX_VALUE = 14  # characters of a value beside the name of its column
MAX_WRITTEN = 1e8  # from here on a number is written as 1e+08

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1b1f24 }
.title { font-size: 16px; font-weight: 600 } .note { fill: #57606a; font-size: 12px }
.name { text-anchor: end } .up { fill: #1a7f4b } .down { fill: #b3374a } .page { fill: #ffffff }
line { stroke: #8c959f; stroke-dasharray: 2 3 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .note { fill: #9da7b1 } .page { fill: #11161c }
.up { fill: #3fb97f } .down { fill: #ef7788 } line { stroke: #6e7781 }
}
"""


def of(explanation: Mapping[str, Any], target: str, *, log_odds: bool) -> str:
    """The picture of one object of `explanations`."""
    base, score = float(explanation["base"]), float(explanation["score"])
    bars = _bars(explanation["contributions"])
    ends = [base]
    for _, contribution in bars:
        ends.append(ends[-1] + contribution)
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return LEFT + (value - low) / span * float(WIDTH - LEFT - RIGHT)

    unit = "log-odds" if log_odds else "probability"
    what = f"{unit} of {_cut(_plain(explanation['class']))}" if "class" in explanation else _cut(target)
    predicted = explanation["prediction"]
    shown = _number(predicted) if isinstance(predicted, float) else _cut(_plain(predicted))
    height = TOP + LINE * (len(bars) + 1) + 46
    sentence = f"{_cut(target)}: {shown}. From a base of {_number(base)} to {_number(score)}, {what}"
    error = explanation["error"]
    accuracy = "exact" if explanation["method"] == "exact" else f"within {_number(error)} of the exact values"
    size = f'width="{WIDTH}" height="{height}"'
    role = 'role="img" aria-labelledby="t d"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {size} {role}>',
        f'<title id="t">{escape(sentence)}</title>',
        f'<desc id="d">{escape(_told(bars))}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        f'<text class="title" x="16" y="28">{escape(f"{_cut(target)}: {shown}")}</text>',
        f'<text class="note" x="16" y="48">{escape(f"{what}; contributions {accuracy}")}</text>',
    ]
    bottom = TOP + LINE * len(bars)
    lines += [
        f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{TOP - 6}" y2="{bottom + 6}"/>'
        for value in (base, score)
    ]
    for i, (name, contribution) in enumerate(bars):
        y = TOP + LINE * i
        start, end = sorted((x(ends[i]), x(ends[i + 1])))
        kind = "up" if contribution >= 0 else "down"
        size = f'width="{max(end - start, 1):.1f}" height="{LINE - 8}"'
        lines += [
            f'<text class="name" x="{LEFT - 12}" y="{y + 16}">{escape(_cut(name))}</text>',
            f'<rect class="{kind}" x="{start:.1f}" y="{y + 4}" {size} rx="2"/>',
            f'<text x="{end + 6:.1f}" y="{y + 16}">{_number(contribution, 3, "+")}</text>',
        ]
    near = abs(x(score) - x(base)) < 130  # two labels would meet
    lines += [
        _label(x(base), bottom + 22, f"base {_number(base)}"),
        _label(x(score), bottom + (38 if near else 22), f"score {_number(score)}"),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _bars(contributions: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """The largest contributions with the values that they come from, and the sum of all others."""
    most = MAX_BARS if len(contributions) <= MAX_BARS else MAX_BARS - 1
    bars = [(_named(each), float(each["contribution"])) for each in contributions[:most]]
    rest = contributions[most:]
    if rest:
        bars.append((f"{len(rest)} others", float(sum(each["contribution"] for each in rest))))
    return bars


def _named(contribution: Mapping[str, Any]) -> str:
    name = str(contribution["column"])
    if "value" not in contribution:
        return name
    value = contribution["value"]
    shown = "missing" if value is None else _number(value, 6) if isinstance(value, float) else str(value)
    shown = _cut(shown, MAX_VALUE)
    return f"{_cut(name, MAX_CHARACTERS - 3 - _width(shown))} = {shown}"


def _told(bars: Sequence[tuple[str, float]]) -> str:
    return "; ".join(f"{name}: {_number(contribution, 3, '+')}" for name, contribution in bars)


def _label(x: float, y: float, text: str) -> str:
    place = min(max(x, 60), WIDTH - 60)
    return f'<text class="note" x="{place:.1f}" y="{y}" text-anchor="middle">{escape(text)}</text>'


def _plain(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _number(value: float, digits: int = 4, sign: str = "") -> str:
    """A number with this many digits; a larger one has all digits before the point."""
    if 10**digits <= abs(value) < MAX_WRITTEN:
        return f"{value:{sign},.0f}"
    return f"{value:{sign}.{digits}g}"


def _width(text: str) -> float:
    """The width of a text in characters of the usual width."""
    return sum(map(_width_of, text))


def _width_of(character: str) -> float:
    if east_asian_width(character) in ("W", "F"):
        return 2.0
    return 1.6 if character in "WMmw@%" else 1.25 if character.isupper() else 1.0


def _cut(text: str, most: float = MAX_CHARACTERS) -> str:
    """A text as one line of characters that XML allows, cut to the width that is left."""
    line = "".join(c if c.isprintable() else " " for c in text)
    if _width(line) <= most:
        return line
    ends = accumulate(map(_width_of, line))
    return line[: sum(end <= most - 1 for end in ends)] + "…"
