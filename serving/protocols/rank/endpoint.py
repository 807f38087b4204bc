"""`POST /models/{name}/rank`: `{"user": 5, "k": 10, "exclude": [...]}` to the best of all known items."""

from __future__ import annotations

from functools import partial
from time import sleep
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact.encode import BadRows, canonical
from artifact.kinds.category import reader
from artifact.kinds.cell import is_missing
from artifact.logged import RANKED
from artifact.ranking import column_of
from serving.errors import Problem, bad_rows
from serving.ids import new_id
from serving.protocols import AnswerLater, Reply, problem_reply
from serving.protocols.json_body import decode
from serving.protocols.options import bad_option, flag_of
from serving.protocols.wording import described, hint, keys
from serving.scoring.best_items import MAX_K, found, rows_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.ranking import Ranking
    from serving.protocols import Head
    from serving.scoring.catalog import LiveModel
    from serving.scoring.scores import Scores

JSON = b"application/json"
DEFAULT_K = 10
MAX_USERS = 64
"""The most users in one request."""
MAX_ITEMS_AT_ONCE = 640
"""The most items of a reply that the event loop makes, in 0.3 ms; a thread makes a longer reply."""
OPTIONS = ("k", "exclude", "seen")

_encode = msgspec.json.encode


class Query(msgspec.Struct, frozen=True, gc=False):
    """A valid request.

    Parameters
    ----------
    rows
        Of `best_items.Wanted`, shape (n, 1).
    users
        The users as they were sent.
    lone
        Whether one user was sent as a value, not in a list.
    unknown
        Excluded items that the model does not know, as they were sent.
    made
        The rankings of a long reply as JSON, once a thread has made them; until then None.
    """

    rows: Any
    n: int
    users: list[Any]
    lone: bool
    k: int
    unknown: list[Any]
    made: list[bytes] | None = None
    within_s: float | None = None
    explain: None = None


class RankEndpoint:
    """`/rank` of one model: `model` finds the best items for a user, see `LiveModel.ranked`."""

    name: str = RANKED
    content_types: tuple[str, ...] = ("application/json",)

    def __init__(self, model: LiveModel) -> None:
        assert model.ranking is not None  # noqa: S101 - see `Rank.endpoints`
        self.model = model
        self._ranking: Ranking = model.ranking
        column = column_of(model.ranked_of, model.ranking.item)
        self._items = named(column.categories)
        self._code = {name: code for code, name in enumerate(column.categories)}
        self._read_item = reader(column)

    def read(self, body: bytes, head: Head) -> Query:  # noqa: ARG002 - other protocols look at headers
        """See `Endpoint`."""
        request = decode(body)
        column = self._ranking.query
        if not isinstance(request, dict):
            raise Problem(422, f"Expected a JSON object with {keys([column])}, got {described(request)}.")
        known = (column, *OPTIONS)
        for key in request:
            if key not in known:
                raise bad_option(key[:100], f"unknown key; {hint(key, known)}")
        if column not in request:
            raise bad_option(column, f"missing; expected a value of the column {column!r}, or a list of them")
        sent = request[column]
        users = sent if isinstance(sent, list) else [sent]
        if not users:
            raise bad_option(column, "expected at least one value, got an empty list")
        if len(users) > MAX_USERS:
            raise bad_option(column, f"expected at most {MAX_USERS} values in one request, got {len(users)}")
        self.model.check_rows(len(users))
        marks = self.model.signature.columns[0].marks
        for row, user in enumerate(users):
            if is_missing(user) or is_missing(user, marks):
                # The encoder's own words would list other users.
                raise bad_option(
                    column, f"expected a value of the column {column!r}, got {described(user)}", row=row
                )
        exclude, unknown = self._excluded(request.get("exclude"))
        k, seen = _k_of(request.get("k")), flag_of("seen", request.get("seen"))
        try:
            codes = self.model.encoder.rows([[user] for user in users])
        except BadRows as error:
            raise bad_rows(error) from None
        rows = rows_of(codes, k, exclude, seen=seen)
        return Query(rows, len(users), users, not isinstance(sent, list), k, unknown)

    def _excluded(self, value: object) -> tuple[NDArray[np.int64], list[Any]]:
        """The codes of the excluded items, and those of them that the model does not know."""
        if value is not None and not isinstance(value, list):
            raise bad_option("exclude", f"expected a list of items, got {described(value)}")
        codes, unknown = [], []
        for place, item in enumerate(value or ()):
            if item is None or isinstance(item, (list, dict)):
                raise bad_option("exclude", f"place {place}: expected an item, got {described(item)}")
            name = self._read_item(item)
            if name is None:
                unknown.append(item)
            else:
                codes.append(self._code[name])
        return np.array(codes, np.int64), unknown

    def answer(self, query: Query, scores: Scores, first: int) -> Reply:
        """See `Endpoint`."""
        if query.made is None and query.n * query.k > MAX_ITEMS_AT_ONCE:
            raise AnswerLater(partial(self._made, query, scores, first))
        end = self._end(query)
        if query.made is not None:
            rankings = query.made[0][1:-1] if query.lone else b'"rankings":[%b]' % b",".join(query.made)
            return Reply(200, JSON, b"{%b,%b" % (rankings, _encode(end)[1:]))
        ranked = [self._ranked(query, scores, first, row) for row in range(query.n)]
        return Reply(200, JSON, _encode((ranked[0] if query.lone else {"rankings": ranked}) | end))

    def _end(self, query: Query) -> dict[str, Any]:
        """What a reply has behind its rankings."""
        end: dict[str, Any] = {"unknown_excluded": query.unknown} if query.unknown else {}
        return end | {"model": self.model.name, "version": self.model.version, "id": new_id()}

    def _made(self, query: Query, scores: Scores, first: int) -> Query:
        """The query with its rankings as JSON, each made in a turn of its own."""
        made = []
        for row in range(query.n):
            made.append(_encode(self._ranked(query, scores, first, row)))
            sleep(0)  # releases the interpreter's lock for the event loop
        return msgspec.structs.replace(query, made=made)

    def _ranked(self, query: Query, scores: Scores, first: int, row: int) -> dict[str, Any]:
        best = found(scores.values[first + row])
        names = self._items
        items = [
            {"item": names[place], "score": score}
            for place, score in zip(best.items, best.scores, strict=True)
        ]
        return {
            self._ranking.query: query.users[row],
            "items": items,
            "by": "popularity" if best.cold else self._ranking.by,
            "cold_start": best.cold,
        }

    def logged(self, _query: Query, scores: Scores, first: int, row: int) -> tuple[Any, NDArray[np.float64]]:
        """What the prediction log keeps of a row: the items, the best first, and their scores."""
        best = found(scores.values[first + row])
        return [self._items[place] for place in best.items], np.array(best.scores)

    def refuse(self, problem: Problem) -> Reply:
        """See `Endpoint`."""
        return problem_reply(problem)


def named(categories: tuple[str, ...]) -> list[Any]:
    """Categories as clients write them: whole numbers if all are spelt as whole numbers."""
    try:
        numbers = [int(name) for name in categories]
    except ValueError:
        return list(categories)
    as_numbers = all(canonical(number) == name for number, name in zip(numbers, categories, strict=True))
    return list(numbers) if as_numbers else list(categories)


def _k_of(value: object) -> int:
    if value is None:
        return DEFAULT_K
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_K:
        raise bad_option("k", f"expected a whole number from 1 to {MAX_K}, got {described(value)}")
    return value
