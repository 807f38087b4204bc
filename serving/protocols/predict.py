"""`POST /predict`: rows as JSON, by position, by record or by column."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from artifact.encode import BadRows, CellError, Fault
from artifact.signature import labels
from serving.errors import Problem, bad_rows
from serving.ids import PREFIX, SINCE_EPOCH, new_id, next_secret, now
from serving.protocols import LARGE_BODY_BYTES, Reply, problem_reply
from serving.protocols.blocks import Blocks, StandIn, rows_of
from serving.protocols.json_body import decode
from serving.scoring.batcher import packer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from serving.protocols import Head
    from serving.scoring.batcher import Scores
    from serving.scoring.catalog import Catalog, LiveModel

JSON = b"application/json"
FORMS = ("features", "records", "columns")
OPTIONS = ("probabilities", "threshold")

_encode = msgspec.json.encode


class PredictEndpoint:
    """`/predict` of one model."""

    name = "predict"
    content_types = ("application/json",)

    def __init__(self, model: LiveModel) -> None:
        self.model = model
        signature = model.signature
        tail = f'],"model":{_json(model.name)},"version":{_json(model.version)},"id":"{PREFIX}-'
        self._tail = tail.encode()
        # The whole reply to one row, but for the id: most replies are one of these.
        self._one = [b'{"prediction":[' + _encode(label) + self._tail for label in signature.classes]
        width = len(signature.columns)
        self._hot = _hot_decoder(rows_of(width)) if signature.numeric else None
        self._rest = _hot_decoder(StandIn)
        self._blocks = Blocks(width)
        self._pack = packer(signature.width)

    def read(self, body: bytes, head: Head) -> Query:  # noqa: ARG002 - other protocols look at headers
        """See `Endpoint`."""
        hot = self._hot
        if hot is not None:
            # Numbers by position and nothing else: decoded and checked in one pass of C. Whatever is refused
            # here is looked at again below, by what can say why.
            if len(body) >= LARGE_BODY_BYTES:
                return self._read_large(body)
            try:
                rows = hot(body).features
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return parse(body, self.model)
            n = len(rows)
            self.model.check_rows(n)
            pack = self._pack  # called as an attribute, Python 3.11 would look it up anew each time
            return Query(pack(rows), n)
        return parse(body, self.model)

    def _read_large(self, body: bytes) -> Query:
        found = self._blocks.read(body, self._rest)
        if found is None:
            return parse(body, self.model)
        rows = found[0]
        self.model.check_rows(len(rows))
        return Query(rows, len(rows))

    def answer(self, query: Query, scores: Scores, first: int) -> Reply:
        """See `Endpoint`."""
        if not query.plain:
            return self._answer_options(query, scores, first)
        n = query.n
        if n == 1 and self._one:
            one = self._one[scores.chosen[first]]
            return Reply(200, JSON, b'%s%x-%s"}' % (one, now() + SINCE_EPOCH, next_secret()))
        predictions = _encode(scores.labels(first, first + n))[:-1]
        made = now() + SINCE_EPOCH, next_secret()
        return Reply(200, JSON, b'{"prediction":%s%s%x-%s"}' % (predictions, self._tail, *made))

    def _answer_options(self, query: Query, scores: Scores, first: int) -> Reply:
        signature = self.model.signature
        values = scores.values[first : first + query.n]
        predictions: Any = labels(signature, values, query.threshold)
        answer = {"prediction": predictions[0] if query.scalar else predictions}
        if query.probabilities:
            chances = values.tolist()
            answer["probabilities"] = chances[0] if query.scalar else chances
            answer["classes"] = list(signature.classes)
        answer |= {
            "model": self.model.name,
            "version": self.model.version,
            "id": new_id(),
        }
        return Reply(200, JSON, _encode(answer))

    def refuse(self, problem: Problem) -> Reply:
        """See `Endpoint`."""
        return problem_reply(problem)


def endpoints(catalog: Catalog) -> dict[str, PredictEndpoint]:
    """The routes of the protocol: one a live model, and the default's without a name."""
    routes = {f"/models/{name}/predict": PredictEndpoint(model) for name, model in catalog.live.items()}
    if catalog.default in catalog.live:
        routes["/predict"] = routes[f"/models/{catalog.default}/predict"]
    return routes


def route_of(name: str) -> str:
    """The route of a model."""
    return f"/models/{name}/predict"


class Query(msgspec.Struct, frozen=True, gc=False):
    """A request that was understood: its rows, and the options unless they are the usual ones.

    `rows` is what `Batcher.submit` takes, `n` of them.
    """

    rows: Any
    n: int
    plain: bool = True  # no option is another than usual
    probabilities: bool = False
    threshold: float | None = None
    scalar: bool = False
    within_s: float | None = None


def with_options(rows: Any, *, probabilities: bool, threshold: float | None, scalar: bool = False) -> Query:
    """What was understood of a request that may have options."""
    plain = not (probabilities or scalar) and threshold is None
    return Query(rows, len(rows), plain, probabilities, threshold, scalar)


def parse(body: bytes, model: LiveModel) -> Query:
    """Any body of `/predict` to encoded rows.

    Raises
    ------
    Problem
        400 for what is not JSON, 413 for too many rows, 422 for what the signature refuses.
    """
    request = decode(body)
    if not isinstance(request, dict):
        raise Problem(422, f"Expected a JSON object with one of {_or(FORMS)}, got {kind(request)}.")
    signature = model.signature
    one = signature.columns[0].name if len(signature.columns) == 1 else None
    options = {key: request[key] for key in OPTIONS if key in request}
    given = [key for key in request if key not in OPTIONS]
    forms = [key for key in given if key in FORMS]
    scalars = [key for key in given if one is not None and key in ("x", one) and key not in FORMS]
    known = [*FORMS, *OPTIONS, *dict.fromkeys(("x", one) if one is not None else ())]
    for key in given:
        if key not in forms and key not in scalars:
            near = difflib.get_close_matches(key[:100], known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {_or(FORMS)}"
            raise _at(key[:100], f"unknown key; {hint}", None)
    if len(forms) + len(scalars) != 1:
        got = " and ".join(map(repr, forms + scalars)) or "none of them"
        raise Problem(422, f"Expected exactly one of {_or([*FORMS, *known[len(FORMS) + 2 :]])}, got {got}.")
    probabilities = _probabilities(options, model)
    threshold = _threshold(options, model)
    try:
        matrix = _matrix(request[scalars[0]] if scalars else None, forms, request, model)
    except BadRows as error:
        raise bad_rows(error) from None
    return with_options(matrix, probabilities=probabilities, threshold=threshold, scalar=bool(scalars))


def _matrix(value: object, forms: list[str], request: dict[str, Any], model: LiveModel) -> NDArray[Any]:
    if not forms:
        return model.encoder.rows([[value]])
    form = forms[0]
    rows = request[form]
    if form == "columns":
        if not isinstance(rows, Mapping):
            raise _at(form, f"expected an object of columns, got {kind(rows)}")
        model.check_rows(max((len(cells) for cells in rows.values() if isinstance(cells, list)), default=0))
        return model.encoder.columns(rows)
    if not isinstance(rows, list):
        raise _at(form, f"expected a list of rows, got {kind(rows)}")
    model.check_rows(len(rows))
    return model.encoder.rows(rows) if form == "features" else model.encoder.records(rows)


def _probabilities(options: dict[str, Any], model: LiveModel) -> bool:
    wanted = options.get("probabilities", False)
    if not isinstance(wanted, bool):
        raise _at("probabilities", f"expected true or false, got {kind(wanted)}")
    if wanted and model.signature.task == "regression":
        raise _at("probabilities", f"{model.name!r} is a regression, which has no probabilities")
    return wanted


def _threshold(options: dict[str, Any], model: LiveModel) -> float | None:
    threshold = options.get("threshold")
    if threshold is None:
        return None
    if model.signature.task != "binary":
        raise _at("threshold", f"only a binary model has one; {model.name!r} is {model.signature.task}")
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
        shown = threshold if isinstance(threshold, float) else kind(threshold)
        raise _at("threshold", f"expected a number from 0 to 1, got {shown}")
    return float(threshold)


def _hot_decoder(rows: Any) -> Callable[[bytes], Any]:
    """Decoder of `{"features": rows}` and nothing else."""
    hot = msgspec.defstruct("Hot", [("features", rows)], forbid_unknown_fields=True)
    return msgspec.json.Decoder(hot).decode


# ---- words


def _at(key: str, reason: str, fault: Fault | None = "bad_option") -> Problem:
    """A problem with a key of the body; without a fault where the key is the client's own word."""
    return Problem(422, f"{key!r}: {reason}", errors=[CellError(None, key, reason, fault)])


def kind(value: object) -> str:
    """What a client sent, in a sentence."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a text"}
    return names.get(type(value)) or f"the number {str(value)[:40]}"


def _or(names: list[str] | tuple[str, ...]) -> str:
    quoted = [f'"{name}"' for name in names]
    return ", ".join(quoted[:-1]) + f" or {quoted[-1]}"


def _json(text: str) -> str:
    return _encode(text).decode()
