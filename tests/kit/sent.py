"""A call with a nonce, in each dialect, and connections to send it on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.edge.wire import Client, bound, post, rpc
from tests.kit.door import LOOPBACK

STATELESS = "2026-07-28"
HANDSHAKE = "2025-11-25"
ACCEPT = "Accept: application/json, text/event-stream"
META = {
    "io.modelcontextprotocol/protocolVersion": STATELESS,
    "io.modelcontextprotocol/clientCapabilities": {},
}
CLIENT = {"name": "kit", "version": "1"}
HELLO = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": CLIENT}


@dataclass(frozen=True, slots=True)
class Sent:
    """One call of a tool; its nonce tells it from all others."""

    nonce: str
    tool: str
    caller: str = ""  # the Authorization header
    service: str = "jira"  # asked for by REST only

    def __str__(self) -> str:
        return f"{self.nonce} ({self.tool}, {self.caller or 'nobody'})"

    @property
    def headers(self) -> tuple[str, ...]:
        return (f"Authorization: {self.caller}",) if self.caller else ()

    @property
    def arguments(self) -> dict[str, Any]:
        return {"nonce": self.nonce}

    def rest(self) -> bytes:
        """Return it as a request to the REST tool API."""
        call = {"service": self.service, "tool_name": self.tool, "params": self.arguments}
        return post("/api/call-tool", call, *self.headers)

    @property
    def params(self) -> dict[str, Any]:
        return {"name": self.tool, "arguments": self.arguments}

    def mcp(self, session: str | None = None, request_id: Any = 1, **meta: Any) -> bytes:
        """Return it as an MCP request of the handshake era."""
        params = {**self.params, "_meta": meta} if meta else self.params
        call = rpc("tools/call", request_id, **params)
        return post("/mcp", call, *self.headers, *in_session(session))

    def stateless(self, request_id: Any = 1, **meta: Any) -> bytes:
        """Return it as an MCP request of the stateless era."""
        params = {**self.params, "_meta": {**META, **meta}}
        return stateless("tools/call", request_id, *self.headers, **params)


def in_session(session: str | None) -> tuple[str, ...]:
    """Return the headers of a request in a session."""
    headers = (ACCEPT, f"MCP-Protocol-Version: {HANDSHAKE}")
    return headers if session is None else (*headers, f"Mcp-Session-Id: {session}")


def stateless(method: str, request_id: Any, *headers: str, **params: Any) -> bytes:
    """Return a request of the stateless era, its headers mirroring its body."""
    mirrored = [f"MCP-Protocol-Version: {STATELESS}", f"Mcp-Method: {method}"]
    if "name" in params:
        mirrored.append(f"Mcp-Name: {params['name']}")
    call = rpc(method, request_id, **{"_meta": META, **params})
    return post("/mcp", call, ACCEPT, *mirrored, *headers)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    """Open a connection of one's own."""
    async with bound():
        client = Client(*await asyncio.open_connection(LOOPBACK, port, limit=1 << 24))
    try:
        yield client
    finally:
        await client.close()


async def open_session(client: Client, *headers: str) -> str:
    """Shake hands as a client of the handshake era does; return the id of the session."""
    hello = await client.ask(post("/mcp", rpc("initialize", 1, **HELLO), ACCEPT, *headers))
    session = hello["Mcp-Session-Id"]
    ready = post("/mcp", rpc("notifications/initialized", None), *headers, *in_session(session))
    accepted = await client.ask(ready)
    assert accepted.status == 202, accepted
    return session
