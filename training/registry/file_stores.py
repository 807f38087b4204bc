"""The stores that MLflow keeps files in, and the client library that each of them needs."""

from __future__ import annotations

import importlib.util

from training.registry.place import shown_uri
from training.registry.records import RegistryError

_CLIENTS = {
    "s3": ("boto3", "boto3"),
    "gs": ("google.cloud.storage", "google-cloud-storage"),
    "wasbs": ("azure.storage.blob", "azure-storage-blob azure-identity"),
    "abfss": ("azure.storage.filedatalake", "azure-storage-file-datalake azure-identity"),
}
"""The client library of a store, by the scheme of its address: its module and its package."""


def check_store(uri: str) -> None:
    """Refuse a store of files that this Python has no client for: before hours of training, not after them.

    Raises
    ------
    RegistryError
        Names the package to install.
    """
    scheme = uri.partition(":")[0]
    module, package = _CLIENTS.get(scheme, ("", ""))
    if not module:
        return
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # a package above it
        found = None
    if found is None:
        raise RegistryError(
            f"MLflow keeps the files of this experiment at {shown_uri(uri)}, and this Python has no client "
            f"for {scheme}: pip install {package}. Nothing was trained."
        )
