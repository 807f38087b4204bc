"""The connection to MLflow: how it is opened, and what is said when it fails."""

from __future__ import annotations

import logging
import os
import re
import warnings
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from artifact.manifest import ArtifactError
from training.registry.embedded import database_of, one_process, relocate
from training.registry.place import shown_uri, tracking_uri
from training.registry.records import RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_UNAUTHORISED = re.compile(r"\b401\b|Unauthorized", re.IGNORECASE)

_DEFAULTS = {
    # With MLflow's defaults, 120 s and 7 retries, it takes minutes to notice that a server is dead.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}

# The part of a library's message that says enough; the rest names its internals.
_PLAIN_REASONS = (
    "Connection refused",
    "Connection aborted",
    "Connection reset",
    "timed out",
    "Name or service not known",
    "Invalid Host header",
)


class Connection:
    """MLflow's client for a server or a database, which is tried once.

    Parameters
    ----------
    uri
        Of the tracking server; by default that of the environment, else the SQLite file of the checkout.

    Raises
    ------
    RegistryError
        It cannot be opened.
    """

    def __init__(self, uri: str | None = None) -> None:
        self.uri = uri or tracking_uri()
        with self.attempt("be opened"):
            self.mlflow = _import_mlflow()
            with one_process(self._database) if self.embedded else nullcontext():
                if self.embedded:
                    relocate(self._database, self.artifacts)
                self.client = self.mlflow.MlflowClient(self.uri)
                self.client.search_experiments(max_results=1)

    @property
    def embedded(self) -> bool:
        """Whether it is an SQLite file and not a server."""
        return database_of(self.uri) is not None

    @property
    def _database(self) -> Path:
        found = database_of(self.uri)
        assert found is not None  # noqa: S101 - asked only of an embedded registry
        return found

    @property
    def artifacts(self) -> Path:
        """The folder of the files of an embedded registry."""
        return self._database.parent / "mlruns"

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Turn any error into a `RegistryError` that says what the registry could not do."""
        try:
            yield
        except (RegistryError, ArtifactError):
            raise
        except Exception as error:
            # An HTTP status, a socket, SQLAlchemy, a full disk: callers treat them all alike.
            where = f"The MLflow registry {shown_uri(self.uri)}"
            if _UNAUTHORISED.search(str(error)):
                raise RegistryError(f"{where} could not {what}: {_refused(self.uri)}") from error
            raise RegistryError(f"{where} could not {what}: {_reason(error)} {self._advice()}") from error

    @contextmanager
    def as_default(self) -> Iterator[None]:
        """Have MLflow's module-level functions look here; afterwards the environment is as before."""
        before = os.environ.get("MLFLOW_TRACKING_URI")
        self.mlflow.set_tracking_uri(self.uri)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            self.mlflow.set_tracking_uri(None)  # so that MLflow reads the environment again
            if before is None:
                os.environ.pop("MLFLOW_TRACKING_URI", None)
            else:
                os.environ["MLFLOW_TRACKING_URI"] = before

    def _advice(self) -> str:
        if self.uri.startswith(("http:", "https:")):
            return "Start that server or set MLFLOW_TRACKING_URI to another, then run the same command again."
        return (
            "Check that it can be read and written (or set MLFLOW_TRACKING_URI), then run the same "
            "command again."
        )


def _import_mlflow() -> Any:
    """MLflow, quiet. Its import takes seconds, so it waits until a registry is opened."""
    for key, value in _DEFAULTS.items():
        os.environ.setdefault(key, value)
    import mlflow

    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return mlflow


def _refused(uri: str) -> str:
    """Why a server has answered 401, judged by the credentials that were sent, without the password."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if user and os.environ.get("MLFLOW_TRACKING_PASSWORD"):
        return (
            f"it does not accept the user {user!r} with the password; check MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD."
        )
    if os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return "it does not accept the token; check MLFLOW_TRACKING_TOKEN."
    if "@" in uri.partition("://")[2].partition("/")[0]:
        return "it does not accept the user and the password in MLFLOW_TRACKING_URI."
    return (
        "it asks for credentials, and MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD are not set (nor "
        "MLFLOW_TRACKING_TOKEN)."
    )


def _reason(error: BaseException) -> str:
    """The innermost cause's first line, as a sentence."""
    text = str(error).strip() or type(error).__name__
    for mark in _PLAIN_REASONS:
        if mark in text:
            text = mark.lower()
    line = text.splitlines()[0][:240].rstrip(".")
    return f"{line}."
