"""A request that is in memory, over a pooled connection."""

import asyncio

import aiohttp
import pytest
from yarl import URL

from mcp_proxy.core.session import SESSION
from mcp_proxy.edge.exchange import Exchange, NeverWrittenError, write
from tests.edge.conftest import Opened
from tests.edge.wire import Exchange as Played
from tests.edge.wire import Upstream, answer, get, post, result, tool

TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=3, sock_read=5)


@pytest.mark.parametrize("target", ["/a b", "/a\r\nX: y", "/\x00", "/\udcff", "/\x7f"])
async def test_what_is_no_target_is_not_said(target: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ValueError, match="target"):
            await Exchange(URL("http://127.0.0.1:1"), "").ask(
                session, ("GET", target, ""), b"", TIMEOUT
            )


async def test_nothing_is_written_to_a_connection_that_has_gone() -> None:
    class Protocol:
        transport: asyncio.Transport | None = None

    class Closing(asyncio.Transport):
        def is_closing(self) -> bool:
            return True

    gone = Protocol()
    for transport in (None, Closing()):
        gone.transport = transport
        with pytest.raises(NeverWrittenError):
            write(gone, b"GET")  # type: ignore[arg-type] # the part of it that is looked at


async def test_a_connection_is_used_again_after_each_kind_of_answer(
    front: Opened, upstream: Upstream
) -> None:
    plays = [
        answer(b"whole"),
        answer(b""),
        answer(status="204 No Content"),
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(b"after"),
        answer(b"last"),
    ]
    upstream.plays(*plays)
    sidecar = await front()
    heard = [await sidecar.ask(get("/x")) for _ in plays]
    assert [one.body for one in heard] == [b"whole", b"", b"", b"after", b"last"]
    assert len(set(upstream.on)) == 1


async def test_an_answer_that_goes_on_does_not_go_back_to_the_pool(
    front: Opened, upstream: Upstream
) -> None:
    """Response splitting: what follows an answer is nobody's."""
    upstream.plays(answer(b"mine") + answer(b"yours"), answer(b"right"))
    sidecar = await front()
    assert (await sidecar.ask(get("/x"))).body == b"mine"
    assert (await sidecar.ask(get("/x"))).body == b"right"


async def test_lines_are_of_one_caller_and_one_session(front: Opened, upstream: Upstream) -> None:
    """What is remembered of a head is told on for that head alone."""
    upstream.plays(answer(result(1, content=[])))
    sidecar = await front()
    callers = [(f"Bearer {one}", f"s{one}") for one in range(4)]
    for _ in range(3):
        for token, session in callers:
            headers = (f"Authorization: {token}", f"{SESSION}: {session}")
            await sidecar.ask(post("/mcp", tool("save"), *headers))
    sent = [(one["Authorization"], one[SESSION]) for one in upstream.asked]
    assert sent == callers * 3
    assert len({one["X-Request-Id"] for one in upstream.asked}) == 12


async def test_a_body_has_its_own_length(front: Opened, upstream: Upstream) -> None:
    """RFC 9112 section 6: the same head lines before bodies that came in chunks."""
    upstream.plays(answer(result(1, content=[])))
    sidecar = await front()
    for name in ("a", "bbbb", "cc"):
        body = post("/mcp", tool(name)).partition(b"\r\n\r\n")[2]
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        head = get("/mcp", "Content-Type: application/json", "Transfer-Encoding: chunked")
        for _ in range(2):
            heard = await sidecar.ask(head.replace(b"GET", b"POST") + chunks)
            assert heard.status == 200
            assert upstream.asked[-1].body == body
            assert upstream.asked[-1]["Content-Length"] == str(len(body))


async def test_who_leaves_closes_the_connection(front: Opened, upstream: Upstream) -> None:
    left = asyncio.Event()

    async def silent(exchange: Played) -> None:
        await exchange.left()
        left.set()

    upstream.plays(silent)
    sidecar = await front()
    async with sidecar.client() as client:
        await client.send(get("/x"))
        await upstream.until(lambda: len(upstream.asked) == 1)
    async with asyncio.timeout(5):  # noqa: TID251 - bounds the test
        await left.wait()
