"""The limits of a server, read once at start from `OKAMOCHI_*`; docs/settings.md has them in a table."""

from __future__ import annotations

import difflib
import logging
import re
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "OKAMOCHI_"
MIB = 1024 * 1024

logger = logging.getLogger("bentoml.okamochi")  # BentoML shows what is logged below its own name


class SettingsError(ValueError):
    """A variable of the environment that holds something else than a setting takes."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may set. The variable of a field is `OKAMOCHI_` and its name in capitals."""

    models: Annotated[
        tuple[str, ...],
        Meta(description="names of the models to serve, of those in models.lock; the first is the default"),
    ] = ()
    workers: Annotated[
        int, Meta(ge=1, le=64, description="worker processes; in a cluster one, and more pods instead")
    ] = 1
    max_body_bytes: Annotated[
        int, Meta(ge=1024, le=2**31, description="the largest request body; a larger one is refused with 413")
    ] = 16 * MIB
    max_matrix_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=2**36,
            description="memory for the encoded rows of one model, 8 bytes a value: bounds the rows of one "
            "request (413) and of the queue (429) where columns are many",
        ),
    ] = 128 * MIB
    queue_rows: Annotated[
        int,
        Meta(ge=1, le=10**8, description="the most rows that wait for one model; more are refused with 429"),
    ] = 100_000
    default_deadline_ms: Annotated[
        int, Meta(ge=1, le=3_600_000, description="how long a request without `X-Deadline-Ms` may wait")
    ] = 3_000
    max_deadline_ms: Annotated[
        int, Meta(ge=1, le=3_600_000, description="the longest deadline that `X-Deadline-Ms` can ask for")
    ] = 60_000
    batch_objective_ms: Annotated[
        float,
        Meta(
            ge=0.1, le=60_000, description="how long one call of a model may take; bounds the rows of a batch"
        ),
    ] = 10.0


DEFAULTS = Settings()


def read(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises
    ------
    SettingsError
        Names the variable, what it holds and what it takes.
    """
    fields = {PREFIX + name.upper(): name for name in Settings.__struct_fields__}
    values: dict[str, Any] = {}
    for variable, name in fields.items():
        text = environment.get(variable, "").strip()
        if text:
            values[name] = _parsed(variable, name, text)
    for variable in environment:
        if variable.startswith(PREFIX) and variable not in fields:
            # Only near misses: Kubernetes itself sets OKAMOCHI_SERVICE_HOST and the like.
            near = difflib.get_close_matches(variable, fields, 1, cutoff=0.85)
            if near:
                logger.warning("%s is no setting; did you mean %s?", variable, near[0])
    return Settings(**values)


def _parsed(variable: str, name: str, text: str) -> Any:
    kind = Settings.__annotations__[name]
    if "tuple" in kind:
        return tuple(part for part in re.split(r"[,\s]+", text) if part)
    about: Any = msgspec.inspect.type_info(Settings)
    found = next(field.type for field in about.fields if field.name == name)
    number = float if isinstance(found, msgspec.inspect.FloatType) else int
    try:
        value = number(text)
    except ValueError:
        value = None
    if value is None or not found.ge <= value <= found.le:
        kind = "a number" if number is float else "a whole number"
        raise SettingsError(f"{variable}={text!r}: expected {kind} from {found.ge} to {found.le}")
    return value
