"""Events as they happen, over HTTP and over a WebSocket (DESIGN section 6)."""

import asyncio
import json
from contextlib import aclosing
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft202012Validator

from mcp_proxy.core.watching import Wanted
from mcp_proxy.signals import schemas
from tests.edge.conftest import Opened
from tests.edge.wire import Client, Front, Upstream, bound, get, post, read_head, tool

TELL = {"tool": "look", "message": "hello"}


class Watch:
    """An open event stream, read event by event."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def next(self) -> dict[str, Any]:
        """Return the fields of the next event, its data as an object; comments are passed over."""
        while True:
            fields = {}
            while line := (await self._line()).strip():
                name, _, value = line.partition(b": ")
                fields[name.decode()] = value.decode()
            if "data" in fields:
                return {**fields, "data": json.loads(fields["data"])}

    async def _line(self) -> bytes:
        """Return a line of the body: chunk sizes stand between them, in lines of their own."""
        while True:
            line = await self._client.reader.readline()
            if not line:
                raise EOFError
            if not all(byte in b"0123456789abcdef\r\n" for byte in line) or line == b"\n":
                return line


async def watch(client: Client, query: str = "", *headers: str) -> Watch:
    client.writer.write(get(f"/api/events{query}", *headers))
    said = await read_head(client.reader)
    assert (said.status, said["Content-Type"]) == (200, "text/event-stream")
    watching = Watch(client)
    await client.reader.readuntil(b"follow\n\n")
    return watching


def tell(front: Front, *names: str, level: str = "info", **fields: Any) -> None:
    for name in names:
        front.sidecar.emit(name, level, **{**TELL, **fields})


async def test_events_are_seen_as_they_happen(front: Opened) -> None:
    sidecar = await front()
    async with sidecar.client() as client, bound():
        watching = await watch(client)
        tell(sidecar, "test.first", "test.second")
        first, second = await watching.next(), await watching.next()
    assert (first["event"], second["event"]) == ("test.first", "test.second")
    assert first["data"]["message"] == "hello"
    assert first["id"] == first["data"]["id"] != second["id"]


async def test_a_call_is_seen_with_its_request_id(front: Opened, upstream: Upstream) -> None:
    sidecar = await front()
    async with sidecar.client() as client, bound():
        watching = await watch(client, "?type=tool.call.completed")
        await sidecar.ask(post("/mcp", tool("look"), "X-Request-Id: mine-1"))
        seen = await watching.next()
    assert seen["data"]["request_id"] == "mine-1"
    assert seen["data"]["upstream"] == upstream.url


async def test_filters_narrow_what_is_seen(front: Opened) -> None:
    sidecar = await front()
    async with sidecar.client() as client, bound():
        watching = await watch(client, "?type=test.ab&tool=look&level=warning")
        tell(sidecar, "test.ab")
        tell(sidecar, "test.xy", level="error")
        tell(sidecar, "test.ab", level="error", tool="see")
        tell(sidecar, "test.ab", level="error", message="this")
        assert (await watching.next())["data"]["message"] == "this"


async def test_who_comes_back_gets_what_was_missed(front: Opened) -> None:
    sidecar = await front()
    tell(sidecar, "test.one", "test.two", "test.three")
    async with sidecar.client() as client, bound():
        watching = await watch(client, "?replay=2&tool=look")
        seen = await watching.next()
        assert seen["event"] == "test.two"
    async with sidecar.client() as client, bound():
        watching = await watch(client, "?tool=look", f"Last-Event-ID: {seen['id']}")
        assert (await watching.next())["event"] == "test.three"
    async with sidecar.client() as client, bound():
        watching = await watch(client, f"?tool=look&last_event_id={seen['id']}")
        assert (await watching.next())["event"] == "test.three"


async def test_a_slow_reader_is_told_what_it_has_lost(front: Opened) -> None:
    """Issue 6: and holds nothing up."""
    sidecar = await front(MCP_EVENTS_REPLAY=100)
    async with sidecar.client() as client, bound():
        watching = await watch(client)
        tell(sidecar, *["test.ab"] * 1000)
        lost = await watching.next()
        assert lost["event"] == "events.lost"
        assert lost["data"]["lost"] == 900
        assert (await watching.next())["event"] == "test.ab"


async def test_a_reader_that_does_not_read_costs_a_ring_and_no_more(front: Opened) -> None:
    sidecar = await front(MCP_EVENTS_REPLAY=100)
    async with sidecar.client() as client, bound():
        await watch(client)
        for _ in range(200):
            tell(sidecar, *["test.ab"] * 100, message="x" * 400)
            await asyncio.sleep(0)  # noqa: TID251 - the loop may write
        assert (await sidecar.ask(get("/livez"))).status == 200
        assert len(sidecar.sidecar.events._ring) == 100
    while sidecar.sidecar.live.watchers:  # noqa: ASYNC110 - its leaving has no event
        await asyncio.sleep(0.01)  # noqa: TID251


async def test_a_stream_ends_cleanly_when_the_sidecar_drains(front: Opened) -> None:
    sidecar = await front()
    async with sidecar.client() as client, bound():
        await watch(client)
        sidecar.sidecar.inbound.draining = True
        assert await client.reader.readuntil(b"0\r\n\r\n")


@pytest.mark.parametrize("query", ["?level=loud", "?tipe=a", "?replay=x"])
@pytest.mark.parametrize("path", ["/api/events", "/api/events/ws"])
async def test_a_typing_mistake_is_told(front: Opened, query: str, path: str) -> None:
    upgrade = ("Upgrade: websocket", "Connection: Upgrade") if path.endswith("ws") else ()
    heard = await (await front()).ask(get(path + query, *upgrade))
    assert heard.status == 400
    assert heard.json["code"] == "bad_request"


async def test_events_are_guarded_by_the_token(front: Opened) -> None:
    """DESIGN section 6: MCP_ADMIN_TOKEN guards everything that reveals."""
    sidecar = await front(MCP_ADMIN_TOKEN="secret")
    for path in ("/api/events", "/api/events/ws"):
        assert (await sidecar.ask(get(path))).status == 401
    async with sidecar.client() as client, bound():
        await watch(client, "", "Authorization: Bearer secret")


async def test_too_many_watchers_are_refused(
    front: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F46: each stream is bounded, and so is their number."""
    monkeypatch.setattr("mcp_proxy.edge.live._WATCHERS", 1)
    sidecar = await front()
    async with sidecar.client() as client, bound():
        await watch(client)
        refused = await sidecar.ask(get("/api/events"))
    assert (refused.status, refused.json["code"]) == (503, "overloaded")


async def test_what_events_say_is_published(front: Opened) -> None:
    """Issue 6: JSON Schemas for every event type, published and tested."""
    heard = await (await front()).ask(get("/api/events/schema"))
    Draft202012Validator.check_schema(heard.json)
    assert list(heard.json["$defs"]) == schemas.names()
    told = {
        "timestamp": "2026-01-01T00:00:00+00:00",
        "level": "info",
        "event": "config.warning",
        "message": "hello",
    }
    validator = Draft202012Validator(heard.json)
    validator.validate(told)
    for wrong in ({**told, "event": "no.such"}, {**told, "more": 1}, {**told, "message": 1}):
        assert not validator.is_valid(wrong)


async def test_a_head_has_no_body(front: Opened) -> None:
    sidecar = await front()
    heard = await sidecar.ask(get("/api/events").replace(b"GET", b"HEAD"))
    assert (heard.status, heard.body) == (200, b"")


# --- the same over a WebSocket


async def test_a_websocket_tells_the_same_objects(front: Opened) -> None:
    sidecar = await front()
    url = f"ws://127.0.0.1:{sidecar.port}/api/events/ws"
    async with bound(), aiohttp.ClientSession() as session:
        tell(sidecar, "test.old")
        async with session.ws_connect(f"{url}?replay=1&tool=look") as socket:
            assert (await socket.receive_json())["event"] == "test.old"
            tell(sidecar, "test.new")
            seen = await socket.receive_json()
    assert seen["event"] == "test.new"
    assert seen["id"].startswith(sidecar.sidecar.events.run)


async def test_a_slow_websocket_is_told_what_it_has_lost(front: Opened) -> None:
    sidecar = await front(MCP_EVENTS_REPLAY=10)
    url = f"ws://127.0.0.1:{sidecar.port}/api/events/ws"
    async with bound(), aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        while not sidecar.sidecar.live.watchers:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # noqa: TID251
        tell(sidecar, *["test.ab"] * 100)
        assert await socket.receive_json() == {"event": "events.lost", "lost": 90}
        assert (await socket.receive_json())["event"] == "test.ab"


async def test_a_websocket_is_told_goodbye_when_the_sidecar_drains(front: Opened) -> None:
    sidecar = await front()
    url = f"ws://127.0.0.1:{sidecar.port}/api/events/ws"
    async with bound(), aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        sidecar.sidecar.inbound.draining = True
        message = await socket.receive()
    assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)


async def test_what_is_no_websocket_is_told_where_to_go(front: Opened) -> None:
    heard = await (await front()).ask(get("/api/events/ws"))
    assert heard.status == 400
    assert "/api/events" in heard.json["detail"]


async def test_a_page_of_another_origin_may_not_watch(front: Opened) -> None:
    """DESIGN section 6: Host and Origin are checked on every request, streams and WebSockets too."""
    sidecar = await front()
    upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Origin: https://evil.example")
    assert (await sidecar.ask(get("/api/events/ws", *upgrade))).status == 403


async def test_a_stream_that_nobody_reads_is_let_go_of(front: Opened) -> None:
    live = (await front()).sidecar.live
    async with aclosing(live._batches(0, Wanted())):
        pass
    assert live.watchers == 0
