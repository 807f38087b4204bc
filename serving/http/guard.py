"""What `connection` and `express` use of uvicorn that it does not promise: one check, at start."""

from __future__ import annotations

import inspect

import uvicorn.config
from uvicorn.protocols.http import flow_control, httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# What is overridden or called, by the class that has it.
_USED: dict[type, tuple[str, ...]] = {
    HttpToolsProtocol: (
        "connection_made",
        "connection_lost",
        "data_received",
        "eof_received",
        "on_message_begin",
        "on_message_complete",
        "on_header",
        "on_response_complete",
        "pause_writing",
        "resume_writing",
        "send_400_response",
        "shutdown",
        "_start_asgi_task",
        "_unset_keepalive_if_required",
    ),
    httptools_impl.RequestResponseCycle: ("send", "receive"),
    flow_control.FlowControl: ("pause_reading", "resume_reading"),
}
_ATTRIBUTES = {
    HttpToolsProtocol: (
        "cycle",
        "flow",
        "pipeline",
        "transport",
        "server_state",
        "timeout_keep_alive",
        "parser",
        "loop",
        "expect_100_continue",
    ),
    httptools_impl.RequestResponseCycle: (
        "disconnected",
        "keep_alive",
        "message_event",
        "response_complete",
        "response_started",
    ),
}


def missing() -> str:
    """What the installed uvicorn lacks of that; "" for nothing."""
    for owner, names in _USED.items():
        for name in names:
            if not callable(getattr(owner, name, None)):
                return f"{owner.__name__}.{name}"
    for owner, names in _ATTRIBUTES.items():
        source = inspect.getsource(owner)
        for name in names:
            if f"self.{name}" not in source:
                return f"{owner.__name__}().{name}"
    parameters = list(inspect.signature(HttpToolsProtocol.__init__).parameters)
    if parameters != ["self", "config", "server_state", "app_state", "_loop"]:
        return f"HttpToolsProtocol{tuple(parameters[1:])}"
    if "auto" not in getattr(uvicorn.config, "HTTP_PROTOCOLS", {}):
        return 'uvicorn.config.HTTP_PROTOCOLS["auto"]'
    return ""
