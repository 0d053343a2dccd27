"""One answer for several callers."""

from typing import Any

import pytest
from multidict import CIMultiDict

from mcp_proxy.core import answers, sse
from mcp_proxy.core.call import Call, Pieces, Reply, Stream, Whole
from mcp_proxy.core.frame import Frame
from mcp_proxy.core.freshness import Terms
from mcp_proxy.core.intent import Intent, Keep
from mcp_proxy.core.message import Message
from mcp_proxy.core.verdict import Verdict
from tests.fakes import call, reply, rest_tool, rpc, tool

LIMIT = 1000
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"id":1}]}}'
EVENTS = "text/event-stream"
SHARED = Intent(keep=Keep(300.0), collapsible=True)


def asked(message: Message | None = None, **headers: str) -> Call:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return call(SHARED, message or tool(), headers=named)


def as_json(body: bytes = ANSWER, **headers: str) -> Reply:
    return reply(body=body, Content_Type="application/json", **headers)


def as_events(body: bytes, **headers: str) -> Reply:
    return reply(body=body, Content_Type=f"{EVENTS}; charset=utf-8", **headers)


def as_stream() -> Reply:
    async def pieces() -> Pieces:
        yield ANSWER

    return as_json()._replace(body=Stream(pieces()))


def body_of(answer: Reply | None) -> bytes:
    assert answer is not None
    assert isinstance(answer.body, Whole)
    return answer.body.data


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (as_json(), ANSWER),
        (as_json(b"not json"), b"not json"),
        (as_events(sse.event(ANSWER)), ANSWER),
        (as_events(b": ping\n\n" + sse.event(ANSWER) + b"id: 1\n\n"), ANSWER),
        (as_events(sse.event(b'{"method":"notifications/progress"}') + sse.event(ANSWER)), None),
        (as_events(b": ping\n\n"), None),
        (as_events(b"data: " + ANSWER), None),
        (as_events(b"data: " + b"x" * LIMIT + b"\n\n"), None),
        (as_events(b""), None),
        (as_stream(), None),
    ],
)
def test_an_answer_is_the_one_json_text_of_a_whole_reply(
    answer: Reply, found: bytes | None
) -> None:
    """Protocol section 2: the Python server answers everything as an event stream."""
    assert answers.answer_in(answer, LIMIT) == found


@pytest.mark.parametrize(
    ("message", "answer", "span"),
    [
        (tool(), ANSWER, (22, 23)),
        (tool(request_id="1"), ANSWER.replace(b'"id":1,', b'"id":"1",'), (22, 25)),
        (rest_tool(), b'{"success":true}', None),
    ],
)
def test_an_answer_is_kept_with_the_place_of_its_id(
    message: Message, answer: bytes, span: tuple[int, int] | None
) -> None:
    """F15."""
    kept = answers.framed(asked(message), as_json(), answer, stored=5.0, terms=Terms(7.0))
    assert kept == Frame(
        CIMultiDict({"Content-Type": "application/json"}), answer, 5.0, Terms(7.0), span
    )


@pytest.mark.parametrize(
    "message",
    [tool(request_id="1"), tool(request_id=2), tool(request_id=11), rpc(request_id=-1)],
)
def test_an_answer_to_somebody_else_is_not_kept(message: Message) -> None:
    """F15: a mismatching answer never reaches another caller nor the cache."""
    assert answers.framed(asked(message), as_json(), ANSWER, stored=0.0, terms=Terms(1.0)) is None


def test_an_answer_without_a_findable_id_is_not_kept() -> None:
    """F15."""
    body = b'{"jsonrpc":"2.0","result":{},"id":1,"x":1}'
    assert answers.framed(asked(), as_json(), body, stored=0.0, terms=Terms(1.0)) is None


def test_what_speaks_of_one_exchange_is_not_told_on() -> None:
    """F34: never store `Mcp-Session-Id`; the rest is set anew for each answer."""
    told = answers.told_on(
        CIMultiDict(
            [
                ("Content-Type", "application/json"),
                ("X-Served-By", "a"),
                ("x-served-by", "b"),
                ("Mcp-Session-Id", "1"),
                ("X-Request-Id", "1"),
                ("Age", "1"),
                ("Cache-Status", "x; hit"),
                ("Server-Timing", "x"),
                ("RateLimit", '"day";r=1;t=5'),
                ("RateLimit-Policy", '"day";q=2'),
                ("Content-Length", "9"),
                ("Connection", "close"),
                ("Cache-Control", "max-age=60"),
            ]
        )
    )
    assert list(told.items()) == [
        ("Content-Type", "application/json"),
        ("X-Served-By", "a"),
        ("x-served-by", "b"),
        ("Cache-Control", "max-age=60"),
    ]


def test_an_event_stream_is_told_on_as_json() -> None:
    """Protocol section 2: event ids belong to one stream."""
    told = answers.told_on(
        CIMultiDict(
            {
                "Content-Type": EVENTS,
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
                "X-Served-By": "a",
            }
        )
    )
    assert dict(told) == {"Content-Type": "application/json", "X-Served-By": "a"}


KEPT = Frame(CIMultiDict({"Content-Type": "application/json"}), ANSWER, 0.0, Terms(300.0), (22, 23))


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ({}, "application/json"),
        ({"Accept": "application/json, text/event-stream"}, "application/json"),
        ({"Accept": "text/event-stream"}, EVENTS),
        ({"Accept": "text/event-stream, application/json;q=0"}, EVENTS),
        ({"Accept": "text/html"}, "application/json"),
    ],
)
@pytest.mark.parametrize(("request_id", "token"), [(7, b"7"), ("7", b'"7"'), ("é", '"é"'.encode())])
def test_a_kept_answer_comes_with_the_callers_id_in_a_type_that_it_accepts(
    accept: dict[str, str], kind: str, request_id: Any, token: bytes
) -> None:
    """F15; protocol section 2: give a stored answer as JSON where the caller accepts it."""
    answer = answers.told(KEPT, asked(tool(request_id=request_id), **accept))
    own = ANSWER.replace(b'"id":1,', b'"id":%b,' % token)
    assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
    assert body_of(answer) == (sse.event(own) if kind == EVENTS else own)


def test_a_kept_answer_on_several_lines_is_one_event() -> None:
    """WHATWG HTML, section 9.2.6: each line of an event's data has its own `data:`."""
    pretty = KEPT._replace(body=b'{\n "id": 1,\n "result": {}\n}', id_span=(9, 10))
    answer = answers.told(pretty, asked(tool(request_id=7), Accept=EVENTS))
    assert answers.answer_in(answer, LIMIT) == b'{\n "id": 7,\n "result": {}\n}'


def test_a_kept_rest_answer_is_the_same_for_all() -> None:
    kept = Frame(
        CIMultiDict({"Content-Type": "application/json"}), b'{"success":true}', 0.0, Terms(1.0)
    )
    answer = answers.told(kept, asked(rest_tool(), Accept=EVENTS))
    assert body_of(answer) == b'{"success":true}'
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")


@pytest.mark.parametrize("answer", [as_json(), as_events(sse.event(ANSWER))])
def test_a_shared_answer_differs_in_its_id_only(answer: Reply) -> None:
    """F15, F30."""
    own = answers.retold(answer._replace(attempts=3), asked(), asked(tool(request_id="b")), LIMIT)
    assert body_of(own) == ANSWER.replace(b'"id":1,', b'"id":"b",')
    assert own is not None
    assert (own.status, own.attempts, own.verdict) == (200, 3, Verdict.OK)


def test_a_shared_rest_answer_is_told_on_without_what_was_the_leaders() -> None:
    own = answers.retold(
        as_json(b'{"success":true}', X_Request_Id="leader"),
        asked(rest_tool()),
        asked(rest_tool()),
        LIMIT,
    )
    assert body_of(own) == b'{"success":true}'
    assert own is not None
    assert "X-Request-Id" not in own.headers


@pytest.mark.parametrize(
    "answer",
    [
        as_stream(),
        as_json(b""),
        as_json(b'{"jsonrpc":"2.0","id":2,"result":{}}'),
        as_json(b'{"jsonrpc":"2.0","id":1,"result":{},"id":1}'),
        as_json(b'{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2}}'),
        as_json(b'{"jsonrpc":"2.0","result":{},"id":1,"x":1}'),
        as_json(b'{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required"}}'),
        as_json(b'{"jsonrpc":"2.0","id":1,"result":{"resultType":"task"}}'),
        as_json(Set_Cookie="session=1"),
        as_json(WWW_Authenticate="Bearer"),
        as_json(Cache_Control="private"),
        as_json(Cache_Control="no-store"),
        as_json(Content_Encoding="gzip"),
        as_json()._replace(status=202),
        as_json()._replace(verdict=Verdict.TOOL_FAILED),
        as_json()._replace(status=503, verdict=Verdict.UPSTREAM_FAILED),
        as_events(sse.event(b'{"method":"x"}') + sse.event(ANSWER)),
    ],
)
def test_what_may_not_be_kept_is_not_shared_either(answer: Reply) -> None:
    """DESIGN section 4, row of "never": not coalesced; F15, F34: a cookie is one caller's."""
    assert answers.retold(answer, asked(), asked(tool(request_id=2)), LIMIT) is None


@pytest.mark.parametrize("body", [b'{"success":false}', b"{}", b"[]", b'{"success":true'])
def test_a_rest_answer_that_is_no_success_is_not_shared(body: bytes) -> None:
    """DESIGN section 4, row of "never"."""
    assert answers.retold(as_json(body), asked(rest_tool()), asked(rest_tool()), LIMIT) is None
