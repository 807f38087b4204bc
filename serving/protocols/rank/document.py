"""`/rank` in the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from artifact.ranking import column_of
from serving.protocols import Described
from serving.protocols.model_routes import route_of
from serving.protocols.openapi import HEADERS, PROBLEMS, problem, schema
from serving.protocols.rank.endpoint import DEFAULT_K, MAX_USERS, named
from serving.scoring.best_items import MAX_K

if TYPE_CHECKING:
    from artifact.ranking import Ranking
    from serving.scoring.catalog import Catalog, LiveModel


def of(catalog: Catalog, verb: str) -> Described:
    """One operation for each route, and the request and reply of each model."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for name, model in catalog.live.items():
        ranked = model.ranked
        if ranked is None or ranked.ranking is None:
            continue
        if name == catalog.default:
            paths[route_of(verb)] = {"post": _operation(ranked, verb)}
        own = f"{verb}_{name}"
        paths[route_of(verb, name)] = {"post": _operation(ranked, own)}
        own = f"{own}_version_{model.version}"
        paths[route_of(verb, name, model.version)] = {"post": _operation(ranked, own)}
        schemas[f"{name}_rank_request"] = _request(ranked, ranked.ranking)
        schemas[f"{name}_rank_reply"] = _reply(ranked, ranked.ranking)
    return Described(paths, schemas)


def _operation(model: LiveModel, operation: str) -> dict[str, Any]:
    example = {"value": {**model.signature.example, "k": 3}}
    return {
        "operationId": operation,
        "summary": f"The best items for users by {model.name}, version {model.version}.",
        "parameters": HEADERS,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": schema(f"{model.name}_rank_request"),
                    "examples": {"one": example},
                }
            },
        },
        "responses": {
            "200": {
                "description": "The items of each user, the best first.",
                "content": {"application/json": {"schema": schema(f"{model.name}_rank_reply")}},
            },
            **{str(status): problem(status) for status in PROBLEMS},
        },
    }


def _request(model: LiveModel, ranking: Ranking) -> dict[str, Any]:
    user = {"type": ["string", "number", "boolean"], "description": "an unknown one gets the popular items"}
    text = user | {"minLength": 1, "pattern": r"\S"}
    item = {"type": ["string", "number", "boolean"]}
    return {
        "type": "object",
        "required": [ranking.query],
        "additionalProperties": False,
        "properties": {
            ranking.query: {
                "oneOf": [text, {"type": "array", "items": text, "minItems": 1, "maxItems": _most(model)}]
            },
            "k": {
                "type": ["integer", "null"],
                "minimum": 1,
                "maximum": MAX_K,
                "description": f"how many items; {DEFAULT_K} by default",
            },
            "exclude": {"type": ["array", "null"], "items": item, "description": "items that are left out"},
            "seen": {
                "type": ["boolean", "null"],
                "description": "whether items that the user has rated count too; false by default",
            },
        },
    }


def _most(model: LiveModel) -> int:
    return min(MAX_USERS, model.max_rows)


def _reply(model: LiveModel, ranking: Ranking) -> dict[str, Any]:
    items = column_of(model.ranked_of, ranking.item).categories
    item = {"type": "integer" if isinstance(named(items)[0], int) else "string"}
    ranked: dict[str, Any] = {
        ranking.query: {"description": "as it was sent"},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["item", "score"],
                "properties": {"item": item, "score": {"type": "number"}},
            },
        },
        "by": {"enum": ["rating", "blend", "preference", "popularity"], "description": "what a score is"},
        "cold_start": {"type": "boolean", "description": "nothing is known of the user"},
    }
    common = {
        "unknown_excluded": {
            "type": "array",
            "items": {},
            "description": "excluded items that the model does not know",
        },
        "model": {"const": model.name},
        "version": {"type": "string", "description": "The version that answered."},
        "id": {"type": "string", "description": "unique to this reply"},
    }
    one = {"type": "object", "required": list(ranked), "properties": ranked}
    many = {"rankings": {"type": "array", "items": one}}
    ends = ["model", "version", "id"]
    return {
        "anyOf": [
            {"type": "object", "required": [*ranked, *ends], "properties": ranked | common},
            {"type": "object", "required": ["rankings", *ends], "properties": many | common},
        ]
    }
