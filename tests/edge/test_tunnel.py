"""WebSockets: frame by frame, both ways, until one side closes."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from yarl import URL

from tests.edge.conftest import Opened
from tests.edge.wire import (
    Exchange,
    Front,
    Upstream,
    answer,
    bound,
    chunked,
    get,
    post,
    request,
    result,
    rpc,
    unused_port,
)

HANDSHAKE = (
    "Connection: keep-alive, Upgrade",
    "Upgrade: WebSocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
Talk = Callable[[web.WebSocketResponse], Awaitable[None]]


class Speaker:
    """A WebSocket server that plays one conversation, and remembers how it ended."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.talk: Talk = echo
        self.protocols: tuple[str, ...] = ()
        self.ended: asyncio.Future[web.WebSocketResponse] = (
            asyncio.get_running_loop().create_future()
        )

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if "Via" not in request.headers:
            return web.Response(status=404)
        self.requests.append(request)
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(
                body=result(1, tools=[]), headers={"Content-Type": "application/json"}
            )
        socket = web.WebSocketResponse(autoping=False, protocols=self.protocols, max_msg_size=0)
        await socket.prepare(request)
        try:
            await self.talk(socket)
        finally:
            if not self.ended.done():
                self.ended.set_result(socket)
        return socket

    async def end(self) -> web.WebSocketResponse:
        async with bound():
            return await self.ended


async def echo(socket: web.WebSocketResponse) -> None:
    async for message in socket:
        match message.type:
            case WSMsgType.TEXT:
                await socket.send_str(message.data)
            case WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            case WSMsgType.PING:
                await socket.pong(message.data)
            case WSMsgType.PONG:
                await socket.send_str("pong")


@pytest.fixture
async def speaker() -> AsyncIterator[tuple[Speaker, str]]:
    speaks = Speaker()
    app = web.Application()

    async def handler(request: web.Request) -> web.StreamResponse:
        return await speaks(request)

    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield speaks, f"http://localhost:{port}"
    await runner.cleanup()


@asynccontextmanager
async def talking(
    sidecar: Front, path: str = "/ws", **options: Any
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as session, bound(10):
        url = URL(f"http://127.0.0.1:{sidecar.port}").with_path(path, encoded=True)
        socket = await session.ws_connect(url, autoping=False, max_msg_size=0, **options)
        try:
            yield socket
        finally:
            await socket.close()


Spoken = tuple[Speaker, str]


# --- what passes


async def test_text_and_binary_pass_both_ways(front: Opened, speaker: Spoken) -> None:
    speaks, url = speaker
    async with talking(await front(MCP_UPSTREAM_URL=url), "/ws/a%2fb/../?") as socket:
        await socket.send_str("grün")
        assert (await socket.receive()).data == "grün"
        await socket.send_bytes(b"\x00\xff")
        assert (await socket.receive()).data == b"\x00\xff"
    assert speaks.requests[0].raw_path == "/ws/a%2fb/../?"


async def test_a_large_message_passes(front: Opened, speaker: Spoken) -> None:
    """Inherited default: beyond 4 MiB the socket is closed with 1009."""
    _, url = speaker
    large = bytes(range(256)) * 4096 * 5
    async with talking(await front(MCP_UPSTREAM_URL=url)) as socket:
        await socket.send_bytes(large)
        assert (await socket.receive()).data == large


async def test_a_message_beyond_the_bound_closes_both_ends(front: Opened, speaker: Spoken) -> None:
    speaks, url = speaker
    async with talking(await front(MCP_UPSTREAM_URL=url)) as socket:
        with suppress(ConnectionError):
            await socket.send_bytes(bytes((16 << 20) + 1))
        message = await socket.receive()
        assert message.type in {WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR}
    await speaks.end()


async def test_ping_and_pong_pass_to_the_far_end(front: Opened, speaker: Spoken) -> None:
    """Inherited default: autoping answers them half-way, so a dead server looks alive."""
    _, url = speaker
    async with talking(await front(MCP_UPSTREAM_URL=url)) as socket:
        await socket.ping(b"there?")
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.PONG, b"there?")
        await socket.pong(b"here")
        assert (await socket.receive()).data == "pong"


async def test_a_ping_of_the_server_reaches_the_client(front: Opened, speaker: Spoken) -> None:
    speaks, url = speaker
    heard: list[Any] = []

    async def pings(socket: web.WebSocketResponse) -> None:
        await socket.ping(b"you?")
        heard.append(await socket.receive())
        await socket.close()

    speaks.talk = pings
    async with talking(await front(MCP_UPSTREAM_URL=url)) as socket:
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.PING, b"you?")
        assert not heard
        await socket.pong(b"you?")
        await socket.receive()
    assert (heard[0].type, heard[0].data) == (WSMsgType.PONG, b"you?")


async def test_the_servers_choice_of_protocol_is_the_clients(
    front: Opened, speaker: Spoken
) -> None:
    speaks, url = speaker
    speaks.protocols = ("mcp", "chat")
    sidecar = await front(MCP_UPSTREAM_URL=url)
    async with talking(sidecar, protocols=["soap", "mcp"]) as socket:
        assert socket.protocol == "mcp"
    assert speaks.requests[0].headers["Sec-WebSocket-Protocol"].replace(" ", "") == "soap,mcp"
    speaks.protocols = ()
    async with talking(sidecar, protocols=["soap"]) as socket:
        assert socket.protocol is None
    async with talking(sidecar) as socket:
        assert socket.protocol is None
    assert "Sec-WebSocket-Protocol" not in speaks.requests[2].headers


async def test_headers_of_the_handshake_pass(front: Opened, speaker: Spoken) -> None:
    speaks, url = speaker
    headers = {"Authorization": "Bearer x", "Cookie": "a=1", "Origin": "http://localhost:3000"}
    async with talking(await front(MCP_UPSTREAM_URL=url), headers=headers, compress=15) as socket:
        await socket.send_str("x")
        await socket.receive()
    asked = speaks.requests[0].headers
    assert {name: asked[name] for name in headers} == headers
    assert asked["X-Forwarded-For"] == "127.0.0.1"
    assert "Via" in asked
    assert "Sec-WebSocket-Extensions" not in asked


async def test_messages_flow_while_the_other_side_is_silent(front: Opened, speaker: Spoken) -> None:
    speaks, url = speaker

    async def counts(socket: web.WebSocketResponse) -> None:
        for number in range(50):
            await socket.send_str(str(number))
        await echo(socket)

    speaks.talk = counts
    async with talking(await front(MCP_UPSTREAM_URL=url)) as socket:
        assert [(await socket.receive()).data for _ in range(50)] == [str(n) for n in range(50)]


# --- how it ends


async def test_a_close_of_the_server_reaches_the_client(front: Opened, speaker: Spoken) -> None:
    speaks, url = speaker

    async def leaves(socket: web.WebSocketResponse) -> None:
        await socket.close(code=4321, message="grün".encode())

    speaks.talk = leaves
    async with talking(await front(MCP_UPSTREAM_URL=url)) as socket:
        message = await socket.receive()
        assert message.type is WSMsgType.CLOSE
        assert (message.data, message.extra) == (4321, "grün")
    assert (await speaks.end()).close_code == 4321


async def test_a_close_of_the_client_reaches_the_server(front: Opened, speaker: Spoken) -> None:
    speaks, url = speaker
    said: list[Any] = []

    async def listens(socket: web.WebSocketResponse) -> None:
        socket._autoclose = False
        said.append(await socket.receive())
        await socket.close(code=4999)

    speaks.talk = listens
    async with talking(await front(MCP_UPSTREAM_URL=url)) as socket:
        await socket.close(code=4242, message=b"bye")
        assert socket.close_code == 4999  # its answer, as without us
    await speaks.end()
    assert said[0].type is WSMsgType.CLOSE
    assert (said[0].data, said[0].extra) == (4242, "bye")


async def test_a_close_of_the_server_in_a_conversation_reaches_the_client(
    front: Opened, speaker: Spoken
) -> None:
    """As above, while we wait for the client to speak."""
    speaks, url = speaker

    async def leaves_later(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        await socket.close(code=4321)

    speaks.talk = leaves_later
    async with talking(await front(MCP_UPSTREAM_URL=url)) as socket:
        await socket.send_str("go")
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 4321)
    assert (await speaks.end()).close_code == 4321


async def test_a_close_without_a_code_is_a_normal_one(front: Opened, speaker: Spoken) -> None:
    speaks, url = speaker
    sidecar = await front(MCP_UPSTREAM_URL=url)
    async with sidecar.client() as client:
        await client.send(get("/ws", *HANDSHAKE))
        assert (await client.head()).status == 101
        await client.send(b"\x88\x80\x00\x00\x00\x00")
        async with bound():
            assert await client.reader.readexactly(4) == b"\x88\x02\x03\xe8"
    assert (await speaks.end()).close_code == 1000


async def test_a_client_that_is_cut_off_closes_the_server(front: Opened, speaker: Spoken) -> None:
    """F27: within a second, no goodbye needed."""
    speaks, url = speaker
    sidecar = await front(MCP_UPSTREAM_URL=url)
    async with sidecar.client() as client:
        await client.send(get("/ws", *HANDSHAKE))
        assert (await client.head()).status == 101
    async with bound(1):
        await speaks.end()


async def test_a_server_that_is_cut_off_closes_the_client(
    front: Opened, upstream: Upstream
) -> None:
    async def accepts_and_breaks(exchange: Exchange) -> None:
        key = exchange.asked["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        await exchange.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n\x81\x02hi"
        )
        await heard.wait()
        exchange.reset()

    heard = asyncio.Event()
    upstream.plays(accepts_and_breaks)
    async with talking(await front()) as socket:
        assert (await socket.receive()).data == "hi"
        heard.set()
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)


# --- what refuses


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 Not Found", "200 OK"])
async def test_a_refusal_of_the_server_is_still_an_http_answer(
    front: Opened, upstream: Upstream, status: str
) -> None:
    """The server is asked first, before we say 101."""
    upstream.plays(answer(b"no", "WWW-Authenticate: Bearer", "Set-Cookie: a=1", status=status))
    heard = await (await front()).ask(get("/ws", *HANDSHAKE))
    assert heard.status == int(status[:3])
    assert heard["WWW-Authenticate"] == "Bearer"
    assert heard["Set-Cookie"] == "a=1"
    assert heard["Content-Length"] == "0"


async def test_a_server_that_answers_the_wrong_handshake_is_broken(
    front: Opened, upstream: Upstream
) -> None:
    upstream.plays(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: nonsense\r\n\r\n"
    )
    heard = await (await front()).ask(get("/ws", *HANDSHAKE))
    assert heard.status == 502
    assert heard.json["code"] == "upstream_broken"


async def test_a_server_that_is_away_is_a_structured_error(front: Opened) -> None:
    sidecar = await front(MCP_UPSTREAM_URL=f"http://localhost:{unused_port()}")
    heard = await sidecar.ask(get("/ws", *HANDSHAKE))
    assert heard.status == 503
    assert heard.json["code"] == "upstream_unreachable"
    assert heard["Retry-After"] == "1"


async def test_a_server_that_hangs_up_is_a_structured_error(
    front: Opened, upstream: Upstream
) -> None:
    async def hangs_up(exchange: Exchange) -> None:
        exchange.close()

    upstream.plays(hangs_up)
    heard = await (await front()).ask(get("/ws", *HANDSHAKE))
    assert heard.status == 502
    assert heard.json["code"] == "upstream_broken"
    assert len(upstream.asked) == 1


@pytest.mark.parametrize(
    ("header", "status"), [("Origin: http://evil.example", 403), ("Host: evil.example", 421)]
)
async def test_a_hijack_is_refused_before_the_server_is_asked(
    front: Opened, upstream: Upstream, header: str, status: int
) -> None:
    """F38, CVE-2026-59950: WebSockets know no CORS."""
    heard = await (await front()).ask(get("/ws", *HANDSHAKE, header))
    assert heard.status == status
    assert upstream.asked == []


@pytest.mark.parametrize(
    "bad",
    [
        ("Sec-WebSocket-Version: 13",),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: short"),
        ("Sec-WebSocket-Version: 99", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
    ],
)
async def test_a_handshake_that_is_none_leaves_nothing_open(
    front: Opened, speaker: Spoken, bad: tuple[str, ...]
) -> None:
    """RFC 6455 section 4.2.1: a bad request, and the server's end is let go of."""
    speaks, url = speaker
    sidecar = await front(MCP_UPSTREAM_URL=url)
    heard = await sidecar.ask(get("/ws", "Connection: Upgrade", "Upgrade: websocket", *bad))
    assert heard.status == 400
    if speaks.requests:
        async with bound(1):
            await speaks.end()


@pytest.mark.parametrize(
    "raw",
    [
        get("/ws", "Upgrade: websocket"),
        get("/ws", "Connection: Upgrade", "Upgrade: h2c"),
        post("/ws", b"", "Connection: Upgrade", "Upgrade: websocket"),
    ],
)
async def test_what_asks_for_no_websocket_is_a_plain_request(
    front: Opened, upstream: Upstream, raw: bytes
) -> None:
    upstream.plays(answer(b"plain"))
    assert (await (await front()).ask(raw)).body == b"plain"
    assert "Upgrade" not in upstream.asked[0]


@pytest.mark.parametrize(
    "framed",
    [
        request("GET", "/ws", *HANDSHAKE, body=b"abc"),
        get("/ws", *HANDSHAKE, "Transfer-Encoding: chunked") + chunked(b"abc"),
    ],
)
async def test_a_handshake_with_a_body_is_refused(
    front: Opened, upstream: Upstream, framed: bytes
) -> None:
    """The server was told of a length, and got no body: it would wait for ever."""
    heard = await (await front()).ask(framed)
    assert (heard.status, heard.json["code"]) == (400, "bad_request")
    assert upstream.asked == []


async def test_a_handshake_goes_on_without_a_length(front: Opened, upstream: Upstream) -> None:
    upstream.plays(answer(b"", status="404 Not Found"))
    assert (await (await front()).ask(get("/ws", *HANDSHAKE, "Content-Length: 0"))).status == 404
    assert "Content-Length" not in upstream.asked[0]


async def test_sockets_beyond_the_number_of_streams_are_refused(
    front: Opened, speaker: Spoken
) -> None:
    """DESIGN section 2: MCP_STREAMS_LIMIT bounds WebSockets too; a queue would hang them."""
    _, url = speaker
    sidecar = await front(MCP_UPSTREAM_URL=url, MCP_STREAMS_LIMIT=1)
    async with talking(sidecar) as socket:
        await socket.send_str("x")
        await socket.receive()
        heard = await sidecar.ask(get("/ws", *HANDSHAKE))
        assert heard.status == 503
        assert heard.json["code"] == "overloaded"
        assert (await sidecar.ask(get("/mcp"))).status == 503


async def test_a_place_is_free_again_when_a_socket_has_closed(
    front: Opened, speaker: Spoken
) -> None:
    speaks, url = speaker
    sidecar = await front(MCP_UPSTREAM_URL=url, MCP_STREAMS_LIMIT=1)
    for _ in range(3):
        async with talking(sidecar) as socket:
            await socket.send_str("x")
            assert (await socket.receive()).data == "x"
        await speaks.end()
        speaks.ended = asyncio.get_running_loop().create_future()
    assert sidecar.sidecar.pools.open_streams == 0


# --- what it may have changed


async def test_what_a_client_says_on_a_socket_drops_stored_answers(
    front: Opened, speaker: Spoken
) -> None:
    """It may be anything, a write included; before the server's answer to it goes out."""
    _, url = speaker
    sidecar = await front(MCP_UPSTREAM_URL=url)
    asked = post("/mcp", rpc("tools/list"))
    await sidecar.ask(asked)
    async with talking(sidecar) as socket:
        assert "hit" in (await sidecar.ask(asked))["Cache-Status"]
        await socket.send_str("write!")
        await socket.receive()
        assert "stored" in (await sidecar.ask(asked))["Cache-Status"]
        await socket.send_str("again")
    # left without an answer: it may be carried out all the same
    heard = await sidecar.ask(asked)
    assert "stored" in heard["Cache-Status"]


async def test_a_drain_says_goodbye_to_both_ends(front: Opened, speaker: Spoken) -> None:
    """F26; 1001 is the code for it (RFC 6455 section 7.4.1)."""
    speaks, url = speaker
    sidecar = await front(MCP_UPSTREAM_URL=url)
    async with talking(sidecar) as socket:
        await socket.send_str("x")
        await socket.receive()
        sidecar.sidecar.inbound.draining = True
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
    assert (await speaks.end()).close_code == 1001
