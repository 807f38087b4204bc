"""The right that each route needs: one table for all protocols; docs/security.md shows it.

A path that the table does not have needs a key as well, with any right: it is answered with 404 or 405.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, get_args

Role = Literal["predict", "explain", "feedback", "observe", "admin"]
RIGHTS: tuple[Role, ...] = get_args(Role)
"""A role has the right of its own name; `admin` has all."""

OPEN = "open"
"""A route that needs no key."""
ANY = "any"
"""A route that needs a valid key, whatever its rights are."""


class Row(NamedTuple):
    """A line of the table.

    Parameters
    ----------
    pattern
        A path; `{name}` and `{version}` stand for one part each.
    right
        One of `RIGHTS`, `OPEN` or `ANY`.
    all_models
        Whether the reply is about all models, so that a key for some models must not see it.
    """

    method: str
    pattern: str
    right: str
    all_models: bool = False


TABLE = (
    *(
        Row("GET", path, OPEN)
        for path in ("/livez", "/readyz", "/ping", "/health", "/v2/health/live", "/v2/health/ready")
    ),
    Row("GET", "/console", OPEN),
    Row("GET", "/console/{name}", OPEN),
    Row("POST", "/predict", "predict"),
    Row("POST", "/models/{name}/predict", "predict"),
    Row("POST", "/models/{name}/versions/{version}/predict", "predict"),
    Row("POST", "/rank", "predict"),
    Row("POST", "/models/{name}/rank", "predict"),
    Row("POST", "/models/{name}/versions/{version}/rank", "predict"),
    Row("POST", "/v2/models/{name}/infer", "predict"),
    Row("POST", "/v2/models/{name}/versions/{version}/infer", "predict"),
    Row("POST", "/v1/models/{name}:predict", "predict"),
    Row("POST", "/v1/models/{name}:explain", "explain"),
    Row("POST", "/invocations", "predict"),
    Row("POST", "/score", "predict"),
    Row("POST", "/explain", "explain"),
    Row("POST", "/models/{name}/explain", "explain"),
    Row("POST", "/models/{name}/versions/{version}/explain", "explain"),
    Row("POST", "/feedback", "feedback"),
    Row("POST", "/v2/repository/index", "admin", all_models=True),
    Row("POST", "/v2/repository/models/{name}/load", "admin"),
    Row("POST", "/v2/repository/models/{name}/unload", "admin"),
    Row("GET", "/models/{name}", ANY),
    Row("GET", "/console/models/{name}", ANY),
    Row("GET", "/v1/models/{name}", ANY),
    Row("GET", "/v2/models/{name}", ANY),
    Row("GET", "/v2/models/{name}/ready", ANY),
    Row("GET", "/v2/models/{name}/versions/{version}", ANY),
    Row("GET", "/v2/models/{name}/versions/{version}/ready", ANY),
    Row("GET", "/v2", ANY),
    Row("GET", "/version", ANY),
    *(
        Row("GET", path, "observe", all_models=True)
        for path in (
            *("/metrics", "/models", "/docs", "/openapi.json", "/", "/docs.json", "/schema.json"),
            *("/v1/models", "/console/state.json"),
        )
    ),
)


class Need(NamedTuple):
    """What one request needs.

    Parameters
    ----------
    model
        The model that the path names, whether it exists or not; "" if it names none.
    default_model
        Whether the route leads to the default model.
    """

    right: str
    model: str = ""
    default_model: bool = False
    all_models: bool = False


_DEFAULT_MODEL = frozenset(("/predict", "/rank", "/invocations", "/score", "/explain"))
_NAMED = re.compile(r"(?:/v1/models/(?P<v1>[^/:]+)|(?:/v2(?:/repository)?|/console)?/models/(?P<name>[^/]+))")
_EXACT = {(row.method, row.pattern): row for row in TABLE if "{" not in row.pattern}
_PATTERNS = tuple(
    (row, re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(row.pattern))))
    for row in TABLE
    if "{" in row.pattern
)


def needed(method: str, path: str) -> Need:
    """The need of a request, by its percent-decoded path."""
    method = "GET" if method == "HEAD" else method
    row = _EXACT.get((method, path))
    if row is not None:
        return Need(row.right, "", path in _DEFAULT_MODEL, row.all_models)
    model = _model_of(path)
    for row, pattern in _PATTERNS:
        if row.method == method and pattern.fullmatch(path):
            return Need(row.right, model)
    return Need(ANY, model, path in _DEFAULT_MODEL)


def _model_of(path: str) -> str:
    found = _NAMED.match(path)
    return "" if found is None else found["v1"] or found["name"]
