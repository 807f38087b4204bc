"""BentoML's own way: a batchable API around a scikit-learn model."""

from __future__ import annotations

import os
from pathlib import Path

import bentoml
import joblib
import numpy as np  # noqa: TC002 - BentoML reads the annotations


@bentoml.service(
    name="okamochi-bench", workers=1, traffic={"timeout": 30}, logging={"access": {"enabled": False}}
)
class Scorer:
    """The model behind BentoML's adaptive batching."""

    def __init__(self) -> None:
        self.model = joblib.load(Path(os.environ["BENCH_MODEL"]) / "model.joblib")

    @bentoml.api(batchable=True, max_batch_size=256, max_latency_ms=10_000)
    def predict(self, features: np.ndarray) -> np.ndarray:
        """Score a batch of rows."""
        return self.model.predict(features)  # type: ignore[no-any-return]
