"""Work that begins in its caller's task, and goes on there if it has to wait."""

import asyncio

import pytest

from mcp_proxy.layers.eager import Begun
from tests.fakes import settle, spawn, within


async def test_work_without_a_pause_is_done_at_once() -> None:
    async def work() -> str:
        return "done"

    assert Begun(work()).result == "done"


async def test_what_fails_before_its_first_pause_fails_at_once() -> None:
    async def work() -> str:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Begun(work())


async def test_work_that_waits_goes_on_when_it_is_awaited() -> None:
    seen = []

    async def work() -> str:
        for number in range(3):
            seen.append(number)
            await asyncio.sleep(0)  # noqa: TID251 - a pause, no time
        return "done"

    begun = Begun(work())
    assert (begun.result, seen) == (None, [0])
    assert await within(begun_result(begun)) == "done"
    assert seen == [0, 1, 2]


async def begun_result(begun: Begun[str]) -> str:
    return await begun


async def test_it_waits_for_futures_and_gets_their_results() -> None:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> str:
        try:
            return await future
        except ValueError as error:
            await asyncio.sleep(0)  # noqa: TID251 - a pause, no time
            return f"mended {error}"

    async def both() -> str:
        return await Begun(work())

    waiting = spawn(both(), "waiting")
    await settle()
    future.set_result("heard")
    assert await within(waiting) == "heard"
    future = asyncio.get_running_loop().create_future()
    waiting = spawn(both(), "waiting")
    await settle()
    future.set_exception(ValueError("it"))
    assert await within(waiting) == "mended it"


async def test_a_cancellation_reaches_the_work() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def both() -> None:
        await Begun(work())

    waiting = spawn(both(), "waiting")
    await settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(waiting)
    assert ended == [True]


async def test_work_that_is_given_up_is_tidied_up() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    Begun(work()).close()
    assert ended == [True]
