"""An artifact that is not whole never serves, and says why; the others do."""

from __future__ import annotations

import asyncio
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from artifact.manifest import ArtifactError, Golden
from serving.errors import without_paths
from serving.http.gateway import Gateway
from serving.scoring import catalog
from serving.settings import Settings
from tests.serving import artifacts
from tests.serving.conftest import PATIENT_SETTINGS, ask, elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.serving.artifacts import Made


def refusal(path: Path, name: str, version: str = "1") -> str:
    """Why the artifact in `path` is refused; "" if it is live."""
    found = catalog.load([(name, "tag")], lambda _tag: (path, {"version": version}), Settings())
    return found.refused.get(name, "")


@pytest.fixture
def copy(made: dict[str, Made], tmp_path: Path) -> Callable[[str], Path]:
    def of(name: str) -> Path:
        return Path(shutil.copytree(made[name].path, tmp_path / name))

    return of


@pytest.mark.parametrize("name", ["iris", "loans"])
def test_a_whole_artifact_is_live(copy: Any, name: str) -> None:
    assert refusal(copy(name), name) == ""


@pytest.mark.parametrize(
    "file", ["model.onnx", "model.skops", "signature.json", "golden.json", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["truncated", "flipped", "absent", "swapped"])
def test_a_damaged_file_is_named(copy: Any, made: dict[str, Made], file: str, damage: str) -> None:
    path = copy("iris")
    content = (path / file).read_bytes()
    if damage == "truncated":
        (path / file).write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        middle = len(content) // 2
        (path / file).write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "absent":
        (path / file).unlink()
    else:
        shutil.copy(made["breast_cancer"].path / file, path / file)
    reason = refusal(path, "iris")
    assert reason
    assert file in reason or (file == "manifest.json" and "breast_cancer" in reason)


def test_another_models_artifact_is_refused(copy: Any) -> None:
    assert "'iris'" in refusal(copy("iris"), "linear")


def test_another_scikit_learn_is_refused(tmp_path: Path) -> None:
    made = artifacts.iris(tmp_path / "iris", runtime="python")
    assert refusal(made.path, "iris") == ""
    manifest = made.path / "manifest.json"
    found = json.loads(manifest.read_text())["manifest"]
    assert found["libraries"]["scikit-learn"]
    shutil.rmtree(made.path)
    artifacts.seal(
        made.path,
        "iris",
        made.estimator,
        made.signature,
        made.rows,
        runtime="python",
        libraries={"scikit-learn": "1.5.2"},
    )
    assert "scikit-learn 1.5.2" in refusal(made.path, "iris")


def test_a_pickle_in_place_of_skops_is_never_opened(tmp_path: Path) -> None:
    path = artifacts.iris(tmp_path / "iris", runtime="python").path
    trace = tmp_path / "opened"
    (path / "model.skops").write_bytes(pickle.dumps(_Bomb(str(trace))))
    artifacts.reseal(path)
    assert "skops cannot open" in refusal(path, "iris")
    assert not trace.exists()


class _Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


def test_a_type_that_is_not_on_our_list_is_refused(tmp_path: Path) -> None:
    from sklearn.dummy import DummyClassifier
    from sklearn.pipeline import make_pipeline

    made = artifacts.iris(tmp_path / "iris", runtime="python")
    import skops.io

    skops.io.dump(make_pipeline(_Own(), DummyClassifier()), made.path / "model.skops")
    artifacts.reseal(made.path)
    assert "_Own" in refusal(made.path, "iris")


class _Own:
    """Nothing that scikit-learn or skops knows."""


def test_an_onnx_file_of_another_width_is_refused(copy: Any, made: dict[str, Made]) -> None:
    path = copy("iris")
    shutil.copy(made["breast_cancer"].path / "model.onnx", path / "model.onnx")
    artifacts.reseal(path)
    assert "[None, 4]" in refusal(path, "iris")


def test_a_model_that_scores_otherwise_than_when_it_was_trained_is_refused(copy: Any) -> None:
    import msgspec

    path = copy("iris")
    golden = msgspec.json.decode((path / "golden.json").read_bytes(), type=Golden)
    golden.scores[0][0] -= 0.01
    (path / "golden.json").write_bytes(msgspec.json.encode(golden))
    artifacts.reseal(path)
    assert "golden rows" in refusal(path, "iris")


def test_a_version_that_is_no_number_is_refused(copy: Any) -> None:
    assert "version" in refusal(copy("iris"), "iris", version="latest")


def test_a_refused_model_leaves_the_others_live(made: dict[str, Made], copy: Any) -> None:
    broken = copy("iris")
    (broken / "model.onnx").write_bytes(b"")
    paths = {"iris": broken, "linear": made["linear"].path}
    models = catalog.load(
        [(name, name) for name in paths], lambda tag: (paths[tag], {"version": "1"}), Settings()
    )
    gateway = Gateway(elsewhere, models, PATIENT_SETTINGS)

    async def main() -> None:
        ready = await ask(gateway, "GET", "/readyz")
        assert ready.status == 503
        assert "model.onnx" in ready.json()["detail"]
        assert (await ask(gateway, "GET", "/livez")).status == 200
        assert (await ask(gateway, "POST", "/models/linear/predict", b'{"x": 1}')).status == 200
        for path in ("/predict", "/models/iris/predict"):
            refused = await ask(gateway, "POST", path, b"{}")
            assert refused.status == 503
            assert "model.onnx" in refused.json()["detail"]
        assert (await ask(gateway, "GET", "/models/iris")).status == 503
        assert (await ask(gateway, "GET", "/predict")).status == 405
        assert (await ask(gateway, "GET", "/docs")).status == 200

    asyncio.run(main())


@pytest.mark.parametrize("damage", ["model", "manifest", "version", "store", "bug"])
def test_no_reply_tells_a_path_and_the_log_tells_it_whole(
    made: dict[str, Made], tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who may ask for `/readyz` is everybody who reaches the port."""
    folder = tmp_path / "a folder: (with) spaces"
    shutil.copytree(made["iris"].path, folder)
    if damage == "model":
        (folder / "model.onnx").write_bytes(b"")
    elif damage == "manifest":
        (folder / "manifest.json").write_text("{")

    def locate(_tag: str) -> tuple[Path, dict[str, str]]:
        if damage == "store":
            raise ArtifactError(f"{tmp_path}/models/iris/1 is not in the store at {tmp_path}")
        if damage == "bug":
            raise OSError(13, "Permission denied", f"{folder}/x")
        return folder, {"version": "latest" if damage == "version" else "1"}

    models = catalog.load([("iris", "okamochi-iris:1")], locate, Settings())
    gateway = Gateway(elsewhere, models, PATIENT_SETTINGS)

    async def main() -> list[bytes]:
        routes = ("/readyz", "/models", "/models/iris", "/docs", "/openapi.json", "/v2/models/iris", "/ping")
        bodies = [(await ask(gateway, "GET", route)).body for route in routes]
        posts = ("/predict", "/models/iris/predict", "/v2/models/iris/infer", "/invocations", "/score")
        return bodies + [(await ask(gateway, "POST", route, b"{}")).body for route in posts]

    said = asyncio.run(main())
    for body in said:
        assert str(tmp_path).encode() not in body
        assert b"/tmp" not in body
        assert b"with) spaces/" not in body
    assert b"iris" in said[0]
    assert str(tmp_path) in caplog.text


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("/srv/a/model.onnx: expected X", "model.onnx: expected X"),
        ("cannot open '/srv/a b/model.onnx'", "cannot open 'a b/model.onnx'"),
        ("Load from file:/srv/m.onnx failed", "Load from file:m.onnx failed"),
        ("~/models/x and C:/models/y", "x and y"),
        ("1/2 of the rows, and/or text/plain", "1/2 of the rows, and/or text/plain"),
        ("see http://host/page", "see http://host/page"),
    ],
)
def test_of_a_path_the_last_part_is_told(reason: str, told: str) -> None:
    assert without_paths(reason) == told


def test_onnx_models_need_nothing_of_training(made: dict[str, Made]) -> None:
    """What a worker imports for an ONNX model, up to its application: no mlflow, pandas or sklearn."""
    script = """
import asyncio, sys
from pathlib import Path
import serving.bento
from serving.scoring import catalog
from serving.errors import without_paths
from serving.errors import without_paths
from serving.http.gateway import Gateway
from serving.settings import Settings
models = catalog.load([("iris", "")], lambda tag: (Path(sys.argv[1]), {"version": "1"}), Settings())
assert models.ready, models.refused
Gateway(None, models, Settings())
heavy = {"mlflow", "pandas", "sklearn", "skops", "scipy", "matplotlib", "onnx"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(made["iris"].path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
