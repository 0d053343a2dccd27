"""Open the ports of a sidecar."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from socket import socket
from typing import Any, Protocol, cast

from aiohttp import web

from mcp_proxy.edge.descriptors import places, raise_limit, refusals
from mcp_proxy.edge.full import SPARE
from mcp_proxy.edge.serve import Answering, Limits, OpsPortError, Port, listen, twins
from mcp_proxy.settings import Settings


class Doors(Protocol):
    """What answers on the ports, and tells how many are connected."""

    connections: Callable[[], dict[str, int]]

    @property
    def inbound(self) -> Answering:
        """Return what answers on the main one."""
        ...

    @property
    def ops(self) -> Answering | None:
        """Return what answers on the operators' one, if there is one."""
        ...


@dataclass
class Ports:
    """Ports that are open."""

    urls: list[str] = field(default_factory=list)
    ops_urls: list[str] = field(default_factory=list)
    runners: list[web.ServerRunner] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """Return the URLs as an event says them."""
        return {"urls": self.urls, **({"ops_urls": self.ops_urls} if self.ops_urls else {})}

    def connections(self) -> dict[str, int]:
        """Return how many clients are connected, and how many found no place since the start."""
        servers = [cast("Port", runner.server) for runner in self.runners]
        return {
            "open": sum(server.open for server in servers),
            "refused": sum(server.turned_away for server in servers),
        }

    async def cleanup(self) -> None:
        """Close them, and what is open on them."""
        await asyncio.gather(*[runner.cleanup() for runner in self.runners])


async def open_ports(
    doors: Doors, settings: Settings, kept: tuple[list[socket], list[socket]] | None = None
) -> Ports:
    """Open the ports; raises OSError if one of them cannot be had.

    `kept` are the sockets by which the supervisor of several workers keeps both (workers.py).
    """
    server = settings.server
    descriptors = raise_limit()
    limits = Limits(
        places(server.connections_limit, descriptors),
        server.head_timeout,
        refusals(SPARE, descriptors),
    )
    ports = Ports()
    main, operators = (twins(kept[0]), twins(kept[1])) if kept else (None, None)
    asked = [(doors.inbound, server.port, ports.urls, main)]
    if doors.ops is not None and server.ops_port is not None:
        asked.append((doors.ops, server.ops_port, ports.ops_urls, operators))
    try:
        for answering, port, urls, sockets in asked:
            runner, found = await listen(answering, server.host, port, limits, sockets=sockets)
            ports.runners.append(runner)
            urls.extend(found)
    except OSError as error:
        await ports.cleanup()
        if ports.urls:
            raise OpsPortError(error.errno, error.strerror) from None
        raise
    doors.connections = ports.connections
    return ports
