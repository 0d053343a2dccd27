"""JSON-RPC messages, read from requests and written as answers and events."""

import json
from dataclasses import dataclass
from typing import Any

from tests.edge.wire import Said
from tests.kit.rest_front import caller_of, said
from tests.kit.sent import STATELESS
from tests.kit.turn import Asked, Reply

INVALID_REQUEST, UNKNOWN_METHOD, INVALID_PARAMS, BAD_JSON = -32600, -32601, -32602, -32700
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022
OK, BAD, GONE = "200 OK", "400 Bad Request", "404 Not Found"
NOT_ALLOWED = "405 Method Not Allowed"
CAPABILITIES = {"tools": {"listChanged": True}, "logging": {}, "resources": {"subscribe": True}}
_MIRRORED = {"tools/call": "name"}  # which parameter Mcp-Name repeats


@dataclass(frozen=True, slots=True)
class Request:
    """One JSON-RPC message, and who sends it how."""

    method: str
    id: Any
    params: dict[str, Any]
    caller: str
    session_id: str | None
    version: str  # as the header says; empty without one

    @property
    def stateless(self) -> bool:
        return self.version >= STATELESS

    @property
    def is_tool(self) -> bool:
        return self.method == "tools/call"

    @property
    def name(self) -> str:
        """Return what a script for it is called."""
        return str(self.params.get("name")) if self.is_tool else self.method


def request_in(asked: Said, message: dict[str, Any]) -> Request:
    """Return the message with what the headers say of it."""
    return Request(
        str(message["method"]),
        message.get("id"),
        message.get("params") or {},
        caller_of(asked),
        first(asked, "Mcp-Session-Id"),
        first(asked, "MCP-Protocol-Version") or "",
    )


def first(asked: Said, name: str) -> str | None:
    return next(iter(asked.all(name)), None)


def mirrored_badly(asked: Said, request: Request) -> bool:
    """Tell whether headers of the stateless era contradict the body (MCP 2026-07-28)."""
    if not request.stateless:
        return False
    name = request.params.get(_MIRRORED.get(request.method, ""))
    mirrors = asked.all("Mcp-Method") == [request.method]
    return not mirrors or asked.all("Mcp-Name") != ([] if name is None else [name])


def rpc_error(status: str, code: int, text: str, request_id: Any = None) -> Reply:
    """Return an error as JSON."""
    error = {"code": code, "message": text}
    return said({"jsonrpc": "2.0", "id": request_id, "error": error}, status)


def refusal(status: str, code: int, text: str, name: str = "refused") -> Asked:
    """Return what becomes of a request that is refused whatever it asks."""
    reply = rpc_error(status, code, text)
    return Asked(name, lambda: reply, lambda *_: reply)


def identity(fields: dict[str, Any]) -> dict[str, Any]:
    """Return who the server is: the result of a handshake or a discovery."""
    info = {"name": "kit", "version": "1"}
    return {"serverInfo": info, "capabilities": CAPABILITIES, **fields}


def content(request: Request, text: str, *, failed: bool = False) -> dict[str, Any]:
    """Return the result of a tool."""
    complete = {"resultType": "complete"} if request.stateless else {}
    return {"content": [{"type": "text", "text": text}], "isError": failed, **complete}


def event(message: dict[str, Any]) -> bytes:
    """Return the message as one event."""
    return b"event: message\ndata: " + json.dumps(message).encode() + b"\n\n"


def notice(method: str, **params: Any) -> bytes:
    """Return a notification as one event."""
    return event({"jsonrpc": "2.0", "method": method, "params": params})


def progress(request: Request, number: int) -> bytes:
    """Return an event that shows progress: as the caller asked for it, else as a log line."""
    token = (request.params.get("_meta") or {}).get("progressToken")
    if token is None:
        return notice("notifications/message", level="info", data=f"step {number}")
    return notice("notifications/progress", progressToken=token, progress=number)
