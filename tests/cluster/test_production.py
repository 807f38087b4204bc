"""The overlay that a platform team merges, applied as k8s/README.md says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from deploy import cluster as clusters
from serving.access import keys
from tests.cluster.place import POSTGRES, TRAINING, Place
from tests.k8s.rendering import compose, of_kind, render

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.serving.artifacts import Made

REGISTRY = "registry.example.com"
LOOK = """
import os
from pathlib import Path
def refused(path):
    try:
        Path(path).write_text('x')
    except OSError:
        return True
    return False
token = Path('/var/run/secrets/kubernetes.io').exists()
print(os.getuid(), refused('/x'), refused('/bento/x'), refused('/tmp/x'), token)
"""


@pytest.fixture
def production(
    mlflow: Place,
    kinds: None,  # noqa: ARG001
    good_image: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    """With the images of this machine, and of the server as much of a core as three find on a laptop."""
    images = [
        {"name": f"{REGISTRY}/okamochi", **parts(good_image)},
        {"name": f"{REGISTRY}/okamochi-training", **parts(TRAINING)},
        {"name": "postgres", **parts(POSTGRES)},
    ]
    server = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "okamochi"}}
    resources = {"containers": [{"name": "okamochi", "resources": {"requests": {"cpu": "100m"}}}]}
    smaller = yaml.safe_dump(server | {"spec": {"template": {"spec": resources}}})
    objects = render(
        compose(
            tmp_path / "overlay",
            on="overlays/production",
            namespace=mlflow.namespace,
            images=images,
            patches=[{"patch": smaller}],
        )
    )
    secret, key = keys.make("test", ["predict", "observe"])
    keys.write(tmp_path / "keys.json", [key])
    secrets = {
        "okamochi-keys": [f"--from-file={tmp_path / 'keys.json'}"],
        "okamochi-clients": [f"--from-literal={name}={secret}" for name in ("prometheus", "loadtest")],
    }
    for name, content in secrets.items():
        mlflow.kubectl("create", "secret", "generic", name, *content)
    monkeypatch.setenv("OKAMOCHI_CLIENT_KEY", secret)
    mlflow.apply(objects)
    yield mlflow
    for name in secrets:
        mlflow.kubectl("delete", "secret", name)
    ours = [
        each for each in objects if each["metadata"]["name"] == "okamochi" and each["kind"] != "Namespace"
    ]
    mlflow.kubectl("delete", "-f", "-", given=yaml.safe_dump_all(ours))
    assert of_kind(ours, "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "PodMonitor")


def parts(image: str) -> dict[str, str]:
    name, _, tag = image.partition(":")
    return {"newName": name, "newTag": tag}


def test_production_serves_with_three_pods_that_are_locked_in(
    production: Place, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside MLflow, backups and retraining; nothing is to be had in a pod but what it serves."""
    production.kubectl(
        "wait", "deployment/okamochi", "--for=jsonpath={.status.availableReplicas}=3", "--timeout=180s"
    )
    production.rolled_out("deployment/okamochi-mlflow")
    looked = production.kubectl("exec", "deployment/okamochi", "--", "python", "-c", LOOK)
    with production.forwarded("service/okamochi", 80) as url:
        reply = clusters.fetch(f"{url}/predict", {"features": made.rows[:1]})
        monkeypatch.delenv("OKAMOCHI_CLIENT_KEY")
        refused = clusters.fetch(f"{url}/predict", {"features": made.rows[:1]})
    budget = production.get("poddisruptionbudget", "okamochi")["status"]

    assert looked.split() == ["10001", "True", "True", "False", "False"]
    assert reply["version"] == "1", json.dumps(reply)
    assert refused["status"] == 401, json.dumps(refused)
    assert (budget["currentHealthy"], budget["disruptionsAllowed"]) == (3, 1)
