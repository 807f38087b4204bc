"""What `kubectl apply -k` would apply: overlays as they are, and the base or an overlay with components."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

Object = dict[str, Any]

K8S = Path(__file__).resolve().parents[2] / "k8s"
COMPONENTS = sorted(folder.name for folder in (K8S / "components").iterdir() if folder.is_dir())
OVERLAYS = sorted(folder.name for folder in (K8S / "overlays").iterdir() if folder.is_dir())
SERVER = {"app.kubernetes.io/name": "okamochi", "app.kubernetes.io/component": "server"}
NEEDS = {
    "backup": ["mlflow"],
    "follow": ["mlflow"],
    "live-quality": ["mlflow"],
    "mlflow-auth": ["mlflow"],
    "retraining": ["mlflow"],
    "score": ["mlflow"],
    "tuning": ["mlflow"],
}
"""Components that stand on another."""


def render(folder: Path) -> list[Object]:
    """The objects of a kustomization."""
    kubectl = shutil.which("kubectl")
    assert kubectl is not None
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def compose(
    folder: Path, *components: str, on: str = "base", namespace: str = "okamochi", **more: Any
) -> Path:
    """Write a kustomization of the base or an overlay with components, as a user would; its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    needed = [need for component in components for need in NEEDS.get(component, [])]
    text = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": [os.path.relpath(K8S / on, folder.resolve())] if on else [],
        "components": [
            os.path.relpath(K8S / "components" / name, folder.resolve())
            for name in dict.fromkeys([*needed, *components])
        ],
        **more,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(text))
    return folder


def rendered(*components: str, on: str = "base", **more: Any) -> list[Object]:
    """`render` of `compose`, with nothing left behind."""
    with tempfile.TemporaryDirectory(prefix="okamochi-") as folder:
        return render(compose(Path(folder), *components, on=on, **more))


def of_kind(objects: Sequence[Object], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]


def one(objects: Sequence[Object], kind: str, name: str) -> Object:
    (found,) = [each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def pod_template(workload: Object) -> Object:
    """The pod of a Deployment, StatefulSet, Job or CronJob: metadata and spec."""
    spec = workload["spec"]
    if workload["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template: Object = spec["template"]
    return template


def workloads(objects: Sequence[Object]) -> list[Object]:
    return of_kind(objects, "Deployment", "StatefulSet", "Job", "CronJob")
