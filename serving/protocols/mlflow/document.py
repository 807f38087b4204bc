"""`/invocations` and its pages in the OpenAPI document."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from serving.protocols import Described
from serving.protocols.openapi import (
    HEADERS,
    PROBLEMS,
    page,
    prediction,
    problem_schema,
    record,
    request,
    schema,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.scoring.catalog import Catalog, LiveModel


def of(catalog: Catalog, route: str, pages: Sequence[str]) -> Described:
    """The route of the default model, and the pages."""
    paths: dict[str, Any] = {}
    if catalog.default in catalog.of_rows:
        paths[route] = {"post": _invocations(catalog.of_rows[catalog.default])}
    ping, health, version = pages
    paths |= {
        ping: {"get": page("mlflow_ping", "Whether the default model is ready, as MLflow reports it.", {})},
        health: {"get": page("mlflow_health", "The same as /ping.", {})},
        version: {"get": page("mlflow_version", "The version of MLflow, as plain text.", {})},
    }
    for path in pages:
        paths[path]["get"]["responses"] |= {"400": _problem(400)}
    for path in (ping, health):
        paths[path]["get"]["responses"] |= {"503": _problem(503)}
    return Described(paths, {"MLflowProblem": _problem_schema()})


def _invocations(model: LiveModel) -> dict[str, Any]:
    """The operation of MLflow's scoring protocol."""
    own: dict[str, Any] = {}
    for form in request(model)["oneOf"]:
        own |= form["properties"]
    options = {key: own[key] for key in ("probabilities", "threshold") if key in own}
    params = {"params": {"type": ["object", "null"], "properties": options}}
    one_of = [
        {"type": "object", "properties": {name: form} | params, "required": [name]}
        for name, form in _forms(model, own["features"], own["columns"]).items()
    ]
    predictions = {"type": "array", "items": _prediction(model, probabilities=bool(options))}
    reply = {
        "type": "object",
        "required": ["predictions", "version"],
        "properties": {
            "predictions": predictions,
            "version": {"type": "string", "description": "The version that answered."},
        },
    }
    return {
        "operationId": "invocations",
        "summary": f"MLflow's scoring protocol: predict {model.signature.target} with {model.name}.",
        "parameters": HEADERS,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"oneOf": one_of}, "examples": _examples(model)},
                "text/csv": {"schema": {"type": "string"}, "example": _csv(model)},
            },
        },
        "responses": {
            "200": {
                "description": "The predictions, in the order of the rows.",
                "content": {"application/json": {"schema": reply}},
            },
            **{str(status): _problem(status) for status in PROBLEMS if status != 422},
        },
    }


def _forms(model: LiveModel, features: dict[str, Any], columns: dict[str, Any]) -> dict[str, Any]:
    """The schemas of MLflow's JSON forms, by the key that holds the rows; unknown columns are ignored.

    Parameters
    ----------
    features, columns
        The schemas of rows by position and of columns by name in the server's own protocol.
    """
    columns = columns | {"additionalProperties": True}
    records = {"type": "array", "minItems": 1, "maxItems": model.max_rows}
    records["items"] = record(model) | {"additionalProperties": True}
    split = {
        "type": "object",
        "required": ["data"],
        "properties": {
            "columns": {
                "const": list(model.signature.names),
                "description": "in any order; other columns are ignored",
            },
            "data": features,
            "index": {
                "type": ["array", "null"],
                "items": {},
                "description": "ignored, but it must be as long as data",
            },
        },
    }
    any_form = {"anyOf": [features, records, columns]}
    return {
        "dataframe_split": split,
        "dataframe_records": records,
        "instances": any_form,
        "inputs": any_form,
    }


def _prediction(model: LiveModel, *, probabilities: bool) -> dict[str, Any]:
    """The schema of one row's prediction."""
    label = prediction(model.signature)
    if not model.signature.classes:
        return label
    by_class = {"type": "object", "additionalProperties": {"type": "number"}}
    return {"anyOf": [label, by_class]} if probabilities else label


def _examples(model: LiveModel) -> dict[str, Any]:
    """The example row in each of the forms."""
    example = model.signature.example
    names, row = list(example), list(example.values())
    return {
        "dataframe_split": {"value": {"dataframe_split": {"columns": names, "data": [row]}}},
        "dataframe_records": {"value": {"dataframe_records": [example]}},
        "instances": {"value": {"instances": [row]}},
        "inputs": {"value": {"inputs": {name: [cell] for name, cell in example.items()}}},
    }


def _csv(model: LiveModel) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(model.signature.names)
    writer.writerow(model.signature.example.values())
    return text.getvalue()


def _problem(status: int) -> dict[str, Any]:
    about = f"{PROBLEMS[status]} {PROBLEMS[422]}" if status == 400 else PROBLEMS[status]
    return {"description": about, "content": {"application/json": {"schema": schema("MLflowProblem")}}}


def _problem_schema() -> dict[str, Any]:
    text: dict[str, Any] = {"type": "string"}
    return {
        "type": "object",
        "required": ["error_code", "message"],
        "properties": {
            "error_code": text,
            "message": text,
            "errors": problem_schema()["properties"]["errors"],
        },
    }
