"""Whether an answer may be kept, and for how long."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from mcp_proxy.core.call import Call, Headers, Reply, Whole
from mcp_proxy.core.errors import (
    CircuitOpenError,
    DeadlineExceededError,
    OverloadedError,
    ProxyError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from mcp_proxy.core.headers import cache_control, directive_names, media_type
from mcp_proxy.core.keys import NEUTRAL
from mcp_proxy.core.message import Dialect
from mcp_proxy.core.reading import Json
from mcp_proxy.core.verdict import Verdict

# A server's hint beyond a day is capped: what is wrong for longer is hard to explain (F49).
LONGEST = 86_400.0
_TROUBLE = (
    UpstreamUnreachableError,
    UpstreamTimeoutError,
    UpstreamBrokenError,
    CircuitOpenError,
    DeadlineExceededError,
    OverloadedError,  # our 503 for a server that takes no more, as its own would be (section 4)
)
_NEVER_SHARED = ("Set-Cookie", "WWW-Authenticate", "Content-Range", "Content-Encoding")
# What an answer may vary by that no key tells apart.
_UNTOLD = NEUTRAL | {"*"}
# Encoded answers are not kept, so all that are kept suit everybody in this respect.
_NO_MATTER = frozenset({"accept-encoding"})


def may_look(call: Call) -> bool:
    """Tell whether the caller wants an answer that we know (RFC 9111 section 5.2.1)."""
    headers = call.headers
    if "Cache-Control" not in headers and "Pragma" not in headers:
        return True
    return not cache_control(headers) & {"no-cache", "no-store"} and (
        "no-cache" not in headers.get("Pragma", "").lower()
    )


def may_store(call: Call, reply: Reply) -> bool:
    """Tell whether the answer is one that others may get at all, whatever its lifetime."""
    return (
        reply.status == 200
        and reply.verdict is Verdict.OK
        and isinstance(reply.body, Whole)
        and call.intent.keep is not None
        and "no-store" not in cache_control(call.headers)
        and not _forbids(reply)
        and not any(name in reply.headers for name in _NEVER_SHARED)
        and _UNTOLD.isdisjoint(_varies_by(reply))
    )


def _varies_by(reply: Reply) -> Iterator[str]:
    """Return the headers of a request on which the answer depends (RFC 9110 section 12.5.5)."""
    return directive_names(reply.headers.getall("Vary", ()))


def _forbids(reply: Reply) -> bool:
    """Tell whether the server's Cache-Control says no; on an event stream it is boilerplate."""
    if media_type(reply.headers) == "text/event-stream":
        return False
    return bool(cache_control(reply.headers) & {"no-store", "private"})


class Terms(NamedTuple):
    """For how long an answer is kept, in seconds; all 0 when it is not."""

    fresh: float = 0.0
    revalidate: float = 0.0  # after that, while it is fetched anew
    on_error: float = 0.0  # after that, while the server fails


def terms(call: Call, answer: Json) -> Terms:
    """Return the terms on which `answer` is kept.

    `answer` is the whole JSON object: a JSON-RPC response that was judged OK, or a REST answer. A
    `ttlMs` is the server's word: what it has ended is not told on meanwhile.
    """
    keep = call.intent.keep
    if keep is None or not is_complete(call, answer):
        return Terms()
    if keep.obeys_hint and "ttlMs" in answer["result"]:
        fresh, revalidate = hinted(answer["result"]["ttlMs"]), 0.0
    else:
        fresh, revalidate = min(keep.seconds, LONGEST), keep.revalidate
    if fresh <= 0:
        return Terms(on_error=keep.on_error) if keep.in_outage else Terms()
    return Terms(fresh, revalidate, keep.on_error)


def is_failing(outcome: Reply | ProxyError) -> bool:
    """Tell whether the server is in such trouble that an older answer is better (RFC 5861)."""
    if isinstance(outcome, ProxyError):
        return isinstance(outcome, _TROUBLE)
    busy = outcome.verdict is Verdict.BUSY and outcome.status == 503
    return busy or outcome.verdict is Verdict.UPSTREAM_FAILED


def age_of(headers: Headers) -> float:
    """Return the seconds for which an answer was kept before it came here (RFC 9111, 4.2.3)."""
    said = headers.get("Age", "")
    return float(said) if said.isascii() and said.isdigit() and len(said) < 10 else 0.0


def is_public(reply: Reply, answer: Json) -> bool:
    """Tell whether the server says that everybody may have this answer (MCP 2026-07-28, caching).

    May is not can: who accepts another language gets another answer, if `Vary` says so.
    """
    result = answer.get("result")
    public = isinstance(result, dict) and result.get("cacheScope") == "public"
    return public and _NO_MATTER.issuperset(_varies_by(reply))


def is_complete(call: Call, answer: Json) -> bool:
    """Tell whether an answer ends its call; one that asks back is meant for its caller alone."""
    if call.message.dialect is Dialect.REST:
        return answer.get("success") is True
    return bool(answer["result"].get("resultType", "complete") == "complete")


def hinted(ttl_ms: Any) -> float:
    """Return a `ttlMs` in seconds; what is not a whole number of at least 0 counts as 0."""
    if type(ttl_ms) is not int or ttl_ms < 0:
        return 0.0
    return min(ttl_ms, LONGEST * 1000) / 1000
