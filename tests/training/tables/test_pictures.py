"""A folder of pictures, or a file of their paths, is a table; what cannot be read is told and left out."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from artifact.kinds.image import content_of, square_of
from training.settings import Csv, Images, Read, UseCase, load_use_case
from training.tables.data import clean_table, load_table
from training.tables.init import write_use_case
from training.tables.pictures import digest_of
from training.tables.raw import DataError
from training.tables.report import write_report
from training.tables.schema import signature_of
from training.tables.sources import read_source
from training.tables.views import best_views

if TYPE_CHECKING:
    from pathlib import Path

rng = np.random.default_rng(0)
SHADES = {"dark": 60, "light": 190}


def photo(shade: int, side: int = 90) -> Image.Image:
    noise = rng.integers(-50, 51, (8, 8, 3))
    return Image.fromarray((shade + noise).clip(0, 255).astype(np.uint8)).resize((side, side + 7))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, shade in SHADES.items():
        own = tmp_path / "photos" / name
        own.mkdir(parents=True)
        for number in range(15):
            photo(shade).save(own / f"{number}.{'png' if number % 2 else 'jpg'}")
    return tmp_path / "photos"


def case_of(path: Path, **keys: object) -> UseCase:
    source = Images(path=str(path))
    return UseCase(name="photos", target="shade", source=source, **{"file": str(path / "x.toml"), **keys})  # type: ignore[arg-type]


def test_a_folder_of_folders_is_a_table(photos: Path) -> None:
    table = load_table(case_of(photos))
    assert table.kinds == {"image": "image"}
    assert sorted(set(table.target)) == ["dark", "light"]
    assert table.rows == 30
    for cell, label in zip(table.frame["image"], table.target, strict=True):
        assert (square_of(content_of(cell)).mean() < 125) == (label == "dark")


def test_what_cannot_be_read_is_told_and_left_out(photos: Path) -> None:
    (photos / "dark" / "broken.png").write_bytes(b"none")
    (photos / "dark" / "notes.txt").write_text("none")
    (photos / "light" / ".hidden.png").write_bytes(b"none")
    table = load_table(case_of(photos))
    assert table.rows == 30
    said = " ".join(str(note) for note in table.notes)
    assert "1 of 31 pictures cannot be read and are left out: dark/broken.png (no picture that can be" in said
    assert "1 files are no PNG, JPEG or WebP and are left out: .txt (1)" in said


def test_a_file_of_paths_is_a_table_with_its_other_columns(photos: Path) -> None:
    files = sorted(photos.rglob("*.*"))
    frame = pd.DataFrame(
        {
            "age": range(len(files)),
            "photo": [file.relative_to(photos.parent).as_posix() for file in files],
            "shade": [file.parent.name for file in files],
        }
    )
    path = photos.parent / "list.csv"
    frame.to_csv(path, index=False)
    table = load_table(case_of(path, kinds={"age": "number"}))
    assert table.kinds == {"photo": "image", "age": "number"}
    assert table.rows == 30
    frame.loc[3, "photo"] = "photos/gone.png"
    frame.to_csv(path, index=False)
    table = load_table(case_of(path, kinds={"age": "number"}))
    assert table.rows == 29
    assert any("photos/gone.png (No such file or directory)" in str(note) for note in table.notes)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({}, "has no pictures: expected a folder for each class"),
        ({"1.png": b"x"}, "has 1 pictures that are in no folder"),
        ({"a/1.png": b"x", "b/2.png": b"y"}, "2 of 2 pictures of .* cannot be read; the first: a/1.png"),
    ],
)
def test_a_folder_without_pictures_is_refused_with_what_it_has(
    tmp_path: Path, made: dict[str, bytes], said: str
) -> None:
    for name, content in made.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_source(case_of(tmp_path))


def test_a_file_without_paths_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("a,shade\n1,dark\n2,light\n")
    with pytest.raises(DataError, match=r"has no column of paths that end in \.png"):
        read_source(case_of(tmp_path / "list.csv"))


def test_a_column_of_pictures_in_base64_is_read_where_kinds_says_so(photos: Path) -> None:
    files = sorted(photos.rglob("*.*"))
    frame = pd.DataFrame(
        {
            "shade": [file.parent.name for file in files],
            "photo": [base64.b64encode(file.read_bytes()).decode() for file in files],
        }
    )
    path = photos.parent / "list.csv"
    frame.to_csv(path, index=False)
    case = UseCase(name="x", target="shade", source=Csv(path=str(path)), kinds={"photo": "image"}, file="x")
    table = clean_table(read_source(case), case)
    assert table.kinds == {"photo": "image"}
    frame.loc[1, "photo"] = "none"
    frame.to_csv(path, index=False)
    with pytest.raises(DataError, match=r'says "photo" is a image, but it has in row 2'):
        clean_table(read_source(case), case)


def test_init_writes_a_use_case_for_a_folder(photos: Path) -> None:
    path = write_use_case(photos, "shade", photos.parent)
    case = load_use_case(str(path))
    assert case.source == Images(path=str(photos))
    assert case.kinds == {"image": "image"}
    table = load_table(case)
    assert table.rows == 30


def test_the_digest_changes_with_the_pictures(photos: Path) -> None:
    before = digest_of(photos, Read())
    assert before == read_source(case_of(photos)).digest
    photo(100).save(photos / "dark" / "0.jpg")
    assert digest_of(photos, Read()) != before


def test_the_views_are_those_that_tell_the_classes_apart() -> None:
    """Stripes of two directions have the same colours; red and blue have the same shapes."""

    def cell(square: np.ndarray) -> str:
        out = io.BytesIO()
        Image.fromarray(square.astype(np.uint8)).save(out, "PNG")
        return base64.b64encode(out.getvalue()).decode()

    stripes, colours, labels = [], [], []
    for number in range(60):
        upright = number % 2
        phase = rng.integers(0, 16)
        wave = 128 + 100 * np.sin((np.arange(64) + phase) * np.pi / 8)
        plane = np.tile(wave, (64, 1)) if upright else np.tile(wave[:, None], (1, 64))
        stripes.append(cell(np.repeat(plane[:, :, None], 3, axis=2)))
        mixed = rng.integers(0, 100, (64, 64, 3))
        mixed[:, :, 0 if upright else 2] += 150
        colours.append(cell(mixed))
        labels.append("upright" if upright else "level")
    target = np.array(labels, object)
    views, scores = best_views(stripes, target)
    assert views == ("gradients",)
    assert scores["gradients"] == 1
    assert scores["histogram"] < 0.8
    assert best_views(colours, target)[0] == ("histogram",)


def test_a_signature_has_views_and_a_made_example(photos: Path) -> None:
    table = load_table(case_of(photos))
    signature = signature_of(table, np.ones(table.rows, bool))
    (column,) = signature.columns
    assert column.views
    assert signature.pictures == ("image",)
    assert "image" in signature.sensitive  # no log holds it
    assert isinstance(column.example, str)
    assert column.example not in set(table.frame["image"])
    assert square_of(content_of(column.example)).std() < square_of(content_of(table.frame["image"][0])).std()


def test_the_report_shows_pictures(photos: Path, tmp_path: Path) -> None:
    table = load_table(case_of(photos))
    page = write_report(table, signature_of(table, np.ones(table.rows, bool)), tmp_path)
    assert "data:image/png;base64," in page.read_text()
