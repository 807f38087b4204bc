"""Explanations as clients get them: `/explain`, `/predict` with `explain`, `/v2`, and a picture."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from itertools import permutations
from time import perf_counter
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from serving.errors import Problem
from serving.http.gateway import Gateway
from serving.scoring import catalog
from serving.scoring.explain import Explain
from serving.settings import Settings
from tests.serving import artifacts
from tests.serving.conftest import PATIENT_SETTINGS, Answer, ask, elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.serving.artifacts import Made

MODELS = ("breast_cancer", "iris", "linear", "loans", "forest")


def post(gateway: Gateway, path: str, body: Any, **headers: str) -> Answer:
    sent = json.dumps(body).encode()
    return asyncio.run(ask(gateway, "POST", path, sent, {k.replace("_", "-"): v for k, v in headers.items()}))


def xml_of(text: str | bytes) -> Any:
    """The root of what this server has drawn."""
    return ET.fromstring(text)  # noqa: S314 - our own


def summed(explanation: dict[str, Any]) -> float:
    return sum(each["contribution"] for each in explanation["contributions"])


@pytest.mark.parametrize("name", MODELS)
def test_contributions_sum_to_the_score_less_the_base(
    gateway: Gateway, made: dict[str, Made], name: str
) -> None:
    """Of every column of the table, the largest first, for every task and runtime."""
    rows = made[name].rows[2:5]
    answer = post(gateway, f"/models/{name}/explain", {"features": rows})

    assert answer.status == 200, answer.body
    found = answer.json()
    predicted = post(gateway, f"/models/{name}/predict", {"features": rows}).json()
    assert found["prediction"] == predicted["prediction"]
    assert found.keys() == {"prediction", "explanations", "model", "version", "id"}
    for each, prediction, scores in zip(
        found["explanations"], found["prediction"], made[name].scores(rows), strict=True
    ):
        assert each["prediction"] == prediction
        assert each["base"] + summed(each) == pytest.approx(each["score"], abs=1e-6)
        sizes = [abs(part["contribution"]) for part in each["contributions"]]
        assert sizes == sorted(sizes, reverse=True)
        columns = [part["column"] for part in each["contributions"]]
        assert sorted(columns) == sorted(made[name].signature.names)
        assert each["method"] in {"exact", "sampled"}
        assert each["error"] == 0 or each["method"] == "sampled" or each["error"] < 1e-5
        signature = made[name].signature
        if signature.task == "regression":
            assert "class" not in each
            assert each["score"] == pytest.approx(scores[0], abs=1e-5)
        else:
            label = signature.positive if signature.task == "binary" else prediction
            assert each["class"] == label
            assert each["score"] == pytest.approx(scores[signature.classes.index(label)], abs=1e-5)


def test_few_columns_are_the_exact_values_of_the_model_as_it_is_served(
    gateway: Gateway, made: dict[str, Made]
) -> None:
    iris = made["iris"]
    row = iris.rows[70]
    background = np.array(iris.rows[:: len(iris.rows) // 64][:64])

    def score(rows: Any) -> float:
        return float(iris.scores(np.asarray(rows).tolist())[:, 1].mean())

    expected = np.zeros(4)
    for order in permutations(range(4)):
        rows = background.copy()
        before = score(rows)
        for column in order:
            rows[:, column] = row[column]
            after = score(rows)
            expected[column] += (after - before) / 24
            before = after

    found = post(gateway, "/models/iris/explain", {"features": [row], "class": "versicolor"}).json()
    each = found["explanations"][0]
    values = {part["column"]: part["contribution"] for part in each["contributions"]}
    assert each["method"] == "exact"
    assert np.allclose([values[name] for name in iris.signature.names], expected, atol=1e-5)


def test_the_class_may_be_asked_for_and_the_scores_may_be_log_odds(
    gateway: Gateway, made: dict[str, Made]
) -> None:
    row = made["iris"].rows[70]
    chances = made["iris"].scores([row])[0]
    for index, label in enumerate(made["iris"].signature.classes):
        body = {"features": [row], "class": label}
        each = post(gateway, "/models/iris/explain", body).json()["explanations"][0]
        assert each["class"] == label
        assert each["score"] == pytest.approx(chances[index], abs=1e-6)
        odds = post(gateway, "/models/iris/explain", body | {"log_odds": True}).json()["explanations"][0]
        expected = np.log(chances[index]) - np.log(1 - chances[index])
        assert odds["score"] == pytest.approx(expected, abs=1e-4)
        assert odds["base"] + summed(odds) == pytest.approx(odds["score"], abs=1e-6)


def test_false_is_a_class_as_well_as_a_text(gateway: Gateway, made: dict[str, Made]) -> None:
    row = made["loans"].rows[:1]
    for label in (False, "False"):
        found = post(gateway, "/models/loans/explain", {"features": row, "class": label}).json()
        assert found["explanations"][0]["class"] is False


def test_predictions_are_explained_beside_their_probabilities(
    gateway: Gateway, made: dict[str, Made]
) -> None:
    body = {"features": made["iris"].rows[:3], "explain": True, "probabilities": True}
    found = post(gateway, "/predict", body | {"features": made["breast_cancer"].rows[:3]}).json()
    assert len(found["explanations"]) == len(found["prediction"]) == len(found["probabilities"]) == 3

    low = post(
        gateway,
        "/models/breast_cancer/explain",
        {"features": made["breast_cancer"].rows[:1], "threshold": 1.0},
    ).json()
    assert low["explanations"][0]["prediction"] == low["prediction"][0] == "benign"


def test_every_kind_of_column_counts_as_one_and_a_text_has_its_words(gateway: Gateway) -> None:
    row = [30, None, "clerk", "Ulm", "2020-05-17", "paid late"]
    found = post(gateway, "/models/loans/explain", {"features": [row]}).json()["explanations"][0]
    parts = {part["column"]: part for part in found["contributions"]}
    assert found["method"] == "exact"
    assert parts["age"]["value"] == 30
    assert parts["income"]["value"] is None
    assert parts["job"]["value"] == "clerk"
    assert {word["word"] for word in parts["note"]["words"]} == {"late", "paid"}
    assert "words" not in parts["age"]


def test_a_version_can_be_named(gateway: Gateway, made: dict[str, Made]) -> None:
    row = made["linear"].rows[:1]
    found = post(gateway, "/models/linear/versions/1/explain", {"features": row})
    assert found.status == 200
    other = post(gateway, "/models/linear/versions/9/explain", {"features": row})
    assert other.status == 404
    assert "version is '1'" in other.json()["detail"]
    assert asyncio.run(ask(gateway, "GET", "/explain")).status == 405


@pytest.mark.parametrize(
    ("route", "options", "says"),
    [
        ("iris/predict", {"explain": 1}, "'explain': expected true or false, got 1"),
        ("iris/predict", {"class": "setosa"}, "no explanation is asked for"),
        ("iris/predict", {"log_odds": True}, "no explanation is asked for"),
        ("iris/explain", {"class": "rose"}, "expected one of setosa, versicolor, virginica"),
        ("iris/explain", {"class": ["setosa"]}, "got a list"),
        ("iris/explain", {"log_odds": "yes"}, "expected true or false"),
        ("linear/explain", {"class": "y"}, "is a regression, which has no classes"),
        ("linear/explain", {"log_odds": True}, "is a regression and has no probabilities"),
        ("iris/explain", {"clas": "setosa"}, "did you mean 'class'"),
        ("loans/explain", {"class": 1}, "expected one of False, True"),
    ],
)
def test_a_wrong_option_is_named(
    gateway: Gateway, made: dict[str, Made], route: str, options: dict[str, Any], says: str
) -> None:
    rows = made[route.partition("/")[0]].rows[:1]
    answer = post(gateway, f"/models/{route}", {"features": rows} | options)
    assert answer.status == 422
    assert says in answer.json()["detail"]


def test_an_unknown_column_is_named(gateway: Gateway) -> None:
    answer = post(gateway, "/models/iris/explain", {"records": [{"sepal_lenght": 1}]})
    assert answer.status == 422
    assert "did you mean 'sepal_length'" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/models/iris/explain", "/models/iris/predict"])
def test_sixty_four_rows_are_explained_and_sixty_five_are_refused(
    gateway: Gateway, made: dict[str, Made], path: str
) -> None:
    body = {"features": made["iris"].rows[:65], "explain": True}
    answer = post(gateway, path, body)
    assert answer.status == 413
    assert "65 rows to explain" in answer.json()["detail"]
    assert "64" in answer.json()["detail"]
    found = post(gateway, path, {**body, "features": made["iris"].rows[:64]})
    assert len(found.json()["explanations"]) == 64


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A model from before artifacts had background rows."""
    made = artifacts.iris(tmp_path_factory.mktemp("old") / "iris")
    (made.path / "background.json").unlink()
    artifacts.reseal(made.path)
    found = catalog.load([("iris", "iris")], lambda _: (made.path, {"version": "1"}), PATIENT_SETTINGS)
    assert found.refused == {}
    yield Gateway(elsewhere, found, PATIENT_SETTINGS)
    found.close()


def test_a_model_without_background_rows_says_how_to_add_them(old: Gateway, made: dict[str, Made]) -> None:
    rows = made["iris"].rows[:1]
    for path, body in (
        ("/explain", {"features": rows}),
        ("/predict", {"features": rows, "explain": True}),
    ):
        answer = post(old, path, body)
        assert answer.status == 422
        assert "python -m training run iris" in answer.json()["detail"]
    assert post(old, "/predict", {"features": rows}).status == 200


def test_too_many_waiting_rows_are_refused_and_a_short_deadline_is_kept(
    made: dict[str, Made],
) -> None:
    settings = Settings(default_deadline_ms=60_000, explain_queue_rows=4)
    found = catalog.load([("iris", "iris")], lambda _: (made["iris"].path, {"version": "1"}), settings)
    gateway = Gateway(elsewhere, found, settings)
    body = json.dumps({"features": made["iris"].rows[:3]}).encode()

    async def main() -> list[Answer]:
        return list(await asyncio.gather(*(ask(gateway, "POST", "/explain", body) for _ in range(3))))

    answers = asyncio.run(main())
    assert sorted(answer.status for answer in answers) == [200, 429, 429]
    refused = next(answer for answer in answers if answer.status == 429)
    assert "OKAMOCHI_EXPLAIN_QUEUE_ROWS" in refused.json()["detail"]
    assert refused.headers["retry-after"]
    assert found.live["iris"].explainer.waiting_rows == 0
    assert post(gateway, "/explain", {"features": made["iris"].rows[:64]}, X_Deadline_Ms="1").status == 429
    assert found.live["iris"].explainer.waiting_rows == 0
    found.close()


def test_a_caller_has_half_of_the_places_and_the_next_one_finds_some(made: dict[str, Made]) -> None:
    settings = Settings(default_deadline_ms=60_000, explain_queue_rows=8)
    found = catalog.load([("iris", "iris")], lambda _: (made["iris"].path, {"version": "1"}), settings)
    model = found.live["iris"]
    rows = model.encoder.rows(made["iris"].rows[:1])

    async def main() -> None:
        answered: list[Any] = []
        admitted = Counter[str]()
        reasons: list[str] = []
        for caller in ["greedy"] * 10 + ["second"] * 10 + ["third"]:
            try:
                model.explainer.submit(
                    Explain(),
                    rows,
                    1,
                    lambda *each: answered.append(each),
                    float("inf"),
                    caller,
                    explicit=False,
                )
            except Problem as problem:
                assert problem.status == 429
                assert "4 of them yours" in problem.detail or "2 of them yours" in problem.detail
                reasons.append(problem.reason)
            else:
                admitted[caller] += 1
        assert admitted == {"greedy": 4, "second": 2, "third": 1}
        assert set(reasons) == {"queue_full"}
        while len(answered) < 7:  # noqa: ASYNC110 - it is no event
            await asyncio.sleep(0.001)
        assert not model.explainer.waiting

    asyncio.run(main())
    found.close()


def test_an_explanation_that_waits_is_refused_at_its_deadline_however_long_others_take(
    made: dict[str, Made], models: Any
) -> None:
    """Not once its turn comes; and at once if it is known to come too late."""
    model = models.live["forest"]
    explainer = model.explainer
    rows = model.encoder.rows(made["forest"].rows[:64])

    async def main() -> None:
        answered: dict[str, Any] = {}

        def submit(name: str, n: int, within_s: float, caller: str) -> Any:
            def done(scores: Any, _first: int, problem: Problem | None) -> None:
                answered[name] = problem if scores is None else scores

            return explainer.submit(
                Explain(), rows[:n], n, done, perf_counter() + within_s, caller, explicit=False
            )

        explainer.row_s = 0.0
        long = submit("long", 64, 600, "me")
        submit("short", 64, 0.05, "me")
        while "short" not in answered:  # noqa: ASYNC110 - it is no event
            await asyncio.sleep(0.001)
        assert "long" not in answered, "the machine is too quick for this test"
        assert answered["short"].status == 429
        assert answered["short"].reason == "deadline"
        assert b"retry-after" in dict(answered["short"].headers)
        explainer.row_s = 1.0
        with pytest.raises(Problem, match="Try again in 60 s") as refused:
            submit("known", 1, 3, "me")
        assert refused.value.status == 429
        submit("other", 1, 600, "another caller")
        while "other" not in answered:  # noqa: ASYNC110 - it is no event
            await asyncio.sleep(0.001)
        assert "long" not in answered, "callers take turns"
        model.batcher.cancel(long)
        while explainer.waiting:  # noqa: ASYNC110 - it is no event
            await asyncio.sleep(0.001)
        explainer.row_s = 0.0

    asyncio.run(main())


def test_a_client_that_leaves_frees_its_place(made: dict[str, Made], models: Any) -> None:
    model = models.live["forest"]
    explainer = model.explainer

    async def main() -> None:
        rows = model.encoder.rows(made["forest"].rows[:64])
        answered: list[Any] = []
        ticket = explainer.submit(
            Explain(), rows, 64, lambda *found: answered.append(found), float("inf"), "me", explicit=False
        )
        while not explainer.waiting_rows:  # noqa: ASYNC110 - it is no event
            await asyncio.sleep(0)
        model.batcher.cancel(ticket)
        while explainer.waiting_rows:  # noqa: ASYNC110 - it is no event
            await asyncio.sleep(0.001)
        assert answered == []

    asyncio.run(main())


# ---- the picture


def test_the_explanation_of_a_row_is_a_picture_if_the_client_accepts_one(
    gateway: Gateway, made: dict[str, Made]
) -> None:
    body = {"features": made["breast_cancer"].rows[3:4]}
    answer = post(gateway, "/explain", body, Accept="image/svg+xml")
    assert answer.headers["content-type"] == "image/svg+xml"
    root = xml_of(answer.body)
    words = " ".join(root.itertext())
    json_answer = post(gateway, "/explain", body, Accept="image/svg+xml, application/json")
    first = json_answer.json()["explanations"][0]
    assert "malignant" in words
    assert first["contributions"][0]["column"] in words
    assert "19 others" in words
    assert not [node for node in root.iter() if node.tag.endswith(("script", "image", "foreignObject"))]
    assert b"http" not in answer.body.replace(b"http://www.w3.org/2000/svg", b"")

    two = post(gateway, "/explain", {"features": made["breast_cancer"].rows[:2]}, Accept="image/svg+xml")
    assert two.status == 422
    assert "one row" in two.json()["detail"]


def test_what_a_client_sends_cannot_break_the_picture() -> None:
    from serving.protocols.predict import picture

    nasty = '<script>&"]]>\x00\u202e'
    drawn = picture.of(
        {
            "prediction": nasty,
            "class": nasty,
            "score": 1.0,
            "base": 1.0,
            "error": 0.1,
            "method": "sampled",
            "contributions": [{"column": nasty, "value": nasty, "contribution": 0.0}],
        },
        nasty,
        log_odds=True,
    )
    root = xml_of(drawn)
    assert not [node for node in root.iter() if node.tag.endswith("script")]


def test_wide_names_and_large_numbers_stay_inside_the_picture() -> None:
    """A Chinese character is as wide as two letters; a number has all of its digits while there is room."""
    from serving.protocols.predict import picture

    names = ["\u5ba2" * 60, "W" * 60, "a" * 60, "\u5ba2\u6237"]
    values = ["\u672a" * 30, 1_234_567.9, None, 0.25]
    contributions = [
        {"column": name, "value": value, "contribution": (-1) ** i * 2_345_678.9}
        for i, (name, value) in enumerate(zip(names, values, strict=True))
    ]
    drawn = picture.of(
        {
            "prediction": 13_000_000.5,
            "score": 13_000_000.5,
            "base": 10_000_000.5,
            "error": 0.0,
            "method": "exact",
            "contributions": contributions,
        },
        "price",
        log_odds=False,
    )
    shown = [node for node in xml_of(drawn).iter() if node.get("class") == "name"]
    assert len(shown) == 4
    for node in shown:
        wide = sum(2 if ord(c) > 0x2E80 else 1.6 if c == "W" else 1 for c in node.text)
        assert wide <= 35, node.text  # the left margin has room for 36 letters
    assert shown[3].text == "\u5ba2\u6237 = 0.25"
    words = " ".join(xml_of(drawn).itertext())
    for number in ("price: 13,000,000", "base 10,000,000", "+2,345,679", "= 1,234,568"):
        assert number in words


# ---- the Open Inference Protocol


def test_explanations_are_outputs_that_are_asked_for(gateway: Gateway, made: dict[str, Made]) -> None:
    rows = made["iris"].rows[:3]
    tensor = {"name": "features", "datatype": "FP64", "shape": [3, 4], "data": rows}
    names = ["prediction", "score", "base", "contributions", "error"]
    body = {
        "inputs": [tensor],
        "outputs": [{"name": name} for name in names],
        "parameters": {"class": "setosa"},
    }
    answer = post(gateway, "/v2/models/iris/infer", body)
    assert answer.status == 200, answer.body
    outputs = {output["name"]: output for output in answer.json()["outputs"]}
    assert list(outputs) == names
    assert outputs["contributions"]["shape"] == [3, 4]
    assert outputs["base"]["shape"] == [3]
    contributions = np.array(outputs["contributions"]["data"]).reshape(3, 4).sum(axis=1)
    assert np.allclose(contributions + outputs["base"]["data"], outputs["score"]["data"], atol=1e-6)
    assert np.allclose(outputs["score"]["data"], made["iris"].scores(rows)[:, 0], atol=1e-5)

    usual = post(gateway, "/v2/models/iris/infer", {"inputs": [tensor]}).json()["outputs"]
    assert [output["name"] for output in usual] == ["prediction", "probabilities"]
    many = {**tensor, "shape": [65, 4], "data": made["iris"].rows[:65]}
    assert post(gateway, "/v2/models/iris/infer", body | {"inputs": [many]}).status == 413
    wrong = post(
        gateway, "/v2/models/iris/infer", {"inputs": [tensor], "outputs": [{"name": "contribution"}]}
    )
    assert wrong.status == 422
    assert "contributions" in wrong.json()["error"]
    useless = post(gateway, "/v2/models/iris/infer", {"inputs": [tensor], "parameters": {"class": "setosa"}})
    assert useless.status == 422


def test_contributions_travel_as_bytes(gateway: Gateway, made: dict[str, Made]) -> None:
    rows = made["iris"].rows[:2]
    tensor = {"name": "features", "datatype": "FP64", "shape": [2, 4], "data": rows}
    outputs = [{"name": "contributions", "parameters": {"binary_data": True}}]
    answer = post(gateway, "/v2/models/iris/infer", {"inputs": [tensor], "outputs": outputs})
    length = int(answer.headers["inference-header-content-length"])
    found = np.frombuffer(answer.body[length:], "<f8").reshape(2, 4)
    plain = post(
        gateway, "/v2/models/iris/infer", {"inputs": [tensor], "outputs": [{"name": "contributions"}]}
    ).json()["outputs"][0]["data"]
    assert found.ravel().tolist() == plain
