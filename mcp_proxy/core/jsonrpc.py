"""The MCP dialect: read a JSON-RPC request, judge its answer, shape an error.

Sources: JSON-RPC 2.0; MCP 2025-11-25 and 2026-07-28, basic/transports. What is read here is for
deciding only: the original bytes travel on.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

import orjson

from mcp_proxy.core.call import Headers
from mcp_proxy.core.message import Dialect, Message, is_name
from mcp_proxy.core.reading import Json, Vocabulary, read_answer, read_object
from mcp_proxy.core.verdict import Verdict

_ENVELOPE = Vocabulary("jsonrpc", "id", "method", "params")
_RESPONSES = ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"})
_PARAMS = Vocabulary(
    "name", "arguments", "_meta", "uri", "cursor", "inputResponses", "requestState", "task"
)
# The first revision without handshake. Revisions are dates, so they compare as text.
STATELESS_SINCE = "2026-07-28"
# Which field of the params `Mcp-Name` mirrors (MCP 2026-07-28, transports, request headers).
_NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_ENCODED = re.compile(r"=\?base64\?([A-Za-z0-9+/=]*)\?=")
_VERSION_META = "io.modelcontextprotocol/protocolVersion"
_CHANGES = frozenset(
    {"notifications/resources/updated", "notifications/tasks/status", "notifications/tasks"}
)
_SHOW_TASKS = frozenset({"tasks/get", "tasks/result", "tasks/cancel"})
_UNDER_WAY = ("working", "input_required")

_ID = rb"""\s*"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?[0-9]+)\s*"""
_VERSION = rb"""\s*"jsonrpc"\s*:\s*"2\.0"\s*"""
_ID_AT_HEAD = re.compile(rb"\s*\{(?:%b,)?%b[,}]" % (_VERSION, _ID))
_ID_AT_TAIL = re.compile(rb",%b(?:,%b)?\}\s*\Z" % (_ID, _VERSION))
_TAIL = 512  # bytes in which an id at the end is looked for


def read_request(data: bytes, headers: Headers) -> Message | None:
    """Return the message in `data`, or None when it is opaque: bad, odd, a batch, a response."""
    envelope = read_object(data)
    if envelope is None or not _ENVELOPE.covers(envelope):
        return None
    method, request_id, params = _parts(envelope)
    if method is None or params is None or _PARAMS.is_mimicked(params):
        return None
    version = headers.get("MCP-Protocol-Version", "")
    stateless = version >= STATELESS_SINCE
    if len(headers.getall("MCP-Protocol-Version", ())) > 1:
        return None
    if stateless and not _mirrors(headers, method, params, version):
        return None
    name = params.get("name") if method == "tools/call" else ""
    tool = name if isinstance(name, str) else ""
    if not is_name(tool) or not is_name(method):
        return None
    return Message(Dialect.RPC, method, request_id, params, tool=tool, stateless=stateless)


def is_posted_response(data: bytes) -> bool:
    """Tell whether a client answers a request of the server (sampling, elicitation, roots)."""
    envelope = read_object(data)
    return (
        envelope is not None
        and envelope.keys() in _RESPONSES
        and envelope["jsonrpc"] == "2.0"
        and type(envelope["id"]) in (str, int)
    )


def _parts(envelope: Json) -> tuple[str | None, str | int | None, Json | None]:
    """Return method, id and params; method or params are None when the envelope is not valid."""
    method, request_id = envelope.get("method"), envelope.get("id")
    params = envelope.get("params", {})
    valid = (
        envelope.get("jsonrpc") == "2.0"
        and isinstance(method, str)
        and isinstance(params, dict)
        # MCP narrows JSON-RPC's id to string and integer; null is no id at all
        and ("id" not in envelope or type(request_id) in (str, int))
    )
    return (method, request_id, params) if valid else (None, None, None)


def _mirrors(headers: Headers, method: str, params: Json, version: str) -> bool:
    """Tell whether the routing headers say what the body says; the server refuses if not."""
    meta = params.get("_meta")
    said = {
        "Mcp-Method": method,
        "Mcp-Name": params.get(_NAMED_BY.get(method, "")),
        "MCP-Protocol-Version": (
            meta.get(_VERSION_META, version) if isinstance(meta, dict) else version
        ),
    }
    for name, value in said.items():
        stated = headers.getall(name, ())
        if len(stated) > 1 or (stated and decoded(stated[0]) != value):
            return False
    return True


def decoded(value: str) -> str:
    """Undo the `=?base64?…?=` form of a routing header (MCP 2026-07-28)."""
    match = _ENCODED.fullmatch(value)
    if match is None:
        return value
    try:
        return base64.b64decode(match[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return value


def judge_message(message: Any, request: Message) -> Verdict:
    """Judge the JSON-RPC message that should answer `request`."""
    if not isinstance(message, dict) or not same_id(message.get("id"), request.id):
        return Verdict.UPSTREAM_FAILED
    if "error" in message:
        return Verdict.TOOL_FAILED
    result = message.get("result")
    if not isinstance(result, dict):
        return Verdict.UPSTREAM_FAILED
    return Verdict.TOOL_FAILED if result.get("isError") is True else Verdict.OK


def same_id(answered: Any, asked: str | int | None) -> bool:
    """Compare ids as JSON tokens: 1, "1", 1.0 and true are four different ids."""
    return type(answered) is type(asked) and answered == asked


def is_stranger(message: Any, request: Message) -> bool:
    """Tell whether a message answers somebody else's request; `null` names nobody."""
    return (
        isinstance(message, dict)
        and is_response(message)
        and message.get("id") is not None
        and not same_id(message["id"], request.id)
    )


def id_span(data: bytes) -> tuple[int, int] | None:
    """Return where the id of a JSON-RPC response stands, or None when it is not where servers put it.

    `data` must be an object without doubled keys. An id at the head is the first or second
    member; one at the tail stands before the brace that closes the whole, so neither can be part
    of the result.
    """
    match = _ID_AT_HEAD.match(data)
    if match is None:
        match = _ID_AT_TAIL.search(data, max(0, len(data) - _TAIL))
    return None if match is None else match.span(1)


def token(request_id: str | int | None) -> bytes:
    """Return an id as JSON spells it, its type kept."""
    return orjson.dumps(request_id)


def mark(request_id: object) -> int:
    """Return what an id is remembered by: of a fixed size, however long it is."""
    return hash(str(request_id))


def is_response(message: Mapping[str, Any]) -> bool:
    """Tell whether a message answers a request."""
    return "result" in message or "error" in message


def wants_client(message: Any) -> bool:
    """Tell whether a message on a stream is a request of the server to the client."""
    return isinstance(message, dict) and "method" in message and "id" in message


def changes_answers(message: Any) -> bool:
    """Tell whether a notification says that stored answers are out of date."""
    if not isinstance(message, dict):
        return False
    method = message.get("method")
    return isinstance(method, str) and (
        (method.startswith("notifications/") and method.endswith("/list_changed"))
        or method in _CHANGES
    )


def begins_task(request: Message) -> bool:
    """Tell whether a call is answered when its work begins (MCP 2025-11-25, tasks)."""
    return request.dialect is Dialect.RPC and "task" in request.params


def may_show_end(request: Message) -> bool:
    """Tell whether the answer may show that a task, and so a write, is over (MCP 2025-11-25, tasks)."""
    return request.method in _SHOW_TASKS


def goes_on(data: bytes) -> bool:
    """Tell whether an answer to one of those shows a task that is still under way."""
    result = (read_answer(data) or {}).get("result")
    return isinstance(result, dict) and result.get("status") in _UNDER_WAY


def error_response(request_id: str | int | None, code: int, text: str, details: Json) -> bytes:
    """Return a JSON-RPC error; `code` is positive, as the specification keeps the negative ones."""
    error = {"code": code, "message": text, "data": details}
    return orjson.dumps({"jsonrpc": "2.0", "id": request_id, "error": error})


def error_result(request: Message, text: str, details: Json) -> bytes:
    """Return a tool result that a model can read and act on, details for machines in `_meta`."""
    result: dict[str, Any] = {
        "content": [{"type": "text", "text": text}],
        "isError": True,
        "_meta": {"mcp_proxy/error": details},
    }
    if request.stateless:
        result["resultType"] = "complete"
    return orjson.dumps({"jsonrpc": "2.0", "id": request.id, "result": result})


def annotations_of(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the annotations by tool name in a `tools/list` result; odd entries are left out."""
    tools = result.get("tools")
    found: dict[str, Mapping[str, Any]] = {}
    for tool in tools if isinstance(tools, list) else ():
        name = tool.get("name") if isinstance(tool, dict) else None
        if isinstance(name, str):
            said = tool.get("annotations")
            found[name] = said if isinstance(said, dict) else {}
    return found
