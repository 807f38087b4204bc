"""`/invocations` and its pages in the OpenAPI document."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from serving.protocols import Described
from serving.protocols.openapi import HEADERS, PROBLEMS, page, problem_schema, record, request, schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.scoring.catalog import Catalog, LiveModel


def of(catalog: Catalog, route: str, pages: Sequence[str]) -> Described:
    """The route of the default model, and the pages."""
    paths: dict[str, Any] = {}
    if catalog.default in catalog.live:
        paths[route] = {"post": _invocations(catalog.live[catalog.default])}
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
    """MLflow's scoring protocol, which ignores columns that it does not know."""
    signature = model.signature
    names = list(signature.names)
    own: dict[str, Any] = request(model)
    own_forms: dict[str, Any] = {}
    for form in own["oneOf"]:
        own_forms |= form["properties"]
    features, columns = own_forms["features"], own_forms["columns"] | {"additionalProperties": True}
    records = {"type": "array", "minItems": 1, "maxItems": model.max_rows}
    records["items"] = record(model) | {"additionalProperties": True}
    split = {
        "type": "object",
        "required": ["data"],
        "properties": {
            "columns": {"const": names, "description": "in any order; other columns are ignored"},
            "data": features,
            "index": {
                "type": ["array", "null"],
                "items": {},
                "description": "ignored, but it must be as long as data",
            },
        },
    }
    any_form = {"anyOf": [features, records, columns]}
    forms = {
        "dataframe_split": split,
        "dataframe_records": records,
        "instances": any_form,
        "inputs": any_form,
    }
    options = {key: own_forms[key] for key in ("probabilities", "threshold") if key in own_forms}
    params = {"params": {"type": ["object", "null"], "properties": options}}
    row = list(signature.example.values())
    examples: dict[str, Any] = {
        "dataframe_split": {"value": {"dataframe_split": {"columns": names, "data": [row]}}},
        "dataframe_records": {"value": {"dataframe_records": [signature.example]}},
        "instances": {"value": {"instances": [row]}},
        "inputs": {"value": {"inputs": {name: [cell] for name, cell in signature.example.items()}}},
    }
    one_of = [
        {"type": "object", "properties": {name: form} | params, "required": [name]}
        for name, form in forms.items()
    ]
    predictions: dict[str, Any] = {"type": "array", "items": {"enum": list(signature.classes)}}
    if not signature.classes:
        predictions = {"type": "array", "items": {"type": "number"}}
    elif options:
        shares = {"type": "object", "additionalProperties": {"type": "number"}}
        predictions = {"type": "array", "items": {"anyOf": [predictions["items"], shares]}}
    reply = {"type": "object", "required": ["predictions"], "properties": {"predictions": predictions}}
    return {
        "operationId": "invocations",
        "summary": f"MLflow's scoring protocol: predict {signature.target} with {model.name}.",
        "parameters": HEADERS,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"oneOf": one_of}, "examples": examples},
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
