"""Read requests whose heads are known by their bytes; answer at once where nothing must be waited for.

aiohttp parses each head anew and makes two tasks and five objects for each request, which costs more
than all that a hit does behind it, and a fifth of a call that is not one. So the bytes of a small head
that has passed all checks are remembered, together with what aiohttp's own parser read in them; nothing
is parsed here. When they come again, with a whole body, the call walks the road that it would walk
anyway: in the very step in which it came, if its answer is at hand. Everything else goes the usual way.
"""

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import NamedTuple

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage

from mcp_proxy.core.call import Call, Headers, Peer, RawHeaders, Reply, Whole
from mcp_proxy.core.clock import Clock
from mcp_proxy.core.headers import as_bytes, harmless_request_id, is_small
from mcp_proxy.core.intent import Stack
from mcp_proxy.core.memo import Memo
from mcp_proxy.core.traffic import Traffic
from mcp_proxy.edge.answer import BODILESS, head_of
from mcp_proxy.edge.body import Held
from mcp_proxy.edge.marks import Marks
from mcp_proxy.layers.chain import Forward
from mcp_proxy.layers.eager import Begun

# With what was read in it, a head takes up to 10 KB here.
_REMEMBERED = 512
# Bytes of a body that may still be under way when its head is here; they are held meanwhile.
_LARGEST_BODY = 8192
_END = b"\r\n\r\n"
# They change how a body is framed, or what becomes of the connection.
_UNUSUAL = ("Transfer-Encoding", "Expect", "Upgrade", "Connection")
# Their answers are framed otherwise, or say other things.
_OTHERWISE = frozenset({"HEAD", "OPTIONS", "CONNECT"})


class More(Enum):
    """Told where the rest of a body is still to come."""

    MORE = "more"


MORE = More.MORE


class _Head(NamedTuple):
    """What was read in a head."""

    method: str
    target: str
    path: str
    headers: Headers
    raw: RawHeaders
    peer: Peer
    length: int  # bytes of the body
    claimed: str | None  # the request id, where its client says one
    message: RawRequestMessage


class Met(NamedTuple):
    """A request whose head is known."""

    call: Call
    message: RawRequestMessage  # what aiohttp read in the head, for its own objects


class Lane(NamedTuple):
    """What the express way shares with the usual one."""

    traffic: Traffic
    marks: Marks
    stacks: Mapping[Stack, Forward]
    known: Callable[[Call], Reply | None] | None  # the answer, if it is at hand
    new_id: Callable[[], str]  # of a request
    clock: Clock
    write: Callable[[web.BaseRequest, Call, Reply], Awaitable[web.StreamResponse]]
    held: Held


class Express:
    """Know heads by their bytes, and walk the road of what follows them."""

    def __init__(self) -> None:
        self._lane: Lane
        # by the address of who asks, since a trusted proxy may say who stands behind it
        self._heads: Memo[tuple[str, bytes], _Head] = Memo(_REMEMBERED)
        self.closed = False  # all requests take the usual way
        self.answered = 0  # at once

    def adopt(self, lane: Lane) -> None:
        """Go on in this way; heads that passed the checks of another may not pass those of this."""
        self._lane = lane
        self._heads.clear()

    def learn(self, remote: str, spelled: bytes, message: RawRequestMessage, call: Call) -> None:
        """Remember the head of a call that has passed all checks."""
        length = call.headers.get("Content-Length", "0")
        if (
            call.intent.stack is not Stack.SHORT
            and call.method not in _OTHERWISE
            and length.isdecimal()
            and int(length) <= _LARGEST_BODY
            and not any(name in call.headers for name in _UNUSUAL)
            and is_small(call.raw)
            and spells(spelled, call)
        ):
            path = call.target.partition("?")[0]
            head = _Head(
                call.method,
                call.target,
                path,
                call.headers,
                call.raw,
                call.peer,
                int(length),
                harmless_request_id(call.headers.get("X-Request-Id")),
                message,
            )
            self._heads.keep((remote, spelled), head)

    def read(self, remote: str, data: bytes) -> Met | More | None:
        """Return the one request in `data`; None if it takes the usual way."""
        end = data.find(_END) + len(_END)
        head = self._heads.get((remote, data[:end]))
        if head is None or self.closed:
            return None
        missing = end + head.length - len(data)
        if missing or not self.held.fits(head.length):
            return MORE if missing > 0 else None
        body = Whole(data[end:])
        method, target, path, headers, raw, peer, _, claimed, message = head
        lane = self._lane
        reading = lane.traffic.understood(
            method, path, headers, body, (method, target, raw, body.data)
        )
        if reading.intent.stack is Stack.SHORT:
            return None
        asked, now = claimed or lane.new_id(), lane.clock.now()
        said, trace = reading.message, reading.trace
        # all fields by their place: naming them takes a third longer
        return Met(
            Call(
                *(method, target, headers, body, reading.intent, asked, said, peer, now),
                *(1, None, None, raw, [], reading, trace),
            ),
            message,
        )

    def at_once(self, call: Call) -> bytes | None:
        """Return the answer of a call, if it is at hand."""
        lane = self._lane
        known = lane.known(call) if lane.known is not None else None
        if known is None:
            return None
        # `known` is the last field; `_replace` takes four times as long
        answering = Begun(self.ask(Call(*call[:-1], known)))
        said = self.spelled(call, answering.result) if answering.result is not None else None
        if said is None:
            answering.close()
            return None
        self.answered += 1
        return said

    @property
    def held(self) -> Held:
        """Return what counts the bytes of requests in memory."""
        return self._lane.held

    def write(
        self, request: web.BaseRequest, call: Call, reply: Reply
    ) -> Awaitable[web.StreamResponse]:
        """Write an answer that is not spelled here."""
        return self._lane.write(request, call, reply)

    def ask(self, call: Call) -> Awaitable[Reply]:
        """Let a call walk its road."""
        return self._lane.stacks[call.intent.stack](call)

    def spelled(self, call: Call, reply: Reply) -> bytes | None:
        """Return the bytes of an answer; None where they are not known before they are written."""
        if not isinstance(reply.body, Whole) or reply.status in BODILESS or self.closed:
            return None
        lines, data = self._lane.marks.marked(call, reply, reply.body.data)
        if reply.error_code is not None:
            lines += self._lane.marks.leave_for_page(call.method, call.headers, call.peer)
        framed = f"{lines}Content-Length: {len(data)}\r\n"
        return head_of(reply.status, reply.reason, framed) + data


def spells(head: bytes, call: Call) -> bool:
    """Tell whether bytes are the head of this call, line by line, and no more.

    So it does not matter when they were put aside, nor what a parser may skip or take for a line's
    end (RFC 9112 section 2.2).
    """
    first, *lines = head.split(b"\r\n")
    return (
        first == as_bytes(f"{call.method} {call.target} HTTP/1.1")
        and lines[-2:] == [b"", b""]
        and len(lines) == len(call.raw) + 2
        and all(map(_is_line, lines, call.raw))
    )


def _is_line(line: bytes, field: tuple[bytes, bytes]) -> bool:
    name, _, value = line.partition(b":")
    return (name, value.strip(b" \t")) == field
