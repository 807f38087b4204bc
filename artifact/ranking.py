"""The ranking of an artifact: all items with a score for each user, and what each user has rated.

`ranking.npz` holds plain arrays. Users and items are the codes of two columns of the signature; score of an
item for a user = product of their vectors + the item's bias. An unknown user gets the scores of `cold`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from artifact.manifest import RANKING, ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from artifact.manifest import Artifact
    from artifact.signature import Column, Signature

GOLDEN_USERS, GOLDEN_ITEMS, TOLERANCE = 32, 10, 1e-6


@dataclass(frozen=True, eq=False)
class Ranking:
    """See the module.

    Parameters
    ----------
    query, item
        The columns of users and items.
    by
        What a score is: "rating", the expected one; "blend", the same with a bonus for items of many ratings;
        "preference", 1 for a liked item and 0 for any other; "popularity", how many users like the item.
    users
        Shape (users, factors).
    items
        Shape (items, factors).
    bias
        Of the items, shape (items,).
    cold
        The popularity of the items, shape (items,): how many users like each.
    starts, rated
        The items that user u has rated are `rated[starts[u] : starts[u + 1]]`.
    """

    query: str
    item: str
    by: str
    users: NDArray[np.float64]
    items: NDArray[np.float64]
    bias: NDArray[np.float64]
    cold: NDArray[np.float64]
    starts: NDArray[np.int64]
    rated: NDArray[np.int64]

    def score(self, codes: NDArray[np.float64]) -> NDArray[np.float64]:
        """The scores of all items for users, from codes of shape (rows, 1); -1 is an unknown user.

        Returns
        -------
        Shape (rows, items).
        """
        users = np.asarray(codes)[:, 0].astype(np.intp)
        scores: NDArray[np.float64] = self.users[users] @ self.items.T
        scores += self.bias
        scores[self.unknown(users)] = self.cold
        return scores

    def unknown(self, users: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which users have no rating in the training rows, so that nothing is known of them."""
        found: NDArray[np.bool_] = (users < 0) | (self.starts[users + 1] == self.starts[users])
        return found

    def seen(self, user: int) -> NDArray[np.int64]:
        """The items that a user has rated."""
        return self.rated[self.starts[user] : self.starts[user + 1]] if user >= 0 else self.rated[:0]


def best(scores: NDArray[np.float64], left_out: NDArray[np.int64], k: int) -> NDArray[np.intp]:
    """The `k` items of the highest scores, the best first; of equal scores, the lower code first.

    Parameters
    ----------
    scores
        Of all items for one user, shape (items,).
    left_out
        Items that do not count; fewer than `k` may be left.
    """
    kept = scores.copy()
    kept[left_out] = -np.inf
    k = min(k, len(kept))
    lowest = -np.inf
    if k < len(kept):
        lowest = np.partition(kept, len(kept) - k)[len(kept) - k]
    found = (kept >= lowest if np.isfinite(lowest) else np.isfinite(kept)).nonzero()[0]
    return found[(-kept[found]).argsort(kind="stable")[:k]]


def write(directory: Path, ranking: Ranking) -> None:
    """Write the ranking with golden rows of its own, before the artifact is sealed."""
    users = np.unique(np.linspace(-1, len(ranking.users) - 1, GOLDEN_USERS).astype(np.int64))
    scores = ranking.score(users[:, None].astype(np.float64))
    places = np.unique(np.linspace(0, len(ranking.items) - 1, GOLDEN_ITEMS).astype(np.int64))
    arrays = {field.name: np.asarray(getattr(ranking, field.name)) for field in fields(Ranking)}
    golden = {"golden_users": users, "golden_items": places, "golden_scores": scores[:, places]}
    np.savez(directory / RANKING, allow_pickle=False, **arrays, **golden)


def read(artifact: Artifact) -> Ranking | None:
    """The ranking, checked on its golden rows; None if the artifact has none.

    Raises
    ------
    ArtifactError
        The file holds something else, or scores differ from those that training recorded.
    """
    path = artifact.path / RANKING
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        names = [field.name for field in fields(Ranking)]
        ranking = Ranking(
            *(str(arrays[name]) for name in names[:3]),  # type: ignore[arg-type]
            *(arrays[name] for name in names[3:]),
        )
        golden = arrays["golden_users"], arrays["golden_items"], arrays["golden_scores"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
    _check(ranking, artifact.signature, path)
    scores = ranking.score(golden[0][:, None].astype(np.float64))[:, golden[1]]
    apart = float(np.abs(scores - golden[2]).max(initial=0.0))
    if not apart <= TOLERANCE * max(1.0, float(np.abs(golden[2]).max(initial=0.0))):
        raise ArtifactError(f"golden rows of {path}: a score differs by {apart:.3g}")
    return ranking


def column_of(signature: Signature, name: str) -> Column:
    """The column of that name; ArtifactError if the signature has no such category."""
    found = next((each for each in signature.columns if each.name == name and each.kind == "category"), None)
    if found is None:
        raise ArtifactError(f"the ranking is of {name!r}, which is no category of the signature")
    return found


def _check(ranking: Ranking, signature: Signature, path: Path) -> None:
    users = len(column_of(signature, ranking.query).categories)
    items = len(column_of(signature, ranking.item).categories)
    shapes = (
        ranking.users.shape[:1] == (users,),
        ranking.items.shape == (items, ranking.users.shape[1]),
        ranking.bias.shape == ranking.cold.shape == (items,),
        ranking.starts.shape == (users + 1,),
    )
    if not all(shapes) or (
        ranking.rated.size and not 0 <= ranking.rated.min() <= ranking.rated.max() < items
    ):
        raise ArtifactError(f"{path} does not have {users} users and {items} items, as the signature has")
    largest = _largest(ranking.users) * _largest(ranking.items) * ranking.users.shape[1]
    if not np.isfinite(largest + _largest(ranking.bias) + _largest(ranking.cold)):
        raise ArtifactError(f"{path} gives scores that are not finite")


def _largest(values: NDArray[np.float64]) -> float:
    return float(np.abs(values).max(initial=0.0))
