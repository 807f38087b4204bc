"""`/v2` in the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serving.protocols import Described
from serving.protocols.oip.labels import output_names
from serving.protocols.oip.metadata import example
from serving.protocols.oip.tensors import DATATYPES
from serving.protocols.openapi import HEADERS, PROBLEMS, page, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serving.scoring.catalog import Catalog, LiveModel


def of(catalog: Catalog, root: str, paths_of: Callable[[LiveModel], Sequence[str]]) -> Described:
    """The pages of the server, and those and the route of each model and its version."""
    paths: dict[str, Any] = {
        root: {"get": page_of("v2", "The server's name, version and extensions.", {"type": "object"})},
        f"{root}/health/live": {"get": page_of("v2_live", "The process answers.", {"type": "object"})},
        f"{root}/health/ready": {"get": page_of("v2_ready", "Every model is ready.", {"type": "object"})},
    }
    paths[f"{root}/health/ready"]["get"]["responses"]["503"] = {"description": "Not ready."}
    for model in catalog.live.values():
        name = model.name
        operations = (f"v2_{name}", f"v2_{name}_versions_{model.version}")
        for path, operation in zip(paths_of(model), operations, strict=True):
            about = page_of(f"{operation}_metadata", f"The tensors of {name}.", schema("V2Metadata"))
            ready = page_of(f"{operation}_ready", f"{name} is ready.", {"type": "object"})
            infer = _infer(model, f"{operation}_infer")
            paths |= {path: {"get": about}, f"{path}/ready": {"get": ready}, f"{path}/infer": {"post": infer}}
    return Described(paths | _repository(catalog, root), _schemas())


def _repository(catalog: Catalog, root: str) -> dict[str, Any]:
    """The routes of the extension `model_repository`."""
    index = _order("v2_repository_index", "The versions that are loaded, and those that could be.", "V2Index")
    wanted = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
    index["requestBody"] = {"content": {"application/json": {"schema": wanted}}}
    paths = {f"{root}/repository/index": {"post": index}}
    config = {"type": "string", "description": "JSON, with the version in version_policy"}
    parameters = {"type": "object", "properties": {"config": config}}
    body = {"type": "object", "properties": {"parameters": parameters}}
    for name in (*catalog.live, *catalog.unloaded):
        for verb, summary in (("load", "Serve {}, in all workers."), ("unload", "Serve {} no more.")):
            order = _order(f"v2_repository_{verb}_{name}", summary.format(name))
            order["requestBody"] = {"content": {"application/json": {"schema": body}}}
            paths[f"{root}/repository/models/{name}/{verb}"] = {"post": order}
    return paths


def _order(operation: str, summary: str, reply: str = "") -> dict[str, Any]:
    content = schema(reply) if reply else {"type": "object"}
    refused = {**PROBLEMS, 403: "The right `admin` is lacking.", 404: "No such model or version."}
    refused |= {409: "The store has the version more than once.", 422: "An invalid body."}
    return {
        "operationId": operation,
        "summary": summary,
        "parameters": HEADERS,
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": {"schema": content}}},
            **{str(status): error(refused[status]) for status in (400, 403, 404, 409, 413, 415, 422, 503)},
        },
    }


def page_of(operation: str, summary: str, content: dict[str, Any]) -> dict[str, Any]:
    """A page whose refusals have the shape of this protocol."""
    found = page(operation, summary, content)
    found["responses"]["400"] = error(PROBLEMS[400])
    return found


def _infer(model: LiveModel, operation: str) -> dict[str, Any]:
    names = list(output_names(model.signature))
    examples = _examples(model)
    binary = {"type": "string", "description": "the JSON, and behind it the binary tensors"}
    header = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "The bytes of JSON in a body with binary tensors.",
        "schema": {"type": "integer", "minimum": 0},
    }
    return {
        "operationId": operation,
        "summary": f"Predict {model.signature.target} with {model.name}: outputs {' and '.join(names)}.",
        "parameters": [*HEADERS, header],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema("V2Request")}
                | ({"examples": examples} if examples else {}),
                "application/octet-stream": {"schema": binary},
            },
        },
        "responses": {
            "200": {
                "description": "The outputs, as JSON or behind it.",
                "content": {
                    "application/json": {"schema": schema("V2Reply")},
                    "application/octet-stream": {"schema": binary},
                },
            },
            **{str(status): error(about) for status, about in PROBLEMS.items()},
        },
    }


def _examples(model: LiveModel) -> dict[str, Any]:
    """Requests that work when pasted; none for tensors that are too large to be shown."""
    if model.signature.tensors is not None:
        tensors = model.example_tensors
        return {"tensors": {"value": tensors}} if tensors else {}
    columns = {"columns": {"value": example(model, one_tensor=False)}}
    if model.signature.numeric:
        return {"matrix": {"value": example(model, one_tensor=True)}} | columns
    return columns


def error(description: str) -> dict[str, Any]:
    """A refusal, as a response of an operation."""
    return {"description": description, "content": {"application/json": {"schema": schema("V2Error")}}}


def _schemas() -> dict[str, Any]:
    text: dict[str, Any] = {"type": "string"}
    parameters: dict[str, Any] = {"type": "object"}
    size: dict[str, Any] = {"type": "integer", "minimum": -1}
    about: dict[str, Any] = {
        "name": text,
        "datatype": {"enum": list(DATATYPES)},
        "shape": {"type": "array", "items": size},
        "parameters": parameters,
    }
    tensor = {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": about
        | {"data": {"type": "array", "items": {}, "description": "flat, row by row, or nested"}},
    }
    described = {"type": "object", "required": ["name", "datatype", "shape"], "properties": about}
    output = {"type": "object", "required": ["name"], "properties": {"name": text, "parameters": parameters}}

    def some(items: dict[str, Any]) -> dict[str, Any]:
        return {"type": "array", "items": items}

    return {
        "V2Error": {"type": "object", "required": ["error"], "properties": {"error": text}},
        "V2Index": some(
            {
                "type": "object",
                "required": ["name", "version", "state", "reason"],
                "properties": {
                    "name": text,
                    "version": text,
                    "state": {"enum": ["READY", "UNAVAILABLE"]},
                    "reason": text,
                },
            }
        ),
        "V2Metadata": {
            "type": "object",
            "required": ["name", "versions", "platform", "inputs", "outputs"],
            "properties": {
                "name": text,
                "versions": some(text),
                "platform": text,
                "inputs": some(described),
                "outputs": some(described),
            },
        },
        "V2Request": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": text,
                "parameters": parameters,
                "inputs": some(tensor) | {"minItems": 1},
                "outputs": some(output),
            },
        },
        "V2Reply": {
            "type": "object",
            "required": ["model_name", "model_version", "id", "outputs"],
            "properties": {"model_name": text, "model_version": text, "id": text, "outputs": some(tensor)},
        },
    }
