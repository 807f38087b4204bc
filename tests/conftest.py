"""What every test may use: programs that a machine may lack, and champions that are trained once and kept."""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.kept import cache, locked
from tests.servers import PATIENCE_S, postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    import pandas as pd

CHECKOUT = Path(__file__).resolve().parent.parent
for variable in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"):
    os.environ.pop(variable, None)  # ARGS of `make test` are not for the commands of make that tests run
# A container often sets this, and then each of the hundreds of processes here compiles our modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
REQUIRE_ALL = os.environ.get("OKAMOCHI_REQUIRE_ALL") == "1"
TRIALS = 3
"""Enough for a model that does more than guess; the search itself has its own tests."""
KEPT = 6
"""Sets of champions that stay in the cache, for branches that take turns."""

os.environ.update(
    BENTOML_DO_NOT_TRACK="True",
    MLFLOW_DISABLE_TELEMETRY="true",
    MLFLOW_HTTP_REQUEST_TIMEOUT=str(PATIENCE_S),  # in place of our 10 s
    OMP_NUM_THREADS="1",
)
# httpx gives up after 5 s, which a busy machine may need for one reply. Its functions share this default.
_patience: httpx.Timeout = inspect.signature(httpx.Client).parameters["timeout"].default
_patience.connect = _patience.read = _patience.write = _patience.pool = PATIENCE_S
# A shell starts its background jobs with SIGINT ignored, which whatever a test starts would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


DEEP = ("tests/end_to_end/", "tests/faults/")
"""Every test of these folders is marked `deep`, so a new file there is left to `make test-deep` as well."""
LONG = (
    *DEEP, "tests/training/imported/", "tests/training/search/", "tests/deploy/", "tests/serving/console/",
    "tests/serving/grpc/", "tests/examples/",
)  # fmt: skip
"""Files that take minutes: they begin first, so that no process works alone at the end."""


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(DEEP):
            item.add_marker("deep")
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where OKAMOCHI_REQUIRE_ALL=1 everything is installed, so a test that is skipped has failed."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which OKAMOCHI_REQUIRE_ALL=1 forbids: {call.excinfo}"
    return report


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Give the path of a program, or skip with a line that names it."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return find


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Give the SQLAlchemy URL of a real PostgreSQL; tests make tables, schemas or databases of their own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    path = shutil.which("postgres")
    if not found and path is None:
        pytest.skip("postgres is not installed")
    with postgres(found[-1] if found else Path(str(path)).parent) as url:
        yield url


@pytest.fixture(scope="session")
def champions() -> str:
    """The tracking URI of a registry with a champion of every use case, for tests that only read it.

    They are trained with few trials, once for each state of what a training reads.
    """
    folder = cache() / "champions" / inputs_digest() / "registry"
    with locked(folder.with_name("lock")):
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            train_all(folder)
            (folder / "done").touch()
    forget_old(folder.parent)
    return f"sqlite:///{folder}/mlflow.db"


TRAIN_ALL = """
import sys
from training.__main__ import main
trials, *names = sys.argv[1:]
for name in names:
    if code := main(["run", name, "--trials", trials]):
        sys.exit(f"{name}: exit code {code}")
"""
"""One process trains them all: each alone would spend more on its imports and database than on its model."""


def train_all(state: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment["OKAMOCHI_STATE_DIR"] = str(state)
    names = sorted(path.stem for path in (CHECKOUT / "usecases").glob("*.toml"))
    command = [sys.executable, "-c", TRAIN_ALL, str(TRIALS), *names]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def inputs_digest() -> str:
    """Everything that a champion follows from."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {TRIALS}".encode())
    files = [
        *(CHECKOUT / "artifact").rglob("*.py"),
        *(CHECKOUT / "training").rglob("*.py"),
        *(CHECKOUT / "usecases").iterdir(),
        CHECKOUT / "requirements" / "training.txt",
    ]
    for file in sorted(file for file in files if file.is_file()):
        digest.update(f"{file.relative_to(CHECKOUT)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def forget_old(current: Path) -> None:
    """Keep the cache small; a session that runs now has touched what it uses."""
    os.utime(current)
    by_age = sorted(current.parent.iterdir(), key=lambda folder: -folder.stat().st_mtime)
    for folder in by_age[KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def bought_table() -> pd.DataFrame:
    """Give the table that the bought pipeline is fitted on; tests only read it."""
    from tests.artifact import bought

    return bought.table()


@pytest.fixture(scope="session")
def bought_pipeline(bought_table: pd.DataFrame) -> Any:
    """Give a fitted pipeline that reads raw columns; tests only read it."""
    from tests.artifact import bought

    return bought.pipeline(bought_table)


@pytest.fixture
def bentoml_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give this process, and those it starts, a BENTOML_HOME of the test's own."""
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.models import ModelStore

    home = tmp_path / "bentoml"
    for folder in ("models", "bentos", "envs", "tmp"):
        (home / folder).mkdir(parents=True)
    monkeypatch.setenv("BENTOML_HOME", str(home))
    BentoMLContainer.bentoml_home.set(str(home))
    BentoMLContainer.model_store.set(ModelStore(home / "models"))
    yield home
    BentoMLContainer.bentoml_home.reset()
    BentoMLContainer.model_store.reset()
