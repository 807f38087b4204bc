"""`python -m deploy score` as a person runs it: the model by its name, a bar, and what came of it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from artifact import manifest
from artifact.models_lock import NAME_RULE
from artifact.program import artifact_of
from deploy.score.errors import TableError
from deploy.score.run import Job, score_folder, score_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from artifact.manifest import Artifact
    from deploy.score.run import Outcome, Place


def run(
    model: str,
    table: str,
    output: str,
    options: Mapping[str, Any],
) -> int:
    """Score a table, or each table of a folder; 0 done, 1 ended early, 2 wrong usage or data.

    Parameters
    ----------
    table, output
        Paths, or addresses of tables of a database.
    options
        The rest of a `Job`.
    """
    source, target = _place(table), _place(output, there=False)
    if isinstance(source, Path) and (options["query"] or options["key"]):
        raise TableError(f"--query and --key are for a database; {source} is a file")
    with _named(model) as artifact:
        for found in _outcomes(source, target, Job(artifact, **options)):
            before = f" ({found.found} chunks were done before)" if found.found else ""
            print(_told(found.output, f"{found.rows:,} rows{before}", found.refused, found.refused_file))
    return 0


def run_on_spark(model: str, table: str, output: str, options: Mapping[str, Any]) -> int:
    """Score a table on Spark; exit codes as of `run`.

    Parameters
    ----------
    options
        The rest of a `SparkJob`.
    """
    from deploy.score.spark import SparkJob, score_on_spark, session

    # Spark is started first: to download a model may take long.
    with session(model, options["master"]) as spark, _named(model) as artifact:
        found = score_on_spark(spark, table, output, SparkJob(artifact, **options))
        print(_told(found.output, f"{found.rows:,} rows", found.refused, found.refused_folder))
    return 0


def _outcomes(table: Place, output: Place, job: Job) -> Iterator[Outcome]:
    if isinstance(table, Path) and table.is_dir():
        yield from score_folder(table, output, job)
    else:
        yield score_table(table, output, job)


def _place(written: str, *, there: bool = True) -> Place:
    """A path, or the address of a database."""
    if "://" not in written:
        return Path(written)
    from deploy.score.sql import address_of

    return address_of(written, there=there)


def _told(output: str, done: str, refused: int, reasons: Path | str | None) -> str:
    said = f"{output}: {done}"
    return f"{said}; {refused:,} were refused, with reasons in {reasons}" if refused else said


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
