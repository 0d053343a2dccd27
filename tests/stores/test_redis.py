"""Answers in Redis, against a real one: shared, and never a caller's trouble (F24)."""

import asyncio
import shutil
import signal

import pytest
from redis.asyncio import BlockingConnectionPool

from mcp_proxy.core.shelf import Edition
from mcp_proxy.stores.redis import TIMEOUT, RedisShelf, moment
from tests.fakes import FakeClock, Told, settle, spawn, within
from tests.stores.conftest import Bench, Gated, Server, known

pytestmark = [
    pytest.mark.redis,
    pytest.mark.skipif(
        shutil.which("redis-server") is None, reason="redis-server is not installed"
    ),
]
JIRA = ("service:jira", "tool:look", "jira/look")


# --- keeping


async def test_bytes_come_back_as_they_were(bench: Bench) -> None:
    """aiocache's default serializer decodes UTF-8."""
    shelf = bench.shelf()
    await known(shelf)
    for value in (b"", b"\x00\xff\xfe", b"x" * 1_000_000):
        await shelf.put("k", value, 5.0)
        assert await shelf.get("k") == value
    await shelf.delete("k")
    assert await shelf.get("k") is None
    assert bench.told.events == []


@pytest.mark.parametrize("seconds", [300, 300.0, 0.25])
async def test_each_value_has_its_end(bench: Bench, seconds: float) -> None:
    """aiocache sends a whole number as seconds and a fraction as milliseconds."""
    shelf = bench.shelf()
    await known(shelf)
    await shelf.put("k", b"v", seconds)
    with bench.server.raw() as raw:
        left = raw.pttl(shelf._prefix + "k")
    assert seconds * 1000 - 200 < left <= seconds * 1000


async def test_sidecars_of_one_upstream_share_and_those_of_others_do_not(bench: Bench) -> None:
    """DESIGN section 4: unrelated sidecars on one Redis never share."""
    one, two, other = bench.shelf(), bench.shelf(), bench.shelf("other")
    await known(two)
    edition = await known(one)
    assert (await known(two)).token == edition.token
    assert (await known(other)).token != edition.token
    await one.put("k", b"v", 5.0)
    assert (await two.get("k"), await other.get("k")) == (b"v", None)


async def test_keys_of_others_are_never_touched(bench: Bench) -> None:
    """aiocache's `clear()` is FLUSHDB, with a namespace KEYS and DEL (#580, #479, #523)."""
    with bench.server.raw() as raw:
        raw.flushall()
        raw.config_resetstat()
        raw.set("somebody else's", b"1")
        shelf = bench.shelf()
        await known(shelf, *JIRA)
        await shelf.put("k", b"v", 5.0)
        for scope in ("", *JIRA):
            await shelf.invalidate(scope, 5.0)
        await known(shelf, *JIRA)
        await shelf.delete("k")
        assert raw.get("somebody else's") == b"1"
        keys: list[bytes] = raw.keys("*")
        assert all(key.startswith(b"{mcp-sidecar:") for key in keys if not key.startswith(b"some"))
        ran = {name.removeprefix("cmdstat_") for name in raw.info("commandstats")}
    assert not ran & {"flushdb", "scan", "unlink", "eval"}


async def test_all_keys_of_an_upstream_lie_in_one_slot_of_a_cluster(bench: Bench) -> None:
    """MGET over several slots is an error in a cluster: the braces keep them together."""
    prefix = bench.shelf()._prefix
    assert prefix.startswith("{")
    assert prefix.endswith("}:")


# --- editions


async def test_an_invalidation_is_seen_by_all_at_once(bench: Bench) -> None:
    """DESIGN section 4: Redis readers see an invalidation at once."""
    one, two = bench.shelf(), bench.shelf()
    await known(one)
    before = await known(two)
    await one.invalidate()
    after = await known(two)
    assert after.token != before.token
    assert (await known(one)).token == after.token


@pytest.mark.parametrize("scope", JIRA)
async def test_a_scope_that_is_invalid_touches_no_other(bench: Bench, scope: str) -> None:
    one, two = bench.shelf(), bench.shelf()
    await known(two)
    jira, bare = await known(one, *JIRA), await known(one)
    await two.invalidate(scope)
    assert (await known(one, *JIRA)).token != jira.token
    assert (await known(one)).token == bare.token


async def test_a_quarantine_holds_for_all_and_ends(bench: Bench) -> None:
    one, two = bench.shelf(), bench.shelf()
    await known(two)
    assert (await known(one)).storable
    await one.invalidate(quarantine=30)
    assert [(await known(shelf)).storable for shelf in (one, two)] == [False, False]
    await two.invalidate()
    await bench.clock.advance(29.9)
    assert [(await known(shelf)).storable for shelf in (one, two)] == [False, False]
    await bench.clock.advance(0.1)
    assert [(await known(shelf)).storable for shelf in (one, two)] == [True, True]


async def test_nobody_can_see_a_new_token_and_not_the_quarantine(bench: Bench) -> None:
    """What is stored between the two would be an old answer for its whole lifetime."""
    shelf = bench.shelf()
    await known(shelf)
    with bench.server.raw() as raw, raw.monitor() as monitor:
        await shelf.invalidate(quarantine=30.0)
        while not (sent := monitor.next_command()["command"]).startswith("HSET"):
            pass
    assert "generation " in sent
    assert "quarantine " in sent


async def test_a_token_that_is_missing_is_replaced_by_a_fresh_one(bench: Bench) -> None:
    """DESIGN section 4; an eviction must not bring the answers of long ago back."""
    shelf = bench.shelf()
    before = await known(shelf)
    with bench.server.raw() as raw:
        raw.delete(shelf._generations)
    after = await known(shelf)
    assert after.token
    assert after.token != before.token


async def test_an_eviction_revives_nothing_and_ends_no_quarantine(bench: Bench) -> None:
    """All tokens go together: what was cleared by a scope of its own stays void."""
    shelf = bench.shelf()
    first = await known(shelf, "key:a")
    await shelf.invalidate("key:a", quarantine=30.0)
    assert not (await known(shelf)).storable
    with bench.server.raw() as raw:
        raw.delete(shelf._generations)
    after = await known(shelf, "key:a")
    assert (first.token in after.token, after.storable) == (False, False)
    await bench.clock.advance(30.0)
    assert (await known(shelf)).storable


async def test_scopes_without_end_are_forgotten_by_dropping_everything(bench: Bench) -> None:
    """F46: callers make scopes; dropping more than was asked for is always right."""
    one, two = bench.shelf(), bench.shelf()
    await known(two)
    await one.invalidate(quarantine=30.0)
    await one.expire(500.0)
    before = await known(one)
    with bench.server.raw() as raw:
        raw.hset(one._generations, mapping={f"key:{number}": "t" for number in range(1000)})
        after = await known(one, "key:1")
        assert raw.hlen(one._generations) == 3
    assert before.token not in after.token
    assert "t" not in after.token
    assert after == await known(two, "key:1")
    assert (after.storable, after.since) == (False, 500.0)


async def test_a_start_writes_a_new_token_before_it_reads(bench: Bench) -> None:
    """A sidecar that was away may have missed to tell of a write."""
    before = await known(bench.shelf())
    assert (await known(bench.shelf())).token != before.token


@pytest.mark.parametrize("kind", ["bytes", "text"])
async def test_garbage_in_place_of_a_token_is_no_trouble(bench: Bench, kind: str) -> None:
    shelf = bench.shelf()
    await known(shelf)
    for work in (shelf.invalidate, lambda: shelf.expire(1.0), lambda: known(shelf)):
        with bench.server.raw() as raw:
            if kind == "bytes":
                raw.hset(shelf._generations, mapping={b"generation": b"\xff", b"\xff": b"\xfe"})
            else:
                raw.delete(shelf._generations)
                raw.set(shelf._generations, b"text")
        await within(work())
        assert (await known(shelf)).token
    assert bench.told.events == []


async def test_garbage_in_place_of_a_value_is_a_miss(bench: Bench) -> None:
    shelf = bench.shelf()
    await known(shelf)
    with bench.server.raw() as raw:
        raw.rpush(shelf._prefix + "k", b"1")
    assert await shelf.get("k") is None


# --- trouble


async def test_a_redis_that_was_never_there_troubles_nobody(own_server: Server) -> None:
    """F50: start anyway when only dependencies are missing. F42: no password in an event."""
    own_server.stop()
    clock, told = FakeClock(), Told()
    url = f"redis://:s3cret@127.0.0.1:{own_server.port}/0"
    shelf = RedisShelf(url, "old", clock.now, told, spawn, epoch=clock.epoch, sleep=clock.sleep)
    for _ in range(3):
        assert await within(shelf.edition(JIRA)) is None
        assert await within(shelf.get("k")) is None
        await within(shelf.put("k", b"v", 5.0))
        await within(shelf.delete("k"))
        await within(shelf.invalidate())
        await clock.advance(2)
    await within(shelf.aclose())
    assert shelf.snapshot()["up"] is False
    [(event, level, fields)] = told.events
    assert (event, level) == ("store.state_changed", "error")
    assert fields == {
        "store": "redis", "before": "up", "after": "down", "reason": "ConnectionError",
    }  # fmt: skip


async def test_a_frozen_redis_costs_its_limit_once_and_then_nothing(rough: Bench) -> None:
    """F24: 50 ms for the first, and while it is in trouble it is not asked."""
    rough.timeout = TIMEOUT
    shelf = rough.shelf()
    rough.server.send(signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await within(shelf.edition(JIRA), 1) is None  # aiocache's default would be 5 s
    assert 0.04 < loop.time() - began < 1
    failures = shelf.snapshot()["failures"]
    for _ in range(100):
        assert await shelf.edition(JIRA) is None
        await shelf.put("k", b"v", 5.0)
        await shelf.invalidate()
    assert shelf.snapshot()["failures"] == failures, "it was not asked"
    await rough.clock.advance(1)
    assert await within(shelf.edition(JIRA), 1) is None
    assert shelf.snapshot()["failures"] == failures + 1, "asked once a second"
    assert rough.told.names() == ["store.state_changed"], "one event for one change"
    rough.server.send(signal.SIGCONT)


async def test_many_who_find_it_frozen_wait_together_and_not_one_after_the_other(
    rough: Bench,
) -> None:
    shelf = rough.shelf()
    rough.server.send(signal.SIGSTOP)
    found = await within(asyncio.gather(*(shelf.edition(JIRA) for _ in range(200))), 2)
    assert found == [None] * 200
    rough.server.send(signal.SIGCONT)


async def test_a_redis_that_thaws_is_used_again_by_itself(rough: Bench) -> None:
    shelf = rough.shelf()
    edition = await known(shelf)
    await shelf.put(edition.token, b"old", 60.0)
    rough.server.send(signal.SIGSTOP)
    assert await shelf.edition(()) is None
    rough.server.send(signal.SIGCONT)
    assert await shelf.edition(()) is None, "not before its pause is over"
    await rough.clock.advance(1)
    after = await known(shelf)
    assert after.token != edition.token, "an invalidation may have been missed"
    await shelf.put(after.token, b"new", 60.0)
    assert await shelf.get(after.token) == b"new"
    assert shelf.snapshot()["up"] is True
    assert [(level, fields["after"]) for _, level, fields in rough.told.events] == [
        ("error", "down"),
        ("info", "up"),
    ]


async def test_a_redis_that_is_restarted_is_used_again_by_itself(rough: Bench) -> None:
    shelf = rough.shelf()
    before = await known(shelf)
    rough.server.stop()
    assert await within(shelf.edition(())) is None
    rough.server.start()
    await rough.clock.advance(1)
    assert (await known(shelf)).token != before.token
    await shelf.put("k", b"v", 5.0)
    assert await shelf.get("k") == b"v"


async def test_a_redis_that_is_full_is_a_miss(rough: Bench) -> None:
    """F24: full. A write that is lost must not leave an old token behind."""
    shelf = rough.shelf()
    before = await known(shelf)
    with rough.server.raw() as raw:
        raw.config_set("maxmemory", 1)
        await shelf.invalidate()
        await rough.clock.advance(1)
        assert await shelf.edition(()) is None
        raw.config_set("maxmemory", 0)
    await rough.clock.advance(1)
    assert (await known(shelf)).token != before.token


async def test_an_invalidation_that_redis_missed_comes_before_the_next_read(rough: Bench) -> None:
    """DESIGN section 4: after Redis trouble a new token precedes any read. F36."""
    shelf, other = rough.shelf(), rough.shelf()
    await known(other)
    before = await known(shelf)
    rough.server.send(signal.SIGSTOP)
    await within(shelf.invalidate(quarantine=30.0))
    rough.server.send(signal.SIGCONT)
    await rough.clock.advance(1)
    after = await known(shelf)
    assert (after.token != before.token, after.storable) == (True, False)
    seen = await known(other)
    assert (seen.token, seen.storable) == (after.token, False)


async def test_nobody_reads_while_the_new_token_is_on_its_way(bench: Bench) -> None:
    shelf = bench.shelf(kind=Gated)
    assert isinstance(shelf, Gated)
    before = await known(shelf)
    shelf._debts += 1
    shelf.let.clear()
    readers = [spawn(shelf.edition(()), "reader") for _ in range(20)]
    await settle()
    assert not any(reader.done() for reader in readers)
    shelf.let.set()
    found = await within(asyncio.gather(*readers))
    assert before.token not in {edition.token for edition in found if edition}
    assert len({edition.token for edition in found if edition}) == 1
    assert shelf.renewals == 2, "the first token, and one for all who waited"


async def test_a_reader_that_leaves_while_it_pays_leaves_the_debt(bench: Bench) -> None:
    shelf = bench.shelf(kind=Gated)
    assert isinstance(shelf, Gated)
    before = await known(shelf)
    shelf._debts += 1
    shelf.let.clear()
    leaver = spawn(shelf.edition(()), "leaver")
    await settle()
    leaver.cancel()
    await settle()
    shelf.let.set()
    assert leaver.cancelled()
    assert (await known(shelf)).token != before.token


async def test_a_writer_that_leaves_does_not_stop_its_invalidation(bench: Bench) -> None:
    """An old answer after a write."""
    shelf = bench.shelf(kind=Gated)
    assert isinstance(shelf, Gated)
    before = await known(shelf)
    shelf.let.clear()
    leaver = spawn(shelf.invalidate(quarantine=30.0), "leaver")
    await settle()
    leaver.cancel()
    await settle()
    shelf.let.set()

    async def renewed() -> Edition:
        while (edition := await known(shelf)).token == before.token:
            await settle()
        return edition

    assert not (await within(renewed())).storable


async def test_an_invalidation_that_is_stopped_leaves_a_debt(bench: Bench) -> None:
    """An old answer after a write: a cancelled command may never have been sent."""
    shelf = bench.shelf(kind=Gated)
    assert isinstance(shelf, Gated)
    before = await known(shelf)
    shelf.let.clear()
    stopped = spawn(shelf._invalidate("", 30.0), "stopped")
    await settle()
    stopped.cancel()
    await settle()
    shelf.let.set()
    after = await known(shelf)
    assert (after.token != before.token, after.storable) == (True, False)


async def test_a_debt_that_is_made_while_another_is_paid_is_paid_as_well(bench: Bench) -> None:
    shelf = bench.shelf(kind=Gated)
    assert isinstance(shelf, Gated)
    await known(shelf)
    shelf._debts += 1
    shelf.let.clear()
    reader = spawn(shelf.edition(()), "reader")
    await settle()
    writer = spawn(shelf._invalidate("", 30.0), "writer")
    await settle()
    writer.cancel()
    await settle()
    shelf.let.set()
    first = await within(reader)
    after = await known(shelf)
    assert first is not None
    assert (after.token != first.token, after.storable) == (True, False)


async def test_what_was_stored_before_a_moment_is_void_for_all(bench: Bench) -> None:
    """`POST /api/cache/clear` with `older_than`: one value, whatever the number of answers."""
    one, two = bench.shelf(), bench.shelf()
    assert (await known(one)).since == 0.0
    await one.expire(1234.5)
    assert (await known(two)).since == 1234.5


async def test_clears_by_age_never_go_back(bench: Bench) -> None:
    """Also when two sidecars clear at the same moment: Redis itself compares."""
    one, two = bench.shelf(), bench.shelf()
    await known(one)
    await asyncio.gather(*(shelf.expire(m) for shelf, m in ((one, 7.5), (two, 9.5), (one, 8.5))))
    await two.expire(3.0)
    assert (await known(one)).since == 9.5


async def test_while_redis_is_in_trouble_that_clears_all(rough: Bench) -> None:
    shelf = rough.shelf()
    before = await known(shelf)
    rough.server.send(signal.SIGSTOP)
    await within(shelf.expire(1.0))
    rough.server.send(signal.SIGCONT)
    await rough.clock.advance(2)
    assert (await known(shelf)).token != before.token


@pytest.mark.parametrize(("said", "when"), [(None, 0.0), (b"", 0.0), (b"x", 0.0), (b"1.5", 1.5)])
def test_a_moment_that_cannot_be_read_is_long_ago(said: bytes | None, when: float) -> None:
    assert moment(said) == when


async def test_closing_never_fails(rough: Bench) -> None:
    shelf = rough.shelf()
    await known(shelf)
    rough.server.send(signal.SIGSTOP)
    await within(shelf.aclose(), 1)
    rough.server.send(signal.SIGCONT)
    shelf = rough.shelf()
    await known(shelf)
    rough.server.stop()
    await within(shelf.aclose(), 1)


# --- the libraries' own ways, kept from us


async def test_the_defaults_of_the_libraries_are_not_ours(server: Server) -> None:
    """Libraries notes 4 and 5: 5 s and ten retries, a pool of 100 that raises on the next."""
    shelf = RedisShelf(
        server.url,
        "old",
        FakeClock().now,
        Told(),
        spawn,
        epoch=FakeClock().epoch,
        sleep=FakeClock().sleep,
    )
    assert shelf._redis.timeout == 0.05
    assert shelf._redis.serializer.DEFAULT_ENCODING is None
    assert shelf._redis.namespace is None
    pool = shelf._redis.client.connection_pool
    assert isinstance(pool, BlockingConnectionPool)
    given = pool.connection_kwargs
    assert (given["socket_timeout"], given["socket_connect_timeout"]) == (0.05, 0.05)
    assert given["retry"].get_retries() == 0
    assert (pool.max_connections, pool.timeout) == (20, 0.05)
    await within(shelf.aclose())
