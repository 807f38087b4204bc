"""What makes a model trains it anew when it changes; nothing else does, and no upgrade."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from training.freshness import settings_digest
from training.settings import load_use_case

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = 'target = "y"\n[source]\nkind = "csv"\npath = "data.csv"\n'


def digest(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return settings_digest(load_use_case(path))


def test_a_use_case_without_newer_keys_has_the_digest_that_it_had(tmp_path: Path) -> None:
    """Otherwise the first `make serve` after an upgrade would train every model anew."""
    assert digest(tmp_path, PLAIN) == "9e07738a3c0fcbea02320539de981a4ad6dbd3fee61909fd1f5437183340b6ef"


@pytest.mark.parametrize(
    "added",
    [
        "[live]\npromote_shadow = true\nalpha = 0.01\n",
        '[card]\nowner = "Risk"\n',
    ],
)
def test_what_does_not_make_the_model_trains_nothing_anew(tmp_path: Path, added: str) -> None:
    assert digest(tmp_path, PLAIN + added) == digest(tmp_path, PLAIN)


def test_what_makes_the_model_does(tmp_path: Path) -> None:
    assert digest(tmp_path, PLAIN + "[gate]\nmin_gain = 0.1\n") != digest(tmp_path, PLAIN)
    assert digest(tmp_path, PLAIN + "[canary]\nmax_errors = 0.1\n") != digest(tmp_path, PLAIN)
