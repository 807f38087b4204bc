"""The version that an alias or `latest` stands for now."""

from __future__ import annotations

import re

from training.registry.mlflow_registry import Registry, exists, read_alias

_ALIAS = re.compile(r"models:/(?P<name>[^/@]+)@(?P<alias>[^/@]+)/?")
_LATEST = re.compile(r"models:/(?P<name>[^/@]+)/latest/?")


def named_now(uri: str) -> str:
    """`models:/NAME/VERSION` for an alias or for `latest`; any other or absent name is returned unchanged.

    Raises
    ------
    RegistryError
        The registry cannot be read.
    """
    if found := _ALIAS.fullmatch(uri):
        version = read_alias(found["name"], found["alias"])
        return uri if version is None else version.uri
    found = _LATEST.fullmatch(uri)
    if found and exists():
        versions = Registry().versions(found["name"])
        return versions[0].uri if versions else uri
    return uri
