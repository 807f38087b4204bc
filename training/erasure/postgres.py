"""A person's rows and feedback leave the tables of a prediction log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from training.decide.live_log import first_line, psycopg_url, stored_row
from training.erasure.found import Found, Place
from training.erasure.person import ErasureError

if TYPE_CHECKING:
    from training.erasure.person import Person

AT_ONCE = 1_000  # rows of one statement


def erase(url: str, person: Person, *, dry: bool = False) -> Found:
    """Remove a person's rows and feedback from a database, all or none.

    Raises
    ------
    ErasureError
        The database or its tables cannot be reached or written; nothing was removed.
    """
    import psycopg  # only for a log that is there

    found = Found()
    try:
        with psycopg.connect(psycopg_url(url), connect_timeout=10) as connection:
            keys = _search(connection, person, found)
            if keys:
                _remove(connection, keys, found, dry=dry)
        if found.places and not dry:
            with psycopg.connect(psycopg_url(url), connect_timeout=10, autocommit=True) as connection:
                # Until then, removed rows stay in the table's files.
                tables = ["okamochi_predictions", "okamochi_feedback"]
                if connection.execute("SELECT to_regclass('okamochi_shadows')").fetchone() != (None,):
                    tables.append("okamochi_shadows")  # its rows were deleted with the predictions
                connection.execute(f"VACUUM {', '.join(tables)}")
    except psycopg.errors.UndefinedTable:
        raise ErasureError("no server has written a prediction log to that database yet") from None
    except psycopg.Error as error:
        raise ErasureError(f"the prediction log cannot be read or changed: {first_line(error)}") from error
    return found


def _search(connection: Any, person: Person, found: Found) -> list[tuple[str, int]]:
    keys = []
    with connection.cursor("okamochi_forget") as cursor:
        cursor.execute("SELECT id, row, model, version, columns, scores FROM okamochi_predictions")
        for one, row, model, version, columns, scores in cursor:
            said = {"id": one, "row": row, "model": model, **stored_row(columns, scores, version)}
            if found.is_persons(person, said):
                keys.append((one, row))
    return keys


def _remove(connection: Any, keys: list[tuple[str, int]], found: Found, *, dry: bool) -> None:
    rows, feedback = Place("okamochi_predictions"), Place("okamochi_feedback")
    for start in range(0, len(keys), AT_ONCE):
        part = keys[start : start + AT_ONCE]
        given = [one for one, _ in part], [row for _, row in part]
        verb = "SELECT 1 FROM" if dry else "DELETE FROM"
        for table, place, count in (
            ("okamochi_feedback", feedback, "feedback"),
            ("okamochi_predictions", rows, "rows"),
        ):
            done = connection.execute(
                f"{verb} {table} WHERE (id, row) IN "  # noqa: S608 - both are from this function
                "(SELECT * FROM unnest(%s::text[], %s::integer[]))",
                given,
            )
            setattr(place, count, getattr(place, count) + done.rowcount)
    found.places += [rows] + [feedback] * (feedback.feedback > 0)
