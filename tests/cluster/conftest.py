"""A Deployment on the cluster that `make test-cluster` names, made by the commands that a person types."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from deploy import cluster as clusters
from deploy.cluster import NAME, Cluster
from deploy.image import CannotDeploy
from tests.cluster.deployment import CROWN, Served, Site, image_of, lay_out, steady
from tests.servers import CHECKOUT
from tests.serving import artifacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.serving.artifacts import Made

CONTEXT = os.environ.get("OKAMOCHI_CLUSTER", "")

# `make test` has no cluster; these are run by name, with one.
collect_ignore_glob = [] if CONTEXT else ["test_*.py"]

TEST_LABEL = "okamochi/made-by"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A model that becomes version 1."""
    return artifacts.breast_cancer(tmp_path_factory.mktemp("artifacts") / "first")


@pytest.fixture(scope="session")
def site(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Where version 1 is the champion and bundled, and nothing is on the cluster yet."""
    site = lay_out(tmp_path_factory.mktemp("site"), "" if CONTEXT == "kind" else CONTEXT)
    site.run(CROWN, "breast_cancer", str(made.path))
    done = site.make("bundle", "USECASES=breast_cancer")
    assert done.returncode == 0, done.stderr
    return site


@pytest.fixture(scope="session")
def cluster(site: Site) -> Iterator[Cluster]:
    """The cluster with the namespace to ourselves, without it afterwards."""
    try:
        found = clusters.find(site.context, site.loader, create=True)
    except CannotDeploy as error:
        pytest.exit(str(error), 2)
    there = subprocess.run(
        found.command("get", "namespace", NAME, "--output", "json"), capture_output=True, check=False
    )
    if there.returncode == 0:
        labels = json.loads(there.stdout)["metadata"]["labels"]
        if TEST_LABEL not in labels:
            pytest.exit(
                f"The cluster {found.context} has a namespace {NAME}, and these tests break what is in it; "
                f"delete it first: kubectl --context {found.context} delete namespace {NAME}",
                2,
            )
        found.kubectl("delete", "namespace", NAME)
    yield found
    found.kubectl("delete", "namespace", NAME)


@pytest.fixture(scope="session")
def started(site: Site, cluster: Cluster) -> str:
    """What `make cluster` printed as it brought version 1 up."""
    done = site.make("cluster")
    labelling = cluster.command("label", "namespace", NAME, f"{TEST_LABEL}=make-test-cluster")
    subprocess.run(labelling, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def good_image(cluster: Cluster, started: str) -> str:  # noqa: ARG001 - it is up by then
    return image_of(cluster)


@pytest.fixture
def served(
    cluster: Cluster, site: Site, good_image: str, made: Made, figures: dict[str, Any]
) -> Iterator[Served]:
    """Left alone by the test before; what a test changes of it is put back."""
    steady(cluster)
    lock = site.folder / "models.lock"
    bundled = lock.read_text()
    with clusters.addresses(cluster) as (url, *others):
        assert not others, "the load needs the NodePort of k8s/overlays/local to be reached from here"
        yield Served(site, cluster, url, good_image, made, figures)
    lock.write_text(bundled)
    if image_of(cluster) != good_image:
        cluster.kubectl("set", "image", clusters.DEPLOYMENT, f"{NAME}={good_image}")


@pytest.fixture
def docker(program: Callable[[str], str]) -> Callable[[str, str], None]:
    """Build an image from the text of a Dockerfile."""
    path = program("docker")

    def build(image: str, dockerfile: str) -> None:
        done = subprocess.run(
            [path, "build", "-t", image, "-"], input=dockerfile, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    return build


@pytest.fixture(scope="session")
def figures() -> Iterator[dict[str, Any]]:
    """What is written to reports/cluster.json."""
    found: dict[str, Any] = {}
    yield found
    if found:
        path = CHECKOUT / "reports" / "cluster.json"
        path.parent.mkdir(exist_ok=True)
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(before | found, indent=1, sort_keys=True) + "\n")
