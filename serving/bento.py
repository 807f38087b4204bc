"""Where BentoML hands over: the one module of `serving` that imports it."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import signal
import time
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
import click
from bentoml.exceptions import BentoMLException
from bentoml.models import BentoModel

from artifact import models_lock
from serving import declared, guards, signals
from serving.settings import Settings, SettingsError, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from serving.http.asgi import App

    # What is heavy is imported where it is used: the arbiter, BentoML's parent process, imports this as well.
    from serving.http.gateway import Gateway
    from serving.http.routes import Live
    from serving.scoring.catalog import Catalog
    from serving.scoring.watch import Watch

logger = logging.getLogger("bentoml.okamochi")

SCORE_PATH = "/score"  # of `serving.protocols.score`, which is not imported here: the arbiter stays light
DOC = """Predictions over HTTP are at [/docs](/docs): every route, each model's columns, an example to send.
This document is BentoML's own: the API `score` for BentoML's clients, rows by position."""
PARENT_EVERY_S = 1.0  # how often a worker looks whether its parent lives
WORKERS_EVERY_S = 0.5  # how often the parent looks whether its workers live
SETTLED_S = 10.0  # the age from which a worker that dies is replaced at once; BentoML's own rhythm of looking
WAIT_FOR_OTHER_S = 5.0  # for a server that is ending, as when one is restarted by hand
_held: list[Any] = []  # the lock of this server's folder of metrics, until the process ends
_PARENT = os.getppid()  # as early as we are asked; looked at in workers only


def settings() -> Settings:
    """The settings of this process.

    Raises
    ------
    BentoMLException
        A variable holds what its setting does not take.
    """
    try:
        found = read(os.environ)
        if any(name.startswith("OTEL_EXPORTER_OTLP_") for name in os.environ):
            from serving.observe import traces

            traces.destination(os.environ)
    except SettingsError as error:
        raise BentoMLException(str(error)) from None
    return found


def claim_metrics_folder() -> None:
    """Refuse to start where another server has its metrics: BentoML would empty the folder under it.

    Only `bentoml serve` itself claims it, before BentoML looks at it, and its workers are part of it.

    Raises
    ------
    BentoMLException
        Names the other server.
    """
    command = click.get_current_context(silent=True)
    if _held or command is None or command.info_name != "serve":
        return
    if not guards.usable(guards.METRICS_FOLDER):
        return
    from bentoml._internal.configuration.containers import BentoMLContainer

    folder = Path(BentoMLContainer.prometheus_multiproc_dir.get())
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = folder.with_name(f"{folder.name}.lock").open("ab+", buffering=0)
    except OSError:
        return  # BentoML takes a temporary folder then, which nobody shares
    end = time.monotonic() + WAIT_FOR_OTHER_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if time.monotonic() >= end:
                file.seek(0)
                other = file.read().decode(errors="replace").strip() or "another process"
                file.close()
                raise BentoMLException(
                    f"{folder} holds the metrics of a server that runs ({other}), and two cannot share it; "
                    "end that one, or give this one a BENTOML_HOME of its own."
                ) from None
            time.sleep(0.1)
    _held.append(file)
    with suppress(OSError):  # a full disk: the lock holds without a name in it
        file.truncate(0)
        file.write(f"process {os.getpid()}, in {Path.cwd()}".encode(errors="replace"))


def check_stored(models: Mapping[str, str]) -> None:
    """Refuse to start where BentoML's model store has not got a model: BentoML would ask its cloud for it.

    Only `bentoml serve` itself looks: a worker that is replaced refuses that model and serves the others.

    Raises
    ------
    BentoMLException
        Names the model, the store and what brings it back.
    """
    command = click.get_current_context(silent=True)
    if command is None or command.info_name != "serve":
        return
    for name, tag in models.items():
        if BentoModel(tag).stored is None:
            from artifact.store import bentoml_home

            raise BentoMLException(
                f"{models_lock.FILE} names {tag} for {name}, but BentoML's model store in {bentoml_home()} "
                f"has no such model; `python -m deploy bundle {name}` puts the champion there and renews the "
                "line, or set BENTOML_HOME to the folder whose store has it."
            )


def use_quick_parent() -> None:
    """Have BentoML's parent process replace a killed worker at once.

    Its socket stays open without a worker, and BentoML looks for dead ones every ten seconds: so long
    requests waited before a new worker was as much as begun.
    """
    if not guards.usable(guards.PARENT):
        return
    from bentoml._internal.utils import circus as arbiters

    if arbiters.Arbiter.__module__ == __name__:
        return
    from circus.process import DEAD_OR_ZOMBIE, UNEXISTING

    class Arbiter(arbiters.Arbiter):  # type: ignore[misc] # untyped
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options | {"check_delay": WORKERS_EVERY_S})
            self._managed = time.monotonic()

        def start_watchers(self) -> Any:
            """Start the workers; called once circus has set its own handlers of signals."""
            signals.ignore()
            return super().start_watchers()

        def manage_watchers(self) -> Any:
            """Replace what has died; Circus calls it every WORKERS_EVERY_S, beside no other command."""
            if self._restarting or self._exclusive_running_command is not None:
                return None
            workers = [one for watcher in self.iter_watchers() for one in watcher.processes.values()]
            died = (worker.age() for worker in workers if worker.status in {DEAD_OR_ZOMBIE, UNEXISTING})
            if not due(died, time.monotonic() - self._managed):
                return None
            self._managed = time.monotonic()
            return super().manage_watchers()

    arbiters.Arbiter = Arbiter  # looked up by BentoML when it starts the workers, after this


def due(died: Iterable[float], since_s: float) -> bool:
    """Whether to replace dead workers: at once one that had served, every ten seconds one that cannot start.

    Parameters
    ----------
    died
        Seconds from each dead worker's start until now.
    since_s
        Seconds since workers were last replaced.
    """
    return since_s >= SETTLED_S or any(age >= SETTLED_S for age in died)


def lock_of(folder: Path) -> Path:
    """The path of `models.lock`: `OKAMOCHI_MODELS_LOCK`, or in the service's folder."""
    return Path(settings().models_lock) if settings().models_lock else folder / models_lock.FILE


def locked_models(folder: Path) -> dict[str, str]:
    """Names and exact tags of the models to serve: of `models.lock`, as `OKAMOCHI_MODELS` picks and orders.

    Raises
    ------
    BentoMLException
        There is nothing to serve, or a line of `models.lock` cannot be read.
    """
    try:
        return declared.read(lock_of(folder), settings().models)
    except models_lock.LockError as error:
        raise BentoMLException(str(error)) from None


def _service_class() -> Any:
    """BentoML's class of a service.

    Raises
    ------
    BentoMLException
        This BentoML has another.
    """
    lacking = guards.missing(guards.BENTOML)
    if lacking:
        raise BentoMLException(guards.sentence(guards.BENTOML, lacking))
    from _bentoml_sdk import Service

    return Service


class OkamochiService(_service_class()[Any]):  # type: ignore[misc] # untyped
    """A BentoML service whose HTTP is ours: the gateway stands before BentoML's own application.

    The class that it decorates has `models`, names to tags, and `folder`, which models.lock is in.

    Attributes
    ----------
    live
        What is live, once there is an application.
    """

    live: Live

    def __attrs_post_init__(self) -> None:
        claim_metrics_folder()
        use_quick_parent()
        super().__attrs_post_init__()
        # For the workers to come: a line at their start, before the log is our own, would never return on a
        # pipe that is full, and so no killed worker would be replaced.
        if os.environ.get("BENTOML_VERBOSITY", "0") == "0":
            os.environ["BENTOML_VERBOSITY"] = "-1"
        check_stored(self.inner.models)
        self.models.extend(BentoModel(tag) for tag in self.inner.models.values())

    @property
    def doc(self) -> str:
        """What `/docs.json` says of the service, instead of BentoML's own advertisements."""
        return DOC

    @cached_property
    def settings(self) -> Settings:
        return settings()

    def _load(self) -> Catalog:
        """Open the models."""
        from artifact import store
        from serving.scoring import catalog

        return catalog.load(self.inner.models.items(), store.path_of, self.settings)

    def _watch(self, gateway: Gateway) -> Watch:
        """What makes changes of models.lock live."""
        from artifact import store
        from serving.scoring.watch import Watch

        path = lock_of(self.inner.folder)
        return Watch(
            path,
            read=partial(declared.read, path, self.settings.models),
            declared=self.inner.models,
            locate=store.path_of,
            stamp=store.stamp,
            current=lambda: gateway.catalog,
            publish=gateway.publish,
            settings=self.settings,
        )

    def to_asgi(self, is_main: bool = True) -> App:
        """The application of one worker; BentoML calls this just before it starts uvicorn."""
        from serving.http.gateway import Gateway
        from serving.observe import logs, metrics, supervised, traces

        signals.ignore()
        signals.end_by_quit()
        logs.install()
        guards.tell_again()
        supervised.watch_the_rest()
        # Uvicorn lets whoever comes from 127.0.0.1 say who the client is; we, only proxies that are named.
        os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
        destination = traces.destination(os.environ)
        tracer = traces.Tracer(destination) if destination is not None else None
        for pid in metrics.forget_dead_workers():
            logger.error("worker %d was killed; %d takes its place", pid, os.getpid())
        gateway = Gateway(
            super().to_asgi(is_main),
            self._load(),
            self.settings,
            passed_on={"/docs.json", "/schema.json"},
            on_started=_on_started,
            tracer=tracer,
        )
        self.live = gateway.live
        if self.settings.watch_s:
            gateway.watch = self._watch(gateway)
        if guards.usable(guards.UVICORN):
            from serving.http import express

            express.install(gateway.live, gateway.observe_express, self.settings, tracer)
        return gateway


class Scoring:
    """BentoML's side of the service: an API whose route and types BentoML's own clients ask for.

    It scores rows of the default model. Over HTTP the gateway answers it (`serving.protocols.score`).
    """

    folder: Path
    models: dict[str, str]
    bento_service: OkamochiService

    @bentoml.api(  # type: ignore[untyped-decorator]
        route=SCORE_PATH, batchable=True, max_batch_size=1000, max_latency_ms=60_000
    )
    def score(self, rows: list[list[Any]]) -> list[Any]:
        """Predictions of rows by position; null where the model gives no finite number."""
        import numpy as np

        catalog = self.bento_service.live.routes.catalog
        model = catalog.model(catalog.default)
        scores = model.score(model.encoder.rows(rows))
        finite: list[bool] = np.isfinite(scores).all(axis=1).tolist()  # type: ignore[assignment]
        predictions = _labels(model.signature, np.nan_to_num(scores))
        return [predictions[row] if finite[row] else None for row in range(len(rows))]


def _labels(signature: Any, scores: Any) -> Any:
    from artifact.signature import labels

    return labels(signature, scores)


def _on_started() -> None:
    """Run by the event loop of a worker, before its first request."""
    from serving.http import listening

    listening.accept_many()
    _freeze()
    _end_with_parent()


def _end_with_parent() -> None:
    """End this worker, its requests answered, once the process that started it is gone.

    A parent that is killed tells nobody, and its workers would hold the port for good. Looking, instead of
    PR_SET_PDEATHSIG, works on macOS as well and is no matter of which thread of the parent made us.
    """
    if os.getppid() == _PARENT:
        asyncio.get_running_loop().call_later(PARENT_EVERY_S, _end_with_parent)
        return
    logger.error("the parent process is gone: worker %d ends, once its requests are answered", os.getpid())
    os.kill(os.getpid(), signal.SIGTERM)


def _freeze() -> None:
    """Keep full garbage collections off what start-up left: they stalled a worker for up to a second."""
    gc.collect()
    gc.freeze()
