"""Listen, serve until told to stop, and drain."""

import asyncio
import errno
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from aiohttp import web

from mcp_proxy.edge.accepting import Site
from mcp_proxy.edge.connection import Connection, can_tell_requests_apart
from mcp_proxy.edge.express import Express
from mcp_proxy.edge.full import SPARE, Full
from mcp_proxy.edge.pool import FIELD_LIMIT

T = TypeVar("T")
_KEEP_ALIVE = 75.0  # seconds; aiohttp's own default is an hour
_READ_BUFFER = 65_536
# aiohttp waits up to twice this for answers that a client does not take; its 60 s would outlast
# the 10 s after which Docker kills.
_SHUTDOWN = 0.15
# This machine has no such address, or does not speak that version of IP.
_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class OpsPortError(OSError):
    """The operators' port cannot be had (MCP_OPS_PORT)."""


class Limits(NamedTuple):
    """What a port takes of its clients."""

    connections: int = 25_000
    head_timeout: float = 10.0  # seconds; 0 is no limit
    refusals: int = SPARE  # connections beyond those, that hear why


_LIMITS = Limits()


class Answering(Protocol):
    """What answers the requests of the port."""

    @property
    def express(self) -> Express | None:
        """Return what knows requests by the bytes of their heads, if anything does."""
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
            return Full(self._let_go, silent=self.refused > self.limits.refusals)
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
    answering: Answering,
    host: str,
    port: int,
    limits: Limits = _LIMITS,
    *,
    sockets: list[socket.socket] | None = None,
) -> tuple[web.ServerRunner, list[str]]:
    """Start to accept connections; return the runner and the URLs. Raises OSError.

    aiohttp's low-level server: one catch-all needs no router, which costs a tenth of a hit. With
    `sockets` it is those that are listened on.
    """
    sockets = sockets if sockets is not None else await bound(host, port)
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
        await Site(runner, found).start()
        urls.append(url(found))
    return runner, urls


def url(listening: socket.socket) -> str:
    """Return the URL of a socket."""
    address, taken, *_ = listening.getsockname()
    return f"http://{f'[{address}]' if ':' in address else address}:{taken}"


def reserved(host: str, port: int) -> list[socket.socket]:
    """Return bound sockets that take no connections: they keep the port for `twins`. Raises OSError.

    They are bound without SO_REUSEPORT, or another sidecar that has set it would go unnoticed and
    take a share of the calls; the kernel looks at the option again whenever somebody else binds.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    kept = bind_all([(family, address) for family, _, _, _, address in dict.fromkeys(found)], port)
    for one in kept:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return kept


def twins(kept: Iterable[socket.socket]) -> list[socket.socket]:
    """Return further sockets at the addresses of these; the kernel spreads connections over twins."""
    return [bind(one.family, one.getsockname(), shared=True) for one in kept]


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


def bind(family: int, address: Any, *, shared: bool = False) -> socket.socket:
    """Return a socket of ours at an address; a `shared` one lets others of ours be there, too."""
    # IPPROTO_TCP by name: without it asyncio leaves TCP_NODELAY off, 40 ms an answer
    one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
    except OSError:
        one.close()
        raise
    return one


def by_signals(stop: Callable[[], object]) -> None:
    """Be stopped by SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


async def until_stopped(
    end: Callable[[], Awaitable[bool]],
    stopped: Callable[[Callable[[], None]], None] = by_signals,
) -> bool:
    """Return after SIGTERM or SIGINT and what `end` has to do, and whether that went well.

    A second signal breaks it off at once. What stops us instead of signals is told by `stopped`.
    """
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    again = asyncio.Event()

    def stop() -> None:
        (again if told.is_set() else told).set()

    stopped(stop)
    await told.wait()
    ending = loop.create_task(_as_coroutine(end()))
    hurried = loop.create_task(again.wait())
    await asyncio.wait({ending, hurried}, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if not ending.done():
        ending.cancel()
        return False
    return ending.result()


def on_hangup(act: Callable[[], None]) -> None:
    """Do something at SIGHUP, as servers do; where our terminal is gone it is the end, as ever.

    Who starts us with nohup wants no SIGHUP to matter, and only the main thread can hear of one.
    """
    gone = terminal_gone()

    def hung_up() -> None:
        if gone():
            signal.raise_signal(signal.SIGTERM)
        else:
            act()

    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)


def terminal_gone() -> Callable[[], bool]:
    """Return what tells, later, whether the terminal that is ours now is no more."""
    terminals = [number for number in range(3) if os.isatty(number)]
    return lambda: bool(terminals) and not any(map(os.isatty, terminals))


async def _as_coroutine(work: Awaitable[T]) -> T:
    return await work
