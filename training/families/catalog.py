"""All families that the search chooses from. A new one is its own file and a line in `FAMILIES`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from training.families import (
    baseline,
    boosting,
    catboost_trees,
    ensemble,
    factors,
    forest,
    lightgbm_trees,
    linear,
    neighbours,
    network,
    own,
    svm,
    tree,
    xgboost_trees,
)
from training.families.preprocessing import WIDE_TEXT
from training.onnx.convert import HOLDERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from artifact.signature import Task
    from training.families.family import Family
    from training.families.layout import Layout
    from training.onnx.graph import Writer

FAMILIES: tuple[Family, ...] = (
    linear.FAMILY,
    boosting.FAMILY,
    lightgbm_trees.FAMILY,
    catboost_trees.FAMILY,
    xgboost_trees.FAMILY,
    forest.RANDOM,
    forest.EXTRA,
    svm.FAMILY,
    network.FAMILY,
    neighbours.FAMILY,
    tree.FAMILY,
)
"""The best defaults first: in this order the first trials run."""

RANKING: tuple[Family, ...] = (factors.FAMILY, linear.FAMILY)
"""The families for a use case that ranks items for users.

The others split thousands of users and items one by one, which costs minutes and finds no taste.
"""

BASELINE = baseline.FAMILY

WRITERS: dict[type, Writer] = HOLDERS | ensemble.WRITERS
"""How each type of fitted predictor that a pipeline of ours may hold becomes nodes of an ONNX graph."""
for _each in (*FAMILIES, *RANKING, BASELINE):
    WRITERS |= _each.writers


def family(name: str) -> Family:
    """The family of that name, or of that entry of `candidates.add`; KeyError for an unknown name."""
    if own.is_own(name):
        return own.family_of(name)
    return {each.name: each for each in (*RANKING, *FAMILIES, BASELINE)}[name]


def affordable_families(layout: Layout, task: Task) -> list[Family]:
    """The families to search for this table: first one's own, then the best defaults first."""
    return [each for each in _suitable(layout, task) if each.installed]


def absent_families(layout: Layout, task: Task) -> list[Family]:
    """The families that would be searched for this table too, if their packages were installed."""
    return [each for each in _suitable(layout, task) if not each.installed]


def not_tried(absent: Sequence[Family]) -> str:
    """What a person is told of families whose packages are not installed."""
    *others, last = [each.title for each in absent]
    titles = f"{', '.join(others)} and {last}" if others else last
    return (
        f"{titles} may suit this table, but {'are' if others else 'is'} not installed and "
        f"{'were' if others else 'was'} not tried: pip install -r requirements/boosting.txt"
    )


def _suitable(layout: Layout, task: Task) -> list[Family]:
    return [
        each
        for each in (*map(own.family_of, layout.own), *(FAMILIES if layout.pair is None else RANKING))
        if task in each.tasks
        and each.affordable(layout.rows, layout.width, layout.classes)
        # Over a decomposed text these were no better than histogram boosting.
        and not (each.package and len(layout.terms) > WIDE_TEXT)
    ]


def build(name: str, params: Mapping[str, Any], layout: Layout, task: Task, seed: int) -> Any:
    """An unfitted pipeline of a family, or of an ensemble's members."""
    if name != ensemble.ENSEMBLE:
        return family(name).build(params, layout, task, seed)
    members = [
        (f"{i}_{member['family']}", build(member["family"], member["params"], layout, task, seed))
        for i, member in enumerate(params["members"])
    ]
    return ensemble.together(members, [member["weight"] for member in params["members"]], layout.classes)
