"""Where tables come from: a file, a database, OpenML, a set that ships with scikit-learn, generated rows.

Every source gives the table as it is: text cells for a delimited file, its own types otherwise.
"""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import URLError

import numpy as np
import pandas as pd

from artifact.nfc import nfc
from training.settings import Bundled, Csv, Images, OpenML, Parquet, Sql, Synthetic, UseCase
from training.tables.delimited import read_delimited
from training.tables.parquet import read_parquet
from training.tables.pictures import read_pictures, write_digits
from training.tables.raw import DataError, Raw, first_line
from training.tables.reading import from_keys
from training.tables.sql import read_sql
from training.tables.synthetic import generate
from training.tables.typed import with_plain_cells


def read_source(use_case: UseCase) -> Raw:
    """Read the source of a use case, whole or as many of its rows as can be held. Raises DataError."""
    source = use_case.source
    given = from_keys(use_case.read, use_case.formats)
    digest = ""
    match source:
        case Csv():
            return read_delimited(
                Path(source.path),
                use_case.read,
                columns=source.columns,
                given=given,
                max_rows=source.max_rows,
            )
        case Parquet():
            frame, digest, look_at = read_parquet(Path(source.path), source.max_rows)
            given = replace(given, look_at=(*given.look_at, *look_at))
        case Images():
            return read_pictures(Path(source.path), use_case.target, use_case.read, given)
        case Bundled(name="digit_pictures"):
            with TemporaryDirectory() as folder:
                write_digits(Path(folder))
                return read_pictures(Path(folder), use_case.target, use_case.read, given)
        case Bundled():
            frame = _read_bundled(source.name)
        case Synthetic():
            frame = generate(source.name)
        case OpenML():
            frame = _read_openml(source.id)
        case Sql():
            frame = read_sql(source, Path(use_case.file).parent)
        case None:
            raise DataError(
                f"{use_case.name} has no table: its model is unmeasured. Name rows that it has not seen: "
                '[source] with kind = "csv" and path = "test.csv".'
            )
    digest = digest or _frame_digest(frame)
    frame, told = with_plain_cells(frame)
    return Raw(in_nfc(frame), digest, replace(given, look_at=(*given.look_at, *told)))


def source_of(path: Path) -> Csv | Parquet | Images:
    """A file as a source, by its name or its first bytes; a folder is one of pictures."""
    if path.is_dir():
        return Images(path=str(path))
    parquet = path.suffix.lower() in {".parquet", ".pq"}
    if not parquet and path.is_file():
        with path.open("rb") as file:
            parquet = file.read(4) == b"PAR1"
    return Parquet(path=str(path)) if parquet else Csv(path=str(path))


def in_nfc(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with its names and texts in NFC, so that two spellings that look alike are one."""
    changed: dict[int, Any] = {}
    for place in range(frame.shape[1]):
        cells = frame.iloc[:, place]
        if isinstance(cells.dtype, pd.CategoricalDtype):
            cells = cells.astype(object)
        if not (pd.api.types.is_object_dtype(cells.dtype) or pd.api.types.is_string_dtype(cells.dtype)):
            continue
        spelt = {
            text: normal
            for text in {cell for cell in cells.array if isinstance(cell, str) and not cell.isascii()}
            if (normal := nfc(text)) != text
        }
        if spelt:
            changed[place] = cells.map(lambda cell, spelt=spelt: spelt.get(cell, cell), na_action="ignore")
    names = [nfc(str(name)) for name in frame.columns]
    if not changed:
        named: pd.DataFrame = frame.set_axis(names, axis=1)
        return named
    columns: list[Any] = [changed.get(place, frame.iloc[:, place]) for place in range(frame.shape[1])]
    spelt_anew: pd.DataFrame = pd.concat(columns, axis=1).set_axis(names, axis=1)
    return spelt_anew


def _read_bundled(name: str) -> pd.DataFrame:
    from sklearn import datasets  # a second to import; most sources do without

    if name == "diabetes":
        frame: pd.DataFrame = datasets.load_diabetes(as_frame=True, scaled=False).frame
        return frame.rename(columns={"target": "progression"})
    loaded = getattr(datasets, f"load_{name}")()
    frame = pd.DataFrame(loaded.data, columns=[str(column) for column in loaded.feature_names])
    names = np.array([str(label) for label in loaded.target_names], object)
    if name == "digits":
        frame["digit"] = loaded.target
    else:
        frame[_BUNDLED_TARGETS[name]] = names[loaded.target]
    return frame


_BUNDLED_TARGETS = {"breast_cancer": "diagnosis", "iris": "species", "wine": "cultivar"}


def _read_openml(number: int) -> pd.DataFrame:
    from sklearn.datasets import fetch_openml

    home = os.environ.get("OKAMOCHI_DATA") or None
    try:
        # scikit-learn's "pandas" parser is faster, and fails on classes named 1 and 2 with pandas 3.
        bunch = fetch_openml(data_id=number, as_frame=True, parser="liac-arff", data_home=home)
    except (URLError, OSError) as error:
        raise DataError(
            f"OpenML set {number} cannot be fetched ({first_line(error)}): is openml.org reachable?"
        ) from None
    except ValueError as error:
        raise DataError(f"OpenML set {number} cannot be read: {first_line(error)}.") from None
    frame: pd.DataFrame = bunch.frame
    return frame


def _frame_digest(frame: pd.DataFrame) -> str:
    """sha256 of the cells as CSV: the same for the same table, whatever made it."""
    return hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()
