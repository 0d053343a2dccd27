"""Which handshake-era sessions clients have open, and how to open them again."""

from collections import OrderedDict
from collections.abc import Callable

from mcp_proxy.core.session import Session

# Ids come from the server, the rest from callers: bounded by number, by bytes and by time.
_LIMIT = 10_000
_BYTES = 32 * 1024 * 1024
# A client that has said nothing for so long opens a new session when it comes back.
_IDLE = 86_400.0  # seconds


class Sessions:
    """Remember sessions; the least recently used go first, and all of them in time."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        # by the id that the client knows: the session, its size, when it was used
        self._known: OrderedDict[str, tuple[Session, int, float]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._known)

    def find(self, session_id: str) -> Session | None:
        """Return a session by the id that the client knows; it counts as used."""
        found = self._known.get(session_id)
        if found is None:
            return None
        session, size, used = found
        now = self._now()
        if now - used > _IDLE:
            self.forget(session_id)
            return None
        self._known[session_id] = (session, size, now)
        self._known.move_to_end(session_id)
        return session

    def keep(self, session: Session) -> None:
        """Remember a session, or that it is larger now."""
        self.forget(session.id)
        self._known[session.id] = (session, session.size, self._now())
        self.bytes += session.size
        while len(self._known) > _LIMIT or self.bytes > _BYTES:
            self.forget(next(iter(self._known)))

    def forget(self, session_id: str) -> None:
        """Forget a session."""
        found = self._known.pop(session_id, None)
        if found is not None:
            self.bytes -= found[1]
