"""A model in a process of its own: what it answers, what kills it, and what a worker notices of that."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from artifact import manifest
from artifact.encode import Encoder
from artifact.manifest import ArtifactError
from serving.scoring.model_process import ModelProcess, ModelProcessError
from tests.servers import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.serving.artifacts import Made


@pytest.fixture(scope="module")
def forest(made: dict[str, Made]) -> Made:
    """A model that is served by scikit-learn itself."""
    return made["loans"]


@pytest.fixture
def process(forest: Made) -> Iterator[ModelProcess]:
    running = ModelProcess(manifest.load(forest.path), call_s=20)
    yield running
    running.close()


def matrix_of(forest: Made, rows: int) -> Any:
    few = [forest.rows[i % len(forest.rows)] for i in range(rows)]
    return Encoder(forest.signature).rows(few)


def test_it_answers_what_the_model_answers(forest: Made, process: ModelProcess) -> None:
    """To the last bit, for one row and for many, in float64 and from float32."""
    for rows in (1, 7, 3_000):
        matrix = matrix_of(forest, rows)
        expected = forest.estimator.predict_proba(matrix)

        np.testing.assert_array_equal(process.score(matrix), expected)
        np.testing.assert_array_equal(process.score(matrix.astype(np.float32)), expected)


def test_a_killed_process_costs_no_call(forest: Made, process: ModelProcess) -> None:
    """It is forked anew from the open model, and the call is made once more."""
    matrix = matrix_of(forest, 2)
    expected = process.score(matrix)
    pids = {process.pid}
    for _ in range(5):
        os.kill(process.pid, signal.SIGKILL)
        np.testing.assert_array_equal(process.score(matrix), expected)
        pids.add(process.pid)

    assert len(pids) == 6


def test_a_keeper_that_dies_is_started_anew(forest: Made, process: ModelProcess) -> None:
    """The scorer goes on; when that dies too, both come back."""
    matrix = matrix_of(forest, 2)
    expected = process.score(matrix)
    assert process._keeper is not None
    process._keeper.kill()
    process._keeper.wait()
    np.testing.assert_array_equal(process.score(matrix), expected)

    os.kill(process.pid, signal.SIGKILL)

    np.testing.assert_array_equal(process.score(matrix), expected)


def test_both_end_with_the_worker(forest: Made) -> None:
    """Nothing is left when the sockets are closed, as the kernel does for a worker that was killed."""
    running = ModelProcess(manifest.load(forest.path))
    pids = [running.pid, running._keeper.pid]  # type: ignore[union-attr]

    running.close()

    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_scorer_that_hangs_ends_with_the_worker_though_its_keeper_is_gone(forest: Made) -> None:
    running = ModelProcess(manifest.load(forest.path))
    keeper, scorer = running._keeper, running.pid
    assert keeper is not None
    os.kill(scorer, signal.SIGSTOP)
    keeper.kill()
    keeper.wait()

    running.close()

    # Its parent now is the system's first process, which may leave it a zombie.
    end = time.monotonic() + PATIENCE_S
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(scorer).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < end, "it lives"
            time.sleep(0.01)


def test_it_sees_no_secret(forest: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is on the list of the environment reaches it."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("OKAMOCHI_HASH_KEY", "secret")
    running = ModelProcess(manifest.load(forest.path))
    try:
        seen = Path(f"/proc/{running.pid}/environ").read_bytes()
        assert b"OMP_NUM_THREADS=1" in seen
        assert b"secret" not in seen
    finally:
        running.close()


def test_a_model_that_cannot_be_opened_says_why(forest: Made, tmp_path: Path) -> None:
    """The reason of the process that tried is the reason that the worker gives."""
    found = manifest.load(forest.path)
    damaged = tmp_path / "damaged"
    shutil.copytree(forest.path, damaged)
    (damaged / manifest.SKOPS).write_bytes(b"no model")

    with pytest.raises(ArtifactError, match=r"model\.skops is damaged"):
        ModelProcess(type(found)(damaged, found.manifest, found.signature))


def test_a_call_that_does_not_return_is_ended(forest: Made) -> None:
    """Its process is replaced, and the next call is answered."""
    replaced: list[int] = []
    running = ModelProcess(manifest.load(forest.path), call_s=0.3, on_restart=lambda: replaced.append(1))
    try:
        matrix = matrix_of(forest, 1)
        expected = running.score(matrix)
        os.kill(running.pid, signal.SIGSTOP)  # it hangs

        with pytest.raises(ModelProcessError, match="longer than"):
            running.score(matrix)

        np.testing.assert_array_equal(running.score(matrix), expected)
        assert len(replaced) == 1
    finally:
        running.close()


def test_rows_that_end_every_process_fail(forest: Made) -> None:
    """After three of them; the batcher then looks for the row."""
    started: list[int] = []

    def kill() -> None:
        started.append(running.pid)
        os.kill(running.pid, signal.SIGKILL)

    running = ModelProcess(manifest.load(forest.path), on_restart=kill)
    try:
        os.kill(running.pid, signal.SIGKILL)

        with pytest.raises(ModelProcessError, match="ended 3 times"):
            running.score(matrix_of(forest, 1))

        assert len(started) == 3
    finally:
        running.close()


def test_a_call_that_needs_too_much_memory_fails_alone(forest: Made) -> None:
    """The limit is the process's; the worker has its memory, and small calls are answered."""
    running = ModelProcess(manifest.load(forest.path), memory_bytes=400 * 1024 * 1024)
    try:
        small = matrix_of(forest, 1)
        expected = running.score(small)

        with pytest.raises(ModelProcessError, match="MemoryError|ended 3 times"):
            running.score(np.repeat(small, 20_000_000, axis=0))

        np.testing.assert_array_equal(running.score(small), expected)
    finally:
        running.close()
