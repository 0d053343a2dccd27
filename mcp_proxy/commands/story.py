"""The script of `mcp-sidecar demo`: a server, a sidecar in front of it, and an outage."""

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from mcp_proxy.commands.children import Child, StartError, free_port, sidecar, start
from mcp_proxy.core.clock import Clock
from mcp_proxy.edge.look import Look
from mcp_proxy.edge.names import Names
from mcp_proxy.edge.pool import open_pools

_RULES = """[tools.weather]
read_only = true
ttl = 1
"""
# An outage is to be seen soon; the defaults are more patient.
_SETTINGS = {
    "MCP_RESTART_GRACE": "0.5",
    "MCP_HEALTH_INTERVAL": "0.5",
    "MCP_CB_RECOVERY_TIMEOUT": "2",
}
_TTL = 1.1  # seconds, the rule's and a little
_PATIENCE = 15.0
_LOOKS = 0.1  # seconds between two


class Heard(NamedTuple):
    """An answer, as far as the story tells of it."""

    took_ms: float
    cache: str  # Cache-Status
    text: str
    error: Mapping[str, Any] | None  # the object of our own errors
    retry_after: str


class Step(NamedTuple):
    """One thing that happened, and whether it did as it should."""

    name: str
    said: str
    ok: bool
    heard: Heard | None = None

    def shown(self) -> dict[str, Any]:
        """Return it for programs."""
        heard = self.heard._asdict() if self.heard else {}
        return {"step": self.name, "said": self.said, "ok": self.ok, **heard}


class Stage:
    """The server and the sidecar, while the story lasts."""

    def __init__(self, look: Look, server: Look, url: str, port: int, clock: Clock) -> None:
        self.url = url
        self._look = look  # at the sidecar
        self._server_look = server
        self._port = port
        self._clock = clock
        self._server: Child | None = None
        self._numbers = 0

    async def raise_server(self) -> None:
        """Start the server; returns when it answers through the sidecar."""
        self._server = await start(self._clock, "mcp_proxy.demo", str(self._port))
        over = self._clock.now() + _PATIENCE
        while not await self._up():
            if self._clock.now() > over:
                raise StartError(f"the demo's server was not there within {_PATIENCE:g} s")
            await self._clock.sleep(_LOOKS)

    async def kill_server(self) -> None:
        """End the server, if it is there."""
        if self._server is not None:
            await self._server.end()
            self._server = None

    async def answers(self) -> bool:
        """Tell whether the server itself is there."""
        return not isinstance(await self._server_look.ask("GET", "/api/health", {}), str)

    async def _up(self) -> bool:
        found = await self._look.ask("GET", "/api/health", {})
        return (
            not isinstance(found, str)
            and found[0] == 200
            and orjson.loads(found[2])["status"] == "healthy"
        )

    async def call(self, tool: str, city: str) -> Heard:
        """Call a tool through the sidecar, as an MCP client does."""
        self._numbers += 1
        params = {"name": tool, "arguments": {"city": city}}
        body = {"jsonrpc": "2.0", "id": self._numbers, "method": "tools/call", "params": params}
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2025-06-18",
        }
        began = self._clock.now()
        found = await self._look.ask("POST", "/mcp", headers, orjson.dumps(body))
        took = round((self._clock.now() - began) * 1000, 1)
        if isinstance(found, str):
            return Heard(took, "", f"the sidecar did not answer ({found})", None, "")
        _, fields, data = found
        result = orjson.loads(data).get("result") or {}
        said = " ".join(part.get("text", "") for part in result.get("content", []))
        error = result.get("_meta", {}).get("mcp_proxy/error")
        return Heard(
            took, fields.get("cache-status", ""), said, error, fields.get("retry-after", "")
        )

    async def after_ttl(self) -> None:
        """Wait until a stored answer is no longer fresh."""
        await self._clock.sleep(_TTL)


@asynccontextmanager
async def staged(clock: Clock) -> AsyncIterator[Stage]:
    """Set the stage; everything is ended and removed afterwards."""
    port = free_port()
    pools = open_pools(4, 4, Names(clock.now))
    try:
        with tempfile.TemporaryDirectory(prefix="mcp-sidecar-demo-") as folder:
            rules = Path(folder) / "rules.toml"
            rules.write_text(_RULES, encoding="utf-8")
            settings = {**_SETTINGS, "MCP_CONFIG_FILE": str(rules)}
            server = f"http://127.0.0.1:{port}"
            async with sidecar(clock, server, **settings) as url:
                looks = [Look(at, pools.streams, _PATIENCE) for at in (url, server)]
                stage = Stage(looks[0], looks[1], url, port, clock)
                try:
                    yield stage
                finally:
                    await stage.kill_server()
    finally:
        await pools.aclose()


async def played(stage: Stage, tell: Callable[[str], object]) -> AsyncIterator[Step]:
    """Play the story, step by step."""
    await stage.raise_server()
    heard = await stage.call("weather", "Berlin")
    yield Step("miss", "a read goes to the server", "stored" in heard.cache, heard)
    heard = await stage.call("weather", "Berlin")
    yield Step("hit", "the same read is answered from what is known", "hit" in heard.cache, heard)
    tell("the answer ends (ttl 1 s), and the server is killed")
    await stage.after_ttl()
    await stage.kill_server()
    yield Step("outage", "the server is gone", not await stage.answers())
    heard = await stage.call("weather", "Berlin")
    old = heard.error is None and "detail=" in heard.cache
    yield Step("stale", "the old answer is told on, marked as such", old, heard)
    heard = await stage.call("book", "Berlin")
    error = heard.error or {}
    undelivered = error.get("delivered") == "no" and error.get("retryable") is True
    yield Step(
        "refused",
        "a write fails, and its caller hears that it was not delivered and when to try again",
        undelivered and bool(heard.retry_after),
        heard,
    )
    tell("the server comes back")
    await stage.raise_server()
    back = await stage.answers()
    yield Step("recovery", "the server is back, and the sidecar has noticed", back)
    heard = await stage.call("book", "Berlin")
    once = heard.text == "booked room 1 in Berlin"
    yield Step("write", "the write is sent again by its caller, and runs once", once, heard)
    heard = await stage.call("weather", "Berlin")
    yield Step("fresh", "the next read is fresh", "stored" in heard.cache, heard)
