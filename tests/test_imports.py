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
    "mlflow": {
        "artifact/program.py",
        "artifact/python_model.py",
        "training/registry/connection.py",
        "training/registry/mlflow_registry.py",
        "training/registry/pyfunc.py",
        "training/registry/scorer.py",
    },
    "bentoml": {"service.py", "serving/bento.py", "artifact/store.py", "deploy/"},
    "_bentoml_sdk": {"serving/bento.py"},
    "training": {"training/", "deploy/"},
    "serving": {"serving/", "service.py", "deploy/"},
    "deploy": {"deploy/"},
    "artifact": {"artifact/", "training/", "serving/", "deploy/"},
    "service": set[str](),
}
"""Who may import what; a folder stands for all in it."""

LAYERS: dict[str, tuple[set[str], ...]] = {
    "artifact": (
        {"keeper", "program"},
        {"store", "runtime"},
        {"python_model", "tensor_model"},
        {"onnx_table"},
        {"onnx_session"},
        {
            "arrow_cells",
            "background",
            "calibration",
            "canary_bounds",
            "canary_stop",
            "csv_cells",
            "ranking",
            "signing",
        },
        {"manifest"},
        {"contracts", "encode", "logged"},
        {"kinds"},
        {"json_text"},
        {"models_lock", "nfc", "raised", "sealing", "signature", "trusted", "verdict"},
        {"atomic", "key_lines", "tags", "tensors"},
        {"regular"},
    ),
    "training": (
        {"__main__"},
        {"options", "screen"},
        {"run"},
        {"imported"},
        {"facts"},
        {"card", "exact", "freshness", "owner", "pending"},
        {"fairness_report"},
        {"model_card"},
        {"job", "erasure"},
        {"decide"},
        {"plots", "export"},
        {"search", "ranking"},
        {"families"},
        {"onnx"},
        {"metrics", "registry", "reference"},
        {"tables"},
        {"settings"},
        {"deadline", "interpreter", "progress"},
    ),
    "serving": (
        {"bento"},
        {"grpc"},
        {"http"},
        {"console"},
        {"access.watch"},
        {"roles"},
        {"prediction_log"},
        {"observe.logs"},
        {"observe.traces"},
        {"protocols.registry"},
        {"protocols.kserve"},
        {"protocols.predict", "protocols.oip", "protocols.mlflow", "protocols.rank", "protocols.score"},
        {"protocols"},
        {"scoring"},
        {"observe", "prediction_log.remembering"},
        {"access"},
        {
            "declared",
            "errors",
            "followed",
            "guards",
            "ids",
            "reserved",
            "waiting",
            "settings",
            "shared",
            "signals",
        },
    ),
}
"""The topics of a package (its folders, and its modules beside them) from the top down: each may import those
below it, and two on one line know nothing of each other. A topic that no line names fails the test. Where a
part of a folder is higher or lower than the rest, that part is a topic."""

HEAVY = {"mlflow", "pandas", "sklearn", "skops", "scipy", "matplotlib", "optuna"}
"""What an ONNX worker must never load: `serving` may name it only inside a function."""


def module_of(file: Path) -> str:
    """The dotted name of a module; a package is its `__init__.py`."""
    parts = file.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def module_graph(files: dict[str, str]) -> dict[str, set[str]]:
    """For each module the modules that it imports, from their sources by name.

    Imports inside functions and those under TYPE_CHECKING count: two modules that need each other's types are
    as hard to understand apart as two that call each other.
    """
    graph: dict[str, set[str]] = {module: set() for module in files}
    for module, source in files.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                graph[module] |= {alias.name for alias in node.names} & files.keys()
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    graph[module] |= {whole if whole in files else str(node.module)} & files.keys()
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The strongly connected components of two modules or more (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            component = set(stack[stack.index(module) :])
            del stack[stack.index(module) :]
            if len(component) > 1 or module in graph[module]:
                found.append(component)

    for module in sorted(graph):
        if module not in index:
            visit(module)
    return found


def against_the_layers(graph: dict[str, set[str]], package: str, layers: tuple[set[str], ...]) -> list[str]:
    """Each import inside a package that does not go down, as a sentence."""
    place = {topic: number for number, topics in enumerate(layers) for topic in topics}

    def topic_of(module: str) -> str:
        first, *rest = module.split(".")[1:]
        part = f"{first}.{rest[0]}" if rest else first
        return part if part in place else first

    found = []
    for module in sorted(module for module in graph if module.startswith(f"{package}.")):
        topic = topic_of(module)
        if topic not in place:
            found.append(f"{module} is on no line of LAYERS[{package!r}]")
            continue
        for other in sorted(other for other in graph[module] if other.startswith(f"{package}.")):
            target = topic_of(other)
            if target != topic and place.get(target, -1) <= place[topic]:
                found.append(f"{module} imports {other}, which is not below it")
    return found


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """Of all our modules."""
    return module_graph({module_of(file): file.read_text() for file in SOURCES})


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


def test_modules_that_import_one_another_are_found() -> None:
    """The search for circles itself: through a function, a type and a package."""
    found = circles(
        module_graph(
            {
                "a.one": "from a.two import x",
                "a.two": "def f():\n    from a import three",
                "a.three": "if TYPE_CHECKING:\n    from a.one import T",
                "a.four": "import a.one",
                "b": "from b.five import y",
                "b.five": "from b import z",
                "b.six": "from b import five",
            }
        )
    )

    assert sorted(map(sorted, found)) == [["a.one", "a.three", "a.two"], ["b", "b.five"]]


def test_no_modules_import_one_another_in_a_circle(graph: dict[str, set[str]]) -> None:
    """Two modules that need each other hide a third: a record type, an id, a protocol class."""
    found = [sorted(circle) for circle in circles(graph)]

    assert not found, f"modules import one another in a circle: {found}"


def test_an_import_that_goes_up_is_found() -> None:
    """The search for imports against the order itself."""
    graph = module_graph(
        {
            "p.top": "from p.low.b import x",
            "p.low.a": "from p.low.b import x",
            "p.low.b": "from p import top",
            "p.beside": "from p.low import a",
            "p.new": "",
            "p.low.last": "from p.low import a",
            "p.low.last.c": "from p.low import last",
        }
    )

    assert against_the_layers(graph, "p", ({"top"}, {"low", "beside"}, {"low.last"})) == [
        "p.beside imports p.low.a, which is not below it",
        "p.low.b imports p.top, which is not below it",
        "p.low.last imports p.low.a, which is not below it",
        "p.new is on no line of LAYERS['p']",
    ]


@pytest.mark.parametrize("package", LAYERS)
def test_imports_inside_a_package_go_one_way(graph: dict[str, set[str]], package: str) -> None:
    """`http` may know `protocols`, these `scoring`, none the other way round, and no protocol another."""
    assert not against_the_layers(graph, package, LAYERS[package])
