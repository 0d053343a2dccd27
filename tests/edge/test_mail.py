"""HTTP+SSE: what is posted here is answered on a stream there, also while the sidecar drains."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mcp_proxy.core.call import Call
from mcp_proxy.edge.mail import Mail, target
from tests.edge.conftest import Opened
from tests.edge.test_events import Played, event
from tests.edge.wire import (
    Client,
    Exchange,
    Front,
    Upstream,
    answer,
    bound,
    get,
    post,
    result,
    rpc,
    tool,
)
from tests.fakes import call, settle

BOX = "/messages?session=1"
ENDPOINT = event(BOX.encode(), b"event: endpoint")
ACCEPTED = answer(b"Accepted", status="202 Accepted", kind="text/plain")


@asynccontextmanager
async def connected(
    front: Opened, upstream: Upstream, *answers: bytes
) -> AsyncIterator[tuple[Front, Client, Played]]:
    """Open a legacy stream; the posts get these answers."""
    stream = Played()
    upstream.plays(stream, *answers)
    sidecar = await front(MCP_SHUTDOWN_GRACE=3)
    async with sidecar.client() as client:
        await client.send(get("/sse"))
        await client.head()
        await stream.says(ENDPOINT)
        assert await client.chunk() == ENDPOINT
        yield sidecar, client, stream


async def draining(sidecar: Front) -> asyncio.Task[bool]:
    task = asyncio.get_running_loop().create_task(sidecar.sidecar.drain())
    await settle()
    return task


async def test_a_stream_stays_until_its_calls_are_answered(
    front: Opened, upstream: Upstream
) -> None:
    """F26: finish what is in flight within the grace."""
    async with connected(front, upstream, ACCEPTED) as (sidecar, client, stream):
        for number in (1, "two"):
            heard = await sidecar.ask(post(BOX, tool("salesforce_create", number)))
            assert heard.status == 202
        drain = await draining(sidecar)
        await stream.says(event(result("two", content=[])))
        assert b"two" in await client.chunk()
        # new calls are refused, and what belongs to those under way is not
        refused = await sidecar.ask(post(BOX, tool("salesforce_create", 3)))
        assert refused.json["code"] == "draining"
        asked = {"jsonrpc": "2.0", "id": 7, "result": {"action": "accept"}}
        assert (await sidecar.ask(post(BOX, asked))).status == 202
        assert not drain.done()
        await stream.says(event(result(1, content=[])))
        assert b"content" in await client.chunk()
        assert await client.chunk() == b""
        async with bound(1):
            assert await drain is True


async def test_a_call_that_its_client_gives_up_holds_nothing(
    front: Opened, upstream: Upstream
) -> None:
    async with connected(front, upstream, ACCEPTED) as (sidecar, client, _):
        await sidecar.ask(post(BOX, tool("salesforce_create", 1)))
        drain = await draining(sidecar)
        given_up = rpc("notifications/cancelled", None, requestId=1)
        assert (await sidecar.ask(post(BOX, given_up))).status == 202
        assert await client.chunk() == b""
        async with bound(1):
            assert await drain is True


async def test_a_call_that_was_not_taken_holds_nothing(front: Opened, upstream: Upstream) -> None:
    go_on = asyncio.Event()

    async def fails(exchange: Exchange) -> None:
        await go_on.wait()
        await exchange.send(answer(status="500 Internal Server Error"))

    stream = Played()
    upstream.plays(stream, fails)
    sidecar = await front(MCP_SHUTDOWN_GRACE=3)
    async with sidecar.client() as client, sidecar.client() as poster:
        await client.send(get("/sse"))
        await client.head()
        await stream.says(ENDPOINT)
        await client.chunk()
        await poster.send(post(BOX, tool("salesforce_create", 1)))
        await upstream.until(lambda: len(upstream.asked) == 2)
        drain = await draining(sidecar)
        assert not drain.done()
        go_on.set()
        assert (await poster.hear()).status == 500
        assert await client.chunk() == b""
        async with bound(1):
            assert await drain is True


# --- what is remembered


def posted(body: bytes) -> Call:
    return call(body=body, target=BOX)


def test_only_streams_with_an_address_owe_anything() -> None:
    mail = Mail(1000)
    for first in (b": hi\n\n", b"data: 1\n\n" + ENDPOINT, b"event: endpoint\ndata: /other\n\n"):
        box = mail.box()
        box.saw(first)
        mail.posted(posted(b'{"id": 1, "method": "x"}'))
        assert box.settled
        box.close()


@pytest.mark.parametrize(
    "body",
    [
        b"no JSON",
        b"[]",
        b'{"method": "x"}',
        b'{"id": 1, "result": {}}',
        b'{"method": "notifications/cancelled"}',
    ],
)
def test_only_requests_are_owed_an_answer(body: bytes) -> None:
    mail = Mail(1000)
    box = mail.box()
    box.saw(ENDPOINT)
    mail.posted(posted(body))
    assert box.settled


def test_an_answer_that_cannot_be_read_is_one_all_the_same() -> None:
    mail = Mail(100)
    box = mail.box()
    box.saw(ENDPOINT)
    mail.posted(posted(b'{"id": 1, "method": "x"}'))
    box.saw(b"data: {}\n\n")
    box.saw(b"data: no JSON\n\n")
    assert not box.settled
    box.saw(event(result(1, text="x" * 200)))
    assert box.settled


def test_what_is_remembered_is_bounded() -> None:
    mail = Mail(1000)
    box = mail.box()
    box.saw(ENDPOINT)
    for number in range(2000):
        mail.posted(posted(b'{"id": %d, "method": "x"}' % number))
    assert len(mail._boxes[BOX]) == 100
    mail.refused(posted(b"no JSON"))
    box.close()
    assert mail._boxes == {}


def test_an_address_may_be_a_whole_url() -> None:
    assert target(b"/messages?a=1") == "/messages?a=1"
    assert target(b"http://localhost:8000/messages?a=1") == "/messages?a=1"
