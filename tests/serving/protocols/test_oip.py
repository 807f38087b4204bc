"""The Open Inference Protocol, asked by `tritonclient` of a real server, and by hand."""

from __future__ import annotations

import asyncio
import json
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from artifact.encode import canonical
from artifact.signature import Column, Signature
from serving.http.gateway import Gateway
from serving.protocols.oip.labels import Labels
from serving.protocols.oip.tensors import _column
from tests.servers import PATIENCE_S
from tests.serving.conftest import PATIENT_SETTINGS, VERSIONS, Answer, ask, elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from serving.scoring.catalog import Catalog
    from tests.servers import Server
    from tests.serving.artifacts import Made

IRIS = [5.1, 3.5, 1.4, 0.2]
LOAN = {"age": 30, "income": 1000.5, "job": "cook", "city": "Ulm", "since": "2020-05-17", "note": "paid"}
FLOATS = ("FP16", "FP32", "FP64")
WHOLE = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")


def numpy_type(datatype: str) -> Any:
    return np.dtype(datatype.lower().replace("fp", "float"))


@pytest.fixture
def client_of_triton(server: Server) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(urlsplit(server.url).netloc, concurrency=8, network_timeout=30)
    yield client
    client.close()


def filled(name: str, values: Any, *, binary: bool) -> triton.InferInput:
    found = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    return found.set_data_from_numpy(values, binary_data=binary)


def loan_inputs(rows: list[list[Any]], *, binary: bool) -> list[triton.InferInput]:
    """One tensor a column, as the metadata of a mixed model asks for."""
    inputs = []
    for name, cells in zip(LOAN, zip(*rows, strict=True), strict=True):
        if name in ("age", "income"):
            values: Any = np.array(cells, np.float64)
        else:
            values = np.array(cells, object)
        inputs.append(filled(name, values, binary=binary))
    return inputs


def tensor(data: Any = None, shape: Any = None, **other: Any) -> dict[str, Any]:
    return {
        "name": "features",
        "shape": [1, 4] if shape is None else shape,
        "datatype": "FP64",
        "data": IRIS if data is None else data,
    } | other


def infer(
    gateway: Gateway,
    body: Any,
    model: str = "iris",
    headers: dict[str, str] | None = None,
) -> Answer:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return asyncio.run(ask(gateway, "POST", f"/v2/models/{model}/infer", sent, headers))


def binary_request(
    gateway: Gateway, body: Any, behind: bytes, model: str = "iris", length: str | None = None
) -> Answer:
    header = json.dumps(body).encode() if body is not None else b""
    said = str(len(header)) if length is None else length
    return infer(gateway, header + behind, model, {"Inference-Header-Content-Length": said})


def predictions(answer: Answer) -> list[Any]:
    assert answer.status == 200, answer.body
    outputs = {output["name"]: output for output in answer.json()["outputs"]}
    data: list[Any] = outputs["prediction"]["data"]
    return data


def error(answer: Answer, status: int) -> str:
    """What a refusal says, checked to be in the protocol's shape."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert set(found) == {"error"}
    text: str = found["error"]
    return text


# ---- health and metadata


def test_triton_client_finds_the_server_and_its_models(
    client_of_triton: triton.InferenceServerClient,
) -> None:
    client = client_of_triton
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", VERSIONS["iris"])
    assert not client.is_model_ready("iris", "999")
    assert not client.is_model_ready("nobody")
    found = client.get_server_metadata()
    assert found["name"] == "okamochi"
    assert found["extensions"] == ["binary_tensor_data", "model_repository"]
    about = client.get_model_metadata("iris", VERSIONS["iris"])
    assert about == client.get_model_metadata("iris")
    assert about["name"] == "iris"
    assert about["versions"] == [VERSIONS["iris"]]
    assert about["inputs"] == [{"name": "features", "datatype": "FP64", "shape": [-1, 4]}]
    assert [(o["name"], o["datatype"], o["shape"]) for o in about["outputs"]] == [
        ("prediction", "BYTES", [-1]),
        ("probabilities", "FP64", [-1, 3]),
    ]
    assert json.loads(about["outputs"][1]["parameters"]["classes"]) == ["setosa", "versicolor", "virginica"]


def test_triton_client_is_told_what_is_not_there(client_of_triton: triton.InferenceServerClient) -> None:
    for call in (
        lambda: client_of_triton.get_model_metadata("nobody"),
        lambda: client_of_triton.get_model_metadata("iris", "999"),
        lambda: client_of_triton.get_model_config("iris"),
        client_of_triton.get_inference_statistics,
    ):
        with pytest.raises(InferenceServerException) as raised:
            call()
        assert raised.value.status() == "404"
        assert re.search("here|Unknown|this server", raised.value.message())


def test_pages_say_what_the_protocol_says(gateway: Gateway) -> None:
    async def main() -> None:
        async def page(path: str) -> Any:
            answer = await ask(gateway, "GET", path)
            assert answer.status == 200
            assert answer.headers["content-type"] == "application/json"
            return answer.json()

        assert set(await page("/v2")) == {"name", "version", "extensions"}
        assert await page("/v2/health/live") == {"live": True}
        assert await page("/v2/health/ready") == {"ready": True}
        assert await page("/v2/models/loans/ready") == {"name": "loans", "ready": True}
        loans = await page("/v2/models/loans")
        assert [(found["name"], found["datatype"], found["shape"]) for found in loans["inputs"]] == [
            ("age", "FP64", [-1]),
            ("income", "FP64", [-1]),
            ("job", "BYTES", [-1]),
            ("city", "BYTES", [-1]),
            ("since", "BYTES", [-1]),
            ("note", "BYTES", [-1]),
        ]
        assert loans["platform"] == "sklearn_skops"
        assert loans["outputs"][0]["datatype"] == "BOOL"
        linear = await page("/v2/models/linear")
        assert [output["name"] for output in linear["outputs"]] == ["prediction"]
        assert linear["outputs"][0]["datatype"] == "FP64"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models/", 404),
        ("GET", "/v2/models/nobody", 404),
        ("GET", "/v2/models/nobody/ready", 404),
        ("GET", "/v2/models/iris/versions", 404),
        ("GET", "/v2/models/iris/versions/13", 404),
        ("GET", "/v2/models/iris/versions/13/ready", 404),
        ("POST", "/v2/models/iris/versions/13/infer", 404),
        ("POST", "/v2/models/nobody/infer", 404),
        ("POST", "/v2/models/nobody/versions/12/infer", 404),
        ("GET", "/v2/models/iris/infer", 405),
        ("POST", "/v2/models/iris", 405),
        ("DELETE", "/v2", 405),
    ],
)
def test_what_is_not_there_is_said_in_the_shape_of_the_protocol(
    gateway: Gateway, method: str, path: str, status: int
) -> None:
    answer = asyncio.run(ask(gateway, method, path))
    text = error(answer, status)
    assert ("allow" in answer.headers) == (status == 405)
    if "13" in path:
        assert "'13'" in text
        assert "'12'" in text


# ---- inference through tritonclient


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_triton_client_gets_labels_and_probabilities(
    client_of_triton: triton.InferenceServerClient,
    made: dict[str, Made],
    binary_in: bool,
    binary_out: bool | None,
) -> None:
    """In each way that it sends and asks; None leaves the outputs to the server, which gives all."""
    rows = made["iris"].rows[::7]
    outputs = None
    if binary_out is not None:
        outputs = [
            triton.InferRequestedOutput(name, binary_data=binary_out)
            for name in ("probabilities", "prediction")
        ]
    found = client_of_triton.infer(
        "iris",
        [filled("features", np.array(rows), binary=binary_in)],
        model_version=VERSIONS["iris"],
        outputs=outputs,
        request_id="mine-1",
    )
    labels = [label if isinstance(label, str) else label.decode() for label in found.as_numpy("prediction")]
    assert labels == made["iris"].labels(rows)
    np.testing.assert_allclose(found.as_numpy("probabilities"), made["iris"].scores(rows), atol=1e-6)
    reply = found.get_response()
    assert (reply["id"], reply["model_name"], reply["model_version"]) == ("mine-1", "iris", VERSIONS["iris"])
    wanted = ["prediction", "probabilities"] if outputs is None else ["probabilities", "prediction"]
    assert [output["name"] for output in reply["outputs"]] == wanted


@pytest.mark.parametrize("datatype", FLOATS + WHOLE)
@pytest.mark.parametrize("binary", [True, False])
def test_every_number_type_of_the_protocol_is_read(
    client_of_triton: triton.InferenceServerClient, made: dict[str, Made], datatype: str, binary: bool
) -> None:
    rows = np.array([[5, 3, 1, 0], [7, 3, 6, 2], [6, 2, 4, 1]]).astype(numpy_type(datatype))
    if datatype in FLOATS:
        rows = rows + numpy_type(datatype).type(0.25)
    found = client_of_triton.infer("iris", [filled("features", rows, binary=binary)])
    expected = made["iris"].scores(rows.astype(float).tolist())
    np.testing.assert_allclose(found.as_numpy("probabilities"), expected, atol=1e-6)


@pytest.mark.parametrize("binary", [True, False])
def test_one_tensor_a_column_scores_every_kind_of_column(
    client_of_triton: triton.InferenceServerClient, made: dict[str, Made], binary: bool
) -> None:
    """Missing numbers are NaN in binary; JSON of this client cannot say them."""
    rows = made["loans"].rows[:40] if binary else [row for row in made["loans"].rows if row[1] is not None]
    found = client_of_triton.infer("loans", loan_inputs(rows, binary=binary))
    assert found.as_numpy("prediction").tolist() == made["loans"].labels(rows)
    np.testing.assert_allclose(found.as_numpy("probabilities"), made["loans"].scores(rows), atol=1e-9)


def test_a_regression_gives_numbers(client_of_triton: triton.InferenceServerClient) -> None:
    for shape in ([3], [3, 1]):
        for binary in (True, False):
            values = np.array([1.0, 2.0, 5.0]).reshape(shape)
            found = client_of_triton.infer("linear", [filled("anything", values, binary=binary)])
            np.testing.assert_allclose(found.as_numpy("prediction"), [2, 4, 10], atol=1e-6)
            assert found.as_numpy("probabilities") is None


def test_concurrent_calls_get_their_own_answers(
    client_of_triton: triton.InferenceServerClient, made: dict[str, Made]
) -> None:
    rows = made["iris"].rows
    waiting = [
        client_of_triton.async_infer(
            "iris", [filled("features", np.array([row]), binary=i % 2 == 0)], request_id=f"r{i}"
        )
        for i, row in enumerate(rows)
    ]
    expected = made["iris"].labels(rows)
    for i, each in enumerate(waiting):
        found = each.get_result()
        assert found.get_response()["id"] == f"r{i}"
        assert found.as_numpy("prediction")[0].decode() == expected[i]


def test_the_asyncio_client_works_too(server: Server, made: dict[str, Made]) -> None:
    """It sends JSON as `application/octet-stream`."""
    rows = made["iris"].rows[::10]

    async def main() -> None:
        async with triton_aio.InferenceServerClient(urlsplit(server.url).netloc) as client:
            assert await client.is_model_ready("iris")
            answers = await asyncio.gather(
                *(
                    client.infer("iris", [filled("features", np.array([row]), binary=i % 2 == 0)])
                    for i, row in enumerate(rows)
                )
            )
        labels = [answer.as_numpy("prediction")[0].decode() for answer in answers]
        assert labels == made["iris"].labels(rows)

    asyncio.run(main())


def test_errors_reach_the_users_of_triton_client(client_of_triton: triton.InferenceServerClient) -> None:
    def refused(model: str, inputs: list[triton.InferInput], **options: Any) -> tuple[str, str]:
        with pytest.raises(InferenceServerException) as raised:
            client_of_triton.infer(model, inputs, **options)
        return raised.value.status(), raised.value.message()

    good = filled("features", np.array([IRIS]), binary=True)
    status, text = refused("iris", [filled("features", np.array([[1.0, np.inf, 1, 1]]), binary=True)])
    assert status == "422"
    assert "row 0" in text
    assert "sepal_width" in text
    status, text = refused("iris", [filled("features", np.array([[1.0, np.nan, 1, 1]]), binary=True)])
    assert (status, "missing" in text) == ("422", True)
    assert refused("iris", [good], model_version="999")[0] == "404"
    assert refused("iris", [good], outputs=[triton.InferRequestedOutput("scores")])[0] == "422"
    assert (
        refused("iris", [good], outputs=[triton.InferRequestedOutput("prediction", class_count=2)])[0]
        == "422"
    )


def test_ten_thousand_rows_in_binary_are_those_of_the_model(
    client_of_triton: triton.InferenceServerClient, made: dict[str, Made]
) -> None:
    rows = np.array(made["iris"].rows * 67)[:10_000]
    found = client_of_triton.infer("iris", [filled("features", rows.astype(np.float32), binary=True)])
    np.testing.assert_allclose(found.as_numpy("probabilities"), made["iris"].scores(rows.tolist()), atol=1e-6)
    labels = [label.decode() for label in found.as_numpy("prediction")]
    assert labels == made["iris"].labels(rows.tolist())


def test_plain_http_is_all_it_takes(client: httpx.Client, made: dict[str, Made]) -> None:
    reply = client.post("/v2/models/iris/infer", json={"inputs": [tensor()]}, headers={"x-request-id": "a 1"})
    assert reply.status_code == 200
    assert reply.headers["x-request-id"] == "a 1"
    again = client.post("/v2/models/iris/infer", json={"inputs": [tensor([IRIS])]})
    found, other = reply.json(), again.json()
    assert found["id"] != other["id"]
    assert found["outputs"] == other["outputs"]
    assert found["outputs"][0] == {
        "name": "prediction",
        "datatype": "BYTES",
        "shape": [1],
        "data": ["setosa"],
    }
    np.testing.assert_allclose(found["outputs"][1]["data"], made["iris"].scores([IRIS])[0], atol=1e-6)


# ---- inference by hand


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 63, 64, 150])
def test_data_is_flat_or_nested(gateway: Gateway, made: dict[str, Made], nested: bool, rows: int) -> None:
    wanted = made["iris"].rows[-rows:]
    data = wanted if nested else [cell for row in wanted for cell in row]
    answer = infer(gateway, {"inputs": [tensor(data, [rows, 4])]})
    assert predictions(answer) == made["iris"].labels(wanted)
    for output in answer.json()["outputs"]:
        assert output["shape"][0] == rows
        assert len(output["data"]) == int(np.prod(output["shape"]))


def test_columns_come_in_any_order_and_shape(gateway: Gateway, made: dict[str, Made]) -> None:
    inputs = [
        {"name": "petal_width", "shape": [2, 1], "datatype": "FP32", "data": [[0.2], [1.8]]},
        {"name": "sepal_length", "shape": [2], "datatype": "FP64", "data": [5.1, 6.0]},
        {"name": "petal_length", "shape": [2, 1], "datatype": "FP64", "data": [1.4, 5.0]},
        {"name": "sepal_width", "shape": [2], "datatype": "INT8", "data": [3, 3]},
        {"name": "species", "shape": [2], "datatype": "BYTES", "data": ["its", "target"]},
    ]
    assert predictions(infer(gateway, {"inputs": inputs})) == made["iris"].labels(
        [[5.1, 3, 1.4, 0.2], [6.0, 3, 5.0, 1.8]]
    )


def test_missing_is_null_nan_an_empty_text_or_no_tensor(gateway: Gateway, made: dict[str, Made]) -> None:
    gone = made["loans"].labels([[30, None, "cook", None, "2020-05-17", None]])

    def column(name: str, datatype: str, *data: Any) -> dict[str, Any]:
        return {"name": name, "shape": [1], "datatype": datatype, "data": list(data)}

    whole = [
        column("age", "INT64", 30),
        column("job", "BYTES", "cook"),
        column("since", "BYTES", "2020-05-17"),
    ]
    assert predictions(infer(gateway, {"inputs": whole}, "loans")) == gone
    for income in ("FP64", "INT32"):
        more = [column("income", income, None), column("city", "BYTES", None), column("note", "BYTES", "")]
        assert predictions(infer(gateway, {"inputs": whole + more}, "loans")) == gone
    said = {"name": "income", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}
    nan = np.array([np.nan], np.float32).tobytes()
    assert predictions(binary_request(gateway, {"inputs": [*whole, said]}, nan, "loans")) == gone


def test_numbers_are_categories_however_they_are_typed(gateway: Gateway, made: dict[str, Made]) -> None:
    """The category is "3"."""
    expected = made["loans"].scores([[30, 1000.5, "3", "Ulm", "2020-05-17", "paid"]])[0]
    others = [
        {"name": name, "shape": [1], "datatype": "BYTES" if isinstance(cell, str) else "FP64", "data": [cell]}
        for name, cell in LOAN.items()
        if name != "job"
    ]
    for datatype, cell in [("BYTES", "3"), ("BYTES", " 3.0"), ("FP64", 3), ("FP16", 3.0), ("UINT8", 3)]:
        job = {"name": "job", "shape": [1, 1], "datatype": datatype, "data": [cell]}
        answer = infer(gateway, {"inputs": [job, *others]}, "loans")
        assert answer.status == 200, answer.body
        np.testing.assert_allclose(answer.json()["outputs"][1]["data"], expected, atol=1e-9)
    text = {"name": "job", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}}
    answer = binary_request(gateway, {"inputs": [text, *others]}, struct.pack("<I", 1) + b"3", "loans")
    np.testing.assert_allclose(answer.json()["outputs"][1]["data"], expected, atol=1e-9)


def test_a_float_of_few_digits_is_the_category_that_it_is_written_as() -> None:
    """FP32 has 0.10000000149 for 0.1; a number column takes that, a category "0.1" would be unknown."""
    for datatype in (np.float16, np.float32):
        cells = _column(np.array([0.1, 3.0, np.nan], datatype), "category")
        assert [canonical(cell) for cell in cells] == ["0.1", "3", "nan"]
        assert _column(cells, "number") is cells


def test_outputs_are_those_asked_for_each_in_its_own_way(gateway: Gateway) -> None:
    body = {
        "inputs": [tensor()],
        "outputs": [
            {"name": "probabilities"},
            {"name": "prediction", "parameters": {"binary_data": True}},
        ],
    }
    answer = infer(gateway, body)
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    found = json.loads(answer.body[:length])
    assert [output["name"] for output in found["outputs"]] == ["probabilities", "prediction"]
    assert len(found["outputs"][0]["data"]) == 3
    assert "data" not in found["outputs"][1]
    assert found["outputs"][1]["parameters"] == {"binary_data_size": 10}
    assert answer.body[length:] == struct.pack("<I", 6) + b"setosa"
    default = {"inputs": [tensor()], "parameters": {"binary_data_output": True}}
    default["outputs"] = [{"name": "prediction", "parameters": {"binary_data": False}}]
    answer = infer(gateway, default)
    assert [output["name"] for output in answer.json()["outputs"]] == ["prediction"]
    assert "inference-header-content-length" not in answer.headers


def test_a_threshold_moves_the_labels_of_a_binary_model(gateway: Gateway, made: dict[str, Made]) -> None:
    rows = made["breast_cancer"].rows[:60]
    given = tensor([cell for row in rows for cell in row], [60, 30])
    chances = made["breast_cancer"].scores(rows)[:, 1]
    for threshold in (0, 0.001, 0.5, 1):
        body = {"inputs": [given], "parameters": {"threshold": threshold}}
        expected = ["malignant" if chance >= threshold else "benign" for chance in chances]
        assert predictions(infer(gateway, body, "breast_cancer")) == expected
        outputs = [{"name": "prediction", "parameters": {"binary_data": True}}]
        answer = infer(gateway, body | {"outputs": outputs}, "breast_cancer")
        behind = answer.body[int(answer.headers["inference-header-content-length"]) :]
        assert behind == b"".join(struct.pack("<I", len(text)) + text.encode() for text in expected)
    for wrong in (-0.1, 1.1, "0.5", True, [0.5]):
        body = {"inputs": [given], "parameters": {"threshold": wrong}}
        assert "threshold" in error(infer(gateway, body, "breast_cancer"), 422)
    assert "binary" in error(infer(gateway, {"inputs": [tensor()], "parameters": {"threshold": 0.5}}), 422)


def test_ids_are_echoed_or_ours(gateway: Gateway) -> None:
    for own in ("a", 'with "quotes"', "ümlaut \u2603", "x" * 1000):
        assert infer(gateway, {"id": own, "inputs": [tensor()]}).json()["id"] == own
        assert infer(gateway, {"id": own, "inputs": [tensor()], "outputs": []}).json()["id"] == own
    ours = {infer(gateway, {"inputs": [tensor()]}).json()["id"] for _ in range(20)}
    assert len(ours) == 20
    for wrong in (1, ["a"], {}, True):
        assert '"id"' in error(infer(gateway, {"id": wrong, "inputs": [tensor()]}), 422)
    # A number that float64 does not hold takes another decoder, to which half a surrogate pair is text.
    odd = json.dumps({"inputs": [tensor()]}).encode()[:-1] + b',"parameters":{"a":1e400},"id":"\\ud800"}'
    assert "not JSON" in error(infer(gateway, odd), 400)


def test_bodies_as_mlservers_codecs_make_them(gateway: Gateway, made: dict[str, Made]) -> None:
    """NumpyRequestCodec, PandasCodec and StringCodec; their content types say nothing new here."""
    rows = made["iris"].rows[:3]
    numpy_request = {
        "parameters": {"content_type": "np"},
        "inputs": [
            {
                "name": "input-0",
                "shape": [3, 4],
                "datatype": "FP64",
                "parameters": {"content_type": "np"},
                "data": [cell for row in rows for cell in row],
            }
        ],
    }
    assert predictions(infer(gateway, numpy_request)) == made["iris"].labels(rows)
    loans = made["loans"].rows[:5]
    kinds = {"age": "INT64", "income": "FP64"}
    pandas_request = {
        "parameters": {"content_type": "pd"},
        "inputs": [
            {
                "name": name,
                "shape": [5, 1],
                "datatype": kinds.get(name, "BYTES"),
                "parameters": {} if name in kinds else {"content_type": "str"},
                "data": list(cells),
            }
            for name, cells in zip(LOAN, zip(*loans, strict=True), strict=True)
        ],
    }
    assert predictions(infer(gateway, pandas_request, "loans")) == made["loans"].labels(loans)


def test_a_body_of_nothing_but_numbers_is_the_one_tensor(gateway: Gateway, made: dict[str, Made]) -> None:
    """Triton's raw request: the header says that the JSON has no bytes."""
    rows = made["iris"].rows[40:60]
    answer = binary_request(gateway, None, np.array(rows, "<f8").tobytes())
    length = int(answer.headers["inference-header-content-length"])
    found = json.loads(answer.body[:length])
    assert [output["shape"] for output in found["outputs"]] == [[20], [20, 3]]
    scores = np.frombuffer(answer.body[length + found["outputs"][0]["parameters"]["binary_data_size"] :])
    np.testing.assert_allclose(scores.reshape(20, 3), made["iris"].scores(rows), atol=1e-6)
    assert "rows of 4 FP64" in error(binary_request(gateway, None, b"1234567"), 400)
    assert "rows of 4 FP64" in error(binary_request(gateway, None, b""), 400)
    assert "a column" in error(binary_request(gateway, None, b"12345678", "loans"), 422)


def test_a_timeout_that_cannot_be_kept_is_429(gateway: Gateway) -> None:
    body = {"inputs": [tensor()], "parameters": {"timeout": 1}}
    answer = infer(gateway, body)
    error(answer, 429)
    assert int(answer.headers["retry-after"]) >= 1
    assert infer(gateway, body | {"parameters": {"timeout": 0}}).status == 200
    assert infer(gateway, body | {"parameters": {"timeout": 10**7}}).status == 200
    for wrong in (-1, 1.5, "1", True, 2**70):
        assert "timeout" in error(infer(gateway, body | {"parameters": {"timeout": wrong}}), 422)


def test_labels_keep_their_type() -> None:
    columns = (Column(name="x", kind="number"),)

    def labels(*classes: Any) -> Labels:
        return Labels(Signature(task="multiclass", target="y", columns=columns, classes=classes))

    scores = np.eye(2)
    for classes, datatype, data, behind in [
        ((0, 1), "INT64", b"[0,1]", struct.pack("<qq", 0, 1)),
        ((False, True), "BOOL", b"[false,true]", b"\0\1"),
        ((0.5, 1), "FP64", b"[0.5,1.0]", struct.pack("<dd", 0.5, 1)),
        (("a", "bc"), "BYTES", b'["a","bc"]', b"\1\0\0\0a\2\0\0\0bc"),
        (("é", 2), "BYTES", '["é","2"]'.encode(), b"\2\0\0\0\xc3\xa9\1\0\0\x002"),
        ((1, 2**70), "BYTES", b'["1","1180591620717411303424"]', None),
    ]:
        found = labels(*classes)
        assert found.datatype == datatype
        assert found.json(scores, None) == data
        assert behind is None or found.binary(scores, None) == behind


# ---- what is refused


def size_of(size: Any) -> dict[str, Any]:
    return {"name": "f", "shape": [1, 4], "datatype": "FP64", "parameters": {"binary_data_size": size}}


@pytest.mark.parametrize(
    ("body", "status", "place"),
    [
        (b"", 400, "empty"),
        (b"{", 400, "not JSON"),
        (b'{"inputs":[{"name":"f","shape":[1,4],"datatype":"FP64","data":[NaN,1,1,1]}]}', 422, "missing"),
        (b'{"inputs":[{"name":"f","shape":[1,4],"datatype":"INT8","data":[1,NaN,1,1]}]}', 422, "missing"),
        (b'{"inputs":[{"name":"f","shape":[1,4],"datatype":"FP64","data":[1,-Infinity,1,1]}]}', 422, "row 0"),
        (
            b'{"inputs":[{"name":"f","shape":[1,4],"datatype":"INT8","data":[1,Infinity,1,1]}]}',
            422,
            "position 1",
        ),
        (b'{"inputs":[{"name":"f","shape":[1,NaN],"datatype":"FP64","data":[1,1,1,1]}]}', 422, "got nan"),
        (b'{"inputs":[{"name":"f","shape":[1,4],"datatype":"FP64","data":[nan,1,1,1]}]}', 400, "JSON"),
        (b"[" * 100_000, 400, "deep"),
        (b"[]", 422, "object"),
        ({}, 422, '"inputs"'),
        ({"input": [tensor()]}, 422, "'inputs'"),
        ({"inputs": {}}, 422, '"inputs"'),
        ({"inputs": []}, 422, "empty"),
        ({"inputs": [1]}, 422, "inputs[0]"),
        ({"inputs": [tensor(name=None)]}, 422, "name"),
        ({"inputs": [tensor(), tensor()]}, 422, "duplicate input 'features'"),
        ({"inputs": [tensor(datatype="FLOAT")]}, 422, "'FLOAT'"),
        ({"inputs": [tensor(datatype=None)]}, 422, "datatype"),
        ({"inputs": [tensor(datatype=["FP64"])]}, 422, "datatype"),
        ({"inputs": [tensor(shape="1,4")]}, 422, "shape"),
        ({"inputs": [tensor(shape=[])]}, 422, "dimensions"),
        ({"inputs": [tensor(shape=[1, 2, 2])]}, 422, "3 dimensions"),
        ({"inputs": [tensor(shape=[-1, 4])]}, 422, "-1"),
        ({"inputs": [tensor(shape=[True, 4])]}, 422, "true"),
        ({"inputs": [tensor(shape=[1.0, 4])]}, 422, "1.0"),
        ({"inputs": [tensor(shape=[[1], 4])]}, 422, "a list"),
        ({"inputs": [tensor([], [0, 4])]}, 422, "at least one row"),
        ({"inputs": [tensor([], [4, 0])]}, 422, "at least one row"),
        ({"inputs": [tensor(shape=[2, 4])]}, 422, "4 values"),
        ({"inputs": [tensor(shape=[1, 10**300])]}, 422, "4 values"),
        ({"inputs": [tensor(shape=[10**9, 4])]}, 413, "1000000000 rows"),
        ({"inputs": [tensor(shape=[10**300, 4])]}, 413, "rows"),
        ({"inputs": [tensor([1, 2, 3], [1, 3])]}, 422, "[rows, 4]"),
        ({"inputs": [tensor([1, 2, 3, 4], [4])]}, 422, "[rows, 4]"),
        ({"inputs": [tensor([1], [1, 1], name="sepal_width")]}, 422, "sepal_length"),
        ({"inputs": [tensor([1], [1], name="sepal_widht")]}, 422, "sepal_widht"),
        ({"inputs": [tensor([1], [1], name=n) for n in ("sepal_width", "nobody")]}, 422, "nobody"),
        ({"inputs": [tensor(name="sepal_width"), tensor(name="petal_width")]}, 422, "[rows, 1]"),
        ({"inputs": [tensor(data="1 2 3 4")]}, 422, "data"),
        ({"inputs": [tensor(data={"a": 1})]}, 422, "data"),
        ({"inputs": [{"name": "f", "shape": [1, 4], "datatype": "FP64"}]}, 422, "data"),
        ({"inputs": [tensor([1, 2, 3, "4"])]}, 422, "row 0, position 3: expected FP64, got the text '4'"),
        ({"inputs": [tensor([1, 2, 3, True])]}, 422, "position 3: expected FP64, got true"),
        ({"inputs": [tensor([1, 2, [3], 4])]}, 422, "position 2: expected FP64, got a list"),
        ({"inputs": [tensor([[1, 2, 3, 4], 5], [2, 4])]}, 422, "row 1"),
        ({"inputs": [tensor([[1, 2, 3, 4], [5]], [2, 4])]}, 422, "row 1"),
        ({"inputs": [tensor([[[1, 2, 3, 4]]])]}, 422, "row 0"),
        ({"inputs": [tensor([[1, 2, 3, 4]], [2, 4])]}, 422, "1 rows"),
        ({"inputs": [tensor([1, 2, 3, None])]}, 422, "'petal_width'"),
        ({"inputs": [tensor([1, 2, 3, 1e39])]}, 422, "'petal_width'"),
        ({"inputs": [tensor([1, 2, 3, 10**400])]}, 422, "row 0"),
        (
            b'{"inputs":[{"name":"f","shape":[1,4],"datatype":"FP64","data":[1,1,1,1e400]}]}',
            422,
            "petal_width",
        ),
        ({"inputs": [tensor([1, 2, 3, 4.5], datatype="INT32")]}, 422, "expected INT32, got 4.5"),
        ({"inputs": [tensor([1, 2, 3, 128], datatype="INT8")]}, 422, "expected INT8, got 128"),
        ({"inputs": [tensor([1, 2, 3, -1], datatype="UINT64")]}, 422, "expected UINT64, got -1"),
        ({"inputs": [tensor([1, 2, 3, 2**64], datatype="UINT64")]}, 422, "expected UINT64"),
        ({"inputs": [tensor([True, False, True, True], datatype="BOOL")]}, 422, "'sepal_length'"),
        ({"inputs": [tensor([1, 0, 2, 1], datatype="BOOL")]}, 422, "expected BOOL, got 2"),
        ({"inputs": [tensor(["5", "3", "1", "1"], datatype="BYTES")]}, 422, "got '5'"),
        ({"inputs": [tensor([5, 3, 1, 1], datatype="BYTES")]}, 422, "expected BYTES"),
        (
            {"inputs": [tensor(["NQ=="] * 4, datatype="BYTES", parameters={"content_type": "base64"})]},
            422,
            "base64",
        ),
        ({"inputs": [tensor(parameters=[])]}, 422, "parameters"),
        ({"inputs": [tensor(parameters={"shared_memory_region": "r"})]}, 422, "shared memory"),
        ({"inputs": [tensor(parameters={"binary_data_size": 32})]}, 422, "both"),
        ({"inputs": [size_of(32)]}, 400, "Inference-Header-Content-Length"),
        ({"inputs": [tensor()], "parameters": 1}, 422, "parameters"),
        ({"inputs": [tensor()], "parameters": {"binary_data_output": 1}}, 422, "binary_data_output"),
        ({"inputs": [tensor()], "outputs": {}}, 422, '"outputs"'),
        ({"inputs": [tensor()], "outputs": ["prediction"]}, 422, "outputs[0]"),
        ({"inputs": [tensor()], "outputs": [{}]}, 422, "outputs[0]"),
        ({"inputs": [tensor()], "outputs": [{"name": "chances"}]}, 422, "'chances'"),
        ({"inputs": [tensor()], "outputs": [{"name": "prediction"}] * 2}, 422, "duplicate output"),
        (
            {"inputs": [tensor()], "outputs": [{"name": "prediction", "parameters": {"binary_data": "yes"}}]},
            422,
            "binary_data",
        ),
        (
            {"inputs": [tensor()], "outputs": [{"name": "prediction", "parameters": {"classification": 2}}]},
            422,
            "classification",
        ),
    ],
)
def test_a_bad_request_is_told_where_it_is_wrong(
    gateway: Gateway, body: Any, status: int, place: str
) -> None:
    assert place in error(infer(gateway, body), status)


@pytest.mark.parametrize(
    ("inputs", "behind", "length", "status", "place"),
    [
        ([size_of(32)], b"\0" * 31, None, 400, "31 bytes are left"),
        ([size_of(32)], b"\0" * 33, None, 400, "33 bytes follow"),
        ([size_of(24)], b"\0" * 24, None, 400, "32 bytes"),
        ([size_of(-1)], b"", None, 400, "-1"),
        ([size_of("32")], b"\0" * 32, None, 400, "binary_data_size"),
        ([size_of(True)], b"\0", None, 400, "binary_data_size"),
        ([size_of(10**300)], b"\0" * 32, None, 400, "binary_data_size"),
        ([size_of(0)], b"", None, 400, "32 bytes"),
        ([tensor()], b"\0", None, 400, "1 bytes follow"),
        ([size_of(32)], b"\0" * 32, "5", 400, "not JSON"),
        ([size_of(32)], b"\0" * 32, "99999", 400, "'99999'"),
        ([size_of(32)], b"\0" * 32, "-1", 400, "'-1'"),
        ([size_of(32)], b"\0" * 32, "1e2", 400, "'1e2'"),
        ([size_of(32)], b"\0" * 32, "9" * 30, 400, "Inference-Header-Content-Length"),
        ([size_of(3) | {"datatype": "BYTES"}], b"abc", None, 400, "row 0"),
        ([size_of(8) | {"datatype": "BYTES"}], b"\xff" * 8, None, 400, "row 0"),
        ([size_of(5) | {"datatype": "BYTES"}], b"\1\0\0\0a", None, 400, "1 texts"),
        ([size_of(20) | {"datatype": "BYTES"}], b"\0" * 20, None, 400, "4 bytes follow"),
        ([size_of(20) | {"datatype": "BYTES"}], b"\1\0\0\0\xff" * 4, None, 400, "UTF-8"),
        ([size_of(4) | {"datatype": "BOOL"}], b"\0\1\1\1", None, 422, "sepal_length"),
    ],
)
def test_bad_binary_tensors_are_told_where_they_are_wrong(  # noqa: PLR0917
    gateway: Gateway, inputs: list[Any], behind: bytes, length: str | None, status: int, place: str
) -> None:
    assert place in error(binary_request(gateway, {"inputs": inputs}, behind, "iris", length), status)


@pytest.mark.parametrize("datatype", FLOATS)
def test_nan_is_missing_and_infinity_is_refused_in_binary(gateway: Gateway, datatype: str) -> None:
    """By a model whose columns may not be missing."""
    for cell, reason in [(np.nan, "missing"), (np.inf, "inf"), (-np.inf, "-inf")]:
        rows = np.array([IRIS, [5, 3, cell, 1]], numpy_type(datatype))
        sent = {"name": "f", "shape": [2, 4], "datatype": datatype}
        sent["parameters"] = {"binary_data_size": rows.nbytes}
        text = error(binary_request(gateway, {"inputs": [sent]}, rows.tobytes()), 422)
        assert "row 1, column 'petal_length'" in text
        assert reason in text


def test_a_model_that_was_refused_is_not_ready_in_the_shape_of_the_protocol(models: Catalog) -> None:
    damaged = replace(models, live={"iris": models.live["iris"]}, refused={"loans": "a digest differs"})
    gateway = Gateway(elsewhere, damaged, PATIENT_SETTINGS)

    async def main() -> None:
        assert (await ask(gateway, "GET", "/v2/health/live")).status == 200
        ready = await ask(gateway, "GET", "/v2/health/ready")
        assert (ready.status, ready.json()) == (503, {"ready": False})
        for method, path in [("GET", ""), ("GET", "/ready"), ("GET", "/versions/2"), ("POST", "/infer")]:
            text = error(await ask(gateway, method, f"/v2/models/loans{path}"), 503)
            assert "a digest differs" in text
        assert (await ask(gateway, "GET", "/v2/models/iris/ready")).status == 200

    asyncio.run(main())


def test_conflicting_lengths_of_the_json_are_refused(server: Server) -> None:
    import socket

    where = urlsplit(server.url)
    body = json.dumps({"inputs": [tensor()]}).encode()
    head = (
        b"POST /v2/models/iris/infer HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n"
        % len(body)
    )
    for lengths, status in [((len(body), 5), b"400"), ((len(body),) * 2, b"200")]:
        more = b"".join(b"Inference-Header-Content-Length: %d\r\n" % length for length in lengths)
        with socket.create_connection((where.hostname, where.port), timeout=PATIENCE_S) as connection:
            connection.sendall(head + more + b"\r\n" + body)
            assert connection.recv(65536).split()[1] == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-encoding": "br"}, 415),
        ({"content-encoding": "gzip"}, 400),
        ({"x-deadline-ms": "soon"}, 400),
        ({"x-request-id": "\u00fc"}, 400),
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"content-type": "application/octet-stream"}, 200),
    ],
)
def test_headers_are_refused_in_the_shape_of_the_protocol(
    client: httpx.Client, headers: dict[str, str], status: int
) -> None:
    body = json.dumps({"inputs": [tensor()]}).encode()
    encoded = {key: value.encode("utf-8") for key, value in headers.items()}
    reply = client.post("/v2/models/iris/infer", content=body, headers=encoded)
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/json"
    assert ("error" in reply.json()) == (status != 200)


def test_a_body_over_the_limit_is_413(client: httpx.Client) -> None:
    reply = client.post("/v2/models/iris/infer", content=b" " * 1_000_001)
    assert (reply.status_code, set(reply.json())) == (413, {"error"})


def test_every_bad_cell_is_named_up_to_twenty(gateway: Gateway) -> None:
    text = error(infer(gateway, {"inputs": [tensor([None] * 80, [20, 4])]}), 422)
    assert text.count("'sepal_length'") == 20
    assert "row 19" in text


def test_a_huge_shape_costs_no_memory(gateway: Gateway) -> None:
    import tracemalloc

    for shape in ([1, 2**40], [99_000, 2**30], [2**62, 4]):
        tracemalloc.start()
        infer(gateway, {"inputs": [tensor(shape=shape)]})
        binary_request(gateway, {"inputs": [size_of(8) | {"shape": shape}]}, b"\0" * 8)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2_000_000


# ---- whatever a client sends

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5), max_leaves=12)
shapes = st.one_of(
    values, st.lists(st.integers(0, 4), max_size=3), st.tuples(st.integers(1, 3), st.sampled_from([1, 4, 6]))
)
parameters = st.one_of(
    values,
    st.dictionaries(
        st.sampled_from(["binary_data_size", "binary_data", "content_type", "threshold", "timeout"]),
        st.one_of(values, st.integers(0, 64)),
        max_size=2,
    ),
)
tensors = st.fixed_dictionaries(
    {
        "name": st.one_of(st.sampled_from(["features", *LOAN, "x", "sepal_width"]), values),
        "shape": shapes,
        "datatype": st.one_of(st.sampled_from([*FLOATS, *WHOLE, "BOOL", "BYTES"]), values),
    },
    optional={
        "data": st.one_of(
            values, st.lists(scalars, min_size=4, max_size=4), st.lists(st.floats(0, 9), max_size=8)
        ),
        "parameters": parameters,
    },
)
bodies = st.fixed_dictionaries(
    {"inputs": st.one_of(st.lists(tensors, max_size=6), values)},
    optional={
        "id": values,
        "parameters": parameters,
        "outputs": st.one_of(
            values,
            st.lists(
                st.fixed_dictionaries(
                    {"name": st.sampled_from(["prediction", "probabilities", "scores"])},
                    optional={"parameters": parameters},
                ),
                max_size=3,
            ),
        ),
    },
)


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    body=st.one_of(bodies.map(lambda body: json.dumps(body).encode()), st.binary(max_size=80)),
    behind=st.one_of(st.just(b""), st.binary(max_size=64)),
    model=st.sampled_from(["iris", "linear", "loans", "breast_cancer"]),
    length=st.one_of(st.none(), st.just(-1), st.integers(-3, 200)),
)
def test_nothing_that_a_client_sends_is_answered_with_5xx(
    gateway: Gateway, body: bytes, behind: bytes, model: str, length: int | None
) -> None:
    headers = {}
    if length is not None:
        headers["inference-header-content-length"] = str(len(body) if length == -1 else length)
    answer = infer(gateway, body + behind, model, headers)
    assert answer.status in (200, 400, 413, 422, 429), answer.body
    if answer.status != 200:
        assert set(answer.json()) == {"error"}


@hypothesis_settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=4), min_size=1, max_size=5),
    datatype=st.sampled_from(FLOATS[1:]),
    how=st.sampled_from(["flat", "nested", "binary", "columns"]),
)
def test_every_way_to_send_a_table_gives_the_same_scores(
    gateway: Gateway, rows: list[list[float]], datatype: str, how: str
) -> None:
    async def expected() -> Any:
        body = json.dumps({"features": rows, "probabilities": True}).encode()
        return (await ask(gateway, "POST", "/models/iris/predict", body)).json()

    n = len(rows)
    whole = {"name": "f", "shape": [n, 4], "datatype": datatype}
    behind = None
    if how == "flat":
        inputs = [whole | {"data": [cell for row in rows for cell in row]}]
    elif how == "nested":
        inputs = [whole | {"data": rows}]
    elif how == "columns":
        names = ("sepal_length", "sepal_width", "petal_length", "petal_width")
        inputs = [
            {"name": name, "shape": [n], "datatype": datatype, "data": list(cells)}
            for name, cells in zip(names, zip(*rows, strict=True), strict=True)
        ]
    else:
        behind = np.array(rows, numpy_type(datatype)).tobytes()
        inputs = [whole | {"parameters": {"binary_data_size": len(behind)}}]
    if behind is None:
        answer = infer(gateway, {"inputs": inputs})
    else:
        answer = binary_request(gateway, {"inputs": inputs}, behind)
    found = asyncio.run(expected())
    assert predictions(answer) == found["prediction"]
    np.testing.assert_allclose(
        answer.json()["outputs"][1]["data"], np.ravel(found["probabilities"]), atol=1e-12
    )


def test_many_clients_at_once_get_their_own_answers(client: httpx.Client, made: dict[str, Made]) -> None:
    rows = made["breast_cancer"].rows[:200]
    expected = made["breast_cancer"].labels(rows)

    def one(i: int) -> Any:
        body = {"id": str(i), "inputs": [tensor(rows[i], [1, 30])]}
        return client.post("/v2/models/breast_cancer/infer", json=body).json()

    with ThreadPoolExecutor(8) as pool:
        for i, found in enumerate(pool.map(one, range(200))):
            assert found["id"] == str(i)
            assert found["outputs"][0]["data"] == [expected[i]]
