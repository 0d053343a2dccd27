"""What one worker makes invalid, seen by all others before the answer of the write goes out.

They share a piece of memory, and each has a part of it that only it writes: its last notices, and how
many there were. Whoever looks at an answer in its own memory first compares all counts with those that
it saw last (0.2 µs). So nothing is sent and nobody is waited for; a worker that stands still tells no
old answer when it goes on. What is written before an answer is sent is seen by whoever is asked
afterwards: both go through the kernel.
"""

import mmap
import os
import struct
from asyncio import shield
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol
from zlib import crc32

from mcp_proxy.core.clock import Spawn
from mcp_proxy.core.shelf import Edition, Shelf

# Notices that a worker can be behind; beyond it everything is dropped, which is always right.
_KEPT = 64
# number, end of the quarantine, moment, told, bytes of the scope; then the scope, then a checksum
_HEAD = struct.Struct("=Qdd?H")
_CHECK = struct.Struct("=I")
_LONGEST = 512  # bytes of a scope; a longer one is told as everything
_RECORD = _HEAD.size + _LONGEST + _CHECK.size
_COUNT = struct.Struct("=Q")


class Notice(NamedTuple):
    """What was made invalid."""

    scope: str = ""  # core/scopes; all by default
    quarantine: float = 0.0  # seconds in which nothing is stored
    before: float = 0.0  # not 0: only what was stored before, seconds of the epoch
    told: bool = False  # Redis, where there is one, is known to have heard of it


class Board:
    """The shared memory, as one of `writers` sees it; it lies in a directory that all of them know."""

    def __init__(self, room: str, writers: int, own: int, now: Callable[[], float]) -> None:
        size = writers * (_COUNT.size + _KEPT * _RECORD)
        descriptor = os.open(Path(room) / "board", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, size)
            self._memory = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._now = now
        self._own = own
        self._counts = writers * _COUNT.size
        self._seen = self._memory[: self._counts]

    def write(self, notice: Notice) -> None:
        """Tell the others."""
        (number,) = _COUNT.unpack_from(self._memory, self._own * _COUNT.size)
        scope = notice.scope.encode("utf-8", "surrogatepass")
        scope = scope if len(scope) <= _LONGEST else b""
        until = self._now() + notice.quarantine if notice.quarantine else 0.0
        head = _HEAD.pack(number, until, notice.before, notice.told, len(scope))
        text = head + scope.ljust(_LONGEST, b"\0")
        at = self._place(self._own, number)
        self._memory[at : at + _RECORD] = text + _CHECK.pack(crc32(text))
        # in one step, and last: who sees the count finds the notice
        count = _COUNT.pack(number + 1)
        at = self._own * _COUNT.size
        self._memory[at : at + _COUNT.size] = count
        self._seen = self._seen[:at] + count + self._seen[at + _COUNT.size :]

    def news(self) -> Iterator[Notice]:
        """Return what the others have told since the last look."""
        counts = self._memory[: self._counts]
        if counts == self._seen:
            return iter(())
        seen, self._seen = self._seen, counts
        return self._between(seen, counts)

    def _between(self, seen: bytes, counts: bytes) -> Iterator[Notice]:
        pairs = zip(_COUNT.iter_unpack(seen), _COUNT.iter_unpack(counts), strict=True)
        for writer, ((before,), (now,)) in enumerate(pairs):
            for number in range(max(before, now - _KEPT), now):
                yield self._read(writer, number)
            if now - before > _KEPT:
                yield Notice()

    def _read(self, writer: int, number: int) -> Notice:
        at = self._place(writer, number)
        record = self._memory[at : at + _RECORD]
        text, check = record[: -_CHECK.size], record[-_CHECK.size :]
        found, until, before, told, length = _HEAD.unpack_from(text)
        if found != number or _CHECK.pack(crc32(text)) != check:
            return Notice()  # overwritten by a later one meanwhile
        scope = text[_HEAD.size : _HEAD.size + length].decode("utf-8", "surrogatepass")
        return Notice(scope, max(0.0, until - self._now()) if until else 0.0, before, told)

    def _place(self, writer: int, number: int) -> int:
        return self._counts + (writer * _KEPT + number % _KEPT) * _RECORD

    def close(self) -> None:
        """Let go of it."""
        self._memory.close()


class Hearing(Shelf, Protocol):
    """A shelf that keeps answers in this process's memory, and hears what others make invalid."""

    @property
    def missed(self) -> int:
        """Return how many invalidations have not reached all that it shares answers with."""
        ...

    def hear(self, notice: Notice) -> int:
        """Drop from memory what somebody else has made invalid; return how many."""
        ...


class BoardShelf:
    """Keep answers on a shelf of this worker; tell the others what is made invalid, and hear them."""

    def __init__(self, shelf: Hearing, board: Board, spawn: Spawn) -> None:
        self._shelf = shelf
        self._board = board
        self._spawn = spawn
        self.get, self.put, self.delete = shelf.get, shelf.put, shelf.delete
        self.at_hand, self.hear = shelf.at_hand, shelf.hear

    def _catch_up(self) -> None:
        for notice in self._board.news():
            self._shelf.hear(notice)

    async def edition(self, scopes: tuple[str, ...]) -> Edition | None:
        """Return the edition of these scopes, as all workers know it."""
        self._catch_up()
        return await self._shelf.edition(scopes)

    def glance(self, scopes: tuple[str, ...]) -> Edition | None:
        """Return the edition if it is known without waiting, else None."""
        self._catch_up()
        return self._shelf.glance(scopes)

    async def invalidate(self, scope: str = "", quarantine: float = 0.0) -> int | None:
        """Make the answers of a scope invalid for all workers; return how many were dropped here."""
        self._catch_up()
        work = self._told(Notice(scope, quarantine))
        dropped: int | None = await shield(self._spawn(work, "invalidate"))
        return dropped

    async def expire(self, before: float) -> int | None:
        """Make what was stored before a moment invalid for all workers; count as above."""
        dropped: int | None = await shield(self._spawn(self._told(Notice(before=before)), "expire"))
        return dropped

    async def _told(self, notice: Notice) -> int | None:
        """Drop it here, and tell; in a task of its own, so that a caller who leaves stops neither."""
        told, missed = False, self._shelf.missed
        try:
            if notice.before:
                dropped = await self._shelf.expire(notice.before)
            else:
                dropped = await self._shelf.invalidate(notice.scope, notice.quarantine)
            told = self._shelf.missed == missed
            return dropped
        finally:
            # after Redis, where there is one: who hears of it asks there next
            self._board.write(notice._replace(told=told))

    def snapshot(self) -> dict[str, object]:
        """Return sizes and bounds, for people."""
        self._catch_up()
        return self._shelf.snapshot()

    def kept(self) -> Mapping[str, Mapping[str, int]]:
        """Return entries, bytes and evicted of this process, by label (core/scopes)."""
        return self._shelf.kept()

    async def aclose(self) -> None:
        """Let go of connections, and of the shared memory."""
        await self._shelf.aclose()
        self._board.close()
