"""An infer request to rows and requested outputs: its JSON, and the binary tensors behind it."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from serving.errors import Problem
from serving.protocols.json_body import decode
from serving.protocols.oip.labels import EXPLAINED, output_names
from serving.protocols.oip.tensors import Tensor, encode_rows, parameters_of, read_tensors
from serving.protocols.options import explain_of, threshold_of
from serving.protocols.wording import described, listed, short

if TYPE_CHECKING:
    from collections.abc import Callable

    from artifact.signature import Signature
    from serving.protocols import Head
    from serving.scoring.catalog import LiveModel
    from serving.scoring.explain import Explain
    from serving.scoring.scores import Scores

KEYS = ("id", "inputs", "outputs", "parameters")
HEADER_LENGTH = b"inference-header-content-length"
MATRIX = "features"  # the name of the single tensor of an all-number model; any name is accepted
MAX_HINTS = 20  # unknown keys that are compared with the known ones
MAX_KEY = 40  # characters of them


class Wanted(NamedTuple):
    """A requested output, and whether it is returned as bytes behind the JSON."""

    name: str
    binary: bool


def every_output(signature: Signature, *, binary: bool) -> tuple[Wanted, ...]:
    """What a request that names no outputs gets."""
    return tuple(Wanted(name, binary) for name in output_names(signature))


class Query(msgspec.Struct, frozen=True, gc=False):
    """A valid request. `rows` are the `n` rows for `Batcher.submit`.

    Parameters
    ----------
    id
        The client's id; empty if the server makes one.
    outputs
        None for all of them in JSON by the signature's own threshold.
    within_s
        The deadline in seconds; None if the request has none.
    encode
        Makes the reply to one row where another transport has its own form of it; None: JSON.
    """

    rows: Any
    n: int
    id: str = ""
    outputs: tuple[Wanted, ...] | None = None
    threshold: float | None = None
    within_s: float | None = None
    explain: Explain | None = None
    encode: Callable[[Query, Scores, int], bytes] | None = None


def parse(header: bytes, binary: memoryview | None, model: LiveModel) -> Query:
    """Any infer request to encoded rows.

    Parameters
    ----------
    header
        The JSON.
    binary
        The bytes behind the JSON; None if the request does not give the length of its JSON.

    Raises
    ------
    Problem
        400 for a body that is not JSON or that the binary tensors do not fill, 413 for too many rows, 422 for
        tensors that contradict themselves or the signature.
    """
    found = envelope(header, model)
    asked = found.outputs is not None and any(name in EXPLAINED for name, _ in found.outputs)
    options = {key: found.parameters.get(key) for key in ("class", "log_odds")}
    explain = explain_of(options, model, found.threshold, asked)
    rows = encode_rows(read_tensors(found.inputs, binary, model), model)
    if explain is not None:
        model.explainer.check(len(rows))
    return Query(rows, len(rows), found.id, found.outputs, found.threshold, found.within_s, explain)


class Envelope(NamedTuple):
    """A request but for its tensors, which are as they were sent."""

    inputs: object
    id: str
    outputs: tuple[Wanted, ...] | None
    threshold: float | None
    within_s: float | None
    parameters: dict[str, Any]


def envelope(header: bytes, model: LiveModel) -> Envelope:
    """The JSON of an infer request.

    Raises
    ------
    Problem
        400 for what is not JSON, 422 for keys, parameters and outputs that are wrong.
    """
    # numpy's and Python's json write NaN for a missing number.
    request = decode(header, literals=True)
    if not isinstance(request, dict):
        raise Problem(422, f'Expected a JSON object with "inputs", got {described(request)}.')
    for key in list(request)[:MAX_HINTS]:  # keys of other extensions are ignored, misspelt keys are refused
        if key in KEYS:
            continue
        near = difflib.get_close_matches(key[:MAX_KEY], KEYS, 1, cutoff=0.8)
        if near:
            raise Problem(422, f"Unknown key {short(key)}; did you mean {near[0]!r}?")
    own_id = request.get("id")
    if own_id is not None and not (isinstance(own_id, str) and _is_text(own_id)):
        raise Problem(422, f'"id": expected a text, got {described(own_id)}.')
    parameters = parameters_of(request, "the request")
    return Envelope(
        request.get("inputs"),
        own_id or "",
        _outputs(request.get("outputs"), parameters, model),
        threshold_of(parameters.get("threshold"), model),
        _timeout(parameters.get("timeout")),
        parameters,
    )


def parse_raw(body: bytes, model: LiveModel) -> Query:
    """A body without any JSON: the one tensor of an all-number model, row by row."""
    width = len(model.signature.columns)
    if not model.signature.numeric:
        raise Problem(
            422,
            f"Inference-Header-Content-Length is 0, but {model.name!r} takes one tensor a column, in JSON.",
        )
    if not body or len(body) % (8 * width):
        raise Problem(
            400, f"The body has {len(body)} bytes; expected rows of {width} FP64, {8 * width} bytes each."
        )
    n = len(body) // (8 * width)
    model.check_rows(n)
    cells = np.frombuffer(body, "<f8")
    rows = encode_rows([(Tensor(MATRIX, "FP64", n, width), cells)], model)
    return Query(rows, n, outputs=every_output(model.signature, binary=True))


def header_length(head: Head, size: int) -> int | None:
    """The length of the JSON before the binary tensors; None if the request does not give it."""
    found: bytes | None = None
    for name, value in head.headers:
        if name == HEADER_LENGTH:
            if found is not None and found != value:
                raise Problem(400, "Inference-Header-Content-Length was sent twice, with different values.")
            found = value
    if found is None:
        return None
    if not found.isdigit() or len(found) > 18 or int(found) > size:
        shown = found[:40].decode("latin-1")
        raise Problem(
            400,
            f"Inference-Header-Content-Length: expected a number of bytes from 0 to {size}, got {shown!r}.",
        )
    return int(found)


def _timeout(timeout: object) -> float | None:
    """Triton's parameter `timeout`, in microseconds; 0 means no timeout."""
    if timeout is None or timeout == 0:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int) or not 0 < timeout < 2**63:
        raise Problem(
            422, f"parameter 'timeout': expected whole microseconds from 0, got {described(timeout)}."
        )
    return timeout / 1e6


def _outputs(outputs: object, parameters: dict[str, Any], model: LiveModel) -> tuple[Wanted, ...] | None:
    signature = model.signature
    known = output_names(signature)
    if signature.tensors is None:
        known += EXPLAINED
    binary = _flag(parameters.get("binary_data_output"), "parameter 'binary_data_output'")
    if outputs is None or outputs == []:
        return every_output(signature, binary=True) if binary else None
    if not isinstance(outputs, list):
        raise Problem(422, f'"outputs": expected a list of objects, got {described(outputs)}.')
    wanted: dict[str, Wanted] = {}
    for i, output in enumerate(outputs):
        where = f"outputs[{i}]"
        if not isinstance(output, dict):
            raise Problem(422, f"{where}: expected an object with a name, got {described(output)}.")
        name = output.get("name")
        if name not in known if isinstance(name, str) else True:
            shown = short(name) if isinstance(name, str) else described(name)
            raise Problem(422, f"{where}: no output {shown}; {model.name!r} has {listed(known)}.")
        assert isinstance(name, str)  # noqa: S101 - the line above
        if name in wanted:
            raise Problem(422, f"{where}: duplicate output {name!r}.")
        own = parameters_of(output, where)
        for key in own:
            if key == "classification" or key.startswith("shared_memory"):
                raise Problem(
                    422, f"{where}: parameter {short(key)} belongs to an extension that is not supported."
                )
        flag = own.get("binary_data")
        wanted[name] = Wanted(
            name, binary if flag is None else _flag(flag, f"{where}: parameter 'binary_data'")
        )
    return tuple(wanted.values())


def _flag(value: object, where: str) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool):
        raise Problem(422, f"{where}: expected true or false, got {described(value)}.")
    return value


def _is_text(text: str) -> bool:
    """Whether UTF-8 can encode it: half a surrogate pair cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
