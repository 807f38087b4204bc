"""One row of JSON cells in every form of every protocol, byte by byte, and what each form says of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.serving.conftest import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from artifact.signature import Signature
    from serving.http.gateway import Gateway
    from serving.scoring.catalog import LiveModel

FEATURES = b"features"
TYPES = {b'"': b"BYTES", b"t": b"BOOL", b"f": b"BOOL"}


class Form(NamedTuple):
    """A way to write rows.

    Parameters
    ----------
    body
        From rows of JSON cells and a value to be ignored, which stands where this form has room for one.
    ignores
        Whether it has.
    """

    name: str
    path: str
    body: Callable[[Signature, list[list[bytes]], bytes | None], bytes]
    ignores: bool = True


def joined(cells: Iterable[bytes]) -> bytes:
    return b"[%b]" % b",".join(cells)


def lists(rows: list[list[bytes]]) -> bytes:
    return joined(map(joined, rows))


def names_of(signature: Signature) -> list[bytes]:
    return [json.dumps(name).encode() for name in signature.names]


def record(signature: Signature, row: list[bytes], extra: tuple[bytes, bytes] | None = None) -> bytes:
    pairs = [*zip(names_of(signature), row, strict=True), *([extra] if extra else [])]
    return b"{%b}" % b",".join(b"%b:%b" % pair for pair in pairs)


def records(signature: Signature, rows: list[list[bytes]], ignored: bytes | None) -> bytes:
    extra = None if ignored is None else (json.dumps(signature.ignored[0]).encode(), ignored)
    return joined(record(signature, row, extra) for row in rows)


def columns(signature: Signature, rows: list[list[bytes]], ignored: bytes | None) -> bytes:
    extra = (
        None
        if ignored is None
        else (json.dumps(signature.ignored[0]).encode(), joined([ignored] * len(rows)))
    )
    return record(signature, [joined(cells) for cells in zip(*rows, strict=True)], extra)


def tensor(name: bytes, datatype: bytes, shape: list[int], data: bytes) -> bytes:
    said = json.dumps(shape).encode()
    return b'{"name":"%b","shape":%b,"datatype":"%b","data":%b}' % (name, said, datatype, data)


def inputs(tensors: list[bytes], ignored: bytes | None) -> bytes:
    behind = b"" if ignored is None else b',"parameters":{"ours":%b}' % ignored
    return b'{"inputs":%b%b}' % (joined(tensors), behind)


def datatype(cells: tuple[bytes, ...], kind: str) -> bytes:
    """The datatype that a client sends the cells of a column in: that of the first that is there."""
    present = [cell for cell in cells if cell != b"null"]
    return TYPES.get(present[0][:1], b"FP64") if present else b"FP64" if kind == "number" else b"BYTES"


def tensors(signature: Signature, rows: list[list[bytes]]) -> list[bytes]:
    return [
        tensor(name.strip(b'"'), datatype(cells, column.kind), [len(rows)], joined(cells))
        for name, cells, column in zip(
            names_of(signature), zip(*rows, strict=True), signature.columns, strict=True
        )
    ]


def _split(signature: Signature, rows: list[list[bytes]], ignored: bytes | None) -> bytes:
    names = names_of(signature)
    if ignored is not None:
        names, rows = [*names, b'"beside"'], [[*row, ignored] for row in rows]
    return b'{"dataframe_split":{"columns":%b,"data":%b}}' % (joined(names), lists(rows))


def _matrix(signature: Signature, rows: list[list[bytes]], ignored: bytes | None, *, nested: bool) -> bytes:
    data = lists(rows) if nested else joined(cell for row in rows for cell in row)
    return inputs([tensor(FEATURES, b"FP64", [len(rows), len(signature.columns)], data)], ignored)


COMMON = (
    Form("/predict features", "/models/{}/predict", lambda s, r, _: b'{"features":%b}' % lists(r), False),
    Form("/predict records", "/models/{}/predict", lambda s, r, i: b'{"records":%b}' % records(s, r, i)),
    Form("/predict columns", "/models/{}/predict", lambda s, r, i: b'{"columns":%b}' % columns(s, r, i)),
    Form("/v2 by column", "/v2/models/{}/infer", lambda s, r, i: inputs(tensors(s, r), i)),
    Form("/invocations split", "/invocations", _split),
    Form("/invocations rows", "/invocations", lambda s, r, _: b'{"instances":%b}' % lists(r), False),
    Form(
        "/invocations records", "/invocations", lambda s, r, i: b'{"dataframe_records":%b}' % records(s, r, i)
    ),
    Form("/invocations columns", "/invocations", lambda s, r, i: b'{"inputs":%b}' % columns(s, r, i)),
    Form("/v1 rows", "/v1/models/{}:predict", lambda s, r, _: b'{"instances":%b}' % lists(r), False),
    Form("/v1 records", "/v1/models/{}:predict", lambda s, r, i: b'{"instances":%b}' % records(s, r, i)),
    Form("/score rows", "/score", lambda s, r, _: b'{"rows":%b}' % lists(r), False),
)
NUMERIC = (
    Form("/v2 flat", "/v2/models/{}/infer", lambda s, r, i: _matrix(s, r, i, nested=False)),
    Form("/v2 nested", "/v2/models/{}/infer", lambda s, r, i: _matrix(s, r, i, nested=True)),
)
SCALAR = Form("/predict scalar", "/models/{}/predict", lambda s, r, _: b'{"x":%b}' % r[0][0], False)


def forms(model: LiveModel, *, default: bool) -> list[Form]:
    """Those that a model has; `/invocations` and `/score` ask the default one alone."""
    found = [*COMMON, *(NUMERIC if model.signature.numeric else ())]
    found += [SCALAR] if len(model.signature.columns) == 1 else []
    return [form for form in found if default or "{}" in form.path]


class Told(NamedTuple):
    """What a form answered: the class of its status, and the labels where there are any."""

    hundreds: int
    labels: Any


def told(status: int, body: bytes, path: str) -> Told:
    assert status < 500, body
    if status != 200:
        return Told(status // 100, None)
    answer = json.loads(body)
    if path == "/invocations" or path.startswith("/v1/"):
        return Told(2, answer["predictions"])
    if path.endswith("/infer"):
        return Told(2, next(each["data"] for each in answer["outputs"] if each["name"] == "prediction"))
    if path == "/score":
        return Told(2, answer)
    found = answer["prediction"]
    return Told(2, found if isinstance(found, list) else [found])


def post(gateway: Gateway, path: str, body: bytes, content_type: str = "application/json") -> Told:
    answer = asyncio.run(ask(gateway, "POST", path, body, {"content-type": content_type}))
    return told(answer.status, answer.body, path)


def agree(found: dict[str, Told]) -> Told:
    """The one opinion of all forms."""
    assert len({each.hundreds for each in found.values()}) == 1, found
    shown = [list(map(_plain, each.labels)) for each in found.values() if each.labels is not None]
    assert all(labels == shown[0] for labels in shown), found
    return next((each for each in found.values() if each.labels is not None), next(iter(found.values())))


def _plain(label: Any) -> Any:
    return {True: "true", False: "false"}.get(label, label) if isinstance(label, bool) else label
