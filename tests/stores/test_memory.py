"""Answers in this process: bounded, without timers, and never for ever."""

import asyncio

import pytest
from aiocache import SimpleMemoryCache
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_proxy.core.shelf import Shelf
from mcp_proxy.stores.memory import BoundedMemory, MemoryShelf, within
from tests.fakes import FakeClock, settle


class Bench:
    """A small shelf on a fake clock."""

    def __init__(self, max_entries: int = 3, max_bytes: int = 1 << 20) -> None:
        self.clock = FakeClock()
        self.memory = BoundedMemory(max_entries, max_bytes, self.clock.now)
        self.shelf = MemoryShelf(max_entries, max_bytes, self.clock.now, self.clock.epoch)


# --- bounds


async def test_what_was_put_there_is_there_until_its_time_is_over() -> None:
    bench = Bench()
    await bench.shelf.put("k", b"v\xff", 5.0)
    await bench.clock.advance(4.999)
    assert await bench.shelf.get("k") == b"v\xff"
    await bench.clock.advance(0.001)
    assert await bench.shelf.get("k") is None
    assert bench.shelf.snapshot()["entries"] == 0, "what is over is dropped when it is met"


async def test_the_least_recently_used_goes_first() -> None:
    bench = Bench(max_entries=3)
    for key in "abc":
        await bench.shelf.put(key, b"v", 10.0)
    await bench.shelf.get("a")
    await bench.shelf.put("d", b"v", 10.0)
    assert [key for key in "abcd" if await bench.shelf.get(key)] == ["a", "c", "d"]
    assert bench.shelf.snapshot()["evicted"] == 1


async def test_bytes_are_bounded_too() -> None:
    bench = Bench(max_entries=1000, max_bytes=10_000)
    for number in range(100):
        await bench.shelf.put(str(number), b"x" * 1000, 10.0)
    shown = bench.shelf.snapshot()
    assert shown["entries"] == 7
    assert 0 < shown["bytes"] <= 10_000  # type: ignore[operator]


async def test_what_is_larger_than_the_shelf_displaces_nothing() -> None:
    bench = Bench(max_bytes=1000)
    await bench.shelf.put("small", b"v", 10.0)
    await bench.shelf.put("large", b"x" * 1000, 10.0)
    assert (await bench.shelf.get("small"), await bench.shelf.get("large")) == (b"v", None)


async def test_a_new_value_that_is_too_large_leaves_no_old_one() -> None:
    bench = Bench(max_bytes=1000)
    await bench.shelf.put("k", b"old", 10.0)
    await bench.shelf.put("k", b"x" * 1000, 10.0)
    assert await bench.shelf.get("k") is None


async def test_a_value_that_is_put_again_counts_once_and_lives_anew() -> None:
    bench = Bench()
    await bench.shelf.put("k", b"one", 1.0)
    before = bench.shelf.snapshot()["bytes"]
    await bench.shelf.put("k", b"two", 10.0)
    assert bench.shelf.snapshot()["bytes"] == before
    await bench.clock.advance(5)
    assert await bench.shelf.get("k") == b"two"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "get", "delete", "wait", "clear"]),
            st.sampled_from("abcdef"),
            st.integers(0, 900),
        )
    )
)
@settings(deadline=None)
def test_the_bounds_hold_and_the_bytes_are_counted_right(acts: list[tuple[str, str, int]]) -> None:
    async def check() -> None:
        bench = Bench(max_entries=4, max_bytes=3000)
        for act, key, number in acts:
            if act == "put":
                await bench.shelf.put(key, b"x" * number, 1.0 + number)
            elif act == "wait":
                bench.clock._now += number / 100
            elif act == "clear":
                await bench.shelf.invalidate()
            else:
                await getattr(bench.shelf, act)(key)
            kept = bench.shelf._memory._kept
            assert len(kept) <= 4
            assert (
                bench.shelf._memory.bytes == sum(301 + len(v) for _, v, _ in kept.values()) <= 3000
            )

    asyncio.run(check())


# --- aiocache's own ways, kept from us


@pytest.mark.parametrize("ttl", [0, None, 0.0])
async def test_nothing_is_kept_for_ever(ttl: float | None) -> None:
    """aiocache: `ttl=0` and None are "for ever"; a value without time is not kept here."""
    bench = Bench()
    await bench.memory.set("k", b"old", ttl=5.0)
    await bench.memory.set("k", b"v", ttl=ttl)
    assert await bench.memory.get("k") is None
    theirs = SimpleMemoryCache()
    await theirs.set("k", b"v", ttl=ttl)
    assert await theirs.get("k") == b"v", "the trap is still there"


async def test_no_timers_are_left_in_the_loop() -> None:
    """aiocache: one loop timer per key; `clear()` leaves them, to delete newer values later."""
    bench = Bench(max_entries=5000)
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]

    def timers() -> int:
        return sum(not timer.cancelled() for timer in scheduled)

    before = timers()
    for number in range(1000):
        await bench.shelf.put(str(number), b"v", 60.0)
    await bench.shelf.invalidate()
    assert timers() == before
    theirs = SimpleMemoryCache()
    await theirs.set("k", b"v", ttl=60)
    assert timers() == before + 1, "the trap is still there"
    await theirs.delete("k")


async def test_a_look_up_is_no_task() -> None:
    """aiocache's default `timeout=5` wraps each call in one: 19 µs against 4."""
    assert (BoundedMemory(1, 1, float).timeout, SimpleMemoryCache().timeout) == (0, 5)
    bench = Bench()
    get = bench.shelf.get("k")
    with pytest.raises(StopIteration):
        get.send(None)  # it never waits for the loop


async def test_the_rest_of_aiocaches_surface_keeps_the_same_values() -> None:
    bench = Bench()
    await bench.memory.set("a:1", b"v", ttl=5.0)
    await bench.memory.set("b:1", b"v", ttl=5.0)
    assert await bench.memory.exists("a:1")
    assert not await bench.memory.exists("c:1")
    await bench.memory.clear(namespace="a:")
    assert bench.memory.keys() == ["b:1"]
    assert await bench.memory.delete("b:1") == 1
    assert await bench.memory.delete("b:1") == 0
    await bench.memory.set("c:1", b"v", ttl=5.0)
    await bench.memory.clear()
    assert (len(bench.memory), bench.memory.bytes) == (0, 0)
    await settle()


# --- editions


async def token(shelf: Shelf, *scopes: str) -> str:
    edition = await shelf.edition(scopes)
    assert edition is not None
    return edition.token


JIRA = ("service:jira", "tool:look", "jira/look")
OTHER = ("service:salesforce", "tool:find", "salesforce/find")


async def test_the_edition_stays_until_something_is_invalid() -> None:
    bench = Bench()
    assert await token(bench.shelf, *JIRA) == await token(bench.shelf, *JIRA)


async def test_tokens_are_never_used_again() -> None:
    """DESIGN section 4: generations are random tokens."""
    bench, seen = Bench(), set()
    for number in range(500):
        seen.add(await token(bench.shelf, *JIRA))
        await bench.shelf.invalidate("tool:look" if number % 3 else "")
    assert len(seen) == 500


async def test_another_shelf_has_other_tokens() -> None:
    assert await token(Bench().shelf) != await token(Bench().shelf)


@pytest.mark.parametrize("scope", JIRA)
async def test_a_scope_that_is_invalid_touches_no_other(scope: str) -> None:
    bench = Bench()
    jira, other, bare = [await token(bench.shelf, *names) for names in (JIRA, OTHER, ())]
    await bench.shelf.invalidate(scope)
    assert await token(bench.shelf, *JIRA) != jira
    assert [await token(bench.shelf, *names) for names in (OTHER, ())] == [other, bare]


async def test_dropped_answers_are_counted_and_their_room_is_free() -> None:
    bench = Bench()
    await bench.shelf.put("jira/look\n1", b"v", 10.0)
    await bench.shelf.put("jira/find\n1", b"v", 10.0)
    await bench.shelf.put("tools/list\n1", b"v", 10.0)
    assert await bench.shelf.invalidate("jira/look") == 1
    assert await bench.shelf.invalidate("jira/look") == 0
    assert await bench.shelf.invalidate() == 2
    shown = bench.shelf.snapshot()
    assert (shown["entries"], shown["bytes"]) == (0, 0)


async def test_what_was_counted_stays_counted_after_an_invalidation() -> None:
    """A counter that goes back is read as a restart."""
    bench = Bench(max_entries=1)
    await bench.shelf.put("a", b"v", 10.0)
    await bench.shelf.put("b", b"v", 10.0)
    await bench.shelf.invalidate()
    assert bench.shelf.snapshot()["evicted"] == 1


async def test_what_is_kept_is_counted_by_tool() -> None:
    bench = Bench(max_entries=2)
    for key in ("jira/look\n1", "jira/look\n2", "jira/find\n1"):
        await bench.shelf.put(key, b"value", 10.0)
    size = bench.shelf.snapshot()["bytes"]
    assert bench.shelf.kept() == {
        "jira/look": {"entries": 1, "bytes": 316, "evicted": 1},
        "jira/find": {"entries": 1, "bytes": 316, "evicted": 0},
    }
    assert size == 632
    await bench.shelf.invalidate("jira/look")
    assert bench.shelf.kept()["jira/look"] == {"entries": 0, "bytes": 0, "evicted": 1}
    await bench.shelf.invalidate()
    assert {tally["entries"] for tally in bench.shelf.kept().values()} == {0}


async def test_counts_of_tools_without_end_are_bounded() -> None:
    """F43: those of which something is kept stay, and the others go."""
    bench = Bench(max_entries=3)
    for number in range(5000):
        await bench.shelf.put(f"jira/{number}\n1", b"value", 10.0)
    kept = bench.shelf.kept()
    assert len(kept) <= 1000
    assert sum(tally["entries"] for tally in kept.values()) == 3
    assert sum(tally["bytes"] for tally in kept.values()) == bench.shelf.snapshot()["bytes"]


async def test_scopes_without_end_are_forgotten_by_dropping_everything() -> None:
    """F46; dropping more than was asked for is always right."""
    bench = Bench()
    before = await token(bench.shelf)
    for number in range(1000):
        await bench.shelf.invalidate(f"tool:{number}")
    assert await token(bench.shelf) == before
    await bench.shelf.invalidate("tool:one more")
    assert await token(bench.shelf) != before
    assert bench.shelf._scopes == {}


async def test_in_a_quarantine_nothing_is_storable_and_the_longest_counts() -> None:
    """DESIGN section 4: MCP_CACHE_QUARANTINE."""
    bench = Bench()
    await bench.shelf.invalidate(quarantine=30.0)
    await bench.clock.advance(10)
    await bench.shelf.invalidate(quarantine=5.0)
    await bench.clock.advance(19.9)
    assert not (await bench.shelf.edition(())).storable
    await bench.clock.advance(0.1)
    assert (await bench.shelf.edition(())).storable
    assert (await bench.shelf.edition(JIRA)).storable


async def test_the_snapshot_shows_sizes_and_bounds() -> None:
    bench = Bench(max_entries=3, max_bytes=5000)
    await bench.shelf.put("k", b"value", 10.0)
    assert bench.shelf.snapshot() == {
        "store": "memory", "entries": 1, "bytes": 306, "max_entries": 3, "max_bytes": 5000,
        "evicted": 0,
        "invalidations": 0,
    }  # fmt: skip
    await bench.shelf.aclose()


@pytest.mark.parametrize(
    ("scope", "label", "inside"),
    [
        ("service:jira", "jira/look", True),
        ("tool:look", "jira/look", True),
        ("jira/look", "jira/look", True),
        ("tool:look", "/look", True),
        ("tool:a/b", "/a/b", True),
        ("service:jira", "salesforce/look", False),
        ("tool:jira", "jira/look", False),
        ("tool:tools", "tools:list", False),
    ],
)
def test_a_scope_is_told_by_its_name(scope: str, label: str, inside: bool) -> None:
    assert within(scope, label) is inside
