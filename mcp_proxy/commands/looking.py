"""Look at the servers behind without a sidecar: what `check --probe` and `doctor` know of them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from mcp_proxy import behind
from mcp_proxy.commands.options import environment
from mcp_proxy.core.addresses import Address
from mcp_proxy.core.clock import Clock
from mcp_proxy.edge.look import Look
from mcp_proxy.edge.names import Names
from mcp_proxy.edge.pool import open_pools
from mcp_proxy.layers.clock import SystemClock, Tasks
from mcp_proxy.upstream.discovery import Answer, Discovery

_SECONDS = 5.0  # as the health monitor waits
_CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Found:
    """What a server showed of itself; `trouble` is the code of an error of ours."""

    name: str
    status: int | None = None  # of MCP_HEALTH_PATH
    trouble: str = ""
    cause: str = ""  # the same for people
    eras: list[str] = field(default_factory=list)
    tools: list[Mapping[str, Any]] | None = None

    @property
    def works(self) -> bool:
        """Tell whether it is there and alive; a server that speaks no MCP may well be."""
        return self.status is not None and self.status < 500

    @property
    def why(self) -> str:
        """Return why it cannot be reached, with the code."""
        return f"{self.trouble}: {self.cause}" if self.cause else self.trouble

    def shown(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "server": self.name,
            "reachable": self.status is not None,
            "health_status": self.status,
            "trouble": self.trouble or None,
            "mcp": self.eras,
            "tools": None if self.tools is None else len(self.tools),
            "ok": self.works,
        }


class Looker:
    """One server, asked small things on our own account and without credentials."""

    def __init__(self, server: Address, look: Look, mcp_path: str) -> None:
        self.server = server
        self.look = look
        self.mcp_path = mcp_path
        self.discovery = Discovery(self._ask)

    async def _ask(self, method: str, headers: Mapping[str, str], body: bytes) -> Answer | None:
        found = await self.look.ask(method, self.mcp_path, headers, body)
        return None if isinstance(found, str) else Answer(*found)

    async def found(self, health_path: str) -> Found:
        """Return what the server shows; never raises."""
        health = await self.look.ask("GET", health_path, {})
        if isinstance(health, str):
            return Found(self.server.name, trouble=health, cause=health.said)
        eras = await self.discovery.eras()
        if self.server.command and not eras:  # what answered was the bridge
            return Found(self.server.name, trouble="no answer to a handshake")
        listed = await self.discovery.tools() if eras else None
        tools = listed["tools"] if listed else None
        return Found(self.server.name, health[0], eras=eras, tools=tools)


@asynccontextmanager
async def looking(settings: Any) -> AsyncIterator[list[Looker]]:
    """Open what is needed to look at each server of the settings."""
    upstream, server = settings.upstream, settings.server
    clock = SystemClock()
    async with _running(settings, clock) as socket:
        pools = open_pools(_CONNECTIONS, _CONNECTIONS, Names(clock.now), socket)
        try:
            yield [
                Looker(
                    where,
                    Look(where.base, pools.streams, _SECONDS, upstream.own_host),
                    server.mcp_path,
                )
                for where in behind.addresses(settings)
            ]
        finally:
            await pools.aclose()


@asynccontextmanager
async def _running(settings: Any, clock: Clock) -> AsyncIterator[str | None]:
    """Run a server that is a command as long as it is looked at; yields its socket."""
    tasks = Tasks()
    # what goes wrong shows in what is found
    bridge = behind.bridge(settings, environment(), clock, lambda *_, **__: None, tasks)
    if bridge is None:
        yield None
        return
    bridge.start()
    try:
        await bridge.settled(_SECONDS)
        yield bridge.socket
    finally:
        await bridge.aclose()
        await tasks.end()
