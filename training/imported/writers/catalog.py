"""All predictors that a graph of a model that was made elsewhere can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.families.catalog import WRITERS as OWN
from training.imported.writers import bayes, holders, linear, neighbours, trees, vectors

if TYPE_CHECKING:
    from training.onnx.graph import Writer

WRITERS: dict[type, Writer] = {
    **OWN,
    **linear.WRITERS,
    **bayes.WRITERS,
    **trees.WRITERS,
    **vectors.WRITERS,
    **neighbours.WRITERS,
    **holders.WRITERS,
}
