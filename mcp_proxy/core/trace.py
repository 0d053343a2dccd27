"""Whose trace a call belongs to: what W3C Trace Context and MCP's `_meta` say of it.

Sources: W3C Trace Context (traceparent, tracestate), W3C Baggage, MCP SEP-414 (the same three
names in `params._meta`). What cannot be read is no error: the call begins a trace, or has none.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from multidict import MultiMapping

from mcp_proxy.core.message import Dialect, Message

PARENT, STATE, BAGGAGE = "traceparent", "tracestate", "baggage"
# Version 00 knows two flags, the second since level 2; others are sent as zero (section 3.2.2.5).
SAMPLED, RANDOM = 1, 2
_FLAGS = SAMPLED | RANDOM
# A version that is not known yet may add fields behind a dash (section 3.2.2, versioning).
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
# W3C Baggage section 3.3.2: that much is carried on. A text of `_meta` becomes a header, so it must be one.
_CARRIED = re.compile(r"[\x20-\x7e]{1,8192}")


class Trace(NamedTuple):
    """A place in a trace: the span that whoever comes next is a child of."""

    trace_id: str  # 32 hexadecimal digits
    span_id: str  # 16 of them
    flags: int = 0
    state: str = ""  # what other vendors noted, passed on as it is
    baggage: str = ""  # where only `_meta` carries it
    told: bool = False  # the server hears of it from us: it is not what the client's headers say
    other: "Trace | None" = None  # the client's headers name another trace than its message

    @property
    def sampled(self) -> bool:
        """Tell whether whoever named it records it."""
        return bool(self.flags & SAMPLED)

    @property
    def parent(self) -> str:
        """Return the `traceparent`, in the version that we know."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags & _FLAGS:02x}"

    def headers(self) -> dict[str, str]:
        """Return what takes the place of the client's own trace headers."""
        if not self.told:
            return {}
        said = {PARENT: self.parent}
        if self.state:
            said[STATE] = self.state
        if self.baggage:
            said[BAGGAGE] = self.baggage
        return said

    def lines(self) -> str:
        """Return the same as header lines."""
        if not self.told:
            return ""
        if not self.state and not self.baggage:  # most calls
            return f"{PARENT}: {self.parent}\r\n"
        return "".join(f"{name}: {value}\r\n" for name, value in self.headers().items())


def trace_of(message: Message, headers: MultiMapping[str]) -> Trace | None:
    """Return the trace that a call names: its message first, else its headers (SEP-414)."""
    meta = message.params.get("_meta") if message.dialect is Dialect.RPC else None
    in_message = _in_meta(meta, headers) if isinstance(meta, dict) else None
    in_headers = _in_headers(headers)
    if in_message is None or in_headers is None:
        return in_message or in_headers
    if in_message[:2] == in_headers[:2]:
        return in_headers._replace(flags=in_message.flags)
    return in_message._replace(other=in_headers)


def own(trace_id: str, span_id: str, flags: int, parent: Trace | None) -> Trace:
    """Return the place of a span of ours below `parent`."""
    # by place: with names it takes twice the time, and every call begins one
    if parent is None:
        return Trace(trace_id, span_id, flags, "", "", True)
    return Trace(trace_id, span_id, flags, parent.state, parent.baggage, True)


def read_parent(text: object) -> Trace | None:
    """Return what a `traceparent` says, or None where it is not valid (section 3.2.2)."""
    match = _PARENT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    odd = version == "ff" or (version == "00" and more is not None)
    if odd or not (trace_id.strip("0") and span_id.strip("0")):
        return None
    return Trace(trace_id, span_id, int(flags, 16) & _FLAGS)


def _in_meta(meta: Mapping[str, Any], headers: MultiMapping[str]) -> Trace | None:
    found = read_parent(meta.get(PARENT))
    if found is None:
        return None
    return found._replace(
        state=_carried(meta.get(STATE)),
        baggage="" if BAGGAGE in headers else _carried(meta.get(BAGGAGE)),
        told=PARENT not in headers,
    )


def _in_headers(headers: MultiMapping[str]) -> Trace | None:
    lines = headers.getall(PARENT, ())
    found = read_parent(lines[0]) if len(lines) == 1 else None
    if found is None:
        return None
    return found._replace(state=_carried(",".join(headers.getall(STATE, ()))))


def _carried(text: object) -> str:
    """Return a text that may stand in a head, else none."""
    return text if isinstance(text, str) and _CARRIED.fullmatch(text) else ""
