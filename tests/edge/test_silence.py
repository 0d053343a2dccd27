"""What a server says unasked is nobody's answer."""

import itertools

import pytest

from mcp_proxy.edge import silence
from tests.edge.conftest import Opened
from tests.edge.wire import Answer, Exchange, Upstream, answer, get, post, request
from tests.fakes import settle, spawn

EVIL = answer(b"evil")
ASKS = {"read": get, "write": lambda target: post(target, b"{}")}


@pytest.mark.parametrize("kind", ASKS)
@pytest.mark.parametrize("said", [EVIL, EVIL[:20], b"\r\n", b"\x00"])
async def test_what_comes_while_nobody_asks_ends_the_connection(
    front: Opened, upstream: Upstream, kind: str, said: bytes
) -> None:
    held: list[Exchange] = []

    async def first(exchange: Exchange) -> None:
        await exchange.send(answer(b"first"))
        held.append(exchange)

    upstream.plays(first, answer(b"second"))
    sidecar = await front(MCP_MAX_RETRIES=0)
    assert (await sidecar.ask(ASKS[kind]("/a"))).body == b"first"
    await held[0].send(said)
    await settle()
    assert (await sidecar.ask(ASKS[kind]("/b"))).body == b"second"
    assert len(set(upstream.on)) == 2


@pytest.mark.parametrize("kind", ASKS)
@pytest.mark.parametrize("pieces", [(1,), (-5,), ()])
async def test_what_stands_behind_a_body_is_not_the_next_answer(
    front: Opened, upstream: Upstream, kind: str, pieces: tuple[int, ...]
) -> None:
    """Response splitting: the body is longer than its length says."""
    whole = answer(b"first")

    async def first(exchange: Exchange) -> None:
        cuts = [0, *(at % len(whole) for at in pieces), len(whole) + len(EVIL)]
        for begin, end in itertools.pairwise(cuts):
            await exchange.send((whole + EVIL)[begin:end])
            await settle()

    upstream.plays(first, answer(b"second"))
    sidecar = await front(MCP_MAX_RETRIES=0)
    # two readings are right: the first answer, or none
    assert (await sidecar.ask(ASKS[kind]("/a"))).body != b"evil"
    assert (await sidecar.ask(ASKS[kind]("/b"))).body == b"second"


@pytest.mark.parametrize("framed", ["Content-Length: 5000", "Transfer-Encoding: chunked"])
async def test_half_a_request_is_the_last_on_its_connection(
    front: Opened, upstream: Upstream, framed: str
) -> None:
    """The server has answered before the end; the next request would be the rest of the body."""
    upstream.reads_bodies = False
    upstream.plays(answer(b"early"))
    sidecar = await front(MCP_BUFFER_LIMIT=1000)
    body = b"x" * 1500 if "Length" in framed else b"5dc\r\n" + b"x" * 1500 + b"\r\n"
    async with sidecar.client() as client:
        await client.send(request("POST", "/a", framed) + body)
        assert (await client.hear()).body == b"early"
    for raw in (get("/b"), post("/b", b"")):
        assert (await sidecar.ask(raw)).body == b"early"
    assert upstream.on.count(upstream.on[0]) == 1


async def test_a_silent_connection_is_used_again(front: Opened, upstream: Upstream) -> None:
    sidecar = await front()
    for _ in range(5):
        assert (await sidecar.ask(get("/a"))).status == 200
    assert len(set(upstream.on)) == 1


@pytest.mark.parametrize("kind", ASKS)
@pytest.mark.parametrize("when", ["idle", "in an answer", "as announced"])
async def test_a_connection_that_the_server_gives_up_is_noticed(
    front: Opened, upstream: Upstream, kind: str, when: str
) -> None:
    """A server that dies and is back at once refuses nobody; its sessions are gone all the same."""
    held: list[Exchange] = []

    async def first(exchange: Exchange) -> None:
        announced = ("Connection: close",) if when == "as announced" else ()
        whole = answer(b"first", *announced)
        await exchange.send(whole[:-1] if when == "in an answer" else whole)
        held.append(exchange)

    upstream.plays(first, answer(b"second"))
    sidecar = await front(MCP_MAX_RETRIES=0)
    before = sidecar.sidecar.departures
    asked = spawn(sidecar.ask(ASKS[kind]("/a")), "first")
    await upstream.until(lambda: bool(held))
    await settle()
    held[0].close()
    await settle()
    assert sidecar.sidecar.departures - before == (0 if when == "as announced" else 1)
    await asked


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, no connection has rested for long enough."""
    monkeypatch.setattr(silence, "_PAUSE", 3600.0)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection has rested for long enough."""
    monkeypatch.setattr(silence, "_PAUSE", 0.0)


def answers_late(late: list[Exchange], body: bytes) -> Answer:
    async def answers(exchange: Exchange) -> None:
        await exchange.send(answer(body))
        late.append(exchange)

    return answers


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("kind", ASKS)
@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "Cookie", "Mcp-Session-Id"])
async def test_a_second_answer_that_comes_late_is_not_told_to_another_caller(
    front: Opened, upstream: Upstream, kind: str, name: str
) -> None:
    """HTTP/1.1 numbers no answers: what comes after the next request is taken for its answer."""
    late: list[Exchange] = []

    async def when_asked(exchange: Exchange) -> None:
        await late[0].send(answer(b"of alice"))  # once more, on the connection that it came on
        await settle()
        await exchange.send(answer(b"of bob"))

    upstream.plays(answers_late(late, b"of alice"), when_asked)
    sidecar = await front(MCP_MAX_RETRIES=0)
    asked = [request("GET", "/x", f"{name}: {who}") for who in ("alice", "bob")]
    if kind == "write":
        asked = [post("/x", b"{}", f"{name}: {who}") for who in ("alice", "bob")]
    assert (await sidecar.ask(asked[0])).body == b"of alice"
    assert (await sidecar.ask(asked[1])).body == b"of bob"
    assert len(set(upstream.on)) == 2


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(("said", "connections"), [(EVIL, 3), (b"HTTP/1.1 408 x\r\n\r\n", 2)])
async def test_where_it_was_caught_the_same_caller_is_careful_too(
    front: Opened, upstream: Upstream, said: bytes, connections: int
) -> None:
    """RFC 9110 section 15.5.9: a 408 only says that the server is tired of waiting."""
    late: list[Exchange] = []
    upstream.plays(answers_late(late, b"first"), answer(b"second"), answer(b"third"))
    sidecar = await front(MCP_MAX_RETRIES=0)
    assert (await sidecar.ask(get("/a"))).body == b"first"
    await late[0].send(said)
    await settle()
    assert (await sidecar.ask(get("/b"))).body == b"second"
    assert (await sidecar.ask(get("/c"))).body == b"third"
    assert len(set(upstream.on)) == connections


@pytest.mark.usefixtures("hasty")
async def test_a_connection_goes_to_another_caller_after_a_pause(
    front: Opened, upstream: Upstream
) -> None:
    sidecar = await front()
    for who in ("alice", "bob", "carol"):
        await sidecar.ask(request("GET", "/x", f"Authorization: {who}"))
    assert len(set(upstream.on)) == 1


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("scheme", ["Negotiate", "NTLM", "negotiate"])
@pytest.mark.parametrize("size", [2, 100_000])
async def test_a_connection_that_may_stand_for_somebody_goes_to_nobody_else(
    front: Opened, upstream: Upstream, method: str, scheme: str, size: int
) -> None:
    """RFC 4559 section 6: IIS and Kestrel know a connection by who has once said so on it."""
    upstream.plays(answer(b"x" * size))
    sidecar = await front()
    await sidecar.ask(request(method, "/x", f"Authorization: {scheme} YII=", body=b"y" * size))
    await sidecar.ask(request(method, "/x"))
    await sidecar.ask(request(method, "/x"))
    of_the_first, *others = upstream.on
    assert of_the_first not in others
    assert len(set(others)) == 1


@pytest.mark.usefixtures("patient")
async def test_a_caller_finds_its_own_connection_among_those_of_others(
    front: Opened, upstream: Upstream
) -> None:
    sidecar = await front()
    for _ in range(3):
        for who in ("alice", "bob", "carol"):
            await sidecar.ask(request("GET", "/x", f"Authorization: {who}"))
    assert len(set(upstream.on)) == 3


@pytest.mark.usefixtures("patient")
async def test_nobodys_connection_goes_to_nobody_else_at_once(
    front: Opened, upstream: Upstream
) -> None:
    """Handshakes of WebSockets are not told apart by their callers."""
    sidecar = await front()
    handshake = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    for who in ("alice", "bob"):
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        await sidecar.ask(get("/ws", *handshake, key, f"Authorization: {who}"))
    assert len(set(upstream.on)) == 2
