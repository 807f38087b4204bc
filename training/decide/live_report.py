"""Live quality for people and programs: a table, JSON and a picture."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from training.decide.live import MIN_LEVEL_ROWS
from training.metrics.metric import METRICS
from training.plots import live_quality

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from training.decide.live import Estimate, LiveQuality


def table(found: LiveQuality) -> str:
    """What a person reads."""
    verdict = "broken" if found.broken else "kept"
    test_rows = f" on {found.promise_rows} test rows" if found.promise_rows else ""
    lines = [
        f"{found.name}, version {found.version}: {found.metric}",
        f"  promised  {found.promise:.4f}{test_rows}",
        f"  live      {said(found.live)}",
        f"  The promise is {verdict} (tolerance {found.tolerance:.4f} for the noise of the promise itself).",
    ]
    if found.others:
        lines.append(f"  {found.others} rows with feedback are of other versions and do not count.")
    if found.unusable:
        lines.append(
            f"  {found.unusable} rows have feedback that is not one of the model's classes, or not a number."
        )
    lines += ["", "By day (UTC)", *(f"  {day}  {said(part)}" for day, part in found.days.items())]
    if found.slices:
        width = max(len(f"{name} = {level}") for name, level, _ in found.slices)
        lines += ["", f"By slice (of {MIN_LEVEL_ROWS} rows or more)"]
        lines += [f"  {f'{name} = {level}':{width}}  {said(part)}" for name, level, part in found.slices]
    for each in found.fairness:
        answer = "" if each.answer is None else f" (answer {each.answer})"
        lines += ["", f"Groups by {each.title}{answer}"]
        lines += [f"  {apart.sentence}" for apart in each.disparities.values()]
    return "\n".join(lines)


def said(part: Estimate) -> str:
    """A figure with its interval and rows."""
    if not math.isfinite(part.value):
        return f"undefined   {part.rows} rows"
    return f"{part.value:.4f}  95 % between {part.low:.4f} and {part.high:.4f}   {part.rows} rows"


def as_dict(found: LiveQuality) -> dict[str, Any]:
    """What a program reads."""
    return {
        **asdict(found),
        "slices": [{"column": name, "level": level, **asdict(part)} for name, level, part in found.slices],
    }


def as_json(told: Mapping[str, Any]) -> str:
    """JSON; null where a figure is undefined."""
    return json.dumps(_finite(told), indent=2)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_picture(found: LiveQuality, directory: Path) -> Path:
    """The figure by day beside the promise, as `NAME-live.png`."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{found.name}-live.png"
    days: dict[str, NDArray[np.float64]] = {
        day: np.array([part.value, part.low, part.high])
        for day, part in found.days.items()
        if math.isfinite(part.value)
    }
    title = METRICS[found.metric].title
    live_quality(
        f"{found.name}, version {found.version}: {title}",
        title,
        days,
        promise=found.promise,
        live=(found.live.low, found.live.high),
    ).savefig(path)
    return path
