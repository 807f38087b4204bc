"""Where the registry is: `MLFLOW_TRACKING_URI`, else an SQLite file in the folder of our own state."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from training.settings import CHECKOUT


def state_folder() -> Path:
    """Folder of the default registry and of waiting trainings: `OKAMOCHI_STATE_DIR`, else the checkout."""
    return Path(os.environ.get("OKAMOCHI_STATE_DIR") or CHECKOUT).expanduser().resolve()


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else the SQLite file of the checkout, whatever the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{state_folder() / 'mlflow.db'}"


def shown_uri(uri: str) -> str:
    """A URI without the password that may stand in it."""
    try:
        parts = urlsplit(uri)
        if parts.password is None:
            return uri
        return uri.replace(f":{parts.password}@", ":***@")
    except ValueError:
        return uri
