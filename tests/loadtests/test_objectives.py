"""objectives.toml: what is in it, and what is said of a slip."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from loadtests import objectives
from loadtests.errors import UsageError
from loadtests.objectives import Objectives
from loadtests.shapes import SHAPES

if TYPE_CHECKING:
    from pathlib import Path


def read(tmp_path: Path, text: str, shape: str = "steady") -> Objectives:
    path = tmp_path / "my.toml"
    path.write_text(text)
    return objectives.read(path, shape, tuple(SHAPES))


def test_every_shape_has_objectives_of_every_kind() -> None:
    """Times, errors and goodput, as they ship."""
    tables = tomllib.loads(objectives.DEFAULT.read_text())

    assert tables.keys() == SHAPES.keys()
    for shape, table in tables.items():
        assert {"p95_ms", "p99_ms", "error_rate", "goodput"} <= table.keys(), shape
        assert objectives.read(objectives.DEFAULT, shape, tuple(SHAPES))


def test_what_is_not_asked_for_is_none(tmp_path: Path) -> None:
    found = read(tmp_path, "[steady]\np99_ms = 20\n")

    assert found == Objectives(p99_ms=20.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[steady]\np95ms = 3", r"my\.toml: \[steady\] p95ms is not an objective; did you mean 'p95_ms'\?"),
        ("[steady]\nspeed = 3", "speed is not an objective; expected one of p50_ms, p95_ms"),
        ("[steady]\n[spkie]\np95_ms = 3", r"unknown shape \[spkie\]; did you mean 'spike'\?"),
        ("[steady]\np95_ms = '3'", r"\[steady\] p95_ms: expected a number from 0, got '3'"),
        ("[steady]\np95_ms = true", "expected a number from 0, got True"),
        ("[steady]\np95_ms = nan", "expected a number from 0, got nan"),
        ("[steady]\np95_ms = -1", "expected a number from 0, got -1"),
        ("[steady]\nerror_rate = 5", "error_rate: expected a fraction from 0 to 1, got 5"),
        ("[spike]\np95_ms = 5", r"has no objectives for this shape; add a table \[steady\]"),
        ("steady = 3", r"write it as a table, \[steady\]"),
        ("[steady", "is not TOML"),
    ],
)
def test_a_slip_is_named_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as found:
        read(tmp_path, text)

    assert "\n" not in str(found.value).partition("is not TOML")[0]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none.toml cannot be read: No such file"):
        objectives.read(tmp_path / "none.toml", "steady", tuple(SHAPES))
