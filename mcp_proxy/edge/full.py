"""Where no place is left: a connection that hears a refusal, and costs next to nothing."""

import asyncio
from collections.abc import Callable
from secrets import token_hex
from typing import cast

from mcp_proxy.core import errors
from mcp_proxy.core.errors import OverloadedError, ProxyError
from mcp_proxy.edge.answer import head_of
from mcp_proxy.layers.rescue import PROBLEM, problem

# Seconds in which whoever has connected may ask, to be refused; then the connection is closed.
_PATIENCE = 1.0
# Refused ones that are still open; beyond them a connection is cut without a word.
SPARE = 256


def refusal(error: ProxyError, status: int | None = None) -> bytes:
    """Return an answer after which the connection closes, for whoever has no request yet."""
    request_id = token_hex(8)
    details = errors.details(error, repeatable=False, request_id=request_id)
    wait = errors.retry_after(error, repeatable=False)
    body = problem(error, details)
    lines = (
        f"Content-Type: {PROBLEM}\r\nCache-Control: no-store\r\nX-Request-Id: {request_id}\r\n"
        + ("" if wait is None else f"Retry-After: {errors.whole_seconds(wait)}\r\n")
        + f"Connection: close\r\nContent-Length: {len(body)}\r\n"
    )
    return head_of(status or error.status, None, lines) + body


class Full(asyncio.Protocol):
    """Refuse what comes, and close."""

    def __init__(self, left: Callable[[], None], *, silent: bool) -> None:
        """`left` is called when it is over; a `silent` one does not wait for a request."""
        self._left = left
        self._silent = silent
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request: an answer that comes before it may be lost with the close."""
        taken = cast("asyncio.Transport", transport)  # uvloop's is none of asyncio's
        if self._silent:
            taken.abort()
            return
        self._transport = taken
        self._timer = asyncio.get_running_loop().call_later(_PATIENCE, taken.abort)

    def data_received(self, _: bytes) -> None:
        """Refuse."""
        if self._transport is not None:
            error = OverloadedError("Too many connections are open (MCP_CONNECTIONS_LIMIT).")
            self._transport.write(refusal(error))
            self._transport.close()
            self._transport = None

    def connection_lost(self, _: Exception | None) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
        self._left()
