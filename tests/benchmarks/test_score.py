"""The benchmark of `deploy score` measures both sides of the same rows, and leaves no table behind."""

from __future__ import annotations

import json
import tempfile
from typing import TYPE_CHECKING

from benchmarks import score
from tests.serving.artifacts import iris

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_short_table_has_both_sides_and_their_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(score, "OUT", tmp_path / "reports" / "score.json")
    monkeypatch.setattr(score, "LOADS", 1)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    assert score.main([str(iris(tmp_path / "iris").path), "--rows", "2000"]) == 0
    found = json.loads((tmp_path / "reports" / "score.json").read_text())
    assert json.loads(capsys.readouterr().out) == found
    (side,) = found["sides"]
    assert (side["score"]["rows"], side["score"]["said"].endswith("2,000 rows\n")) == (2000, True)
    assert side["score"]["peak_mb"] > 0
    assert side["in_process"]["cpu_seconds"] >= 0
    assert found["load_cpu_ms"] > 0
    assert not list((tmp_path / "scratch").iterdir())
