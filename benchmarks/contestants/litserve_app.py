"""LitServe around a scikit-learn model, with its own batching."""

import os
import sys
from pathlib import Path
from typing import Any

import joblib
import litserve
import numpy as np


class Scorer(litserve.LitAPI):
    """One row a request, batches of up to 64."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Load the model in the worker."""
        self.model = joblib.load(Path(os.environ["BENCH_MODEL"]) / "model.joblib")

    def decode_request(self, request):  # noqa: ANN001, ANN201 - LitServe makes a schema of a typed one
        """One request's rows."""
        return np.array(request["features"])

    def batch(self, inputs: list[Any]) -> Any:
        """Join the rows of many requests."""
        self.sizes = [len(rows) for rows in inputs]
        return np.concatenate(inputs)

    def predict(self, x: Any) -> Any:
        """Score them all."""
        return self.model.predict(x)

    def unbatch(self, output: Any) -> list[Any]:
        """Give each request its own again."""
        return np.split(output, np.cumsum(self.sizes)[:-1])

    def encode_response(self, output: Any) -> dict[str, Any]:
        """The answer's body."""
        return {"prediction": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(
        Scorer(max_batch_size=64, batch_timeout=0.001, api_path="/predict"),
        accelerator="cpu",
        workers_per_device=1,
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="error",
        access_log=False,
    )
