"""The prediction log: one line for each row, written in the background.

Rows are captured on the event loop, at a limited rate, into a bounded buffer; a thread makes lines of them
and stores them. If the store is full or unreachable, lines are dropped and counted; no request fails.

The server's endpoints are wrapped (`PredictionLog.logged`); the wrapper captures their answers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from artifact.logged import MAX_TEXT, hash_of
from artifact.models_lock import CHAMPION
from artifact.raised import raised_at
from artifact.sealing import Sealing
from serving import ids
from serving.observe import metrics
from serving.observe.logs import second
from serving.observe.supervised import Supervised
from serving.prediction_log.folder import Folder
from serving.prediction_log.record import ID_HEADER, Line, StoreError
from serving.protocols.watched import Watched, each
from serving.scoring.sampler import Sampler
from serving.settings import MIB, POSTGRES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from artifact.signature import Signature
    from serving.prediction_log.record import ShadowLine, Store
    from serving.protocols import Endpoint, Reply
    from serving.scoring.scores import Scores
    from serving.settings import Settings

logger = logging.getLogger("bentoml.okamochi")

FLUSH_S = 0.5
EXPIRE_EVERY_S = 600.0
VERDICTS_EVERY_S = 30.0
BUFFERED_S = 10  # seconds of rows at the full rate, for a slow store
ROWS_AT_ONCE = 16  # rows encoded before the event loop gets its turn
COMPLAIN_EVERY_S = 60.0


class _Taken(NamedTuple):
    id: str
    row: int
    rows: int
    at: float
    model: str
    version: str
    endpoint: str
    signature: Signature
    role: str
    cells: Any  # by position: a list, an array of the matrix, or the bytes of `batcher.packer`
    sensitive: tuple[Any, ...]
    prediction: Any
    scores: NDArray[np.float64]


class Captured(NamedTuple):
    """The rows of a request that were taken for the log."""

    query: Any
    id: str
    rows: range


class PredictionLog:
    """Captures rows on the event loop, and stores them in a thread."""

    def __init__(self, store: Store, settings: Settings, sealing: Sealing | None = None) -> None:
        self.store = store
        self._sealing = sealing
        self._key = settings.hash_key
        self._days = settings.prediction_log_days
        self._sampler = Sampler(settings.prediction_log_rows_per_s)
        self._most = int(BUFFERED_S * settings.prediction_log_rows_per_s) + 1
        self._buffer: deque[_Taken] = deque()
        self._shadows: deque[ShadowLine] = deque()
        self.captured: Captured | None = None  # the latest; its reader compares the query and sets it to None
        self._writing = threading.Lock()
        self._complained = -COMPLAIN_EVERY_S
        self._written = metrics.PREDICTION_LOG_ROWS
        self._dropped = {
            reason: metrics.PREDICTION_LOG_DROPPED.labels(reason)
            for reason in ("sampled_out", "buffer_full", "store_failed")
        }
        self._versions: Callable[[], Mapping[str, str]] = dict  # of what is live here
        self._thread = Supervised("prediction_log", self._run)

    def start(self, versions: Callable[[], Mapping[str, str]] = dict) -> None:
        """Begin to store.

        Parameters
        ----------
        versions
            Returns the version of each live model.
        """
        self._versions = versions
        self._thread.start()

    def logged(self, endpoints: Mapping[str, Endpoint], role: str = CHAMPION) -> dict[str, Endpoint]:
        """The same endpoints, by path, wrapped to log answers with this role; tensors are not logged."""

        def wrapped(endpoint: Endpoint) -> Endpoint:
            if endpoint.model.signature.tensors is not None:
                return endpoint
            return Watched(endpoint, self._logging(endpoint, role))

        return each(endpoints, wrapped)

    def _logging(self, endpoint: Endpoint, role: str) -> Callable[[Any, Scores, int], Reply]:
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
            return self._capture(endpoint, query, scores, first, role=role, reply=reply, picked=rows)

        return answered

    def _capture(
        self,
        endpoint: Endpoint,
        query: Any,
        scores: Scores,
        first: int,
        *,
        role: str,
        reply: Reply,
        picked: range,
    ) -> Reply:
        if len(self._buffer) + len(picked) > self._most:
            self._dropped["buffer_full"].inc(len(picked))
            return reply
        found = None if getattr(query, "id", "") else _own_id(reply.body)
        if found is None:
            # MLflow's replies have no id, and a client's own id need not be unique.
            found = ids.new_id()
            reply = msgspec.structs.replace(reply, headers=(*reply.headers, (ID_HEADER, found.encode())))
        model = endpoint.model
        signature = model.signature
        rows, at = query.rows, time.time()
        raw = getattr(rows, "raw", None)
        packed, width = isinstance(rows, bytes), 8 * signature.width
        logged = getattr(endpoint, "logged", _logged)
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
                    model.name,
                    model.version,
                    endpoint.name,
                    signature,
                    role,
                    cells,
                    sensitive,
                    *logged(query, scores, first, row),
                )
            )
        self.captured = Captured(query, found, picked)
        return reply

    def add_shadow(self, line: ShadowLine) -> None:
        """Take what a shadow predicts for a row that was captured before; called from any thread."""
        if len(self._shadows) >= self._most:
            self._dropped["buffer_full"].inc()
        else:
            self._shadows.append(line)

    # ---- the thread

    def _run(self) -> None:
        expire_at = show_at = 0.0
        while not self._thread.ended.wait(FLUSH_S):
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
            except StoreError as error:
                self._complain(str(error), "the prediction log cannot be expired or read")

    def show_verdicts(self) -> None:
        """Publish the live-quality verdicts for the live versions as metrics."""
        versions = self._versions()
        for said in self.store.verdicts():
            if versions.get(said.model) == said.version:
                labels = said.model, said.version
                bounds = {"value": said.value, "low": said.low, "high": said.high}
                for bound, figure in bounds.items():
                    metrics.LIVE_QUALITY.labels(*labels, said.metric, bound).set(figure)
                metrics.LIVE_PROMISE.labels(*labels, said.metric).set(said.promise)
                metrics.LIVE_BROKEN.labels(*labels).set(said.broken)
                metrics.LIVE_ROWS.labels(*labels).set(said.rows)
                metrics.LIVE_JUDGED.labels(*labels).set(said.at)

    def holds(self, wanted: set[str]) -> bool:
        """Whether the buffer has a row with one of these ids."""
        return any(taken.id in wanted for taken in self._buffer.copy())

    def flush(self) -> None:
        """Store the rows that were captured before this call."""
        with self._writing:
            self._dropped["sampled_out"].inc(max(0, self._sampler.skipped()))
            # Before the rows, so that each line of a shadow finds its row stored.
            shadows = [self._shadows.popleft() for _ in range(len(self._shadows))]
            taken = [self._buffer.popleft() for _ in range(len(self._buffer))]
            if self._sealing is not None and (problem := self._sealing.refresh()):
                self._complain(problem, "new keys of the prediction log cannot be used")
            if taken:
                self._store(len(taken), lambda: self._write(taken))
            if shadows:
                self._store(len(shadows), lambda: self.store.write_shadows(shadows))

    def _store(self, lines: int, write: Callable[[], int]) -> None:
        """Write lines, and count those that are not stored; whoever calls it goes on."""
        stored = 0
        try:
            stored = write()
            self._written.inc(stored)
        except StoreError as error:
            self._complain(str(error))
        except Exception as error:  # noqa: BLE001 - the caller, such as feedback, goes on
            self._complain(raised_at(error))
        finally:
            if stored < lines:
                self._dropped["store_failed"].inc(lines - stored)

    def _write(self, taken: Sequence[_Taken]) -> int:
        lines = self._lines(taken)
        self.store.write(lines)
        return len(lines)

    def _lines(self, taken: Sequence[_Taken]) -> list[Line]:
        """The lines of rows; rows that cannot be encoded are left out."""
        lines: list[Line] = []
        for i, row in enumerate(taken):
            if i % ROWS_AT_ONCE == 0:
                time.sleep(0)  # releases the interpreter's lock for the event loop
            try:
                lines.append(self._line(row))
            except Exception as error:  # noqa: BLE001 - a bug loses this row only
                self._complain(raised_at(error))
        return lines

    def _line(self, taken: _Taken) -> Line:
        signature = taken.signature
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
            moment(taken.at),
            taken.model,
            taken.version,
            taken.endpoint,
            columns,
            taken.prediction,
            taken.scores.tolist(),
            taken.role,
        )

    def _complain(self, reason: str, what: str = "the prediction log lost rows") -> None:
        if time.monotonic() - self._complained >= COMPLAIN_EVERY_S:
            self._complained = time.monotonic()
            logger.warning("%s, serving goes on: %s", what, reason)

    def close(self) -> None:
        """Store the remaining rows and end the thread."""
        self._thread.close()
        if self._thread.started:
            self.flush()
        self.store.close()


def moment(at: float) -> str:
    """A time, in seconds since 1970, as the log writes it."""
    return f"{second(int(at))}.{int(at % 1 * 1000):03d}+00:00"


def _logged(query: Any, scores: Scores, first: int, row: int) -> tuple[Any, NDArray[np.float64]]:
    """The prediction and the scores of one row, as logged. An endpoint may have a `logged` of its own."""
    return _predicted(query, scores, first + row), scores.values[first + row].copy()


def _predicted(query: Any, scores: Scores, row: int) -> Any:
    """The label or number of one row of a batch, as its reply had it."""
    return scores.labels(row, row + 1, query.threshold)[0]


def _own_id(body: bytes) -> str | None:
    """The id in our reply, if it is one of ours."""
    start = body.rfind(b'"id":"%s-' % ids.PREFIX.encode())
    return None if start < 0 else body[start + 6 : body.index(b'"', start + 6)].decode()


def _cell(cell: Any) -> Any:
    """A cell as a JSON value, shortened to `MAX_TEXT` characters."""
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "replace")
    if isinstance(cell, str):
        return cell[:MAX_TEXT].encode("utf-8", "replace").decode()
    if cell is None or isinstance(cell, (bool, float)) or (isinstance(cell, int) and abs(cell) < 2**63):
        return cell
    return str(cell)[:MAX_TEXT]


def open_log(settings: Settings) -> PredictionLog | None:
    """The log that the settings configure; None if there is none."""
    target = settings.prediction_log
    if not target:
        return None
    sealing = Sealing(Path(settings.log_keys).expanduser()) if settings.log_keys else None
    if target.startswith(POSTGRES):
        from serving.prediction_log.postgres import Postgres  # imported only where it is configured

        return PredictionLog(Postgres(target, sealing), settings, sealing)
    store = Folder(
        Path(target).expanduser().resolve(),
        file_bytes=settings.prediction_log_file_mb * MIB,
        file_s=settings.prediction_log_file_s,
        sealing=sealing,
    )
    return PredictionLog(store, settings, sealing)
