"""A table of any format becomes the same table with predictions; no row is lost, doubled or out of order."""

from __future__ import annotations

import csv
import gzip
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import termios
import time
import unicodedata
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from artifact import load
from artifact.program import artifact_of
from artifact.signature import Signature
from deploy.__main__ import main
from deploy.score import files, progress, run
from deploy.score.errors import ScoringError, TableError
from deploy.score.rows import Asked
from deploy.score.run import Job, score_table
from tests.servers import CHECKOUT
from tests.serving.artifacts import Made, breast_cancer, iris, linear, loans, numbers, seal

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Every kind of column."""
    return loans(tmp_path_factory.mktemp("loans") / "loans")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK_ROWS", 37)
    monkeypatch.setattr(files, "BLOCK_BYTES", 2_000)


def frame_of(made: Made, rows: int = 200) -> pd.DataFrame:
    frame = pd.DataFrame(
        [made.rows[i % len(made.rows)] for i in range(rows)], columns=list(made.signature.names)
    )
    frame.insert(0, "id", np.arange(rows))
    return frame.assign(remark='a "quoted"; text\nof two lines')


def score(made: Made, table: Path, output: Path, **options: Any) -> run.Outcome:
    return score_table(table, output, Job(artifact_of(made.path)[0], **options))


def test_csv_in_and_out_keeps_every_cell_as_it_stood(made: Made, tmp_path: Path) -> None:
    frame = frame_of(made)
    frame.to_csv(tmp_path / "in.csv", index=False, sep=";")
    found = score(made, tmp_path / "in.csv", tmp_path / "out.csv")
    assert (found.rows, found.refused) == (200, 0)
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.reader(file, delimiter=";"))
    with (tmp_path / "in.csv").open(newline="") as file:
        given = list(csv.reader(file, delimiter=";"))
    assert [row[:-1] for row in rows] == given
    expected = load(made.path).predict(frame[list(made.signature.names)])
    assert [row[-1] for row in rows[1:]] == [str(label).lower() for label in expected]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


@pytest.mark.parametrize("ending", ["parquet", "csv", "csv.gz", "jsonl", "jsonl.gz"])
def test_every_format_has_the_same_predictions(made: Made, tmp_path: Path, ending: str) -> None:
    frame = frame_of(made)
    frame.to_parquet(tmp_path / "in.parquet", row_group_size=50)
    output = tmp_path / f"out.{ending}"
    score(made, tmp_path / "in.parquet", output, asked=Asked(("id",), probabilities=True))
    chances = load(made.path).predict_proba(frame[list(made.signature.names)])
    if ending == "parquet":
        found = pd.read_parquet(output)
    else:
        found = pd.read_json(output, lines=True) if "jsonl" in ending else pd.read_csv(output)
    assert list(found.columns) == ["id", "prediction", "probability_False", "probability_True"]
    assert found["id"].tolist() == list(range(200))
    assert found[["probability_False", "probability_True"]].to_numpy() == pytest.approx(chances)


def test_json_lines_keep_what_else_a_record_holds(made: Made, tmp_path: Path) -> None:
    frame = frame_of(made, 100)
    records = json.loads(frame.to_json(orient="records"))
    records[3]["more"] = {"nested": [1, 2]}
    lines = [json.dumps(record) for record in records]
    lines[7] = lines[7][:-5]
    lines[9] = "[1]"
    lines.insert(5, "")
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    found = score(made, tmp_path / "in.jsonl.gz", tmp_path / "out.jsonl")
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [record["id"] for record in written] == [i for i in range(100) if i not in {7, 9}]
    assert written[3]["more"] == {"nested": [1, 2]}
    assert found.refused == 2
    assert found.refused_file is not None
    refused = [json.loads(line) for line in found.refused_file.read_text().splitlines()]
    assert [each["row"] for each in refused] == [8, 10]
    assert "is not JSON" in refused[0]["errors"][0]["reason"]
    assert "expected an object" in refused[1]["errors"][0]["reason"]


def test_lines_are_read_as_a_body_of_json_is(made: Made, tmp_path: Path) -> None:
    """A byte order mark, what Python writes for a missing cell, numbers beyond float64, half a character."""
    record = dict(zip(made.signature.names, made.rows[0], strict=True))
    whole = json.dumps(record)[1:-1].encode()
    lines = [
        b"\xef\xbb\xbf{%b}" % whole,
        b'{%b,"beside":1e400}' % whole,
        b'{%b,"beside":%b}' % (whole, b"9" * 5_000),
        b'{%b,"beside":NaN}' % whole,
        b'{%b,"age":1e400}' % whole,
        b'{%b,"beside":"\\ud800"}' % whole,
        b'{%b,"beside":"\xff"}' % whole,
        b'{%b,"beside":%b}' % (whole, b"[" * 100 + b"]" * 100),
    ]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    found = score(made, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert (found.rows, found.refused) == (8, 4)
    refused = [json.loads(line) for line in (tmp_path / "out.jsonl.refused.jsonl").read_text().splitlines()]
    assert [each["row"] for each in refused] == [5, 6, 7, 8]
    assert refused[0]["errors"][0]["column"] == "age"
    assert "nested too deeply; at most 100 levels" in refused[3]["errors"][0]["reason"]
    assert all("is not JSON" in each["errors"][0]["reason"] for each in refused[1:])


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_names_of_columns_may_be_spelt_with_accents_of_their_own(tmp_path: Path, ending: str) -> None:
    """A column that allows missing values was missing in every row, and its predictions were wrong."""
    names = ["h\u00f6he", "breite"]
    matrix = np.array([[float(i), float(-i)] for i in range(20)])
    columns = numbers(names, matrix, missing="allow")
    signature = Signature(task="regression", target="y", columns=columns)
    model = make_pipeline(SimpleImputer(), LinearRegression()).fit(matrix, matrix[:, 0] * 2)
    made = seal(tmp_path / "made", "heights", model, signature, matrix.tolist(), runtime="sklearn")
    frame = pd.DataFrame(matrix, columns=[unicodedata.normalize("NFD", name) for name in names])
    assert list(frame.columns) != names
    table = tmp_path / f"in.{ending}"
    if ending == "parquet":
        frame.to_parquet(table)
    elif ending == "csv":
        frame.to_csv(table, index=False, sep=";")
    else:
        table.write_text(frame.to_json(orient="records", lines=True))
    outcome = score(made, table, tmp_path / "out.jsonl" if ending == "jsonl" else tmp_path / "out.csv")
    assert (outcome.rows, outcome.refused) == (20, 0)
    if ending == "jsonl":
        found = pd.read_json(tmp_path / "out.jsonl", lines=True)
    else:
        found = pd.read_csv(tmp_path / "out.csv", sep=None, engine="python")
    assert list(found.columns) == [*frame.columns, "prediction"]
    assert found["prediction"].to_numpy() == pytest.approx(matrix[:, 0] * 2, abs=1e-6)


def test_damaged_rows_stand_apart_with_their_place_and_reason(made: Made, tmp_path: Path) -> None:
    """Cells that are refused and lines of another width, each by its row of the file."""
    frame = frame_of(made, 150).drop(columns="remark")
    frame["age"] = frame["age"].astype(object)
    for row in (0, 36, 37, 80, 81, 82, 149):
        frame.loc[row, "age"] = "old"
    lines = frame.to_csv(index=False).splitlines()
    lines.insert(1 + 50, "1,2,3")  # before the row 50 of the frame, so that it is the file's row 51
    lines.insert(1 + 51, "1,2,3,4,5,6,7,8,9")
    (tmp_path / "in.csv").write_text("\n".join(lines) + "\n")
    found = score(made, tmp_path / "in.csv", tmp_path / "out.csv")
    refused = [json.loads(line) for line in (tmp_path / "out.csv.refused.jsonl").read_text().splitlines()]
    assert [each["row"] for each in refused] == [1, 37, 38, 51, 52, 83, 84, 85, 152]
    assert refused[0]["errors"] == [{"column": "age", "reason": "expected a number, got 'old'"}]
    assert refused[0]["record"]["age"] == "old"
    assert refused[3]["errors"][0]["reason"] == "expected 7 fields, got 3"
    assert (found.rows, found.refused) == (152, 9)
    kept = pd.read_csv(tmp_path / "out.csv")["id"].tolist()
    assert kept == [i for i in range(150) if i not in {0, 36, 37, 80, 81, 82, 149}]


def test_a_whole_chunk_of_refused_rows_is_told_row_by_row(made: Made, tmp_path: Path) -> None:
    frame = frame_of(made, 100)
    frame["job"] = "astronaut"
    frame.to_parquet(tmp_path / "in.parquet")
    assert score(made, tmp_path / "in.parquet", tmp_path / "out.parquet").refused == 100
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0
    refused = [json.loads(line) for line in (tmp_path / "out.parquet.refused.jsonl").read_text().splitlines()]
    assert [each["row"] for each in refused] == list(range(1, 101))


def test_a_folder_of_parts_becomes_a_folder(made: Made, tmp_path: Path) -> None:
    frame = frame_of(made)
    (tmp_path / "in").mkdir()
    frame[:90].to_parquet(tmp_path / "in" / "a.parquet")
    frame[90:].to_csv(tmp_path / "in" / "b.csv", index=False)
    (tmp_path / "in" / "readme.md").write_text("no table")
    assert main(["score", str(made.path), str(tmp_path / "in"), str(tmp_path / "out"), "--jobs", "1"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.parquet", "b.csv"]
    rows = len(pd.read_parquet(tmp_path / "out" / "a.parquet")) + len(pd.read_csv(tmp_path / "out" / "b.csv"))
    assert rows == 200


def test_a_folder_goes_on_behind_the_tables_that_are_done(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a second run would refuse the first table, since its output exists."""
    frame = frame_of(made)
    (tmp_path / "in").mkdir()
    for number, name in enumerate(("a", "b", "c")):
        frame[number * 60 :][:60].to_csv(tmp_path / "in" / f"{name}.csv.gz", index=False)
    command = ["score", str(made.path), str(tmp_path / "in"), str(tmp_path / "out"), "--jobs", "1"]
    real = run._assemble

    def full(source: Any, parts: Path, *rest: Any, **more: Any) -> int:
        if parts.name.startswith("b"):
            raise OSError(28, "No space left on device")
        return real(source, parts, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(run, "_assemble", full)
        assert main(command) == 1
    first = (tmp_path / "out" / "a.csv.gz").stat().st_mtime_ns
    frame[60:][:10].to_csv(tmp_path / "in" / "b.csv.gz", index=False)
    assert main(command) == 0
    assert (tmp_path / "out" / "a.csv.gz").stat().st_mtime_ns == first
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{c}.csv.gz" for c in "abc"]
    sizes = [len(pd.read_csv(tmp_path / "out" / f"{name}.csv.gz")) for name in "abc"]
    assert sizes == [60, 10, 60]
    assert main(command) == 2
    assert main([*command, "--overwrite"]) == 0


@pytest.mark.parametrize("name", ["in.csv.gz", "in.jsonl.gz"])
@pytest.mark.parametrize("damage", ["cut off", "overwritten"])
def test_a_gzip_file_that_is_damaged_is_told_and_nothing_appears(
    made: Made, tmp_path: Path, name: str, damage: str
) -> None:
    frame = frame_of(made, 3_000).assign(noise=np.random.default_rng(1).random(3_000))
    text = frame.to_csv(index=False) if "csv" in name else frame.to_json(orient="records", lines=True)
    packed = bytearray(gzip.compress(text.encode()))
    if damage == "cut off":
        packed = packed[: len(packed) // 2]
    else:
        packed = packed[: len(packed) // 2] + b"\xff" * 200 + packed[len(packed) // 2 + 200 :]
    (tmp_path / name).write_bytes(bytes(packed))
    with pytest.raises((ScoringError, TableError)):
        score(made, tmp_path / name, tmp_path / name.replace("in", "out"))
    assert not (tmp_path / name.replace("in", "out")).exists()


def test_lines_of_progress_have_the_rate_and_the_time_left(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where stderr is no terminal: a log gets a line now and then, no bar."""
    line = progress.told("in.csv", 250_000, 1_000_000, 50_000.0, "rows")
    assert line == "in.csv: 250,000 of 1,000,000 rows (25%), 50,000 a second, 15 s left"
    assert progress.told("in.csv", 0, 0, 0.0, "rows") == "in.csv: 0 of 0 rows (0%), 0 a second"
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    frame_of(made).to_parquet(tmp_path / "in.parquet")
    score(made, tmp_path / "in.parquet", tmp_path / "out.parquet", progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert "74 of 200 rows (37%)" in lines[1]
    assert len(lines) == 6


def test_a_terminal_has_a_bar(made: Made, tmp_path: Path) -> None:
    frame_of(made).to_csv(tmp_path / "in.csv.gz", index=False)
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    command = [sys.executable, "-m", "deploy", "score", str(made.path), str(tmp_path / "in.csv.gz")]
    done = subprocess.Popen(
        [*command, str(tmp_path / "out.csv"), "--jobs", "1"],
        cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    said = b""
    with suppress(OSError):  # the end of a terminal whose other side is closed
        while block := os.read(ours, 65536):
            said += block
    os.close(ours)
    assert done.wait() == 0
    assert b"100%" in said
    assert b"B/s" in said


def test_several_processes_give_the_same_file(tmp_path: Path) -> None:
    made = breast_cancer(tmp_path / "model", trees=5)
    names = list(made.signature.names)
    rows = [made.rows[i % len(made.rows)] for i in range(3_000)]
    pa_table = pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)})
    pq.write_table(pa_table, tmp_path / "in.parquet")
    for jobs in (1, 2):
        score(made, tmp_path / "in.parquet", tmp_path / f"{jobs}.parquet", jobs=jobs)
    assert pq.read_table(tmp_path / "1.parquet").equals(pq.read_table(tmp_path / "2.parquet"))
    assert pq.read_table(tmp_path / "1.parquet")["prediction"].to_pylist() == made.labels(rows)


def score_in_child(made: Made, table: Path, output: Path, **options: Any) -> multiprocessing.Process:
    child = multiprocessing.get_context("fork").Process(
        target=score, args=(made, table, output), kwargs=options
    )
    child.start()
    return child


def test_its_processes_end_with_one_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL gives it no time to end them, and what waits for chunks would wait for ever."""
    made = iris(tmp_path / "iris")
    rows = [made.rows[i % len(made.rows)] for i in range(50_000)]
    pd.DataFrame(rows, columns=list(made.signature.names)).to_csv(tmp_path / "in.csv", index=False)
    monkeypatch.setattr(files, "CHUNK_ROWS", 5)
    child = score_in_child(made, tmp_path / "in.csv", tmp_path / "out.csv", jobs=2)
    parts = tmp_path / "out.csv.parts"
    while child.is_alive() and not list(parts.glob("*.part")):
        time.sleep(0.01)
    theirs = psutil.Process(child.pid).children(recursive=True)
    assert len(theirs) >= 2
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    _, alive = psutil.wait_procs(theirs, timeout=60)
    assert alive == []


def test_killed_fifty_times_it_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL at random moments, each time begun again; the output appears whole, and once."""
    made = iris(tmp_path / "iris")
    rows = [made.rows[i % len(made.rows)] for i in range(20_000)]
    frame = pd.DataFrame(rows, columns=list(made.signature.names)).assign(id=range(len(rows)))
    frame.loc[::997, "petal_width"] = np.nan
    frame.to_csv(tmp_path / "in.csv", index=False)
    monkeypatch.setattr(files, "CHUNK_ROWS", 50)
    chance = np.random.default_rng(3)
    output, kills, done = tmp_path / "out.csv", 0, set()
    while kills < 50:
        child = score_in_child(made, tmp_path / "in.csv", output)
        child.join(chance.uniform(0.01, 0.4))
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.join()
        done.add(len(list((tmp_path / "out.csv.parts").glob("*.part"))))
        if output.exists() and not (tmp_path / "out.csv.parts").exists():
            break
    assert len(done) > 1, "it never went on from where it was"
    if not output.exists() or (tmp_path / "out.csv.parts").exists():
        score(made, tmp_path / "in.csv", output)
    expected = [i for i in range(len(rows)) if i % 997]
    found = pd.read_csv(output)
    assert found["id"].tolist() == expected
    assert found["prediction"].tolist() == np.array(made.labels(rows))[expected].tolist()
    refused = [
        json.loads(line)["row"] for line in (tmp_path / "out.csv.refused.jsonl").read_text().splitlines()
    ]
    assert refused == [i + 1 for i in range(len(rows)) if not i % 997]


def test_what_was_done_for_another_table_or_model_is_not_used(made: Made, tmp_path: Path) -> None:
    table, output = tmp_path / "in.csv", tmp_path / "out.csv"
    frame_of(made).to_csv(table, index=False)
    (tmp_path / "out.csv.parts").mkdir()
    (tmp_path / "out.csv.parts" / "state.json").write_text('{"model": "another"}')
    (tmp_path / "out.csv.parts" / "00000000.part").write_bytes(b"of another run")
    assert score(made, table, output).found == 0
    with pytest.raises(TableError, match="--overwrite replaces it"):
        score(made, table, output)
    assert score(made, table, output, overwrite=True).rows == 200


def test_a_full_disk_is_told_and_the_same_command_goes_on(made: Made, tmp_path: Path) -> None:
    """A limit on the size of a file is what a full disk is here."""
    table, output = tmp_path / "in.csv", tmp_path / "out.csv"
    frame_of(made).to_csv(table, index=False)

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
        try:
            score(made, table, output)
        except ScoringError as error:
            (tmp_path / "said").write_text(str(error))

    child = multiprocessing.get_context("fork").Process(target=limited)
    child.start()
    child.join()
    assert "File too large. What is done is in" in (tmp_path / "said").read_text()
    assert not output.exists()
    assert not list(tmp_path.glob(".*"))
    assert score(made, table, output).found > 0
    assert len(pd.read_csv(output)) == 200


def test_two_commands_of_one_output_exclude_each_other(made: Made, tmp_path: Path) -> None:
    frame_of(made).to_csv(tmp_path / "in.csv", index=False)
    with (
        run._locked(tmp_path / "out.csv.parts"),
        pytest.raises(TableError, match="another command is writing"),
    ):
        score(made, tmp_path / "in.csv", tmp_path / "out.csv")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent.csv", "out.csv"], "absent.csv does not exist"),
        (["in.csv", "out.xlsx"], "expected a name that ends in .csv"),
        (["in.csv", "in.csv"], "is the table itself"),
        (["lacking.csv", "out.csv"], "lacks 'age', which the model needs"),
        (["in.csv", "out.csv", "--columns", "idd"], "has no column 'idd'; it has 'id'"),
        (["empty.csv", "out.csv"], "is empty; expected a header and rows"),
        (["in.jsonl", "out.csv"], "expected .jsonl for JSON lines"),
        (["broken.parquet", "out.csv"], "cannot be read"),
        (["double.csv", "out.csv"], "the header has 'age' twice"),
        (["nothing", "out"], "has no file that ends in"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    frame = frame_of(made, 40)
    frame.to_csv(tmp_path / "in.csv", index=False)
    frame.drop(columns="age").to_csv(tmp_path / "lacking.csv", index=False)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "double.csv").write_text("age,age\n1,2\n")
    (tmp_path / "in.jsonl").write_text("{}\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "nothing").mkdir()
    paths = [
        str(tmp_path / part) if "." in part or part in {"nothing", "out"} else part for part in arguments
    ]
    before = sorted(tmp_path.rglob("*"))
    assert main(["score", str(made.path), *paths, "--jobs", "1"]) == 2
    assert said in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_an_option_that_the_model_does_not_have_is_refused(tmp_path: Path) -> None:
    made = linear(tmp_path / "linear")
    (tmp_path / "in.csv").write_text("x\n1\n2\n")
    for asked, said in (
        (Asked(probabilities=True), "--probabilities"),
        (Asked(threshold=0.5), "--threshold"),
    ):
        with pytest.raises(TableError, match=said):
            score(made, tmp_path / "in.csv", tmp_path / "out.csv", asked=asked)
    score(made, tmp_path / "in.csv", tmp_path / "out.csv")
    assert pd.read_csv(tmp_path / "out.csv")["prediction"].tolist() == pytest.approx([2.0, 4.0])


def test_an_empty_table_stays_one(made: Made, tmp_path: Path) -> None:
    frame_of(made)[:0].to_csv(tmp_path / "in.csv", index=False)
    assert score(made, tmp_path / "in.csv", tmp_path / "out.csv").rows == 0
    assert (tmp_path / "out.csv").read_text().startswith('"id","age"')
