"""Bound the time a call may take; on a stream, the silence of the server."""

import asyncio
import json

import pytest

from mcp_proxy.core.call import Call, Delivery, Reply, Stream
from mcp_proxy.core.errors import DeadlineExceededError, DrainingError, UpstreamBrokenError
from mcp_proxy.core.intent import RESPONSE, Intent
from mcp_proxy.core.jsonrpc import mark
from mcp_proxy.layers.deadline import Deadline
from tests.fakes import (
    READ,
    WRITE,
    FakeClock,
    Feed,
    Script,
    call,
    error_of,
    read,
    reply,
    settle,
    spawn,
    streamed,
    within,
)


class Bench:
    """A Deadline of ten seconds."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.deadline = Deadline(10.0, self.clock, spawn)

    async def open(self, feed: Feed) -> Reply:
        return await within(self.deadline(call(), Script(streamed(feed))))

    def reading(self, answer: Reply) -> asyncio.Task[bytes]:
        return spawn(read(answer), "read")


async def test_an_answer_in_time_is_returned_as_it_is() -> None:
    answer = reply()
    assert await within(Bench().deadline(call(), Script(answer))) is answer


async def test_a_call_that_takes_too_long_is_given_up() -> None:
    """F2: answer ≤ deadline; what was sent may still be carried out."""
    bench, left = Bench(), []

    async def hang(asked: Call) -> Reply:
        assert asked.tried is not None
        asked.tried.extend(["a", "a"])
        try:
            await asyncio.Event().wait()
        finally:
            left.append(True)
        return reply()

    task = spawn(bench.deadline(call()._replace(tried=[]), hang), "call")
    await bench.clock.advance(9.999)
    assert not task.done()
    await bench.clock.advance(0.001)
    with pytest.raises(DeadlineExceededError, match="10 s") as raised:
        await within(task)
    assert raised.value.attempts == 2
    assert raised.value.delivered is Delivery.UNKNOWN
    assert left == [True]


@pytest.mark.parametrize(
    ("intent", "tried", "delivered"),
    [
        (WRITE, [], Delivery.NO),
        (WRITE, ["a"], Delivery.UNKNOWN),
        (WRITE, None, Delivery.UNKNOWN),  # nobody counts
        (READ, [], Delivery.UNKNOWN),  # it may have joined another's
    ],
)
async def test_a_write_that_was_never_sent_is_safe_to_send_again(
    intent: Intent, tried: list[str] | None, delivered: Delivery
) -> None:
    """It waited for a place, or for its session: `delivered` says so (DESIGN section 5)."""
    bench = Bench()
    asked = call(intent)._replace(tried=tried)
    task = spawn(bench.deadline(asked, lambda _: asyncio.Event().wait()), "call")
    await bench.clock.advance(10)
    with pytest.raises(DeadlineExceededError) as raised:
        await within(task)
    assert raised.value.delivered is delivered


async def test_an_error_of_the_server_is_no_deadline() -> None:
    with pytest.raises(UpstreamBrokenError):
        await within(Bench().deadline(call(), Script(error_of(UpstreamBrokenError))))


async def test_a_departure_is_no_deadline() -> None:
    task = spawn(Bench().deadline(call(), lambda _: asyncio.Event().wait()), "call")
    await settle()
    task.cancel()
    await settle()
    assert task.cancelled()


async def test_each_piece_of_a_stream_restarts_the_time() -> None:
    """DESIGN section 4: on a streamed answer each event restarts it; F8."""
    bench, feed = Bench(), Feed()
    task = bench.reading(await bench.open(feed))
    for _ in range(10):
        await bench.clock.advance(9)
        feed.give(b".")
    await bench.clock.advance(9)
    feed.end()
    assert await within(task) == b"." * 10


async def test_a_silent_stream_is_given_up_and_released() -> None:
    bench, feed = Bench(), Feed()
    task = bench.reading(await bench.open(feed))
    feed.give(b".")
    await bench.clock.advance(9.999)
    assert not task.done()
    await bench.clock.advance(0.001)
    assert isinstance(task.exception(), DeadlineExceededError)
    assert feed.released == 1


async def test_the_time_stands_still_while_the_client_is_asked() -> None:
    """DESIGN section 4: people may take long to fill in a form."""
    bench, feed = Bench(), Feed()
    task = bench.reading(await bench.open(feed))
    feed.give(b"question", asking=True)
    await bench.clock.advance(3600)
    assert not task.done()
    feed.give(b"answer", asking=False)
    await bench.clock.advance(9)
    assert not task.done()
    await bench.clock.advance(1)
    assert isinstance(task.exception(), DeadlineExceededError)


def answering(session: str, question: object) -> Call:
    said = json.dumps({"jsonrpc": "2.0", "id": question, "result": {}}).encode()
    return call(RESPONSE, headers={"Mcp-Session-Id": session}, body=said)


async def asked(bench: Bench, feed: Feed, session: str, question: object) -> "asyncio.Task[bytes]":
    """Return the reading of a stream on which the client is being asked something."""
    own = call(headers={"Mcp-Session-Id": session})
    answer = await within(bench.deadline(own, Script(streamed(feed))))
    task = bench.reading(answer)
    feed.give(b"question", asking=True, question=mark(question))
    await bench.clock.advance(3600)
    assert not task.done()
    return task


async def test_the_time_runs_again_once_the_client_has_answered() -> None:
    """A server that hangs after it has its answer must not hang its caller."""
    bench, feed = Bench(), Feed()
    task = await asked(bench, feed, "s", 7)
    await within(bench.deadline(answering("s", 7), Script(reply(202))))
    await bench.clock.advance(9.999)
    assert not task.done()
    await bench.clock.advance(0.001)
    assert isinstance(task.exception(), DeadlineExceededError)
    assert feed.released == 1


async def test_each_piece_restarts_it_then_as_ever() -> None:
    bench, feed = Bench(), Feed()
    task = await asked(bench, feed, "s", "q")
    await within(bench.deadline(answering("s", "q"), Script(reply(202))))
    await bench.clock.advance(9)
    feed.give(b".")
    await bench.clock.advance(9)
    feed.give(b"another", asking=True, question=mark("r"))
    await bench.clock.advance(3600)
    feed.end()
    assert await within(task) == b"question.another"


@pytest.mark.parametrize(
    "other", [answering("s", 8), answering("t", 7), call(RESPONSE), call(RESPONSE, body=b"")]
)
async def test_another_answer_is_not_the_one_that_is_waited_for(other: Call) -> None:
    bench, feed = Bench(), Feed()
    task = await asked(bench, feed, "s", 7)
    await within(bench.deadline(other, Script(reply(202))))
    await bench.clock.advance(3600)
    assert not task.done()
    feed.end()
    await within(task)


async def test_an_answer_that_comes_while_nobody_reads_counts() -> None:
    bench, feed = Bench(), Feed()
    answer = await bench.open(feed)
    assert isinstance(answer.body, Stream)
    feed.give(b"question", asking=True, question=mark(7))
    pieces = aiter(answer.body)
    assert await within(anext(pieces)) == b"question"
    said = answering("", 7)._replace(headers=call().headers)
    await within(bench.deadline(said, Script(reply(202))))
    task = bench.reading(answer)
    await bench.clock.advance(10)
    assert isinstance(task.exception(), DeadlineExceededError)


async def test_a_reader_that_is_slow_costs_the_server_nothing() -> None:
    """The bound is on the server's silence: a client that does not read is not its fault."""
    bench, feed = Bench(), Feed()
    answer = await bench.open(feed)
    assert isinstance(answer.body, Stream)
    feed.give(b"a", b"b")
    feed.end()
    pieces = aiter(answer.body)
    assert await within(anext(pieces)) == b"a"
    await bench.clock.advance(3600)
    assert await within(read(answer)) == b"b"


async def test_a_stream_that_is_cut_says_so() -> None:
    bench, feed = Bench(), Feed()
    feed.give(b"a", error_of(UpstreamBrokenError))
    with pytest.raises(UpstreamBrokenError):
        await within(read(await bench.open(feed)))


async def test_a_stream_that_is_left_alone_is_released() -> None:
    bench, feed = Bench(), Feed()
    answer = await bench.open(feed)
    assert isinstance(answer.body, Stream)
    await within(answer.body.aclose())
    assert feed.released == 1


# --- the end of the process


async def test_what_is_under_way_at_the_end_is_broken_off_and_told_so() -> None:
    """Our promise: whoever outlasts the grace hears that nobody knows what became of the call."""
    bench, left = Bench(), []

    async def hang(_: Call) -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            left.append(True)
        return reply()

    task = spawn(bench.deadline(call(), hang), "call")
    await settle()
    bench.deadline.end()
    with pytest.raises(DrainingError, match="cannot wait") as raised:
        await within(task)
    assert raised.value.delivered is Delivery.UNKNOWN
    assert left == [True]


@pytest.mark.parametrize("asking", [False, True])
async def test_a_stream_is_broken_off_too(*, asking: bool) -> None:
    """Also one that waits for a person."""
    bench, feed = Bench(), Feed()
    answer = await bench.open(feed)
    assert isinstance(answer.body, Stream)
    answer.body.asking = asking
    task = bench.reading(answer)
    feed.give(b".")
    await settle()
    bench.deadline.end()
    await settle()
    assert isinstance(task.exception(), DrainingError)
    assert feed.released == 1


async def test_an_answer_at_hand_needs_no_time() -> None:
    bench, answer = Bench(), reply()
    bench.deadline.end()
    assert await within(bench.deadline(call(), Script(answer))) is answer
