"""Calls over HTTP+SSE are posted here and answered on a stream there (MCP 2024-11-05).

So a stream with an answer to come is no idle one: the drain must wait for it.
"""

from typing import Any, NamedTuple

from mcp_proxy.core import jsonrpc, sse
from mcp_proxy.core.call import Call, Whole
from mcp_proxy.edge.events import message_in

# Ids come from callers, and a server may never answer them: so many of one stream, by their hashes.
# What is beyond is not waited for in a drain.
_MOST = 100
_LONGEST = 4096  # characters of an address, which comes from the server

Boxes = dict[str, set[int]]


class Owing(NamedTuple):
    """An answer that a stream owes, or does not owe any more."""

    address: str
    id: str
    owed: bool


class Mail:
    """Know which open stream still owes which answers; `elsewhere` says that it may be no stream here."""

    def __init__(self, limit: int, *, elsewhere: bool = False) -> None:
        self._elsewhere = elsewhere
        self._limit = limit  # bytes of an event that is read
        self._boxes: Boxes = {}

    def box(self) -> "Box":
        """Return what listens to a stream; close it in the end."""
        return Box(self._boxes, self._limit)

    def posted(self, call: Call) -> Owing | None:
        """Take note of a request before it goes on, or of a call that its client has given up.

        Returns it, if its stream is not here: another worker may have it.
        """
        said = said_in(call) if self._boxes or self._elsewhere else None
        owing = owing_in(call.target, said) if said is not None else None
        return owing if owing is not None and not self.note(owing) else None

    def refused(self, call: Call) -> Owing | None:
        """Take note that a request has found its end without an answer on the stream; as above."""
        said = said_in(call) if self._boxes or self._elsewhere else None
        owing = Owing(call.target, str(said.get("id")), owed=False) if said is not None else None
        return owing if owing is not None and not self.note(owing) else None

    def note(self, owing: Owing) -> bool:
        """Take note of an answer that is owed, or is not any more; False if its stream is not here."""
        owed = self._boxes.get(owing.address)
        if owed is None:
            return False
        if not owing.owed:
            owed.discard(jsonrpc.mark(owing.id))
        elif len(owed) < _MOST:
            owed.add(jsonrpc.mark(owing.id))
        return True


def owing_in(address: str, said: dict[str, Any]) -> Owing | None:
    """Return which answer a message makes owed, or owed no more; None for any other message."""
    if jsonrpc.wants_client(said):  # a method and an id, whoever asks whom
        return Owing(address, str(said["id"]), owed=True)
    if said.get("method") == "notifications/cancelled":
        params = said.get("params")
        cancelled = str(params.get("requestId")) if isinstance(params, dict) else ""
        return Owing(address, cancelled, owed=False)
    return None


class Box:
    """Listen to a stream for its address and for answers; one without an address owes none."""

    __slots__ = ("_address", "_boxes", "_limit", "_owed", "_splitter")

    def __init__(self, boxes: Boxes, limit: int) -> None:
        self._boxes = boxes
        self._limit = limit
        self._splitter: sse.Splitter | None = None  # while there is something to listen for
        self._owed: set[int] | None = None  # nothing can be until an address is known
        self._address: str | None = None  # "" is none

    @property
    def settled(self) -> bool:
        """Tell whether no answer is to come."""
        return not self._owed

    def saw(self, piece: bytes) -> None:
        """Take note of what the stream says."""
        if self._address == "":
            return
        self._splitter = self._splitter or sse.Splitter(self._limit)
        for event in self._splitter.feed(piece):
            if self._address is not None:
                self._settle(event)
            elif event.data:
                address = target(event.data) if event.name == b"endpoint" else ""
                self._address = address if len(address) <= _LONGEST else ""
                if self._address:  # two streams of one address cannot be told apart
                    self._owed = self._boxes.setdefault(self._address, set())
        if self._address == "":
            self._splitter = None

    def _settle(self, event: sse.Event) -> None:
        if not self._owed:
            return
        if event.lost:
            self._owed.clear()  # most likely an answer; whose cannot be told
            return
        said = message_in(event.data)
        if said is not None and jsonrpc.is_response(said):
            self._owed.discard(jsonrpc.mark(said.get("id")))

    def close(self) -> None:
        """Forget the stream."""
        if self._address:
            self._boxes.pop(self._address, None)


def said_in(call: Call) -> dict[str, Any] | None:
    """Return the message in a request."""
    return message_in(call.body.data) if isinstance(call.body, Whole) else None


def target(endpoint: bytes) -> str:
    """Return the target that clients of an endpoint ask for: it may be a whole URL."""
    text = endpoint.decode("utf-8", "replace")
    return text if text.startswith("/") else f"/{text.partition('://')[2].partition('/')[2]}"
