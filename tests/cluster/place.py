"""A namespace of a test's own on the cluster, with components of k8s/ and the volumes that they claim."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from tests.k8s.rendering import compose, of_kind, render
from tests.servers import CHECKOUT, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from deploy.cluster import Cluster

SECONDS = 300  # that something may take to be ready, done or gone
PEACE = {"pod-security.kubernetes.io/enforce": "restricted"}
TRAINING, POSTGRES = "okamochi-training:local", "okamochi-postgres:local"
LOADTESTS = "okamochi-loadtests:local"
IMAGES = {
    LOADTESTS: ("deploy/loadtests.Dockerfile", "requirements", "loadtests"),
    POSTGRES: ("deploy/postgres.Dockerfile", "deploy/postgres-entrypoint.sh"),
    TRAINING: ("deploy/training.Dockerfile", "requirements", "artifact", "deploy", "training", "usecases"),
}
"""Beside the server's: the Dockerfile, and what it copies."""
BUILD_ARGS = [f"--build-arg={key}={os.environ[key]}" for key in ("PIP_INDEX_URL",) if key in os.environ]


@dataclass(frozen=True)
class Place:
    """A namespace."""

    context: str
    namespace: str

    def ask(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        command = ["kubectl", "--context", self.context, "--namespace", self.namespace, *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=False)

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """What it prints; fails with what it says."""
        done = self.ask(*arguments, given=given)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def apply(self, objects: Sequence[dict[str, Any]], *arguments: str) -> str:
        return self.kubectl("apply", "-f", "-", *arguments, given=yaml.safe_dump_all(objects))

    def job(self, name: str, *, of: str = "") -> str:
        """Wait until a Job has ended, made of a CronJob where one is named: "Complete" or "Failed"."""
        if of:
            self.kubectl("create", "job", name, f"--from=cronjob/{of}")
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            for condition in self.get("job", name)["status"].get("conditions", []):
                if condition["status"] == "True" and condition["type"] in {"Complete", "Failed"}:
                    return str(condition["type"])
            time.sleep(1)
        raise AssertionError(f"{name} has not ended: {self.kubectl('describe', 'job', name)}{self.log(name)}")

    def log(self, job: str) -> str:
        return self.ask("logs", f"--selector=batch.kubernetes.io/job-name={job}", "--tail=-1").stdout

    def sql(self, database: str, query: str) -> str:
        """What PostgreSQL answers: a line a row, `|` between columns."""
        return self.kubectl(
            *("exec", "okamochi-postgres-0", "--", "psql", "--no-align", "--tuples-only"),
            *("--username=okamochi", f"--dbname={database}", f"--command={query}"),
        )

    def rolled_out(self, workload: str) -> None:
        done = self.ask("rollout", "status", workload, f"--timeout={SECONDS}s")
        assert done.returncode == 0, done.stderr + self.kubectl("describe", "pods")

    @contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[str]:
        """The URL of a Service's port on this machine."""
        here = free_port()
        command = ["kubectl", "--context", self.context, "--namespace", self.namespace, "port-forward"]
        process = subprocess.Popen(
            [*command, target, f"{here}:{port}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("Forwarding"), line
            yield f"http://127.0.0.1:{here}"
        finally:
            process.terminate()
            process.wait()


@contextmanager
def place(cluster: Cluster, namespace: str) -> Iterator[Place]:
    """An empty, restricted namespace; gone at the end."""
    found = Place(cluster.context, namespace)
    found.kubectl("delete", "namespace", namespace, "--ignore-not-found")
    meta = {"name": namespace, "labels": PEACE}
    found.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": meta}])
    try:
        yield found
    finally:
        found.kubectl("delete", "namespace", namespace)


@contextmanager
def brought_up(place: Place, folder: Path, *components: str, **more: Any) -> Iterator[None]:
    """Apply components without the server, with the images of this machine; wait until all of it runs."""
    images = [{"name": "postgres", "newName": POSTGRES.partition(":")[0], "newTag": "local"}]
    kustomization = compose(
        folder / "overlay", *components, on="", namespace=place.namespace, images=images, **more
    )
    objects = render(kustomization)
    with volumes(place, objects, folder / "volumes"):
        place.kubectl(
            "create", "secret", "generic", "okamochi-postgres", "--from-literal=password=only/for tests:@%"
        )
        place.apply(objects)
        for kind in ("StatefulSet", "Deployment"):
            for each in of_kind(objects, kind):
                place.rolled_out(f"{kind}/{each['metadata']['name']}")
        yield


def brought_up_more(
    place: Place, folder: Path, component: str, *, settings: dict[str, str], patches: list[dict[str, Any]]
) -> None:
    """Apply one more component to what is up, without what it stands on; `settings` go into its ConfigMap."""
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"okamochi-{component}"}}
    objects = render(
        compose(
            folder / "overlay",
            component,
            on="",
            namespace=place.namespace,
            patches=[
                {**each, "patch": yaml.safe_dump(each["patch"])}
                for each in ({"patch": {**config, "data": settings}}, *patches)
            ],
        )
    )
    place.apply([each for each in objects if each["kind"] in {"Job", "ConfigMap"}])


@contextmanager
def volumes(place: Place, objects: Sequence[dict[str, Any]], folder: Path) -> Iterator[None]:
    """Without a StorageClass the node is taken to be this machine, and volumes are folders of it."""
    if json.loads(place.kubectl("get", "storageclass", "--output=json"))["items"]:
        yield
        return
    claims = [each["metadata"]["name"] for each in of_kind(objects, "PersistentVolumeClaim")]
    for each in of_kind(objects, "StatefulSet"):
        name = each["metadata"]["name"]
        claims += [f"{one['metadata']['name']}-{name}-0" for one in each["spec"]["volumeClaimTemplates"]]
    made = [volume(place.namespace, claim, folder / claim) for claim in claims]
    names = [each["metadata"]["name"] for each in made]
    # A run that was ended leaves its volumes, and the folder of a volume cannot be changed.
    place.kubectl("delete", "persistentvolume", "--ignore-not-found", *names)
    place.apply(made)
    try:
        yield
    finally:
        # A folder that pods still hold cannot go; nor can a volume while its claim is there.
        with suppress(AssertionError):
            place.kubectl(
                "delete", "deployments,statefulsets,jobs,cronjobs", "--all", "--wait", "--cascade=foreground"
            )
            place.kubectl("delete", "persistentvolumeclaims", "--all")
        place.kubectl("delete", "persistentvolume", *names)
        shutil.rmtree(folder, ignore_errors=True)


def volume(namespace: str, claim: str, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-{claim}"},
        "spec": {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": namespace, "name": claim},
            "hostPath": {"path": str(folder), "type": "Directory"},
        },
    }


def build(image: str) -> None:
    """`docker build` of an image's folders of the checkout alone, as its Dockerfile's head says."""
    dockerfile, *paths = IMAGES[image]
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w:gz") as tar:
        for path in (*paths, dockerfile):
            tar.add(CHECKOUT / path, path, filter=lambda each: None if "__pycache__" in each.name else each)
    command = ["docker", "build", *BUILD_ARGS, "-t", image, "-f", dockerfile, "-"]
    done = subprocess.run(command, input=context.getvalue(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
