"""`/v1` in the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serving.protocols import Described
from serving.protocols.kserve.endpoint import ROWS, example
from serving.protocols.oip.document import error, page_of
from serving.protocols.openapi import HEADERS, PROBLEMS, prediction, record, request, schema
from serving.scoring.explain import MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.scoring.catalog import Catalog, LiveModel


def of(catalog: Catalog, root: str, verbs: Sequence[str]) -> Described:
    """The pages, and one route for each verb of each model."""
    names = {"type": "object", "properties": {"models": {"type": "array", "items": {"type": "string"}}}}
    paths: dict[str, Any] = {root: {"get": page_of("v1_models", "The names of the live models.", names)}}
    ready = {"type": "object", "required": ["name", "ready"], "properties": {"ready": {"type": "boolean"}}}
    for name in catalog.live:
        paths[f"{root}/{name}"] = {"get": page_of(f"v1_{name}", f"{name} is ready.", ready)}
    for name, model in catalog.of_rows.items():
        for verb in verbs:
            paths[f"{root}/{name}:{verb}"] = {"post": _operation(model, verb)}
    return Described(paths, {})


def _operation(model: LiveModel, verb: str) -> dict[str, Any]:
    signature = model.signature
    own: dict[str, Any] = {}
    for form in request(model)["oneOf"]:
        own |= form["properties"]
    options = ("probabilities", "threshold") + (("class", "log_odds") if verb == "explain" else ())
    parameters = {key: own[key] for key in options if key in own}
    records = {"type": "array", "minItems": 1, "maxItems": model.max_rows, "items": record(model)}
    body = {
        "type": "object",
        "required": [ROWS],
        "properties": {
            ROWS: {"anyOf": [own["features"], records]},
            "parameters": {"type": "object", "properties": parameters},
        },
    }
    label = prediction(signature)
    by_class = {"type": "object", "additionalProperties": {"type": "number"}}
    one = {"anyOf": [label, by_class]} if signature.classes else label
    properties = {
        "predictions": {"type": "array", "items": one},
        "version": {"const": model.version},
    }
    about = f"KServe's first protocol: predict {signature.target} with {model.name}"
    if verb == "explain":
        properties["explanations"] = {"type": "array", "items": schema("Explanation")}
        about += f", and explain each prediction (at most {MAX_ROWS} rows)"
    reply = {"type": "object", "required": list(properties), "properties": properties}
    examples = {
        "records": {"value": example(model)},
        "rows": {"value": {ROWS: [list(signature.example.values())]}},
    }
    return {
        "operationId": f"v1_{model.name}_{verb}",
        "summary": f"{about}.",
        "parameters": HEADERS,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body, "examples": examples}},
        },
        "responses": {
            "200": {
                "description": "The predictions, in the order of the rows.",
                "content": {"application/json": {"schema": reply}},
            },
            **{str(status): error(about) for status, about in PROBLEMS.items()},
        },
    }
