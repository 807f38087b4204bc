"""What a pickle would import, without running it: whoever opens one runs whatever is in it.

joblib writes the bytes of arrays between the operations of a pickle, so that `pickletools` loses its way.
This reads a file as joblib does, with stand-ins for everything that it names; a stand-in does nothing when
it is called.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
import re
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

KNOWN_PACKAGES = frozenset(
    [
        "__builtin__",
        "_codecs",
        "builtins",
        "catboost",
        "collections",
        "copy_reg",
        "copyreg",
        "datetime",
        "decimal",
        "functools",
        "imblearn",
        "joblib",
        "lightgbm",
        "math",
        "numpy",
        "operator",
        "pandas",
        "scipy",
        "skl2onnx",
        "sklearn",
        "xgboost",
        "category_encoders",
    ]
)
RUNS_CODE = frozenset(
    {
        *("builtins.eval", "builtins.exec", "builtins.compile", "builtins.__import__", "builtins.open"),
        *("builtins.getattr", "builtins.input", "operator.attrgetter", "operator.methodcaller"),
        *("functools.partial", "numpy.load", "pandas.read_pickle", "joblib.load"),
    }
)
"""Names of well-known packages that a pickle may call to run what it likes."""
MAX_BYTES = 4 * 1024**3
XGBOOST_UBJ = re.compile(rb"\x07version\[#L\0{7}\x03[iU](.)[iU](.)[iU](.)", re.DOTALL)
"""The version of XGBoost in a booster that it wrote as UBJSON."""
_COMPRESSED = (
    (b"\x1f\x8b", gzip.decompress),
    (b"\x78", zlib.decompress),
    (b"BZh", bz2.decompress),
    (b"\xfd7zXZ", lzma.decompress),
    (b"\x5d\x00", lzma.decompress),
)


class NotAPickleError(Exception):
    """The file is no pickle, or ends in the middle of one."""


@dataclass(frozen=True)
class Inside:
    """What a pickle holds, without running it.

    Parameters
    ----------
    names
        Every name that opening it would import, sorted.
    versions
        The versions that made the objects, by distribution, as far as the objects say so.
    """

    names: list[str]
    versions: dict[str, str]


def imported_names(path: Path) -> list[str]:
    """Every name that opening a pickle or a joblib file would import, sorted; nothing of it is run.

    Raises
    ------
    NotAPickleError
    """
    return look_into(path).names


def look_into(path: Path) -> Inside:
    """Read a pickle or a joblib file; nothing of it is run.

    Raises
    ------
    NotAPickleError
        Names the file and what is wrong with it.
    """
    content = path.read_bytes()
    for start, decompress in _COMPRESSED:
        if content.startswith(start):
            try:
                content = decompress(content)
            except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
                raise NotAPickleError(f"{path} is cut short or damaged: {error}") from None
            break
    found: set[str] = set()
    versions: dict[str, str] = {}
    try:
        _Reader(BytesIO(content), found, versions).load()
    except EOFError:
        raise NotAPickleError(f"{path} is cut short: it ends in the middle of a pickle") from None
    except Exception as error:  # noqa: BLE001 - whatever a file that is no pickle makes of the reader
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        if re.search(r"exhausted|truncated", reason):
            raise NotAPickleError(f"{path} is cut short: it ends in the middle of a pickle") from None
        raise NotAPickleError(f"{path} is no pickle: {reason}") from None
    return Inside(sorted(found), versions)


def suspicious(names: list[str]) -> list[str]:
    """Those that no model needs, or that are of no well-known package: they are what a person looks at."""
    return [name for name in names if name in RUNS_CODE or name.partition(".")[0] not in KNOWN_PACKAGES]


class _StandIn:
    """Takes the place of whatever a pickle names."""

    def __new__(cls, *_arguments: Any, **_named: Any) -> Self:
        return object.__new__(cls)

    def __init__(self, *_arguments: Any, **_named: Any) -> None:
        self.state: dict[str, Any] = {}

    def __call__(self, *_arguments: Any, **_named: Any) -> _StandIn:
        return _StandIn()

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass

    def add(self, value: Any) -> None:
        pass

    def __hash__(self) -> int:
        return id(self)


class _Dtype(_StandIn):
    """A numpy type by its name, so that the bytes of an array can be passed over."""

    def __init__(self, name: Any = "O", *_more: Any) -> None:
        super().__init__()
        self.name = name


def _of_bytes(*arguments: Any) -> Any:
    """Takes the place of `bytearray`, since `bytearray(10**12)` would fill the memory."""
    return arguments[0] if arguments and isinstance(arguments[0], bytes) else _StandIn()


class _ArrayWrapper(_StandIn):
    """joblib's word that the bytes of an array come next."""


class _Reader(pickle._Unpickler):  # noqa: SLF001 - the one in Python, whose steps can be changed
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # noqa: SLF001

    def __init__(self, file: BytesIO, found: set[str], versions: dict[str, str]) -> None:
        super().__init__(file)
        self.file = file
        self.found = found
        self.versions = versions

    def find_class(self, module: str, name: str) -> Any:
        self.found.add(f"{module}.{name}")
        if (module, name) == ("numpy", "dtype"):
            return _Dtype
        if (module, name) == ("builtins", "bytearray"):
            return _of_bytes
        if module.startswith("joblib.") and name == "NumpyArrayWrapper":
            return _ArrayWrapper
        return _StandIn

    def persistent_load(self, _pid: Any) -> Any:
        return _StandIn()

    def load_newobj(self) -> None:
        """As in `pickle`; a class that cloudpickle makes anew is a stand-in, and so is an object of it."""
        self._make(2)

    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_newobj_ex(self) -> None:
        """The same with named arguments."""
        self._make(3)

    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex

    def _make(self, operands: int) -> None:
        stack: list[Any] = self.stack  # type: ignore[attr-defined] # of the base class
        made, *arguments = stack[-operands:]
        del stack[-operands:]
        stack.append(made(*arguments[0]) if isinstance(made, type) else _StandIn())

    def load_build(self) -> None:
        """As in `pickle`, and then past the bytes of an array."""
        stack: list[Any] = self.stack  # type: ignore[attr-defined] # of the base class
        state = stack.pop()
        instance = stack[-1]
        if isinstance(instance, _StandIn):
            instance.__setstate__(state)
        if isinstance(state, dict):
            self._note_versions(state)
        if isinstance(instance, _ArrayWrapper):
            self._pass_over(instance.state)

    dispatch[pickle.BUILD[0]] = load_build

    def _note_versions(self, state: dict[Any, Any]) -> None:
        of_sklearn, booster = state.get("_sklearn_version"), state.get("handle")
        if isinstance(of_sklearn, str):
            self.versions.setdefault("scikit-learn", of_sklearn)
        if isinstance(booster, (bytes, bytearray)) and (said := XGBOOST_UBJ.search(booster)):
            self.versions.setdefault("xgboost", f"{said[1][0]}.{said[2][0]}.{said[3][0]}")

    def _pass_over(self, state: dict[str, Any]) -> None:
        kind, shape = state.get("dtype"), state.get("shape", ())
        dtype = np.dtype(kind.name if isinstance(kind, _Dtype) and isinstance(kind.name, str) else "O")
        if dtype.hasobject:
            _Reader(self.file, self.found, self.versions).load()
            return
        if state.get("numpy_array_alignment_bytes") is not None:
            padding = self.file.read(1)
            self.file.read(padding[0] if padding else 0)
        size = int(np.prod([int(each) for each in shape], dtype=np.int64)) * dtype.itemsize
        if not 0 <= size <= MAX_BYTES or len(self.file.read(size)) < size:
            raise EOFError
