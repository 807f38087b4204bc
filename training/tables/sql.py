"""A query's result as a table."""

from pathlib import Path

import pandas as pd

from training.settings import Sql
from training.tables.address import reason_of, shown, url_of
from training.tables.raw import DataError


def read_sql(source: Sql, folder: Path) -> pd.DataFrame:
    """Run the query of a source. Raises DataError: no driver, no database, a query that fails."""
    import sqlalchemy as sa  # only this source needs it

    url = url_of(source.url, "source.url", folder)
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
        raise DataError(f"The query of [source] failed at {shown(url)}: {reason_of(error)}.") from None
