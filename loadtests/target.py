"""The models and metrics of the server under test."""

from __future__ import annotations

import http.client
import json
import os
import socket
import urllib.error
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from loadtests import server_metrics
from loadtests.errors import UsageError, nearest
from loadtests.protocols import Model

if TYPE_CHECKING:
    from loadtests.tally import Served

TIMEOUT_S = 10.0
KEY = "OKAMOCHI_CLIENT_KEY"


def live_model(host: str, name: str) -> Model:
    """The model of this name; for "", the default model.

    Raises
    ------
    UsageError
        No server answers, it is not an Okamochi server, or it does not serve the model.
    """
    if urlsplit(host).scheme not in ("http", "https") or not urlsplit(host).hostname:
        raise UsageError(f"--host {host!r} is not a base URL; write it as http://127.0.0.1:3000.")
    try:
        found = json.loads(get(f"{host.rstrip('/')}/models"))
        default, live = found["default"], {model["name"]: model for model in found["models"]}
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise UsageError(
                f"{host}/models answers {error.code}: set {KEY} to a key with the roles predict and observe."
            ) from error
        raise UsageError(f"{host}/models answers {error.code}: it is not an Okamochi server.") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UsageError(
            f"Nothing answers at {host} ({reason}); start the server (make serve) or name another HOST."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{host}/models lists no models: it is not an Okamochi server.") from error
    name = name or default
    if name not in live:
        if not live:
            raise UsageError(f"{host} serves no model.")
        raise UsageError(f"{host} does not serve {name!r}; {nearest(name, live)}")
    return Model.of(live[name], default=name == default)


def counts(urls: list[str]) -> Counter[Served]:
    """The requests that servers have counted, summed over these URLs of metrics.

    Raises
    ------
    OSError, server_metrics.NotOurs
    """
    found: Counter[Served] = Counter()
    for url in urls:
        try:
            found += server_metrics.parse(get(url).decode())
        except server_metrics.NotOurs as error:
            raise server_metrics.NotOurs(f"{url} {error}") from None
        except OSError as error:
            raise OSError(f"{url} cannot be read: {getattr(error, 'reason', error)}") from error
    return found


def each(url: str) -> list[str]:
    """A URL for every address of the host name, as a headless Service has one for each pod.

    Raises
    ------
    UsageError
        The URL is malformed, or the host is unknown.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--metrics {url!r} is not a URL; write it as http://127.0.0.1:3000/metrics.")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(
            f"--metrics {url}: the host {parts.hostname!r} is unknown ({error.strerror})."
        ) from error
    addresses = {str(address[0]) for family, *_, address in found if family == socket.AF_INET}
    if len(addresses) < 2:
        return [url]
    return [parts._replace(netloc=f"{address}:{port}").geturl() for address in sorted(addresses)]


def key_header() -> dict[str, str]:
    """The key of the server under test, if `OKAMOCHI_CLIENT_KEY` has one."""
    key = os.environ.get("OKAMOCHI_CLIENT_KEY", "").strip()
    return {"X-API-Key": key} if key else {}


def get(url: str) -> bytes:
    request = urllib.request.Request(url, headers=key_header())  # noqa: S310 - checked to be HTTP
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310 - as above
        body: Any = reply.read()
    return bytes(body)
