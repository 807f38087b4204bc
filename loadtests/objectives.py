"""The objectives of a shape: one table of objectives.toml."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from loadtests.errors import UsageError, nearest

DEFAULT = Path(__file__).resolve().parent / "objectives.toml"
FRACTIONS = ("error_rate", "shed_rate", "goodput")


@dataclass(frozen=True)
class Objectives:
    """The bounds; None: no bound.

    Parameters
    ----------
    p50_ms, p95_ms, p99_ms
        The maximum for correct answers.
    error_rate
        The maximum fraction of failed requests, from 0 to 1: no answer, a wrong one, a status other than 200.
    shed_rate
        The maximum fraction of requests answered with 429, from 0 to 1. None: a 429 is an error.
    goodput
        The minimum fraction, from 0 to 1, of the requests due that are answered correctly.
    goodput_per_s
        The minimum number of correct answers per second.
    """

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    error_rate: float | None = None
    shed_rate: float | None = None
    goodput: float | None = None
    goodput_per_s: float | None = None


KEYS = tuple(field.name for field in fields(Objectives))


def read(path: Path, shape: str, shapes: tuple[str, ...]) -> Objectives:
    """The objectives of a shape; the tables of all shapes are checked.

    Raises
    ------
    UsageError
        The file cannot be read, a key is unknown, or a value is wrong.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"--objectives {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--objectives {path} is not TOML: {error}.") from error
    for name, table in tables.items():
        if name not in shapes:
            raise UsageError(f"{path}: unknown shape [{name}]; {nearest(name, shapes)}")
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {name} is the name of a shape; write it as a table, [{name}].")
        for key, value in table.items():
            check(f"{path}: [{name}] {key}", key, value)
    if shape not in tables:
        raise UsageError(f"{path} has no objectives for this shape; add a table [{shape}].")
    return Objectives(**{key: float(value) for key, value in tables[shape].items()})


def check(where: str, key: str, value: object) -> None:
    """Refuse an unknown objective and a value out of range."""
    if key not in KEYS:
        raise UsageError(f"{where} is not an objective; {nearest(key, KEYS)}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise UsageError(f"{where}: expected a number from 0, got {value!r}.")
    if key in FRACTIONS and value > 1:
        raise UsageError(f"{where}: expected a fraction from 0 to 1, got {value!r}.")
