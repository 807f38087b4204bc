"""An ONNX file over pictures with [images]: the contract, the pixels that the file is given, the champion."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from artifact import manifest
from artifact.encode import Encoder
from artifact.kinds.cell import BadRows
from artifact.runtime import open_score
from tests.artifact.graphs import FLOAT, HALF, graph
from tests.training.imported.picture_graphs import UINT8, classifier
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Said

    from artifact.manifest import Artifact

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = 'classes = ["cat", "dog", "eel"]'


def photo(width: int = 50, height: int = 40) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def cell(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def written(place: Path, model: Any, images: str, more: str = "") -> None:
    onnx.save(model, place / "model.onnx")
    text = f'name = "photos"\n{more}\n[model]\nsource = "model.onnx"\n[images]\n{images}\n'
    (place / "photos.toml").write_text(text)


def champion(place: Path, mlflow_url: str) -> Artifact:
    registry = Registry(mlflow_url)
    version = registry.version("photos", CHAMPION)
    assert version is not None
    return manifest.load(registry.download(version, place / f"champion{version.number}"))


def asked(artifact: Artifact, *pictures: Image.Image) -> Any:
    rows = Encoder(artifact.signature).records([{"image": cell(each)} for each in pictures])
    return open_score(artifact)(rows)


def of_file(model: Any, numbers: np.ndarray[Any, Any], output: str = "logits") -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run([output], {session.get_inputs()[0].name: numbers})[0]


def softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_a_file_of_logits_is_a_champion_that_answers_the_classes_of_its_toml(
    cli: Callable[..., Said], place: Path, mlflow_url: str
) -> None:
    """Resized, scaled and normalised as torchvision does it, in a worker, from the same requests."""
    model = classifier((16, 24))
    written(place, model, f"size = [16, 24]\nmean = {list(MEAN)}\nstd = {list(STD)}\n{CLASSES}")
    ran = cli("run", "photos.toml")
    assert ran.code == 0, ran.err
    artifact = champion(place, mlflow_url)
    assert artifact.manifest.runtime == "onnx"
    assert artifact.signature.task == "multiclass"
    assert artifact.signature.classes == ("cat", "dog", "eel")
    pictures = [photo(), photo(200, 300), photo(24, 16)]
    small = np.stack([np.asarray(each.resize((24, 16), Image.Resampling.BILINEAR)) for each in pictures])
    numbers = ((small / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)
    expected = softmax(of_file(model, numbers))
    np.testing.assert_allclose(asked(artifact, *pictures), expected, rtol=0, atol=1e-6)
    assert "24 x 16 pixels" in cli("card", "photos").out


@pytest.mark.parametrize(
    ("model", "images", "numbers"),
    [
        (
            classifier((8, 8), nhwc=True),
            'channels = "BGR"\nscale = 1\nmean = [103.939, 116.779, 123.68]',
            lambda x: x[..., ::-1] - np.array([103.939, 116.779, 123.68]),
        ),
        (classifier((8, 8), channels=1), "", lambda x: np.asarray(x)[..., None].transpose(0, 3, 1, 2) / 255),
        (classifier((8, 8), element=UINT8, nhwc=True), "", lambda x: x),
        (
            classifier((8, 8), rows=2),
            "scale = 127.5\nmean = [1]",
            lambda x: x.transpose(0, 3, 1, 2) / 127.5 - 1,
        ),
        (classifier((8, 8), element=HALF), "crop = true", lambda x: x.transpose(0, 3, 1, 2) / 255),
        (classifier(("h", "w")), "size = [8, 8]", lambda x: x.transpose(0, 3, 1, 2) / 255),
    ],
    ids=["channels last, BGR", "grey", "whole numbers", "two rows at a time", "half, cropped", "open size"],
)
def test_layouts_channels_types_and_batches_are_those_of_the_file(  # noqa: PLR0917 - fixtures
    model: Any, images: str, numbers: Any, cli: Callable[..., Said], place: Path, mlflow_url: str
) -> None:
    written(place, model, f"{images}\n{CLASSES}")
    ran = cli("run", "photos.toml")
    assert ran.code == 0, ran.err
    artifact = champion(place, mlflow_url)
    pixels = artifact.signature.columns[0].pixels
    assert pixels is not None
    pictures = [photo(8, 8), photo(30, 30)]
    small = [each.resize((8, 8), Image.Resampling.BILINEAR) for each in pictures]
    if pixels.grey:
        small = [each.convert("L") for each in small]
    given = np.asarray(numbers(np.stack([np.asarray(each) for each in small])))
    element = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
    kind = onnxruntime.InferenceSession(model.SerializeToString()).get_inputs()[0].type
    expected = softmax(of_file(model, given.astype(element[kind])).astype(np.float64))
    tolerance = 2e-3 if kind == "tensor(float16)" or pixels.grey else 1e-6
    np.testing.assert_allclose(asked(artifact, *pictures), expected, rtol=0, atol=tolerance)


def test_the_middle_of_a_picture_is_cut_out_where_the_toml_says_so(
    cli: Callable[..., Said], place: Path, mlflow_url: str
) -> None:
    """The stripes at both ends of a wide picture do not count then."""
    written(place, classifier((8, 8)), f"crop = true\n{CLASSES}")
    assert cli("run", "photos.toml").code == 0
    wide = Image.new("RGB", (40, 8), "red")
    wide.paste(Image.new("RGB", (8, 8), "green"), (16, 0))
    artifact = champion(place, mlflow_url)
    one, other = asked(artifact, wide, Image.new("RGB", (8, 8), "green"))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_numbers_of_a_file_without_classes_have_the_names_of_targets(
    cli: Callable[..., Said], place: Path, mlflow_url: str
) -> None:
    written(place, classifier((8, 8)), "", 'targets = ["a", "b", "c"]')
    assert cli("run", "photos.toml").code == 0
    artifact = champion(place, mlflow_url)
    assert artifact.signature.numbers == ("a", "b", "c")
    numbers = np.asarray(photo(8, 8), np.float32)[None].transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(asked(artifact, photo(8, 8)), of_file(classifier((8, 8)), numbers), atol=1e-5)


@pytest.mark.parametrize("ends_in", ["Softmax", "LogSoftmax"])
def test_what_are_probabilities_already_stay_as_they_are(
    ends_in: str, cli: Callable[..., Said], place: Path, mlflow_url: str
) -> None:
    model = classifier((8, 8), ends_in=ends_in)
    written(place, model, CLASSES)
    assert cli("run", "photos.toml").code == 0
    numbers = np.asarray(photo(8, 8), np.float32)[None].transpose(0, 3, 1, 2) / 255
    expected = of_file(model, numbers)
    found = asked(champion(place, mlflow_url), photo(8, 8))
    np.testing.assert_allclose(found, np.exp(expected) if ends_in == "LogSoftmax" else expected, atol=1e-6)


def test_a_bad_picture_is_refused_as_by_a_model_trained_here(
    cli: Callable[..., Said], place: Path, mlflow_url: str
) -> None:
    written(place, classifier((8, 8)), CLASSES)
    assert cli("run", "photos.toml").code == 0
    encoder = Encoder(champion(place, mlflow_url).signature)
    for found, said in (("bm9uZQ==", "no picture that can be read"), (None, "expected a picture")):
        with pytest.raises(BadRows, match=said):
            encoder.records([{"image": found}])


TWO_OUTPUTS = graph(
    [("GlobalAveragePool", "x", "p"), ("Flatten", "p", "a"), ("Neg", "a", "b")],
    {"x": (FLOAT, ["n", 3, 8, 8])},
    {"a": (FLOAT, ["n", 3]), "b": (FLOAT, ["n", 3])},
)


@pytest.mark.parametrize(
    ("model", "images", "said"),
    [
        (classifier((8, 8)), "size = [8, 9]", "the file has the input 'x' of shape ['?', 3, 8, 8]"),
        (classifier((8, 8)), 'channels = "grey"', "[images] says 1 channels"),
        (classifier(("h", "w")), "", "leaves the size open: set images.size = [height, width]"),
        (classifier((3, 3)), "", "does not say which axis has the channels: set images.layout"),
        (classifier((8, 8)), 'classes = ["a", "b"]', "lists 2 labels, and the file answers 3 numbers"),
        (classifier((8, 8)), 'classes = ["a", "a"]', "images.classes lists 2 labels"),
        (classifier((8, 8)), "mean = [1, 2]", "images.mean has 2 numbers"),
        (classifier((8, 8)), "std = [0]", "images.std"),
        (classifier((8, 8)), "sized = 3", 'unknown key "images.sized" (did you mean "size"?)'),
        (TWO_OUTPUTS, "", "the file has the outputs 'a', 'b': name one as images.output"),
        (TWO_OUTPUTS, 'output = "c"', "images.output is 'c'"),
        (
            graph([("Neg", "x", "y")], {"x": (FLOAT, ["n", 4])}, {"y": (FLOAT, ["n", 4])}),
            "",
            "takes pictures",
        ),
        (
            graph([("Neg", "x", "y")], {"x": (FLOAT, ["n", 3, 64, 64])}, {"y": (FLOAT, ["n", 3, 64, 64])}),
            "",
            "expected a row for each, of at most 10,000 numbers",
        ),
    ],
)
def test_what_does_not_fit_is_told_with_the_key_to_change(
    model: Any, images: str, said: str, cli: Callable[..., Said], place: Path
) -> None:
    written(place, model, images)
    ran = cli("run", "photos.toml")
    assert ran.code == 2, ran.err
    assert said in ran.err


def test_init_shows_the_lines_for_pictures_where_a_file_takes_some(
    cli: Callable[..., Said], place: Path
) -> None:
    onnx.save(classifier((32, 48)), place / "model.onnx")
    made = cli("init", "model.onnx", "--name", "photos")
    assert made.code == 0, made.err
    text = (place / "photos.toml").read_text()
    assert "# [images]\n# size = [32, 48]\n" in text
    lines = [
        line.removeprefix("# ") if line.startswith(("# [images]", "# size")) else line
        for line in text.splitlines()
    ]
    (place / "photos.toml").write_text(
        "\n".join(line for line in lines if not line.startswith("tensors = true"))
    )
    assert cli("run", "photos.toml").code == 0
