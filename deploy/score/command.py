"""`python -m deploy score` as a person runs it: the model by its name, a bar, and what came of it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from artifact import manifest
from artifact.models_lock import NAME_RULE
from artifact.program import artifact_of
from deploy.score.errors import TableError
from deploy.score.run import Job, score_table, tables_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from artifact.manifest import Artifact
    from deploy.score.files import Source
    from deploy.score.rows import Asked
    from deploy.score.run import Outcome


def run(
    model: str,
    table: Path,
    output: Path,
    *,
    asked: Asked,
    delimiter: str | None,
    encoding: str,
    jobs: int,
    overwrite: bool,
) -> int:
    """Score a table, or each table of a folder; 0 done, 1 ended early, 2 wrong usage or data."""
    with _named(model) as artifact:
        for source, target in tables_in(table, output):
            with _bar(source) as bar:
                job = Job(artifact, asked, delimiter, encoding, jobs, overwrite, bar)
                found = score_table(source, target, job)
            print(_told(found))
    return 0


def _told(done: Outcome) -> str:
    before = f" ({done.found} chunks were done before)" if done.found else ""
    said = f"{done.path}: {done.rows:,} rows{before}"
    if not done.refused:
        return said
    return f"{said}; {done.refused:,} were refused, with reasons in {done.refused_file}"


@contextmanager
def _named(model: str) -> Iterator[Artifact]:
    """The champion of a use case, or a model by its folder, tag or address."""
    name = model if NAME_RULE.fullmatch(model) and not Path(model).is_dir() else None
    if model.endswith(".toml"):
        from training.settings import load_use_case

        name = load_use_case(model).name
    if name is None:
        artifact, folder = artifact_of(model)
        yield artifact
        if folder is not None:
            folder.cleanup()
        return
    from training.registry.mlflow_registry import Registry, read_alias
    from training.registry.records import CHAMPION

    champion = read_alias(name, CHAMPION)
    if champion is None:
        raise TableError(f"{name} has no champion: `python -m training run {name}` makes one")
    with TemporaryDirectory(prefix="okamochi-") as downloaded:
        yield manifest.load(Registry().download(champion, Path(downloaded)), name=name)


class _Bar:
    """Rows, where the file says how many it has, else bytes of the file."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, 0
        self.bar: Any = None

    def __call__(self, source: Source, rows: int) -> None:
        from tqdm import tqdm

        if self.bar is None:
            whole = source.total if source.total is not None else self.path.stat().st_size
            unit = "rows" if source.total is not None else "B"
            self.bar = tqdm(
                total=whole, unit=f" {unit}" if unit == "rows" else unit, unit_scale=True,
                desc=self.path.name, disable=not sys.stderr.isatty(),
            )  # fmt: skip
        self.rows += rows
        self.bar.n = self.rows if source.total is not None else min(source.bytes_read(), self.bar.total)
        self.bar.refresh()


@contextmanager
def _bar(path: Path) -> Iterator[_Bar]:
    bar = _Bar(path)
    try:
        yield bar
    finally:
        if bar.bar is not None:
            bar.bar.close()
