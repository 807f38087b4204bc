"""`/predict` in the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serving.protocols import Described
from serving.protocols.openapi import HEADERS, PROBLEMS, prediction, problem, record, request, schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.scoring.catalog import Catalog, LiveModel


def of(catalog: Catalog, route: str, route_of: Callable[[str, str], str]) -> Described:
    """An operation a route, and each model's record, request and reply."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    if catalog.default in catalog.live:
        paths[route] = {"post": _predict(catalog.live[catalog.default], "predict")}
    for model in catalog.live.values():
        paths[route_of(model.name, "")] = {"post": _predict(model, f"predict_{model.name}")}
        own = f"predict_{model.name}_version_{model.version}"
        paths[route_of(model.name, model.version)] = {"post": _predict(model, own)}
        schemas[f"{model.name}_record"] = record(model)
        schemas[f"{model.name}_request"] = request(model)
        schemas[f"{model.name}_reply"] = _reply(model)
    return Described(paths, schemas)


def example_request(model: LiveModel) -> dict[str, Any]:
    """A body that works when pasted, made of medians and modes."""
    return {"records": [model.signature.example]}


def _predict(model: LiveModel, operation: str) -> dict[str, Any]:
    signature = model.signature
    examples: dict[str, Any] = {
        "records": {"value": example_request(model)},
        "features": {"value": {"features": [list(signature.example.values())]}},
        "columns": {"value": {"columns": {name: [cell] for name, cell in signature.example.items()}}},
    }
    if len(signature.columns) == 1:
        examples["x"] = {"value": {"x": next(iter(signature.example.values()))}}
    return {
        "operationId": operation,
        "summary": f"Predict {signature.target} with {model.name}, version {model.version}.",
        "parameters": HEADERS,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema(f"{model.name}_request"), "examples": examples}
            },
        },
        "responses": {
            "200": {
                "description": "The predictions, in the order of the rows.",
                "content": {"application/json": {"schema": schema(f"{model.name}_reply")}},
            },
            **{str(status): problem(status) for status in PROBLEMS},
        },
    }


def _reply(model: LiveModel) -> dict[str, Any]:
    signature = model.signature
    number = {"type": "number"}
    one = prediction(signature)
    some: dict[str, Any] = {"type": "array", "items": one}
    chances: dict[str, Any] = {"type": "array", "items": number}
    properties = {
        "prediction": {"anyOf": [some, one]} if len(signature.columns) == 1 else some,
        "model": {"const": model.name},
        "version": {"const": model.version},
        "id": {"type": "string", "description": "unique to this reply"},
    }
    if signature.classes:
        # Of a lone `x` the prediction is a value, and its probabilities are a list.
        either = {"anyOf": [chances, number]} if len(signature.columns) == 1 else chances
        properties["probabilities"] = {"type": "array", "items": either}
        properties["classes"] = {"const": list(signature.classes)}
    return {
        "type": "object",
        "required": ["prediction", "model", "version", "id"],
        "properties": properties,
        "additionalProperties": False,
    }
