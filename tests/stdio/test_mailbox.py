"""What waits to be told: all of it in order, and never too much of it."""

import asyncio

import pytest

from mcp_proxy.stdio.mailbox import BrokenError, Mailbox


async def test_messages_come_in_order_and_the_last_is_known_as_such() -> None:
    box = Mailbox()
    assert box.put(b"one")
    box.end(b"two")
    assert not box.put(b"late")
    assert (await box.get(), box.is_at_its_end) == (b"one", False)
    assert (await box.get(), box.is_at_its_end) == (b"two", True)
    assert await box.get() is None


async def test_there_is_room_for_so_many_and_always_for_the_last() -> None:
    box = Mailbox()
    assert [box.put(b"x") for _ in range(257)] == [True] * 256 + [False]
    box.end(b"last")
    assert [await box.get() for _ in range(257)] == [b"x"] * 256 + [b"last"]


async def test_there_is_room_for_so_many_bytes_and_always_for_one_message() -> None:
    box = Mailbox()
    assert box.put(b"x" * (5 << 20))
    assert not box.put(b"x")
    await box.get()
    assert box.put(b"x")


async def test_who_waits_hears_of_the_end() -> None:
    box = Mailbox()
    waiting = asyncio.ensure_future(box.get())
    await asyncio.sleep(0)
    box.end()
    assert await waiting is None


async def test_what_broke_is_told_after_what_is_there_and_not_after_the_last() -> None:
    box = Mailbox()
    box.put(b"one")
    box.fail()
    assert (await box.get(), box.is_at_its_end) == (b"one", False)
    with pytest.raises(BrokenError):
        await box.get()
    answered = Mailbox()
    answered.end(b"answer")
    answered.fail()
    assert [await answered.get(), await answered.get()] == [b"answer", None]
