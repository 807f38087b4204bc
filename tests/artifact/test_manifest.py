"""The files of an artifact are the ones that training wrote, or it is refused."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from artifact import manifest
from artifact.manifest import ArtifactError, Golden
from artifact.signature import Column, Signature

SIGNATURE = Signature(task="regression", target="y", columns=(Column(name="x", kind="number"),))


def sealed(directory, name="linear", model=b"the model"):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.onnx").write_bytes(model)
    (directory / "card.md").write_text("# A card\n")
    manifest.write(
        directory,
        signature=SIGNATURE,
        golden=Golden(records=[{"x": 1.0}, {"x": 2.5}], scores=[[2.0], [5.0]], tolerance=1e-6),
        name=name,
        run_id="run",
        created="2026-01-01T00:00:00Z",
        runtime="onnx",
        algorithm="linear",
        metric="r2",
        metrics={"r2": 1.0},
        libraries={"scikit-learn": "1.9.1"},
    )
    return directory


def test_what_was_written_is_read(tmp_path):
    artifact = manifest.load(sealed(tmp_path), name="linear")
    assert artifact.signature == SIGNATURE
    assert artifact.manifest.metrics == {"r2": 1.0}
    assert artifact.manifest.files.keys() == {"model.onnx", "card.md", "signature.json", "golden.json"}


@pytest.mark.parametrize("file", ["model.onnx", "card.md", "signature.json", "golden.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "absent"])
@pytest.mark.parametrize("low_priority", [False, True])
def test_a_damaged_file_refuses_the_artifact_and_is_named(tmp_path, file, damage, low_priority):
    path = sealed(tmp_path) / file
    content = path.read_bytes()
    for place in {0, len(content) // 2, len(content) - 2}:
        if damage == "absent":
            path.unlink(missing_ok=True)
        elif damage == "truncated":
            path.write_bytes(content[:place])
        else:
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ArtifactError, match=file):
            manifest.load(tmp_path, low_priority=low_priority)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 21])
def test_a_digest_is_the_same_at_low_priority(tmp_path, monkeypatch, size):
    monkeypatch.setattr(manifest, "BLOCK_BYTES", 8)
    path = tmp_path / "file"
    path.write_bytes(bytes(range(size)))
    expected = hashlib.sha256(bytes(range(size))).hexdigest()
    assert manifest.digest(path) == manifest.digest(path, low_priority=True) == expected


def test_another_models_files_are_refused(tmp_path):
    one, other = sealed(tmp_path / "one"), sealed(tmp_path / "other", name="iris", model=b"another")
    shutil.copy(other / "model.onnx", one / "model.onnx")
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        manifest.load(one)
    with pytest.raises(ArtifactError, match="'iris'.*'linear'"):
        manifest.load(other, name="linear")


def test_a_file_that_no_manifest_lists_is_refused(tmp_path):
    (sealed(tmp_path) / "model.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(ArtifactError, match=r"model\.pkl"):
        manifest.load(tmp_path)


def test_another_format_says_to_train_again(tmp_path):
    path = sealed(tmp_path) / "manifest.json"
    inner = json.dumps(json.loads(path.read_text())["manifest"] | {"format": 99}, separators=(",", ":"))
    path.write_text(f'{{"sha256":"{hashlib.sha256(inner.encode()).hexdigest()}","manifest":{inner}}}')
    with pytest.raises(ArtifactError, match="format 99"):
        manifest.load(tmp_path)


def test_golden_rows_hold_the_scores(tmp_path):
    artifact = manifest.load(sealed(tmp_path))
    manifest.check_golden(artifact, lambda matrix: 2 * matrix)
    with pytest.raises(ArtifactError, match="differs by 0.0025"):
        manifest.check_golden(artifact, lambda matrix: 2.001 * matrix)
    with pytest.raises(ArtifactError, match="differs"):
        manifest.check_golden(artifact, lambda matrix: matrix * np.nan)
    with pytest.raises(ArtifactError, match="shape"):
        manifest.check_golden(artifact, lambda matrix: np.hstack([matrix, matrix]))
    with pytest.raises(ArtifactError, match="cannot be scored: .*division"):
        manifest.check_golden(artifact, lambda matrix: 1 // 0)
