"""The server that the pages assume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bento_server import bento_server, prepare
from tests.serving import artifacts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its default model is `breast_cancer`."""
    folder = tmp_path_factory.mktemp("documented")
    made = artifacts.breast_cancer(folder / "breast_cancer")
    prepare(folder / "work", {"breast_cancer": (made.path, "1")})
    with bento_server(folder / "work") as started:
        yield started
