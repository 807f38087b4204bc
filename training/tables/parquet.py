"""A Parquet file as a table."""

import hashlib
import io
from pathlib import Path

import pandas as pd

from training.tables.delimited import read_bytes
from training.tables.raw import DataError, first_line


def read_parquet(path: Path) -> tuple[pd.DataFrame, str]:
    """Read a whole Parquet file: the table, and sha256 of the file. Raises DataError."""
    content = read_bytes(path)
    try:
        frame = pd.read_parquet(io.BytesIO(content))
    except Exception as error:  # noqa: BLE001 - pyarrow raises its own kinds, pandas others
        raise DataError(f"{path} is no Parquet file that can be read: {first_line(error)}.") from None
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    frame.columns = pd.Index([str(name) for name in frame.columns])
    return frame, hashlib.sha256(content).hexdigest()
