"""Factors of two columns, such as users and items, that explain a number: a rating of one by the other.

The number is the mean, a linear function of the other columns, a bias of each row and column of the rating
matrix, and the product of their factors. The factors are fitted by alternating least squares that keep the
uncertainty of each vector (variational Bayes: Lim and Teh, KDD Cup 2007), so that a user of few ratings is
near the average user, and the strength of the regularisation is estimated from the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, RegressorMixin

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONVERGED = 1e-4
"""A sweep that changes the error on the training rows by less than this fraction is the last."""
RIDGE = 1.0
"""The regularisation of the other columns, which are scaled."""
LEAST_VARIANCE = 1e-9


class Factorization(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A regression of the codes in the first two columns, and of any further columns linearly.

    Parameters
    ----------
    rank
        The number of factors.
    sweeps
        The most updates of all vectors; fewer of them leave the vectors nearer to the average.

    Attributes
    ----------
    users_, items_
        Shape (codes + 1, rank + 1): the factors, then the bias. The first vector, of zeros, is that of a code
        that was never seen, and code c has vector c + 1.
    coef_
        Of the further columns.
    mean_
        The mean of the target.
    """

    def __init__(self, rank: int = 8, sweeps: int = 40, random_state: int = 0) -> None:
        self.rank = rank
        self.sweeps = sweeps
        self.random_state = random_state

    def fit(self, x: Any, y: Any) -> Self:
        """Fit to rows of shape (rows, 2 + further columns) and values of shape (rows,)."""
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        self.n_features_in_ = x.shape[1]
        users, items = _vector_of(x[:, 0]), _vector_of(x[:, 1])
        self.mean_ = float(y.mean())
        self.coef_ = _ridge(x[:, 2:], y - self.mean_)
        rest = y - self.mean_ - x[:, 2:] @ self.coef_
        known = (users > 0) & (items > 0)
        shape = int(users.max(initial=0)) + 1, int(items.max(initial=0)) + 1
        rated = csr_matrix((rest[known], (users[known], items[known])), shape=shape)
        seen = csr_matrix((np.ones(known.sum()), (users[known], items[known])), shape=shape)
        self.users_, self.items_ = _alternate(
            rated, seen, self.rank, self.sweeps, np.random.default_rng(self.random_state)
        )
        return self

    def predict(self, x: Any) -> NDArray[np.float64]:
        """Values of shape (rows,)."""
        x = np.asarray(x, np.float64)
        user = self.users_[_within(_vector_of(x[:, 0]), self.users_)]
        item = self.items_[_within(_vector_of(x[:, 1]), self.items_)]
        product: NDArray[np.float64] = (user[:, :-1] * item[:, :-1]).sum(axis=1)
        product += self.mean_ + x[:, 2:] @ self.coef_ + user[:, -1] + item[:, -1]
        return product


def _vector_of(codes: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.maximum(codes.astype(np.intp) + 1, 0)


def _within(vectors: NDArray[np.intp], table: NDArray[np.float64]) -> NDArray[np.intp]:
    """A code that no row of the fit had is unknown."""
    found: NDArray[np.intp] = np.where(vectors < len(table), vectors, 0)
    return found


def _ridge(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    if not x.shape[1]:
        return np.zeros(0)
    return np.asarray(np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y), np.float64)


class _Rated(NamedTuple):
    """The pairs that were rated, with the mean of their ratings and how many those were."""

    users: NDArray[np.intp]
    items: NDArray[np.intp]
    values: NDArray[np.float64]
    times: NDArray[np.float64]


def _rated(rated: csr_matrix, seen: csr_matrix) -> _Rated:
    users, items = seen.nonzero()
    times = np.asarray(seen[users, items], np.float64).ravel()
    return _Rated(users, items, np.asarray(rated[users, items], np.float64).ravel() / times, times)


class _Side:
    """The vectors of one side: means of shape (n, rank + 1), bias last, and covariances."""

    def __init__(self, n: int, rank: int, random: np.random.Generator) -> None:
        self.means = random.normal(0, 0.1, (n, rank + 1))
        self.means[:, -1] = 0.0
        self.covariances: NDArray[np.float64] = np.zeros((n, rank + 1, rank + 1))
        self.precisions = np.full(rank + 1, 1.0)

    @property
    def variances(self) -> NDArray[np.float64]:
        """Shape (n, rank + 1)."""
        found: NDArray[np.float64] = np.diagonal(self.covariances, axis1=1, axis2=2)
        return found

    def update(self, rated: csr_matrix, seen: csr_matrix, other: _Side, noise: float) -> None:
        """The best vectors given those of the other side.

        Parameters
        ----------
        rated, seen
            Shape (n, other's n): the values, and how often each was given.
        """
        n, width = self.means.shape
        rank = width - 1
        moments = other.covariances + other.means[:, :, None] * other.means[:, None, :]
        upper = np.triu_indices(width)
        sums = seen @ moments[:, upper[0], upper[1]]
        counted = seen @ np.column_stack([other.means, np.ones(len(other.means))])
        second = np.empty((n, width, width))
        second[:, upper[0], upper[1]] = second[:, upper[1], upper[0]] = sums
        targets = np.asarray(rated @ np.column_stack([other.means[:, :rank], np.ones(len(other.means))]))
        targets[:, :rank] -= second[:, :rank, rank]  # what the other's biases explain
        targets[:, rank] -= counted[:, rank]
        precision = second.copy()
        precision[:, :rank, rank] = precision[:, rank, :rank] = counted[:, :rank]
        precision[:, rank, rank] = counted[:, rank + 1]
        precision /= noise
        precision[:, np.arange(width), np.arange(width)] += self.precisions
        self.covariances = np.asarray(np.linalg.inv(precision), np.float64)
        self.means = np.einsum("nij,nj->ni", self.covariances, targets / noise)
        there = np.asarray(seen.sum(axis=1)).ravel() > 0
        self.means[~there] = 0.0
        if there.any():
            spread = self.means[there] ** 2 + self.variances[there]
            self.precisions = 1.0 / np.maximum(spread.mean(axis=0), LEAST_VARIANCE)


def _alternate(
    rated: csr_matrix, seen: csr_matrix, rank: int, sweeps: int, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    users, items = _Side(rated.shape[0], rank, random), _Side(rated.shape[1], rank, random)
    if not seen.nnz:
        return np.zeros_like(users.means), np.zeros_like(items.means)
    across = csr_matrix(rated.T), csr_matrix(seen.T)
    pairs = _rated(rated, seen)
    noise, before = max(float(np.mean(pairs.values**2)), LEAST_VARIANCE), np.inf
    for _ in range(sweeps):
        users.update(rated, seen, items, noise)
        items.update(*across, users, noise)
        error, noise = _error(users, items, pairs)
        if abs(before - error) <= CONVERGED * error:
            break
        before = error
    return users.means, items.means


def _error(users: _Side, items: _Side, rated: _Rated) -> tuple[float, float]:
    """The mean squared error on the ratings, and what it is expected to be with the vectors' uncertainty."""
    one, other = users.means[rated.users], items.means[rated.items]
    off = rated.values - (one[:, :-1] * other[:, :-1]).sum(axis=1) - one[:, -1] - other[:, -1]
    unsure_one, unsure_other = users.variances[rated.users], items.variances[rated.items]
    unsure = unsure_one[:, -1] + unsure_other[:, -1]
    unsure += (unsure_one[:, :-1] * (other[:, :-1] ** 2 + unsure_other[:, :-1])).sum(axis=1)
    unsure += (one[:, :-1] ** 2 * unsure_other[:, :-1]).sum(axis=1)
    error = float(np.average(off**2, weights=rated.times))
    return error, max(float(np.average(off**2 + unsure, weights=rated.times)), LEAST_VARIANCE)
