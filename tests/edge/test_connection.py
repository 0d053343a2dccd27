"""One connection of a client, and where one request on it ends."""

import asyncio

import pytest

from tests.edge.conftest import Opened
from tests.edge.wire import Client, Exchange, Upstream, answer, bound, chunked, get, post, request
from tests.fakes import settle

ASKS = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
GET = get("/first", *ASKS)
POST = post("/first", b"abc", *ASKS)
CHUNKED = request("POST", "/first", *ASKS, "Transfer-Encoding: chunked", body=chunked(b"abc"))
HEAD_ENDS = POST.index(b"\r\n\r\n") + 4


async def rest_of(client: Client) -> bytes:
    async with bound():
        return await client.reader.read()


@pytest.mark.parametrize("pieces", [(GET,), (POST,), (POST[:HEAD_ENDS], POST[HEAD_ENDS:])])
@pytest.mark.parametrize("cached", [True, False])
async def test_who_asks_for_a_protocol_that_is_not_spoken_keeps_its_connection(
    front: Opened, upstream: Upstream, pieces: tuple[bytes, ...], *, cached: bool
) -> None:
    """RFC 9110 section 7.8: an Upgrade may be ignored; Java's client asks for h2c each time."""
    upstream.plays(answer(b"first"), answer(b"second"))
    sidecar = await front(MCP_CACHE_ENABLED=cached)
    async with sidecar.client() as client:
        for piece in pieces:
            await client.send(piece)
            await settle()
        assert (await client.hear()).body == b"first"
        assert (await client.ask(get("/second"))).body == b"second"


@pytest.mark.parametrize(
    "pieces",
    [
        (GET + get("/second"),),
        (POST + get("/second"),),
        (POST[:HEAD_ENDS], POST[HEAD_ENDS:] + get("/second")),
        (CHUNKED + get("/second"),),
        (GET[:30], GET[30:] + get("/second")),
        (get("/zero") + GET + get("/second"),),
    ],
)
async def test_what_follows_it_in_one_piece_is_not_waited_for_in_vain(
    front: Opened, upstream: Upstream, pieces: tuple[bytes, ...]
) -> None:
    """aiohttp's parser loses it (3.14.5), so the connection ends behind the answer."""
    upstream.plays(answer(b"first"))
    sidecar = await front()
    async with sidecar.client() as client:
        for piece in pieces:
            await client.send(piece)
            await settle()
        heard = [await client.hear() for _ in range(1 + (b"/zero" in pieces[0]))]
        assert heard[-1].body == b"first"
        assert await rest_of(client) == b""
    assert "/second" not in [said.target for said in upstream.asked]


async def test_half_a_request_that_was_lost_is_not_taken_for_the_next(
    front: Opened, upstream: Upstream
) -> None:
    """Else the rest of its body would be a request of its own."""
    all_sent = asyncio.Event()

    async def when_all_is_sent(exchange: Exchange) -> None:
        await (
            all_sent.wait()
        )  # or the connection would have ended, and been reset by what comes then
        await exchange.send(answer(b"first"))

    upstream.plays(when_all_is_sent)
    hidden = get("/hidden")
    second = post("/second", b"x" + hidden)
    sidecar = await front()
    async with sidecar.client() as client:
        await client.send(GET + second[: -len(hidden)])
        await upstream.until(lambda: upstream.asked != [])
        await client.send(hidden)
        await settle()
        all_sent.set()
        assert (await client.hear()).body == b"first"
        assert await rest_of(client) == b""
    assert [said.target for said in upstream.asked] == ["/first"]


async def test_what_follows_a_connect_is_no_request(front: Opened, upstream: Upstream) -> None:
    """It is a tunnel's, or a body: aiohttp reads past its length."""
    sidecar = await front()
    async with sidecar.client() as client:
        await client.send(request("CONNECT", "/a", body=get("/hidden")))
        assert (await client.hear()).status == 400
        assert await rest_of(client) == b""
    async with sidecar.client() as client:
        await client.send(request("CONNECT", "/a", "Content-Length: 1000") + get("/hidden"))
        assert (await client.hear()).status == 400
        assert await rest_of(client) == b""
    assert upstream.asked == []


async def test_a_refusal_of_what_is_no_http_says_that_it_is_the_last(front: Opened) -> None:
    """RFC 9112 section 9.6."""
    sidecar = await front()
    async with sidecar.client() as client:
        heard = await client.ask(b"no HTTP\r\n\r\n")
        assert (heard.status, heard["Connection"]) == (400, "close")
        assert await rest_of(client) == b""
