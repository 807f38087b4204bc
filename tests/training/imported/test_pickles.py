"""What a pickle names is listed without running any of it."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from training.imported.pickles import NotAPickleError, imported_names, suspicious

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Planted:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def forest() -> RandomForestClassifier:
    numbers = np.arange(200.0).reshape(-1, 2)
    return RandomForestClassifier(10, random_state=0).fit(numbers, numbers[:, 0] > 90)


SAVED: dict[str, Callable[[Any, Path], object]] = {
    "joblib": joblib.dump,
    "joblib, zlib": lambda model, path: joblib.dump(model, path, compress=3),
    "joblib, gzip": lambda model, path: joblib.dump(model, path, compress=("gzip", 3)),
    "joblib, bz2": lambda model, path: joblib.dump(model, path, compress=("bz2", 3)),
    "joblib, xz": lambda model, path: joblib.dump(model, path, compress=("xz", 3)),
    **{
        f"pickle {protocol}": lambda model, path, protocol=protocol: path.write_bytes(
            pickle.dumps(model, protocol)
        )
        for protocol in range(6)
    },
}


@pytest.mark.parametrize("how", SAVED)
def test_the_names_of_a_forest_are_listed_however_it_was_saved(how: str, forest: Any, tmp_path: Path) -> None:
    SAVED[how](forest, tmp_path / "model")

    names = imported_names(tmp_path / "model")

    assert "sklearn.ensemble._forest.RandomForestClassifier" in names
    assert "sklearn.tree._tree.Tree" in names
    assert suspicious(names) == []


@pytest.mark.parametrize("how", SAVED)
def test_what_is_planted_is_named_and_not_run(how: str, forest: Any, tmp_path: Path) -> None:
    """Beside a model, inside an array of objects, before the bytes of another array."""
    planted = Planted(tmp_path / "ran")
    for content in (
        planted,
        [forest, planted],
        np.array([planted, 1], object),
        {"a": np.arange(9), "b": [planted]},
    ):
        SAVED[how](content, tmp_path / "model")

        assert suspicious(imported_names(tmp_path / "model")) in (["posix.mkdir"], ["nt.mkdir"])

    assert not (tmp_path / "ran").exists()
    if how.startswith("joblib"):
        joblib.load(tmp_path / "model")
    else:
        pickle.loads((tmp_path / "model").read_bytes())  # noqa: S301 - planted above
    assert (tmp_path / "ran").exists()


def test_a_call_of_a_well_known_package_that_runs_anything_is_marked(tmp_path: Path) -> None:
    class Evaluates:
        def __reduce__(self) -> Any:
            return eval, ("1 + 1",)

    (tmp_path / "model").write_bytes(pickle.dumps(Evaluates()))

    assert suspicious(imported_names(tmp_path / "model")) == ["builtins.eval"]


@pytest.mark.parametrize("how", ["joblib", "joblib, zlib", "joblib, xz", "pickle 5"])
def test_a_file_that_was_cut_is_told_wherever_it_was(how: str, tmp_path: Path) -> None:
    numbers = np.arange(400.0).reshape(-1, 2)
    SAVED[how](
        HistGradientBoostingClassifier(max_iter=3).fit(numbers, numbers[:, 0] > 90), tmp_path / "whole"
    )
    content = (tmp_path / "whole").read_bytes()
    for size in range(0, len(content) - 1, max(1, len(content) // 40)):
        (tmp_path / "cut").write_bytes(content[:size])

        with pytest.raises(NotAPickleError, match=r"cut"):
            imported_names(tmp_path / "cut")


@pytest.mark.parametrize("content", [b"hello", b"<html></html>", b"PK\x03\x04", b"\x00" * 50, b"a,b\n1,2\n"])
def test_what_is_no_pickle_is_called_so(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(content)

    with pytest.raises(NotAPickleError, match=r"model\.pkl"):
        imported_names(tmp_path / "model.pkl")
