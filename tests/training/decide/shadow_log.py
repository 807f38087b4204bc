"""A prediction log in which a champion answered and a shadow scored the same rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact.sealing import about_row
from serving.prediction_log.record import Line
from tests.serving.prediction_log.rows import id_of, tell

if TYPE_CHECKING:
    from pathlib import Path

    from artifact.sealing import Sealing
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
) -> tuple[list[Line], list[dict[str, Any]], list[str]]:
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
        shadows.append(
            {
                "id": id_of(i),
                "row": 0,
                "at": at,
                "model": model,
                "version": versions[1],
                "role": "shadow",
                "prediction": classes[said[1]],
                "scores": scores[1],
            }
        )
        actual.append(classes[true])
    return lines, shadows, actual


def write_folder(
    store: Folder,
    lines: list[Line],
    shadows: list[dict[str, Any]],
    actual: list[str],
    sealing: Sealing | None = None,
) -> Path:
    """Write them as one server does; outcomes are known for the first `len(actual)` rows."""
    store.write(lines)
    newest = max(store.path.glob("predictions-*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    with newest.with_name("shadows-" + newest.name.removeprefix("predictions-")).open("ab") as file:
        file.writelines(msgspec.json.encode(sealed(each, sealing)) + b"\n" for each in shadows)
    if actual:
        tell(store, *zip(lines, actual, strict=False))
    return newest


def sealed(line: dict[str, Any], sealing: Sealing | None) -> dict[str, Any]:
    """A shadow's line as an encrypted log has it."""
    if sealing is None:
        return line
    head = {key: value for key, value in line.items() if key not in {"prediction", "scores"}}
    content = msgspec.json.encode({key: line[key] for key in ("prediction", "scores")})
    about = about_row(line["id"], line["row"], line["model"], line["version"])
    return head | msgspec.to_builtins(sealing.seal(content, about))
