"""What a file is read as, before anything is trained: for a person in a terminal, or as JSON."""

import dataclasses
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from training.settings import Read, UseCase
from training.tables.cleaned import Cleaned
from training.tables.columns import clean_column, clean_labels, decide_from_cells
from training.tables.data import (
    NUMBERS_ROWS,
    check_named_columns,
    guess_task,
    is_unnamed,
    leaks,
    named,
    numbers_rows,
    same_columns,
)
from training.tables.noticed import MIN_NUMBERS, noticed
from training.tables.reading import LookAt, Reading
from training.tables.shown import (
    SHOWN_ROWS,
    ShownColumn,
    plain,
    raw_cells,
    show_column,
    words_taken_for_missing,
)
from training.tables.sources import read_source, source_of

CELL = 16
INDENT = 9


@dataclass(frozen=True)
class Preview:
    """How a file is read; `rows` are all that it has, each column shows the first."""

    reading: Reading
    rows: int
    columns: tuple[ShownColumn, ...]
    look_at: tuple[LookAt, ...]


def preview(
    path: str | Path,
    *,
    target: str | None = None,
    rows: int = SHOWN_ROWS,
    read: Read = Read(),  # noqa: B008 - frozen
    formats: dict[str, str] | None = None,
) -> Preview:
    """Read a file as `init` would. Raises DataError."""
    data = Path(path).expanduser().resolve()
    use_case = UseCase(
        name="preview", target=target or "", source=source_of(data), read=read, formats=formats or {}
    )
    raw = read_source(use_case)
    frame, renamed = named(raw.frame)
    check_named_columns(use_case, list(frame.columns))
    reading = decide_from_cells(frame, raw.reading)
    look_at = [*reading.look_at, *renamed]
    columns = []
    features: dict[str, Cleaned | None] = {}
    for place, name in enumerate(frame.columns):
        cells = frame[name]
        if name == target:
            shown, open_, features[name] = _show_target(name, cells, reading, rows)
        else:
            left_out = (
                NUMBERS_ROWS if not place and is_unnamed(raw.frame.columns[0]) and numbers_rows(cells) else ""
            )
            shown, open_, features[name] = _show(name, cells, reading, rows, left_out)
        columns.append(shown)
        look_at += open_
    kept = {name: column for name, column in features.items() if column is not None}
    look_at += noticed(kept, int(frame.duplicated().sum()), len(frame))
    look_at += [LookAt(*each) for each in same_columns(kept)]
    if target in features:
        look_at += _leaks(
            {name: column for name, column in kept.items() if name != target},
            frame[target],
            use_case,
            reading,
        )
    return Preview(reading, len(frame), tuple(columns), tuple(look_at))


def _leaks(
    features: dict[str, Cleaned], cells: "pd.Series[Any]", use_case: UseCase, reading: Reading
) -> list[LookAt]:
    """Columns that give the target away, as a column does that is known only afterwards."""
    labels, _ = clean_labels(cells, reading)
    there = np.array([label is not None for label in labels])
    if not features or not there.any():
        return []
    task = guess_task(labels[there], use_case)
    target = labels[there].astype("float64") if task == "regression" else labels[there]
    columns = {name: column.cells.reset_index(drop=True)[there] for name, column in features.items()}
    table = pd.DataFrame(columns).reset_index(drop=True)
    return [LookAt(name, text) for name, text in leaks(table, target, task)]


def _show(
    name: str, cells: "pd.Series[Any]", reading: Reading, rows: int, left_out: str
) -> tuple[ShownColumn, list[LookAt], Cleaned | None]:
    column = clean_column(cells, name, reading=reading)
    open_ = [*column.look_at, *words_taken_for_missing(name, cells, column)]
    if left_out:
        open_.append(LookAt(name, left_out))
    elif column.id_like:
        left_out = f"looks like an id ({column.id_like}): left out"
        open_.append(LookAt(name, f"{left_out}; to use it, say what it is under [kinds]"))
    return show_column(name, cells, column, rows, left_out), open_, None if left_out else column


def _show_target(
    name: str, cells: "pd.Series[Any]", reading: Reading, rows: int
) -> tuple[ShownColumn, list[LookAt], Cleaned | None]:
    labels, remarks = clean_labels(cells, reading)
    distinct = {type(label) for label in labels if label is not None}
    if distinct <= {int, float} or len(set(labels)) <= 2 or len(set(labels)) < 0.5 * len(labels):
        kind = "number" if distinct <= {int, float} else "category"
        shown = ShownColumn(
            name, kind, "the target", raw_cells(cells.head(rows)), tuple(map(plain, labels[:rows]))
        )
        measured = kind == "number" and len(set(labels)) >= MIN_NUMBERS
        column = Cleaned("number", pd.Series(labels).astype("float64")) if measured else None
        return shown, [LookAt(name, text) for text in remarks], column
    column = clean_column(cells, name, reading=reading)
    shown = show_column(name, cells, column, rows, "the target")
    return shown, [*column.look_at, *(LookAt(name, text) for text in remarks)], None


def as_json(found: Preview) -> str:
    """The preview for a program."""
    reading = found.reading
    return json.dumps(
        {
            "encoding": reading.encoding.value if reading.encoding else None,
            "delimiter": reading.delimiter.value if reading.delimiter else None,
            "decimal": reading.decimal.value if reading.decimal else None,
            "columns": [dataclasses.asdict(column) for column in found.columns],
            "look_at": [each._asdict() for each in found.look_at],
        },
        ensure_ascii=False,
        allow_nan=False,
        indent=1,
    )


def as_text(found: Preview, width: int) -> str:
    """The preview for a person: what is unsure, how the file is written, and each column's first cells."""
    lines = look_at_lines(found.look_at)
    if lines:
        lines.append("")
    lines += [*reading_lines(found.reading), f"{found.rows:,} rows, {len(found.columns)} columns", ""]
    return "\n".join([*lines, *column_lines(found.columns, width)])


def look_at_lines(look_at: Sequence[LookAt]) -> list[str]:
    """A line for each reading that is unsure."""
    return [f"! {each.column}: {each.text}" if each.column else f"! {each.text}" for each in look_at]


def reading_lines(reading: Reading) -> list[str]:
    """What was decided for the whole file, a line each, and why."""
    names = {"\t": "tab", " ": "spaces"}
    decided = {
        "encoding": reading.encoding,
        "delimiter": reading.delimiter,
        "quote": reading.quote if reading.quote and reading.quote.value != '"' else None,
        "escape": reading.escape if reading.escape and reading.escape.value else None,
        "skip_lines": reading.skip_lines if reading.skip_lines and reading.skip_lines.value else None,
        "decimal": reading.decimal,
        "thousands": reading.thousands,
        "day_first": reading.day_first,
    }
    return [
        f"{key:<11}{names.get(str(each.value), each.value)}  ({each.reason})"
        for key, each in decided.items()
        if each is not None
    ]


def column_lines(columns: Sequence[ShownColumn], width: int) -> list[str]:
    """Three lines a column: what it is, its cells as they are written, and as they are read."""
    lines = []
    for column in columns:
        lines.append(
            _cut(f"{column.name}: {column.kind}{', ' + column.read_as if column.read_as else ''}", width)
        )
        raw, parsed = "  raw", "  parsed"
        raw, parsed = raw.ljust(INDENT), parsed.ljust(INDENT)
        room = width - INDENT
        for written, value in zip(column.raw, column.parsed, strict=True):
            texts = [_cut(_on_one_line(each), CELL) for each in (written, value)]
            room -= (wide := max(map(_width, texts))) + 2
            if room < 0:
                break
            raw += texts[0] + " " * (wide + 2 - _width(texts[0]))
            parsed += texts[1] + " " * (wide + 2 - _width(texts[1]))
        lines += [raw.rstrip(), parsed.rstrip()]
    return lines


def _on_one_line(value: Any) -> str:
    if value is None:
        return "·"
    text = str(value)
    return "".join(c if c.isprintable() else " " for c in text) or '""'


def _cut(text: str, width: int) -> str:
    """A text of at most so many columns of a terminal."""
    if _width(text) <= width:
        return text
    while text and _width(text) > width - 1:
        text = text[:-1]
    return f"{text}…"


def _width(text: str) -> int:
    """How many columns a text takes; letters of Chinese, Japanese and Korean take two."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in {"W", "F"} for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)
