"""A verified model inside another program: opened by folder, by BentoML tag or by MLflow address.

It answers as the server does: the same encoder, scores and labels, without HTTP.
"""

from __future__ import annotations

import os
import re
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from artifact import manifest, runtime, signing, tags
from artifact.encode import Encoder
from artifact.manifest import ArtifactError
from artifact.signature import labels, probabilities

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from artifact.manifest import Artifact
    from artifact.signature import Label, Signature

REGISTERED = ("models:/", "runs:/")
LOGGED = "artifacts/okamochi"
STORED = "artifact"
_VERSION = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>[0-9]+)|@(?P<alias>[^/]+))")
_TAG = re.compile(r"[a-z0-9][a-z0-9._-]*:[A-Za-z0-9][A-Za-z0-9._-]*")


class Model:
    """An open model. Any number of threads may ask it at once.

    Attributes
    ----------
    name
        The use case.
    signature
        What it takes and gives.
    manifest
        How it was made, with its figures on held-out rows.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.name = artifact.manifest.name
        self.signature: Signature = artifact.signature
        self.manifest = artifact.manifest
        self._encoder = Encoder(artifact.signature)
        self._score = runtime.load(artifact)
        self._folder: TemporaryDirectory[str] | None = None
        # onnxruntime takes calls from several threads; other libraries may not.
        self._lock = None if artifact.manifest.runtime == "onnx" else threading.Lock()

    @property
    def classes(self) -> tuple[Label, ...]:
        """The labels in the order of `predict_proba`; empty for a regression."""
        return self.signature.classes

    def predict(self, rows: Any, *, threshold: float | None = None) -> NDArray[Any]:
        """The prediction of each row, as scikit-learn gives it.

        Parameters
        ----------
        rows
            A data frame, a list of records (dicts by column), a list of rows by position, an array of shape
            (rows, columns), a mapping of columns to lists, or one record.
        threshold
            Binary only: the probability from which the positive label is predicted.

        Returns
        -------
        The data's own labels, or numbers, of shape (rows,); named numbers of shape (rows, numbers).

        Raises
        ------
        BadRows
            Cells that the signature refuses, each with its row, column and reason.
        ValueError
            A threshold that is not between 0 and 1, or of a model that is not binary.
        """
        if threshold is not None:
            if self.signature.task != "binary":
                raise ValueError(
                    f"threshold: {self.name} is no binary model, but a {self.signature.task} one"
                )
            if not 0 <= threshold <= 1:
                raise ValueError(f"threshold: expected 0 to 1, got {threshold}")
        scores = self.scores(rows)
        if self.signature.numbers:
            return scores
        mixed = len({type(label) for label in self.classes}) > 1
        return np.array(labels(self.signature, scores, threshold), dtype=object if mixed else None)

    def predict_proba(self, rows: Any) -> NDArray[np.float64]:
        """Probabilities of shape (rows, classes), in the order of `classes`.

        Raises
        ------
        BadRows
            As `predict`.
        ValueError
            The model has no classes.
        """
        if not self.classes:
            raise ValueError(f"{self.name} has no classes, so it has no probabilities")
        return probabilities(self.signature, self.scores(rows))

    def scores(self, rows: Any) -> NDArray[np.float64]:
        """What the model itself gives, of shape (rows, outputs). Raises BadRows."""
        matrix = self._matrix(rows)
        if self._lock is None:
            return self._score(matrix)
        with self._lock:
            return self._score(matrix)

    def _matrix(self, rows: Any) -> NDArray[np.float64]:
        if hasattr(rows, "columns"):  # a data frame
            return self._encoder.columns({str(name): plain_cells(rows[name]) for name in rows.columns})
        if hasattr(rows, "items"):
            if any(isinstance(value, (list, tuple, np.ndarray)) for value in rows.values()):
                return self._encoder.columns({name: plain_cells(cells) for name, cells in rows.items()})
            return self._encoder.records([rows])
        plain = rows.tolist() if isinstance(rows, np.ndarray) else list(rows)
        if plain and hasattr(plain[0], "items"):
            return self._encoder.records(plain)
        return self._encoder.rows(plain)


def open_model(source: str | Path) -> Model:
    """Open a model; see `artifact.load`."""
    artifact, folder = artifact_of(source)
    model = Model(artifact)
    model._folder = folder  # noqa: SLF001 - it lives as long: a library may read from it later
    return model


def artifact_of(source: str | Path) -> tuple[Artifact, TemporaryDirectory[str] | None]:
    """A verified artifact that is not open yet, and the folder that holds it if that was made for it.

    Raises
    ------
    ArtifactError
        As `artifact.load`.
    """
    text = os.fspath(source)
    trusted = signing.trusted_file()
    if text.startswith(REGISTERED):
        signed = _signed(text) if trusted is not None else None
        downloaded = _downloaded(text if signed is None else signed.address)
        found = manifest.load(_artifact_in(Path(downloaded.name)))
        if trusted is not None and signed is not None:
            signing.check_text(
                signed.signature,
                found.path,
                name=found.manifest.name,
                version=signed.version,
                trusted=trusted,
                now=datetime.now(UTC),
            )
        return found, downloaded
    folder, version = Path(text).expanduser(), ""
    if not folder.is_dir() and _TAG.fullmatch(text):
        folder, version = _stored(text), text.partition(":")[2].partition("-")[0]
    found = manifest.load(_artifact_in(folder))
    if trusted is not None:
        signing.check(found.path, name=found.manifest.name, version=version, trusted=trusted)
    return found, None


def _artifact_in(folder: Path) -> Path:
    """The artifact of a folder, of a model that MLflow downloaded, or of one in BentoML's store."""
    if not folder.is_dir():
        raise ArtifactError(
            f"{folder} is not a folder; expected the folder of an artifact, a BentoML tag such as "
            "okamochi-credit:3-0123456789ab, or an address of MLflow such as models:/credit@champion"
        )
    for place in (folder, folder / STORED, folder / LOGGED):
        if (place / manifest.MANIFEST).is_file():
            return place
    raise ArtifactError(f"{folder} holds no artifact: it has no {manifest.MANIFEST}")


def _stored(tag: str) -> Path:
    """The folder of a tag in BentoML's store, without the second that an import of BentoML takes."""
    home = Path(os.environ.get("BENTOML_HOME") or "~/bentoml").expanduser()
    name, _, version = tag.partition(":")
    folder = home / "models" / name / version
    sealed = folder / STORED / manifest.MANIFEST
    if sealed.is_file() and not manifest.digest(sealed).startswith(version.rpartition("-")[2]):
        raise ArtifactError(f"{sealed} is not the one that was bundled as {tag}; run `make bundle` again")
    if not folder.is_dir():
        there = sorted(path.name for path in (home / "models" / name).glob("*") if path.is_dir())
        known = f"it has {', '.join(f'{name}:{each}' for each in there[-3:])}" if there else f"no {name}"
        raise ArtifactError(f"BentoML's model store in {home} has no {tag}; {known}")
    return folder


class _Signed(NamedTuple):
    """A registered version: its address, its number and its signature, if it has one."""

    address: str
    version: str
    signature: str | None


def _signed(address: str) -> _Signed:
    """The version that an address names."""
    found = _VERSION.fullmatch(address)
    if found is None:
        raise ArtifactError(
            f"{address} names no registered version, and with {signing.TRUSTED_VARIABLE} only signed ones "
            "are opened: name one as models:/NAME/VERSION or models:/NAME@ALIAS"
        )
    with _mlflow(address) as mlflow:
        client = mlflow.MlflowClient()
        if found["alias"]:
            version = client.get_model_version_by_alias(found["name"], found["alias"])
        else:
            version = client.get_model_version(found["name"], found["version"])
    number = str(version.version)
    # An alias may move between two calls, so the download names the version.
    return _Signed(f"models:/{found['name']}/{number}", number, version.tags.get(tags.SIGNATURE))


@contextmanager
def _mlflow(address: str) -> Iterator[Any]:
    """The module mlflow; its errors, or its absence, become an ArtifactError that names the address."""
    try:
        import mlflow
        from mlflow.exceptions import MlflowException
    except ModuleNotFoundError as error:
        raise ArtifactError(
            f"{address} is an address of MLflow, and the package mlflow is not installed"
        ) from error
    try:
        yield mlflow
    except (MlflowException, OSError) as error:
        raise ArtifactError(f"MLflow does not give {address}: {first_line(error)}") from error


def _downloaded(address: str) -> TemporaryDirectory[str]:
    folder = TemporaryDirectory(prefix="okamochi-")
    with _mlflow(address) as mlflow:
        found = mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=folder.name)
    if not (Path(found) / LOGGED / manifest.MANIFEST).is_file():
        raise ArtifactError(
            f"{address} is no model that Okamochi registered; `python -m training init {address}` makes a "
            "use case for it"
        )
    return folder


def first_line(error: Exception) -> str:
    """What an error of a library says, without its further lines."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def plain_cells(cells: Any) -> Any:
    """Cells as JSON would have them: what pandas calls missing is None, a moment is ISO 8601."""
    if not hasattr(cells, "notna"):
        return cells.tolist() if isinstance(cells, np.ndarray) else list(cells)
    if cells.dtype.kind == "M":
        cells = cells.map(lambda moment: moment.isoformat(), na_action="ignore")
    cells = cells.astype(object)
    return cells.where(cells.notna(), None).tolist()
