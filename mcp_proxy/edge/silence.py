"""Connections to the server that wait for their next request: on these, it has nothing to say.

aiohttp's connector (3.14.5) gives a waiting connection to the next request whatever came on it
meanwhile, and then takes that for the answer: one caller would get what was meant for another, or
what stands behind a body that is longer than it says (response splitting).
"""

import asyncio
from contextvars import ContextVar
from functools import partial
from itertools import islice
from time import monotonic  # noqa: TID251 - as aiohttp's connector counts
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace


# On whose behalf a connection is asked for in this task, None for nobody's. HTTP/1.1 numbers no
# answers: a second one to the last request, that comes when the next is out already, is taken for that
# one's. So a connection goes to somebody else only after a pause in which such a one would have shown
# itself.
caller: ContextVar[object] = ContextVar("caller", default=None)
# Servers that answer twice do so at once. It costs a connection for each call in so many seconds.
_PAUSE = 0.1  # seconds
# Where a server has been caught at it, the next call of the same caller waits as long.
_DOUBT = 60.0  # seconds
_LOOKS = 32  # connections, in search of one that suits: it is done for each call
# What servers say unasked when they are tired of waiting (RFC 9110 section 15.5.9).
_GIVES_UP = (b"HTTP/1.1 408", b"HTTP/1.0 408")


class Broken:
    """Count connections that the server has given up, or died with; know whether it says too much."""

    def __init__(self) -> None:
        self.number = 0
        self._caught = -_DOUBT  # monotonic

    def add(self) -> None:
        """Count one."""
        self.number += 1

    def catch(self) -> None:
        """Take note that something came that nobody had asked for."""
        self._caught = monotonic()

    @property
    def doubted(self) -> bool:
        """Tell whether that was of late."""
        return monotonic() - self._caught < _DOUBT


class Silent(ResponseHandler):
    """Close a connection on which something comes that nobody has asked for."""

    waits = False  # it is in the pool

    def __init__(self, loop: asyncio.AbstractEventLoop, broken: Broken) -> None:
        super().__init__(loop)
        self._broken = broken
        self.caller = caller.get()  # who has used it last
        self.released = 0.0  # monotonic

    def suits(self, who: object) -> bool:
        """Tell whether this caller may have it now."""
        known = who is not None and self.caller == who and not self._broken.doubted
        return known or monotonic() - self.released >= _PAUSE

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell of an end that neither we wanted nor the server's last answer announced."""
        if self.transport is not None and not self._should_close:
            self._broken.add()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what comes."""
        if self.waits and data:  # nothing is said where aiohttp makes its parser go on
            if not data.startswith(_GIVES_UP):
                self._broken.catch()
            self.close()
        else:
            super().data_received(data)


class Connector(aiohttp.TCPConnector):
    """Keep connections that are silent while they wait, and count those that break."""

    def __init__(self, broken: Broken, **settings: Any) -> None:
        super().__init__(**settings)
        made: Any = partial(Silent, asyncio.get_running_loop(), broken)
        self._factory = made
        self._broken = broken

    def _release(
        self, key: "ConnectionKey", protocol: ResponseHandler, *, should_close: bool = False
    ) -> None:
        super()._release(key, protocol, should_close=should_close)
        assert isinstance(protocol, Silent)  # all are of our factory
        protocol.waits = True
        protocol.released = monotonic()

    async def _get(self, key: "ConnectionKey", traces: "list[Trace]") -> "Connection | None":
        who = caller.get()
        while self._found(key, who) and (connection := await super()._get(key, traces)) is not None:
            protocol = connection.protocol
            assert isinstance(protocol, Silent)
            # what stood behind the last answer in the very piece in which that ended is parsed by now
            if protocol.should_close:
                self._broken.catch()
                connection.close()
            elif protocol.suits(who):
                protocol.waits = False
                protocol.caller = who
                return connection
            else:  # the one that was found had gone, and this is the next
                connection.release()
        return None

    def _found(self, key: "ConnectionKey", who: object) -> bool:
        """Let a connection that suits be the next that is taken; tell whether there is one."""
        waiting = self._conns.get(key)
        if not waiting:
            return False
        # the oldest come first: where none of them has rested, few others will suit
        for place, (protocol, _) in enumerate(islice(waiting, _LOOKS)):
            assert isinstance(protocol, Silent)
            if protocol.suits(who):
                if place:
                    found = waiting[place]
                    del waiting[place]
                    waiting.appendleft(found)
                return True
        return False
