"""What our OpenAPI document promises, held by Schemathesis, which makes good and bad requests from it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.servers import Server

pytestmark = pytest.mark.deep

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
]
FULL = os.environ.get("OKAMOCHI_FAULTS") == "1"
MLFLOW_PAGES = ("/ping", "/health", "/version")
"""MLflow's own server calls their plain text JSON, and so do we, for its clients."""


def test_replies_are_those_that_the_document_has(server: Server, tmp_path: Path) -> None:
    """With OKAMOCHI_FAULTS=1 in about 10,000 requests, else in some hundred."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/openapi.json"]
    command += ["--checks", ",".join(CHECKS), "--seed", "7", "--suppress-health-check", "all", "--no-color"]
    command += ["--max-examples", "25" if FULL else "5"]
    command += ["--phases", "examples,coverage,fuzzing" if FULL else "examples,fuzzing"]
    for path in MLFLOW_PAGES:
        command += ["--exclude-path", path]
    # Later tests need the models of this server.
    command += ["--exclude-path-regex", "^/v2/repository/models/"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=580)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Fuzzing" in done.stdout
