"""What a maintainer does who adds a family: one file, and its name in the list."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]

FAMILY = '''"""Naive Bayes with a normal density for each column."""

from __future__ import annotations

import numpy as np
from sklearn.naive_bayes import GaussianNB

from training.families.family import CLASSES, Family, pipeline_of
from training.families.preprocessing import scaled
from training.onnx.graph import Writer


def _suggest(trial, layout):
    return {"smoothing": trial.suggest_float("bayes.smoothing", 1e-9, 1e-1, log=True)}


def _build(params, layout, task, seed):
    columns = scaled(layout, task, seed, skew="standard", dense=True)
    return pipeline_of(columns, GaussianNB(var_smoothing=params["smoothing"]))


def _write(graph, model, x):
    precision = 1 / model.var_
    likelihood = np.log(model.class_prior_) + 0.5 * np.log(precision / (2 * np.pi)).sum(axis=1)
    squares = graph.matmul(graph.op("Mul", x, x), -0.5 * precision.T)
    crossed = graph.matmul(x, (model.theta_ * precision).T)
    rest = likelihood - 0.5 * (model.theta_**2 * precision).sum(axis=1)
    return graph.softmax(graph.add(graph.op("Add", squares, crossed), rest[None, :]))


FAMILY = Family(
    name="bayes",
    title="Naive Bayes",
    tasks=CLASSES,
    default=lambda layout: {"smoothing": 1e-3},
    suggest=_suggest,
    build=_build,
    affordable=lambda rows, width, classes: True,
    writers={GaussianNB: Writer(_write)},
)
'''

SCRIPT = """
import json, sys
from pathlib import Path
from tests.training.made_tables import messy
from training.export import export
from training.families.catalog import affordable_families
from training.search.search import fit, search
from training.search.spec import SearchSpec

made = messy("binary")
asked = SearchSpec(task="binary", metric="roc_auc", folds=2, trials=14, jobs=2)
found = search(made.matrix[:180], made.labels[:180], made.signature, asked, progress=False)
mine = [trial for trial in found.trials if trial.family == "bayes"]
pipeline = fit(mine[0], made.matrix[:180], made.labels[:180], made.signature, found.layout)
done = export(
    pipeline, made.signature, Path(sys.argv[1]),
    train_matrix=made.matrix[:180], train_labels=made.labels[:180],
    test_matrix=made.matrix[180:], test_frame=made.frame[180:],
    name="made", run_id="0", algorithm=mine[0].title, metric="roc_auc", metrics={}, card="",
)
print(json.dumps({
    "states": [trial.state for trial in mine], "title": mine[0].title, "runtime": done.runtime,
    "reason": done.reason, "rows": done.parity.rows, "worst": done.parity.worst, "exact": done.parity.exact,
}))
"""


@pytest.mark.deep
def test_a_family_is_one_file_and_one_line(tmp_path: Path) -> None:
    """The search tries it in its own processes; it is exported, and its graph equals the pipeline."""
    for package in ("artifact", "training", "tests/training"):
        shutil.copytree(
            CHECKOUT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "test_*.py")
        )
    (tmp_path / "training" / "families" / "bayes.py").write_text(FAMILY)
    catalog = tmp_path / "training" / "families" / "catalog.py"
    listed = catalog.read_text()
    edits = (
        ("    baseline,\n", "    baseline,\n    bayes,\n"),
        ("    linear.FAMILY,\n", "    linear.FAMILY,\n    bayes.FAMILY,\n"),
    )
    for old, new in edits:
        assert listed.count(old) == 1
        listed = listed.replace(old, new)
    catalog.write_text(listed)

    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "made")],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout.splitlines()[-1])
    assert told["states"][0] == "complete"
    assert told["title"] == "Naive Bayes"
    assert (told["runtime"], told["reason"]) == ("onnx", "")
    assert told["exact"]
    assert told["rows"] > 60
