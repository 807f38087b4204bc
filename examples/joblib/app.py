"""The tutorial with joblib and FastAPI: a typed row, a prediction. Only the two lines with `was` are new."""

import os

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

from artifact import load  # was: from joblib import load

app = FastAPI()
model = load(os.environ["MODEL"])  # was: model = load("model.joblib")


class Flower(BaseModel):
    sepal_length: float
    sepal_width: float
    petal_length: float
    petal_width: float


@app.get("/")
def about():
    return {"message": "POST a flower to /predict"}


@app.post("/predict")
def predict(flower: Flower):
    row = np.array([list(flower.model_dump().values())])
    return {
        "prediction": model.predict(row)[0],
        "probability": round(float(model.predict_proba(row).max()), 6),
    }
