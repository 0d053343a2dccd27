"""The dialect of the basic web server."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core import rest
from mcp_proxy.core.message import Message
from mcp_proxy.core.verdict import Verdict
from tests.fakes import rest_tool

CALL = {"service": "jira", "tool_name": "look", "params": {"q": 1}}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (CALL, rest_tool(q=1)),
        ({**CALL, "service": ""}, rest_tool(service="", q=1)),
    ],
)
def test_a_tool_call_is_understood(body: dict[str, Any], message: Message) -> None:
    """DESIGN section 3."""
    assert rest.read_tool_call(json.dumps(body).encode()) == message


@pytest.mark.parametrize("more", [{}, {"trace": 1}, {"Paramss": 1}])
def test_the_whole_body_is_the_question(more: dict[str, Any]) -> None:
    """DESIGN section 4, Key: REST: the whole body."""
    body = {"service": "jira", "tool_name": "look", **more}
    message = rest.read_tool_call(json.dumps(body).encode())
    assert message is not None
    assert message.params == body


@pytest.mark.parametrize(
    "body",
    [
        [CALL],
        {},
        {"service": "jira"},
        {"tool_name": "look"},
        {**CALL, "service": None},
        {**CALL, "service": 1},
        {**CALL, "tool_name": ""},
        {**CALL, "tool_name": ["look"]},
        {**CALL, "tool_name": "x" * 257},
        {**CALL, "service": "x" * 257},
        {**CALL, "params": None},
        {**CALL, "params": []},
        {**CALL, "params": "q"},
        {**CALL, "Tool_Name": "save"},
        {**CALL, "TOOL_NAME": "save"},
        {**CALL, "\u017fervice": "other"},
        {**CALL, "Params": {}},
        b'{"service":"jira","tool_name":"look","tool_name":"save"}',
        b'{"service":"jira","tool_name":"look","params":{"n":-0}}',
        b"",
        b"look",
    ],
)
def test_what_the_server_could_read_otherwise_is_opaque(body: object) -> None:
    """F16: doubled keys, case variants, folded letters."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert rest.read_tool_call(data) is None


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (b'{"success":true,"data":"x"}', Verdict.OK),
        (b'{"success":null}', Verdict.OK),
        (b"{}", Verdict.OK),
        (b'{"success":true,"error":"service not connected"}', Verdict.OK),
        (b'{"success":true,"data":"\\ud83d"}', Verdict.OK),
        (b'{"success":false,"error":"no such issue"}', Verdict.TOOL_FAILED),
        (b'{"success":false,"error":null}', Verdict.TOOL_FAILED),
        (b'{"success":false}', Verdict.TOOL_FAILED),
        (b'{"success":false,"error":["service not connected"]}', Verdict.TOOL_FAILED),
        (b'{"success":false,"error":"jira service not connected"}', Verdict.UPSTREAM_FAILED),
        (b'{"success":false,"error":"[Errno 111] Connection refused"}', Verdict.UPSTREAM_FAILED),
        (b"", Verdict.UPSTREAM_FAILED),
        (b'{"success":true', Verdict.UPSTREAM_FAILED),
        (b"<html>", Verdict.UPSTREAM_FAILED),
        (b"[]", Verdict.UPSTREAM_FAILED),
        (b"null", Verdict.UPSTREAM_FAILED),
        (b'{"data":' + b"[" * 10_000 + b"]" * 10_000 + b"}", Verdict.OK),
    ],
)
def test_a_200_is_judged_by_what_it_says(answer: bytes, verdict: Verdict) -> None:
    """DESIGN sections 3 and 4: failures arrive as HTTP 200; a `[failures]` text is a dead service."""
    down = ("service not connected", "Connection refused")
    assert rest.judge_answer(answer, down) is verdict


def test_without_patterns_a_failure_is_the_tools() -> None:
    answer = b'{"success":false,"error":"Connection refused"}'
    assert rest.judge_answer(answer) is Verdict.TOOL_FAILED


def test_patterns_are_plain_texts() -> None:
    """F45: a pattern of the operator is no regular expression, slow or otherwise."""
    assert rest.judge_answer(b'{"success":false,"error":"abc"}', ("a.c",)) is Verdict.TOOL_FAILED


def test_an_error_has_the_shape_of_the_basic_server() -> None:
    """Faults, decision 4: {success, data, error, timestamp} is always kept."""
    said = json.loads(rest.error_body("Busy.", "2026-01-01T00:00:00+00:00", {"code": "overloaded"}))
    assert said == {
        "success": False,
        "data": None,
        "error": "Busy.",
        "timestamp": "2026-01-01T00:00:00+00:00",
        "error_details": {"code": "overloaded"},
    }


FIELDS = {"cache_hit": True, "attempts": 0}


def enrich(data: bytes, fields: dict[str, Any]) -> bytes:
    gap = rest.gap_in(data)
    assert gap is not None
    return rest.enriched(data, gap, **{name: json.dumps(value) for name, value in fields.items()})


@pytest.mark.parametrize(
    ("data", "enriched"),
    [
        (b'{"success":true}', b'{"success":true,"cache_hit":true,"attempts":0}'),
        (b'{ "a" : 1.50 }\r\n', b'{ "a" : 1.50 ,"cache_hit":true,"attempts":0}\r\n'),
        (b" { } ", b' { "cache_hit":true,"attempts":0} '),
        (b'{"attempts":7}', b'{"attempts":7,"cache_hit":true}'),
        (b'{"a":{"attempts":7}}', b'{"a":{"attempts":7},"cache_hit":true,"attempts":0}'),
        (b'{"a":"}"}', b'{"a":"}","cache_hit":true,"attempts":0}'),
        (b'{"cache_hit":0,"attempts":7}', b'{"cache_hit":0,"attempts":7}'),
    ],
)
def test_fields_are_spliced_in_before_the_closing_brace(data: bytes, enriched: bytes) -> None:
    """DESIGN section 3: additively, never re-serialised; what the server says itself stays."""
    assert enrich(data, FIELDS) == enriched


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"}",
        b"[]",
        b"[{}]",
        b"null",
        b'"{}"',
        b'{"a":{}',
        b"{oops}",
        b"{}{}",
        b'{"a":"\xff"}',
    ],
)
def test_what_is_no_json_object_passes_unchanged(data: bytes) -> None:
    """F14."""
    assert rest.gap_in(data) is None


keys = st.sampled_from(["a", "cache_hit", "attempts", "}"])
objects = st.dictionaries(
    keys,
    st.recursive(st.integers(0, 9) | keys, lambda inner: st.dictionaries(keys, inner)),
    max_size=4,
)


@given(
    answer=objects,
    fields=st.dictionaries(keys, st.integers(0, 9)),
    indent=st.sampled_from([None, 1]),
)
def test_what_was_there_stays_byte_for_byte(
    answer: dict[str, Any], fields: dict[str, Any], indent: int | None
) -> None:
    """DESIGN section 3."""
    data = json.dumps(answer, indent=indent).encode()
    enriched = enrich(data, fields)
    assert json.loads(enriched) == {**fields, **answer}
    end = data.rindex(b"}")
    assert enriched.startswith(data[:end])
    assert enriched.endswith(data[end:])
