"""What holds for any bytes: one function for each parser of ours; it raises where that is broken.

hypothesis calls them in the suite (test_targets.py), atheris in `make fuzz` (__main__.py).
"""

import json
import math
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from multidict import CIMultiDict

from mcp_proxy.core import headers as rules
from mcp_proxy.core import jsonrpc, rest, sse
from mcp_proxy.core.accept import Form, preferred
from mcp_proxy.core.call import EMPTY, Call, Peer, Reply, Whole
from mcp_proxy.core.frame import Frame, pack, unpack
from mcp_proxy.core.freshness import Terms
from mcp_proxy.core.intent import OPAQUE, Decisions, Intent, Keep, Policy, Stack
from mcp_proxy.core.keys import Keyring
from mcp_proxy.core.lines import Lines
from mcp_proxy.core.message import NOTHING
from mcp_proxy.core.origins import Admission
from mcp_proxy.core.peers import Proxies
from mcp_proxy.core.reading import AmbiguousError, read_answer, read_json, read_loosely
from mcp_proxy.core.rules import Rule, Rules
from mcp_proxy.core.trace import trace_of
from mcp_proxy.core.traffic import Paths, Traffic
from mcp_proxy.edge.body import Held
from mcp_proxy.edge.express import MORE, Express, Lane, Met
from mcp_proxy.edge.mail import Mail
from mcp_proxy.edge.marks import Marks
from mcp_proxy.edge.verbatim import sayable
from mcp_proxy.settings import Settings
from mcp_proxy.sources import Loader, SettingsError
from tests.framing.fields import OF_THE_CONNECTION
from tests.fuzz import seeds

PEER = Peer("192.0.2.1", "192.0.2.1", "http", "localhost")
_NO_HEADERS: CIMultiDict[str] = CIMultiDict()


def pieces_of(data: bytes) -> list[bytes]:
    """Return the bytes behind the first, in two pieces; the first says where to cut."""
    if not data:
        return []
    rest_of = data[1:]
    at = data[0] % (len(rest_of) + 1)
    return [rest_of[:at], rest_of[at:]]


def headers_in(data: bytes) -> tuple[CIMultiDict[str], tuple[tuple[bytes, bytes], ...]]:
    """Return lines as headers, as aiohttp hands them on, and how they were spelled."""
    raw = tuple(
        (name, value.strip(b" \t"))
        for name, colon, value in (line.partition(b":") for line in data.split(b"\n"))
        if colon and name
    )
    pairs = [(rules.as_text(name), rules.as_text(value)) for name, value in raw]
    return CIMultiDict(pairs), raw


# --- JSON


def same(ours: Any, theirs: Any) -> bool:
    """Tell whether two readings of JSON mean the same; types count, fractions are doubles."""
    if isinstance(ours, Decimal):
        return isinstance(theirs, float | int) and float(ours) == float(theirs)
    if isinstance(ours, dict):
        return (
            isinstance(theirs, dict)
            and list(ours) == list(theirs)
            and all(same(ours[key], theirs[key]) for key in ours)
        )
    if isinstance(ours, list):
        return (
            isinstance(theirs, list) and len(ours) == len(theirs) and all(map(same, ours, theirs))
        )
    return type(ours) is type(theirs) and ours == theirs


def json_reading(data: bytes) -> None:
    """What we decide by is read alike by Python and by a strict parser, or not at all."""
    read_answer(data)
    with suppress(ValueError):
        read_loosely(data)
    try:
        ours = read_json(data)
    except AmbiguousError:
        return
    assert same(ours, json.loads(data))
    assert same(ours, orjson.loads(data))


def json_message(data: bytes) -> None:
    """A message that is understood says what every parser finds; its id stands where we put ours."""
    message = jsonrpc.read_request(data, _NO_HEADERS)
    jsonrpc.is_posted_response(data)
    if message is not None:
        said = orjson.loads(data)
        assert (message.method, message.id) == (said["method"], said.get("id"))
        assert type(message.id) is type(said.get("id"))
        assert same(dict(message.params), said.get("params", {}))
        _key(message)
    answer = read_answer(data)
    span = jsonrpc.id_span(data) if answer is not None and "result" in answer else None
    if answer is not None and span is not None:
        ours = json.loads(data[: span[0]] + b'"mine"' + data[span[1] :])
        assert ours == {**answer, "id": "mine"} or math.isnan(_first_odd(answer))


def _first_odd(value: Any) -> float:
    """Return NaN if there is one: it equals nothing, not itself."""
    if isinstance(value, float):
        return value if math.isnan(value) else 0.0
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for one in inner if math.isnan(found := _first_odd(one))), 0.0)


def rest_message(data: bytes) -> None:
    """A tool call that is understood names what every parser finds; fields go into answers whole."""
    call = rest.read_tool_call(data)
    if call is not None:
        said = orjson.loads(data)
        assert (call.service, call.tool) == (said["service"], said["tool_name"])
        _key(call)
    rest.judge_answer(data, ("down",))
    gap = rest.gap_in(data)
    if gap is not None:
        added = orjson.loads(rest.enriched(data, gap, ours="true"))
        assert added == {"ours": True, **orjson.loads(data)}


def _key(message: Any) -> None:
    call = Call("POST", "/mcp", _NO_HEADERS, EMPTY, OPAQUE, "id", message, peer=PEER)
    Keyring("http://a").of(call)
    trace_of(message, _NO_HEADERS)


# --- event streams and lines


def event_stream(data: bytes) -> None:
    """Where a stream is cut changes no event; what is held is bounded; browsers read the same."""
    limit = 200
    stream = data[1:]
    whole = sse.Splitter(limit).feed(stream)
    places = range(len(stream)) if len(stream) < 60 else [len(piece) for piece in pieces_of(data)]
    for at in places:
        splitter, tail = sse.Splitter(limit), sse.Tail()
        cut = []
        for piece in (stream[:at], stream[at:]):
            cut += splitter.feed(piece)
            tail.saw(piece)
            assert len(splitter._rest) <= limit
            assert sum(map(len, splitter._data)) <= limit
        assert cut == whole
    if len(stream) <= limit:
        assert [(one.data, one.name) for one in whole if one.data] == _as_browsers(stream)


def _as_browsers(stream: bytes) -> list[tuple[bytes, bytes]]:
    """Read a whole stream by the letter of WHATWG HTML, 9.2.6."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    found, data, name = [], b"", b""
    for line in text.split(b"\n")[:-1]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if data[:-1]:
                found.append((data[:-1], name))
            data, name = b"", b""
        elif field == b"data":
            data += value + b"\n"
        elif field == b"event":
            name = value
    return found


def legacy_stream(data: bytes) -> None:
    """The reader of HTTP+SSE streams takes anything, also as what a client posts."""
    mail = Mail(300)
    box = mail.box()
    box.saw(b"event: endpoint\ndata: /messages?id=1\n\n")
    call = Call(
        "POST", "/messages?id=1", _NO_HEADERS, Whole(data[1:]), OPAQUE, "id", NOTHING, peer=PEER
    )
    mail.posted(call)
    for piece in pieces_of(data):
        box.saw(piece)
    mail.refused(call)
    other = mail.box()
    for piece in pieces_of(data):
        other.saw(piece)
    other.close()
    box.close()


def lines(data: bytes) -> None:
    """Lines are the same wherever they are cut."""
    reader = Lines(50)
    found = [line for piece in pieces_of(data) for line in reader.feed(piece)] + reader.rest()
    assert all(len(line) <= 50 for line in found)
    short = data[1:].decode("utf-8", "replace").split("\n")
    if all(len(line) < 10 for line in data[1:].split(b"\n")):
        assert found == (short if short[-1] else short[:-1])


# --- heads


def header_rules(data: bytes) -> None:
    """No header breaks a rule, and none of the connection's goes on."""
    headers, raw = headers_in(data)
    sent = sayable(
        rules.request_headers(
            headers,
            raw,
            via="1.1 a",
            peer=PEER,
            request_id="r",
            host="a",
            trace=trace_of(NOTHING, headers),
        )
    )
    named = rules.named_in_connection(headers)
    ours = {"host", "via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id",
            "traceparent", "tracestate", "baggage"}  # fmt: skip
    assert not {name.lower() for name in sent} & ((OF_THE_CONNECTION | named) - ours)
    assert sent.getall("Host") == ["a"]
    rules.abuses_connection(headers)
    rules.is_framed_oddly(headers)
    rules.is_plain_json(headers)
    rules.accepts(headers, "text/event-stream")
    rules.cache_control(headers)
    rules.passed_through(headers, "a")
    rules.is_sound(*headers.values())
    preferred(headers.get("Accept", ""), (Form("text/html"), Form("application/json")))
    claimed = rules.harmless_request_id(headers.get("X-Request-Id"))
    assert claimed is None or claimed.isprintable()
    peer = Proxies(("192.0.2.0/24",)).peer(headers, "192.0.2.1", "http")
    Admission("localhost").of(headers.get("Host"), headers.get("Origin"), peer)
    jsonrpc.read_request(
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}', headers
    )


KNOWN = (
    b"POST /api/call-tool HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 41\r\n\r\n"
)
KNOWN_BODY = b'{"service":"a","tool_name":"b","params":{}}'[:41]


def express_head(data: bytes) -> None:
    """Only the very bytes of a known head, before a body of the very length, are answered."""
    express, called = _express()
    called.clear()
    met = express.read("192.0.2.1", data)
    known = data.startswith(KNOWN) and data.find(b"\r\n\r\n") + 4 == len(KNOWN)
    length = len(data) - len(KNOWN)
    if isinstance(met, Met):
        assert known
        assert length == 41
        assert met.call.body == Whole(data[len(KNOWN) :])
        assert express.at_once(met.call)
        assert [call.body for call in called] == [met.call.body]
    elif met is MORE:
        assert known
        assert length < 41
    assert express.read("192.0.2.2", data) is None  # who asks is part of it


@cache
def _express() -> tuple[Express, list[Call]]:
    called: list[Call] = []
    keep = Keep(60.0)
    intent = Intent(Stack.FULL, repeatable=True, keep=keep, writes=False)
    reply = Reply(200, CIMultiDict({"Content-Type": "application/json"}), Whole(b"{}"))

    async def road(call: Call) -> Reply:
        called.append(call)
        return reply

    class Still:
        def now(self) -> float:
            return 0.0

        def wall(self) -> datetime:
            return datetime(2026, 1, 1, tzinfo=UTC)

    clock: Any = Still()
    rule = Rule("b", read_only=True)
    decisions = Decisions(Policy(rules=Rules((rule,))))
    traffic = Traffic(Paths(), decisions, lambda *_: None)
    marks = Marks("sidecar", Admission("localhost"), clock, enrich=False)
    stacks = {Stack.FULL: road, Stack.PLAIN: road}
    never: Any = None  # what is read here is answered at once
    express = Express()
    express.adopt(
        Lane(traffic, marks, stacks, lambda _: reply, lambda: "r", clock, never, Held(1 << 20))
    )
    lines_of = KNOWN.split(b"\r\n")[1:-2]
    raw = tuple(
        (name, value.strip()) for name, _, value in (line.partition(b":") for line in lines_of)
    )
    headers = CIMultiDict((name.decode(), value.decode()) for name, value in raw)
    call = Call(
        "POST",
        "/api/call-tool",
        headers,
        Whole(KNOWN_BODY),
        intent,
        "r",
        NOTHING,
        peer=PEER,
        raw=raw,
    )
    express.learn("192.0.2.1", KNOWN, never, call)
    assert express.read("192.0.2.1", KNOWN) is MORE  # it is known
    return express, called


# --- what is kept, and what is set


def stored_frame(data: bytes) -> None:
    """What lies in a shared store is a frame of ours, or a miss; a frame is spelled in one way."""
    frame = unpack(data)
    if frame is not None:
        assert rules.is_sound(*frame.headers.values())
        frame.body_for(b"1")
        assert unpack(pack(frame)) is not None


def settings_text(data: bytes) -> None:
    """Any file and any environment give settings, or say all that is wrong."""
    kind, text = data[:1], data[1:]
    environ: dict[str, str] = {}
    if kind == b"\x01":
        for line in text.decode("utf-8", "replace").split("\n"):
            name, _, value = line.partition("=")
            environ[name] = value
    else:
        file = _scratch() / "settings.toml"
        file.write_bytes(text)
        environ = {"MCP_CONFIG_FILE": str(file)}
    with suppress(SettingsError):
        assert isinstance(Loader({}, environ).load(), Settings)


@cache
def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


def _framed() -> list[bytes]:
    headers = CIMultiDict({"Content-Type": "application/json", "X-A": "b"})
    odd = CIMultiDict({"X-A": "b\x01c"})
    return [
        pack(Frame(odd, b"{}", 1e9, Terms(1.0, 2.0, 3.0))),
        pack(Frame(headers, b'{"id":1}', 1e9, Terms(1.0, 2.0, 3.0), (6, 7))),
        pack(Frame(CIMultiDict(), b"", 1e9, Terms(0.0, 0.0, 0.0))),
    ]


Target = Callable[[bytes], None]

# By name: what is called, and with what a fuzzer begins.
TARGETS: dict[str, tuple[Target, list[bytes]]] = {
    "json": (json_reading, seeds.bodies()),
    "mcp": (json_message, seeds.bodies()),
    "rest": (rest_message, seeds.bodies()),
    "events": (event_stream, [b"\x07" + seed for seed in seeds.EVENTS]),
    "legacy": (legacy_stream, [b"\x09" + seed for seed in (*seeds.EVENTS, *seeds.bodies())]),
    "lines": (lines, [b"\x03a\nb\r\n\xff\xfe\n", b"\x40" + b"x" * 120 + b"\n"]),
    "headers": (header_rules, seeds.HEADERS),
    "express": (express_head, [KNOWN + KNOWN_BODY, KNOWN, KNOWN + KNOWN_BODY + KNOWN, KNOWN[:-2]]),
    "frame": (stored_frame, _framed()),
    "settings": (settings_text, seeds.SETTINGS),
}
