"""The MCP dialect: what is read, what is judged, what is said."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from mcp_proxy.core import jsonrpc
from mcp_proxy.core.message import Dialect, Message
from mcp_proxy.core.verdict import Verdict
from tests.fakes import rpc, tool

STATELESS = "2026-07-28"
VERSION_META = "io.modelcontextprotocol/protocolVersion"


def read(data: object, *headers: tuple[str, str]) -> Message | None:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return jsonrpc.read_request(body, CIMultiDict(headers))


def request(**members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/list", **members}


CALL = request(method="tools/call", params={"name": "look", "arguments": {"q": 1}})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (request(), rpc()),
        (request(id="1"), rpc(request_id="1")),
        (request(id=""), rpc(request_id="")),
        (request(id=0), rpc(request_id=0)),
        (request(id=-(2**53)), rpc(request_id=-(2**53))),
        (request(params={"cursor": "2"}), rpc(cursor="2")),
        (request(params={"anything": [1]}), rpc(anything=[1])),
        (CALL, tool(arguments={"q": 1})),
        (
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            rpc("notifications/initialized", None),
        ),
    ],
)
def test_a_request_is_understood(body: dict[str, Any], message: Message) -> None:
    """JSON-RPC 2.0 section 4; MCP, basic: ids are strings or integers."""
    assert read(body) == message


@pytest.mark.parametrize("name", [None, 1, ["look"], {}])
def test_a_tool_call_without_a_name_calls_no_tool(name: Any) -> None:
    message = read(request(method="tools/call", params={"name": name}))
    assert message is not None
    assert message.tool == ""


@pytest.mark.parametrize(("length", "understood"), [(256, True), (257, False)])
def test_a_message_with_an_endless_name_is_opaque(length: int, understood: bool) -> None:
    """F43, F46: names become keys of tables that are bounded by number."""
    name = "x" * length
    assert (read(request(method=name)) is not None) is understood
    assert (read(request(method="tools/call", params={"name": name})) is not None) is understood


@pytest.mark.parametrize(
    "body",
    [
        [request()],
        [],
        {},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        {"jsonrpc": "2.0", "id": 1, "error": {}},
        request(jsonrpc="1.0"),
        request(jsonrpc=2.0),
        {"id": 1, "method": "tools/list"},
        request(method=None),
        request(method=["tools/list"]),
        request(id=None),
        request(id=1.0),
        request(id=True),
        request(id=[1]),
        request(params=None),
        request(params=[]),
        request(params="name"),
        request(extra=1),
        request(Method="tools/call"),
        request(METHOD="tools/call"),
        {**request(), "meth\u00f6d": 1},
        {**request(), "param\u017f": {"name": "save"}},
        request(Params={"name": "save"}),
        request(params={"name": "look", "Name": "save"}),
        request(params={"Arguments": {}}),
        request(params={"argument\u017f": {}}),
        request(params={"ta\u017f\u212a": {}}),
        request(params={"requeststate": "x"}),
        request(params={"InputResponses": {}}),
        request(params={"URI": "file:///b"}),
        request(params={"Cursor": "2"}),
        request(params={"_META": {}}),
        b'{"jsonrpc":"2.0","id":1,"id":1,"method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}',
        b'{"jsonrpc":"2.0","id":9007199254740993,"method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":-0,"method":"tools/list"}',
        b"",
        b"tools/list",
    ],
)
def test_what_a_server_could_read_otherwise_is_opaque(body: object) -> None:
    """F15, F16, F18: batches, responses, odd ids, doubled and mimicked keys."""
    assert read(body) is None


def encoded(value: str) -> str:
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (CALL, []),
        (CALL, [("Mcp-Method", "tools/call")]),
        (CALL, [("Mcp-Method", "tools/call"), ("Mcp-Name", "look")]),
        (CALL, [("mcp-name", encoded("look"))]),
        (CALL, [("Mcp-Param-Anything", "else")]),
        (request(method="resources/read", params={"uri": "é:/1"}), [("Mcp-Name", encoded("é:/1"))]),
        (request(method="prompts/get", params={"name": "p"}), [("Mcp-Name", "p")]),
        (request(params={"_meta": {VERSION_META: STATELESS}}), [("Mcp-Method", "tools/list")]),
        (request(params={"_meta": {}}), []),
        (request(params={"_meta": None}), []),
    ],
)
def test_routing_headers_that_mirror_the_body_change_nothing(
    body: dict[str, Any], headers: list[tuple[str, str]]
) -> None:
    """Protocol section 3; `=?base64?…?=` is decoded before comparing."""
    message = read(body, ("MCP-Protocol-Version", STATELESS), *headers)
    assert message is not None
    assert message.stateless
    assert message.method == body["method"]


MISMATCHES = [
    (CALL, [("Mcp-Method", "tools/list")]),
    (CALL, [("Mcp-Method", "Tools/Call")]),
    (CALL, [("Mcp-Method", "")]),
    (CALL, [("Mcp-Method", "tools/call"), ("Mcp-Method", "tools/call")]),
    (CALL, [("Mcp-Name", "save")]),
    (CALL, [("Mcp-Name", encoded("save"))]),
    (CALL, [("Mcp-Name", "look"), ("Mcp-Name", "save")]),
    (CALL, [("Mcp-Name", "=?base64?####?=")]),
    (CALL, [("Mcp-Name", "=?base64?/w==?=")]),
    (CALL, [("Mcp-Name", "=?base64?A?=")]),
    (request(), [("Mcp-Name", "look")]),
    (request(method="tools/call", params={}), [("Mcp-Name", "look")]),
    (request(method="tools/call", params={"name": 1}), [("Mcp-Name", "1")]),
    (request(method="resources/read", params={"uri": "a"}), [("Mcp-Name", "b")]),
    (request(params={"_meta": {VERSION_META: "2025-11-25"}}), []),
    (request(params={"_meta": {VERSION_META: None}}), []),
]


@pytest.mark.parametrize(("body", "headers"), MISMATCHES)
def test_a_routing_header_that_differs_from_the_body_makes_the_call_opaque(
    body: dict[str, Any], headers: list[tuple[str, str]]
) -> None:
    """F19: the server refuses it with -32020; nothing may be decided before that."""
    assert read(body, ("MCP-Protocol-Version", STATELESS), *headers) is None


@pytest.mark.parametrize("version", [[], [("MCP-Protocol-Version", "2025-11-25")]])
@pytest.mark.parametrize(("body", "headers"), MISMATCHES)
def test_routing_headers_are_not_even_looked_at_in_the_handshake_era(
    body: dict[str, Any], headers: list[tuple[str, str]], version: list[tuple[str, str]]
) -> None:
    """F19: 0 decisions by header alone; older servers go by the body."""
    message = read(body, *version, *headers)
    assert message is not None
    assert not message.stateless
    assert message.method == body["method"]


@pytest.mark.parametrize(
    ("version", "stateless"),
    [
        ("2024-11-05", False),
        ("2025-11-25", False),
        ("", False),
        (STATELESS, True),
        ("2027-01-01", True),
        ("DRAFT-2027", True),
    ],
)
def test_the_era_is_that_of_the_header(version: str, stateless: bool) -> None:
    """Protocol section 1: absent or an old value is the handshake era; unknown is the careful one."""
    message = read(request(), ("MCP-Protocol-Version", version))
    assert message is not None
    assert message.stateless is stateless


@pytest.mark.parametrize("other", [STATELESS, "2025-06-18"])
def test_two_versions_are_none(other: str) -> None:
    """Protocol section 3: the Python server refuses doubled routing headers."""
    versions = [("MCP-Protocol-Version", "2025-06-18"), ("mcp-protocol-version", other)]
    assert read(request(), *versions) is None


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ({"id": 1, "result": {}}, Verdict.OK),
        ({"id": 1, "result": {"isError": False}}, Verdict.OK),
        ({"id": 1, "result": {"isError": "true"}}, Verdict.OK),
        ({"id": 1, "result": {"isError": True}}, Verdict.TOOL_FAILED),
        ({"id": 1, "error": {"code": -32601}}, Verdict.TOOL_FAILED),
        ({"id": 1, "result": {}, "error": {}}, Verdict.TOOL_FAILED),
        ({"id": 1}, Verdict.UPSTREAM_FAILED),
        ({"id": 1, "result": None}, Verdict.UPSTREAM_FAILED),
        ({"id": 1, "result": []}, Verdict.UPSTREAM_FAILED),
        ({"id": "1", "result": {}}, Verdict.UPSTREAM_FAILED),
        ({"id": 1.0, "result": {}}, Verdict.UPSTREAM_FAILED),
        ({"id": True, "result": {}}, Verdict.UPSTREAM_FAILED),
        ({"id": 2, "result": {}}, Verdict.UPSTREAM_FAILED),
        ({"id": None, "error": {}}, Verdict.UPSTREAM_FAILED),
        ({"result": {}}, Verdict.UPSTREAM_FAILED),
        ([], Verdict.UPSTREAM_FAILED),
        ([{"id": 1, "result": {}}], Verdict.UPSTREAM_FAILED),
        (None, Verdict.UPSTREAM_FAILED),
        ("ok", Verdict.UPSTREAM_FAILED),
    ],
)
def test_an_answer_is_judged_by_its_id_and_its_result(answer: Any, verdict: Verdict) -> None:
    """DESIGN section 4, Verdict; F15: ids are compared as JSON tokens."""
    assert jsonrpc.judge_message(answer, tool()) is verdict


@pytest.mark.parametrize(
    ("message", "strange"),
    [
        ({"id": 1, "result": {}}, False),
        ({"id": 2, "result": {}}, True),
        ({"id": "1", "error": {}}, True),
        ({"id": 1.0, "result": {}}, True),
        ({"id": None, "error": {}}, False),
        ({"error": {}}, False),
        ({"id": 2, "method": "ping"}, False),
        (None, False),
        ([], False),
    ],
)
def test_a_stranger_answers_somebody_else(message: Any, strange: bool) -> None:
    """F15; an error without id says that the request could not be read."""
    assert jsonrpc.is_stranger(message, tool()) is strange


# --- where the id stands

names = st.sampled_from(["id", '"id":7', "jsonrpc", "result", '","id":5}', "a"])
results = st.recursive(
    st.none() | st.integers(-9, 9) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
).map(lambda value: {"content": value})
ids = st.integers(-(2**53), 2**53) | st.text(max_size=5) | names
members = st.permutations(["jsonrpc", "id", "result"])
layouts = st.sampled_from(
    [{"separators": (",", ":")}, {"separators": (" , ", " :\n")}, {"indent": 2}]
)


@given(
    result=results,
    own=ids,
    other=ids,
    order=members,
    layout=layouts,
)
def test_only_the_id_changes_and_never_one_inside_the_result(
    result: Any, own: Any, other: Any, order: list[str], layout: dict[str, Any]
) -> None:
    """F15: the caller's own id, everything else byte-identical."""
    answer = {"jsonrpc": "2.0", "id": own, "result": result}
    spelled = {name: answer[name] for name in order}
    data = json.dumps(spelled, ensure_ascii=False, **layout).encode()
    span = jsonrpc.id_span(data)
    assert span is not None
    start, end = span
    assert json.loads(data[start:end]) == own
    changed = data[:start] + jsonrpc.token(other) + data[end:]
    assert json.loads(changed) == {**answer, "id": other}


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b'{"id":7,"result":{"id":8}}', b"7"),
        (b'{"jsonrpc":"2.0","id":"a\\"}","result":{}}', b'"a\\"}"'),
        (b' {\n "jsonrpc" : "2.0" ,\n "id" : -7 ,\n "result" : {} }\n', b"-7"),
        (b'{"jsonrpc":"2.0","result":{"id":8},"id":7}', b"7"),
        (b'{"result":{"id":8},"id":7,"jsonrpc":"2.0"}\r\n', b"7"),
        (b'{"id":7}', b"7"),
        # none, or not where it could not be anything else
        (b'{"jsonrpc":"2.0","result":{"id":8}}', None),
        (b'{"jsonrpc":"2.0","result":{"a":1,"id":8}}', None),
        (b'{"jsonrpc":"2.0","result":[{"a":1,"id":8}]}', None),
        (b'{"jsonrpc":"2.0","result":"\\",\\"id\\":8}"}', None),
        (b'{"result":{},"id":7,"more":1}', None),
        (b'{"id":7.0,"result":{}}', None),
        (b'{"id":7e0,"result":{}}', None),
        (b'{"id":null,"result":{}}', None),
        (b'{"id":true,"result":{}}', None),
        (b'{"id":[7],"result":{}}', None),
        (b'{"ID":7,"result":{}}', None),
        (b'[{"id":7}]', None),
        (b"", None),
    ],
)
def test_the_id_is_found_at_the_head_or_at_the_tail(data: bytes, found: bytes | None) -> None:
    """F15: an id that could be something else is none; the answer is then not shared."""
    span = jsonrpc.id_span(data)
    assert (None if span is None else data[slice(*span)]) == found


@given(one=ids, other=ids)
def test_two_ids_are_the_same_exactly_if_their_tokens_are(one: Any, other: Any) -> None:
    """F15: 1, "1", 1.0 and true are four different ids."""
    assert jsonrpc.same_id(one, other) == (jsonrpc.token(one) == jsonrpc.token(other))


# --- what passes on streams


@pytest.mark.parametrize(
    ("message", "response", "asks"),
    [
        ({"id": 1, "result": {}}, True, False),
        ({"id": 1, "error": {}}, True, False),
        ({"id": 1, "method": "elicitation/create"}, False, True),
        ({"method": "notifications/progress"}, False, False),
        ({"id": 1}, False, False),
        ({}, False, False),
    ],
)
def test_an_answer_is_told_from_a_request_of_the_server(
    message: dict[str, Any], response: bool, asks: bool
) -> None:
    """Protocol section 1: in the handshake era the server asks on the stream of an open call."""
    assert jsonrpc.is_response(message) is response
    assert jsonrpc.wants_client(message) is asks


@pytest.mark.parametrize("message", [None, 1, "method", ["method", "id"]])
def test_what_is_no_object_asks_for_nothing_and_changes_nothing(message: Any) -> None:
    assert not jsonrpc.wants_client(message)
    assert not jsonrpc.changes_answers(message)


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("notifications/tools/list_changed", True),
        ("notifications/prompts/list_changed", True),
        ("notifications/resources/list_changed", True),
        ("notifications/anything/new/list_changed", True),
        ("notifications/resources/updated", True),
        ("notifications/tasks/status", True),
        ("notifications/tasks", True),
        ("notifications/progress", False),
        ("notifications/message", False),
        ("tools/list_changed", False),
        ("notifications/resources/updated/not", False),
        ("", False),
        (None, False),
        (["notifications/tools/list_changed"], False),
    ],
)
def test_a_notice_of_change_ends_what_is_stored(method: Any, changes: bool) -> None:
    """DESIGN section 4, Invalidation: `notifications/*/list_changed` and `resources/updated`."""
    assert jsonrpc.changes_answers({"jsonrpc": "2.0", "method": method}) is changes


@pytest.mark.parametrize(
    ("answer", "on"),
    [
        ({"result": {"status": "working"}}, True),
        ({"result": {"status": "input_required"}}, True),
        ({"result": {"status": "completed"}}, False),
        ({"result": {"status": "failed"}}, False),
        ({"result": {"status": "cancelled"}}, False),
        ({"result": {"status": "of another revision"}}, False),
        ({"result": {"status": ["working"]}}, False),
        ({"result": {"content": []}}, False),
        ({"result": "working"}, False),
        ({"error": {"status": "working"}}, False),
    ],
)
def test_a_task_that_is_not_known_to_go_on_may_be_over(answer: dict[str, Any], on: bool) -> None:
    """MCP 2025-11-25, tasks: the states from which others follow."""
    assert jsonrpc.goes_on(json.dumps(answer).encode()) is on


def test_a_call_may_begin_a_task() -> None:
    asked = Message(Dialect.RPC, "tools/call", 1, {"name": "x", "task": {}})
    assert jsonrpc.begins_task(asked)
    assert not jsonrpc.begins_task(asked._replace(params={"name": "task"}))
    assert not jsonrpc.begins_task(asked._replace(dialect=Dialect.REST)), "a field of its own"


@pytest.mark.parametrize(
    ("method", "shows"),
    [("tasks/get", True), ("tasks/result", True), ("tasks/cancel", True), ("tasks/list", False)],
)
def test_the_end_of_a_task_is_shown_to_who_asks_for_it(method: str, shows: bool) -> None:
    assert jsonrpc.may_show_end(Message(Dialect.RPC, method, 1)) is shows


# --- errors of ours

DETAILS = {"code": "overloaded", "message": "é"}


@given(request_id=ids | st.none())
def test_an_error_answers_the_request_it_is_for(request_id: Any) -> None:
    """DESIGN section 5: a positive code, details in `data`."""
    said = json.loads(jsonrpc.error_response(request_id, 503, "Busy.", DETAILS))
    assert said == {
        "jsonrpc": "2.0",
        "id": request_id,
        "error": {"code": 503, "message": "Busy.", "data": DETAILS},
    }
    assert type(said["id"]) is type(request_id)


@pytest.mark.parametrize("stateless", [False, True])
def test_a_failed_tool_call_is_a_result_that_a_model_can_read(stateless: bool) -> None:
    """DESIGN section 5; protocol section 7: in the stateless era `resultType: complete` too."""
    message = Message(Dialect.RPC, "tools/call", "x", tool="look", stateless=stateless)
    said = json.loads(jsonrpc.error_result(message, "Busy.", DETAILS))
    assert said["id"] == "x"
    assert said["result"] == {
        "content": [{"type": "text", "text": "Busy."}],
        "isError": True,
        "_meta": {"mcp_proxy/error": DETAILS},
        **({"resultType": "complete"} if stateless else {}),
    }
    assert jsonrpc.judge_message(said, message) is Verdict.TOOL_FAILED


@pytest.mark.parametrize(
    ("tools", "found"),
    [
        ([{"name": "a", "annotations": {"readOnlyHint": True}}], {"a": {"readOnlyHint": True}}),
        ([{"name": "a"}, {"name": "b", "annotations": None}], {"a": {}, "b": {}}),
        ([{"name": "a", "annotations": ["readOnlyHint"]}], {"a": {}}),
        ([None, 1, "a", [], {}, {"name": 1}, {"name": None}], {}),
        ({"name": "a"}, {}),
        ("a", {}),
        (None, {}),
    ],
)
def test_annotations_are_learned_from_well_formed_tools_only(
    tools: Any, found: dict[str, Any]
) -> None:
    """Protocol section 4: an unknown tool has none."""
    assert jsonrpc.annotations_of({"tools": tools}) == found
    assert jsonrpc.annotations_of({}) == {}


@pytest.mark.parametrize(
    ("data", "answers"),
    [
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', True),
        (b'{"jsonrpc":"2.0","id":"a","error":{"code":1}}', True),
        (b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}', False),
        (b'{"jsonrpc":"2.0","id":1,"result":{},"method":"tools/call"}', False),
        (b'{"jsonrpc":"2.0","id":null,"result":{}}', False),
        (b'{"jsonrpc":"1.0","id":1,"result":{}}', False),
        (b'{"id":1,"result":{}}', False),
        (b'{"jsonrpc":"2.0","id":1,"id":1,"result":{}}', False),
        (b"[]", False),
        (b"", False),
    ],
)
def test_a_client_answers_the_server(data: bytes, answers: bool) -> None:
    assert jsonrpc.is_posted_response(data) is answers
