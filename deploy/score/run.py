"""A table is scored in chunks, each of which is written whole or not at all.

Beside the output stands a folder `OUTPUT.parts` until the output is whole. It has a file for each chunk that
is done, and `state.json` with what they were made of; the same command after a kill leaves out those chunks.
At the end the chunks become the output in their order, under another name that is changed last.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import shutil
import threading
import uuid
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.ipc

from artifact import atomic, manifest
from artifact.program import Model
from deploy.score.chunk import of_lines, of_table, record_of, refused_line
from deploy.score.errors import ScoringError, TableError
from deploy.score.files import (
    CHUNK_ROWS,
    FORMATS,
    UNREADABLE,
    FileOutput,
    check_asked,
    check_columns,
    format_of,
    open_source,
)
from deploy.score.progress import Progress
from deploy.score.rows import Asked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from artifact.manifest import Artifact
    from deploy.score.files import Sink, Source
    from deploy.score.sql import Address, TableOutput, TableSink

    Place = Path | Address
    """Where a table is: a file or a folder, or a table of a database."""

STATE, LOCK = "state.json", "lock"
REFUSED, MARK = ".refused.jsonl", ".mark"
FINISHED = ".okamochi-score.json"


@dataclass(frozen=True)
class Outcome:
    """What became of a table.

    Parameters
    ----------
    refused
        Rows that were not scored; the file `refused_file` has each with its reason.
    found
        Chunks that an earlier run had done.
    """

    output: str
    rows: int
    refused: int
    refused_file: Path | None
    found: int


@dataclass(frozen=True)
class Job:
    """How a table is scored.

    Parameters
    ----------
    delimiter, encoding
        Of a CSV file; None: the delimiter by which the header has most of the model's columns.
    jobs
        Processes that score.
    query, key
        For a database: the query (None: the table of the address), and the unique column that orders it.
    progress
        Whether stderr says how far it is.
    """

    artifact: Artifact
    asked: Asked = field(default_factory=Asked)
    delimiter: str | None = None
    encoding: str = "utf-8"
    jobs: int = 1
    overwrite: bool = False
    query: str | None = None
    key: str | None = None
    progress: bool = False


def pairs_of(table: Path, output: Place) -> list[tuple[Path, Path]]:
    """Each table of a folder with its output, in the order of their names.

    Raises
    ------
    TableError
        The folder has no table, or the output is not a folder.
    """
    if not isinstance(output, Path) or output.is_file():
        told = output if isinstance(output, Path) else output.shown
        raise TableError(f"{table} is a folder, so the output is one too, but {told} is not")
    found = sorted(path for path in table.iterdir() if path.is_file() and _is_table(path))
    if not found:
        raise TableError(f"{table} has no file that ends in {', '.join(FORMATS)}, with or without .gz")
    output.mkdir(parents=True, exist_ok=True)
    return [(path, output / path.name) for path in found]


def _is_table(path: Path) -> bool:
    with suppress(TableError):
        return bool(format_of(path)) and not path.name.endswith(REFUSED)
    return False


def score_folder(table: Path, output: Place, job: Job) -> Iterator[Outcome]:
    """Score each table of a folder; a run that goes on leaves out the tables that are done.

    Raises
    ------
    TableError, ScoringError
        As `score_table`.
    """
    pairs = pairs_of(table, output)
    finished = _Finished(pairs[0][1].with_name(FINISHED))
    for source, target in pairs:
        state = _state(_opened(source, job), job)
        if finished.has(target, state):
            continue
        yield score_table(source, target, job, finished=partial(finished.add, target, state))
    finished.remove()


class _Finished:
    """The finished tables of a folder, each with what it was made of; kept until all are finished."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._states: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            self._states = json.loads(path.read_text("utf-8"))

    def has(self, target: Path, state: dict[str, Any]) -> bool:
        return target.exists() and self._states.get(target.name) == state

    def add(self, target: Path, state: dict[str, Any]) -> None:
        self._states[target.name] = state
        atomic.write(self._path, json.dumps(self._states).encode())

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def score_table(
    table: Place, output: Place, job: Job, *, finished: Callable[[], None] = lambda: None
) -> Outcome:
    """Score one table.

    Parameters
    ----------
    finished
        Is called when the output is whole, before the chunks are removed.

    Raises
    ------
    TableError
        A table or a column is absent, or something stands in the way of the output.
    ArtifactError
        The model cannot be opened.
    ScoringError
        The disk is full, a file is damaged in its middle, a database is away, or a process died; the same
        command goes on.
    """
    source = _opened(table, job)
    target = _target(output)
    _check(source, table, target, output, job)
    parts = target.beside.with_name(f"{target.beside.name}.parts")
    state = _state(source, job)
    run = _run_of(parts, state)
    if isinstance(target, FileOutput):
        whole, stands = None, target.taken() and not parts.is_dir()
    else:  # before its commit a run leaves nothing in the database
        whole = None if run is None else target.committed(run)
        stands = whole is None and target.taken()
    if stands and not job.overwrite:
        raise TableError(f"{target.shown} exists; --overwrite replaces it")
    target.beside.parent.mkdir(parents=True, exist_ok=True)
    with _locked(parts):
        run = _begin(parts, state)
        try:
            if whole is None:
                rows, found = _score_all(source, parts, str(job.artifact.path), job)
                rows += len(source.ragged)
                refused = _assemble(source, parts, target, job.artifact, run=run, rows=rows)
            else:  # it was killed after the commit
                rows, found = whole, len(list(parts.glob("*.part")))
                refused = _refused_count(_refused_file(target.beside))
        except UNREADABLE as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise ScoringError(f"{reason}. {_kept(parts, source)}") from error
        except BrokenProcessPool as error:
            raise ScoringError(
                "A process that scores died, perhaps for want of memory (--jobs 1 needs least). "
                + _kept(parts, source)
            ) from error
        except ScoringError as error:
            raise ScoringError(f"{error}. {_kept(parts, source)}") from error
        finished()
        done = parts.with_name(f"{target.beside.name}.done")
        shutil.rmtree(done, ignore_errors=True)
        parts.replace(done)
        shutil.rmtree(done)
    return Outcome(target.shown, rows, refused, _refused_file(target.beside) if refused else None, found)


def _kept(parts: Path, source: Source) -> str:
    if source.kind == "sql" and not source.keyed:
        return "Without a --key the same command begins anew."
    return f"What is done is in {parts}; the same command goes on."


def _opened(table: Place, job: Job) -> Source:
    if isinstance(table, Path):
        names = job.artifact.signature.names
        return open_source(table, names, delimiter=job.delimiter, encoding=job.encoding)
    from deploy.score.sql import open_query

    return open_query(table, job.query, job.key)


def _target(output: Place) -> FileOutput | TableOutput:
    if isinstance(output, Path):
        return FileOutput(output)
    from deploy.score.sql import TableOutput

    return TableOutput(output)


def _check(source: Source, table: Place, target: FileOutput | TableOutput, output: Place, job: Job) -> None:
    signature, asked = job.artifact.signature, job.asked
    if source.kind == "jsonl" and (not isinstance(target, FileOutput) or target.kind != "jsonl"):
        raise TableError(
            f"{target.shown}: expected .jsonl for JSON lines, whose records may have different columns"
        )
    if output == table or (
        isinstance(output, Path) and isinstance(table, Path) and output.resolve() == table.resolve()
    ):
        raise TableError(f"{target.shown} is the table itself; name another one")
    check_asked(asked, signature)
    if source.names is not None:
        check_columns(source.name, source.names, signature, asked)


def _state(source: Source, job: Job) -> dict[str, Any]:
    """What the chunks are made of; chunks of anything else are not used."""
    state = {
        "table": source.identity,
        "model": manifest.digest(job.artifact.path / manifest.MANIFEST),
        "asked": json.loads(json.dumps(asdict(job.asked))),
        "read": [job.delimiter, job.encoding, CHUNK_ROWS],
    }
    if source.kind == "sql" and not source.keyed:
        # A database gives such rows in any order, so a run cannot go on with the chunks of another.
        state["once"] = uuid.uuid4().hex
    return state


@contextmanager
def _locked(parts: Path) -> Iterator[None]:
    """Keep a second command of the same output out."""
    parts.mkdir(parents=True, exist_ok=True)
    with (parts / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TableError(f"another command is writing {parts}") from None
        yield


def _run_of(parts: Path, state: dict[str, Any]) -> str | None:
    """The id of an unfinished run with the same state; None if there was no such run."""
    with suppress(OSError, ValueError):
        found = json.loads((parts / STATE).read_text("utf-8"))
        run = found.pop("run", None)
        return run if isinstance(run, str) and found == state else None
    return None


def _begin(parts: Path, state: dict[str, Any]) -> str:
    """Keep the chunks of an earlier run with the same state, or remove all; gives the run's id."""
    run = _run_of(parts, state)
    if run is not None:
        return run
    for old in parts.iterdir():
        if old.name != LOCK:
            old.unlink()
    run = uuid.uuid4().hex
    atomic.write(parts / STATE, json.dumps({"run": run, **state}).encode())
    return run


def _part(parts: Path, number: int) -> Path:
    return parts / f"{number:08d}.part"


# ------------------------------------------------------------------------------------------------- scoring


def _score_all(source: Source, parts: Path, model: str, job: Job) -> tuple[int, int]:
    """Score each chunk that is not done; gives the rows read, and how many chunks were done before."""
    rows = found = 0
    mark = None
    progress = Progress(source.name.rpartition("/")[2], shown=job.progress)
    if source.keyed:
        found, rows, mark = _prefix(parts)
        progress.add(source, rows, done_before=True)
    first = found
    with _scorer(model, job) as submit, closing(progress):
        pending: set[Future[None]] = set()
        for number, (chunk, behind) in enumerate(source.chunks(mark), first):
            size = len(chunk) if isinstance(chunk, list) else chunk.num_rows
            before = not source.keyed and _part(parts, number).exists()
            if before:
                found += 1
            else:
                texts = source.kind == "csv"
                after = None if behind is None else (rows + size, behind)
                pending.add(submit(_Task(str(parts), number, rows, chunk, texts, job.asked, after)))
            rows += size
            progress.add(source, size, done_before=before)
            if len(pending) > 2 * job.jobs:
                pending = _settled(pending)
        while pending:
            pending = _settled(pending)
    return rows, found


def _prefix(parts: Path) -> tuple[int, int, str | None]:
    """The chunks from the first on without a gap: how many, their rows, and the mark of the last.

    The others are removed: the rows after the mark are divided into chunks anew.
    """
    number = rows = 0
    mark: str | None = None
    while _part(parts, number).exists():
        rows, mark = json.loads(_beside(_part(parts, number), MARK).read_bytes())
        number += 1
    for path in parts.glob("*.part*"):
        # Names that begin with a dot are files that a kill left half written.
        if path.name.startswith(".") or int(path.name.partition(".")[0]) >= number:
            path.unlink()
    return number, rows, mark


def _settled(pending: set[Future[None]]) -> set[Future[None]]:
    done, rest = wait(pending, return_when=FIRST_COMPLETED)
    for each in done:
        each.result()
    return rest


@dataclass(frozen=True)
class _Task:
    parts: str
    number: int
    first_row: int
    chunk: Any
    texts: bool
    asked: Asked
    after: tuple[int, str] | None
    """The rows up to the chunk's end and its mark, for a source that goes on behind a mark."""


@contextmanager
def _scorer(model: str, job: Job) -> Iterator[Callable[[_Task], Future[None]]]:
    """What scores chunks: this process, or several."""
    if job.jobs == 1:
        _open(model)

        def here(task: _Task) -> Future[None]:
            future: Future[None] = Future()
            _do(task)
            future.set_result(None)
            return future

        yield here
        return
    # Started anew, since onnxruntime and Arrow have threads that a fork would not have.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(job.jobs, context, _open_beside, (model,)) as pool:
        try:
            yield lambda task: pool.submit(_do, task)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_MODEL: list[Model] = []


def _open(model: str) -> None:
    _MODEL[:] = [Model(manifest.load(Path(model)))]


def _open_beside(model: str) -> None:
    """Open the model in a process that ends with the one that started it, also where that one is killed."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, name="parent", daemon=True).start()
    _open(model)


def _do(task: _Task) -> None:
    """Score a chunk and write its files, the one with the predictions last."""
    (model,) = _MODEL
    path = _part(Path(task.parts), task.number)
    if isinstance(task.chunk, list):
        lines, refused = of_lines(model, task.chunk, task.asked)
        content = b"".join(lines)
    else:
        kept, refused = of_table(model, task.chunk, task.asked, texts=task.texts)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, kept.schema) as writer:
            writer.write_table(kept)
        content = sink.getvalue().to_pybytes()
    told = b"".join(
        refused_line(task.first_row + each.row, each.errors, record_of(task.chunk, each.row))
        for each in refused
    )
    if told:
        atomic.write(_beside(path, REFUSED), told)
    if task.after is not None:
        atomic.write(_beside(path, MARK), json.dumps(task.after).encode())
    atomic.write(path, content)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


# ------------------------------------------------------------------------------------------------- the end


def _refused_file(output: Path) -> Path:
    return _beside(output, REFUSED)


def _refused_count(path: Path) -> int:
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _assemble(
    source: Source, parts: Path, target: FileOutput | TableOutput, artifact: Artifact, *, run: str, rows: int
) -> int:
    """Make the output of the chunks, and the file of refused rows; gives how many these are."""
    chunks = sorted(parts.glob("*.part"))
    refused = _write_refused(source, chunks, _refused_file(target.beside))
    schema = None if source.kind == "jsonl" else _schema_of(chunks, source)
    with ExitStack() as stack:
        if isinstance(target, FileOutput):
            sink: Sink | TableSink = stack.enter_context(target.sink(source.delimiter))
        else:
            digest = manifest.digest(artifact.path / manifest.MANIFEST)
            sink = stack.enter_context(target.sink(run, f"{artifact.manifest.name} {digest[:12]}", rows))
        for file in chunks:
            if schema is None:
                sink.write(file.read_bytes())
            else:
                with pa.memory_map(str(file)) as content:
                    sink.write(_as(pa.ipc.open_file(content).read_all(), schema))
        if not chunks and schema is not None:
            sink.write(schema.empty_table())
    return refused


def _schema_of(chunks: list[Path], source: Source) -> pa.Schema:
    """One schema for all chunks: a query's column may be empty in one and have numbers in another."""
    found: dict[str, pa.DataType] = {}
    for file in chunks:
        with pa.memory_map(str(file)) as content:
            for each in pa.ipc.open_file(content).schema:
                found[each.name] = _wider(found.get(each.name, each.type), each.type)
    if not chunks:
        return pa.schema([(name, pa.string()) for name in source.names or ()])
    return pa.schema(
        [(name, pa.string() if pa.types.is_null(kind) else kind) for name, kind in found.items()]
    )


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """A type that holds the values of both; text if Arrow has no such type."""
    if one == other:
        return one
    try:
        both = [pa.schema([("cell", one)]), pa.schema([("cell", other)])]
        return pa.unify_schemas(both, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return pa.string()


def _as(table: pa.Table, schema: pa.Schema) -> pa.Table:
    return table if table.schema.equals(schema) else table.cast(schema)


def _write_refused(source: Source, files: list[Path], path: Path) -> int:
    """All refused rows in their order; ragged lines count in the place of a row."""
    told = [file for file in (_beside(each, REFUSED) for each in files) if file.exists()]
    if not told and not source.ragged:
        path.unlink(missing_ok=True)
        return 0
    ragged = sorted(source.ragged)
    count = passed = 0
    temporary = path.with_name(f".{path.name}.writing")
    with temporary.open("wb") as out:

        def put(row: int, errors: Any, record: Any) -> None:
            nonlocal count
            out.write(refused_line(row, errors, record))
            count += 1

        for line in (line for file in told for line in file.read_bytes().splitlines()):
            said = json.loads(line)
            row = said["row"] - 1
            while passed < len(ragged) and ragged[passed][0] <= row + passed:
                place, text, reason = ragged[passed]
                put(place, [(None, reason)], text)
                passed += 1
            put(row + passed, [(each["column"], each["reason"]) for each in said["errors"]], said["record"])
        for place, text, reason in ragged[passed:]:
            put(place, [(None, reason)], text)
    temporary.replace(path)
    return count
