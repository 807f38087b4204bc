"""`POST /feedback`: what a prediction should have been, by the id of its reply.

All of a request is kept or nothing of it. What is said twice is kept once; what contradicts something that
was said before is refused, since nobody could tell which of the two is right. Nothing here waits: where an
answer is not there yet, `NotYetError` says when to ask again.
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
from serving.prediction_log.record import NEW, StoreError, Told
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
MOST_ITEMS = 1_000
MOST_ERRORS = 20
CONTRADICTS = "another value was stored for this row before"  # which one is nobody's business
FRESH_S = 2.0  # for so long a row may be answered and not be written yet, by the clocks of two machines


class Feedback:
    """Takes what clients say was right, to the prediction log.

    Parameters
    ----------
    log
        None where it is off: nothing can be joined, so everything is refused.
    """

    def __init__(self, catalog: Callable[[], Catalog], log: PredictionLog | None) -> None:
        self._catalog = catalog
        self._log = log

    def answer(self, body: bytes, until: Until) -> Reply:
        """The reply to a body. It reads the log, so it is not for the event loop.

        Raises
        ------
        Problem
            400 and 422 for what is malformed, 404 for what is not in the log (or there is none), 409 for what
            contradicts, 503 for a log that is away.
        NotYetError
            Another worker may have answered a row a moment ago, or another process has locked the log.
        GivenUpError
            Nobody waits any more.
        """
        items = _items(decode(body))
        if self._log is None:
            raise Problem(
                404,
                "There is no prediction log that feedback could be joined with; start the server with "
                "OKAMOCHI_PREDICTION_LOG set to a folder or a postgresql:// URL.",
            )
        try:
            told = self._told(items, self._log, until)
            before = self._log.store.tell(told, until)
        except StoreError as error:
            raise Problem(
                503, "The prediction log cannot be used now. Send this again.", error=str(error)
            ) from None
        _refuse(
            409,
            [
                _wrong(i, "actual", CONTRADICTS)
                for i, (each, known) in enumerate(zip(told, before, strict=True))
                if known is not NEW and known != each.actual
            ],
        )
        stored = 0
        for each, known in zip(told, before, strict=True):
            stored += known is NEW
            metrics.FEEDBACK.labels(each.row.model, "stored" if known is NEW else "known").inc()
        return Reply(
            200,
            b"application/json",
            msgspec.json.encode({"stored": stored, "known": len(told) - stored}),
        )

    def _told(self, items: list[dict[str, Any]], log: PredictionLog, until: Until) -> list[Told]:
        absent: list[CellError] = []
        fresh: list[bool] = []
        wrong: list[CellError] = []
        told: list[Told] = []
        for i, (item, row) in enumerate(zip(items, _rows(items, log, until), strict=True)):
            if row is None:
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
                told.append(Told(row, actual))
        _refuse(422, wrong)
        if fresh and all(fresh):
            raise NotYetError(FLUSH_S)
        _refuse(
            404,
            absent,
            " Known are replies (`id`, or the header X-Prediction-Id) whose rows were logged: drawn "
            "(OKAMOCHI_PREDICTION_LOG_ROWS_PER_S) and not older than OKAMOCHI_PREDICTION_LOG_DAYS.",
        )
        _refuse_contradictions(told)
        return told


def _rows(items: list[dict[str, Any]], log: PredictionLog, until: Until) -> list[Found | None]:
    """The logged row of each item.

    Whether the caller may tell its value is a question for here, once a request names its principal and a row
    whose request it was: a row of another is then as absent as one that was never logged.
    """
    if log.holds({item["id"] for item in items}):
        log.flush()
    return log.store.find([(item["id"], item.get("row")) for item in items], until)


def actual_of(value: Any, signature: Signature | None) -> tuple[Any, str]:
    """A value as the data has it, and what is wrong with it ("" for nothing).

    Classes match as categories do, so `1`, `1.0` and `"1"` are one. Without a signature (the model is no
    longer live here) any text, number or bool is taken.
    """
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


def _items(body: Any) -> list[dict[str, Any]]:
    items = body if isinstance(body, list) else [body]
    if not items:
        raise Problem(422, 'Expected at least one of {"id": ..., "actual": ...}, got an empty list.')
    if len(items) > MOST_ITEMS:
        raise Problem(
            413,
            f"{len(items)} values in one request; at most {MOST_ITEMS} are taken.",
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


def _refuse_contradictions(told: list[Told]) -> None:
    """409 for a list that says two things of one row, before the log is asked.

    Otherwise one request could try every value there is, and its errors would say which of them is stored.
    """
    first: dict[tuple[str, int], Any] = {}
    _refuse(
        409,
        [
            _wrong(i, "actual", "the list has another value for this row")
            for i, (row, actual) in enumerate(told)
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
            errors=errors[:MOST_ERRORS],
            reason=usual_reason(status),
        )


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."
