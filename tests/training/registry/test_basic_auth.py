"""A registry behind MLflow's own basic authentication, as a real server has it."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from tests.servers import CHECKOUT, free_port, started
from training.__main__ import main
from training.registry.mlflow_registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "a-password-of-the-test"  # noqa: S105


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("mlflow")
    ini = (CHECKOUT / "k8s/components/mlflow-auth/basic_auth.ini").read_text()  # but for the database
    own = re.sub(r"(?m)^database_uri = .*$", f"database_uri = sqlite:///{folder}/auth.db", ini)
    assert own != ini
    (folder / "auth.ini").write_text(own)
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"),
        *("--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts"),
        *("--app-name", "basic-auth"),
    ]
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of the test",
    }
    url = f"http://127.0.0.1:{port}"
    with started(
        command, url=url, ready="/health", log=folder / "server.log", environment=environment
    ) as found:
        yield found.url


def test_the_right_password_opens_the_registry(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For reading and for writing."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    registry = Registry(server)
    run = registry.start("iris", "a run", {})
    assert registry.has_run(run)
    assert registry.versions("iris") == []


def test_a_user_that_the_admin_made_trains(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user of trainings, as docs/security.md makes it, reads everything and manages what it makes."""
    for user, password in (("admin", PASSWORD), ("trainer", PASSWORD[::-1])):
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        if user == "admin":
            from mlflow.server.auth.client import AuthServiceClient

            AuthServiceClient(server).create_user("trainer", PASSWORD[::-1])
    registry = Registry(server)
    assert registry.has_run(registry.start("wine", "a run", {}))


@pytest.mark.parametrize(
    ("user", "password", "said"),
    [
        (None, None, "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD are not set"),
        ("admin", "wrong-password-here", "does not accept the user 'admin' with the password"),
        ("stranger", PASSWORD, "does not accept the user 'stranger' with the password"),
    ],
)
def test_a_wrong_password_is_one_sentence(
    server: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    user: str | None,
    password: str | None,
    said: str,
) -> None:
    """It names the variables and the user, and never the password."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    for name, value in (("USERNAME", user), ("PASSWORD", password)):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
        if value is not None:
            monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    assert main(["list"]) == 4
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1
    assert password is None or password not in told
