"""The report of a benchmark with a command of its own: the machine, versions and figures, as JSON."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


def publish(path: Path, packages: Iterable[str], figures: Mapping[str, Any]) -> None:
    """Write and print the report.

    Parameters
    ----------
    packages
        Those whose versions it states.
    """
    found = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f}",
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        **figures,
    }
    text = json.dumps(found, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    print(text)
