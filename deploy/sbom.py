"""The bill of materials of the server's image: CycloneDX 1.6, with the licence of each package.

Packages, versions and digests are those of the lock that the image installs; licences are read from the
metadata of the packages as they are installed here. The same image has the same bill.
"""

from __future__ import annotations

import json
import re
import uuid
from importlib.metadata import PackageNotFoundError, distribution, metadata
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from artifact import __version__, manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from artifact.manifest import Artifact

FILE = "sbom.cdx.json"
IN_IMAGE = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
"""Markers of the lock that hold in every image; the others hold as they do here."""
UNKNOWN = "not known"
MAX_NAME = 100  # characters; some packages write the whole text of their licence into this field
_SERIAL = uuid.UUID("5d1a8a5e-3f0c-5b4b-9c57-6d0b8f1f2a11")


def bill(lock: str, artifacts: Iterable[tuple[str, Artifact]], base: str) -> str:
    """The bill of an image, as JSON.

    Parameters
    ----------
    lock
        The pins that the image installs, with their hashes.
    artifacts
        The version and the artifact of each model in it.
    base
        The name of the base image, whose own packages are not listed.
    """
    components = [*map(_package, pins_in_image(lock)), *(_model(*each) for each in artifacts)]
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": "okamochi",
                "name": "okamochi",
                "version": __version__,
                "licenses": [{"expression": "Apache-2.0"}],
            },
            "properties": [{"name": "okamochi:base-image", "value": base}],
        },
        "components": components,
        "dependencies": [{"ref": "okamochi", "dependsOn": [each["bom-ref"] for each in components]}],
    }
    serial = uuid.uuid5(_SERIAL, json.dumps(document, sort_keys=True))
    return json.dumps({"serialNumber": f"urn:uuid:{serial}", **document}, indent=1) + "\n"


def pins_in_image(lock: str) -> list[tuple[str, str, list[str]]]:
    """Name, version and allowed SHA-256 digests of each pin that an image installs."""
    found = []
    for pin in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE):
        head = pin.partition("\\")[0].strip()
        if "==" not in head:
            continue
        requirement = Requirement(head)
        if requirement.marker is not None and not requirement.marker.evaluate(IN_IMAGE):
            continue
        (version,) = requirement.specifier
        found.append((requirement.name, version.version, sorted(re.findall(r"sha256:([0-9a-f]{64})", pin))))
    return found


def _package(pin: tuple[str, str, list[str]]) -> dict[str, Any]:
    name, version, digests = pin
    address = f"pkg:pypi/{name.lower()}@{version}"
    return {
        "type": "library",
        "bom-ref": address,
        "name": name,
        "version": version,
        "purl": address,
        "licenses": licences_of(name),
        "externalReferences": [
            {
                "type": "distribution",
                "url": address,
                "comment": "each digest is of a file that the lock allows",
                "hashes": [{"alg": "SHA-256", "content": each} for each in digests],
            }
        ],
    }


def _model(version: str, artifact: Artifact) -> dict[str, Any]:
    found = artifact.manifest
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{found.name}@{version}",
        "name": found.name,
        "version": version,
        "description": f"{found.algorithm}, runs by {found.runtime}",
        "hashes": [{"alg": "SHA-256", "content": manifest.digest(artifact.path / manifest.MANIFEST)}],
    }


def licences_of(package: str) -> list[dict[str, Any]]:
    """The licences of an installed package, as CycloneDX has them; `UNKNOWN` if it names none."""
    try:
        found = metadata(package)
    except PackageNotFoundError:
        return _named([UNKNOWN])
    said = found.json  # names in lower case, with _ for -
    expression = said.get("license_expression")
    if expression:
        return [{"expression": expression}]
    prefix = "License :: "
    classified = [
        each.rpartition(" :: ")[2]
        for each in found.get_all("Classifier") or ()
        if each.startswith(prefix) and each != "License :: OSI Approved"
    ]
    if classified:
        return _named(classified)
    text = str(said.get("license") or "").strip()
    named = text if text and "\n" not in text and len(text) <= MAX_NAME else _title_of_file(package)
    return _named([named or UNKNOWN])


def _title_of_file(package: str) -> str:
    """The first line of a package's licence file if it is a title, such as "MIT License"; else ""."""
    found = distribution(package)
    names = found.metadata.get_all("License-File") or ()
    for file in found.files or ():
        if ".dist-info" in str(file) and file.name in names:
            first = file.read_text("utf-8").lstrip().partition("\n")[0].strip()
            if "License" in first and len(first) <= MAX_NAME:
                return first
    return ""


def _named(names: Iterable[str]) -> list[dict[str, Any]]:
    return [{"license": {"name": name}} for name in names]


def licences(document: Mapping[str, Any]) -> dict[str, list[str]]:
    """The packages of a bill by licence."""
    found: dict[str, list[str]] = {}
    for each in document["components"]:
        for licence in each.get("licenses", ()):
            name = licence.get("expression") or licence["license"]["name"]
            found.setdefault(name, []).append(f"{each['name']} {each['version']}")
    return dict(sorted(found.items()))
