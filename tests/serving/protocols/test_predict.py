"""Decoding of `/predict`: never a 5xx, whatever comes."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.errors import Problem
from serving.protocols import Head
from serving.protocols.predict.endpoint import PredictEndpoint, parse
from tests.serving.conftest import ask

if TYPE_CHECKING:
    from serving.http.gateway import Gateway
    from serving.scoring.catalog import Catalog

MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1e39, -1e308, 10**400, 0, 5, "", " ", "5", "cook", "2020-01-01", "Ulm"])
    | st.text(max_size=5)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(["x", "age", "job", "city", "since", "sepal_length", "", "gender"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)
bodies = st.dictionaries(
    st.sampled_from(["features", "records", "columns", "x", "probabilities", "threshold", "rows"]),
    values,
    max_size=3,
)


@MANY
@given(body=bodies | values, name=st.sampled_from(["iris", "linear", "loans", "breast_cancer"]))
def test_any_json_is_answered_or_refused_with_a_place(gateway: Gateway, body: Any, name: str) -> None:
    found = asyncio.run(ask(gateway, "POST", f"/models/{name}/predict", json.dumps(body).encode()))
    assert found.status in (200, 413, 422)
    if found.status == 200:
        assert found.json()["model"] == name
    else:
        assert found.json()["detail"]


@MANY
@given(body=st.binary(max_size=60) | st.text(alphabet='{}[]":,.0123456789eE+-naNIfity \\u', max_size=40))
def test_any_bytes_are_400_or_422(gateway: Gateway, body: bytes | str) -> None:
    sent = body if isinstance(body, bytes) else body.encode()
    found = asyncio.run(ask(gateway, "POST", "/models/iris/predict", sent))
    assert found.status in (400, 422)


@MANY
@given(
    rows=st.lists(
        st.lists(st.floats(width=64, allow_nan=False) | st.integers(-(2**70), 2**70), min_size=4, max_size=4),
        min_size=1,
        max_size=80,
    )
)
def test_the_quick_way_and_the_careful_way_give_the_same_matrix(models: Catalog, rows: Any) -> None:
    model = models.live["iris"]
    body = json.dumps({"features": rows}).encode()
    try:
        careful: Any = parse(body, model).rows
    except Problem as problem:
        careful = problem.status
    try:
        query = PredictEndpoint(model).read(body, Head())
        quick: Any = np.frombuffer(query.rows).astype(np.float32).reshape(-1, 4)
    except Problem as problem:
        quick = problem.status
    assert np.array_equal(quick, careful)


@pytest.mark.parametrize(
    "body",
    ['{"features": [[true, 1, 2, 3]]}', '{"features": [["1", 1, 2, 3]]}', '{"features": [[null,1,2,3]]}'],
)
def test_the_quick_way_takes_numbers_only(models: Catalog, body: str) -> None:
    with pytest.raises(Problem) as refused:
        PredictEndpoint(models.live["iris"]).read(body.encode(), Head())
    assert refused.value.status == 422


def test_of_two_equal_keys_the_last_counts_on_both_ways(gateway: Gateway) -> None:
    async def main() -> None:
        for more in ("", ', "probabilities": false'):
            body = f'{{"features": [[9, 9, 9, 9]], "features": [[5.1, 3.5, 1.4, 0.2]]{more}}}'.encode()
            found = await ask(gateway, "POST", "/models/iris/predict", body)
            assert found.json()["prediction"] == ["setosa"]

    asyncio.run(main())


def test_a_scalar_may_be_named_by_the_column(gateway: Gateway) -> None:
    async def main() -> None:
        found = await ask(gateway, "POST", "/models/linear/predict", b'{"x": 2.5}')
        assert abs(found.json()["prediction"] - 5) < 1e-6
        for body in (
            b'{"x": [5]}',
            b'{"x": null}',
            b'{"x": "5"}',
            b'{"x": true}',
            b'{"x": 1, "features": [[1]]}',
        ):
            assert (await ask(gateway, "POST", "/models/linear/predict", body)).status == 422

    asyncio.run(main())
