"""Sessions that outlive their server (F20; DESIGN section 4, session recovery)."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from multidict import CIMultiDict

from mcp_proxy.core.call import Call, Delivery, Reply, Stream, Whole
from mcp_proxy.core.errors import UpstreamBrokenError, UpstreamUnreachableError
from mcp_proxy.core.headers import media_type
from mcp_proxy.core.intent import (
    LEGACY_POST,
    RESPONSE,
    SESSION_END,
    STREAM,
    UNREAD,
    Decisions,
    Intent,
    Policy,
)
from mcp_proxy.core.jsonrpc import read_request
from mcp_proxy.core.message import NOTHING
from mcp_proxy.core.session import Session
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.recover import Recover
from mcp_proxy.upstream.sessions import Sessions
from tests.fakes import FakeClock, Feed, Told, error_of, reply, settle, spawn, streamed, within

VERSION = "2025-11-25"
ANN = {"Authorization": "Bearer ann"}


def said(method: str, request_id: Any = 1, **params: Any) -> bytes:
    message = {"jsonrpc": "2.0", "method": method, "params": params}
    return json.dumps(message if request_id is None else {**message, "id": request_id}).encode()


OPENING = said("initialize", 0, protocolVersion=VERSION, capabilities={})
READY = said("notifications/initialized", None)
LEVEL = said("logging/setLevel", 5, level="debug")
LIST = said("tools/list", 7)
ANSWER = b'{"jsonrpc": "2.0", "id": 0, "result": {}}'
WRITE = said("tools/call", 8, name="save", arguments={})


def watch(uri: str, request_id: int = 20, method: str = "resources/subscribe") -> bytes:
    return said(method, request_id, uri=uri)


class Server:
    """A server that forgets its sessions when it is told to."""

    departures = 0

    def __init__(self) -> None:
        self.sessions: dict[str, list[str]] = {}
        self.asked: list[tuple[str, str | None]] = []  # what arrived, and in which session
        self.lost: list[Call] = []
        self.opened = 0
        self.away: set[str] = set()  # sessions whose target is away, while another is there
        self.version = VERSION
        self.events = False  # answers come as event streams
        self.refuses: set[str] = set()  # methods that are answered 400
        self.let = asyncio.Event()
        self.let.set()

    def stranded(self, session_id: str) -> bool:
        return session_id in self.away

    async def session_lost(self, call: Call) -> None:
        self.lost.append(call)

    def restart(self) -> None:
        self.sessions.clear()
        self.departures += 1

    async def __call__(self, call: Call) -> Reply:
        body = call.body.data if isinstance(call.body, Whole) else b""
        asked = json.loads(body) if body else {}
        what = asked.get("method", call.method)
        session = call.headers.get("Mcp-Session-Id")
        self.asked.append((what, session))
        await self.let.wait()
        if what in self.refuses:
            return reply(400, verdict=Verdict.CLIENT_FAULT)
        if what == "initialize":
            self.opened += 1
            session = f"s{self.opened}"
            self.sessions[session] = []
            return self.answer(asked, {"protocolVersion": self.version}, session)
        if session is not None and session not in self.sessions:
            return reply(404, b'{"error": "Session not found"}', Verdict.CLIENT_FAULT)
        if session is not None:
            self.sessions[session].append(what)
        if "id" not in asked:
            return reply(202, b"")
        return self.answer(asked, {}, session)

    def answer(self, asked: dict[str, Any], result: dict[str, Any], session: str | None) -> Reply:
        data = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode()
        headers = {"Content-Type": "application/json"}
        if session:
            headers["Mcp-Session-Id"] = session
        if not self.events:
            return Reply(200, CIMultiDict(headers), Whole(data), attempts=1)
        feed = Feed()
        feed.give(b"data: " + data + b"\n\n", verdict=Verdict.OK)
        answered = streamed(feed, Content_Type="text/event-stream")
        answered.headers.update({**headers, "Content-Type": "text/event-stream"})  # type: ignore[union-attr]
        return answered


class Bench:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.told = Told()
        self.server = Server()
        self.sessions = Sessions(self.clock.now)
        self.recover = Recover(
            self.sessions, self.server, self.clock, spawn, self.told, limit=1 << 20
        )

    def call(
        self,
        body: bytes,
        session: str | None = "s1",
        *,
        intent: Intent | None = None,
        method: str = "POST",
        **headers: str,
    ) -> Call:
        named = {name.replace("_", "-"): value for name, value in {**ANN, **headers}.items()}
        if session is not None:
            named |= {"Mcp-Session-Id": session, "MCP-Protocol-Version": VERSION}
        message = read_request(body, CIMultiDict(named)) or NOTHING
        return Call(
            method,
            "/mcp",
            CIMultiDict(named),
            Whole(body),
            intent or Decisions(Policy()).of(message),
            "request-1",
            message,
            raw=tuple((name.encode(), value.encode()) for name, value in named.items()),
        )

    async def ask(self, body: bytes, session: str | None = "s1", **more: Any) -> Reply:
        return await within(self.recover(self.call(body, session, **more), self.server))

    async def open(self, *messages: bytes) -> "Bench":
        opened = await self.ask(OPENING, None)
        if isinstance(opened.body, Stream):
            await opened.body.aclose()
        for message in messages:
            await self.ask(message)
        self.server.asked.clear()
        return self


async def test_a_session_passes_as_it_is_while_the_server_knows_it() -> None:
    bench = await Bench().open(READY)
    asked = bench.call(LIST)
    seen: list[Call] = []

    async def forward(call: Call) -> Reply:
        seen.append(call)
        return await bench.server(call)

    answered = await within(bench.recover(asked, forward))
    assert (seen, answered.status) == ([asked], 200)
    assert bench.told.events == []


@pytest.mark.parametrize("events", [False, True])
async def test_a_read_does_not_notice_that_the_server_was_restarted(events: bool) -> None:
    bench = Bench()
    bench.server.events = events
    await bench.open(
        READY, LEVEL, watch("a"), watch("b", 21), watch("a", 22, "resources/unsubscribe")
    )
    bench.server.restart()
    answered = await bench.ask(LIST)
    assert answered.status == 200
    assert answered.headers["Mcp-Session-Id"] == "s1", "some clients take it from there"
    assert bench.server.asked == [
        ("tools/list", "s1"),
        ("initialize", None),
        ("notifications/initialized", "s2"),
        ("logging/setLevel", "s2"),
        ("resources/subscribe", "s2"),
        ("tools/list", "s2"),
    ]
    assert bench.told.events == [
        ("session.recovered", "info", {"request_id": "request-1", "messages": 4})
    ]
    assert len(bench.server.lost) == 1, "what the caller was told in it is dropped"
    bench.server.asked.clear()
    assert (await bench.ask(LIST)).status == 200
    assert bench.server.asked == [("tools/list", "s2")]


async def test_it_is_recovered_under_the_credentials_of_the_call_at_hand() -> None:
    bench = await Bench().open(READY)
    bench.server.restart()
    seen: list[Call] = []

    async def forward(call: Call) -> Reply:
        seen.append(call)
        return await bench.server(call)

    await within(bench.recover(bench.call(LIST, Last_Event_ID="9"), forward))
    opening = seen[1]
    assert opening.headers["Authorization"] == "Bearer ann"
    assert opening.body == Whole(OPENING)
    assert not {"Mcp-Session-Id", "MCP-Protocol-Version", "Last-Event-ID"} & set(opening.headers)
    assert media_type(opening.headers) == "application/json"
    ready, again = seen[2], seen[3]
    assert (ready.headers["MCP-Protocol-Version"], ready.message.method) == (
        VERSION, "notifications/initialized",
    )  # fmt: skip
    assert "Last-Event-ID" not in again.headers, "event ids belong to the stream that is gone"
    assert not any(call.raw for call in seen[1:]), "or the old id would be spelled"


@pytest.mark.parametrize("other", [{"Authorization": "Bearer bob"}, {"Cookie": "a=b"}])
async def test_with_other_credentials_it_is_forwarded_and_never_recovered(
    other: dict[str, str],
) -> None:
    """DESIGN: also a refreshed token; a session belongs to who opened it."""
    bench = await Bench().open(READY)
    bench.server.restart()
    assert (await bench.ask(LIST, **other)).status == 404
    assert bench.server.asked == [("tools/list", "s1")]
    await bench.ask(LIST)
    bench.server.asked.clear()
    assert (await bench.ask(LIST, **other)).status == 404
    assert bench.server.asked == [("tools/list", "s1")], "no more is told of the new id"


async def test_a_write_that_the_server_refused_is_not_sent_again() -> None:
    """DESIGN section 4, the table: a 404 is no proof; but the session lives for the next call."""
    bench = await Bench().open(READY)
    bench.server.sessions.clear()  # and nobody has noticed
    answered = await bench.ask(WRITE)
    assert (answered.status, answered.body) == (404, Whole(b'{"error": "Session not found"}'))
    assert [what for what, _ in bench.server.asked].count("tools/call") == 1
    assert (await bench.ask(WRITE)).status == 200


async def test_a_write_asks_first_when_the_server_has_been_away() -> None:
    """So that it is sent once, and is carried out."""
    bench = await Bench().open(READY)
    bench.server.restart()
    assert (await bench.ask(WRITE)).status == 200
    assert bench.server.asked == [
        ("ping", "s1"),
        ("initialize", None),
        ("notifications/initialized", "s2"),
        ("tools/call", "s2"),
    ]
    bench.server.asked.clear()
    await bench.ask(WRITE)
    bench.server.departures += 1  # away, but it has forgotten nothing
    await bench.ask(WRITE)
    await bench.ask(WRITE)
    assert [what for what, _ in bench.server.asked] == [
        "tools/call", "ping", "tools/call", "tools/call",
    ]  # fmt: skip


async def test_a_write_asks_first_after_a_quiet_moment() -> None:
    """A restart that nobody saw: no connection was tried meanwhile."""
    bench = await Bench().open(READY)
    await bench.clock.advance(0.5)
    await bench.ask(WRITE)
    assert bench.server.asked == [("tools/call", "s1")]
    await bench.clock.advance(0.6)
    bench.server.sessions.clear()
    assert (await bench.ask(WRITE)).status == 200
    assert bench.server.asked[1:] == [
        ("ping", "s1"),
        ("initialize", None),
        ("notifications/initialized", "s2"),
        ("tools/call", "s2"),
    ]


async def test_a_server_that_does_not_answer_a_ping_gets_the_write_all_the_same() -> None:
    bench = await Bench().open(READY)
    bench.server.departures += 1

    async def forward(call: Call) -> Reply:
        if call.message.method == "ping":
            raise error_of(UpstreamBrokenError)
        return await bench.server(call)

    assert (await within(bench.recover(bench.call(WRITE), forward))).status == 200


async def test_an_answer_to_a_question_goes_where_the_session_lives_now() -> None:
    """MCP 2025-11-25, transports: it is a POST of its own, and the call that asked waits for it."""
    bench = await Bench().open(READY)
    bench.server.restart()
    await bench.ask(WRITE)
    await bench.clock.advance(60)  # people take long
    bench.server.asked.clear()
    answered = await bench.ask(ANSWER, intent=RESPONSE)
    assert answered.status == 200
    assert answered.headers["Mcp-Session-Id"] == "s1"
    assert bench.server.asked == [("POST", "s2")], "and nothing is asked before"


async def test_an_answer_that_comes_too_late_opens_no_session() -> None:
    """A session opened anew has not asked, and may ask something else under the same id."""
    bench = await Bench().open(READY)
    bench.server.restart()
    assert (await bench.ask(ANSWER, intent=RESPONSE)).status == 404
    assert bench.server.asked == [("POST", "s1")]
    assert (await bench.ask(LIST)).status == 200, "the next call does"


async def test_what_cannot_be_read_asks_first_like_a_write() -> None:
    """A batch, or a body too large to be held, belongs to its session too."""
    bench = await Bench().open(READY)
    bench.server.restart()
    await bench.ask(b'{"id": 1, "id": 1}', intent=UNREAD)
    assert [session for _, session in bench.server.asked] == ["s1", None, "s2", "s2"]


async def test_what_the_server_refuses_is_not_kept_and_recovers_nothing() -> None:
    bench = await Bench().open(READY)
    bench.server.refuses |= {"logging/setLevel", "ping"}
    assert (await bench.ask(LEVEL)).status == 400
    session = bench.sessions.find("s1")
    assert session is not None
    assert session.level is None
    bench.server.departures += 1
    assert (await bench.ask(WRITE)).status == 200, "a server without ping is asked all the same"
    assert bench.server.opened == 1


async def test_all_calls_that_miss_a_session_share_its_recovery() -> None:
    bench = await Bench().open(READY)
    bench.server.restart()
    bench.server.let.clear()
    callers = [spawn(bench.ask(LIST), "caller") for _ in range(20)]
    await settle()
    bench.server.let.set()
    await settle()
    callers[0].cancel()  # it may lead: the others do not lose the session with it
    answers = [await within(caller) for caller in callers[1:]]
    assert {answer.status for answer in answers} == {200}
    assert bench.server.opened == 2
    assert bench.told.names() == ["session.recovered"]


async def test_a_late_404_finds_a_session_that_was_recovered_meanwhile() -> None:
    bench = await Bench().open(READY)
    bench.server.restart()
    gate = asyncio.Event()

    async def slow(call: Call) -> Reply:
        answered = await bench.server(call)
        if answered.status == 404:
            await gate.wait()
        return answered

    late = spawn(bench.recover(bench.call(LIST), slow), "late")
    await settle()
    assert (await bench.ask(LIST)).status == 200
    gate.set()
    assert (await within(late)).status == 200
    assert bench.server.opened == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda server: server.refuses.add("initialize"),
        lambda server: server.refuses.add("notifications/initialized"),
        lambda server: server.refuses.add("logging/setLevel"),
        lambda server: setattr(server, "version", "2025-06-18"),
    ],
    ids=["no handshake", "not ready", "no level", "another version"],
)
async def test_where_recovery_fails_the_404_passes(spoil: Callable[[Server], None]) -> None:
    """DESIGN: unchanged, and at once the next time."""
    bench = await Bench().open(READY, LEVEL)
    bench.server.restart()
    spoil(bench.server)
    answered = await bench.ask(LIST)
    assert (answered.status, answered.body) == (404, Whole(b'{"error": "Session not found"}'))
    assert bench.told.names() == ["session.recovery_failed"]
    bench.server.asked.clear()
    assert (await bench.ask(LIST)).status == 404
    assert bench.server.asked == [("tools/list", "s1")]


async def test_a_handshake_that_takes_too_long_is_given_up() -> None:
    bench = await Bench().open(READY)
    bench.server.restart()

    async def forward(call: Call) -> Reply:
        if call.message.method == "initialize":
            await asyncio.Event().wait()
        return await bench.server(call)

    answered = await bench.clock.run(bench.recover(bench.call(LIST), forward))
    assert answered.status == 404


async def test_a_server_that_is_gone_again_fails_the_recovery_and_not_the_call() -> None:
    bench = await Bench().open(READY)
    bench.server.restart()

    async def forward(call: Call) -> Reply:
        if call.message.method == "initialize":
            raise error_of(UpstreamBrokenError)
        return await bench.server(call)

    assert (await within(bench.recover(bench.call(LIST), forward))).status == 404


async def test_a_server_that_forgets_at_once_is_not_asked_for_ever() -> None:
    bench = await Bench().open(READY)
    bench.server.restart()

    async def forward(call: Call) -> Reply:
        answered = await bench.server(call)
        bench.server.sessions.clear()
        return answered

    asked = bench.call(LIST)
    assert (await within(bench.recover(asked, forward))).status == 404
    opened = bench.server.opened
    assert (await within(bench.recover(asked, forward))).status == 404
    assert bench.server.opened == opened


async def test_a_session_that_is_lost_with_its_recovery_is_given_up() -> None:
    bench = await Bench().open(READY)
    bench.server.restart()

    async def forward(call: Call) -> Reply:
        answered = await bench.server(call)
        if call.message.method == "notifications/initialized":  # the handshake's last message
            bench.server.sessions.clear()
        return answered

    assert (await within(bench.recover(bench.call(LIST), forward))).status == 404
    assert len(bench.sessions) == 0


async def test_a_server_that_goes_away_again_keeps_its_sessions() -> None:
    """F23: a handshake that was refused was not delivered; the read waits for the server, too."""
    bench = await Bench().open(READY)
    bench.server.restart()
    away = False

    async def forward(call: Call) -> Reply:
        nonlocal away
        away = away or call.message.method == "initialize"
        if away:
            raise UpstreamUnreachableError("Nobody there.")
        return await bench.server(call)

    for said_again in (LIST, WRITE):
        with pytest.raises(UpstreamUnreachableError):  # which retry waits out
            await within(bench.recover(bench.call(said_again), forward))
        away = False
        bench.server.restart()
    assert (await bench.ask(LIST)).status == 200
    assert [event for event, _, _ in bench.told.events] == [
        "session.recovery_failed", "session.recovery_failed", "session.recovered",
    ]  # fmt: skip


# --- sessions of a target that is away, while another is there


@pytest.mark.parametrize("said_again", [LIST, WRITE])
async def test_a_session_moves_to_another_target_before_it_is_asked_for(said_again: bytes) -> None:
    """F20 with several targets: whoever lives there need not notice."""
    bench = await Bench().open(READY, LEVEL)
    bench.server.away = {"s1"}
    assert (await bench.ask(said_again)).status == 200
    assert [session for what, session in bench.server.asked if what != "initialize"] == ["s2"] * 3
    assert bench.told.names() == ["session.recovered"]


@pytest.mark.parametrize("said_again", [LIST, WRITE])
async def test_a_session_moves_when_its_target_turns_out_to_be_away(said_again: bytes) -> None:
    """A write, too: the connection was refused, so nothing of it was delivered."""
    bench = await Bench().open(READY)

    async def forward(call: Call) -> Reply:
        if call.headers.get("Mcp-Session-Id") == "s1":
            bench.server.away = {"s1"}
            raise UpstreamUnreachableError("Nobody there.")
        return await bench.server(call)

    answered = await within(bench.recover(bench.call(said_again), forward))
    assert answered.status == 200
    assert answered.headers["Mcp-Session-Id"] == "s1", "the client knows no other"
    assert (await bench.ask(LIST)).status == 200


async def test_a_session_whose_target_alone_is_away_waits_for_it() -> None:
    """Nobody else is there: retry waits out the restart."""
    bench = await Bench().open(READY)

    async def forward(call: Call) -> Reply:
        raise UpstreamUnreachableError("Nobody there.")

    with pytest.raises(UpstreamUnreachableError):
        await within(bench.recover(bench.call(LIST), forward))
    assert bench.told.events == []


async def test_a_move_that_fails_leaves_the_error_as_it_is() -> None:
    bench = await Bench().open(READY)

    async def forward(call: Call) -> Reply:
        bench.server.away = {"s1"}
        raise UpstreamUnreachableError("Nobody there.")

    with pytest.raises(UpstreamUnreachableError):
        await within(bench.recover(bench.call(LIST), forward))
    assert bench.told.names() == ["session.recovery_failed"]
    bench.server.away = set()
    assert (await bench.ask(LIST)).status == 200, "it is back, and has forgotten nothing"


async def test_calls_that_find_their_target_away_together_move_once() -> None:
    bench = await Bench().open(READY)
    bench.server.away = {"s1"}
    answers = await within(asyncio.gather(*(bench.ask(LIST) for _ in range(20))))
    assert {answered.status for answered in answers} == {200}
    assert bench.server.opened == 2


async def test_a_listening_stream_is_opened_again() -> None:
    """Until its head is here it may be asked for once more (protocol.md section 4)."""
    bench = await Bench().open(READY)
    bench.server.restart()
    answered = await bench.ask(b"", intent=STREAM, method="GET")
    assert answered.status == 202
    assert bench.server.asked[-1] == ("GET", "s2")


async def test_who_waits_for_a_lost_answer_hears_so() -> None:
    """DESIGN section 5: a call never hangs; SDK 1.30 waits without a limit of its own."""
    bench = await Bench().open(READY)
    await leave(bench, b"7", WRITE)
    await leave(bench, b"8", resumes="7")  # the server has polled twice
    bench.server.restart()
    for event_id in ("7", "8"):  # the first one finds the session lost
        with pytest.raises(UpstreamBrokenError) as broken:
            await resumed(bench, event_id)
        assert broken.value.delivered is Delivery.UNKNOWN
        assert broken.value.asked is not None
        assert (broken.value.asked.id, broken.value.asked.tool) == (8, "save")
    assert bench.server.opened == 2


@pytest.mark.parametrize("answered", [False, True])
async def test_what_was_left_in_a_lost_session_is_not_resumed(answered: bool) -> None:
    """MCP 2025-11-25, transports: event ids belong to a session; the new server never gave this one."""
    bench = await Bench().open(READY)
    await leave(bench, b"7", WRITE if answered else b"", answered=answered)
    bench.server.restart()
    await bench.ask(LIST)
    old = await resumed(bench, "7")
    assert old == (["7"] if answered else []), "an answer leaves nothing to resume"
    assert await resumed(bench, "8") == ["8"], "somebody else's is not for us to judge"
    await leave(bench, b"7")
    assert await resumed(bench, "7") == ["7"], "by now the new server has given it, too"


async def leave(
    bench: Bench,
    event_id: bytes,
    asked: bytes = b"",
    *,
    answered: bool = False,
    resumes: str | None = None,
) -> None:
    """Let a stream end behind an event."""
    feed = Feed()
    feed.give(b"id: %b\ndata: {}\n\n" % event_id, event_id=event_id)

    async def forward(_: Call) -> Reply:
        return streamed(feed, Content_Type="text/event-stream")

    listens: dict[str, Any] = {} if asked else {"method": "GET", "intent": STREAM}
    if resumes is not None:
        listens["Last_Event_ID"] = resumes
    reply = await within(bench.recover(bench.call(asked, **listens), forward))
    assert isinstance(reply.body, Stream)
    await anext(aiter(reply.body))
    reply.body.verdict = Verdict.OK if answered or not asked else None
    await reply.body.aclose()


async def resumed(bench: Bench, event_id: str) -> list[str]:
    """Return from where the server is asked to go on."""
    seen: list[Call] = []

    async def forward(call: Call) -> Reply:
        seen.append(call)
        return await bench.server(call)

    listening = bench.call(b"", intent=STREAM, method="GET", Last_Event_ID=event_id)
    await within(bench.recover(listening, forward))
    return list(seen[-1].headers.getall("Last-Event-ID", []))


async def test_the_end_of_a_session_is_the_end() -> None:
    """A 404 to a DELETE says that it is done."""
    bench = await Bench().open(READY)
    bench.server.restart()
    assert (await bench.ask(b"", intent=SESSION_END, method="DELETE")).status == 404
    assert (await bench.ask(LIST)).status == 404
    assert bench.server.opened == 1


async def test_a_recovered_session_is_ended_at_the_server() -> None:
    bench = await Bench().open(READY)
    bench.server.restart()
    await bench.ask(LIST)
    await bench.ask(b"", intent=SESSION_END, method="DELETE")
    assert bench.server.asked[-1] == ("DELETE", "s2")


async def test_calls_without_a_session_and_of_strangers_pass() -> None:
    bench = await Bench().open(READY)
    for asked in (
        bench.call(LIST, None),
        bench.call(LIST, "unheard of"),
        bench.call(LIST)._replace(message=bench.call(LIST).message._replace(stateless=True)),
        bench.call(READY, None, intent=LEGACY_POST),
    ):
        seen: list[Call] = []

        async def forward(call: Call, seen: list[Call] = seen) -> Reply:
            seen.append(call)
            return reply(404, verdict=Verdict.CLIENT_FAULT)

        assert (await within(bench.recover(asked, forward))).status == 404
        assert seen == [asked]


async def test_what_is_too_large_is_not_kept() -> None:
    """F46: a session is small; who fills our memory loses the comfort, not the call."""
    bench = Bench()
    large = said("initialize", 0, protocolVersion=VERSION, text="x" * 20_000)
    await bench.ask(large, None)
    assert len(bench.sessions) == 0
    feed = Feed()
    feed.end()
    stream = streamed(feed).body
    assert isinstance(stream, Stream)
    opening = bench.call(OPENING, None)._replace(body=stream)
    await within(bench.recover(opening, lambda _: bench.server(bench.call(OPENING, None))))
    assert len(bench.sessions) == 0


async def test_a_handshake_without_a_session_is_none() -> None:
    bench = Bench()

    async def sessionless(_: Call) -> Reply:
        return reply(200)

    await within(bench.recover(bench.call(OPENING, None), sessionless))
    assert len(bench.sessions) == 0


async def test_a_streamed_404_is_let_go_of() -> None:
    bench = await Bench().open(READY)
    bench.server.restart()
    feed = Feed()

    async def forward(call: Call) -> Reply:
        answered = await bench.server(call)
        if answered.status == 404:
            return streamed(feed, 404, Verdict.CLIENT_FAULT)
        return answered

    assert (await within(bench.recover(bench.call(LIST), forward))).status == 200
    assert feed.released


async def test_a_body_that_is_gone_is_not_sent_again() -> None:
    bench = await Bench().open(READY)
    bench.server.restart()
    feed = Feed()
    stream = streamed(feed).body
    assert isinstance(stream, Stream)
    asked = bench.call(LIST)._replace(body=stream)

    async def forward(call: Call) -> Reply:
        return await bench.server(call._replace(body=Whole(LIST)) if call.body is stream else call)

    assert (await within(bench.recover(asked, forward))).status == 404


async def test_a_handshake_that_breaks_off_in_good_order_is_none() -> None:
    bench = await Bench().open(READY)
    bench.server.restart()
    feed = Feed()
    feed.give(b": nothing\n\n")
    feed.end()

    async def forward(call: Call) -> Reply:
        if call.message.method == "initialize":
            return streamed(feed, Content_Type="text/event-stream", Mcp_Session_Id="s9")
        return await bench.server(call)

    assert (await within(bench.recover(bench.call(LIST), forward))).status == 404


async def test_an_endless_answer_to_a_handshake_is_not_read_to_its_end() -> None:
    bench = await Bench().open(READY)
    bench.recover._limit = 100
    bench.server.restart()
    feed = Feed()
    feed.give(b": " + b"x" * 200 + b"\n\n")

    async def forward(call: Call) -> Reply:
        if call.message.method == "initialize":
            return streamed(feed, Content_Type="text/event-stream", Mcp_Session_Id="s9")
        return await bench.server(call)

    assert (await within(bench.recover(bench.call(LIST), forward))).status == 404
    assert feed.released


async def test_a_client_of_an_old_revision_names_no_version() -> None:
    """2025-03-26 knows no MCP-Protocol-Version: nothing can be compared."""
    bench = await Bench().open(READY)
    bench.server.restart()
    bench.server.version = "2025-03-26"
    asked = bench.call(LIST)
    headers = CIMultiDict(asked.headers)
    del headers["MCP-Protocol-Version"]
    answered = await within(bench.recover(asked._replace(headers=headers), bench.server))
    assert answered.status == 200


def test_intents_are_those_of_the_table() -> None:
    """Or the tests above would test something else."""
    bench = Bench()
    assert bench.call(LIST).intent.repeatable
    assert not bench.call(WRITE).intent.repeatable


# --- among several workers


class Others:
    """The other workers, as far as a session concerns them."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.newer = ""  # under which id one of them has opened the session anew

    async def opened(self, session: Session) -> None:
        self.told.append(("opened", session.id))

    async def noted(self, session: Session, said: bytes) -> None:
        self.told.append(("noted", json.loads(said)["method"]))

    async def over(self, session: Session) -> None:
        self.told.append(("over", session.id))

    async def moved(self, session: Session) -> None:
        self.told.append(("moved", f"{session.upstream} {session.moves}"))

    async def follow(self, session: Session) -> bool:
        if self.newer:
            session.upstream = self.newer
        return bool(self.newer)

    @asynccontextmanager
    async def turn(self, session: Session) -> AsyncIterator[None]:
        self.told.append(("turn", session.id))
        yield
        self.told.append(("turn over", session.id))


def among(others: Others) -> Bench:
    bench = Bench()
    bench.recover = Recover(
        bench.sessions, bench.server, bench.clock, spawn, bench.told, limit=1 << 20, others=others
    )
    return bench


async def test_the_other_workers_are_told_of_a_session() -> None:
    others = Others()
    bench = among(others)
    await bench.ask(OPENING, None)
    await bench.ask(READY)
    await bench.ask(LIST)
    bench.server.restart()
    assert (await bench.ask(LIST)).status == 200
    await bench.ask(b"", method="DELETE", intent=SESSION_END)
    assert others.told == [
        ("opened", "s1"),
        ("noted", "notifications/initialized"),
        ("turn", "s1"),
        ("moved", "s2 1"),
        ("turn over", "s1"),
        ("over", "s1"),
    ]


async def test_a_caller_who_leaves_while_they_are_told_leaves_nothing_open() -> None:
    class Slow(Others):
        async def opened(self, session: Session) -> None:
            await asyncio.Event().wait()

    bench = among(Slow())
    feed = Feed()
    answered = streamed(feed, Mcp_Session_Id="s1")

    async def forward(call: Call) -> Reply:
        return answered

    caller = spawn(bench.recover(bench.call(OPENING, None), forward), "caller")
    await settle()
    caller.cancel()
    await settle()
    assert caller.cancelled()
    assert feed.released == 1


async def test_what_another_worker_has_opened_anew_is_followed() -> None:
    """One handshake for all: the server's new id is taken over, and the call sent again."""
    others = Others()
    bench = among(others)
    await bench.ask(OPENING, None)
    bench.server.restart()
    bench.server.sessions["s9"] = []
    others.newer = "s9"
    answered = await bench.ask(LIST)
    assert (answered.status, answered.headers["Mcp-Session-Id"]) == (200, "s1")
    assert bench.server.opened == 1
    assert bench.server.asked[-1] == ("tools/list", "s9")
    assert ("moved", "s9 1") not in others.told
