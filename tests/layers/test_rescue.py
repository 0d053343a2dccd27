"""Our errors in the words of each caller: the table of DESIGN section 5."""

import asyncio
import json
from typing import Any

import pytest

from mcp_proxy.core import errors
from mcp_proxy.core.call import CacheNote, Call, Delivery, Reply, Stream, Whole
from mcp_proxy.core.errors import (
    CircuitOpenError,
    ProxyError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from mcp_proxy.core.intent import STREAM
from mcp_proxy.core.message import Dialect, Message
from mcp_proxy.core.sse import Splitter
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.rescue import Rescue, Style
from tests.fakes import (
    EPOCH,
    READ,
    WRITE,
    FakeClock,
    Feed,
    Script,
    Told,
    call,
    error_of,
    read,
    reply,
    rest_tool,
    rpc,
    streamed,
    tool,
    within,
)

PROBLEM = "application/problem+json"
JSON = "application/json"


def rescue(style: Style | None = None, told: Told | None = None) -> Rescue:
    return Rescue(style or Style(), FakeClock(), told or Told())


def open_circuit() -> CircuitOpenError:
    error = CircuitOpenError("The circuit is open.", retry_after=29.5)
    error.attempts, error.circuit = 3, "open"
    return error


async def answered(error: BaseException, asked: Call, style: Style | None = None) -> Reply:
    return await within(rescue(style)(asked, Script(error)))


def said(answer: Reply) -> dict[str, Any]:
    assert isinstance(answer.body, Whole)
    value: dict[str, Any] = json.loads(answer.body.data)
    return value


DETAILS = {
    "code": "circuit_open",
    "origin": "proxy",
    "retryable": True,
    "retry_after_ms": 29500,
    "attempts": 3,
    "delivered": "no",
    "breaker": "open",
    "request_id": "request-1",
    "message": "The circuit is open.",
}
TEXT = "The circuit is open. It is safe to try again in 30 s."


# --- one row of the table each


async def test_a_tool_call_gets_a_result_that_a_model_can_read() -> None:
    """DESIGN section 5, first row; F1: an open circuit answers."""
    answer = await answered(open_circuit(), call(WRITE, tool(request_id="a")))
    assert (answer.status, answer.headers["Content-Type"]) == (200, JSON)
    assert said(answer) == {
        "jsonrpc": "2.0",
        "id": "a",
        "result": {
            "content": [{"type": "text", "text": TEXT}],
            "isError": True,
            "_meta": {"mcp_proxy/error": DETAILS},
        },
    }


async def test_a_tool_result_of_the_stateless_era_says_that_it_is_complete() -> None:
    """MCP 2026-07-28: `resultType` is required."""
    message = tool()._replace(stateless=True)
    assert said(await answered(open_circuit(), call(WRITE, message)))["result"]["resultType"] == (
        "complete"
    )


async def test_a_tool_call_gets_an_error_where_that_is_wanted() -> None:
    """MCP_TOOL_ERROR_STYLE=error."""
    answer = await answered(open_circuit(), call(WRITE, tool()), Style(tool_result=False))
    assert answer.status == 200
    assert said(answer) == {
        "jsonrpc": "2.0",
        "id": 1,
        "error": {"code": 503, "message": TEXT, "data": DETAILS},
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (open_circuit(), 503),
        (error_of(UpstreamUnreachableError), 503),
        (error_of(UpstreamTimeoutError), 504),
        (error_of(UpstreamBrokenError), 502),
        (error_of(errors.DeadlineExceededError), 504),
    ],
)
async def test_any_other_request_gets_an_error_with_a_positive_code(
    error: ProxyError, code: int
) -> None:
    """DESIGN section 5: the specification keeps the negative codes for itself."""
    answer = await answered(error, call(READ, rpc("tools/list", 0)))
    assert answer.status == 200
    assert (said(answer)["id"], said(answer)["error"]["code"]) == (0, code)
    assert said(answer)["error"]["data"]["code"] == error.code


async def test_discovery_while_the_server_is_down_gets_the_real_status() -> None:
    """DESIGN section 5: clients read an error there as "older server"."""
    answer = await answered(open_circuit(), call(READ, rpc("server/discover")))
    assert (answer.status, answer.headers["Content-Type"]) == (503, PROBLEM)
    assert answer.headers["Retry-After"] == "30"


async def test_discovery_says_one_status_in_the_head_and_in_the_body() -> None:
    """RFC 9457 section 3.1.2; a broken connection is a 502 elsewhere."""
    error = UpstreamBrokenError("The connection broke.", delivered=Delivery.UNKNOWN)
    answer = await answered(error, call(READ, rpc("server/discover")))
    assert (answer.status, said(answer)["status"]) == (503, 503)
    assert said(answer)["code"] == "upstream_broken"


@pytest.mark.parametrize(
    "message",
    [rpc("notifications/initialized", None), tool(request_id=None), Message()],
    ids=["notification", "tool call without an id", "not MCP"],
)
async def test_whoever_waits_for_no_message_gets_the_real_status(message: Message) -> None:
    """DESIGN section 5: RFC 9457 with the same object."""
    answer = await answered(open_circuit(), call(WRITE, message))
    assert (answer.status, answer.headers["Content-Type"]) == (503, PROBLEM)
    assert said(answer) == {
        "type": "about:blank",
        "title": "circuit open",
        "status": 503,
        "detail": "The circuit is open.",
        **DETAILS,
    }


@pytest.mark.parametrize(("always_200", "status"), [(False, 503), (True, 200)])
async def test_a_rest_call_gets_the_old_servers_shape(*, always_200: bool, status: int) -> None:
    """DESIGN section 5; F-catalogue, decision 4. MCP_ERROR_STATUS=compat forces 200."""
    style = Style(always_200=always_200)
    answer = await answered(open_circuit(), call(WRITE, rest_tool()), style)
    assert (answer.status, answer.headers["Content-Type"]) == (status, JSON)
    assert said(answer) == {
        "success": False,
        "data": None,
        "error": TEXT,
        "timestamp": EPOCH.isoformat(),
        "error_details": DETAILS,
    }


async def test_a_rest_call_that_was_not_understood_is_answered_as_one() -> None:
    answer = await answered(open_circuit(), call(WRITE, Message(Dialect.REST)))
    assert said(answer)["error_details"]["code"] == "circuit_open"


# --- hints


@pytest.mark.parametrize(
    ("delivered", "intent", "hint"),
    [
        (Delivery.NO, WRITE, "1"),
        (Delivery.NO, READ, "1"),
        (Delivery.UNKNOWN, READ, "1"),
        (Delivery.UNKNOWN, WRITE, None),
    ],
)
@pytest.mark.parametrize("message", [tool(), rpc(), rest_tool(), Message()])
async def test_a_hint_is_given_only_where_trying_again_is_safe(
    delivered: Delivery, intent: Any, hint: str | None, message: Message
) -> None:
    """DESIGN section 5: otherwise `retryable` is false and there is no `Retry-After`."""
    error = error_of(UpstreamBrokenError, delivered=delivered)
    answer = await answered(error, call(intent, message))
    assert answer.headers.get("Retry-After") == hint
    assert isinstance(answer.body, Whole)
    assert (b'"retryable":true' in answer.body.data) is (hint is not None)
    assert (b'"retry_after_ms":null' in answer.body.data) is (hint is None)
    warned = b"may or may not have been carried out" in answer.body.data
    assert warned is (hint is None and message is not Message() and message.dialect.value != "http")


async def test_our_answers_are_not_for_keeping() -> None:
    answer = await answered(open_circuit(), call(WRITE))
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        (UpstreamBrokenError, Verdict.UPSTREAM_FAILED),
        (CircuitOpenError, Verdict.UPSTREAM_FAILED),
        (errors.OriginNotAllowedError, Verdict.CLIENT_FAULT),
        (errors.BodyTooLargeError, Verdict.CLIENT_FAULT),
        (errors.HostNotAllowedError, Verdict.CLIENT_FAULT),
        (errors.BadRequestError, Verdict.CLIENT_FAULT),
    ],
)
async def test_what_the_client_did_wrong_is_no_failure_of_the_server(
    kind: type[ProxyError], verdict: Verdict
) -> None:
    """DESIGN section 4, Verdict: 4xx is CLIENT_FAULT, also where we say it."""
    error = error_of(kind)
    error.attempts = 2
    answer = await answered(error, call(WRITE))
    assert (answer.verdict, answer.error_code, answer.attempts) == (verdict, kind.code, 2)


@pytest.mark.parametrize("note", [None, CacheNote(forwarded="miss")])
async def test_what_the_cache_did_is_told_of_a_failure_too(note: CacheNote | None) -> None:
    error = open_circuit()
    error.cache = note
    assert (await answered(error, call(READ))).cache == note


# --- what passes


async def test_what_the_server_answered_passes_unchanged() -> None:
    """DESIGN section 5: 404 of a session, 401 with its challenge, 5xx after retries are spent."""
    for status in (401, 404, 421, 500, 503):
        answer = reply(status, WWW_Authenticate="Bearer")
        assert await within(rescue()(call(WRITE, tool()), Script(answer))) is answer


async def test_a_mistake_of_ours_is_answered_without_its_text() -> None:
    """F42: the message of an exception may hold anything; house style: the last net."""
    told = Told()
    mistake = KeyError("hunter2")
    answer = await within(rescue(told=told)(call(WRITE, tool()), Script(mistake)))
    assert said(answer)["result"]["_meta"]["mcp_proxy/error"]["code"] == "internal"
    assert said(answer)["result"]["_meta"]["mcp_proxy/error"]["delivered"] == "unknown"
    assert b"hunter2" not in answer.body.data  # type: ignore[union-attr]
    assert told.events == [
        (
            "proxy.failed",
            "error",
            {
                "request_id": "request-1",
                "method": "tools/call",
                "tool": "look",
                "exception": mistake,
            },
        )
    ]


async def test_a_departure_is_not_answered() -> None:
    with pytest.raises(asyncio.CancelledError):
        await rescue()(call(WRITE), Script(asyncio.CancelledError()))


# --- streams


class Cut:
    """A streamed answer that breaks after its pieces."""

    def __init__(self, *pieces: bytes, error: BaseException | None = None, **shown: Any) -> None:
        self.feed = Feed()
        for piece in pieces:
            self.feed.give(piece, **shown)
        self.feed.give(error or error_of(UpstreamBrokenError, delivered=Delivery.UNKNOWN))

    async def through(
        self,
        asked: Call,
        kind: str = "text/event-stream; charset=utf-8",
        style: Style | None = None,
    ) -> bytes:
        answer = streamed(self.feed, Content_Type=kind)._replace(attempts=2)
        passed = await within(rescue(style)(asked, Script(answer)))
        assert passed is answer
        return await within(read(passed))


def last_message(body: bytes) -> Any:
    """Return the message of the final event; what stands before it must be complete, or void."""
    *before, last = Splitter(10_000).feed(body)
    assert all(event.name == b"cut" or not event.data for event in before)
    assert last.name == b"message"
    return json.loads(last.data)


@pytest.mark.parametrize("begun", [b": hi\n\n", b"data: {", b""], ids=["event", "half", "nothing"])
async def test_an_event_stream_that_is_cut_gets_one_final_message(begun: bytes) -> None:
    """DESIGN section 5; F4: each open id gets exactly one final message."""
    cut = Cut(*([begun] if begun else []))
    body = await cut.through(call(WRITE, tool(request_id=9)))
    assert body.startswith(begun)
    assert body.count(b"event: message") == 1
    message = last_message(body)
    assert (message["id"], message["result"]["isError"]) == (9, True)
    details = message["result"]["_meta"]["mcp_proxy/error"]
    assert (details["code"], details["delivered"], details["retryable"]) == (
        "upstream_broken", "unknown", False,
    )  # fmt: skip
    assert cut.feed.body.verdict is Verdict.UPSTREAM_FAILED
    assert cut.feed.released == 1


async def test_the_final_message_tells_the_tries_that_went_out() -> None:
    """docs/errors.md; 0 would say that the server never had the call."""
    message = last_message(await Cut(b": hi\n\n").through(call(WRITE, tool())))
    assert message["result"]["_meta"]["mcp_proxy/error"]["attempts"] == 2


async def test_the_final_message_of_another_method_is_an_error() -> None:
    message = last_message(await Cut(b": hi\n\n").through(call(READ, rpc("tools/list", "x"))))
    assert (message["id"], message["error"]["code"]) == ("x", 502)


async def test_a_stream_that_is_silent_too_long_gets_its_final_message_too() -> None:
    late = error_of(errors.DeadlineExceededError, delivered=Delivery.UNKNOWN)
    message = last_message(await Cut(error=late).through(call(READ, rpc("tools/list"))))
    assert message["error"]["data"]["code"] == "deadline_exceeded"


async def test_who_resumes_a_stream_hears_of_the_call_that_it_belongs_to() -> None:
    """MCP 2025-11-25, transports: the answer is awaited as an event of the resumed stream."""
    error = error_of(UpstreamBrokenError, delivered=Delivery.UNKNOWN)
    error.asked = tool()
    reply = await within(rescue()(call(STREAM), Script(error)))
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/event-stream")
    assert isinstance(reply.body, Whole)
    message = last_message(reply.body.data)
    assert message["id"] == tool().id
    assert message["result"]["isError"] is True


async def test_a_stream_with_event_ids_is_left_to_the_clients_own_resumption() -> None:
    """F4: `Last-Event-ID`; a final error would end what the client can still have."""
    cut = Cut(b"id: 1\ndata: \n\n", event_id=b"1")
    assert await cut.through(call(WRITE, tool())) == b"id: 1\ndata: \n\n"
    assert cut.feed.released == 1


@pytest.mark.parametrize(
    ("asked", "kind", "shown"),
    [
        (call(WRITE, tool()), "application/json", {}),
        (call(WRITE, rpc("notifications/x", None)), "text/event-stream", {}),
        (call(WRITE), "text/event-stream", {}),
        (call(WRITE, tool()), "text/event-stream", {"verdict": Verdict.OK}),
    ],
    ids=["not events", "notification", "not MCP", "answered already"],
)
async def test_any_other_stream_that_is_cut_stays_cut(
    asked: Call, kind: str, shown: dict[str, Any]
) -> None:
    """F3: it never looks complete; the edge aborts the connection."""
    cut = Cut(b"x", **shown)
    with pytest.raises(UpstreamBrokenError):
        await cut.through(asked, kind)
    assert cut.feed.released == 1


async def test_a_mistake_in_a_stream_is_left_to_the_edge() -> None:
    with pytest.raises(ValueError, match="a bug"):
        await Cut(b"x", error=ValueError("a bug")).through(call(WRITE, tool()))


async def test_a_stream_in_good_order_passes_unchanged() -> None:
    feed = Feed()
    feed.give(b"a", b"b")
    feed.end()
    passed = await within(rescue()(call(WRITE, tool()), Script(streamed(feed))))
    assert await within(read(passed)) == b"ab"


async def test_a_reader_that_leaves_before_the_end_gets_no_final_message() -> None:
    cut = Cut(b"a")
    passed = await within(rescue()(call(WRITE, tool()), Script(streamed(cut.feed))))
    assert isinstance(passed.body, Stream)
    assert await within(anext(aiter(passed.body))) == b"a"
    await passed.body.aclose()
    assert cut.feed.body.verdict is None
    assert cut.feed.released == 1
