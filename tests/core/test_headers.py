"""Which headers travel, which stay, and which are ours to set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from mcp_proxy.core import headers as rules
from mcp_proxy.core.call import NOBODY, Headers, Peer

# RFC 9110 section 7.6.1, RFC 9112, and what old proxies send
HOP_BY_HOP = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
]
names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,12}", fullmatch=True)
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
fields = st.lists(st.tuples(names | st.sampled_from(HOP_BY_HOP), values), max_size=8)


def of(*pairs: tuple[str, str]) -> Headers:
    return CIMultiDict(pairs)


@given(sent=fields, named=st.lists(names, max_size=3))
def test_end_to_end_headers_travel_as_they_are_and_hop_by_hop_ones_stay(
    sent: list[tuple[str, str]], named: list[str]
) -> None:
    """RFC 9110 section 7.6.1; F40: 0 hop-by-hop headers upstream, `Connection`'s own included."""
    headers = of(*sent, ("Connection", ", ".join(["close", *named])))
    listed = [value for name, value in sent if name == "connection"]
    more = {name.strip().lower() for line in listed for name in line.split(",")}
    staying = {*HOP_BY_HOP, *map(str.lower, named), "close", *more}
    travelling = [(name, value) for name, value in sent if name.lower() not in staying]
    assert list(rules.end_to_end(headers).items()) == travelling


def test_taking_headers_off_leaves_the_request_as_it_was() -> None:
    headers = of(("Connection", "x-a"), ("X-A", "1"))
    rules.end_to_end(headers)
    assert len(headers) == 2


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([], set()),
        ([""], set()),
        (["keep-alive"], {"keep-alive"}),
        (["close , X-One,,", "x-TWO"], {"close", "x-one", "x-two"}),
    ],
)
def test_connection_lists_names_on_any_number_of_lines(lines: list[str], names: set[str]) -> None:
    """RFC 9110 section 5.3: several lines are one list."""
    assert rules.named_in_connection(of(*[("Connection", line) for line in lines])) == names


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Content-Encoding",
        "Content-Length",
        "Content-Type",
        "Cookie",
        "Host",
        "Last-Event-ID",
        "Mcp-Method",
        "Mcp-Name",
        "MCP-Protocol-Version",
        "Mcp-Session-Id",
        "Origin",
        "Via",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
    ],
)
@pytest.mark.parametrize("connection", ["{}", "close , {}", "keep-alive,{},upgrade"])
def test_connection_must_not_name_what_the_server_decides_by(connection: str, name: str) -> None:
    """F40: stripping it would change who asks, or what; protocol section 8: 400."""
    assert rules.abuses_connection(of(("Connection", connection.format(name))))


@pytest.mark.parametrize("connection", ["close", "keep-alive", "Upgrade", "keep-alive, x-own", ""])
def test_an_honest_connection_header_passes(connection: str) -> None:
    assert not rules.abuses_connection(of(("Connection", connection)))


def test_a_claim_about_the_way_here_is_replaced_by_what_we_know() -> None:
    """Protocol section 8: X-Forwarded-* are set by us; section 6: the server gets its own Host."""
    claimed = of(
        ("Host", "localhost:8000"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("x-forwarded-for", "7.7.7.7"),
        ("Forwarded", "for=6.6.6.6"),
        ("X-Forwarded-Host", "evil"),
        ("X-Forwarded-Proto", "https"),
        ("X-Request-Id", "theirs"),
        ("Expect", "100-continue"),
        ("Via", "1.1 before"),
        ("Authorization", "Bearer t"),
        ("Mcp-Param-A", "1"),
        ("Origin", "http://localhost:3000"),
        ("Transfer-Encoding", "chunked"),
    )
    peer = Peer("10.0.0.1", "10.0.0.1", "http", "localhost:8000")
    sent = rules.request_headers(claimed, via="1.1 us", peer=peer, request_id="ours")
    assert list(sent.items()) == [
        ("Via", "1.1 before"),
        ("Authorization", "Bearer t"),
        ("Mcp-Param-A", "1"),
        ("Origin", "http://localhost:3000"),
        ("Via", "1.1 us"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "localhost:8000"),
        ("X-Request-Id", "ours"),
    ]


def test_a_request_without_host_forwards_none() -> None:
    sent = rules.request_headers(of(), via="1.1 us", peer=NOBODY, request_id="r")
    assert "X-Forwarded-Host" not in sent
    assert "Host" not in sent


def test_the_server_is_addressed_by_one_name() -> None:
    """MCP_UPSTREAM_HOST_HEADER."""
    asked = of(("Host", "a"), ("host", "b"), ("X-A", "1"))
    sent = rules.request_headers(asked, via="1.1 us", peer=NOBODY, request_id="r", host="theirs:1")
    assert sent.getall("Host") == ["theirs:1"]


@pytest.mark.parametrize(
    ("via", "seen"),
    [
        ([], False),
        (["1.1 us"], True),
        (["1.0 other, 1.1 us (comment)"], True),
        (["1.1 other", "HTTP/1.1 us"], True),
        (["1.1 us2, 1.1 not-us"], False),
    ],
)
def test_our_own_name_in_via_is_a_loop(via: list[str], seen: bool) -> None:
    """F40: a loop ends after at most 2 hops."""
    assert rules.passed_through(of(*[("Via", line) for line in via]), "us") is seen


@pytest.mark.parametrize(
    ("claimed", "taken"),
    [
        (None, False),
        ("", False),
        ("4bf92f3577b34da6", True),
        ("req:1/2=a+b@c.d_e-f", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("a b", False),
        ("a\nb", False),
        ("\x1b[31mred", False),
        ("é", False),
        ('a"b', False),
        ("<b>", False),
    ],
)
def test_a_request_id_is_taken_only_if_short_and_harmless(claimed: str | None, taken: bool) -> None:
    """Protocol section 8; F41: it goes to logs and to pages."""
    assert rules.harmless_request_id(claimed) == (claimed if taken else None)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("", ""),
        ("application/json", "application/json"),
        (" Application/JSON ; charset=utf-8", "application/json"),
        ("text/event-stream;x=1", "text/event-stream"),
    ],
)
def test_a_media_type_is_compared_without_case_and_parameters(value: str, kind: str) -> None:
    """RFC 9110 section 8.3.1."""
    assert rules.media_type(of(("Content-Type", value))) == kind


def test_a_body_without_a_media_type_has_an_empty_one() -> None:
    assert not rules.media_type(of())


@pytest.mark.parametrize(
    ("headers", "plain"),
    [
        (of(), True),
        (of(("Content-Type", "application/json")), True),
        (of(("Content-Type", "application/json; charset=utf-8")), True),
        (of(("Content-Type", 'application/json;Charset="UTF-8"')), True),
        (of(("Content-Type", "application/json; profile=x")), True),
        (of(("Content-Type", "application/json; charset=utf-16")), False),
        (of(("Content-Type", "application/json; charset=utf-7")), False),
        (of(("Content-Type", "application/json; charset=utf-8; charset=utf-7")), False),
        (of(("Content-Type", "application/json; charset=utf-8x")), False),
        (of(("Content-Type", "application/json; charset = utf-8 , a; charset=gbk")), False),
        (of(("Content-Type", "application/json"), ("Content-Type", "a; charset=gbk")), False),
        (of(("Content-Type", "application/json"), ("Content-Encoding", "gzip")), False),
        (of(("Content-Encoding", "identity")), False),
    ],
)
def test_a_body_is_plain_when_nobody_could_decode_it_otherwise(
    headers: Headers, plain: bool
) -> None:
    """F16: the TypeScript SDK decodes by the charset of the request."""
    assert rules.is_plain_utf8(headers) is plain


@pytest.mark.parametrize(
    ("headers", "plain"),
    [
        (of(("Content-Type", "application/json")), True),
        (of(("Content-Type", "Application/Json;charset=UTF-8")), True),
        (of(("Content-Type", "application/json"), ("Content-Encoding", "br")), False),
        (of(("Content-Type", "application/json;charset=latin-1")), False),
        (of(("Content-Type", "application/problem+json")), False),
        (of(("Content-Type", "text/html")), False),
        (of(), False),
    ],
)
def test_only_plain_json_is_added_to(headers: Headers, plain: bool) -> None:
    """DESIGN section 3: fields are spliced into 200 unencoded JSON objects."""
    assert rules.is_plain_json(headers) is plain


@pytest.mark.parametrize(
    ("accept", "kind", "admitted"),
    [
        ([], "application/json", True),
        (["*/*"], "application/json", True),
        (["application/json, text/event-stream"], "text/event-stream", True),
        (["text/html", "Application/JSON;q=0.5"], "application/json", True),
        (["application/*"], "application/json", True),
        (["text/event-stream"], "application/json", False),
        (["application/jsonx"], "application/json", False),
        ([""], "application/json", False),
        (["application/json;q=0, */*"], "application/json", False),
        (["application/json; Q=0.000"], "application/json", False),
        (["*/*;q=0, application/json"], "application/json", True),
        (["*/*;q=0"], "application/json", False),
        (["application/json;q=0.001"], "application/json", True),
    ],
)
def test_accept_admits_by_its_most_specific_range(
    accept: list[str], kind: str, admitted: bool
) -> None:
    """RFC 9110 section 12.5.1; `q=0` is a refusal."""
    assert rules.accepts(of(*[("Accept", line) for line in accept]), kind) is admitted


@pytest.mark.parametrize(
    ("lines", "directives"),
    [
        ([], set()),
        (["no-store"], {"no-store"}),
        (["Max-Age=60 , Private"], {"max-age", "private"}),
        (["public", 'no-cache="set-cookie"'], {"public", "no-cache"}),
    ],
)
def test_cache_control_is_a_set_of_directives(lines: list[str], directives: set[str]) -> None:
    """RFC 9111 section 5.2: names without case, arguments apart."""
    headers = of(*[("Cache-Control", line) for line in lines])
    assert rules.cache_control(headers) == directives


def test_what_connection_names_is_not_sent_on() -> None:
    """RFC 9110 section 7.6.1."""
    sent = rules.request_headers(
        of(("Connection", "X-Hop"), ("X-Hop", "1"), ("X-Kept", "1")),
        via="1.1 us",
        peer=NOBODY,
        request_id="r",
    )
    assert "X-Hop" not in sent
    assert sent["X-Kept"] == "1"


def test_names_travel_as_they_were_spelled() -> None:
    """aiohttp's parser says `Etag`; bytes that are no UTF-8 can be told again."""
    raw = ((b"ETag", b'"a"'), (b"CONNECTION", b"x-hop"), (b"X-HOP", b"1"), (b"X-A", b"\xe9"))
    headers = CIMultiDict((name.decode(), rules.as_text(value)) for name, value in raw)
    travelling = rules.end_to_end(headers, raw)
    assert list(travelling.items()) == [("ETag", '"a"'), ("X-A", "\udce9")]


@pytest.mark.parametrize(
    ("codings", "odd"),
    [
        ([], False),
        (["chunked"], False),
        ([" Chunked "], False),
        (["gzip, chunked"], True),
        (["gzip"], True),
        (["identity"], True),
        (["chunked", "chunked"], True),
        ([""], True),
    ],
)
def test_a_body_is_coded_by_chunks_alone(codings: list[str], odd: bool) -> None:
    """RFC 9112 section 7: any other coding would lose its name on the way."""
    headers = CIMultiDict(("Transfer-Encoding", coding) for coding in codings)
    assert rules.is_framed_oddly(headers) is odd


@pytest.mark.parametrize(
    ("said", "claims"),
    [
        ("Negotiate YII=", True),
        ("NTLM TlRM", True),
        ("ntlm", True),
        ("nego2 x", True),
        ("Bearer Negotiate", False),
        ("Basic Og==", False),
        ("Negotiated x", False),
        ("", False),
    ],
)
def test_some_schemes_speak_for_a_connection(said: str, claims: bool) -> None:
    assert rules.claims_connection(CIMultiDict({"authorization": said})) is claims


def test_who_says_nothing_claims_nothing() -> None:
    assert not rules.claims_connection(CIMultiDict({"Cookie": "NTLM x"}))
