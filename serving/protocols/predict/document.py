"""`/predict` in the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from artifact.kinds.image import MEDIA_TYPES
from serving.protocols import Described
from serving.protocols.model_routes import route_of
from serving.protocols.openapi import HEADERS, PROBLEMS, prediction, problem, record, request, schema
from serving.protocols.predict.files import CSV, FORM_DATA, PARQUET, csv_of
from serving.protocols.predict.unusual import KINDS
from serving.scoring.explain import MAX_ROWS

if TYPE_CHECKING:
    from serving.scoring.catalog import Catalog, LiveModel


def of(catalog: Catalog) -> Described:
    """One operation for each route, and the record, request and reply of each model."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Explanation": _explanation(), "Warning": _warning()}
    for verb in ("predict", "explain"):
        if catalog.default in catalog.of_rows:
            paths[route_of(verb)] = {"post": _operation(verb, catalog.of_rows[catalog.default], verb)}
        for model in catalog.of_rows.values():
            own = f"{verb}_{model.name}"
            paths[route_of(verb, model.name)] = {"post": _operation(verb, model, own)}
            own = f"{own}_version_{model.version}"
            paths[route_of(verb, model.name, model.version)] = {"post": _operation(verb, model, own)}
    for model in catalog.of_rows.values():
        schemas[f"{model.name}_record"] = record(model)
        schemas[f"{model.name}_request"] = request(model)
        schemas[f"{model.name}_reply"] = _reply(model)
    return Described(paths, schemas)


def example_request(model: LiveModel) -> dict[str, Any]:
    """A body that works when pasted, made of medians and modes."""
    return {"records": [model.signature.example]}


def _operation(verb: str, model: LiveModel, operation: str) -> dict[str, Any]:
    signature = model.signature
    examples: dict[str, Any] = {
        "records": {"value": example_request(model)},
        "features": {"value": {"features": [list(signature.example.values())]}},
        "columns": {"value": {"columns": {name: [cell] for name, cell in signature.example.items()}}},
    }
    if len(signature.columns) == 1:
        examples["x"] = {"value": {"x": next(iter(signature.example.values()))}}
    bodies: dict[str, Any] = {
        "application/json": {"schema": schema(f"{model.name}_request"), "examples": examples}
    }
    text = {"schema": {"type": "string"}}
    bodies |= {
        CSV: {**text, "example": csv_of({name: [cell] for name, cell in signature.example.items()}).decode()},
        PARQUET: {"schema": {"type": "string", "format": "binary"}},
        FORM_DATA: {
            "schema": {
                "type": "object",
                "properties": {"file": {"type": "string", "format": "binary"}},
                "description": "a CSV or Parquet file, and options as fields",
            }
        },
    }
    if signature.pictures and len(signature.columns) == 1:
        bodies |= {form: {"schema": {"type": "string", "format": "binary"}} for form in MEDIA_TYPES}
    content = {"application/json": {"schema": schema(f"{model.name}_reply")}, CSV: text}
    about = f"Predict {signature.target} with {model.name}, version {model.version}"
    if verb == "explain":
        content["image/svg+xml"] = {"schema": {"type": "string"}}
        about += (
            f", and explain each prediction by the contributions of its columns (at most {MAX_ROWS} rows)"
        )
    return {
        "operationId": operation,
        "summary": f"{about}.",
        "parameters": HEADERS,
        "requestBody": {"required": True, "content": bodies},
        "responses": {
            "200": {
                "description": "The predictions, in the order of the rows.",
                "content": content,
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
        "version": {"type": "string", "description": "The version that answered."},
        "id": {"type": "string", "description": "unique to this reply"},
    }
    if signature.classes:
        # Of a lone `x` the prediction is a value, and its probabilities are a list.
        either = {"anyOf": [chances, number]} if len(signature.columns) == 1 else chances
        properties["probabilities"] = {"type": "array", "items": either}
        properties["classes"] = {"const": list(signature.classes)}
    if not signature.numbers:
        each: dict[str, Any] = {"type": "array", "items": one}
        if len(signature.columns) == 1:  # of a lone `x` the one set or interval itself
            each = {"anyOf": [each, one]}
        properties["sets" if signature.classes else "intervals"] = {"type": "array", "items": each}
        properties["level"] = number
    properties["warnings"] = {"type": "array", "items": schema("Warning")}
    properties["warnings_left_out"] = {"type": "integer"}
    properties["explanations"] = {"type": "array", "items": schema("Explanation")}
    return {
        "type": "object",
        "required": ["prediction", "model", "version", "id"],
        "properties": properties,
        "additionalProperties": False,
    }


def _warning() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "type": "object",
        "required": ["row", "column", "kind", "detail"],
        "properties": {
            "row": {"type": ["integer", "null"], "description": "null: about the last rows of the model"},
            "column": text,
            "kind": {"enum": list(KINDS)},
            "detail": text,
        },
    }


def _explanation() -> dict[str, Any]:
    number = {"type": "number"}
    word = {"type": "object", "properties": {"word": {"type": "string"}, "contribution": number}}
    contribution = {
        "type": "object",
        "required": ["column", "contribution"],
        "properties": {
            "column": {"type": "string"},
            "value": {"description": "the row's own, of numbers and categories"},
            "contribution": number,
            "words": {
                "type": "array",
                "items": word,
                "description": "of a text: the score with each word less the score without it",
            },
        },
    }
    return {
        "type": "object",
        "required": ["prediction", "score", "base", "error", "method", "contributions"],
        "properties": {
            "prediction": {},
            "class": {"description": "whose score is explained; absent for a regression"},
            "score": number,
            "base": number | {"description": "the mean score of the background rows"},
            "error": number
            | {"description": "about 95 of 100 contributions are nearer to the exact ones than this"},
            "method": {"enum": ["exact", "sampled"]},
            "contributions": {
                "type": "array",
                "items": contribution,
                "description": "by column, the largest first; they sum to score less base",
            },
        },
    }
