"""Make tool calls go wrong on the wire, whether they come by REST or by MCP."""

import json
from typing import Any

import anyio
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.basic_server.faults import ON_THE_WIRE, Fault, Faults, Mode


def tool_of_rest(body: dict[str, Any]) -> object:
    """Return the tool that a REST call names."""
    return body.get("tool_name")


def tool_of_mcp(body: dict[str, Any]) -> object:
    """Return the tool that a JSON-RPC message calls."""
    params = body.get("params")
    if body.get("method") != "tools/call" or not isinstance(params, dict):
        return None
    return params.get("name")


CARRIERS = {"/api/call-tool": tool_of_rest, "/mcp": tool_of_mcp}


class Replayed:
    """Give out a request body that was read already, then whatever comes after it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        """Stand in for the receive that the body was read from."""
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def left(self) -> None:
        """Wait until the client has left; the body stays where it is."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


class FaultyWire:
    """Delay a tool call, leave it without answer, answer 500, or break off in the answer."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let everything pass but the tool calls that a fault strikes."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in CARRIERS:
            await self._app(scope, receive, send)
            return
        body = await whole_body(receive)
        if body is None:
            return
        tool = tool_in(scope["path"], body)
        fault = None
        if tool is not None:
            await anyio.sleep(self._faults.every_call_seconds)
            fault = self._faults.take(tool, ON_THE_WIRE)
        request = Replayed(body, receive)
        if fault is None:
            await self._app(scope, request, send)
        else:
            await self._strike(fault, scope, request, send)

    async def _strike(self, fault: Fault, scope: Scope, request: Replayed, send: Send) -> None:
        mode = fault.order.mode
        if mode is Mode.ERROR:
            await PlainTextResponse("Internal Server Error", 500)(scope, request, send)
            return
        if mode is Mode.CUT:
            await self._cut(scope, request, send)
            return
        if mode is Mode.SLOW:
            await anyio.sleep(fault.order.seconds)
        elif not await lifted_before_leaving(fault, request):
            return
        await self._app(scope, request, send)

    async def _cut(self, scope: Scope, request: Replayed, send: Send) -> None:
        """Run the tool, promise its whole answer and send half of it.

        Returning in the middle of a body is what makes uvicorn close the connection.
        """
        start: Message = {}
        body = bytearray()

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                body.extend(message.get("body", b""))

        await self._app(scope, request, keep)
        if not start:  # the client left before there was an answer
            return
        headers = MutableHeaders(raw=list(start["headers"]))
        headers["content-length"] = str(len(body))
        await send({**start, "headers": headers.raw})
        half = bytes(body[: len(body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})


async def whole_body(receive: Receive) -> bytes | None:
    """Read the request to its end; None if the client left before."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body.extend(message.get("body", b""))
        if not message.get("more_body", False):
            return bytes(body)


def tool_in(path: str, body: bytes) -> str | None:
    """Return the name of the tool that a request calls, if it is such a request."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return None
    tool = CARRIERS[path](parsed) if isinstance(parsed, dict) else None
    return tool if isinstance(tool, str) else None


async def lifted_before_leaving(fault: Fault, request: Replayed) -> bool:
    """Wait until the fault is lifted or the client leaves, and tell whether it was lifted."""
    async with anyio.create_task_group() as group:

        async def end_when_lifted() -> None:
            await fault.lifted.wait()
            group.cancel_scope.cancel()

        group.start_soon(end_when_lifted)
        await request.left()
        group.cancel_scope.cancel()
    return fault.lifted.is_set()
