"""What spans are called and what they say: protocol section 9, and what is never told."""

import json
from typing import Any

import pytest

from mcp_proxy.core.addresses import address
from mcp_proxy.core.call import Call, Peer, Reply
from mcp_proxy.core.message import NOTHING, Message
from mcp_proxy.core.spans import Attributes, name_of, of_call, of_end, of_server, of_try
from mcp_proxy.core.verdict import Verdict
from tests.fakes import Feed, call, reply, rest_tool, rpc, streamed, tool

WIRE: Attributes = {"network.transport": "tcp", "network.protocol.name": "http"}


def asked(message: Message = NOTHING, method: str = "POST", **headers: str) -> Call:
    spelled = {name.replace("_", "-"): value for name, value in headers.items()}
    return call(message=message, headers=spelled)._replace(method=method)


@pytest.mark.parametrize(
    ("message", "method", "name"),
    [
        (tool("look"), "POST", "tools/call look"),
        (rpc("tools/list"), "POST", "tools/list"),
        (rpc("prompts/get", name="greet"), "POST", "prompts/get greet"),
        (rpc("prompts/get", name=["odd"]), "POST", "prompts/get"),
        (rpc("prompts/get", name="x" * 300), "POST", "prompts/get"),
        (rpc("resources/read", uri="file:///secret?token=1"), "POST", "resources/read"),
        (rest_tool("look"), "POST", "execute_tool look"),
        (NOTHING, "GET", "GET"),
        (NOTHING, "BREW", "HTTP"),
    ],
)
def test_a_span_is_called_what_is_asked_for(message: Message, method: str, name: str) -> None:
    assert name_of(asked(message, method)) == name


def test_a_tool_call_says_its_tool_and_nothing_of_its_arguments() -> None:
    said = of_call(asked(tool("look", arguments={"password": "s3cret"}), Authorization="s3cret"))
    assert said == {
        **WIRE,
        "mcp.method.name": "tools/call",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look",
        "jsonrpc.request.id": "1",
    }


def test_a_rest_tool_call_says_its_service() -> None:
    said = of_call(asked(rest_tool("look", secret="s3cret")))
    assert said == {
        **WIRE,
        "http.request.method": "POST",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look",
        "mcpp.service": "jira",
    }


def test_a_prompt_is_named() -> None:
    assert of_call(asked(rpc("prompts/get", name="greet")))["gen_ai.prompt.name"] == "greet"


@pytest.mark.parametrize(("method", "name"), [("GET", "GET"), ("BREW", "_OTHER")])
def test_anything_else_says_its_method(method: str, name: str) -> None:
    """HTTP conventions: nobody's inventions become values."""
    assert of_call(asked(method=method)) == {**WIRE, "http.request.method": name}


@pytest.mark.parametrize(
    ("version", "told"), [("2025-11-25", True), ("2025-11-25; s3cret", False), ("", False)]
)
def test_a_protocol_version_is_a_date(version: str, *, told: bool) -> None:
    said = of_call(asked(rpc(), MCP_Protocol_Version=version))
    assert said.get("mcp.protocol.version") == (version if told else None)


@pytest.mark.parametrize(
    ("request_id", "told"),
    [(7, "7"), ("a-7", "a-7"), (None, None), ("x" * 200, None), ("a\nb", None)],
)
def test_a_request_id_is_told_if_it_is_harmless(request_id: Any, told: str | None) -> None:
    assert of_call(asked(rpc(request_id=request_id))).get("jsonrpc.request.id") == told


def test_a_client_is_told_by_its_address() -> None:
    said = of_call(asked(rpc())._replace(peer=Peer("192.0.2.1")))
    assert said["client.address"] == "192.0.2.1"


def test_a_session_is_told_only_where_that_is_allowed() -> None:
    """Whoever knows its id can speak in it; and the stateless era has none (protocol section 9)."""
    message = asked(rpc(), Mcp_Session_Id="abc")
    assert "mcp.session.id" not in of_call(message)
    assert of_call(message, session_ids=True)["mcp.session.id"] == "abc"
    stateless = message._replace(message=rpc()._replace(stateless=True))
    assert "mcp.session.id" not in of_call(stateless, session_ids=True)
    assert "mcp.session.id" not in of_call(asked(rpc()), session_ids=True)


def test_a_try_says_its_number_its_server_and_its_circuit() -> None:
    server: Attributes = {"server.address": "localhost", "server.port": 9000}
    trial = asked(tool("look"))._replace(attempt=3)
    said = of_try(trial, server, "half_open")
    assert said["mcpp.retry.attempt"] == 3
    assert said["mcpp.breaker.state"] == "half_open"
    assert said["server.port"] == 9000
    assert said["gen_ai.tool.name"] == "look"
    assert "mcpp.breaker.state" not in of_try(trial, server, "")


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://localhost:9000", "localhost", 9000),
        ("http://user:s3cret@example.com/prefix", "example.com", 80),
        ("https://example.com", "example.com", 443),
        ("http://[::1]:9000/x", "::1", 9000),
        ("http://[::1]", "::1", 80),
    ],
)
def test_a_server_is_a_host_and_a_port(url: str, host: str, port: int) -> None:
    """Not its URL: that may hold credentials."""
    assert of_server(address(url, "/mcp")) == {"server.address": host, "server.port": port}


# --- how it ended


def rpc_error(code: Any) -> bytes:
    error = {"code": code, "message": "s3cret"}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "error": error}).encode()


IS_ERROR = b'{"jsonrpc":"2.0","id":1,"result":{"isError":true,"content":[]}}'
EVENT = b"event: message\ndata: " + rpc_error(-32602) + b"\n\n"


@pytest.mark.parametrize(
    ("message", "answer", "failure"),
    [
        (tool(), reply(), None),
        (tool(), reply(verdict=Verdict.LEFT), None),
        (tool(), reply(body=IS_ERROR, verdict=Verdict.TOOL_FAILED), "tool_error"),
        (tool(), reply(body=rpc_error(-32602), verdict=Verdict.TOOL_FAILED), "-32602"),
        (
            tool(),
            reply(body=EVENT, verdict=Verdict.TOOL_FAILED, Content_Type="text/event-stream"),
            "-32602",
        ),
        (tool(), reply(body=rpc_error("s3cret"), verdict=Verdict.TOOL_FAILED), "tool_error"),
        (tool(), reply(body=rpc_error(True), verdict=Verdict.TOOL_FAILED), "tool_error"),
        (tool(), reply(body=b" " * 70_000, verdict=Verdict.TOOL_FAILED), "tool_error"),
        (rpc(), reply(body=b"[]", verdict=Verdict.TOOL_FAILED), "tool_failed"),
        (rest_tool(), reply(body=rpc_error(5), verdict=Verdict.TOOL_FAILED), "tool_error"),
        (tool(), reply(502, verdict=Verdict.UPSTREAM_FAILED), "502"),
        (tool(), reply(429, verdict=Verdict.BUSY), "429"),
        (tool(), reply(404, verdict=Verdict.CLIENT_FAULT), "404"),
        (tool(), reply(verdict=Verdict.UPSTREAM_FAILED), "upstream_failed"),
        (tool(), reply()._replace(error_code="rate_limited"), "rate_limited"),
    ],
)
def test_a_failure_has_a_type(message: Message, answer: Reply, failure: str | None) -> None:
    """Protocol section 9: the code as text, `tool_error` for isError."""
    said = of_end(asked(message), answer, answer.verdict)
    assert said.get("error.type") == failure
    assert said["mcpp.verdict"] == answer.verdict.value
    assert said["http.response.status_code"] == answer.status
    assert ("rpc.response.status_code" in said) == (failure == "-32602")
    assert "s3cret" not in str(said)


def test_the_answer_in_a_stream_is_not_read_again() -> None:
    said = of_end(asked(tool()), streamed(Feed()), Verdict.TOOL_FAILED)
    assert said["error.type"] == "tool_error"


def test_an_open_circuit_is_told() -> None:
    said = of_end(asked(tool()), reply()._replace(error_code="circuit_open"), Verdict.OK)
    assert said["mcpp.breaker.state"] == "open"
