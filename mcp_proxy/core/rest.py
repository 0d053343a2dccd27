"""The dialect of the basic web server: read a REST tool call, judge it, shape an error, enrich it.

Its failures arrive as HTTP 200 with `success: false` (DESIGN section 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from mcp_proxy.core.message import Dialect, Message, is_name
from mcp_proxy.core.reading import Json, Vocabulary, is_too_deep, read_loosely, read_object
from mcp_proxy.core.verdict import Verdict

_FIELDS = Vocabulary("service", "tool_name", "params")


def read_tool_call(data: bytes) -> Message | None:
    """Return the tool call in `data`, or None when it is opaque."""
    body = read_object(data)
    if body is None or _FIELDS.is_mimicked(body):
        return None
    service, tool = body.get("service"), body.get("tool_name")
    if not is_name(service) or not is_name(tool) or not tool:
        return None
    if not isinstance(body.get("params", {}), dict):
        return None
    return Message(Dialect.REST, params=body, service=service, tool=tool)


def judge_answer(data: bytes, down_patterns: Sequence[str] = ()) -> Verdict:
    """Judge the body of a 200; one of `down_patterns` in its error text means the service is down.

    The patterns are the operator's (`[failures]`), matched as plain text.
    """
    try:
        answer = read_loosely(data)
    except ValueError:
        return Verdict.OK if is_too_deep(data) else Verdict.UPSTREAM_FAILED
    if not isinstance(answer, dict):
        return Verdict.UPSTREAM_FAILED
    if answer.get("success") is not False:
        return Verdict.OK
    text = answer.get("error")
    if isinstance(text, str) and any(pattern in text for pattern in down_patterns):
        return Verdict.UPSTREAM_FAILED
    return Verdict.TOOL_FAILED


def error_body(text: str, timestamp: str, details: Json) -> bytes:
    """Return an error in the basic server's own shape, with the failure object beside it."""
    return orjson.dumps(
        {
            "success": False,
            "data": None,
            "error": text,
            "timestamp": timestamp,
            "error_details": details,
        }
    )


@dataclass(frozen=True, slots=True)
class Gap:
    """Where in a JSON object fields can be spliced in, and which names it has already."""

    at: int  # the closing brace
    names: frozenset[str]


def gap_in(data: bytes) -> Gap | None:
    """Return where fields can be spliced into `data`, or None when it is no JSON object (F14)."""
    try:
        answer = orjson.loads(data)
    except ValueError:
        return None
    return Gap(data.rindex(b"}"), frozenset(answer)) if isinstance(answer, dict) else None


def enriched(data: bytes, gap: Gap, **fields: object) -> bytes:
    """Splice fields, spelled as JSON, in before the closing brace; other bytes stay as they are.

    A field that the server already sends is left alone.
    """
    names = gap.names
    added = ",".join([f'"{name}":{value}' for name, value in fields.items() if name not in names])
    if not added:
        return data
    comma = b"," if names else b""
    return b"%b%b%b%b" % (data[: gap.at], comma, added.encode(), data[gap.at :])
