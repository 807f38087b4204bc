"""`/rank`: the best items of all that a model knows, through its queue."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from artifact import manifest
from artifact.manifest import RANKING, ArtifactError
from artifact.models_lock import CANARY, Entry
from artifact.ranking import best, read
from serving.errors import Problem
from serving.http.gateway import Gateway
from serving.protocols import AnswerLater, Head, later
from serving.roles.canary import Canary
from serving.scoring import catalog
from serving.scoring.scores import Scores
from tests.bento_server import bento_server, prepare
from tests.serving import artifacts
from tests.serving.artifacts import ITEMS
from tests.serving.conftest import PATIENT_SETTINGS, ask
from tests.serving.http.lanes import connect, exchange, request, taken

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.artifacts import Made
    from tests.serving.conftest import Answer


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return artifacts.ratings(tmp_path_factory.mktemp("ratings") / "ratings")


@pytest.fixture(scope="module")
def ranking_gateway(found: Made, made: dict[str, Made]) -> Gateway:
    paths = {"ratings": found.path, "linear": made["linear"].path}
    opened = catalog.load(
        [(name, name) for name in paths],
        lambda tag: (paths[tag], {"version": "4"}),
        PATIENT_SETTINGS,
    )
    assert opened.refused == {}

    async def nothing(*_: Any) -> None:
        """BentoML's application is not asked."""

    return Gateway(nothing, opened, PATIENT_SETTINGS)


def rank(gateway: Gateway, body: Any, path: str = "/models/ratings/rank") -> Answer:
    return asyncio.run(ask(gateway, "POST", path, json.dumps(body).encode()))


def items(answer: Answer) -> list[Any]:
    assert answer.status == 200, answer.body
    return [each["item"] for each in answer.json()["items"]]


@pytest.mark.parametrize("path", ["/rank", "/models/ratings/rank", "/models/ratings/versions/4/rank"])
def test_the_best_items_that_the_user_has_not_rated(ranking_gateway: Gateway, path: str) -> None:
    """User 8 likes item 101 best, then 102 and so on, and has rated these two. Ids are numbers again."""
    answer = rank(ranking_gateway, {"user": 8}, path)

    assert items(answer) == list(range(103, 113))
    said = answer.json()
    assert said["items"][0]["score"] == pytest.approx(4.8)
    assert (said["user"], said["by"], said["cold_start"]) == (8, "rating", False)
    assert (said["model"], said["version"]) == ("ratings", "4")
    assert "unknown_excluded" not in said


def test_seen_items_count_where_they_are_asked_for(ranking_gateway: Gateway) -> None:
    assert items(rank(ranking_gateway, {"user": "8", "k": 3, "seen": True})) == [101, 102, 103]
    assert items(rank(ranking_gateway, {"user": "8", "k": None, "seen": None})) == list(range(103, 113))


def test_excluded_items_are_left_out_and_unknown_ones_are_told(ranking_gateway: Gateway) -> None:
    answer = rank(ranking_gateway, {"user": 8.0, "k": 2, "exclude": [103, "104", 105.0, "zz", 999]})

    assert items(answer) == [106, 107]
    assert answer.json()["unknown_excluded"] == ["zz", 999]


@pytest.mark.parametrize("user", ["nobody", "ann", True, 12345])
def test_an_unknown_user_gets_the_popular_items(ranking_gateway: Gateway, user: Any) -> None:
    """Ann is in the table of users, and has no rating in the training rows."""
    answer = rank(ranking_gateway, {"user": user, "k": 3, "exclude": [128]})

    assert items(answer) == [129, 127, 126]
    assert answer.json()["cold_start"] is True
    assert answer.json()["by"] == "popularity"


def test_several_users_in_one_request(ranking_gateway: Gateway) -> None:
    said = rank(ranking_gateway, {"user": [9, "x", "7"], "k": 1}).json()

    assert [(each["user"], each["items"][0]["item"]) for each in said["rankings"]] == [
        (9, 104),
        ("x", 129),
        ("7", 102),
    ]
    assert [each["cold_start"] for each in said["rankings"]] == [False, True, False]


LONG: dict[str, Any] = {"user": ["7", 8, "nobody", 9] * 16, "k": 11}


def test_a_long_reply_has_what_short_ones_have(ranking_gateway: Gateway) -> None:
    """It is made in a thread."""
    endpoint = ranking_gateway.live.routes.endpoints["/rank"]
    query = endpoint.read(json.dumps(LONG).encode(), Head())
    scores = Scores(endpoint.model.score(query.rows), endpoint.model.signature)
    with pytest.raises(AnswerLater):
        endpoint.answer(query, scores, 0)

    said = rank(ranking_gateway, LONG).json()
    short = [rank(ranking_gateway, {"user": user, "k": 11}).json() for user in LONG["user"][:4]]

    assert [{**each, **said} for each in said.pop("rankings")] == [{**each, **said} for each in short] * 16
    one = rank(ranking_gateway, {"user": 8, "k": 700, "exclude": ["zz"]}).json()
    other = rank(ranking_gateway, {"user": 8, "k": 600, "exclude": ["zz"]}).json()
    assert one | {"id": ""} == other | {"id": ""}
    assert list(one) == list(other)


def test_long_replies_that_wait_are_bounded(
    ranking_gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(later, "MAX_WAITING", 0)

    answer = rank(ranking_gateway, LONG)

    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert rank(ranking_gateway, {"user": 8}).status == 200


def test_a_long_reply_whose_deadline_is_over_is_not_made() -> None:
    async def made() -> Any:
        return await later.make(AnswerLater(lambda: pytest.fail("it was made")), due=0.0)

    with pytest.raises(Problem, match="before the deadline") as refused:
        asyncio.run(made())
    assert (refused.value.status, refused.value.reason) == (429, "deadline")


def test_the_express_lane_answers_long_requests_too(found: Made, tmp_path: Path) -> None:
    """In the order in which they came, and to a client that is still there."""
    prepare(tmp_path / "work", {"ratings": (found.path, "4")})
    body = json.dumps(LONG).encode()
    with bento_server(tmp_path / "work") as server:
        with connect(server) as connection:
            for _ in range(20):  # whose client leaves
                connection.sendall(request(body, path="/rank"))
        short = request(b'{"user": 8}', path="/rank")
        pipelined = exchange(server, [(request(body, path="/rank") + short) * 3])
        with httpx.Client(base_url=server.url) as client:
            one_by_one = [client.post("/rank", content=each) for each in (body, b'{"user": 8}', body)]
        by_express = taken(server, "express")

    assert [reply.status for reply in pipelined] == [200] * 7
    assert [len(json.loads(reply.body)) for reply in pipelined[:6]] == [4, 7] * 3
    assert [len(reply.json()) for reply in one_by_one] == [4, 7, 4]
    assert [len(reply.json()["rankings"]) for reply in one_by_one[::2]] == [len(LONG["user"])] * 2
    assert by_express >= 3


def test_more_items_than_there_are_is_all_of_them(ranking_gateway: Gateway) -> None:
    assert len(items(rank(ranking_gateway, {"user": 8, "k": 1000}))) == len(ITEMS) - 2
    assert items(rank(ranking_gateway, {"user": 8, "exclude": list(ITEMS)})) == []


@pytest.mark.parametrize(
    ("body", "place", "reason"),
    [
        ({}, "user", "missing; expected a value of the column 'user'"),
        ({"user": None}, "user", "expected a value of the column 'user', got null"),
        ({"user": " "}, "user", "expected a value"),
        ({"user": [8, None]}, "user", "expected a value"),
        ({"user": []}, "user", "empty list"),
        ({"user": [8] * 65}, "user", "at most 64 values in one request, got 65"),
        ({"user": {"id": 8}}, "user", "expected a category, got an object"),
        ({"user": [[8]]}, "user", "expected a category"),
        ({"user": 8, "k": 0}, "k", "expected a whole number from 1 to 1000, got 0"),
        ({"user": 8, "k": 1001}, "k", "got 1001"),
        ({"user": 8, "k": 2.5}, "k", "got 2.5"),
        ({"user": 8, "k": "3"}, "k", "got the text '3'"),
        ({"user": 8, "k": True}, "k", "got true"),
        ({"user": 8, "exclude": "103"}, "exclude", "expected a list of items, got the text '103'"),
        ({"user": 8, "exclude": [1, [2]]}, "exclude", "place 1: expected an item, got a list"),
        ({"user": 8, "exclude": [None]}, "exclude", "place 0: expected an item, got null"),
        ({"user": 8, "seen": 1}, "seen", "expected true or false"),
        ({"user": 8, "exlude": []}, "exlude", "did you mean 'exclude'?"),
        ({"records": [{"user": 8}]}, "records", "unknown key"),
    ],
)
def test_a_wrong_request_is_refused_with_its_place(
    ranking_gateway: Gateway, body: Any, place: str, reason: str
) -> None:
    answer = rank(ranking_gateway, body)

    assert answer.status == 422
    error = answer.json()["errors"][0]
    assert error["column"] == place
    assert reason in error["reason"]
    assert "ann" not in answer.body.decode(), "an error names another user"


@pytest.mark.parametrize("body", [[1], 5, "user", None])
def test_a_body_that_is_no_object_is_refused(ranking_gateway: Gateway, body: Any) -> None:
    assert rank(ranking_gateway, body).status == 422


def test_a_model_without_a_ranking_says_so(ranking_gateway: Gateway) -> None:
    answer = rank(ranking_gateway, {"user": 8}, "/models/linear/rank")

    assert answer.status == 404
    assert "ranks no items: its use case has no table [rank]" in answer.json()["detail"]
    assert rank(ranking_gateway, {"user": 8}, "/models/none/rank").status == 404
    unknown = rank(ranking_gateway, {"user": 8}, "/models/ratings/versions/3/rank")
    assert "the loaded version is '4'" in unknown.json()["detail"]
    assert asyncio.run(ask(ranking_gateway, "GET", "/models/ratings/rank")).status == 405


def test_pages_show_the_ranking(ranking_gateway: Gateway) -> None:
    about = asyncio.run(ask(ranking_gateway, "GET", "/models/ratings")).json()
    document = asyncio.run(ask(ranking_gateway, "GET", "/openapi.json")).json()

    assert about["rank"] == {"query": "user", "item": "item", "by": "rating", "users": 4, "items": 30}
    assert "rank" not in asyncio.run(ask(ranking_gateway, "GET", "/models/linear")).json()
    operation = document["paths"]["/models/ratings/rank"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["examples"]["one"]["value"]
    assert len(items(rank(ranking_gateway, example))) == 3
    assert "/models/linear/rank" not in document["paths"]


def test_a_canary_ranks_for_its_callers(tmp_path: Path, found: Made) -> None:
    """By the same key as for predictions; and each version ranks in its own route."""
    paths = {"one": found.path, "two": artifacts.ratings(tmp_path / "ratings", shift=10).path}
    opened = catalog.load(
        [("ratings", "one")],
        lambda tag: (paths[tag], {"version": "12"[tag == "two"]}),
        PATIENT_SETTINGS,
        [Entry("ratings", "two", CANARY, 50.0)],
    )

    async def nothing(*_: Any) -> None:
        """BentoML's application is not asked."""

    gateway = Gateway(nothing, opened, PATIENT_SETTINGS)
    answers: dict[str, set[int]] = {}
    for number in range(20):
        headers = {"X-Canary-Key": f"caller {number}"}
        said = [
            asyncio.run(ask(gateway, "POST", route, body, headers)).json()
            for route, body in (
                ("/rank", b'{"user": 8, "k": 1}'),
                ("/predict", b'{"records": [{"user": 8, "item": 100}]}'),
            )
        ]
        assert said[0]["version"] == said[1]["version"]
        answers.setdefault(said[0]["version"], set()).add(said[0]["items"][0]["item"])
    assert answers == {"1": {103}, "2": {111}}
    for version, item in (("1", 103), ("2", 111)):
        answer = rank(gateway, {"user": 8, "k": 1}, f"/models/ratings/versions/{version}/rank")
        assert items(answer) == [item]
    (canary,) = gateway._roles._states.values()
    assert isinstance(canary, Canary)
    canary.share()  # of both routes, whose scores are as many as the items, or one
    assert {len(scores) for scores in canary.own.scores} == {1}
    gateway._roles.close()
    opened.close()


@pytest.mark.parametrize("seed", range(5))
def test_the_best_are_those_of_a_full_sort(seed: int) -> None:
    """Also among equal scores, of which the lower code comes first."""
    random = np.random.default_rng(seed)
    scores = random.integers(0, 9, 200).astype(float)
    left_out = random.choice(200, 50)
    order = [place for place in np.argsort(-scores, kind="stable").tolist() if place not in left_out]

    for k in (1, 10, 199, 500):
        assert best(scores, left_out, k).tolist() == order[:k]


def test_a_ranking_that_is_not_the_one_that_was_written_is_refused(tmp_path: Path) -> None:
    """A score that differs, arrays that do not fit, and a file that holds something else."""
    path = artifacts.ratings(tmp_path / "ratings").path
    with np.load(path / RANKING) as file:
        arrays = dict(file)
    for change, reason in (
        ({"items": arrays["items"] + 0.1}, "golden rows"),
        ({"bias": arrays["bias"][:5]}, "does not have 4 users and 30 items"),
        ({"rated": arrays["rated"] + 30}, "does not have"),
        ({"query": np.array("visitor")}, "no category of the signature"),
        ({"cold": np.where(arrays["cold"] == 5, np.inf, arrays["cold"])}, "not finite"),
        ({"items": np.where(arrays["items"] == 5, np.nan, arrays["items"])}, "not finite"),
        ({"users": arrays["users"] * 1e200, "items": arrays["items"] * 1e200}, "not finite"),
    ):
        np.savez(path / RANKING, **(arrays | change))
        artifacts.reseal(path)
        with pytest.raises(ArtifactError, match=reason):
            read(manifest.load(path))
    (path / RANKING).write_bytes(b"PK no archive")
    artifacts.reseal(path)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read(manifest.load(path))
