"""Enough of MCP over Streamable HTTP, in both eras; the era is what the version header says."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from tests.edge.wire import Said
from tests.kit.ledger import Ledger
from tests.kit.messages import (
    BAD,
    BAD_JSON,
    GONE,
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    NOT_ALLOWED,
    OK,
    UNKNOWN_METHOD,
    UNSUPPORTED_VERSION,
    Request,
    content,
    event,
    first,
    identity,
    mirrored_badly,
    progress,
    refusal,
    request_in,
    rpc_error,
)
from tests.kit.rest_front import caller_of, execute, said
from tests.kit.sent import HANDSHAKE, STATELESS
from tests.kit.sessions import Session, Sessions
from tests.kit.tools import Tools
from tests.kit.turn import EVENT_STREAM, Asked, Reply

MCP = "/mcp"
ACCEPTED = Reply((), "202 Accepted")
ENDED = Reply(())
Results = dict[str, Callable[[], dict[str, Any]]]


class McpFront:
    """Answer what comes to /mcp."""

    def __init__(self, tools: Tools, ledger: Ledger, sessions: Sessions) -> None:
        self._tools = tools
        self._ledger = ledger
        self._sessions = sessions
        self.streams: set[str] = set()  # names that are answered in an event stream; * is all
        self.event_ids = False  # give the events of such a stream ids, and a priming one first

    def read(self, asked: Said) -> Asked:
        """Return what is asked for."""
        if asked.method != "POST":
            return self._without_message(asked)
        try:
            message = json.loads(asked.body)
        except (ValueError, RecursionError):
            return refusal(BAD, BAD_JSON, "no JSON")
        if not isinstance(message, dict):
            return refusal(BAD, INVALID_REQUEST, "no batches")
        if "method" not in message:  # a client answers us, who never ask
            return Asked("response", lambda: ACCEPTED, lambda *_: ACCEPTED)
        request = request_in(asked, message)
        if mirrored_badly(asked, request):
            return refusal(BAD, HEADER_MISMATCH, "headers and body differ", request.name)
        return self._request(request)

    def _request(self, request: Request) -> Asked:
        def act() -> Reply:
            return self._stateless(request) if request.stateless else self._handshake(request)

        def fail(error: str, code: int | None) -> Reply:
            if code is not None:
                return self._error(request, code, error)
            return self._said(request, result=content(request, error, failed=True))

        def step(number: int) -> bytes:
            return progress(request, number)

        return Asked(request.name, act, fail, step, is_tool=request.is_tool)

    def _said(self, request: Request, status: str = OK, **outcome: Any) -> Reply:
        """Return an answer, as JSON or as an event stream."""
        message = {"jsonrpc": "2.0", "id": request.id, **outcome}
        if status != OK or not self.streams & {request.name, "*"}:
            return said(message, status)
        if not self.event_ids:
            return Reply((event(message),), kind=EVENT_STREAM)
        return Reply((b"id: 0\ndata: \n\n", b"id: 1\n" + event(message)), kind=EVENT_STREAM)

    def _error(self, request: Request, code: int, text: str, status: str = OK) -> Reply:
        return self._said(request, status, error={"code": code, "message": text})

    def _stateless(self, request: Request) -> Reply:
        if request.version != STATELESS:
            return self._error(request, UNSUPPORTED_VERSION, "unsupported version", BAD)
        if request.id is None:
            return ACCEPTED
        hints = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        results: Results = {
            "server/discover": lambda: {**hints, **identity({"supportedVersions": [STATELESS]})},
            "tools/list": lambda: {**hints, **self._listed()},
            "tools/call": lambda: self._called(request),
        }
        if request.method not in results:
            return self._error(request, UNKNOWN_METHOD, "unknown method", GONE)
        return self._said(request, result=results[request.method]())

    def _handshake(self, request: Request) -> Reply:
        if request.method == "initialize":
            return self._begin(request)
        session = self._session(request.session_id, request.caller)
        if isinstance(session, Reply):
            return session
        if request.id is None:
            session.initialized |= request.method == "notifications/initialized"
            return ACCEPTED
        if not session.initialized and request.method != "ping":
            return self._error(request, INVALID_PARAMS, "not initialized")
        results: Results = {
            "ping": dict,
            "tools/list": self._listed,
            "tools/call": lambda: self._called(request),
            "logging/setLevel": lambda: session.told(level=request.params.get("level")),
            "resources/subscribe": lambda: session.told(wants=request.params.get("uri")),
            "resources/unsubscribe": lambda: session.told(leaves=request.params.get("uri")),
        }
        if request.method not in results:
            return self._error(request, UNKNOWN_METHOD, "unknown method")
        return self._said(request, result=results[request.method]())

    def _begin(self, request: Request) -> Reply:
        version = str(request.params.get("protocolVersion", HANDSHAKE))
        session = self._sessions.begin(request.caller, version)
        reply = self._said(request, result=identity({"protocolVersion": version}))
        return Reply(reply.pieces, OK, (f"Mcp-Session-Id: {session.id}",), reply.kind)

    def _session(self, session_id: str | None, caller: str) -> Session | Reply:
        """Return the session, or why there is none for this caller."""
        if session_id is None:
            return rpc_error(BAD, INVALID_REQUEST, "no session id")
        found = self._sessions.find(session_id, caller)
        return found or rpc_error(GONE, INVALID_REQUEST, "session not found")

    def _without_message(self, asked: Said) -> Asked:
        """Return what a GET (the session's own stream) or a DELETE (its end) asks for."""
        version = first(asked, "MCP-Protocol-Version") or ""
        if version >= STATELESS or asked.method not in {"GET", "DELETE"}:
            return refusal(NOT_ALLOWED, INVALID_REQUEST, "POST only", f"{asked.method} {MCP}")

        def act() -> Reply:
            session = self._session(first(asked, "Mcp-Session-Id"), caller_of(asked))
            if isinstance(session, Reply):
                return session
            if asked.method == "GET":
                return listen(session)
            self._sessions.end(session)
            return ENDED

        return Asked(f"{asked.method} {MCP}", act, lambda *_: ENDED)

    def _listed(self) -> dict[str, Any]:
        return {"tools": [tool.mcp() for tool in self._tools.values()]}

    def _called(self, request: Request) -> dict[str, Any]:
        if request.name not in self._tools:
            return content(request, f"Unknown tool: {request.name}", failed=True)
        nonce = str((request.params.get("arguments") or {}).get("nonce", ""))
        return content(request, execute(self._ledger, request.name, nonce, request.caller))


def listen(session: Session) -> Reply:
    """Return the session's own stream: one at a time, and a new one takes the place of the old."""
    if session.outbox is not None:
        session.outbox.put_nowait(None)
    session.outbox = asyncio.Queue()
    return Reply((b": open\n\n",), kind=EVENT_STREAM, outbox=session.outbox)
