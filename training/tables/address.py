"""The address of a database, as `[source]` of a use case and `deploy score` have it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from training.tables.raw import DataError, first_line

if TYPE_CHECKING:
    from pathlib import Path

    import sqlalchemy as sa


def url_of(written: str, key: str, folder: Path, *, there: bool = True) -> sa.URL:
    """The URL of a database; `$NAME` in it is read from the environment, so no file needs the password.

    Parameters
    ----------
    key
        What a message calls it, such as `source.url`.
    folder
        What the path of an SQLite file is relative to.
    there
        Whether an SQLite file has to exist.

    Raises
    ------
    DataError
        A variable is not set, the text is not a URL, or the file does not exist. No message has the URL
        itself, which may hold a password.
    """
    import sqlalchemy as sa  # takes 0.3 s

    found = os.path.expandvars(written)
    unset = re.search(r"\$\{?(\w+)\}?", found)
    if unset:
        raise DataError(f"{key} names the environment variable {unset[1]}, which is not set.")
    try:
        url = sa.make_url(found)
    except (sa.exc.ArgumentError, ValueError):
        raise DataError(f"{key} is no database URL; expected such as postgresql+psycopg://host/db.") from None
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")  # the driver that the locks have
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        path = folder / url.database
        if there and not path.is_file():
            raise DataError(f"{path}: there is no such database; {key} is relative to {folder}.")
        url = url.set(database=str(path))
    return url


def shown(url: sa.URL) -> str:
    """A URL without its password and options, which may be secrets too."""
    return url.set(query={}).render_as_string(hide_password=True)


def reason_of(error: BaseException) -> str:
    """What the database said, in one line, without the statement and its values."""
    cause = error.__cause__ or error  # pandas wraps what the database said
    return first_line(getattr(error, "orig", None) or getattr(cause, "orig", None) or cause)
