"""Event streams of the server: listened to as they pass, read whole when they hold one answer."""

from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import urljoin

import aiohttp

from mcp_proxy.core import jsonrpc, sse
from mcp_proxy.core.addresses import Address
from mcp_proxy.core.call import Call, Delivery, Pieces, Stream
from mcp_proxy.core.clock import Clock
from mcp_proxy.core.errors import UpstreamBrokenError
from mcp_proxy.core.intent import Stack
from mcp_proxy.core.reading import is_too_deep, read_answer, read_loosely
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.edge.failures import FAILURES, failed

# A server that has answered a call on a stream closes it (MCP, transports); one that does not is
# left after this, at the price of its connection.
_LINGER = 0.25  # seconds


class _AnsweredError(Exception):
    """After its answer the server gave another, to this call or to somebody else's."""


class Listener(Protocol):
    """Who wants to hear what the server says in passing."""

    async def tools_listed(self, call: Call, result: dict[str, Any]) -> None:
        """Take in the answer to a `tools/list`."""
        ...

    async def answers_changed(self) -> None:
        """Take note that what was kept may be out of date."""
        ...

    async def tools_changed(self) -> None:
        """Take note that the server has other tools now, or says other things of them."""
        ...

    def messages_at(self, path: str, server: Address) -> None:
        """Take note to which path of a server the messages of a legacy stream go."""
        ...


async def only_answer(
    content: aiohttp.StreamReader, call: Call, limit: int, clock: Clock
) -> tuple[list[bytes], bytes | None]:
    """Read until it is clear whether the stream holds the one answer and nothing else.

    Returns the pieces read and, if so, the answer. Until then nothing has gone to the client: a
    try that breaks can be repeated, and an answer that is whole can be kept. With the first sign
    of more (a comment, a notification, a priming event) it is a stream, to be relayed.
    """
    splitter = sse.Splitter(limit)
    begun: list[bytes] = []
    events: list[sse.Event] = []
    try:
        while not events and sum(map(len, begun)) <= limit:
            piece = await content.readany()
            if not piece:
                raise _unanswered()
            begun.append(piece)
            events += splitter.feed(piece)
        _check(events, call)
        message = read_answer(events[0].data) if len(events) == 1 else None
        if message is None or not _answers(message, call):
            return begun, None
        # the answer is whole: what breaks from here on does not unsay it
        with suppress(TimeoutError, *FAILURES):
            async with clock.timeout(_LINGER):
                while piece := await content.readany():
                    begun.append(piece)
                    events += splitter.feed(piece)
    except FAILURES as failure:
        raise failed(failure) from None
    _check(events, call)
    return begun, events[0].data if len(events) == 1 else None


def _check(events: list[sse.Event], call: Call) -> None:
    """Raise what is wrong with answers before any of them has gone out."""
    messages = [message_in(event.data) for event in events]
    if any(jsonrpc.is_stranger(message, call.message) for message in messages):
        raise stranger()
    if sum(message is not None and _answers(message, call) for message in messages) > 1:
        raise UpstreamBrokenError(
            "The server answered the same request twice.", delivered=Delivery.UNKNOWN
        )


def _unanswered() -> UpstreamBrokenError:
    return UpstreamBrokenError(
        "The server closed the stream without an answer.", delivered=Delivery.UNKNOWN
    )


class Ear:
    """Listen to an event stream while its bytes pass unchanged."""

    __slots__ = ("_address", "_call", "_endpoint_due", "_limit", "_listener", "_splitter")

    def __init__(self, call: Call, listener: Listener, address: Address, limit: int) -> None:
        self._call = call
        self._listener = listener
        self._address = address
        self._limit = limit
        self._splitter = sse.Splitter(limit)
        self._endpoint_due = call.method == "GET" and call.intent.stack is Stack.SHORT

    async def relay(self, stream: Stream, pieces: Pieces) -> Pieces:
        """Yield the pieces; what they say takes effect before they go out."""
        heard: list[bytes] = []  # and not yielded yet
        try:
            async for piece in pieces:
                for part in sse.parts(piece):
                    await self._take_in(stream, part, heard)
                whole = b"".join(heard)
                if self._awaits_endpoint(whole):
                    heard = [whole]
                else:
                    yield whole
                    heard = []
        except _AnsweredError:
            pass  # the caller has its answer: what is no part of it ends the stream
        finally:
            await pieces.aclose()
        if heard:
            yield b"".join(heard)
        if self._call.message.id is not None and stream.verdict is None:
            # A clean end without an answer is polling if there are event ids, else a lost call.
            raise _unanswered()

    async def _take_in(self, stream: Stream, part: bytes, heard: list[bytes]) -> None:
        """Let what is said take effect, and add it to what goes out."""
        for event in self._splitter.feed(part):
            if self._endpoint_due:  # it may have begun in an earlier piece
                part = self._with_own_endpoint(event, b"".join([*heard, part]))
                heard.clear()
            await self._hear(stream, event)
        heard.append(part)

    async def _hear(self, stream: Stream, event: sse.Event) -> None:
        if event.id:
            stream.event_id = event.id
        # loosely: a client may well read what is too odd for us to decide on
        message = message_in(event.data)
        if message is not None:
            await self._heed(stream, event, message)
        elif self._call.message.id is not None and (event.lost or is_too_deep(event.data)):
            stream.verdict = stream.verdict or Verdict.OK  # most likely the answer

    async def _heed(self, stream: Stream, event: sse.Event, message: dict[str, Any]) -> None:
        if "method" not in message or jsonrpc.wants_client(message):
            # a notification in between (progress, a log line) does not end the waiting
            stream.asking = jsonrpc.wants_client(message)
            stream.question = jsonrpc.mark(message["id"]) if stream.asking else None
        if _answers(message, self._call):
            await self._take_answer(stream, message, event.data)
        elif self._call.message.id is not None and jsonrpc.is_stranger(message, self._call.message):
            raise stranger() if stream.verdict is None else _AnsweredError
        elif message.get("method") == "notifications/tools/list_changed":
            await self._listener.tools_changed()
        elif jsonrpc.changes_answers(message) or self._answers_elsewhere(message):
            await self._listener.answers_changed()

    def _answers_elsewhere(self, message: dict[str, Any]) -> bool:
        """Tell whether this answers a call that went out by another request.

        On a GET stream (legacy HTTP+SSE, or a resumed one) that may be a write that is done now.
        """
        return self._call.message.id is None and jsonrpc.is_response(message)

    async def _take_answer(self, stream: Stream, message: dict[str, Any], data: bytes) -> None:
        if stream.verdict is not None:
            raise _AnsweredError
        asked = self._call.message
        stream.verdict = jsonrpc.judge_message(message, asked)
        if asked.method == "tools/list" and stream.verdict is Verdict.OK:
            listed = read_answer(data)
            if listed is not None:
                await self._listener.tools_listed(self._call, listed["result"])

    def _awaits_endpoint(self, heard: bytes) -> bool:
        """Tell whether to hold back what may be the half of an endpoint event."""
        return self._endpoint_due and self._splitter.mid_event and len(heard) <= self._limit

    def _with_own_endpoint(self, event: sse.Event, shown: bytes) -> bytes:
        """Point the `endpoint` event of a legacy stream at us (MCP 2024-11-05).

        Its clients demand the origin that they dialled. It is the first event; only comments and
        the like may stand before it.
        """
        if not self._endpoint_due or not event.data:
            return shown
        self._endpoint_due = False
        if event.name != b"endpoint":
            return shown
        told = event.data.decode("utf-8", "replace")
        path = self._address.reversed(told)
        self._listener.messages_at(urljoin(self._call.target, path or told), self._address)
        return shown if path is None else shown.replace(event.data, path.encode(), 1)


def stranger() -> UpstreamBrokenError:
    """Return the error for an answer to somebody else, which nobody else is to see (F15)."""
    return UpstreamBrokenError(
        "The server answered with the id of another request.", delivered=Delivery.UNKNOWN
    )


def message_in(data: bytes) -> dict[str, Any] | None:
    """Return the JSON object in an event's data, as any client could read it."""
    if not data:
        return None
    try:
        message = read_loosely(data)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _answers(message: dict[str, Any], call: Call) -> bool:
    asked = call.message.id
    return (
        asked is not None
        and jsonrpc.is_response(message)
        and jsonrpc.same_id(message.get("id"), asked)
    )
