"""The same models behind both lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bento_server import bento_server, prepare
from tests.serving.http.lanes import KEEP_ALIVE_S, NAMES, Lanes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.serving.artifacts import Made


LOG = "OKAMOCHI_PREDICTION_LOG"


@pytest.fixture(scope="session")
def lanes(made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    """The same models served with the express lane and without it."""
    folder = tmp_path_factory.mktemp("lanes")
    for lane in ("express", "gateway"):
        prepare(folder / lane, {name: (made[name].path, version) for name, version in NAMES.items()})
    limits = {"OKAMOCHI_MAX_BODY_BYTES": "100000", "OKAMOCHI_MAX_HEAD_BYTES": "8000"}
    limits["OKAMOCHI_KEEP_ALIVE_S"] = str(KEEP_ALIVE_S)
    limits["OKAMOCHI_PREDICTION_LOG_ROWS_PER_S"] = "100000"
    with (
        bento_server(folder / "express", settings=limits | {LOG: str(folder / "log")}) as one,
        bento_server(
            folder / "gateway", settings=limits | {LOG: str(folder / "log2"), "OKAMOCHI_EXPRESS": "0"}
        ) as other,
    ):
        yield Lanes(one, other)
