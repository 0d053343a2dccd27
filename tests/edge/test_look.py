"""Our own looks at the server: short, small, and never an exception."""

import asyncio
from typing import Any

import pytest

from mcp_proxy.edge.look import Look, fields_in
from mcp_proxy.edge.names import Names
from mcp_proxy.edge.pool import Pools, open_pools
from tests.edge.wire import Exchange, Upstream, answer, bound, chunk, streamed, unused_port


@pytest.fixture
async def pools() -> Any:
    opened = open_pools(4, 4, Names(lambda: 0.0))
    yield opened
    await opened.aclose()


def look(upstream: Upstream, pools: Pools, seconds: float = 5.0) -> Look:
    return Look(upstream.url, pools.streams, seconds)


async def test_an_answer_is_taken_as_it_is(upstream: Upstream, pools: Pools) -> None:
    upstream.own = answer(b"hello", "X-Name: v", status="418 Tea")
    status, headers, body = await look(upstream, pools).ask("POST", "/a/../b", {"A": "1"}, b"data")  # type: ignore[misc]
    assert (status, headers["x-name"], body) == (418, "v", b"hello")
    (asked,) = upstream.looks
    assert (asked.target, asked["A"], asked.body) == ("/a/../b", "1", b"data")


async def test_redirects_are_not_followed(upstream: Upstream, pools: Pools) -> None:
    """F39."""
    upstream.own = answer(b"", f"Location: {upstream.url}/elsewhere", status="302 Found")
    status, *_ = await look(upstream, pools).ask("GET", "/health", {})
    assert status == 302
    assert len(upstream.looks) == 1


async def test_a_page_that_never_ends_is_not_read_on(pools: Pools) -> None:
    """F12: a health page, or a tool list, of any size."""
    left = asyncio.Event()

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(streamed("text/plain"))
        try:
            while True:
                writer.write(chunk(b"x" * 60_000))
                await writer.drain()
        except ConnectionError:
            left.set()
        writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    url = f"http://localhost:{server.sockets[0].getsockname()[1]}"
    _, _, body = await Look(url, pools.streams, 5.0).ask("GET", "/", {})  # type: ignore[misc]
    assert 1 << 20 <= len(body) < 1 << 21
    async with bound():
        await left.wait()
    server.close()


async def test_what_goes_wrong_comes_as_a_code(upstream: Upstream, pools: Pools) -> None:
    nobody = Look(f"http://localhost:{unused_port()}", pools.streams, 5.0)
    assert await nobody.ask("GET", "/", {}) == "upstream_unreachable"
    upstream.own = b"nonsense\r\n\r\n"
    assert await look(upstream, pools).ask("GET", "/", {}) == "upstream_broken"
    upstream.own = b""
    assert await look(upstream, pools, 0.05).ask("GET", "/", {}) == "upstream_timeout"


async def test_a_page_that_is_cut_is_broken(upstream: Upstream, pools: Pools) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.send(answer(b"half", "Content-Length: 100"))
        exchange.close()

    upstream.plays(cut)
    found = await look(upstream, pools).ask("GET", "/", {"Via": "to be scripted"})
    assert found == "upstream_broken"


async def test_a_look_goes_on_while_all_places_for_streams_are_taken(
    upstream: Upstream,
) -> None:
    """Health must not seem to fail because many listen."""

    async def listens(exchange: Exchange) -> None:
        await exchange.send(streamed())
        await exchange.left()

    upstream.plays(listens)
    pools = open_pools(1, 1, Names(lambda: 0.0))
    held = await pools.streams.get(upstream.url, headers={"Via": "to be scripted"})
    assert await look(upstream, pools, 1.0).ask("GET", "/", {}) != "upstream_timeout"
    held.close()
    await pools.aclose()


@pytest.mark.parametrize(
    ("page", "fields"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b"[]", {}),
        (b"no", {}),
        (b"", {}),
        (b'{"a":' + b"[" * 300 + b"]" * 300 + b"}", {}),
    ],
)
def test_only_an_object_that_can_be_told_on_has_fields(page: bytes, fields: dict[str, Any]) -> None:
    assert fields_in(page) == fields


# --- how a stream begins


async def test_a_stream_is_left_after_its_first_words(upstream: Upstream, pools: Pools) -> None:
    upstream.own = streamed() + chunk(b"data: 1\n\n")
    begun = await look(upstream, pools).begin("GET", "/mcp", {}, b"", 5.0)
    status, headers, first = begun  # type: ignore[misc]
    assert (status, headers["content-type"], first) == (200, "text/event-stream", b"data: 1\n\n")
    await upstream.until(lambda: upstream.open == set())


async def test_a_stream_that_says_nothing_is_told_by_its_head(
    upstream: Upstream, pools: Pools
) -> None:
    upstream.own = streamed()
    begun = await look(upstream, pools).begin("GET", "/mcp", {}, b"", 0.05)
    assert begun[0] == 200
    assert begun[2] == b""  # type: ignore[misc]


async def test_a_stream_without_a_head_is_a_code(upstream: Upstream, pools: Pools) -> None:
    upstream.own = b""
    assert await look(upstream, pools).begin("GET", "/", {}, b"", 0.05) == "upstream_timeout"
    nobody = Look(f"http://localhost:{unused_port()}", pools.streams, 5.0)
    assert await nobody.begin("GET", "/", {}, b"", 5.0) == "upstream_unreachable"
