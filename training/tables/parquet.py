"""A Parquet file as a table."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from training.tables.delimited import check_readable
from training.tables.pieces import digest_of_file, sampled_parquet
from training.tables.raw import DataError, first_line
from training.tables.reading import LookAt


def read_parquet(path: Path, max_rows: int | None = None) -> tuple[pd.DataFrame, str, tuple[LookAt, ...]]:
    """Read a Parquet file: the table, sha256 of the file, and what to tell where not all rows are read.

    Raises DataError.
    """
    check_readable(path)
    try:
        with pq.ParquetFile(path) as file:
            found = sampled_parquet(file, max_rows)
        frame = pd.read_parquet(path) if found is None else found[0].to_pandas()
    except Exception as error:  # noqa: BLE001 - pyarrow raises its own kinds, pandas others
        raise DataError(f"{path} is no Parquet file that can be read: {first_line(error)}.") from None
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    elif found is not None:
        frame = frame.reset_index(drop=True)
    frame.columns = pd.Index([str(name) for name in frame.columns])
    return frame, digest_of_file(path), () if found is None else (found[1].told,)
