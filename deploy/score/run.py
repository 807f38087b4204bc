"""A table is scored in chunks, each of which is written whole or not at all.

Beside the output stands a folder `OUTPUT.parts` until the output is whole. It has a file for each chunk that
is done, and `state.json` with what they were made of; the same command after a kill leaves out those chunks.
At the end the chunks become the output in their order, under another name that is changed last.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import shutil
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.ipc

from artifact import atomic, manifest
from artifact.kinds.cell import listed
from artifact.program import Model
from deploy.score.errors import ScoringError, TableError
from deploy.score.files import CHUNK_ROWS, FORMATS, Sink, format_of, open_source
from deploy.score.rows import Asked, Chunk, Refused, answers, columns_of, decoded, score

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from artifact.manifest import Artifact
    from artifact.signature import Signature
    from deploy.score.files import Source

STATE, LOCK = "state.json", "lock"
REFUSED = ".refused.jsonl"


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

    path: Path
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
    tell
        Is given the rows or bytes that were done since the last call.
    """

    artifact: Artifact
    asked: Asked = field(default_factory=Asked)
    delimiter: str | None = None
    encoding: str = "utf-8"
    jobs: int = 1
    overwrite: bool = False
    tell: Callable[[Source, int], None] = lambda _source, _rows: None


def tables_in(table: Path, output: Path) -> list[tuple[Path, Path]]:
    """Each table with its output: of a folder its files, in the order of their names.

    Raises
    ------
    TableError
        The folder has no table.
    """
    if not table.is_dir():
        return [(table, output)]
    if output.is_file():
        raise TableError(f"{table} is a folder, so the output is one too, but {output} is a file")
    found = sorted(path for path in table.iterdir() if path.is_file() and _is_table(path))
    if not found:
        raise TableError(f"{table} has no file that ends in {', '.join(FORMATS)}, with or without .gz")
    output.mkdir(parents=True, exist_ok=True)
    return [(path, output / path.name) for path in found]


def _is_table(path: Path) -> bool:
    with suppress(TableError):
        return bool(format_of(path)) and not path.name.endswith(REFUSED)
    return False


def score_table(table: Path, output: Path, job: Job) -> Outcome:
    """Score one table.

    Raises
    ------
    TableError
        A table or a column is absent, or something stands in the way of the output.
    ArtifactError
        The model cannot be opened.
    ScoringError
        The disk is full, a file is damaged in its middle, or a process died; the same command goes on.
    """
    artifact = job.artifact
    source = open_source(table, artifact.signature.names, delimiter=job.delimiter, encoding=job.encoding)
    _check(source, output, artifact.signature, job.asked)
    parts = output.with_name(f"{output.name}.parts")
    if output.exists() and not parts.is_dir() and not job.overwrite:
        raise TableError(f"{output} exists; --overwrite replaces it")
    state = _state(table, artifact.path, job)
    output.parent.mkdir(parents=True, exist_ok=True)
    with _locked(parts):
        _begin(parts, state)
        try:
            rows, found = _score_all(source, parts, str(artifact.path), job)
            refused = _assemble(source, parts, output)
        except (OSError, pa.ArrowException) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise ScoringError(f"{reason}. What is done is in {parts}; the same command goes on.") from error
        except BrokenProcessPool as error:
            raise ScoringError(
                "A process that scores died, perhaps for want of memory (--jobs 1 needs least). "
                f"What is done is in {parts}; the same command goes on."
            ) from error
        done = parts.with_name(f"{output.name}.done")
        shutil.rmtree(done, ignore_errors=True)
        parts.replace(done)
        shutil.rmtree(done)
    return Outcome(output, rows, refused, _refused_file(output) if refused else None, found)


def _check(source: Source, output: Path, signature: Signature, asked: Asked) -> None:
    kind = format_of(output)
    if source.kind == "jsonl" and kind != "jsonl":
        raise TableError(f"{output}: of JSON lines, whose records may differ, come JSON lines (.jsonl)")
    if output.resolve() == source.path.resolve():
        raise TableError(f"{output} is the table itself; name another file")
    if asked.threshold is not None and signature.task != "binary":
        raise TableError(f"--threshold is for a binary model; this one does a {signature.task} task")
    if asked.probabilities and not signature.classes:
        raise TableError("--probabilities is for a model with classes; this one predicts numbers")
    if source.names is None:
        return
    absent = [
        column.name
        for column in signature.columns
        if column.name not in source.names and column.missing == "refuse"
    ]
    if absent:
        raise TableError(
            f"{source.path} lacks {listed(absent)}, which the model needs; it has {listed(source.names)}"
        )
    unknown = [name for name in asked.columns or () if name not in source.names]
    if unknown:
        raise TableError(f"{source.path} has no column {unknown[0]!r}; it has {listed(source.names)}")


def _state(table: Path, artifact: Path, job: Job) -> dict[str, Any]:
    """What the chunks are made of; chunks of anything else are not used."""
    there = table.stat()
    return {
        "table": [str(table.resolve()), there.st_size, there.st_mtime_ns],
        "model": manifest.digest(artifact / manifest.MANIFEST),
        "asked": json.loads(json.dumps(asdict(job.asked))),
        "read": [job.delimiter, job.encoding, CHUNK_ROWS],
    }


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


def _begin(parts: Path, state: dict[str, Any]) -> None:
    """Leave the chunks of an earlier run that was asked for the same; remove others."""
    path = parts / STATE
    with suppress(OSError, ValueError):
        if json.loads(path.read_text("utf-8")) == state:
            return
    for old in parts.iterdir():
        if old.name != LOCK:
            old.unlink()
    atomic.write(path, json.dumps(state).encode())


def _part(parts: Path, number: int) -> Path:
    return parts / f"{number:08d}.part"


# ------------------------------------------------------------------------------------------------- scoring


def _score_all(source: Source, parts: Path, model: str, job: Job) -> tuple[int, int]:
    """Score each chunk that is not done; gives the rows read, and how many chunks were done before."""
    rows = found = 0
    with _scorer(model, job) as submit:
        pending: set[Future[None]] = set()
        for number, chunk in enumerate(source.chunks()):
            size = len(chunk) if isinstance(chunk, list) else chunk.num_rows
            if _part(parts, number).exists():
                found += 1
            else:
                pending.add(submit(_Task(str(parts), number, rows, chunk, source.kind == "csv", job.asked)))
            rows += size
            job.tell(source, size)
            if len(pending) > 2 * job.jobs:
                pending = _settled(pending)
        while pending:
            pending = _settled(pending)
    return rows, found


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
    with ProcessPoolExecutor(job.jobs, context, _open, (model,)) as pool:
        try:
            yield lambda task: pool.submit(_do, task)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_MODEL: list[Model] = []


def _open(model: str) -> None:
    _MODEL[:] = [Model(manifest.load(Path(model)))]


def _do(task: _Task) -> None:
    """Score a chunk and write its files, that with the predictions last."""
    (model,) = _MODEL
    path = _part(Path(task.parts), task.number)
    if isinstance(task.chunk, list):
        content, refused = _of_lines(model, task.chunk, task.asked)
    else:
        content, refused = _of_table(model, task.chunk, task.asked, texts=task.texts)
    told = b"".join(_told(each, task) for each in refused)
    if told:
        atomic.write(path.with_name(path.name + REFUSED), told)
    atomic.write(path, content)


def _of_table(model: Model, table: pa.Table, asked: Asked, *, texts: bool) -> tuple[bytes, list[Refused]]:
    chunk = Chunk(columns_of(model.signature, table, texts=texts), None, table.num_rows)
    scores, refused = score(model, chunk)
    kept = table if asked.columns is None else table.select(list(asked.columns))
    if refused:
        good = np.ones(table.num_rows, np.bool_)
        good[[each.row for each in refused]] = False
        kept, scores = kept.filter(pa.array(good)), scores[good]
    for name, values in answers(model, scores, asked).items():
        kept = kept.append_column(_free(name, kept.column_names), values)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, kept.schema) as writer:
        writer.write_table(kept)
    return sink.getvalue().to_pybytes(), refused


def _of_lines(model: Model, lines: list[bytes], asked: Asked) -> tuple[bytes, list[Refused]]:
    records, places, refused = [], [], []
    for row, line in enumerate(lines):
        try:
            records.append(decoded(line))
            places.append(row)
        except ValueError as error:
            refused.append(Refused(row, ((None, str(error)),)))
    names = set(model.signature.names)
    asked_for = [{name: cell for name, cell in record.items() if name in names} for record in records]
    scores, wrong = score(model, Chunk(None, asked_for, len(records)))
    refused += [Refused(places[each.row], each.errors) for each in wrong]
    bad = {each.row for each in wrong}
    good = [i for i in range(len(records)) if i not in bad]
    columns = {name: values.to_pylist() for name, values in answers(model, scores[good], asked).items()}
    written = []
    for place, i in enumerate(good):
        record = records[i]
        kept = record if asked.columns is None else {name: record.get(name) for name in asked.columns}
        added = {_free(name, kept): each[place] for name, each in columns.items()}
        written.append(msgspec.json.encode({**kept, **added}) + b"\n")
    return b"".join(written), sorted(refused, key=lambda each: each.row)


def _free(name: str, taken: Container[str]) -> str:
    """The name of an added column, which a column of the table may have already."""
    return name if name not in taken else f"{name}_of_model"


def _told(refused: Refused, task: _Task) -> bytes:
    """A refused row as a line: its place in the table from 1, what is wrong, and the row itself."""
    if isinstance(task.chunk, list):
        record: Any = task.chunk[refused.row].decode(errors="replace")
        with suppress(ValueError):
            record = decoded(task.chunk[refused.row])
    else:
        record = task.chunk.slice(refused.row, 1).to_pylist()[0]
    return _refused_line(
        task.first_row + refused.row, refused.errors, msgspec.to_builtins(record, enc_hook=str)
    )


def _refused_line(row: int, errors: Any, record: Any) -> bytes:
    wrong = [{"column": column, "reason": reason} for column, reason in errors]
    return msgspec.json.encode({"row": row + 1, "errors": wrong, "record": record}) + b"\n"


# ------------------------------------------------------------------------------------------------- the end


def _refused_file(output: Path) -> Path:
    return output.with_name(output.name + REFUSED)


def _assemble(source: Source, parts: Path, output: Path) -> int:
    """Make the output of the chunks, and the file of refused rows; gives how many these are."""
    files = sorted(parts.glob("*.part"))
    refused = _write_refused(source, files, _refused_file(output))
    if output.is_dir():
        raise TableError(f"{output} is a folder; name a file")
    with Sink(output, source.delimiter) as sink:
        for file in files:
            if source.kind == "jsonl":
                sink.write(file.read_bytes())
            else:
                with pa.memory_map(str(file)) as content:
                    sink.write(pa.ipc.open_file(content).read_all())
        if not files and source.names is not None:
            sink.write(pa.table({name: pa.array([], pa.string()) for name in source.names}))
    return refused


def _write_refused(source: Source, files: list[Path], path: Path) -> int:
    """All refused rows in their order; ragged lines count in the place of a row."""
    told = [file for file in (each.with_name(each.name + REFUSED) for each in files) if file.exists()]
    if not told and not source.ragged:
        path.unlink(missing_ok=True)
        return 0
    ragged = sorted(source.ragged)
    count = passed = 0
    temporary = path.with_name(f".{path.name}.writing")
    with temporary.open("wb") as out:

        def put(row: int, errors: Any, record: Any) -> None:
            nonlocal count
            out.write(_refused_line(row, errors, record))
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
