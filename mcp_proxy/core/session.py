"""What a handshake-era session needs to be opened again on a server that has forgotten it.

The client's own bytes are kept, and said again as they came (DESIGN section 4, session recovery).
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from multidict import CIMultiDict

from mcp_proxy.core.call import Call, Headers, Whole
from mcp_proxy.core.intent import Intent, Stack
from mcp_proxy.core.jsonrpc import mark, read_request
from mcp_proxy.core.message import NOTHING, Message

SESSION = "Mcp-Session-Id"
# More is no session of a client's, but somebody's attempt to fill our memory (F46).
_LARGEST = 16_384  # bytes of one message
_SUBSCRIPTIONS = 50
# More streams are not left open in a session that is to be resumed; the oldest are forgotten.
_LEFT = 32
_STATE = frozenset(
    {
        "notifications/initialized",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
    }
)
_OF_THE_CALL = frozenset({"accept", "content-length", "content-type", "last-event-id"})
_OF_THE_SESSION = frozenset({"mcp-session-id", "mcp-protocol-version"})
# Sent once, like the client's own handshake: a second one would leave an orphan session behind.
_HANDSHAKE = Intent(Stack.FULL, writes=False)
# Every server of the handshake era answers it; an id that no client counts up to.
_PING = b'{"jsonrpc":"2.0","id":"mcp-sidecar-%d","method":"ping"}'
_POSTED = (("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream"))


class Left(NamedTuple):
    """A stream that has ended before all was said."""

    upstream: str  # the server's id of the session
    asked: Message | None  # the request that was to be answered on it; None on the client's own


@dataclass(slots=True)
class Session:
    """One session: how the client knows it, how the server does, and what was said to open it."""

    id: str
    opener: str  # who opened it (core/keys.opener)
    initialize: bytes
    upstream: str  # the server's id of it; another one after a recovery
    initialized: bytes | None = None
    level: bytes | None = None  # the last logging/setLevel
    subscriptions: dict[str, bytes] = field(default_factory=dict)  # by URI
    moves: int = 0  # how often it was opened anew
    left: dict[int, Left] = field(default_factory=dict)  # by the mark of its last event id
    confirmed_at: float = 0.0  # Clock.now() when the server last knew it
    confirmed: int = 0  # how often the server had been seen away by then

    def note(self, message: Message, said: bytes) -> bool:
        """Keep what the client said, if it is part of the session's state; tell whether it is."""
        method = message.method
        if method not in _STATE or len(said) > _LARGEST:
            return False
        if method == "notifications/initialized":
            self.initialized = said
        elif method == "logging/setLevel":
            self.level = said
        else:
            self._subscribe(method, str(message.params.get("uri")), said)
        return True

    def _subscribe(self, method: str, uri: str, said: bytes) -> None:
        if method == "resources/unsubscribe":
            self.subscriptions.pop(uri, None)
        elif len(self.subscriptions) < _SUBSCRIPTIONS:
            self.subscriptions[uri] = said

    def leave(self, event_id: bytes, left: Left) -> None:
        """Take note of a stream that has ended, and that its client may want to resume."""
        while len(self.left) >= _LEFT:
            del self.left[next(iter(self.left))]
        self.left[mark(event_id.decode("latin-1"))] = left

    def resumed(self, headers: Headers) -> Left | None:
        """Return the stream that is to be resumed, if it was seen here."""
        return self.left.get(mark(headers.get("Last-Event-ID", "")))

    def lost(self, headers: Headers) -> Left | None:
        """Return the stream that is to be resumed and cannot be: the session was opened anew since."""
        left = self.resumed(headers)
        return left if left is not None and left.upstream != self.upstream else None

    def replays(self) -> list[bytes]:
        """Return what is said after the handshake's first message, in order."""
        said = (self.initialized, self.level, *self.subscriptions.values())
        return [one for one in said if one is not None]

    @property
    def size(self) -> int:
        """Return the bytes that it holds, roughly."""
        names = (self.id, self.upstream, self.opener, *self.subscriptions)
        return len(self.initialize) + sum(map(len, [*self.replays(), *names]))


def begun(call: Call, opener: str, session_id: str) -> Session | None:
    """Return the session that a call has opened, or None if it is too large to be kept."""
    body = call.body
    if not isinstance(body, Whole) or len(body.data) > _LARGEST or len(session_id) > _LARGEST:
        return None
    return Session(session_id, opener, body.data, session_id)


def addressed(call: Call, session: Session, *, anew: bool = False) -> Call:
    """Return the call with the server's own id of the session.

    `anew` leaves out where a stream is to be resumed: event ids belong to the stream that is gone.
    """
    if session.upstream == session.id:
        return call
    dropped = {SESSION.lower(), *(["last-event-id"] if anew else [])}
    headers = CIMultiDict(
        (name, value) for name, value in call.headers.items() if name.lower() not in dropped
    )
    headers[SESSION] = session.upstream
    return call._replace(headers=headers, raw=())


def replay(call: Call, said: bytes, session_id: str | None) -> Call:
    """Return a message of the session's opening, under the credentials of the call at hand."""
    dropped = _OF_THE_CALL if session_id else _OF_THE_CALL | _OF_THE_SESSION
    headers = CIMultiDict(
        (name, value) for name, value in call.headers.items() if name.lower() not in dropped
    )
    headers.update(_POSTED)
    if session_id:
        headers[SESSION] = session_id
    return call._replace(
        method="POST",
        headers=headers,
        raw=(),
        body=Whole(said),
        message=read_request(said, headers) or NOTHING,
        intent=_HANDSHAKE,
        tried=None,
    )


def ping(call: Call, number: int, session_id: str) -> Call:
    """Return the question whether the server knows a session, under the credentials of a call."""
    return replay(call, _PING % number, session_id)


def told_back(headers: Headers, session: Session) -> Headers:
    """Return an answer's headers with the id that the client knows: some clients take it from there."""
    if session.upstream == session.id or headers.get(SESSION) != session.upstream:
        return headers
    own = CIMultiDict(headers)
    own[SESSION] = session.id
    return own
