"""Choose which of several targets is asked, and move on where nothing was delivered."""

from collections.abc import Sequence
from itertools import count
from typing import NamedTuple, Protocol

from mcp_proxy.core.call import Call, Reply, Stream, Whole
from mcp_proxy.core.clock import Emit
from mcp_proxy.core.errors import (
    CircuitOpenError,
    ProxyError,
    UpstreamUnreachableError,
    without_frames,
)
from mcp_proxy.core.intent import Stack
from mcp_proxy.core.session import SESSION, ping
from mcp_proxy.layers.chain import Forward


class Load:
    """What a target has to do just now."""

    __slots__ = ("under_way",)

    def __init__(self) -> None:
        self.under_way = 0

    def end(self) -> None:
        """Count one that is over."""
        self.under_way -= 1


class Target(Protocol):
    """One of the servers, as far as a choice needs to know it."""

    name: str
    calls: Load
    streams: Load  # that answer no call, and are open

    @property
    def up(self) -> bool:
        """Tell whether it is to be asked."""
        ...

    @property
    def lost(self) -> bool:
        """Tell whether it is away for longer than a restart takes."""
        ...

    @property
    def weight(self) -> float:
        """Return its share of a full load, above 0 and at most 1."""
        ...


class Homes(Protocol):
    """Where sessions live (upstream/homes)."""

    def of(self, said: str) -> str | None:
        """Return the target's name, if it is known."""
        ...

    async def elsewhere(self, said: str) -> str | None:
        """Return the target's name as another worker of this sidecar knows it."""
        ...

    def keep(self, said: str, target: str) -> None:
        """Remember where a session lives."""
        ...

    def forget(self, said: str) -> None:
        """Forget a session that is over."""
        ...


class Way(NamedTuple):
    """A target and the road to it."""

    target: Target
    forward: Forward


class Failover:
    """Stand where with one target the road to it would begin.

    A call goes to the target that has least to do among those that are up, and among them to one
    where no try of it has been. A session's calls go where it lives. Where nothing was delivered (no
    connection, or an open circuit) the next target is asked at once, writes too, and no retry is
    spent; any other failure goes back to `retry`, which comes again if the call may be repeated.
    """

    def __init__(self, ways: Sequence[Way], homes: Homes, emit: Emit) -> None:
        self._ways = ways
        self._by_name = {way.target.name: way for way in ways}
        self._homes = homes
        self._emit = emit
        self._turn = 0
        self._pings = count(1)

    async def __call__(self, call: Call) -> Reply:
        """Return the answer of the first target that can be asked."""
        home = await self._home(call)
        return await (self._at_home(call, home) if home else self._at_any(call))

    async def _at_home(self, call: Call, home: Way) -> Reply:
        try:
            reply = await asked(home, call)
        except UpstreamUnreachableError as error:
            error.target = home.target.name
            raise
        if call.method == "DELETE" and reply.status < 300:
            self._homes.forget(call.headers.get(SESSION, ""))
        return reply

    async def _at_any(self, call: Call) -> Reply:
        ways = self._in_order(call)
        errors: list[ProxyError] = []
        for way in ways:
            try:
                reply = await asked(way, call)
            except (UpstreamUnreachableError, CircuitOpenError) as error:
                errors.append(without_frames(error))
                if isinstance(call.body, Stream) and not isinstance(error, CircuitOpenError):
                    break  # it may have been read, and is gone then
                if way is not ways[-1] and isinstance(error, UpstreamUnreachableError):
                    self._tell(call, way, error)
                continue
            session = reply.headers.get(SESSION)
            if call.message.method == "initialize" and session:
                self._homes.keep(session, way.target.name)
            return reply
        raise most_telling(errors, ways)

    def _in_order(self, call: Call) -> list[Way]:
        """Return the targets that are up, or all where none is; the best one first."""
        self._turn = (self._turn + 1) % len(self._ways)
        turned = [*self._ways[self._turn :], *self._ways[: self._turn]]  # for those that are equal
        ways = [way for way in turned if way.target.up] or turned
        tried = call.tried or ()
        if call.intent.stack is Stack.SHORT:
            ways.sort(key=lambda way: (way.target.streams.under_way + 1) / way.target.weight)
        else:
            ways.sort(
                key=lambda way: (
                    tried.count(way.target.name),
                    (way.target.calls.under_way + 1) / way.target.weight,
                )
            )
        return ways

    async def _home(self, call: Call) -> Way | None:
        """Return where the call's session lives, if it belongs to one."""
        session = None if call.message.stateless else call.headers.get(SESSION)
        legacy = call.method == "POST" and call.intent.stack is Stack.SHORT
        said = session or (call.target if legacy else None)
        if said is None:
            return None
        name = self._homes.of(said) or await self._homes.elsewhere(said)
        if name is None:
            return await self._found(call, session) if session else None
        home = self._by_name[name]
        if home.target.lost and any(way.target.up for way in self._ways):
            self._homes.forget(said)  # the others say 404, and the client begins anew
            return None
        return home

    async def _found(self, call: Call, session: str) -> Way | None:
        """Ask the targets which of them knows a session: we, or a sidecar like us, may be new here."""
        if not isinstance(call.body, Whole):
            return None
        for way in self._in_order(call):
            try:
                reply = await asked(way, ping(call, next(self._pings), session))
            except ProxyError:
                continue
            await reply.discard()
            if reply.status < 300:
                self._homes.keep(session, way.target.name)
                return way
        return None

    def _tell(self, call: Call, way: Way, error: ProxyError) -> None:
        self._emit(
            "retry.scheduled",
            **call.ids,
            service=call.message.service,
            tool=call.message.tool,
            method=call.message.method,
            attempt=call.attempt,
            wait_ms=0,
            reason=error.code,
            target=way.target.name,
        )


async def asked(way: Way, call: Call) -> Reply:
    """Ask one target; it has more to do until the last byte of its answer is here."""
    target = way.target
    load = target.streams if call.intent.stack is Stack.SHORT else target.calls
    if call.tried is not None:
        call.tried.append(target.name)
    load.under_way += 1
    try:
        reply = await way.forward(call)
    except BaseException:
        load.end()
        raise
    if isinstance(reply.body, Stream):
        reply.body.on_end(load.end)
    else:
        load.end()
    return reply


def most_telling(errors: Sequence[ProxyError], ways: Sequence[Way]) -> ProxyError:
    """Return the error that says most of why no target took a call.

    Who waits for a restart waits for any of the targets, if all of them refused.
    """
    unreachable = [error for error in errors if isinstance(error, UpstreamUnreachableError)]
    bridged = [(error, way) for error, way in zip(errors, ways, strict=False) if is_bridged(error)]
    if not bridged:
        return (unreachable or errors)[-1]
    error, way = bridged[-1]
    assert isinstance(error, UpstreamUnreachableError)
    error.target = "" if len(bridged) == len(ways) else way.target.name
    return error


def is_bridged(error: ProxyError) -> bool:
    """Tell whether an error is a refusal that is worth waiting for."""
    return isinstance(error, UpstreamUnreachableError) and error.bridged
