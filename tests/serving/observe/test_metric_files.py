"""Metrics of workers that share a folder whose disk has no room."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COUNTS = """
import sys
from serving.observe import metrics
for i in range(1_000):
    metrics.REQUESTS.labels(f"m{i}", "predict", "200").inc()
    metrics.LATENCY.labels(f"m{i % 3}", "predict").observe(0.1)
metrics.REQUESTS.labels("m3", "predict", "200").inc()
sys.stdout.buffer.write(metrics.exposition())
"""


SMALL = 'mount -t tmpfs -o size={kilobytes}k tmpfs $PROMETHEUS_MULTIPROC_DIR && exec "$@"'


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="macOS takes no blocks ahead")
@pytest.mark.parametrize(("kilobytes", "said"), [(4, True), (300, True), (4_000, False)])
def test_a_worker_counts_on_where_its_files_have_no_room(
    kilobytes: int, said: bool, tmp_path: Path, program: Callable[[str], str]
) -> None:
    """From the start, or once they grow: it is not ended, and its own page has all that it counted."""
    apart = [program("unshare"), "-r", "-m"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare -r -m is not allowed here")
    done = subprocess.run(
        [*apart, "sh", "-c", SMALL.format(kilobytes=kilobytes), "sh", sys.executable, "-c", COUNTS],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert 'okamochi_requests_total{endpoint="predict",model="m3",status="200"} 2.0' in done.stdout
    assert 'okamochi_requests_total{endpoint="predict",model="m999",status="200"} 1.0' in done.stdout
    assert 'okamochi_request_seconds_count{endpoint="predict",model="m0"} 334.0' in done.stdout
    assert done.stderr.count("cannot be allocated") == said


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="macOS takes no blocks ahead")
def test_the_blocks_of_a_file_are_on_the_disk_before_they_are_written(tmp_path: Path) -> None:
    """A hole that a full disk cannot fill ends the process that writes to it."""
    done = subprocess.run(
        [sys.executable, "-c", COUNTS],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    files = [path.stat() for path in tmp_path.iterdir()]
    assert len(files) >= 2
    assert [file.st_blocks * 512 >= file.st_size for file in files] == [True] * len(files)
