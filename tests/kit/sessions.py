"""The sessions of the handshake era, as the server under test keeps them."""

import asyncio
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4


@dataclass
class Session:
    """One session, and what its client has told."""

    id: str
    caller: str
    version: str
    initialized: bool = False
    level: str | None = None  # of logging/setLevel
    subscriptions: set[str] = field(default_factory=set)
    outbox: asyncio.Queue[bytes | None] | None = None  # of its GET stream, once that was opened

    def push(self, event: bytes) -> None:
        """Send an event on the open GET stream."""
        assert self.outbox is not None, "nobody listens"
        self.outbox.put_nowait(event)

    def told(
        self, level: str | None = None, wants: str | None = None, leaves: str | None = None
    ) -> dict[str, Any]:
        """Remember what the client wants; return the empty result that it is answered with."""
        self.level = level or self.level
        self.subscriptions |= {wants} if wants else set()
        self.subscriptions -= {leaves} if leaves else set()
        return {}


class Sessions:
    """Remember sessions, and that each belongs to who opened it."""

    def __init__(self) -> None:
        self.open: dict[str, Session] = {}
        self.opened: list[Session] = []  # ever, in order

    def begin(self, caller: str, version: str) -> Session:
        """Open a session."""
        session = Session(uuid4().hex, caller, version)
        self.open[session.id] = session
        self.opened.append(session)
        return session

    def find(self, session_id: str, caller: str) -> Session | None:
        """Return the session if there is one that belongs to the caller."""
        session = self.open.get(session_id)
        return session if session and session.caller == caller else None

    def end(self, session: Session) -> None:
        """Forget a session and end its stream."""
        self.open.pop(session.id, None)
        if session.outbox is not None:
            session.outbox.put_nowait(None)

    def forget(self) -> None:
        """Forget every session, as a restart does."""
        for session in list(self.open.values()):
            self.end(session)
