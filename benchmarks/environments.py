"""An environment for each contestant, made once in a cache outside the checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from benchmarks.servers import BenchError

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent


class Absent(Exception):  # noqa: N818 - it is not an error
    """The reason why a contestant or a route is not measured."""


def cache() -> Path:
    """The folder of environments and builds: `okamochi/bench` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "okamochi" / "bench"


def python_of(name: str) -> Path:
    """The interpreter of an environment with exactly `requirements/NAME.txt`; it is made if needed.

    Raises
    ------
    Absent
        It cannot be made, for example without a package index.
    """
    lock = HERE / "requirements" / f"{name}.txt"
    version = "{}.{}".format(*sys.version_info[:2])
    folder = cache() / f"{name}-{version}-{digest(lock)}"
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if complete.is_file() and python.is_file():
        return python
    print(f"installing {name}'s environment, once", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        say([sys.executable, "-m", "venv", str(folder)])
        say([str(python), "-m", "pip", "install", "-q", "--no-input", "--require-hashes", "-r", str(lock)])
    except BenchError as error:
        raise Absent(f"its environment cannot be installed: {reason(str(error))}") from error
    complete.touch()
    return python


def compiled_server() -> Path:
    """The binary of the compiled server; it is built if needed.

    Raises
    ------
    Absent
        cargo is not installed or cannot build: it has no toolchain, or a crate cannot be downloaded.
    """
    cargo = shutil.which("cargo")
    if cargo is None:
        raise Absent("cargo, which builds it, is not installed")
    source = HERE / "compiled"
    target = cache() / f"compiled-{digest(source / 'Cargo.lock', source / 'src' / 'main.rs')}"
    binary = target / "release" / "okamochi-compiled"
    if not binary.is_file():
        print("building the compiled server, once", file=sys.stderr, flush=True)
        try:
            say([cargo, "build", "--release", "--locked", "-q", "--target-dir", str(target)], folder=source)
        except BenchError as error:
            raise Absent(f"cargo cannot build it: {reason(str(error))}") from error
    return binary


def reason(said: str) -> str:
    """The error line in a message of `say`, or else the first line of the program's output."""
    command, _, output = said.partition(" failed: ")
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    error = next((line for line in lines if line.lower().startswith("error")), None)
    return error or next(iter(lines), f"{command} failed without a message")


def onnxruntime_library() -> Path:
    """The shared library inside the onnxruntime wheel of this interpreter."""
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        raise BenchError("onnxruntime is not installed in this environment")
    found = sorted((Path(spec.origin).parent / "capi").glob("libonnxruntime.*[0-9]*"))
    if not found:
        raise BenchError(f"the onnxruntime wheel at {spec.origin} has no shared library")
    return found[0]


def digest(*paths: Path) -> str:
    """A short digest of some files."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def say(argv: list[str], *, folder: Path = HERE, environment: dict[str, str] | None = None) -> str:
    """Run a command; return its output.

    Raises
    ------
    BenchError
        It failed; the message has the end of its output.
    """
    done = subprocess.run(
        argv,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"{' '.join(argv[:6])} ... failed: {(done.stderr or done.stdout)[-1500:]}")
    return done.stdout
