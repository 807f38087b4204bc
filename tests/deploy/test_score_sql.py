"""Rows of a database are scored into a table or a file: each once, in order, in bounded memory."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import time
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from artifact.program import artifact_of
from deploy.__main__ import main
from deploy.score import files, sql
from deploy.score.errors import ScoringError, TableError
from deploy.score.rows import Asked
from deploy.score.run import Job, Outcome, score_table
from deploy.score.sql import address_of
from tests.serving.artifacts import Made, iris
from training.tables.raw import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOWERS = "select *, 'at 12:30' as said from flowers -- all of them;"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return iris(tmp_path_factory.mktemp("iris") / "iris")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "CHUNK_ROWS", 37)


@pytest.fixture(params=["postgresql", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An address of an empty database; a schema of its own in PostgreSQL."""
    if request.param == "sqlite":
        sqlite3.connect(tmp_path / "shop.db").close()
        yield "sqlite:///shop.db"
        return
    with own_database(request.getfixturevalue("postgres_url")) as url:
        yield url


class own_database:  # noqa: N801 - a context manager
    def __init__(self, url: str) -> None:
        self.server, self.name = url, f"d{uuid.uuid4().hex[:12]}"

    def __enter__(self) -> str:
        self._do(f"create database {self.name}")
        return self.server.rpartition("/")[0] + f"/{self.name}"

    def __exit__(self, *_: object) -> None:
        self._do(f"drop database {self.name} with (force)")

    def _do(self, statement: str) -> None:
        engine = sa.create_engine(self.server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()


def frame_of(made: Made, rows: int = 200) -> pd.DataFrame:
    """Rows in another order than their ids; those whose id ends in 9 are refused."""
    found = [made.rows[i % len(made.rows)] for i in range(rows)]
    frame = pd.DataFrame(found, columns=list(made.signature.names)).assign(id=range(rows))
    frame.loc[frame["id"] % 10 == 9, "petal_width"] = np.nan
    return frame.sample(frac=1, random_state=1)


def cells_of(made: Made) -> list[str]:
    """The model's first row, as columns of a query."""
    return [f"{cell} as {name}" for name, cell in zip(made.signature.names, made.rows[0], strict=True)]


def fill(url: str, frame: pd.DataFrame, name: str = "flowers", *, key: bool = True) -> None:
    with_engine(url, lambda connection: frame.to_sql(name, connection, index=False))
    if key and url.startswith("postgresql"):
        with_engine(url, lambda c: c.execute(sa.text(f"alter table {name} add primary key (id)")))


def with_engine(url: str, do: Any) -> Any:
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            return do(connection)
    finally:
        engine.dispose()


def rows_of(url: str, query: str) -> list[dict[str, Any]]:
    return with_engine(url, lambda c: [dict(row) for row in c.execute(sa.text(query)).mappings()])


def score(made: Made, table: str | Path, output: str | Path, **options: Any) -> Outcome:
    source = table if isinstance(table, Path) else address_of(table)
    target = output if isinstance(output, Path) else address_of(output, there=False)
    finished = options.pop("finished", lambda: None)
    return score_table(source, target, Job(artifact_of(made.path)[0], **options), finished=finished)


def check(made: Made, found: list[dict[str, Any]], rows: int) -> None:
    ids = [i for i in range(rows) if i % 10 != 9]
    assert [each["id"] for each in found] == ids
    expected = made.labels([made.rows[i % len(made.rows)] for i in ids])
    assert [each["prediction"] for each in found] == expected


def test_a_table_becomes_another_with_the_refused_rows_apart(made: Made, database: str) -> None:
    fill(database, frame_of(made))
    found = score(
        made, f"{database}?table=flowers", f"{database}?table=scored", key="id",
        asked=Asked(("id", "petal_length"), probabilities=True),
    )  # fmt: skip
    assert (found.rows, found.refused) == (200, 20)
    written = rows_of(database, "select * from scored")
    check(made, written, 200)
    assert list(written[0]) == [
        "id",
        "petal_length",
        "prediction",
        *(f"probability_{c}" for c in made.signature.classes),
    ]
    assert found.refused_file is not None
    refused = [json.loads(line) for line in found.refused_file.read_text().splitlines()]
    assert [each["record"]["id"] for each in refused] == [i for i in range(200) if i % 10 == 9]
    assert [each["column"] for each in refused[0]["errors"]] == ["petal_width"]
    (mark,) = rows_of(database, "select output, model, row_count from okamochi_scored")
    assert (mark["output"], mark["row_count"]) == ("scored", 200)
    assert mark["model"].startswith("iris ")
    assert sorted(path.name for path in Path().iterdir() if path.suffix != ".db") == ["scored.refused.jsonl"]


def test_a_query_becomes_a_file_and_a_file_a_table(made: Made, database: str, tmp_path: Path) -> None:
    fill(database, frame_of(made), key=False)
    score(made, database, tmp_path / "out.parquet", query=FLOWERS, key="id")
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    check(made, found, 200)
    assert found[0]["said"] == "at 12:30"
    score(made, tmp_path / "out.parquet", f"{database}?table=back")
    back = rows_of(database, "select * from back")
    assert [each["id"] for each in back] == [each["id"] for each in found]
    assert [each["prediction_of_model"] for each in back] == [each["prediction"] for each in found]


def test_a_column_that_is_empty_at_first_has_the_type_of_its_later_values(
    made: Made, database: str, tmp_path: Path
) -> None:
    frame = frame_of(made, 120).sort_values("id")
    frame["late"] = [None] * 100 + [2.5] * 20
    frame["never"] = pd.Series([None] * 120, dtype=object)
    fill(database, frame)
    score(made, f"{database}?table=flowers", tmp_path / "out.parquet", key="id")
    found = pq.read_table(tmp_path / "out.parquet").to_pandas()
    assert found["late"].dropna().unique().tolist() == [2.5]
    assert found["never"].isna().all()


def test_every_type_of_postgresql_is_kept_or_told_as_text(made: Made, postgres_url: str) -> None:
    cells = [
        *cells_of(made),
        "1.50::numeric as price",
        "now()::timestamptz as at",
        "date '2024-02-29' as day",
        "true as flag",
        "array[1, 2] as list",
        "'{\"a\": 1}'::json as doc",
        "'6f1c7d5e-0000-4000-8000-000000000001'::uuid as one",
        "'\\x00ff'::bytea as raw",
    ]
    query = f"select i as id, {', '.join(cells)} from generate_series(1, 3) i"  # noqa: S608 - our own words
    with own_database(postgres_url) as url:
        score(made, url, f"{url}?table=typed", query=query, key="id")
        row = rows_of(url, "select * from typed")[0]
    assert row["price"] == Decimal("1.50")
    assert row["at"].astimezone(UTC).date() == datetime.now(UTC).date()
    assert (row["day"].isoformat(), row["flag"], bytes(row["raw"])) == ("2024-02-29", True, b"\x00\xff")
    assert json.loads(row["list"]) == [1, 2]
    assert json.loads(row["doc"]) == {"a": 1}
    assert row["one"] == "6f1c7d5e-0000-4000-8000-000000000001"


def in_child(*arguments: Any, **options: Any) -> multiprocessing.Process:
    child = multiprocessing.get_context("fork").Process(target=score, args=arguments, kwargs=options)
    child.start()
    return child


@pytest.mark.deep
def test_killed_at_random_moments_it_loses_and_doubles_nothing(
    made: Made, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL while it reads, scores and inserts; nobody sees a part of the output."""
    monkeypatch.setattr(files, "CHUNK_ROWS", 20)
    rows = 2_000
    fill(database, frame_of(made, rows))
    table, output = f"{database}?table=flowers", f"{database}?table=scored"
    chance = np.random.default_rng(5)
    kills, done = 0, set()

    def parts() -> int:
        return len(list(Path("scored.parts").glob("*.part")))

    while kills < 12:
        # The first kills come once a few more chunks are done, the others at any time.
        more = parts() + int(chance.integers(2, 8))
        child = in_child(made, table, output, key="id")
        while child.is_alive() and parts() < more and kills < 6:
            time.sleep(0.001)
        child.join(chance.uniform(0, 0.02 if kills < 6 else 0.5))
        ended = not child.is_alive()
        if not ended:
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.join()
        if ended:
            break
        done.add(parts())
        there = rows_of(database, sa_tables(database))
        if any(each["name"] == "scored" for each in there):
            (count,) = rows_of(database, "select count(*) as n from scored")
            assert count["n"] == rows - rows // 10
    assert len(done) > 1, "it never went on from where it was"
    if Path("scored.parts").exists():
        score(made, table, output, key="id")
    check(made, rows_of(database, "select * from scored"), rows)
    refused = [json.loads(line) for line in Path("scored.refused.jsonl").read_text().splitlines()]
    assert [each["row"] for each in refused] == [i + 1 for i in range(rows) if i % 10 == 9]


def sa_tables(url: str) -> str:
    if url.startswith("sqlite"):
        return "select name from sqlite_master where type = 'table'"
    return "select table_name as name from information_schema.tables where table_schema = 'public'"


def test_a_run_that_was_killed_behind_its_commit_writes_nothing_again(made: Made, database: str) -> None:
    fill(database, frame_of(made))
    table, output = f"{database}?table=flowers", f"{database}?table=scored"

    def killed() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(made, table, output, key="id", finished=killed)
    more = frame_of(made, 201).query("id == 200")
    with_engine(database, lambda c: more.to_sql("flowers", c, index=False, if_exists="append"))
    found = score(made, table, output, key="id")
    assert (found.rows, found.refused) == (200, 20)
    check(made, rows_of(database, "select * from scored"), 200)
    assert not Path("scored.parts").exists()


def test_rows_that_come_while_it_is_away_are_read_behind_the_last_key(
    made: Made, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gap between chunks that several processes have done is filled, and no chunk is divided twice."""
    fill(database, frame_of(made))
    table, output = f"{database}?table=flowers", Path("out.parquet")

    with monkeypatch.context() as patched:
        patched.setattr("deploy.score.run._assemble", fails)
        with pytest.raises(ScoringError, match="the same command goes on"):
            score(made, table, output, key="id")
    (Path("out.parquet.parts") / "00000002.part").unlink()
    more = frame_of(made, 230).query("id >= 200")
    with_engine(database, lambda c: more.to_sql("flowers", c, index=False, if_exists="append"))
    found = score(made, table, output, key="id")
    assert (found.found, found.rows) == (2, 230)
    check(made, pq.read_table(output).to_pylist(), 230)


def fails(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def test_without_a_key_a_run_begins_anew(made: Made, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(database, frame_of(made), key=False)
    with monkeypatch.context() as patched:
        patched.setattr("deploy.score.run._assemble", fails)
        with pytest.raises(ScoringError, match="Without a --key the same command begins anew"):
            score(made, f"{database}?table=flowers", f"{database}?table=scored")
    found = score(made, f"{database}?table=flowers", f"{database}?table=scored")
    assert (found.found, found.rows) == (0, 200)
    assert rows_of(database, "select count(*) as n from scored") == [{"n": 180}]


def test_rows_of_another_are_replaced_only_if_that_is_asked_for(made: Made, database: str) -> None:
    fill(database, frame_of(made, 50))
    table, output = f"{database}?table=flowers", f"{database}?table=scored"
    with_engine(
        database, lambda c: c.execute(sa.text("create table scored (id bigint, prediction text, note text)"))
    )
    with_engine(database, lambda c: c.execute(sa.text("insert into scored values (1, 'x', 'y')")))
    kept = Asked(("id",))
    with pytest.raises(TableError, match="scored exists; --overwrite replaces it"):
        score(made, table, output, key="id", asked=kept)
    with pytest.raises(TableError, match="exists and has no column 'sepal_length'"):
        score(made, table, output, key="id", overwrite=True)
    assert rows_of(database, "select count(*) as n from scored") == [{"n": 1}]
    score(made, table, output, key="id", asked=kept, overwrite=True)
    check(made, rows_of(database, "select * from scored"), 50)


def test_a_long_table_is_never_in_memory_as_a_whole(
    made: Made, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """120 MB of text; the driver would hold all of it without a cursor in the server."""
    monkeypatch.setattr(files, "CHUNK_ROWS", 300)
    query = (
        f"select i as id, {', '.join(cells_of(made))}, repeat('x', 4000) as long "  # noqa: S608 - our own words
        "from generate_series(1, 30000) i"
    )

    def peak() -> int:
        with Path("/proc/self/status").open() as file:
            return int(next(line for line in file if line.startswith("VmHWM")).split()[1])

    def child() -> None:
        before = peak()
        found = score(made, postgres_url, Path("out.parquet"), query=query, key="id", asked=Asked(("id",)))
        Path("grown").write_text(json.dumps([found.rows, (peak() - before) // 1024]))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    rows, grown_mb = json.loads(Path("grown").read_text())
    assert rows == 30_000
    assert grown_mb < 80


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        ("?table=absent", {}, "absent"),
        ("", {}, r"name either a table \(\?table=NAME\) or a --query"),
        ("?table=flowers", {"query": "select 1"}, "name either a table"),
        ("", {"query": "selec 1"}, "syntax error"),
        ("?table=flowers", {"key": "idd"}, "has no column 'idd' for --key"),
        ("?table=flowers", {"key": "petal_length"}, "expected a column of int, str"),
        ("", {"query": "select *, 1 as one from flowers", "key": "one"}, "the key 'one' has 1 twice"),
        ("", {"query": "select *, null as nil from flowers", "key": "nil"}, "the key 'nil' has None"),
        ("", {"query": "select id, id from flowers"}, "twice|ambiguous|lacks"),
        ("?table=marks", {}, "lacks 'sepal_length'"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    made: Made, database: str, table: str, options: dict[str, Any], said: str
) -> None:
    fill(database, frame_of(made, 40))
    fill(database, pd.DataFrame({"id": [1]}), "marks")
    with pytest.raises(TableError, match=said) as caught:
        score(made, database + table, f"{database}?table=scored", **options)
    assert "[SQL" not in str(caught.value)
    assert "Background" not in str(caught.value)
    assert "scored" not in {each["name"] for each in rows_of(database, sa_tables(database))}


@pytest.mark.parametrize("place", ["table", "output"])
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://me:s3cret@127.0.0.1:9/shop?table=t&sslpassword=s3cret", "127.0.0.1"),
        ("mysql://me:s3cret@127.0.0.1/shop?table=t", "MySQLdb is not installed"),
        ("postgresql://me:$NOT_SET_AT_ALL@h/shop?table=t", "NOT_SET_AT_ALL, which is not set"),
        ("postgresql://me:s3cret@h:port/shop?table=t", "is no database URL"),
        ("oops://me:s3cret@h/shop?table=t", "oops"),
    ],
)
def test_no_message_has_a_password(
    made: Made, capsys: pytest.CaptureFixture[str], place: str, address: str, said: str
) -> None:
    frame_of(made).to_csv("in.csv", index=False)
    both = [address, "out.csv"] if place == "table" else ["in.csv", address]
    assert main(["score", str(made.path), *both, "--jobs", "1"]) in {1, 2}
    told = capsys.readouterr()
    assert said in told.err
    assert "s3cret" not in told.out + told.err
    kept = [path for path in Path().rglob("*") if path.is_file()]
    assert not [path for path in kept if b"s3cret" in path.read_bytes()]


def test_the_command_takes_the_password_from_the_environment(
    made: Made, postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "s3cret")
    with own_database(postgres_url) as url:
        fill(url, frame_of(made))
        address = url.replace("okamochi@", "okamochi:$SHOP_PASSWORD@").replace("+psycopg", "")
        assert (
            main(
                [
                    "score",
                    str(made.path),
                    f"{address}?table=flowers",
                    f"{address}?table=scored",
                    "--jobs",
                    "2",
                ]
            )
            == 0
        )
        check(made, rows_of(url, "select * from scored"), 200)
    told = capsys.readouterr()
    assert "200 rows; 20 were refused" in told.out
    assert "s3cret" not in told.out + told.err


def test_options_of_a_database_are_refused_for_a_file(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.jsonl").write_text("{}\n")
    assert main(["score", str(made.path), "in.jsonl", "out.jsonl", "--key", "id"]) == 2
    assert "--query and --key are for a database" in capsys.readouterr().err
    assert main(["score", str(made.path), "in.jsonl", "sqlite:///out.db?table=t"]) == 2
    assert "expected .jsonl for JSON lines" in capsys.readouterr().err
    assert main(["score", str(made.path), "in.jsonl", "sqlite:///out.db"]) == 2
    assert "expected ?table=NAME" in capsys.readouterr().err
    assert not Path("out.db").exists()


def test_an_address_says_where_a_variable_is_missing() -> None:
    with pytest.raises(DataError, match="the address names the environment variable NOT_SET_AT_ALL"):
        address_of("postgresql://$NOT_SET_AT_ALL/x")
    assert sql.address_of("postgresql://h/x?table=a.b").parts == ("b", "a")
