"""What is served is what the fitted scikit-learn pipeline says, for every use case, on rows it never saw."""

from __future__ import annotations

import json
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import skops.io

from artifact import manifest
from artifact.encode import BadRows, Encoder
from artifact.manifest import SKOPS
from artifact.signature import labels
from artifact.trusted import TRUSTED
from tests.bento_server import bento_server, prepare
from tests.servers import PATIENCE_S
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION
from training.settings import all_use_cases, load_use_case
from training.tables.data import load_table, test_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from artifact.manifest import Artifact

NAMES = [use_case.name for use_case in all_use_cases()]
MOST_ROWS = 400


@dataclass(frozen=True)
class Served:
    """Every champion in one server: its address, and the artifacts that it serves."""

    url: str
    artifacts: dict[str, Artifact]


@pytest.fixture(scope="module")
def served(champions: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    found = {}
    registry = Registry(champions)
    for name in NAMES:
        version = registry.version(name, CHAMPION)
        assert version is not None
        found[name] = (registry.download(version, folder / "champions" / name), version.number)
    prepare(folder / "site", found)
    with ExitStack() as stack:
        server = stack.enter_context(bento_server(folder / "site"))
        yield Served(server.url, {name: manifest.load(path) for name, (path, _) in found.items()})


def ask(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        url, json.dumps(body, allow_nan=False).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
        return json.load(reply)


def held_out(name: str, artifact: Artifact) -> list[dict[str, Any]]:
    """The test rows as JSON has them, without those that the signature's policies refuse."""
    table = load_table(load_use_case(name))
    frame = table.frame[test_rows(table)].head(MOST_ROWS).astype(object)
    records = frame.where(frame.notna(), None).to_dict("records")
    encoder = Encoder(artifact.signature)

    def fits(record: dict[str, Any]) -> bool:
        try:
            encoder.records([record])
        except BadRows:
            return False
        return True

    kept = [record for record in records if fits(record)]
    assert len(kept) >= 0.9 * len(records), f"{name}: {len(records) - len(kept)} held-out rows are refused"
    return kept


@pytest.mark.timeout(900)  # the first one trains what is not in the cache
@pytest.mark.parametrize("name", NAMES)
def test_served_equals_the_pipeline(served: Served, name: str) -> None:
    """Labels equal, numbers within the tolerance that the artifact states."""
    artifact = served.artifacts[name]
    signature, tolerance = artifact.signature, artifact.golden().tolerance
    records = held_out(name, artifact)
    pipeline = skops.io.load(artifact.path / SKOPS, trusted=list(TRUSTED))
    matrix = Encoder(signature).records(records)
    url = f"{served.url}/models/{name}/predict"

    if signature.task == "regression":
        expected = np.asarray(pipeline.predict(matrix), float).ravel()
        reply = ask(url, {"records": records})
        np.testing.assert_allclose(reply["prediction"], expected, rtol=0, atol=tolerance)
    else:
        scores = np.asarray(pipeline.predict_proba(matrix), float)
        reply = ask(url, {"records": records, "probabilities": True})
        assert reply["prediction"] == list(labels(signature, scores))
        assert reply["classes"] == list(signature.classes)
        np.testing.assert_allclose(reply["probabilities"], scores, rtol=0, atol=tolerance)
    assert (reply["model"], reply["version"]) == (name, "1")


def test_the_oldest_clients_work_unchanged(served: Served) -> None:
    """Four numbers of a flower give its name; x = 5 gives 10."""
    flower = ask(served.url + "/models/iris/predict", {"features": [[5.1, 3.5, 1.4, 0.2]]})
    assert flower["prediction"] == ["setosa"]

    line = ask(served.url + "/models/linear/predict", {"x": 5})
    assert line["prediction"] == pytest.approx(10.0, abs=1e-6)


def test_the_examples_work(served: Served) -> None:
    """What `GET /models/{name}` shows as an example is a request that is answered."""
    with urllib.request.urlopen(served.url + "/models") as reply:
        models = json.load(reply)["models"]

    assert sorted(model["name"] for model in models) == sorted(NAMES)
    for model in models:
        asked = ask(f"{served.url}/models/{model['name']}/predict", {"records": [model["example"]]})
        assert len(asked["prediction"]) == 1
