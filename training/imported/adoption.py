"""A model that was made elsewhere, measured or not: opened, given a run in MLflow, kept for the registry."""

from __future__ import annotations

import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from artifact import manifest
from training.facts import about, data_of, source_tags
from training.freshness import DATA, FORMAT, SETTINGS, settings_digest
from training.imported.load import open_model
from training.pending import Finished, save
from training.registry.records import UNMEASURED, RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from training.imported.load import Loaded
    from training.progress import Progress
    from training.registry.mlflow_registry import Registry
    from training.settings import UseCase
    from training.tables.data import Table


@dataclass(frozen=True)
class Adoption:
    """A use case whose [model] becomes an artifact.

    Parameters
    ----------
    key
        The digest of everything that the artifact depends on.
    folder
        The folder of the artifact until the registry has it.
    began
        The local time to the minute, for titles.
    """

    registry: Registry
    use_case: UseCase
    key: str
    folder: Path
    progress: Progress
    began: str

    def open(self) -> Loaded:
        """The model, in an empty folder; its warning is said.

        Raises
        ------
        ModelError, RegistryError
        """
        assert self.use_case.model is not None  # noqa: S101 - only such use cases are adopted
        self.progress.stage("opening the model")
        shutil.rmtree(self.folder, ignore_errors=True)
        asked = self.use_case.model
        if self.use_case.images is not None:  # a picture is a tensor to the file
            asked = msgspec.structs.replace(asked, tensors=True)
        loaded = open_model(asked, self.registry, self.folder / "fetched")
        if loaded.warning:
            self.progress.say(f"          ! {loaded.warning}")
        return loaded

    @contextmanager
    def run(self, **experiment: str) -> Iterator[str]:
        """The id of a new run, which ends as failed or killed if the block raises.

        Parameters
        ----------
        experiment
            Tags of the experiment, should it be new.
        """
        run_id = self.registry.start(
            self.use_case.name,
            f"imported · {self.use_case.name} · {self.began}",
            source_tags(self.use_case),
            description=about(self.use_case),
            about=experiment,
        )
        try:
            yield run_id
        except BaseException as error:
            with suppress(RegistryError):
                self.registry.finish(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise

    def keep(
        self,
        run_id: str,
        *,
        algorithm: str,
        loaded: Loaded,
        digest: str,
        params: Mapping[str, str],
        runtime: str,
        reason: str,
        metric: str,
        metrics: Mapping[str, float],
        baseline: Mapping[str, float],
        unmeasured: str,
        card: str,
        table: Table | None,
    ) -> Finished:
        """Keep the result in the folder until the registry has it.

        Parameters
        ----------
        digest
            SHA-256 of the model's file.
        params
            More parameters of the run.
        reason
            Why its own library scores it; empty for an ONNX graph.
        unmeasured
            Why there are no metrics; empty if there are.
        """
        use_case = self.use_case
        shown = ", unmeasured" if unmeasured else f" {metrics[metric]:.4g}"
        return save(
            Finished(
                key=self.key,
                name=use_case.name,
                about=about(use_case),
                run_id=run_id,
                title=f"{algorithm}{shown} · {use_case.name} · {self.began}",
                begun=source_tags(use_case),
                params={
                    "algorithm": algorithm,
                    "settings": f"read from {loaded.file.name}, SHA-256 {digest}",
                    **params,
                },
                metrics={f"test_{name}": value for name, value in metrics.items() if np.isfinite(value)},
                baseline={name: value for name, value in baseline.items() if np.isfinite(value)},
                folds={},
                tags={
                    "algorithm": algorithm,
                    "runtime": runtime,
                    **({"runtime.reason": reason} if reason else {}),
                    "metric": metric,
                    **{f"test_{name}": f"{value:.4f}" for name, value in metrics.items()},
                    "okamochi.use_case": use_case.name,
                    **({UNMEASURED: unmeasured} if unmeasured else {}),
                    DATA: "" if table is None else table.digest,
                    SETTINGS: settings_digest(use_case),
                    FORMAT: str(manifest.FORMAT),
                },
                note=card,
                data=None if table is None else data_of(table),
                trials=[],
                logged=0,
            ),
            self.folder,
        )
