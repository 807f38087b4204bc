"""The held-out figures that we promise, each the mean over ten splits: `make evaluate`.

Each use case is trained with its own budget on the splits of salts 0 to 9; a split's figure is of its test
rows, scored once by the model that cross-validation of the other rows chose. Writes reports/evaluate.json;
exit code 1 where a figure is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from tqdm import tqdm

from training.decide.test_set import encode
from training.families.scores import scores_of
from training.metrics.metric import metrics
from training.search.search import fit, search
from training.search.spec import SearchSpec
from training.settings import load_use_case
from training.tables.data import load_table, test_rows
from training.tables.schema import signature_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.tables.data import Table

REPORT = Path(__file__).resolve().parents[2] / "reports" / "evaluate.json"
SALTS = range(10)


@dataclass(frozen=True)
class Promise:
    """The lowest that the mean of the splits' figures may be."""

    use_case: str
    metric: str
    least: float


PROMISES = (
    Promise("breast_cancer", "roc_auc", 0.985),
    Promise("digits", "accuracy", 0.98),
    Promise("wine", "accuracy", 0.96),
    Promise("iris", "accuracy", 0.94),
    Promise("diabetes", "r2", 0.42),
)


def split_figure(table: Table, metric: str, *, trials: int, seed: int = 0) -> tuple[float, str]:
    """The metric on the table's test rows, and the title of the model that was chosen on the others."""
    test = test_rows(table)
    signature = signature_of(table, ~test)
    train_matrix, test_matrix = encode(signature, table, ~test), encode(signature, table, test)
    labels, truth = table.target[~test], table.target[test]
    found = search(
        train_matrix,
        labels,
        signature,
        SearchSpec(
            task=table.task,
            metric=table.use_case.metric or metric,
            folds=table.use_case.folds,
            groups=None if table.groups is None else table.groups[~test],
            times=None if table.times is None else table.times[~test],
            trials=trials,
            timeout_s=table.use_case.timeout_s,
            seed=seed,
        ),
        progress=False,
    )
    pipeline = fit(found.best, train_matrix, labels, signature, found.layout, seed=seed)
    scores = scores_of(pipeline, test_matrix, len(signature.classes))
    figures = metrics(table.task, truth, scores, signature.classes, signature.positive, signature.threshold)
    return figures[metric], found.best.title


def evaluate(
    promise: Promise, *, trials: int | None = None, salts: Sequence[int] = SALTS, bar: tqdm[Any] | None = None
) -> dict[str, Any]:
    """Train on every split, and hold the mean against the promise."""
    use_case = load_use_case(promise.use_case)
    table = load_table(use_case)
    started = time.monotonic()
    splits: list[dict[str, Any]] = []
    for salt in salts:
        salted = replace(table, use_case=msgspec.structs.replace(use_case, salt=str(salt)))
        figure, title = split_figure(salted, promise.metric, trials=trials or use_case.trials)
        splits.append({"salt": salt, "figure": figure, "model": title})
        if bar is not None:
            bar.update()
            bar.set_postfix_str(f"{promise.use_case}, salt {salt}: {promise.metric} {figure:.4f}")
    figures = [split["figure"] for split in splits]
    mean = float(np.mean(figures))
    return {
        "use_case": promise.use_case,
        "metric": promise.metric,
        "promised": promise.least,
        "mean": mean,
        "lowest": min(figures),
        "met": bool(mean >= promise.least),
        "seconds": round(time.monotonic() - started, 1),
        "splits": splits,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, write the report, tell each figure; 1 where one is missed."""
    names = [promise.use_case for promise in PROMISES]
    parser = argparse.ArgumentParser(prog="python -m training.decide.evaluate_splits", description=__doc__)
    parser.add_argument("use_cases", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; by default all")
    parser.add_argument("--trials", type=int, help="instead of each use case's own budget")
    parser.add_argument("--salts", type=int, default=len(SALTS), help="how many splits (default %(default)s)")
    parser.add_argument("--report", type=Path, default=REPORT, help="where the JSON goes")
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.use_cases) - set(names))
    if unknown:
        parser.error(f"no figure is promised for {', '.join(unknown)}; expected of {', '.join(names)}")
    chosen = [promise for promise in PROMISES if promise.use_case in (given.use_cases or names)]
    results = []
    with tqdm(total=len(chosen) * given.salts, desc="evaluate", unit="split") as bar:
        for promise in chosen:
            result = evaluate(promise, trials=given.trials, salts=range(given.salts), bar=bar)
            results.append(result)
            verdict = "met" if result["met"] else "MISSED"
            bar.write(
                f"{promise.use_case}: {promise.metric} {result['mean']:.4f} over {given.salts} splits "
                f"(promised {promise.least}, lowest {result['lowest']:.4f}) {verdict}",
                file=sys.stdout,
            )
    given.report.parent.mkdir(parents=True, exist_ok=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    libraries = {name: version(name) for name in ("scikit-learn", "optuna", "numpy")}
    report = {"machine": machine, "libraries": libraries, "results": results}
    given.report.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 0 if all(result["met"] for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
