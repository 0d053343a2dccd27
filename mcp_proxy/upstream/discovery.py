"""Ask the server for its tools, where it lets us: without credentials and without a trace.

The stateless era needs one request a page. The handshake era needs a session, which is opened once
after the server came up and ended at once; health probes never open one (F47).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from mcp_proxy.core import sse
from mcp_proxy.core.jsonrpc import STATELESS_SINCE
from mcp_proxy.core.reading import read_answer

_HANDSHAKE = "2025-11-25"
_PAGES_LIMIT = 20
_EVENT_LIMIT = 1 << 20
_META = {
    "io.modelcontextprotocol/protocolVersion": STATELESS_SINCE,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "mcp-sidecar", "version": "0"},
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a status, headers by lower-cased name, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Ask = Callable[[str, Mapping[str, str], bytes], Awaitable[Answer | None]]


class Discovery:
    """List the server's tools on our own account."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def tools(self) -> dict[str, Any] | None:
        """Return a `tools/list` result with all pages, or None when the server does not let us."""
        listed = await self._pages(
            {
                "MCP-Protocol-Version": STATELESS_SINCE,
                "Mcp-Method": "tools/list",
            },
            {"_meta": _META},
        )
        return listed if listed is not None else await self._in_a_session()

    async def eras(self) -> list[str]:
        """Return the revision of each era that the server speaks, the stateless one first."""
        discovered = result_in(
            await self._ask(
                "POST",
                _headers(
                    {"MCP-Protocol-Version": STATELESS_SINCE, "Mcp-Method": "server/discover"}
                ),
                _request("server/discover", {"_meta": _META}),
            )
        )
        found = [STATELESS_SINCE] if discovered is not None else []
        session = await self.opened()
        if session is not None:
            await self.end(session)
            found.append(session["MCP-Protocol-Version"])
        return found

    async def _in_a_session(self) -> dict[str, Any] | None:
        session = await self.opened()
        if session is None:
            return None
        try:
            await self.began(session)
            return await self._pages(session, {})
        finally:
            await self.end(session)

    async def opened(self) -> dict[str, str] | None:
        """Shake hands; return the headers of the session, which may have no id."""
        hello = await self._ask(
            "POST",
            _headers({}),
            _request(
                "initialize",
                {
                    "protocolVersion": _HANDSHAKE,
                    "capabilities": {},
                    "clientInfo": {"name": "mcp-sidecar", "version": "0"},
                },
            ),
        )
        result = result_in(hello)
        if hello is None or result is None:
            return None
        session = {"MCP-Protocol-Version": str(result.get("protocolVersion", _HANDSHAKE))}
        if "mcp-session-id" in hello.headers:
            session["Mcp-Session-Id"] = hello.headers["mcp-session-id"]
        return session

    async def began(self, session: Mapping[str, str]) -> None:
        """Say that the handshake is over."""
        said = orjson.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"})
        await self._ask("POST", _headers(session), said)

    async def end(self, session: Mapping[str, str]) -> None:
        """End a session, if it has an id."""
        if "Mcp-Session-Id" in session:
            await self._ask("DELETE", session, b"")

    async def _pages(
        self, headers: Mapping[str, str], params: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        tools: list[Any] = []
        cursor: Mapping[str, Any] = {}
        for _ in range(_PAGES_LIMIT):
            page = result_in(
                await self._ask(
                    "POST", _headers(headers), _request("tools/list", {**params, **cursor})
                )
            )
            if page is None or not isinstance(page.get("tools"), list):
                return None
            tools.extend(page["tools"])
            if not page.get("nextCursor"):
                break
            cursor = {"cursor": page["nextCursor"]}
        return {"tools": tools}


class Request(NamedTuple):
    """A JSON-RPC request of either era."""

    method: str
    params: Mapping[str, Any]
    meta: Mapping[str, Any] = {}

    def to(self, session: Mapping[str, str] | None) -> tuple[dict[str, str], bytes]:
        """Return headers and body, for a session or (None) for the stateless era."""
        if session is not None:
            return _headers(session), _request(self.method, {**self.params, "_meta": self.meta})
        own = {"MCP-Protocol-Version": STATELESS_SINCE, "Mcp-Method": self.method}
        if self.method == "tools/call":
            own["Mcp-Name"] = str(self.params["name"])
        meta = {**_META, **self.meta}
        return _headers(own), _request(self.method, {**self.params, "_meta": meta})


def stream(session: Mapping[str, str] | None) -> tuple[str, dict[str, str], bytes]:
    """Return method, headers and body that open the server's own stream; no session: stateless."""
    if session is not None:
        return "GET", {"Accept": "text/event-stream", **session}, b""
    wanted = {"notifications": {"toolsListChanged": True}}
    return "POST", *Request("subscriptions/listen", wanted).to(None)


def _headers(own: Mapping[str, str]) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        **own,
    }


def _request(method: str, params: Mapping[str, Any]) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


def result_in(answer: Answer | None) -> dict[str, Any] | None:
    """Return the result of a JSON-RPC answer, whether it came as JSON or as an event stream."""
    if answer is None or answer.status != 200:
        return None
    texts = [answer.body]
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        texts = [event.data for event in sse.Splitter(_EVENT_LIMIT).feed(answer.body)]
    for text in texts:
        message = read_answer(text)
        if message and isinstance(message.get("result"), dict):
            found: dict[str, Any] = message["result"]
            return found
    return None
