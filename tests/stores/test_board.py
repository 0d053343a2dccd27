"""What one worker makes invalid, as the others see it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_proxy.core.shelf import Shelf
from mcp_proxy.stores import board as module
from mcp_proxy.stores.board import Board, BoardShelf, Notice
from mcp_proxy.stores.memory import MemoryShelf
from tests.fakes import FakeClock, settle, spawn, within


class Bench:
    """Some workers and their supervisor, each with its own view of one piece of memory."""

    def __init__(self, room: Path, workers: int = 2) -> None:
        self.room = str(room)
        self.clock = FakeClock()
        self.writers = workers + 1
        self.shelves = [self.shelf(index) for index in range(workers)]
        self.supervisor = self.board(workers)

    def board(self, index: int) -> Board:
        return Board(self.room, self.writers, index, self.clock.now)

    def shelf(self, index: int) -> BoardShelf:
        memory = MemoryShelf(100, 1 << 20, self.clock.now, self.clock.epoch)
        return BoardShelf(memory, self.board(index), spawn)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def put(shelf: Shelf, scopes: tuple[str, ...] = ()) -> str:
    """Keep an answer under the present edition; return its token."""
    edition = await shelf.edition(scopes)
    assert edition is not None
    await shelf.put(f"s/t\n{edition.token}x", b"v", 100.0)
    return edition.token


async def token(shelf: Shelf, scopes: tuple[str, ...] = ()) -> str:
    edition = shelf.glance(scopes)
    assert edition is not None
    assert edition == await shelf.edition(scopes)
    return edition.token


async def test_an_invalidation_is_seen_by_the_others_at_once(bench: Bench) -> None:
    here, there = bench.shelves
    before = await put(there)
    assert await within(here.invalidate()) == 0, "its own memory was empty"
    assert await token(there) != before
    assert there.snapshot()["entries"] == 0, "what nobody asks for any more is dropped"
    assert (here.snapshot()["invalidations"], there.snapshot()["invalidations"]) == (1, 0)


async def test_nothing_changes_where_nothing_was_told(bench: Bench) -> None:
    here, there = bench.shelves
    before = await put(here)
    other = await put(there)
    assert (await token(here), await token(there)) == (before, other)
    await within(here.invalidate())
    assert await token(here) == await token(here), "who tells it hears it not again"


async def test_a_narrow_invalidation_is_narrow_for_all(bench: Bench) -> None:
    here, there = bench.shelves
    jira, rest = ("service:jira",), ("service:s",)
    before = await token(there, jira), await token(there, rest)
    await within(here.invalidate("service:jira"))
    assert await token(there, jira) != before[0]
    assert await token(there, rest) == before[1]


async def test_what_is_unknown_is_not_kept_by_anybody_for_a_while(bench: Bench) -> None:
    here, there = bench.shelves
    await within(here.invalidate("", 30.0))
    await bench.clock.advance(10)
    edition = there.glance(())
    assert edition is not None
    assert not edition.storable, "heard late, it is as long as it was meant to be"
    await bench.clock.advance(19.9)
    assert not there.glance(()).storable  # type: ignore[union-attr]
    await bench.clock.advance(0.1)
    assert there.glance(()).storable  # type: ignore[union-attr]


async def test_a_clear_by_age_is_for_all(bench: Bench) -> None:
    here, there = bench.shelves
    await put(there)
    await bench.clock.advance(5)
    await within(here.expire(bench.clock.epoch() - 10))
    assert there.snapshot()["entries"] == 1
    await within(here.expire(bench.clock.epoch() - 1))
    assert there.snapshot()["entries"] == 0


async def test_who_is_far_behind_drops_everything(bench: Bench) -> None:
    here, there = bench.shelves
    before = await token(there)
    for _ in range(module._KEPT + 1):
        await within(here.invalidate("service:jira"))
    assert await token(there) != before


async def test_a_scope_that_is_too_long_is_everything(bench: Bench) -> None:
    here, there = bench.shelves
    before = await token(there)
    await within(here.invalidate("tool:" + "x" * 600))
    assert await token(there) != before


async def test_a_worker_in_the_place_of_a_dead_one_counts_on(bench: Bench) -> None:
    here, there = bench.shelves
    await within(here.invalidate())
    before = await token(there)
    again = bench.shelf(0)
    await within(again.invalidate())
    assert await token(there) != before


async def test_the_supervisor_drops_what_a_dead_worker_may_have_changed(bench: Bench) -> None:
    before = [await token(shelf) for shelf in bench.shelves]
    bench.supervisor.write(Notice(quarantine=30.0))
    for shelf, known in zip(bench.shelves, before, strict=True):
        assert await token(shelf) != known
        assert not shelf.glance(()).storable  # type: ignore[union-attr]


async def test_a_notice_that_was_overwritten_meanwhile_is_everything(bench: Bench) -> None:
    here, there = bench.shelves
    await token(there)
    await within(here.invalidate("service:jira"))
    board = bench.board(2)
    at = board._place(0, 0) + 20
    board._memory[at : at + 1] = b"\xff"
    before = await token(here, ("service:s",))
    news = [*there._board.news()]
    assert news == [Notice()]
    assert await token(here, ("service:s",)) == before


async def test_a_caller_who_leaves_does_not_stop_it_half_way(bench: Bench) -> None:
    here, there = bench.shelves
    before = await token(there)
    leaving = asyncio.ensure_future(here.invalidate())  # noqa: TID251 - to be cancelled
    await asyncio.sleep(0)  # noqa: TID251 - let it begin
    leaving.cancel()
    await settle()
    assert await token(there) != before


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["look", "", "a/b", "service:a", "tool:b"])),
        max_size=200,
    )
)
def test_whoever_looks_has_seen_all_that_was_told(
    tmp_path_factory: Any, steps: list[tuple[int, str]]
) -> None:
    """Whatever the order of tellers and lookers, and however far anybody is behind."""

    async def played() -> None:
        bench = Bench(tmp_path_factory.mktemp("room"), 3)
        scopes = ("service:a", "tool:b", "a/b")
        last = [await token(shelf, scopes) for shelf in bench.shelves]
        changed = [False] * 3
        for who, what in steps:
            if what == "look":
                now = await token(bench.shelves[who], scopes)
                assert (now != last[who]) == changed[who]
                last[who], changed[who] = now, False
            else:
                await bench.shelves[who].invalidate(what)
                changed = [True] * 3
        for shelf in bench.shelves:
            await shelf.aclose()

    asyncio.run(played())
