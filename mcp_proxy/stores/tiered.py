"""Answers in this process's memory, in front of those in Redis."""

from asyncio import Lock, shield
from collections.abc import Awaitable, Callable
from math import inf
from typing import Literal, NamedTuple

from mcp_proxy.core.clock import Emit, Running, Spawn
from mcp_proxy.core.frame import unpack
from mcp_proxy.core.shelf import Edition, Generations
from mcp_proxy.stores.board import Notice
from mcp_proxy.stores.memory import MemoryShelf
from mcp_proxy.stores.redis import RedisShelf

Strategy = Literal["write-through", "write-back"]

# Seconds in which an edition counts without asking: for so long at most another sidecar's
# invalidation is not heard (DESIGN section 4). Without it each hit would cost a round trip.
LEASE = 1.0
# What waits for Redis; the bytes may be over by one frame.
QUEUE = 1000
_QUEUE_BYTES = 16 * 1024 * 1024
FLUSH = 0.5  # seconds; the process must end soon (cli)


class _Lease(NamedTuple):
    generations: Generations
    until: float


class _Question(NamedTuple):
    """What Redis is being asked just now."""

    answer: Running  # of Generations, or None
    ended: int  # how often leases had been ended when it was asked


class _Waiting(NamedTuple):
    """What is still to be written to Redis."""

    frame: bytes
    until: float  # when its time is over


class TieredShelf:
    """Keep answers in Redis, and those that are fresh in memory as well.

    Which answers are valid is for Redis to say; the memory tier is only asked under an edition that
    Redis named within the last second, and not at all while Redis is in trouble. What is past its
    fresh time is asked of Redis, where another sidecar may have put a newer one.
    """

    def __init__(
        self,
        memory: MemoryShelf,
        redis: RedisShelf,
        now: Callable[[], float],
        spawn: Spawn,
        emit: Emit,
        *,
        epoch: Callable[[], float],
        strategy: Strategy = "write-through",
    ) -> None:
        self._memory = memory
        self._redis = redis
        self._now = now
        self._epoch = epoch
        self._spawn = spawn
        self._emit = emit
        self._at_once = strategy == "write-through"
        self._lease: _Lease | None = None
        self._question: _Question | None = None
        self._ended = 0  # how often a lease was ended
        # --- write-back
        self._queue: dict[str, _Waiting] = {}
        self._queued_bytes = 0
        self._writing = Lock()
        self._close_at = inf  # when the rest of the queue is given up
        self._overflowing = False
        self._lost = 0

    async def edition(self, scopes: tuple[str, ...]) -> Edition | None:
        """Return the edition as Redis named it within the last second; None while in trouble."""
        if self._redis.resting:
            return None
        found = self._leased() or await self._asked()
        return found.edition(scopes) if found is not None else None

    def glance(self, scopes: tuple[str, ...]) -> Edition | None:
        """Return the edition if Redis named it within the last second and is not in trouble."""
        found = None if self._redis.resting else self._leased()
        return found.edition(scopes) if found is not None else None

    def _leased(self) -> Generations | None:
        lease = self._lease
        return lease.generations if lease is not None and self._now() < lease.until else None

    async def _asked(self) -> Generations | None:
        """Ask Redis, once for all who want to know at the same time."""
        question = self._question
        # what was asked before an invalidation of our own is no answer for who comes after it
        if question is None or question.ended != self._ended or question.answer.done():
            answer = self._spawn(self._renewed(), "generations")
            question = self._question = _Question(answer, self._ended)
        found: Generations | None = await shield(question.answer)
        return found

    async def _renewed(self) -> Generations | None:
        # from when it is asked, not answered: the answer may be under way for a while
        now, ended = self._now(), self._ended
        found = await self._redis.generations()
        # an invalidation of our own meanwhile may have made it an old one
        if found is not None and ended == self._ended:
            self._lease = _Lease(found, now + LEASE)
        return found

    def at_hand(self, key: str) -> bytes | None:
        """Return what is in memory."""
        return self._memory.at_hand(key)

    async def get(self, key: str) -> bytes | None:
        """Return what is in memory, else what any sidecar put into Redis."""
        found = await self._memory.get(key)
        if found is not None:
            return found
        found = await self._redis.get(key)
        if found is None:
            return None
        newer = await self._memory.get(key)  # put there while Redis was asked
        if newer is not None:
            return newer
        await self._memory.put(key, found, self._fresh_for(found))
        return found

    async def put(self, key: str, frame: bytes, seconds: float) -> bool:
        """Keep a frame for `seconds`: at once in memory, in Redis according to the strategy.

        Tell whether either has it; what waits to be written to Redis counts as kept.
        """
        here = await self._memory.put(key, frame, min(seconds, self._fresh_for(frame)))
        if self._at_once:
            return await self._redis.put(key, frame, seconds) or here
        return self._write_later(key, _Waiting(frame, self._now() + seconds)) or here

    def _fresh_for(self, data: bytes) -> float:
        """Return the seconds for which a frame is fresh; 0 if it is not, or is unreadable."""
        frame = unpack(data)
        if frame is None:
            return 0.0
        return max(0.0, frame.terms.fresh - frame.age(self._epoch()))

    async def delete(self, key: str) -> None:
        """Forget a frame."""
        await self._memory.delete(key)
        self._take(key)
        await self._redis.delete(key)

    async def invalidate(self, scope: str = "", quarantine: float = 0.0) -> int:
        """Make the answers of a scope invalid; return how many were dropped from memory.

        Here at once, elsewhere within a second.
        """
        dropped = await self._memory.invalidate(scope)
        await self._tell(lambda: self._redis.invalidate(scope, quarantine))
        return dropped

    async def expire(self, before: float) -> int:
        """Make what was stored before a moment invalid; count as above."""
        dropped = await self._memory.expire(before)
        await self._tell(lambda: self._redis.expire(before))
        return dropped

    @property
    def missed(self) -> int:
        """Return how many invalidations Redis has not heard of at once."""
        return self._redis.missed

    def hear(self, notice: Notice) -> int:
        """Drop what another worker on this machine has made invalid.

        Redis has heard it from there, or is to be told before it is asked again.
        """
        dropped = self._memory.hear(notice)
        if not notice.told:
            self._redis.owe(notice.quarantine)
        self._end_lease()
        return dropped

    async def _tell(self, tell: Callable[[], Awaitable[None]]) -> None:
        self._end_lease()
        # a task of its own: a caller who leaves takes neither Redis's part nor ours with it
        await shield(self._spawn(self._told(tell), "invalidate"))

    async def _told(self, tell: Callable[[], Awaitable[None]]) -> None:
        try:
            await tell()
        finally:
            # Those that were taken since then may be of the old edition, and those whose read is
            # still under way must not become one.
            self._end_lease()

    def _end_lease(self) -> None:
        self._ended += 1
        self._lease = None

    # --- write-back

    def _write_later(self, key: str, waiting: _Waiting) -> bool:
        """Queue a frame for Redis; tell whether there was room.

        An invalidation need not look here: the edition is part of the key, so what is written late
        has a name that nobody asks for any more.
        """
        self._take(key)
        if len(self._queue) >= QUEUE or self._queued_bytes >= _QUEUE_BYTES:
            self._lost += 1
            if not self._overflowing:
                self._overflowing = True
                self._emit("store.write_back_lost", "warning", reason="queue full")
            return False
        if not self._queue:
            self._spawn(self._write_back(), "write back")
        self._queue[key] = waiting
        self._queued_bytes += len(waiting.frame)
        return True

    def _take(self, key: str) -> None:
        """Take a frame out of the queue, if it is there."""
        waiting = self._queue.pop(key, None)
        if waiting is not None:
            self._queued_bytes -= len(waiting.frame)

    async def _write_back(self) -> None:
        """Write what waits, the oldest first; what is being written stays until Redis has it."""
        async with self._writing:
            while self._queue and self._now() < self._close_at:
                key, waiting = next(iter(self._queue.items()))
                left = waiting.until - self._now()
                # While Redis is in trouble nothing waits for its return: a new token comes first.
                if left >= 0.001 and not await self._redis.put(key, waiting.frame, left):
                    self._lost += 1
                if self._queue.get(key) is waiting:
                    self._take(key)
            self._overflowing = False

    def snapshot(self) -> dict[str, object]:
        """Return the sizes and bounds of the memory tier, and how Redis is."""
        redis = self._redis.snapshot()
        return {
            **self._memory.snapshot(),
            "store": "tiered",
            "redis_up": redis["up"],
            "redis_failures": redis["failures"],
            "queued": len(self._queue),
            "write_back_lost": self._lost,
        }

    def kept(self) -> dict[str, dict[str, int]]:
        """Return how much is in memory of each tool's answers."""
        return self._memory.kept()

    async def aclose(self) -> None:
        """Write what waits, for half a second at most (and a last try's time); let go of Redis."""
        self._close_at = self._now() + FLUSH
        await self._write_back()
        if self._queue:
            self._lost += len(self._queue)
            self._emit(
                "store.write_back_lost", "warning", reason="closed", entries=len(self._queue)
            )
            self._queue.clear()
            self._queued_bytes = 0
        await self._redis.aclose()
