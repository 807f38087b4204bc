"""The end of a call: its refusal, and the fields behind an answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from serving.errors import Problem
from serving.grpc.refusals import refusal_of
from serving.protocols.oip import OpenInference
from serving.protocols.oip.request import HEADER_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.grpc.call import Call
    from serving.grpc.header_block import Field
    from serving.grpc.stream import Stream
    from serving.protocols import Head, Reply

    Tell = Callable[[str, Reply, Call], None]
    """Counts and logs an answered call, by the value of the metric label `endpoint`."""


async def refuse(stream: Stream, call: Call, reply: Reply | None = None) -> None:
    """End a call that has a problem.

    Parameters
    ----------
    reply
        The refusal, if there is one already.
    """
    problem = call.problem
    assert problem is not None  # noqa: S101 - the caller looked
    if problem.wait_s:
        await asyncio.sleep(problem.wait_s)
    stream.end(*refusal_of(problem, reply, has_deadline=call.due is not None))


async def refuse_untold(stream: Stream, call: Call, problem: Problem, label: str, tell: Tell) -> None:
    """Refuse a call of a service that counts and logs no other calls.

    Parameters
    ----------
    label
        The value of the metric label `endpoint`.
    """
    reply = OpenInference().refuse(call.named(problem))
    tell(label, reply, call)
    await refuse(stream, call, reply)


def trailers_of(reply: Reply, head: Head) -> list[Field]:
    """The headers of a reply but for the length of its JSON, which no client here can use."""
    found = [(name.lower(), value) for name, value in reply.headers if name != HEADER_LENGTH]
    if head.request_id is not None:
        found.append((b"x-request-id", head.request_id))
    return found


def late() -> Problem:
    """The client's deadline has passed."""
    return Problem(429, "The deadline of the call has passed.", reason="deadline")
