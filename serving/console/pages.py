"""The routes of the console: the page with its files, which hold no data, and the JSON that it asks for.

The page and its files need no key, since a browser does not send one when a person opens an address.
Everything that the page shows comes from the JSON routes and the prediction routes, which check the key that
the page sends.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from artifact import __version__, calibration
from artifact.manifest import CARD
from artifact.models_lock import NAME_RULE
from serving.console.events import Events
from serving.console.figures import by_model
from serving.observe import metrics
from serving.observe.scrapes import Scrapes
from serving.protocols import Reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from serving.scoring.catalog import Catalog, LiveModel

    Answer = Callable[[], Reply | Awaitable[Reply]]
    Describe = Callable[[Catalog, str], list[dict[str, Any]]]

ROUTE = "/console"
STATE = f"{ROUTE}/state.json"
ABOUT = f"{ROUTE}/models/"
"""With a model's name behind it."""

KINDS = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
INTERVAL_LEVEL = 0.9
"""The chance that the page asks for; a model with few held-out rows promises less and is asked for less."""
_TIME_PARTS = frozenset(("hour", "minute", "second"))

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)
_FRESH = ((b"cache-control", b"no-store"),)


class Console:
    """See the module.

    Parameters
    ----------
    beside
        Describes the versions beside the champion of a name.
    not_live
        Lists what models.lock names and the server does not serve.
    """

    def __init__(self, beside: Describe, not_live: Callable[[Catalog], list[dict[str, Any]]]) -> None:
        self.events = Events()
        self._beside = beside
        self._not_live = not_live
        self._started = time.time()
        self._figures = Scrapes(_figures)
        self._files = _files()

    def pages(self, catalog: Catalog) -> dict[str, Answer]:
        """The routes that GET answers, by path."""
        page = self._files[ROUTE]
        found: dict[str, Answer] = {ROUTE: lambda: page, STATE: partial(self._state, catalog)}
        found |= {ABOUT + name: partial(self._about, catalog, model) for name, model in catalog.live.items()}
        not_live = [name for name in (*catalog.refused, *catalog.held) if name not in catalog.live]
        return found | {ABOUT + name: partial(_refused, catalog, name) for name in not_live}

    def file(self, path: str) -> Reply | None:
        """A file of the page, or the page itself at `/console/NAME`, whether the model exists or not."""
        if path.startswith(f"{ROUTE}/") and NAME_RULE.fullmatch(path[len(ROUTE) + 1 :]):
            return self._files[ROUTE]
        return self._files.get(path)

    async def _state(self, catalog: Catalog) -> Reply:
        figures = msgspec.Raw(await self._figures.text())
        models = [
            {
                "name": name,
                "version": model.version,
                "task": model.signature.task,
                "algorithm": model.artifact.manifest.algorithm,
                "runtime": model.artifact.manifest.runtime,
                "runtime_reason": model.artifact.manifest.runtime_reason,
                "beside": self._beside(catalog, name),
            }
            for name, model in catalog.live.items()
        ]
        state = {
            "server": __version__,
            "started": self._started,
            "default": catalog.default,
            "ready": catalog.ready,
            "models": models,
            "not_live": self._not_live(catalog),
            "bounds": metrics.SECONDS,
            "events": self.events.all(),
            "looked": figures,
        }
        return Reply(200, b"application/json", msgspec.json.encode(state), _FRESH)

    async def _about(self, catalog: Catalog, model: LiveModel) -> Reply:
        card = await asyncio.to_thread(_card, model)
        beside = [
            {**each, **_made(version)}
            for each in self._beside(catalog, model.name)
            for version in [catalog.beside[model.name, each["role"]].model]
        ]
        about = {
            **model.description(),
            **_made(model),
            "tag": model.tag,
            "columns": [_field(column) for column in model.signature.columns],
            "explains": model.explainer.background is not None,
            "interval": _level(model),
            "libraries": model.artifact.manifest.libraries,
            "card": card,
            "beside": beside,
        }
        return Reply(200, b"application/json", msgspec.json.encode(about), _FRESH)


def _figures() -> bytes:
    return msgspec.json.encode({"at": time.time(), "models": by_model(metrics.collected())})


def _files() -> dict[str, Reply]:
    """The page and its files, by path."""
    found = {}
    for file in Path(__file__).parent.iterdir():
        if file.suffix in KINDS:
            path = ROUTE if file.suffix == ".html" else f"{ROUTE}/{file.name}"
            found[path] = Reply(200, KINDS[file.suffix], file.read_bytes(), _HEADERS)
    return found


def _refused(catalog: Catalog, name: str) -> Reply:
    catalog.model(name)  # raises the reason
    raise AssertionError(name)


def _card(model: LiveModel) -> str:
    try:
        return (model.artifact.path / CARD).read_text("utf-8")
    except OSError:  # the card is optional
        return ""


def _made(model: LiveModel) -> dict[str, Any]:
    """How a version was made."""
    found = model.artifact.manifest
    return {
        "algorithm": found.algorithm,
        "created": found.created,
        "metric": found.metric,
        "metrics": found.metrics,
        "signed": None if model.signed is None else model.signed.at,
        "signed_by": None if model.signed is None else model.signed.signer,
    }


def _field(column: Any) -> dict[str, Any]:
    """What the form needs to know of a column."""
    return {
        "name": column.name,
        "kind": column.kind,
        "missing": column.missing,
        "unknown": column.unknown,
        "integer": column.integer,
        "minimum": column.minimum,
        "maximum": column.maximum,
        "unit": column.unit,
        "categories": column.categories,
        "example": column.example,
        "time": bool(_TIME_PARTS.intersection(column.parts)),
    }


def _level(model: LiveModel) -> float | None:
    """The chance that an interval can be asked for; None for a model without intervals."""
    if model.calibration is None or model.signature.numbers:
        return None
    for level in (INTERVAL_LEVEL, 0.8, 0.5):
        if calibration.reach(model.calibration, level) is not None:
            return level
    return None
