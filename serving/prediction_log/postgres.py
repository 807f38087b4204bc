"""The prediction log in PostgreSQL: two tables that every server writes to, and one that training does."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from artifact import verdict
from serving.prediction_log.record import NEW, Line, StoreError, Told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from artifact.verdict import Verdict

CONNECT_S = 5
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
"""


class Postgres:
    """A `Store` in PostgreSQL. The writer keeps its connection, each question has its own."""

    def __init__(self, url: str) -> None:
        import psycopg  # 12 MB that only this store needs

        self._psycopg = psycopg
        self._url = url.replace("postgresql+psycopg://", "postgresql://", 1)
        self._writer: Any = None

    def _connect(self) -> Any:
        try:
            connection = self._psycopg.connect(self._url, connect_timeout=CONNECT_S, autocommit=True)
            # Servers that start together make the tables one after the other.
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(7460251)")
                connection.execute(TABLES + verdict.TABLE)
        except self._psycopg.Error as error:
            raise StoreError(_said(error)) from error
        return connection

    def write(self, lines: Sequence[Line]) -> None:
        """See `Store`."""
        if self._writer is None or self._writer.closed:
            self._writer = self._connect()
        rows = [
            (
                line.id,
                line.row,
                line.rows,
                line.at,
                line.model,
                line.version,
                line.endpoint,
                _json(line.columns),
                _json(line.prediction),
                _json(line.scores),
            )
            for line in lines
        ]
        try:
            with self._writer.transaction(), self._writer.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO okamochi_predictions VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)", rows
                )
        except self._psycopg.Error as error:
            self.close()
            raise StoreError(_said(error)) from error

    def expire(self, days: float) -> None:
        """See `Store`."""
        with self._asked() as connection:
            connection.execute(
                "DELETE FROM okamochi_predictions WHERE at < now() - make_interval(secs => %s)",
                (86_400 * days,),
            )

    def find(self, id: str, row: int | None) -> Line | None:  # noqa: A002
        """See `Store`."""
        with self._asked() as connection:
            cursor = connection.cursor(row_factory=self._psycopg.rows.dict_row)
            found = cursor.execute(
                "SELECT * FROM okamochi_predictions WHERE id = %s AND (row = %s OR %s::integer IS NULL) "
                "ORDER BY row LIMIT 1",
                (id, row, row),
            ).fetchone()
        return None if found is None else msgspec.convert({**found, "at": found["at"].isoformat()}, Line)

    def tell(self, told: Sequence[Told]) -> list[Any]:
        """See `Store`."""
        before: list[Any] = []
        with self._asked() as connection, connection.transaction() as whole:
            for line, actual in told:
                inserted = connection.execute(
                    "INSERT INTO okamochi_feedback (id, row, actual, model) VALUES (%s, %s, %s, %s) "
                    "ON CONFLICT DO NOTHING RETURNING 1",
                    (line.id, line.row, _json(actual), line.model),
                ).fetchone()
                known = NEW
                if inserted is None:
                    known = connection.execute(
                        "SELECT actual FROM okamochi_feedback WHERE id = %s AND row = %s", (line.id, line.row)
                    ).fetchone()[0]
                before.append(known)
            if any(
                known is not NEW and known != each.actual for known, each in zip(before, told, strict=True)
            ):
                raise self._psycopg.Rollback(whole)
        return before

    def verdicts(self) -> list[Verdict]:
        """See `Store`."""
        with self._asked() as connection:
            said = connection.execute(verdict.SELECT).fetchall()
        return [found for (row,) in said if (found := verdict.decode(msgspec.json.encode(row))) is not None]

    def _asked(self) -> _Asked:
        return _Asked(self._connect(), self._psycopg.Error)

    def close(self) -> None:
        """See `Store`."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(self._psycopg.Error):
                writer.close()


class _Asked:
    """A connection for one question, whose errors are `StoreError`."""

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
    # A text of PostgreSQL holds no NUL.
    return msgspec.json.encode(value).decode().replace("\\u0000", "\\ufffd")


def _said(error: BaseException) -> str:
    """The first line of an error of the database, which names the server and no password."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
