"""The rows of the prediction log that a champion answered and a shadow scored, and their outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from training.decide.live_log import (
    POSTGRES,
    NothingToJudgeError,
    Opener,
    decode,
    first_line,
    folder_of,
    key_of,
    lines_of,
    opened_lines,
    outcomes_of,
    psycopg_url,
    stored_outcome,
    stored_row,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNKNOWN = msgspec.UNSET
"""The actual value of a row without feedback."""


class Pair(msgspec.Struct, frozen=True):
    """A row that the champion answered and the shadow scored.

    Parameters
    ----------
    at
        When it was answered: UTC, ISO 8601, to the millisecond.
    prediction, shadow_prediction
        The labels, or numbers.
    scores, shadow_scores
        As in the log: in the order of the model's classes.
    actual
        What the client said later; `UNKNOWN` without feedback.
    """

    at: str
    columns: dict[str, Any]
    prediction: Any
    scores: list[float]
    shadow_prediction: Any
    shadow_scores: list[float]
    actual: Any = UNKNOWN


def read_pairs(
    target: str, name: str, champion: str, shadow: str, *, known_only: bool = False
) -> Iterator[Pair]:
    """The pairs of two versions, from a folder or PostgreSQL.

    Parameters
    ----------
    known_only
        Leave out the rows without feedback.

    Raises
    ------
    NothingToJudgeError
        The log cannot be read.
    """
    if target.startswith(POSTGRES):
        return _read_postgres(target, name, champion, shadow, known_only=known_only)
    return _read_folder(folder_of(target), name, champion, shadow, known_only=known_only)


def _read_folder(folder: Path, name: str, champion: str, shadow: str, *, known_only: bool) -> Iterator[Pair]:
    opener = Opener()
    for path in sorted(folder.glob("shadows-*.jsonl")):
        part = path.name.removeprefix("shadows-")
        actual = outcomes_of(path.with_name(f"feedback-{part}"), opener, name)
        if known_only and not actual:
            continue
        scored = {
            (found["id"], found["row"]): (found["prediction"], found["scores"])
            for found in opened_lines(path, opener, model=name, version=shadow)
        }
        for line in lines_of(path.with_name(f"predictions-{part}")) if scored else ():
            key = key_of(line)
            if key not in scored or (known_only and key not in actual):
                continue
            row = opener(decode(line))
            if row is not None and row["version"] == champion:
                outcome = actual.get(key, UNKNOWN)
                told, scores = scored[key]
                yield Pair(row["at"], row["columns"], row["prediction"], row["scores"], told, scores, outcome)
    opener.done()


def _read_postgres(url: str, name: str, champion: str, shadow: str, *, known_only: bool) -> Iterator[Pair]:
    import psycopg  # only for a log that is there

    opener = Opener()
    try:
        with psycopg.connect(psycopg_url(url), connect_timeout=10) as found:
            there = found.execute("SELECT to_regclass('okamochi_shadows') IS NOT NULL").fetchone()
            if there is None or not there[0]:
                return  # no server with a shadow has written to this database yet
            with found.cursor("okamochi_pairs") as cursor:
                cursor.execute(
                    "SELECT id, row, to_char(p.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS+00:00'), "
                    "p.columns, p.prediction, p.scores, s.prediction, s.scores, f.id IS NOT NULL, f.actual "
                    "FROM okamochi_shadows s JOIN okamochi_predictions p USING (id, row) "
                    "LEFT JOIN okamochi_feedback f USING (id, row) "
                    "WHERE s.model = %s AND p.model = s.model AND p.version = %s AND s.version = %s "
                    "AND (f.id IS NOT NULL OR NOT %s) ORDER BY p.at, id, row",
                    (name, champion, shadow, known_only),
                )
                for one, row, at, *cells in cursor:
                    pair = _pair_of({"id": one, "row": row, "model": name}, cells, (champion, shadow), opener)
                    if pair is not None:
                        yield msgspec.structs.replace(pair, at=at)
            opener.done()
    except psycopg.Error as error:
        raise NothingToJudgeError(f"the prediction log cannot be read: {first_line(error)}") from error


def _pair_of(
    head: dict[str, Any], cells: list[Any], versions: tuple[str, str], opener: Opener
) -> Pair | None:
    """A row of the tables; None where a part of it cannot be opened. What is sealed has no scores."""
    columns, answer, scores, told, shadow_scores, known, actual = cells
    row = opener(head | {"prediction": answer} | stored_row(columns, scores, versions[0]))
    shadow = opener(
        head
        | {"version": versions[1]}
        | ({"prediction": told, "scores": shadow_scores} if shadow_scores else told)
    )
    said = opener(head | stored_outcome(actual)) if known else None
    if row is None or shadow is None or (known and said is None):
        return None
    outcome = UNKNOWN if said is None else said["actual"]
    return Pair(
        "", row["columns"], row["prediction"], row["scores"], shadow["prediction"], shadow["scores"], outcome
    )
