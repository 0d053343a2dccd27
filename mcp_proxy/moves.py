"""The sessions of clients, known to all workers: a session's calls may come to any of them."""

import base64
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

from multidict import CIMultiDict

from mcp_proxy.core.clock import Clock
from mcp_proxy.core.jsonrpc import read_request
from mcp_proxy.core.session import Session
from mcp_proxy.edge.neighbours import Answer, Neighbours
from mcp_proxy.upstream.sessions import Sessions

# Files on which workers take turns; sessions share them by their hash.
_TURNS = 64
_PAUSE = 0.02  # seconds between two looks at one that is taken


class Moves:
    """Tell the other workers of sessions, and let one of them open a lost session anew.

    Each has its own copy of a session. Which of the server's ids counts is decided by how often the
    session was opened anew: before a worker does that it waits for its turn, and asks whether another
    one already has.
    """

    def __init__(self, sessions: Sessions, neighbours: Neighbours, clock: Clock) -> None:
        self._sessions = sessions
        self._neighbours = neighbours
        self._clock = clock

    # --- for layers/recover

    async def opened(self, session: Session) -> None:
        """Let the others know of a session."""
        await self._neighbours.ask("session opened", _plain(session))

    async def noted(self, session: Session, said: bytes) -> None:
        """Let the others know what the client said, that is part of its session."""
        await self._neighbours.ask("session noted", (session.id, _text(said)))

    async def over(self, session: Session) -> None:
        """Let the others forget a session."""
        await self._neighbours.ask("session over", session.id)

    async def moved(self, session: Session) -> None:
        """Let the others know that it was opened anew."""
        await self._neighbours.ask("session moved", (session.id, session.upstream, session.moves))

    async def follow(self, session: Session) -> bool:
        """Take over the id under which another worker has opened it anew; tell whether one has."""
        before = session.moves
        for found in (await self._neighbours.ask("session", session.id)).values():
            if found is not None and found[1] > session.moves:
                session.upstream, session.moves = found
        return session.moves > before

    @asynccontextmanager
    async def turn(self, session: Session) -> AsyncIterator[None]:
        """Wait until no other worker opens it anew; who dies gives its turn back."""
        number = crc32(session.id.encode("utf-8", "surrogatepass")) % _TURNS
        name = Path(self._neighbours.place.room) / f"turn-{number}"
        try:
            lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:  # the room is gone, as the supervisor is: we end, too
            yield
            return
        try:
            while not _taken(lock):
                await self._clock.sleep(_PAUSE)
            yield
        finally:
            os.close(lock)

    # --- what the others ask

    @property
    def answers(self) -> dict[str, Answer]:
        """Return what answers which question of a worker."""
        return {
            "session": self._answer,
            "session opened": self._opened,
            "session noted": self._noted,
            "session moved": self._moved,
            "session over": self._over,
        }

    async def _answer(self, session_id: Any) -> tuple[str, int] | None:
        session = self._sessions.find(session_id)
        return (session.upstream, session.moves) if session is not None else None

    async def _opened(self, said: Any) -> None:
        self._sessions.keep(_session(said))

    async def _noted(self, said: Any) -> None:
        session_id, text = said
        session, data = self._sessions.find(session_id), base64.b64decode(text)
        message = read_request(data, CIMultiDict())
        if session is not None and message is not None and session.note(message, data):
            self._sessions.keep(session)

    async def _moved(self, said: Any) -> None:
        session_id, upstream, moves = said
        session = self._sessions.find(session_id)
        if session is not None and moves > session.moves:
            session.upstream, session.moves = upstream, moves

    async def _over(self, session_id: Any) -> None:
        self._sessions.forget(session_id)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _plain(session: Session) -> dict[str, Any]:
    """Return what a session was opened with, as JSON has it."""
    return {
        "id": session.id,
        "opener": session.opener,
        "initialize": _text(session.initialize),
        "upstream": session.upstream,
    }


def _session(said: Any) -> Session:
    return Session(
        said["id"], said["opener"], base64.b64decode(said["initialize"]), said["upstream"]
    )
