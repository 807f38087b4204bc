"""Pictures: a file of any size becomes one square, and the square a row of features.

A cell is the content of a PNG, JPEG or WebP file in base64; `data:image/...;base64,` may stand before it.
Every picture is brought to `SIDE` x `SIDE` pixels in RGB: turned as its EXIF says, laid on white where it is
transparent, stretched where it is not square. Training keeps these squares. A square stays as it is, so a row
of training and a client's file become the same features.

A model that was made elsewhere says itself what size it takes: its picture is brought to that one (`Pixels`).
"""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from artifact.kinds.cell import is_missing, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

    from artifact.kinds.cell import Encode, Errors
    from artifact.signature import Column, Pixels, View

SIDE = 64
MAX_PIXELS = 40_000_000
"""Of the file: 120 MB once it is decoded."""
FORMATS = ("PNG", "JPEG", "WEBP")
MEDIA_TYPES = ("image/png", "image/jpeg", "image/webp")
_NAMES = "PNG, JPEG or WebP"

GREY = 16
COLOUR = 8
CELL = 8
ORIENTATIONS = 9
HUES, SHADES = 12, 8


class BadPictureError(ValueError):
    """A file that is not a picture or cannot be decoded; the text says what was found and expected."""


def square_of(content: bytes) -> NDArray[np.uint8]:
    """A picture as a square, shape (SIDE, SIDE, 3).

    Raises
    ------
    BadPictureError
    """
    return _resized(content, SIDE, SIDE, crop=False)


def pixels_of(content: bytes, pixels: Pixels) -> NDArray[np.float64]:
    """A picture as a model that was made elsewhere takes it, shape (height x width x channels,).

    Raises
    ------
    BadPictureError
    """
    found = _resized(content, pixels.height, pixels.width, crop=pixels.crop)
    numbers = found.astype(np.float64)
    return _luminance(numbers).round().ravel() if pixels.grey else numbers.ravel()


def _resized(content: bytes, height: int, width: int, *, crop: bool) -> NDArray[np.uint8]:
    """A picture of a file, shape (height, width, 3)."""
    from PIL import Image, ImageOps  # only imported where there are pictures

    if not content:
        raise BadPictureError(f"an empty file; expected a {_NAMES} file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a large picture: the bound below decides
            picture: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise BadPictureError(_too_large("many")) from None
    except (OSError, ValueError, SyntaxError):
        raise BadPictureError(f"no picture that can be read; expected a {_NAMES} file") from None
    if picture.width * picture.height > MAX_PIXELS:
        raise BadPictureError(_too_large(f"{picture.width} x {picture.height}"))
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise BadPictureError(f"a moving picture of {frames} frames; expected one frame")
    try:
        picture.draft("RGB", (4 * width, 4 * height))  # a JPEG is decoded at a fraction of its size
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged EXIF
            turned = ImageOps.exif_transpose(picture)
        resize = ImageOps.fit if crop else Image.Image.resize
        small = resize(_in_rgb(turned), (width, height), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, IndexError, EOFError, ArithmeticError, MemoryError) as error:
        why = (str(error) or type(error).__name__)[:120]
        raise BadPictureError(f"a {picture.format} file that cannot be decoded ({why})") from None
    return np.asarray(small, np.uint8)


def _too_large(pixels: str) -> str:
    return f"a picture of {pixels} pixels; at most {MAX_PIXELS:,} pixels are taken"


def _in_rgb(picture: Image) -> Image:
    """The picture in RGB: on white where it is transparent, 16 bits of grey as 8."""
    from PIL import Image

    if picture.mode.startswith(("I", "F")):
        levels = np.asarray(picture, np.float64)
        scale = 1.0 if levels.max(initial=0) <= 255 else 255 / 65_535
        picture = Image.fromarray(np.clip(levels * scale, 0, 255).round().astype(np.uint8))
    if picture.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in picture.info:
        own = picture.convert("RGBA")
        white = Image.new("RGBA", own.size, "white")
        return Image.alpha_composite(white, own).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def cell_of(square: NDArray[np.uint8]) -> str:
    """A square, of any side, as a cell: a PNG file in base64."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(square).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def content_of(cell: str) -> bytes:
    """The file in a cell.

    Raises
    ------
    BadPictureError
        The text is not base64.
    """
    text = cell
    if cell.startswith("data:"):
        head, _, text = cell.partition(",")
        if not head.endswith(";base64"):
            raise BadPictureError('a data URL without ";base64,"')
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadPictureError("not base64; expected the content of a picture's file in base64") from None


def features_of(square: NDArray[np.uint8], views: Sequence[View]) -> NDArray[np.float64]:
    """The features of a square, shape (width,): the views one after another, each between 0 and 1."""
    return np.concatenate([_VIEWS[view](square.astype(np.float64) / 255) for view in views])


def _blocks(plane: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Means of a square's blocks: of (SIDE, SIDE, ...) to (side, side, ...)."""
    step = SIDE // side
    means: NDArray[np.float64] = plane.reshape(side, step, side, step, -1).mean(axis=(1, 3))
    return means


def _luminance(square: NDArray[np.float64]) -> NDArray[np.float64]:
    """The brightness of each pixel, by the weights of ITU-R BT.601."""
    light: NDArray[np.float64] = square @ np.array([0.299, 0.587, 0.114])
    return light


def _grey(square: NDArray[np.float64]) -> NDArray[np.float64]:
    return _blocks(_luminance(square), GREY).ravel()


def _colour(square: NDArray[np.float64]) -> NDArray[np.float64]:
    return _blocks(square, COLOUR).ravel()


def _gradients(square: NDArray[np.float64]) -> NDArray[np.float64]:
    """Histograms of oriented gradients (Dalal and Triggs 2005), one for each cell of CELL x CELL pixels.

    Each pixel votes for the two orientations next to its own, by the length of its gradient. A cell is
    divided by the length of its 3 x 3 neighbours together, so that light and contrast do not count.
    """
    light = _luminance(square)
    down, right = np.gradient(light)
    length = np.hypot(down, right)
    place = (np.arctan2(down, right) % np.pi) / np.pi * ORIENTATIONS
    below = np.floor(place).astype(np.intp)
    share = place - below
    votes = np.zeros((SIDE, SIDE, ORIENTATIONS))
    rows, columns = np.indices(light.shape)
    np.add.at(votes, (rows, columns, below % ORIENTATIONS), length * (1 - share))
    np.add.at(votes, (rows, columns, (below + 1) % ORIENTATIONS), length * share)
    cells = _blocks(votes, SIDE // CELL)
    energy = np.pad((cells**2).sum(axis=2), 1)
    around = sum(
        energy[1 + i : energy.shape[0] - 1 + i, 1 + j : energy.shape[1] - 1 + j]
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
    )
    normal: NDArray[np.float64] = cells / np.sqrt(np.asarray(around) + 1e-4)[:, :, None]
    return normal.ravel()


def _histogram(square: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of the picture has which hue (by how colourful it is), saturation and brightness.

    Each pixel votes for the two bins next to its value, so that no feature jumps.
    """
    highest, lowest = square.max(axis=2), square.min(axis=2)
    spread = highest - lowest
    safe = np.where(spread > 0, spread, 1)
    red, green, blue = np.moveaxis(square, 2, 0)
    sixth = np.select(
        [highest == red, highest == green],
        [((green - blue) / safe) % 6, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    )
    saturation = np.where(highest > 0, spread / np.where(highest > 0, highest, 1), 0)
    hues = _voted(sixth / 6 * HUES, spread, HUES, around=True)
    return np.concatenate(
        [hues, *(_voted(plane * (SHADES - 1), None, SHADES, around=False) for plane in (saturation, highest))]
    )


def _voted(
    places: NDArray[np.float64], weights: NDArray[np.float64] | None, bins: int, *, around: bool
) -> NDArray[np.float64]:
    """The mean vote for each of `bins`; `around`: the last bin is next to the first."""
    below = np.floor(places).astype(np.intp)
    share = places - below
    above = (below + 1) % bins if around else np.minimum(below + 1, bins - 1)
    weight = np.ones_like(share) if weights is None else weights
    total = np.bincount((below % bins).ravel(), (weight * (1 - share)).ravel(), bins)
    total += np.bincount(above.ravel(), (weight * share).ravel(), bins)
    voted: NDArray[np.float64] = total / places.size
    return voted


_VIEWS = {"grey": _grey, "colour": _colour, "gradients": _gradients, "histogram": _histogram}


def encode_column(column: Column) -> Encode:
    def encode(cells: Sequence[Any], errors: Errors | None) -> NDArray[np.float64]:
        matrix = np.zeros((len(cells), column.width))
        for i, cell in enumerate(cells):
            if is_missing(cell) or cell == "":
                if errors is not None and column.missing == "refuse":
                    errors.add(i, column.name, "missing; expected a picture in base64", "missing")
                continue
            try:
                content = cell if isinstance(cell, bytes) else content_of(_text(cell))
                matrix[i] = (
                    features_of(square_of(content), column.views)
                    if column.pixels is None
                    else pixels_of(content, column.pixels)
                )
            except BadPictureError as error:
                if errors is not None:
                    errors.add(i, column.name, str(error), "bad_picture")
        return matrix.astype(np.float32).astype(np.float64)

    return encode


def _text(cell: Any) -> str:
    if not isinstance(cell, str):
        raise BadPictureError(f"expected a picture in base64, got {shown(cell)}")
    return cell
