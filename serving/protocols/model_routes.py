"""The routes of a verb: `/VERB` of the default model, `/models/NAME/VERB`, and one with the version too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

    from serving.scoring.catalog import Catalog


def route_of(verb: str, name: str = "", version: str = "") -> str:
    """The route of a verb; without a name, that of the default model."""
    if not name:
        return f"/{verb}"
    return f"/models/{name}/versions/{version}/{verb}" if version else f"/models/{name}/{verb}"


def routes_of(verb: str, name: str, catalog: Catalog) -> list[str]:
    """The routes of a verb that mean a live model."""
    routes = [route_of(verb, name), route_of(verb, name, catalog.live[name].version)]
    return [*routes, route_of(verb)] if name == catalog.default else routes


def named_by(path: str, verbs: Container[str]) -> tuple[str, str] | None:
    """The model and the version that a route names, "" for one that it leaves out; None for another path."""
    parts = path.split("/")
    verb, name, version = parts[-1], parts[2] if len(parts) > 3 else "", parts[4] if len(parts) == 6 else ""
    return (name, version) if verb in verbs and path == route_of(verb, name, version) else None


def refused(path: str, catalog: Catalog, verbs: Container[str]) -> str:
    """The refused or unloaded model that a route means; "" if there is none."""
    named = named_by(path, verbs)
    if named is None:
        return ""
    name = named[0] or catalog.default
    return name if catalog.not_served(name) else ""
