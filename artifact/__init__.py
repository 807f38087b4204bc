"""What training writes and serving reads: the contract of a model, its files and how rows become a matrix.

`load` opens a model inside a program of one's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from artifact.program import Model

__version__ = "0.2.0"
__all__ = ["__version__", "load"]


def load(source: str | Path) -> Model:
    """Open a verified model in this process.

    Parameters
    ----------
    source
        The folder of an artifact, a tag in BentoML's model store (`okamochi-credit:3-0123456789ab`), or an
        address of MLflow (`models:/credit@champion`, `models:/credit/3`, `runs:/ID/model`).

    Returns
    -------
    A model with `predict`, `predict_proba` and `scores`, for any number of threads.

    Raises
    ------
    artifact.manifest.ArtifactError
        There is no such model, a file of it is damaged, or its answers on the golden rows are not those that
        training recorded.
    """
    from artifact.program import open_model

    return open_model(source)
