"""Whether a table looks like ratings: who, what, and how much they liked it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from training.tables.data import Table

MIN_LEVELS, MAX_RATINGS = 20, 101
"""The fewest users and items, and the most different ratings: those from 0 to 100."""
MIN_ROWS_OF_ONE = 3.0
"""Ratings of a user, and of an item, on average."""
MAX_TWICE = 0.05
"""The most pairs of a user and an item that stand in more than one row, as a fraction of the rows."""

USERS = {
    "user",
    "customer",
    "client",
    "member",
    "person",
    "reader",
    "viewer",
    "reviewer",
    "account",
    "player",
}
ITEMS = {
    "item",
    "movie",
    "film",
    "book",
    "isbn",
    "product",
    "song",
    "track",
    "artist",
    "article",
    "game",
    "recipe",
}


class Pair(NamedTuple):
    """The columns of users and items."""

    query: str
    item: str


def looks_like_ratings(table: Table) -> Pair | None:
    """The columns of users and items, by their names and by how their values repeat.

    None if the table has no such columns, or if the target does not look like a rating.
    """
    if not _is_rating(table):
        return None
    names = [str(name) for name in table.frame.columns]
    users, items = ([name for name in names if _words_of(name) & known] for known in (USERS, ITEMS))
    for user in users:
        for item in items:
            if user != item and _pairs_up(table, user, item):
                return Pair(user, item)
    return None


def _words_of(name: str) -> set[str]:
    """The words of a column's name: `userId`, `user_id`, `USERID` and `Users` are all about users."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
    return {word.removesuffix("id").removesuffix("s") for word in words}


def _is_rating(table: Table) -> bool:
    if table.target.ndim != 1:
        return False
    values = set(table.target.tolist())
    numbers = all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in values)
    return numbers and 2 < len(values) <= MAX_RATINGS


def _pairs_up(table: Table, user: str, item: str) -> bool:
    """Whether users rate several items, items are rated by several users, and few pairs stand twice."""
    frame = table.frame[[user, item]].dropna()
    rows = len(frame)
    if not rows:
        return False
    levels = [frame[name].nunique() for name in (user, item)]
    several = all(MIN_LEVELS <= count <= rows / MIN_ROWS_OF_ONE for count in levels)
    return several and int(frame.duplicated().sum()) <= MAX_TWICE * rows
