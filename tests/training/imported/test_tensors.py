"""An ONNX file over tensors from `init` to the champion: no table, no figures, the file's contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import onnx
import pytest

from artifact import manifest, tensor_model
from artifact.tensors import array_of, value_of
from tests.artifact.graphs import FLOAT, GRAPHS, graph, images
from training.registry.mlflow_registry import Registry
from training.registry.records import CHAMPION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Said


def test_two_commands_make_a_champion_of_an_image_model(
    cli: Callable[..., Said], place: Path, mlflow_url: str
) -> None:
    """`init` finds out that it takes tensors, and everything that is printed says so."""
    onnx.save(images(), place / "model.onnx")

    made = cli("init", "model.onnx", "--name", "pictures")
    assert made.code == 0, made.err
    assert "POST /v2/models/pictures/infer serves them as they are" in made.err
    assert "Rows of several requests go into one call." in made.err
    written = (place / "pictures.toml").read_text()
    assert "tensors = true" in written
    assert "# It takes image: FP32 [n, 3, 8, 8]" in written
    assert "# It gives class: INT64 [n]" in written
    ran = cli("ensure", "pictures.toml")

    assert ran.code == 0, ran.err
    registry = Registry(mlflow_url)
    champion = registry.version("pictures", CHAMPION)
    assert champion is not None
    artifact = manifest.load(registry.download(champion, place / "champion"))
    assert artifact.signature.task == "tensors"
    assert artifact.manifest.runtime == "python"
    again = cli("ensure", "pictures.toml")
    assert again.code == 0
    assert "ONNX graph over tensors, unmeasured" in again.out
    shown = cli("show", "pictures")
    assert "ONNX graph over tensors" in shown.out
    assert "unmeasured" in shown.out
    card = cli("card", "pictures").out
    assert "| image | FP32 | [n, 3, 8, 8] |" in card
    assert "Rows of several requests go into one call." in card
    feed = np.random.default_rng(0).random((2, 3, 8, 8)).astype(np.float32)
    (found,) = tensor_model.open_model(artifact).answer([[value_of(feed)]])
    of_mlflow = mlflow.pyfunc.load_model("models:/pictures@champion").predict({"image": feed})
    np.testing.assert_array_equal(of_mlflow["logits"], array_of(found[0], "FP32"))  # type: ignore[arg-type]
    onnx.save(GRAPHS["logarithms"](), place / "model.onnx")
    assert cli("run", "pictures.toml").code == 0
    newer = registry.version("pictures", CHAMPION)
    assert newer is not None
    assert newer.number != champion.number


def wide(shape: tuple[Any, ...], **outputs: Any) -> Any:
    nodes = [("MatMul", f"x w{name}", name) for name in outputs]
    weights = {f"w{name}": np.ones((4, 2), np.float32) for name in outputs}
    given = {name: (FLOAT, list(size)) for name, size in outputs.items()}
    return graph(nodes, {"x": (FLOAT, list(shape))}, given, **weights)


NO_TABLE = {
    "tokens": (GRAPHS["sequences"], "ids: INT64 [batch, length]"),
    "two outputs": (lambda: wide(("n", 4), a=("n", 2), b=("n", 2)), "gives b: FP32 [n, 2]"),
    "any width": (
        lambda: graph([("Relu", "x", "y")], {"x": (FLOAT, ["n", "m"])}, {"y": (FLOAT, ["n", "m"])}),
        "takes x: FP32 [n, m]",
    ),
}


@pytest.mark.parametrize("what", NO_TABLE)
def test_init_takes_for_tensors_what_is_no_table(what: str, cli: Callable[..., Said], place: Path) -> None:
    """Also where the tensors have two dimensions: nothing of the file is lost."""
    make, said = NO_TABLE[what]
    onnx.save(make(), place / "model.onnx")

    made = cli("init", "model.onnx", "--name", "x")

    assert made.code == 0, made.err
    assert said in (place / "x.toml").read_text()


def test_a_file_that_is_broken_is_not_taken_for_tensors(cli: Callable[..., Said], place: Path) -> None:
    """And `tensors` is for ONNX files, and without a table."""
    (place / "model.onnx").write_bytes(images().SerializeToString()[:300])
    broken = cli("init", "model.onnx", "--name", "broken")
    assert broken.code == 2
    assert "is no ONNX file, or it is cut short" in broken.err
    assert not (place / "broken.toml").exists()

    (place / "other.toml").write_text('[model]\nsource = "model.pkl"\ntensors = true\n')
    (place / "model.pkl").write_bytes(b"x")
    other = cli("run", "other.toml")
    assert other.code == 2
    assert "tensors = true in [model] is for ONNX files only" in other.err

    (place / "table.toml").write_text(
        'target = "y"\n[source]\nkind = "csv"\npath = "t.csv"\n'
        '[model]\nsource = "model.onnx"\ntensors = true\n'
    )
    table = cli("run", "table.toml")
    assert table.code == 2
    assert "no table measures such a model: remove [source]" in table.err


def test_a_file_over_images_that_is_run_as_a_table_names_the_key(
    cli: Callable[..., Said], place: Path
) -> None:
    """`tensors = true` is what its use case lacks."""
    onnx.save(images(), place / "model.onnx")
    (place / "x.toml").write_text('[model]\nsource = "model.onnx"\n')

    ran = cli("run", "x.toml")

    assert ran.code == 2
    assert "tensors = true in [model] serves its tensors as they are, through /v2" in ran.err
