"""Install a group of the locked dependencies into `.venv`; run by the system's Python without packages.

A stamp in `.venv` names each installed group and its lock's digest, so a second run has nothing to do. All
locks are compiled under the same pins, so one can be installed over another.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import venv
from pathlib import Path

WITHIN = {"serving": ("training", "dev"), "training": ("dev",), "loadtests": ("dev",), "dev": ()}
"""The groups that include all packages of a group."""
FREE_MB = {"serving": 1000, "training": 2000, "loadtests": 300, "dev": 2500}
CHECKOUT = Path(__file__).resolve().parent.parent


class NotPossible(Exception):  # noqa: N818 - it reads as a sentence where it is raised
    """The reason why it is not possible, and what to do about it."""


def main(arguments: list[str] | None = None) -> int:
    """Check the machine, then install: 0 if `.venv` is ready, 1 if pip fails, 2 if a check fails."""
    parser = argparse.ArgumentParser(prog="python -m deploy.environment", description=__doc__)
    parser.add_argument("group", choices=WITHIN)
    parser.add_argument("--port", help="a port of 127.0.0.1 that has to be free")
    parser.add_argument(
        "--rebuild-for",
        metavar="PYTHON",
        default="",
        help="the PYTHON= of the user, whose version .venv must have",
    )
    options = parser.parse_args(arguments)
    try:
        if options.port is not None:
            check_port(options.port)
        return ensure(CHECKOUT / ".venv", options.group, named_python=bool(options.rebuild_for))
    except NotPossible as reason:
        print(reason, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped; the next run continues.", file=sys.stderr)
        return 130


def ensure(environment: Path, group: str, *, named_python: bool = False) -> int:
    """Install `group` into `environment`, unless the stamp says that it is installed."""
    python = environment / "bin" / "python"
    usable = runs(python, same_version=named_python)
    stamp = environment / "okamochi-environment"
    installed = stamp.read_text().splitlines() if usable and stamp.is_file() else []
    if set(installed) & set(satisfying(group)):
        return 0
    check_path(environment)
    check_venv_module()
    check_disk(environment.parent, FREE_MB[group])
    if not usable:
        make(environment)
    code = install(python, lock_of(group))
    if code == 0:
        whole = [line for line in installed if line in current()]
        stamp.write_text("".join(f"{line}\n" for line in (*whole, fingerprint(group))))
    return code


def make(environment: Path) -> None:
    """Make an empty environment; an existing one is replaced."""
    print(f"Making {environment.name} with Python {'.'.join(map(str, sys.version_info[:3]))}", flush=True)
    try:
        # Resolved, since venv does not follow a link, which .venv may be.
        venv.create(environment.resolve(), with_pip=True, clear=environment.exists())
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise NotPossible(f"Could not make {environment}: {error}") from error


def satisfying(group: str) -> list[str]:
    """The stamps of the groups that include `group`, itself among them."""
    return [fingerprint(each) for each in (group, *WITHIN[group])]


def current() -> list[str]:
    """The stamps of the present locks; a group with another stamp is partly replaced."""
    return [fingerprint(group) for group in WITHIN]


def fingerprint(group: str) -> str:
    return f"{group} {hashlib.sha256(lock_of(group).read_bytes()).hexdigest()}"


def lock_of(group: str) -> Path:
    return CHECKOUT / "requirements" / f"{group}.txt"


def runs(python: Path, *, same_version: bool) -> bool:
    """Whether a Python starts (that of a moved .venv does not), has pip and is a supported version."""
    code = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return False
    version = done.stdout.strip()
    ours = "{}.{}".format(*sys.version_info[:2])
    return done.returncode == 0 and (version == ours if same_version else version in {"3.11", "3.12", "3.13"})


def check_path(environment: Path) -> None:
    if os.pathsep in str(environment):
        raise NotPossible(
            f"The path {environment.parent} contains '{os.pathsep}', which Python does not allow for a "
            "virtual environment; move the checkout to another path."
        )


def check_venv_module() -> None:
    try:
        import ensurepip  # noqa: F401 - Debian leaves it out of python3
    except ImportError:
        version = "{}.{}".format(*sys.version_info[:2])
        raise NotPossible(
            f"{sys.executable} cannot make a virtual environment (no ensurepip); on Debian or Ubuntu: "
            f"apt install python{version}-venv, or name another Python: make PYTHON=/path/to/python3.12"
        ) from None


def check_disk(folder: Path, needed_mb: int) -> None:
    free_mb = shutil.disk_usage(folder).free // 1_000_000
    if free_mb < needed_mb:
        raise NotPossible(
            f"{folder} has {free_mb} MB free, but the dependencies need {needed_mb} MB; free some space "
            "or move the checkout to a larger disk."
        )


def check_port(text: str) -> None:
    """Refuse a port that is not a number of a port, or that is in use on 127.0.0.1."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise NotPossible(f"PORT={text} is not a port; expected a number from 1 to 65535, such as PORT=3000.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(text)))
        except PermissionError:
            raise NotPossible(
                f"Port {text} needs root; choose a port above 1023, such as PORT=3000."
            ) from None
        except OSError:
            another = int(text) + 1 if int(text) < 65535 else 3001
            raise NotPossible(
                f"Port {text} of 127.0.0.1 is in use; stop that program or choose another port ({another})."
            ) from None


def install(python: Path, lock: Path) -> int:
    """Install the lock with pip, hashes required; show progress, and pip's last lines if it fails."""
    total = len(re.findall(r"^[A-Za-z0-9][^ \n]*==", lock.read_text(), flags=re.MULTILINE))
    print(f"Installing {lock.relative_to(CHECKOUT)} ({total} packages) into .venv, once", flush=True)
    pip: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--require-hashes",
        "--no-input",
        "--progress-bar",
        "off",
    ]
    said: list[str] = []
    collected = 0
    ended = threading.Event()
    with subprocess.Popen(
        [*pip, "--disable-pip-version-check", "-r", lock],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - PIPE was asked for
        try:
            for line in process.stdout:
                said.append(line)
                if line.startswith(("Collecting ", "Requirement already satisfied")):
                    collected += 1
                    show(f"  fetching {collected} of {total}", last=collected % 20 == 0)
                elif line.startswith("Installing collected"):
                    arguments = (python.parent.parent, line.count(",") + 1, ended)
                    threading.Thread(target=watch_unpacking, args=arguments, daemon=True).start()
        except KeyboardInterrupt:
            process.terminate()
            raise
        finally:
            ended.set()
    show("  done" if process.returncode == 0 else "  pip failed", last=True)
    if process.returncode:
        sys.stderr.writelines(said[-30:])
        print(
            "pip could not install the dependencies (its last lines are above). Check the network and pip's "
            "settings, then run the same command again.",
            file=sys.stderr,
        )
        return 1
    return 0


def watch_unpacking(environment: Path, total: int, ended: threading.Event) -> None:
    """Show how many packages pip has unpacked; pip itself prints nothing for a minute."""

    def there() -> int:
        return len(list(environment.glob("lib/python*/site-packages/*.dist-info")))

    before, shown = there(), -1
    while not ended.wait(0.5):
        done = min(there() - before, total)
        if done > shown:
            show(f"  unpacking {done} of {total}", last=done // 20 > shown // 20)
            shown = done


def show(text: str, *, last: bool) -> None:
    """Rewrite the line on a terminal; in a log, print only some of the lines."""
    if sys.stdout.isatty():
        kept = last and not text.startswith(("  fetching", "  unpacking"))
        print(f"\r{text:<70}", end="\n" if kept else "", flush=True)
    elif last:
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
