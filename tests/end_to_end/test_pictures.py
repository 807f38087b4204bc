"""The example of pictures: trained, served, and asked with files as clients have them."""

from __future__ import annotations

import base64
import io
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.bento_server import bento_server, prepare
from tests.servers import PATIENCE_S
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "digit_pictures"
ROUTE = f"/models/{NAME}/predict"


@dataclass(frozen=True)
class Served:
    url: str
    log: Path

    def post(self, path: str, **request: Any) -> httpx.Response:
        return httpx.post(self.url + path, timeout=PATIENCE_S, **request)

    def label(self, **request: Any) -> Any:
        reply = self.post(ROUTE, **request)
        assert reply.status_code == 200, reply.text
        return reply.json()["prediction"]


@pytest.fixture(scope="module")
def served(champions: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("pictures")
    registry = Registry(champions)
    version = registry.version(NAME, CHAMPION)
    assert version is not None
    prepare(folder / "site", {NAME: (registry.download(version, folder / "champion"), "1")})
    log = folder / "site" / "log"
    with bento_server(folder / "site", settings={"OKAMOCHI_PREDICTION_LOG": str(log)}) as server:
        yield Served(server.url, log)


def picture(number: int, side: int = 8) -> Image.Image:
    pixels = 255 - load_digits().images[number] * 15.9375
    return Image.fromarray(pixels.round().astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)


def file_of(found: Image.Image, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    found.save(out, form)
    return out.getvalue()


@pytest.mark.timeout(900)  # the first one trains what is not in the cache
def test_a_file_gets_the_same_answer_in_each_form_and_protocol(served: Served) -> None:
    digits = [int(label) for label in load_digits().target[:20]]
    files = [file_of(picture(number, 100), form) for number in range(20) for form in ("PNG", "JPEG", "WEBP")]
    cells = [base64.b64encode(content).decode() for content in files]
    many = served.label(json={"columns": {"image": cells}})

    assert sum(str(one) == str(other) for one, other in zip(many[::3], digits, strict=True)) >= 17
    assert served.label(json={"features": [[cell] for cell in cells]}) == many
    for i, form in enumerate(("png", "jpeg", "webp")):
        assert served.label(content=files[i], headers={"Content-Type": f"image/{form}"}) == [many[i]]
    assert served.label(json={"records": [{"image": f"data:image/png;base64,{cells[0]}"}]}) == [many[0]]
    inputs = [{"name": "image", "shape": [len(cells), 1], "datatype": "BYTES", "data": cells}]
    found = served.post(f"/v2/models/{NAME}/infer", json={"inputs": inputs})
    assert found.status_code == 200, found.text
    assert [str(label) for label in found.json()["outputs"][0]["data"]] == [str(label) for label in many]
    found = served.post("/invocations", json={"dataframe_records": [{"image": cell} for cell in cells]})
    assert found.status_code == 200, found.text


def test_what_is_no_picture_is_refused_with_its_place(served: Served) -> None:
    good = base64.b64encode(file_of(picture(0))).decode()
    reply = served.post(ROUTE, json={"records": [{"image": good}, {"image": "bm9uZQ=="}]})
    assert reply.status_code == 422
    (error,) = reply.json()["errors"]
    assert (error["row"], error["column"]) == (1, "image")
    assert error["reason"] == "no picture that can be read; expected a PNG, JPEG or WebP file"

    for content, said in [
        (b"", "missing; expected a picture"),
        (b"none", "no picture that can be read"),
        (file_of(picture(0))[:-30], "cannot be decoded"),
        (file_of(Image.new("1", (20_000, 20_000))), "pixels; at most 40,000,000"),
    ]:
        reply = served.post(ROUTE, content=content, headers={"Content-Type": "image/png"})
        assert reply.status_code == 422
        assert said in reply.text
    reply = served.post(ROUTE, content=b"GIF89a", headers={"Content-Type": "image/gif"})
    assert reply.status_code == 415
    assert "image/png or image/jpeg or image/webp" in reply.text


def test_a_picture_is_explained_and_no_log_holds_it(served: Served) -> None:
    content = file_of(picture(3, 64))
    reply = served.post(f"/models/{NAME}/explain", content=content, headers={"Content-Type": "image/png"})
    assert reply.status_code == 200, reply.text
    (explained,) = reply.json()["explanations"]
    assert [each["column"] for each in explained["contributions"]] == ["image"]

    end = time.monotonic() + PATIENCE_S
    while not (lines := [line for file in served.log.rglob("*.jsonl") for line in file.open()]):
        assert time.monotonic() < end
        time.sleep(0.1)
    text = base64.b64encode(content).decode()
    assert not any(text[40:80] in line for line in lines)
    for line in lines:
        assert "image" not in json.loads(line)["columns"]  # without a key for hashes


def test_a_server_describes_pictures(served: Served) -> None:
    about = httpx.get(f"{served.url}/models/{NAME}").json()
    (column,) = about["signature"]["columns"]
    assert column["kind"] == "image"
    assert served.label(json={"records": [about["example"]]})
    document = httpx.get(f"{served.url}/openapi.json").json()
    content = document["paths"][ROUTE]["post"]["requestBody"]["content"]
    assert {"application/json", "image/png", "image/jpeg", "image/webp"} <= content.keys()
