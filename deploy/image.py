"""From `models.lock` to an image: the checkout's bento with exactly these models, and the locked packages."""

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

CHECKOUT = Path(__file__).resolve().parent.parent
DOCKERFILE = Path(__file__).with_name("Dockerfile")
DEFAULT_IMAGE = "okamochi:local"
DEFAULT_BASE = "python:3.11-slim"

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
"""What only a model of `runtime: python` needs; an image of ONNX models leaves these 200 MB out."""


class CannotDeploy(Exception):  # noqa: N818 - it reads as a sentence where it is raised
    """What stands in the way and how to remove it, in a sentence."""

    exit_code = 2


class DeployFailed(CannotDeploy):
    """Everything was as it should be, and yet a program that was called failed; it has said why."""

    exit_code = 1


@dataclass(frozen=True)
class Built:
    """An image, and twelve digits that are the same for the same files."""

    image: str
    version: str


def build(image: str, *, base: str = DEFAULT_BASE, options: str = "", checkout: Path = CHECKOUT) -> Built:
    """Build an image of the models that `checkout` has bundled.

    Parameters
    ----------
    image
        Its name; without a tag the version becomes the tag.
    options
        More options of the builder, in the shell's form.

    Raises
    ------
    CannotDeploy
        No builder, nothing bundled, or a build that failed.
    """
    program = builder()
    tags = bundled(checkout)
    with tempfile.TemporaryDirectory(prefix="okamochi-image-") as folder:
        context = Path(folder)
        lay_out(context, tags, checkout)
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
                f"{program[0]} could not build {image}; its reason is above. An index or a proxy goes "
                'through BUILD_ARGS="--build-arg PIP_INDEX_URL=...", another base image through BASE_IMAGE=.'
            )
    return Built(image, version)


def tagged(image: str) -> bool:
    """Whether it names a tag or a digest; a port of its registry is neither."""
    return ":" in image.rpartition("/")[2]


def builder() -> list[str]:
    """The command that builds an image from a folder."""
    if shutil.which("docker") and succeeds("docker", "version"):
        return ["docker", "build"]
    if shutil.which("buildah"):
        # docker's format, as OCI's has no HEALTHCHECK
        return ["buildah", "bud", "--format", "docker"]
    if shutil.which("docker"):
        raise CannotDeploy(
            "docker is installed, but its daemon does not answer; start it, or install buildah."
        )
    raise CannotDeploy("There is neither docker nor buildah here; install one of them to build an image.")


def succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def bundled(checkout: Path = CHECKOUT) -> dict[str, str]:
    """Names and exact tags of `models.lock`, the default first.

    Raises
    ------
    CannotDeploy
        There are none.
    LockError
        A line cannot be read.
    """
    tags = models_lock.read(checkout / models_lock.FILE)
    if not tags:
        raise CannotDeploy(
            "No model is bundled (models.lock names none); train and bundle one first: make train bundle"
        )
    return tags


def lay_out(context: Path, tags: dict[str, str], checkout: Path) -> None:
    """Put into the folder what the Dockerfile copies."""
    artifacts = [manifest.load(store.path_of(tag)[0]) for tag in tags.values()]
    shutil.copy(DOCKERFILE, context)
    lock = (checkout / "requirements" / "serving.txt").read_text()
    needed = lock if {each.manifest.runtime for each in artifacts} - {"onnx"} else without(lock, SKLEARN_ONLY)
    more = more_pins(artifacts, needed, (checkout / "requirements" / "training.txt").read_text())
    (context / "requirements.txt").write_text(needed + more)
    build_bento(context / "bento", checkout)


def build_bento(folder: Path, checkout: Path) -> None:
    """`bentoml build`, exported whole to `folder`: the store keeps no bento of ours."""
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
    """The pins of what models that were made elsewhere need beside the server's own packages.

    Parameters
    ----------
    lock, wider
        The server's lock, and a wider one that the rest is taken from with its hashes.

    Raises
    ------
    CannotDeploy
        A model needs a package that neither has.
    """
    here, there = pins_of(lock), pins_of(wider)
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
                    f"add it to "
                    "the group serving in pyproject.toml, then make lock."
                )
            wanted[name] = there[name]
            waiting += [each for each in requirements_of(name) if each in there]
    return "".join(wanted[name] for name in sorted(wanted))


def requirements_of(name: str) -> list[str]:
    """What an installed distribution needs, by normalised names."""
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        return []
    found = [Requirement(line) for line in lines]
    needed = [each.name for each in found if each.marker is None or each.marker.evaluate({"extra": ""})]
    return [re.sub(r"[-_.]+", "-", each).lower() for each in needed]


def pins_of(lock: str) -> dict[str, str]:
    """The pins of a lock by the distribution, each with its hashes."""
    pins = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return {pin.partition("==")[0].lower(): pin for pin in pins if "==" in pin}


def without(lock: str, names: tuple[str, ...]) -> str:
    """A lock without some of its pins."""
    pins = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return "".join(pin for pin in pins if pin.partition("==")[0] not in names)


def fingerprint(context: Path, base: str) -> str:
    """Twelve hexadecimal digits of all that the image is made of; the same files give the same ones.

    `bento.yaml` is left out: it has the time and the random tag of each build.
    """
    digest = hashlib.sha256(base.encode())
    for path in sorted(context.rglob("*")):
        if path.is_file() and path.name not in {"bento.yaml", "README.md", "model.yaml"}:
            digest.update(f"\n{path.relative_to(context).as_posix()}\n{manifest.digest(path)}".encode())
    return digest.hexdigest()[:12]


def revision(checkout: Path) -> str:
    """The commit that the checkout is at; nothing where there is no git."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
