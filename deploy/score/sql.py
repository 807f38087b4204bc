"""Tables of a database: a query is read with a server-side cursor, and one transaction writes all rows.

A query whose rows have a key goes on behind the last key that is done. The transaction that writes the output
also writes a line into the table `okamochi_scored`, so a run that was killed after its commit writes nothing
twice.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import sqlalchemy as sa

from deploy.score import files
from deploy.score.errors import ScoringError, TableError
from deploy.score.files import Source
from training.tables.address import reason_of, shown, url_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MARKS = sa.Table(
    "okamochi_scored",
    sa.MetaData(),
    sa.Column("run", sa.String(32), primary_key=True),
    sa.Column("output", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("finished", sa.DateTime(timezone=True), nullable=False),
)
"""What was written by `deploy score` into this database."""
INSERTED_AT_ONCE = 5_000
KEYS: dict[str, tuple[type, Any]] = {
    "int": (int, int), "str": (str, str), "datetime": (dt.datetime, dt.datetime.fromisoformat),
    "date": (dt.date, dt.date.fromisoformat), "decimal": (Decimal, Decimal), "uuid": (uuid.UUID, uuid.UUID),
}  # fmt: skip
PLAIN = (bool, int, float, str, bytes, dt.date, dt.time, dt.timedelta, Decimal)


@dataclass(frozen=True)
class Address:
    """A database and a table of it, as `postgresql://me:$PGPASSWORD@host/shop?table=sales.orders`."""

    url: sa.URL
    table: str | None

    @property
    def shown(self) -> str:
        """Without the password."""
        return shown(self.url) + (f" {self.table}" if self.table else "")

    @property
    def parts(self) -> tuple[str, str | None]:
        """The table's name and its schema."""
        schema, _, name = (self.table or "").rpartition(".")
        return name, schema or None


def address_of(written: str, *, there: bool = True) -> Address:
    """Read an address.

    Parameters
    ----------
    there
        Whether an SQLite file has to exist.

    Raises
    ------
    DataError
        It is not the URL of a database, or a variable in it is not set.
    """
    url = url_of(written, "the address", Path(), there=there)
    table = url.query.get("table")
    return Address(url.difference_update_query(["table"]), table if isinstance(table, str) else None)


@contextmanager
def _engine(address: Address) -> Iterator[sa.Engine]:
    """An engine of the database; its errors are told without the statement and its values.

    Raises
    ------
    ScoringError
    """
    try:
        engine = sa.create_engine(address.url)
    except (ModuleNotFoundError, sa.exc.SQLAlchemyError) as error:
        missing = f"the driver {error.name} is not installed" if isinstance(error, ImportError) else error
        raise TableError(f"{shown(address.url)}: {missing}") from None
    if address.url.get_backend_name() == "sqlite":
        # Python's driver begins no transaction before it makes a table, unless it is told to begin one.
        sa.event.listen(engine, "connect", _without_transactions_of_its_own)
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    try:
        yield engine
    except sa.exc.SQLAlchemyError as error:
        raise ScoringError(f"{address.shown}: {reason_of(error)}") from None
    finally:
        engine.dispose()


def _without_transactions_of_its_own(connection: Any, _record: Any) -> None:
    connection.isolation_level = None


# ------------------------------------------------------------------------------------------------- reading


def open_query(address: Address, query: str | None, key: str | None) -> Source:
    """A table or a query as a source, in the order of its key.

    Parameters
    ----------
    query
        None: the whole table of the address.
    key
        A column that is unique and never NULL; None: the primary key of a table, if that is one column.

    Raises
    ------
    TableError
        There is no such table or column, or the query fails.
    """
    if (query is None) == (address.table is None):
        raise TableError(f"{address.shown}: name either a table (?table=NAME) or a --query")
    try:
        with _engine(address) as engine, engine.connect() as connection:
            if query is None:
                name, schema = address.parts
                key = key or _primary_key(connection, name, schema)
                rows: Any = sa.table(name, schema=schema)
            else:
                # Escaped, a colon begins no parameter. The line breaks end a comment at the end of the query.
                inner = query.strip().rstrip(";").replace(":", "\\:")
                rows = sa.text(f"(\n{inner}\n) AS scored_rows")
            names = list(connection.execute(_select(rows).where(sa.false())).keys())
            files.check_names(names, f"the query at {shown(address.url)}" if query else address.shown)
            if key is not None and key not in names:
                raise TableError(f"{address.shown} has no column {key!r} for --key")
            total = connection.scalar(sa.select(sa.func.count()).select_from(rows))
    except ScoringError as error:
        raise TableError(str(error)) from None

    def chunks(mark: str | None = None) -> Iterator[tuple[pa.Table, str | None]]:
        statement = _select(rows)
        last = None if mark is None else _marked(mark)
        if key is not None:
            statement = statement.order_by(sa.column(key))
            if last is not None:
                statement = statement.where(sa.column(key) > last)
        place = names.index(key) if key is not None else 0
        with _engine(address) as engine, engine.connect() as connection:
            connection.execution_options(stream_results=True, max_row_buffer=files.CHUNK_ROWS)
            for part in connection.execute(statement).partitions(files.CHUNK_ROWS):
                if key is not None:
                    _check_keys([last, *(row[place] for row in part)], key, address)
                    last = part[-1][place]
                yield _arrow(names, part), None if key is None else _mark(last)

    return Source(
        address.shown,
        "sql",
        names,
        total,
        chunks,
        identity=[address.shown, query, key],
        keyed=key is not None,
    )


def _select(rows: Any) -> Any:
    return sa.select(sa.text("*")).select_from(rows)


def _primary_key(connection: sa.Connection, name: str, schema: str | None) -> str | None:
    try:
        columns = sa.inspect(connection).get_pk_constraint(name, schema)["constrained_columns"]
    except sa.exc.NoSuchTableError:
        return None  # perhaps a view; the query itself tells whether it is there
    return columns[0] if len(columns) == 1 else None


def _check_keys(keys: list[Any], key: str, address: Address) -> None:
    """Refuse keys that could lose a row when the reading goes on behind one of them."""
    for before, value in pairwise(keys):
        if (
            value is None
            or isinstance(value, bool)
            or not isinstance(value, tuple(t for t, _ in KEYS.values()))
        ):
            raise TableError(
                f"{address.shown}: the key {key!r} has {value!r}; expected a column of {', '.join(KEYS)} "
                "without NULL"
            )
        if before == value:
            raise TableError(
                f"{address.shown}: the key {key!r} has {value!r} twice; expected a unique column"
            )


def _mark(value: Any) -> str:
    kind = next(kind for kind, (type_, _) in KEYS.items() if isinstance(value, type_))
    return json.dumps([kind, value.isoformat() if isinstance(value, dt.date) else str(value)])


def _marked(mark: str) -> Any:
    kind, text = json.loads(mark)
    return KEYS[kind][1](text)


def _arrow(names: list[str], rows: Sequence[Any]) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table({name: _cells(list(column)) for name, column in zip(names, columns, strict=True)})


def _cells(cells: list[Any]) -> pa.Array:
    """An array of cells; cells of several types, or of a type that Arrow lacks, become text."""
    plain = [cell if cell is None or isinstance(cell, PLAIN) else _text(cell) for cell in cells]
    try:
        return pa.array(plain)
    except (pa.ArrowException, OverflowError):
        return pa.array([None if cell is None else _text(cell) for cell in cells], pa.string())


def _text(cell: Any) -> str:
    if isinstance(cell, (list, dict, tuple)):
        return msgspec.json.encode(cell, enc_hook=str).decode()
    return cell.hex() if isinstance(cell, bytes) else str(cell)


# ------------------------------------------------------------------------------------------------- writing


class TableOutput:
    """A table that gets all rows in one transaction; it is made, or it exists and has no rows.

    The chunks of an unfinished run are in a folder of the current directory, named after the table.
    """

    def __init__(self, address: Address) -> None:
        if address.table is None:
            raise TableError(f"{address.shown}: expected ?table=NAME behind the address of the output")
        self.address = address
        self.shown = address.shown
        self.beside = Path(address.table)

    def taken(self) -> bool:
        """Whether it exists and has rows."""
        if self._absent():
            return False
        with _engine(self.address) as engine, engine.connect() as connection:
            name, schema = self.address.parts
            if not sa.inspect(connection).has_table(name, schema):
                return False
            rows = sa.select(sa.literal(1)).select_from(sa.table(name, schema=schema)).limit(1)
            return connection.scalar(rows) is not None

    def committed(self, run: str) -> int | None:
        """The rows that a run has written; None before its commit."""
        if self._absent():
            return None
        with _engine(self.address) as engine, engine.connect() as connection:
            if not sa.inspect(connection).has_table(MARKS.name):
                return None
            found = connection.scalar(sa.select(MARKS.c.row_count).where(MARKS.c.run == run))
            return None if found is None else int(found)

    def _absent(self) -> bool:
        """Whether it is an SQLite file that does not exist yet; connecting would create it."""
        url = self.address.url
        return url.get_backend_name() == "sqlite" and not Path(url.database or "").exists()

    @contextmanager
    def sink(self, run: str, model: str, rows: int) -> Iterator[TableSink]:
        """Write rows in one transaction: at its end all of them are there, or none.

        Parameters
        ----------
        rows
            How many rows the input had, for the line in `okamochi_scored`.
        """
        with _engine(self.address) as engine, engine.begin() as connection:
            MARKS.create(connection, checkfirst=True)
            yield TableSink(connection, self.address)
            connection.execute(
                sa.insert(MARKS).values(
                    run=run, output=self.address.table, model=model, row_count=rows,
                    finished=dt.datetime.now(dt.UTC),
                )
            )  # fmt: skip


class TableSink:
    """The rows of one transaction."""

    def __init__(self, connection: sa.Connection, address: Address) -> None:
        self._connection, self._address = connection, address
        self._table: sa.Table | None = None

    def write(self, chunk: pa.Table) -> None:
        """Append rows.

        Raises
        ------
        TableError
            The table exists and lacks a column.
        """
        if self._table is None:
            self._table = self._made(chunk.schema)
        texts = [field.name for field in chunk.schema if isinstance(_type_of(field.type), sa.Text)]
        for batch in chunk.to_batches(INSERTED_AT_ONCE):
            rows = batch.to_pylist()
            for row in rows:
                row.update({name: _text(row[name]) for name in texts if not _is_text(row[name])})
            if rows:
                self._connection.execute(sa.insert(self._table), rows)

    def _made(self, schema: pa.Schema) -> sa.Table:
        name, where = self._address.parts
        metadata = sa.MetaData()
        if not sa.inspect(self._connection).has_table(name, where):
            table = sa.Table(
                name, metadata, *(sa.Column(each.name, _type_of(each.type)) for each in schema), schema=where
            )
            table.create(self._connection)
            return table
        table = sa.Table(name, metadata, schema=where, autoload_with=self._connection)
        lacking = [each.name for each in schema if each.name not in table.c]
        if lacking:
            raise TableError(f"{self._address.shown} exists and has no column {lacking[0]!r}")
        self._connection.execute(sa.delete(table))
        return table


def _is_text(cell: Any) -> bool:
    return cell is None or isinstance(cell, str)


def _type_of(kind: pa.DataType) -> sa.types.TypeEngine[Any]:
    if pa.types.is_boolean(kind):
        return sa.Boolean()
    if pa.types.is_integer(kind):
        return sa.BigInteger()
    if pa.types.is_floating(kind):
        return sa.Double()
    if pa.types.is_decimal(kind):
        return sa.Numeric(kind.precision, kind.scale)
    if pa.types.is_timestamp(kind):
        return sa.DateTime(timezone=kind.tz is not None)
    if pa.types.is_date(kind):
        return sa.Date()
    if pa.types.is_time(kind):
        return sa.Time()
    return sa.LargeBinary() if pa.types.is_binary(kind) else sa.Text()
