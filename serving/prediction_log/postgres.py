"""The prediction log in PostgreSQL: three tables that every server writes to, and one that training does."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from artifact import verdict
from artifact.sealing import SealedError, about_feedback, opened
from serving.prediction_log.record import NEW, Found, StoreError, sealed_line, sealed_shadow_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from artifact.sealing import Sealing
    from artifact.verdict import LiveVerdict
    from serving.prediction_log.record import Actual, Line, ShadowLine
    from serving.waiting import Until

CONNECT_S = 5
STATEMENT_S = 30.0  # the time limit of any statement; deleting a day of rows takes some seconds
TABLES = """
CREATE TABLE IF NOT EXISTS okamochi_predictions (
    id text NOT NULL, row integer NOT NULL, rows integer NOT NULL, at timestamptz NOT NULL,
    model text NOT NULL, version text NOT NULL, endpoint text NOT NULL, columns jsonb NOT NULL,
    prediction jsonb NOT NULL, scores jsonb NOT NULL, PRIMARY KEY (id, row));
CREATE INDEX IF NOT EXISTS okamochi_predictions_at ON okamochi_predictions (model, at);
CREATE TABLE IF NOT EXISTS okamochi_feedback (
    id text NOT NULL, row integer NOT NULL, actual jsonb NOT NULL, model text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (id, row),
    FOREIGN KEY (id, row) REFERENCES okamochi_predictions ON DELETE CASCADE);
ALTER TABLE okamochi_predictions ADD COLUMN IF NOT EXISTS role text NOT NULL DEFAULT 'champion';
CREATE TABLE IF NOT EXISTS okamochi_shadows (
    id text NOT NULL, row integer NOT NULL, at timestamptz NOT NULL, model text NOT NULL,
    version text NOT NULL, prediction jsonb NOT NULL, scores jsonb NOT NULL,
    PRIMARY KEY (id, row, version),
    FOREIGN KEY (id, row) REFERENCES okamochi_predictions ON DELETE CASCADE);
CREATE INDEX IF NOT EXISTS okamochi_shadows_at ON okamochi_shadows (model, at);
"""
INSERT = (
    "INSERT INTO okamochi_predictions "
    "(id, row, rows, at, model, version, endpoint, columns, prediction, scores, role) "
    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)
INSERT_SHADOW = """
INSERT INTO okamochi_shadows (id, row, at, model, version, prediction, scores)
SELECT n.* FROM (VALUES (%s::text, %s::integer, %s::timestamptz, %s, %s, %s::jsonb, %s::jsonb))
AS n (id, row, at, model, version, prediction, scores) JOIN okamochi_predictions p USING (id, row)
ON CONFLICT DO NOTHING
"""


class Postgres:
    """A `Store` in PostgreSQL. The writer keeps its connection; each query has its own."""

    def __init__(self, url: str, sealing: Sealing | None = None) -> None:
        import psycopg  # 12 MB that only this store needs

        self._psycopg = psycopg
        self._sealing = sealing
        self._url = url.replace("postgresql+psycopg://", "postgresql://", 1)
        self._writer: Any = None
        self._has_tables = False

    def _connect(self, statement_s: float = STATEMENT_S) -> Any:
        """A connection whose statements the database cancels after `statement_s` seconds."""
        try:
            connection = self._psycopg.connect(
                self._url,
                connect_timeout=min(CONNECT_S, max(1, math.ceil(statement_s))),
                autocommit=True,
                options=f"-c statement_timeout={max(1, math.ceil(1000 * statement_s))}",
            )
            if not self._has_tables:
                # Servers that start together make the tables one after the other.
                with connection.transaction():
                    connection.execute("SELECT pg_advisory_xact_lock(7460251)")
                    connection.execute(TABLES + verdict.TABLE)
                self._has_tables = True
        except self._psycopg.Error as error:
            raise StoreError(_said(error)) from error
        return connection

    def write(self, lines: Sequence[Line]) -> None:
        """See `Store`."""
        rows = [(*line.head, *self._cells(line), line.role) for line in lines]
        self._insert(INSERT, rows)

    def write_shadows(self, lines: Sequence[ShadowLine]) -> int:
        """See `Store`."""
        rows = [(*line.head[:-1], *self._shadow_cells(line)) for line in lines]  # the table has no role
        return self._insert(INSERT_SHADOW, rows)

    def _insert(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Insert rows, all or none; return how many were inserted."""
        if self._writer is None or self._writer.closed:
            self._writer = self._connect()
        try:
            with self._writer.transaction(), self._writer.cursor() as cursor:
                cursor.executemany(statement, rows)
                return int(cursor.rowcount)
        except self._psycopg.Error as error:
            self.close()
            raise StoreError(_said(error)) from error

    def _shadow_cells(self, line: ShadowLine) -> tuple[str, str]:
        """Prediction and scores; if they are sealed, they are in place of the prediction."""
        if self._sealing is None:
            return _json(line.prediction), _json(line.scores)
        found = sealed_shadow_line(line, self._sealing)
        return _json({"key": found.key, "sealed": found.sealed}), "[]"

    def _cells(self, line: Line) -> tuple[str, str, str]:
        """Columns, prediction and scores; if they are sealed, they are in place of the columns."""
        if self._sealing is None:
            return _json(line.columns), _json(line.prediction), _json(line.scores)
        found = sealed_line(line, self._sealing)
        return _json({"key": found.key, "sealed": found.sealed}), "null", "[]"

    def expire(self, days: float) -> None:
        """See `Store`."""
        with self._connection() as connection:
            connection.execute(
                "DELETE FROM okamochi_predictions WHERE at < now() - make_interval(secs => %s)",
                (86_400 * days,),
            )

    def find(self, wanted: Sequence[tuple[str, int | None]], until: Until) -> list[Found | None]:
        """See `Store`."""
        with self._connection(until) as connection:
            rows = connection.execute(
                "SELECT w.place, p.id, p.row, p.rows, p.model "
                "FROM unnest(%s::text[], %s::integer[]) WITH ORDINALITY AS w (id, row, place) "
                "JOIN LATERAL (SELECT id, row, rows, model FROM okamochi_predictions l "
                "WHERE l.id = w.id AND (l.row = w.row OR w.row IS NULL) ORDER BY l.row LIMIT 1) p ON true",
                ([one for one, _ in wanted], [row for _, row in wanted]),
            ).fetchall()
        found: list[Found | None] = [None] * len(wanted)
        for place, *row in rows:
            found[place - 1] = Found(*row)
        return found

    def add_actuals(self, actuals: Sequence[Actual], until: Until) -> list[Any]:
        """See `Store`."""
        known: dict[tuple[str, int], Any] = {}
        before: list[Any] = []
        # In one order, so that two requests never wait for each other.
        values = {(row.id, row.row): (actual, row.model) for row, actual in reversed(actuals)}
        keys = sorted(values)
        with self._connection(until) as connection, connection.transaction() as whole:
            inserted = connection.execute(
                "INSERT INTO okamochi_feedback (id, row, actual, model) "
                "SELECT * FROM unnest(%s::text[], %s::integer[], %s::jsonb[], %s::text[]) "
                "ON CONFLICT DO NOTHING RETURNING id, row",
                (
                    *_columns(keys),
                    [self._actual(key, *values[key]) for key in keys],
                    [values[key][1] for key in keys],
                ),
            ).fetchall()
            new = set(inserted)
            if len(new) < len(keys):
                rows = connection.execute(
                    "SELECT f.id, f.row, f.actual FROM okamochi_feedback f "
                    "JOIN unnest(%s::text[], %s::integer[]) AS w (id, row) USING (id, row)",
                    _columns([key for key in keys if key not in new]),
                ).fetchall()
                known = {
                    (one, row): self._opened((one, row), actual, values[one, row][1])
                    for one, row, actual in rows
                }
            for each in actuals:
                key = (each.row.id, each.row.row)
                before.append(known.get(key, NEW))
                known.setdefault(key, each.actual)
            if any(
                known is not NEW and known != each.actual for known, each in zip(before, actuals, strict=True)
            ):
                raise self._psycopg.Rollback(whole)
        return before

    def _actual(self, key: tuple[str, int], actual: Any, model: str) -> str:
        if self._sealing is None:
            return _json(actual)
        content = msgspec.json.encode({"actual": actual})
        return _json(self._sealing.seal(content, about_feedback(*key, model)))

    def _opened(self, key: tuple[str, int], stored: Any, model: str) -> Any:
        if not isinstance(stored, dict):  # no plain value is one
            return stored
        try:
            return opened(stored | {"id": key[0], "row": key[1], "model": model}, self._sealing)["actual"]
        except SealedError as error:
            raise StoreError(str(error)) from None

    def verdicts(self) -> list[LiveVerdict]:
        """See `Store`."""
        with self._connection() as connection:
            said = connection.execute(verdict.SELECT).fetchall()
        return [found for (row,) in said if (found := verdict.decode(msgspec.json.encode(row))) is not None]

    def _connection(self, until: Until | None = None) -> _ShortConnection:
        """A connection for one query, which is cancelled when the client no longer waits."""
        left_s = min(until.left_s, STATEMENT_S) if until is not None else STATEMENT_S
        return _ShortConnection(self._connect(left_s), self._psycopg.Error)

    def close(self) -> None:
        """See `Store`."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(self._psycopg.Error):
                writer.close()


def _columns(keys: list[tuple[str, int]]) -> tuple[list[str], list[int]]:
    return [one for one, _ in keys], [row for _, row in keys]


class _ShortConnection:
    """A connection for one query, whose errors are `StoreError`."""

    def __init__(self, connection: Any, error: type[Exception]) -> None:
        self._connection = connection
        self._error = error

    def __enter__(self) -> Any:
        return self._connection

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._connection.close()
        if isinstance(error, self._error):
            raise StoreError(_said(error)) from error


def _json(value: Any) -> str:
    # A text in PostgreSQL cannot hold NUL.
    return msgspec.json.encode(value).decode().replace("\\u0000", "\\ufffd")


def _said(error: BaseException) -> str:
    """The first line of an error of the database, which names the server and no password."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
