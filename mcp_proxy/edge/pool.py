"""The client sessions to the server: pools for calls, for calls that are sent once, for streams."""

from dataclasses import dataclass, field

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from mcp_proxy.core.errors import OverloadedError
from mcp_proxy.core.keys import Callers
from mcp_proxy.edge.names import Names
from mcp_proxy.edge.silence import Broken, Connector

# Python servers commonly close idle connections at 5 s (uvicorn); a connection that both sides
# think is theirs to use is lost at that edge (2.5 % of POSTs, none with half the server's time).
_IDLE = 4.0
# A call that may be sent only once is lost with such a connection (F21), so it gets one that was in use
# a moment ago, or a fresh one: no server closes what has been idle for so short a time.
_IDLE_ONCE = 0.5
# Headers up to 64 KiB pass (DESIGN section 7): bearer tokens grow long.
FIELD_LIMIT = 65_536
READ_BUFFER = 65_536  # the default may hold 512 KiB per slow reader
# A server that returns at another address (a new container) is found within a second; the health
# monitor resolves anew, and must not see what calls do not.
_DNS_SECONDS = 1


# Beside the streams that are counted: our own looks at the server, and requests for a stream that
# have no answer yet. They must not wait until a stream ends.
_SPARE = 1000


@dataclass(slots=True)
class Pools:
    """Sessions that add nothing of their own to a request."""

    calls: aiohttp.ClientSession
    once: aiohttp.ClientSession  # for calls that may not be repeated
    streams: aiohttp.ClientSession
    names: Names
    broken: Broken
    callers: Callers = field(default_factory=Callers)
    socket: str | None = None  # where all of them lead, instead of an address
    open_streams: int = 0  # event streams, WebSockets and other bodies that still flow

    def check(self, limit: int) -> None:
        """Raise OverloadedError where one more stream would be too many."""
        if self.open_streams >= limit:
            raise OverloadedError("Too many streams are open.")

    def ended(self) -> None:
        """Count a stream that is over."""
        self.open_streams -= 1

    def check_address(self, protocol: ResponseHandler | None) -> None:
        """Let a connection not be used again if the server's name means other machines by now."""
        if self.names.gone and protocol is not None and protocol.transport is not None:
            peer = protocol.transport.get_extra_info("peername")
            if peer and peer[0] in self.names.gone:
                self.distrust(protocol)

    def distrust(self, protocol: ResponseHandler | None) -> None:
        """Let the connection of an answer not be used again.

        With the answer's last byte it went back to the pool. If nobody has taken it since, it is
        closed, else after its present use: that one is not to blame.
        """
        if protocol is None:
            return
        protocol.force_close()
        taken = [session.connector._acquired for session in self._all]  # type: ignore[union-attr] # noqa: SLF001
        if not any(protocol in found for found in taken):
            protocol.close()

    @property
    def _all(self) -> tuple[aiohttp.ClientSession, ...]:
        return self.calls, self.once, self.streams

    async def aclose(self) -> None:
        """Close all connections."""
        for session in self._all:
            await session.close()
        await self.names.close()


def open_pools(connections: int, streams: int, names: Names, socket: str | None = None) -> Pools:
    """Open all pools; event streams must not use up the connections of calls.

    All of them lead to a Unix socket where its path is given.
    """
    broken = Broken()

    def session(limit: int, idle: float = _IDLE) -> aiohttp.ClientSession:
        if socket is not None:  # of the bridge, which wants a connection for each request
            return _session(aiohttp.UnixConnector(socket, limit=limit, force_close=True))
        kept = {"keepalive_timeout": idle, "ttl_dns_cache": _DNS_SECONDS}
        return _session(Connector(broken, resolver=names, limit=limit, **kept))

    return Pools(
        session(connections),
        session(connections, _IDLE_ONCE),
        session(streams + _SPARE),
        names,
        broken,
        socket=socket,
    )


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=connector,
        # The default jar gives client A's cookie to client B when the upstream is a host name.
        cookie_jar=aiohttp.DummyCookieJar(),
        # Bodies pass as they are: inflating them would contradict Content-Length and -Encoding.
        auto_decompress=False,
        trust_env=False,
        raise_for_status=False,
        # The default total of 300 s cuts every long stream; the deadline is a layer.
        timeout=aiohttp.ClientTimeout(total=None),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        read_bufsize=READ_BUFFER,
        max_field_size=FIELD_LIMIT,
        max_line_size=FIELD_LIMIT,
    )
    # aiohttp re-sends GET, PUT and DELETE once by itself after a dropped connection (#10790):
    # with three tries of ours the server saw six. Its own TestClient switches this off.
    session._retry_connection = False  # noqa: SLF001
    return session


def parser_is_compiled() -> bool:
    """Tell whether aiohttp's C parser is in use: most framing bugs were in the Python one."""
    return HttpRequestParser is not HttpRequestParserPy
