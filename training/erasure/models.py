"""A person's rows in models: those of the training table for explanations, and golden rows of the test table.

Such a row has the columns that the model reads. If the column that identifies the person is one of these, its
cell decides; else the row is the person's if a logged row of the person has the same cells.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact import background, manifest, signing
from artifact.encode import canonical
from artifact.logged import MAX_TEXT
from artifact.manifest import BACKGROUND, GOLDEN, MANIFEST, ArtifactError
from training.decide.aliases import sign
from training.erasure.person import ErasureError
from training.registry.mlflow_registry import Registry, exists
from training.registry.records import SIGNATURE, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from training.erasure.person import Person
    from training.registry.records import Version

    Row = Mapping[str, Any]


@dataclass(frozen=True)
class Held:
    """A version, or a stored copy of one, that has rows of the person."""

    name: str  # for a person to read
    rows: int
    version: Version | None = None  # None for a copy in BentoML's store


def persons(person: Person, logged: Iterable[Row]) -> Callable[[Row], bool]:
    """A function that says whether a row of an artifact is the person's.

    Parameters
    ----------
    logged
        Cells by column of the person's logged rows.
    """
    own = [{name: _cell(cell) for name, cell in row.items()} for row in logged]

    def is_persons(record: Row) -> bool:
        if person.column in record:
            return person.has(record[person.column])
        cells = {name: _cell(cell) for name, cell in record.items()}
        return any(cells.items() <= row.items() for row in own)

    return is_persons


def _cell(cell: Any) -> Any:
    """A cell in a form that is equal for a table and a log: numbers may be logged as float32."""
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        return float(np.float32(cell))
    return None if cell is None else canonical(cell)[:MAX_TEXT]


def look(person: Person, logged: Iterable[Row]) -> list[Held]:
    """The registered versions, and their copies in BentoML's store, that have rows of the person.

    Raises
    ------
    ErasureError
        The registry cannot be read.
    """
    is_persons = persons(person, logged)
    try:
        found = [held for held in _registered(person, is_persons) if held.rows]
    except RegistryError as error:
        raise ErasureError(
            f"nothing was removed, since models cannot be searched: {error} --keep-models leaves them out"
        ) from error
    return found + [held for held in _stored(person, is_persons) if held.rows]


def _registered(person: Person, is_persons: Callable[[Row], bool]) -> Iterator[Held]:
    if not exists():
        return
    registry = Registry()
    for name in [person.model] if person.model else registry.names():
        for version in registry.versions(name):
            with TemporaryDirectory(prefix="okamochi-") as folder:
                try:
                    directory = registry.download(version, Path(folder))
                except ArtifactError:  # its files are gone, or it is somebody else's model
                    continue
                rows = sum(map(is_persons, _rows(directory)))
            yield Held(f"{name} version {version.number}", rows, version)


def _stored(person: Person, is_persons: Callable[[Row], bool]) -> Iterator[Held]:
    home = Path(os.environ.get("BENTOML_HOME") or "~/bentoml").expanduser()
    for path in sorted(home.glob(f"models/okamochi-*/*/artifact/{MANIFEST}")):
        try:
            name = manifest.load(path.parent).manifest.name
        except ArtifactError:
            continue
        if person.model in ("", name):
            tag = f"{path.parent.parent.parent.name}:{path.parent.parent.name}"
            yield Held(tag, sum(map(is_persons, _rows(path.parent))))


def _rows(directory: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for file in (BACKGROUND, GOLDEN):
        if (directory / file).is_file():
            found += msgspec.json.decode((directory / file).read_bytes())["records"] or []
    return found


def remove(held: Iterable[Held], person: Person, logged: Iterable[Row]) -> list[str]:
    """Replace each registered version by one without the person's rows; a sentence each.

    The model and its answers stay the same. The new version has the old one's tags and aliases; it is signed
    if this process has a signing key.

    Raises
    ------
    ErasureError
        A version would have no row left that its answers can be checked with.
    RegistryError, ArtifactError
    """
    is_persons = persons(person, logged)
    registry = Registry()
    told = []
    for each in held:
        if each.version is None:
            continue
        with TemporaryDirectory(prefix="okamochi-") as folder:
            directory = registry.download(each.version, Path(folder))
            _without(directory, is_persons)
            fresh = registry.replace(each.version, manifest.load(directory))
        signed = ""
        if signing.configured():
            sign(registry, fresh)
            signed = ", signed anew"
        elif SIGNATURE in each.version.tags:
            signed = ", not signed: `python -m deploy sign` signs a champion"
        told.append(f"{each.name} is version {fresh.number} now, without {each.rows} of its rows{signed}")
    return told


def _without(directory: Path, is_persons: Callable[[Row], bool]) -> None:
    """Seal an artifact anew without some rows."""
    found = manifest.load(directory)
    golden = found.golden()
    kept = [i for i, record in enumerate(golden.records) if not is_persons(record)]
    if golden.records and not kept:
        raise ErasureError(
            f"every golden row of a version of {found.manifest.name} is this person's, and without one its "
            "answers cannot be checked: train it again without the person, and delete that version"
        )
    records = [record for record in background.read(found) if not is_persons(record)]
    if records:
        background.write(directory, records)
    else:
        (directory / BACKGROUND).unlink(missing_ok=True)
    fields = msgspec.structs.asdict(found.manifest)
    del fields["files"]
    manifest.write(
        directory,
        signature=found.signature,
        golden=manifest.Golden(
            records=[golden.records[i] for i in kept],
            scores=[golden.scores[i] for i in kept],
            tolerance=golden.tolerance,
        ),
        **fields,
    )


def as_lines(held: Iterable[Held]) -> list[str]:
    """What was found, a line each."""
    counts = Counter[str]()
    for each in held:
        counts[each.name] += each.rows
    return [f"  {name}: {rows} row{'s' * (rows != 1)}" for name, rows in counts.items()]
