"""Naive Bayes and discriminant analysis: the classes' log densities, then softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB

from training.onnx.graph import Writer

if TYPE_CHECKING:
    from training.onnx.graph import Graph


def _write_gaussian(graph: Graph, model: GaussianNB, x: str) -> str:
    rows = graph.op("Unsqueeze", x, graph.constant([1], np.int64))  # (rows, 1, columns)
    away = graph.op("Sub", rows, graph.constant(model.theta_[None]))
    squares = graph.op("Div", graph.op("Mul", away, away), graph.constant(model.var_[None]))
    with_prior = np.log(model.class_prior_) - 0.5 * np.log(2.0 * np.pi * model.var_).sum(axis=1)
    density = graph.mul(graph.row_sum(squares, keep=0, axis=2), [[-0.5]])
    return graph.softmax(graph.add(density, with_prior[None, :]))


def _write_bernoulli(graph: Graph, model: BernoulliNB, x: str) -> str:
    if model.binarize is not None:
        x = graph.cast(graph.op("Greater", x, graph.constant([[float(model.binarize)]])))
    other = np.log(1 - np.exp(model.feature_log_prob_))
    bias = model.class_log_prior_ + other.sum(axis=1)
    return graph.softmax(graph.affine(x, model.feature_log_prob_ - other, bias))


def _write_counts(graph: Graph, model: MultinomialNB, x: str) -> str:
    return graph.softmax(graph.affine(x, model.feature_log_prob_, model.class_log_prior_))


def _write_complement(graph: Graph, model: ComplementNB, x: str) -> str:
    return graph.softmax(graph.affine(x, model.feature_log_prob_, np.zeros(len(model.classes_))))


def _write_linear_discriminant(graph: Graph, model: LinearDiscriminantAnalysis, x: str) -> str:
    decision = graph.affine(x, model.coef_, model.intercept_)
    if len(model.classes_) == 2:
        return graph.complement(graph.op("Sigmoid", decision))
    return graph.softmax(decision)


def _write_quadratic(graph: Graph, model: QuadraticDiscriminantAnalysis, x: str) -> str:
    columns: list[Any] = []
    for c, prior in enumerate(model.priors_):
        away = graph.op("Sub", x, graph.constant(model.means_[c][None, :]))
        turned = graph.matmul(away, model.rotations_[c] * model.scalings_[c] ** -0.5)
        size = graph.row_sum(graph.op("Mul", turned, turned))
        bias = -0.5 * np.log(model.scalings_[c]).sum() + np.log(prior)
        columns.append(graph.add(graph.mul(size, [[-0.5]]), [[bias]]))
    return graph.softmax(graph.concat(columns))


WRITERS: dict[type, Writer] = {
    GaussianNB: Writer(_write_gaussian),
    BernoulliNB: Writer(_write_bernoulli),
    MultinomialNB: Writer(_write_counts),
    ComplementNB: Writer(_write_complement),
    LinearDiscriminantAnalysis: Writer(_write_linear_discriminant),
    QuadraticDiscriminantAnalysis: Writer(_write_quadratic),
}
