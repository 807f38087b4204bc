"""The cluster takes every object as it is: nothing unknown, nothing that its admission refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tests.cluster.place import Place, place
from tests.k8s.rendering import COMPONENTS, OVERLAYS, rendered

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from deploy.cluster import Cluster

NAMESPACE = "okamochi-manifests"


@pytest.fixture(scope="module")
def here(named_cluster: Cluster, kinds: None) -> Iterator[Place]:  # noqa: ARG001 - they are there by then
    with place(named_cluster, NAMESPACE) as found:
        yield found


def dry_run(place: Place, objects: list[dict[str, object]]) -> subprocess.CompletedProcess[str]:
    return place.ask(
        "apply", "--dry-run=server", "--validate=strict", "-f", "-", given=yaml.safe_dump_all(objects)
    )


@pytest.mark.parametrize(
    ("on", "component"),
    [*((f"overlays/{name}", "") for name in OVERLAYS), *(("base", name) for name in COMPONENTS)],
    ids=lambda name: name.replace("/", "-"),
)
def test_the_cluster_takes_every_object(here: Place, on: str, component: str) -> None:
    """Without a warning: that is what Pod Security has for a template whose pods it would refuse."""
    objects = rendered(*filter(None, [component]), on=on, namespace=NAMESPACE)
    for each in objects:
        if each["kind"] == "Service":  # another namespace may hold the NodePort
            for port in each["spec"]["ports"]:
                port.pop("nodePort", None)
    done = dry_run(here, objects)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "a warning"
    assert len(done.stdout.splitlines()) == len(objects)


def test_a_field_that_is_not_there_is_refused(here: Place) -> None:
    """So the test above would see a slip, in kinds of Kubernetes' own and in ours."""
    objects = rendered("monitoring", "keda", namespace=NAMESPACE)
    for each in objects:
        if each["kind"] in {"PodMonitor", "ScaledObject", "Deployment"}:
            each["spec"]["nonesuch"] = 1
    done = dry_run(here, objects)
    assert done.returncode != 0
    assert done.stderr.count('unknown field "spec.nonesuch"') == 3


def test_a_pod_that_is_not_restricted_is_refused(here: Place) -> None:
    """The namespace enforces it."""
    bare = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root"},
        "spec": {"containers": [{"name": "root", "image": "okamochi:local"}]},
    }
    done = dry_run(here, [bare])
    assert done.returncode != 0
    assert 'violates PodSecurity "restricted' in done.stderr
