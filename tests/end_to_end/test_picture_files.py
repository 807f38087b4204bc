"""ONNX files over pictures, one in a worker and one in a process of its own, asked as clients ask."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from artifact import manifest
from tests.bento_server import bento_server, prepare
from tests.servers import PATIENCE_S
from tests.training.imported.picture_graphs import classifier
from training.imported.load import load
from training.imported.pictures import contract_of, form_of, with_pixels
from training.imported.seal import seal
from training.settings import load_use_case

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLASSES = ("cat", "dog", "eel")
MODELS = {"quick": classifier((16, 24)), "apart": classifier((16, 24), rows=1)}


def sealed(folder: Path, name: str) -> Path:
    folder.mkdir()
    onnx.save(MODELS[name], folder / "model.onnx")
    text = '[model]\nsource = "model.onnx"\n[images]\nmean = [0.5]\nclasses = ["cat", "dog", "eel"]\n'
    (folder / f"{name}.toml").write_text(text)
    use_case = load_use_case(folder / f"{name}.toml")
    assert use_case.images is not None
    opened = load(folder / "model.onnx", trust=False, tensors=True)
    loaded, pixels = with_pixels(opened, use_case.images, folder / "pixels")
    contract = contract_of(loaded, pixels, use_case)
    seal(
        folder / "artifact",
        use_case,
        loaded,
        contract.spec,
        contract.signature,
        score=contract.score,
        records=contract.records,
        tolerance=1e-4,
        card="",
        run_id="",
        metric="accuracy",
        metrics={},
        form=form_of(loaded.model, contract),
    )
    return folder / "artifact"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("files")
    artifacts = {name: sealed(folder / name, name) for name in MODELS}
    assert {name: manifest.load(path).manifest.runtime for name, path in artifacts.items()} == {
        "quick": "onnx",
        "apart": "python",
    }
    prepare(folder / "site", {name: (path, "1") for name, path in artifacts.items()})
    with bento_server(folder / "site") as server:
        yield server.url


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (60, 90, 3), np.uint8))


def file_of(found: Image.Image, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    found.save(out, form)
    return out.getvalue()


def expected(name: str, found: Image.Image) -> list[float]:
    small = np.asarray(found.resize((24, 16), Image.Resampling.BILINEAR)) / 255 - 0.5
    session = onnxruntime.InferenceSession(MODELS[name].SerializeToString())
    (logits,) = session.run(["logits"], {"x": small.transpose(2, 0, 1)[None].astype(np.float32)})[0]
    powers = np.exp(logits.astype(np.float64))
    return (powers / powers.sum()).tolist()  # type: ignore[no-any-return]


def answer(url: str, name: str, **request: Any) -> Any:
    reply = httpx.post(f"{url}/models/{name}/predict", timeout=PATIENCE_S, **request)
    assert reply.status_code == 200, reply.text
    return reply.json()["prediction"]


@pytest.mark.parametrize("name", MODELS)
def test_a_file_is_asked_in_each_form_that_a_model_trained_here_is(name: str, url: str) -> None:
    pictures = [picture(seed) for seed in range(6)]
    cells = [base64.b64encode(file_of(each)).decode() for each in pictures]
    probabilities = [expected(name, each) for each in pictures]
    labels = [CLASSES[int(np.argmax(each))] for each in probabilities]
    assert answer(url, name, json={"records": [{"image": each} for each in cells]}) == labels
    for one, label in zip(pictures, labels, strict=True):
        headers = {"Content-Type": "image/png"}
        assert answer(url, name, content=file_of(one), headers=headers) == [label]
        assert answer(url, name, files={"image": ("photo.png", file_of(one), "image/png")}) == [label]
    inputs = [{"name": "image", "shape": [6, 1], "datatype": "BYTES", "data": cells}]
    reply = httpx.post(f"{url}/v2/models/{name}/infer", json={"inputs": inputs}, timeout=PATIENCE_S)
    assert reply.status_code == 200, reply.text
    reply = httpx.post(
        f"{url}/models/{name}/predict",
        json={"records": [{"image": each} for each in cells], "probabilities": True},
        timeout=PATIENCE_S,
    )
    found = reply.json()["probabilities"]
    shown = [[row[label] for label in CLASSES] if isinstance(row, dict) else row for row in found]
    np.testing.assert_allclose(shown, probabilities, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_no_picture_is_422_with_its_row(name: str, url: str) -> None:
    good = base64.b64encode(file_of(picture(0))).decode()
    reply = httpx.post(
        f"{url}/models/{name}/predict",
        json={"records": [{"image": good}, {"image": good[:200]}]},
        timeout=PATIENCE_S,
    )
    assert reply.status_code == 422
    assert [(each["row"], each["column"]) for each in reply.json()["errors"]] == [(1, "image")]
