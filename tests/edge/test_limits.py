"""What a client may take: bytes of a head, lines, time, connections. What is more is refused."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mcp_proxy.edge.full import SPARE
from tests.edge.conftest import Opened
from tests.edge.wire import (
    Client,
    Exchange,
    Front,
    Upstream,
    answer,
    chunk,
    get,
    post,
    request,
    sidecar,
    tool,
    unused_port,
)
from tests.fakes import settle, within
from tests.leaping import leap, leaping

KIB = 1024
HEAD = b"POST /x HTTP/1.1\r\nHost: localhost\r\n"


def leaping_front(work: Callable[[Front, Upstream], Awaitable[None]], **settings: Any) -> None:
    """Run a test on a loop whose time leaps."""

    async def run() -> None:
        upstream = Upstream()
        await upstream.start()
        async with sidecar(upstream.url, **settings) as front:
            await work(front, upstream)
        await upstream.stop()

    leaping(run)


async def refused(client: Client, status: int) -> bool:
    """Hear a refusal; tell whether the connection ends with it."""
    heard = await client.hear()
    assert heard.status == status
    assert heard["Content-Type"] == "application/problem+json"
    assert heard.json["code"] == "bad_request"
    assert heard["Connection"] == "close"
    return await client.ended()


# --- the size of a head


async def test_a_header_of_64_kib_passes_and_more_does_not(
    front: Opened, upstream: Upstream
) -> None:
    """DESIGN section 7: headers up to 64 KiB pass."""
    sidecar = await front()
    fits = "x" * (64 * KIB - len("Authorization"))
    assert (await sidecar.ask(get("/x", f"Authorization: {fits}"))).status == 200
    assert upstream.asked[0]["Authorization"] == fits
    async with sidecar.client() as client:
        await client.send(get("/x", f"Authorization: {fits}{'x' * KIB}"))
        assert (await client.hear()).status == 400
    assert upstream.begun == 1


async def test_a_target_of_64_kib_is_too_long(front: Opened, upstream: Upstream) -> None:
    sidecar = await front()
    assert (await sidecar.ask(get("/" + "x" * (60 * KIB)))).status == 200
    assert (await sidecar.ask(get("/" + "x" * (65 * KIB)))).status == 400
    assert upstream.begun == 1


async def test_a_hundred_lines_pass_and_ten_times_as_many_do_not(
    front: Opened, upstream: Upstream
) -> None:
    """F11's bound, towards clients."""
    sidecar = await front()
    assert (await sidecar.ask(get("/x", *[f"X-{n}: 1" for n in range(100)]))).status == 200
    assert (await sidecar.ask(get("/x", *[f"X-{n}: 1" for n in range(1280)]))).status == 400
    assert upstream.begun == 1


@pytest.mark.parametrize("behind", [b"", post("/x", b"{}")])
async def test_a_head_that_does_not_end_is_cut(
    front: Opened, upstream: Upstream, behind: bytes
) -> None:
    """128 lines of 64 KiB would be 8 MiB a connection; also behind a request that was answered."""
    sidecar = await front()
    async with sidecar.client() as client:
        if behind:
            await client.ask(behind)
        await client.send(HEAD)
        with_room = [b"X-%d: %b\r\n" % (number, b"x" * (32 * KIB)) for number in range(20)]
        try:
            await client.send(*with_room)
        except ConnectionError:
            return  # it is cut already
        assert await refused(client, 431)
    assert upstream.begun == bool(behind)


async def test_a_head_behind_a_call_under_way_is_bounded_too(
    front: Opened, upstream: Upstream
) -> None:
    """Pipelined, it is parsed before the call that it follows is answered."""
    begun = asyncio.Event()

    async def never(exchange: Exchange) -> None:
        begun.set()
        await exchange.left()

    upstream.plays(never)
    sidecar = await front()
    async with sidecar.client() as client:
        await client.send(get("/slow"))
        await begun.wait()
        await client.send(HEAD)
        for number in range(100):
            try:
                await client.send(b"X-%d: %b\r\n" % (number, b"x" * (16 * KIB)))
            except ConnectionError:
                break
            await settle()
        assert await client.ended()


# --- the time of a head


@pytest.mark.parametrize("after", ["", "a call", "a hit"])
def test_a_head_that_drips_is_cut(after: str, tmp_path: Any) -> None:
    """Slowloris: a byte now and then held a connection for as long as it pleased."""
    (tmp_path / "rules.toml").write_text('[tools."look"]\nread_only = true\n')
    look = post("/api/call-tool", {"service": "s", "tool_name": "look", "params": {}})

    async def drips(front: Front, upstream: Upstream) -> None:
        upstream.plays(answer(b'{"success": true, "data": "1"}'))
        async with front.client() as client:
            for _ in range({"": 0, "a call": 1, "a hit": 3}[after]):
                assert (await client.ask(look)).status == 200
            for number in range(9):
                await client.send(b"POST /x HTTP"[number : number + 1])
                await leap(1)
            assert not client.reader.at_eof()
            await client.send(b"T")
            await leap(1.5)
            assert await refused(client, 408)

    leaping_front(drips, MCP_CONFIG_FILE=tmp_path / "rules.toml")


def test_who_comes_in_time_is_served() -> None:
    """The bound is for each head, not for the connection."""

    async def comes(front: Front, _: Upstream) -> None:
        async with front.client() as client:
            for _ in range(3):
                await client.send(HEAD)
                await leap(9)
                await client.send(b"Content-Length: 0\r\n\r\n")
                assert (await client.hear()).status == 200
                await leap(60)  # idle, it may be for longer

    leaping_front(comes)


def test_who_says_nothing_is_not_kept() -> None:
    """Nor is one that never asks anything."""

    async def silent(front: Front, _: Upstream) -> None:
        async with front.client() as client:
            await leap(70)
            await leap(10)
            assert await client.ended()

    leaping_front(silent)


def test_the_time_of_a_head_is_set() -> None:
    async def late(front: Front, _: Upstream) -> None:
        async with front.client() as client:
            await client.send(b"G")
            await leap(2)
            assert await refused(client, 408)

    leaping_front(late, MCP_HEAD_TIMEOUT=1)


class Hasty(asyncio.Protocol):
    """Read what comes with a connection in the same turn, as uvloop does after it has been busy."""

    def __init__(self, connection: asyncio.Protocol, data: bytes) -> None:
        self._connection = connection
        self._data = data

    def connection_made(self, transport: Any) -> None:
        transport.set_protocol(self._connection)
        self._connection.connection_made(transport)
        self._connection.data_received(self._data)


def test_a_head_that_comes_with_its_connection_has_no_more_time() -> None:
    """It was the idle connection's 75 s, since nobody had begun to wait for a request yet."""

    async def together(front: Front, _: Upstream) -> None:
        (runner,) = front.ports.runners
        assert runner.server is not None
        ours, theirs = socket.socketpair()
        connection = runner.server()
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: Hasty(connection, HEAD), ours
        )
        client = Client(*await asyncio.open_connection(sock=theirs))
        await leap(11)
        assert await refused(client, 408)
        await client.close()

    leaping_front(together)


def test_no_call_is_broken_off_by_the_head_behind_it() -> None:
    """Who pipelines slowly waits for an answer; it is not lost."""

    async def behind(front: Front, upstream: Upstream) -> None:
        go_on = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            await go_on.wait()
            await exchange.send(answer(b"done"))

        upstream.plays(slow)
        async with front.client() as client:
            await client.send(get("/slow"), b"GET /next HT")
            await upstream.until(lambda: upstream.begun == 1)
            await leap(20)
            go_on.set()
            assert (await client.hear()).body == b"done"
            await client.send(b"TP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await client.hear()).body == b"done"

    leaping_front(behind)


# --- the time of a body


PARTS = {
    "counted": (post("/mcp", b" " * 100)[:-50], b""),
    "counted and not read": (post("/x", b" " * 2 * KIB)[:-KIB], b""),
    "chunked": (request("POST", "/mcp", "Transfer-Encoding: chunked", body=b"5\r\n"), b""),
    "chunked and not read": (
        request("POST", "/x", "Transfer-Encoding: chunked", body=chunk(b"12345")),
        b"",
    ),
}


@pytest.mark.parametrize("sent", [part[0] for part in PARTS.values()], ids=[*PARTS])
def test_a_body_that_stops_coming_is_given_up(sent: bytes) -> None:
    """MCP_BODY_TIMEOUT: of silence, not of time in all."""

    async def stops(front: Front, upstream: Upstream) -> None:
        upstream.reads_bodies = False
        upstream.plays(Exchange.left)
        async with front.client() as client:
            await client.send(sent)
            if b"/x" in sent[:10]:
                await upstream.until(lambda: upstream.begun == 1)
            await leap(59)
            await leap(2)
            heard = await client.hear()
            assert b'"bad_request"' in heard.body
            assert b"MCP_BODY_TIMEOUT" in heard.body
            if b"/x" in sent[:10]:
                assert (heard.status, heard.json["delivered"]) == (408, "unknown")
            await leap(11)  # aiohttp waits for the rest of a body that was refused
            assert await client.ended()

    leaping_front(stops, MCP_BUFFER_LIMIT=1000)


def test_a_slow_body_that_goes_on_is_waited_for() -> None:
    async def goes_on(front: Front, upstream: Upstream) -> None:
        async with front.client() as client:
            await client.send(HEAD + b"Content-Length: 5\r\n\r\n")
            for _ in range(5):
                await leap(50)
                await client.send(b"x")
            assert (await client.hear()).status == 200
            assert upstream.asked[0].body == b"xxxxx"

    leaping_front(goes_on)


def test_a_body_whose_head_is_known_is_given_the_same_time(tmp_path: Any) -> None:
    """The express way holds what has come, and must not hold it for ever."""
    (tmp_path / "rules.toml").write_text('[tools."look"]\nread_only = true\n')
    look = post("/api/call-tool", {"service": "s", "tool_name": "look", "params": {}})

    async def known(front: Front, upstream: Upstream) -> None:
        upstream.plays(answer(b'{"success": true, "data": "1"}'))
        async with front.client() as client:
            for _ in range(2):
                await client.ask(look)
            await client.send(look[:-5])
            await leap(30)
            await client.send(look[-5:])
            assert (await client.hear()).status == 200
            await client.send(look[:-5])
            await leap(11)
            await leap(61)
            assert (await client.hear()).status == 408

    leaping_front(known, MCP_CONFIG_FILE=tmp_path / "rules.toml")


# --- the size of a body


@pytest.mark.parametrize("path", ["/mcp", "/x", "/api/call-tool"])
@pytest.mark.parametrize("chunks", [False, True])
async def test_ten_times_the_largest_body_is_refused(
    front: Opened, upstream: Upstream, path: str, *, chunks: bool
) -> None:
    """F13, MCP_MAX_BODY_BYTES: before the server is touched."""
    sidecar = await front(MCP_MAX_BODY_BYTES=1000)
    raw = post(path, b" " * 10_000)
    if chunks:
        pieces = b"".join([chunk(b" " * 100)] * 100) + b"0\r\n\r\n"
        raw = request("POST", path, "Transfer-Encoding: chunked", body=pieces)
    heard = await sidecar.ask(raw)
    assert heard.status == 413
    assert upstream.begun == 0


# --- connections


async def test_one_connection_too_many_hears_why(front: Opened, upstream: Upstream) -> None:
    """MCP_CONNECTIONS_LIMIT; who leaves makes room."""
    sidecar = await front(MCP_CONNECTIONS_LIMIT=2)
    async with sidecar.client() as one, sidecar.client() as two:
        assert (await one.ask(get("/x"))).status == (await two.ask(get("/x"))).status == 200
        for raw in (get("/x"), post("/mcp", tool("look")), get("/livez")):
            async with sidecar.client() as late:
                heard = await late.ask(raw)
                assert heard.status == 503
                assert heard.json["code"] == "overloaded"
                assert heard.json["delivered"] == "no"
                assert heard["Retry-After"] == "1"
                assert await late.ended()
        await two.close()
        await settle()
        assert (await sidecar.ask(get("/x"))).status == 200
        assert (await one.ask(get("/x"))).status == 200
        counts = (await one.ask(get("/api/metrics"))).json["connections"]
        assert counts == {"open": 1, "refused": 3}
    assert upstream.begun == 4


def test_who_is_refused_and_stays_silent_is_let_go() -> None:
    async def silent(front: Front, _: Upstream) -> None:
        async with front.client() as one, front.client() as late:
            assert (await one.ask(get("/livez"))).status == 200
            await settle()
            await leap(1.1)
            assert await late.ended()

    leaping_front(silent, MCP_CONNECTIONS_LIMIT=1)


async def test_ten_times_the_refusals_are_cut_without_a_word(front: Opened) -> None:
    """Those who wait for a refusal are bounded as well, or they would be the connections."""
    sidecar = await front(MCP_CONNECTIONS_LIMIT=1)
    async with sidecar.client() as one:
        assert (await one.ask(get("/livez"))).status == 200
        opened = [
            await asyncio.open_connection("127.0.0.1", sidecar.port) for _ in range(SPARE + 20)
        ]
        cut = 0
        for reader, _ in opened[SPARE:]:
            try:
                cut += await within(reader.read()) == b""
            except ConnectionError:
                cut += 1
        assert cut == 20
        for _, writer in opened:
            writer.close()
        assert (await one.ask(get("/livez"))).status == 200


async def test_the_limit_holds_on_each_port(front: Opened) -> None:
    """An operator finds a way in while the other port is full."""
    sidecar = await front(MCP_CONNECTIONS_LIMIT=1, MCP_OPS_PORT=unused_port())
    async with sidecar.client() as one:
        assert (await one.ask(get("/api/health"))).status in {200, 503}
        assert (await sidecar.ask(get("/api/health"))).status == 503
        assert (await sidecar.ask(get("/livez"), sidecar.ops_port)).status == 200


async def test_a_large_body_is_no_large_head(front: Opened, upstream: Upstream) -> None:
    """Nor is what comes behind it."""
    sidecar = await front()
    async with sidecar.client() as client:
        for _ in range(2):
            raw = post("/x", b" " * (1024 * KIB))
            for start in range(0, len(raw), 64 * KIB):
                await client.send(raw[start : start + 64 * KIB])
                await settle()
            assert (await client.hear()).status == 200
    assert [len(asked.body) for asked in upstream.asked] == [1024 * KIB] * 2


async def test_bodies_of_all_clients_together_are_bounded(
    front: Opened, upstream: Upstream
) -> None:
    """MCP_HELD_BYTES: while they come, and while their calls are under way; then there is room."""
    go_on = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await go_on.wait()
        await exchange.send(answer(b"{}"))

    upstream.plays(slow)
    sidecar = await front(MCP_HELD_BYTES=10_000)
    held = sidecar.sidecar.inbound._held
    whole = post("/mcp", b"x" * 4_000)
    async with sidecar.client() as one, sidecar.client() as two, sidecar.client() as late:
        await one.send(whole)
        await upstream.until(lambda: upstream.begun == 1)
        await two.send(whole[:-1])
        while held.bytes < 7_999:
            await settle()
        heard = await late.ask(whole)
        assert b'"overloaded"' in heard.body
        assert heard["Retry-After"] == "1"
        await two.send(whole[-1:])
        await upstream.until(lambda: upstream.begun == 2)
        assert b'"overloaded"' in (await late.ask(whole)).body
        go_on.set()
        assert (await one.hear()).body == (await two.hear()).body == b"{}"
        assert (await late.ask(whole)).body == b"{}"
    await settle()
    assert held.bytes == 0
    assert upstream.begun == 3


async def test_who_leaves_holds_nothing(front: Opened, upstream: Upstream) -> None:
    sidecar = await front(MCP_HELD_BYTES=10_000)
    held = sidecar.sidecar.inbound._held
    for _ in range(10):
        async with sidecar.client() as client:
            await client.send(post("/mcp", b"x" * 4_000)[:-1])
            while not held.bytes:
                await settle()
        while held.bytes:
            await settle()
    assert upstream.begun == 0
