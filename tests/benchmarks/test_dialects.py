"""Each contestant's answers are read, and a wrong one is noticed whatever its shape."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import dialects
from benchmarks.load import difference

ROWS = [[1.5, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("dialect", "answer"),
    [
        (dialects.FEATURES, {"prediction": [0, 1]}),
        (dialects.BENTOML, [0, 1]),
        (dialects.MLFLOW, {"predictions": [0, 1]}),
        (
            dialects.OIP,
            {"outputs": [{"name": "scores", "data": [9]}, {"name": "predict", "data": [[0], [1]]}]},
        ),
    ],
)
def test_labels_are_read_from_each_protocol(dialect: dialects.Dialect, answer: object) -> None:
    """The same two labels, however they are said; any other pair is a difference."""
    body = json.dumps(answer).encode()
    assert difference(dialect, body, [0, 1]) is None
    assert difference(dialect, body, [1, 1]) is not None


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b'{"prediction": ["x"]}', b'{"prediction": null}'])
def test_an_unreadable_answer_is_a_wrong_one(body: bytes) -> None:
    """A 200 that says nothing does not count as a prediction."""
    assert "unreadable" in str(difference(dialects.FEATURES, body, [0]))


def test_the_empty_app_must_answer_its_byte() -> None:
    """What does not score is checked too."""
    assert difference(dialects.EMPTY, b"1", [0]) is None
    assert difference(dialects.EMPTY, b"", [0]) is not None


def test_a_request_is_whole_http() -> None:
    """The generators send bytes as they are, so the length must be the body's."""
    head, _, body = dialects.OIP.request(ROWS, "forest").partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v2/models/forest/infer HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["inputs"][0]["shape"] == [2, 2]


def test_binary_tensors_go_both_ways() -> None:
    """The labels are found behind another tensor's bytes."""
    body, head = dialects.binary_request(ROWS, "float32")
    assert np.frombuffer(body[head:], np.float32).tolist() == [1.5, 2.0, 3.0, 4.0]
    outputs = [
        {"name": "scores", "datatype": "FP64", "parameters": {"binary_data_size": 16}},
        {"name": "predictions", "datatype": "INT64", "parameters": {"binary_data_size": 16}},
    ]
    said = json.dumps({"outputs": outputs}).encode()
    reply = said + np.zeros(2).tobytes() + np.array([0, 1], np.int64).tobytes()
    assert dialects.binary_labels(reply, len(said)) == [0, 1]


def test_headers_of_a_dialect_are_part_of_each_request() -> None:
    keyed = replace(dialects.FEATURES, headers={"X-API-Key": "secret"})
    head, _, body = keyed.request([[1.0]], "m").partition(b"\r\n\r\n")
    assert b"\r\nX-API-Key: secret" in head
    assert body == dialects.FEATURES.request([[1.0]], "m").partition(b"\r\n\r\n")[2]
