"""What was found of a person, place by place."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from artifact.sealing import DamagedError, opened

if TYPE_CHECKING:
    from training.erasure.models import Held
    from training.erasure.person import Person

MAX_OWN = 10_000


@dataclass
class Place:
    """A file or a table that holds rows or feedback of the person.

    Parameters
    ----------
    name
        Its path, or the name of the table.
    rows, feedback, shadows
        How many rows, reported values and predictions of shadows were found there.
    """

    name: str
    rows: int = 0
    feedback: int = 0
    shadows: int = 0


@dataclass
class Found:
    """What was found, and what was seen on the way.

    Parameters
    ----------
    places
        Where rows or feedback of the person were removed.
    kept
        Backups and other copies that hold some, and were not changed.
    problems
        Files that could not be searched, a sentence each.
    rows, with_column, hidden
        Rows that were searched; those of them that have the column; those whose cell is hashed and cannot be
        compared, since the key is missing.
    columns
        How many rows have each column.
    models
        The models that made the rows.
    damaged
        How many rows could not be opened, by the reason.
    own
        Cells by column of the person's rows, at most `MAX_OWN`.
    models_held
        Versions of models, and copies of them, that have rows of the person.
    replaced
        What became of these versions, a sentence each.
    """

    places: list[Place] = field(default_factory=list)
    kept: list[Place] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    rows: int = 0
    with_column: int = 0
    hidden: int = 0
    columns: Counter[str] = field(default_factory=Counter)
    models: set[str] = field(default_factory=set)
    damaged: Counter[str] = field(default_factory=Counter)
    own: list[dict[str, Any]] = field(default_factory=list)
    models_held: list[Held] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)

    def is_persons(self, person: Person, said: dict[str, Any]) -> bool:
        """Count a row, and return whether it is the person's.

        Parameters
        ----------
        said
            The row as it stands in the log.

        Raises
        ------
        UnknownKeyError
            It is encrypted with a key that is not here.
        """
        model = said["model"]
        self.models.add(model)
        if person.model and model != person.model:
            return False
        try:
            columns = opened(said, person.sealing)["columns"]
        except DamagedError as error:
            self.damaged[str(error)] += 1
            return False
        self.rows += 1
        self.columns.update(columns.keys())
        if person.column not in columns:
            return False
        self.with_column += 1
        cell = columns[person.column]
        if person.has(cell):
            if len(self.own) < MAX_OWN:
                self.own.append(columns)
            return True
        self.hidden += person.may_be_hidden(cell)
        return False
