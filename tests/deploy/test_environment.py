"""Making .venv: what is checked first, and when nothing has to be done."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import environment
from deploy.environment import NotPossible

CHECKOUT = Path(__file__).resolve().parents[2]
FIND_PYTHON = CHECKOUT / "deploy" / "find_python.sh"


def run(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **({"PATH": path} if path is not None else {})}
    return subprocess.run(arguments, capture_output=True, text=True, check=False, env=env)


def fake_python(folder: Path, name: str, *, version: str, modules: str = "") -> Path:
    """A program that answers what find_python.sh asks as a Python of this version would."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(
        f"""#!{sys.executable}
import sys, types
sys.modules.update(dict.fromkeys({modules.split()!r}))
sys.version_info = ({version.replace(".", ", ")}, "final", 0)
if sys.argv[1] == "-V":
    print("Python {version}")
else:
    exec(sys.argv[2])
"""
    )
    program.chmod(0o755)
    return program


def test_a_port_in_use_is_said_before_anything_is_installed() -> None:
    """One sentence with another port to try."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = run(sys.executable, "-m", "deploy.environment", "training", "--port", str(port))

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"Port {port} of 127.0.0.1 is in use; ")
    assert str(port + 1) in done.stderr


@pytest.mark.parametrize("text", ["abc", "0", "65536", "-1", "30 00", ""])
def test_a_port_that_is_none_is_named(text: str) -> None:
    """Before it ends in a traceback of some server."""
    with pytest.raises(NotPossible, match=f"PORT={text} is not a port"):
        environment.check_port(text)


def test_a_disk_that_is_too_full_is_said(tmp_path: Path) -> None:
    """With what is free and what is needed."""
    with pytest.raises(NotPossible, match=r"MB free, but the dependencies need 1000000000000 MB"):
        environment.check_disk(tmp_path, 10**12)


def test_a_path_that_no_environment_can_have_is_said(tmp_path: Path) -> None:
    """Python refuses to make a virtual environment where PATH would be cut."""
    with pytest.raises(NotPossible, match="contains ':'"):
        environment.check_path(tmp_path / "a:b" / ".venv")


def test_an_installed_group_is_not_installed_again(tmp_path: Path) -> None:
    """The larger group's stamp is enough for the smaller one, and no other lock's stamp is."""
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / "okamochi-environment").write_text(environment.fingerprint("dev") + "\n")

    assert environment.ensure(venv, "training") == 0
    assert environment.ensure(venv, "dev") == 0
    assert environment.fingerprint("training") not in environment.satisfying("dev")
    assert "dev 0123" not in environment.satisfying("dev")


def test_a_group_beside_another_leaves_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make load` after `make serve` adds Locust, neither is installed again, a stale stamp is forgotten."""
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    stamp = venv / "okamochi-environment"
    installed: list[str] = []
    monkeypatch.setattr(environment, "install", lambda _python, lock: installed.append(lock.stem) or 0)

    for group in ("training", "loadtests", "training", "loadtests", "serving"):
        assert environment.ensure(venv, group) == 0
    assert installed == ["training", "loadtests"]

    stamp.write_text("training 0123\n")
    assert environment.ensure(venv, "loadtests") == 0
    assert stamp.read_text() == environment.fingerprint("loadtests") + "\n"
    assert environment.fingerprint("loadtests") not in environment.satisfying("training")


def test_locks_pin_alike() -> None:
    """So one group may be installed over another without taking anything from it."""
    pin = re.compile(r"^[A-Za-z0-9_.-]+==[^ ]+", re.MULTILINE)
    pins = [set(pin.findall(environment.lock_of(group).read_text())) for group in environment.WITHIN]
    widest = pins[list(environment.WITHIN).index("dev")]

    assert all(pins)
    assert set.union(*pins) == widest


def test_a_moved_environment_is_noticed(tmp_path: Path) -> None:
    """A .venv whose Python is gone is made anew instead of failing in the middle."""
    (tmp_path / "python").symlink_to(tmp_path / "nowhere")

    assert not environment.runs(tmp_path / "python", same_version=False)
    assert environment.runs(Path(sys.executable), same_version=True)


def test_an_environment_is_made_through_a_link(tmp_path: Path) -> None:
    """As .ci/run does, so that it outlives a clone; whatever was there before is gone."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "half").touch()
    (tmp_path / ".venv").symlink_to(tmp_path / "kept")

    environment.make(tmp_path / ".venv")

    assert environment.runs(tmp_path / ".venv" / "bin" / "python", same_version=True)
    assert not (tmp_path / "kept" / "half").exists()


def test_the_newest_supported_python_is_found(tmp_path: Path) -> None:
    """A 3.14 or a 3.10 that is first on the PATH is passed over."""
    fake_python(tmp_path, "python3", version="3.14.0")
    fake_python(tmp_path, "python3.11", version="3.11.2")
    fake_python(tmp_path, "python3.12", version="3.12.1")

    assert run("/bin/sh", str(FIND_PYTHON), "", path=str(tmp_path)).stdout == "python3.12\n"


def test_a_python_that_can_make_an_environment_goes_first(tmp_path: Path) -> None:
    """Debian's python3 lacks ensurepip unless python3-venv is there."""
    fake_python(tmp_path, "python3.13", version="3.13.0", modules="ensurepip")
    fake_python(tmp_path, "python3.11", version="3.11.2")

    assert run("/bin/sh", str(FIND_PYTHON), "", path=str(tmp_path)).stdout == "python3.11\n"


def test_no_python_at_all_is_one_sentence(tmp_path: Path) -> None:
    """It says what was looked for and how to name one."""
    done = run("/bin/sh", str(FIND_PYTHON), "", path=str(tmp_path))

    assert done.returncode == 2
    assert done.stderr.startswith("No Python 3.11, 3.12 or 3.13 found")
    assert "PYTHON=" in done.stderr


def test_a_python_that_was_named_and_does_not_fit_is_refused(tmp_path: Path) -> None:
    """It is never silently replaced by another."""
    old = fake_python(tmp_path, "old", version="3.9.1")

    done = run("/bin/sh", str(FIND_PYTHON), str(old))
    assert done.returncode == 2
    assert done.stderr == f"PYTHON={old} is Python 3.9.1; Okamochi needs Python 3.11, 3.12 or 3.13.\n"

    done = run("/bin/sh", str(FIND_PYTHON), str(tmp_path / "none"))
    assert done.returncode == 2
    assert "does not run" in done.stderr


def test_a_python_without_ensurepip_is_told_what_to_install(tmp_path: Path) -> None:
    """The sentence has the package to install."""
    python = fake_python(tmp_path, "python3.11", version="3.11.2", modules="ensurepip")
    code = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); from deploy import environment; "

    done = run(str(python), "-c", code + "environment.check_venv_module()")
    assert "apt install python3.11-venv" in done.stderr
