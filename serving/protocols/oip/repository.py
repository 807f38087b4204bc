"""The extension `model_repository` of the Open Inference Protocol: index, load and unload."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from serving.errors import Problem
from serving.protocols import Reply
from serving.protocols.json_body import decode
from serving.protocols.oip.endpoint import JSON
from serving.protocols.wording import described

if TYPE_CHECKING:
    from serving.scoring.repository import Repository

ROOT = "/v2/repository"
INDEX = f"{ROOT}/index"
CONTENT_TYPES = ("application/json", "application/octet-stream")
MAX_BYTES = 64 * 1024
ONE_SERVER = (
    "Done in all workers of this server, until it stops. Other servers, such as the other pods of a "
    "Deployment, are as before."
)
IGNORED = ("unload_dependents",)
"""Parameters of Triton's clients that have no effect here: no model depends on another."""


def is_route(path: str) -> bool:
    """Whether this is a route of the extension."""
    return path == INDEX or bool(_parts_of(path))


def required(repository: Repository | None) -> Repository:
    """The repository.

    Raises
    ------
    Problem
        403 without one: the server does not change its models.
    """
    if repository is None:
        raise Problem(403, "OKAMOCHI_WATCH_S=0: this server does not change its models while it runs.")
    return repository


def answer(repository: Repository, path: str, body: bytes) -> Reply:
    """The reply to a POST, once all workers have done what the request asks for.

    Raises
    ------
    Problem
    """
    found = _object(decode(body) if body.strip() else {}, "the body")
    if path == INDEX:
        ready = found.get("ready", False)
        if not isinstance(ready, bool):
            raise Problem(422, f"ready: expected true or false, got {described(ready)}.")
        return _reply([each._asdict() for each in repository.index(ready=ready)])
    name, verb = _parts_of(path)
    parameters = _object(found.get("parameters", {}), "parameters")
    if verb == "load":
        repository.load(name, _version_in(parameters))
    else:
        repository.unload(name)
    return _reply({"note": ONE_SERVER})


def _parts_of(path: str) -> tuple[str, ...]:
    """The name and the verb of a path; empty for another path."""
    parts = path.split("/")
    is_one = len(parts) == 6 and path.startswith(f"{ROOT}/models/") and parts[4] != ""
    return (parts[4], parts[5]) if is_one and parts[5] in ("load", "unload") else ()


def _version_in(parameters: dict[str, Any]) -> str:
    """The version that the parameters of a load ask for; "" for that of `models.lock`."""
    for key in parameters:
        if key != "config" and key not in IGNORED:
            raise Problem(422, f"parameters: {key[:80]!r} is not supported; expected config.")
    text = parameters.get("config")
    if text is None:
        return ""
    where = "parameters: config"
    if not isinstance(text, str):
        raise Problem(422, f"{where}: expected JSON in a text, got {described(text)}.")
    expected = '{"version_policy": {"specific": {"versions": [3]}}} with one version'
    config = _object(decode(text.encode()), where)
    policy = config.get("version_policy")
    specific = policy.get("specific") if isinstance(policy, dict) and len(policy) == 1 else None
    versions = specific.get("versions") if isinstance(specific, dict) and len(specific) == 1 else None
    if len(config) != 1 or not isinstance(versions, list) or len(versions) != 1:
        raise Problem(422, f"{where}: expected {expected}.")
    (version,) = versions
    if isinstance(version, bool) or not isinstance(version, int | str) or not str(version).isdecimal():
        raise Problem(422, f"{where}: expected a whole number as the version, got {described(version)}.")
    return str(version)


def _object(found: object, where: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise Problem(422, f"{where}: expected an object, got {described(found)}.")
    return found


def _reply(content: object) -> Reply:
    return Reply(200, JSON, msgspec.json.encode(content))
