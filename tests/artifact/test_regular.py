"""Files that a person names: a pipe in their place is refused at once, wherever one is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from artifact import models_lock, signing
from artifact.key_lines import content_of
from artifact.models_lock import LockError
from artifact.regular import read_regular
from artifact.signing import SigningKeyError
from serving.access import keys, tokens
from serving.access.keys import KeysError

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("read", "error"),
    [
        (models_lock.read, LockError),
        (keys.read, KeysError),
        (lambda path: tokens.read(str(path)), KeysError),
        (lambda path: content_of(path, "OKAMOCHI_TRUSTED_KEYS", KeysError), KeysError),
        (signing._signing_key, SigningKeyError),
    ],
    ids=["models.lock", "keys", "JWKS", "keys on lines", "signing key"],
)
def test_a_pipe_is_no_file(pipe: Path, read: Callable[[Path], object], error: type[Exception]) -> None:
    with pytest.raises(error, match="not a regular file"):
        read(pipe)


def test_a_link_leads_to_its_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link") == b"12345"
    assert read_regular(tmp_path / "link", 2) == b"12"
    for path in (tmp_path, tmp_path / "absent", Path("/dev/zero")):
        with pytest.raises(OSError, match="regular|Is a directory|No such file"):
            read_regular(path)
