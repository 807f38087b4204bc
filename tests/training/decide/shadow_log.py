"""A prediction log in which a champion answered and a shadow scored the same rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from serving.prediction_log.record import Line, ShadowLine
from tests.serving.prediction_log.rows import id_of, tell

if TYPE_CHECKING:
    from pathlib import Path

    from serving.prediction_log.folder import Folder


def answered(
    n: int,
    champion_right: float,
    shadow_right: float,
    *,
    model: str = "fruit",
    classes: tuple[str, ...] = ("apple", "plum"),
    versions: tuple[str, str] = ("1", "2"),
    first: int = 0,
    days_ago: int = 3,
) -> tuple[list[Line], list[ShadowLine], list[str]]:
    """Lines of the champion, lines of the shadow, and the outcomes."""
    day = (datetime.now(UTC) - timedelta(days=days_ago)).date().isoformat()
    rng = np.random.default_rng(first)
    lines, shadows, actual = [], [], []
    k = len(classes)
    for i in range(first, first + n):
        true = int(rng.integers(k))
        said = [true if rng.random() < right else (true + 1) % k for right in (champion_right, shadow_right)]
        scores = [[0.9 if place == one else 0.1 / (k - 1) for place in range(k)] for one in said]
        at = f"{day}T{i // 3600 % 24:02d}:{i // 60 % 60:02d}:{i % 60:02d}.000+00:00"
        head = (id_of(i), 0, 1, at, model, versions[0], "predict", {"weight": float(i), "colour": "red"})
        lines.append(Line(*head, classes[said[0]], scores[0]))
        shadows.append(ShadowLine(id_of(i), 0, at, model, versions[1], "shadow", classes[said[1]], scores[1]))
        actual.append(classes[true])
    return lines, shadows, actual


def write_folder(store: Folder, lines: list[Line], shadows: list[ShadowLine], actual: list[str]) -> Path:
    """Write them as one server does; outcomes are known for the first `len(actual)` rows."""
    store.write(lines)
    store.write_shadows(shadows)
    if actual:
        tell(store, *zip(lines, actual, strict=False))
    return max(store.path.glob("predictions-*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
