"""The prediction log: a line a row, written behind the requests' backs.

What is logged is captured on the event loop, for at most so many rows a second, into a bounded buffer; a
thread makes lines of it and stores them. A store that is full or away costs lines, which are counted, and no
request.

Ids of one process are its prefix and a rising number, so a file holds them in order: whoever has an id finds
its line without an index, in any process that sees the folder.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import numpy as np

from artifact import verdict
from artifact.encode import Encoder, canonical
from artifact.signature import labels
from serving.observe import metrics
from serving.observe.logs import second
from serving.protocols.predict import ID_PREFIX, next_number
from serving.scoring.sampler import Sampler
from serving.settings import MIB, POSTGRES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from io import BufferedWriter

    from numpy.typing import NDArray

    from artifact.signature import Signature
    from artifact.verdict import Verdict
    from serving.protocols import Endpoint, Reply
    from serving.scoring.batcher import Scores
    from serving.settings import Settings

logger = logging.getLogger("bentoml.okamochi")

FLUSH_S = 0.5
EXPIRE_EVERY_S = 600.0
VERDICTS_EVERY_S = 30.0
BUFFERED_S = 10  # of rows at the full rate, while the store is slow
ROWS_AT_ONCE = 16  # encoded before the event loop may go on
MOST_TEXT = 4_096  # characters of one cell
COMPLAIN_EVERY_S = 60.0
ID = re.compile(r"[0-9a-f]{12}-[0-9a-f]{1,15}")
ID_HEADER = b"x-prediction-id"

_LINE = re.compile(rb'\{"id":"[0-9a-f]{12}-([0-9a-f]+)","row":(\d+),')
_encode = msgspec.json.encode
_now = time.time


class Line(msgspec.Struct, frozen=True):
    """One logged row.

    Parameters
    ----------
    id, row, rows
        Of the reply, which row of it (from 0), and how many rows it had.
    at
        UTC, ISO 8601.
    columns
        By name, as the client sent them; sensitive ones only as `hash_of` has them.
    scores
        Probabilities in the order of the model's classes, or a regression's one number.
    """

    id: str
    row: int
    rows: int
    at: str
    model: str
    version: str
    endpoint: str
    columns: dict[str, Any]
    prediction: Any
    scores: list[float]


class StoreError(Exception):
    """The log cannot be read or written now, and why."""


class Told(NamedTuple):
    """What became of a row: the actual value that somebody gave."""

    line: Line
    actual: Any


class Store(Protocol):
    """Where lines are kept. Every method raises `StoreError`; none is called on the event loop."""

    def write(self, lines: Sequence[Line]) -> None:
        """Keep lines, in the order of their ids."""

    def expire(self, days: float) -> None:
        """Forget what is older."""

    def find(self, id: str, row: int | None) -> Line | None:  # noqa: A002 - the reply's name for it
        """A line by its id and row; any row of the id for None."""

    def tell(self, told: Sequence[Told]) -> list[Any]:
        """Keep actual values, all or none; for each what is known already, else `NEW`.

        None is kept where another value is known of one.
        """

    def verdicts(self) -> list[Verdict]:
        """What training found the models that log here to be worth."""

    def close(self) -> None:
        """Let go of files and connections."""


NEW = object()


# ---- rows as the client sent them


class Remembered(np.ndarray[Any, Any]):
    """A matrix that knows the rows it was made of."""

    raw: Callable[[int, str], Any] | None = None  # row and column to the cell that came


class Remembering(Encoder):
    """An encoder for the log: of a text the matrix holds nothing that could be read again.

    Sensitive columns that are no features are remembered too, to be hashed.
    """

    def rows(self, rows: Sequence[Sequence[Any]], *, lenient: bool = False) -> NDArray[np.float64]:
        """See `Encoder`."""
        places = {name: i for i, name in enumerate(self.signature.names)}

        def raw(row: int, name: str) -> Any:
            return rows[row][places[name]] if name in places else None

        return _remember(super().rows(rows, lenient=lenient), raw)

    def records(self, records: Sequence[Mapping[str, Any]], *, lenient: bool = False) -> NDArray[np.float64]:
        """See `Encoder`."""
        matrix = super().records(records, lenient=lenient)
        return _remember(matrix, lambda row, name: records[row].get(name))

    def columns(self, columns: Mapping[str, Any], *, lenient: bool = False) -> NDArray[np.float64]:
        """See `Encoder`."""
        return _remember(
            super().columns(columns, lenient=lenient),
            lambda row, name: columns[name][row] if name in columns else None,
        )


def _remember(matrix: NDArray[np.float64], raw: Callable[[int, str], Any]) -> NDArray[np.float64]:
    remembered = matrix.view(Remembered)
    remembered.raw = raw
    return remembered


def encoder(signature: Signature, settings: Settings) -> Encoder:
    """The encoder of a model: one that remembers, where the log is on and the matrix does not say all."""
    if settings.prediction_log and (signature.sensitive or not signature.numeric):
        return Remembering(signature)
    return Encoder(signature)


def hash_of(key: str, cell: Any) -> str | None:
    """A sensitive cell as 16 hexadecimal digits, from which no way leads back without the key."""
    if cell is None:
        return None
    return hmac.new(key.encode(), canonical(cell).encode(), hashlib.sha256).hexdigest()[:16]


# ---- capture


class _Taken(NamedTuple):
    id: str
    row: int
    rows: int
    at: float
    endpoint: Endpoint
    cells: Any  # by position; a list, an array of the matrix, or what `batcher.packer` made
    sensitive: tuple[Any, ...]
    prediction: Any
    scores: NDArray[np.float64]


class PredictionLog:
    """Captures rows on the event loop, and stores them in a thread."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self._key = settings.hash_key
        self._days = settings.prediction_log_days
        self._sampler = Sampler(settings.prediction_log_rows_per_s)
        self._most = int(BUFFERED_S * settings.prediction_log_rows_per_s) + 1
        self._buffer: deque[_Taken] = deque()
        self._writing = threading.Lock()
        self._ended = threading.Event()
        self._complained = -COMPLAIN_EVERY_S
        self._written = metrics.PREDICTION_LOG_ROWS
        self._dropped = {
            reason: metrics.PREDICTION_LOG_DROPPED.labels(reason)
            for reason in ("sampled_out", "buffer_full", "store_failed")
        }
        self._versions: dict[str, str] = {}  # of what is live here
        self._thread = threading.Thread(target=self._run, name="okamochi-predictions", daemon=True)

    def start(self) -> None:
        """Begin to store."""
        self._thread.start()

    def attach(self, endpoints: Iterable[Endpoint]) -> None:
        """Log what these answer, from now on."""
        for endpoint in {id(endpoint): endpoint for endpoint in endpoints}.values():
            self._versions[endpoint.model.name] = endpoint.model.version
            endpoint.answer = self._logging(endpoint)  # type: ignore[method-assign, assignment]

    def _logging(self, endpoint: Endpoint) -> Callable[[Any, Scores, int], Reply]:
        answer, sampler = endpoint.answer, self._sampler

        def answered(query: Any, scores: Scores, first: int) -> Reply:
            reply = answer(query, scores, first)
            n = query.n
            left = sampler.left - n
            if left >= 0:
                sampler.left = left
                return reply
            rows = sampler.take(n)
            if rows is None:
                return reply
            return self._capture(endpoint, query, scores, first, reply=reply, picked=rows)

        return answered

    def _capture(
        self,
        endpoint: Endpoint,
        query: Any,
        scores: Scores,
        first: int,
        *,
        reply: Reply,
        picked: range,
    ) -> Reply:
        if len(self._buffer) + len(picked) > self._most:
            self._dropped["buffer_full"].inc(len(picked))
            return reply
        found = None if getattr(query, "id", "") else _own_id(reply.body)
        if found is None:
            # MLflow's protocol has no id in its replies, and that of a client need not be the only one.
            found = f"{ID_PREFIX}-{next_number():x}"
            reply = msgspec.structs.replace(reply, headers=(*reply.headers, (ID_HEADER, found.encode())))
        signature = endpoint.model.signature
        rows, at = query.rows, _now()
        raw = getattr(rows, "raw", None)
        packed, width = isinstance(rows, bytes), 8 * signature.width
        for row in picked:
            sensitive: tuple[Any, ...] = ()
            if raw is not None:
                sensitive = tuple(_cell(raw(row, name)) for name in signature.sensitive)
                cells: Any = [_cell(raw(row, name)) for name in signature.names]
            else:
                cells = rows[row * width : (row + 1) * width] if packed else rows[row].copy()
            self._buffer.append(
                _Taken(
                    found,
                    row,
                    query.n,
                    at,
                    endpoint,
                    cells,
                    sensitive,
                    _predicted(query, scores, first + row),
                    scores.values[first + row].copy(),
                )
            )
        return reply

    # ---- the thread

    def _run(self) -> None:
        expire_at = show_at = 0.0
        while not self._ended.wait(FLUSH_S):
            self._sampler.wake()
            self.flush()
            now = time.monotonic()
            try:
                if now >= expire_at:
                    expire_at = now + EXPIRE_EVERY_S
                    with self._writing:
                        self.store.expire(self._days)
                if now >= show_at:
                    show_at = now + VERDICTS_EVERY_S
                    self.show_verdicts()
            except Exception as error:  # noqa: BLE001 - the log must not end the thread
                self._complain(error, "the prediction log cannot be tidied or read")

    def show_verdicts(self) -> None:
        """Put into the metrics what training says of the versions that are live here."""
        for said in self.store.verdicts():
            if self._versions.get(said.model) == said.version:
                labels = said.model, said.version
                bounds = {"value": said.value, "low": said.low, "high": said.high}
                for bound, figure in bounds.items():
                    metrics.LIVE_QUALITY.labels(*labels, said.metric, bound).set(figure)
                metrics.LIVE_PROMISE.labels(*labels, said.metric).set(said.promise)
                metrics.LIVE_BROKEN.labels(*labels).set(said.broken)
                metrics.LIVE_ROWS.labels(*labels).set(said.rows)
                metrics.LIVE_JUDGED.labels(*labels).set(said.at)

    def flush(self) -> None:
        """Store what was captured before this was called."""
        with self._writing:
            self._dropped["sampled_out"].inc(max(0, self._sampler.skipped()))
            taken = [self._buffer.popleft() for _ in range(len(self._buffer))]
            if not taken:
                return
            lines: list[Line] = []
            for i, each in enumerate(taken):
                if i % ROWS_AT_ONCE == 0:
                    time.sleep(0)  # lets go of the interpreter, which the event loop waits for
                lines.append(self._line(each))
            try:
                self.store.write(lines)
                self._written.inc(len(lines))
            except Exception as error:  # noqa: BLE001 - the log must not end the thread
                self._dropped["store_failed"].inc(len(lines))
                self._complain(error)

    def _line(self, taken: _Taken) -> Line:
        model = taken.endpoint.model
        signature = model.signature
        cells = taken.cells
        if isinstance(cells, bytes):
            cells = np.frombuffer(cells).tolist()
        elif isinstance(cells, np.ndarray):
            # float32 as it is written: 0.1 and not 0.10000000149
            cells = [float(str(value)) for value in cells]
        columns = dict(zip(signature.names, cells, strict=True))
        for name in signature.sensitive:
            columns.pop(name, None)
        if not isinstance(taken.cells, bytes):  # in which there is no NaN
            columns = {name: None if cell != cell else cell for name, cell in columns.items()}  # noqa: PLR0124
        if self._key:
            sensitive = taken.sensitive or tuple(
                dict(zip(signature.names, cells, strict=True)).get(name) for name in signature.sensitive
            )
            for name, cell in zip(signature.sensitive, sensitive, strict=True):
                columns[name] = hash_of(self._key, cell)
        return Line(
            taken.id,
            taken.row,
            taken.rows,
            f"{second(int(taken.at))}.{int(taken.at % 1 * 1000):03d}+00:00",
            model.name,
            model.version,
            taken.endpoint.name,
            columns,
            taken.prediction,
            taken.scores.tolist(),
        )

    def _complain(self, error: Exception, what: str = "the prediction log lost rows") -> None:
        if time.monotonic() - self._complained >= COMPLAIN_EVERY_S:
            self._complained = time.monotonic()
            logger.warning("%s, serving goes on: %s", what, error)

    def close(self) -> None:
        """Store what is left and end the thread."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
            self.flush()
        self.store.close()


def _predicted(query: Any, scores: Scores, row: int) -> Any:
    """The label or number of one row of a batch, as its reply had it."""
    if query.threshold is None:
        return scores.labels(row, row + 1)[0]
    return labels(scores.signature, scores.values[row : row + 1], query.threshold)[0]


def _own_id(body: bytes) -> str | None:
    """The id that our reply has, if it has one of ours."""
    start = body.rfind(b'"id":"%s-' % ID_PREFIX.encode())
    return None if start < 0 else body[start + 6 : body.index(b'"', start + 6)].decode()


def _cell(cell: Any) -> Any:
    """A cell as JSON has it, not too long."""
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "replace")
    if isinstance(cell, str):
        return cell[:MOST_TEXT].encode("utf-8", "replace").decode()
    if cell is None or isinstance(cell, (bool, float)) or (isinstance(cell, int) and abs(cell) < 2**63):
        return cell
    return str(cell)[:MOST_TEXT]


# ---- a folder


class Folder:
    """JSON lines in files of this process's own; the folder may be shared by many.

    `predictions-TIME-HOST-PID-PREFIX-NUMBER.jsonl`, and beside each, once there is some, `feedback-...` of
    its rows, which any process may add to under a lock.
    """

    def __init__(self, path: Path, *, file_bytes: int, file_s: float) -> None:
        self.path = path
        self._file_bytes, self._file_s = file_bytes, file_s
        self._file: BufferedWriter | None = None
        self._opened = 0.0
        self._count = 0
        host = re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:60]
        self._name = f"{host}-{os.getpid()}-{ID_PREFIX}"

    def write(self, lines: Sequence[Line]) -> None:
        """See `Store`."""
        content = b"".join(_encode(line) + b"\n" for line in lines)
        try:
            file = self._open()
            end = file.seek(0, os.SEEK_END)
            try:
                file.write(content)
                file.flush()
            except OSError:
                self.close()  # a full disk takes half a line
                os.truncate(file.name, end)
                raise
            if end + len(content) >= self._file_bytes or time.monotonic() - self._opened >= self._file_s:
                self.close()
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror or error}") from error

    def _open(self) -> BufferedWriter:
        if self._file is None:
            self.path.mkdir(parents=True, exist_ok=True)
            self._count += 1
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            name = f"predictions-{stamp}-{self._name}-{self._count:06d}.jsonl"
            self._file = (self.path / name).open("xb")
            self._opened = time.monotonic()
        return self._file

    def close(self) -> None:
        """See `Store`."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # what it still holds does not fit
                file.close()

    def expire(self, days: float) -> None:
        """See `Store`."""
        oldest = _now() - 86_400 * days
        try:
            for path in self.path.glob("predictions-*.jsonl"):
                with suppress(FileNotFoundError):  # another process expires the same folder
                    if path.stat().st_mtime < oldest:
                        path.unlink()
                        feedback_file(path).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error

    def verdicts(self) -> list[Verdict]:
        """See `Store`."""
        try:
            return verdict.found_in(self.path)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error

    def find(self, id: str, row: int | None) -> Line | None:  # noqa: A002
        """See `Store`."""
        found = self._locate(id, row)
        return None if found is None else found[1]

    def _locate(self, id: str, row: int | None) -> tuple[Path, Line] | None:  # noqa: A002
        prefix, number = id.split("-")
        place = (int(number, 16), -1 if row is None else row)
        for path in sorted(self.path.glob(f"predictions-*-{prefix}-*.jsonl"), reverse=True):
            try:
                raw = _search(path, place)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StoreError(f"{path}: {error.strerror}") from error
            if raw is not None:
                return path, msgspec.json.decode(raw, type=Line)
        return None

    def tell(self, told: Sequence[Told]) -> list[Any]:
        """See `Store`."""
        from serving.prediction_log.feedback import add_to_files  # feedback imports this module

        places: list[Path] = []
        for line, _ in told:
            found = self._locate(line.id, line.row)
            if found is None:
                raise StoreError(f"{self.path}: the log of {line.id} has just expired")
            places.append(feedback_file(found[0]))
        try:
            return add_to_files(places, told)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}") from error


def feedback_file(log: Path) -> Path:
    """Where the actual values of a log's rows are."""
    return log.with_name("feedback-" + log.name.removeprefix("predictions-"))


def _search(path: Path, place: tuple[int, int]) -> bytes | None:
    """The line of (number of the id, row) in a file that is sorted by both; row -1 is the id's first line."""
    with path.open("rb") as file:
        low, high = 0, file.seek(0, os.SEEK_END)
        while low < high:  # the last byte from which the next whole line is before `place`
            middle = (low + high) // 2
            at, line = _line_from(file, middle)
            if not line or _place(line) >= place:
                high = middle
            else:
                low = at + len(line)
        _, line = _line_from(file, low)
        found = _place(line) if line else None
        if found is None or found[0] != place[0] or (place[1] >= 0 and found != place):
            return None
        return line


def _line_from(file: Any, start: int) -> tuple[int, bytes]:
    """The first line that begins at `start` or later, and where; b"" for none that is whole."""
    file.seek(max(0, start - 1))
    if start:
        file.readline()
    at = file.tell()
    line = file.readline()
    return at, line if line.endswith(b"\n") else b""


def _place(line: bytes) -> tuple[int, int]:
    found = _LINE.match(line)
    return (int(found[1], 16), int(found[2])) if found else (-1, -1)


def open_log(settings: Settings) -> PredictionLog | None:
    """The log that the settings ask for; None for none."""
    target = settings.prediction_log
    if not target:
        return None
    if target.startswith(POSTGRES):
        from serving.prediction_log.postgres import Postgres  # only where it is asked for

        return PredictionLog(Postgres(target), settings)
    store = Folder(
        Path(target).expanduser().resolve(),
        file_bytes=settings.prediction_log_file_mb * MIB,
        file_s=settings.prediction_log_file_s,
    )
    return PredictionLog(store, settings)
