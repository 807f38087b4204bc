"""Models that take tensors of any rank: `/v2` gives what onnxruntime gives, and names a wrong input."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from artifact import manifest
from artifact.onnx_session import open_session
from artifact.tensors import DTYPES
from serving.http.gateway import Gateway
from serving.http.openapi import document
from serving.scoring import catalog
from tests.artifact.graphs import GRAPHS, seal
from tests.bento_server import bento_server, prepare, store
from tests.servers import PATIENCE_S
from tests.serving.conftest import PATIENT_SETTINGS, ask, elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from artifact.manifest import Artifact
    from serving.scoring.catalog import Catalog
    from tests.serving.conftest import Answer


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("tensors")
    return {name: seal(folder / name, name, make()) for name, make in GRAPHS.items()}


@pytest.fixture(scope="module")
def models(artifacts: dict[str, Artifact]) -> Iterator[Catalog]:
    found = catalog.load(
        [(name, name) for name in artifacts],
        lambda tag: (artifacts[tag].path, {"version": "3"}),
        PATIENT_SETTINGS,
    )
    assert found.refused == {}
    yield found
    found.close()


@pytest.fixture(scope="module")
def gateway(models: Catalog) -> Gateway:
    return Gateway(elsewhere, models, PATIENT_SETTINGS)


def tensor(name: str, array: np.ndarray[Any, Any], *, nested: bool = False) -> dict[str, Any]:
    datatype = next(key for key, dtype in DTYPES.items() if dtype == array.dtype)
    data = array.tolist() if nested else array.ravel().tolist()
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": data}


def infer(gateway: Gateway, model: str, inputs: Any, **more: Any) -> Answer:
    body = json.dumps({"inputs": inputs, **more}).encode()
    return asyncio.run(ask(gateway, "POST", f"/v2/models/{model}/infer", body))


def own(name: str, feed: Mapping[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """What onnxruntime itself gives."""
    return open_session(GRAPHS[name]().SerializeToString()).run(None, dict(feed))  # type: ignore[no-any-return]


def feeds() -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    random = np.random.default_rng(5)
    mask = random.random((3, 6)) > 0.3
    words = np.array([["Grüße", ""], ["a", "日本"]], object)
    return {
        "images": {"image": random.normal(size=(5, 3, 8, 8)).astype(np.float32)},
        "one_image": {"image": random.normal(size=(1, 3, 8, 8)).astype(np.float32)},
        "sequences": {"ids": random.integers(0, 10, (3, 6)), "mask": mask},
        "texts": {"words": words},
        "dependent": {"x": random.normal(size=(4, 2, 2)).astype(np.float32)},
        "scalars": {"wave": random.random((2, 1, 4)).astype(np.float32), "rate": np.array(3)},
        "logarithms": {"x": random.random((1, 1, 2)).astype(np.float32) + 1},
    }


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_json_gives_what_onnxruntime_gives(gateway: Gateway, name: str, nested: bool) -> None:
    """Every datatype and rank, flat or nested, with the outputs in the order of the file."""
    feed = feeds()[name]
    inputs = [tensor(key, array, nested=nested and array.ndim > 0) for key, array in feed.items()]
    if name == "scalars" and nested:
        inputs[1]["data"] = [3]

    found = infer(gateway, name, inputs)

    assert found.status == 200, found.body
    body = found.json()
    assert (body["model_name"], body["model_version"]) == (name, "3")
    for output, expected in zip(body["outputs"], own(name, feed), strict=True):
        assert output["shape"] == list(expected.shape)
        data = np.array(output["data"], expected.dtype).reshape(expected.shape)
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(data, expected, rtol=1e-6, atol=1e-7)
        else:
            np.testing.assert_array_equal(data, expected)


def binary(gateway: Gateway, model: str, feed: Mapping[str, np.ndarray[Any, Any]], **more: Any) -> Answer:
    behind, inputs = [], []
    for key, array in feed.items():
        about = tensor(key, array)
        about.pop("data")
        data = array.tobytes()
        if array.dtype == object:
            encoded = [text.encode() for text in array.ravel().tolist()]
            data = b"".join(len(text).to_bytes(4, "little") + text for text in encoded)
        behind.append(data)
        inputs.append(about | {"parameters": {"binary_data_size": len(data)}})
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}, **more}).encode()
    size = {"Inference-Header-Content-Length": str(len(head))}
    return asyncio.run(ask(gateway, "POST", f"/v2/models/{model}/infer", head + b"".join(behind), size))


@pytest.mark.parametrize("name", GRAPHS)
def test_binary_tensors_give_the_same_bytes(gateway: Gateway, name: str) -> None:
    """Behind the JSON, each as long as it says."""
    feed = feeds()[name]

    found = binary(gateway, name, feed)

    assert found.status == 200, found.body
    size = int(found.headers["inference-header-content-length"])
    place = size
    for output, expected in zip(json.loads(found.body[:size])["outputs"], own(name, feed), strict=True):
        length = output["parameters"]["binary_data_size"]
        data = found.body[place : place + length]
        place += length
        assert output["shape"] == list(expected.shape)
        if expected.dtype == object:
            texts = [text.encode() for text in expected.ravel().tolist()]
            assert data == b"".join(len(text).to_bytes(4, "little") + text for text in texts)
        else:
            array = np.frombuffer(data, expected.dtype).reshape(expected.shape)
            np.testing.assert_allclose(array, expected, rtol=1e-6, atol=1e-7)
    assert place == len(found.body)


def test_a_body_without_json_is_the_one_input(gateway: Gateway) -> None:
    """Of an input of which only the rows may vary; others need their shape."""
    feed = feeds()["images"]
    path, size = "/v2/models/{}/infer", {"Inference-Header-Content-Length": "0"}

    found = asyncio.run(ask(gateway, "POST", path.format("images"), feed["image"].tobytes(), size))
    short = asyncio.run(ask(gateway, "POST", path.format("images"), b"1234", size))
    several = asyncio.run(ask(gateway, "POST", path.format("sequences"), b"1234", size))

    assert found.status == 200
    assert json.loads(found.body[: int(found.headers["inference-header-content-length"])])["outputs"][1][
        "shape"
    ] == [5]
    assert (short.status, several.status) == (400, 422)
    assert "expected FP32 of shape [-1, 3, 8, 8], 768 bytes a row" in short.json()["error"]


def test_only_the_outputs_that_are_asked_for_come(gateway: Gateway) -> None:
    """In the order of the request; an unknown one is named."""
    image = tensor("image", feeds()["images"]["image"])

    found = infer(gateway, "images", [image], outputs=[{"name": "class"}], id="mine")
    unknown = infer(gateway, "images", [image], outputs=[{"name": "klass"}])

    assert [output["name"] for output in found.json()["outputs"]] == ["class"]
    assert found.json()["id"] == "mine"
    assert unknown.status == 422
    assert "no output 'klass'; 'images' has 'logits', 'class'" in unknown.json()["error"]


def test_requests_at_the_same_time_get_their_own_rows(gateway: Gateway) -> None:
    """Of all lengths, so that some share a call and some may not; wrong ones among them fail alone."""
    random = np.random.default_rng(11)
    sent = []
    for number in range(120):
        shape = (int(random.integers(1, 4)), int(random.integers(1, 5)))
        high = 10 if number % 10 else 99  # an id beyond the table, which only the graph refuses
        feed = {"ids": random.integers(0, high, shape), "mask": random.random(shape) > 0.5}
        if high == 99:
            feed["ids"][0, 0] = 77
        sent.append(feed)

    async def all_at_once() -> list[Answer]:
        bodies = [
            json.dumps({"inputs": [tensor(key, array) for key, array in feed.items()]}).encode()
            for feed in sent
        ]
        return await asyncio.gather(
            *(ask(gateway, "POST", "/v2/models/sequences/infer", body) for body in bodies)
        )

    for number, (feed, found) in enumerate(zip(sent, asyncio.run(all_at_once()), strict=True)):
        if number % 10 == 0:
            assert found.status == 422
            assert "does not take these tensors" in found.json()["error"]
            assert "/" not in found.json()["error"].replace("/Gather", "")
            continue
        assert found.status == 200, found.body
        pooled, whole = own("sequences", feed)
        outputs = found.json()["outputs"]
        np.testing.assert_allclose(
            np.array(outputs[0]["data"]).reshape(pooled.shape), pooled, rtol=1e-2, atol=1e-3
        )
        assert outputs[1]["data"] == whole.tolist()


def test_a_request_of_many_rows_is_parted_and_comes_back_whole(gateway: Gateway) -> None:
    """More rows than one call takes, in their order."""
    random = np.random.default_rng(3)
    feed = {"image": random.normal(size=(3_000, 3, 8, 8)).astype(np.float32)}

    found = binary(gateway, "images", feed)

    size = int(found.headers["inference-header-content-length"])
    logits = np.frombuffer(found.body, np.float32, 6_000, size).reshape(3_000, 2)
    np.testing.assert_allclose(logits, own("images", feed)[0], rtol=1e-5, atol=1e-6)


JSON = {"Content-Type": "application/json"}
IMAGE = {"name": "image", "datatype": "FP32", "shape": [1, 3, 8, 8], "data": [0.5] * 192}
IDS = {"name": "ids", "datatype": "INT64", "shape": [1, 2], "data": [1, 2]}
MASK = {"name": "mask", "datatype": "BOOL", "shape": [1, 2], "data": [True, False]}
WRONG: dict[str, tuple[str, Any, int, str]] = {
    "no list": ("images", {}, 422, '"inputs": expected a list of tensors, got an object'),
    "none": ("images", [], 422, "No input 'image'; 'images' takes 'image'"),
    "no object": ("images", [1], 422, "inputs[0]: expected an object with a name, got 1"),
    "unknown": ("images", [IMAGE | {"name": "img"}], 422, "unknown input 'img'; did you mean 'image'?"),
    "far": ("images", [IMAGE | {"name": "zz"}], 422, "unknown input 'zz'; 'images' takes 'image'"),
    "twice": ("images", [IMAGE, IMAGE], 422, "inputs[1]: duplicate input 'image'"),
    "one absent": ("sequences", [IDS], 422, "No input 'mask'; 'sequences' takes 'ids', 'mask'"),
    "another datatype": (
        "images",
        [IMAGE | {"datatype": "FP64"}],
        422,
        "input 'image': datatype: expected FP32, got the text 'FP64'",
    ),
    "no datatype": ("images", [IMAGE | {"datatype": "float"}], 422, "which is no datatype (these are FP16"),
    "another rank": (
        "images",
        [IMAGE | {"shape": [3, 8, 8]}],
        422,
        "input 'image': shape: expected [-1, 3, 8, 8] (-1: any size), got [3, 8, 8]",
    ),
    "another size": ("images", [IMAGE | {"shape": [1, 8, 8, 3]}], 422, "got [1, 8, 8, 3]"),
    "negative": ("images", [IMAGE | {"shape": [-1, 3, 8, 8]}], 422, "expected whole numbers from 0, got -1"),
    "no whole number": ("images", [IMAGE | {"shape": [1.0, 3, 8, 8]}], 422, "got 1.0"),
    "no shape": ("images", [IMAGE | {"shape": None}], 422, "input 'image': shape: expected a list"),
    "too few": ("images", [IMAGE | {"data": [1.0]}], 422, "data has 1 values, but its shape is [1, 3, 8, 8]"),
    "huge": ("images", [IMAGE | {"shape": [10**15, 3, 8, 8]}], 422, "data has 192 values, but its shape"),
    "no data": ("images", [IMAGE | {"data": None}], 422, "input 'image': data: expected a list, got null"),
    "no rows": ("images", [IMAGE | {"shape": [0, 3, 8, 8], "data": []}], 422, "expected at least one row"),
    "a text": (
        "images",
        [IMAGE | {"data": [*[0.5] * 191, "x"]}],
        422,
        "input 'image', element [0, 2, 7, 7]: expected FP32, got the text 'x'",
    ),
    "null": (
        "images",
        [IMAGE | {"data": [None, *[0.5] * 191]}],
        422,
        "input 'image', element [0, 0, 0, 0]: expected FP32, got null",
    ),
    "beyond the type": (
        "images",
        [IMAGE | {"data": [0.5, 1e39, *[0.5] * 190]}],
        422,
        "element [0, 0, 0, 1]: expected FP32, got 1e+39",
    ),
    "a giant": ("images", [IMAGE | {"data": [10**400, *[0.5] * 191]}], 422, "expected FP32, got a number of"),
    "nested otherwise": (
        "images",
        [IMAGE | {"data": [[0.5] * 192]}],
        422,
        "its lists are not nested as its shape [1, 3, 8, 8] says",
    ),
    "a fraction": (
        "sequences",
        [IDS | {"data": [1, 1.5]}, MASK],
        422,
        "element [0, 1]: expected INT64, got 1.5",
    ),
    "beyond int64": ("sequences", [IDS | {"data": [1, 2**63]}, MASK], 422, "expected INT64"),
    "no truth": ("sequences", [IDS, MASK | {"data": [2, 0]}], 422, "element [0, 0]: expected BOOL, got 2"),
    "two lengths": (
        "sequences",
        [IDS, MASK | {"shape": [1, 3], "data": [True] * 3}],
        422,
        "input 'mask': shape [1, 3]: its size 'length' is 3, but that of input 'ids' is 2",
    ),
    "two batches": (
        "sequences",
        [IDS, MASK | {"shape": [2, 2], "data": [True] * 4}],
        422,
        "its size 'batch' is 2, but that of input 'ids' is 1",
    ),
    "a number for a text": (
        "texts",
        [{"name": "words", "datatype": "BYTES", "shape": [1, 2], "data": ["a", 1]}],
        422,
        "element [0, 1]: expected BYTES, a text, got 1",
    ),
    "a fixed batch": (
        "one_image",
        [IMAGE | {"shape": [2, 3, 8, 8], "data": [0.5] * 384}],
        422,
        "expected [1, 3",
    ),
    "shared memory": (
        "images",
        [IMAGE | {"parameters": {"shared_memory_region": "x"}}],
        422,
        "input 'image': shared memory is not supported",
    ),
    "binary without a header": (
        "images",
        [
            {key: IMAGE[key] for key in ("name", "datatype", "shape")}
            | {"parameters": {"binary_data_size": 768}}
        ],
        400,
        "needs the header Inference-Header-Content-Length",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_request_names_the_input(gateway: Gateway, what: str) -> None:
    """In one sentence, in the protocol's shape."""
    model, inputs, status, said = WRONG[what]

    found = infer(gateway, model, inputs)

    assert found.status == status, found.body
    assert list(found.json()) == ["error"]
    assert said in found.json()["error"]


def test_binary_lengths_are_checked(gateway: Gateway) -> None:
    """Too short, too long, and bytes that nobody describes."""
    about = {key: IMAGE[key] for key in ("name", "datatype", "shape")}
    for size, data, said in (
        (764, bytes(764), "binary_data_size is 764, but shape [1, 3, 8, 8] of FP32 is 768 bytes"),
        (768, bytes(700), "binary_data_size is 768, but only 700 bytes are left"),
        (768, bytes(800), "800 bytes follow the JSON, but the inputs' binary_data_size adds up to 768"),
    ):
        head = json.dumps({"inputs": [about | {"parameters": {"binary_data_size": size}}]}).encode()
        found = asyncio.run(
            ask(
                gateway,
                "POST",
                "/v2/models/images/infer",
                head + data,
                {"Inference-Header-Content-Length": str(len(head))},
            )
        )
        assert found.status == 400
        assert said in found.json()["error"]


def test_numbers_that_json_does_not_have_come_in_binary_alone(gateway: Gateway) -> None:
    """The logarithm of a negative number: refused in JSON with the way to get it."""
    feed = {"x": np.array([[[-1.0, 2.0]]], np.float32)}

    found = infer(gateway, "logarithms", [tensor("x", feed["x"])])
    bytes_of = binary(gateway, "logarithms", feed)

    assert found.status == 422
    assert "output 'y' has a number that JSON does not have" in found.json()["error"]
    values = np.frombuffer(
        bytes_of.body, np.float32, 2, int(bytes_of.headers["inference-header-content-length"])
    )
    assert np.isnan(values[0])
    assert values[1] == np.log(np.float32(2))


def test_metadata_has_the_real_names_datatypes_and_shapes(gateway: Gateway) -> None:
    """In the protocol's terms, at the route of the name and of the version."""
    for path in ("/v2/models/sequences", "/v2/models/sequences/versions/3"):
        found = asyncio.run(ask(gateway, "GET", path)).json()
        assert found["platform"] == "onnxruntime_onnx"
        assert found["inputs"] == [
            {"name": "ids", "datatype": "INT64", "shape": [-1, -1]},
            {"name": "mask", "datatype": "BOOL", "shape": [-1, -1]},
        ]
        assert found["outputs"] == [
            {"name": "pooled", "datatype": "FP16", "shape": [-1, 5]},
            {"name": "whole", "datatype": "BOOL", "shape": [-1]},
        ]


@pytest.mark.parametrize(
    "path",
    ["/predict", "/models/images/predict", "/models/images/versions/3/predict", "/invocations", "/score"],
)
def test_routes_of_rows_name_v2(gateway: Gateway, path: str) -> None:
    """Each in its own protocol's shape."""
    found = asyncio.run(ask(gateway, "POST", path, b'{"features": [[1]]}'))

    assert found.status == (400 if path == "/invocations" else 422)
    said = found.json().get("detail") or found.json().get("message")
    assert "'images' takes tensors, not rows of a table: send them to POST /v2/models/images/infer" in said


def test_pages_show_the_tensors_and_the_example_works_when_pasted(gateway: Gateway, models: Catalog) -> None:
    """`/models`, OpenAPI and the page for a browser."""
    about = asyncio.run(ask(gateway, "GET", "/models/images")).json()
    assert (about["runtime"], about["task"]) == ("python", "tensors")
    assert "it takes tensors" in about["runtime_reason"]
    assert about["signature"]["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 8, 8]}]
    assert about["signature"]["batched"] is True
    for name in GRAPHS:
        example = asyncio.run(ask(gateway, "GET", f"/models/{name}")).json()["example"]
        assert infer(gateway, name, **example).status == 200, name
    found = document(models, PATIENT_SETTINGS)
    operation = found["paths"]["/v2/models/images/infer"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["examples"]["tensors"]["value"]
    assert infer(gateway, "images", **example).status == 200
    assert "/models/images/predict" not in found["paths"]
    page = asyncio.run(ask(gateway, "GET", "/docs"))
    assert page.status == 200
    assert b"POST /v2/models/images/infer" in page.body


def test_more_bytes_than_a_model_may_hold_are_refused(artifacts: dict[str, Artifact]) -> None:
    """A request alone with 413, one that finds no room beside those that wait with 429."""
    import dataclasses

    settings = dataclasses.replace(PATIENT_SETTINGS, max_matrix_bytes=2_000)
    models = catalog.load(
        [("images", "images")], lambda tag: (artifacts[tag].path, {"version": "1"}), settings
    )
    gateway = Gateway(elsewhere, models, settings)
    try:
        large = tensor("image", np.zeros((4, 3, 8, 8), np.float32))
        refused = infer(gateway, "images", [large])
        assert refused.status == 413
        assert "input 'image': with it, the tensors of the request have 3072 bytes" in refused.json()["error"]

        async def both() -> list[Answer]:
            body = json.dumps({"inputs": [tensor("image", np.zeros((2, 3, 8, 8), np.float32))]}).encode()
            return await asyncio.gather(
                *(ask(gateway, "POST", "/v2/models/images/infer", body) for _ in range(2))
            )

        assert sorted(found.status for found in asyncio.run(both())) == [200, 429]
        assert infer(gateway, "images", [tensor("image", np.zeros((2, 3, 8, 8), np.float32))]).status == 200
    finally:
        models.close()


def test_triton_clients_are_served_and_a_new_version_goes_live(
    artifacts: dict[str, Artifact], tmp_path: Path
) -> None:
    """By a real server: metadata, all datatypes in binary, and a hot swap by models.lock."""
    folder = tmp_path / "work"
    prepare(folder, {name: (artifacts[name].path, "3") for name in ("images", "sequences", "texts")})
    with bento_server(folder, settings={"OKAMOCHI_WATCH_S": "0.2"}) as server:
        address = server.url.removeprefix("http://")
        client = triton.InferenceServerClient(address, network_timeout=PATIENCE_S)
        try:
            for name in ("images", "sequences", "texts"):
                described = client.get_model_metadata(name)
                inputs = []
                for about in described["inputs"]:
                    array = feeds()[name][about["name"]]
                    one = triton.InferInput(about["name"], array.shape, about["datatype"])
                    one.set_data_from_numpy(array)
                    inputs.append(one)
                found = client.infer(name, inputs)
                for about, expected in zip(described["outputs"], own(name, feeds()[name]), strict=True):
                    got = found.as_numpy(about["name"])
                    if expected.dtype == object:
                        assert [text.decode() for text in got.ravel()] == expected.ravel().tolist()
                    else:
                        np.testing.assert_allclose(got, expected, rtol=1e-2, atol=1e-3)
            wrong = triton.InferInput("image", [1, 3, 8, 8], "FP64")
            wrong.set_data_from_numpy(np.zeros((1, 3, 8, 8)))
            with pytest.raises(InferenceServerException, match="input 'image': datatype: expected FP32"):
                client.infer("images", [wrong])
            unknown = json.dumps(
                {"inputs": [IDS | {"data": [1, 77]}, MASK]},
            ).encode()
            for _ in range(3):  # through the express lane, once it has seen the head
                refused = httpx.post(
                    f"{server.url}/v2/models/sequences/infer",
                    content=unknown,
                    headers=JSON,
                    timeout=PATIENCE_S,
                )
                assert refused.status_code == 422
                assert "The model does not take these tensors" in refused.json()["error"]
            lines = store(folder, [("images", artifacts["images"].path, "4")])
            others = [
                line for line in (folder / "models.lock").read_text().splitlines() if "images" not in line
            ]
            (folder / "models.new").write_text("".join(f"{line}\n" for line in lines + others))
            (folder / "models.new").replace(folder / "models.lock")
            end = time.monotonic() + PATIENCE_S
            while client.get_model_metadata("images")["versions"] != ["4"]:
                assert time.monotonic() < end, server.log.read_text()[-2000:]
                time.sleep(0.1)
        finally:
            client.close()


def test_a_graph_that_is_not_the_one_at_import_is_refused(artifacts: dict[str, Artifact]) -> None:
    """Another graph with the same tensors does not answer the golden request as the first did."""
    import shutil

    import onnx
    from onnx import numpy_helper

    from tests.artifact.graphs import images
    from tests.serving.artifacts import reseal

    folder = artifacts["images"].path.parent / "other"
    shutil.copytree(artifacts["images"].path, folder)
    other = images()
    kernel = other.graph.initializer[0]
    kernel.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(kernel), kernel.name))
    onnx.save(other, folder / "model" / "images.onnx")
    with pytest.raises(manifest.ArtifactError, match="is damaged or not this model's"):
        manifest.load(folder)
    reseal(folder)

    models = catalog.load([("images", "x")], lambda _: (folder, {"version": "1"}), PATIENT_SETTINGS)

    models.close()
    assert "golden tensors of" in models.refused["images"]
    assert "output 'logits': a value differs by" in models.refused["images"]


def test_a_version_beside_the_champion_answers_only_with_the_same_tensors(models: Catalog) -> None:
    """A canary may; a shadow has no scores that could be compared."""
    champion = models.live["images"]
    same = catalog.unfit(champion, champion, PATIENT_SETTINGS, role="canary")
    other = catalog.unfit(champion, models.live["dependent"], PATIENT_SETTINGS, role="canary")
    shadow = catalog.unfit(champion, champion, PATIENT_SETTINGS, role="shadow")

    assert same == ""
    assert other == "its tensors differ from the champion's in names, datatypes or shapes"
    assert "has no scores that a shadow's could be compared with" in shadow


def test_the_console_describes_a_model_of_tensors(gateway: Gateway, models: Catalog) -> None:
    """It has no columns to make a form of, so the page gets a request of `/v2` as its example."""
    for name in models.live:
        about = asyncio.run(ask(gateway, "GET", f"/console/models/{name}"))
        assert about.status == 200, about.body
        assert (about.json()["task"], about.json()["columns"]) == ("tensors", [])
        assert (about.json()["interval"], about.json()["explains"]) == (None, False)
