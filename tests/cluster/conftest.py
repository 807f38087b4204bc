"""A Deployment on the cluster that `make test-cluster` names, made by the commands that a person types."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from deploy import cluster as clusters
from deploy.cluster import NAME, Cluster
from deploy.image import CannotDeploy
from tests.cluster.deployment import (
    CROWN,
    LOADER,
    Served,
    Site,
    image_of,
    lay_out,
    quick_to_shrink,
    steady,
)
from tests.cluster.place import LOADTESTS, POSTGRES, TRAINING, Place, brought_up, build, place
from tests.servers import CHECKOUT
from tests.serving import artifacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from tests.serving.artifacts import Made

CONTEXT = os.environ.get("OKAMOCHI_CLUSTER", "")

# `make test` has no cluster; these are run by name, with one.
collect_ignore_glob = [] if CONTEXT else ["test_*.py"]

CRDS = CHECKOUT / "tests" / "k8s" / "crds"
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
def named_cluster(program: Callable[[str], str]) -> Cluster:
    """The same cluster, for tests with namespaces of their own."""
    program("kubectl")
    return clusters.find("" if CONTEXT == "kind" else CONTEXT, LOADER, create=True)


@pytest.fixture(scope="session")
def kinds(named_cluster: Cluster) -> Iterator[None]:
    """The kinds of the optional parts, where the cluster does not know them."""

    def known(file: Path) -> bool:
        name = yaml.safe_load(file.read_text())["metadata"]["name"]
        asking = named_cluster.command("get", "customresourcedefinition", name)
        return subprocess.run(asking, capture_output=True, check=False).returncode == 0

    files = [f"--filename={file}" for file in sorted(CRDS.glob("*.yaml")) if not known(file)]
    if files:
        named_cluster.kubectl("create", *files)
        named_cluster.kubectl("wait", "--for=condition=established", "--timeout=60s", *files)
    yield
    if files:
        named_cluster.kubectl("delete", *files)


@pytest.fixture(scope="session", autouse=True)
def builds(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
    """Images that later tests need: made one after the other while the first tests wait for pods."""
    users = {LOADTESTS: "loadtests_image", POSTGRES: "mlflow", TRAINING: "mlflow"}
    asked = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    with ThreadPoolExecutor(1) as pool:
        yield {image: pool.submit(build, image) for image, user in users.items() if user in asked}
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def loadtests_image(
    named_cluster: Cluster, program: Callable[[str], str], builds: dict[str, Future[None]]
) -> str:
    """Locust's, on the nodes."""
    program("docker")
    builds[LOADTESTS].result()
    named_cluster.load(LOADTESTS)
    return LOADTESTS


@pytest.fixture(scope="session")
def mlflow(
    named_cluster: Cluster, program: Callable[[str], str], builds: dict[str, Future[None]]
) -> Iterator[Place]:
    """MLflow on PostgreSQL with backups, retraining and scoring of `linear`, as k8s/components has them."""
    program("docker")
    for image in (POSTGRES, TRAINING):
        builds[image].result()
        named_cluster.load(image)
    retraining = [
        {
            "op": "replace",
            "path": "/spec/jobTemplate/spec/template/spec/containers/0/env/0/value",
            "value": "linear",
        },
        {
            "op": "replace",
            "path": "/spec/jobTemplate/spec/template/spec/containers/0/env/1/value",
            "value": "2",
        },
    ]
    target = {"kind": "CronJob", "name": "okamochi-retraining"}
    # Until its test has put a table on the volume.
    waiting = [
        {"op": "add", "path": "/spec/suspend", "value": True},
        {"op": "replace", "path": "/spec/template/spec/containers/0/resources/requests/cpu", "value": "100m"},
        # Slow enough to be killed on its way.
        {"op": "add", "path": "/spec/template/spec/containers/0/resources/limits/cpu", "value": "300m"},
    ]
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "okamochi-score"}}
    folder = Path(tempfile.mkdtemp(prefix="okamochi-cluster-"))
    folder.chmod(0o755)  # pods of other users have their volumes in it
    with (
        place(named_cluster, "okamochi-mlflow") as found,
        brought_up(
            found, folder, "mlflow", "backup", "retraining", "score",
            patches=[
                {"target": target, "patch": yaml.safe_dump(retraining)},
                {"target": {"kind": "Job", "name": "okamochi-score"}, "patch": yaml.safe_dump(waiting)},
                {"patch": yaml.safe_dump({**settings, "data": {"MODEL": "linear"}})},
            ],
        ),
    ):  # fmt: skip
        yield found
    shutil.rmtree(folder, ignore_errors=True)


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
    quick_to_shrink(cluster)
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
