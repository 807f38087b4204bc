"""`POST /models/{name}/rank`: `{"user": 5, "k": 10, "exclude": [...]}` to the best of all known items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from artifact.encode import BadRows, canonical
from artifact.kinds.category import reader
from artifact.kinds.cell import is_missing
from artifact.logged import RANKED
from artifact.ranking import best, column_of
from serving.errors import Problem, bad_rows
from serving.ids import new_id
from serving.protocols import Reply, problem_reply
from serving.protocols.json_body import decode
from serving.protocols.options import bad_option, flag_of
from serving.protocols.wording import described, hint, keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from artifact.ranking import Ranking
    from serving.protocols import Head
    from serving.scoring.catalog import LiveModel
    from serving.scoring.scores import Scores

JSON = b"application/json"
DEFAULT_K, MAX_K = 10, 1_000
MAX_USERS = 64
"""The most users in one request."""
OPTIONS = ("k", "exclude", "seen")

_encode = msgspec.json.encode


class Query(msgspec.Struct, frozen=True, gc=False):
    """A valid request.

    Parameters
    ----------
    rows
        The codes of the users, shape (n, 1).
    users
        The users as they were sent.
    lone
        Whether one user was sent as a value, not in a list.
    exclude
        Codes of the items that are left out.
    unknown
        Excluded items that the model does not know, as they were sent.
    seen
        Whether items that the user has rated may be in the answer.
    """

    rows: Any
    n: int
    users: list[Any]
    lone: bool
    k: int
    exclude: Any
    unknown: list[Any]
    seen: bool
    within_s: float | None = None
    explain: None = None


class RankEndpoint:
    """`/rank` of one model: `model` scores all items for a user, see `LiveModel.ranked`."""

    name: str = RANKED
    content_types: tuple[str, ...] = ("application/json",)

    def __init__(self, model: LiveModel) -> None:
        assert model.ranking is not None  # noqa: S101 - see `Rank.endpoints`
        self.model = model
        self._ranking: Ranking = model.ranking
        items = model.signature.numbers
        self._items = named(items)
        self._code = {name: code for code, name in enumerate(items)}
        self._read_item = reader(column_of(model.ranked_of, model.ranking.item))

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
            rows = self.model.encoder.rows([[user] for user in users])
        except BadRows as error:
            raise bad_rows(error) from None
        return Query(rows, len(users), users, not isinstance(sent, list), k, exclude, unknown, seen)

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
        found = [self._ranked(query, scores, first, row) for row in range(query.n)]
        said: dict[str, Any] = dict(found[0]) if query.lone else {"rankings": found}
        if query.unknown:
            said["unknown_excluded"] = query.unknown
        said |= {"model": self.model.name, "version": self.model.version, "id": new_id()}
        return Reply(200, JSON, _encode(said))

    def _ranked(self, query: Query, scores: Scores, first: int, row: int) -> dict[str, Any]:
        places, values, cold = self._first(query, scores, first, row)
        names = self._items
        items = [{"item": names[place], "score": score} for place, score in zip(places, values, strict=True)]
        return {
            self._ranking.query: query.users[row],
            "items": items,
            "by": "popularity" if cold else self._ranking.by,
            "cold_start": cold,
        }

    def _first(
        self, query: Query, scores: Scores, first: int, row: int
    ) -> tuple[list[int], list[float], bool]:
        """The best items of one user, their scores, and whether nothing is known of the user."""
        rated = self._ranking.seen(int(query.rows[row, 0]))
        own = scores.values[first + row]
        left_out = query.exclude if query.seen else np.concatenate([rated, query.exclude])
        places = best(own, left_out, query.k)
        return places.tolist(), own[places].tolist(), not len(rated)

    def logged(self, query: Query, scores: Scores, first: int, row: int) -> tuple[Any, NDArray[np.float64]]:
        """What the prediction log keeps of a row: the items, the best first, and their scores."""
        places, values, _ = self._first(query, scores, first, row)
        return [self._items[place] for place in places], np.array(values)

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
