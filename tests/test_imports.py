"""One direction only, and one door to each library: read from the source, not from what happens to run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGES = ("artifact", "training", "serving", "deploy")
SOURCES = sorted(
    [CHECKOUT / "service.py", *(file for package in PACKAGES for file in (CHECKOUT / package).rglob("*.py"))]
)

ALLOWED = {
    "mlflow": {"training/registry/mlflow_registry.py", "training/registry/scorer.py"},
    "bentoml": {"service.py", "serving/bento.py", "artifact/store.py", "deploy/"},
    "_bentoml_sdk": {"serving/bento.py"},
    "training": {"training/", "deploy/"},
    "serving": {"serving/", "service.py", "deploy/"},
    "deploy": {"deploy/"},
    "artifact": {"artifact/", "training/", "serving/", "deploy/"},
    "service": set[str](),
}
"""Who may import what; a folder stands for all in it."""

HEAVY = {"mlflow", "pandas", "sklearn", "skops", "scipy", "matplotlib", "optuna"}
"""What an ONNX worker must never load: `serving` may name it only inside a function."""


def imports(file: Path, *, outside_functions: bool = False) -> set[str]:
    """Give the top-level names of everything that a file imports, also where only type checkers read it."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute"
            found.add(str(node.module).partition(".")[0])
        if outside_functions and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if outside_functions and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(file.read_text()))
    return found


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(CHECKOUT)))
def test_a_file_imports_only_what_its_place_allows(file: Path) -> None:
    """`training` and `serving` never meet; MLflow and BentoML have one door each."""
    here = file.relative_to(CHECKOUT).as_posix()

    for name in imports(file) & ALLOWED.keys():
        places = ALLOWED[name]
        assert any(here == place or (place.endswith("/") and here.startswith(place)) for place in places), (
            f"{here} imports {name}, which only {', '.join(sorted(places)) or 'nothing'} may"
        )


@pytest.mark.parametrize(
    "file",
    [
        file
        for file in SOURCES
        if file.relative_to(CHECKOUT).parts[0] in {"serving", "artifact", "service.py"}
    ],
    ids=lambda file: str(file.relative_to(CHECKOUT)),
)
def test_a_server_starts_light(file: Path) -> None:
    """Pandas and scikit-learn in every worker would cost 150 MB each; only a model that needs them pays."""
    heavy = imports(file, outside_functions=True) & HEAVY

    assert not heavy, f"{file.relative_to(CHECKOUT)} imports {', '.join(heavy)} when it is loaded"


def test_the_system_python_can_make_the_environment() -> None:
    """deploy/environment.py runs before anything is installed."""
    import sys

    found = imports(CHECKOUT / "deploy" / "environment.py") | imports(CHECKOUT / "deploy" / "__init__.py")
    assert found <= set(sys.stdlib_module_names), found - set(sys.stdlib_module_names)
