"""Under which name an answer is kept: what must never share one, and what always may."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from mcp_proxy.core import keys
from mcp_proxy.core.call import Call, Headers, Peer
from mcp_proxy.core.headers import end_to_end
from mcp_proxy.core.intent import Intent, Keep
from mcp_proxy.core.keys import NEUTRAL, Callers, Keyring
from mcp_proxy.core.message import Dialect, Message
from mcp_proxy.core.reading import read_object
from tests.fakes import call, rest_tool, rpc, tool

RING = Keyring("old")
# of DESIGN section 4, Key; Host is always forwarded
NEUTRAL_NAMES = [
    "Connection",
    "Keep-Alive",
    "TE",
    "Transfer-Encoding",
    "Proxy-Authorization",
    "Content-Length",
    "User-Agent",
    "Date",
    "Referer",
    "traceparent",
    "tracestate",
    "baggage",
    "X-Request-Id",
    "Cache-Control",
    "Pragma",
    "X-Forwarded-For",
]
# F34, F35: who asks, in which words, in which session, and what could poison an answer
TELLING_NAMES = [
    "Authorization",
    "Cookie",
    "X-Api-Key",
    "X-Tenant",
    "Mcp-Session-Id",
    "MCP-Protocol-Version",
    "Mcp-Param-Region",
    "Accept",
    "Accept-Language",
    "Origin",
    "Content-Type",
    "X-Original-URL",
    "X-HTTP-Method-Override",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "Forwarded",
    "X-Anything-At-All",
]

names = st.from_regex(r"[A-Za-z!#$%&'*+.^_`|~0-9-]{1,12}", fullmatch=True)
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=8)
# what core/reading returns: no floats, no lone surrogates, no NUL
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3)
    | st.sampled_from([Decimal("1.0"), Decimal("1.00"), Decimal("1E+2"), Decimal("0.1")])
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=6,
)
arguments = st.dictionaries(st.sampled_from(["a", "b", "q"]), trees, max_size=3)


def of(message: Message, *headers: tuple[str, str], ring: Keyring = RING, **changes: Any) -> str:
    asked = call(message=message)._replace(headers=CIMultiDict(headers), **changes)
    key = ring.of(asked)
    assert key is not None
    return key


def shuffled(value: Any, turn: Callable[[list[Any]], list[Any]]) -> Any:
    """Return an equal tree with the members of its objects in another order."""
    if isinstance(value, dict):
        return {name: shuffled(inner, turn) for name, inner in turn(list(value.items()))}
    if isinstance(value, list):
        return [shuffled(inner, turn) for inner in value]
    return value


def spelled(value: Any) -> str:
    """Spell a tree without regard to the order of members, types kept."""
    if isinstance(value, dict):
        return str({name: spelled(value[name]) for name in sorted(value)})
    if isinstance(value, list):
        return str([*map(spelled, value)])
    return repr(value)


@given(said=arguments, random=st.randoms(use_true_random=False))
@pytest.mark.parametrize("dialect", [Dialect.RPC, Dialect.REST])
def test_the_order_of_members_does_not_matter(dialect: Dialect, said: Any, random: Any) -> None:
    """DESIGN section 4, Key: canonical params."""

    def turn(items: list[Any]) -> list[Any]:
        return random.sample(items, len(items))

    message = Message(dialect, params={"arguments": said})
    other = message._replace(params=shuffled(message.params, turn))
    assert of(message) == of(other)


@given(one=arguments, other=arguments)
def test_calls_share_a_key_exactly_if_their_arguments_are_the_same(one: Any, other: Any) -> None:
    """F34: a tenant in an argument is a tenant."""
    same = spelled(one) == spelled(other)
    assert (of(tool(arguments=one)) == of(tool(arguments=other))) == same


LOOKALIKES = [
    0,
    1,
    -1,
    True,
    False,
    None,
    "",
    "1",
    "true",
    "null",
    Decimal("1.0"),
    Decimal("1.00"),
    Decimal(1),
    "1.0",
    [],
    {},
    [1],
    [[1]],
    {"1": 1},
    [None],
    {"": None},
    {"decimal": "1.0"},
    "é",
    "e\u0301",
    2**53,
    2**53 - 1,
]


@pytest.mark.parametrize("dialect", [Dialect.RPC, Dialect.REST])
def test_no_two_values_are_taken_for_one_another(dialect: Dialect) -> None:
    """F15's sense of sameness, for arguments: JSON tokens, not what some language calls equal."""
    told = {of(Message(dialect, params={"a": {"b": [value]}})) for value in LOOKALIKES}
    assert len(told) == len(LOOKALIKES)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"0.1", b"0.10", False),
        (b"0.1", b"1e-1", True),
        (b"1e2", b"1E+2", True),
        (b"100", b"1e2", False),
        (b'"\\u00e9"', '"é"'.encode(), True),
        (b'"\\/"', b'"/"', True),
        (b" [1 , 2]", b"[1,2]", True),
        (b"0.1000000000000000055511151231257827", b"0.1", False),
    ],
)
def test_two_spellings_share_a_key_if_every_server_reads_the_same(
    one: bytes, other: bytes, same: bool
) -> None:
    """F16: a server may read decimals; two spellings of one double are two calls to it."""
    keys_ = [
        of(Message(Dialect.REST, params=read_object(b'{"a":%b}' % a) or {})) for a in (one, other)
    ]
    assert (keys_[0] == keys_[1]) is same


@pytest.mark.parametrize(
    "changed",
    [
        lambda asked: asked._replace(method="PUT"),
        lambda asked: asked._replace(target="/mcp/"),
        lambda asked: asked._replace(target="/mcp?user=2"),
        lambda asked: asked._replace(target="/mcp\udce9"),
        lambda asked: asked._replace(message=rpc("prompts/list")),
        lambda asked: asked._replace(message=rpc("tools/list", 1, cursor="2")),
        lambda asked: asked._replace(message=rpc("tools/list", 1, _meta={"tenant": "b"})),
        lambda asked: asked._replace(message=asked.message._replace(dialect=Dialect.REST)),
        lambda asked: asked._replace(message=asked.message._replace(method="tools/lis\udc74")),
    ],
)
def test_whatever_is_asked_differently_is_kept_apart(changed: Callable[[Call], Call]) -> None:
    """DESIGN section 4, Key; F35: the query, the method and `_meta` could change the answer."""
    asked = call(message=rpc("tools/list"))
    assert RING.of(changed(asked)) != RING.of(asked)


def test_two_upstreams_never_share() -> None:
    """DESIGN section 4: unrelated sidecars on one Redis never share."""
    assert of(rpc()) != of(rpc(), ring=Keyring("new"))


def test_parts_do_not_run_into_one_another() -> None:
    one = of(rpc("tools/list"), ring=Keyring("old"), target="/mcp")
    assert one != of(rpc("tools/list"), ring=Keyring("old/"), target="mcp")
    assert one != of(rpc("ools/list"), ring=Keyring("old"), target="/mcpt")


@given(one=st.integers() | st.text(max_size=5), other=st.integers() | st.text(max_size=5))
def test_the_id_of_a_request_is_no_part_of_what_it_asks(one: str | int, other: str | int) -> None:
    """F15: the caller's own id is put into a stored answer, its type kept."""
    assert of(tool(request_id=one)) == of(tool(request_id=other))


@pytest.mark.parametrize("name", ["progressToken", "traceparent", "tracestate", "baggage"])
@given(value=trees)
def test_progress_tokens_and_traces_do_not_matter(name: str, value: Any) -> None:
    """DESIGN section 4, Key: `_meta` included, less progress token and trace fields."""
    assert of(tool(_meta={name: value, "tenant": "a"})) == of(tool(_meta={"tenant": "a"}))


@pytest.mark.parametrize("name", ["progresstoken", "progressToken ", "tenant", "locale", ""])
def test_whatever_else_meta_carries_matters(name: str) -> None:
    """F35: it must not change a stored answer."""
    assert of(tool(_meta={name: 1})) != of(tool(_meta={name: 2}))


@pytest.mark.parametrize("meta", [1, None, "traceparent", ["traceparent"]])
def test_an_odd_meta_is_part_of_the_key_as_it_is(meta: Any) -> None:
    assert of(tool(_meta=meta)) not in {of(tool()), of(tool(_meta={}))}


def test_a_rest_body_counts_as_a_whole() -> None:
    """DESIGN section 4, Key: REST: the whole body; a trace field means nothing special there."""
    body = dict(rest_tool().params)
    one, other = (
        Message(Dialect.REST, params={**body, "_meta": {"traceparent": value}}) for value in "ab"
    )
    assert of(one) != of(other)


@pytest.mark.parametrize("name", NEUTRAL_NAMES)
@pytest.mark.parametrize("spell", [str, str.lower, str.upper])
def test_a_header_of_the_connection_or_the_trace_does_not_matter(
    name: str, spell: Callable[[str], str]
) -> None:
    """DESIGN section 4, Key: the fixed neutral list."""
    assert of(tool()) == of(tool(), (spell(name), "1"))


@pytest.mark.parametrize("name", TELLING_NAMES)
def test_every_other_header_matters(name: str) -> None:
    """DESIGN section 4, Key: an unknown credential can never leak; F34, F35."""
    assert len({of(tool()), of(tool(), (name, "1")), of(tool(), (name, "2"))}) == 3


@given(name=names, value=values, other=values)
def test_any_header_that_is_not_known_to_be_neutral_matters(
    name: str, value: str, other: str
) -> None:
    """DESIGN section 4, Key."""
    assume(name.lower() not in NEUTRAL and value != other)
    assert of(tool(), (name, value)) != of(tool(), (name, other))


callers = st.lists(
    st.tuples(
        st.sampled_from(["X-Tenant", "Cookie", "User-Agent", "Connection"]),
        st.sampled_from(["a", "x-tenant", "cookie, close"]),
    ),
    max_size=4,
)


@given(one=callers, other=callers)
def test_two_callers_share_exactly_if_the_server_hears_the_same_from_both(
    one: list[tuple[str, str]], other: list[tuple[str, str]]
) -> None:
    """F34, F35: 0 leaks, and nothing unkeyed that could change an answer."""

    def heard(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        sent = end_to_end(CIMultiDict(pairs))
        return [(name, value) for name, value in sent.items() if name.lower() not in NEUTRAL]

    assert (of(tool(), *one) == of(tool(), *other)) == (heard(one) == heard(other))


@pytest.mark.parametrize("connection", ["X-Tenant", "keep-alive, x-tenant"])
def test_a_header_that_connection_takes_off_on_the_way_is_no_identity(connection: str) -> None:
    """F35: the server answers as if it were not there, so others who send it must not get that."""
    hidden = of(tool(), ("X-Tenant", "a"), ("Connection", connection))
    assert hidden == of(tool())
    assert hidden != of(tool(), ("X-Tenant", "a"), ("Connection", "keep-alive"))


def test_the_same_header_twice_is_not_the_same_header_once() -> None:
    once, twice = [("X-A", "1")], [("X-A", "1"), ("X-A", "1")]
    assert of(tool(), *once) != of(tool(), *twice)


def test_header_bytes_that_are_no_utf_8_count_as_they_are() -> None:
    """aiohttp hands them over as surrogates."""
    assert of(tool(), ("X-A", "caf\udce9")) != of(tool(), ("X-A", "caf\udcea"))


def test_sessions_are_shared_only_on_demand() -> None:
    """DESIGN section 4, Key: MCP_CACHE_SHARE_SESSIONS leaves the session out, and only that."""
    sharing = Keyring("old", share_sessions=True)
    sessions = [("Mcp-Session-Id", "1")], [("Mcp-Session-Id", "2")]
    assert len({of(tool(), *session, ring=sharing) for session in sessions}) == 1
    assert of(tool(), ("Authorization", "1"), ring=sharing) != of(tool(), ring=sharing)


def test_ignored_headers_do_not_matter() -> None:
    """DESIGN section 4, Key: MCP_CACHE_IGNORE_HEADERS."""
    ring = Keyring("old", ignored=["X-Build"])
    assert of(tool(), ("x-build", "1"), ring=ring) == of(tool(), ring=ring)
    assert of(tool(), ("x-built", "1"), ring=ring) != of(tool(), ring=ring)


def test_the_host_matters() -> None:
    """DESIGN section 4, Key: Host unless it is forwarded; it always is, as X-Forwarded-Host."""
    assert of(tool(), ("Host", "a")) != of(tool(), ("Host", "b"))


@pytest.mark.parametrize("changed", [{"host": "b"}, {"scheme": "https"}])
def test_by_which_name_we_are_dialled_matters_to_everybody(changed: dict[str, str]) -> None:
    """The server hears it as X-Forwarded-Host and -Proto, and a list of resources may have links."""
    ring = Keyring("old", share_public=True)
    asked = call(Intent(keep=Keep(300.0, obeys_hint=True)), rpc("tools/list"))
    peer = Peer(host="a")
    others = peer._replace(client="10.0.0.9", hops="10.0.0.9")
    keys = [
        ring.shared(asked._replace(peer=one)) for one in (peer, others, peer._replace(**changed))
    ]
    assert keys[0] is not None
    assert keys[0] == keys[1] != keys[2]


def test_a_key_shows_nothing_of_what_it_was_made_of() -> None:
    """F42: keys stand in Redis and in answers of the cache."""
    key = of(tool(arguments={"q": "secret"}), ("Authorization", "Bearer secret"))
    assert len(key) == 40
    assert int(key, 16)


def test_arguments_too_deep_to_be_spelled_have_no_key() -> None:
    """F17: then the answer is not kept."""
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    assert RING.of(call(message=tool(arguments=deep))) is None


def test_what_json_cannot_hold_has_no_key() -> None:
    assert RING.of(call(message=tool(arguments={1, 2}))) is None


CALLER = [("Authorization", "Bearer a"), ("Mcp-Session-Id", "1"), ("X-Tenant", "t")]


def credentials(*headers: tuple[str, str]) -> str:
    told: Headers = CIMultiDict(headers)
    return keys.credentials(told)


@pytest.mark.parametrize(
    "name",
    [
        "Accept",
        "Accept-Encoding",
        "content-type",
        "Expect",
        "Last-Event-ID",
        "Mcp-Method",
        "MCP-NAME",
        "Mcp-Param-X",
        "MCP-Protocol-Version",
        "User-Agent",
        "Host",
    ],
)
def test_the_one_who_asks_stays_the_same_whatever_is_asked(name: str) -> None:
    """The tool list that somebody was given holds for that somebody's calls (upstream/catalogue)."""
    assert credentials(*CALLER) == credentials(*CALLER, (name, "1"))


@pytest.mark.parametrize("name", ["Authorization", "Mcp-Session-Id", "X-Tenant", "Cookie"])
def test_two_who_ask_are_never_taken_for_one_another(name: str) -> None:
    """MCP 2026-07-28: `tools/list` may vary by authorization."""
    others = [pair for pair in CALLER if pair[0] != name]
    told = {
        credentials(*others),
        credentials(*others, (name, "b")),
        credentials(*others, (name, "c")),
    }
    assert len(told) == 3


def test_who_asks_is_worked_out_once_for_the_same_headers() -> None:
    """And for large ones each time: what callers say must not fill the memory (F46)."""
    ring = Keyring("old")
    raw = ((b"Authorization", b"Bearer a"),)
    asked = call(headers={"Authorization": "Bearer a"})._replace(raw=raw)
    assert ring.who(asked) is ring.who(asked)
    assert ring.who(asked) == ring.who(asked._replace(raw=()))
    other = call(headers={"Authorization": "Bearer b"})._replace(
        raw=((b"Authorization", b"Bearer b"),)
    )
    assert ring.who(other).identity != ring.who(asked).identity
    assert ring.who(other).credentials != ring.who(asked).credentials
    large = asked._replace(raw=((b"Authorization", b"a" * 5000),))
    assert ring.who(large) is not ring.who(large)


def test_callers_are_told_apart_by_their_heads() -> None:
    """The same head is worked out once; one that is not spelled, each time."""
    callers = Callers()
    heads = [CIMultiDict({"Authorization": f"Bearer {name}"}) for name in ("a", "b")]
    raws = [((b"Authorization", f"Bearer {name}".encode()),) for name in ("a", "b")]
    for _ in range(2):
        said = [callers.of(head, raw) for head, raw in zip(heads, raws, strict=True)]
        assert (
            said == [callers.of(head, ()) for head in heads] == list(map(keys.credentials, heads))
        )
    assert len(set(said)) == len(callers._met) == 2


CREDENTIALS = [
    "Authorization",
    "Cookie",
    "X-Api-Key",
    "apikey",
    "X-Auth-Token",
    "X-Amz-Security-Token",
    "Ocp-Apim-Subscription-Key",
    "Cf-Access-Jwt-Assertion",
]


@pytest.mark.parametrize("name", CREDENTIALS)
def test_a_bearer_is_known_by_credentials(name: str) -> None:
    one, other = ({name: "x-1", "Accept": "a"}, {name: "x-2", "Accept": "a"})
    known = keys.bearer(CIMultiDict(one))
    assert known is not None
    assert "x-1" not in known
    assert known == keys.bearer(CIMultiDict({name.swapcase(): "x-1"}))
    assert known != keys.bearer(CIMultiDict(other))


@pytest.mark.parametrize(
    "name",
    [
        "Mcp-Session-Id",
        "X-Request-Id",
        "User-Agent",
        "Idempotency-Key",
        "Origin",
        "X-Anything",
        "Sec-WebSocket-Key",
        "Proxy-Authorization",
        "X-Set-Cookie2",
    ],
)
def test_other_headers_make_nobody_a_bearer(name: str) -> None:
    """Or a client could be as many as it likes: not even the session is a credential."""
    assert keys.bearer(CIMultiDict({name: "1"})) is None
    with_token = [keys.bearer(CIMultiDict({"Authorization": "a", name: v})) for v in ("1", "2")]
    assert with_token[0] == with_token[1] is not None


def test_a_credential_that_stays_here_is_none() -> None:
    """What `Connection` names does not reach the server, which would refuse a wrong one."""
    said = CIMultiDict({"Connection": "X-Token", "X-Token": "1"})
    assert keys.bearer(said) is None
    assert keys.bearer(CIMultiDict({"X-Token": "\udcff"})) is not None
