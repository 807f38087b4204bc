"""The registry of runs, registered versions and their aliases: MLflow, as training and deploy use it."""

from __future__ import annotations

import getpass
import json
import shutil
import sqlite3
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from artifact.manifest import MANIFEST, ArtifactError
from training.interpreter import typed
from training.registry.absent import why_absent
from training.registry.connection import Connection
from training.registry.embedded import database_of, read_alias_in
from training.registry.experiments import Experiments
from training.registry.file_stores import check_store
from training.registry.place import shown_uri, tracking_uri
from training.registry.records import (
    MAX_DESCRIPTION,
    MAX_NOTE,
    MAX_PARAM,
    MAX_TAG,
    SIGNATURE,
    SOURCE,
    RegistryError,
    Version,
)
from training.settings import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from artifact.manifest import Artifact
    from training.registry.records import DataInput, TrialRun


SHOWN_DIGEST = 8
"""Characters of a data set's digest that its name in MLflow carries; the whole of it is a tag."""


class Registry:
    """An MLflow server or database, tried once when it is opened.

    Every method raises `RegistryError` for whatever keeps MLflow from doing what is asked.
    """

    def __init__(self, uri: str | None = None) -> None:
        connection = Connection(uri)
        self.uri = connection.uri
        self._mlflow, self._client = connection.mlflow, connection.client
        self._attempt, self._as_default = connection.attempt, connection.as_default
        self._experiments = Experiments(connection)

    # Runs

    def start(
        self,
        name: str,
        title: str,
        tags: Mapping[str, str],
        *,
        description: str = "",
        about: Mapping[str, str] | None = None,
    ) -> str:
        """Begin the parent run of a training; its id.

        Parameters
        ----------
        description, about
            Of the experiment, should it be new: a sentence and tags.
        """
        with self._attempt("begin a run"):
            experiment = self._experiments.id_of(name, description, about or {})
            run = self._client.create_run(experiment, run_name=title, tags=self._tags(tags))
            try:
                check_store(str(run.info.artifact_uri))
            except RegistryError:
                self._client.set_terminated(run.info.run_id, "FAILED")
                raise
            return str(run.info.run_id)

    def has_run(self, run_id: str) -> bool:
        """Whether a run is there and not deleted."""
        with self._attempt("look for a run"):
            try:
                return str(self._client.get_run(run_id).info.lifecycle_stage) == "active"
            except self._mlflow.exceptions.MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return False
                raise

    def trial(self, name: str, parent: str, trial: TrialRun) -> None:
        """Log a candidate as a run nested in `parent`: three calls, about 20 ms with SQLite."""
        from mlflow.entities import Metric, Param

        with self._attempt("log a trial"):
            started, ended = int(trial.started * 1000), int((trial.started + trial.seconds) * 1000)
            run = self._client.create_run(
                self._experiments.id_of(name),
                start_time=started,
                run_name=trial.title,
                tags=self._tags({"mlflow.parentRunId": parent, **trial.tags}),
            )
            metrics = [
                Metric(f"fold_{trial.metric}", float(value), ended, fold)
                for fold, value in enumerate(trial.fold_scores)
            ]
            if trial.score is not None:
                metrics.append(Metric(f"cv_{trial.metric}", float(trial.score), ended, 0))
            params = [Param(key, str(value)[:MAX_PARAM]) for key, value in trial.params.items()]
            self._client.log_batch(run.info.run_id, metrics, params)
            self._client.set_terminated(run.info.run_id, trial.status, ended)

    def describe(
        self,
        run_id: str,
        *,
        title: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        folds: Mapping[str, Sequence[float]],
        tags: Mapping[str, str],
        note: str,
        card: str,
        data: DataInput | None,
    ) -> None:
        """Log the outcome of a training on its parent run; the same figures again change nothing.

        Parameters
        ----------
        folds
            Metrics with one value a fold.
        note
            Markdown that the run's page shows as its description.
        card
            Markdown that the run holds as card.md.
        """
        from mlflow.entities import Metric, Param, RunTag

        with self._attempt("log the run"):
            now = int(time.time() * 1000)
            values = [Metric(key, float(value), now, 0) for key, value in metrics.items()]
            values += [
                Metric(key, float(value), now, fold)
                for key, scores in folds.items()
                for fold, value in enumerate(scores)
            ]
            named = {"mlflow.runName": title, "mlflow.note.content": note[:MAX_NOTE], **tags}
            self._client.log_batch(
                run_id,
                values,
                [Param(key, str(value)[:MAX_PARAM]) for key, value in params.items()],
                [RunTag(key, str(value)[:MAX_TAG]) for key, value in named.items()],
            )
            if data is not None:
                self._log_data(run_id, data)
            self._client.log_text(run_id, card, "card.md")

    def files(self, run_id: str, folder: Path, path: str | None = None) -> None:
        """Log a folder's files to a run, under `path`."""
        with self._attempt("store the run's files"):
            self._client.log_artifacts(run_id, str(folder), path)

    def finish(self, run_id: str, status: str = "FINISHED") -> None:
        """End a run: `FINISHED`, `FAILED` or `KILLED`."""
        with self._attempt("end the run"):
            self._client.set_terminated(run_id, status)

    # Versions

    def register(
        self,
        artifact: Artifact,
        run_id: str,
        *,
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        description: str,
        about: str,
    ) -> Version:
        """Log an artifact as a pyfunc model of the run and register it as the name's newest version.

        Parameters
        ----------
        description
            Markdown on the version's page: the model card.
        about
            What the use case is, on the name's page.
        """
        name = artifact.manifest.name
        with self._attempt("register the model"), self._as_default():
            model_id = self._log_model(artifact, run_id, tags, metrics)
            self._create_name(name, about)
            created = self._client.create_model_version(
                name,
                f"models:/{model_id}",
                run_id=run_id,
                tags={key: str(value)[:MAX_DESCRIPTION] for key, value in tags.items()},
                description=description[:MAX_DESCRIPTION],
                model_id=model_id,
            )
            return _version(created)

    def replace(self, version: Version, artifact: Artifact) -> Version:
        """Register another artifact with a version's run, tags and aliases, and delete that version.

        The new version is not signed. The old one's files stay in the store until `mlflow gc`.
        """
        with self._attempt("read the model's version"):
            old = self._client.get_model_version(version.name, version.number)
            aliases = self._client.get_registered_model(version.name).aliases
        fresh = self.register(
            artifact,
            version.run_id,
            tags={key: value for key, value in version.tags.items() if key != SIGNATURE},
            metrics={},
            description=old.description or "",
            about="",
        )
        for alias, number in aliases.items():
            if str(number) == version.number:
                self.set_alias(version.name, alias, fresh)
        with self._attempt("delete the model's version"):
            self._client.delete_model_version(version.name, version.number)
            if old.model_id:
                self._client.delete_logged_model(old.model_id)
        return fresh

    def names(self) -> list[str]:
        """The use cases that have a registered version."""
        with self._attempt("list the models"):
            return [model.name for model in self._client.search_registered_models()]

    def version(self, name: str, alias: str) -> Version | None:
        """The version that an alias names; None where there is no such alias."""
        return self._found("read the model's alias", self._client.get_model_version_by_alias, name, alias)

    def numbered(self, name: str, number: str) -> Version | None:
        """A version by its number, if there is one."""
        return self._found("read the model's version", self._client.get_model_version, name, number)

    def version_of_run(self, name: str, run_id: str) -> Version | None:
        """The newest version that a run registered; None where it registered none."""
        with self._attempt("look for the model"):
            found = self._client.search_model_versions(f"name='{name}' and run_id='{run_id}'")
            return max(map(_version, found), key=lambda version: int(version.number), default=None)

    def versions(self, name: str) -> list[Version]:
        """Every version of a name, the newest first."""
        with self._attempt("list the model's versions"):
            found = map(_version, self._client.search_model_versions(f"name='{name}'"))
            return sorted(found, key=lambda version: -int(version.number))

    def set_alias(self, name: str, alias: str, version: Version) -> None:
        """Make an alias name a version."""
        with self._attempt(f"move the alias {alias}"):
            self._client.set_registered_model_alias(name, alias, version.number)

    def delete_alias(self, name: str, alias: str) -> None:
        """Delete an alias; an alias that does not exist is not an error."""
        with self._attempt(f"delete the alias {alias}"):
            self._client.delete_registered_model_alias(name, alias)

    def tag(self, version: Version, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        with self._attempt("tag the model's version"):
            for key, value in tags.items():
                self._client.set_model_version_tag(
                    version.name, version.number, key, str(value)[:MAX_DESCRIPTION]
                )

    def tag_run(self, run_id: str, tags: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        """Set tags of a run, and metrics that were not known before."""
        from mlflow.entities import Metric, RunTag

        with self._attempt("tag the run"):
            now = int(time.time() * 1000)
            self._client.log_batch(
                run_id,
                [Metric(key, float(value), now, 0) for key, value in metrics.items()],
                [],
                [RunTag(key, str(value)[:MAX_TAG]) for key, value in tags.items()],
            )

    def download(self, version: Version, folder: Path) -> Path:
        """Copy a version's artifact below `folder`; the directory that holds its manifest.json.

        Raises
        ------
        ArtifactError
            The registry is there, but those files are not: they are lost, or Okamochi did not make the model.
        """
        with self._attempt(f"give the files of {version.uri}"):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with self._as_default():
                    found = self._mlflow.artifacts.download_artifacts(
                        artifact_uri=f"{version.uri}/artifacts/okamochi", dst_path=str(folder)
                    )
            except Exception as error:
                if _is_lost(error):
                    raise ArtifactError(self._without_files(version)) from error
                raise
            if not (Path(found) / MANIFEST).is_file():
                raise ArtifactError(self._without_files(version))
            return Path(found)

    def fetch(self, uri: str, folder: Path) -> Path:
        """Copy a model that `models:/...` or `runs:/...` names below `folder`, whoever made it.

        Raises
        ------
        RegistryError
            There is no such model, version or alias, its files are gone, or the registry is away.
        """
        with self._attempt(f"give the files of {uri}"):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with self._as_default():
                    found = self._mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder))
            except Exception as error:
                absent = why_absent(self._client, uri)
                if not absent and _is_lost(error):
                    absent = _FILES_GONE.format(uri=uri)
                if not absent:
                    raise
                raise RegistryError(f"{absent} The registry is {shown_uri(self.uri)}.") from error
            if not any(Path(found).iterdir() if Path(found).is_dir() else [found]):
                raise RegistryError(f"{_FILES_GONE.format(uri=uri)} The registry is {shown_uri(self.uri)}.")
            return Path(found)

    # Inside

    def _without_files(self, version: Version) -> str:
        """Say why a version has no artifact of ours, and what to do."""
        if version.run_id and (self._source(version.run_id) or "").startswith(SOURCE):
            back = typed(f"-m training rollback {version.name} --to VERSION")
            return (
                f"the files of {version.uri} are no longer in the registry; put them back from a backup, "
                f"go back to another version ({back}) or train again"
            )
        try:
            with self._as_default():
                flavors = self._mlflow.models.get_model_info(version.uri).flavors
            has = f"its MLmodel names {', '.join(flavors) or 'no flavor'}"
            adopt = (
                f"take it in under another name ({typed(f'-m training init {version.uri} --name NAME')}), or "
            )
        except Exception as error:
            if not _is_lost(error):
                raise
            has, adopt = "it has no MLmodel", ""
        train, replace = (
            typed(f"-m training {command} {version.name}") for command in ("run", "promote --force")
        )
        return (
            f"{version.uri} is not a model that Okamochi made ({has}), so it holds no artifact that could be "
            f"served; {adopt}train one under this name ({train}), then let it replace this one: {replace}"
        )

    def _source(self, run_id: str) -> str | None:
        """What made a run; None where the run is not there or does not say."""
        try:
            found: str | None = self._client.get_run(run_id).data.tags.get("mlflow.source.name")
        except self._mlflow.exceptions.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return found

    def _found(self, what: str, ask: Any, *key: str) -> Version | None:
        with self._attempt(what):
            try:
                return _version(ask(*key))
            except self._mlflow.exceptions.MlflowException as error:
                # An alias that is not there is "invalid parameter value" in SQL stores.
                if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                    return None
                raise

    def _tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        ours = {"mlflow.source.name": SOURCE, "mlflow.source.type": "LOCAL"}
        with suppress(OSError, KeyError):  # a container's user may have no name
            ours["mlflow.user"] = getpass.getuser()
        return {key: str(value)[:MAX_TAG] for key, value in {**ours, **tags}.items()}

    def _log_data(self, run_id: str, data: DataInput) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        columns = [{"type": kind, "name": name, "required": True} for name, kind in data.columns.items()]
        dataset = Dataset(
            name=data.name,
            digest=data.digest[:SHOWN_DIGEST],
            source_type="local",
            source=json.dumps({"uri": data.source}),
            schema=json.dumps({"mlflow_colspec": columns})[:1_000_000] if len(columns) < 2_000 else None,
            profile=json.dumps({"num_rows": data.rows, "num_elements": data.rows * len(columns)}),
        )
        self._client.log_inputs(
            run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
        )

    def _log_model(
        self, artifact: Artifact, run_id: str, tags: Mapping[str, str], metrics: Mapping[str, float]
    ) -> str:
        from training.registry import pyfunc as described

        with TemporaryDirectory() as folder, self._mlflow.start_run(run_id=run_id, log_system_metrics=False):
            # MLflow keeps the folder under its own name, not under the key that `artifacts` gives it.
            copy = shutil.copytree(artifact.path, Path(folder) / "okamochi")
            info = self._mlflow.pyfunc.log_model(
                name=artifact.manifest.name,
                python_model=str(CHECKOUT / "training" / "registry" / "scorer.py"),
                artifacts={"okamochi": str(copy)},
                code_paths=[str(CHECKOUT / "artifact")],
                signature=described.mlflow_signature(artifact.signature),
                input_example=described.example_of(artifact.signature),
                pip_requirements=described.requirements_of(artifact),
                tags={key: str(value)[:MAX_DESCRIPTION] for key, value in tags.items()},
            )
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        logged = [Metric(key, float(value), now, 0, model_id=info.model_id) for key, value in metrics.items()]
        self._client.log_batch(run_id, logged)
        return str(info.model_id)

    def _create_name(self, name: str, about: str) -> None:
        try:
            self._client.create_registered_model(name, description=about[:MAX_DESCRIPTION])
        except self._mlflow.exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def exists() -> bool:
    """Whether there is a registry to read; opening the default one would create it."""
    database = database_of(tracking_uri())
    return database is None or database.is_file()


def read_alias(name: str, alias: str) -> Version | None:
    """The version that an alias names, without the seconds that importing MLflow takes where that can be.

    Raises
    ------
    RegistryError
        The registry cannot be read.
    """
    if not exists():
        return None
    uri = tracking_uri()
    database = database_of(uri)
    if database is not None:
        # Another MLflow has other tables: then it must read them itself.
        with suppress(sqlite3.Error):
            return read_alias_in(database, name, alias)
    return _opened(uri).version(name, alias)


@lru_cache(maxsize=1)
def _opened(uri: str) -> Registry:
    """The registry that was read last, kept because opening it costs more than reading an alias."""
    return Registry(uri)


def _version(found: Any) -> Version:
    return Version(
        found.name, str(found.version), found.run_id or "", dict(found.tags), found.creation_timestamp / 1000
    )


_FILES_GONE = (
    "The files of {uri} are no longer in the registry's store: put them back from a backup, or log the model "
    "anew."
)


def _is_lost(error: Exception) -> bool:
    """Whether a download failed because the file is not there: an error of that name, or a server's 404."""
    if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST" or isinstance(error, FileNotFoundError):
        return True
    return "404 Client Error" in str(error)
