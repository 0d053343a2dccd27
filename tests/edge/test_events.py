"""Event streams: relayed at once, listened to in passing, read whole when they hold one answer."""

import asyncio
import gzip
import itertools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_proxy.core.sse import Splitter
from tests.edge.conftest import Opened
from tests.edge.wire import (
    Client,
    Exchange,
    Front,
    Said,
    Upstream,
    answer,
    bound,
    chunk,
    chunked,
    get,
    post,
    result,
    rpc,
    sidecar,
    streamed,
    tool,
)
from tests.fakes import FakeClock, settle

LISTEN = get("/mcp", "Accept: text/event-stream")
LEGACY = get("/sse", "Accept: text/event-stream")
LIST = post("/mcp", rpc("tools/list"), "Accept: application/json, text/event-stream")
WRITE = post("/mcp", tool("salesforce_create"), "Accept: text/event-stream")
END = b"0\r\n\r\n"


def event(data: bytes, *fields: bytes) -> bytes:
    return b"".join(field + b"\n" for field in (*fields, b"data: " + data)) + b"\n"


def notice(method: str, **params: Any) -> bytes:
    return event(post("", rpc(method, None, **params)).partition(b"\r\n\r\n")[2])


PROGRESS = notice("notifications/progress", progressToken=1, progress=1)
ANSWER = event(result(1, content=[]))
TOOLS = event(result(1, tools=[]))


class Played:
    """A stream that the test goes on with, piece by piece."""

    def __init__(self, *headers: str) -> None:
        self._exchange: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()
        self._headers = headers
        self._over = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send(streamed("text/event-stream", *self._headers))
        self._exchange.set_result(exchange)
        await self._over.wait()

    async def says(self, *pieces: bytes) -> None:
        async with bound():
            await (await self._exchange).send(*map(chunk, pieces))

    async def ends(self) -> None:
        async with bound():
            await (await self._exchange).send(END)
        self._over.set()

    async def breaks(self) -> None:
        (await self._exchange).reset()
        self._over.set()

    async def left(self) -> None:
        async with bound():
            await (await self._exchange).left()


async def listening(client: Client, raw: bytes = LISTEN) -> Said:
    await client.send(raw)
    return await client.head()


async def rest(client: Client) -> bytes:
    """Return what still comes, to a clean end."""
    found = b""
    while piece := await client.chunk():
        found += piece
    return found


# --- relayed at once


@pytest.mark.parametrize("raw", [LISTEN, LEGACY, get("/events"), WRITE])
async def test_each_piece_is_relayed_before_the_next_comes(
    front: Opened, upstream: Upstream, raw: bytes
) -> None:
    """Head first, then event by event: nothing is held back, nothing is joined."""
    stream = Played()
    upstream.plays(stream)
    async with (await front()).client() as client:
        heard = await listening(client, raw)
        assert heard["Content-Type"] == "text/event-stream"
        for piece in (b": hello\n\n", PROGRESS, b"data: half", b" an event\n\n", ANSWER):
            await stream.says(piece)
            assert await client.chunk() == piece
        await stream.ends()
        assert await client.chunk() == b""


async def test_a_read_is_relayed_with_the_first_sign_of_more(
    front: Opened, upstream: Upstream
) -> None:
    """A notification before the answer makes it a stream, to be relayed."""
    stream = Played()
    upstream.plays(stream)
    async with (await front()).client() as client:
        await client.send(LIST)
        await stream.says(PROGRESS)
        await client.head()
        assert await client.chunk() == PROGRESS
        await stream.says(TOOLS)
        assert await client.chunk() == TOOLS
        await stream.ends()
        assert await client.chunk() == b""


@pytest.mark.parametrize(
    "first", [b": keep-alive\n\n", b"id: 1\ndata:\n\n", b"retry: 500\n\n"], ids=repr
)
async def test_a_priming_event_opens_the_stream_to_the_client(
    front: Opened, upstream: Upstream, first: bytes
) -> None:
    """MCP 2025-11-25: an event id and empty data come first, and the client needs them."""
    stream = Played()
    upstream.plays(stream)
    async with (await front()).client() as client:
        await client.send(LIST)
        await stream.says(first)
        await client.head()
        assert await client.chunk() == first
        await stream.says(TOOLS)
        await stream.ends()
        assert await rest(client) == TOOLS


ODD = [
    b"data: a\r\ndata: b\r\n\r\n",
    b"data: a\rdata\r\r",
    b"\xef\xbb\xbfid\ndata:x\n\n",
    b"event: x\nid: 7\nretry: 9\ndata: \xff\xfe\n\n",
    b":\n\n\n\n",
    b"data: unfinished",
    b"data: " + result(1, content=["a" * 5000]) + b"\n\n",
    b'data: {"jsonrpc": "2.0",\ndata: "id": 1, "result": {}}\n\n',
    b"data: [1]\n\ndata: {\n\n",
]


@given(pieces=st.lists(st.sampled_from(ODD), max_size=6), cuts=st.lists(st.integers(1, 400)))
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_bytes_of_a_stream_pass_unchanged(pieces: list[bytes], cuts: list[int]) -> None:
    """Protocol.md section 5: multi-line data, CR, LF, CRLF, comments, ids; cut anywhere."""

    async def passes() -> None:
        upstream = Upstream()
        await upstream.start()
        whole = b"".join(pieces)
        at = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
        parts = [whole[a:b] for a, b in itertools.pairwise(at)]
        upstream.plays(streamed() + chunked(*parts))
        async with sidecar(upstream.url) as front:
            for raw in (LISTEN, LEGACY):
                heard = await front.ask(raw)
                assert heard.whole
                assert heard.body == whole
        await upstream.stop()

    asyncio.run(passes())


@pytest.mark.parametrize("raw", [LISTEN, LEGACY, LIST, WRITE])
async def test_an_encoded_stream_is_relayed_at_once_and_nothing_is_put_into_it(
    front: Opened, upstream: Upstream, raw: bytes
) -> None:
    """Its answer cannot be read, so its end cannot be judged."""
    stream = Played("Content-Encoding: gzip")
    upstream.plays(stream)
    zipped = gzip.compress(ANSWER)
    async with (await front()).client() as client:
        await client.send(raw)
        await stream.says(zipped[:12])
        await client.head()
        assert await client.chunk() == zipped[:12]
        await stream.says(zipped[12:])
        await stream.ends()
        assert await rest(client) == zipped[12:]


async def test_an_event_beyond_the_buffer_is_relayed(front: Opened, upstream: Upstream) -> None:
    """F12: giant SSE events stream with backpressure; nothing is kept of them."""
    giant = event(result(1, tools=["x" * 200_000]))
    upstream.plays(answer(giant, kind="text/event-stream"))
    sidecar = await front(MCP_BUFFER_LIMIT=10_000)
    for raw in (LIST, WRITE, LISTEN):
        assert (await sidecar.ask(raw)).body == giant
    heard = await sidecar.ask(LIST)
    assert heard["Cache-Status"] == "mcp-sidecar; fwd=miss"


async def test_an_answer_with_another_status_is_no_stream_of_answers(
    front: Opened, upstream: Upstream
) -> None:
    upstream.plays(answer(event(b"x"), status="400 No", kind="text/event-stream"))
    heard = await (await front()).ask(LIST)
    assert (heard.status, heard.body) == (400, event(b"x"))


async def test_where_a_client_was_is_told_to_the_server(front: Opened, upstream: Upstream) -> None:
    """F4: resumption is between the two of them."""
    upstream.plays(streamed() + END)
    await (await front()).ask(get("/mcp", "Last-Event-ID: 41", "Mcp-Session-Id: s"))
    assert upstream.asked[0]["Last-Event-ID"] == "41"


# --- one answer, read whole


async def test_a_stream_that_holds_one_answer_is_kept(front: Opened, upstream: Upstream) -> None:
    upstream.plays(answer(TOOLS, kind="text/event-stream"))
    sidecar = await front()
    first, second = [await sidecar.ask(LIST) for _ in "ab"]
    assert first.body == TOOLS
    assert "stored" in first["Cache-Status"]
    assert "hit" in second["Cache-Status"]
    assert second.json["result"] == {"tools": []}
    assert len(upstream.asked) == 1


async def test_an_answer_in_pieces_is_read_whole(front: Opened, upstream: Upstream) -> None:
    stream = Played()
    upstream.plays(stream)
    sidecar = await front()
    async with sidecar.client() as client:
        await client.send(LIST)
        await stream.says(*(TOOLS[at : at + 7] for at in range(0, len(TOOLS), 7)))
        await stream.ends()
        assert (await client.hear()).body == TOOLS
    assert "hit" in (await sidecar.ask(LIST))["Cache-Status"]


async def test_a_server_that_lets_its_stream_linger_is_left(
    front: Opened, upstream: Upstream
) -> None:
    """MCP, transports: it should close the stream; one that does not costs its connection."""
    stream, clock = Played(), FakeClock()
    upstream.plays(stream)
    sidecar = await front(clock=clock)
    async with sidecar.client() as client:
        await client.send(LIST)
        await stream.says(TOOLS)
        async with bound():
            while not clock._due or clock._due[0][0] > clock.now() + 1:
                await settle()
        await clock.advance(0.25)
        assert (await client.hear()).body == TOOLS
    await stream.left()


async def test_two_answers_are_a_stream(front: Opened, upstream: Upstream) -> None:
    both = TOOLS + PROGRESS
    upstream.plays(answer(both, kind="text/event-stream"))
    sidecar = await front()
    for _ in range(2):
        heard = await sidecar.ask(LIST)
        assert heard.body == both
        assert "hit" not in heard["Cache-Status"]


async def test_what_follows_an_answer_makes_it_a_stream(front: Opened, upstream: Upstream) -> None:
    """Even when it follows later: an answer that is kept is all that was said."""
    stream, clock = Played(), FakeClock()
    upstream.plays(stream)
    sidecar = await front(clock=clock)
    async with sidecar.client() as client:
        await client.send(LIST)
        await stream.says(TOOLS)
        await settle()
        await stream.says(PROGRESS)
        await stream.ends()
        assert (await client.hear()).body == TOOLS + PROGRESS
    upstream.plays(answer(TOOLS, kind="text/event-stream"))
    assert "hit" not in (await sidecar.ask(LIST))["Cache-Status"]


@pytest.mark.parametrize(
    "strange", [event(result(2, tools=[])), event(result("1", tools=[])) + TOOLS, TOOLS + TOOLS]
)
async def test_an_answer_to_somebody_else_is_nobodys(
    front: Opened, upstream: Upstream, strange: bytes
) -> None:
    """F15: it reaches neither a caller nor the cache; a read is asked again."""
    upstream.plays(
        answer(strange, kind="text/event-stream"), answer(TOOLS, kind="text/event-stream")
    )
    heard = await (await front()).ask(LIST)
    assert heard.body == TOOLS
    assert len(upstream.asked) == 2


@pytest.mark.parametrize(
    ("said", "named"),
    [
        (event(result(2, content=[])), "id of another request"),
        (b"data: {", "without an answer"),
        (PROGRESS + event(result(2, content=[])), "id of another request"),
    ],
)
async def test_what_is_wrong_with_a_streamed_answer_is_named(
    front: Opened, upstream: Upstream, said: bytes, named: str
) -> None:
    """And a write is not asked again."""
    upstream.plays(answer(said, kind="text/event-stream"))
    heard = await (await front()).ask(WRITE)
    last = json.loads(heard.body.rpartition(b"data: ")[2])
    assert last["id"] == 1
    assert named in last["result"]["content"][0]["text"]
    assert b'"id": 2' not in heard.body
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("again", [event(result(1, content=[2])), event(result(2, content=[2]))])
@pytest.mark.parametrize("apart", [False, True])
async def test_what_is_answered_after_the_answer_is_not_passed_on(
    front: Opened, upstream: Upstream, again: bytes, *, apart: bool
) -> None:
    """F15: neither a second answer nor somebody else's; and the caller keeps its own."""
    said = [PROGRESS + ANSWER, again] if apart else [PROGRESS + ANSWER + again]

    async def tells(exchange: Exchange) -> None:
        await exchange.send(streamed())
        for piece in said:
            await exchange.send(chunk(piece))
            await settle()
        await exchange.send(END)

    upstream.plays(tells)
    heard = await (await front()).ask(WRITE)
    assert heard.body == PROGRESS + ANSWER
    assert heard.whole
    assert len(upstream.asked) == 1


async def test_a_read_whose_stream_ends_without_answer_is_repeated(
    front: Opened, upstream: Upstream
) -> None:
    nothing = answer(b"", kind="text/event-stream")
    upstream.plays(nothing, nothing, answer(TOOLS, kind="text/event-stream"))
    assert (await (await front()).ask(LIST)).body == TOOLS
    assert len(upstream.asked) == 3


async def test_a_read_whose_stream_is_cut_is_repeated(front: Opened, upstream: Upstream) -> None:
    """Nothing has gone to the client yet."""

    async def cut(exchange: Exchange) -> None:
        await exchange.send(streamed(), chunk(TOOLS[:20]))
        exchange.reset()

    upstream.plays(cut, answer(TOOLS, kind="text/event-stream"))
    assert (await (await front()).ask(LIST)).body == TOOLS


async def test_a_read_whose_stream_is_cut_after_its_answer_has_it(
    front: Opened, upstream: Upstream
) -> None:
    """What breaks then is not the answer: the event was whole."""

    async def cut(exchange: Exchange) -> None:
        await exchange.send(streamed(), chunk(TOOLS))
        await settle()
        exchange.reset()

    upstream.plays(cut)
    sidecar = await front()
    assert (await sidecar.ask(LIST)).body == TOOLS
    assert "hit" in (await sidecar.ask(LIST))["Cache-Status"]
    assert len(upstream.asked) == 1


# --- cut without an answer


def last_event(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(body.rpartition(b"data: ")[2])
    return found


@pytest.mark.parametrize("how", ["breaks", "ends"])
async def test_a_write_whose_stream_is_cut_gets_one_final_error(
    front: Opened, upstream: Upstream, how: str
) -> None:
    """F4: each open id gets exactly one final message; the call was sent once."""
    stream = Played()
    upstream.plays(stream)
    async with (await front()).client() as client:
        await listening(client, WRITE)
        await stream.says(PROGRESS)
        assert await client.chunk() == PROGRESS
        await getattr(stream, how)()
        said = last_event(await rest(client))
    assert said["id"] == 1
    assert said["result"]["isError"] is True
    found = said["result"]["_meta"]["mcp_proxy/error"]
    assert found["code"] == "upstream_broken"
    assert found["delivered"] == "unknown"
    assert found["retryable"] is False
    assert len(upstream.asked) == 1


@pytest.mark.parametrize(
    "half",
    [ANSWER[:15], b"data: {", b"data: {\n", b"data: {\r", b"data: {\r\n", b"event: mess", b"da"],
)
async def test_half_an_event_is_nobodys_and_the_error_stands_apart(
    front: Opened, upstream: Upstream, half: bytes
) -> None:
    """A half that is dispatched is no JSON; clients of MCP read events called `message` alone."""
    stream = Played()
    upstream.plays(stream)
    async with (await front()).client() as client:
        await listening(client, WRITE)
        await stream.says(PROGRESS + half)
        seen = b""
        while not seen.endswith(half):
            seen += await client.chunk()
        await stream.breaks()
        seen += await rest(client)
    # what is dispatched at all has data (WHATWG HTML, 9.2)
    events = [event for event in Splitter(10_000).feed(seen) if event.data]
    assert [event.name for event in events if event.name != b"cut"] == [b"", b"message"]
    assert json.loads(events[-1].data)["id"] == 1


async def test_a_stream_with_event_ids_is_left_to_its_client(
    front: Opened, upstream: Upstream
) -> None:
    """F4: it comes back with Last-Event-ID; an error would end the call for it."""
    stream = Played()
    upstream.plays(stream)
    async with (await front()).client() as client:
        await listening(client, WRITE)
        await stream.says(b"id: 1\ndata:\n\n")
        assert await client.chunk() == b"id: 1\ndata:\n\n"
        await stream.breaks()
        assert await client.chunk() == b""


async def test_a_stream_that_is_cut_after_the_answer_gets_no_second(
    front: Opened, upstream: Upstream
) -> None:
    stream = Played()
    upstream.plays(stream)
    async with (await front()).client() as client:
        await listening(client, WRITE)
        await stream.says(ANSWER)
        assert await client.chunk() == ANSWER
        await stream.breaks()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.chunk()


@pytest.mark.parametrize("raw", [LISTEN, LEGACY])
async def test_a_listening_stream_that_is_cut_never_looks_ended(
    front: Opened, upstream: Upstream, raw: bytes
) -> None:
    stream = Played()
    upstream.plays(stream)
    async with (await front()).client() as client:
        await listening(client, raw)
        await stream.says(PROGRESS)
        assert await client.chunk() == PROGRESS
        await stream.breaks()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.chunk()


# --- who leaves


@pytest.mark.parametrize("raw", [LISTEN, LEGACY, WRITE, get("/page")])
async def test_a_client_that_leaves_closes_the_server_within_a_second(
    front: Opened, upstream: Upstream, raw: bytes
) -> None:
    """F27. Inherited default: handler_cancellation is off, 3 000 departures left 3 000 streams."""
    stream = Played()
    upstream.plays(stream)
    sidecar = await front()
    async with sidecar.client() as client:
        await listening(client, raw)
        await stream.says(PROGRESS)
        await client.chunk()
    async with bound(1):
        await stream.left()
    assert sidecar.sidecar.pools.open_streams == 0


async def test_a_client_that_leaves_before_the_head_closes_the_server(
    front: Opened, upstream: Upstream
) -> None:
    """In the stateless era closing is cancelling."""
    left = asyncio.Event()

    async def silent(exchange: Exchange) -> None:
        await exchange.left()
        left.set()

    upstream.plays(silent)
    for raw in (LISTEN, WRITE, LIST, get("/page")):
        left.clear()
        sidecar = await front()
        asked = len(upstream.asked)
        async with sidecar.client() as client:
            await client.send(raw)
            await upstream.until(lambda asked=asked: len(upstream.asked) > asked)
        async with bound(1):
            await left.wait()


# --- what is heard in passing


async def stored(sidecar: Front) -> None:
    """Let a list be known, and prove it."""
    assert "stored" in (await sidecar.ask(LIST))["Cache-Status"]
    assert "hit" in (await sidecar.ask(LIST))["Cache-Status"]


@pytest.mark.parametrize(
    "said",
    [
        notice("notifications/tools/list_changed"),
        notice("notifications/prompts/list_changed"),
        notice("notifications/resources/updated", uri="x"),
    ],
    ids=["tools", "prompts", "resource"],
)
@pytest.mark.parametrize("raw", [LISTEN, LEGACY, post("/mcp", rpc("subscriptions/listen", 4))])
async def test_a_change_that_the_server_tells_drops_answers_before_it_is_relayed(
    front: Opened, upstream: Upstream, raw: bytes, said: bytes
) -> None:
    """F36."""
    stream = Played()
    lists = answer(result(1, tools=[]))
    upstream.plays(lists, stream, lists)
    sidecar = await front()
    await stored(sidecar)
    async with sidecar.client() as client:
        await listening(client, raw)
        await stream.says(said)
        assert await client.chunk() == said
        assert "stored" in (await sidecar.ask(LIST))["Cache-Status"]


@pytest.mark.parametrize("raw", [LISTEN, LEGACY])
async def test_an_answer_to_another_request_drops_answers(
    front: Opened, upstream: Upstream, raw: bytes
) -> None:
    """On a GET stream (legacy, or resumed) it may be that of a write that is done now."""
    stream = Played()
    lists = answer(result(1, tools=[]))
    upstream.plays(lists, stream, lists)
    sidecar = await front()
    await stored(sidecar)
    async with sidecar.client() as client:
        await listening(client, raw)
        await stream.says(event(result(99, content=[])))
        await client.chunk()
        assert "stored" in (await sidecar.ask(LIST))["Cache-Status"]


async def test_other_notifications_drop_nothing(front: Opened, upstream: Upstream) -> None:
    stream = Played()
    upstream.plays(answer(result(1, tools=[])), stream)
    sidecar = await front()
    await stored(sidecar)
    async with sidecar.client() as client:
        await listening(client)
        await stream.says(PROGRESS, b"data: nonsense\n\n", event(b"[1]"))
        await client.chunk()
        assert "hit" in (await sidecar.ask(LIST))["Cache-Status"]


async def test_a_list_in_a_stream_feeds_the_catalogue(front: Opened, upstream: Upstream) -> None:
    look = {"name": "look", "annotations": {"readOnlyHint": True}}
    streamed_list = answer(PROGRESS + event(result(1, tools=[look])), kind="text/event-stream")
    upstream.plays(answer(), streamed_list, answer(result(1, content=[])))
    sidecar = await front()
    await sidecar.ask(get("/"))
    await upstream.until(lambda: len(upstream.looks) == 2)
    await sidecar.ask(LIST)
    await sidecar.ask(post("/mcp", tool("look")))
    assert "hit" in (await sidecar.ask(post("/mcp", tool("look"))))["Cache-Status"]


# --- time


async def test_each_event_restarts_the_time(front: Opened, upstream: Upstream) -> None:
    """DESIGN section 4, MCP_REQUEST_TIMEOUT on a streamed answer."""
    stream, clock = Played(), FakeClock()
    upstream.plays(stream)
    async with (await front(clock=clock, MCP_SSE_KEEPALIVE=0)).client() as client:
        await listening(client, WRITE)
        for _ in range(3):
            await clock.advance(299)
            await stream.says(PROGRESS)
            assert await client.chunk() == PROGRESS
        await settle()
        await clock.advance(301)
        said = last_event(await rest(client))
    assert said["result"]["_meta"]["mcp_proxy/error"]["code"] == "deadline_exceeded"


async def test_the_time_stands_still_while_a_person_is_asked(
    front: Opened, upstream: Upstream
) -> None:
    """A request of the server to the client is unanswered: an elicitation may take long."""
    stream, clock = Played(), FakeClock()
    upstream.plays(stream)
    elicit = event(b'{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{}}')
    async with (await front(clock=clock, MCP_SSE_KEEPALIVE=0)).client() as client:
        await listening(client, WRITE)
        await stream.says(elicit)
        assert await client.chunk() == elicit
        await settle()
        await clock.advance(10_000)
        await stream.says(ANSWER)
        assert await client.chunk() == ANSWER


@pytest.mark.parametrize("begins", [PROGRESS, b"id: 1\ndata: \n\n", b": hi\n\n"])
async def test_a_read_that_streams_has_the_time_of_the_call(
    front: Opened, upstream: Upstream, begins: bytes
) -> None:
    """DESIGN section 4: silence ends a try only if another may follow; none follows this one."""

    async def hangs(exchange: Exchange) -> None:
        await exchange.left()

    stream = Played()
    upstream.plays(stream, hangs, hangs, answer(result(1, tools=[])))
    sidecar = await front(MCP_ATTEMPT_TIMEOUT="0.05", MCP_BACKOFF_BASE="0.001")
    async with sidecar.client() as client:
        await client.send(LIST)
        await stream.says(begins)
        assert (await client.head()).status == 200
        assert await client.chunk() == begins
        # two tries of another read are silent for as long, one after the other
        assert (await sidecar.ask(post("/mcp", rpc("tools/list", 1, cursor="2")))).status == 200
        assert len(upstream.asked) == 4
        await stream.says(TOOLS)
        assert await client.chunk() == TOOLS


async def test_the_silence_of_a_rule_ends_a_stream_too_but_not_while_a_person_is_asked(
    front: Opened, upstream: Upstream, tmp_path: Any
) -> None:
    """DESIGN section 4: rules may narrow the times; the time pauses while the client is asked."""
    rules = tmp_path / "rules.toml"
    rules.write_text("[tools.salesforce_create]\nattempt_timeout = 0.05\n")
    asking, silent = Played(), Played()
    elicit = event(b'{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{}}')
    upstream.plays(asking, silent)
    sidecar = await front(MCP_CONFIG_FILE=rules)
    async with sidecar.client() as asked, sidecar.client() as client:
        await asked.send(WRITE)
        await asking.says(elicit)
        assert (await asked.head()).status == 200
        assert await asked.chunk() == elicit
        await client.send(WRITE)
        await silent.says(PROGRESS)
        assert (await client.head()).status == 200
        failed = last_event(await rest(client))["result"]["_meta"]["mcp_proxy/error"]
        assert (failed["code"], failed["attempts"]) == ("upstream_timeout", 1)
        await asking.says(ANSWER)
        assert await asked.chunk() == ANSWER


async def test_no_deadline_cuts_a_listening_stream(front: Opened, upstream: Upstream) -> None:
    """DESIGN section 2: the short stack has none."""
    stream, clock = Played(), FakeClock()
    upstream.plays(stream)
    async with (await front(clock=clock, MCP_SSE_KEEPALIVE=0)).client() as client:
        await listening(client)
        await clock.advance(100_000)
        await stream.says(PROGRESS)
        assert await client.chunk() == PROGRESS


# --- legacy HTTP+SSE


def endpoint(data: str) -> bytes:
    return f"event: endpoint\r\ndata: {data}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("http://localhost:{port}/messages/?session_id=a%20b", "/messages/?session_id=a%20b"),
        ("http://127.0.0.1:{port}/messages?s=1", "/messages?s=1"),
        ("HTTP://LocalHost:{port}/messages", "/messages"),
        ("http://localhost:{port}?s=1", "/?s=1"),
        ("/messages/?session_id=1", None),
        ("messages?session_id=1", None),
        ("?session_id=1", None),
        ("http://localhost:1/messages", None),
        ("https://other.example/messages?x=http://localhost:{port}/", None),
    ],
)
async def test_the_endpoint_of_a_legacy_stream_leads_to_us(
    front: Opened, upstream: Upstream, said: str, heard: str | None
) -> None:
    """Protocol.md section 5: clients demand the origin that they dialled; others stay (F39)."""
    said = said.format(port=upstream.port)
    later = ANSWER + endpoint(f"{upstream.url}/later")
    upstream.plays(streamed() + chunked(endpoint(said), later))
    found = await (await front()).ask(LEGACY)
    assert found.body == endpoint(said if heard is None else heard) + later


@pytest.mark.parametrize("before", [b": hello\n\n", b"retry: 500\n\n", b"\xef\xbb\xbf"], ids=repr)
async def test_what_stands_before_the_endpoint_does_not_hide_it(
    front: Opened, upstream: Upstream, before: bytes
) -> None:
    """The first event of that name counts, not the first of all."""
    upstream.plays(streamed() + chunked(before + endpoint(f"{upstream.url}/m")))
    assert (await (await front()).ask(LEGACY)).body == before + endpoint("/m")


@pytest.mark.parametrize("size", [1, 5, 30])
async def test_an_endpoint_that_comes_in_pieces_leads_to_us(
    front: Opened, upstream: Upstream, size: int
) -> None:
    whole = endpoint(f"{upstream.url}/messages/?s=1")
    stream = Played()
    upstream.plays(stream)
    async with (await front()).client() as client:
        await listening(client, LEGACY)
        for at in range(0, len(whole), size):
            await stream.says(whole[at : at + size])
            await settle()
        await stream.ends()
        assert await rest(client) == endpoint("/messages/?s=1")


async def test_an_endpoint_under_a_prefix_loses_it(front: Opened, upstream: Upstream) -> None:
    """Python-sdk #412, #2255: the server knows where it is mounted."""
    upstream.plays(streamed() + chunked(endpoint("/app/messages/?s=1")))
    sidecar = await front(MCP_UPSTREAM_URL=f"{upstream.url}/app")
    assert (await sidecar.ask(LEGACY)).body == endpoint("/messages/?s=1")


async def test_an_endpoint_event_elsewhere_is_somebody_elses(
    front: Opened, upstream: Upstream
) -> None:
    theirs = endpoint(f"{upstream.url}/x")
    upstream.plays(streamed() + chunked(theirs))
    assert (await (await front()).ask(get("/api/feed"))).body == theirs


async def test_a_legacy_message_is_posted_once(front: Opened, upstream: Upstream) -> None:
    """Protocol.md section 5: the answer comes on the GET stream, here it is 202."""
    upstream.plays(answer(b"Accepted", status="202 Accepted", kind="text/plain"))
    heard = await (await front()).ask(post("/messages/?session_id=1", tool("salesforce_create")))
    assert (heard.status, heard.body) == (202, b"Accepted")
    assert upstream.asked[0].target == "/messages/?session_id=1"
    upstream.plays(answer(status="500 Oh No"))
    assert (await (await front()).ask(post("/messages/", rpc("tools/list")))).status == 500
    assert len(upstream.asked) == 2


async def test_a_legacy_message_drops_stored_answers(front: Opened, upstream: Upstream) -> None:
    """It may be a write, whose answer comes elsewhere."""
    upstream.plays(answer(result(1, tools=[])))
    sidecar = await front(MCP_CACHE_QUARANTINE=0)
    await stored(sidecar)
    await sidecar.ask(post("/messages/?s=1", rpc("tools/list")))
    assert "hit" in (await sidecar.ask(LIST))["Cache-Status"]
    await sidecar.ask(post("/messages/?s=1", tool("salesforce_create")))
    assert "stored" in (await sidecar.ask(LIST))["Cache-Status"]


@pytest.mark.parametrize("as_event", [True, False])
async def test_an_answer_that_is_too_deep_to_be_judged_is_an_answer(
    front: Opened, upstream: Upstream, *, as_event: bool
) -> None:
    """It passes as it is, once: JavaScript and Go read it, so the server has not failed."""
    body = b'{"jsonrpc":"2.0","id":1,"result":{"tools":' + b"[" * 2000 + b"]" * 2000 + b"}}"
    said = event(body) if as_event else body
    upstream.plays(answer(said, kind="text/event-stream" if as_event else "application/json"))
    heard = await (await front()).ask(LIST)
    assert (heard.status, heard.body) == (200, said)
    assert len(upstream.asked) == 1
