"""The three protocols of the server: how a request is made, and how its answer is read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Cells = list[Any]
"""One row by position, as JSON has it."""


@dataclass(frozen=True)
class Model:
    """A live model, as `GET /models/{name}` describes it.

    Parameters
    ----------
    columns
        Each with `name`, `kind`, `missing` and the other fields of the signature.
    default
        Whether routes without a name use it.
    numbers
        Names of the numbers of a prediction, where it is of several.
    decided
        Whether golden scores end with the index of the label, which may not be that of the highest score.
    """

    name: str
    version: str
    run_id: str
    task: str
    columns: list[dict[str, Any]]
    classes: list[Any]
    positive: Any
    threshold: float | None
    decided: bool
    numbers: list[str]
    example: dict[str, Any]
    default: bool

    @classmethod
    def of(cls, description: Mapping[str, Any], *, default: bool) -> Model:
        signature = description["signature"]
        return cls(
            name=description["name"],
            version=description["version"],
            run_id=description["run_id"],
            task=description["task"],
            columns=signature["columns"],
            classes=signature["classes"],
            positive=signature["positive"],
            threshold=signature["threshold"],
            decided=signature.get("decided", False),
            numbers=signature.get("numbers", []),
            example=description["example"],
            default=default,
        )


@dataclass(frozen=True)
class Answer:
    """One row's prediction and scores, each None where the answer has none."""

    label: Any = None
    scores: list[float] | None = None


class WrongAnswerError(Exception):
    """An answer of status 200 is wrong; the message says why."""


@dataclass(frozen=True)
class Protocol:
    """How one row is sent, and how its answer is read.

    Parameters
    ----------
    endpoint
        The route's label in the server's metrics.
    path
        The path of the route for a model.
    body
        The body of a request; the flag asks for scores.
    read
        The answer in decoded JSON; raises KeyError, IndexError or TypeError where there is none.
    """

    endpoint: str
    path: Callable[[Model], str]
    body: Callable[[Model, Cells, bool], dict[str, Any]]
    read: Callable[[Model, Any], Answer]


def _predict_body(model: Model, cells: Cells, scores: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"features": [cells]}
    return body | {"probabilities": True} if scores and model.classes else body


def _predict_answer(model: Model, answer: Any) -> Answer:
    (label,) = answer["prediction"]
    if model.numbers:
        return Answer(scores=[label[name] for name in model.numbers])
    if not model.classes:
        return Answer(label, [label])
    return Answer(label, answer["probabilities"][0] if "probabilities" in answer else None)


def _infer_body(model: Model, cells: Cells, _scores: bool) -> dict[str, Any]:
    if all(column["kind"] == "number" for column in model.columns):
        tensor = {"name": "features", "datatype": "FP64", "shape": [1, len(cells)], "data": cells}
        return {"inputs": [tensor]}
    tensors = [
        {
            "name": column["name"],
            "datatype": "FP64" if column["kind"] == "number" and not isinstance(cell, str) else "BYTES",
            "shape": [1],
            "data": [cell],
        }
        for column, cell in zip(model.columns, cells, strict=True)
    ]
    return {"inputs": tensors}


def _infer_answer(model: Model, answer: Any) -> Answer:
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    if model.numbers:
        return Answer(scores=outputs["scores"])
    (label,) = outputs["prediction"]
    return Answer(label, outputs["probabilities"] if model.classes else [label])


def _invocations_body(model: Model, cells: Cells, scores: bool) -> dict[str, Any]:
    names = [column["name"] for column in model.columns]
    body: dict[str, Any] = {"dataframe_split": {"columns": names, "data": [cells]}}
    return body | {"params": {"probabilities": True}} if scores and model.classes else body


def _invocations_answer(model: Model, answer: Any) -> Answer:
    (found,) = answer["predictions"]
    if isinstance(found, dict):
        return Answer(scores=list(found.values()))
    return Answer(found, None if model.classes else [found])


PREDICT = Protocol(
    "predict",
    lambda model: "/predict" if model.default else f"/models/{model.name}/predict",
    _predict_body,
    _predict_answer,
)
INFER = Protocol("infer", lambda model: f"/v2/models/{model.name}/infer", _infer_body, _infer_answer)
INVOCATIONS = Protocol("invocations", lambda _: "/invocations", _invocations_body, _invocations_answer)


def read(protocol: Protocol, model: Model, body: bytes) -> Answer:
    """The answer to one row.

    Raises
    ------
    WrongAnswerError
        It has no prediction for one row.
    """
    try:
        answer = protocol.read(model, json.loads(body))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise WrongAnswerError(f"not an answer: {error!r} in {body[:200]!r}") from error
    if answer.label is None and answer.scores is None:
        raise WrongAnswerError(f"no prediction in {body[:200]!r}")
    return answer
