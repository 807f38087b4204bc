"""Which cluster is meant, and what is said where none is; serving on one is proven by `make test-cluster`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy import cluster, rollout
from deploy.cluster import Cluster
from deploy.image import CannotDeploy
from deploy.rollout import Expected, difference
from tests.serving import artifacts

KUBECTL = """
case "$*" in
  "config get-contexts --output name") cat {contexts} ;;
  *"--context dead "*) echo "E1121 noise" >&2; echo "connection refused" >&2; exit 1 ;;
  *"get --raw /readyz"*) echo "$*" >> {asked}; echo ok ;;
  *) exit 1 ;;
esac
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with a kubectl that knows `prod`, its current context, and `dead`, which does not answer."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (tmp_path / "contexts").write_text("prod\ndead\n")
    script = KUBECTL.format(contexts=tmp_path / "contexts", asked=tmp_path / "asked")
    write(folder / "kubectl", script)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin" if Path("/usr/bin/cat").exists() else str(folder))
    monkeypatch.setattr(cluster.shutil, "which", lambda name: found(folder, name))
    return folder


def found(folder: Path, name: str) -> str | None:
    """Only what the test has laid out."""
    return str(folder / name) if (folder / name).exists() else None


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_no_cluster_is_touched_unasked(programs: Path) -> None:
    """Not even the current context of the kubeconfig."""
    with pytest.raises(CannotDeploy, match=r"CONTEXT=NAME; the kubeconfig has prod, dead\."):
        cluster.find("", "", create=True)
    assert not (programs.parent / "asked").exists()


def test_a_wrong_context_is_named_with_those_there_are(programs: Path) -> None:
    with pytest.raises(CannotDeploy, match="no context 'labb'; the kubeconfig has prod, dead"):
        cluster.find("labb", "", create=True)
    (programs.parent / "contexts").write_text("")
    with pytest.raises(CannotDeploy, match="no context 'lab'; the kubeconfig has no context"):
        cluster.find("lab", "", create=True)


def test_a_cluster_that_does_not_answer_is_said(programs: Path) -> None:  # noqa: ARG001 - they are on the PATH
    with pytest.raises(CannotDeploy, match="context 'dead' does not answer: connection refused"):
        cluster.find("dead", "", create=True)


def test_a_context_that_is_named_is_used(programs: Path) -> None:  # noqa: ARG001
    assert cluster.find("prod", "", create=False) == Cluster("prod", ())


def test_without_kubectl_it_is_said(programs: Path) -> None:
    (programs / "kubectl").unlink()
    with pytest.raises(CannotDeploy, match="kubectl is not installed"):
        cluster.find("prod", "", create=True)


def test_a_loader_that_cannot_run_is_said(programs: Path) -> None:
    with pytest.raises(CannotDeploy, match="IMAGE_LOADER=no-such load cannot be run"):
        cluster.find("prod", "no-such load", create=True)
    write(programs / "loader", "exit 0")
    assert cluster.find("prod", "loader --into 'the nodes'", create=True).loader == (
        "loader",
        "--into",
        "the nodes",
    )


def test_kind_makes_a_cluster_of_its_own_once(programs: Path) -> None:
    """With the NodePort mapped to 127.0.0.1; a rollout makes none."""
    made = programs.parent / "made"
    write(
        programs / "kind",
        f'if [ "$1" = get ]; then [ ! -e {made} ] || echo okamochi; else cat > {made}; fi',
    )
    with pytest.raises(CannotDeploy, match="no kind cluster 'okamochi'. Make it"):
        cluster.find("", "", create=False)
    first = cluster.find("", "", create=True)
    config = made.read_text()
    made.write_text("as it was")

    assert cluster.find("", "", create=True) == first
    assert first.context == "kind-okamochi"
    assert first.loader[:2] == ("kind", "load")
    assert made.read_text() == "as it was"
    assert "hostPort: 30300, listenAddress: 127.0.0.1" in config


def test_an_image_of_this_machine_needs_a_loader() -> None:
    """What a registry holds needs none."""
    with pytest.raises(CannotDeploy, match="okamochi:local is on this machine only"):
        cluster.provide(Cluster("prod"), "okamochi:local", base="", options="")
    image = "registry.example/okamochi:1"
    assert cluster.provide(Cluster("prod"), image, base="", options="").image == image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("okamochi", ("okamochi", "latest", "")),
        ("okamochi:local", ("okamochi", "local", "")),
        ("host:5000/team/okamochi", ("host:5000/team/okamochi", "latest", "")),
        ("host:5000/team/okamochi:7", ("host:5000/team/okamochi", "7", "")),
        (f"okamochi@sha256:{'a' * 64}", ("okamochi", "latest", f"sha256:{'a' * 64}")),
    ],
)
def test_the_parts_of_an_image(image: str, expected: tuple[str, str, str]) -> None:
    assert cluster.parts(image) == expected


@pytest.mark.parametrize("image", ["", "okamochi@sha256:abc", "okamochi:"])
def test_what_is_no_image_is_said(image: str) -> None:
    with pytest.raises(CannotDeploy, match="is not the name of an image"):
        cluster.parts(image)


def test_a_reply_to_a_golden_row_is_compared_whole(tmp_path: Path) -> None:
    """Version, scores within the artifact's tolerance, label; a refusal is told as it came."""
    made = artifacts.iris(tmp_path / "iris")
    model = Expected("iris", "3", rollout.manifest.load(made.path))
    golden = model.artifact.golden()
    scores = golden.scores[0]

    def wrong(**changes: object) -> str:
        reply = {"prediction": ["setosa"], "probabilities": [scores], "version": "3"} | changes
        return difference(model, json.loads(json.dumps(reply)), scores, golden.tolerance)

    assert wrong() == ""
    assert wrong(version="2") == "version 2 answered, expected 3"
    assert "a score differs by" in wrong(probabilities=[[scores[0] - 1e-4, *scores[1:]]])
    assert wrong(prediction=["virginica"]) == "predicted 'virginica', expected 'setosa'"
    refused = {"status": 503, "detail": "Model 'iris' is not ready"}
    assert difference(model, refused, scores, 1e-5) == "answered 503: Model 'iris' is not ready"


def test_a_reply_of_a_regression_is_compared(tmp_path: Path) -> None:
    made = artifacts.linear(tmp_path / "linear")
    model = Expected("linear", "1", rollout.manifest.load(made.path))

    assert difference(model, {"prediction": [10.0], "version": "1"}, [10.0], 1e-5) == ""
    assert "differs by 1," in difference(model, {"prediction": [11.0], "version": "1"}, [10.0], 1e-5)
