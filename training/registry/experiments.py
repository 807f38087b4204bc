"""MLflow's experiments: one for each use case, made when its first run begins."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from training.registry.records import MAX_DESCRIPTION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from training.registry.connection import Connection

EXPERIMENT = "okamochi/{name}"
KIND = "custom_model_development"
DEFAULT_ID, DEFAULT_NAME = "0", "other runs"
DEFAULT_NOTE = (
    "Runs that name no experiment land here, such as a notebook's. Those of a use case are in okamochi/NAME."
)


class Experiments:
    """The experiments of a connection; MLflow is asked for the id of each once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._client = connection.client
        self._ids: dict[str, str] = {}

    def id_of(self, name: str, description: str = "", about: Mapping[str, str] | None = None) -> str:
        """The id of a use case's experiment, which is made or restored where it must be.

        Parameters
        ----------
        description, about
            Of a new experiment: a sentence and tags.
        """
        if name not in self._ids:
            self._ids[name] = self._find_or_make(name, description, about or {})
        return self._ids[name]

    def _find_or_make(self, name: str, description: str, about: Mapping[str, str]) -> str:
        title = EXPERIMENT.format(name=name)
        found = self._client.get_experiment_by_name(title)
        if found is None:
            return self._make(title, name, description, about)
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _make(self, title: str, name: str, description: str, about: Mapping[str, str]) -> str:
        # The kind opens MLflow's pages for training instead of those for language models.
        tags = {"mlflow.experimentKind": KIND, **about}
        if description:
            tags["mlflow.note.content"] = description[:MAX_DESCRIPTION]
        embedded = self._connection.embedded
        location = (self._connection.artifacts / name).as_uri() if embedded else None
        made = self._client.create_experiment(title, location, tags)
        if embedded:
            self._explain_default()
        return str(made)

    def _explain_default(self) -> None:
        """Say what MLflow's experiment "Default", which it needs, is for: runs that name no experiment."""
        with suppress(self._connection.mlflow.exceptions.MlflowException):  # it was deleted
            found = self._client.get_experiment(DEFAULT_ID)
            if found.name == "Default" and not found.tags:
                self._client.set_experiment_tag(DEFAULT_ID, "mlflow.note.content", DEFAULT_NOTE)
                self._client.set_experiment_tag(DEFAULT_ID, "mlflow.experimentKind", KIND)
                self._client.rename_experiment(DEFAULT_ID, DEFAULT_NAME)
