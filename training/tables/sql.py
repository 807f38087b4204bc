"""A query's result as a table."""

import os
import re
from pathlib import Path

import pandas as pd

from training.settings import Sql
from training.tables.raw import DataError, first_line


def read_sql(source: Sql, folder: Path) -> pd.DataFrame:
    """Run the query of a source. Raises DataError: no driver, no database, a query that fails."""
    import sqlalchemy as sa  # only this source needs it

    written = os.path.expandvars(source.url)
    unset = re.search(r"\$\{?(\w+)\}?", written)
    if unset:
        raise DataError(f"source.url names the environment variable {unset[1]}, which is not set.")
    try:
        url = sa.make_url(written)
    except sa.exc.ArgumentError:
        raise DataError(
            "source.url is no database URL; expected such as postgresql+psycopg://host/db."
        ) from None
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        path = folder / url.database
        if not path.is_file():
            raise DataError(f"{path}: there is no such database; source.url is relative to the TOML file.")
        url = url.set(database=str(path))
    try:
        engine = sa.create_engine(url)
        try:
            with engine.connect() as connection:
                return pd.read_sql(sa.text(source.query), connection)
        finally:
            engine.dispose()
    except ModuleNotFoundError as error:
        raise DataError(
            f"source.url needs the database driver {error.name}, which is not installed."
        ) from None
    except (sa.exc.SQLAlchemyError, pd.errors.DatabaseError) as error:
        cause = error.__cause__ or error  # pandas wraps what the database said
        reason = first_line(getattr(cause, "orig", None) or cause)
        raise DataError(
            f"The query of [source] failed at {url.render_as_string(hide_password=True)}: {reason}."
        ) from None
