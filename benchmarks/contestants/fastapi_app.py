"""What most people write first: FastAPI around a scikit-learn model."""

from __future__ import annotations

import os
from pathlib import Path

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

model = joblib.load(Path(os.environ["BENCH_MODEL"]) / "model.joblib")
app = FastAPI()


class Request(BaseModel):
    """Rows by position."""

    features: list[list[float]]


class Answer(BaseModel):
    """A label for each row."""

    prediction: list[int]


@app.post("/predict")
async def predict(request: Request) -> Answer:
    """Score in the event loop: for a model this fast a thread costs more than it gives."""
    return Answer(prediction=model.predict(np.array(request.features)).tolist())
