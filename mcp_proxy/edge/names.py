"""What the server's names mean, and which addresses have stopped to be meant."""

import socket
from collections.abc import Callable

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

# A name server may tell some of many addresses at a time: one that it has not told for so long, while
# it told others, is none any more.
_FORGOTTEN = 30.0  # seconds
# A name with more changes than that begins anew; it is our own settings that say which are asked for.
_LIMIT = 1_000


class Names(AbstractResolver):
    """Resolve names as usual, and remember what they meant.

    Connections that are in steady use never resolve anything again. When a server moves, they would
    stay with the old machine for as long as it answers: so its address is known to be gone, and a
    connection to it is not used again (edge/pool).
    """

    def __init__(self, now: Callable[[], float], resolver: AbstractResolver | None = None) -> None:
        self._now = now
        self._resolver = resolver or DefaultResolver()
        self._told: dict[str, float] = {}  # by address: when it was last told
        self.gone: frozenset[str] = frozenset()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name; raises OSError when there are none."""
        found = await self._resolver.resolve(host, port, family)
        now = self._now()
        if len(self._told) > _LIMIT:
            self._told.clear()
        self._told.update((result["host"], now) for result in found)
        self.gone = frozenset(
            address for address, told in self._told.items() if now - told > _FORGOTTEN
        )
        return found

    async def close(self) -> None:
        """Let go of the resolver."""
        await self._resolver.close()
