"""Connections to the server that wait for their next request: on these, it has nothing to say.

aiohttp's connector (3.14.5) gives a waiting connection to the next request whatever came on it
meanwhile, and then takes that for the answer: one caller would get what was meant for another, or
what stands behind a body that is longer than it says (response splitting).
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace


class Broken:
    """Count connections that the server has given up, or died with."""

    def __init__(self) -> None:
        self.number = 0

    def add(self) -> None:
        """Count one."""
        self.number += 1


class Silent(ResponseHandler):
    """Close a connection on which something comes that nobody has asked for."""

    waits = False  # it is in the pool

    def __init__(self, loop: asyncio.AbstractEventLoop, broken: Callable[[], None]) -> None:
        super().__init__(loop)
        self._broken = broken

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell of an end that neither we wanted nor the server's last answer announced."""
        if self.transport is not None and not self._should_close:
            self._broken()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what comes."""
        if self.waits and data:  # nothing is said where aiohttp makes its parser go on
            self.close()
        else:
            super().data_received(data)


class Connector(aiohttp.TCPConnector):
    """Keep connections that are silent while they wait, and count those that break."""

    def __init__(self, broken: Broken, **settings: Any) -> None:
        super().__init__(**settings)
        made: Any = partial(Silent, asyncio.get_running_loop(), broken.add)
        self._factory = made

    def _release(
        self, key: "ConnectionKey", protocol: ResponseHandler, *, should_close: bool = False
    ) -> None:
        super()._release(key, protocol, should_close=should_close)
        protocol.waits = True  # type: ignore[attr-defined]  # all are of our factory

    async def _get(self, key: "ConnectionKey", traces: "list[Trace]") -> "Connection | None":
        while (connection := await super()._get(key, traces)) is not None:
            protocol = connection.protocol
            assert isinstance(protocol, Silent)
            # what stood behind the last answer in the very piece in which that ended is parsed by now
            if not protocol.should_close:
                protocol.waits = False
                return connection
            connection.close()
        return None
