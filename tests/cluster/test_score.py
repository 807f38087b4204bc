"""A table on a volume, scored by a Job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from tests.cluster.place import SECONDS
from tests.cluster.test_mlflow import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.place import Place

ROWS, LAST = 4_000_000, 500
WRITE = f"""
import os
import numpy as np, pandas as pd
x = np.random.default_rng(0).normal(size={ROWS})
pd.DataFrame({{"row": np.arange({ROWS}), "x": x}}).to_parquet("/tables/new")
os.rename("/tables/new", "/tables/in.parquet")
"""
READ = f"""
import json
import numpy as np, pandas as pd
found = pd.read_parquet("/tables/out.parquet")
last = found.tail({LAST})
in_order = np.array_equal(found["row"], np.arange({ROWS}))
print(json.dumps({{"in_order": in_order, "x": list(last["x"]), "prediction": list(last["prediction"])}}))
"""
SOME_CHUNKS = """
import time
from pathlib import Path
while len(list(Path('/tables/out.parquet.parts').glob('*.part'))) < 3:
    time.sleep(0.01)
"""
JOB = ("job", "okamochi-score")


@pytest.fixture
def tables(mlflow: Place) -> Iterator[str]:
    """A pod that mounts the volume, through which a table is copied in and out."""
    spec = mlflow.get(*JOB)["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    idle = {key: value for key, value in container.items() if key != "envFrom"} | {"args": ["sleep", "3600"]}
    pod = {"metadata": {"name": "tables"}, "spec": {**spec, "containers": [idle]}}
    mlflow.apply([{"apiVersion": "v1", "kind": "Pod", **pod}])
    mlflow.kubectl("wait", "--for=condition=Ready", "pod/tables", f"--timeout={SECONDS}s")
    yield "tables"
    mlflow.kubectl("delete", "pod", "tables", "--grace-period=0", "--force")


def test_the_pod_that_replaces_a_killed_one_goes_on_and_no_row_is_lost(
    mlflow: Place, tables: str, tmp_path: Path
) -> None:
    """The champion answers each row once and in order, as it does on a laptop."""

    def python(code: str) -> str:
        return mlflow.kubectl("exec", tables, "--", "python", "-c", code)

    python(WRITE)
    with mlflow.forwarded("service/okamochi-mlflow", 5000) as url:
        done = run(url, tmp_path, "training", "ensure", "linear", "--trials", "2")
        assert done.returncode == 0, done.stdout + done.stderr

        mlflow.kubectl("patch", *JOB, "--patch", '{"spec": {"suspend": false}}')
        python(SOME_CHUNKS)
        (killed,) = mlflow.get("pods", "--selector=batch.kubernetes.io/job-name=okamochi-score")["items"]
        assert killed["status"]["phase"] == "Running", "the table has too few rows to be killed on the way"
        mlflow.kubectl("delete", "pod", killed["metadata"]["name"], "--grace-period=0", "--force")

        assert mlflow.job("okamochi-score") == "Complete", mlflow.log("okamochi-score")
        log = mlflow.log("okamochi-score")
        assert "chunks were done before" in log, log
        found = json.loads(python(READ))
        assert found["in_order"]
        table = tmp_path / "last.csv"
        pd.DataFrame({"x": found["x"]}).to_csv(table, index=False)
        done = run(url, tmp_path, "deploy", "score", "linear", str(table), str(tmp_path / "scored.csv"))
        assert done.returncode == 0, done.stderr
    assert pd.read_csv(tmp_path / "scored.csv")["prediction"].tolist() == pytest.approx(found["prediction"])
