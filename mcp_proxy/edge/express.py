"""Answer a request in the very step in which its bytes come in, where nothing must be waited for.

aiohttp parses each head anew and makes a task and four objects for each request, which costs more
than all that a hit does behind it. So the bytes of a small head that has passed all checks are
remembered, together with what aiohttp's own parser read in them; nothing is parsed here. When they
come again, before a body whose answer is at hand, the call walks the road that it would walk anyway,
and does so at once. Everything else goes the usual way.
"""

from collections.abc import Callable
from typing import NamedTuple

from mcp_proxy.core.call import Call, Headers, Peer, RawHeaders, Reply, Whole
from mcp_proxy.core.clock import Clock
from mcp_proxy.core.headers import as_bytes, is_small
from mcp_proxy.core.memo import Memo
from mcp_proxy.core.traffic import Traffic
from mcp_proxy.edge.answer import head_of
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


class _Head(NamedTuple):
    """What was read in a head."""

    method: str
    target: str
    path: str
    headers: Headers
    raw: RawHeaders
    peer: Peer
    length: int  # bytes of the body


class Lane(NamedTuple):
    """What the express way shares with the usual one."""

    traffic: Traffic
    marks: Marks
    road: Forward  # the full stack
    known: Callable[[Call], Reply | None]  # the answer, if it is at hand
    request_id: Callable[[Headers], str]
    clock: Clock


class Express:
    """Know heads by their bytes, and answer what follows them if that is possible at once."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        # by the address of who asks, since a trusted proxy may say who stands behind it
        self._heads: Memo[tuple[str, bytes], _Head] = Memo(_REMEMBERED)
        self.closed = False  # all requests take the usual way
        self.answered = 0

    def learn(self, remote: str, spelled: bytes, call: Call) -> None:
        """Remember the head of a call that has passed all checks, if calls like it can be hits."""
        length = call.headers.get("Content-Length", "")
        if (
            call.intent.keep is not None
            and length.isdecimal()
            and int(length) <= _LARGEST_BODY
            and not any(name in call.headers for name in _UNUSUAL)
            and is_small(call.raw)
            and spells(spelled, call)
        ):
            path = call.target.partition("?")[0]
            head = _Head(
                call.method, call.target, path, call.headers, call.raw, call.peer, int(length)
            )
            self._heads.keep((remote, spelled), head)

    def __call__(self, remote: str, data: bytes) -> bytes | None:
        """Return the answer to the one request in `data`; None if it takes the usual way.

        An empty answer means that the rest of the body is still to come.
        """
        end = data.find(_END) + len(_END)
        head = self._heads.get((remote, data[:end]))
        if head is None or self.closed:
            return None
        missing = end + head.length - len(data)
        if missing:
            return b"" if missing > 0 else None
        body = Whole(data[end:])
        method, target, path, headers, raw, peer, _ = head
        lane = self._lane
        reading = lane.traffic.understood(
            method, path, headers, body, (method, target, raw, body.data)
        )
        call = Call(
            method,
            target,
            headers,
            body,
            reading.intent,
            lane.request_id(headers),
            reading.message,
            peer=peer,
            arrived=lane.clock.now(),
            raw=raw,
            same=reading,
            trace=reading.trace,
        )
        known = lane.known(call)
        if known is None:
            return None
        # `known` is the last field; `_replace` takes four times as long
        return self._answered(Call(*call[:-1], known))

    def _answered(self, call: Call) -> bytes | None:
        answering = Begun(self._lane.road(call))
        reply = answering.result
        if reply is None or not isinstance(reply.body, Whole):
            answering.close()
            return None
        lines, data = self._lane.marks.marked(call, reply, reply.body.data)
        if reply.error_code is not None:
            lines += self._lane.marks.leave_for_page(call.method, call.headers, call.peer)
        self.answered += 1
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
