"""One client's session: what it has asked its child, and where what the child says belongs."""

import json
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from secrets import token_urlsafe
from typing import Any

import orjson

from mcp_proxy.core.clock import Spawn
from mcp_proxy.core.jsonrpc import changes_answers, id_span, is_response, token
from mcp_proxy.core.reading import read_answer
from mcp_proxy.stdio.child import Child, GoneError
from mcp_proxy.stdio.lines import Line
from mcp_proxy.stdio.mailbox import Mailbox

# Requests that a child has not answered. The sidecar lets fewer through at once; what is more has
# been given up by its callers, and a child that leaves so much unanswered will not answer the next.
UNANSWERED = 4096
# Messages for a client that has no stream open.
_BACKLOG = 100
_LARGEST_KEPT = 65_536  # bytes of one of them
# Requests of a child that are being refused; one that asks more, and does not read, gets no answer.
_REFUSALS = 100
_TOO_SLOW = {"code": -32000, "message": "The client does not read what it is asked."}
_CANCELLED = {"code": 0, "message": "Request cancelled"}


class Request:
    """A request of the client that the child has not answered."""

    def __init__(self, message: Mapping[str, Any]) -> None:
        self.id = message["id"]  # as the client knows it
        self.progress = _meta(message).get("progressToken")
        self.box: Mailbox | None = Mailbox()  # None: whoever asked has left


class Session:
    """The only client of one child. Ids are unique to the child, whatever the client chose."""

    def __init__(self, child: Child, now: float, spawn: Spawn) -> None:
        self.id = token_urlsafe(24)
        self.child = child
        self.used = now  # Clock.now() of the client's last request
        self._spawn = spawn
        self._refusing = 0
        self.dropped = 0  # messages that nobody took
        self._ids = count(1)
        self._asked: dict[int, Request] = {}
        self._listening: Mailbox | None = None
        self._backlog: deque[bytes] = deque()

    # --- what the client says

    @property
    def busy(self) -> bool:
        """Tell whether somebody waits for an answer or listens."""
        return self._listening is not None or bool(self._waited_for())

    @property
    def full(self) -> bool:
        """Tell whether the child leaves too much unanswered."""
        return len(self._asked) >= UNANSWERED

    async def ask(self, message: Mapping[str, Any], data: bytes) -> Request:
        """Put a request to the child; raises GoneError and ConnectionError, as Child.say does."""
        number = next(self._ids)
        request = Request(message)
        try:
            await self.child.say(
                with_id(data, message, number), lambda: self._asked.update({number: request})
            )
        except BaseException:
            self.left(request)  # written or not
            raise
        return request

    def left(self, request: Request) -> None:
        """Whoever asked has gone: the answer, should it come, is nobody's."""
        request.box = None

    async def say(self, message: Mapping[str, Any], data: bytes) -> None:
        """Hand a notification or an answer to the child; raises as Child.say does."""
        if message.get("method") != "notifications/cancelled":
            await self.child.say(data)
            return
        params = message.get("params")
        asked = params.get("requestId") if isinstance(params, dict) else None
        for number, request in list(self._asked.items()):
            if token_of(request.id) == token_of(asked):
                reason = {**params, "requestId": number} if isinstance(params, dict) else {}
                await self.child.say(json.dumps({**message, "params": reason}).encode())
                # a server need not answer what is cancelled, and nobody waits for it
                self._asked.pop(number, None)
                if request.box is not None:
                    request.box.end(_error(request.id, _CANCELLED))

    def listen(self) -> Mailbox:
        """Open the client's own stream; an older one ends."""
        if self._listening is not None:
            self._listening.end()
        box = self._listening = Mailbox()
        while self._backlog and box.put(self._backlog[0]):
            self._backlog.popleft()
        return box

    def stop_listening(self, box: Mailbox) -> None:
        """Take note that the client's own stream is closed."""
        if self._listening is box:
            self._listening = None

    # --- what the child says

    def heard(self, line: Line) -> bool:
        """Take one line of the child; False if it is no message."""
        if not line.whole:
            return self._heard_too_much(line.data)
        message = read_answer(line.data)
        if message is None:
            return False
        if "method" in message:
            self._told(message, line.data)
            return True
        if not is_response(message):
            return False
        request = self._answered(message.get("id"))
        if request is not None and request.box is not None:
            request.box.end(with_id(line.data, message, request.id))
        return True

    def over(self) -> None:
        """Let everybody hear that the child has gone: nothing more is answered."""
        for request in self._asked.values():
            if request.box is not None:
                request.box.fail()
        self._asked.clear()
        if self._listening is not None:
            self._listening.end()

    def _answered(self, number: object) -> Request | None:
        return self._asked.pop(number, None) if type(number) is int else None

    def _heard_too_much(self, ends: bytes) -> bool:
        """Let who waits for an answer that is too long hear that it is lost."""
        span = id_span(ends)
        text = ends[slice(*span)] if span else b""
        request = self._answered(int(text)) if text.isdigit() else None
        if request is not None and request.box is not None:
            request.box.fail()
        return False

    def _told(self, message: Mapping[str, Any], data: bytes) -> None:
        """Hand on a request or a notification of the child."""
        method = message["method"]
        box: Mailbox | None
        if method == "notifications/progress":
            box = self._progressing(message)
            if box is None:  # of a request that is answered already
                return
        else:
            box = self._place(of_a_call="id" in message or not changes_answers(message))
        if box is None:
            self._keep(message, data)
        elif not box.put(data):
            self._drop(message)

    def _progressing(self, message: Mapping[str, Any]) -> Mailbox | None:
        params = message.get("params")
        said = params.get("progressToken") if isinstance(params, dict) else None
        for request in reversed(self._waited_for()):
            if request.progress is not None and token_of(request.progress) == token_of(said):
                return request.box
        return None

    def _place(self, *, of_a_call: bool) -> Mailbox | None:
        """Return where the client reads.

        stdio does not say which request of the client a message belongs to: it is the only one, if
        there is but one. Else the client's own stream takes it, else what was asked last.
        """
        waited_for = self._waited_for()
        if of_a_call and len(waited_for) == 1:
            return waited_for[0].box
        if self._listening is not None:
            return self._listening
        return waited_for[-1].box if waited_for else None

    def _waited_for(self) -> list[Request]:
        return [one for one in self._asked.values() if one.box is not None]

    def _keep(self, message: Mapping[str, Any], data: bytes) -> None:
        if len(self._backlog) >= _BACKLOG or len(data) > _LARGEST_KEPT:
            self._drop(message)
        else:
            self._backlog.append(data)

    def _drop(self, message: Mapping[str, Any]) -> None:
        """Leave a message out; a child that has asked something must not wait for ever."""
        self.dropped += 1
        if "id" in message and self._refusing < _REFUSALS:
            self._refusing += 1
            self._spawn(self._refuse(_error(message["id"], _TOO_SLOW)), "refuse a request")

    async def _refuse(self, said: bytes) -> None:
        try:
            with suppress(GoneError, ConnectionError):
                await self.child.say(said)
        finally:
            self._refusing -= 1


def with_id(data: bytes, message: Mapping[str, Any], new: str | int) -> bytes:
    """Return a message with another id; all else stays byte for byte where the id is found."""
    span = id_span(data)
    if span is None:
        return json.dumps({**message, "id": new}).encode()
    return data[: span[0]] + token(new) + data[span[1] :]


def token_of(value: object) -> tuple[type, object]:
    """Return what tells 1 from "1" and from true."""
    return type(value), value


def _meta(message: Mapping[str, Any]) -> Mapping[str, Any]:
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    return meta if isinstance(meta, dict) else {}


def _error(request_id: str | int, error: Mapping[str, Any]) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": request_id, "error": error})
