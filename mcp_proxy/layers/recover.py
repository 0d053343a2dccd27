"""Open a session again that the server has forgotten."""

from asyncio import shield
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from itertools import count
from typing import Protocol

from mcp_proxy.core.answers import answer_in
from mcp_proxy.core.call import Call, Delivery, Reply, Stream, Whole
from mcp_proxy.core.clock import Clock, Emit, Running, Spawn
from mcp_proxy.core.errors import ProxyError, UpstreamBrokenError, UpstreamUnreachableError
from mcp_proxy.core.intent import Stack
from mcp_proxy.core.keys import opener
from mcp_proxy.core.message import NOTHING
from mcp_proxy.core.reading import read_answer
from mcp_proxy.core.session import (
    SESSION,
    Left,
    Session,
    addressed,
    begun,
    ping,
    replay,
    told_back,
)
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.chain import Forward

# A handshake is two or three small messages; a server that takes longer has other troubles.
_PATIENCE = 10.0  # seconds
# A session that answered so lately is still known, unless a connection has broken since: the one on
# which it answered is in the pool for so long (edge/pool). A server that keeps none might restart
# within that time; none of a tool does.
_SURE = 0.5  # seconds


class Sessions(Protocol):
    """The sessions that are known (upstream/sessions)."""

    def find(self, session_id: str) -> Session | None:
        """Return a session by the id that the client knows."""
        ...

    def keep(self, session: Session) -> None:
        """Remember a session, or that it is larger now."""
        ...

    def forget(self, session_id: str) -> None:
        """Forget a session."""
        ...


class Server(Protocol):
    """What is known of the server that sessions live on."""

    @property
    def departures(self) -> int:
        """Return how often it has gone away, or may have: a connection broke."""
        ...

    def stranded(self, session_id: str) -> bool:
        """Tell whether the target on which a session lived is away, while another is there."""
        ...

    async def session_lost(self, call: Call) -> None:
        """Hear that it had forgotten the session of a call."""
        ...


class Others(Protocol):
    """The other workers of this sidecar, to which calls of the same sessions may come.

    They know before the client is answered, so that its next call finds them knowing.
    """

    async def opened(self, session: Session) -> None:
        """Let them know of a session."""
        ...

    async def noted(self, session: Session, said: bytes) -> None:
        """Let them know what the client said, that is part of its session."""
        ...

    async def over(self, session: Session) -> None:
        """Let them forget a session."""
        ...

    async def moved(self, session: Session) -> None:
        """Let them know that it was opened anew."""
        ...

    async def follow(self, session: Session) -> bool:
        """Take over what one of them has opened anew; tell whether one has."""
        ...

    def turn(self, session: Session) -> AbstractAsyncContextManager[None]:
        """Wait until none of them opens it anew."""
        ...


class Nobody:
    """The other workers, where there are none."""

    async def opened(self, session: Session) -> None:
        """Nobody is to know."""

    async def noted(self, session: Session, said: bytes) -> None:
        """Nobody is to know."""

    async def over(self, session: Session) -> None:
        """Nobody is to know."""

    async def moved(self, session: Session) -> None:
        """Nobody is to know."""

    async def follow(self, session: Session) -> bool:  # noqa: ARG002 - a port
        """Nobody has opened it anew."""
        return False

    def turn(self, session: Session) -> AbstractAsyncContextManager[None]:  # noqa: ARG002 - a port
        """Nobody else opens it anew."""
        return nullcontext()


class Recover:
    """Say the client's own handshake again when the server answers that it knows no such session.

    Once, and only under the credentials that opened it. Then the call is sent again if it may be
    repeated; any other gets the server's 404. So that this is rare, a call that may be sent only once
    is preceded by a ping when the server may have been restarted since it last knew the session. It
    stands inside retry, so that a write which waited for a restart asks, too. Where recovery fails, the 404 passes as it came: clients know what to do (MCP 2025-11-25, transports).
    """

    def __init__(
        self,
        sessions: Sessions,
        server: Server,
        clock: Clock,
        spawn: Spawn,
        emit: Emit,
        *,
        limit: int,
        others: Others | None = None,
    ) -> None:
        self._sessions = sessions
        self._server = server
        self._clock = clock
        self._spawn = spawn
        self._emit = emit
        self._others = others or Nobody()
        self._limit = limit  # bytes of an answer that is read
        self._pings = count(1)
        self._under_way: dict[str, Running] = {}  # recoveries, by the client's id

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Ask on under the server's own id of the session; recover it if need be."""
        if call.message.method == "initialize":
            reply = await forward(call)
            return await _kept(reply, self._opened(call, reply))
        session = self._own(call)
        if session is None:
            return await forward(call)
        if call.intent.ends_elsewhere:  # whoever asked is there, or does not wait any more
            return await self._passed_on(call, forward, session)
        await self._prepare(call, forward, session)
        used = session.upstream
        try:
            reply = await forward(_resuming(call, session))
        except UpstreamUnreachableError:
            if not await self._moved(call, forward, session, used):
                raise
            # nothing of it was delivered: a write, too, may follow its session to another target
            used = session.upstream
            reply = await forward(_resuming(call, session, anew=True))
        reply = await _kept(reply, self._answered(call, forward, session, used, reply))
        if isinstance(reply.body, Stream):
            reply.body.on_end(_leaving(call, reply.body, session))
        return reply._replace(headers=told_back(reply.headers, session))

    async def _passed_on(self, call: Call, forward: Forward, session: Session) -> Reply:
        """Ask on under the server's own id, and no more: a session opened anew has not asked."""
        reply = await forward(addressed(call, session))
        return reply._replace(headers=told_back(reply.headers, session))

    async def _answered(
        self, call: Call, forward: Forward, session: Session, used: str, reply: Reply
    ) -> Reply:
        """Take note of what an answer says of the session; return it, or the one to a second try."""
        if call.method == "DELETE":
            self._sessions.forget(session.id)
            await self._others.over(session)
        elif reply.status == 404 and self._sessions.find(session.id) is session:
            return await self._again(call, forward, session, used, reply)
        elif reply.status < 300:
            await self._confirm(call, session)
        return reply

    async def _prepare(self, call: Call, forward: Forward, session: Session) -> None:
        """Let the session be where the call can find it."""
        if self._server.stranded(session.upstream):
            await self._recovered(call, forward, session)
        elif not call.intent.repeatable and not self._is_sure(session):
            await self._make_sure(call, forward, session)

    async def _moved(self, call: Call, forward: Forward, session: Session, used: str) -> bool:
        """Open a session elsewhere whose target has just gone away; tell whether it has moved."""
        if session.upstream == used and self._server.stranded(used):
            await self._recovered(call, forward, session)
        return session.upstream != used

    def _is_sure(self, session: Session) -> bool:
        """Tell whether the server has just known the session, and was not seen away since."""
        lately = self._clock.now() - session.confirmed_at <= _SURE
        return lately and session.confirmed == self._server.departures

    async def _confirm(self, call: Call, session: Session) -> None:
        self._confirmed(session)
        if isinstance(call.body, Whole) and session.note(call.message, call.body.data):
            self._sessions.keep(session)
            await self._others.noted(session, call.body.data)

    def _confirmed(self, session: Session, departures: int | None = None) -> None:
        session.confirmed_at = self._clock.now()
        session.confirmed = self._server.departures if departures is None else departures

    async def _make_sure(self, call: Call, forward: Forward, session: Session) -> None:
        """Ask for a sign of life of the session, and recover it if there is none."""
        used, departures = session.upstream, self._server.departures
        try:
            reply, _ = await self._said(ping(call, next(self._pings), used), forward)
        except ProxyError:
            return  # the call itself will tell
        if reply.status == 404 and session.upstream == used:
            await self._recovered(call, forward, session)
        elif reply.status < 300:
            self._confirmed(session, departures)

    async def _opened(self, call: Call, reply: Reply) -> Reply:
        session_id = reply.headers.get(SESSION)
        if reply.status == 200 and session_id:
            session = begun(call, opener(call.headers), session_id)
            if session is not None:
                self._confirmed(session)
                self._sessions.keep(session)
                await self._others.opened(session)
        return reply

    def _own(self, call: Call) -> Session | None:
        """Return the session of a call, if it is known and this caller's."""
        session_id = call.headers.get(SESSION)
        session = self._sessions.find(session_id) if session_id else None
        own = session is not None and not call.message.stateless
        return session if own and session and session.opener == opener(call.headers) else None

    async def _again(
        self, call: Call, forward: Forward, session: Session, used: str, lost: Reply
    ) -> Reply:
        """Return the answer to the call in the session opened anew, or the 404."""
        if session.upstream == used:
            await self._recovered(call, forward, session)
        kept = self._sessions.find(session.id) is session
        listens = call.intent.stack is Stack.SHORT and call.method == "GET"
        if not (kept and isinstance(call.body, Whole) and (call.intent.repeatable or listens)):
            return lost
        await lost.discard()
        # where the server has gone away again meanwhile, this waits for its return, in retry
        reply = await forward(_resuming(call, session, anew=True))
        forgets_at_once = reply.status == 404 and session.upstream != used
        if forgets_at_once:  # not again and again
            self._sessions.forget(session.id)
        return reply._replace(attempts=lost.attempts + reply.attempts)

    async def _recovered(self, call: Call, forward: Forward, session: Session) -> None:
        """Open a session anew, once for all calls that miss it; forget it where that failed."""
        under_way = self._under_way.get(session.id)
        if under_way is None:
            work = self._reopen(call, forward, session, session.upstream)
            under_way = self._under_way[session.id] = self._spawn(work, "recover a session")
        # in a task of its own: a caller who leaves does not take the others' session away
        await shield(under_way)

    async def _reopen(self, call: Call, forward: Forward, session: Session, lost: str) -> None:
        reopened, asked = None, True
        try:
            async with self._clock.timeout(_PATIENCE), self._others.turn(session):
                if session.upstream != lost or await self._others.follow(session):
                    self._confirmed(session)
                    return
                reopened = await self._handshake(call, forward, session)
                if reopened is not None:
                    session.upstream = reopened
                    session.moves += 1
                    await self._others.moved(session)
        except ProxyError as error:
            # a server that has gone away again was not asked: a later call may find it back
            asked = error.delivered is Delivery.UNKNOWN
        except TimeoutError:
            pass
        finally:
            del self._under_way[session.id]
        if reopened is None and asked:
            self._sessions.forget(session.id)
        elif reopened is not None:
            self._confirmed(session)
            await self._server.session_lost(call)
        self._emit(
            "session.recovered" if reopened else "session.recovery_failed",
            "info" if reopened else "warning",
            **call.ids,
            messages=1 + len(session.replays()),
        )

    async def _handshake(self, call: Call, forward: Forward, session: Session) -> str | None:
        """Say again what the client said; return the server's new id, or None."""
        reply, answer = await self._said(replay(call, session.initialize, None), forward)
        new = reply.headers.get(SESSION)
        spoken = call.headers.get("MCP-Protocol-Version")
        result = (read_answer(answer) or {}).get("result") if answer else None
        if not new or not isinstance(result, dict):
            return None
        if spoken is not None and result.get("protocolVersion") != spoken:
            return None  # another server by now: the client must hear of it
        for said in session.replays():
            reply, _ = await self._said(replay(call, said, new), forward)
            if reply.status >= 300:
                return None
        return new

    async def _said(self, said: Call, forward: Forward) -> tuple[Reply, bytes | None]:
        """Send one message of the opening; return the reply, and the JSON text of its answer."""
        reply = await forward(said)
        body = reply.body
        if isinstance(body, Stream):
            reply = reply._replace(body=Whole(await heard(body, self._limit)))
        good = reply.status == 200 and reply.verdict in {Verdict.OK, Verdict.TOOL_FAILED}
        return reply, answer_in(reply, self._limit) if good else None


def _resuming(call: Call, session: Session, *, anew: bool = False) -> Call:
    """Return the call as its session is addressed now; raises where it waits for a lost answer.

    Who resumes the stream of a request would else listen to another stream, and wait for ever.
    """
    lost = session.lost(call.headers)
    if lost is not None and lost.asked is not None:
        error = UpstreamBrokenError(
            "The server was restarted before it had answered.", delivered=Delivery.UNKNOWN
        )
        error.asked = lost.asked
        raise error
    return addressed(call, session, anew=anew or lost is not None)


def _leaving(call: Call, stream: Stream, session: Session) -> Callable[[], None]:
    """Return what takes note of a stream that has ended, and may be resumed."""
    upstream, before = session.upstream, session.resumed(call.headers)
    own = call.message.id is not None
    asked = call.message._replace(params=NOTHING.params) if own else before and before.asked

    def left() -> None:
        if stream.event_id and not (own and stream.verdict is not None):
            session.leave(stream.event_id, Left(upstream, asked))

    return left


async def _kept(reply: Reply, work: Awaitable[Reply]) -> Reply:
    """Return what comes of an answer; who leaves meanwhile leaves nothing open."""
    try:
        return await work
    except BaseException:
        await reply.discard()
        raise


async def heard(stream: Stream, limit: int) -> bytes:
    """Return what a stream says until its answer is there, and leave it."""
    said = bytearray()
    try:
        async for piece in stream:
            said += piece
            if stream.verdict is not None or len(said) > limit:
                break
    finally:
        await stream.aclose()
    return bytes(said)
