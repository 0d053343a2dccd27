"""What spans are called and what they say: OpenTelemetry's names for MCP, in one place.

Source: open-telemetry/semantic-conventions-genai, MCP (in development, so the names may change);
`mcpp.*` are ours. Told are names, states and numbers. Never told: arguments, results, headers, URLs
(a query or a resource's URI may hold a secret), or the texts of errors.
"""

import re

from mcp_proxy.core.addresses import Address
from mcp_proxy.core.answers import answer_in
from mcp_proxy.core.call import Call, Reply, Whole
from mcp_proxy.core.headers import harmless_request_id
from mcp_proxy.core.message import Dialect, is_name
from mcp_proxy.core.reading import read_answer
from mcp_proxy.core.session import SESSION
from mcp_proxy.core.verdict import Verdict

Attributes = dict[str, str | int]

_REVISION = re.compile(r"\d{4}-\d\d-\d\d")
# What anybody may invent is one name to those who count (HTTP conventions, http.request.method).
_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}
)
_LARGEST = 65_536  # bytes of an answer that is looked through for the code of its error
_WIRE: Attributes = {"network.transport": "tcp", "network.protocol.name": "http"}


def name_of(call: Call) -> str:
    """Return a span's name: what is asked for, and of whom; never a URI."""
    message = call.message
    if message.dialect is Dialect.RPC:
        subject = message.tool or prompt_of(call)
        return f"{message.method} {subject}" if subject else message.method
    if message.tool:
        return f"execute_tool {message.tool}"
    return call.method if call.method in _METHODS else "HTTP"


def prompt_of(call: Call) -> str:
    """Return the name of the prompt that a call wants, if it wants one."""
    name = call.message.params.get("name") if call.message.method == "prompts/get" else ""
    return name if is_name(name) else ""


def of_call(call: Call, *, session_ids: bool = False) -> Attributes:
    """Return what a call says of itself."""
    said = _asked(call)
    message = call.message
    if call.peer.client:
        said["client.address"] = call.peer.client
    if message.dialect is Dialect.RPC:
        revision = call.headers.get("MCP-Protocol-Version", "")
        if _REVISION.fullmatch(revision):
            said["mcp.protocol.version"] = revision
        request_id = harmless_request_id(str(message.id)) if message.id is not None else None
        if request_id:
            said["jsonrpc.request.id"] = request_id
    if session_ids and not message.stateless:
        session = harmless_request_id(call.headers.get(SESSION))
        if session:
            said["mcp.session.id"] = session
    return said


def of_try(call: Call, server: Attributes, breaker: str) -> Attributes:
    """Return what a try says of itself; `breaker` is how its circuits stand."""
    said = {**_asked(call), **server, "mcpp.retry.attempt": call.attempt}
    if breaker:
        said["mcpp.breaker.state"] = breaker
    return said


def of_server(address: Address) -> Attributes:
    """Return what tells one server from another."""
    host, _, port = address.origin.partition("://")[2].rpartition(":")
    return {"server.address": host.strip("[]"), "server.port": int(port)}


def _asked(call: Call) -> Attributes:
    message = call.message
    said = _WIRE.copy()
    if message.dialect is Dialect.RPC:
        said["mcp.method.name"] = message.method
        prompt = prompt_of(call)
        if prompt:
            said["gen_ai.prompt.name"] = prompt
    else:
        said["http.request.method"] = call.method if call.method in _METHODS else "_OTHER"
    if message.tool:
        said["gen_ai.operation.name"] = "execute_tool"
        said["gen_ai.tool.name"] = message.tool
    if message.service:
        said["mcpp.service"] = message.service
    return said


def of_end(call: Call, reply: Reply, verdict: Verdict) -> Attributes:
    """Return what came of a call, or of a try; with `error.type` where that is a failure."""
    said: Attributes = {"http.response.status_code": reply.status, "mcpp.verdict": verdict.value}
    failure = reply.error_code
    if failure:
        if failure == "circuit_open":
            said["mcpp.breaker.state"] = "open"
    elif verdict is Verdict.TOOL_FAILED:
        code = _rpc_error(call, reply)
        if code:
            said["rpc.response.status_code"] = code
        failure = code or ("tool_error" if call.message.tool else verdict.value)
    elif verdict not in {Verdict.OK, Verdict.LEFT}:
        failure = str(reply.status) if reply.status >= 400 else verdict.value
    if failure:
        said["error.type"] = failure
    return said


def _rpc_error(call: Call, reply: Reply) -> str:
    """Return the code of a JSON-RPC error, empty if the answer is something else."""
    body = reply.body
    if call.message.dialect is not Dialect.RPC or not isinstance(body, Whole):
        return ""
    text = answer_in(reply, _LARGEST) if len(body.data) <= _LARGEST else None
    error = (read_answer(text) or {}).get("error") if text else None
    code = error.get("code") if isinstance(error, dict) else None
    return str(code) if type(code) is int else ""
