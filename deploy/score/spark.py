"""Tables that outgrow a machine: Spark's workers get the verified artifact and call it on Arrow batches.

Spark gives rows in no order, and repeats a task whose worker died. What it writes is a folder.
"""

from __future__ import annotations

import atexit
import csv
import io
import os
import re
import shutil
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from artifact import manifest
from artifact.program import Model, first_line
from deploy.score.chunk import free_name, of_lines, of_table, record_of, refused_line
from deploy.score.errors import ScoringError, TableError
from deploy.score.files import check_asked, check_columns, check_names, delimiter_of, format_of
from deploy.score.rows import Asked, answers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from artifact.manifest import Artifact

CHECKOUT = Path(__file__).resolve().parent.parent.parent
REFUSED, UNFIT, LINE = "__okamochi_refused", "__okamochi_unfit", "value"
REFUSED_FOLDER = ".refused.jsonl"
LACKS_PYSPARK = (
    "--engine spark needs the package pyspark: .venv/bin/python -m pip install -r requirements/spark.txt"
)
LACKS_JAVA = (
    "--engine spark needs Java 17 or later, which is not installed (Debian: apt-get install "
    "openjdk-17-jre-headless) or not found: set JAVA_HOME to its folder"
)


@dataclass(frozen=True)
class Outcome:
    """What became of a table; `refused_folder` has the refused rows with their reasons."""

    output: str
    rows: int
    refused: int
    refused_folder: str | None


@dataclass(frozen=True)
class SparkJob:
    """How a table is scored on Spark.

    Parameters
    ----------
    master
        Of Spark; None: that of spark-submit, else all cores of this machine.
    delimiter, encoding
        As of a `Job`.
    """

    artifact: Artifact
    asked: Asked = field(default_factory=Asked)
    master: str | None = None
    delimiter: str | None = None
    encoding: str = "utf-8"
    overwrite: bool = False


@contextmanager
def session(name: str, master: str | None) -> Iterator[Any]:
    """A session of Spark: the active one, or a new one that ends with the block.

    Raises
    ------
    TableError
        pyspark or Java is not installed.
    """
    try:
        from pyspark.errors import PySparkRuntimeError
        from pyspark.sql import SparkSession
    except ModuleNotFoundError:
        raise TableError(LACKS_PYSPARK) from None
    found = SparkSession.getActiveSession()
    if found is not None:
        yield found
        return
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if not submitted and not _java():
        raise TableError(LACKS_JAVA)
    builder = SparkSession.builder.appName(f"okamochi score {name}")
    master = master or (None if submitted else "local[*]")
    if master is not None:
        builder = builder.master(master)
        if master.startswith("local"):
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
            builder = builder.config("spark.ui.enabled", "false")
    builder = builder.config("spark.ui.showConsoleProgress", str(sys.stderr.isatty()).lower())
    try:
        spark = builder.getOrCreate()
    except PySparkRuntimeError as error:
        raise TableError(f"Spark does not start: {first_line(error)}. {LACKS_JAVA}") from None
    spark.sparkContext.setLogLevel("ERROR")
    try:
        yield spark
    finally:
        spark.stop()


def _java() -> bool:
    home = os.environ.get("JAVA_HOME")
    return (Path(home) / "bin" / "java").is_file() if home else shutil.which("java") is not None


def score_on_spark(spark: Any, table: str, output: str, job: SparkJob) -> Outcome:
    """Score a table of any file system that Spark reads.

    A run that was killed leaves no `_SUCCESS` in the output; the same command replaces what it left.

    Raises
    ------
    TableError
        A table or a column is absent, or the output exists.
    ScoringError
        Spark ended before the table did.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    check_asked(job.asked, job.artifact.signature)
    places = _Places(spark)
    target, refused_target = _kind_of_output(output), output.rstrip("/") + REFUSED_FOLDER
    if places.exists(f"{output}/_SUCCESS") and not job.overwrite:
        raise TableError(f"{output} exists; --overwrite replaces it")
    if places.exists(output) and not places.is_folder(output):
        raise TableError(f"{output} is a file; Spark writes a folder")
    if not places.exists(table):
        raise TableError(f"{table} does not exist")
    zone = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "UTC")  # as the other engine reads moments
    try:
        frame, kind, delimiter = _read(spark, places, table, job)
        if (kind == "jsonl") != (target == "jsonl"):
            raise TableError(f"{output}: expected .jsonl for JSON lines, and for no other table")
        scored = _scored_frame(spark, frame, kind, delimiter, job)
        return _write(scored, output, refused_target, places, (target, delimiter))
    except (PySparkException, Py4JJavaError) as error:
        raise ScoringError(_told(error)) from None
    finally:
        spark.conf.set("spark.sql.session.timeZone", zone)


class _Places:
    """What stands at an address, on any file system of Hadoop."""

    def __init__(self, spark: Any) -> None:
        self._java = spark._jvm.org.apache.hadoop.fs.Path  # noqa: SLF001 - Spark has no public way
        self._settings = spark._jsc.hadoopConfiguration()  # noqa: SLF001 - the same

    def _at(self, address: str) -> tuple[Any, Any]:
        path = self._java(address)
        return path.getFileSystem(self._settings), path

    def exists(self, address: str) -> bool:
        files, path = self._at(address)
        return bool(files.exists(path))

    def is_folder(self, address: str) -> bool:
        files, path = self._at(address)
        return bool(files.getFileStatus(path).isDirectory())

    def names(self, address: str) -> list[str]:
        """The files in a folder that Spark reads."""
        files, path = self._at(address)
        found = [each.getPath().getName() for each in files.listStatus(path)]
        return sorted(name for name in found if not name.startswith((".", "_")))

    def remove(self, address: str) -> None:
        files, path = self._at(address)
        files.delete(path, True)


# ------------------------------------------------------------------------------------------------- reading


def _read(spark: Any, places: _Places, table: str, job: SparkJob) -> tuple[Any, str, str]:
    """A table as a frame, its format, and the delimiter of a CSV file."""
    kind = _kind_of_table(places, table)
    signature = job.artifact.signature
    if kind == "jsonl":
        return spark.read.text(table), kind, ","
    if kind == "parquet":
        frame = spark.read.parquet(table)
        check_columns(table, frame.columns, signature, job.asked)
        return frame, kind, ","
    first = spark.read.option("encoding", job.encoding).text(table).head(1)
    if not first:
        raise TableError(f"{table} is empty; expected a header and rows")
    header = first[0][0].removeprefix("\ufeff")
    delimiter = job.delimiter or delimiter_of(header, signature.names)
    names = next(csv.reader(io.StringIO(header), delimiter=delimiter))
    check_names(names, table)
    check_columns(table, names, signature, job.asked)
    columns = ", ".join(f"`{name.replace('`', '``')}` string" for name in (*names, UNFIT))
    frame = spark.read.csv(
        table, schema=columns, sep=delimiter, header=True, encoding=job.encoding, quote='"', escape='"',
        multiLine=True, mode="PERMISSIVE", columnNameOfCorruptRecord=UNFIT,
    )  # fmt: skip
    return frame, kind, delimiter


def _kind_of_table(places: _Places, table: str) -> str:
    """By the end of its name, or of the names of the files in a folder."""
    names = [table.rstrip("/")]
    if places.is_folder(table) and "." not in names[0].rpartition("/")[2]:
        names = places.names(table)
    kinds = {format_of(Path(name)) for name in names}
    if len(kinds) != 1:
        raise TableError(f"{table} holds {', '.join(sorted(kinds)) or 'no tables'}; expected one format")
    return kinds.pop()


def _kind_of_output(output: str) -> str:
    return format_of(Path(output.rstrip("/"))) if "." in output.rstrip("/").rpartition("/")[2] else "parquet"


# ------------------------------------------------------------------------------------------------- scoring


@dataclass(frozen=True)
class _Work:
    """What a worker needs.

    Parameters
    ----------
    packed
        The artifact's folder as a zip archive, which Spark brings to each worker once.
    schema
        Of the batches that are given back, with the column `REFUSED`.
    """

    packed: Any
    digest: str
    asked: Asked
    kind: str
    delimiter: str
    schema: pa.Schema


def _scored_frame(spark: Any, frame: Any, kind: str, delimiter: str, job: SparkJob) -> Any:
    """The frame with the answers; of a refused row only `REFUSED` has a value."""
    from pyspark.sql.pandas.types import from_arrow_type, to_arrow_schema
    from pyspark.sql.types import StringType, StructField, StructType

    model = Model(job.artifact)
    if kind == "jsonl":
        fields = [StructField(LINE, StringType())]
    else:
        named = {field.name: field for field in frame.schema if field.name != UNFIT}
        kept = [named[name] for name in job.asked.columns or named]
        found = answers(model, np.zeros((0, model.signature.outputs)), job.asked)
        taken = {field.name for field in kept}
        added = {free_name(name, taken): each.type for name, each in found.items()}
        fields = [StructField(field.name, field.dataType) for field in kept]
        fields += [StructField(name, from_arrow_type(type_)) for name, type_ in added.items()]
    schema = StructType([*fields, StructField(REFUSED, StringType())])
    _bring_our_code(spark)
    packed = spark.sparkContext.broadcast(_packed(job.artifact.path))
    digest = manifest.digest(job.artifact.path / manifest.MANIFEST)
    arrow = to_arrow_schema(schema, timezone="UTC")
    work = _Work(packed, digest, job.asked, kind, delimiter, arrow)
    return frame.mapInArrow(lambda batches: _answered(work, batches), schema)


def _packed(folder: Path) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    return archive.getvalue()


def _bring_our_code(spark: Any) -> None:
    """Make `artifact` and `deploy.score` importable in the workers.

    A session refuses two files of one name, so the name tells the content.
    """
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for source in (
            *sorted((CHECKOUT / "artifact").rglob("*.py")),
            *sorted((CHECKOUT / "deploy" / "score").glob("*.py")),
        ):
            file.writestr(zipfile.ZipInfo(source.relative_to(CHECKOUT).as_posix()), source.read_bytes())
        file.writestr(zipfile.ZipInfo("deploy/__init__.py"), "")
    content = archive.getvalue()
    folder = Path(tempfile.mkdtemp(prefix="okamochi-spark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # workers may fetch it at any time until then
    path = folder / f"okamochi-{sha256(content).hexdigest()[:16]}.zip"
    path.write_bytes(content)
    spark.sparkContext.addPyFile(str(path))


_OPEN: dict[str, Model] = {}
"""The models of a worker's process, by the digests of their manifests."""


def _model(work: _Work) -> Model:
    if work.digest not in _OPEN:
        from pyspark import SparkFiles

        # Spark removes its own folder when the application ends; a worker is killed without a last word.
        folder = Path(tempfile.mkdtemp(prefix="okamochi-", dir=SparkFiles.getRootDirectory()))
        with zipfile.ZipFile(io.BytesIO(work.packed.value)) as archive:
            archive.extractall(folder)
        _OPEN[work.digest] = Model(manifest.load(folder))
        if _OPEN[work.digest].manifest.runtime == "onnx":
            shutil.rmtree(folder)  # the session has read it
    return _OPEN[work.digest]


def _answered(work: _Work, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What a worker does with the batches of its part."""
    model = _model(work)
    for batch in batches:
        table = pa.Table.from_batches([batch])
        if work.kind == "jsonl":
            good, told = _of_lines(model, table, work.asked)
        else:
            good, told = _of_table(model, table, work)
        for part in (good, {REFUSED: pa.array(told, pa.string())}):
            yield from _filled(part, work.schema).to_batches()


def _filled(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    """Columns of the schema in its order and types; those that are absent are null."""
    rows = len(next(iter(columns.values())))
    filled = [
        columns[field.name].cast(field.type) if field.name in columns else pa.nulls(rows, field.type)
        for field in schema
    ]
    return pa.table(filled, schema=schema)


def _of_lines(model: Model, table: pa.Table, asked: Asked) -> tuple[dict[str, Any], list[str]]:
    lines = [line.encode() for line in table.column(LINE).to_pylist() if line.strip()]
    written, refused = of_lines(model, lines, asked)
    good = {LINE: pa.array([line.rstrip(b"\n").decode() for line in written], pa.string())}
    return good, [_line(each.errors, record_of(lines, each.row)) for each in refused]


def _of_table(model: Model, table: pa.Table, work: _Work) -> tuple[dict[str, Any], list[str]]:
    told = []
    if work.kind == "csv":
        unfit = table.column(UNFIT)
        fields = table.num_columns - 1
        for text in unfit.drop_null().to_pylist():
            found = len(next(csv.reader(io.StringIO(text), delimiter=work.delimiter), []))
            told.append(_line([(None, f"expected {fields} fields, got {found}")], text.rstrip("\r\n")))
        table = table.filter(unfit.is_null()).drop_columns([UNFIT])
        # To Spark an empty cell is null; a CSV file has no nulls.
        table = pa.table({name: table.column(name).fill_null("") for name in table.column_names})
    kept, refused = of_table(model, table, work.asked, texts=work.kind == "csv")
    told += [_line(each.errors, record_of(table, each.row)) for each in refused]
    return {name: kept.column(name) for name in kept.column_names}, told


def _line(errors: Any, record: Any) -> str:
    return refused_line(None, errors, record).decode().rstrip("\n")


# ------------------------------------------------------------------------------------------------- writing


def _write(scored: Any, output: str, refused_target: str, places: _Places, form: tuple[str, str]) -> Outcome:
    """Write the rows, and in a second pass those that were refused, if there are any."""
    from pyspark.sql import Observation
    from pyspark.sql import functions as fn

    kind, delimiter = form
    seen = Observation()
    counted = scored.observe(seen, fn.count(fn.lit(1)).alias("rows"), fn.count(REFUSED).alias("refused"))
    packed = {"compression": "gzip"} if output.rstrip("/").endswith(".gz") else {}
    good = counted.where(fn.col(REFUSED).isNull()).drop(REFUSED).write.mode("overwrite").options(**packed)
    if kind == "parquet":
        good.parquet(output)
    elif kind == "jsonl":
        good.text(output)
    else:
        good.csv(output, header=True, sep=delimiter, quote='"', escape='"')
    found = seen.get
    rows, refused = int(found["rows"]), int(found["refused"])
    places.remove(refused_target)
    if refused:
        scored.where(fn.col(REFUSED).isNotNull()).select(REFUSED).write.text(refused_target)
    return Outcome(output, rows, refused, refused_target if refused else None)


def _told(error: Exception) -> str:
    """What Spark says, without the trace of its workers."""
    text = str(error)
    missing = re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", text)
    if missing:
        return (
            f"The Python of Spark's workers lacks the package {missing[1]}. Where they run, install "
            "requirements/training.txt, and name that Python with PYSPARK_PYTHON"
        )
    raised = re.findall(r"^(?:[\w.]+\.)?(?:\w+(?:Error|Exception)): .+$", text, re.MULTILINE)
    return f"Spark: {(raised[-1] if raised else first_line(error))[:500]}"
