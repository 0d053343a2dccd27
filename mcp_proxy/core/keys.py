"""Under which name an answer is kept: everything that could change it, and who asked.

An unknown credential must never leak an answer, so identity is every header but a fixed list that
is known to be neutral (DESIGN section 4). No value is ever recognisable in a key: all is hashed.
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from mcp_proxy.core.call import Call, Headers, RawHeaders
from mcp_proxy.core.headers import HOP_BY_HOP, is_small, named_in_connection
from mcp_proxy.core.memo import Memo
from mcp_proxy.core.message import Dialect, Message

# They describe the connection, the transport or the trace, and no server answers differently for
# them: hence two calls that differ here only may share an answer. Host is none of them: it goes
# upstream as X-Forwarded-Host, and a server may build links of it.
NEUTRAL = HOP_BY_HOP | {
    "content-length",
    "user-agent",
    "date",
    "referer",
    "traceparent",
    "tracestate",
    "baggage",
    "x-request-id",
    "cache-control",
    "pragma",
    "x-forwarded-for",
}
# What belongs to one request rather than to the one who asks: a tool list that was given to
# somebody holds for that somebody's calls too (see upstream/catalogue).
_OF_THE_REQUEST = frozenset(
    {
        "accept",
        "accept-encoding",
        "content-type",
        "last-event-id",
        "mcp-method",
        "mcp-name",
        "mcp-protocol-version",
        "expect",
        "host",
    }
)
# Names of headers that say who asks: also X-Api-Key, Ocp-Apim-Subscription-Key, X-Auth-Token,
# X-Amz-Security-Token, Cf-Access-Jwt-Assertion.
_CREDENTIAL = re.compile(r"^cookie$|auth|token|api-?key|(access|subscription)-key|jwt")
# Keys of `_meta` that differ from call to call and change no answer (MCP SEP-414).
_REMEMBERED = 512
_TRANSPORT_META = frozenset({"progressToken", "traceparent", "tracestate", "baggage"})
# Written for a Decimal, whose spelling is kept; no honest object has NUL in a key, and
# core/reading refuses those that do.
_DECIMAL_KEY = "\x00decimal"


def said(message: Message) -> Any:
    """Return the parameters that can change an answer."""
    params = message.params
    if message.dialect is Dialect.RPC and "_meta" in params:
        return {**params, "_meta": _kept_meta(params["_meta"])}
    return params


def _kept_meta(meta: Any) -> Any:
    if not isinstance(meta, dict):
        return meta
    return {name: value for name, value in meta.items() if name not in _TRANSPORT_META}


def _decimal(value: object) -> object:
    if isinstance(value, Decimal):
        return {_DECIMAL_KEY: str(value)}
    raise TypeError


class Who(NamedTuple):
    """A caller, apart from all others."""

    identity: str  # spelled out: part of a key
    credentials: str  # hashed, apart from what is being asked


class Keyring:
    """Make the keys of one upstream; the settings that shape them are fixed for a run."""

    def __init__(
        self,
        upstream: str,
        *,
        ignored: Iterable[str] = (),
        share_sessions: bool = False,
        share_public: bool = False,
    ) -> None:
        self._share_public = share_public
        self._upstream = upstream
        self._neutral = NEUTRAL | {name.lower() for name in ignored}
        if share_sessions:
            self._neutral |= {"mcp-session-id"}
        # Clients send the same headers again and again, with other bodies.
        self._met: Memo[RawHeaders, Who] = Memo(_REMEMBERED)

    def who(self, call: Call) -> "Who":
        """Return who asks; worked out once for the same headers."""
        known = self._met.get(call.raw) if call.raw else None
        if known is None:
            spelled = ascii(identity(call.headers, self._neutral))
            known = Who(spelled, credentials(call.headers))
            if call.raw and is_small(call.raw):
                self._met.keep(call.raw, known)
        return known

    def of(self, call: Call) -> str | None:
        """Return the key of a call's answer, without its generation; None if it has no key."""
        return self._spelled(call, self.who(call).identity)

    def shared(self, call: Call) -> str | None:
        """Return the key under which everybody finds an answer that is public, if any may be."""
        keep = call.intent.keep
        if not self._share_public or keep is None or not keep.obeys_hint:
            return None
        # 0 is nobody's identity: those are texts. Who dials us by another name must not choose the
        # links that others are told.
        version = call.headers.get("MCP-Protocol-Version", "")
        return self._spelled(call, [0, version, call.peer.scheme, call.peer.host])

    def _spelled(self, call: Call, who: Any) -> str | None:
        """Hash all parts as one JSON list, so that no two lists of parts spell the same bytes."""
        message = call.message
        parts = (
            self._upstream,
            call.method,
            ascii(call.target),  # one spelling for each, also of bytes that are no text
            message.dialect.value,
            message.method,
            said(message),
            who,
        )
        try:
            spelled = orjson.dumps(parts, default=_decimal, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError:  # too deep
            return None
        return blake2b(spelled, digest_size=20).hexdigest()


def identity(headers: Headers, neutral: frozenset[str] | set[str] = NEUTRAL) -> str:
    """Return who asks, spelled out: every header that is not neutral, in order.

    What `Connection` names does not reach the server, so its answer belongs to callers without it.
    """
    named = named_in_connection(headers)
    if named:
        neutral = neutral | named
    return "\n".join(
        [f"{name}:{value}" for name, value in headers.items() if name.lower() not in neutral]
    )


def credentials(headers: Headers) -> str:
    """Return a hash of who asks, apart from what is being asked."""
    return _hashed(headers, NEUTRAL | _OF_THE_REQUEST)


def opener(headers: Headers) -> str:
    """Return a hash of who asks, in whichever session: who may open it again."""
    return _hashed(headers, NEUTRAL | _OF_THE_REQUEST | {"mcp-session-id"})


def bearer(headers: Headers) -> str | None:
    """Return a hash of the credentials alone, None where there are none.

    Other headers, and the session, make nobody a different client: one could call as often as one
    can think of new values for them.
    """
    unsent = HOP_BY_HOP | named_in_connection(headers)
    named = ((name.lower(), value) for name, value in headers.items())
    said = [pair for pair in named if _CREDENTIAL.search(pair[0]) and pair[0] not in unsent]
    return _digest(ascii(said)) if said else None


def _hashed(headers: Headers, neutral: frozenset[str]) -> str:
    params = {name for name in map(str.lower, headers) if name.startswith("mcp-param-")}
    return _digest(identity(headers, neutral | params))


def _digest(spelled: str) -> str:
    return blake2b(spelled.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class Callers:
    """Tell callers apart by their credentials; worked out once for small heads that are met again."""

    def __init__(self) -> None:
        self._met: Memo[RawHeaders, str] = Memo(_REMEMBERED)

    def of(self, headers: Headers, raw: RawHeaders) -> str:
        """Return who asks; `raw` is how the headers were spelled, empty if that is not small."""
        known = self._met.get(raw) if raw else None
        if known is None:
            known = credentials(headers)
            if raw:
                self._met.keep(raw, known)
        return known
