"""PostgreSQL keeps what a folder keeps, by the same rules."""

from __future__ import annotations

from time import perf_counter

import pytest

from serving.prediction_log.postgres import Postgres
from serving.prediction_log.record import NEW, StoreError
from serving.waiting import Until
from tests.serving.prediction_log.rows import FOREVER, find, id_of, line, old_id_of, shadow_of, tell


def _database(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")


def test_postgresql_keeps_finds_and_forgets(postgres_url: str) -> None:
    store, other = Postgres(_database(postgres_url)), Postgres(_database(postgres_url))
    lines = [line(one, row, 2, "a\0b") for one in (id_of(900), old_id_of(901)) for row in (0, 1)]
    store.write(lines)
    assert find(other, lines[3].id, 1) == (lines[3].id, 1, 2)
    assert find(other, lines[0].id, None) == (lines[0].id, 0, 2)
    assert find(other, lines[0].id, 2) is None
    assert find(other, id_of(900)[:-1] + "f") is None
    wanted = [(lines[3].id, 1), ("0123456789ab-1", None), (lines[0].id, None), (lines[3].id, 1)]
    found = [row and (row.id, row.row, row.model) for row in other.find(wanted, FOREVER)]
    assert found == [(lines[3].id, 1, "iris"), None, (lines[0].id, 0, "iris"), (lines[3].id, 1, "iris")]
    assert tell(other, (lines[0], "a"), (lines[1], 2.5)) == [NEW] * 2
    assert tell(store, (lines[0], "a")) == ["a"]
    assert tell(store, (lines[2], "b"), (lines[0], "b")) == [NEW, "a"]
    assert tell(store, (lines[2], "c"), (lines[2], "c")) == [
        NEW,
        "c",
    ]  # nothing of the contradiction was kept
    assert tell(store, (lines[3], "c"), (lines[3], "d")) == [NEW, "c"]
    assert tell(store, (lines[3], "e")) == [NEW]
    store.expire(1)
    assert find(store, lines[0].id) is None
    store.close()


def test_what_a_shadow_predicts_stands_beside_its_row(postgres_url: str) -> None:
    """A row that was never stored gets none; feedback and expiry are the row's."""
    import psycopg

    store = Postgres(_database(postgres_url))
    lines = [line(id_of(0x30000), row, 2) for row in (0, 1)]
    store.write(lines)
    assert store.write_shadows([*map(shadow_of, lines), shadow_of(line(id_of(0x30001)))]) == 2
    assert store.write_shadows([shadow_of(lines[0])]) == 0
    assert tell(store, (lines[0], "a")) == [NEW]
    query = (
        "SELECT p.role, p.version, s.version, s.prediction, s.scores, f.actual FROM okamochi_predictions p "
        "JOIN okamochi_shadows s USING (id, row) JOIN okamochi_feedback f USING (id, row) WHERE p.id = %s"
    )
    with psycopg.connect(_database(postgres_url)) as connection:
        assert connection.execute(query, (lines[0].id,)).fetchall() == [
            ("champion", "4", "5", "b", [0.5], "a")
        ]
        store.expire(1)
        assert connection.execute(query, (lines[0].id,)).fetchall() == []
    store.close()


def test_a_thousand_rows_are_told_at_once(postgres_url: str) -> None:
    store = Postgres(_database(postgres_url))
    lines = [line(id_of(0x10000 + number)) for number in range(1000)]
    store.write(lines)
    assert tell(store, *((each, "a") for each in lines)) == [NEW] * 1000
    assert tell(store, *((each, "a") for each in reversed(lines))) == ["a"] * 1000
    store.close()


def test_a_question_lasts_no_longer_than_somebody_waits(postgres_url: str) -> None:
    """The server itself ends it, so that a lock in the database costs no thread for long."""
    import psycopg

    store = Postgres(_database(postgres_url))
    store.write([line(id_of(0x20000))])
    with psycopg.connect(_database(postgres_url)) as connection:
        connection.execute("LOCK TABLE okamochi_predictions")
        with pytest.raises(StoreError, match="statement timeout"):
            store.find([(id_of(0x20000), 0)], Until(perf_counter() + 0.2))
    assert find(store, id_of(0x20000)) == (id_of(0x20000), 0, 1)
    store.close()


def test_a_database_that_is_away_is_an_error_without_its_password() -> None:
    store = Postgres("postgresql+psycopg://okamochi:hidden@127.0.0.1:1/log")
    with pytest.raises(StoreError) as raised:
        store.write([line(1)])
    assert "hidden" not in str(raised.value)
    assert "127.0.0.1" in str(raised.value)
