"""The kinds of traffic on one port: which message, which stack."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from multidict import CIMultiDict

from mcp_proxy.core.call import Headers, Pieces, RawHeaders, Spelling, Stream, Whole
from mcp_proxy.core.intent import (
    OPAQUE,
    RESPONSE,
    UNREAD,
    Decisions,
    Intent,
    Keep,
    Policy,
    Stack,
)
from mcp_proxy.core.message import NOTHING, Dialect, Message
from mcp_proxy.core.rules import Annotations, Rule, Rules
from mcp_proxy.core.traffic import Paths, Reading, Traffic
from tests.fakes import rest_tool, rpc, tool

POLICY = Policy(
    rules=Rules([Rule("jira/look", read_only=True), Rule("look", read_only=True)]),
    revalidate=0.0,
    on_error=0.0,
)
JSON = [("Content-Type", "application/json")]
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "look"}}
REST = {"service": "jira", "tool_name": "look", "params": {}}
STATELESS = ("MCP-Protocol-Version", "2026-07-28")


def nothing_said(headers: Headers, raw: RawHeaders, name: str) -> None:
    return None


def traffic(
    annotated: Callable[[Headers, RawHeaders, str], Annotations | None] = nothing_said, **paths: Any
) -> Traffic:
    return Traffic(Paths(**paths), Decisions(POLICY), annotated)


def read(
    to: Traffic, method: str, path: str, headers: Headers, body: Whole | Stream
) -> tuple[Message, Intent]:
    reading = to.understood(method, path, headers, body)
    return reading.message, reading.intent


def posted(
    path: str, body: object, *headers: tuple[str, str], to: Traffic | None = None
) -> tuple[Message, Intent]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read(to or traffic(), "POST", path, CIMultiDict([*JSON, *headers]), Whole(data))


def asked(method: str, path: str, to: Traffic | None = None) -> tuple[Message, Intent]:
    return read(to or traffic(), method, path, CIMultiDict(), Whole(b""))


def a_stream() -> Stream:
    async def pieces() -> Pieces:
        yield json.dumps(LIST).encode()

    return Stream(pieces())


@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
@pytest.mark.parametrize("configured", ["/mcp", "/mcp/"])
def test_a_post_to_the_mcp_path_is_read_as_json_rpc(path: str, configured: str) -> None:
    """DESIGN section 2: the MCP path, also with a slash at its end."""
    message, intent = posted(path, LIST, to=traffic(mcp=configured))
    assert message == rpc()
    assert (intent.stack, intent.keep) == (Stack.FULL, Keep(300.0, obeys_hint=True))


def test_a_post_to_a_tool_route_is_read_as_a_rest_tool_call() -> None:
    """DESIGN section 2: `POST /api/call-tool` by default."""
    message, intent = posted("/api/call-tool", REST)
    assert message == rest_tool()
    assert (intent.stack, intent.keep) == (Stack.FULL, Keep(300.0))


def test_each_dialect_has_its_own_path() -> None:
    """A REST body at the MCP path, and the other way round, is not understood."""
    assert posted("/mcp", REST) == (NOTHING, UNREAD)
    assert posted("/api/call-tool", LIST) == (Message(Dialect.REST), OPAQUE)


@pytest.mark.parametrize(
    "path",
    ["/", "/api/chat", "/api/call-tool/", "/mcp/x", "/mcpx", "/%6dcp", "/MCP", "/api/call%2dtool"],
)
@pytest.mark.parametrize("body", [LIST, CALL, REST])
def test_a_post_elsewhere_is_opaque_whatever_it_says(path: str, body: dict[str, Any]) -> None:
    """DESIGN section 2, "anything else": forwarded untouched, never cached, never repeated."""
    assert posted(path, body) == (NOTHING, OPAQUE)


@pytest.mark.parametrize(
    ("method", "path", "stack", "repeatable", "writes"),
    [
        ("GET", "/mcp", Stack.SHORT, False, False),
        ("GET", "/mcp/", Stack.SHORT, False, False),
        ("DELETE", "/mcp", Stack.SHORT, True, False),
        ("OPTIONS", "/mcp", Stack.PLAIN, True, False),
        ("HEAD", "/mcp", Stack.PLAIN, True, False),
        ("PUT", "/mcp", Stack.PLAIN, False, True),
        ("GET", "/sse", Stack.SHORT, False, False),
        ("HEAD", "/sse", Stack.PLAIN, True, False),
        ("GET", "/", Stack.PLAIN, True, False),
        ("HEAD", "/page", Stack.PLAIN, True, False),
        ("OPTIONS", "/api/chat", Stack.PLAIN, True, False),
        ("GET", "/api/call-tool", Stack.PLAIN, True, False),
        ("DELETE", "/api/thing", Stack.PLAIN, False, True),
        ("PUT", "/api/thing", Stack.PLAIN, False, True),
        ("PATCH", "/api/thing", Stack.PLAIN, False, True),
        ("TRACE", "/", Stack.PLAIN, False, True),
        ("get", "/", Stack.PLAIN, False, True),
        ("PURGE", "/", Stack.PLAIN, False, True),
    ],
)
def test_what_is_no_post_is_taken_by_its_method(
    method: str, path: str, stack: Stack, repeatable: bool, writes: bool
) -> None:
    """DESIGN section 2; section 4, Invalidation: an unsafe method outside MCP may write."""
    message, intent = asked(method, path)
    assert message == NOTHING
    assert (intent.stack, intent.repeatable, intent.writes) == (stack, repeatable, writes)
    assert intent.keep is None


@pytest.mark.parametrize("path", ["/messages", "/messages/", "/messages/abc"])
@pytest.mark.parametrize("configured", ["/messages", "/messages/"])
@pytest.mark.parametrize(
    ("body", "writes"),
    [(LIST, False), (CALL, False), ({**CALL, "params": {"name": "save"}}, True), (b"?", True)],
)
def test_a_legacy_post_takes_the_short_stack_and_is_sent_once(
    path: str, configured: str, body: object, writes: bool
) -> None:
    """DESIGN section 2: HTTP+SSE; protocol section 5: POSTs there are F0."""
    message, intent = posted(path, body, to=traffic(messages=configured))
    assert message == NOTHING
    assert intent == Intent(Stack.SHORT, writes=writes)


@pytest.mark.parametrize("path", ["/messagesx", "/message", "/x/messages"])
def test_a_path_that_only_resembles_the_legacy_one_is_not_it(path: str) -> None:
    assert posted(path, LIST) == (NOTHING, OPAQUE)


@pytest.mark.parametrize(
    "path", ["/mcp", "/mcp/", "/messages/", "/api/call-tool", "/", "/api/chat"]
)
def test_a_body_is_wanted_exactly_where_it_decides(path: str) -> None:
    """DESIGN section 2: elsewhere it is streamed."""
    own = traffic()
    assert own.wants_body("POST", path) == (path not in {"/", "/api/chat"})
    assert not own.wants_body("GET", path)
    assert not own.wants_body("DELETE", path)


@pytest.mark.parametrize(
    ("method", "path", "dialect"),
    [
        ("POST", "/api/call-tool", Dialect.REST),
        ("GET", "/api/call-tool", Dialect.HTTP),
        ("POST", "/mcp", Dialect.HTTP),
        ("POST", "/", Dialect.HTTP),
    ],
)
def test_a_refusal_speaks_the_dialect_of_its_path(method: str, path: str, dialect: Dialect) -> None:
    """DESIGN section 5: before an id is known, only the REST route has a shape of its own."""
    assert traffic().dialect(method, path) is dialect


MIMICRY = {
    "Method": (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call"}', "/mcp"),
    "long s": (
        '{"service":"jira","tool_name":"look","\u017fervice":"x"}'.encode(),
        "/api/call-tool",
    ),
    "Kelvin": (
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look","ta\u017f\u212a":{}}}'.encode(),
        "/mcp",
    ),
    "Name": (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look","NAME":"save"}}',
        "/mcp",
    ),
    "doubled": (b'{"service":"jira","tool_name":"look","tool_name":"save"}', "/api/call-tool"),
    "NUL": (b'{"service":"jira","tool_name":"look","params":{"a":"\\u0000"}}', "/api/call-tool"),
    "BOM": (b"\xef\xbb\xbf" + json.dumps(LIST).encode(), "/mcp"),
    "UTF-16": (json.dumps(LIST).encode("utf-16"), "/mcp"),
    "exponent": (
        b'{"service":"jira","tool_name":"look","params":{"n":1e9999999999999999999}}',
        "/api/call-tool",
    ),
    "depth": (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":' + b'{"a":' * 10_000,
        "/mcp",
    ),
    "batch": (b"[" + json.dumps(LIST).encode() + b"]", "/mcp"),
    "response": (b'{"jsonrpc":"2.0","id":1,"result":{},"id":2}', "/mcp"),
}


def unread(path: str) -> Intent:
    return UNREAD if path == "/mcp" else OPAQUE


@pytest.mark.parametrize(("body", "path"), MIMICRY.values(), ids=MIMICRY)
def test_a_body_with_two_readings_is_opaque(body: bytes, path: str) -> None:
    """F16, F17, F18: original bytes forwarded as a write, uncacheable."""
    message, intent = posted(path, body)
    assert intent == unread(path)
    assert message == Message(Dialect.REST if path == "/api/call-tool" else Dialect.HTTP)


def test_a_charset_that_hides_another_call_makes_a_body_opaque() -> None:
    """F16: read as UTF-8 it is a list; read as UTF-7, which Node's iconv-lite knows, a write."""
    hidden = 'x"},"method":"tools/call","y":{"z":"'.replace('"', "+ACI-")
    body = json.dumps({**LIST, "params": {"cursor": hidden}}).encode()
    assert json.loads(body.decode("utf-8"))["method"] == "tools/list"
    assert json.loads(body.decode("utf-7"))["method"] == "tools/call"
    own = CIMultiDict({"Content-Type": "application/json; charset=utf-7"})
    assert read(traffic(), "POST", "/mcp", own, Whole(body)) == (NOTHING, UNREAD)


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "x-http-method", "X-Method-Override"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/page"), ("HEAD", "/page"), ("OPTIONS", "/"), ("DELETE", "/mcp"), ("POST", "/mcp")],
)
def test_who_overrides_the_method_is_opaque(method: str, path: str, name: str) -> None:
    """F35: for a server that goes by it, a GET may be a write."""
    own = CIMultiDict([*JSON, (name, "DELETE")])
    assert read(traffic(), method, path, own, Whole(json.dumps(LIST).encode())) == (NOTHING, OPAQUE)


def test_an_overridden_tool_call_is_told_its_errors_as_one() -> None:
    found = posted("/api/call-tool", REST, ("X-HTTP-Method-Override", "PUT"))
    assert found == (Message(Dialect.REST), OPAQUE)


@pytest.mark.parametrize("coding", ["gzip", "identity", ""])
@pytest.mark.parametrize("path", ["/mcp", "/api/call-tool"])
def test_an_encoded_body_is_opaque(coding: str, path: str) -> None:
    """DESIGN section 4: opaque is what we cannot read; F44: nothing is decompressed in the path."""
    body = LIST if path == "/mcp" else REST
    assert posted(path, body, ("Content-Encoding", coding))[1] == unread(path)


@pytest.mark.parametrize("path", ["/mcp", "/api/call-tool"])
def test_a_body_too_large_to_be_held_is_opaque(path: str) -> None:
    """DESIGN section 7: MCP_BUFFER_LIMIT; larger bodies are opaque and streamed."""
    message, intent = read(traffic(), "POST", path, CIMultiDict(JSON), a_stream())
    assert intent == unread(path)
    assert message.method == message.tool == ""


@pytest.mark.parametrize("header", [("Mcp-Method", "tools/list"), ("Mcp-Name", "save"), STATELESS])
def test_a_routing_header_that_differs_makes_a_call_opaque(header: tuple[str, str]) -> None:
    """F19: decide on the body, and only once the headers agree; doubled ones never do."""
    assert posted("/mcp", CALL, STATELESS) == (
        posted("/mcp", CALL, STATELESS)[0],
        posted("/mcp", CALL)[1],
    )
    assert posted("/mcp", CALL, STATELESS, header) == (NOTHING, UNREAD)


def test_annotations_are_asked_for_as_the_caller_who_calls_the_tool() -> None:
    """Protocol section 4: learned from the server's own list, per identity."""
    questions: list[tuple[str | None, str]] = []

    def annotated(headers: Headers, raw: RawHeaders, name: str) -> Annotations:
        questions.append((headers.get("Authorization"), name))
        return Annotations(read_only=True)

    own = traffic(annotated)
    body = {**CALL, "params": {"name": "peek"}}
    message, intent = posted("/mcp", body, ("Authorization", "Bearer a"), to=own)
    assert message == tool("peek")
    assert intent.keep == Keep(10.0)
    assert questions == [("Bearer a", "peek")]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/mcp", LIST),
        ("/mcp", {**CALL, "params": {}}),
        ("/messages/", {**CALL, "params": {"name": "peek"}}),
        ("/api/call-tool", {**REST, "tool_name": "peek"}),
        ("/api/chat", CALL),
    ],
)
def test_annotations_are_asked_for_nowhere_else(path: str, body: dict[str, Any]) -> None:
    """DESIGN section 4: they name tools of the MCP endpoint, not of the services behind REST."""

    def annotated(headers: Headers, raw: RawHeaders, name: str) -> Annotations:
        raise AssertionError(name)

    posted(path, body, to=traffic(annotated))


def test_paths_are_those_of_the_settings() -> None:
    """DESIGN section 2: MCP_PATH, MCP_SSE_PATH, MCP_MESSAGES_PATH, tool routes."""
    own = traffic(mcp="/", sse="/events", messages="/in", tool_routes=("/call", "/run"))
    assert posted("/", LIST, to=own)[0] == rpc()
    assert asked("GET", "/events", own)[1].stack is Stack.SHORT
    assert asked("GET", "/sse", own)[1].stack is Stack.PLAIN
    assert posted("/in/1", LIST, to=own)[1].stack is Stack.SHORT
    assert posted("/run", REST, to=own)[0] == posted("/call", REST, to=own)[0] == rest_tool()
    assert posted("/api/call-tool", REST, to=own) == (NOTHING, OPAQUE)


def test_a_posted_response_is_sent_once_and_ends_in_the_call_that_asked() -> None:
    """F18: as direct; it may write, and its 202 leaves no fate unknown."""
    _, intent = posted("/mcp", b'{"jsonrpc":"2.0","id":1,"result":{}}')
    assert intent == RESPONSE
    assert (intent.writes, intent.repeatable, intent.keep) == (True, False, None)


def test_what_may_belong_to_a_session_comes_to_where_sessions_are_known() -> None:
    """DESIGN section 4, session recovery: answers to a server's questions and batches, too."""
    for body in (b'{"jsonrpc":"2.0","id":1,"result":{}}', b"[]", b"?"):
        assert posted("/mcp", body)[1].stack is Stack.FULL


# --- recognised

HEAD = ((b"Content-Type", b"application/json"),)


def spelled(body: bytes, head: RawHeaders = HEAD, target: str = "/mcp") -> Spelling:
    return ("POST", target, head, body)


def reading(to: Traffic, spelling: Spelling) -> Reading:
    headers = CIMultiDict((name.decode(), value.decode()) for name, value in spelling[2])
    return to.understood(spelling[0], spelling[1], headers, Whole(spelling[3]), spelling)


def test_a_request_that_comes_again_is_read_no_third_time() -> None:
    """Requests that say the same have one reading; any difference makes another."""
    to, body = traffic(), json.dumps(LIST).encode()
    once = reading(to, spelled(body))
    first = reading(to, spelled(body))
    assert first is not once, "what comes once is not worth a place in a memory"
    assert reading(to, spelled(body)) is first
    others = [
        spelled(body + b" "),
        spelled(body, (*HEAD, (b"Authorization", b"b"))),
        spelled(body, target="/mcp/"),
    ]
    assert all(reading(to, other) is not first for other in others)
    assert reading(to, spelled(b"[]")).intent == UNREAD


def test_what_is_large_is_read_each_time() -> None:
    """F46: a memory of callers' bytes is bounded in number and in size."""
    to, body = traffic(), json.dumps(LIST).encode()
    large = spelled(body + b" " * 2048)
    assert reading(to, large) is not reading(to, large)
    for number in range(5000):
        for _ in range(2):
            reading(to, spelled(b"%d" % number))
        assert len(to._known) <= 512
    assert to._known


def test_new_annotations_are_read_anew() -> None:
    said: dict[str, Annotations] = {}
    to = traffic(lambda _, __, name: said.get(name))
    call = spelled(json.dumps({**CALL, "params": {"name": "peek"}}).encode())
    for _ in range(3):
        assert reading(to, call).intent.writes
    said["peek"] = Annotations(read_only=True)
    to.forget()
    assert not reading(to, call).intent.writes
