"""Answer from what we know."""

from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from mcp_proxy.core import answers, freshness
from mcp_proxy.core.call import CacheNote, Call, Reply
from mcp_proxy.core.clock import Clock, Spawn
from mcp_proxy.core.errors import ProxyError, without_frames
from mcp_proxy.core.frame import Frame, pack, unpack
from mcp_proxy.core.keys import Keyring
from mcp_proxy.core.reading import read_answer
from mcp_proxy.core.scopes import KEY_LENGTH, label, of_caller, scopes
from mcp_proxy.core.shelf import Edition, Shelf
from mcp_proxy.layers.chain import Forward

# Small frames that are asked for again and again are unpacked once; at most 2 x 8 MiB.
_REMEMBERED = 1024
_SMALL = 8192
# The last part of an answer's time in which it is fetched anew already, each key at its own moment.
_EARLY = 0.05


class Name:
    """What one answer is called in the store, but for the generation; and where it is just now."""

    __slots__ = ("digest", "label", "place", "scopes")

    def __init__(self, digest: str, scopes: tuple[str, ...], called: str) -> None:
        self.digest = digest
        self.scopes = scopes
        self.label = called  # for people
        self.place: Place | None = None

    def at(self, edition: Edition) -> "Place":
        """Return where the answer is kept under an edition."""
        place = self.place
        if place is None or place.edition is not edition:
            key = f"{self.label}\n{edition.token}{self.digest}"
            place = self.place = Place(key, self.digest, self.scopes, edition)
        return place


class Wanted(NamedTuple):
    """Which answer a call asks for."""

    own: Name | None  # None if the call has no key
    shared: Name | None  # of an answer that is for everybody (MCP_CACHE_SHARE_PUBLIC)
    may_be_old: bool  # the caller takes an answer that we know


class Place(NamedTuple):
    """Where an answer is kept now; it does not name its name, which would make a cycle of each miss."""

    key: str
    digest: str
    scopes: tuple[str, ...]
    edition: Edition

    @property
    def shown(self) -> str:
        """Return what the key is called for people."""
        return self.digest[:KEY_LENGTH]

    @property
    def share(self) -> float:
        """Return a number between 0 and 1 that is the key's own."""
        return int(self.digest[:4], 16) / 0xFFFF


class _Asking(NamedTuple):
    """A call that is about to ask the server, and where its answer is to go."""

    call: Call
    forward: Forward
    own: Place
    shared: Place | None


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
        self._unpacked = lru_cache(_REMEMBERED)(unpack)

    def known(self, call: Call) -> Reply | None:
        """Return a fresh answer that is found without waiting; None says nothing."""
        if call.intent.keep is None:
            return None
        wanted = self._wanted(call)
        if not wanted.may_be_old:
            return None
        for name in (wanted.own, wanted.shared):
            edition = self._shelf.glance(name.scopes) if name is not None else None
            if name is None or edition is None:
                continue
            place = name.at(edition)
            data = self._shelf.at_hand(place.key)
            frame = self._read(data) if data is not None else None
            if frame is None or frame.stored < edition.since:
                continue
            age = frame.age(self._clock.epoch())
            if age < frame.terms.fresh * (1 - _EARLY):
                return _told(call, frame, age, place)
        return None

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Return a stored answer, or ask on and store what may be stored."""
        if call.known is not None:
            return call.known
        wanted = self._wanted(call) if call.intent.keep is not None else None
        own = await self._place(wanted.own) if wanted is not None else None
        if wanted is None or own is None:
            return await forward(call)
        ask = _Asking(call._replace(key=own.key), forward, own, await self._place(wanted.shared))
        if not wanted.may_be_old:
            return await self._asked(ask, call, why="request")
        place, frame = await self._found(ask)
        if frame is None:
            return await self._asked(ask, ask.call, why="miss")
        age = frame.age(self._clock.epoch())
        if age < frame.terms.fresh * (1 - _EARLY):
            return _told(call, frame, age, place)
        return await self._ending(ask, place, frame)

    async def _found(self, ask: _Asking) -> tuple[Place, Frame | None]:
        """Return the caller's own answer, else the one for everybody."""
        frame = await self._recall(ask.own)
        if frame is None and ask.shared is not None:
            return ask.shared, await self._recall(ask.shared)
        return ask.own, frame

    async def _ending(self, ask: _Asking, place: Place, frame: Frame) -> Reply:
        """Tell what is known, while that may be; refresh it in its last moments and after."""
        call, terms = ask.call, frame.terms
        age = frame.age(self._clock.epoch())
        over = age - terms.fresh
        may_refresh = terms.revalidate > 0 and call.intent.collapsible
        if over < 0:
            # Answers that were stored together must not all be asked for again together.
            if may_refresh and -over < terms.fresh * _EARLY * place.share:
                self._refresh(ask)
            return _told(call, frame, age, place)
        if may_refresh and over < terms.revalidate:
            self._refresh(ask)
            return _told(call, frame, age, place, stale="stale-while-revalidate")
        return await self._asked_anew(ask, place, frame)

    async def _asked_anew(self, ask: _Asking, place: Place, frame: Frame) -> Reply:
        """Ask again for what is over; tell it once more if the server is failing."""
        try:
            outcome: Reply | ProxyError = await ask.forward(ask.call)
        except ProxyError as error:
            outcome = without_frames(error)
        age = frame.age(self._clock.epoch())
        usable = age < frame.terms.fresh + frame.terms.on_error
        if usable and freshness.is_failing(outcome) and await self._still_holds(place):
            if isinstance(outcome, Reply):
                await outcome.discard()
            return _told(ask.call, frame, age, place, stale="stale-if-error")
        if isinstance(outcome, ProxyError):
            outcome.cache = CacheNote(forwarded="stale")
            raise outcome
        return await self._kept(ask, outcome, why="stale")

    async def _asked(self, ask: _Asking, call: Call, why: str) -> Reply:
        try:
            reply = await ask.forward(call)
        except ProxyError as error:
            error.cache = CacheNote(forwarded=why)
            raise
        return await self._kept(ask, reply, why)

    async def _still_holds(self, place: Place) -> bool:
        """Tell whether nothing has been made invalid while the server was asked."""
        now = await self._shelf.edition(place.scopes)
        return now is not None and now._replace(storable=True) == place.edition._replace(
            storable=True
        )

    async def _place(self, name: Name | None) -> Place | None:
        edition = await self._shelf.edition(name.scopes) if name is not None else None
        return name.at(edition) if name is not None and edition is not None else None

    def _refresh(self, ask: _Asking) -> None:
        if ask.own.key not in self._refreshing:
            self._refreshing.add(ask.own.key)
            self._spawn(self._refreshed(ask), "refresh")

    async def _refreshed(self, ask: _Asking) -> None:
        """Fetch an answer anew; what fails is tried again by the next who asks."""
        try:
            with suppress(ProxyError):
                kept = await self._kept(ask, await ask.forward(ask.call), why="stale")
                await kept.discard()
        finally:
            self._refreshing.discard(ask.own.key)

    def _wanted(self, call: Call) -> Wanted:
        known = call.same.wanted if call.same is not None else None
        if isinstance(known, Wanted):
            return known
        who, message = self._keyring.who(call), call.message
        own, shared = self._keyring.of(call), self._keyring.shared(call)
        called = label(message)
        wanted = Wanted(
            Name(own, scopes(message, own, of_caller(who.credentials)), called) if own else None,
            Name(shared, scopes(message, shared), called) if shared else None,
            freshness.may_look(call),
        )
        if call.same is not None:
            call.same.wanted = wanted
        return wanted

    async def _recall(self, place: Place) -> Frame | None:
        data = await self._shelf.get(place.key)
        if data is None:
            return None
        frame = self._read(data)
        if frame is None:
            await self._shelf.delete(place.key)
            return None
        return frame if frame.stored >= place.edition.since else None

    def _read(self, data: bytes) -> Frame | None:
        return self._unpacked(data) if len(data) <= _SMALL else unpack(data)

    async def _kept(self, ask: _Asking, reply: Reply, why: str) -> Reply:
        collapsed = reply.cache is not None and reply.cache.collapsed
        note = CacheNote(forwarded=why, collapsed=collapsed)
        if ask.own.edition.storable and not collapsed and freshness.may_store(ask.call, reply):
            note = await self._stored(ask, reply, note)
        return reply._replace(cache=note)

    async def _stored(self, ask: _Asking, reply: Reply, note: CacheNote) -> CacheNote:
        data = answers.answer_in(reply, self._limit)
        answer = read_answer(data) if data is not None else None
        if data is None or answer is None:
            return note
        terms = freshness.terms(ask.call, answer)
        age = freshness.age_of(reply.headers)
        stored = self._clock.epoch() - age
        frame = answers.framed(ask.call, reply, data, stored=stored, terms=terms)
        if frame is None or not any(terms):
            return note
        place = ask.own
        if ask.shared is not None and freshness.is_public(reply, answer):
            place, frame = ask.shared, answers.for_everybody(frame)
        if not await self._shelf.put(place.key, pack(frame), frame.kept):
            return note
        return note._replace(stored=True, ttl=terms.fresh - age, key=place.shown)


def _told(call: Call, frame: Frame, age: float, place: Place, *, stale: str = "") -> Reply:
    left = frame.terms.fresh - age
    note = CacheNote(hit=True, stale=stale, ttl=left, age=age, key=place.shown)
    return answers.told(frame, call, note)
