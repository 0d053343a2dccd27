"""The express way: hits that are answered in the step in which their bytes come in."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from mcp_proxy.core.call import Call, Reply, Whole
from mcp_proxy.core.intent import Stack
from mcp_proxy.edge import connection
from mcp_proxy.edge.express import MORE, Express, Met, spells
from tests.edge.conftest import Opened
from tests.edge.wire import (
    Client,
    Exchange,
    Front,
    Said,
    Upstream,
    answer,
    chunk,
    chunked,
    get,
    post,
    request,
    result,
    streamed,
    tool,
)
from tests.edge.wire import sidecar as opened
from tests.fakes import call, settle, spawn, within
from tests.leaping import leap, leaping

LOOK = {"service": "jira", "tool_name": "look", "params": {"key": "OPS-1"}}
SAVE = {**LOOK, "tool_name": "save"}
DONE = b'{"success": true, "data": "done", "error": null, "timestamp": "2026-01-01T00:00:00"}'
RULES = '[tools."look"]\nread_only = true\n'


def express_of(front: Front) -> Express:
    express = front.sidecar.inbound.express
    assert express is not None
    return express


@pytest.fixture
def rules(tmp_path: Any) -> str:
    (tmp_path / "rules.toml").write_text(RULES)
    return str(tmp_path / "rules.toml")


@asynccontextmanager
async def warmed(
    front: Opened, upstream: Upstream, rules: str, raw: bytes = post("/api/call-tool", LOOK)
) -> AsyncIterator[tuple[Front, Client]]:
    """Open a connection on which `raw` has been asked once, so that its answer is stored."""
    upstream.plays(answer(DONE))
    sidecar = await front(MCP_CONFIG_FILE=rules)
    async with sidecar.client() as client:
        assert "stored" in (await client.ask(raw))["Cache-Status"]
        yield sidecar, client


def lasting(heard: Said) -> list[tuple[str, str]]:
    """Return the headers that do not tell one answer from the next."""
    passing = {"x-request-id", "server-timing", "age", "cache-status", "content-length"}
    return [field for field in heard.headers if field[0].lower() not in passing]


# --- it is taken


async def test_a_hit_after_the_same_head_is_answered_at_once(
    front: Opened, upstream: Upstream, rules: str
) -> None:
    asked = post("/api/call-tool", LOOK)
    async with warmed(front, upstream, rules, asked) as (sidecar, client):
        hits = [await client.ask(asked) for _ in range(3)]
        assert express_of(sidecar).answered == 3
        assert all("; hit" in hit["Cache-Status"] for hit in hits)
        assert len({hit["X-Request-Id"] for hit in hits}) == 3
        assert len(upstream.asked) == 1
        assert [hit.json["cache_hit"] for hit in hits] == [True, True, True]


async def test_both_ways_say_the_same(front: Opened, upstream: Upstream, rules: str) -> None:
    """A connection that sends its head in two parts is answered the usual way."""
    asked = post("/api/call-tool", LOOK, "Origin: http://localhost:3000", "X-Request-Id: mine")
    async with warmed(front, upstream, rules, asked) as (sidecar, client):
        quick = await client.ask(asked)
        assert express_of(sidecar).answered == 1
        sidecar.sidecar.inbound.express.closed = True  # type: ignore[union-attr]
        usual = await client.ask(asked)
        assert express_of(sidecar).answered == 1
        assert (quick.line, lasting(quick)) == (usual.line, lasting(usual))
        assert quick["X-Request-Id"] == usual["X-Request-Id"] == "mine"
        varying = {"execution_time_ms": 0}
        assert {**quick.json, **varying} == {**usual.json, **varying}


async def test_each_caller_of_mcp_gets_its_own_id(
    front: Opened, upstream: Upstream, rules: str
) -> None:
    """F15: the type of an id is kept."""
    upstream.plays(answer(b'{"jsonrpc": "2.0", "id": 7, "result": {"content": []}}'))
    sidecar = await front(MCP_CONFIG_FILE=rules)
    async with sidecar.client() as client:
        await client.ask(post("/mcp", tool("look", 7)))
        for own in (8, "8", 9, "x"):
            # the first with a head of its length goes the usual way
            await client.ask(post("/mcp", tool("look", own)))
            heard = await client.ask(post("/mcp", tool("look", own)))
            assert heard.json["id"] == own
            assert type(heard.json["id"]) is type(own)
        assert express_of(sidecar).answered >= 4
        assert len(upstream.asked) == 1


async def test_every_call_is_counted_and_told(
    front: Opened, upstream: Upstream, rules: str
) -> None:
    """DESIGN section 6: one event for every tool call, hits too."""
    asked = post("/api/call-tool", LOOK)
    async with warmed(front, upstream, rules, asked) as (sidecar, client):
        await client.ask(asked)
        (row,) = (await sidecar.ask(get("/api/metrics"))).json["tools"]
    assert (row["requests"], row["cache"]["hits"]) == (2, 1)
    told = [event for event in sidecar.told() if event["event"] == "tool.call.completed"]
    assert [event["cache"] for event in told] == ["miss", "hit"]


@pytest.mark.parametrize("cut", [0, 1, 5])
async def test_a_body_may_come_after_its_head(
    front: Opened, upstream: Upstream, rules: str, cut: int
) -> None:
    """httpx and Python's http.client send them one after the other."""
    asked = post("/api/call-tool", LOOK)
    async with warmed(front, upstream, rules, asked) as (sidecar, client):
        body = asked.index(b"\r\n\r\n") + 4 + cut
        for part in (asked[:body], asked[body:-1], asked[-1:]):
            await client.send(part)
            await asyncio.sleep(0)  # noqa: TID251 - lets the part come alone; the answer is the same
        assert "; hit" in (await client.hear())["Cache-Status"]
        assert "; hit" in (await client.ask(asked))["Cache-Status"]
        assert len(upstream.asked) == 1
        assert express_of(sidecar).answered == 2


# --- it is not taken


async def test_another_caller_is_another_caller(
    front: Opened, upstream: Upstream, rules: str
) -> None:
    """F34: whatever way an answer takes."""
    asked = post("/api/call-tool", LOOK, "Authorization: Bearer a")
    async with warmed(front, upstream, rules, asked) as (_, client):
        other = await client.ask(post("/api/call-tool", LOOK, "Authorization: Bearer b"))
        assert "fwd=miss" in other["Cache-Status"]
        assert "; hit" in (await client.ask(asked))["Cache-Status"]
        assert len(upstream.asked) == 2


async def test_a_write_ends_it(front: Opened, upstream: Upstream, rules: str) -> None:
    """F36: the answer from before is told to nobody, by no way."""
    asked = post("/api/call-tool", LOOK)
    async with warmed(front, upstream, rules, asked) as (_, client):
        assert "; hit" in (await client.ask(asked))["Cache-Status"]
        await client.ask(post("/api/call-tool", SAVE))
        assert "fwd=miss" in (await client.ask(asked))["Cache-Status"]


async def test_a_caller_who_wants_it_fresh_gets_it_fresh(
    front: Opened, upstream: Upstream, rules: str
) -> None:
    asked = post("/api/call-tool", LOOK, "Cache-Control: no-cache")
    async with warmed(front, upstream, rules, asked) as (sidecar, client):
        assert "fwd=request" in (await client.ask(asked))["Cache-Status"]
        assert express_of(sidecar).answered == 0


async def test_who_drains_refuses(front: Opened, upstream: Upstream, rules: str) -> None:
    """DESIGN section 7: the socket stays open and answers `draining`."""
    asked = post("/api/call-tool", LOOK)
    async with warmed(front, upstream, rules, asked) as (sidecar, client):
        sidecar.sidecar.inbound.draining = True
        heard = await client.ask(asked)
        assert (heard.status, heard.json["error_details"]["code"]) == (503, "draining")


@pytest.mark.parametrize(
    "raw",
    [
        post("/api/call-tool", LOOK, "Connection: close"),
        post("/api/call-tool", LOOK, "Connection: keep-alive"),
        post("/api/call-tool", LOOK, "Expect: 100-continue"),
        post("/api/call-tool", LOOK, "X-Large: " + "x" * 2048),
        post("/api/call-tool", {**LOOK, "params": {"text": "x" * 9000}}),
        post("/api/call-tool", LOOK).replace(b"HTTP/1.1", b"HTTP/1.0"),
        request(
            "POST",
            "/api/call-tool",
            "Transfer-Encoding: chunked",
            body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(json.dumps(LOOK)), json.dumps(LOOK).encode()),
        ),
        b"\r\n" + post("/api/call-tool", LOOK),
    ],
)
async def test_an_unusual_head_is_not_remembered(
    front: Opened, upstream: Upstream, rules: str, raw: bytes
) -> None:
    upstream.plays(answer(DONE))
    sidecar = await front(MCP_CONFIG_FILE=rules)
    for _ in range(3):
        async with sidecar.client() as client:
            await client.send(raw)
            assert (await client.hear()).status == 200
    assert express_of(sidecar).answered == 0
    assert len(express_of(sidecar)._heads) == 0


OTHER = post("/api/call-tool", {**LOOK, "params": {"key": "another, longer one"}})
HEAD = b"POST /mcp HTTP/1.1\r\nA: b\r\nC:  d \r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\r\n\r\n",
        b"\r\n" + HEAD,
        HEAD[:-2],
        HEAD + b"x",
        HEAD + b"\r\n",
        HEAD.replace(b"\r\n", b"\n"),
        HEAD.replace(b"b\r\n", b"b\n"),
        HEAD.replace(b"C:  d", b"C: e"),
        HEAD.replace(b"C:", b"c:"),
        HEAD.replace(b"A: b\r\n", b""),
        HEAD.replace(b"A: b", b"A: b\r\nE: f"),
        HEAD.replace(b"/mcp", b"/mcp/"),
        HEAD.replace(b"POST", b"PUT"),
        HEAD.replace(b"1.1", b"1.0"),
    ],
)
def test_bytes_that_are_not_all_of_a_head_are_not_its_head(head: bytes) -> None:
    """RFC 9112 section 2.2: recipients may skip empty lines, and take a bare LF for a line's end."""
    made = call()._replace(target="/mcp", raw=((b"A", b"b"), (b"C", b"d")))
    assert spells(HEAD, made)
    assert not spells(head, made)


async def test_only_one_whole_request_is_answered(
    front: Opened, upstream: Upstream, rules: str
) -> None:
    asked = post("/api/call-tool", LOOK)
    async with warmed(front, upstream, rules, asked) as (sidecar, _):
        express = express_of(sidecar)
        met = express.read("127.0.0.1", asked)
        assert isinstance(met, Met)
        assert (express.at_once(met.call) or b"").startswith(b"HTTP/1.1 200 OK\r\n")
        assert express.read("127.0.0.1", asked[:-1]) is MORE
        others = (asked + b" ", asked[:-1].replace(b"\r\n\r\n", b"\r\n"), asked[:50], b"")
        assert [express.read("127.0.0.1", other) for other in others] == [None] * 4
        assert express.read("127.0.0.2", asked) is None


@pytest.mark.parametrize("first", [b"", post("/api/call-tool", LOOK)])
async def test_what_stands_in_a_body_is_no_request(
    front: Opened, upstream: Upstream, rules: str, first: bytes
) -> None:
    """Request smuggling: the bytes of a known request, in the body of another."""
    asked = post("/api/call-tool", LOOK)
    outer = request("PUT", "/page", body=asked)
    async with warmed(front, upstream, rules, asked) as (sidecar, client):
        await client.send(first + outer[: -len(asked)])
        if first:
            assert "; hit" in (await client.hear())["Cache-Status"]
        await sidecar.ask(request("GET", "/"))  # meanwhile the head of the outer one is read
        await client.send(asked)
        assert "fwd=" in (await client.hear())["Cache-Status"]
        assert (upstream.asked[-1].target, upstream.asked[-1].body) == ("/page", asked)


@pytest.mark.parametrize("before", [[], [post("/api/call-tool", LOOK)], [OTHER[:-3], OTHER[-3:]]])
async def test_what_stands_in_a_header_is_no_request(
    front: Opened, upstream: Upstream, rules: str, before: list[bytes]
) -> None:
    """The parser holds half a head when the bytes of a known request come."""
    asked = post("/api/call-tool", LOOK)
    async with warmed(front, upstream, rules, asked) as (sidecar, client):
        half = b"GET /page HTTP/1.1\r\nX-Smuggled: "
        for part in (*before[:-1], b"".join((*before[-1:], half))):
            await client.send(part)
            await sidecar.ask(request("GET", "/"))  # meanwhile it is read
        if before:
            assert (await client.hear()).status == 200
        await client.send(asked)
        assert "fwd=" in (await client.hear())["Cache-Status"]
        assert upstream.asked[-1].target == "/page"
        assert upstream.asked[-1]["X-Smuggled"] == "POST /api/call-tool HTTP/1.1"


async def test_what_comes_too_much_is_read_as_the_next_request(
    front: Opened, upstream: Upstream, rules: str
) -> None:
    asked = post("/api/call-tool", LOOK)
    async with warmed(front, upstream, rules, asked) as (_, client):
        await client.send(asked + asked + asked[:20])
        assert "; hit" in (await client.hear())["Cache-Status"]
        await client.send(asked[20:])
        for _ in range(2):
            assert "; hit" in (await client.hear())["Cache-Status"]
        assert "; hit" in (await client.ask(asked))["Cache-Status"]
        assert len(upstream.asked) == 1


async def test_who_does_not_read_is_not_written_to_without_end(
    front: Opened, upstream: Upstream, rules: str
) -> None:
    """F46: aiohttp's own way waits until the client has read what was written."""
    asked = post("/api/call-tool", LOOK)
    async with warmed(front, upstream, rules, asked) as (sidecar, _):
        server = web.Server(sidecar.sidecar.inbound)
        one = connection.Connection(server, express_of(sidecar), loop=asyncio.get_running_loop())
        written = Written()
        one.connection_made(written)
        await asyncio.sleep(0)  # noqa: TID251 - until it waits for requests
        one.data_received(asked.replace(b"localhost", b"localhost"))
        assert written.count == 1
        one.pause_writing()
        one.data_received(asked)
        assert written.count == 1
        one.resume_writing()
        one.connection_lost(None)


async def test_a_head_is_never_taken_for_another_ones(
    front: Opened, upstream: Upstream, rules: str
) -> None:
    """F34: two callers behind one connection, the second heard before the first is looked at."""
    one, other = (
        post("/api/call-tool", LOOK, f"Authorization: Bearer {name}") for name in ("a", "b")
    )
    async with warmed(front, upstream, rules, one) as (sidecar, _):
        express = express_of(sidecar)
        for steps in range(6):
            express._heads.clear()
            server = web.Server(sidecar.sidecar.inbound)
            both = connection.Connection(server, express, loop=asyncio.get_running_loop())
            both.connection_made(Written())
            await asyncio.sleep(0)  # noqa: TID251 - until it waits for requests
            both.data_received(one)
            for _ in range(steps):
                await asyncio.sleep(0)  # noqa: TID251 - as far as it gets
            both.data_received(other)
            await settle()
            for (_, spelled), head in express._heads.items():
                assert head.headers["Authorization"].encode() in spelled
            both.connection_lost(None)


async def test_a_road_that_must_wait_or_refuse_has_its_say(
    front: Opened, upstream: Upstream, rules: str
) -> None:
    """What stands before the cache decides, though the answer is at hand."""
    asked = post("/api/call-tool", LOOK, "Origin: http://localhost:3000")
    async with warmed(front, upstream, rules, asked) as (sidecar, _):
        express = express_of(sidecar)
        lane, gate = express._lane, asyncio.Event()

        async def waits(call: Call) -> Reply:
            await gate.wait()
            return await lane.stacks[Stack.FULL](call)

        async def refuses(call: Call) -> Reply:
            headers = CIMultiDict({"Retry-After": "1"})
            return Reply(429, headers, Whole(b"{}"), error_code="rate_limited")

        met = express.read("127.0.0.1", asked)
        assert isinstance(met, Met)
        express._lane = lane._replace(stacks={Stack.FULL: waits})
        assert express.at_once(met.call) is None
        express._lane = lane._replace(stacks={Stack.FULL: refuses})
        refused = express.at_once(met.call) or b""
        assert refused.startswith(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\n")
        assert b"Access-Control-Allow-Origin: http://localhost:3000\r\n" in refused


# --- it is taken, and must wait for the server

SAVES = post("/api/call-tool", SAVE)


@asynccontextmanager
async def known(
    front: Opened, upstream: Upstream, raw: bytes = SAVES, **settings: object
) -> AsyncIterator[tuple[Front, Client]]:
    """Open a connection on which `raw` has been asked once, so that its head is known."""
    upstream.plays(answer(DONE))
    sidecar = await front(**settings)
    async with sidecar.client() as client:
        assert (await client.ask(raw)).status == 200
        met = express_of(sidecar).read("127.0.0.1", raw)
        assert isinstance(met, Met)
        yield sidecar, client


async def test_a_known_head_is_said_on_as_an_unknown_one_is(
    front: Opened, upstream: Upstream
) -> None:
    raw = post("/api/call-tool?b=%20", SAVE, "x-ODD: a", "X-Odd: b", "Authorization: Bearer mine")
    async with known(front, upstream, raw) as (sidecar, client):
        known_ones = [await client.ask(raw) for _ in range(2)]
        express_of(sidecar).closed = True
        heard = await client.ask(raw)
    sent = [
        (one.line, [field for field in one.headers if field[0] != "X-Request-Id"], one.body)
        for one in upstream.asked
    ]
    assert len(sent) == 4
    assert all(one == sent[0] for one in sent)
    assert all((one.line, lasting(one)) == (heard.line, lasting(heard)) for one in known_ones)
    events = [event for event in sidecar.told() if event["event"] == "tool.call.completed"]
    assert [event["verdict"] for event in events] == ["ok"] * 4


async def test_who_leaves_ends_the_call(front: Opened, upstream: Upstream) -> None:
    left = asyncio.Event()

    async def stays_silent(exchange: Exchange) -> None:
        await exchange.left()
        left.set()

    async with known(front, upstream) as (sidecar, client):
        upstream.plays(stays_silent)
        await client.send(SAVES)
        await upstream.until(lambda: len(upstream.asked) == 2)
        await client.close()
        await within(left.wait())
    last = [event for event in sidecar.told() if event["event"] == "tool.call.completed"][-1]
    assert last["verdict"] == "left"


@pytest.mark.parametrize("at_once", [False, True])
async def test_what_comes_meanwhile_is_answered_in_turn(
    front: Opened, upstream: Upstream, *, at_once: bool
) -> None:
    """Requests in a row (RFC 9112 section 9.3.2): also more of them than are held."""
    go_on = asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        await go_on.wait()
        await exchange.send(answer(b"first"))

    page = request("PUT", "/page", body=b"x" * 70_000)
    async with known(front, upstream) as (_, client):
        upstream.plays(waits, answer(b"second"), answer(b"third"))
        if at_once:
            await client.send(SAVES + page + SAVES)
        else:
            await client.send(SAVES)
            await upstream.until(lambda: len(upstream.asked) == 2)
            sending = spawn(client.send(page, SAVES), "send")
            await settle()
        go_on.set()
        assert [(await client.hear()).body for _ in range(3)] == [b"first", b"second", b"third"]
        if not at_once:
            await sending
    assert [one.method for one in upstream.asked] == ["POST", "POST", "PUT", "POST"]
    assert upstream.asked[2].body == b"x" * 70_000


async def test_an_answer_in_pieces_passes_as_ever(front: Opened, upstream: Upstream) -> None:
    raw = post("/mcp", tool("save"))
    said = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\n\n'
    done = b"data: %b\n\n" % result()
    async with known(front, upstream, raw) as (_, client):
        upstream.plays(streamed() + chunked(said, done), answer(result()))
        heard = await client.ask(raw)
        assert (heard["Content-Type"], heard.body) == ("text/event-stream", said + done)
        assert (await client.ask(raw)).body == result(), "and another request may follow"


async def test_a_stream_that_breaks_breaks_the_connection(
    front: Opened, upstream: Upstream
) -> None:
    page = post("/page", b"{}")

    async def breaks(exchange: Exchange) -> None:
        await exchange.send(streamed("text/plain") + chunk(b"half"))
        exchange.reset()

    async with known(front, upstream, page) as (_, client):
        upstream.plays(breaks)
        heard = await client.ask(page)
        assert not heard.whole
        assert await client.ended()


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_an_answer_without_a_body_has_none(
    front: Opened, upstream: Upstream, status: str
) -> None:
    async with known(front, upstream, post("/page", b"{}")) as (_, client):
        upstream.plays(answer(status=status))
        for _ in range(2):
            heard = await client.ask(post("/page", b"{}"))
            assert (heard.line, heard.body) == (f"HTTP/1.1 {status}", b"")


async def test_what_is_held_in_one_step_is_counted_at_once(
    front: Opened, upstream: Upstream
) -> None:
    """Two requests of the same step, of which only one may be held: both are answered."""
    body = {**SAVE, "params": {"text": "x" * 600}}
    raw = post("/api/call-tool", body)
    go_on = asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        await go_on.wait()
        await exchange.send(answer(DONE))

    async with known(front, upstream, raw, MCP_HELD_BYTES=1000) as (sidecar, _):
        upstream.plays(waits)
        express = express_of(sidecar)
        server = web.Server(sidecar.sidecar.inbound)
        ones = []
        for _ in "ab":
            one = connection.Connection(server, express, loop=asyncio.get_running_loop())
            ones.append((one, Written()))
            one.connection_made(ones[-1][1])
        await settle()
        for one, _ in ones:
            one.data_received(raw)
        await upstream.until(lambda: len(upstream.asked) == 2)
        await settle()
        assert sorted(written.count for _, written in ones) == [0, 1], "one is refused"
        go_on.set()
        for _, written in ones:
            await within(written.came.wait())
        await settle()
        assert express.held.bytes == 0
        for one, _ in ones:
            one.connection_lost(None)


async def test_who_leaves_in_the_very_step_leaves_nothing(
    front: Opened, upstream: Upstream
) -> None:
    async with known(front, upstream) as (sidecar, _):
        express = express_of(sidecar)
        server = web.Server(sidecar.sidecar.inbound)
        one = connection.Connection(server, express, loop=asyncio.get_running_loop())
        one.connection_made(Written())
        await settle()
        one.data_received(SAVES)
        assert express.held.bytes > 0
        one.connection_lost(None)
        await settle()
        assert express.held.bytes == 0
        assert len(upstream.asked) == 1


async def test_a_mistake_in_the_step_itself_is_told_as_one(
    front: Opened, upstream: Upstream, rules: str
) -> None:
    asked = post("/api/call-tool", LOOK)
    async with warmed(front, upstream, rules, asked) as (sidecar, client):
        express = express_of(sidecar)

        def fails(_: Call) -> Reply | None:
            raise RuntimeError("secret")

        express._lane = express._lane._replace(known=fails)
        heard = await client.ask(asked)
        assert (heard.status, heard.json["code"]) == (500, "internal")
        assert "secret" not in heard.body.decode()


async def test_a_mistake_of_ours_is_told_as_one(front: Opened, upstream: Upstream) -> None:
    async with known(front, upstream) as (sidecar, client):
        express = express_of(sidecar)

        async def fails(_: Call) -> Reply:
            raise RuntimeError("secret")

        express._lane = express._lane._replace(stacks={Stack.FULL: fails})
        heard = await client.ask(SAVES)
        assert (heard.status, heard.json["code"]) == (500, "internal")
        assert "secret" not in heard.body.decode()
        assert await client.ended()


async def test_a_call_under_way_is_answered_in_the_drain(front: Opened, upstream: Upstream) -> None:
    go_on = asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        await go_on.wait()
        await exchange.send(answer(DONE))

    async with known(front, upstream) as (sidecar, client):
        upstream.plays(waits)
        await client.send(SAVES)
        await upstream.until(lambda: len(upstream.asked) == 2)
        sidecar.sidecar.inbound.draining = True
        go_on.set()
        heard = await client.hear()
        assert (heard.status, heard["Connection"]) == (200, "close")
        assert await client.ended()


async def test_a_server_that_closes_waits_for_the_answer(front: Opened, upstream: Upstream) -> None:
    """aiohttp tells each connection to close before it waits for those that are at work."""
    async with known(front, upstream) as (sidecar, _):
        gate = asyncio.Event()
        express = express_of(sidecar)
        road = express._lane.stacks[Stack.FULL]

        async def waits(call: Call) -> Reply:
            await gate.wait()
            return await road(call)

        express._lane = express._lane._replace(stacks={Stack.FULL: waits})
        server = web.Server(sidecar.sidecar.inbound)
        one = connection.Connection(server, express, loop=asyncio.get_running_loop())
        written = Written()
        one.connection_made(written)
        await settle()
        one.data_received(SAVES)
        one.close()
        ending = spawn(one.shutdown(5), "end")
        await settle()
        assert not ending.done()
        gate.set()
        await within(ending)
        assert (written.count, written.closed) == (1, True)


def test_a_long_call_is_no_idleness() -> None:
    async def asks() -> None:
        upstream = Upstream()
        await upstream.start()
        go_on = asyncio.Event()

        async def waits(exchange: Exchange) -> None:
            await go_on.wait()
            await exchange.send(answer(DONE))

        async with opened(upstream.url, MCP_ATTEMPT_TIMEOUT=900) as front, front.client() as client:
            upstream.plays(answer(DONE), waits)
            await client.ask(SAVES)
            await client.send(SAVES)
            await upstream.until(lambda: len(upstream.asked) == 2)
            for _ in range(3):
                await leap(70)
            go_on.set()
            assert (await client.hear()).status == 200
            await leap(80)
            assert await client.ended()
        await upstream.stop()

    leaping(asks)


class Written(asyncio.Transport):
    """A transport that counts what is written to it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.count = 0
        self.came = asyncio.Event()
        self.closed = False

    def write(self, data: Any) -> None:
        self.count += 1
        self.came.set()

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def test_a_connection_in_use_is_not_idle() -> None:
    """aiohttp's timer of idle connections hears of what it has not answered itself."""

    async def asks() -> None:
        upstream = Upstream()
        await upstream.start()
        upstream.plays(answer(b'{"jsonrpc": "2.0", "id": 1, "result": {"tools": []}}'))
        asked = post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        async with opened(upstream.url) as front, front.client() as client:
            await client.ask(asked)
            for _ in range(3):
                await leap(60)
                assert "; hit" in (await client.ask(asked))["Cache-Status"]
            assert express_of(front).answered == 3
            await leap(80)
            assert await client.ended()
        await upstream.stop()

    leaping(asks)


def test_this_aiohttp_is_built_as_we_know_it() -> None:
    """Or all hits would take the longer way, and nobody would notice."""
    assert connection.can_tell_requests_apart()


# --- whatever comes, in whatever pieces


class Stage:
    """A sidecar for tests that are no coroutines, before a server that echoes what it is asked."""

    def __init__(self, runner: asyncio.Runner, front: Front) -> None:
        self._runner = runner
        self._front = front
        self.express = express_of(front)

    def ask(self, *asked: "Asked") -> list[Said]:
        return self._runner.run(self._ask(asked))

    async def _ask(self, asked: "tuple[Asked, ...]") -> list[Said]:
        heard: list[Said] = []
        async with self._front.client() as client:
            unsent = b""
            for number, one in enumerate(asked, 1):
                for part, name in ((one.raw[: one.cut], "cut"), (one.raw[one.cut :], "end")):
                    unsent += part
                    if name in one.sends or (one.waits and name == "end"):
                        await client.send(unsent)
                        unsent = b""
                        await asyncio.sleep(0)  # noqa: TID251 - so that parts often come alone
                if one.waits:
                    heard += [await client.hear() for _ in range(number - len(heard))]
            await client.send(unsent)
            return heard + [await client.hear() for _ in range(len(asked) - len(heard))]


class Asked(NamedTuple):
    """A request, and how it is sent."""

    raw: bytes
    mine: Any  # what in the answer must be its own; None where nothing is
    cut: int = 0
    sends: frozenset[str] = frozenset({"end"})  # what is there is sent at the cut, or at the end
    waits: bool = True  # for all answers before the next request


async def echo(exchange: Exchange) -> None:
    """Answer with what was asked, as that dialect answers."""
    asked = exchange.asked
    if asked.target == "/mcp":
        said = {"jsonrpc": "2.0", "id": asked.json["id"], "result": {"echo": asked.json["params"]}}
    else:
        said = {"success": True, "echo": asked.body.decode()}
    await exchange.send(answer(json.dumps(said).encode()))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    rules = tmp_path_factory.mktemp("express") / "rules.toml"
    rules.write_text(RULES)

    async def start(stack: AsyncExitStack) -> Front:
        upstream = Upstream()
        await upstream.start()
        stack.push_async_callback(upstream.stop)
        upstream.plays(echo)
        return await stack.enter_async_context(opened(upstream.url, MCP_CONFIG_FILE=rules))

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        yield Stage(runner, runner.run(start(stack)))
        runner.run(stack.aclose())


def in_chunks(body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
    return request("POST", "/api/call-tool", "Transfer-Encoding: chunked", body=framed)


def rest(tool_name: str) -> st.SearchStrategy[tuple[bytes, Any]]:
    bodies = st.integers(0, 3).map(lambda n: {**LOOK, "tool_name": tool_name, "params": {"n": n}})
    return bodies.map(lambda body: (post("/api/call-tool", body), json.dumps(body)))


REQUESTS = st.one_of(
    rest("look"),
    rest("look"),
    rest("save"),
    st.integers(1, 3).map(lambda n: (post("/mcp", tool("look", n, a="\r\n\r\n")), n)),
    st.integers(1, 3).map(lambda n: (in_chunks({**LOOK, "params": {"c": n}}), None)),
    st.just((request("PUT", "/page", body=b"POST /mcp HTTP/1.1\r\n\r\n"), None)),
)


SENT = st.builds(
    lambda request, cut, sends, waits: Asked(*request, cut % len(request[0]), sends, waits),
    REQUESTS,
    st.integers(0, 1000),
    st.frozensets(st.sampled_from(["cut", "end"])),
    st.booleans(),
)


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(asked=st.lists(SENT, min_size=1, max_size=8))
def test_each_request_gets_its_own_answer_however_it_is_cut(
    stage: Stage, asked: list[Asked]
) -> None:
    """F9, F15: pipelined, cut anywhere, hits among misses and writes: in order, and their own."""
    for one, said in zip(asked, stage.ask(*asked), strict=True):
        assert said.status == 200
        if isinstance(one.mine, int):
            assert said.json["id"] == one.mine
        elif one.mine is not None:
            assert said.json["echo"] == one.mine


def test_the_cases_above_took_both_ways(stage: Stage) -> None:
    """Or the property above would have shown nothing of the express way."""
    assert stage.express.answered > 0
    look = Asked(post("/api/call-tool", LOOK), None)
    before = stage.express.answered
    stage.ask(*[look] * 5)
    assert stage.express.answered >= before + 3
