"""A server of quick models, of a slow one and of one that raises on a valid row, for faults to happen to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from artifact.encode import Encoder
from tests.bento_server import bento_server, prepare
from tests.serving import artifacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from tests.servers import Server
    from tests.serving.artifacts import Made

FULL = os.environ.get("OKAMOCHI_FAULTS") == "1"
"""`make faults`: the promised numbers of requests; `make test-deep` sends a part of them."""

collect_ignore = [] if FULL else ["test_access.py", "test_grpc.py"]
"""They take minutes at any size; tests/serving sends some of the attacks and messages."""

VERSIONS = {"iris": "12", "linear": "1", "loans": "2", "slow": "3", "fragile": "4"}


def native(directory: Path, name: str, model: Any) -> Made:
    """Iris by scikit-learn itself, with columns that may be missing."""
    data = load_iris()
    signature = artifacts.iris_signature(data.data, missing="allow")
    rows: list[list[Any]] = data.data.tolist()
    model.fit(Encoder(signature).rows(rows), np.asarray(data.target))
    return artifacts.seal(directory, name, model, signature, rows, runtime="python")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("faults-artifacts")
    return {
        "iris": artifacts.iris(folder / "iris"),
        "linear": artifacts.linear(folder / "linear"),
        "loans": artifacts.loans(folder / "loans"),
        # 20 to 50 ms a call.
        "slow": native(folder / "slow", "slow", RandomForestClassifier(300, max_depth=2, random_state=0)),
        # Raises where a value is missing, which its signature allows.
        "fragile": native(folder / "fragile", "fragile", LogisticRegression(max_iter=500)),
    }


@pytest.fixture(scope="session")
def serve(
    made: dict[str, Made], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., AbstractContextManager[Server]]:
    """Start a server of its own for a test that stops it, in the folder `work` of `into` if that is given.

    `models` are those that the test asks, the default first. A model of scikit-learn is one more process.
    """

    def start(
        *arguments: str,
        into: Path | None = None,
        within: Sequence[str] = (),
        models: Sequence[str] = tuple(VERSIONS),
        **settings: str,
    ) -> AbstractContextManager[Server]:
        folder: Path = (into or tmp_path_factory.mktemp("faults")) / "work"
        prepare(folder, {name: (made[name].path, VERSIONS[name]) for name in models})
        return bento_server(folder, *arguments, settings=settings, within=within)

    return start


@pytest.fixture(scope="session")
def server(serve: Callable[..., AbstractContextManager[Server]]) -> Iterator[Server]:
    """One that outlives whatever clients send."""
    with serve() as started:
        yield started


@pytest.fixture(scope="session")
def figures() -> Iterator[dict[str, Any]]:
    """What `make faults` writes to reports/faults.json."""
    found: dict[str, Any] = {}
    yield found
    if FULL and found:
        path = Path(__file__).parents[2] / "reports" / "faults.json"
        path.parent.mkdir(exist_ok=True)
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(before | found, indent=1, sort_keys=True) + "\n")
