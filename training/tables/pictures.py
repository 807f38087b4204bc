"""Pictures as a table: a folder with a folder for each class, or a delimited file with a column of paths.

A picture becomes a cell as soon as it is read: the square of `artifact.kinds.image` as a PNG file in base64.
So a table of many large photos stays small, and a row of it is a row that a client may send.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from artifact.kinds.image import BadPictureError, cell_of, content_of, square_of
from training.settings import Read
from training.tables.cleaned import UnfitColumn
from training.tables.delimited import read_delimited
from training.tables.raw import DataError, Raw
from training.tables.reading import UNDECIDED, LookAt, Reading

IMAGE = "image"
"""The column of a folder's pictures."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp")
SAMPLE = 50
MAX_BAD = 0.5
SHOWN = 3


def read_pictures(path: Path, target: str, read: Read, given: Reading) -> Raw:
    """Read a folder of classes or a file of paths.

    Parameters
    ----------
    target
        The column that gets the names of a folder's folders.

    Raises
    ------
    DataError
    """
    return _with_pictures(path, *_listed(path, target, read, given))


def digest_of(path: Path, read: Read) -> str:
    """The digest that `read_pictures` gives the table, without decoding the pictures.

    Raises
    ------
    DataError
    OSError
    """
    _, files = _listed(path, "", read, UNDECIDED)
    contents = [_content_digest(file.read_bytes() if file.is_file() else b"") for file in files]
    return _digest(path, files, contents)


def pictures_of(cells: "pd.Series[Any]") -> "pd.Series[Any]":
    """Cells with a picture's file, in base64 or as bytes, as the cells of a table of pictures.

    Raises
    ------
    UnfitColumn
        A cell is not a picture.
    """

    def one(cell: Any) -> str | None:
        if cell is None or cell != cell or cell == "":  # noqa: PLR0124 - NaN
            return None
        return cell_of(square_of(cell if isinstance(cell, bytes) else content_of(str(cell))))

    made: list[str | None] = []
    for row, cell in enumerate(cells.astype(object)):
        try:
            made.append(one(cell))
        except BadPictureError as error:
            raise UnfitColumn(f"has in row {row + 1} {error}") from None
    return pd.Series(made, dtype=object)


def write_digits(folder: Path) -> None:
    """Write scikit-learn's digits as PNG files, dark on white, in a folder for each digit."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        own = folder / str(digit)
        own.mkdir(exist_ok=True)
        Image.fromarray((255 - pixels * 15.9375).round().astype(np.uint8)).save(own / f"{number:04}.png")


def _listed(path: Path, target: str, read: Read, given: Reading) -> tuple[Raw, list[Path]]:
    """The table without its pictures, and the file of each row's picture."""
    if path.is_dir():
        files, labels, told = _in_folders(path)
        return Raw(pd.DataFrame({target: labels}), "", given, tuple(told), pictures=(IMAGE,)), files
    raw = read_delimited(path, read, given=given)
    name = _column_of_paths(raw.frame, path)
    files = [path.parent / str(cell).strip() for cell in raw.frame[name]]
    return replace(raw, frame=raw.frame.drop(columns=name), pictures=(name,)), files


def _in_folders(path: Path) -> tuple[list[Path], list[str], list[tuple[str | None, str]]]:
    """The pictures of a folder's folders, what class each is of, and what to tell."""
    folders = sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    files: list[Path] = []
    labels: list[str] = []
    others: Counter[str] = Counter()
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            if not file.is_file() or file.name.startswith("."):
                continue
            if file.suffix.lower() in SUFFIXES:
                files.append(file)
                labels.append(folder.name)
            else:
                others[file.suffix.lower() or "no suffix"] += 1
    if not files:
        loose = sum(each.suffix.lower() in SUFFIXES for each in path.iterdir())
        found = f"{loose} pictures that are in no folder" if loose else "no pictures"
        raise DataError(
            f"{path} has {found}: expected a folder for each class with PNG, JPEG or WebP files in it, "
            f"such as {path.name}/cat/1.jpg, or a CSV file with a column of paths."
        )
    told: list[tuple[str | None, str]] = []
    if others:
        listed = ", ".join(f"{suffix} ({count})" for suffix, count in others.most_common(SHOWN))
        told.append((IMAGE, f"{others.total()} files are no PNG, JPEG or WebP and are left out: {listed}"))
    return files, labels, told


def _column_of_paths(frame: pd.DataFrame, path: Path) -> str:
    """The column whose cells are paths of pictures, from the folder of the file or absolute."""
    for name in frame.columns:
        cells = [str(cell).strip() for cell in frame[name].head(SAMPLE)]
        if cells and sum(cell.lower().endswith(SUFFIXES) for cell in cells) > len(cells) / 2:
            return str(name)
    raise DataError(
        f"{path} has no column of paths that end in {', '.join(SUFFIXES)}: expected one, with paths from the "
        f"folder {path.parent.name or path.parent}."
    )


def _with_pictures(path: Path, raw: Raw, files: Sequence[Path]) -> Raw:
    """The table with the column of pictures first, without the rows whose picture cannot be read."""
    (name,) = raw.pictures
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read = list(pool.map(_read, files))
    bad = [(file, one.said) for file, one in zip(files, read, strict=True) if one.cell is None]
    if len(bad) > MAX_BAD * len(files):
        raise DataError(
            f"{len(bad):,} of {len(files):,} pictures of {path} cannot be read; the first: "
            f"{_named(bad[0], path)}."
        )
    reading = raw.reading
    if bad:
        shown = "; ".join(_named(each, path) for each in bad[:SHOWN])
        more = f"; and {len(bad) - SHOWN:,} more" if len(bad) > SHOWN else ""
        text = f"{len(bad):,} of {len(files):,} pictures cannot be read and are left out: {shown}{more}"
        reading = replace(reading, look_at=(*reading.look_at, LookAt(name, text)))
    there = np.array([one.cell is not None for one in read], bool)
    kept = raw.frame.loc[there].reset_index(drop=True)
    kept.insert(0, name, pd.Series([one.cell for one in read if one.cell is not None], dtype=object))
    digest = _digest(path, files, [one.digest for one in read])
    return replace(raw, frame=kept, digest=digest, reading=reading)


class _Read(NamedTuple):
    """The cell of a file, or None and the reason; and the digest of its content."""

    cell: str | None
    said: str
    digest: bytes


def _read(file: Path) -> _Read:
    try:
        content = file.read_bytes()
    except OSError as error:
        return _Read(None, error.strerror or type(error).__name__, _content_digest(b""))
    digest = _content_digest(content)
    try:
        return _Read(cell_of(square_of(content)), "", digest)
    except BadPictureError as error:
        return _Read(None, str(error), digest)


def _named(bad: tuple[Path, str], path: Path) -> str:
    file, said = bad
    folder = path if path.is_dir() else path.parent
    return f"{file.relative_to(folder) if file.is_relative_to(folder) else file.name} ({said})"


def _content_digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _digest(path: Path, files: Sequence[Path], contents: Sequence[bytes]) -> str:
    """sha256 of the names and contents of the pictures, and of the file that names them."""
    digest = hashlib.sha256()
    folder = path if path.is_dir() else path.parent
    if not path.is_dir():
        files, contents = [path, *files], [_content_digest(path.read_bytes()), *contents]
    for file, content in zip(files, contents, strict=True):
        name = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()
