"""Why a model that `models:/...` or `runs:/...` names cannot be fetched: what of the name is not there."""

from __future__ import annotations

import re
from typing import Any

_MODEL = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>[^/@]+)|@(?P<alias>[^/]+))?/?")
_RUN = re.compile(r"runs:/(?P<run>[^/]+)/(?P<path>.+)")
_NOT_THERE = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
"""Error codes of what is not there; an absent alias is the second in SQL stores."""
SHOWN = 8


def why_absent(client: Any, uri: str) -> str:
    """A sentence that names what is not there; "" where all of the name is, or where nobody answers."""
    try:
        if found := _MODEL.fullmatch(uri):
            return _of_model(client, found["name"], found["version"], found["alias"])
        if found := _RUN.fullmatch(uri):
            there = _ask(client.get_run, found["run"]) is not None
            return "" if there else f"There is no run {found['run']!r}."
    except Exception:  # noqa: BLE001 - the server is away, which the first error says
        return ""
    return f"{uri} names no model: expected models:/NAME/VERSION, models:/NAME@ALIAS or runs:/ID/PATH."


def _of_model(client: Any, name: str, version: str | None, alias: str | None) -> str:
    model = _ask(client.get_registered_model, name)
    if model is None:
        if version is None and alias is None and name.startswith("m-"):  # models:/ID of a logged model
            return f"There is no logged model {name!r}."
        names = [each.name for each in client.search_registered_models(max_results=SHOWN)]
        return f"There is no registered model {name!r}; there are {', '.join(map(repr, names)) or 'none'}."
    if alias is not None and _ask(client.get_model_version_by_alias, name, alias) is None:
        others = ", ".join(repr(each) for each in model.aliases) or "none"
        return f"The model {name!r} has no alias {alias!r}; it has {others}."
    if version is not None and version != "latest" and _ask(client.get_model_version, name, version) is None:
        numbers = [str(each.version) for each in client.search_model_versions(f"name='{name}'")]
        return (
            f"The model {name!r} has no version {version!r}; it has {', '.join(numbers[:SHOWN]) or 'none'}."
        )
    if version is None and alias is None:
        return f"models:/{name} names no version: expected models:/{name}/VERSION or models:/{name}@ALIAS."
    return ""


def _ask(method: Any, *key: str) -> Any:
    try:
        return method(*key)
    except Exception as error:
        if getattr(error, "error_code", "") in _NOT_THERE:
            return None
        raise
