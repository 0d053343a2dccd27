"""Whether an answer may be kept, and for how long."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from mcp_proxy.core import freshness
from mcp_proxy.core.call import EMPTY, Call, Reply, Stream
from mcp_proxy.core.errors import (
    CircuitOpenError,
    DrainingError,
    InternalError,
    OverloadedError,
    ProxyError,
    UpstreamUnreachableError,
)
from mcp_proxy.core.freshness import Terms
from mcp_proxy.core.intent import Intent, Keep
from mcp_proxy.core.verdict import Verdict
from tests.fakes import call, reply, rest_tool, rpc, tool

KEEP = Keep(300.0)
HINTED = Keep(300.0, obeys_hint=True)
STATELESS = Keep(0.0, obeys_hint=True)
DAY = 86_400.0


def kept(keep: Keep | None = KEEP, message: Any = None, **headers: str) -> Call:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return call(Intent(keep=keep), message or tool(), headers=named)


def a_stream() -> Reply:
    async def pieces() -> Any:
        yield b"{}"

    return reply()._replace(body=Stream(pieces()))


@pytest.mark.parametrize(
    ("headers", "looks"),
    [
        ({}, True),
        ({"Cache_Control": "max-age=0"}, True),
        ({"Cache_Control": "no-cache"}, False),
        ({"Cache_Control": "max-age=3, No-Store"}, False),
        ({"Pragma": "no-cache"}, False),
        ({"Pragma": "x, NO-CACHE"}, False),
    ],
)
def test_a_caller_who_wants_none_of_our_answers_gets_none(
    headers: dict[str, str], looks: bool
) -> None:
    """DESIGN section 4, Key: client `no-cache` and `no-store` are honoured."""
    assert freshness.may_look(kept(**headers)) is looks


@pytest.mark.parametrize(
    "answer",
    [
        reply(),
        reply(Cache_Control="max-age=60, public"),
        reply(Cache_Control="no-store", Content_Type="text/event-stream"),
        reply(Vary="Origin, Accept-Encoding, Cookie, Host"),
    ],
    ids=["plain", "public", "an event stream's boilerplate", "varies by what keys tell apart"],
)
def test_a_good_answer_may_be_kept(answer: Reply) -> None:
    assert freshness.may_store(kept(), answer)


@pytest.mark.parametrize(
    "answer",
    [
        *[reply(status) for status in (201, 202, 203, 206, 301, 400, 401, 404, 429, 500, 503)],
        *[reply(verdict=verdict) for verdict in Verdict if verdict is not Verdict.OK],
        reply(Set_Cookie="session=1"),
        reply(WWW_Authenticate="Bearer"),
        reply(Content_Encoding="gzip"),
        reply(Content_Encoding="identity"),
        reply(Content_Range="bytes 0-1/2"),
        reply(Cache_Control="no-store"),
        reply(Cache_Control="max-age=60, Private"),
        reply(Cache_Control='private="x-user"', Content_Type="application/json"),
        reply(Vary="*"),
        reply(Vary="Origin, user-agent"),
        reply(Vary="X-Forwarded-For"),
        a_stream(),
    ],
    ids=lambda answer: f"{answer.status}-{answer.verdict.value}-{'-'.join(answer.headers)}",
)
def test_an_answer_that_is_not_good_for_others_is_never_kept(answer: Reply) -> None:
    """DESIGN section 4, the row of "never"; F34, F35."""
    assert not freshness.may_store(kept(), answer)


@pytest.mark.parametrize("asked", [kept(None), kept(Cache_Control="no-store")])
def test_a_call_whose_answer_is_not_to_be_kept_has_the_last_word(asked: Call) -> None:
    """RFC 9111 section 5.2.1.5."""
    assert not freshness.may_store(asked, reply())


RESULT = {"content": []}


@pytest.mark.parametrize(
    ("asked", "answer", "seconds"),
    [
        (kept(KEEP, rest_tool()), {"success": True}, 300.0),
        (kept(KEEP, rest_tool()), {"success": True, "result": {"ttlMs": 1}}, 300.0),
        (kept(KEEP, rest_tool()), {"success": False}, 0.0),
        (kept(KEEP, rest_tool()), {"success": "true"}, 0.0),
        (kept(KEEP, rest_tool()), {"success": 1}, 0.0),
        (kept(KEEP, rest_tool()), {"data": 1}, 0.0),
        (kept(KEEP), {"result": RESULT}, 300.0),
        (kept(KEEP), {"result": {**RESULT, "ttlMs": 1}}, 300.0),
        (kept(KEEP), {"result": {**RESULT, "resultType": "complete"}}, 300.0),
        (kept(KEEP), {"result": {"resultType": "input_required"}}, 0.0),
        (kept(KEEP), {"result": {"resultType": "task"}}, 0.0),
        (kept(KEEP), {"result": {"resultType": None}}, 0.0),
        (kept(Keep(10 * DAY)), {"result": RESULT}, DAY),
        (kept(HINTED, rpc()), {"result": {"tools": []}}, 300.0),
        (kept(HINTED, rpc()), {"result": {"tools": [], "ttlMs": 1500}}, 1.5),
        (kept(HINTED, rpc()), {"result": {"tools": [], "ttlMs": 0}}, 0.0),
        (kept(STATELESS, rpc()), {"result": {"tools": []}}, 0.0),
        (kept(STATELESS, rpc()), {"result": {"tools": [], "ttlMs": 60_000}}, 60.0),
        (kept(STATELESS, rpc()), {"result": {"resultType": "task", "ttlMs": 60_000}}, 0.0),
        (kept(None, rpc()), {"result": {"tools": [], "ttlMs": 60_000}}, 0.0),
    ],
)
def test_an_answer_is_fresh_for_as_long_as_it_says_or_else_we_do(
    asked: Call, answer: dict[str, Any], seconds: float
) -> None:
    """DESIGN section 4, first three rows and the row of "never"."""
    assert freshness.terms(asked, answer).fresh == seconds


@pytest.mark.parametrize(
    ("ttl_ms", "seconds"),
    [
        (0, 0.0),
        (1, 0.001),
        (86_400_000, DAY),
        (86_400_001, DAY),
        (10**400, DAY),
        (-1, 0.0),
        (True, 0.0),
        (1000.0, 0.0),
        (float("nan"), 0.0),
        (float("inf"), 0.0),
        ("1000", 0.0),
        (None, 0.0),
        ([1000], 0.0),
    ],
)
def test_a_ttl_is_a_whole_number_and_no_longer_than_a_day(ttl_ms: Any, seconds: float) -> None:
    """F49: huge, negative, NaN, absent; protocol section 3: an integer of at least 0."""
    assert freshness.hinted(ttl_ms) == seconds


@given(keep=st.builds(Keep, st.floats(0, 1e9), st.booleans()), ttl_ms=st.integers() | st.text())
def test_no_answer_is_fresh_for_less_than_nothing_or_more_than_a_day(
    keep: Keep, ttl_ms: object
) -> None:
    """F49."""
    assert 0.0 <= freshness.terms(kept(keep), {"result": {"ttlMs": ttl_ms}}).fresh <= DAY


def test_an_empty_answer_is_whole() -> None:
    assert freshness.may_store(kept(), reply()._replace(body=EMPTY))


@pytest.mark.parametrize(
    ("result", "in_outage", "expected"),
    [
        ({}, False, Terms(300.0, 30.0, 600.0)),
        ({"ttlMs": 5000}, False, Terms(5.0, 0.0, 600.0)),
        ({"ttlMs": 0}, False, Terms()),
        ({"ttlMs": 0}, True, Terms(0.0, 0.0, 600.0)),
        ({"ttlMs": 0, "resultType": "input_required"}, True, Terms()),
    ],
)
def test_a_servers_own_time_is_not_stretched_while_all_is_well(
    result: Any, in_outage: bool, expected: Terms
) -> None:
    """DESIGN section 4, Stale: never against a `ttlMs`, and 0 only for `server/discover`."""
    keep = Keep(300.0, obeys_hint=True, revalidate=30.0, on_error=600.0, in_outage=in_outage)
    assert freshness.terms(kept(keep), {"result": result}) == expected


@pytest.mark.parametrize(
    ("outcome", "failing"),
    [
        (reply(), False),
        (reply(404, verdict=Verdict.CLIENT_FAULT), False),
        (reply(verdict=Verdict.TOOL_FAILED), False),
        (reply(429, verdict=Verdict.BUSY), False),
        (reply(503, verdict=Verdict.BUSY), True),
        (reply(500, verdict=Verdict.UPSTREAM_FAILED), True),
        (UpstreamUnreachableError("x"), True),
        (CircuitOpenError("x"), True),
        (OverloadedError("x"), True),
        (DrainingError("x"), False),
        (InternalError("x"), False),
    ],
)
def test_an_older_answer_is_better_than_a_server_in_trouble(
    outcome: Reply | ProxyError, failing: bool
) -> None:
    """RFC 5861 section 4."""
    assert freshness.is_failing(outcome) is failing


@pytest.mark.parametrize(
    ("said", "age"), [("100", 100.0), ("", 0.0), ("-1", 0.0), ("1.5", 0.0), ("9" * 30, 0.0)]
)
def test_an_answer_may_have_been_kept_before(said: str, age: float) -> None:
    assert freshness.age_of(CIMultiDict({"Age": said})) == age


@pytest.mark.parametrize(
    ("answer", "public"),
    [
        ({"result": {"cacheScope": "public"}}, True),
        ({"result": {"cacheScope": "private"}}, False),
        ({"result": {"cacheScope": True}}, False),
        ({"result": {}}, False),
        ({"result": "public"}, False),
        ({"cacheScope": "public"}, False),
    ],
)
def test_an_answer_is_public_if_it_says_so(answer: dict[str, Any], public: bool) -> None:
    assert freshness.is_public(reply(), answer) is public


@pytest.mark.parametrize(
    ("varies", "public"),
    [
        ("Accept-Encoding", True),
        ("accept-encoding ,Accept-Encoding", True),
        ("", False),
        ("Accept-Language", False),
        ("Accept-Encoding, Origin", False),
    ],
)
def test_what_everybody_may_have_does_not_suit_everybody(varies: str, public: bool) -> None:
    """RFC 9110 section 12.5.5."""
    answer = {"result": {"cacheScope": "public"}}
    assert freshness.is_public(reply(Vary=varies), answer) is public
