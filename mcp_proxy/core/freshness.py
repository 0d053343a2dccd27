"""Whether an answer may be kept, and for how long."""

from collections.abc import Mapping
from typing import Any

from mcp_proxy.core.call import Call, Reply, Whole
from mcp_proxy.core.headers import cache_control, media_type
from mcp_proxy.core.reading import Json
from mcp_proxy.core.verdict import Verdict

# A server's hint beyond a day is capped: what is wrong for longer is hard to explain (F49).
LONGEST = 86_400.0
_NEVER_SHARED = ("Set-Cookie", "WWW-Authenticate", "Content-Range")


def may_look(call: Call) -> bool:
    """Tell whether the caller wants an answer that we know (RFC 9111 section 5.2.1)."""
    return not cache_control(call.headers) & {"no-cache", "no-store"} and (
        "no-cache" not in call.headers.get("Pragma", "").lower()
    )


def may_store(call: Call, reply: Reply) -> bool:
    """Tell whether the answer is one that may be kept at all, whatever its lifetime."""
    return (
        reply.status == 200
        and reply.verdict is Verdict.OK
        and isinstance(reply.body, Whole)
        and call.intent.keep is not None
        and "no-store" not in cache_control(call.headers)
        and not _forbids(reply)
        and not any(name in reply.headers for name in _NEVER_SHARED)
        and reply.headers.get("Content-Encoding", "identity").lower() == "identity"
    )


def _forbids(reply: Reply) -> bool:
    """Tell whether the server's Cache-Control says no; on an event stream it is boilerplate."""
    if media_type(reply.headers) == "text/event-stream":
        return False
    return bool(cache_control(reply.headers) & {"no-store", "private"})


def lifetime(call: Call, answer: Json) -> float:
    """Return for how many seconds `answer` is fresh; 0 when it may not be kept.

    `answer` is the whole JSON object: a JSON-RPC response or a REST answer.
    """
    keep = call.intent.keep
    if keep is None:
        return 0.0
    result: Mapping[str, Any] = answer
    if call.message.method:
        result = answer.get("result", {})
        if result.get("resultType", "complete") != "complete":
            return 0.0
    elif answer.get("success") is not True:
        return 0.0
    seconds = keep.seconds
    if keep.obeys_hint and "ttlMs" in result:
        seconds = hinted(result["ttlMs"])
    return min(seconds, LONGEST)


def hinted(ttl_ms: Any) -> float:
    """Return a `ttlMs` in seconds; what is not a whole number of at least 0 counts as 0."""
    if type(ttl_ms) is not int or ttl_ms < 0:
        return 0.0
    return min(ttl_ms, LONGEST * 1000) / 1000
