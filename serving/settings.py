"""The limits of a server, read once at start from `OKAMOCHI_*`; docs/settings.md has them in a table."""

from __future__ import annotations

import difflib
import importlib.util
import logging
import re
import unicodedata
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "OKAMOCHI_"
MIB = 1024 * 1024
MAX_CHARACTERS = 16_384  # of a variable; room for the token in a header of OTEL_EXPORTER_OTLP_HEADERS
MAX_SHOWN = 80  # characters of a wrong value
POSTGRES = ("postgresql://", "postgres://", "postgresql+psycopg://")

logger = logging.getLogger("bentoml.okamochi")  # BentoML shows what is logged below its own name


class SettingsError(ValueError):
    """An environment variable has a value that its setting does not take."""


def _setting(default: Any, minimum: float = 0, maximum: float = 0, *, is_: str) -> Any:
    return field(default=default, metadata={"minimum": minimum, "maximum": maximum, "is": is_})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an operator may set. The variable of a field is `OKAMOCHI_` and its name in capitals."""

    models: tuple[str, ...] = _setting(
        (), is_="names of the models of models.lock to serve; the first is the default"
    )
    models_lock: str = _setting(
        "", is_="the path of models.lock, where another folder than service.py's holds it"
    )
    watch_s: float = _setting(
        2.0,
        0,
        86_400,
        is_="how often models.lock is looked at; a version that it newly names goes live without a restart; "
        "0: never",
    )
    keys: str = _setting(
        "",
        is_="the file of keys that `python -m deploy keys` writes; without it every request is admitted",
    )
    audit_log: str = _setting(
        "",
        is_="the file of the audit log: caller, model, version, time and status of each request; without it "
        "nothing is logged there",
    )
    jwks: str = _setting(
        "", is_="a JWKS, as a file or an `https://` URL: its public keys check the tokens (JWT) of callers"
    )
    jwt_audience: str = _setting("", is_="the audience (`aud`) that a token must have; needed with a JWKS")
    jwt_issuer: str = _setting("", is_="the issuer (`iss`) that a token must have; needed with a JWKS")
    cors_origins: tuple[str, ...] = _setting(
        (),
        is_="origins whose pages may call the server from a browser, such as `https://app.example.org`, or "
        "`*` for all; without it no page of another origin may",
    )
    workers: int = _setting(1, 1, 64, is_="worker processes; on a cluster keep 1 and add pods")
    grpc_port: int = _setting(
        0, 0, 65_535, is_="the port of gRPC, on the address and with the certificate of HTTP; 0: off"
    )
    max_body_bytes: int = _setting(
        16 * MIB, 1024, 2**31, is_="the largest request body; a larger one is refused with 413"
    )
    bodies_bytes: int = _setting(
        256 * MIB,
        1024,
        2**36,
        is_="memory for the bodies of all requests in progress (feedback has its own), beyond the first 64 "
        "KiB of each, at least twice `OKAMOCHI_MAX_BODY_BYTES`; a caller has at most half, and more are "
        "refused with 429",
    )
    gzip_bytes: int = _setting(
        16 * 1024,
        0,
        2**31,
        is_="the size from which a reply is compressed with gzip for a client that accepts that; 0: never",
    )
    max_matrix_bytes: int = _setting(
        128 * MIB,
        1024,
        2**36,
        is_="memory for the encoded rows of one model, 8 bytes per value, or for its tensors that wait; "
        "for models of many columns this limits the rows of a request (413) and of the queue (429)",
    )
    queue_rows: int = _setting(
        100_000, 1, 10**8, is_="the maximum number of rows that wait for one model; more are refused with 429"
    )
    default_deadline_ms: int = _setting(
        3_000,
        1,
        3_600_000,
        is_="how long a request without `X-Deadline-Ms` may wait before it is refused with 429",
    )
    max_deadline_ms: int = _setting(
        60_000, 1, 3_600_000, is_="the longest deadline that `X-Deadline-Ms` can ask for"
    )
    batch_objective_ms: float = _setting(
        10.0, 0.1, 60_000, is_="how long one call of a model may take; limits the rows of a batch"
    )
    explain_error: float = _setting(
        0.1,
        0.001,
        1,
        is_="the error at which an explanation is good enough, as a fraction of its largest contribution; "
        "a smaller one takes longer",
    )
    explain_queue_rows: int = _setting(
        256,
        1,
        10**6,
        is_="the maximum number of rows of one model that wait for their explanations; more are refused "
        "with 429",
    )
    model_call_s: float = _setting(
        10.0,
        0.1,
        3_600,
        is_="how long one call of a model in its own process (`runtime: python`) may take; then the "
        "process is ended and replaced",
    )
    model_memory_mb: int = _setting(
        2_048, 0, 10**6, is_="memory that the process of such a model may allocate, in MiB; 0: no limit"
    )
    max_head_bytes: int = _setting(
        64 * 1024,
        1024,
        2**24,
        is_="the largest request line with its headers; a larger one is refused with 431",
    )
    receive_s: float = _setting(
        60.0,
        0.1,
        86_400,
        is_="how long a client may take to send a head, pause within a body (408), or read nothing of a "
        "reply; then its connection is closed",
    )
    keep_alive_s: int = _setting(
        75,
        1,
        86_400,
        is_="how many seconds an idle connection is kept; choose more than clients and proxies do (60 s), "
        "or they send requests on a connection that is being closed; `bentoml serve "
        "--timeout-keep-alive` overrides it, unless its value is uvicorn's default 5",
    )
    express: int = _setting(
        1, 0, 1, is_="1: plain prediction requests take the express lane; 0: the gateway answers them all"
    )
    console: int = _setting(
        1, 0, 1, is_="1: `/console` shows what is live and asks a model about one row; 0: no console"
    )
    log_sample: float = _setting(
        0.0,
        0,
        1,
        is_="fraction of the answered requests that have a log line; failed requests have one anyway",
    )
    drift_rows_per_s: float = _setting(
        20.0,
        0,
        10_000,
        is_="the maximum number of rows per second and model that drift detection samples; 0: none",
    )
    drift_window_rows: int = _setting(
        2_000, 100, 10**6, is_="the number of latest rows that are compared with the training data"
    )
    drift_window_s: float = _setting(3_600.0, 1, 10**7, is_="the maximum age of these rows")
    drift_every_s: float = _setting(15.0, 0.1, 86_400, is_="how often these rows are compared")
    drift_psi: float = _setting(
        0.2,
        0,
        100,
        is_="the population stability index below which a shift raises no alarm, even if it is significant",
    )
    prediction_log: str = _setting(
        "", is_="where predictions are logged: a folder (pods may share it) or a `postgresql://` URL"
    )
    log_keys: str = _setting(
        "",
        is_="the file with the keys that encrypt the prediction log (`python -m deploy log-key FILE`); "
        "without it, it is not encrypted",
    )
    prediction_log_rows_per_s: float = _setting(
        200.0, 0.1, 100_000, is_="the maximum number of rows per second that a worker logs, sampled uniformly"
    )
    prediction_log_file_mb: int = _setting(
        64, 1, 10_000, is_="the size at which a file of the prediction log is closed and the next one begun"
    )
    prediction_log_file_s: float = _setting(
        3_600.0,
        0.1,
        10**7,
        is_="the age at which a file of the prediction log is closed and the next one begun",
    )
    prediction_log_days: float = _setting(
        30.0, 0, 36_500, is_="how long logged predictions and their feedback are kept"
    )
    shadow_fraction: float = _setting(
        1.0, 0, 1, is_="fraction of the answered requests that are offered to a shadow"
    )
    feedback_requests: int = _setting(
        64,
        1,
        100_000,
        is_="the maximum number of requests to `/feedback` in progress; beyond it, requests of the caller "
        "with the most are refused with 429",
    )
    feedback_body_bytes: int = _setting(
        MIB, 1024, 2**31, is_="the largest body of feedback; a larger one is refused with 413"
    )
    feedback_bytes: int = _setting(
        16 * MIB,
        1024,
        2**36,
        is_="memory for the bodies of all feedback requests in progress; more are refused with 429",
    )
    probability_digits: int = _setting(
        0,
        0,
        15,
        is_="digits after the point that probabilities are rounded to in replies, which makes a copy of the "
        "model dearer; 0: they are not rounded",
    )
    trusted_keys: str = _setting(
        "",
        is_="the file with the public keys of those who may sign models (`python -m deploy signing-key`); "
        "with it, only models that one of them signed are served",
    )
    hash_key: str = _setting(
        "", is_="the key that hashes sensitive columns in the prediction log; without it they are left out"
    )


VARIABLES = {PREFIX + found.name.upper(): found for found in fields(Settings)}


def read(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises
    ------
    SettingsError
        The message names the variable, its value and what is expected.
    """
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if variable in VARIABLES or variable.startswith("OTEL_"):
            _check_text(variable, text.strip())
    for variable, found in VARIABLES.items():
        text = environment.get(variable, "").strip()
        if not text:
            continue
        if isinstance(found.default, tuple):
            values[found.name] = tuple(part for part in re.split(r"[,\s]+", text) if part)
        elif isinstance(found.default, str):
            values[found.name] = text
        else:
            kind = int if isinstance(found.default, int) else float
            values[found.name] = _number(variable, text, kind, **found.metadata)
    for variable in environment:
        if variable.startswith(PREFIX) and variable not in VARIABLES:
            # Only near misses: Kubernetes itself sets OKAMOCHI_SERVICE_HOST and the like.
            near = difflib.get_close_matches(variable, VARIABLES, 1, cutoff=0.85)
            if near:
                shown = variable.encode("ascii", "backslashreplace").decode()
                logger.warning("%s is not a setting; did you mean %s?", shown, near[0])
    _check_origins(values.get("cors_origins", ()))
    _check_log(values.get("prediction_log", ""))
    _check_grpc(values.get("grpc_port", 0))
    _check_tokens(values)
    return Settings(**values)


def _check_text(variable: str, text: str) -> None:
    """Refuse what no setting takes, without the value: it may be a secret."""
    try:
        text.encode()
    except UnicodeEncodeError as error:  # Python holds a byte that is not UTF-8 as half a surrogate pair
        raise SettingsError(
            f"{variable} holds bytes that are not UTF-8, the first at character {error.start}; expected text"
        ) from None
    for place, character in enumerate(text):
        if unicodedata.category(character) == "Cc":
            raise SettingsError(
                f"{variable} holds the control character U+{ord(character):04X} at character {place}; "
                "expected text without control characters"
            )
    if len(text) > MAX_CHARACTERS:
        raise SettingsError(f"{variable} holds {len(text)} characters; expected at most {MAX_CHARACTERS}")


_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(r"\[[0-9a-f:.]+\]|[a-z0-9_.-]+")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def _check_origins(origins: tuple[str, ...]) -> None:
    """Refuse what no browser sends as `Origin`: it would never match."""
    for place, origin in enumerate(origins, 1):
        if origin == "*":
            reason = "it stands for all origins, so it must stand alone" if len(origins) > 1 else ""
        elif "*" in origin:
            reason = "expected an exact origin, or * alone"
        else:
            reason = _wrong_origin(origin)
        if reason:
            raise SettingsError(f"{PREFIX}CORS_ORIGINS: origin {place}, {origin[:MAX_SHOWN]!r}: {reason}")


def _wrong_origin(origin: str) -> str:
    """Why a browser never sends this origin; "" if it may."""
    expected = "expected scheme://host or scheme://host:port, such as https://app.example.org"
    scheme, found, rest = origin.partition("://")
    if not found or not _SCHEME.fullmatch(scheme.lower()):
        return expected
    if origin.endswith("/") and rest.count("/") == 1:
        return f"an origin has no slash at its end; expected {origin[:-1]!r}"
    if "/" in rest or "?" in rest or "#" in rest or "@" in rest:
        return f"{expected}, without a path, a query or a user"
    if not origin.isascii():
        return "browsers send such a host in punycode (xn--...); write it so"
    if origin != origin.lower():
        return f"browsers send origins in lower case; expected {origin.lower()!r}"
    host = _HOST.match(rest)
    port = rest[host.end() :] if host is not None else ""
    if host is None or (port and not re.fullmatch(r":[1-9][0-9]{0,4}", port)):
        return expected
    if port and int(port[1:]) > 65_535:
        return f"expected a port from 1 to 65535, got {port[1:]}"
    if port and _DEFAULT_PORTS.get(scheme) == port[1:]:
        return f"browsers leave out the usual port; expected {origin[: -len(port)]!r}"
    return ""


def _check_log(target: str) -> None:
    variable = f"{PREFIX}PREDICTION_LOG"
    if target.startswith(POSTGRES):
        if importlib.util.find_spec("psycopg") is None:
            raise SettingsError(f"{variable} is a postgresql:// URL, and psycopg is not installed")
    elif "://" in target:
        scheme = target.partition("://")[0]
        raise SettingsError(f"{variable} begins with {scheme}://, expected a folder or a postgresql:// URL")


def _check_grpc(port: int) -> None:
    if port and importlib.util.find_spec("hpack") is None:
        raise SettingsError(f"{PREFIX}GRPC_PORT is set, and the package hpack is not installed")


def _check_tokens(values: Mapping[str, Any]) -> None:
    target = values.get("jwks", "")
    if not target:
        return
    if "://" in target and not target.startswith("https://"):
        scheme = target.partition("://")[0]
        raise SettingsError(f"{PREFIX}JWKS begins with {scheme}://, expected a file or an https:// URL")
    for name in ("jwt_audience", "jwt_issuer"):
        if not values.get(name):
            raise SettingsError(f"{PREFIX}JWKS is set, so {PREFIX}{name.upper()} must be set as well")
    if importlib.util.find_spec("jwt") is None:
        raise SettingsError(f"{PREFIX}JWKS is set, and the package PyJWT is not installed")


def _number(
    variable: str, text: str, kind: type[int | float], *, minimum: float, maximum: float, **_: str
) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not minimum <= value <= maximum:
        expected = "a whole number" if kind is int else "a number"
        shown = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
        raise SettingsError(f"{variable}={shown!r}: expected {expected} from {minimum} to {maximum}")
    return value
