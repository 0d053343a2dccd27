"""Answers in this process, bounded by number and by bytes."""

from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from secrets import token_hex
from typing import Any

from aiocache import SimpleMemoryCache

from mcp_proxy.core.shelf import Edition, Generations
from mcp_proxy.stores.board import Notice

# What an entry costs beside its own bytes: key, tuple, dict slot (measured with tracemalloc).
_OVERHEAD = 300
_HASH = 40  # characters of a key's hash (core/keys)
# Tools whose counts are remembered after the last of their answers is gone.
_TALLIES_LIMIT = 1000
# Cleared scopes remembered; beyond it everything is dropped, which is always right.
_SCOPES_LIMIT = 1000


class BoundedMemory(SimpleMemoryCache):  # type: ignore[misc]
    """aiocache's memory cache with bounds and without timers; least recently used goes first.

    The original is unbounded, keeps one loop timer per key (100 000 that expire together stall the
    loop for half a second), and its `clear()` leaves timers behind that delete newer values.
    """

    def __init__(self, max_entries: int, max_bytes: int, now: Callable[[], float]) -> None:
        # timeout=0: the default of 5 s wraps each look-up in a task (19 µs against 4)
        super().__init__(timeout=0)
        # by key: when it ends, its value, when it came
        self._kept: OrderedDict[str, tuple[float, bytes, float]] = OrderedDict()
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._now = now
        self.bytes = 0
        self.evicted = 0
        self._tallies: dict[str, _Tally] = {}  # by label
        self._tallies_limit = _TALLIES_LIMIT

    def __len__(self) -> int:
        return len(self._kept)

    def keys(self) -> list[str]:
        """Return the keys, the least recently used first."""
        return list(self._kept)

    async def _get(self, key: str, encoding: Any = None, _conn: Any = None) -> bytes | None:  # noqa: ARG002 - its signature
        return self.look(key)

    def look(self, key: str) -> bytes | None:
        """Return a value as `get` does, without the 4 µs of the library's plug-ins and switches."""
        entry = self._kept.get(key)
        if entry is None:
            return None
        if entry[0] <= self._now():
            self.drop(key)
            return None
        self._kept.move_to_end(key)
        return entry[1]

    async def _set(
        self,
        key: str,
        value: bytes,
        ttl: float | None = None,
        _cas_token: Any = None,
        _conn: Any = None,
    ) -> bool:
        self.drop(key)
        # ttl=None or 0 means "for ever" to aiocache; nothing is kept for ever here
        if not ttl or _size(key, value) > self._max_bytes:
            return False
        now = self._now()
        self._kept[key] = (now + ttl, value, now)
        self._count(key, 1, _size(key, value))
        while self.bytes > self._max_bytes or len(self._kept) > self._max_entries:
            oldest = next(iter(self._kept))
            self.drop(oldest)
            self.evicted += 1
            self._tallies[label_of(oldest)].evicted += 1
        return True

    def _count(self, key: str, entries: int, size: int) -> None:
        self.bytes += size
        label = label_of(key)
        tally = self._tallies.get(label)
        if tally is None:
            if len(self._tallies) >= self._tallies_limit:  # names come from callers (F43)
                self._forget_tallies()
            tally = self._tallies[label] = _Tally()
        tally.entries += entries
        tally.bytes += size

    def _forget_tallies(self) -> None:
        """Forget the counts of tools of which nothing is kept any more."""
        self._tallies = {name: tally for name, tally in self._tallies.items() if tally.entries}
        self._tallies_limit = max(_TALLIES_LIMIT, 2 * len(self._tallies))

    def tallies(self) -> dict[str, dict[str, int]]:
        """Return entries, bytes and evicted by label."""
        return {
            name: {"entries": tally.entries, "bytes": tally.bytes, "evicted": tally.evicted}
            for name, tally in self._tallies.items()
        }

    async def _delete(self, key: str, _conn: Any = None) -> int:
        return self.drop(key)

    async def _exists(self, key: str, _conn: Any = None) -> bool:
        return await self._get(key) is not None

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        for key in [key for key in self._kept if key.startswith(namespace or "")]:
            self.drop(key)
        return True

    def empty(self) -> int:
        """Forget everything; return how many were forgotten."""
        forgotten = len(self._kept)
        self._kept.clear()
        self.bytes = 0
        for tally in self._tallies.values():
            tally.entries = tally.bytes = 0
        return forgotten

    def older(self, moment: float) -> list[str]:
        """Return the keys of what came before a moment."""
        return [key for key, (_, _, came) in self._kept.items() if came < moment]

    def drop(self, key: str) -> int:
        """Forget a key; return how many were forgotten."""
        entry = self._kept.pop(key, None)
        if entry is None:
            return 0
        self._count(key, -1, -_size(key, entry[1]))
        return 1


class _Tally:
    """What is kept of one tool's answers."""

    __slots__ = ("bytes", "entries", "evicted")

    def __init__(self) -> None:
        self.bytes = self.entries = self.evicted = 0


def label_of(key: str) -> str:
    """Return what an answer is called for people: the first line of its key."""
    return key.partition("\n")[0]


def _size(key: str, value: bytes) -> int:
    return len(key) + len(value) + _OVERHEAD


class MemoryShelf:
    """Keep answers in this process; invalidation is a new token, and takes effect at once."""

    missed = 0  # invalidations that others have not heard of: there are none

    def __init__(
        self,
        max_entries: int,
        max_bytes: int,
        now: Callable[[], float],
        epoch: Callable[[], float],
    ) -> None:
        self._epoch = epoch
        self._memory = BoundedMemory(max_entries, max_bytes, now)
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._now = now
        # Never used twice, and not secret: asking the system for randomness costs more than a hit.
        run = token_hex(8)
        self._tokens = (f"{run}.{number}" for number in count())
        self._edition = Edition(next(self._tokens))
        self._scopes: dict[str, str] = {}
        self._quiet_until = 0.0
        self._invalidations = 0

    async def edition(self, scopes: tuple[str, ...]) -> Edition:
        """Return the edition of these scopes."""
        return self.glance(scopes)

    def glance(self, scopes: tuple[str, ...]) -> Edition:
        """Return the edition of these scopes."""
        found = self._edition
        if self._scopes:
            found = Generations(found, self._scopes).edition(scopes)
        if not self._quiet_until:
            return found
        storable = self._now() >= self._quiet_until
        if storable:
            self._quiet_until = 0.0
        return found._replace(storable=storable)

    async def get(self, key: str) -> bytes | None:
        """Return what was put there, unless its time is over."""
        return self._memory.look(key)

    def at_hand(self, key: str) -> bytes | None:
        """Return what was put there, unless its time is over."""
        return self._memory.look(key)

    async def put(self, key: str, frame: bytes, seconds: float) -> bool:
        """Keep a frame for `seconds`, if it is not larger than the whole shelf; tell whether."""
        return bool(await self._memory.set(key, frame, ttl=seconds))

    async def delete(self, key: str) -> None:
        """Forget a frame."""
        await self._memory.delete(key)

    async def invalidate(self, scope: str = "", quarantine: float = 0.0) -> int:
        """Make the answers of a scope invalid; return how many were dropped."""
        self._invalidations += 1
        return self._void(scope, quarantine)

    def _void(self, scope: str, quarantine: float) -> int:
        if quarantine:
            self._quiet_until = max(self._quiet_until, self._now() + quarantine)
        if scope and len(self._scopes) < _SCOPES_LIMIT:
            self._scopes[scope] = f"/{next(self._tokens)}"
            return self._drop(scope)
        self._edition = Edition(next(self._tokens))
        self._scopes.clear()
        # Their names are never asked for again; what they hold is wanted back now.
        return self._memory.empty()

    async def expire(self, before: float) -> int:
        """Make what was stored before a moment invalid; return how many were dropped."""
        return self._void_before(before)

    def hear(self, notice: Notice) -> int:
        """Drop what another worker has made invalid; return how many."""
        if notice.before:
            return self._void_before(notice.before)
        return self._void(notice.scope, notice.quarantine)

    def _void_before(self, before: float) -> int:
        moment = self._now() - max(0.0, self._epoch() - before)
        return sum(map(self._memory.drop, self._memory.older(moment)))

    def _drop(self, scope: str) -> int:
        if scope.startswith("caller:"):  # known to their keys only; they go when room is wanted
            return 0
        return sum(
            self._memory.drop(key)
            for key in self._memory.keys()  # noqa: SIM118 - no dict
            if within(scope, key)
        )

    def snapshot(self) -> dict[str, object]:
        """Return sizes and bounds."""
        return {
            "store": "memory",
            "entries": len(self._memory),
            "bytes": self._memory.bytes,
            "max_entries": self._max_entries,
            "max_bytes": self._max_bytes,
            "evicted": self._memory.evicted,
            "invalidations": self._invalidations,
        }

    def kept(self) -> dict[str, dict[str, int]]:
        """Return how much is kept of each tool's answers."""
        return self._memory.tallies()

    async def aclose(self) -> None:
        """Nothing to let go of."""


def within(scope: str, key: str) -> bool:
    """Tell whether the answer of a key (`service/tool`, line end, token, hash) belongs to a scope."""
    if scope.startswith("key:"):
        return key[-_HASH:].startswith(scope.removeprefix("key:"))
    label = label_of(key)
    service, slash, tool = label.partition("/")
    return bool(slash) and scope in {f"service:{service}", f"tool:{tool}", label}
