"""The prediction log: rows with the values that came later are read, and a verdict is left there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from artifact import verdict
from artifact.logged import RANKED
from artifact.sealing import DamagedError, Sealing, UnknownKeyError, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from artifact.verdict import LiveVerdict


POSTGRES = ("postgresql://", "postgres://", "postgresql+psycopg://")

_KEY = re.compile(rb'\{"id":"([0-9a-f-]+)","row":(\d+),')


class NothingToJudgeError(Exception):
    """There are no rows, no promise or no readable log (exit code 2)."""

    exit_code = 2


class PublishError(Exception):
    """The verdict could not be written to the log (exit code 1)."""

    exit_code = 1


class Row(msgspec.Struct, frozen=True):
    """A logged row with the value that came later."""

    at: str
    version: str
    columns: dict[str, Any]
    scores: list[float]
    actual: Any


def read_log(target: str, name: str) -> Iterator[Row]:
    """The rows of a model that have feedback, from a folder or PostgreSQL.

    Raises
    ------
    NothingToJudgeError
        The log cannot be read.
    """
    if target.startswith(POSTGRES):
        return _read_postgres(target, name)
    return _read_folder(folder_of(target), name)


def folder_of(target: str) -> Path:
    """The folder of a log.

    Raises
    ------
    NothingToJudgeError
        The path is not a folder.
    """
    folder = Path(target).expanduser()
    if not folder.is_dir():
        raise NothingToJudgeError(
            f"{folder} is not a folder; --log takes the value that the server has in OKAMOCHI_PREDICTION_LOG"
        )
    return folder


def sealing_keys() -> Sealing | None:
    """The keys of an encrypted log, where the environment names their file."""
    path = os.environ.get("OKAMOCHI_LOG_KEYS", "").strip()
    return Sealing(Path(path).expanduser()) if path else None


class Opener:
    """Opens what is sealed, and gives the rest as it is.

    What cannot be opened is counted: one damaged line must not hide all others.
    """

    def __init__(self) -> None:
        self._sealing = sealing_keys()
        self._good = 0
        self._last = ""

    def __call__(self, said: dict[str, Any] | None) -> dict[str, Any] | None:
        if said is None or "sealed" not in said:
            return said
        try:
            found = opened(said, self._sealing)
        except UnknownKeyError as error:
            raise NothingToJudgeError(str(error)) from None
        except DamagedError as error:
            self._last = str(error)
            return None
        self._good += 1
        return found

    def done(self) -> None:
        """Refuse where nothing opened: that is a wrong key rather than damage."""
        if self._last and not self._good:
            raise NothingToJudgeError(self._last)


def _read_folder(folder: Path, name: str) -> Iterator[Row]:
    opener = Opener()
    for path in sorted(folder.glob("feedback-*.jsonl")):
        actual = outcomes_of(path, opener, name)
        for line in lines_of(path.with_name("predictions-" + path.name.removeprefix("feedback-"))):
            # Most rows have no feedback, and looking at the head of a line is a tenth of decoding it.
            key = key_of(line)
            found = opener(decode(line)) if key in actual else None
            if found is not None and key is not None and found.get("endpoint") != RANKED:
                yield Row(found["at"], found["version"], found["columns"], found["scores"], actual[key])
    opener.done()


def outcomes_of(path: Path, opener: Opener, name: str) -> dict[tuple[str, int], Any]:
    """What `feedback-*.jsonl` says of a model's rows, by id and row."""
    return {(said["id"], said["row"]): said["actual"] for said in opened_lines(path, opener, model=name)}


def opened_lines(path: Path, opener: Opener, **wanted: str) -> Iterator[dict[str, Any]]:
    """The lines of a file with these values, opened; those that cannot be read or opened are left out."""
    for line in lines_of(path):
        said = decode(line)
        if said is not None and wanted.items() <= said.items():
            found = opener(said)
            if found is not None:
                yield found


def key_of(line: bytes) -> tuple[str, int] | None:
    """The id and the row that a line of `predictions-*.jsonl` begins with."""
    head = _KEY.match(line)
    return (head[1].decode(), int(head[2])) if head else None


def lines_of(path: Path) -> list[bytes]:
    """The lines of a file of the log; none where it has expired.

    Raises
    ------
    NothingToJudgeError
        It cannot be read.
    """
    try:
        return path.read_bytes().splitlines()
    except FileNotFoundError:  # it has just expired
        return []
    except OSError as error:
        raise NothingToJudgeError(f"{path} cannot be read: {error.strerror}") from error


def decode(line: bytes) -> dict[str, Any] | None:
    """A line, or None where it is cut short."""
    try:
        found: dict[str, Any] = msgspec.json.decode(line)
    except msgspec.DecodeError:  # cut short when a disk was full or a server died
        return None
    return found


def _read_postgres(url: str, name: str) -> Iterator[Row]:
    import psycopg  # only for a log that is there

    opener = Opener()
    try:
        with (
            psycopg.connect(psycopg_url(url), connect_timeout=10) as found,
            found.cursor("okamochi_live") as cursor,
        ):
            cursor.execute(
                "SELECT to_char(p.at AT TIME ZONE 'UTC', 'YYYY-MM-DD'), p.version, p.columns, p.scores, "
                "f.actual, p.id, p.row FROM okamochi_predictions p JOIN okamochi_feedback f USING (id, row) "
                "WHERE p.model = %s AND p.endpoint <> %s ORDER BY p.at, p.id, p.row",
                (name, RANKED),
            )
            for at, version, columns, scores, actual, one, number in cursor:
                said = {"id": one, "row": number, "model": name}
                row = opener(said | stored_row(columns, scores, version) | {"at": at})
                told = opener(said | stored_outcome(actual))
                if row is not None and told is not None:
                    yield Row(row["at"], version, row["columns"], row["scores"], told["actual"])
            opener.done()
    except psycopg.errors.UndefinedTable:
        raise NothingToJudgeError("no server has written a prediction log to that database yet") from None
    except psycopg.Error as error:
        raise NothingToJudgeError(f"the prediction log cannot be read: {first_line(error)}") from error


def stored_row(columns: dict[str, Any], scores: list[float], version: str) -> dict[str, Any]:
    """A row of the table as a line of a folder is; only a sealed one has no scores."""
    if not scores:
        return {"version": version, **columns}
    return {"version": version, "columns": columns, "scores": scores}


def stored_outcome(actual: Any) -> dict[str, Any]:
    """The same of an outcome; only a sealed one is an object."""
    return actual if isinstance(actual, dict) else {"actual": actual}


def psycopg_url(url: str) -> str:
    """The URL without the driver that SQLAlchemy's spelling has."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def first_line(error: Exception) -> str:
    """Of an error of the database, which names the server and no password."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def publish(found: LiveVerdict, target: str) -> None:
    """Leave the verdict in the log, where every server that writes to it shows it in its metrics.

    Raises
    ------
    PublishError
        The log cannot be written.
    """
    try:
        if target.startswith(POSTGRES):
            _publish_postgres(found, target)
        else:
            verdict.leave(Path(target).expanduser(), found)
    except OSError as error:
        raise PublishError(f"the verdict cannot be written to {target}: {error.strerror}") from error


def _publish_postgres(said: LiveVerdict, url: str) -> None:
    import psycopg  # only for a log that is there

    try:
        with psycopg.connect(psycopg_url(url), connect_timeout=10) as found:
            found.execute(verdict.TABLE)
            found.execute(verdict.UPSERT, (said.model, msgspec.json.encode(said).decode()))
    except psycopg.Error as error:
        raise PublishError(f"the verdict cannot be written to the database: {first_line(error)}") from error
