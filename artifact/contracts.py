"""Whether two models of one name take the same rows or tensors and answer the same classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from artifact.kinds.cell import listed

if TYPE_CHECKING:
    from artifact.signature import Signature


def mismatch(champion: Signature, other: Signature) -> str:
    """What keeps a model from standing in for the champion of its name; "" if nothing does."""
    kinds = {column.name: column.kind for column in champion.columns}
    own = {column.name: column.kind for column in other.columns}
    lacks = [name for name in kinds if name not in own]
    more = [name for name in own if name not in kinds]
    if lacks or more:
        said = [f"it lacks {listed(lacks)}"] * bool(lacks) + [f"it has {listed(more)} more"] * bool(more)
        return f"its columns differ from the champion's: {' and '.join(said)}"
    differ = [name for name in kinds if kinds[name] != own[name]]
    if differ:
        of = ", ".join(f"{name!r} is a {own[name]} instead of a {kinds[name]}" for name in differ[:8])
        return f"its columns differ from the champion's: {of}"
    if champion.names != other.names:
        return (
            f"its columns stand in another order than the champion's: {listed(other.names)} "
            f"instead of {listed(champion.names)}"
        )
    if (champion.task, champion.target) != (other.task, other.target):
        return (
            f"it is a {other.task} of {other.target!r}, and the champion a {champion.task} of "
            f"{champion.target!r}"
        )
    if champion.tensors is not None and other.tensors is not None:
        one, two = champion.tensors, other.tensors
        if (one.inputs, one.outputs) != (two.inputs, two.outputs):
            return "its tensors differ from the champion's in names, datatypes or shapes"
    if champion.numbers != other.numbers:
        return (
            f"its numbers differ from the champion's: {listed(other.numbers)} instead of "
            f"{listed(champion.numbers)}"
        )
    if list(map(repr, champion.classes)) != list(map(repr, other.classes)):
        return (
            f"its classes differ from the champion's: {listed(other.classes)} instead of "
            f"{listed(champion.classes)}"
        )
    return ""
