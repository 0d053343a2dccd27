"""Bounded blocks: they end in time, alone, and without a trace."""

import asyncio

import pytest

from mcp_proxy.layers.timeouts import Bound, Timeouts, Together
from tests.fakes import settle, spawn, within
from tests.leaping import leap, leaping


async def hang(timeouts: Timeouts, seconds: float) -> str:
    try:
        async with timeouts.within(seconds):
            await asyncio.Event().wait()
    except TimeoutError:
        return "late"
    return "never"


def test_each_block_ends_at_its_own_time() -> None:
    async def blocks() -> None:
        timeouts = Timeouts()
        first = spawn(hang(timeouts, 10.0), "first")
        short = spawn(hang(timeouts, 3.0), "short")
        await leap(4)
        second = spawn(hang(timeouts, 10.0), "second")
        await leap(4)
        assert short.result() == "late"
        assert not first.done()
        await leap(2.5)
        assert first.result() == "late"
        assert not second.done()
        await leap(4)
        assert second.result() == "late"
        assert not timeouts._queues, "an unused length is forgotten"

    leaping(blocks)


def test_a_block_that_ends_in_time_is_left_alone() -> None:
    async def blocks() -> None:
        timeouts = Timeouts()
        go_on = asyncio.Event()

        async def quick() -> str:
            async with timeouts.within(10.0):
                await settle()
            await go_on.wait()
            return "quick"

        task = spawn(quick(), "quick")
        await leap(60)
        go_on.set()
        assert await task == "quick"
        assert task.cancelling() == 0

    leaping(blocks)


def test_what_a_block_raises_comes_out() -> None:
    async def blocks() -> None:
        with pytest.raises(ValueError, match="no"):
            async with Timeouts().within(10.0):
                raise ValueError("no")

    leaping(blocks)


def test_a_cancellation_from_outside_stays_one() -> None:
    """Also when the time is over in the same moment."""

    async def blocks() -> None:
        timeouts = Timeouts()
        for wait in (1, 20):
            task = spawn(hang(timeouts, 10.0), "cancelled")
            await settle()
            asyncio.get_running_loop().call_soon(task.cancel)
            await leap(wait)
            with pytest.raises(asyncio.CancelledError):
                await task

    leaping(blocks)


def test_a_block_whose_work_swallows_the_end_goes_on() -> None:
    async def blocks() -> None:
        timeouts = Timeouts()

        async def stubborn() -> str:
            async with timeouts.within(1.0):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    await settle()
            return "went on"

        task = spawn(stubborn(), "stubborn")
        await leap(2)
        assert await task == "went on"
        assert task.cancelling() == 0

    leaping(blocks)


def test_a_block_that_begins_late_has_its_time() -> None:
    """Its queue may have been forgotten meanwhile."""

    async def blocks() -> None:
        timeouts = Timeouts()
        late = timeouts.within(5.0)
        assert await spawn_and_leap(timeouts) == "late"

        async def begin() -> str:
            try:
                async with late:
                    await asyncio.Event().wait()
            except TimeoutError:
                return "late"
            return "never"

        task = spawn(begin(), "begin")
        other = spawn(hang(timeouts, 5.0), "other")
        await leap(6)
        assert (task.result(), other.result()) == ("late", "late")

    async def spawn_and_leap(timeouts: Timeouts) -> str:
        task = spawn(hang(timeouts, 5.0), "first")
        await leap(6)
        return await task

    leaping(blocks)


def test_outside_a_task_nothing_can_be_bounded() -> None:
    async def blocks() -> None:
        entering = Timeouts().within(1.0).__aenter__()
        failed: list[BaseException] = []

        def enter() -> None:
            try:
                entering.send(None)
            except BaseException as error:  # noqa: BLE001 - whatever it is
                failed.append(error)

        asyncio.get_running_loop().call_soon(enter)
        await settle()
        assert isinstance(failed[0], RuntimeError)

    leaping(blocks)


# --- blocks that end together


async def hang_together(together: Together) -> str:
    try:
        async with together.within():
            await asyncio.Event().wait()
    except TimeoutError:
        return "broken off"
    return "never"


async def test_blocks_end_together_and_those_to_come_at_once() -> None:
    together = Together()
    tasks = [spawn(hang_together(together), "block") for _ in range(3)]
    await settle()
    assert not any(task.done() for task in tasks)
    together.end()
    tasks.append(spawn(hang_together(together), "late"))
    assert [await within(task) for task in tasks] == ["broken off"] * 4
    assert [task.cancelling() for task in tasks] == [0] * 4
    assert together.over


async def test_a_block_that_is_over_is_not_broken_off() -> None:
    together, go_on = Together(), asyncio.Event()

    async def quick() -> str:
        async with together.within():
            await settle()
        await go_on.wait()
        return "quick"

    task = spawn(quick(), "quick")
    await settle()
    await settle()
    together.end()
    go_on.set()
    assert await within(task) == "quick"


async def test_a_block_in_a_block_leaves_the_outer_ones_end_to_it() -> None:
    inner, outer = Together(), Together()

    async def both() -> str:
        try:
            async with outer.within():
                return await hang_together(inner)
        except TimeoutError:
            return "outer"

    task = spawn(both(), "both")
    await settle()
    outer.end()
    inner.end()
    assert await within(task) == "outer"
    assert task.cancelling() == 0


async def test_a_block_that_may_not_end_now_is_left_to_its_owner() -> None:
    """As a stream in the midst of an event is; the others end (edge/listening)."""

    class InTheMidst(Bound):
        may_end = False

    together, go_on = Together(), asyncio.Event()

    async def in_the_midst() -> str:
        async with InTheMidst(together):
            await go_on.wait()
        return "whole"

    kept = spawn(in_the_midst(), "kept")
    other = spawn(hang_together(together), "other")
    await settle()
    together.end()
    assert await within(other) == "broken off"
    go_on.set()
    assert await within(kept) == "whole"
