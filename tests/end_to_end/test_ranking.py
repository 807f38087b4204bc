"""The example that ranks: trained, stored, served, asked on both lanes, and swapped while it serves."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from artifact import manifest
from artifact.encode import Encoder
from artifact.ranking import Ranking, best, read
from tests.bento_server import bento_server, prepare, store
from tests.servers import PATIENCE_S
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from artifact.manifest import Artifact

ROUTE = "/models/recommend/rank"


@dataclass(frozen=True)
class Served:
    url: str
    site: Path
    artifact: Artifact
    ranking: Ranking

    def ask(self, path: str, body: dict[str, Any], **headers: str) -> Any:
        reply = httpx.post(self.url + path, json=body, headers=headers, timeout=PATIENCE_S)
        assert reply.status_code == 200, reply.text
        return reply.json()


@pytest.fixture(scope="module")
def served(champions: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("ranking")
    registry = Registry(champions)
    version = registry.version("recommend", CHAMPION)
    assert version is not None
    path = registry.download(version, folder / "champion")
    artifact = manifest.load(path, name="recommend")
    ranking = read(artifact)
    assert ranking is not None
    prepare(folder / "site", {"recommend": (path, "1")})
    settings = {"OKAMOCHI_PREDICTION_LOG": str(folder / "site" / "log"), "OKAMOCHI_WATCH_S": "0.2"}
    with bento_server(folder / "site", settings=settings) as server:
        yield Served(server.url, folder / "site", artifact, ranking)


def test_the_champion_is_exact_and_its_card_has_the_ranking(served: Served) -> None:
    figures = served.artifact.manifest.metrics
    card = (served.artifact.path / "card.md").read_text()

    assert served.artifact.manifest.runtime == "onnx"
    assert figures["rmse"] < 0.56
    assert {"ndcg_at_10", "recall_at_10", "coverage_at_10"} <= figures.keys()
    assert "### Ranking" in card


@pytest.mark.parametrize("lane", ["express", "gateway"])
def test_served_items_are_those_of_the_ranking(served: Served, lane: str) -> None:
    """A header that the express lane does not take sends a request to the gateway's lane."""
    users = ["u012", "u100", "nobody"]
    headers = {"Expect": "100-continue"} if lane == "gateway" else {}
    said = served.ask(ROUTE, {"user": users, "k": 5, "exclude": ["f03"]}, **headers)

    codes = Encoder(served.artifact.signature).columns(
        {name: users if name == "user" else [None] * 3 for name in served.artifact.signature.names},
        lenient=True,
    )
    place = served.artifact.signature.places[served.artifact.signature.names.index("user")].start
    films = next(each for each in served.artifact.signature.columns if each.name == "film").categories
    scores = served.ranking.score(codes[:, [place]])
    for row, each in enumerate(said["rankings"]):
        user = int(codes[row, place])
        left_out = np.append(served.ranking.seen(user), films.index("f03"))
        wanted = [films[item] for item in best(scores[row], left_out, 5)]
        assert [item["item"] for item in each["items"]] == wanted
        assert each["cold_start"] is (row == 2)


def test_predict_still_answers_ratings(served: Served) -> None:
    golden = served.artifact.golden()

    said = served.ask("/predict", {"records": golden.records})

    np.testing.assert_allclose(said["prediction"], np.array(golden.scores)[:, 0], atol=1e-9)


def test_rankings_are_counted_and_logged(served: Served) -> None:
    said = served.ask(ROUTE, {"user": "u012", "k": 2})

    metrics = httpx.get(served.url + "/metrics").text
    assert 'okamochi_requests_total{endpoint="rank",model="recommend",status="200"}' in metrics
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        lines = [
            json.loads(line)
            for path in (served.site / "log").glob("predictions-*.jsonl")
            for line in path.read_text().splitlines()
            if said["id"] in line
        ]
        if lines:
            break
        time.sleep(0.1)
    assert lines[0]["columns"] == {"user": "u012"}
    assert lines[0]["prediction"] == [each["item"] for each in said["items"]]
    assert lines[0]["endpoint"] == "rank"


def test_a_swap_takes_the_ranking_along(served: Served) -> None:
    """The last test: another version of the model serves from now on."""
    lines = store(served.site, [("recommend", served.artifact.path, "2")])
    lock = served.site / "models.lock"
    new = lock.with_suffix(".new")
    new.write_text(f"{lines[0]}\n")
    new.replace(lock)

    end = time.monotonic() + PATIENCE_S
    while (said := served.ask(ROUTE, {"user": "u012"}))["version"] != "2":
        assert time.monotonic() < end, "the new version never went live"
        time.sleep(0.1)
    assert len(said["items"]) == 10
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(
            urllib.request.Request(
                f"{served.url}/models/recommend/versions/1/rank", b"{}", {"Content-Type": "application/json"}
            )
        )
