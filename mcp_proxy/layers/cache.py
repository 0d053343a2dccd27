"""Answer from what we know."""

from dataclasses import dataclass
from functools import lru_cache

from mcp_proxy.core import answers, freshness
from mcp_proxy.core.call import CacheNote, Call, Reply
from mcp_proxy.core.clock import Clock
from mcp_proxy.core.frame import Frame, pack, unpack
from mcp_proxy.core.keys import Keyring
from mcp_proxy.core.memo import Memo
from mcp_proxy.core.reading import read_answer
from mcp_proxy.core.shelf import Edition, Shelf
from mcp_proxy.layers.chain import Forward

# Small frames that are asked for again and again are unpacked once; at most 2 x 8 MiB.
_REMEMBERED = 1024
_SMALL = 8192


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which answer a call asks for."""

    digest: str | None  # the key without its generation; None if it has none
    label: str  # for people
    scopes: tuple[str, ...]
    may_be_old: bool  # the caller takes an answer that we know


class Cache:
    """Answer a call from a stored answer; store the answers that may be kept.

    The generation is read before the server is asked: an answer that was fetched before an
    invalidation is stored under a name that nobody asks for any more.
    """

    def __init__(self, shelf: Shelf, keyring: Keyring, clock: Clock, limit: int) -> None:
        self._shelf = shelf
        self._keyring = keyring
        self._clock = clock
        self._limit = limit
        self._met: Memo[object, Wanted] = Memo(_REMEMBERED)
        self._unpacked = lru_cache(_REMEMBERED)(unpack)

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Return a stored answer, or ask on and store what may be stored."""
        if call.intent.keep is None:
            return await forward(call)
        wanted = self._wanted(call)
        edition = await self._shelf.edition(wanted.scopes) if wanted.digest else None
        if edition is None:
            return await forward(call)
        key = f"{wanted.label}\n{edition.token}{wanted.digest}"
        if not wanted.may_be_old:
            reply = await forward(call)
            return await self._kept(call, reply, key, edition, why="request")
        frame = await self._recall(key)
        if frame is not None:
            return self._hit(call, frame)
        reply = await forward(call._replace(key=key))
        return await self._kept(call, reply, key, edition, why="miss")

    def _wanted(self, call: Call) -> Wanted:
        known = self._met.get(call.same)
        if known is None:
            known = Wanted(
                self._keyring.of(call), label(call), scopes(call), freshness.may_look(call)
            )
            if call.same is not None:
                self._met.keep(call.same, known)
        return known

    async def _recall(self, key: str) -> Frame | None:
        data = await self._shelf.get(key)
        if data is None:
            return None
        frame = self._unpacked(data) if len(data) <= _SMALL else unpack(data)
        if frame is None:
            await self._shelf.delete(key)
            return None
        return frame if frame.age(self._clock.epoch()) < frame.fresh else None

    def _hit(self, call: Call, frame: Frame) -> Reply:
        age = frame.age(self._clock.epoch())
        note = CacheNote(hit=True, ttl=frame.fresh - age, age=age)
        return answers.told(frame, call, note)

    async def _kept(self, call: Call, reply: Reply, key: str, edition: Edition, why: str) -> Reply:
        collapsed = reply.cache is not None and reply.cache.collapsed
        frame = None
        if edition.storable and not collapsed and freshness.may_store(call, reply):
            frame = self._framed(call, reply)
        if frame is not None:
            await self._shelf.put(key, pack(frame), frame.fresh)
        note = CacheNote(
            forwarded=why,
            stored=frame is not None,
            collapsed=collapsed,
            ttl=frame.fresh if frame else None,
        )
        return reply._replace(cache=note)

    def _framed(self, call: Call, reply: Reply) -> Frame | None:
        data = answers.answer_in(reply, self._limit)
        answer = read_answer(data) if data is not None else None
        fresh = freshness.lifetime(call, answer) if answer is not None else 0.0
        if data is None or fresh <= 0:
            return None
        return answers.framed(call, reply, data, stored=self._clock.epoch(), fresh=fresh)


def scopes(call: Call) -> tuple[str, ...]:
    """Return the names under which the answer to a call can be cleared apart from all others."""
    message = call.message
    if not message.tool:
        return ()
    return (f"service:{message.service}", f"tool:{message.tool}", label(call))


def label(call: Call) -> str:
    """Return what a stored answer is called for people: its tool or its method."""
    message = call.message
    return f"{message.service}/{message.tool}" if message.tool else message.method
