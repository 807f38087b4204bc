"""The comparison on public tables: what counts as worse, and what the report says of it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks.public import __main__ as command
from benchmarks.public import autogluon_fit, page
from benchmarks.public.compare import compare
from benchmarks.public.tables import TABLES, Public

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def trained(
    task: str, truth: NDArray[Any], scores: NDArray[np.float64], classes: tuple[str, ...] = ()
) -> Any:
    """What `compare` reads of a model that was trained."""
    table = SimpleNamespace(task=task, positive=classes[1] if task == "binary" else None)
    test = SimpleNamespace(table=table, truth=truth)
    return SimpleNamespace(test=test, scores=scores, classes=classes)


def noisy(rng: np.random.Generator, truth: NDArray[Any], noise: float) -> NDArray[np.float64]:
    """Values around the truth, shape (rows, 1)."""
    return (truth + rng.normal(0, noise, len(truth)))[:, None]


def test_an_error_that_is_measurably_larger_breaks_the_promise() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=2_000)
    found = compare(trained("regression", truth, noisy(rng, truth, 1.2)), noisy(rng, truth, 1.0))
    assert found.metric == "rmse"
    assert found.gain == pytest.approx(-0.2, abs=0.06)
    assert found.significantly_worse
    assert not found.within_the_promise
    assert not found.better_or_equal


def test_a_difference_that_chance_explains_counts_as_equal() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=60)
    found = compare(trained("regression", truth, noisy(rng, truth, 1.02)), noisy(rng, truth, 1.0))
    assert not found.significantly_worse
    assert found.within_the_promise
    assert found.better_or_equal


def test_labels_are_judged_by_their_error_and_ranks_by_the_area() -> None:
    rng = np.random.default_rng(2)
    labels = np.where(rng.random(1_500) < 0.3, "yes", "no")
    chance = np.clip(0.3 + 0.4 * (labels == "yes") + rng.normal(0, 0.2, 1_500), 0.01, 0.99)
    poor = np.clip(chance + rng.normal(0, 0.3, 1_500), 0.01, 0.99)
    both = [np.column_stack([1 - each, each]) for each in (chance, poor)]
    area = compare(trained("binary", labels, both[1], ("no", "yes")), both[0])
    assert area.metric == "roc_auc"
    assert set(area.ours) == {"roc_auc", "log_loss"}
    assert not area.within_the_promise
    errors = compare(trained("multiclass", labels, both[0], ("no", "yes")), both[1])
    assert errors.metric == "accuracy"
    assert errors.gain > 0
    assert errors.gain == pytest.approx(
        1 - (1 - errors.ours["accuracy"]) / (1 - errors.theirs["accuracy"]), abs=1e-9
    )


def row(
    name: str, gain: float, *, worse: bool = False, kept: bool = True, metric: str = "rmse"
) -> dict[str, Any]:
    """A row of the report."""
    return {
        "name": name,
        "about": "made up",
        "training_rows": 1_000,
        "columns": 7,
        "metric": metric,
        "ours": {metric: 1.0},
        "theirs": {metric: 1.1},
        "gain": gain,
        "low": gain - 0.01,
        "high": gain + 0.01,
        "seconds": 40.0,
        "row_ms": 0.05,
        "their_row_ms": 12.0,
        "model": "linear",
        "significantly_worse": worse,
        "within_the_promise": kept,
        "better_or_equal": not worse,
    }


def test_the_page_counts_what_is_promised(tmp_path: Path) -> None:
    rows = [
        row("ames", 0.05),
        row("tate", -0.03, worse=True, kept=False),
        row("stops", -0.004, worse=True, metric="roc_auc"),
    ]
    text = page.page(rows)
    assert "Better on 1 of 3 tables" in text
    assert "explains, on 1;" in text
    assert text.rstrip().endswith("the error: tate.")
    page.chart(rows, tmp_path / "public.svg")
    assert "tate" in (tmp_path / "public.svg").read_text() or (tmp_path / "public.svg").stat().st_size > 0


def test_what_is_done_is_kept_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def compared(table: Public, *_: object) -> dict[str, Any]:
        asked.append(table.name)
        return row(table.name, 0.1)

    monkeypatch.setattr(command, "_compared", compared)
    given = ["--python", "python", "--out", str(tmp_path)]
    first, second = TABLES[0].name, TABLES[1].name
    assert command.main([second, *given]) == 0
    assert command.main([first, second, *given]) == 0
    assert asked == [second, first]
    held = json.loads((tmp_path / "public.json").read_text())
    assert [each["name"] for each in held["results"]] == [first, second]
    assert command.main([second, "--again", *given]) == 0
    assert asked[-1] == second


def test_a_table_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["amse", "--out", str(tmp_path)])
    assert "amse is no table of the comparison" in capsys.readouterr().err


def test_labels_that_are_numbers_there_are_found_by_their_text() -> None:
    assert autogluon_fit.as_written([3, 1, 2], ["1", "2", "3"]) == [1, 2, 3]
    assert autogluon_fit.as_written([True, False], ["False", "True"]) == [False, True]
