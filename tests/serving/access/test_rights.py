"""The table of rights has every route of the server, and names the model that a path is about."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from serving.access.rights import ANY, OPEN, RIGHTS, TABLE, Need, needed

if TYPE_CHECKING:
    from serving.http.gateway import Gateway

CHECKOUT = Path(__file__).resolve().parents[3]


def matches(method: str, path: str) -> bool:
    patterns = (
        (row.method, "".join("[^/]+" if part[:1] == "{" else re.escape(part) for part in parts))
        for row in TABLE
        for parts in [re.split(r"({\w+})", row.pattern)]
    )
    return any(row_method == method and re.fullmatch(pattern, path) for row_method, pattern in patterns)


def test_every_route_is_in_the_table(gateway: Gateway) -> None:
    routes = gateway.live.routes
    served = [("POST", path) for path in (*routes.endpoints, "/feedback")]
    served += [("GET", path) for path in (*routes.pages, "/docs.json", "/schema.json")]

    missing = [route for route in served if not matches(*route)]
    assert not missing, "serving/access/rights.py does not say which right these routes need"


def test_the_open_routes_are_those_of_probes_and_the_page_of_the_console() -> None:
    assert {row.pattern for row in TABLE if row.right == OPEN} == {
        *("/livez", "/readyz", "/ping", "/health", "/v2/health/live", "/v2/health/ready"),
        *("/console", "/console/{name}"),
    }
    for path in ("/console/", "/console/a/b", "/console/models/iris", "/console/state.json", "/Console"):
        assert needed("GET", path).right != OPEN, path
    for path in ("/livez/", "/livez/x", "//livez", "/LIVEZ", "/v2/health", "/healthz"):
        assert needed("GET", path).right == ANY, path
    for method in ("POST", "OPTIONS", "get", "DELETE", ""):
        assert needed(method, "/livez").right == ANY, method
    assert needed("HEAD", "/readyz").right == OPEN


@pytest.mark.parametrize(
    ("method", "path", "need"),
    [
        ("POST", "/predict", Need("predict", default_model=True)),
        ("POST", "/invocations", Need("predict", default_model=True)),
        ("POST", "/models/iris/predict", Need("predict", "iris")),
        ("POST", "/models/iris/versions/3/predict", Need("predict", "iris")),
        ("POST", "/v2/models/iris/versions/3/infer", Need("predict", "iris")),
        ("POST", "/models/iris/explain", Need("explain", "iris")),
        ("GET", "/models/iris", Need(ANY, "iris")),
        ("GET", "/models/iris/what/ever", Need(ANY, "iris")),
        ("GET", "/v2/models/iris/ready", Need(ANY, "iris")),
        ("DELETE", "/v2/models/iris/infer", Need(ANY, "iris")),
        ("GET", "/predict", Need(ANY, default_model=True)),
        ("GET", "/metrics", Need("observe", all_models=True)),
        ("HEAD", "/models", Need("observe", all_models=True)),
        ("GET", "/console/iris", Need(OPEN)),
        ("GET", "/console/models/iris", Need(ANY, "iris")),
        ("GET", "/console/state.json", Need("observe", all_models=True)),
        ("GET", "/nowhere", Need(ANY)),
    ],
)
def test_needs(method: str, path: str, need: Need) -> None:
    assert needed(method, path) == need


def test_the_page_on_security_shows_the_table() -> None:
    text = (CHECKOUT / "docs" / "security.md").read_text()
    shown = re.findall(r"^\| (\w+) \| `(/[^`]*)` \| `?([a-z ]+?)`? \|", text, flags=re.MULTILINE)

    assert set(shown) == {(row.method, row.pattern, row.right) for row in TABLE}
    assert all(f"`{right}`" in text for right in RIGHTS)
