"""Listen, serve until told to stop, and drain."""

import asyncio
import errno
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, Protocol

from aiohttp import web

from mcp_proxy.edge.connection import Connection, can_tell_requests_apart
from mcp_proxy.edge.express import Express
from mcp_proxy.edge.full import SPARE, Full
from mcp_proxy.edge.pool import FIELD_LIMIT

_BACKLOG = 1024
_KEEP_ALIVE = 75.0  # seconds; aiohttp's own default is an hour
_READ_BUFFER = 65_536
# aiohttp waits up to twice this for answers that a client does not take; its 60 s would outlast
# the 10 s after which Docker kills.
_SHUTDOWN = 0.15
# This machine has no such address, or does not speak that version of IP.
_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Limits(NamedTuple):
    """What a port takes of its clients."""

    connections: int = 25_000
    head_timeout: float = 10.0  # seconds; 0 is no limit


_LIMITS = Limits()


class Answering(Protocol):
    """What answers the requests of the port."""

    @property
    def express(self) -> Express | None:
        """Return what answers some of them at once."""
        ...

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever it is."""
        ...


class Request(web.BaseRequest):
    """A request whose answer does not tell the versions of Python and aiohttp."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        response.headers.pop("Server", None)


class Port(web.Server):
    """A server whose connections are ours."""

    express: Express | None = None
    limits = Limits()
    open = 0  # connections that have a place
    refused = 0  # and those without one, that are still open
    turned_away = 0  # since the start

    def __call__(self) -> asyncio.Protocol:  # type: ignore[override]
        """Return what speaks HTTP on one connection, or refuses to."""
        if self.open >= self.limits.connections:
            self.refused += 1
            self.turned_away += 1
            return Full(self._let_go, silent=self.refused > SPARE)
        self.open += 1
        return Connection(
            self, self.express, self.limits.head_timeout, loop=self._loop, **self._kwargs
        )

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Let a place be free."""
        self.open -= 1
        super().connection_lost(handler, exc)

    def _let_go(self) -> None:
        self.refused -= 1


async def listen(
    answering: Answering, host: str, port: int, limits: Limits = _LIMITS
) -> tuple[web.ServerRunner, list[str]]:
    """Start to accept connections; return the runner and the URLs. Raises OSError.

    aiohttp's low-level server: one catch-all needs no router, which costs a tenth of a hit.
    """
    sockets = await bound(host, port)
    server = Port(
        answering,
        request_factory=partial(Request, loop=asyncio.get_running_loop()),
        access_log=None,
        # a client that leaves ends its upstream request; off, 3000 departed clients left 3000
        # upstream streams open
        handler_cancellation=True,
        auto_decompress=False,
        keepalive_timeout=_KEEP_ALIVE,
        max_field_size=FIELD_LIMIT,
        max_line_size=FIELD_LIMIT,
        read_bufsize=_READ_BUFFER,
    )
    known = can_tell_requests_apart()
    server.limits = limits if known else limits._replace(head_timeout=0)
    server.express = answering.express if known else None
    runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN)
    await runner.setup()
    urls = []
    for found in sockets:
        site = web.SockSite(runner, found, backlog=_BACKLOG)
        await site.start()
        address, taken, *_ = found.getsockname()
        urls.append(f"http://{f'[{address}]' if ':' in address else address}:{taken}")
    return runner, urls


async def bound(host: str, port: int) -> list[socket.socket]:
    """Return a bound socket for each address of `host` that this machine has.

    `localhost` takes whichever of IPv4 and IPv6 exists. With port 0 all take the same free one.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return bind_all([(family, address) for family, _, _, _, address in dict.fromkeys(found)], port)


def bind_all(addresses: Iterable[tuple[int, Any]], port: int) -> list[socket.socket]:
    """Bind each address that this machine has; raises OSError where somebody else has the port.

    Half of a name is not enough: who asks for the other half would reach that somebody.
    """
    sockets: list[socket.socket] = []
    absent = OSError("the name has no address")
    try:
        for family, address in addresses:
            taken = sockets[0].getsockname()[1] if sockets else port
            try:
                sockets.append(bind(family, (address[0], taken, *address[2:])))
            except OSError as error:
                # what one family chose for us may be taken in the other
                if error.errno not in _ABSENT and (port or not sockets):
                    raise
                absent = error
    except OSError:
        for one in sockets:
            one.close()
        raise
    if not sockets:
        raise absent
    return sockets


def bind(family: int, address: Any) -> socket.socket:
    """Return a socket of ours at an address."""
    # IPPROTO_TCP by name: without it asyncio leaves TCP_NODELAY off, 40 ms an answer
    one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
    except OSError:
        one.close()
        raise
    return one


async def until_stopped(end: Callable[[], Awaitable[bool]]) -> bool:
    """Return after SIGTERM or SIGINT and what `end` has to do, and whether that went well.

    A second signal breaks it off at once.
    """
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    again = asyncio.Event()

    def stop() -> None:
        (again if told.is_set() else told).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await told.wait()
    ending = loop.create_task(_as_coroutine(end()))
    hurried = loop.create_task(again.wait())
    await asyncio.wait({ending, hurried}, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if not ending.done():
        ending.cancel()
        return False
    return ending.result()


async def _as_coroutine(work: Awaitable[bool]) -> bool:
    return await work
