"""An old server in small: the REST tool API, and MCP over Streamable HTTP without sessions.

It knows the handshake era alone, does one thing at a time slowly, and counts what it was asked.
"""

import json
import threading
from collections import Counter
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event
from typing import Any

_REVISION = "2025-06-18"
_SLOW = 0.2  # seconds that a look-up takes, so that a hit shows
_BODY_LIMIT = 1 << 20

TOOLS: list[dict[str, Any]] = [
    {
        "name": "weather",
        "description": "Tell the weather of a city.",
        "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}},
        "annotations": {"readOnlyHint": True},
    },
    {
        "name": "book",
        "description": "Book a room; twice is two rooms.",
        "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
]


class Rooms:
    """What the server remembers: how often each tool ran."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._never = Event()

    def run(self, tool: str, arguments: dict[str, Any]) -> str:
        """Carry a tool out; raises KeyError when there is none of that name."""
        if tool not in {one["name"] for one in TOOLS}:
            raise KeyError(tool)
        with self._lock:
            self._calls[tool] += 1
            number = self._calls[tool]
        city = str(arguments.get("city", "Berlin"))[:100]
        if tool == "book":
            return f"booked room {number} in {city}"
        self._never.wait(_SLOW)
        return f"{city}: fair, 21 degrees (look {number})"


class Exchange(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "demo", ""
    wbufsize = 65_536  # head and body in one packet: else the second waits 40 ms for its ACK
    rooms = Rooms()

    def do_GET(self) -> None:
        """Answer the health page; this server has no stream of its own."""
        if self.path.partition("?")[0] == "/api/health":
            services = {"weather": {"connected": True}}
            self._say(200, {"status": "healthy", "connections": services})
        else:
            self._say(405 if self.path == "/mcp" else 404, {"error": "not here"})

    def do_POST(self) -> None:
        """Answer a tool call in either dialect."""
        length = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(min(length, _BODY_LIMIT))
        try:
            said = json.loads(data)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            self._say(400, {"error": "a JSON object, please"})
        elif self.path == "/mcp":
            self._rpc(said)
        elif self.path == "/api/call-tool":
            self._rest(said)
        else:
            self._say(404, {"error": "not here"})

    def _rest(self, said: dict[str, Any]) -> None:
        stamp = datetime.now(UTC).isoformat()  # noqa: TID251 - a process of its own
        try:
            result = self.rooms.run(str(said.get("tool_name")), said.get("params") or {})
        except KeyError:
            self._say(200, {"success": False, "error": "unknown tool", "timestamp": stamp})
        else:
            self._say(200, {"success": True, "result": result, "timestamp": stamp})

    def _rpc(self, said: dict[str, Any]) -> None:
        if "id" not in said:
            self._say(202, None)
            return
        answer = {"jsonrpc": "2.0", "id": said["id"]}
        if self.headers.get("MCP-Protocol-Version", _REVISION) > "2025-11-25":
            error = {"code": -32600, "message": "unsupported protocol version"}
            self._say(400, {**answer, "error": error})
            return
        params = said.get("params")
        result = self._result(str(said.get("method")), params if isinstance(params, dict) else {})
        if result is None:
            self._say(200, {**answer, "error": {"code": -32601, "message": "unknown method"}})
        else:
            self._say(200, {**answer, "result": result})

    def _result(self, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        if method == "initialize":
            server = {"name": "demo", "version": "1"}
            tools: dict[str, Any] = {"tools": {}}
            return {"protocolVersion": _REVISION, "capabilities": tools, "serverInfo": server}
        if method == "tools/list":
            return {"tools": TOOLS}
        if method == "ping":
            return {}
        if method != "tools/call":
            return None
        try:
            text = self.rooms.run(str(params.get("name")), params.get("arguments") or {})
        except KeyError:
            text = "unknown tool"
            return {"content": [{"type": "text", "text": text}], "isError": True}
        return {"content": [{"type": "text", "text": text}]}

    def _say(self, status: int, said: Any) -> None:
        data = b"" if said is None else json.dumps(said).encode()
        self.send_response(status)
        if data:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Say nothing: the demo tells what happens."""


class Server(ThreadingHTTPServer):
    """Many connections, none of which outlives the process."""

    daemon_threads = True
    request_queue_size = 128


def serve(port: int) -> None:
    """Serve on loopback until the process is ended."""
    with Server(("127.0.0.1", port), Exchange) as server:
        server.serve_forever(0.1)
