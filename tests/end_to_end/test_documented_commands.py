"""Commands of the pages, run as they stand in a copy of the tree whose registry has models already."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import pytest

from artifact import manifest
from artifact.manifest import MANIFEST
from tests.end_to_end.documented import RUN
from tests.serving.artifacts import iris
from training.decide.aliases import make_champion
from training.registry.mlflow_registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.end_to_end.conftest import Copy

TABLE = "visits,plan,churned\n" + "".join(
    f"{visits},{plan},{'yes' if visits < 9 else 'no'}\n" for visits in range(40) for plan in ("free", "paid")
)


def register_two(copy: Copy, name: str, folder: Path) -> None:
    """Two versions, the second the champion after the first."""
    registry = Registry(f"sqlite:///{copy.folder}/mlflow.db")
    for number in range(2):
        made = iris(folder / f"{name}-{number}")
        run = registry.start(name, name, {})
        sealed = msgspec.json.decode((made.path / MANIFEST).read_bytes())["manifest"]
        artifact = manifest.load(made.path)
        for key in ("files", "format"):
            sealed.pop(key)
        manifest.write(
            made.path,
            signature=artifact.signature,
            golden=artifact.golden(),
            **{**sealed, "name": name, "run_id": run},
        )
        version = registry.register(
            manifest.load(made.path), run, tags={}, metrics={}, description="", about=""
        )
        make_champion(registry, version)


@pytest.mark.timeout(900)
def test_the_commands_of_the_pages_work_as_they_stand(copy: Copy, tmp_path: Path) -> None:
    """One after the other, as a reader of quickstart and operations would type them."""
    for name in ("iris", "credit"):
        register_two(copy, name, tmp_path)
    (copy.folder / "customers.csv").write_text(TABLE)
    for command in RUN:
        line = command
        if "TIME" in command:
            (archive,) = (copy.folder / "backups").glob("okamochi-*.tar.gz")
            line = command.replace("okamochi-TIME.tar.gz", archive.name)
            assert copy.run("make", "clean").returncode == 0

        done = copy.run("bash", "-c", f'PATH="$PWD/.venv/bin:$PATH"; {line}')

        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
    lock = (copy.folder / "models.lock").read_text()
    assert re.fullmatch(r"iris okamochi-iris:1-\w+\ncredit okamochi-credit:1-\w+\n", lock), lock
    shown = copy.run(".venv/bin/python", "-m", "training", "show", "credit").stdout
    assert re.search(r"version +2 +1", shown), shown
