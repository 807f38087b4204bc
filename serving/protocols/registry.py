"""The protocols that are spoken over HTTP. A new one is a module beside these and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.protocols.kserve import KServe
from serving.protocols.mlflow import MLflow
from serving.protocols.oip import OpenInference
from serving.protocols.predict import Predict
from serving.protocols.rank import Rank
from serving.protocols.score import Score

if TYPE_CHECKING:
    from serving.protocols import Protocol

PROTOCOLS: tuple[Protocol, ...] = (Predict(), Rank(), OpenInference(), KServe(), MLflow(), Score())
