"""Build the server's image: the checkout's bento, the models of `models.lock`, the locked packages."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement

from artifact import manifest, models_lock, python_model, store
from deploy import DEFAULT_BASE_IMAGE, sbom

CHECKOUT = Path(__file__).resolve().parent.parent
DOCKERFILE = Path(__file__).with_name("Dockerfile")

SKLEARN_ONLY = (
    "scikit-learn",
    "skops",
    "scipy",
    "joblib",
    "threadpoolctl",
    "narwhals",
    "prettytable",
    "wcwidth",
)
"""Packages that only models of `runtime: python` need; without them an image is 200 MB smaller."""


class CannotDeploy(Exception):  # noqa: N818 - it reads as a sentence where it is raised
    """The reason why it cannot be deployed, and what to do about it (exit code 2)."""

    exit_code = 2


class DeployFailed(CannotDeploy):
    """A program that was called has failed, and printed its reason (exit code 1)."""

    exit_code = 1


@dataclass(frozen=True)
class Built:
    """An image, and its version: twelve digits that are the same for the same files."""

    image: str
    version: str


def build(
    image: str, *, base: str = DEFAULT_BASE_IMAGE, options: str = "", checkout: Path = CHECKOUT
) -> Built:
    """Build an image of the models that `checkout` has bundled.

    Parameters
    ----------
    image
        The name of the image; without a tag, the version becomes the tag.
    options
        Further options for the builder, quoted as in a shell.

    Raises
    ------
    CannotDeploy
        There is no builder, no model is bundled, or the build failed.
    """
    program = builder()
    tags = bundled(checkout) | beside(checkout)
    with tempfile.TemporaryDirectory(prefix="okamochi-image-") as folder:
        context = Path(folder)
        lay_out(context, tags, checkout, base)
        version = fingerprint(context, base)
        image = image if tagged(image) else f"{image}:{version}"
        print(f"{image}: {', '.join(tags.values())} on {base}, version {version}", flush=True)
        labels = {
            "BASE_IMAGE": base,
            "VERSION": version,
            "REVISION": revision(checkout),
            "CREATED": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "MODELS": " ".join(tags.values()),
        }
        arguments = [f"--build-arg={name}={value}" for name, value in labels.items()]
        command = [*program, "-t", image, *arguments, *shlex.split(options), str(context)]
        if subprocess.run(command, check=False).returncode:
            raise DeployFailed(
                f"{program[0]} could not build {image}; its reason is above. Name a package index or proxy "
                'by BUILD_ARGS="--build-arg PIP_INDEX_URL=...", and another base image by BASE_IMAGE=.'
            )
    return Built(image, version)


def tagged(image: str) -> bool:
    """Whether an image has a tag or a digest; the port of a registry is neither."""
    return ":" in image.rpartition("/")[2]


def builder() -> list[str]:
    """The command that builds an image from a folder."""
    if shutil.which("docker") and succeeds("docker", "version"):
        return ["docker", "build"]
    if shutil.which("buildah"):
        # docker's format, since the OCI format has no HEALTHCHECK
        return ["buildah", "bud", "--format", "docker"]
    if shutil.which("docker"):
        raise CannotDeploy(
            "docker is installed, but its daemon does not answer. Start it, or install buildah."
        )
    raise CannotDeploy("Neither docker nor buildah is installed; install one of them to build an image.")


def succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def bundled(checkout: Path = CHECKOUT) -> dict[str, str]:
    """Names and exact tags in `models.lock`, the default first.

    Raises
    ------
    CannotDeploy
        It has no line.
    LockError
        A line cannot be read.
    """
    tags = models_lock.read(checkout / models_lock.FILE)
    if not tags:
        raise CannotDeploy(
            "No model is bundled (models.lock is empty or absent). Train and bundle one: make train bundle"
        )
    return tags


def beside(checkout: Path = CHECKOUT) -> dict[str, str]:
    """Exact tags of the shadows and canaries in `models.lock`, by name and role."""
    found = models_lock.entries(checkout / models_lock.FILE)
    return {" ".join(entry.slot): entry.tag for entry in found if entry.role != models_lock.CHAMPION}


def lay_out(context: Path, tags: dict[str, str], checkout: Path, base: str = DEFAULT_BASE_IMAGE) -> None:
    """Write the files that the Dockerfile copies into the build context."""
    lock, bill = materials(tags, checkout, base)
    shutil.copy(DOCKERFILE, context)
    (context / "requirements.txt").write_text(lock)
    (context / sbom.FILE).write_text(bill)
    build_bento(context / "bento", checkout)


def materials(tags: dict[str, str], checkout: Path, base: str = DEFAULT_BASE_IMAGE) -> tuple[str, str]:
    """The pins that an image of these models installs, and its bill of materials.

    Raises
    ------
    CannotDeploy, ArtifactError
    """
    stored = [store.path_of(tag) for tag in dict.fromkeys(tags.values())]
    artifacts = [manifest.load(path) for path, _ in stored]
    lock = (checkout / "requirements" / "serving.txt").read_text()
    needed = lock if {each.manifest.runtime for each in artifacts} - {"onnx"} else without(lock, SKLEARN_ONLY)
    more = more_pins(artifacts, needed, (checkout / "requirements" / "training.txt").read_text())
    versions = [str(metadata["version"]) for _, metadata in stored]
    return needed + more, sbom.bill(needed + more, zip(versions, artifacts, strict=True), base)


def build_bento(folder: Path, checkout: Path) -> None:
    """Build the bento and export it to `folder`; BentoML's store does not keep it."""
    tag = bentoml("build", "--output", "tag", cwd=checkout).split("__tag__:")[-1].strip()
    with tempfile.TemporaryDirectory(prefix="okamochi-bento-") as parent:
        file = Path(parent) / "okamochi.bento"
        try:
            bentoml("export", tag, str(file), cwd=checkout)
        finally:
            bentoml("delete", "--yes", tag, cwd=checkout)
        with tarfile.open(file) as archive:
            archive.extractall(folder, filter="data")


def bentoml(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise DeployFailed(f"bentoml {arguments[0]} failed; its reason is above.")
    return done.stdout


def more_pins(artifacts: list[manifest.Artifact], lock: str, wider: str) -> str:
    """The pins of packages that models made elsewhere need in addition to the server's own.

    Parameters
    ----------
    lock, wider
        The server's lock, and a larger lock that the other pins are taken from.

    Raises
    ------
    CannotDeploy
        A model needs a package that is in neither, or another version than an image of these would have.
    """
    here, there = pins_of(lock), pins_of(wider)
    _check_versions(artifacts, there | here)
    wanted: dict[str, str] = {}
    for artifact in artifacts:
        spec = python_model.read(artifact)
        waiting = [*spec.packages, *(["pandas"] if spec.frame else [])] if spec is not None else []
        while waiting:
            name = waiting.pop()
            if name in here or name in wanted:
                continue
            if name not in there:
                raise CannotDeploy(
                    f"The model {artifact.manifest.name} needs {name}, which requirements/ does not lock: "
                    "add it to the group serving in pyproject.toml, then run make lock."
                )
            wanted[name] = there[name]
            waiting += [each for each in requirements_of(name) if each in there]
    return "".join(wanted[name] for name in sorted(wanted))


def _check_versions(artifacts: list[manifest.Artifact], pins: dict[str, str]) -> None:
    """Refuse models that were made with another version of a package: one image has one version of each."""
    made: dict[str, tuple[str, str]] = {}
    for artifact in artifacts:
        spec = python_model.read(artifact)
        for package in spec.packages if spec is not None else ():
            version = artifact.manifest.libraries.get(package, "")
            if not version:
                continue  # the server says what is not recorded
            other, its = made.setdefault(package, (artifact.manifest.name, version))
            if minor_of(version) != minor_of(its):
                raise CannotDeploy(
                    f"The model {artifact.manifest.name} was made with {package} {version}, and {other} "
                    f"with {its}; an image has one version: make one of them anew, or an image for each."
                )
            pinned = pins[package].split()[0].partition("==")[2] if package in pins else version
            if minor_of(version) != minor_of(pinned):
                raise CannotDeploy(
                    f"The model {artifact.manifest.name} was made with {package} {version}, and "
                    f"requirements/ locks {pinned}: make the model anew with that version, or lock the other."
                )


def minor_of(version: str) -> list[str]:
    """The major and minor number of a version, in which a model's package may not differ."""
    return version.split(".")[:2]


def requirements_of(name: str) -> list[str]:
    """The normalised names of the distributions that an installed one requires."""
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        return []
    found = [Requirement(line) for line in lines]
    needed = [each.name for each in found if each.marker is None or each.marker.evaluate({"extra": ""})]
    return [re.sub(r"[-_.]+", "-", each).lower() for each in needed]


def pins_of(lock: str) -> dict[str, str]:
    """The pins of a lock with their hashes, by distribution."""
    pins = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return {pin.partition("==")[0].lower(): pin for pin in pins if "==" in pin}


def without(lock: str, names: tuple[str, ...]) -> str:
    """The lock without the pins of these distributions."""
    pins = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return "".join(pin for pin in pins if pin.partition("==")[0] not in names)


def fingerprint(context: Path, base: str) -> str:
    """Twelve hexadecimal digits of a digest of all files of the image.

    `bento.yaml` is left out, since it has the time and the random tag of the build.
    """
    digest = hashlib.sha256(base.encode())
    for path in sorted(context.rglob("*")):
        if path.is_file() and path.name not in {"bento.yaml", "README.md", "model.yaml"}:
            digest.update(f"\n{path.relative_to(context).as_posix()}\n{manifest.digest(path)}".encode())
    return digest.hexdigest()[:12]


def revision(checkout: Path) -> str:
    """The checkout's commit; empty without git."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
