"""The overlay that updates itself: every pod serves what retraining promotes, and no request is lost."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.cluster.deployment import wait
from tests.cluster.load import Load
from tests.cluster.place import POSTGRES, Place
from tests.k8s.rendering import compose, render

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.serving.artifacts import Made

NODE_PORT = 30301
LIVE_S = 60
"""Within which every pod serves what was promoted."""
LOOK = """
import json, pathlib, urllib.request
told = json.load(urllib.request.urlopen("http://127.0.0.1:3000/models"))
assert not told["not_live"], told
print(pathlib.Path("/models/models.lock").read_text().split()[1], json.dumps(told["models"][0]["metrics"]))
"""
OURS = {
    "Deployment": "okamochi",
    "HorizontalPodAutoscaler": "okamochi",
    "PodDisruptionBudget": "okamochi",
    "Service": "okamochi",
}


@pytest.fixture
def updating(mlflow: Place, kinds: None, good_image: str, tmp_path: Path) -> Iterator[Place]:  # noqa: ARG001
    """Beside the namespace's MLflow, with the images of this machine; retraining is of what is served."""
    images = [
        {"name": "okamochi", "newName": good_image.partition(":")[0], "newTag": good_image.partition(":")[2]},
        {"name": "postgres", "newName": POSTGRES.partition(":")[0], "newTag": "local"},
    ]
    port = {"spec": {"ports": [{"port": 80, "nodePort": NODE_PORT}]}}
    requests = {"requests": {"cpu": "100m", "memory": "128Mi"}}
    pod = {
        "containers": [
            {"name": "okamochi", "resources": {"requests": {"cpu": "100m"}}},
            {"name": "follow", "resources": requests},
        ],
        "initContainers": [{"name": name, "resources": requests} for name in ("models", "catch-up")],
    }
    patches = [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "okamochi"}, **port},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "okamochi"},
            "spec": {"template": {"spec": pod}},
        },
    ]
    objects = render(
        compose(
            tmp_path / "overlay",
            on="overlays/self-updating",
            namespace=mlflow.namespace,
            images=images,
            patches=[{"patch": yaml.safe_dump(patch)} for patch in patches],
        )
    )
    # MLflow and its database are there, and what the other tests set of them stays.
    new = [
        each
        for each in objects
        if "mlflow" not in each["metadata"]["name"] or each["kind"] == "NetworkPolicy"
    ]
    new = [each for each in new if "postgres" not in each["metadata"]["name"]]
    new = [each for each in new if each["kind"] not in {"Namespace", "CronJob"}]
    mlflow.apply(new)
    yield mlflow
    ours = [each for each in new if OURS.get(each["kind"]) == each["metadata"]["name"]]
    assert len(ours) == len(OURS)
    mlflow.kubectl("delete", "-f", "-", given=yaml.safe_dump_all(ours))


def served(place: Place) -> set[str]:
    """What pods serve: the tag that their models.lock names, and the figures of the model that is live."""
    pods = place.get("pods", "--selector=app.kubernetes.io/component=server")["items"]
    return {
        place.kubectl("exec", pod["metadata"]["name"], "-c", "okamochi", "--", "python", "-c", LOOK)
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
    }


def replaced(before: str, now: set[str]) -> bool:
    """Whether every pod serves the same other model; it opens one a moment after its models.lock names it."""
    if len(now) > 1:
        return False
    (found,) = now
    return all(was != is_ for was, is_ in zip(before.split(" ", 1), found.split(" ", 1), strict=True))


def retrain(place: Place, name: str) -> str:
    """A Job of the component retraining, of the use case that is served; what it printed."""
    job = json.loads(
        place.kubectl(
            "create", "job", name, "--from=cronjob/okamochi-retraining", "--dry-run=client", "--output=json"
        )
    )
    container = job["spec"]["template"]["spec"]["containers"][0]
    wanted = {"USECASE": "breast_cancer", "TRIALS": "2"}
    for variable in container["env"]:
        if variable["name"] in wanted:
            variable["value"] = wanted[variable["name"]]
    container["resources"]["requests"] = {"cpu": "100m", "memory": "256Mi"}
    place.apply([job])
    assert place.job(name) == "Complete", place.log(name)
    return place.log(name)


def test_what_retraining_promotes_is_served_by_every_pod(
    updating: Place, made: Made, figures: dict[str, Any]
) -> None:
    """While requests come; what the gate refuses changes nothing, and new pods begin with the champion."""
    updating.kubectl(
        "wait", "deployment/okamochi", "--for=jsonpath={.status.availableReplicas}=3", "--timeout=300s"
    )
    (before,) = served(updating)
    with Load(f"http://127.0.0.1:{NODE_PORT}", {"features": made.rows[:1]}, rate=50) as load:
        retrain(updating, "better")
        seconds = wait(lambda: replaced(before, served(updating)), "the new model is live", LIVE_S)
        (promoted,) = served(updating)

        assert "refused; the champion stays" in retrain(updating, "no-better")
        time.sleep(15)  # more than one look of each follower
        assert served(updating) == {promoted}

        updating.kubectl("rollout", "restart", "deployment/okamochi")
        updating.rolled_out("deployment/okamochi")
        assert served(updating) == {promoted}
    figures["self_updating"] = {**load.outcome.figures(), "live_in_every_pod_s": round(seconds)}

    assert not load.outcome.lost
