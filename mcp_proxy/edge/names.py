"""What the server's names mean, what they meant before, and which addresses are meant no more."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import cache

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

# A name server may tell some of many addresses at a time: one that it has not told for so long, while
# it told others, is none any more.
_FORGOTTEN = 30.0  # seconds
# Only names in our own settings are asked for; this bounds the addresses that they change through.
_LIMIT = 1_000
# Where a name server fails, an address that was good before gets so long to accept a connection.
_PATIENCE = 0.25  # seconds


class Names(AbstractResolver):
    """Resolve names as usual, and remember what they meant.

    Connections that are in steady use never resolve anything again. When a server moves, they would
    stay with the old machine for as long as it answers: so its address is known to be gone, and a
    connection to it is not used again (edge/pool).

    A name server that fails takes no server with it (F22): the last good address serves on, if somebody
    still listens there. If nobody does, the name is gone with its machine, as a container's is.
    """

    def __init__(self, now: Callable[[], float], resolver: AbstractResolver | None = None) -> None:
        self._now = now
        self._resolver = resolver or DefaultResolver()
        self._told: dict[str, float] = {}  # by address: when it was last told
        self._good: dict[tuple[str, int, int], list[ResolveResult]] = {}  # by name, port and family
        self.gone: frozenset[str] = frozenset()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name; raises OSError when there are none."""
        asked = (host, port, family)
        try:
            found = await self._resolver.resolve(host, port, family)
        except OSError:
            alive = [one for one in self._good.get(asked, ()) if await listens(one)]
            if not alive:
                raise
            return alive
        self._good[asked] = found
        self._note(found)
        return found

    def _note(self, found: list[ResolveResult]) -> None:
        now = self._now()
        if len(self._told) > _LIMIT:
            self._told.clear()
        self._told.update((result["host"], now) for result in found)
        self.gone = frozenset(
            address for address, told in self._told.items() if now - told > _FORGOTTEN
        )

    async def close(self) -> None:
        """Let go of the resolver."""
        await self._resolver.close()


async def listens(one: ResolveResult) -> bool:
    """Tell whether an address accepts connections."""
    return await accepts_connections(one["host"], one["port"], _PATIENCE)


async def accepts_connections(
    host: str, port: int, seconds: float, path: str | None = None, *, tls: bool = False
) -> bool:
    """Tell whether somebody listens there, or at a Unix socket, without asking anything.

    With `tls` a connection is one whose handshake is done, as it is to whoever asks something.
    """
    if path:
        opening = asyncio.open_unix_connection(path)
    else:
        opening = asyncio.open_connection(host, port, ssl=_trusted() if tls else None)
    try:
        async with asyncio.timeout(seconds):  # noqa: TID251 - bounds a socket, not a decision
            _, writer = await opening
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


@cache
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()
