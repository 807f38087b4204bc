"""The bill of materials lists what the image installs, in the form that CycloneDX 1.6 requires."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from artifact import manifest, store
from deploy import image, sbom
from deploy.__main__ import main
from deploy.image import SKLEARN_ONLY, without
from tests.servers import CHECKOUT
from tests.serving import artifacts

LOCK = (CHECKOUT / "requirements" / "serving.txt").read_text()
TYPES = {"library", "machine-learning-model", "container"}
LICENCE = re.compile(r"\(?[A-Za-z0-9.+-]+(?: WITH [A-Za-z0-9.+-]+)?\)?(?: (?:AND|OR) \(?[A-Za-z0-9.+-]+\)?)*")


def check(document: dict[str, Any]) -> None:
    """What the schema of CycloneDX 1.6 requires of the parts that are used here."""
    assert document["bomFormat"] == "CycloneDX"
    assert document["specVersion"] == "1.6"
    assert document["version"] >= 1
    assert re.fullmatch(
        r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", document["serialNumber"]
    )
    assert document.keys() <= {
        "$schema", "bomFormat", "specVersion", "serialNumber", "version", "metadata", "components",
        "dependencies",
    }  # fmt: skip
    components = [document["metadata"]["component"], *document["components"]]
    for each in components:
        assert each["type"] in TYPES
        assert each["name"]
        assert each["version"]
        hashes = [
            *each.get("hashes", []),
            *(h for r in each.get("externalReferences", ()) for h in r["hashes"]),
        ]
        for found in hashes:
            assert found.keys() == {"alg", "content"}
            assert re.fullmatch(r"[0-9a-f]{64}", found["content"])
        for reference in each.get("externalReferences", ()):
            assert reference["type"] == "distribution"
            assert reference["url"] == each["purl"]
        licences = each.get("licenses", [])
        expressions = [found for found in licences if "expression" in found]
        assert not expressions or len(licences) == 1, "an expression stands alone"
        assert all(LICENCE.fullmatch(found["expression"]) for found in expressions), expressions
        assert all(found["license"]["name"] for found in licences if found not in expressions)
    references = [each["bom-ref"] for each in components]
    assert len(set(references)) == len(references)
    for dependency in document["dependencies"]:
        assert dependency["ref"] in references
        assert set(dependency["dependsOn"]) <= set(references)


def test_every_pin_of_the_image_is_listed_with_its_digests_and_licence() -> None:
    document = json.loads(sbom.bill(LOCK, [], "python:3.11-slim"))

    check(document)
    listed = {each["name"]: each for each in document["components"]}
    pins = re.findall(r"^([a-z0-9-]+)==(\S+)(.*)", LOCK, flags=re.MULTILINE)
    assert len({name for name, *_ in pins}) > 60
    for name, _, marker in pins:
        if "win32" not in marker and "darwin" not in marker:
            assert name in listed, name
    numpy = listed["numpy"]
    assert f"numpy=={numpy['version']}" in LOCK
    digests = [found["content"] for found in numpy["externalReferences"][0]["hashes"]]
    assert len(digests) > 5
    assert all(f"sha256:{digest}" in LOCK for digest in digests)
    unknown = [name for name, each in listed.items() if sbom.UNKNOWN in json.dumps(each["licenses"])]
    assert unknown == []
    assert listed["skops"]["licenses"] == [{"license": {"name": "MIT License (MIT)"}}], (
        "from its licence file"
    )


def test_a_pin_of_another_system_is_not_listed() -> None:
    lock = "".join(
        f"{name}==1.0 {marker}\\\n    --hash=sha256:{'a' * 64}\n"
        for name, marker in (
            ("here", ""),
            ("there", "; sys_platform == 'win32' "),
            ("mac", "; sys_platform == 'darwin' "),
        )
    )
    assert sbom.pins_in_image(lock) == [("here", "1.0", ["a" * 64])]


@pytest.mark.usefixtures("bentoml_home")
def test_the_models_of_the_image_are_listed_and_the_same_image_has_the_same_bill(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the build context, and by the command."""
    made = artifacts.iris(tmp_path / "iris")
    tag = store.put(made.path, name="iris", version="4")
    (tmp_path / "models.lock").write_text(f"iris {tag}\n")
    monkeypatch.setattr(image, "bundled", lambda: {"iris": tag})
    monkeypatch.setattr(image, "beside", lambda: {"iris canary": tag})  # the same version is listed once

    lock, bill = image.materials({"iris": tag}, CHECKOUT)
    assert image.materials({"iris": tag}, CHECKOUT) == (lock, bill)
    assert lock == without(LOCK, SKLEARN_ONLY)
    document = json.loads(bill)
    check(document)
    (model,) = [each for each in document["components"] if each["type"] == "machine-learning-model"]
    assert (model["name"], model["version"]) == ("iris", "4")
    assert model["hashes"][0]["content"] == manifest.digest(made.path / "manifest.json")
    assert not {each["name"] for each in document["components"]} & set(SKLEARN_ONLY)

    assert main(["sbom"]) == 0
    assert capsys.readouterr().out == bill
    assert main(["sbom", "--to", str(tmp_path / "bill.json")]) == 0
    assert (tmp_path / "bill.json").read_text() == bill
    assert "packages and models" in capsys.readouterr().out
    assert main(["sbom", "--licences"]) == 0
    assert re.search(r"^MIT\n  \S", capsys.readouterr().out, flags=re.MULTILINE)
