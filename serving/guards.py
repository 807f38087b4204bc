"""The private names of libraries that the server uses, checked once at start.

A release may rename a private name. Then a log line says which name is missing and what does not work without
it, and everything else is served. Where nothing works without it, the server does not start.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import re
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

logger = logging.getLogger("bentoml.okamochi")


class Guard(NamedTuple):
    """One use of a library.

    Parameters
    ----------
    library
        The name of its distribution.
    uses
        `module:name.name`: the name exists; `module:Class self.name`: methods of the class use the attribute;
        `module:Class(a, b)`: these are exactly its parameters; `module:name["key"]`: the key exists.
    without
        What does not work where one of them is missing.
    """

    library: str
    uses: tuple[str, ...]
    without: str


BENTOML = Guard(
    "bentoml",
    (
        "_bentoml_sdk:Service.__attrs_post_init__",
        "_bentoml_sdk:Service.to_asgi",
        "_bentoml_sdk:Service.doc",
        "_bentoml_sdk:Service self.inner",
        "_bentoml_sdk:Service self.models",
        "bentoml.models:BentoModel",
        "bentoml.exceptions:BentoMLException",
    ),
    "no server can start; install the version that pyproject.toml names",
)
METRICS_FOLDER = Guard(
    "bentoml",
    ("bentoml._internal.configuration.containers:BentoMLContainer.prometheus_multiproc_dir.get",),
    "where two servers share a BENTOML_HOME, the second empties the metrics of the first",
)
PARENT = Guard(
    "circus",
    (
        "bentoml._internal.utils.circus:Arbiter",
        "circus.arbiter:Arbiter.start_watchers",
        "circus.arbiter:Arbiter.manage_watchers",
        "circus.arbiter:Arbiter.iter_watchers",
        "circus.arbiter:Arbiter self._restarting",
        "circus.arbiter:Arbiter self._exclusive_running_command",
        "circus.arbiter:Arbiter self.check_delay",
        "circus.watcher:Watcher self.processes",
        "circus.process:Process.age",
        "circus.process:Process.status",
        "circus.process:DEAD_OR_ZOMBIE",
        "circus.process:UNEXISTING",
    ),
    "a worker that dies is replaced after ten seconds instead of one, and SIGHUP replaces the workers",
)
METRIC_FILES = Guard(
    "prometheus_client",
    (
        "prometheus_client.values:MmapedDict",
        "prometheus_client.mmap_dict:MmapedDict(filename, read_mode)",
        "prometheus_client.mmap_dict:MmapedDict._init_value",
        "prometheus_client.mmap_dict:MmapedDict.close",
        *(
            f"prometheus_client.mmap_dict:MmapedDict self.{name}"
            for name in ("_f", "_m", "_fname", "_capacity", "_used")
        ),
    ),
    "a full disk ends a worker that counts something for the first time",
)
HISTOGRAMS = Guard(
    "prometheus_client",
    ("prometheus_client:Histogram self._sum", "prometheus_client:Histogram self._buckets"),
    "histograms count one value at a time, which costs some microseconds per request",
)
_HTTP = "uvicorn.protocols.http."
UVICORN = Guard(
    "uvicorn",
    (
        'uvicorn.config:HTTP_PROTOCOLS["auto"]',
        *(
            f"{_HTTP}httptools_impl:HttpToolsProtocol.{name}"
            for name in (
                "connection_made",
                "connection_lost",
                "data_received",
                "eof_received",
                "on_message_begin",
                "on_message_complete",
                "on_header",
                "on_body",
                "on_response_complete",
                "pause_writing",
                "resume_writing",
                "send_400_response",
                "shutdown",
                "_start_asgi_task",
                "_unset_keepalive_if_required",
            )
        ),
        *(
            f"{_HTTP}httptools_impl:HttpToolsProtocol self.{name}"
            for name in (
                "cycle",
                "flow",
                "pipeline",
                "transport",
                "server_state",
                "timeout_keep_alive",
                "parser",
                "loop",
                "expect_100_continue",
            )
        ),
        f"{_HTTP}httptools_impl:HttpToolsProtocol(config, server_state, app_state, _loop)",
        f"{_HTTP}httptools_impl:STATUS_LINE",
        f"{_HTTP}httptools_impl:RequestResponseCycle.send",
        f"{_HTTP}httptools_impl:RequestResponseCycle.receive",
        *(
            f"{_HTTP}httptools_impl:RequestResponseCycle self.{name}"
            for name in (
                "disconnected",
                "keep_alive",
                "message_event",
                "response_complete",
                "response_started",
                "transport",
            )
        ),
        f"{_HTTP}flow_control:FlowControl.pause_reading",
        f"{_HTTP}flow_control:FlowControl.resume_reading",
        "uvicorn.protocols.utils:is_ssl",
    ),
    "requests are served without the express lane, at half its rate, and client certificates name nobody",
)
HPACK = Guard(
    "hpack",
    (
        "hpack.huffman_table:HUFFMAN_TABLE",
        "hpack.huffman_table:HUFFMAN_COMPLETE",
        "hpack.table:HeaderTable.STATIC_TABLE",
    ),
    "gRPC is not served",
)
GUARDS = (BENTOML, METRICS_FOLDER, PARENT, METRIC_FILES, HISTOGRAMS, UVICORN, HPACK)

_USE = re.compile(
    r"""(?P<module>[\w.]+):(?P<names>[\w.]+)"""
    r"""(?:\ self\.(?P<attribute>\w+)|\((?P<parameters>.*)\)|\["(?P<key>\w+)"\])?"""
)


def missing(guard: Guard) -> str:
    """The first name of a guard that the installed library does not have; "" where it has all."""
    return next((use for use in guard.uses if not _there(use)), "")


def _there(use: str) -> bool:
    found = _USE.fullmatch(use)
    assert found is not None, use  # noqa: S101 - written above
    try:
        thing: Any = importlib.import_module(found["module"])
        for name in found["names"].split("."):
            thing = getattr(thing, name)
        if found["attribute"]:
            return found["attribute"] in _attributes(thing)
        if found["parameters"]:
            return list(inspect.signature(thing).parameters) == found["parameters"].split(", ")
        return not found["key"] or found["key"] in thing
    except (ImportError, AttributeError, TypeError, ValueError, OSError):
        return False


@lru_cache
def _attributes(owner: type) -> frozenset[str]:
    """Names that a class declares or its methods use; reading its source instead would take 0.1 s."""
    found: set[str] = set()
    for each in owner.__mro__[:-1]:
        found.update(vars(each).get("__annotations__", ()))
        for value in vars(each).values():
            code = getattr(inspect.unwrap(value), "__code__", None) if callable(value) else None
            if code is not None:
                found.update(code.co_names)
    return frozenset(found)


def sentence(guard: Guard, lacking: str) -> str:
    """The log line about a missing name."""
    try:
        installed = version(guard.library)
    except PackageNotFoundError:
        installed = "(not installed)"
    return f"{guard.library} {installed} has no {lacking}: {guard.without}"


_told: list[str] = []


@lru_cache
def usable(guard: Guard) -> bool:
    """Whether the library has all names of a guard; a missing one is logged once in each process."""
    lacking = missing(guard)
    if lacking:
        _told.append(sentence(guard, lacking))
        logger.warning("%s", _told[-1])
    return not lacking


def tell_again() -> None:
    """Log again what was found missing before this process had its log."""
    for said in _told:
        logger.warning("%s", said)
