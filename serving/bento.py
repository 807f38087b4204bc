"""The connection to BentoML: the only module of `serving` that imports it."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from ipaddress import ip_address
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
    import socket
    from collections.abc import Iterable

    # Heavy modules are imported where they are used: BentoML's parent process imports this module as well.
    from artifact.models_lock import Entry
    from serving.access.watch import KeysWatch
    from serving.grpc.server import Server as GrpcServer
    from serving.http.asgi import App
    from serving.http.gateway import Gateway
    from serving.http.routes import Live
    from serving.observe.traces import Tracer
    from serving.scoring.catalog import Catalog
    from serving.scoring.repository import Repository
    from serving.scoring.watch import Watch
    from serving.shared import Shared

logger = logging.getLogger("bentoml.okamochi")

SCORE_PATH = "/score"  # also in `serving.protocols.score`, which the parent process must not import
DOC = """[/docs](/docs) describes the predictions over HTTP: every route, each model's columns, an example.
This document is BentoML's own: the API `score` for BentoML's clients, which takes rows by position."""
PARENT_EVERY_S = 1.0  # how often a worker checks that its parent is alive
WORKERS_EVERY_S = 0.5  # how often the parent checks that its workers are alive
SETTLED_S = 10.0  # a worker of this age that dies is replaced at once; also BentoML's own interval
BENTOML_HOST = "0.0.0.0"  # noqa: S104 - BentoML's own default
WAIT_FOR_OTHER_S = 5.0  # for a server that is stopping, as in a restart by hand
_held: list[Any] = []  # the lock of the metrics folder, until the process ends
_reserved: list[socket.socket] = []  # the port of gRPC, likewise
_PARENT = os.getppid()  # read as early as possible; used in workers only


def settings() -> Settings:
    """The settings of this process.

    Raises
    ------
    BentoMLException
        A variable has a value that its setting does not accept, or names a file that cannot be used.
    """
    try:
        found = read(os.environ)
        if any(name.startswith("OTEL_EXPORTER_OTLP_") for name in os.environ):
            from serving.observe import traces

            traces.destination(os.environ)
    except SettingsError as error:
        raise BentoMLException(str(error)) from None
    _check_key_files(found)
    return found


def _check_key_files(found: Settings) -> None:
    if found.log_keys:
        from artifact import sealing

        try:
            sealing.read_keys(Path(found.log_keys).expanduser())
        except sealing.LogKeysError as error:
            raise BentoMLException(str(error)) from None
    if found.trusted_keys:
        from artifact import signing

        try:
            signing.read_trusted(Path(found.trusted_keys).expanduser())
        except signing.SigningKeyError as error:
            raise BentoMLException(str(error)) from None


def _serve_command() -> click.Context | None:
    """The command `bentoml serve`, in its own process; None in a worker and in other programs."""
    command = click.get_current_context(silent=True)
    return command if command is not None and command.info_name == "serve" else None


def claim_metrics_folder() -> None:
    """Refuse to start where another server uses the same metrics folder, which BentoML would empty.

    Only the process of `bentoml serve` locks the folder, before BentoML opens it; its workers share the lock.

    Raises
    ------
    BentoMLException
        The message names the other server.
    """
    if _held or _serve_command() is None:
        return
    if not guards.usable(guards.METRICS_FOLDER):
        return
    from bentoml._internal.configuration.containers import BentoMLContainer

    folder = Path(BentoMLContainer.prometheus_multiproc_dir.get())
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = folder.with_name(f"{folder.name}.lock").open("ab+", buffering=0)
    except OSError:
        return  # BentoML then uses a temporary folder, which no other server shares
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
                    f"{folder} holds the metrics of a running server ({other}), and two cannot share it; "
                    "stop that server, or set another BENTOML_HOME for this one."
                ) from None
            time.sleep(0.1)
    _held.append(file)
    with suppress(OSError):  # on a full disk, the lock holds without a name in it
        file.truncate(0)
        file.write(f"process {os.getpid()}, in {Path.cwd()}".encode(errors="replace"))


def check_stored(models: Iterable[Entry]) -> None:
    """Refuse to start without a model in BentoML's store: BentoML would try to download it from its cloud.

    Only the process of `bentoml serve` checks; a worker that is started later serves the other models.

    Raises
    ------
    BentoMLException
        The message names the model, the store and the command that puts the model there.
    """
    if _serve_command() is None:
        return
    for name, tag, _, _ in models:
        if BentoModel(tag).stored is None:
            from artifact.store import bentoml_home

            raise BentoMLException(
                f"{models_lock.FILE} names {tag} for {name}, but BentoML's model store in {bentoml_home()} "
                f"has no such model; `python -m deploy bundle {name}` puts the champion there and renews the "
                "line, or set BENTOML_HOME to the folder whose store has it."
            )


def check_keys() -> None:
    """Refuse to start with a file of keys that cannot be used; warn if requests need no key.

    Only the process of `bentoml serve` checks: a worker that is started later admits nobody until the file
    can be read.

    Raises
    ------
    BentoMLException
        The message names the file and what is wrong with it.
    """
    command = _serve_command()
    if command is None:
        return
    from serving.access import keys

    found = settings()
    try:
        if found.keys:
            keys.read(Path(found.keys))
        if found.jwks:
            from serving.access import tokens

            if not tokens.is_url(found.jwks):  # a provider that is away now may be back soon
                tokens.Tokens(tokens.read(found.jwks), found)
    except keys.KeysError as error:
        raise BentoMLException(str(error)) from None
    if found.keys or found.jwks:
        return
    host = str(command.params.get("host") or BENTOML_HOST)
    if not is_loopback(host):
        logger.warning(
            "NO KEYS: whoever reaches %s may ask everything of this server. Set OKAMOCHI_KEYS to a file that "
            "`python -m deploy keys add NAME --role predict` makes, or listen on 127.0.0.1.",
            host,
        )


def reserve_grpc_port() -> None:
    """Refuse to start where another process has the port of gRPC, which workers would share with it.

    Only the process of `bentoml serve` reserves the port, for its workers.

    Raises
    ------
    BentoMLException
        The message names the port and the setting.
    """
    command = _serve_command()
    port = settings().grpc_port
    if _reserved or command is None or not port:
        return
    from serving import reserved

    host = str(command.params.get("host") or BENTOML_HOST)
    if port == command.params.get("port"):
        raise BentoMLException(f"OKAMOCHI_GRPC_PORT={port} is the port of HTTP; gRPC needs one of its own.")
    try:
        _reserved.append(reserved.reserve(host, port, WAIT_FOR_OTHER_S))
    except OSError as error:
        raise BentoMLException(
            f"OKAMOCHI_GRPC_PORT={port}: cannot listen on {host}:{port} ({error.strerror}); stop the process "
            "that does, or set another port (0: no gRPC)."
        ) from None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def use_quick_parent() -> None:
    """Make BentoML's parent process replace a killed worker at once.

    The parent keeps the socket open, so requests wait meanwhile; BentoML alone checks every ten seconds.
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
            """Start the workers; called after circus has set its own signal handlers."""
            signals.ignore()
            return super().start_watchers()

        def manage_watchers(self) -> Any:
            """Replace dead workers; circus calls it every WORKERS_EVERY_S, never during another command."""
            if self._restarting or self._exclusive_running_command is not None:
                return None
            workers = [one for watcher in self.iter_watchers() for one in watcher.processes.values()]
            died = (worker.age() for worker in workers if worker.status in {DEAD_OR_ZOMBIE, UNEXISTING})
            if not due(died, time.monotonic() - self._managed):
                return None
            self._managed = time.monotonic()
            return super().manage_watchers()

    arbiters.Arbiter = Arbiter  # BentoML looks the class up later, when it starts the workers


def due(died: Iterable[float], since_s: float) -> bool:
    """Whether to replace dead workers: one that had served at once, one that cannot start every ten seconds.

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
    named = settings().models_lock
    return Path(named) if named else folder / models_lock.FILE


def locked_models(folder: Path) -> list[Entry]:
    """The models to serve: those of `models.lock` that `OKAMOCHI_MODELS` names, champions first.

    Raises
    ------
    BentoMLException
        There is nothing to serve, or a line of `models.lock` cannot be read. A replacement worker serves what
        the workers of its server served last instead, and raises only if they served nothing.
    """
    try:
        return declared.read(lock_of(folder), settings().models)
    except models_lock.LockError as error:
        served = [] if _serve_command() is not None else _served()
        if not served:
            raise BentoMLException(str(error)) from None
        return served


def _served() -> list[Entry]:
    """What the workers of this server served last; nothing in the process of `bentoml serve`."""
    from serving.scoring import orders
    from serving.shared import Shared

    return orders.served(Shared.of_server())


def _service_class() -> Any:
    """BentoML's service class.

    Raises
    ------
    BentoMLException
        It lacks a name that is used here.
    """
    lacking = guards.missing(guards.BENTOML)
    if lacking:
        raise BentoMLException(guards.sentence(guards.BENTOML, lacking))
    from _bentoml_sdk import Service

    return Service


class OkamochiService(_service_class()[Any]):  # type: ignore[misc] # untyped
    """A BentoML service with our own HTTP: the gateway wraps BentoML's application.

    The decorated class has `models`, lines of models.lock, and `folder`, the folder of that file.

    Attributes
    ----------
    live
        The live models and routes, once the application exists.
    """

    live: Live

    def __attrs_post_init__(self) -> None:
        claim_metrics_folder()
        reserve_grpc_port()
        use_quick_parent()
        super().__attrs_post_init__()
        # For the workers: a line that BentoML logs at their start, before our log is installed, would block
        # on a full pipe, and a killed worker would not be replaced.
        if os.environ.get("BENTOML_VERBOSITY", "0") == "0":
            os.environ["BENTOML_VERBOSITY"] = "-1"
        check_keys()
        check_stored(self.inner.models)
        self.models.extend(BentoModel(tag) for tag in dict.fromkeys(entry.tag for entry in self.inner.models))

    @property
    def doc(self) -> str:
        """The description in `/docs.json`, instead of BentoML's own text."""
        return DOC

    @cached_property
    def settings(self) -> Settings:
        return settings()

    @cached_property
    def shared(self) -> Shared:
        """What this worker shares with the others."""
        from serving.shared import Shared

        return Shared.of_server()

    def _load(self) -> Catalog:
        """Open the models."""
        from artifact import store
        from serving.scoring import catalog, orders

        found = orders.wanted(self.inner.models, orders.read(self.shared))
        models = catalog.load(
            [entry[:2] for entry in found.entries if entry.role == models_lock.CHAMPION],
            store.path_of,
            self.settings,
            [entry for entry in found.entries if entry.role != models_lock.CHAMPION],
            {entry.slot: entry for entry in orders.served(self.shared)},
        )
        default = found.names[0] if found.names[0] in found.unloaded else models.default
        return replace(models, unloaded=found.unloaded, default=default)

    def _keys(self) -> KeysWatch:
        """Have requests checked by the file of keys, from now on."""
        from serving.access.watch import KeysWatch
        from serving.http import access

        watch = KeysWatch(self.settings)
        access.require(watch.check)
        return watch

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
            shared=self.shared,
        )

    def _repository(self, gateway: Gateway, watch: Watch) -> Repository:
        """What loads and unloads models by order."""
        from artifact import store
        from serving.scoring.repository import Repository

        return Repository(watch, self.shared, lambda: gateway.catalog, store.tags_of)

    def _grpc(self, gateway: Gateway, tracer: Tracer | None) -> GrpcServer:
        """The gRPC server of this worker, on the address of HTTP."""
        from serving.grpc.place import place_of
        from serving.grpc.server import Server as GrpcServer

        options = click.get_current_context().params
        place = place_of(options, self.settings.grpc_port)
        return GrpcServer(
            gateway.live, self.settings, place, tracer, gateway.bodies, store=gateway.repository
        )

    def to_asgi(self, is_main: bool = True) -> App:
        """The application of one worker; BentoML calls this right before it starts uvicorn."""
        from serving.http.gateway import Gateway
        from serving.observe import logs, metrics, supervised, traces

        signals.ignore()
        signals.end_by_quit()
        logs.install()
        guards.tell_again()
        supervised.watch_the_rest()
        # Uvicorn trusts X-Forwarded-For from 127.0.0.1 by default; here only from proxies that are named.
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
            shared=self.shared,
            lock=lock_of(self.inner.folder),
        )
        self.live = gateway.live
        if self.settings.keys or self.settings.jwks:
            gateway.keys = self._keys()
        if self.settings.audit_log:
            from serving.http.lane import lane
            from serving.observe.audit import Audit

            lane.audit = Audit(Path(self.settings.audit_log))
        if self.settings.watch_s:
            gateway.watch = self._watch(gateway)
            gateway.repository = self._repository(gateway, gateway.watch)
        if self.settings.grpc_port and guards.usable(guards.HPACK):
            gateway.grpc = self._grpc(gateway, tracer)
        if guards.usable(guards.UVICORN):
            from serving.http import express

            express.install(gateway.live, gateway.observe_express, self.settings, tracer)
        return gateway


class Scoring:
    """The API that BentoML's own clients call: it scores rows with the default model.

    Over HTTP the gateway answers it (`serving.protocols.score`).
    """

    folder: Path
    models: list[Entry]
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
    """Called in the event loop of a worker before its first request."""
    from serving.http import listening

    listening.accept_many()
    _freeze()
    _end_with_parent()


def _end_with_parent() -> None:
    """End this worker, after its requests are answered, once its parent process is gone.

    The workers of a killed parent would otherwise hold the port forever. Polling, unlike PR_SET_PDEATHSIG,
    works on macOS as well, and does not depend on the thread of the parent that started the worker.
    """
    if os.getppid() == _PARENT:
        asyncio.get_running_loop().call_later(PARENT_EVERY_S, _end_with_parent)
        return
    logger.error("the parent process is gone: worker %d ends, once its requests are answered", os.getpid())
    os.kill(os.getpid(), signal.SIGTERM)


def _freeze() -> None:
    """Exclude the objects of start-up from garbage collections, which stalled a worker for up to a second."""
    gc.collect()
    gc.freeze()
