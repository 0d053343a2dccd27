"""Each table and queue of the stores, filled with ten times what it may hold (F46)."""

import pytest

from mcp_proxy.core import scopes
from mcp_proxy.layers.clock import SystemClock
from mcp_proxy.stores import fanout, memory, tiered
from mcp_proxy.stores.fanout import Fanout
from mcp_proxy.stores.memory import MemoryShelf
from mcp_proxy.stores.redis import RedisShelf
from mcp_proxy.stores.tiered import QUEUE, TieredShelf
from tests.fakes import FakeClock, Told, settle, spawn


def shelf_of(clock: FakeClock, entries: int, size: int) -> MemoryShelf:
    return MemoryShelf(entries, size, clock.now, clock.epoch)


async def test_ten_times_as_many_answers() -> None:
    """MCP_CACHE_MAX_ENTRIES; the least recently used go."""
    shelf = shelf_of(FakeClock(), 100, 1 << 30)
    for number in range(1000):
        await shelf.put(f"s/t{number}\nkey", b"x", 300.0)
        assert len(shelf._memory) <= 100
    assert shelf.snapshot()["evicted"] == 900


@pytest.mark.parametrize("large", ["frame", "key"])
async def test_ten_times_the_bytes_of_answers(large: str) -> None:
    """MCP_CACHE_MAX_BYTES, keys included."""
    shelf = shelf_of(FakeClock(), 1 << 20, 100_000)
    for number in range(1000):
        key, frame = f"s/t\n{number}", b"x"
        if large == "key":
            key += "k" * 1000
        else:
            frame *= 1000
        await shelf.put(key, frame, 300.0)
        assert shelf._memory.bytes <= 100_000
    await shelf.put("s/t\none", b"x" * 1_000_000, 300.0)
    assert await shelf.get("s/t\none") is None


async def test_counts_of_ten_times_as_many_tools() -> None:
    """F43: those of which nothing is kept are forgotten."""
    shelf = shelf_of(FakeClock(), 10, 1 << 30)
    for number in range(10 * memory._TALLIES_LIMIT):
        await shelf.put(f"s/t{number}\nkey", b"x", 300.0)
        assert len(shelf.kept()) <= memory._TALLIES_LIMIT
    assert shelf.kept()[f"s/t{number}"]["entries"] == 1


async def test_ten_times_as_many_cleared_scopes() -> None:
    """Beyond, all is dropped, which is always right."""
    shelf = shelf_of(FakeClock(), 10, 1 << 30)
    before = await shelf.edition(())
    for number in range(10 * memory._SCOPES_LIMIT):
        await shelf.invalidate(scopes.of_caller(f"c{number}"))
        assert len(shelf._scopes) <= memory._SCOPES_LIMIT
    assert await shelf.edition(()) != before


class Away(RedisShelf):
    """A Redis that takes nothing for as long as the test runs."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(
            "redis://localhost:1",
            "old",
            clock.now,
            Told(),
            spawn,
            epoch=clock.epoch,
            sleep=clock.sleep,
        )
        self._clock = clock

    async def store(self, key: str, frame: bytes, seconds: float) -> bool:
        await self._clock.sleep(1e9)
        return False


@pytest.mark.parametrize("size", [10, tiered._QUEUE_BYTES // 100])
async def test_ten_times_what_may_wait_for_redis(size: int) -> None:
    """By number and by bytes; what does not fit is counted, and told once."""
    clock, told = FakeClock(), Told()
    shelf = TieredShelf(
        shelf_of(clock, 10, 1 << 30),
        Away(clock),
        clock.now,
        spawn,
        told,
        epoch=clock.epoch,
        strategy="write-back",
    )
    frame = b"x" * size
    number = 10 * QUEUE if size == 10 else 1000
    for one in range(number):
        await shelf.put(f"s/t\n{one}", frame, 300.0)
        assert len(shelf._queue) <= QUEUE
        assert shelf._queued_bytes <= tiered._QUEUE_BYTES + size
    await settle()
    assert shelf.snapshot()["write_back_lost"] == number - len(shelf._queue)
    assert told.names().count("store.write_back_lost") == 1


async def test_ten_times_as_many_events_for_the_others() -> None:
    """Redis may hang; what does not fit is lost and counted."""
    one = Fanout("redis://localhost:1", "p:", "us", SystemClock(), Told(), heard=lambda _: None)
    for _ in range(10 * fanout._WAITING):
        one.tell(b"{}")
    assert len(one._waiting) == fanout._WAITING
    assert one.lost == 9 * fanout._WAITING
    await one.aclose()
