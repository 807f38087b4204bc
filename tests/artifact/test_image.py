"""Pictures of any form become the same square; any other file is refused in a sentence."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from artifact.encode import BadRows, Encoder
from artifact.kinds.image import (
    MAX_PIXELS,
    SIDE,
    BadPictureError,
    cell_of,
    content_of,
    features_of,
    square_of,
)
from artifact.signature import VIEW_WIDTHS, Column, Signature

rng = np.random.default_rng(0)
SMOOTH = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize(
    (120, 90), Image.Resampling.BICUBIC
)
VIEWS = tuple(VIEW_WIDTHS)
SIGNATURE = Signature(
    task="binary",
    target="kind",
    columns=(Column(name="photo", kind="image", views=VIEWS),),
    classes=("cat", "dog"),
    positive="dog",
)


def file_of(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def apart(one: bytes, other: bytes) -> float:
    """The mean difference of two pictures, in 256ths."""
    return float(np.abs(square_of(one).astype(int) - square_of(other)).mean())


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("width", [1, 63, 64, 65, 1_000])
def test_a_picture_of_any_size_is_one_square(form: str, width: int) -> None:
    square = square_of(file_of(SMOOTH.resize((width, 90)), form))
    assert square.shape == (SIDE, SIDE, 3)
    assert square.dtype == np.uint8


def test_a_square_is_brought_to_itself() -> None:
    """So that a row of the training table and the client's file it was made of are the same row."""
    square = square_of(file_of(SMOOTH.resize((333, 222)), "JPEG"))
    assert (square_of(content_of(cell_of(square))) == square).all()


@pytest.mark.parametrize(
    ("mode", "form"), [("RGB", "WEBP"), ("RGBA", "PNG"), ("CMYK", "JPEG"), ("P", "PNG"), ("YCbCr", "JPEG")]
)
def test_the_mode_of_a_file_does_not_matter(mode: str, form: str) -> None:
    assert apart(file_of(SMOOTH), file_of(SMOOTH.convert(mode), form)) < 12


def test_grey_of_any_depth_is_the_same_grey() -> None:
    grey = np.asarray(SMOOTH.convert("L"))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert apart(file_of(Image.fromarray(grey)), file_of(deep)) <= 1
    assert apart(file_of(Image.fromarray(grey)), file_of(SMOOTH.convert("L").convert("RGB"))) <= 1


def test_what_is_transparent_is_white() -> None:
    clear = Image.new("RGBA", (50, 50), (200, 0, 0, 0))
    assert square_of(file_of(clear)).min() == 255


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_is_turned_as_its_exif_says(turn: int) -> None:
    ways = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = SMOOTH.transpose(ways[turn]) if turn in ways else SMOOTH
    exif = Image.Exif()
    exif[0x112] = turn
    assert apart(file_of(SMOOTH), file_of(stored, exif=exif)) < 2
    assert turn == 1 or apart(file_of(SMOOTH), file_of(stored)) > 10


MOVING = {"save_all": True, "append_images": [SMOOTH.rotate(90)]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"hello", "no picture that can be read"),
        (b"\x89PNG\r\n\x1a\n", "no picture that can be read"),
        (file_of(SMOOTH)[:300], "cannot be decoded"),
        (file_of(SMOOTH, "JPEG")[:700], "cannot be decoded"),
        (file_of(SMOOTH, "WEBP")[:300], "can"),
        (
            file_of(SMOOTH.convert("P"), "GIF"),
            "no picture that can be read; expected a PNG, JPEG or WebP file",
        ),
        (file_of(SMOOTH, "TIFF"), "no picture that can be read"),
        (file_of(SMOOTH, "PNG", **MOVING), "a moving picture of 2 frames"),
        (file_of(SMOOTH, "WEBP", **MOVING), "a moving picture of 2 frames"),
        ((20_000, 20_000), "pixels; at most 40,000,000"),
        ((8_000, 5_001), "8000 x 5001 pixels"),
    ],
)
def test_what_is_no_picture_is_refused_in_a_sentence(content: bytes | tuple[int, int], said: str) -> None:
    if isinstance(content, tuple):
        content = file_of(Image.new("1", content))
    with pytest.raises(BadPictureError, match=said):
        square_of(content)
    with pytest.raises(BadRows, match="row 0, column 'photo'") as found:
        Encoder(SIGNATURE).rows([[base64.b64encode(content).decode() or "data:image/png;base64,"]])
    assert {each.fault for each in found.value.errors} == {"bad_picture"}


def test_any_cut_or_changed_file_is_a_picture_or_a_sentence() -> None:
    files = [file_of(SMOOTH, form) for form in ("PNG", "JPEG", "WEBP")]
    for number in range(300):
        content = bytearray(files[number % 3])
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(0, 256)
        try:
            assert square_of(bytes(content)).shape == (SIDE, SIDE, 3)
        except BadPictureError as error:
            assert str(error)


@pytest.mark.parametrize("cell", [5, True, [1], {"a": 1}, "no base64!", "data:image/png,abc", "===="])
def test_a_cell_that_holds_no_file_is_refused(cell: Any) -> None:
    with pytest.raises(BadRows, match="base64"):
        Encoder(SIGNATURE).rows([[cell]])
    assert not Encoder(SIGNATURE).rows([[cell]], lenient=True).any()


def test_a_missing_picture_is_refused_unless_training_had_such() -> None:
    with pytest.raises(BadRows, match="missing; expected a picture"):
        Encoder(SIGNATURE).records([{"photo": None}])


def test_one_picture_is_one_row_however_it_is_sent() -> None:
    content = file_of(SMOOTH)
    text = base64.b64encode(content).decode()
    encoder = Encoder(SIGNATURE)
    want = encoder.rows([[content]])
    assert want.shape == (1, SIGNATURE.width) == (1, len(SIGNATURE.feature_names))
    folded = "\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    for cell in (text, folded, f"data:image/png;base64,{text}"):
        assert (encoder.records([{"photo": cell}]) == want).all()
        assert (encoder.columns({"photo": [cell]}) == want).all()


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_has_its_width_and_lies_between_0_and_1(view: Any) -> None:
    for square in (
        square_of(file_of(SMOOTH)),
        np.zeros((SIDE, SIDE, 3), np.uint8),
        np.full((SIDE, SIDE, 3), 255),
    ):
        found = features_of(square, [view])
        assert found.shape == (VIEW_WIDTHS[view],)
        assert (found >= 0).all()
        assert (found <= 1).all()


def test_light_and_contrast_do_not_change_the_gradients() -> None:
    square = square_of(file_of(SMOOTH)).astype(float)
    dim = (square * 0.5 + 40).astype(np.uint8)
    bright, low = features_of(square.astype(np.uint8), ["gradients"]), features_of(dim, ["gradients"])
    assert np.abs(bright - low).mean() < 0.02
    assert np.abs(features_of(square.astype(np.uint8), ["grey"]) - features_of(dim, ["grey"])).mean() > 0.02


def test_the_limit_is_what_the_words_say() -> None:
    assert MAX_PIXELS == 40_000_000
    assert square_of(file_of(Image.new("1", (8_000, 5_000)))).shape == (SIDE, SIDE, 3)
