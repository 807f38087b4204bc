"""Whether a training would repeat an earlier one: digests of the table and of the settings."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from artifact import manifest
from artifact.canary_bounds import CanaryBounds
from training.families.own import roots_of
from training.registry.mlflow_registry import read_alias
from training.registry.named import named_now
from training.registry.records import CHALLENGER, CHAMPION, Version
from training.settings import (
    REGISTERED,
    Bundled,
    Csv,
    Images,
    Model,
    OpenML,
    Parquet,
    Sql,
    Synthetic,
    UseCase,
)
from training.tables.pieces import digest_of_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.job import Budget
    from training.settings import Candidates

DATA, SETTINGS, FORMAT = "okamochi.data", "okamochi.settings", "okamochi.format"
"""Tags of a version: digests of its table and settings, and the format of its artifact."""


def up_to_date(use_case: UseCase) -> Version | None:
    """The version that a run would repeat: it has the same table and settings, and the gate has judged it.

    It is the champion, or a challenger that the gate refused. The table is read only if all else is equal.
    """
    use_case = with_named_version(use_case)
    settings = settings_digest(use_case)
    for alias in (CHAMPION, CHALLENGER):
        version = read_alias(use_case.name, alias)
        if version is None or "gate" not in version.tags:
            continue
        same = version.tags.get(SETTINGS) == settings and version.tags.get(FORMAT) == str(manifest.FORMAT)
        if same and _data_is(use_case, version.tags.get(DATA, "")):
            return version
    return None


def with_named_version(use_case: UseCase) -> UseCase:
    """The use case with the version that the alias of its model names now: one that has moved is a change.

    Raises
    ------
    RegistryError
        The registry cannot be read.
    """
    model = use_case.model
    if model is None or not model.source.startswith(REGISTERED):
        return use_case
    named = msgspec.structs.replace(model, source=named_now(model.source))
    return msgspec.structs.replace(use_case, model=named)


def settings_digest(use_case: UseCase) -> str:
    """A digest of the settings that make a model, so without its folder, texts for people and [live]."""
    said = msgspec.to_builtins(use_case)
    for words in ("title", "description", "card", "live", "file"):
        said.pop(words)
    # A digest of before a key existed stays the same.
    if use_case.canary == CanaryBounds():
        said.pop("canary")
    if not use_case.gate.fairness:
        said["gate"].pop("fairness")
    for key in ("targets", "rank", "images"):
        if not said[key]:
            said.pop(key)
    if isinstance(use_case.source, Csv | Parquet | Images):
        said["source"] = _source_said(said["source"])
    if use_case.model is not None and not use_case.model.source.startswith(REGISTERED):
        said["model"] |= {"source": Path(use_case.model.source).name, "sha256": _content(use_case.model)}
        said["model"]["code"] = len(use_case.model.code)
    if use_case.model is not None and not use_case.model.tensors:
        said["model"].pop("tensors")  # a digest of before there were any stays the same
    if use_case.candidates.add:
        said["candidates"] |= {"code": len(use_case.candidates.code), "sha256": _code_of(use_case.candidates)}
    else:
        said.pop("candidates")  # a digest of before there were any stays the same
    return hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()


def _source_said(source: dict[str, Any]) -> dict[str, Any]:
    """A file by its name; a digest of before `max_rows` existed stays the same."""
    said = {key: value for key, value in source.items() if key != "max_rows" or value is not None}
    return said | {"path": Path(source["path"]).name}


def _content(model: Model) -> str:
    """A digest of a model's file and code; files that do not exist are left out."""
    return _digest_of(map(Path, (model.source, *model.code)))


def _code_of(candidates: Candidates) -> str:
    """A digest of the modules of one's own candidates."""
    return _digest_of(roots_of(candidates.add, candidates.code))


def _digest_of(places: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for place in places:
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def key_of(use_case: UseCase, data: str, budget: Budget) -> str:
    """A digest of everything that a training depends on."""
    said = (data, settings_digest(use_case), str(manifest.FORMAT), budget)
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()


def _data_is(use_case: UseCase, digest: str) -> bool:
    """Whether the table has this digest; a table that never changes is not read."""
    match use_case.source:
        case Csv(path=path) | Parquet(path=path):
            with suppress(OSError):
                return digest_of_file(Path(path)) == digest
            return False
        case Images(path=path):
            from training.tables.pictures import digest_of
            from training.tables.raw import DataError

            with suppress(OSError, DataError):
                return digest_of(Path(path), use_case.read) == digest
            return False
        case Sql():
            from training.tables.sources import read_source

            return read_source(use_case).digest == digest
        case Bundled() | Synthetic() | OpenML() | None:
            return True
