"""On a real Spark, `--engine spark` answers as the local engine does, row by row."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from artifact.program import artifact_of
from deploy.__main__ import main
from deploy.score.errors import ScoringError, TableError
from deploy.score.rows import Asked
from deploy.score.run import Job, score_table
from deploy.score.spark import Outcome, SparkJob, score_on_spark
from tests.deploy.registered import crown
from tests.servers import CHECKOUT, free_port, started
from tests.serving.artifacts import Made, iris, loans
from training.registry.mlflow_registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.deep

MEMORY = "512m"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Every kind of column."""
    return loans(tmp_path_factory.mktemp("loans") / "loans")


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One session for all tests of `local[2]`."""
    if shutil.which("java") is None:
        pytest.skip("java is not installed")
    from pyspark.sql import SparkSession

    folder = tmp_path_factory.mktemp("spark")
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.memory", MEMORY).config("spark.local.dir", str(folder / "local"))
    builder = builder.config("spark.sql.warehouse.dir", str(folder / "warehouse"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYSPARK_PYTHON", sys.executable)
        patched.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        found = builder.config("spark.sql.shuffle.partitions", "2").getOrCreate()
        found.sparkContext.setLogLevel("ERROR")
        yield found
        found.stop()


def frame_of(made: Made, rows: int = 300) -> pd.DataFrame:
    """Rows with a text that CSV has to quote; some rows are refused."""
    found = [made.rows[i % len(made.rows)] for i in range(rows)]
    frame = pd.DataFrame(found, columns=list(made.signature.names))
    frame.insert(0, "id", np.arange(rows))
    frame.loc[frame["id"] % 50 == 7, "job"] = "astronaut"
    return frame.assign(remark='a "quoted"; text\nof two lines', price=1.5)


def both(
    spark: Any, made: Made, table: Path, ending: str, **options: Any
) -> tuple[dict[int, Any], dict[int, Any], list[dict[str, Any]], list[dict[str, Any]], Outcome]:
    """Rows by id and refused rows of the local engine and of Spark."""
    artifact = artifact_of(made.path)[0]
    local, far = table.with_name(f"local{ending}"), table.with_name(f"far{ending}")
    here = score_table(table, local, Job(artifact, **options))
    there = score_on_spark(spark, str(table), str(far), SparkJob(artifact, **options))
    assert (there.rows, there.refused) == (here.rows, here.refused)
    refused = [
        [json.loads(line) for file in files for line in file.read_text().splitlines()]
        for files in (
            [here.refused_file] if here.refused_file else [],
            sorted(Path(there.refused_folder).glob("part-*")) if there.refused_folder else [],
        )
    ]
    for each in refused[0]:
        del each["row"]  # Spark's rows have no place
    return rows_in(local, ending), rows_in(far, ending), *refused, there  # type: ignore[return-value]


def rows_in(path: Path, ending: str) -> dict[int, Any]:
    """Rows by their id, of a file or of Spark's folder."""
    files = sorted(path.glob("part-*")) if path.is_dir() else [path]
    found: list[dict[str, Any]] = []
    for file in files:
        if "parquet" in ending:
            found += pq.read_table(file).to_pylist()
        elif "jsonl" in ending:
            text = gzip.decompress(file.read_bytes()) if ending.endswith(".gz") else file.read_bytes()
            found += [json.loads(line) for line in text.splitlines()]
        elif file.stat().st_size:
            text = gzip.decompress(file.read_bytes()) if ending.endswith(".gz") else file.read_bytes()
            sep = ";" if b";" in text.splitlines()[0] else ","
            frame = pd.read_csv(io.BytesIO(text), sep=sep, dtype=str, keep_default_na=False)
            found += frame.to_dict("records")
    rows = {int(each["id"]): each for each in found}
    assert len(rows) == len(found)
    return rows


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".csv.gz"])
def test_parquet_is_scored_as_by_the_local_engine(
    spark: Any, made: Made, tmp_path: Path, ending: str
) -> None:
    frame = frame_of(made).assign(seen=pd.Timestamp("2024-02-29T12:00:00").as_unit("us"))
    frame.to_parquet(tmp_path / "in.parquet", row_group_size=50)
    asked = Asked(("id", "job", "remark") if ending != ".parquet" else None, probabilities=True)
    here, there, refused_here, refused_there, _ = both(
        spark, made, tmp_path / "in.parquet", ending, asked=asked
    )
    assert there == here
    assert len(there) == 294
    by_id = {each["record"]["id"]: each for each in refused_there}
    assert by_id == {each["record"]["id"]: each for each in refused_here}
    assert "astronaut" in by_id[7]["errors"][0]["reason"]


def test_csv_has_the_same_cells_reasons_and_ragged_lines(spark: Any, made: Made, tmp_path: Path) -> None:
    frame = frame_of(made, 120)
    frame["age"] = frame["age"].astype(object)
    frame.loc[3, "age"] = "old"
    frame.loc[4, "remark"] = ""
    text = frame.to_csv(index=False, sep=";")
    (tmp_path / "in.csv").write_text(text + "1;2;3\n")
    here, there, refused_here, refused_there, _ = both(spark, made, tmp_path / "in.csv", ".csv")
    assert there == here
    key = lambda each: json.dumps(each, sort_keys=True)  # noqa: E731 - an order
    assert sorted(refused_there, key=key) == sorted(refused_here, key=key)
    reasons = [each["errors"][0]["reason"] for each in refused_there]
    assert "expected 9 fields, got 3" in reasons
    assert "expected a number, got 'old'" in reasons


def test_json_lines_keep_what_else_a_record_holds(spark: Any, made: Made, tmp_path: Path) -> None:
    records = json.loads(frame_of(made, 100).to_json(orient="records"))
    records[3]["more"] = {"nested": [1, 2]}
    lines = [json.dumps(record) for record in records]
    lines[9], lines[11] = lines[9][:-5], "[1]"
    lines.insert(5, "")
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    here, there, refused_here, refused_there, _ = both(spark, made, tmp_path / "in.jsonl", ".jsonl.gz")
    assert there == here
    assert there[3]["more"] == {"nested": [1, 2]}
    key = lambda each: json.dumps(each, sort_keys=True)  # noqa: E731 - an order
    assert sorted(refused_there, key=key) == sorted(refused_here, key=key)


def test_a_folder_of_parts_an_empty_table_and_overwriting(spark: Any, made: Made, tmp_path: Path) -> None:
    """An output without `_SUCCESS` is what a killed run leaves; only a whole one needs --overwrite."""
    artifact = artifact_of(made.path)[0]
    (tmp_path / "in").mkdir()
    frame = frame_of(made)
    for number in range(3):
        frame[number * 100 :][:100].to_parquet(tmp_path / "in" / f"{number}.parquet")
    source, target = str(tmp_path / "in"), str(tmp_path / "out")
    assert score_on_spark(spark, source, target, SparkJob(artifact)).rows == 300
    with pytest.raises(TableError, match="out exists; --overwrite replaces it"):
        score_on_spark(spark, source, target, SparkJob(artifact))
    (tmp_path / "out" / "_SUCCESS").unlink()
    frame[:0].to_parquet(tmp_path / "none.parquet")
    found = score_on_spark(spark, str(tmp_path / "none.parquet"), target, SparkJob(artifact))
    assert (found.rows, found.refused, found.refused_folder) == (0, 0, None)
    assert not (tmp_path / "out.refused.jsonl").exists()
    assert score_on_spark(spark, source, target, SparkJob(artifact, overwrite=True)).refused == 6
    assert len(pd.read_parquet(target)) == 294


@pytest.mark.parametrize(
    "case",
    [
        ("absent.parquet", "out", {}, "absent.parquet does not exist"),
        ("in.csv", "out.jsonl", {}, "expected .jsonl for JSON lines"),
        ("in.csv", "file.csv", {}, "is a file; Spark writes a folder"),
        ("lacking.csv", "out", {}, "lacks 'age', which the model needs"),
        ("in.csv", "out", {"asked": Asked(("idd",))}, "has no column 'idd'"),
        ("empty.csv", "out", {}, "is empty; expected a header and rows"),
        ("double.csv", "out", {}, "the header has 'age' twice"),
        ("mixed", "out", {}, "holds csv, parquet; expected one format"),
        ("in.csv", "out.xlsx", {}, "expected a name that ends in .csv"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    spark: Any, made: Made, tmp_path: Path, case: tuple[str, str, dict[str, Any], str]
) -> None:
    table, output, options, said = case
    frame = frame_of(made, 20)
    (tmp_path / "mixed").mkdir()
    frame.to_csv(tmp_path / "in.csv", index=False)
    frame.to_csv(tmp_path / "mixed" / "a.csv", index=False)
    frame.to_parquet(tmp_path / "mixed" / "b.parquet")
    frame.drop(columns="age").to_csv(tmp_path / "lacking.csv", index=False)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "double.csv").write_text("age,age\n1,2\n")
    (tmp_path / "file.csv").write_text("")
    before = sorted(tmp_path.rglob("*"))
    job = SparkJob(artifact_of(made.path)[0], **{"asked": Asked(), **options})
    with pytest.raises(TableError, match=said.replace(".", r"\.")):
        score_on_spark(spark, str(tmp_path / table), str(tmp_path / output), job)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_file_is_told_without_the_workers_trace(spark: Any, made: Made, tmp_path: Path) -> None:
    frame_of(made).to_parquet(tmp_path / "in.parquet")
    content = bytearray((tmp_path / "in.parquet").read_bytes())
    content[200:2000] = b"\xff" * 1800
    (tmp_path / "in.parquet").write_bytes(bytes(content))
    job = SparkJob(artifact_of(made.path)[0])
    with pytest.raises(ScoringError) as caught:
        score_on_spark(spark, str(tmp_path / "in.parquet"), str(tmp_path / "out"), job)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert not (tmp_path / "out" / "_SUCCESS").exists()


def test_the_registered_model_is_a_function_of_spark_as_it_is(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlflow.pyfunc.spark_udf` on the champion, as docs/protocols.md has it."""
    import mlflow

    monkeypatch.setenv("OKAMOCHI_STATE_DIR", str(tmp_path))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    flowers = iris(tmp_path / "iris")
    crown(Registry(uri), flowers, "iris")
    mlflow.set_tracking_uri(uri)
    predict = mlflow.pyfunc.spark_udf(
        spark, "models:/iris@champion", result_type="string", env_manager="local"
    )
    names = list(flowers.signature.names)
    frame = spark.createDataFrame([[float(cell) for cell in row] for row in flowers.rows], names)
    found = [row[0] for row in frame.select(predict(*names)).collect()]
    assert found == flowers.labels(flowers.rows)


# ------------------------------------------------------------------------------------------ the command


def command(made: Made, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy", "score", str(made.path), *arguments, "--engine", "spark"],
        cwd=CHECKOUT,
        env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """A master and two workers of Spark as processes of their own, on loopback."""
    import pyspark

    home = Path(pyspark.__file__).parent
    port, page = free_port(), free_port()
    environment = {
        "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable,
        "SPARK_DAEMON_MEMORY": "256m", "SPARK_MASTER_OPTS": "-Dspark.master.rest.enabled=false",
        "SPARK_WORKER_DIR": str(folder / "work"), "SPARK_LOCAL_DIRS": str(folder / "local"),
    }  # fmt: skip
    run = [str(home / "bin" / "spark-class"), "org.apache.spark.deploy"]
    address = f"spark://127.0.0.1:{port}"
    master = [run[0], f"{run[1]}.master.Master", "--host", "127.0.0.1", "--port", str(port)]
    worker = [run[0], f"{run[1]}.worker.Worker", "--host", "127.0.0.1", "--cores", "1", "--memory", MEMORY]
    with (
        started(
            [*master, "--webui-port", str(page)],
            url=f"http://127.0.0.1:{page}", ready="/json/", log=folder / "master.log",
            environment=environment,
        ),
        ExitStack() as workers,
    ):  # fmt: skip
        for number in range(2):
            # The application waits for them, so nobody else has to.
            log = workers.enter_context((folder / f"worker-{number}.log").open("wb"))
            process = workers.enter_context(
                subprocess.Popen(
                    [*worker, "--webui-port", str(free_port()), address],
                    env={**os.environ, **environment}, stdout=log, stderr=log,
                )
            )  # fmt: skip
            workers.callback(process.terminate)
        yield address


def test_a_cluster_of_two_workers_answers_as_the_local_engine(
    program: Any, made: Made, tmp_path: Path
) -> None:
    program("java")
    frame_of(made).to_parquet(tmp_path / "in.parquet", row_group_size=50)
    score_table(tmp_path / "in.parquet", tmp_path / "local.parquet", Job(artifact_of(made.path)[0]))
    with cluster(tmp_path) as address:
        done = command(
            made, str(tmp_path / "in.parquet"), str(tmp_path / "far.parquet"), "--master", address,
            PYSPARK_SUBMIT_ARGS=f"--driver-memory {MEMORY} --executor-memory {MEMORY} pyspark-shell",
            PYSPARK_PYTHON=sys.executable,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    far = f"{tmp_path}/far.parquet"
    assert done.stdout == f"{far}: 300 rows; 6 were refused, with reasons in {far}.refused.jsonl\n"
    ids = rows_in(tmp_path / "local.parquet", ".parquet")
    assert rows_in(tmp_path / "far.parquet", ".parquet") == ids
    assert len(list((tmp_path / "work").glob("app-*/*/stderr"))) == 2, "both workers have had a part"


def test_without_java_or_pyspark_one_sentence_says_what_to_install(made: Made, tmp_path: Path) -> None:
    done = command(made, "in.parquet", "out", JAVA_HOME=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert "needs Java 17 or later" in done.stderr
    hidden = "import sys; sys.modules['pyspark'] = None; sys.modules['pyspark.errors'] = None; "
    code = f"{hidden}from deploy.__main__ import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["score", str(made.path), "in.parquet", "out", "--engine", "spark"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "pip install -r requirements/spark.txt" in done.stderr
    assert "Traceback" not in done.stderr


def test_options_of_the_other_engine_are_refused(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["score", str(made.path), "in.csv", "out"]
    assert main([*there, "--engine", "spark", "--jobs", "2"]) == 2
    assert "are for --engine local" in capsys.readouterr().err
    assert main([*there, "--master", "local[2]"]) == 2
    assert "--master is for --engine spark" in capsys.readouterr().err
