"""`models.lock.stopped-NAME`: the canary of a name that its server has stopped, and why.

The server writes the file beside its `models.lock`. `deploy follow` of that `models.lock` records it in the
registry, so that every other server drops the canary as well.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from artifact import atomic
from artifact.manifest import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path


class CanaryStop(msgspec.Struct, frozen=True, kw_only=True):
    """A stopped canary.

    Parameters
    ----------
    at
        ISO 8601 in UTC.
    version, run_id
        The number of the version in the registry, and the run that made it: it tells registries apart.
    percent
        Of its line in `models.lock`.
    begun
        Whether a follower has begun to take the alias away.
    """

    at: str
    version: str
    run_id: str
    percent: float
    reason: str
    begun: bool = False


def now() -> str:
    """The time for `CanaryStop.at`, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def path_of(lock: Path, name: str) -> Path:
    """Where the file of a name is, for servers and followers of the same `models.lock`."""
    lock = lock.resolve()
    return lock.with_name(f"{lock.name}.stopped-{name}")


def write(lock: Path, name: str, stop: CanaryStop) -> None:
    """Write the file whole.

    Raises
    ------
    OSError
    """
    atomic.write(path_of(lock, name), msgspec.json.encode(stop) + b"\n")


def read(lock: Path, name: str) -> CanaryStop | None:
    """The stopped canary of a name; None if there is no file.

    Raises
    ------
    ArtifactError
        The file cannot be read.
    """
    path = path_of(lock, name)
    try:
        return msgspec.json.decode(path.read_bytes(), type=CanaryStop)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from None


def remove(lock: Path, name: str) -> None:
    """Remove the file, if there is one and it can be removed."""
    with suppress(OSError):
        path_of(lock, name).unlink(missing_ok=True)
