"""What stands in the way of an image, and what goes into one; building itself is proven on a cluster."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import requires
from typing import TYPE_CHECKING

import msgspec
import pytest
from packaging.requirements import Requirement

from artifact import manifest, store
from deploy import image
from deploy.image import SKLEARN_ONLY, CannotDeploy
from tests.artifact import bought
from tests.servers import CHECKOUT
from tests.serving import artifacts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.serving.artifacts import Made

LOCK = CHECKOUT / "requirements" / "serving.txt"


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """What a bento is built from, without models."""
    folder = tmp_path / "site"
    for name in ("serving", "artifact", "requirements"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("service.py", "bentofile.yaml"):
        shutil.copy(CHECKOUT / name, folder)
    return folder


def bundled(site: Path, name: str, made: Made) -> None:
    tag = store.put(made.path, name=name, version="4")
    with (site / "models.lock").open("a") as lock:
        lock.write(f"{name} {tag}\n")


def test_without_a_builder_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither docker nor buildah; docker whose daemon does not answer; buildah alone is enough."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotDeploy, match="Neither docker nor buildah is installed"):
        image.builder()
    program(tmp_path, "docker", "exit 1")
    with pytest.raises(CannotDeploy, match="its daemon does not answer. Start it"):
        image.builder()
    program(tmp_path, "buildah", "exit 0")
    assert image.builder()[0] == "buildah"
    program(tmp_path, "docker", "exit 0")
    assert image.builder()[0] == "docker"


@pytest.mark.parametrize("text", [None, "", "\n"])
def test_without_a_bundled_model_it_is_said(tmp_path: Path, text: str | None) -> None:
    """No models.lock, or none in it: what to type."""
    if text is not None:
        (tmp_path / "models.lock").write_text(text)
    with pytest.raises(CannotDeploy, match="No model is bundled .*: make train bundle"):
        image.bundled(tmp_path)


@pytest.mark.parametrize("command", ["image", "cluster", "rollout"])
def test_the_command_says_it_in_one_sentence(tmp_path: Path, command: str) -> None:
    """Exit code 2, nothing else printed."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy", command],
        cwd=CHECKOUT,
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.usefixtures("bentoml_home")
def test_the_context_holds_the_bento_with_its_models_and_the_lock(site: Path, tmp_path: Path) -> None:
    """And BentoML's store is left with the models alone."""
    bundled(site, "iris", artifacts.iris(tmp_path / "iris"))
    context = tmp_path / "context"
    context.mkdir()
    image.lay_out(context, image.bundled(site), site)

    assert {path.name for path in context.iterdir()} == {
        "Dockerfile", "requirements.txt", "sbom.cdx.json", "bento",
    }  # fmt: skip
    assert len(list((context / "bento" / "models").glob("okamochi-iris/4-*/artifact/manifest.json"))) == 1
    assert (context / "bento" / "src" / "models.lock").read_text() == (site / "models.lock").read_text()
    assert not list((context / "bento" / "src").rglob("training"))
    assert "onnxruntime==" in (context / "requirements.txt").read_text()
    assert "scikit-learn==" not in (context / "requirements.txt").read_text()
    import bentoml

    assert not bentoml.bentos.list()


@pytest.mark.deep
@pytest.mark.usefixtures("bentoml_home")
def test_the_version_is_that_of_the_content(site: Path, tmp_path: Path) -> None:
    """The same files give the same version; another model or base gives another one."""

    def version(folder: str, base: str = "base") -> str:
        context = tmp_path / folder
        context.mkdir()
        image.lay_out(context, image.bundled(site), site)
        return image.fingerprint(context, base)

    bundled(site, "iris", artifacts.iris(tmp_path / "iris"))
    first, again, other_base = version("1"), version("2"), version("3", "other")
    bundled(site, "linear", artifacts.linear(tmp_path / "linear"))

    assert first == again
    assert len({first, other_base, version("4")}) == 3


@pytest.mark.usefixtures("bentoml_home")
def test_scikit_learn_goes_in_where_a_model_needs_it(site: Path, tmp_path: Path) -> None:
    """One model of `runtime: sklearn` among them is enough."""
    bundled(site, "linear", artifacts.linear(tmp_path / "linear"))
    bundled(site, "iris", artifacts.iris(tmp_path / "iris", runtime="python"))
    context = tmp_path / "context"
    context.mkdir()
    image.lay_out(context, image.bundled(site), site)

    assert (context / "requirements.txt").read_text() == LOCK.read_text()


def test_what_is_left_out_is_needed_by_nothing_else() -> None:
    """As the installed packages themselves say; and each is in the lock."""
    pins = set(re.findall(r"^([A-Za-z0-9._-]+)==", LOCK.read_text(), flags=re.MULTILINE))
    kept = pins - set(SKLEARN_ONLY)

    def needed(name: str) -> Iterator[str]:
        for line in requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                yield requirement.name.lower().replace("_", "-").replace(".", "-")

    assert set(SKLEARN_ONLY) <= pins
    for name in kept - {"cffi", "pycparser"}:  # of another implementation
        assert not set(needed(name)) & set(SKLEARN_ONLY), name


def test_a_lock_without_some_pins_keeps_the_others_whole() -> None:
    """Hashes included."""
    first, second, third = (
        f"{pin} \\\n    --hash=sha256:1\n" for pin in ("a==1", "b==2 ; python_version < '3'", "b-c==3")
    )
    assert image.without(first + second + third, ("b",)) == first + third


def test_a_port_of_a_registry_is_no_tag() -> None:
    assert image.tagged("okamochi:1")
    assert image.tagged("host:5000/okamochi:1")
    assert not image.tagged("okamochi")
    assert not image.tagged("host:5000/okamochi")


def test_what_a_model_made_elsewhere_needs_goes_in_from_the_wider_lock(tmp_path: Path) -> None:
    """Pandas, and what pandas needs, with their hashes; a package that no lock has is told."""
    wider = (CHECKOUT / "requirements" / "training.txt").read_text()
    table = bought.table()
    made = bought.seal(tmp_path / "bought", bought.pipeline(table), table)

    wanted = image.pins_of(image.more_pins([made], LOCK.read_text(), wider))

    assert "pandas" in wanted
    assert not wanted.keys() & image.pins_of(LOCK.read_text()).keys()
    assert all("--hash=sha256:" in pin for pin in wanted.values())
    foreign = bought.seal(tmp_path / "foreign", bought.pipeline(table), table, packages=("xgboost",))
    with pytest.raises(CannotDeploy, match="bought needs xgboost, which requirements/ does not lock"):
        image.more_pins([foreign], LOCK.read_text(), wider)


def test_models_of_different_versions_of_a_package_are_told_when_an_image_is_made(tmp_path: Path) -> None:
    """One image has one version; both models, or the model and the lock, are named with their versions."""
    wider = (CHECKOUT / "requirements" / "training.txt").read_text()
    table = bought.table()
    made = bought.seal(tmp_path / "bought", bought.pipeline(table), table)
    libraries = made.manifest.libraries | {"scikit-learn": "0.24.2"}
    older = manifest.Artifact(
        made.path, msgspec.structs.replace(made.manifest, name="older", libraries=libraries), made.signature
    )

    with pytest.raises(
        CannotDeploy, match=r"model older was made with scikit-learn 0\.24\.2, and bought with"
    ):
        image.more_pins([made, older], LOCK.read_text(), wider)
    with pytest.raises(CannotDeploy, match=r"scikit-learn 0\.24\.2, and requirements/ locks \d"):
        image.more_pins([older], LOCK.read_text(), wider)
