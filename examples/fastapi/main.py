"""One route that takes rows and answers predictions; what is wrong with a row is told as 422."""

import os
from typing import Any

from fastapi import FastAPI, HTTPException

from artifact import load
from artifact.encode import BadRows

app = FastAPI()
model = load(os.environ["MODEL"])  # was: joblib.load("model.joblib")


@app.get("/")
def about() -> dict[str, Any]:
    return {"model": model.name, "columns": model.signature.names, "example": model.signature.example}


@app.post("/predict")
def predict(rows: list[dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"predictions": model.predict(rows).tolist()}
    except BadRows as error:
        wrong = [{"row": each.row, "column": each.column, "reason": each.reason} for each in error.errors]
        raise HTTPException(422, wrong) from error
