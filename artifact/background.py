"""Rows of the training table that explanations compare a row with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from artifact.manifest import BACKGROUND, read_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from artifact.manifest import Artifact

ROWS = 64
"""The most rows; each explanation scores all of them many times."""


def write(directory: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as a client sends them, before the artifact is sealed."""
    content = msgspec.json.encode({"records": records})
    (directory / BACKGROUND).write_bytes(msgspec.json.format(content, indent=1) + b"\n")


def read(artifact: Artifact) -> list[dict[str, Any]]:
    """The rows; empty for an artifact that was made before artifacts had them.

    Raises
    ------
    ArtifactError
        The file holds something else.
    """
    return read_list(artifact, BACKGROUND, "records", dict[str, list[dict[str, Any]]])
