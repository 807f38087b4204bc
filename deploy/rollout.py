"""Roll a new champion out to a cluster, check its golden rows through the Service, undo it if one differs."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact import manifest, store
from artifact.encode import BadRows, Encoder
from artifact.signature import labels
from deploy import image as images
from deploy.cluster import DEPLOYMENT, NAME, PATIENCE_S, Cluster, addresses, fetch, reasons
from deploy.image import CannotDeploy, DeployFailed

if TYPE_CHECKING:
    from artifact.manifest import Artifact

SHOWN = 3
"""How many wrong answers are printed."""


@dataclass(frozen=True)
class Expected:
    """A model that must answer after the rollout."""

    name: str
    version: str
    artifact: Artifact


def check_deployed(cluster: Cluster) -> None:
    """Check that there is a Deployment, before an image is built.

    Raises
    ------
    CannotDeploy
    """
    found = cluster.kubectl("get", "deployments", "--output", "name").split()
    if f"deployment.apps/{NAME}" not in found:
        raise CannotDeploy(
            f"There is no Deployment {NAME} on {cluster.context}. Make it first: make cluster, or kubectl "
            "apply -k k8s/overlays/production."
        )


def rollout(cluster: Cluster, image: str, *, timeout_s: int) -> int:
    """Roll out an image with the models of `models.lock`; returns 0, or 1 if the rollout was undone.

    Raises
    ------
    CannotDeploy, ArtifactError, LockError
        Nothing was changed.
    """
    expected = [expect(name, tag) for name, tag in images.bundled().items()]
    before = cluster.get(DEPLOYMENT)
    revision = before["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
    old = image_of(before)
    print(f"{cluster.context}: {old} -> {image}", flush=True)
    cluster.kubectl("set", "image", DEPLOYMENT, f"{NAME}={image}")
    wrong = problems(cluster, expected, timeout_s)
    if not wrong:
        versions = ", ".join(f"{model.name} version {model.version}" for model in expected)
        print(f"Rolled out: {versions}; the scores of the golden rows are those of training.")
        return 0
    print("\n".join(wrong), file=sys.stderr)
    if old == image:
        print(f"{image} was deployed before, so there is nothing to undo.", file=sys.stderr)
        return 1
    undo(cluster, revision, timeout_s)
    print(f"The rollout was undone: {old} serves again.", file=sys.stderr)
    return 1


def problems(cluster: Cluster, expected: list[Expected], timeout_s: int) -> list[str]:
    """Wait for the new pods, then check the golden rows; each sentence is a reason to undo the rollout."""
    if not settled(cluster, timeout_s):
        return [f"The new pods did not become ready. {reasons(cluster)}"]
    try:
        with addresses(cluster) as urls:
            if not urls:
                return ["No pod answers."]
            for url in urls:
                await_handover(url, expected)
            return [wrong for url in urls for model in expected for wrong in ask(url, model)][:SHOWN]
    except (OSError, ValueError) as error:
        return [f"The Service did not answer: {error}"]


def await_handover(url: str, expected: list[Expected]) -> None:
    """Wait until ten replies in a row come from new pods: nodes route to the last old pod for a moment."""
    end = time.monotonic() + PATIENCE_S
    in_a_row = 0
    while in_a_row < 10 and time.monotonic() < end:
        found = {model["name"]: model["version"] for model in fetch(f"{url}/models").get("models", [])}
        as_expected = all(found.get(model.name) == model.version for model in expected)
        in_a_row = in_a_row + 1 if as_expected else 0
        time.sleep(0.05)


def settled(cluster: Cluster, timeout_s: int) -> bool:
    status = cluster.command("rollout", "status", DEPLOYMENT, f"--timeout={timeout_s}s")
    return subprocess.run(status, check=False).returncode == 0


def undo(cluster: Cluster, revision: str, timeout_s: int) -> None:
    """Go back to the old revision, and wait until only its pods serve.

    Raises
    ------
    DeployFailed
    """
    cluster.kubectl("rollout", "undo", DEPLOYMENT, f"--to-revision={revision}")
    if not settled(cluster, timeout_s):
        raise DeployFailed(
            f"The old pods did not become ready either; see kubectl -n {NAME} get pods. {reasons(cluster)}"
        )


def image_of(deployment: dict[str, Any]) -> str:
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return next(str(container["image"]) for container in containers if container["name"] == NAME)


def expect(name: str, tag: str) -> Expected:
    path, metadata = store.path_of(tag)
    return Expected(name, str(metadata["version"]), manifest.load(path, name=name))


def ask(url: str, model: Expected) -> list[str]:
    """Send each golden row on a new connection, so that they reach every pod; returns the differences."""
    golden, signature = model.artifact.golden(), model.artifact.signature
    encoder = Encoder(signature)
    wrong = []
    for number, (record, scores) in enumerate(zip(golden.records, golden.scores, strict=True)):
        try:
            encoder.records([record])
        except BadRows:
            continue  # a row that training scored and the signature refuses
        body: dict[str, Any] = {"records": [record]}
        if signature.classes:
            body["probabilities"] = True
        reply = fetch(f"{url}/models/{model.name}/predict", body)
        reason = difference(model, reply, scores, golden.tolerance)
        if reason:
            wrong.append(f"{model.name}, golden row {number}: {reason}")
    return wrong


def difference(model: Expected, reply: dict[str, Any], scores: list[float], tolerance: float) -> str:
    """How a reply to a golden row differs from the scores of training; empty if it does not."""
    signature = model.artifact.signature
    if "prediction" not in reply:
        return f"answered {reply.get('status')}: {reply.get('detail')}"
    if reply["version"] != model.version:
        return f"version {reply['version']} answered, expected {model.version}"
    (prediction,) = reply["prediction"]
    given = reply["probabilities"][0] if signature.classes else [prediction]
    if signature.numbers:
        given = list(prediction.values())
    worst = max(abs(got - wanted) for got, wanted in zip(given, scores[: len(given)], strict=True))
    if not worst <= tolerance:
        return f"a score differs by {worst:.3g}, more than {tolerance:.3g}"
    (label,) = labels(signature, np.array([scores]))
    if signature.classes and prediction != label:
        return f"predicted {prediction!r}, expected {label!r}"
    return ""
