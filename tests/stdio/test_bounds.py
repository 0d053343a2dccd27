"""Each table of a session, at ten times its size."""

import json
from collections.abc import Callable
from typing import Any, cast

from mcp_proxy.layers.clock import Tasks
from mcp_proxy.stdio.child import Child
from mcp_proxy.stdio.lines import Line
from mcp_proxy.stdio.session import UNANSWERED, Session
from tests.fakes import settle


class Deaf:
    """A child that takes everything and answers nothing."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    async def say(self, message: bytes, written: Callable[[], None] = lambda: None) -> None:
        written()
        self.heard.append(json.loads(message))


def opened() -> tuple[Session, Deaf, Tasks]:
    deaf, tasks = Deaf(), Tasks()
    return Session(cast("Child", deaf), 0.0, tasks), deaf, tasks


def told(**message: Any) -> Line:
    return Line(json.dumps({"jsonrpc": "2.0", **message}).encode())


async def test_a_child_that_answers_nothing_is_asked_no_more() -> None:
    """Also where those who asked have left: an answer could still come."""
    session, _, _ = opened()
    message = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    for _ in range(10 * UNANSWERED):
        if session.full:
            break
        session.left(await session.ask(message, json.dumps(message).encode()))
    assert len(session._asked) == UNANSWERED
    assert not session.busy


async def test_what_was_cancelled_counts_no_more() -> None:
    """A server need not answer it; when it does, that is no message for anybody."""
    session, deaf, _ = opened()
    message = {"jsonrpc": "2.0", "id": "mine", "method": "ping"}
    asked = await session.ask(message, json.dumps(message).encode())
    cancelled = {"method": "notifications/cancelled", "params": {"requestId": "mine"}}
    await session.say(cancelled, b"")
    assert asked.box is not None
    assert json.loads(await asked.box.get() or b"")["error"]["message"] == "Request cancelled"
    assert not session._asked
    number = deaf.heard[-1]["params"]["requestId"]
    assert session.heard(told(id=number, result={}))
    assert await asked.box.get() is None


async def test_what_nobody_reads_is_kept_for_a_while_and_then_dropped() -> None:
    session, _, _ = opened()
    for number in range(1000):
        assert session.heard(told(method="notifications/message", params={"n": number}))
    assert len(session._backlog) == 100
    assert session.heard(told(method="notifications/message", params={"x": "x" * 65_536}))
    assert session.dropped == 901


async def test_a_question_that_nobody_reads_is_refused_and_not_left_open() -> None:
    session, deaf, tasks = opened()
    for number in range(1000):
        session.heard(told(id=number, method="roots/list"))
    await settle()
    assert [one["id"] for one in deaf.heard] == list(range(100, 200)), "a hundred under way at once"
    assert {one["error"]["code"] for one in deaf.heard} == {-32000}
    await tasks.end()
