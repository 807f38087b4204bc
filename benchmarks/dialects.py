"""How each contestant expects a row, and how it answers a label."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Rows = list[list[float]]
Labels = list[int]
DATATYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "INT32": np.int32, "BOOL": np.bool_}


@dataclass(frozen=True)
class Dialect:
    """A route, the form of its requests and the form of its replies.

    Parameters
    ----------
    path
        The path, which may have `{model}`.
    body
        The request's body for some rows.
    labels
        The labels of a reply's body, or None where the contestant does not score (the empty app).
    headers
        Of every request, beside those of its body.
    """

    path: str
    body: Callable[[Rows], bytes]
    labels: Callable[[bytes], Labels] | None
    headers: dict[str, str] = field(default_factory=dict)

    def request(self, rows: Rows, model: str) -> bytes:
        """A whole HTTP request, as the generators send it."""
        body = self.body(rows)
        head = (
            f"POST {self.path.format(model=model)} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        more = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        return f"{head}{more}\r\n".encode() + body


def features(rows: Rows) -> bytes:
    """By position."""
    return json.dumps({"features": rows}).encode()


def tensor(rows: Rows) -> bytes:
    """Open Inference Protocol v2, one tensor, flat, as its clients send it."""
    flat = [value for row in rows for value in row]
    one = {"name": "X", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": flat}
    return json.dumps({"inputs": [one]}).encode()


def inputs(rows: Rows) -> bytes:
    """MLflow's scoring protocol."""
    return json.dumps({"inputs": rows}).encode()


def key(name: str) -> Callable[[bytes], Labels]:
    """The reader of a reply that holds its labels under `name`."""

    def labels(body: bytes) -> Labels:
        return [int(label) for label in msgspec.json.decode(body)[name]]

    return labels


def listed(body: bytes) -> Labels:
    """The reader of a reply that is a list of labels."""
    return [int(label) for label in msgspec.json.decode(body)]


def output(body: bytes) -> Labels:
    """The reader of an Open Inference Protocol reply."""
    data = labelled(msgspec.json.decode(body)["outputs"])["data"]
    return [int(label) for label in np.ravel(data).tolist()]


def labelled(outputs: list[dict[str, Any]]) -> dict[str, Any]:
    """The output that holds the labels: the one called so, else the first."""
    return next((one for one in outputs if one["name"].startswith("predict")), outputs[0])


def binary_request(rows: Rows, precision: str) -> tuple[bytes, int]:
    """A body with a binary tensor that asks for one back, and the length of its JSON part."""
    matrix = np.array(rows, precision)
    raw = matrix.tobytes()
    one = {
        "name": "X",
        "shape": list(matrix.shape),
        "datatype": "FP32" if precision == "float32" else "FP64",
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [one], "parameters": {"binary_data_output": True}}).encode()
    return head + raw, len(head)


def binary_labels(body: bytes, head: int) -> Labels:
    """The labels of a reply whose first `head` bytes are JSON and whose rest are tensors."""
    outputs = msgspec.json.decode(body[:head])["outputs"]
    start, wanted = head, labelled(outputs)
    for one in outputs:
        size = one.get("parameters", {}).get("binary_data_size", 0)
        if one is wanted and not size:
            return [int(label) for label in np.ravel(one["data"]).tolist()]
        if one is wanted:
            kind: Any = DATATYPES[one["datatype"]]
            return [int(label) for label in np.frombuffer(body[start : start + size], kind)]
        start += size
    raise ValueError("the reply holds no labels")


EMPTY = Dialect("/predict", features, None)
FEATURES = Dialect("/predict", features, key("prediction"))
BENTOML = Dialect("/predict", features, listed)
OIP = Dialect("/v2/models/{model}/infer", tensor, output)
MLFLOW = Dialect("/invocations", inputs, key("predictions"))
