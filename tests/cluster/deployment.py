"""A copy of the checkout, the Deployment that it brings to a cluster, and how to wait for its pods."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifact import manifest
from deploy import cluster as clusters
from deploy.cluster import NAME
from tests.cluster.load import Load
from tests.servers import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.cluster import Cluster
    from tests.serving.artifacts import Made

LOADER = os.environ.get("OKAMOCHI_IMAGE_LOADER", "")
SECONDS = 180  # that pods may take to become ready, be replaced or go


@dataclass(frozen=True)
class Site:
    """A copy of the checkout with a registry and a model store of its own."""

    folder: Path
    context: str
    loader: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"},
            "BENTOML_HOME": str(self.folder / "bentoml"),
            "OKAMOCHI_STATE_DIR": str(self.folder / "state"),
        }

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `make` here, on the cluster."""
        command = ["make", *arguments, f"CONTEXT={self.context}", f"IMAGE_LOADER={self.loader}"]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def run(self, code: str, *arguments: str) -> str:
        """Run Python with this site's code and state."""
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


CROWN = """
import sys
from pathlib import Path
from artifact import manifest
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION
name, path = sys.argv[1], Path(sys.argv[2])
registry = Registry()
artifact = manifest.load(path)
run = registry.start(name, f"{name} run", {})
fields = {key: getattr(artifact.manifest, key) for key in artifact.manifest.__struct_fields__}
for key in ("files", "format"):
    fields.pop(key)
manifest.write(path, signature=artifact.signature, golden=artifact.golden(), **{**fields, "run_id": run})
version = registry.register(manifest.load(path), run, tags={}, metrics={}, description="", about="")
registry.set_alias(name, CHAMPION, version)
"""
PUT = """
import sys
from pathlib import Path
from artifact import store
print(store.put(Path(sys.argv[2]), name=sys.argv[1], version=sys.argv[3]))
"""


def lay_out(folder: Path, context: str) -> Site:
    """Copy what git knows, so that nothing of the checkout changes and nothing of its state is used."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listing, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for file in files.splitlines():
        if (CHECKOUT / file).is_file():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / file, folder / file)
    (folder / ".venv").symlink_to(CHECKOUT / ".venv")
    for home in ("bentoml", "state"):
        (folder / home).mkdir()
    loader = LOADER.split()
    if loader and "/" in loader[0]:
        loader[0] = str((CHECKOUT / loader[0]).resolve())
    return Site(folder, context, " ".join(loader))


@dataclass(frozen=True)
class Served:
    """Three ready pods of version 1.

    Parameters
    ----------
    url
        Of their Service.
    image
        That they run.
    figures
        What is written to reports/cluster.json.
    """

    site: Site
    cluster: Cluster
    url: str
    image: str
    made: Made
    figures: dict[str, Any]

    def load(self, rows: int = 1, rate: int = 300) -> Load:
        return Load(self.url, self.body(rows), rate=rate)

    def body(self, rows: int) -> dict[str, Any]:
        """Of a request of so many rows."""
        return {"features": (self.made.rows * (1 + rows // len(self.made.rows)))[:rows]}

    def bundle(self, artifact: Path, version: str) -> None:
        """Have `models.lock` name an artifact that no training gave."""
        tag = self.site.run(PUT, "breast_cancer", str(artifact), version).strip()
        (self.site.folder / "models.lock").write_text(f"breast_cancer {tag}\n")


def image_of(cluster: Cluster) -> str:
    (container,) = cluster.get(clusters.DEPLOYMENT)["spec"]["template"]["spec"]["containers"]
    return str(container["image"])


def ready_pods(cluster: Cluster) -> list[str]:
    """Names, the oldest first."""
    found = [pod for pod in clusters.pods(cluster) if clusters.is_ready(pod)]
    found.sort(key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
    return [str(pod["metadata"]["name"]) for pod in found]


def steady(cluster: Cluster, pods: int = 3) -> None:
    """Wait until exactly so many pods are there, all ready, and none is going."""
    cluster.kubectl("rollout", "status", clusters.DEPLOYMENT, f"--timeout={SECONDS}s")
    wait(lambda: len(ready_pods(cluster)) == len(cluster.get("pods")["items"]) == pods, f"{pods} steady pods")


def quick_to_shrink(cluster: Cluster, **more: Any) -> None:
    """Have pods taken away after 15 s, not five minutes: a start may look like load to the autoscaler."""
    policies = [{"type": "Pods", "value": 6, "periodSeconds": 15}]
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 15, "policies": policies}}
    cluster.kubectl("patch", "hpa", NAME, "--patch", json.dumps({"spec": {"behavior": behavior, **more}}))


def wait(happened: Callable[[], bool], what: str, seconds: float = SECONDS) -> float:
    """Wait for it; gives the seconds that it took."""
    began = time.monotonic()
    while not happened():
        assert time.monotonic() - began < seconds, f"{what}: not within {seconds} s"
        time.sleep(0.5)
    return time.monotonic() - began


def off_golden(made: Made, folder: Path) -> Path:
    """A copy of an artifact, sealed anew, whose golden rows say what its model does not."""
    path = Path(shutil.copytree(made.path, folder))
    artifact = manifest.load(path)
    golden = artifact.golden()
    wrong = manifest.Golden(
        records=golden.records,
        scores=[list(reversed(scores)) for scores in golden.scores],
        tolerance=golden.tolerance,
    )
    fields = {key: getattr(artifact.manifest, key) for key in artifact.manifest.__struct_fields__}
    for key in ("files", "format"):
        fields.pop(key)
    manifest.write(path, signature=artifact.signature, golden=wrong, **fields)
    return path
