"""Identical calls that are in flight together share one answer; who leaves takes nobody down."""

import asyncio
from dataclasses import replace

import pytest

from mcp_proxy.core.call import CacheNote, Call, Delivery, Reply, Stream, Whole
from mcp_proxy.core.errors import DeadlineExceededError, ProxyError, UpstreamTimeoutError
from mcp_proxy.core.intent import Intent
from mcp_proxy.core.message import Message
from mcp_proxy.layers.coalesce import Coalesce
from tests.fakes import (
    KEPT,
    READ,
    FakeClock,
    Feed,
    Script,
    call,
    error_of,
    read,
    reply,
    rest_tool,
    rpc,
    settle,
    spawn,
    streamed,
    tool,
    within,
)

COLLAPSED = CacheNote(collapsed=True)


def asked(
    message: Message | None = None, *, key: str | None = "k", intent: Intent = KEPT, **headers: str
) -> Call:
    return call(intent, message or tool(), headers=headers)._replace(key=key)


def answer(request_id: object = 1, text: str = "x") -> Reply:
    body = b'{"jsonrpc":"2.0","id":%s,"result":{"text":"%s"}}'
    return reply(body=body % (str(request_id).encode(), text.encode()))


def data(told: Reply) -> bytes:
    assert isinstance(told.body, Whole)
    return told.body.data


class Gate:
    """An origin whose answers come when the test says so."""

    def __init__(self, *outcomes: Reply | BaseException) -> None:
        self._outcomes = list(outcomes) or [answer()]
        self.opened = asyncio.Event()
        self.tidied = asyncio.Event()
        self.tidied.set()
        self.calls: list[Call] = []
        self.left = 0

    async def __call__(self, call: Call) -> Reply:
        self.calls.append(call)
        outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            await self.tidied.wait()
            self.left += 1
            raise
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


class Bench:
    """A Coalesce, and callers that run beside each other."""

    def __init__(self, seconds: float = 300.0) -> None:
        self.clock = FakeClock()
        self.coalesce = Coalesce(seconds, self.clock, spawn, 1 << 20)

    async def start(self, origin: Gate, *calls: Call) -> list[asyncio.Task[Reply]]:
        tasks = [spawn(self.coalesce(one, origin), "caller") for one in calls]
        await settle()
        return tasks

    @property
    def flights(self) -> int:
        return len(self.coalesce._flights)


# --- sharing


async def test_two_hundred_together_ask_once() -> None:
    """F30: 200 together -> 1 upstream."""
    bench, origin = Bench(), Gate()
    tasks = await bench.start(origin, *(asked(tool(request_id=n)) for n in range(1, 201)))
    assert len(origin.calls) == 1
    origin.opened.set()
    told = await within(asyncio.gather(*tasks))
    assert len(origin.calls) == 1
    assert [one.cache for one in told] == [None] + [COLLAPSED] * 199
    assert bench.flights == 0


async def test_each_caller_gets_its_own_id_with_its_type() -> None:
    """F15: shared answers get the caller's id, type kept."""
    bench, origin = Bench(), Gate(answer(7))
    tasks = await bench.start(
        origin, *(asked(tool(request_id=one)) for one in (7, "7", 8, "a\nb", 2**53))
    )
    origin.opened.set()
    told = [data(one) for one in await within(asyncio.gather(*tasks))]
    rest = b',"result":{"text":"x"}}'
    ids = (b"7", b'"7"', b"8", b'"a\\nb"', b"9007199254740992")
    assert told == [b'{"jsonrpc":"2.0","id":' + one + rest for one in ids]


async def test_a_rest_answer_is_the_same_for_all() -> None:
    bench, origin = Bench(), Gate(reply(body=b'{"success":true}'))
    tasks = await bench.start(origin, *(asked(rest_tool()) for _ in range(3)))
    origin.opened.set()
    assert {data(one) for one in await within(asyncio.gather(*tasks))} == {b'{"success":true}'}


async def test_a_follower_that_reads_events_gets_an_event() -> None:
    bench, origin = Bench(), Gate()
    tasks = await bench.start(origin, asked(), asked(Accept="text/event-stream"))
    origin.opened.set()
    _, told = await within(asyncio.gather(*tasks))
    assert told.headers["Content-Type"] == "text/event-stream"
    assert data(told) == b"event: message\r\ndata: " + data(answer()) + b"\r\n\r\n"


async def test_an_answer_whose_id_cannot_be_told_is_not_shared() -> None:
    """F15: a mismatching answer never reaches another caller."""
    bench, origin = Bench(), Gate(answer(99), answer(2))
    tasks = await bench.start(origin, asked(tool(request_id=1)), asked(tool(request_id=2)))
    origin.opened.set()
    told = await within(asyncio.gather(*tasks))
    assert data(told[1]) == data(answer(2))
    assert len(origin.calls) == 2


@pytest.mark.parametrize(
    "single",
    [asked(key=None), asked(intent=READ), asked(intent=replace(KEPT, collapsible=False))],
    ids=["no key", "not kept", "with a progress token"],
)
async def test_what_may_not_be_shared_is_asked_for_each_caller(single: Call) -> None:
    """DESIGN section 4, third column."""
    bench, origin = Bench(), Gate()
    await bench.start(origin, single, single)
    assert len(origin.calls) == 2
    origin.opened.set()


async def test_other_keys_are_other_flights() -> None:
    """Identity and generation are part of the key: nobody joins a flight of before a write."""
    bench, origin = Bench(), Gate()
    tasks = await bench.start(origin, asked(key="a"), asked(key="b"))
    assert (len(origin.calls), bench.flights) == (2, 2)
    origin.opened.set()
    await within(asyncio.gather(*tasks))


async def test_who_comes_after_the_landing_begins_a_flight_of_its_own() -> None:
    bench, origin = Bench(), Gate()
    origin.opened.set()
    for _ in range(2):
        assert (await within(bench.coalesce(asked(), origin))).cache is None
    assert len(origin.calls) == 2


# --- leaving


async def test_a_leader_that_leaves_does_not_take_followers_down() -> None:
    """F30: the leader's cancel is not theirs."""
    bench, origin = Bench(), Gate()
    leader, *followers = await bench.start(origin, asked(), asked(), asked())
    leader.cancel()
    await settle()
    assert leader.cancelled()
    origin.opened.set()
    told = await within(asyncio.gather(*followers))
    assert len(origin.calls) == 1
    assert [one.cache for one in told] == [None, COLLAPSED], "one of them stores the answer"


async def test_a_follower_that_leaves_does_not_take_the_others_down() -> None:
    bench, origin = Bench(), Gate()
    leader, leaver, follower = await bench.start(origin, asked(), asked(), asked())
    leaver.cancel()
    await settle()
    origin.opened.set()
    await within(asyncio.gather(leader, follower))
    assert (len(origin.calls), origin.left) == (1, 0)


async def test_when_all_have_left_the_flight_is_called_off() -> None:
    """F27: a shared fetch lives while one waiter remains, and no longer."""
    bench, origin = Bench(), Gate()
    tasks = await bench.start(origin, asked(), asked(), asked())
    for number, task in enumerate(tasks, 1):
        assert origin.left == 0, f"{4 - number} still wait"
        task.cancel()
        await settle()
    assert (origin.left, bench.flights) == (1, 0)


async def test_nobody_joins_a_flight_that_is_being_called_off() -> None:
    """Its end would reach the newcomer as a cancellation that nobody asked for."""
    bench, origin = Bench(), Gate()
    origin.tidied.clear()
    [leaver] = await bench.start(origin, asked())
    leaver.cancel()
    await settle()
    [newcomer] = await bench.start(origin, asked())
    origin.tidied.set()
    await settle()
    assert origin.left == 1
    origin.opened.set()
    assert data(await within(newcomer)) == data(answer())
    assert (len(origin.calls), bench.flights) == (2, 0)


async def test_a_flight_that_was_called_off_does_not_end_its_successor() -> None:
    bench, origin = Bench(), Gate()
    origin.tidied.clear()
    [leaver] = await bench.start(origin, asked())
    leaver.cancel()
    await settle()
    [second] = await bench.start(origin, asked())
    origin.tidied.set()
    await settle()
    [third] = await bench.start(origin, asked())
    assert len(origin.calls) == 2, "the third has joined the second"
    origin.opened.set()
    await within(asyncio.gather(second, third))


async def test_a_caller_that_is_gone_before_its_flight_began_leaves_nothing_behind() -> None:
    bench, origin = Bench(), Gate()
    task = spawn(bench.coalesce(asked(), origin), "caller")
    asyncio.get_running_loop().call_soon(task.cancel)
    await settle()
    assert bench.flights == 0
    origin.opened.set()
    assert await within(bench.coalesce(asked(), origin))


# --- errors


async def test_the_leaders_error_reaches_all() -> None:
    """F30: the leader's error reaches waiters."""
    error = error_of(UpstreamTimeoutError, delivered=Delivery.UNKNOWN)
    bench, origin = Bench(), Gate(error)
    tasks = await bench.start(origin, *(asked() for _ in range(20)))
    origin.opened.set()
    outcomes = await within(asyncio.gather(*tasks, return_exceptions=True))
    assert outcomes == [error] * 20
    assert bench.flights == 0


async def test_an_error_that_nobody_waits_for_is_not_reported_as_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """asyncio tells of exceptions that were never retrieved, with their text."""
    bench, origin = Bench(), Gate(error_of(ProxyError))
    leader, follower = await bench.start(origin, asked(), asked())
    leader.cancel()
    follower.cancel()
    origin.opened.set()
    await settle()
    del leader, follower
    assert caplog.records == []


async def test_a_flight_is_bounded_in_time() -> None:
    """House style, section 5.5: bounded though its leader has left."""
    bench, origin = Bench(seconds=300.0), Gate()
    leader, follower = await bench.start(origin, asked(), asked())
    leader.cancel()
    await bench.clock.advance(299)
    assert not follower.done()
    await bench.clock.advance(1)
    with pytest.raises(DeadlineExceededError) as raised:
        await within(follower)
    assert raised.value.delivered is Delivery.UNKNOWN
    assert (origin.left, bench.flights) == (1, 0)


# --- streams


async def test_a_stream_is_its_leaders_and_followers_ask_for_themselves() -> None:
    """House style, section 5.4."""
    first, second = Feed(), Feed()
    bench, origin = Bench(), Gate(streamed(first), streamed(second))
    tasks = await bench.start(origin, asked(rpc()), asked(rpc()))
    origin.opened.set()
    led, own = await within(asyncio.gather(*tasks))
    assert (led.body, own.body) == (first.body, second.body)
    assert len(origin.calls) == 2
    for feed, told in ((first, led), (second, own)):
        feed.give(b"data")
        feed.end()
        assert await within(read(told)) == b"data"
        assert feed.released == 1


async def test_a_stream_whose_leader_has_left_is_closed() -> None:
    first, second = Feed(), Feed()
    bench, origin = Bench(), Gate(streamed(first), streamed(second))
    leader, follower = await bench.start(origin, asked(), asked())
    leader.cancel()
    await settle()
    origin.opened.set()
    told = await within(follower)
    assert isinstance(told.body, Stream)
    assert (told.body, first.released, second.released) == (second.body, 1, 0)
    await told.body.aclose()


async def test_a_stream_that_comes_as_its_leader_leaves_is_closed() -> None:
    """The flight has landed, and the leader is cancelled before it could look."""
    feed = Feed()
    bench = Bench()
    tasks: list[asyncio.Task[Reply]] = []

    async def origin(_: Call) -> Reply:
        # both in one turn of the loop: the answer is there, and nobody takes it
        asyncio.get_running_loop().call_soon(tasks[0].cancel)
        return streamed(feed)

    tasks.append(spawn(bench.coalesce(asked(), origin), "leader"))
    await settle()
    assert tasks[0].cancelled()
    assert feed.released == 1


async def test_a_leader_that_leaves_as_its_flight_fails_closes_nothing() -> None:
    bench = Bench()
    tasks: list[asyncio.Task[Reply]] = []

    async def origin(_: Call) -> Reply:
        asyncio.get_running_loop().call_soon(tasks[0].cancel)
        raise error_of(ProxyError)

    tasks.append(spawn(bench.coalesce(asked(), origin), "leader"))
    await settle()
    assert tasks[0].cancelled()


async def test_a_whole_answer_that_comes_as_its_leader_leaves_is_just_dropped() -> None:
    bench, origin = Bench(), Script(answer())
    task = spawn(bench.coalesce(asked(), origin), "leader")
    loop = asyncio.get_running_loop()
    loop.call_soon(lambda: loop.call_soon(task.cancel))
    await settle()
    assert task.done()
    assert bench.flights == 0


# --- cancelled


def cancel(request_id: object = 1, **headers: str) -> Call:
    return asked(rpc("notifications/cancelled", None, requestId=request_id), key=None, **headers)


async def test_a_cancellation_is_held_back_while_others_wait() -> None:
    """Protocol notes, section 5: it would take their answer; the one who cancelled ignores his."""
    bench, origin, beside = Bench(), Gate(), Gate(reply(202, b""))
    beside.opened.set()
    leader, follower = await bench.start(origin, asked(), asked(tool(request_id=2)))
    held = await within(bench.coalesce(cancel(), beside))
    assert (held.status, beside.calls) == (202, [])
    origin.opened.set()
    assert data(await within(follower)) == data(answer(2))
    await within(leader)


@pytest.mark.parametrize(
    "said", [cancel(2), cancel("1"), cancel(None), cancel(Authorization="Bearer b")]
)
async def test_any_other_cancellation_goes_on(said: Call) -> None:
    bench, origin, beside = Bench(), Gate(), Gate(reply(202, b""))
    beside.opened.set()
    tasks = await bench.start(origin, asked(), asked(tool(request_id=3)))
    await within(bench.coalesce(said, beside))
    assert beside.calls == [said]
    origin.opened.set()
    await within(asyncio.gather(*tasks))


async def test_who_is_alone_may_cancel() -> None:
    bench, origin, beside = Bench(), Gate(), Gate(reply(202, b""))
    beside.opened.set()
    tasks = await bench.start(origin, asked())
    await within(bench.coalesce(cancel(), beside))
    assert len(beside.calls) == 1
    origin.opened.set()
    await within(asyncio.gather(*tasks))
