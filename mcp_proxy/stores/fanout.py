"""The events of all sidecars in front of one server, on one Redis stream (MCP_EVENTS_FANOUT)."""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from mcp_proxy.core.clock import Clock, Emit
from mcp_proxy.core.condition import Condition
from mcp_proxy.stores.redis import connections

# Events wait so long to go out together, and so many at most: what does not fit is lost and counted.
_GATHER = 0.1  # seconds
_WAITING = 2_000
# How many the stream keeps; readers are behind by a second at most, or have lost their connection.
_KEPT = 10_000
_READ = 500
_BLOCK = 1_000  # milliseconds that a read waits for something new
_TIMEOUT = 3.0  # seconds; it is nobody's call that waits
_PAUSE = 5.0  # seconds after trouble
_OWNER, _EVENT = b"from", b"event"


class Fanout:
    """Send our events to the other sidecars, and hear theirs; trouble with Redis loses events."""

    def __init__(
        self,
        url: str,
        prefix: str,
        name: str,
        clock: Clock,
        emit: Emit,
        *,
        heard: Callable[[bytes], None],
    ) -> None:
        self._pool = connections(url, _TIMEOUT)
        self._redis: Redis = Redis(connection_pool=self._pool)
        self._key = f"{prefix}events"
        self._name = name.encode()  # ours, among the sidecars
        self._clock = clock
        self._heard = heard  # takes the JSON text of an event of another sidecar
        self._waiting: deque[bytes] = deque()
        self._condition = Condition("redis events", emit, "warning")
        self.lost = 0

    def tell(self, text: bytes) -> None:
        """Send an event, some time soon."""
        if len(self._waiting) >= _WAITING:
            self.lost += 1
            return
        self._waiting.append(text)

    async def send(self) -> None:
        """Send what is told, for ever."""
        while True:
            await self._clock.sleep(_GATHER)
            if self._waiting:
                batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
                if not await self._asked(self._add(batch)):
                    self.lost += len(batch)

    async def listen(self) -> None:
        """Hear what the others tell, for ever; what was told before is past."""
        last: Any = b"$"
        while True:
            try:
                found: Any = await self._redis.xread({self._key: last}, count=_READ, block=_BLOCK)
            except (RedisError, TimeoutError, OSError) as trouble:
                self._condition.note(trouble)
                await self._clock.sleep(_PAUSE)
                continue
            self._condition.note()
            for _, entries in found or ():
                for last, fields in entries:  # noqa: B007 - read on from there
                    if fields.get(_OWNER) != self._name and _EVENT in fields:
                        self._heard(fields[_EVENT])

    async def _add(self, batch: list[bytes]) -> None:
        async with self._redis.pipeline(transaction=False) as together:
            for text in batch:
                together.xadd(
                    self._key,
                    {_OWNER: self._name, _EVENT: text},
                    maxlen=_KEPT,
                    approximate=True,
                )
            await together.execute()

    async def _asked(self, work: Awaitable[None]) -> bool:
        try:
            await work
        except (RedisError, TimeoutError, OSError) as trouble:
            self._condition.note(trouble)
            await self._clock.sleep(_PAUSE)
            return False
        self._condition.note()
        return True

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._pool.aclose()
