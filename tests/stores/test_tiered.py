"""Memory in front of Redis: as fast as the one, and never older than the other by a second."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from mcp_proxy.core.frame import Frame, pack
from mcp_proxy.core.freshness import Terms
from mcp_proxy.core.shelf import Edition, Generations
from mcp_proxy.stores import tiered
from mcp_proxy.stores.board import Board, BoardShelf, Notice
from mcp_proxy.stores.memory import MemoryShelf
from mcp_proxy.stores.redis import RedisShelf
from mcp_proxy.stores.tiered import QUEUE, Strategy, TieredShelf
from tests.fakes import EPOCH, settle, spawn, within
from tests.stores.conftest import Bench, Gated

pytestmark = [
    pytest.mark.redis,
    pytest.mark.skipif(
        shutil.which("redis-server") is None, reason="redis-server is not installed"
    ),
]
JIRA = ("service:jira", "tool:look", "jira/look")
OTHER = ("service:crm", "tool:find", "crm/find")


def framed(
    body: bytes = b"{}", fresh: float = 60.0, on_error: float = 0.0, ago: float = 0
) -> bytes:
    """Return a frame that was stored at the beginning of the fake clock, or before."""
    terms = Terms(fresh, 0.0, on_error)
    return pack(Frame(CIMultiDict(), body, EPOCH.timestamp() - ago, terms))


class Watched(RedisShelf):
    """A shelf that counts what Redis is asked, and holds its answers back for the test."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.asked: list[str] = []
        self.answered = 0
        self.let = {name: asyncio.Event() for name in ("edition", "get", "store")}
        for gate in self.let.values():
            gate.set()

    async def generations(self) -> Generations | None:
        self.asked.append("edition")
        found = await super().generations()
        self.answered += 1
        await self.let["edition"].wait()
        return found

    async def get(self, key: str) -> bytes | None:
        self.asked.append("get")
        found = await super().get(key)
        await self.let["get"].wait()
        return found

    async def put(self, key: str, frame: bytes, seconds: float) -> bool:
        self.asked.append(f"store {key}")
        await self.let["store"].wait()
        return await super().put(key, frame, seconds)


class Replica(TieredShelf):
    """A sidecar's tiers, within reach of the test."""

    def __init__(self, bench: Bench, strategy: Strategy, kind: type[RedisShelf]) -> None:
        self.far = bench.shelf(kind=kind)
        self.near = MemoryShelf(100, 1 << 20, bench.clock.now, bench.clock.epoch)
        super().__init__(
            self.near,
            self.far,
            bench.clock.now,
            spawn,
            bench.told,
            epoch=bench.clock.epoch,
            strategy=strategy,
        )

    @property
    def watched(self) -> Watched:
        assert isinstance(self.far, Watched)
        return self.far

    async def token(self, *scopes: str) -> str:
        edition = await within(self.edition(scopes))
        assert edition is not None
        return edition.token

    async def found(self, *scopes: str) -> bytes | None:
        """Look as the cache layer does."""
        return await within(self.get(f"jira/look\n{await self.token(*scopes)}"))

    async def fill(self, frame: bytes, *scopes: str) -> None:
        await within(self.put(f"jira/look\n{await self.token(*scopes)}", frame, 60.0))


def replica(
    bench: Bench, strategy: Strategy = "write-through", kind: type[RedisShelf] = Watched
) -> Replica:
    return Replica(bench, strategy, kind)


async def replicas(bench: Bench) -> tuple[Replica, Replica]:
    """Return two on one Redis, who have both arrived there."""
    one, two = replica(bench), replica(bench)
    await two.token()
    await one.token()
    await bench.clock.advance(tiered.LEASE)
    return one, two


@pytest.fixture
async def later(bench: Bench) -> AsyncIterator[Replica]:
    """A replica that writes back, and has arrived."""
    made = replica(bench, "write-back")
    await made.token()
    yield made
    made.watched.let["store"].set()
    await within(made.aclose())


async def in_redis(bench: Bench, key: str) -> bytes | None:
    shelf = bench.shelf()
    return await within(shelf.get(key))


async def until(said: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not said():
            await settle()

    await within(wait())


# --- memory first


async def test_a_hit_in_memory_costs_no_round_trip(bench: Bench) -> None:
    shelf = replica(bench)
    await shelf.fill(framed(), *JIRA)
    asked = list(shelf.watched.asked)
    for _ in range(100):
        assert await shelf.found(*JIRA) == framed()
    assert shelf.watched.asked == asked


async def test_what_another_sidecar_put_there_is_found_and_then_in_memory(bench: Bench) -> None:
    one, two = await replicas(bench)
    await one.fill(framed(b"1"))
    assert await two.found() == framed(b"1")
    asked = list(two.watched.asked)
    assert await two.found() == framed(b"1")
    assert two.watched.asked == asked
    assert await two.get("nothing") is None


async def test_what_is_past_its_fresh_time_is_asked_of_redis(bench: Bench) -> None:
    """Another sidecar may have fetched it anew; what is told in an outage is there as well."""
    one, two = await replicas(bench)
    old, new = framed(b"old", fresh=10, on_error=60), framed(b"new", fresh=60)
    await one.fill(old)
    assert await two.found() == old
    await bench.clock.advance(8)
    await one.fill(new)
    assert await two.found() == old, "it is fresh"
    await bench.clock.advance(1)
    assert await two.found() == new


@pytest.mark.parametrize(
    "frame",
    [b"unreadable", framed(fresh=0, on_error=60), framed(fresh=5, on_error=60, ago=60)],
    ids=["unreadable", "for an outage", "old"],
)
async def test_what_is_not_fresh_is_not_in_memory(bench: Bench, frame: bytes) -> None:
    one, two = await replicas(bench)
    await one.fill(framed(b"before"))
    await one.fill(frame)
    for shelf in (one, two):
        assert await shelf.found() == frame
        assert shelf.near.snapshot()["entries"] == 0


async def test_memory_keeps_nothing_for_longer_than_it_was_told(bench: Bench) -> None:
    shelf = replica(bench)
    await shelf.put("k", framed(fresh=60), 5.0)
    await bench.clock.advance(5)
    assert await shelf.near.get("k") is None


async def test_a_value_of_redis_does_not_displace_one_that_was_put_meanwhile(bench: Bench) -> None:
    one, two = await replicas(bench)
    await one.put("k", framed(b"old"), 60.0)
    two.watched.let["get"].clear()
    reader = spawn(two.get("k"), "reader")
    await until(lambda: "get" in two.watched.asked)
    await two.put("k", framed(b"new"), 60.0)
    two.watched.let["get"].set()
    assert await within(reader) == framed(b"new")
    assert await two.near.get("k") == framed(b"new")


async def test_what_is_deleted_is_deleted_in_both(bench: Bench) -> None:
    one, two = await replicas(bench)
    await one.put("k", framed(), 60.0)
    await one.delete("k")
    assert (await one.get("k"), await two.get("k")) == (None, None)


# --- invalidation


@pytest.mark.parametrize("scope", ["", *JIRA])
async def test_another_sidecar_hears_within_a_second_and_not_later(
    bench: Bench, scope: str
) -> None:
    """DESIGN section 4: other replicas' memory tiers within a second."""
    one, two = await replicas(bench)
    await one.fill(framed(), *JIRA)
    assert await two.found(*JIRA) == framed()
    await one.invalidate(scope)
    await bench.clock.advance(tiered.LEASE - 0.001)
    assert await two.found(*JIRA) == framed(), "else each hit would cost a round trip"
    await bench.clock.advance(0.001)
    assert await two.found(*JIRA) is None


async def test_a_lease_runs_from_the_asking_and_not_from_the_answer(bench: Bench) -> None:
    """What was invalid when the answer came is no longer than a second old."""
    one, two = await replicas(bench)
    await one.fill(framed())
    two.watched.let["edition"].clear()
    reader = spawn(two.token(), "reader")
    await until(lambda: two.watched.answered == 2)
    await bench.clock.advance(0.9)
    two.watched.let["edition"].set()
    await within(reader)
    await bench.clock.advance(0.1)
    asked = len(two.watched.asked)
    await two.token()
    assert len(two.watched.asked) == asked + 1


@pytest.mark.parametrize("scope", ["", *JIRA])
async def test_an_own_invalidation_counts_at_once(bench: Bench, scope: str) -> None:
    """No caller sees an answer that is older than its own finished write."""
    shelf = replica(bench)
    await shelf.fill(framed(), *JIRA)
    assert await shelf.found(*JIRA) == framed()
    assert await shelf.invalidate(scope) == 1
    assert await shelf.found(*JIRA) is None
    assert await shelf.invalidate(scope) == 0


async def test_a_scope_that_is_invalid_touches_no_other(bench: Bench) -> None:
    shelf = replica(bench)
    before = await shelf.token(*OTHER)
    await shelf.invalidate("service:jira")
    assert await shelf.token(*OTHER) == before


async def test_a_quarantine_counts_at_once_here_and_within_a_second_elsewhere(
    bench: Bench,
) -> None:
    one, two = await replicas(bench)
    assert all([(await s.edition(())).storable for s in (one, two)])  # type: ignore[union-attr]
    await one.invalidate(quarantine=30.0)
    assert not (await one.edition(())).storable  # type: ignore[union-attr]
    await bench.clock.advance(tiered.LEASE)
    assert not (await two.edition(())).storable  # type: ignore[union-attr]


async def test_what_was_stored_before_a_moment_is_void_here_at_once_and_elsewhere_in_a_second(
    bench: Bench,
) -> None:
    """`POST /api/cache/clear` with `older_than`."""
    one, two = await replicas(bench)
    await one.fill(framed())
    assert await two.found() == framed()
    await bench.clock.advance(5)
    before = bench.clock.epoch()
    assert (await two.edition(())).since == 0.0  # type: ignore[union-attr]
    assert await one.expire(before) == 1
    assert (await one.edition(())).since == before  # type: ignore[union-attr]
    await bench.clock.advance(tiered.LEASE)
    assert (await two.edition(())).since == before  # type: ignore[union-attr]


# --- races


async def test_an_edition_that_was_being_read_during_an_invalidation_is_no_lease(
    bench: Bench,
) -> None:
    shelf = replica(bench)
    old = await shelf.token()
    await bench.clock.advance(tiered.LEASE)
    shelf.watched.let["edition"].clear()
    reader = spawn(shelf.token(), "reader")
    await until(lambda: shelf.watched.answered == 2)  # with the old edition
    await within(shelf.invalidate())
    shelf.watched.let["edition"].set()
    await within(reader)
    assert await shelf.token() != old


async def test_a_lease_that_was_taken_while_redis_was_being_told_is_ended(bench: Bench) -> None:
    shelf = replica(bench, kind=Gated)
    far = shelf.far
    assert isinstance(far, Gated)
    old = await shelf.token()
    far.let.clear()
    writer = spawn(shelf.invalidate(), "writer")
    await settle()
    assert await shelf.token() == old, "Redis has not been told yet, and nobody's write is over"
    far.let.set()
    await within(writer)
    assert await shelf.token() != old


async def test_no_lease_is_left_from_before_while_redis_is_being_told(bench: Bench) -> None:
    """Redis is told in the middle of an invalidation; others must not be ahead of us."""
    one, two = replica(bench, kind=Gated), replica(bench)
    await two.token()
    old = await one.token()
    far = one.far
    assert isinstance(far, Gated)
    far.let.clear()
    writer = spawn(one.invalidate(), "writer")
    await settle()
    await two.invalidate()
    assert await one.token() != old
    far.let.set()
    await within(writer)


async def test_a_writer_that_leaves_does_not_stop_its_invalidation(bench: Bench) -> None:
    shelf = replica(bench, kind=Gated)
    far = shelf.far
    assert isinstance(far, Gated)
    old = await shelf.token()
    far.let.clear()
    leaver = spawn(shelf.invalidate(), "leaver")
    await settle()
    leaver.cancel()
    await settle()
    assert leaver.cancelled()
    assert await shelf.token() == old, "a lease of the old edition"
    renewed = far.renewals
    far.let.set()

    async def heard() -> None:
        while await shelf.token() == old:
            await settle()

    await within(heard())
    assert far.renewals == renewed


@pytest.mark.parametrize("strategy", ["write-through", "write-back"])
@pytest.mark.parametrize("by", ["itself", "another"])
async def test_a_fill_that_began_before_an_invalidation_is_never_found(
    bench: Bench, strategy: Strategy, by: str
) -> None:
    one, two = replica(bench, strategy), replica(bench)
    await two.token()
    edition = await one.token(*JIRA)
    await (one if by == "itself" else two).invalidate("service:jira")
    await one.put(f"jira/look\n{edition}", framed(b"old"), 60.0)
    await until(lambda: one.snapshot()["queued"] == 0)
    await bench.clock.advance(tiered.LEASE)
    for shelf in (one, two):
        assert await shelf.found(*JIRA) is None
    await within(one.aclose())


# --- trouble


@pytest.mark.parametrize("stop", [signal.SIGSTOP, signal.SIGKILL])
async def test_while_redis_is_in_trouble_memory_is_not_asked_and_it_comes_back_by_itself(
    rough: Bench, stop: int
) -> None:
    """DESIGN section 4: memory tiers are not asked while they cannot hear of an invalidation."""
    shelf = replica(rough)
    await shelf.fill(framed())
    old = await shelf.token()
    rough.server.send(stop)
    await rough.clock.advance(0.5)
    assert await shelf.token() == old, "nobody has met the trouble yet, and the lease runs"
    assert await within(shelf.get("unknown")) is None
    failures = shelf.snapshot()["redis_failures"]
    for _ in range(100):
        assert await shelf.edition(()) is None, "it has a lease, and must not use it"
        assert await shelf.get("unknown") is None
        await shelf.put("k", framed(), 60.0)
        await shelf.delete("k")
    shown = shelf.snapshot()
    assert (shown["redis_up"], shown["redis_failures"]) == (False, failures)
    await rough.clock.advance(1)
    assert await within(shelf.edition(())) is None, "it is asked again, and in trouble still"
    if stop == signal.SIGSTOP:
        rough.server.send(signal.SIGCONT)
    else:
        rough.server.stop()
        rough.server.start()

    async def returned() -> Edition:
        while (edition := await shelf.edition(())) is None:
            await rough.clock.advance(1)
        return edition

    assert (await within(returned())).token != old
    assert await shelf.found() is None
    await shelf.fill(framed(b"new"))
    assert await shelf.found() == framed(b"new")
    assert rough.told.names() == ["store.state_changed"] * 2
    assert shelf.snapshot()["redis_up"] is True


async def test_a_lease_does_not_outlive_its_second_when_redis_goes(rough: Bench) -> None:
    shelf = replica(rough)
    await shelf.fill(framed())
    rough.server.send(signal.SIGSTOP)
    await rough.clock.advance(tiered.LEASE)
    assert await within(shelf.edition(())) is None
    rough.server.send(signal.SIGCONT)


async def test_an_own_invalidation_that_redis_missed_counts_here_at_once(rough: Bench) -> None:
    one, two = await replicas(rough)
    await one.fill(framed())
    rough.server.send(signal.SIGSTOP)
    await within(one.invalidate(quarantine=30.0))
    assert await one.edition(()) is None
    rough.server.send(signal.SIGCONT)
    await rough.clock.advance(1)
    after = await within(one.edition(()))
    assert after is not None
    assert not after.storable
    assert await two.token() == after.token
    assert await one.found() is None


async def test_garbage_in_place_of_a_token_is_no_trouble(bench: Bench) -> None:
    shelf = replica(bench)
    old = await shelf.token()
    await bench.clock.advance(tiered.LEASE)
    with bench.server.raw() as raw:
        raw.delete(shelf.far._generations)
        raw.rpush(shelf.far._generations, b"1")
    assert await shelf.token() != old
    assert bench.told.events == []


async def test_garbage_in_place_of_a_value_does_not_reach_memory(bench: Bench) -> None:
    """The cache layer finds it unreadable and has it deleted."""
    shelf = replica(bench)
    with bench.server.raw() as raw:
        raw.set(shelf.far._prefix + "k", b"\xff\xfe")
    assert await shelf.get("k") == b"\xff\xfe"
    assert await shelf.near.get("k") is None
    await shelf.delete("k")
    assert await shelf.get("k") is None


async def test_a_redis_that_talks_nonsense_is_in_trouble(bench: Bench) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    far = RedisShelf(
        f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        "old",
        bench.clock.now,
        bench.told,
        spawn,
        epoch=bench.clock.epoch,
        sleep=bench.clock.sleep,
    )
    near = MemoryShelf(100, 1 << 20, bench.clock.now, bench.clock.epoch)
    shelf = TieredShelf(near, far, bench.clock.now, spawn, bench.told, epoch=bench.clock.epoch)
    assert await within(shelf.edition(JIRA)) is None
    await within(shelf.invalidate())
    assert await within(shelf.get("k")) is None
    assert shelf.snapshot()["redis_up"] is False
    await within(shelf.aclose())
    server.close()
    await within(server.wait_closed())


# --- write-back


async def test_write_through_is_in_redis_before_it_returns(bench: Bench) -> None:
    shelf = replica(bench)
    await shelf.put("k", framed(), 60.0)
    assert await in_redis(bench, "k") == framed()


async def test_write_back_is_in_memory_at_once_and_in_redis_later(
    bench: Bench, later: Replica
) -> None:
    later.watched.let["store"].clear()
    await later.put("k", framed(), 60.0)
    assert await later.get("k") == framed()
    assert await in_redis(bench, "k") is None
    assert later.snapshot()["queued"] == 1
    await bench.clock.advance(10)
    later.watched.let["store"].set()
    await until(lambda: later.snapshot()["queued"] == 0)
    assert await in_redis(bench, "k") == framed()
    with bench.server.raw() as raw:
        assert raw.pttl(later.far._prefix + "k") <= 60_000
    assert (later.snapshot()["write_back_lost"], bench.told.events) == (0, [])


async def test_what_waits_keeps_its_end(bench: Bench, later: Replica) -> None:
    """Its time runs while it waits; what is over is not written, and is no loss."""
    later.watched.let["store"].clear()
    for key, seconds in (("first", 60.0), ("short", 5.0), ("long", 60.0)):
        await later.put(key, framed(), seconds)
    await until(lambda: "store first" in later.watched.asked)
    await bench.clock.advance(10)
    later.watched.let["store"].set()
    await until(lambda: later.snapshot()["queued"] == 0)
    with bench.server.raw() as raw:
        assert raw.pttl(later.far._prefix + "long") <= 50_000
    assert "store short" not in later.watched.asked
    assert later.snapshot()["write_back_lost"] == 0


async def test_one_task_writes_in_order_and_the_newest_value_once(
    bench: Bench, later: Replica
) -> None:
    later.watched.let["store"].clear()
    for key, body in (("a", b"1"), ("b", b"1"), ("b", b"2"), ("c", b"1")):
        await later.put(key, framed(body), 60.0)
        await settle()
    later.watched.let["store"].set()
    await until(lambda: later.snapshot()["queued"] == 0)
    assert [asked for asked in later.watched.asked if "store" in asked] == [
        "store a", "store b", "store c",
    ]  # fmt: skip
    assert await in_redis(bench, "b") == framed(b"2")


async def test_a_value_that_is_put_again_while_it_is_written_is_written_again(
    bench: Bench, later: Replica
) -> None:
    later.watched.let["store"].clear()
    await later.put("k", framed(b"1"), 60.0)
    await until(lambda: "store k" in later.watched.asked)
    await later.put("k", framed(b"2"), 60.0)
    later.watched.let["store"].set()
    await until(lambda: later.snapshot()["queued"] == 0)
    assert await in_redis(bench, "k") == framed(b"2")


async def test_what_is_deleted_while_it_waits_is_not_written(bench: Bench, later: Replica) -> None:
    later.watched.let["store"].clear()
    await later.put("a", framed(), 60.0)
    await until(lambda: "store a" in later.watched.asked)
    await later.put("b", framed(), 60.0)
    await later.delete("b")
    later.watched.let["store"].set()
    await until(lambda: later.snapshot()["queued"] == 0)
    assert await in_redis(bench, "b") is None
    assert await in_redis(bench, "a") == framed()


async def test_the_queue_is_bounded_and_what_is_lost_is_counted_and_told_once(
    bench: Bench, later: Replica
) -> None:
    later.watched.let["store"].clear()
    for number in range(QUEUE + 7):
        await later.put(str(number), framed(), 60.0)
    shown = later.snapshot()
    assert (shown["queued"], shown["write_back_lost"]) == (QUEUE, 7)
    assert await later.get(str(QUEUE + 6)) == framed(), "memory has it"
    [(event, level, fields)] = bench.told.events
    assert (event, level, fields) == (
        "store.write_back_lost", "warning", {"reason": "queue full"},
    )  # fmt: skip
    later.watched.let["store"].set()
    await until(lambda: later.snapshot()["queued"] == 0)
    assert await in_redis(bench, str(QUEUE - 1)) == framed()
    assert await in_redis(bench, str(QUEUE)) is None
    await until(lambda: not later._writing.locked())
    later.watched.let["store"].clear()
    for number in range(QUEUE + 1):
        await later.put(str(number), framed(), 60.0)
    assert bench.told.names() == ["store.write_back_lost"] * 2, "another time, another event"


async def test_the_queue_is_bounded_in_bytes_too(later: Replica) -> None:
    later.watched.let["store"].clear()
    large = framed(b"x" * (1 << 20))
    for number in range(30):
        await later.put(str(number), large, 60.0)
    shown = later.snapshot()
    assert (shown["queued"], shown["write_back_lost"]) == (16, 14)
    later.watched.let["store"].set()
    await until(lambda: later.snapshot()["queued"] == 0)
    assert later._queued_bytes == 0


async def test_what_waits_for_a_redis_in_trouble_is_lost_and_counted(rough: Bench) -> None:
    """After trouble a new token comes first, so nobody would ask for it."""
    shelf = replica(rough, "write-back")
    await shelf.token()
    rough.server.send(signal.SIGSTOP)
    for number in range(10):
        await shelf.put(str(number), framed(), 60.0)
    await until(lambda: shelf.snapshot()["queued"] == 0)
    shown = shelf.snapshot()
    assert (shown["write_back_lost"], shown["redis_failures"]) == (10, 1)
    rough.server.send(signal.SIGCONT)
    await within(shelf.aclose())


@pytest.mark.parametrize("stopped", [False, True])
async def test_closing_writes_what_waits(bench: Bench, stopped: bool) -> None:
    """The sidecar's tasks are stopped before its shelf is closed."""
    started: list[asyncio.Task[Any]] = []
    shelf = replica(bench, "write-back")
    shelf._spawn = lambda work, name: started.append(spawn(work, name)) or started[-1]
    await shelf.token()
    shelf.watched.let["store"].clear()
    for number in range(100):
        await shelf.put(str(number), framed(), 60.0)
    await settle()
    assert len(started) == 2, "one that asks for the tokens, one writer, however many wait"
    if stopped:
        started[-1].cancel()
        await settle()
    closing = spawn(shelf.aclose(), "closing")
    await settle()
    shelf.watched.let["store"].set()
    await within(closing)
    shown = shelf.snapshot()
    assert (shown["queued"], shown["write_back_lost"], bench.told.events) == (0, 0, [])
    with bench.server.raw() as raw:
        assert all(raw.exists(shelf.far._prefix + str(number)) for number in range(100))


async def test_closing_takes_half_a_second_at_most_and_counts_the_rest(bench: Bench) -> None:
    class Slow(Watched):
        async def put(self, key: str, frame: bytes, seconds: float) -> bool:
            await bench.clock.advance(0.3)
            return await super().put(key, frame, seconds)

    shelf = replica(bench, "write-back", Slow)
    await shelf.token()
    shelf._spawn = lambda work, _: work.close()  # type: ignore[assignment,return-value]
    for number in range(10):
        await shelf.put(str(number), framed(), 60.0)
    began = bench.clock.now()
    await within(shelf.aclose())
    assert bench.clock.now() - began <= 0.8
    shown = shelf.snapshot()
    assert (shown["queued"], shown["write_back_lost"]) == (0, 8)
    assert bench.told.events == [
        ("store.write_back_lost", "warning", {"reason": "closed", "entries": 8})
    ]


@pytest.mark.parametrize("strategy", ["write-through", "write-back"])
async def test_closing_never_fails(rough: Bench, strategy: Strategy) -> None:
    shelf = replica(rough, strategy)
    await shelf.token()
    rough.server.send(signal.SIGSTOP)
    for number in range(100):
        await within(shelf.put(str(number), framed(), 60.0))
    await within(shelf.aclose(), 2)
    rough.server.send(signal.SIGCONT)
    assert shelf.snapshot()["queued"] == 0
    assert shelf.snapshot()["write_back_lost"] == (100 if strategy == "write-back" else 0)


# --- bounds


async def test_nothing_is_at_hand_while_redis_is_in_trouble(rough: Bench) -> None:
    """DESIGN section 4: memory is not asked while it cannot hear of an invalidation."""
    shelf = replica(rough)
    assert shelf.glance(()) is None, "nobody has asked"
    await shelf.fill(framed(), *JIRA)
    edition = shelf.glance(JIRA)
    assert edition is not None
    assert shelf.at_hand(f"jira/look\n{edition.token}") == framed()
    rough.server.stop()
    assert await within(shelf.get("another")) is None
    assert shelf.glance(JIRA) is None


async def test_the_others_hear_of_what_redis_has_missed_though_nobody_reads_here(
    rough: Bench,
) -> None:
    """DESIGN section 4: other replicas within a second (of the return)."""
    one, two = await replicas(rough)
    await one.fill(framed())
    assert await two.found() == framed()
    rough.server.send(signal.SIGSTOP)
    await within(one.invalidate())
    await within(one.invalidate())
    rough.server.send(signal.SIGCONT)

    async def paid() -> None:
        while one.far._paid < one.far._debts:
            await rough.clock.advance(1.0)

    await within(paid())
    await rough.clock.advance(tiered.LEASE)
    assert await two.found() is None


async def test_redis_is_asked_once_for_all_who_want_to_know(bench: Bench) -> None:
    """However many keys there are, and however many ask at the same moment."""
    shelf = replica(bench)
    await shelf.token()
    await bench.clock.advance(tiered.LEASE)
    asked = len(shelf.watched.asked)
    shelf.watched.let["edition"].clear()
    readers = [spawn(shelf.token(f"key:{number}"), "reader") for number in range(50)]
    await settle()
    readers[0].cancel()
    await settle()
    shelf.watched.let["edition"].set()
    tokens = {await within(reader) for reader in readers[1:]}
    assert (len(tokens), len(shelf.watched.asked)) == (1, asked + 1)
    await shelf.token("key:another")
    assert len(shelf.watched.asked) == asked + 1


async def test_who_comes_after_an_own_write_does_not_hear_what_was_asked_before_it(
    bench: Bench,
) -> None:
    shelf = replica(bench)
    before = await shelf.token()
    await bench.clock.advance(tiered.LEASE)
    shelf.watched.let["edition"].clear()
    early = spawn(shelf.token(), "early")
    await until(lambda: shelf.watched.answered == 2)
    await within(shelf.invalidate())
    late = spawn(shelf.token(), "late")
    await until(lambda: shelf.watched.answered == 3)
    shelf.watched.let["edition"].set()
    assert await within(early) == before
    assert await within(late) != before
    assert await shelf.token() == await within(late)


async def test_the_snapshot_shows_both_tiers(bench: Bench) -> None:
    shelf = replica(bench)
    await shelf.put("k", framed(), 60.0)
    assert shelf.snapshot() == {
        **shelf.near.snapshot(),
        "store": "tiered", "entries": 1, "redis_up": True, "redis_failures": 0, "queued": 0,
        "write_back_lost": 0,
    }  # fmt: skip


# --- several workers of one sidecar


async def test_another_worker_hears_of_an_invalidation_at_once(
    bench: Bench, tmp_path: Path
) -> None:
    """Not within a second, as another sidecar does: before the answer of the write goes out."""
    near, other = await replicas(bench)
    here, there = [
        BoardShelf(one, Board(str(tmp_path), 2, index, bench.clock.now), spawn)
        for index, one in enumerate((near, other))
    ]
    await other.fill(framed())
    assert await other.found() is not None
    assert there.glance(()) is not None
    await within(here.invalidate())
    assert there.glance(()) is None, "Redis is asked again"
    edition = await within(there.edition(()))
    assert edition is not None
    assert await within(there.get(f"jira/look\n{edition.token}")) is None
    assert there.snapshot()["entries"] == 0


async def test_what_redis_has_heard_is_not_said_to_it_again(bench: Bench, tmp_path: Path) -> None:
    """A narrow invalidation stays narrow, however many workers hear of it."""
    near, other = await replicas(bench)
    here, there = [
        BoardShelf(one, Board(str(tmp_path), 2, index, bench.clock.now), spawn)
        for index, one in enumerate((near, other))
    ]
    before = await within(there.edition(()))
    await within(here.invalidate("tool:look"))
    assert await within(there.edition(())) == before
    there.hear(Notice("tool:look", told=True))
    assert await within(there.edition(())) == before


@pytest.mark.parametrize("dies", [False, True])
async def test_another_worker_does_not_believe_redis_what_that_has_missed(
    rough: Bench, tmp_path: Path, dies: bool
) -> None:
    """The one that writes has had trouble with Redis, and does without for a second; the other has not."""
    near, other = await replicas(rough)
    here, there = [
        BoardShelf(one, Board(str(tmp_path), 3, index, rough.clock.now), spawn)
        for index, one in enumerate((near, other))
    ]
    await other.fill(framed())
    before = await within(there.edition(()))
    assert before is not None
    rough.server.send(signal.SIGSTOP)
    await within(near.far.get("another"))
    rough.server.send(signal.SIGCONT)
    assert near.far.resting
    if dies:
        supervisor = Board(str(tmp_path), 3, 2, rough.clock.now)
        supervisor.write(Notice(quarantine=30.0))
    else:
        await within(here.invalidate(quarantine=30.0))
    after = await within(there.edition(()))
    assert after is not None
    assert after.token != before.token
    assert not after.storable
    assert await within(there.get(f"jira/look\n{after.token}")) is None


async def test_redis_hears_before_the_other_workers_do(bench: Bench, tmp_path: Path) -> None:
    """Else they would take a lease on what is about to be void."""
    near, other = await replicas(bench)
    here, there = [
        BoardShelf(one, Board(str(tmp_path), 2, index, bench.clock.now), spawn)
        for index, one in enumerate((near, other))
    ]
    seen: list[Any] = []
    board, server = here._board, bench.server

    class Late:
        def news(self) -> Any:
            return board.news()

        def write(self, notice: Notice) -> None:
            seen.append(server.raw().hget(near.far._generations, "generation"))
            board.write(notice)

    before = await within(there.edition(()))
    assert before is not None
    here._board = Late()  # type: ignore[assignment]
    await within(here.invalidate())
    assert seen != [before.token.encode()]
    after = await within(there.edition(()))
    assert after is not None
    assert seen == [after.token.encode()]
