"""The files of an artifact, and the proof that they are the ones that training wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from time import sleep
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
import numpy as np

from artifact.encode import Encoder
from artifact.signature import Signature, labels

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT = 1
MANIFEST, SIGNATURE, GOLDEN, REFERENCE = "manifest.json", "signature.json", "golden.json", "reference.json"
CARD, ONNX, SKOPS, MODEL = "card.md", "model.onnx", "model.skops", "model.json"
BACKGROUND, CALIBRATION = "background.json", "calibration.json"
GOLDEN_TENSORS = "golden.tensors"
RANKING = "ranking.npz"

BLOCK_BYTES = 1 << 20
PAUSE_S = 0.003
"""Of a digest at low priority, after each block, which takes 0.6 ms."""

T = TypeVar("T")
Score = Callable[["NDArray[np.float64]"], "NDArray[np.float64]"]


class ArtifactError(Exception):
    """An artifact must not be served; the message says why."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an artifact holds and how it was made.

    Parameters
    ----------
    name
        The use case.
    created
        UTC, ISO 8601.
    runtime
        What scores: onnxruntime on model.onnx, or the model itself in a process of its own, for
        `runtime_reason`. Artifacts of before 0.2.0 call the second "sklearn".
    precision
        The type of the ONNX input, which is always the same; servers of 0.2.0 and older require the key.
    metrics
        Figures on the held-out rows.
    libraries
        Versions that fitted and exported the model, by distribution name.
    files
        SHA-256 of every other file, by name.
    """

    name: str
    run_id: str
    created: str
    runtime: Literal["onnx", "python", "sklearn"]
    algorithm: str
    metric: str
    metrics: dict[str, float]
    libraries: dict[str, str]
    files: dict[str, str]
    runtime_reason: str = ""
    precision: Literal["float64"] = "float64"
    format: int = FORMAT


class Golden(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Held-out rows with the scores that the fitted estimator gave.

    Parameters
    ----------
    scores
        One list of `signature.outputs` numbers a record.
    tolerance
        The largest allowed difference of a served score.
    """

    records: list[dict[str, Any]]
    scores: list[list[float]]
    tolerance: float


class _Sealed(msgspec.Struct, frozen=True):
    """manifest.json: the manifest under its own digest, since no other file can hold that one."""

    sha256: str
    manifest: msgspec.Raw


@dataclass(frozen=True)
class Artifact:
    """A verified artifact in a folder."""

    path: Path
    manifest: Manifest
    signature: Signature

    def golden(self) -> Golden:
        """The golden rows."""
        return msgspec.json.decode((self.path / GOLDEN).read_bytes(), type=Golden)


def write(directory: Path, *, signature: Signature, golden: Golden, **fields: Any) -> Manifest:
    """Seal the files in `directory` as an artifact.

    Writes signature.json and golden.json, then manifest.json, last, with the digest of every file that stands
    there by then. `fields` are those of `Manifest` but `files`.
    """
    (directory / MANIFEST).unlink(missing_ok=True)
    (directory / SIGNATURE).write_bytes(_pretty(signature))
    (directory / GOLDEN).write_bytes(_pretty(golden))
    files = {name: digest(directory / name) for name in sorted(_files(directory))}
    manifest = Manifest(files=files, **fields)
    raw = msgspec.json.encode(manifest)
    sealed = _Sealed(sha256=hashlib.sha256(raw).hexdigest(), manifest=msgspec.Raw(raw))
    (directory / MANIFEST).write_bytes(msgspec.json.encode(sealed) + b"\n")
    return manifest


def load(directory: Path, *, name: str | None = None, low_priority: bool = False) -> Artifact:
    """Read an artifact whose every file is the one that was sealed.

    Parameters
    ----------
    name
        The use case that the caller means; another one's artifact is refused.
    low_priority
        See `digest`.

    Raises
    ------
    ArtifactError
        A file is absent, damaged, swapped or unlisted, or the format is another one.
    """
    manifest = _read_manifest(directory)
    if name is not None and manifest.name != name:
        raise ArtifactError(f"{directory} holds a model of {manifest.name!r}, expected one of {name!r}")
    present = _files(directory) - {MANIFEST}
    for absent in sorted(manifest.files.keys() - present):
        raise ArtifactError(f"{directory / absent} is missing, but the manifest lists it")
    for unlisted in sorted(present - manifest.files.keys()):
        raise ArtifactError(
            f"{directory / unlisted} is not listed in the manifest; an artifact holds no other file"
        )
    own = () if MODEL in manifest.files else (ONNX if manifest.runtime == "onnx" else SKOPS,)
    for required in (SIGNATURE, GOLDEN, *own):
        if required not in manifest.files:
            raise ArtifactError(f"the manifest in {directory} lists no {required}")
    for file, expected in manifest.files.items():
        found = digest(directory / file, low_priority=low_priority)
        if found != expected:
            raise ArtifactError(
                f"{directory / file} is damaged or not this model's: its SHA-256 is {found[:12]}..., "
                f"the manifest says {expected[:12]}..."
            )
    try:
        signature = msgspec.json.decode((directory / SIGNATURE).read_bytes(), type=Signature)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ArtifactError(f"{directory / SIGNATURE} cannot be read: {error}") from error
    return Artifact(directory, manifest, signature)


def read_list(artifact: Artifact, file: str, key: str, kind: type[dict[str, list[T]]]) -> list[T]:
    """The list under the key of a JSON file; empty where the artifact has no such file.

    Raises
    ------
    ArtifactError
        The file holds something else.
    """
    path = artifact.path / file
    if not path.exists():
        return []
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)[key]
    except (msgspec.MsgspecError, KeyError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error


def check_golden(artifact: Artifact, score: Score) -> None:
    """Score the golden rows as a client's would be.

    Raises
    ------
    ArtifactError
        A score or a label differs from the fitted estimator's.
    """
    golden = artifact.golden()
    signature = artifact.signature
    expected = np.array(golden.scores, np.float64).reshape(len(golden.records), signature.outputs)
    try:
        scores = score(Encoder(signature).records(golden.records, lenient=True))
    except Exception as error:
        raise ArtifactError(f"the golden rows of {artifact.path} cannot be scored: {error}") from error
    if scores.shape != expected.shape:
        raise ArtifactError(
            f"golden rows of {artifact.path}: scores of shape {scores.shape}, expected {expected.shape}"
        )
    apart = np.abs(scores - expected)
    if signature.numbers:  # the tolerance is that of the largest number
        sizes = np.maximum(np.abs(expected).max(axis=0, initial=0.0), np.finfo(float).tiny)
        apart *= sizes.max() / sizes
    worst = float(apart.max(initial=0.0))
    if not worst <= golden.tolerance:
        raise ArtifactError(
            f"golden rows of {artifact.path}: a score differs by {worst:.3g}, not {golden.tolerance:.3g}"
        )
    if signature.classes and labels(signature, scores) != labels(signature, expected):
        raise ArtifactError(
            f"golden rows of {artifact.path}: a label differs from the one that training gave"
        )


def _files(directory: Path) -> set[str]:
    """Every file below a folder, by its path in it."""
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir()}


def digest(path: Path, *, low_priority: bool = False) -> str:
    """SHA-256 of a file, in hexadecimal.

    Parameters
    ----------
    low_priority
        Pause after each block, so that the other threads of this process wait for no more than one.
    """
    if not low_priority:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    found = hashlib.sha256()
    block = memoryview(bytearray(BLOCK_BYTES))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(block):
            found.update(block[:size])
            sleep(PAUSE_S)
    return found.hexdigest()


def _read_manifest(directory: Path) -> Manifest:
    path = directory / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error
    try:
        sealed = msgspec.json.decode(content, type=_Sealed)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is damaged: {error}") from error
    raw = bytes(sealed.manifest)
    if hashlib.sha256(raw).hexdigest() != sealed.sha256:
        raise ArtifactError(f"{path} is damaged: its own SHA-256 does not match")
    found = msgspec.json.decode(raw).get("format")
    if found != FORMAT:
        raise ArtifactError(
            f"{path} is of format {found}, this version reads {FORMAT}; train the model again"
        )
    try:
        return msgspec.json.decode(raw, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error


def _pretty(value: Signature | Golden) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


__all__ = ["Artifact", "ArtifactError", "Golden", "Manifest", "check_golden", "digest", "load", "write"]
