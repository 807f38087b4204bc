"""`python -m training forget` removes a person from the prediction log and reports what it found."""

from __future__ import annotations

import json
import tarfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from artifact.sealing import UnknownKeyError
from training.decide.live_log import POSTGRES
from training.erasure import folder, postgres
from training.erasure.person import ErasureError, UnfinishedError
from training.registry.place import state_folder

if TYPE_CHECKING:
    from training.erasure.found import Found, Place
    from training.erasure.person import Person

MAX_COLUMNS = 20  # named in a message
NOT_SEARCHED = (
    "Not searched: the tables that models are trained from, the reports of MLflow's runs, backups elsewhere, "
    "rows hashed with another key, and, in models that do not read the column, rows of a person who is not "
    "in the log. Rows that a server answers from now on are logged again."
)
Models = Literal["ask", "remove", "keep"]


def forget(target: str, person: Person, *, dry: bool = False, models: Models = "ask") -> Found:
    """Remove a person from a log and from models, and count what the backups of this checkout hold.

    Parameters
    ----------
    models
        What happens with versions of models that have rows of the person: they are replaced (`remove`) or
        left unsearched (`keep`). `ask` refuses, and leaves the log as it is: its rows tell which rows of
        a model are the person's.

    Raises
    ------
    ErasureError
        The log cannot be read, it has no such model or column, or its cells are hashed and there is no key.
        Nothing was removed.
    UnfinishedError
        A file cannot be written.
    """
    found = _erase(target, person, dry=True)
    _check(found, target, person)
    held, own, replaced = [], found.own, []
    if models != "keep":
        from training.erasure.models import as_lines, look, remove  # MLflow, which takes a second

        held = look(person, own)
        registered = [each for each in held if each.version is not None]
        if registered and models == "ask" and not dry:
            raise ErasureError(
                "nothing was removed, since versions of models have rows of this person (--models removes "
                "them too, --keep-models leaves them):\n" + "\n".join(as_lines(registered))
            )
        if registered and not dry:
            replaced = remove(registered, person, own)
    if not dry:
        try:
            found = _erase(target, person, dry=False)
        except OSError as error:
            raise UnfinishedError(
                f"{error.filename or target} cannot be changed: {error.strerror}; some rows may have been "
                "removed already. Run this again once it can be changed."
            ) from error
    found.models_held, found.replaced = held, replaced
    _look_into_backups(state_folder() / "backups", person, found)
    return found


def _erase(target: str, person: Person, *, dry: bool) -> Found:
    try:
        found = _erase_in(target, person, dry=dry)
    except UnknownKeyError as error:
        raise ErasureError(f"nothing was removed: {error}") from None
    found.problems += [
        f"{_count(n, 'row')} could not be read: {reason}" for reason, n in found.damaged.items()
    ]
    return found


def _erase_in(target: str, person: Person, *, dry: bool) -> Found:
    if target.startswith(POSTGRES):
        return postgres.erase(target, person, dry=dry)
    path = Path(target).expanduser()
    if not path.is_dir():
        raise ErasureError(
            f"{path} is not a folder; --log takes the value that the server has in OKAMOCHI_PREDICTION_LOG"
        )
    return folder.erase(path, person, dry=dry)


def _check(found: Found, target: str, person: Person) -> None:
    if person.model and not found.rows and found.models:
        raise ErasureError(
            f"the log has no row of the model {person.model!r}; it has {', '.join(sorted(found.models))}"
        )
    if found.rows and not found.with_column and not found.places:
        names = [name for name, _ in found.columns.most_common(MAX_COLUMNS)]
        more = f" and {len(found.columns) - MAX_COLUMNS} more" if len(found.columns) > MAX_COLUMNS else ""
        raise ErasureError(
            f"none of the {found.rows} logged rows has a column {person.column!r}; they have "
            f"{', '.join(names) or 'none'}{more}. Servers log the columns of the model, and, with "
            "OKAMOCHI_HASH_KEY, those that the use case names in `sensitive`: to find people by an id, name "
            "its column there"
        )
    if found.hidden:
        raise ErasureError(
            f"{found.hidden} of the {found.with_column} logged values of {person.column!r} are hashed, so "
            f"nothing was removed from {_without_password(target)}; set OKAMOCHI_HASH_KEY to the servers' key"
        )


def _without_password(target: str) -> str:
    return "the database" if target.startswith(POSTGRES) else target


def _look_into_backups(backups: Path, person: Person, found: Found) -> None:
    for path in sorted(backups.glob("*.tar.gz")):
        try:
            place = folder.look_in_archive(path, person)
        except (OSError, EOFError, tarfile.TarError, UnknownKeyError) as error:
            found.problems.append(f"{path} cannot be searched: {error}")
            continue
        if place.rows or place.feedback or place.shadows:
            found.kept.append(place)
    for path in sorted(backups.glob("replaced-*/prediction-log")):
        found.kept += folder.erase(path, person, dry=True).places


def as_json(found: Found, *, dry: bool) -> str:
    """For a program to read."""
    return json.dumps(
        {
            "dry_run": dry,
            "searched_rows": found.rows,
            "rows": sum(place.rows for place in found.places),
            "feedback": sum(place.feedback for place in found.places),
            "places": [asdict(place) for place in found.places],
            "kept": [asdict(place) for place in found.kept],
            "models": [{"name": each.name, "rows": each.rows} for each in found.models_held],
            "replaced": found.replaced,
            "problems": found.problems,
        },
        indent=1,
    )


def as_text(found: Found, person: Person, *, dry: bool) -> str:
    """What was found, for a person to read."""
    rows = sum(place.rows for place in found.places)
    feedback = sum(place.feedback for place in found.places)
    done = "would be removed" if dry else "removed"
    lines = [_line(place) for place in found.places]
    lines.append(
        f"{_count(rows, 'row')} and {_count(feedback, 'reported value')} {done}; "
        f"{_count(found.rows, 'row')} searched."
    )
    if person.rounded and rows:
        lines.append(
            f"Numbers may be logged as float32, which rounds {', '.join(person.rounded)}: rows of other "
            "values that round to the same number are among these."
        )
    if found.kept:
        lines += [
            "",
            "Still there, in copies that this command does not change (delete them, or make new ones):",
        ]
        lines += [_line(place) for place in found.kept]
    if found.models_held:
        lines += [
            "",
            "In models (golden rows, and background rows of explanations):",
            *_of_models(found, dry=dry),
        ]
    if found.problems:
        lines += ["", *found.problems]
    return "\n".join([*lines, "", NOT_SEARCHED])


def _of_models(found: Found, *, dry: bool) -> list[str]:
    from training.erasure.models import as_lines

    lines = as_lines(found.models_held)
    if dry:
        return [*lines, "--models replaces registered versions by ones without these rows."]
    lines += found.replaced
    if found.replaced:
        lines.append("`mlflow gc` removes the files of deleted versions from MLflow's store.")
    if any(each.version is None for each in found.models_held):
        lines.append(
            "Copies in BentoML's store stay: `python -m deploy bundle` (or `follow`) brings the new "
            "versions, then `bentoml models delete TAG` removes a copy."
        )
    return lines


def _line(place: Place) -> str:
    counts = (
        (place.rows, "row"),
        (place.feedback, "reported value"),
        (place.shadows, "shadow prediction"),
    )
    parts = [_count(n, what) for n, what in counts if n]
    return f"  {place.name}: {' and '.join(parts)}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
