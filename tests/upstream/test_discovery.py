"""Asking for the tools on our own account: both eras, and no session left behind."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from mcp_proxy.upstream.discovery import Answer, Discovery, result_in
from tests.fakes import within

REFUSED = Answer(400, {}, b"")
ACCEPTED = Answer(202, {}, b"")


def result(value: Any, **headers: str) -> Answer:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": value}).encode()
    return Answer(200, {"content-type": "application/json", **headers}, body)


def hello(session: str | None = "s1", version: str = "2025-06-18") -> Answer:
    headers = {} if session is None else {"mcp-session-id": session}
    return result({"protocolVersion": version, "capabilities": {}}, **headers)


def page(*names: str, cursor: str | None = None) -> Answer:
    more = {} if cursor is None else {"nextCursor": cursor}
    return result({"tools": [{"name": name} for name in names], **more})


class Server:
    """Answers in order, and remembers what it was asked."""

    def __init__(self, *answers: Answer | BaseException | None) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, Mapping[str, str], Any]] = []

    async def __call__(self, method: str, headers: Mapping[str, str], body: bytes) -> Answer | None:
        self.asked.append((method, headers, json.loads(body) if body else None))
        answer = self._answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    @property
    def methods(self) -> list[str]:
        return [body["method"] if body else method for method, _, body in self.asked]


async def tools(server: Server) -> list[str] | None:
    found = await within(Discovery(server).tools())
    return None if found is None else [one["name"] for one in found["tools"]]


# --- the stateless era


async def test_the_stateless_era_needs_one_request() -> None:
    """F47: 0 sessions opened."""
    server = Server(page("a", "b"))
    assert await tools(server) == ["a", "b"]
    [(method, headers, body)] = server.asked
    assert method == "POST"
    assert headers["MCP-Protocol-Version"] == "2026-07-28"
    assert headers["Mcp-Method"] == body["method"] == "tools/list"
    assert headers["Accept"] == "application/json, text/event-stream"
    assert "Authorization" not in headers
    meta = body["params"]["_meta"]
    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert "cursor" not in body["params"]


async def test_pages_are_followed_to_their_end() -> None:
    server = Server(page("a", cursor="2"), page("b", cursor="3"), page("c"))
    assert await tools(server) == ["a", "b", "c"]
    assert [body["params"].get("cursor") for _, _, body in server.asked] == [None, "2", "3"]
    assert all("_meta" in body["params"] for _, _, body in server.asked)


async def test_pages_without_end_are_left() -> None:
    server = Server(*(page(str(number), cursor="more") for number in range(50)))
    assert await tools(server) == [str(number) for number in range(20)]
    assert len(server.asked) == 20


# --- the handshake era


async def test_an_older_server_is_asked_in_a_session_that_is_ended_at_once() -> None:
    server = Server(REFUSED, hello(), ACCEPTED, page("a", cursor="2"), page("b"), ACCEPTED)
    assert await tools(server) == ["a", "b"]
    assert server.methods == [
        "tools/list", "initialize", "notifications/initialized", "tools/list", "tools/list",
        "DELETE",
    ]  # fmt: skip
    session = {"Mcp-Session-Id": "s1", "MCP-Protocol-Version": "2025-06-18"}
    for _, headers, _ in server.asked[2:]:
        assert session.items() <= headers.items()
    assert "Mcp-Session-Id" not in server.asked[1][1]
    assert "_meta" not in server.asked[3][2]["params"]


async def test_a_server_without_sessions_has_none_to_end() -> None:
    server = Server(REFUSED, hello(session=None), ACCEPTED, page("a"))
    assert await tools(server) == ["a"]
    assert server.methods[-1] == "tools/list"


async def test_a_session_is_ended_when_the_list_fails() -> None:
    server = Server(REFUSED, hello(), ACCEPTED, REFUSED, ACCEPTED)
    assert await tools(server) is None
    assert server.methods[-1] == "DELETE"


async def test_a_session_is_ended_when_the_asking_breaks() -> None:
    server = Server(REFUSED, hello(), ValueError("a bug"), ACCEPTED)
    with pytest.raises(ValueError, match="a bug"):
        await tools(server)
    assert server.methods[-1] == "DELETE"


@pytest.mark.parametrize("greeting", [None, REFUSED, Answer(401, {}, b""), result("no object")])
async def test_a_server_that_does_not_let_us_is_left_alone(greeting: Answer | None) -> None:
    """Without credentials: a server that wants some says 401, and that is no failure."""
    server = Server(REFUSED, greeting)
    assert await tools(server) is None
    assert server.methods == ["tools/list", "initialize"]


async def test_a_server_that_is_away_is_asked_for_nothing_more() -> None:
    server = Server(None, None)
    assert await tools(server) is None


async def test_an_answer_without_a_list_is_no_list() -> None:
    server = Server(result({"tools": "none"}), None)
    assert await tools(server) is None


# --- reading an answer


def test_an_answer_may_come_as_an_event_stream() -> None:
    body = (
        b': hi\n\nevent: message\ndata: {"jsonrpc":"2.0","method":"notifications/message"}\n\n'
        b'data: {"jsonrpc":"2.0","id":1,"result":{"tools":[]}}\n\n'
    )
    answer = Answer(200, {"content-type": "text/event-stream; charset=utf-8"}, body)
    assert result_in(answer) == {"tools": []}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        Answer(202, {}, b""),
        Answer(500, {}, b'{"result":{}}'),
        Answer(200, {}, b"<html>"),
        Answer(200, {}, b"[]"),
        Answer(200, {}, b'{"jsonrpc":"2.0","id":1,"error":{}}'),
        Answer(200, {}, b'{"jsonrpc":"2.0","id":1,"result":[]}'),
        Answer(200, {"content-type": "text/event-stream"}, b"data: x\n\n"),
    ],
)
def test_what_is_no_result_is_none(answer: Answer | None) -> None:
    assert result_in(answer) is None


# --- which eras


DISCOVERED = {"supportedVersions": ["2026-07-28"], "capabilities": {}}


async def test_both_eras_are_found_and_no_session_is_left() -> None:
    server = Server(result(DISCOVERED), hello(version="2025-11-25"), ACCEPTED)
    assert await within(Discovery(server).eras()) == ["2026-07-28", "2025-11-25"]
    assert server.methods == ["server/discover", "initialize", "DELETE"]
    assert server.asked[2][1]["Mcp-Session-Id"] == "s1"


async def test_an_old_server_knows_handshakes_alone() -> None:
    server = Server(REFUSED, hello(None))
    assert await within(Discovery(server).eras()) == ["2025-06-18"]


async def test_a_new_server_knows_none() -> None:
    assert await within(Discovery(Server(result(DISCOVERED), REFUSED)).eras()) == ["2026-07-28"]


async def test_what_is_no_mcp_has_no_era() -> None:
    assert await within(Discovery(Server(None, None)).eras()) == []
