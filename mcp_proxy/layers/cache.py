"""Answer from what we know."""

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from mcp_proxy.core import answers, freshness
from mcp_proxy.core.call import CacheNote, Call, Reply, Stream
from mcp_proxy.core.clock import Clock, Spawn
from mcp_proxy.core.errors import ProxyError
from mcp_proxy.core.frame import Frame, pack, unpack
from mcp_proxy.core.freshness import Terms
from mcp_proxy.core.keys import Keyring
from mcp_proxy.core.memo import Memo
from mcp_proxy.core.reading import read_answer
from mcp_proxy.core.scopes import KEY_LENGTH, label, scopes
from mcp_proxy.core.shelf import Edition, Shelf
from mcp_proxy.layers.chain import Forward

# Small frames that are asked for again and again are unpacked once; at most 2 x 8 MiB.
_REMEMBERED = 1024
_SMALL = 8192
# The last part of an answer's time in which it is fetched anew already, each key at its own moment.
_EARLY = 0.05


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which answer a call asks for."""

    digest: str | None  # the key without its generation; None if it has none
    label: str  # for people
    scopes: tuple[str, ...]
    may_be_old: bool  # the caller takes an answer that we know

    @property
    def name(self) -> str:
        """Return what the key is called for people."""
        return (self.digest or "")[:KEY_LENGTH]

    @property
    def share(self) -> float:
        """Return a number between 0 and 1 that is the key's own."""
        return int((self.digest or "0")[:4], 16) / 0xFFFF


class _Asking(NamedTuple):
    """A call that is about to ask the server, and where its answer is to go."""

    call: Call
    forward: Forward
    key: str
    name: str  # of the key, for people
    edition: Edition


class Cache:
    """Answer a call from a stored answer; store the answers that may be kept.

    The generation is read before the server is asked: an answer that was fetched before an
    invalidation is stored under a name that nobody asks for any more.
    """

    def __init__(
        self,
        shelf: Shelf,
        keyring: Keyring,
        clock: Clock,
        spawn: Spawn,
        limit: int,
    ) -> None:
        self._spawn = spawn
        self._refreshing: set[str] = set()  # keys
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
        ask = _Asking(call._replace(key=key), forward, key, wanted.name, edition)
        if not wanted.may_be_old:
            return await self._kept(ask, await forward(call), why="request")
        frame = await self._recall(key)
        if frame is None or frame.stored < edition.since:
            return await self._kept(ask, await forward(ask.call), why="miss")
        age = frame.age(self._clock.epoch())
        over = age - frame.terms.fresh
        may_refresh = frame.terms.revalidate > 0 and call.intent.collapsible
        if over < 0:
            # Answers that were stored together must not all be asked for again together.
            if may_refresh and -over < frame.terms.fresh * _EARLY * wanted.share:
                self._refresh(ask)
            return _told(call, frame, age, wanted.name)
        if may_refresh and over < frame.terms.revalidate:
            self._refresh(ask)
            return _told(call, frame, age, wanted.name, stale="stale-while-revalidate")
        return await self._asked_anew(ask, frame, age)

    async def _asked_anew(self, ask: _Asking, frame: Frame, age: float) -> Reply:
        """Ask again for what is over; tell it once more if the server is failing."""
        try:
            outcome: Reply | ProxyError = await ask.forward(ask.call)
        except ProxyError as error:
            outcome = error
        if age < frame.terms.fresh + frame.terms.on_error and freshness.is_failing(outcome):
            if isinstance(outcome, Reply):
                await close(outcome)
            return _told(ask.call, frame, age, ask.name, stale="stale-if-error")
        if isinstance(outcome, ProxyError):
            raise outcome
        return await self._kept(ask, outcome, why="stale")

    def _refresh(self, ask: _Asking) -> None:
        if ask.key not in self._refreshing:
            self._refreshing.add(ask.key)
            self._spawn(self._refreshed(ask), "refresh")

    async def _refreshed(self, ask: _Asking) -> None:
        """Fetch an answer anew; what fails is tried again by the next who asks."""
        try:
            with suppress(ProxyError):
                await close(await self._kept(ask, await ask.forward(ask.call), why="stale"))
        finally:
            self._refreshing.discard(ask.key)

    def _wanted(self, call: Call) -> Wanted:
        known = self._met.get(call.same)
        if known is None:
            digest = self._keyring.of(call)
            known = Wanted(
                digest,
                label(call.message),
                scopes(call, digest) if digest else (),
                freshness.may_look(call),
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
        return frame

    async def _kept(self, ask: _Asking, reply: Reply, why: str) -> Reply:
        collapsed = reply.cache is not None and reply.cache.collapsed
        frame = None
        if ask.edition.storable and not collapsed and freshness.may_store(ask.call, reply):
            frame = self._framed(ask.call, reply)
        if frame is not None:
            await self._shelf.put(ask.key, pack(frame), frame.kept)
        note = CacheNote(
            forwarded=why,
            stored=frame is not None,
            collapsed=collapsed,
            ttl=frame.terms.fresh if frame else None,
            key=ask.name if frame else "",
        )
        return reply._replace(cache=note)

    def _framed(self, call: Call, reply: Reply) -> Frame | None:
        data = answers.answer_in(reply, self._limit)
        answer = read_answer(data) if data is not None else None
        terms = freshness.terms(call, answer) if answer is not None else Terms()
        if data is None or not any(terms):
            return None
        stored = self._clock.epoch() - freshness.age_of(reply.headers)
        return answers.framed(call, reply, data, stored=stored, terms=terms)


def _told(call: Call, frame: Frame, age: float, key: str, *, stale: str = "") -> Reply:
    note = CacheNote(hit=True, stale=stale, ttl=frame.terms.fresh - age, age=age, key=key)
    return answers.told(frame, call, note)


async def close(reply: Reply) -> None:
    """Let go of an answer that nobody gets."""
    if isinstance(reply.body, Stream):
        await reply.body.aclose()
