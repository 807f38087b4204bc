"""A real `bentoml serve` of given artifacts, in a folder and with a BENTOML_HOME of its own."""

from __future__ import annotations

import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.servers import CHECKOUT, Server, free_port, started

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


def environment(folder: Path) -> dict[str, str]:
    """Of every process that belongs to the server in `folder`."""
    return {
        "BENTOML_HOME": str(folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(folder),
        "OKAMOCHI_DEFAULT_DEADLINE_MS": "60000",  # a request may wait for seconds on a busy machine
    }


def prepare(folder: Path, artifacts: Mapping[str, tuple[Path, str]]) -> None:
    """Put artifacts (folder, version) into a model store of `folder`'s own, beside a service of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("serving", "artifact"):
        (folder / name).symlink_to(CHECKOUT / name)
    shutil.copy(CHECKOUT / "service.py", folder)  # BentoML follows a link to where it leads
    (folder / "bentoml").mkdir()
    lines = store(folder, [(name, path, version) for name, (path, version) in artifacts.items()])
    (folder / "models.lock").write_text("".join(f"{line}\n" for line in lines))


def store(folder: Path, artifacts: Sequence[tuple[str, Path, str]]) -> list[str]:
    """Put artifacts (name, folder, version) into the model store of `folder`; their lines of models.lock.

    In this process, as one of its own would spend most of a second on its imports.
    """
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.models import ModelStore

    from artifact.store import put

    home = folder / "bentoml"
    for each in ("models", "bentos", "envs", "tmp"):
        (home / each).mkdir(parents=True, exist_ok=True)
    with (
        BentoMLContainer.bentoml_home.patch(str(home)),
        BentoMLContainer.model_store.patch(ModelStore(home / "models")),
    ):
        return [f"{name} {put(path, name=name, version=version)}" for name, path, version in artifacts]


@contextmanager
def bento_server(
    folder: Path,
    *arguments: str,
    settings: Mapping[str, str] | None = None,
    ready: str = "/readyz",
    within: Sequence[str] = (),
    port: int | None = None,
) -> Iterator[Server]:
    """Serve what `prepare` put into `folder`, with more arguments of `bentoml serve`.

    `within` is a command that makes the process's surroundings and then becomes the rest of its arguments.
    """
    port = port or free_port()
    command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1", "--port", str(port)]
    scheme = "https" if "--ssl-certfile" in arguments else "http"
    with started(
        [*within, *command, *arguments],
        url=f"{scheme}://127.0.0.1:{port}",
        ready=ready,
        log=folder / "server.log",
        environment={**environment(folder), **(settings or {})},
        cwd=folder,
    ) as server:
        yield server
