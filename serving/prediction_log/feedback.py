"""`POST /feedback`: the actual value of a prediction, by the id of its reply.

A request is stored whole or not at all. A repeated value is stored once; a value that contradicts a stored
one is refused, since the server cannot know which is right. No function waits: if an answer is not available
yet, `NotYetError` says when to retry.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec

from artifact.encode import CellError, canonical
from serving import ids
from serving.errors import Problem, usual_reason
from serving.observe import metrics
from serving.prediction_log.capture import FLUSH_S
from serving.prediction_log.record import NEW, Actual, StoreError
from serving.protocols import Reply
from serving.protocols.json_body import decode
from serving.protocols.wording import described
from serving.waiting import NotYetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from artifact.signature import Signature
    from serving.prediction_log.capture import PredictionLog
    from serving.prediction_log.record import Found
    from serving.scoring.catalog import Catalog
    from serving.waiting import Until

ROUTE = "/feedback"
KEYS = ("id", "row", "actual")
MAX_ITEMS = 1_000
MAX_ERRORS = 20
CONTRADICTS = "another value was stored for this row before"  # the stored value is not revealed
FRESH_S = 2.0  # a row may be answered this long before it is written, by the clocks of two machines


class Feedback:
    """Stores the actual values that clients report in the prediction log.

    Parameters
    ----------
    log
        None if the log is off; every request is then refused.
    """

    def __init__(self, catalog: Callable[[], Catalog], log: PredictionLog | None) -> None:
        self._catalog = catalog
        self._log = log

    def answer(self, body: bytes, until: Until, *, models: frozenset[str] | None = None) -> Reply:
        """The reply to a body. It reads the log, so it is not for the event loop.

        Parameters
        ----------
        models
            The models that the caller may use; None for all. A row of another model counts as never logged.

        Raises
        ------
        Problem
            400 and 422 for a malformed body, 404 for an unknown row or a log that is off, 409 for a
            contradiction, 503 for a log that is unreachable.
        NotYetError
            Another worker may have answered a row a moment ago, or another process has locked the log.
        GivenUpError
            The client no longer waits.
        """
        items = _items(decode(body))
        if self._log is None:
            raise Problem(
                404,
                "Feedback needs the prediction log, which is off; start the server with "
                "OKAMOCHI_PREDICTION_LOG set to a folder or a postgresql:// URL.",
            )
        try:
            actuals = self._actuals(items, self._log, until, models)
            before = self._log.store.add_actuals(actuals, until)
        except StoreError as error:
            raise Problem(
                503, "The prediction log cannot be used now. Send this again.", error=str(error)
            ) from None
        _refuse(
            409,
            [
                _wrong(i, "actual", CONTRADICTS)
                for i, (each, known) in enumerate(zip(actuals, before, strict=True))
                if known is not NEW and known != each.actual
            ],
        )
        stored = 0
        for each, known in zip(actuals, before, strict=True):
            stored += known is NEW
            metrics.FEEDBACK.labels(each.row.model, "stored" if known is NEW else "known").inc()
        return Reply(
            200,
            b"application/json",
            msgspec.json.encode({"stored": stored, "known": len(actuals) - stored}),
        )

    def _actuals(
        self,
        items: list[dict[str, Any]],
        log: PredictionLog,
        until: Until,
        models: frozenset[str] | None,
    ) -> list[Actual]:
        absent: list[CellError] = []
        fresh: list[bool] = []
        wrong: list[CellError] = []
        actuals: list[Actual] = []
        for i, (item, row) in enumerate(zip(items, _rows(items, log, until), strict=True)):
            if row is None or (models is not None and row.model not in models):
                place = "" if item.get("row") is None else f" row {item['row']}"
                absent.append(_wrong(i, "id", f"the log has no{place} {item['id']!r}"))
                fresh.append(-1 < ids.age_s(item["id"]) < FRESH_S)
            elif item.get("row") is None and row.rows > 1:
                wrong.append(_wrong(i, "row", f"missing; that reply had {row.rows} rows, from 0"))
            else:
                model = self._catalog().live.get(row.model)
                actual, reason = actual_of(item["actual"], model.signature if model else None)
                if reason:
                    wrong.append(_wrong(i, "actual", reason))
                actuals.append(Actual(row, actual))
        _refuse(422, wrong)
        if fresh and all(fresh):
            raise NotYetError(FLUSH_S)
        _refuse(
            404,
            absent,
            " The log has a sample of the rows (OKAMOCHI_PREDICTION_LOG_ROWS_PER_S), for "
            "OKAMOCHI_PREDICTION_LOG_DAYS days; the id is the reply's `id` or its header X-Prediction-Id.",
        )
        _refuse_contradictions(actuals)
        return actuals


def _rows(items: list[dict[str, Any]], log: PredictionLog, until: Until) -> list[Found | None]:
    """The logged row of each item."""
    if log.holds({item["id"] for item in items}):
        log.flush()
    return log.store.find([(item["id"], item.get("row")) for item in items], until)


def actual_of(value: Any, signature: Signature | None) -> tuple[Any, str]:
    """A value in the form of the training data, and its error ("" for a valid value).

    Classes match as categories do, so `1`, `1.0` and `"1"` are one. Without a signature (the model is no
    longer live here) any text, number or bool is taken.
    """
    if signature is not None and signature.numbers:
        return _numbers_of(value, signature)
    if isinstance(value, (list, dict)) or value is None:
        return None, f"expected one value, got {described(value)}"
    if isinstance(value, (int, float)) and not -sys.float_info.max <= value <= sys.float_info.max:
        return None, "expected a number within float64"
    if signature is None:
        return value, ""
    if signature.task == "regression":
        if isinstance(value, (bool, str)):
            return None, f"expected a number, got {_shown(value)}"
        return float(value), ""
    for label in signature.classes:
        if canonical(label) == canonical(value):
            return label, ""
    classes = ", ".join(_shown(label) for label in signature.classes[:8])
    more = f" and {len(signature.classes) - 8} more" if len(signature.classes) > 8 else ""
    return None, f"expected one of {classes}{more}, got {_shown(value)}"


def _numbers_of(value: Any, signature: Signature) -> tuple[Any, str]:
    """The actual values of named numbers by their names, and the error."""
    names = ", ".join(signature.numbers[:8]) + (" ..." if len(signature.numbers) > 8 else "")
    if not isinstance(value, dict) or set(value) != set(signature.numbers):
        return None, f"expected an object with a number for each of {names}"
    for name, number in value.items():
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            return None, f"expected a number for {name!r}, got {described(number)}"
        if not -sys.float_info.max <= number <= sys.float_info.max:
            return None, f"expected a number within float64 for {name!r}"
    return {name: float(value[name]) for name in signature.numbers}, ""


def _items(body: Any) -> list[dict[str, Any]]:
    items = body if isinstance(body, list) else [body]
    if not items:
        raise Problem(422, 'Expected at least one of {"id": ..., "actual": ...}, got an empty list.')
    if len(items) > MAX_ITEMS:
        raise Problem(
            413,
            f"{len(items)} values in one request; at most {MAX_ITEMS} are taken.",
            reason="too_many_rows",
        )
    errors: list[CellError] = []
    for i, item in enumerate(items):
        if not isinstance(item, dict):
            errors.append(CellError(i, None, f'expected {{"id", "row", "actual"}}, got {described(item)}'))
            continue
        errors += [
            CellError(i, key[:100], f"unknown key; expected {', '.join(KEYS)}")
            for key in item
            if key not in KEYS
        ]
        row = item.get("row")
        if not isinstance(item.get("id"), str) or not ids.FORM.fullmatch(item["id"]):
            errors.append(_wrong(i, "id", "expected the id of a reply"))
        if row is not None and (not isinstance(row, int) or isinstance(row, bool) or not 0 <= row < 2**31):
            errors.append(_wrong(i, "row", f"expected a whole number from 0, got {described(row)}"))
        if "actual" not in item:
            errors.append(_wrong(i, "actual", "missing"))
    _refuse(422, errors)
    return items


def _refuse_contradictions(actuals: list[Actual]) -> None:
    """409 for a list with two values for one row, before the log is read.

    Otherwise one request could try every possible value, and its errors would reveal the stored one.
    """
    first: dict[tuple[str, int], Any] = {}
    _refuse(
        409,
        [
            _wrong(i, "actual", "the list has another value for this row")
            for i, (row, actual) in enumerate(actuals)
            if first.setdefault((row.id, row.row), actual) != actual
        ],
    )


def _wrong(item: int, key: str, reason: str) -> CellError:
    """What is wrong with one of `KEYS`, whose name the log may have."""
    return CellError(item, key, reason, "bad_option")


def _refuse(status: int, errors: list[CellError], more: str = "") -> None:
    if errors:
        first = errors[0]
        column = f", {first.column!r}" if first.column else ""
        others = f" (and {len(errors) - 1} more, see `errors`)" if len(errors) > 1 else ""
        raise Problem(
            status,
            f"row {first.row} of the feedback{column}: {first.reason}{others}; nothing was stored.{more}",
            errors=errors[:MAX_ERRORS],
            reason=usual_reason(status),
        )


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."
