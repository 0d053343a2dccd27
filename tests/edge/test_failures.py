"""What goes wrong at the server, as the caller hears of it: in its dialect, truthful, once."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.edge.conftest import Opened
from tests.edge.wire import (
    Exchange,
    Said,
    Upstream,
    answer,
    chunked,
    get,
    post,
    request,
    result,
    rpc,
    streamed,
    tool,
    unused_port,
)
from tests.edge.wire import sidecar as sidecar_of
from tests.fakes import settle

REST = {"service": "jira", "tool_name": "jira_create_issue", "params": {}}
WRITE = post("/mcp", tool("salesforce_create", 5))
LIST = post("/mcp", rpc("tools/list", "é"))
DISCOVER = post("/mcp", rpc("server/discover", 1))
NOTICE = post("/mcp", rpc("notifications/progress", None, progressToken=1))
UNKNOWN = post("/mcp", rpc("ours/doing", 8))
PAGE = get("/page")
FORM = post("/api/chat", {"message": "hello"})
TOOL = post("/api/call-tool", REST)
MARKS = b'{"jsonrpc":"2.0","id":1,"result":'


# --- how a server can fail


async def closes(exchange: Exchange) -> None:
    exchange.close()


async def resets(exchange: Exchange) -> None:
    exchange.reset()


async def hangs(exchange: Exchange) -> None:
    await exchange.left()


async def is_cut(exchange: Exchange) -> None:
    await exchange.send(answer(MARKS, "Content-Length: 1000"))
    exchange.close()


async def is_cut_by_reset(exchange: Exchange) -> None:
    await exchange.send(answer(MARKS, "Content-Length: 1000"))
    exchange.reset()


async def is_cut_in_its_head(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
    exchange.close()


async def is_cut_between_chunks(exchange: Exchange) -> None:
    await exchange.send(streamed("application/json"), chunked(MARKS, end=False))
    exchange.close()


GARBAGE = b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n"
BREAKS = pytest.mark.parametrize(
    "breaks",
    [closes, resets, is_cut, is_cut_by_reset, is_cut_in_its_head, GARBAGE],
    ids=["closes", "resets", "cut", "cut by reset", "cut in its head", "garbage"],
)

Failing = bytes | Callable[[Exchange], Awaitable[None]]


def details(heard: Said) -> dict[str, Any]:
    """Return the one failure object, from wherever the dialect puts it."""
    said = heard.json
    found: dict[str, Any]
    if "result" in said:
        found = said["result"]["_meta"]["mcp_proxy/error"]
    elif "error" in said and isinstance(said["error"], dict):
        found = said["error"]["data"]
    else:
        found = said.get("error_details", said)
    return found


# --- the dialects


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (WRITE, 200),
        (LIST, 200),
        (UNKNOWN, 200),
        (DISCOVER, 503),
        (NOTICE, 503),
        (PAGE, 503),
        (FORM, 503),
        (TOOL, 503),
        (request("DELETE", "/mcp"), 503),
        (get("/mcp"), 503),
    ],
)
async def test_a_refusal_is_told_in_each_dialect(front: Opened, raw: bytes, status: int) -> None:
    """F1, DESIGN section 5: nothing was sent, so every caller may come back."""
    sidecar = await front(MCP_UPSTREAM_URL=f"http://localhost:{unused_port()}")
    heard = await sidecar.ask(raw)
    assert heard.status == status
    found = details(heard)
    assert found["code"] == "upstream_unreachable"
    assert found["origin"] == "proxy"
    assert found["delivered"] == "no"
    assert found["retryable"] is True
    assert found["retry_after_ms"] == 1000
    assert heard["Retry-After"] == "1"
    assert found["request_id"] == heard["X-Request-Id"]
    assert heard["Cache-Control"] == "no-store"


async def test_a_failed_tool_call_is_a_result_that_a_model_can_act_on(front: Opened) -> None:
    sidecar = await front(MCP_UPSTREAM_URL=f"http://localhost:{unused_port()}")
    heard = await sidecar.ask(WRITE)
    assert heard["Content-Type"] == "application/json"
    assert heard.json["id"] == 5
    assert heard.json["result"]["isError"] is True
    assert "resultType" not in heard.json["result"]
    (content,) = heard.json["result"]["content"]
    assert content["text"] == "The server is unreachable. It is safe to try again in 1 s."
    assert details(heard)["attempts"] == 4


async def test_in_the_stateless_era_the_result_is_complete(front: Opened) -> None:
    """MCP 2026-07-28 asks for a resultType."""
    sidecar = await front(MCP_UPSTREAM_URL=f"http://localhost:{unused_port()}", MCP_MAX_RETRIES=0)
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    asked = rpc("tools/call", 1, name="x", _meta=meta)
    headers = ("MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: x")
    heard = await sidecar.ask(post("/mcp", asked, *headers))
    assert heard.json["result"]["resultType"] == "complete"


async def test_a_failed_request_is_a_json_rpc_error(front: Opened) -> None:
    """A positive code: the specification keeps the negative ones."""
    sidecar = await front(MCP_UPSTREAM_URL=f"http://localhost:{unused_port()}")
    heard = await sidecar.ask(LIST)
    assert heard.json["id"] == "é"
    assert heard.json["error"]["code"] == 503


async def test_tool_errors_can_be_json_rpc_errors(front: Opened) -> None:
    url = f"http://localhost:{unused_port()}"
    sidecar = await front(MCP_UPSTREAM_URL=url, MCP_TOOL_ERROR_STYLE="error")
    heard = await sidecar.ask(WRITE)
    assert heard.json["error"]["code"] == 503
    assert details(heard)["code"] == "upstream_unreachable"


async def test_a_failed_rest_call_keeps_the_basic_servers_shape(front: Opened) -> None:
    url = f"http://localhost:{unused_port()}"
    heard = await (await front(MCP_UPSTREAM_URL=url)).ask(TOOL)
    assert list(heard.json) == ["success", "data", "error", "timestamp", "error_details"]
    assert heard.json["success"] is False
    assert heard.json["data"] is None
    compat = await (await front(MCP_UPSTREAM_URL=url, MCP_ERROR_STATUS="compat")).ask(TOOL)
    assert compat.status == 200
    assert compat.json["success"] is False
    assert details(compat)["code"] == "upstream_unreachable"


async def test_everything_else_gets_a_problem_document(front: Opened) -> None:
    """RFC 9457."""
    url = f"http://localhost:{unused_port()}"
    heard = await (await front(MCP_UPSTREAM_URL=url)).ask(PAGE)
    assert heard["Content-Type"] == "application/problem+json"
    assert heard.json["status"] == 503
    assert heard.json["title"] == "upstream unreachable"


# --- unreachable


async def test_a_name_that_nobody_has_is_unreachable(front: Opened) -> None:
    sidecar = await front(MCP_UPSTREAM_URL="http://nobody.invalid:9", MCP_MAX_RETRIES=0)
    found = details(await sidecar.ask(WRITE))
    assert (found["code"], found["delivered"]) == ("upstream_unreachable", "no")
    assert found["message"] == "The server's name cannot be resolved."


async def test_a_server_that_speaks_no_tls_is_unreachable(front: Opened) -> None:
    def says_http(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(status="400 Bad Request"))
        writer.close()

    plain = await asyncio.start_server(says_http, "127.0.0.1", 0)
    url = f"https://localhost:{plain.sockets[0].getsockname()[1]}"
    found = details(await (await front(MCP_UPSTREAM_URL=url, MCP_MAX_RETRIES=0)).ask(WRITE))
    assert (found["code"], found["delivered"]) == ("upstream_unreachable", "no")
    assert found["message"] == "The server's TLS handshake failed."
    plain.close()


async def test_a_server_that_accepts_nobody_is_unreachable(front: Opened) -> None:
    """F1, F2: a connection that is not made in time carried nothing."""
    full = socket_without_room()
    try:
        url = f"http://localhost:{full[0].getsockname()[1]}"
        sidecar = await front(MCP_UPSTREAM_URL=url, MCP_CONNECT_TIMEOUT="0.05", MCP_MAX_RETRIES=0)
        found = details(await sidecar.ask(WRITE))
        assert (found["code"], found["delivered"]) == ("upstream_unreachable", "no")
        assert found["message"] == "The server did not accept a connection in time."
    finally:
        for one in full:
            one.close()


async def test_the_probe_of_a_server_that_accepts_nobody_finds_it_away(front: Opened) -> None:
    """DESIGN section 6: 503 if no target is reachable; a probe that never connected closes nothing."""
    full = socket_without_room()
    try:
        url = f"http://localhost:{full[0].getsockname()[1]}"
        sidecar = await front(
            MCP_UPSTREAM_URL=url,
            MCP_CONNECT_TIMEOUT="0.05",
            MCP_HEALTH_INTERVAL="0.05",
            MCP_RESTART_GRACE="0",
            MCP_MAX_RETRIES="0",
            MCP_CB_FAILURE_THRESHOLD="1",
        )
        (target,) = sidecar.sidecar.targets
        found = await target.monitor.look()
        assert (found.connected, found.trouble) == (False, "upstream_unreachable")
        assert (await sidecar.ask(get("/api/health"))).status == 503
        await target.monitor.look()
        assert details(await sidecar.ask(WRITE))["code"] == "circuit_open"
    finally:
        for one in full:
            one.close()


async def test_a_write_that_was_not_sent_is_tried_again(front: Opened, upstream: Upstream) -> None:
    """F1: while the server starts, here: between two tries."""
    await upstream.stop()
    upstream.plays(answer(result(5, content=[])))
    sidecar = await front(MCP_BACKOFF_BASE=5, MCP_BACKOFF_MAX=5, MCP_RESTART_GRACE=3)
    async with sidecar.client() as client:
        await client.send(WRITE)
        await upstream.start(upstream.port)
        heard = await client.hear()
    assert heard.json["result"] == {"content": []}
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("target", ["/mcp", "/sse"])
async def test_a_stream_waits_for_a_restart(front: Opened, upstream: Upstream, target: str) -> None:
    """F1: SDK 1.30 asks for its own stream twice, a second apart, and then never again."""
    await upstream.stop()
    upstream.plays(answer(b"data: {}\n\n", kind="text/event-stream"))
    sidecar = await front(MCP_RESTART_GRACE=3)
    (behind,) = sidecar.sidecar.targets
    async with sidecar.client() as client:
        await client.send(get(target, "Accept: text/event-stream"))
        while not behind.away:
            await settle()
        await upstream.start(upstream.port)
        heard = await client.hear()
    assert (heard.status, len(upstream.asked)) == (200, 1)


# --- silent


async def test_a_silent_server_runs_into_the_deadline(front: Opened, upstream: Upstream) -> None:
    """F2: a write is sent once, and nobody knows what became of it."""
    upstream.plays(hangs)
    heard = await (await front(MCP_REQUEST_TIMEOUT="0.1")).ask(WRITE)
    found = details(heard)
    assert found["code"] == "deadline_exceeded"
    assert found["attempts"] == 1, "it went out"
    assert found["delivered"] == "unknown"
    assert found["retryable"] is False
    assert "Retry-After" not in heard
    assert "check before you repeat it" in heard.json["result"]["content"][0]["text"]
    await upstream.until(lambda: not upstream.open)
    assert len(upstream.asked) == 1


async def test_a_silent_try_of_a_read_is_given_up_for_another(
    front: Opened, upstream: Upstream
) -> None:
    """DESIGN section 4, MCP_ATTEMPT_TIMEOUT."""
    upstream.plays(hangs, answer(b'{"jsonrpc":"2.0","id":"\\u00e9","result":{"tools":[]}}'))
    heard = await (await front(MCP_ATTEMPT_TIMEOUT="0.05")).ask(LIST)
    assert heard.json["result"] == {"tools": []}
    assert len(upstream.asked) == 2


async def test_silence_in_the_middle_of_an_answer_counts_too(
    front: Opened, upstream: Upstream
) -> None:
    async def says_half(exchange: Exchange) -> None:
        await exchange.send(answer(MARKS, "Content-Length: 1000"))
        await exchange.left()

    upstream.plays(says_half)
    sidecar = await front(MCP_ATTEMPT_TIMEOUT="0.05", MCP_MAX_RETRIES=1, MCP_REQUEST_TIMEOUT="0.2")
    found = details(await sidecar.ask(LIST))
    assert found["code"] in {"upstream_timeout", "deadline_exceeded"}
    assert len(upstream.asked) == 2


async def test_a_rule_bounds_the_silence_of_a_write(
    front: Opened, upstream: Upstream, tmp_path: Any
) -> None:
    """F2: 504, `delivered: unknown`, other tools do not notice."""
    rules = tmp_path / "rules.toml"
    rules.write_text("[tools.salesforce_create]\nattempt_timeout = 0.05\n")
    upstream.plays(hangs)
    found = details(await (await front(MCP_CONFIG_FILE=rules)).ask(WRITE))
    assert found["code"] == "upstream_timeout"
    assert found["delivered"] == "unknown"
    assert found["retryable"] is False
    assert len(upstream.asked) == 1


# --- broken


@BREAKS
@pytest.mark.parametrize("raw", [WRITE, UNKNOWN, TOOL, FORM], ids=["mcp", "rpc", "rest", "post"])
async def test_a_write_is_sent_once_whatever_breaks(
    front: Opened, upstream: Upstream, raw: bytes, breaks: Failing
) -> None:
    """The first promise: a side-effecting call is executed at most once."""
    upstream.plays(breaks, answer(result(5, content=[])))
    heard = await (await front()).ask(raw)
    found = details(heard)
    assert found["code"] == "upstream_broken"
    assert found["delivered"] == "unknown"
    assert found["retryable"] is False
    assert found["attempts"] == 1
    assert "Retry-After" not in heard
    assert len(upstream.asked) == 1


@pytest.mark.filterwarnings("ignore:Sending a large body")
async def test_a_large_write_is_sent_once(front: Opened, upstream: Upstream) -> None:
    """A server may carry out what it has read the beginning of, and close on the rest."""
    upstream.reads_bodies = False
    upstream.plays(resets, answer(result(5, content=[])))
    sidecar = await front(MCP_BUFFER_LIMIT=1 << 26)
    # more than the buffers of two sockets take
    large = post("/mcp", tool("salesforce_create", 5, text="x" * (1 << 24)))
    found = details(await sidecar.ask(large))
    assert (found["delivered"], found["retryable"]) == ("unknown", False)
    assert len(upstream.asked) == 1


async def test_a_write_that_broke_in_its_body_may_have_been_carried_out(
    front: Opened, upstream: Upstream
) -> None:
    upstream.reads_bodies = False
    upstream.plays(resets)
    sidecar = await front()
    async with sidecar.client() as client:
        head = request("POST", "/start", "Content-Length: 4000000", body=None)
        await client.send(head, b"x" * 100_000)
        found = details(await client.hear())
    assert (found["delivered"], found["retryable"]) == ("unknown", False)
    assert len(upstream.asked) == 1


@BREAKS
async def test_a_read_is_repeated_whatever_breaks(
    front: Opened, upstream: Upstream, breaks: Failing
) -> None:
    good = answer(b'{"jsonrpc":"2.0","id":"\\u00e9","result":{"tools":[]}}')
    upstream.plays(breaks, breaks, good)
    sidecar = await front()
    heard = await sidecar.ask(LIST)
    assert heard.json["result"] == {"tools": []}
    assert len(upstream.asked) == 3


@BREAKS
async def test_a_read_that_stays_broken_says_how_often_it_was_tried(
    front: Opened, upstream: Upstream, breaks: Failing
) -> None:
    upstream.plays(breaks)
    heard = await (await front()).ask(LIST)
    found = details(heard)
    assert found["code"] == "upstream_broken"
    assert found["attempts"] == 4
    assert found["retryable"] is True  # a read, though its fate is unknown
    assert found["delivered"] == "unknown"
    assert heard["Retry-After"] == "1"
    assert len(upstream.asked) == 4


@BREAKS
async def test_a_broken_answer_is_never_stored(
    front: Opened, upstream: Upstream, breaks: Failing
) -> None:
    """F3: 0 cut bodies taken for whole, 0 cached."""
    upstream.plays(breaks, answer(b'{"jsonrpc":"2.0","id":"\\u00e9","result":{"tools":[]}}'))
    sidecar = await front(MCP_MAX_RETRIES=0)
    assert "error" in (await sidecar.ask(LIST)).json
    heard = await sidecar.ask(LIST)
    assert heard["Cache-Status"].startswith("mcp-sidecar; fwd=miss")
    assert heard.json["result"] == {"tools": []}


async def test_a_json_answer_cut_between_chunks_is_no_answer(
    front: Opened, upstream: Upstream
) -> None:
    upstream.plays(is_cut_between_chunks)
    assert details(await (await front()).ask(WRITE))["code"] == "upstream_broken"


OLD = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"


@pytest.mark.parametrize("raw", [WRITE, TOOL])
@pytest.mark.parametrize("said", [MARKS, b""])
async def test_a_json_answer_that_its_connection_cuts_is_no_answer(
    front: Opened, upstream: Upstream, raw: bytes, said: bytes
) -> None:
    """F3: where no length says so, and the server closes in good order."""

    async def dies(exchange: Exchange) -> None:
        await exchange.send(OLD + said)
        exchange.close()

    upstream.plays(dies)
    found = details(await (await front()).ask(raw))
    assert (found["code"], found["delivered"], found["retryable"]) == (
        "upstream_broken", "unknown", False,
    )  # fmt: skip
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("kind", [b"application/json", b"text/html"])
async def test_an_answer_that_ends_with_its_connection_passes(
    front: Opened, upstream: Upstream, kind: bytes
) -> None:
    """F14: what is no JSON and does not say so passes unchanged."""
    said = result(5, content=[]) if b"json" in kind else b"<html>"

    async def ends(exchange: Exchange) -> None:
        await exchange.send(OLD.replace(b"application/json", kind) + said)
        exchange.close()

    upstream.plays(ends)
    heard = await (await front()).ask(WRITE)
    assert (heard.status, heard.body) == (200, said)


async def test_a_page_cut_in_the_middle_is_repeated_while_nobody_saw_it(
    front: Opened, upstream: Upstream
) -> None:
    upstream.plays(is_cut, answer(b"whole"))
    heard = await (await front()).ask(PAGE)
    assert (heard.status, heard.body) == (200, b"whole")


# --- cut after the head


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_page_cut_after_its_head_never_looks_whole(
    front: Opened, upstream: Upstream, how: str
) -> None:
    """F3: the client's connection is aborted without a final chunk."""

    async def breaks_off(exchange: Exchange) -> None:
        await exchange.send(streamed("text/plain"), chunked(b"half", end=False))
        await seen.wait()
        getattr(exchange, how)()

    seen = asyncio.Event()
    upstream.plays(breaks_off)
    async with (await front()).client() as client:
        await client.send(PAGE)
        assert (await client.head()).status == 200
        assert await client.chunk() == b"half"
        seen.set()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.chunk()


async def test_a_large_answer_cut_after_its_head_never_looks_whole(
    front: Opened, upstream: Upstream
) -> None:
    async def breaks_off(exchange: Exchange) -> None:
        await exchange.send(answer(b"x" * 1_500_000, "Content-Length: 3000000"))
        exchange.close()

    upstream.plays(breaks_off)
    heard = await (await front()).ask(PAGE)
    assert heard["Content-Length"] == "3000000"
    assert heard.whole is False
    assert len(upstream.asked) == 1


async def test_an_answer_that_stops_being_http_is_no_answer(
    front: Opened, upstream: Upstream
) -> None:
    """F10: when the broken chunk comes, the head was understood long before."""

    async def goes_mad(exchange: Exchange) -> None:
        await exchange.send(streamed("application/json"), chunked(MARKS, end=False))
        await settle()
        await exchange.send(b"zz\r\nabc\r\n0\r\n\r\n")
        await exchange.left()

    upstream.plays(goes_mad)
    sidecar = await front(MCP_MAX_RETRIES=0)
    assert details(await sidecar.ask(LIST))["code"] == "upstream_broken"


async def test_a_page_that_stops_being_http_never_looks_whole(
    front: Opened, upstream: Upstream
) -> None:
    """F10: broken chunks, after the first was passed on."""

    async def goes_mad(exchange: Exchange) -> None:
        await exchange.send(streamed("text/plain"), chunked(b"half", end=False))
        await seen.wait()
        await exchange.send(b"zz\r\nabc\r\n0\r\n\r\n")

    seen = asyncio.Event()
    upstream.plays(goes_mad)
    async with (await front()).client() as client:
        await client.send(PAGE)
        await client.head()
        assert await client.chunk() == b"half"
        seen.set()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.chunk()


async def test_a_connection_that_is_reset_while_idle_is_nobodys_error(upstream: Upstream) -> None:
    async def resets_later(exchange: Exchange) -> None:
        await exchange.send(answer(b"", "Content-Length: 5"))
        await settle()
        await exchange.send(b"there")
        await heard.wait()
        exchange.reset()

    heard = asyncio.Event()
    upstream.plays(resets_later)
    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with sidecar_of(upstream.url) as sidecar:
        assert (await sidecar.ask(FORM)).body == b"there"
        heard.set()
        await upstream.until(lambda: not upstream.open)
        upstream.plays(answer(b"again"))
        assert (await sidecar.ask(FORM)).body == b"again"
        gc.collect()
    assert reported == []


# --- errors of its own


@pytest.mark.parametrize("status", [500, 502, 503, 504, 501, 599])
async def test_an_error_of_the_server_to_a_write_passes_untouched(
    front: Opened, upstream: Upstream, status: int
) -> None:
    """F5: A(SE) = 1.00, and what the server itself answered stays its own."""
    upstream.plays(answer(b"<h1>its own</h1>", status=f"{status} Oh No", kind="text/html"))
    sidecar = await front()
    for raw in (WRITE, TOOL, FORM):
        heard = await sidecar.ask(raw)
        assert heard.line == f"HTTP/1.1 {status} Oh No"
        assert heard.body == b"<h1>its own</h1>"
    assert len(upstream.asked) == 3


async def test_an_error_of_the_server_to_a_read_is_tried_again(
    front: Opened, upstream: Upstream
) -> None:
    bad = answer(b"bad", status="503 Busy")
    upstream.plays(bad, bad, answer(b'{"jsonrpc":"2.0","id":"\\u00e9","result":{"tools":[]}}'))
    heard = await (await front()).ask(LIST)
    assert heard.json["result"] == {"tools": []}
    assert len(upstream.asked) == 3


async def test_after_the_last_try_the_servers_own_error_passes(
    front: Opened, upstream: Upstream
) -> None:
    upstream.plays(answer(b"bad", "X-Its: own", status="500 Oh No"))
    heard = await (await front()).ask(LIST)
    assert (heard.line, heard.body, heard["X-Its"]) == ("HTTP/1.1 500 Oh No", b"bad", "own")
    assert len(upstream.asked) == 4


async def test_a_streamed_error_is_let_go_before_the_next_try(
    front: Opened, upstream: Upstream
) -> None:
    """Sleeping on an answer that is not released starves the pool (libraries.md section 2)."""

    async def endless(exchange: Exchange) -> None:
        await exchange.send(answer(b"", "Transfer-Encoding: chunked", status="503 Busy"))
        await exchange.left()

    upstream.plays(endless, endless, answer(b"there"))
    heard = await (await front(MCP_UPSTREAM_CONNECTIONS=1)).ask(PAGE)
    assert heard.body == b"there"


@pytest.mark.parametrize(
    "status", ["404 Not Found", "401 Unauthorized", "403 No", "405 No", "421 X"]
)
async def test_a_refusal_of_the_server_passes_unchanged(
    front: Opened, upstream: Upstream, status: str
) -> None:
    """F20, DESIGN section 5: a dead session stays a 404, a challenge a 401."""
    theirs = 'WWW-Authenticate: Bearer resource_metadata="http://a.example/x"'
    upstream.plays(answer(b'{"error": "x"}', theirs, status=status))
    sidecar = await front()
    for raw in (WRITE, LIST, get("/mcp"), TOOL):
        heard = await sidecar.ask(raw)
        assert heard.line == f"HTTP/1.1 {status}"
        assert heard.body == b'{"error": "x"}'
        assert heard["WWW-Authenticate"] == theirs.partition(": ")[2]
    assert len(upstream.asked) == 4


@pytest.mark.parametrize("hint", ["100000", "Fri, 01 Jan 2100 00:00:00 GMT"])
async def test_a_hint_beyond_the_window_is_passed_on_at_once(
    front: Opened, upstream: Upstream, hint: str
) -> None:
    """F6: never repeated earlier than asked."""
    upstream.plays(answer(b"later", f"Retry-After: {hint}", status="429 Slow Down"))
    heard = await (await front()).ask(LIST)
    assert heard.status == 429
    assert heard["Retry-After"] == hint
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("hint", ["soon", "1e9", "-5", "", "1.5"])
async def test_a_hint_that_is_none_does_not_hold_a_read_back(
    front: Opened, upstream: Upstream, hint: str
) -> None:
    busy = answer(b"later", f"Retry-After: {hint}", status="503 Busy")
    upstream.plays(busy, answer(b'{"jsonrpc":"2.0","id":"\\u00e9","result":{"tools":[]}}'))
    assert (await (await front()).ask(LIST)).json["result"] == {"tools": []}


async def test_success_false_is_an_answer(front: Opened, upstream: Upstream) -> None:
    """F7: passed on, not repeated, not stored, neutral to the circuit."""
    body = b'{"success": false, "data": null, "error": "no such issue", "timestamp": "t"}'
    upstream.plays(answer(body))
    sidecar = await front(MCP_ENRICH_RESPONSES="false")
    for _ in range(6):
        assert (await sidecar.ask(TOOL)).body == body
    assert len(upstream.asked) == 6
    assert {
        circuit["state"] for circuit in sidecar.sidecar.targets[0].breaker.snapshot().values()
    } == {"closed"}


async def test_an_open_circuit_answers_for_the_server(front: Opened, upstream: Upstream) -> None:
    """F1, F31: and another tool does not notice."""
    upstream.plays(closes)
    sidecar = await front(MCP_CB_FAILURE_THRESHOLD=2)
    for _ in range(2):
        await sidecar.ask(WRITE)
    heard = await sidecar.ask(WRITE)
    found = details(heard)
    assert found["code"] == "circuit_open"
    assert found["breaker"] == "open"
    assert found["delivered"] == "no"
    assert found["attempts"] == 0
    assert 50_000 < found["retry_after_ms"] <= 60_000
    assert heard["Retry-After"] == "60"
    assert len(upstream.asked) == 2
    upstream.plays(answer(result(1, content=[])))
    assert (await sidecar.ask(post("/mcp", tool("other")))).json["result"] == {"content": []}


async def test_a_departure_opens_no_circuit(front: Opened, upstream: Upstream) -> None:
    """F33: the client left, the server did nothing wrong."""
    upstream.plays(hangs)
    sidecar = await front(MCP_CB_FAILURE_THRESHOLD=1)
    for asked in range(1, 6):
        async with sidecar.client() as client:
            await client.send(WRITE)
            await upstream.until(lambda asked=asked: len(upstream.asked) == asked)
        await upstream.until(lambda: not upstream.open)
    upstream.plays(answer(result(5, content=[])))
    assert (await sidecar.ask(WRITE)).json["result"] == {"content": []}


def socket_without_room() -> list[Any]:
    """Return a listening socket whose queue is full, first, and what fills it."""
    import socket

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    found = [listening]
    for _ in range(3):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(listening.getsockname())
        found.append(one)
    return found
