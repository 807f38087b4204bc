"""A use case's name belongs to one table: to its target and columns."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from training.settings import Csv, Images, Parquet, UseCaseError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from training.settings import UseCase
    from training.tables.data import Table

TARGET, COLUMNS, FILE = "okamochi.target", "okamochi.columns", "okamochi.table"
"""Tags of a version: its target, the columns of its table, and the table's file."""
MAX_TAG = 4_000  # characters; MLflow takes 5,000
SHARED = 0.5  # of the columns of the narrower table, since a table may gain and lose columns
SHOWN = 4


def tags_of_table(table: Table) -> dict[str, str]:
    """The tags that tie a version's name to its table."""
    return {
        TARGET: table.use_case.target,
        COLUMNS: _cut(columns_of(table)),
        FILE: _file(table.use_case),
    }


def columns_of(table: Table) -> set[str]:
    """All columns of a table except its target."""
    return {*map(str, table.frame.columns), *table.ignored} - {*table.use_case.target_columns}


def is_of_another_table(tags: Mapping[str, str], target: str, columns: Collection[str]) -> bool:
    """Whether a version was trained on a table with another target or hardly any of these columns.

    A version without these tags, which older releases made, fits any table; so does one without columns.
    """
    if TARGET not in tags:
        return False
    if tags[TARGET] != target:
        return True
    theirs, ours = set(json.loads(tags.get(COLUMNS, "[]"))), set(json.loads(_cut(columns)))
    fewer = min(len(theirs), len(ours))
    return fewer > 0 and len(theirs & ours) < SHARED * fewer


def check_owner(use_case: UseCase, columns: Collection[str], tags: Mapping[str, str], version: str) -> None:
    """Refuse a use case whose name belongs to another table.

    Raises
    ------
    UseCaseError
        The message names both tables, and the key to change.
    """
    if not is_of_another_table(tags, use_case.target, columns):
        return
    theirs = _table(tags[TARGET], json.loads(tags.get(COLUMNS, "[]")), tags.get(FILE, ""))
    ours = _table(use_case.target, columns, _file(use_case))
    where = Path(use_case.file).name if use_case.file else "the use case"
    raise UseCaseError(
        f'The name "{use_case.name}" belongs to version {version}, which predicts {theirs}; {where} predicts '
        f"{ours}. Use another name: change name in {where}."
    )


def _table(target: str, columns: Collection[str], file: str) -> str:
    shown = ", ".join(sorted(columns)[:SHOWN]) + (" ..." if len(columns) > SHOWN else "")
    return f'"{target}"{f" of {file}" if file else ""}{f" from {shown}" if shown else ""}'


def _file(use_case: UseCase) -> str:
    """The name of the table's file and of its folder, without the rest of the path."""
    if not isinstance(use_case.source, Csv | Parquet | Images):
        return ""
    return "/".join(Path(use_case.source.path).parts[-2:])


def _cut(columns: Collection[str]) -> str:
    """As many columns as fit into a tag, in an order that does not depend on the table."""
    ordered = sorted(set(columns), key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())
    while len(text := json.dumps(ordered, ensure_ascii=False)) > MAX_TAG:
        ordered = ordered[: len(ordered) * 3 // 4]
    return text
