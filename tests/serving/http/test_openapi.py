from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from serving.http.openapi import document
from serving.settings import Settings
from tests.serving.conftest import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.http.gateway import Gateway
    from serving.scoring.catalog import Catalog


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_somewhere(models: Catalog) -> None:
    found = document(models, Settings())
    for reference in references(found):
        node = found
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_operations_have_names_of_their_own(models: Catalog) -> None:
    paths = document(models, Settings())["paths"]
    names = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(set(names)) == len(names)


def test_every_documented_route_answers_and_every_example_works_when_sent(gateway: Gateway) -> None:
    async def main() -> None:
        paths = (await ask(gateway, "GET", "/openapi.json")).json()["paths"]
        assert {"/predict", "/models/loans/predict", "/models", "/livez", "/readyz"} <= set(paths)
        for path, operations in paths.items():
            for method, operation in operations.items():
                if method == "get":
                    status = str((await ask(gateway, "GET", path)).status)
                    assert status == next(iter(operation["responses"]))
                    continue
                if path.startswith("/v2/repository/"):  # tests/serving/scoring/test_repository.py
                    continue
                examples = operation["requestBody"]["content"]["application/json"]["examples"]
                if path.endswith("/predict"):
                    assert {"records", "features", "columns"} <= set(examples)
                csv = operation["requestBody"]["content"].get("text/csv")
                if csv is not None:
                    headers = {"content-type": "text/csv"}
                    reply = await ask(gateway, "POST", path, csv["example"].encode(), headers)
                    assert reply.status == 200, reply.body
                for example in examples.values():
                    body = json.dumps(example["value"]).encode()
                    reply = await ask(gateway, "POST", path, body)
                    assert reply.status == 200, (path, example, reply.body)

    asyncio.run(main())


def test_every_route_is_documented(gateway: Gateway) -> None:
    paths = json.loads(asyncio.run(ask(gateway, "GET", "/openapi.json")).body)["paths"]
    routes = gateway.live.routes
    orders = {
        f"/v2/repository/models/{name}/{verb}" for name in routes.catalog.live for verb in ("load", "unload")
    }
    assert set(paths) == {*routes.endpoints, *routes.pages, "/v2/repository/index", *orders}


def test_columns_are_the_models_own(models: Catalog) -> None:
    schemas = document(models, Settings())["components"]["schemas"]
    record = schemas["loans_record"]
    assert record["required"] == ["age", "job", "since"]
    assert record["properties"]["job"]["enum"] == ["clerk", "cook", "3"]
    assert record["properties"]["income"]["type"] == ["number", "null"]
    assert set(record["properties"]) == {
        "age",
        "income",
        "job",
        "city",
        "since",
        "note",
        "default",
        "gender",
    }
    reply = schemas["iris_reply"]["properties"]["prediction"]
    assert reply["items"]["enum"] == ["setosa", "versicolor", "virginica"]


def test_what_generators_of_clients_stumble_over_is_not_there(models: Catalog) -> None:
    """Arrays without `items`, contents without a schema, a `default` of what need not be sent."""

    def nodes(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            yield node
            for key, value in node.items():
                if key not in ("example", "examples", "enum", "const"):
                    yield from nodes(value)
        elif isinstance(node, list):
            for value in node:
                yield from nodes(value)

    for node in nodes(document(models, Settings())):
        if node.get("type") == "array" or "array" in (node.get("type") or ()):
            assert "items" in node, node
        assert "default" not in node or not isinstance(node.get("type"), str), node
        for media in (node.get("content") or {}).values() if isinstance(node.get("content"), dict) else ():
            assert "schema" in media


def test_no_reply_is_promised_to_be_of_one_version(models: Catalog) -> None:
    """A canary may answer, and the next champion may come before a client is generated anew."""
    schemas = document(models, Settings())["components"]["schemas"]
    versions = [
        schema["properties"]["version"]
        for schema in schemas.values()
        if "version" in schema.get("properties", {})
    ]
    assert len(versions) > len(models.live)
    assert all(version["type"] == "string" and "const" not in version for version in versions)
    header = document(models, Settings())["paths"]["/score"]["post"]["responses"]["200"]["headers"]
    assert header["X-Model-Version"]["schema"] == {"type": "string"}
