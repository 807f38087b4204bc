"""Flask around a scikit-learn model, behind gunicorn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from flask import Flask, request

model = joblib.load(Path(os.environ["BENCH_MODEL"]) / "model.joblib")
app = Flask(__name__)


@app.post("/predict")
def predict() -> dict[str, Any]:
    """Score the rows of the body."""
    features = request.get_json()["features"]
    return {"prediction": model.predict(np.array(features)).tolist()}
