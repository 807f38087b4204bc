"""The servers that are compared: how each is started, and which of its routes are measured."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import dialects
from benchmarks.environments import (
    CHECKOUT,
    HERE,
    Absent,
    compiled_server,
    onnxruntime_library,
    python_of,
    say,
)
from benchmarks.models import CLASSES, WIDTH, Prepared
from benchmarks.servers import Command

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.dialects import Dialect

APPS = HERE / "contestants"


@dataclass(frozen=True)
class Setting:
    """The model of a contestant, its files, its port and its folder."""

    prepared: Prepared
    model: Path
    port: int
    scratch: Path


@dataclass(frozen=True)
class Contestant:
    """A server and its measured routes.

    Parameters
    ----------
    start
        Makes the command; raises `Absent` where the contestant cannot run here.
    routes
        The routes, by the name of their row in the results.
    quick, quick_routes
        Whether it is part of a quick run, and with which routes; empty for all.
    """

    name: str
    titles: dict[str, str]
    routes: dict[str, Dialect]
    start: Callable[[Setting], Command]
    quick: bool = False
    quick_routes: tuple[str, ...] = ()


def uvicorn(python: str, app: str, setting: Setting, *extra: str) -> Command:
    argv = [python, "-m", "uvicorn", app, "--http", "httptools", "--loop", "uvloop", "--no-access-log"]
    argv += ["--port", str(setting.port), *extra]
    return Command(argv, APPS, {"BENCH_MODEL": str(setting.model)})


def empty(setting: Setting) -> Command:
    return uvicorn(sys.executable, "empty_app:app", setting, "--lifespan", "off")


def compiled(setting: Setting) -> Command:
    argv = [
        str(compiled_server()),
        str(setting.port),
        str(setting.model / "model.onnx"),
        setting.prepared.precision,
    ]
    argv += [str(WIDTH), str(len(CLASSES))]
    return Command(argv, setting.scratch, {"ORT_DYLIB_PATH": str(onnxruntime_library())})


def fastapi(setting: Setting) -> Command:
    return uvicorn(str(python_of("fastapi")), "fastapi_app:app", setting)


def flask(setting: Setting) -> Command:
    argv = [str(python_of("flask")), "-m", "gunicorn", "flask_app:app", "--bind", f"127.0.0.1:{setting.port}"]
    argv += ["--workers", "1", "--worker-class", "gthread", "--threads", "4", "--log-level", "warning"]
    argv += ["--worker-connections", "1000", "--keep-alive", "60"]
    return Command(argv, APPS, {"BENCH_MODEL": str(setting.model)})


def litserve(setting: Setting) -> Command:
    argv = [str(python_of("litserve")), str(APPS / "litserve_app.py"), str(setting.port)]
    return Command(argv, setting.scratch, {"BENCH_MODEL": str(setting.model)})


def mlserver(setting: Setting) -> Command:
    """One worker that scores in its own process, which is fastest for such a small model."""
    server = {
        "host": "127.0.0.1",
        "http_port": setting.port,
        "grpc_port": setting.port + 1,
        "metrics_port": setting.port,
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "debug": False,
        "use_structured_logging": False,
    }
    model = {
        "name": setting.prepared.name,
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(setting.model / "model.joblib"), "version": "1"},
    }
    (setting.scratch / "settings.json").write_text(json.dumps(server))
    (setting.scratch / "model-settings.json").write_text(json.dumps(model))
    return Command([str(python_of("mlserver").parent / "mlserver"), "start", "."], setting.scratch)


def bentoml(setting: Setting) -> Command:
    argv = [sys.executable, "-m", "bentoml", "serve", "bentoml_app:Scorer", "--working-dir", str(APPS)]
    argv += ["--host", "127.0.0.1", "--port", str(setting.port)]
    return Command(argv, setting.scratch, {**bento_home(setting), "BENCH_MODEL": str(setting.model)})


def mlflow(setting: Setting) -> Command:
    argv = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(setting.model / "mlflow")]
    argv += ["--env-manager", "local", "--workers", "1", "--host", "127.0.0.1", "--port", str(setting.port)]
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    return Command(
        argv, setting.scratch, {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": path}
    )  # it execs uvicorn


def ours(setting: Setting) -> Command:
    """The checkout's service, from a copy with its own models.lock."""
    if not (CHECKOUT / "serving" / "http" / "express.py").is_file():
        raise Absent("serving/http/express.py is not there yet")
    return served(setting, {"OKAMOCHI_EXPRESS": "1"})


def gateway(setting: Setting) -> Command:
    """The same without the express lane."""
    return served(setting, {"OKAMOCHI_EXPRESS": "0"})


def served(setting: Setting, environment: dict[str, str]) -> Command:
    """`bentoml serve` of a copy of the checkout, with its own model store and models.lock."""
    if not (CHECKOUT / "service.py").is_file():
        raise Absent("service.py is not there yet")
    copy = setting.scratch / "checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("artifact", "serving"):
        shutil.copytree(CHECKOUT / folder, copy / folder, ignore=ignored)
    for file in ("service.py", "bentofile.yaml"):
        shutil.copy(CHECKOUT / file, copy / file)
    home = bento_home(setting)
    name = setting.prepared.name
    put = [sys.executable, "-m", "benchmarks.store", str(setting.model / "artifact"), name]
    tag = say(put, folder=CHECKOUT, environment=home).split()[-1]
    (copy / "models.lock").write_text(f"{name} {tag}\n")
    argv = [sys.executable, "-m", "bentoml", "serve", ".", "--host", "127.0.0.1", "--port", str(setting.port)]
    return Command(argv, copy, {**home, **environment})


def bento_home(setting: Setting) -> dict[str, str]:
    home = setting.scratch / "bentoml"
    home.mkdir(exist_ok=True)
    return {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}


def one(
    name: str, title: str, dialect: Dialect, start: Callable[[Setting], Command], quick: bool = False
) -> Contestant:
    return Contestant(name, {name: title}, {name: dialect}, start, quick=quick)


ROUTES = {"predict": dialects.FEATURES, "v2": dialects.OIP, "invocations": dialects.MLFLOW}
TITLES = {"predict": "/predict", "v2": "/v2/.../infer", "invocations": "/invocations"}

OURS = Contestant(
    "okamochi", {name: f"Okamochi {TITLES[name]}" for name in ROUTES}, dict(ROUTES), ours, quick=True
)
GATEWAY = Contestant(
    "okamochi-gateway",
    {f"{name}-gateway": f"Okamochi {TITLES[name]}, lane 2" for name in ROUTES},
    {f"{name}-gateway": dialect for name, dialect in ROUTES.items()},
    gateway,
    quick=True,
    quick_routes=("predict-gateway",),
)
EMPTY = one("empty", "empty ASGI app (uvicorn)", dialects.EMPTY, empty, quick=True)
COMPILED = one("compiled", "compiled (axum + onnxruntime)", dialects.FEATURES, compiled, quick=True)
FASTAPI = one("fastapi", "FastAPI + scikit-learn", dialects.FEATURES, fastapi, quick=True)
FLASK = one("flask", "Flask + gunicorn", dialects.FEATURES, flask)
MLSERVER = one("mlserver", "MLServer", dialects.OIP, mlserver)
LITSERVE = one("litserve", "LitServe", dialects.FEATURES, litserve)
BENTOML = one("bentoml", "BentoML's batchable API", dialects.BENTOML, bentoml, quick=True)
MLFLOW = one("mlflow", "mlflow models serve", dialects.MLFLOW, mlflow)

CONTESTANTS = (EMPTY, COMPILED, OURS, GATEWAY, FASTAPI, FLASK, MLSERVER, LITSERVE, BENTOML, MLFLOW)
WITH_ITS_LIBRARY = (replace(OURS, routes={"predict": dialects.FEATURES}), FASTAPI, MLFLOW)
"""For the model that has no ONNX form: ours scores it in a process of its own, the others in the server."""
