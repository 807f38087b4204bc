"""Rows for requests: generated from a live model's signature, or the golden rows with their scores."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from loadtests.errors import UsageError
from loadtests.protocols import Answer, WrongAnswerError, read

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from loadtests.protocols import Cells, Model, Protocol

MADE = 200
"""Bodies that a process generates for each protocol; it sends them in turn."""
MISSING = 0.05
DAYS = 365


@dataclass(frozen=True)
class Expected:
    """The expected answer to a golden row.

    Parameters
    ----------
    row
        Its number in the file.
    """

    row: int
    scores: list[float]
    tolerance: float


@dataclass(frozen=True)
class Golden:
    """The contents of a golden.json."""

    records: list[dict[str, Any]]
    scores: list[list[float]]
    tolerance: float

    def message(self) -> dict[str, Any]:
        """The same as JSON, to send to another process."""
        return {"records": self.records, "scores": self.scores, "tolerance": self.tolerance}


@dataclass(frozen=True)
class Request:
    """A body, and the expected answer."""

    body: bytes
    expected: Expected | None = None


def made(protocol: Protocol, model: Model, random: Random, count: int = MADE) -> list[Request]:
    """Requests with valid rows, each a variation of the model's example."""
    return [
        Request(json.dumps(protocol.body(model, row(model, random), False)).encode()) for _ in range(count)
    ]


def golden_requests(protocol: Protocol, model: Model, golden: Golden) -> list[Request]:
    """A request for each golden row, in the order of the file."""
    requests = []
    for i, (record, scores) in enumerate(zip(golden.records, golden.scores, strict=True)):
        cells = [record.get(column["name"]) for column in model.columns]
        body = json.dumps(protocol.body(model, cells, True)).encode()
        requests.append(Request(body, Expected(i, scores, golden.tolerance)))
    return requests


def row(model: Model, random: Random) -> Cells:
    """The example with every cell varied within the bounds of its column."""
    return [cell(column, model.example[column["name"]], random) for column in model.columns]


def cell(column: dict[str, Any], example: Any, random: Random) -> Any:
    """A value of one column; `example` is the one in `/models/{name}`."""
    if column.get("missing") == "allow" and random.random() < MISSING:
        return None
    if column["kind"] == "number":
        return _number(column, example, random)
    if column["kind"] == "category":
        return random.choice(column["categories"]) if column.get("categories") else example
    if column["kind"] == "date":
        return _date(example, random)
    words = str(example or "text").split()
    return " ".join(random.choices(words, k=random.randint(1, len(words) + 2)))


def _number(column: dict[str, Any], example: Any, random: Random) -> float | int | None:
    low, high = column.get("minimum"), column.get("maximum")
    if low is None or high is None:
        if example is None:
            return None
        spread = abs(example) / 2 or 1.0
        low = example - spread if low is None else low
        high = example + spread if high is None else high
    value = random.uniform(low, high)
    if column.get("integer"):
        return round(value)
    # Six digits, as clients send; with 17, reading the digits would dominate.
    return min(max(float(f"{value:.6g}"), low), high)


def _date(example: Any, random: Random) -> Any:
    try:
        moved = datetime.fromisoformat(example) + timedelta(days=random.randint(-DAYS, DAYS))
    except (TypeError, ValueError, OverflowError):
        return example
    return moved.date().isoformat() if len(example) == len("2020-05-17") else moved.isoformat()


# ---- golden rows


def read_golden(path: Path, model: Model) -> Golden:
    """The golden rows of an artifact.

    Raises
    ------
    UsageError
        The file is not a golden.json, or not that of the live model.
    """
    try:
        found = json.loads(path.read_bytes())
        golden = Golden(list(found["records"]), list(found["scores"]), float(found["tolerance"]))
        widths = {len(scores) for scores in golden.scores}
        names: set[str] = set().union(*golden.records)
    except OSError as error:
        raise UsageError(f"--golden {path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"--golden {path} is not the golden.json of an artifact: expected records, scores and tolerance."
        ) from error
    if not golden.records or len(golden.records) != len(golden.scores):
        raise UsageError(
            f"--golden {path} has {len(golden.records)} records and {len(golden.scores)} lists of scores."
        )
    why = _other_model(path.parent / "manifest.json", model)
    absent = [column["name"] for column in model.columns if column["name"] not in names]
    outputs = len(model.classes) + model.decided or len(model.numbers) or 1
    if not why and absent:
        why = f"its rows have no {absent[0]!r}"
    if not why and widths != {outputs}:
        why = f"its rows have {'/'.join(map(str, sorted(widths)))} scores, the model has {outputs}"
    if why:
        raise UsageError(
            f"--golden {path} is not that of the live model {model.name!r} version {model.version} ({why}); "
            "name the golden.json of the artifact that is served."
        )
    return golden


def _other_model(manifest: Path, model: Model) -> str:
    """Why the manifest beside the golden rows is another model's; empty if it is not, or there is none."""
    try:
        found = json.loads(manifest.read_bytes())["manifest"]
        name, run_id = found["name"], found["run_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    if run_id == model.run_id:
        return ""
    return f"its manifest names {name!r}, run {run_id[:12]}; the live model has run {model.run_id[:12]}"


def check(protocol: Protocol, model: Model, request: Request, body: bytes) -> None:
    """Check an answer of status 200.

    Raises
    ------
    WrongAnswerError
        It has no prediction, or not the expected one.
    """
    answer = read(protocol, model, body)
    if request.expected is not None:
        compare(model, request.expected, answer)
    elif answer.label is not None:
        plausible(model, answer.label)


def plausible(model: Model, label: Any) -> None:
    """Refuse a label that is not one of the model's, and a prediction that is not a finite number."""
    if not model.classes:
        if isinstance(label, bool) or not isinstance(label, int | float) or not math.isfinite(label):
            raise WrongAnswerError(f"the prediction is {label!r}, expected a number")
    elif not any(same(label, one) for one in model.classes):
        raise WrongAnswerError(f"the prediction is {label!r}, expected one of {model.classes}")


def compare(model: Model, expected: Expected, answer: Answer) -> None:
    """Compare an answer with a golden row's scores."""
    scores = expected.scores[: len(model.classes) or len(model.numbers) or 1]
    if answer.scores is None or len(answer.scores) != len(scores):
        raise WrongAnswerError(f"golden row {expected.row}: {answer.scores} instead of {scores}")
    for found, right in zip(answer.scores, scores, strict=True):
        if not abs(found - right) <= expected.tolerance:
            raise WrongAnswerError(f"golden row {expected.row}: score {found!r}, expected {right!r}")
    if model.classes and answer.label is not None:
        allowed = right_labels(model, expected)
        if not any(same(answer.label, one) for one in allowed):
            raise WrongAnswerError(f"golden row {expected.row}: {answer.label!r}, expected {allowed[0]!r}")


def right_labels(model: Model, expected: Expected) -> list[Any]:
    """The label of golden scores; several where the tolerance allows them."""
    scores, classes = expected.scores, model.classes
    if model.decided:
        return [classes[int(scores[-1])]]
    if model.task == "binary" and model.threshold is not None:
        at = next(i for i, label in enumerate(classes) if same(label, model.positive))
        above = scores[at] - model.threshold
        chosen = [classes[at]] if above >= -expected.tolerance else []
        return chosen + ([classes[1 - at]] if above < expected.tolerance else [])
    best = max(scores)
    near = [i for i, score in enumerate(scores) if score >= best - 2 * expected.tolerance]
    return [classes[i] for i in sorted(near, key=lambda i: -scores[i])]


def same(one: object, other: object) -> bool:
    """Whether two labels are the same, also where a protocol sends one as text."""
    return one == other or json.dumps(one) == other or one == json.dumps(other)
