"""The OpenAPI document of the live models: each protocol's part, and the gateway's own pages."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from artifact import __version__
from serving import ids
from serving.protocols.openapi import HEADERS, page, problem, problem_schema, schema
from serving.protocols.registry import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from serving.protocols import Protocol
    from serving.scoring.catalog import Catalog
    from serving.settings import Settings


def document(
    catalog: Catalog, settings: Settings, protocols: Iterable[Protocol] = PROTOCOLS
) -> dict[str, Any]:
    """OpenAPI 3.1 with a path for each live model and its own columns."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {
        "Problem": problem_schema(),
        "Model": _model_schema(),
        "Models": {
            "type": "object",
            "required": ["default", "models", "not_live"],
            "properties": {
                "default": {"type": "string"},
                "models": {"type": "array", "items": schema("Model")},
                "not_live": {"type": "array", "items": _not_live_schema()},
            },
        },
    }
    for protocol in protocols:
        part = protocol.document(catalog)
        paths |= part.paths
        schemas |= part.schemas
    paths |= _pages(catalog)
    if settings.console:
        paths |= _console(catalog)
        paths["/"] = {"get": _redirect("/console")}
    if settings.prediction_log:
        paths["/feedback"] = {"post": _feedback()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Okamochi",
            "version": __version__,
            "description": f"Predictions of {', '.join(catalog.live) or 'no model'}. Bodies of at most "
            f"{settings.max_body_bytes} bytes.",
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _pages(catalog: Catalog) -> dict[str, Any]:
    ready = page("readyz", "Every model is loaded and verified.", "text/plain")
    ready["responses"]["503"] = problem(503)
    paths = {"/models": {"get": page("list_models", "The live models.", schema("Models"))}}
    for name in catalog.live:
        about = page(f"get_{name}", f"The columns of {name} and its quality.", schema("Model"))
        paths[f"/models/{name}"] = {"get": about}
    return paths | {
        "/livez": {"get": page("livez", "The process answers.", "text/plain")},
        "/readyz": {"get": ready},
        "/metrics": {"get": page("metrics", "For Prometheus.", "text/plain")},
        "/openapi.json": {"get": page("openapi", "This document.", {"type": "object"})},
        "/docs": {"get": page("docs", "The documentation, as a page.", "text/html")},
        "/": {"get": _redirect("/docs")},
    }


def _console(catalog: Catalog) -> dict[str, Any]:
    figures = page("console_state", "What the console shows, counted since the start.", {"type": "object"})
    paths = {
        "/console": {"get": page("console", "The console, as a page.", "text/html")},
        "/console/state.json": {"get": figures},
    }
    for name in catalog.live:
        about = page(f"console_{name}", f"What the console shows of {name}.", {"type": "object"})
        paths[f"/console/models/{name}"] = {"get": about}
    return paths


def _redirect(path: str) -> dict[str, Any]:
    found = page(
        "first", f"Leads a browser to {path}, and tells a program that the server lives.", {"type": "object"}
    )
    location = {"Location": {"schema": {"type": "string"}}}
    moved = {"description": HTTPStatus(307).phrase, "headers": location}
    found["responses"] |= {"307": moved, "400": problem(400)}
    return found


def _not_live_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["name", "reason"],
        "properties": {
            "name": {"type": ["string", "null"], "description": "null: models.lock as a whole"},
            "tag": {"type": "string"},
            "reason": {"type": "string"},
        },
    }


def _model_schema() -> dict[str, Any]:
    text: dict[str, Any] = {"type": "string"}
    return {
        "type": "object",
        "required": ["name", "version", "runtime", "task", "signature", "metrics", "example"],
        "properties": {
            **dict.fromkeys(("name", "version", "runtime", "task"), text),
            "signature": {"type": "object", "required": ["columns", "classes"]},
            "metrics": {"type": "object", "additionalProperties": {"type": "number"}},
            "example": {"type": "object"},
        },
    }


def _feedback() -> dict[str, Any]:
    value = {"type": ["string", "number", "boolean"]}
    one = {
        "type": "object",
        "required": ["id", "actual"],
        "additionalProperties": False,
        "properties": {
            "id": {"type": "string", "pattern": ids.PATTERN},
            "row": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
            "actual": value,
        },
    }
    many = {"type": "array", "items": one, "minItems": 1, "maxItems": 1000}
    reply = {
        "type": "object",
        "required": ["stored", "known"],
        "properties": {"stored": {"type": "integer"}, "known": {"type": "integer"}},
    }
    told = {
        "404": "The id is unknown, was not logged or has expired.",
        "409": "Another value was already given for the row.",
        "429": "Too much feedback is on its way, or it waited until its deadline.",
        "503": "The prediction log cannot be used now.",
    }
    return {
        "operationId": "feedback",
        "summary": "Give the actual value of a prediction; either the whole list is stored or nothing.",
        "parameters": HEADERS,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"oneOf": [one, many]}}},
        },
        "responses": {
            "200": {
                "description": "The number of stored values, and of values that were already known.",
                "content": {"application/json": {"schema": reply}},
            },
            **{str(status): problem(status) for status in (400, 413, 415, 422, 500)},
            **{status: {**problem(503), "description": text} for status, text in told.items()},
        },
    }
