"""Real time, in the one place that knows it; and the tasks that must not be lost."""

import asyncio
import gc
import weakref
from datetime import UTC

import pytest

from mcp_proxy.layers.clock import SystemClock, Tasks
from tests.fakes import settle, within


def test_now_never_goes_back() -> None:
    """F49: a step of the wall clock shifts nothing."""
    clock = SystemClock()
    times = [clock.now() for _ in range(1000)]
    assert times == sorted(times)


def test_the_time_of_day_is_told_in_utc() -> None:
    assert SystemClock().wall().tzinfo is UTC


def test_the_epoch_is_the_same_time_of_day() -> None:
    clock = SystemClock()
    before, now, after = clock.wall().timestamp(), clock.epoch(), clock.wall().timestamp()
    assert before - 1e-3 <= now <= after + 1e-3


async def test_sleeping_for_nothing_lets_others_run() -> None:
    ran = asyncio.Event()
    asyncio.get_running_loop().call_soon(ran.set)
    await SystemClock().sleep(0)
    assert ran.is_set()


async def test_a_bounded_block_ends_in_a_timeout_error() -> None:
    with pytest.raises(TimeoutError):
        async with SystemClock().timeout(0):
            await within(asyncio.Event().wait())


async def test_a_task_that_nobody_holds_is_kept_until_it_is_done() -> None:
    """House style, section 8: the loop holds only a weak reference to a task."""
    tasks, go, done = Tasks(), asyncio.Event(), []

    async def work() -> None:
        await go.wait()
        done.append(True)

    kept = weakref.ref(tasks(work(), "work"))
    await settle()
    gc.collect()
    assert kept() is not None
    go.set()
    await settle()
    assert done == [True]
    gc.collect()
    assert kept() is None, "a finished task is let go of"


async def test_a_task_bears_its_name() -> None:
    tasks = Tasks()
    task = tasks(asyncio.Event().wait(), "health monitor")
    assert task.get_name() == "health monitor"
    await within(tasks.end())


async def test_the_end_cancels_what_runs_and_waits_until_it_has_stopped() -> None:
    tasks, tidied = Tasks(), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.get_running_loop().run_in_executor(None, tidied.append, True)

    task = tasks(work(), "work")
    await settle()
    await within(tasks.end())
    assert tidied == [True]
    assert task.cancelled()


async def test_the_end_survives_a_task_that_fails_while_it_ends() -> None:
    tasks = Tasks()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("tidying failed")

    tasks(work(), "work")
    await settle()
    await within(tasks.end())


async def test_the_end_of_nothing_is_nothing() -> None:
    await within(Tasks().end())
