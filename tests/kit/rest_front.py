"""The REST tool API of the basic server."""

import json
from collections.abc import Callable
from typing import Any

from mcp_proxy.core.clock import Clock
from tests.edge.wire import Said
from tests.kit.ledger import Ledger
from tests.kit.tools import Tools
from tests.kit.turn import Asked, Reply

CALL_TOOL = "/api/call-tool"


def caller_of(asked: Said) -> str:
    """Return who asks: the Authorization header."""
    return ", ".join(asked.all("Authorization"))


def said(value: Any, status: str = "200 OK") -> Reply:
    """Return a JSON answer."""
    return Reply((json.dumps(value).encode(),), status)


class RestFront:
    """Answer the REST requests."""

    def __init__(self, tools: Tools, ledger: Ledger, clock: Clock) -> None:
        self._tools = tools
        self._ledger = ledger
        self._clock = clock

    def read(self, asked: Said) -> Asked:
        """Return what is asked for; an unknown path or method, too, is something to answer."""
        path = asked.target.partition("?")[0]
        gets = {"/api/health": self._health, "/api/tools": self._list}
        if path == CALL_TOOL and asked.method == "POST":
            return self._call(asked)
        if path in gets and asked.method in {"GET", "HEAD"}:
            return self._plain(asked, path, gets[path])
        if path in {*gets, CALL_TOOL}:
            return self._refusal(asked, path, "405 Method Not Allowed", "Method Not Allowed")
        return self._refusal(asked, path, "404 Not Found", "Not Found")

    def _plain(self, asked: Said, path: str, act: Callable[[], Reply]) -> Asked:
        return Asked(f"{asked.method} {path}", act, self._failed)

    def _refusal(self, asked: Said, path: str, status: str, detail: str) -> Asked:
        return self._plain(asked, path, lambda: said({"detail": detail}, status))

    def _call(self, asked: Said) -> Asked:
        try:
            call = json.loads(asked.body)
            name, service, params = call["tool_name"], call["service"], call.get("params", {})
            nonce = str(params.get("nonce", ""))
        except (ValueError, TypeError, KeyError, AttributeError):
            return self._refusal(asked, CALL_TOOL, "422 Unprocessable Entity", "bad body")
        caller = caller_of(asked)

        def act() -> Reply:
            if service not in {tool.service for tool in self._tools.values()}:
                return said({"detail": "Service not found"}, "404 Not Found")
            tool = self._tools.get(name)
            if tool is None or tool.service != service:
                return self._failed(f"Unknown tool: {name}")
            return self._outcome(data=execute(self._ledger, name, nonce, caller))

        return Asked(str(name), act, self._failed, is_tool=True)

    def _outcome(self, data: str | None = None, error: str | None = None) -> Reply:
        when = self._clock.wall().isoformat()
        return said({"success": error is None, "data": data, "error": error, "timestamp": when})

    def _failed(self, error: str, code: int | None = None) -> Reply:
        return self._outcome(error=error)

    def _health(self) -> Reply:
        services = sorted({tool.service for tool in self._tools.values()})
        state = {"connected": True, "last_activity": None, "error": None}
        health = {
            "status": "healthy",
            "timestamp": self._clock.wall().isoformat(),
            "connections": dict.fromkeys(services, state),
            "available_tools": len(self._tools),
        }
        return said(health)

    def _list(self) -> Reply:
        return said([tool.rest() for tool in self._tools.values()])


def execute(ledger: Ledger, tool: str, nonce: str, caller: str) -> str:
    """Execute a tool: write it down, and return a text stamped with whose it is."""
    entry = ledger.note(tool, nonce, caller)
    return json.dumps({"tool": tool, "nonce": nonce, "caller": caller, "run": entry.run})
