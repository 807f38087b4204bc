"""Large bodies of numbers: read in blocks they are what they are when read whole."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from serving.errors import Problem
from serving.protocols import LARGE_BODY_BYTES, Head
from serving.protocols.blocks import Blocks, Number, StandIn
from serving.protocols.mlflow import endpoint as mlflow
from serving.protocols.oip import endpoint as oip
from serving.protocols.predict import endpoint as predict

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.http.gateway import Gateway
    from tests.serving.artifacts import Made

MANY = settings(max_examples=300, deadline=None)
WIDTH = 3

numbers = st.floats(-1e38, 1e38) | st.integers(-(10**6), 10**6) | st.sampled_from([0, -0.0, 1e-310, 1e39])
rows = st.lists(st.lists(numbers, min_size=WIDTH, max_size=WIDTH), min_size=1, max_size=12)
blanks = st.text(" \t\n\r", max_size=3)
heads = st.sampled_from(["", '"id": "[[", ', '"shape": [2, 3], ', '"id": "\\"data\\": [[1", '])
tails = st.sampled_from(
    [
        "",
        ', "id": "a"',
        ', "id": "]]"',
        ', "id": ", [1, 2, 3]"',
        ', "shape": [[4, 5, 6]]',
        ',"data": [[7,8,9]]',
    ]
)


def flat(rows: list[list[float]]) -> list[float]:
    return [cell for row in rows for cell in row]


def written(data: Any, blank: str, before: str, tail: str) -> str:
    text = json.dumps(data)
    for mark in "[],":
        text = text.replace(mark, f"{blank}{mark}{blank}")
    return f'{{{before}"data"{blank}:{text}{tail}}}'


def decoder(data: Any) -> Callable[[bytes], Any]:
    form = msgspec.defstruct("Form", [("data", data), ("id", str, ""), ("shape", Any, None)])
    return msgspec.json.Decoder(form, strict=True).decode


ROW = Annotated[list[Number], Meta(min_length=WIDTH, max_length=WIDTH)]
by_row = decoder(Annotated[list[ROW], Meta(min_length=1)])
by_cell = decoder(Annotated[list[Number], Meta(min_length=1)])
rest = decoder(StandIn)


def whole(body: bytes) -> list[list[float]] | None:
    """The rows, by decoding all at once."""
    for decode in (by_row, by_cell):
        try:
            found = decode(body).data
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        if decode is by_row:
            return list(found)
        if len(found) % WIDTH == 0:
            return [found[i : i + WIDTH] for i in range(0, len(found), WIDTH)]
    return None


@MANY
@given(
    body=st.builds(written, data=rows | rows.map(flat), blank=blanks, before=heads, tail=tails),
    block=st.integers(1, 200),
    slip=st.none()
    | st.tuples(st.floats(0, 1), st.sampled_from(["", ",", "]", "[", "0", "x", " ", '"', "}"])),
)
def test_in_blocks_a_body_is_what_it_is_as_a_whole(
    body: str, block: int, slip: tuple[float, str] | None
) -> None:
    """Whatever is put in, taken out or cut: never rows that the whole body does not have."""
    if slip is not None:
        place, text = int(slip[0] * len(body)), slip[1]
        body = body[:place] + text + body[place + (not text) :]
    expected = whole(body.encode())
    found = Blocks(WIDTH, block).read(body.encode(), rest)
    if found is not None:
        assert expected is not None, body
        assert np.array_equal(found[0], np.array(expected, np.float32)), body


@MANY
@given(rows=rows, blank=blanks, block=st.integers(1, 200), in_rows=st.booleans())
def test_every_plain_body_is_read_in_blocks(
    rows: list[list[float]], blank: str, block: int, in_rows: bool
) -> None:
    """The quick way is taken, but where a number of a flat list is longer than a block."""
    body = written(rows if in_rows else flat(rows), blank, "", ', "id": "a"').encode()
    expected = whole(body)
    found = Blocks(WIDTH, block if in_rows else block + 60).read(body, rest)
    assert (found is None) == (expected is None)
    if found is not None:
        assert found[1].id == "a"
        assert np.array_equal(found[0], np.array(expected, np.float32))


@pytest.mark.parametrize(
    "body",
    [
        '{"data": [[1, 2, 3],]}',
        '{"data": [1, 2, 3,]}',
        '{"data": [[1, 2, 3] [4, 5, 6]]}',
        '{"data": [[1, 2, 3], [4, 5]]}',
        '{"data": [1, 2, 3, 4]}',
        '{"data": [[1, 2, 3], 4, 5, 6]}',
        '{"data": [[1, 2, true]]}',
        '{"data": [[1, 2, null]]}',
        '{"data": [[1, 2, 01]]}',
        '{"data": [[1, 2, 3]}',
        '{"data": [[1, 2, 3]]',
        '{"data": [[1, 2, 3]]}}',
        '{"id": [[1, 2, 3]]}',
        '{"data": []}',
        '{"data": [[]]}',
        '{"data": "data"}',
        "",
    ],
)
def test_what_is_no_matrix_is_left_to_the_other_reader(body: str) -> None:
    for block in (1, 8, 1000):
        assert Blocks(WIDTH, block).read(body.encode(), rest) is None


def test_of_two_equal_keys_the_last_counts_in_blocks_too() -> None:
    body = b'{"data": [[1, 2, 3], [4, 5, 6]], "data": [[7, 8, 9]]}'
    found = Blocks(WIDTH).read(body, rest)
    assert found is None or found[0].tolist() == [[7, 8, 9]]


# ---- the endpoints


def large(made: Made) -> list[list[float]]:
    some = made.rows * (1 + LARGE_BODY_BYTES // (4 * len(made.rows) * len(made.rows[0])))
    assert len(json.dumps(some)) > LARGE_BODY_BYTES
    return some


def forms(names: list[str], some: list[list[float]]) -> list[tuple[str, dict[str, Any]]]:
    shape = {"name": "x", "shape": [len(some), len(names)], "datatype": "FP64"}
    infer = "/v2/models/breast_cancer/infer"
    return [
        ("/models/breast_cancer/predict", {"features": some}),
        (infer, {"id": "a", "inputs": [{**shape, "data": some}]}),
        (infer, {"inputs": [{**shape, "data": flat(some)}]}),
        ("/invocations", {"dataframe_split": {"columns": names, "data": some}}),
        ("/invocations", {"dataframe_split": {"data": some, "columns": names}}),
        (
            "/invocations",
            {"dataframe_split": {"index": list(range(len(some))), "columns": names, "data": some}},
        ),
        ("/invocations", {"instances": some}),
        ("/invocations", {"inputs": some}),
    ]


PARSE: dict[str, Callable[..., Any]] = {
    "predict": predict.parse,
    "infer": lambda body, model: oip.parse(body, None, model),
    "invocations": mlflow.parse,
}


def test_every_form_is_read_in_blocks_and_as_the_careful_way_reads_it(
    gateway: Gateway, made: dict[str, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The careful way is not asked at all."""
    some = large(made["breast_cancer"])
    bodies = [
        (gateway.live.routes.endpoints[path], json.dumps(form, separators=separators, indent=indent).encode())
        for path, form in forms(list(made["breast_cancer"].signature.names), some)
        for separators, indent in ((None, None), ((",", ":"), None), (None, 1))
        if indent is None or path != "/invocations"
    ]
    careful = [PARSE[endpoint.name](body, endpoint.model).rows for endpoint, body in bodies]
    for protocol in (predict, oip, mlflow):
        monkeypatch.setattr(protocol, "parse", None)
    for (endpoint, body), rows in zip(bodies, careful, strict=True):
        query = endpoint.read(body, Head())
        assert np.array_equal(query.rows, rows.astype(np.float32)), body[:60]
        assert query.n == len(some)


@pytest.mark.parametrize("place", [0, 12, 3_000, 40_000, -4_000, -1])
@pytest.mark.parametrize("slip", ["null,", '"5",', "1e39,", "NaN,", "[", "]", "x"])
def test_a_slip_is_refused_in_the_words_of_the_careful_way(
    gateway: Gateway, made: dict[str, Made], place: int, slip: str
) -> None:
    some = large(made["breast_cancer"])
    for path, form in forms(list(made["breast_cancer"].signature.names), some):
        endpoint = gateway.live.routes.endpoints[path]
        text = json.dumps(form)
        at = text.index(" ", place if place >= 0 else len(text) + place - 30)
        body = (text[: at + 1] + slip + text[at + 1 :]).encode()
        ways = (
            functools.partial(PARSE[endpoint.name], model=endpoint.model),
            functools.partial(endpoint.read, head=Head()),
        )
        careful, quick = (said(way, body) for way in ways)
        assert quick == careful


def said(way: Callable[[bytes], Any], body: bytes) -> Any:
    try:
        return way(body).rows.tolist()
    except Problem as problem:
        return problem.status, problem.detail
