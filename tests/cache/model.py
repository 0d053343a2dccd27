"""Cache > Coalesce > Invalidate against a model: what hypothesis thinks up, in any order (F30, F34-F36).

The oracle knows nothing of keys and generations. The origin stamps each answer with who asked and
which version of the data it saw; every write, clear and list_changed makes a new version. So
(a) an answer bears its caller's name; (b) none is older than what was finished before it was asked
for, as far as its replica must have heard of it (in an outage: before it was told); (c) each write is executed once, and each answer to
one told once; (d) what is for one caller alone is told once; (e) nothing that is kept is told by a
replica that Redis refuses all; (f) what is past its time is told only if none newer is kept. A
failure prints the operations, and what became of each.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from math import inf
from typing import Any

from hypothesis import HealthCheck, settings

from mcp_proxy.core.call import CacheNote, Call, Delivery, Reply, Stream, Whole
from mcp_proxy.core.errors import (
    ProxyError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from mcp_proxy.core.frame import unpack
from mcp_proxy.core.intent import Decisions, Policy
from mcp_proxy.core.keys import Keyring
from mcp_proxy.core.rules import Rule, Rules
from mcp_proxy.core.scopes import of_key
from mcp_proxy.core.shelf import Edition, Shelf
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.cache import Cache
from mcp_proxy.layers.chain import Layer, join
from mcp_proxy.layers.coalesce import Coalesce
from mcp_proxy.layers.invalidate import Invalidate
from tests.cache.ledger import Finished, Floors, Ledger
from tests.cache.operations import (
    CALLERS,
    DENIED,
    EXECUTED,
    FAILED,
    FOR_ONE,
    LATER,
    NAMES,
    SCOPES,
    Ask,
    Clear,
    Clearing,
    ClearKey,
    ClearOlder,
    GoOn,
    Late,
    Leave,
    ListChanged,
    Operation,
    Pass,
    Refuse,
    Write,
)
from tests.fakes import FakeClock, call, reply, rest_tool, rpc, within
from tests.fakes import tool as tool_call

TTL, REVALIDATE, ON_ERROR, QUARANTINE = 300.0, 30.0, 600.0, 30.0
# Redis names the edition soon, or is in trouble (stores/redis, TIMEOUT).
LONGEST = {"far edition": 0.5}
BOUNDS = {
    "": TTL,
    "stale-while-revalidate": TTL + REVALIDATE,
    "stale-if-error": TTL + ON_ERROR,
}
DECISIONS = Decisions(
    Policy(
        cache_ttl=TTL,
        revalidate=REVALIDATE,
        on_error=ON_ERROR,
        rules=Rules([Rule("look", read_only=True), Rule("jira/peek", read_only=True)]),
    )
)

# --- the world in which they happen


class Road:
    """A call on its way, the one place where it stops, and what the oracle must know of it."""

    def __init__(self, call: Call, operation: Ask | Write, clock: FakeClock) -> None:
        self.clock = clock
        self.call = call
        self.operation = operation
        self.name = call.request_id
        self.go = asyncio.Event()
        self.waits = 0
        self.stopped = 0.0  # when it began to wait
        self.task: asyncio.Task[tuple[Reply, bytes]]
        self.answered = False  # the caller has the answer, or knows that there is none
        self.ended = 0.0
        self.judged = False
        self.left = False
        self.change = 0  # the version that it made
        self.executed = 0
        self.over = False  # what it made must show
        self.warning: Finished | None = None  # that it may be executed late
        self.floors: Floors  # what binds its answer, if it asks

    def stops(self, where: str) -> bool:
        return where == self.operation.hold and not self.go.is_set()

    async def stop(self, where: str) -> None:
        if self.stops(where):
            self.waits += 1
            self.stopped = self.clock.now()
            try:
                await self.go.wait()
            finally:
                self.waits -= 1


travelling: ContextVar[Road | None] = ContextVar("travelling", default=None)


def stops(where: str) -> bool:
    """Tell whether the call on whose road we are is to stop here."""
    road = travelling.get()
    return road is not None and road.stops(where)


async def stop(where: str) -> None:
    """Stop the call on whose road we are, if it is to stop here."""
    road = travelling.get()
    if road is not None:
        await road.stop(where)


class SlowShelf:
    """A shelf that may be far away: what it says is old when it comes, what it is told comes late."""

    def __init__(self, shelf: Shelf, world: "World") -> None:
        self._shelf = shelf
        self._world = world

    async def edition(self, scopes: tuple[str, ...]) -> Edition | None:
        edition = await self._shelf.edition(scopes)
        await stop("edition")
        return edition

    def glance(self, scopes: tuple[str, ...]) -> Edition | None:
        return self._shelf.glance(scopes)

    def at_hand(self, key: str) -> bytes | None:
        return self._shelf.at_hand(key)

    async def get(self, key: str) -> bytes | None:
        newest = self._world.newest.get(key, 0.0)
        frame = await self._shelf.get(key)
        if frame is not None:
            self._world.judge_frame(frame, newest)
        await stop("get")
        return frame

    async def put(self, key: str, frame: bytes, seconds: float) -> bool:
        await stop("put")
        return await self._shelf.put(key, frame, seconds)

    async def delete(self, key: str) -> None:
        await self._shelf.delete(key)

    async def invalidate(self, scope: str = "", quarantine: float = 0.0) -> int | None:
        async def late() -> int | None:
            await stop("invalidate")
            return await self._shelf.invalidate(scope, quarantine)

        if not stops("invalidate"):
            return await self._shelf.invalidate(scope, quarantine)
        # As the port demands: a caller who leaves meanwhile does not stop it.
        dropped: int | None = await asyncio.shield(self._world.spawn(late(), "invalidate"))
        return dropped

    async def expire(self, before: float) -> int | None:
        return await self._shelf.expire(before)

    def snapshot(self) -> dict[str, object]:
        return self._shelf.snapshot()

    def kept(self) -> Mapping[str, Mapping[str, int]]:
        return self._shelf.kept()

    async def aclose(self) -> None:
        await self._shelf.aclose()


async def idle() -> None:
    """Let the loop run until it has nothing to do: `settle`, without rounds that move nothing."""
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    for _ in range(1000):
        await asyncio.sleep(0)  # noqa: TID251 - no time passes
        if not ready:
            return
    raise AssertionError("the loop never rests")


class World:
    """Sidecars, their shelves, the origin, the callers; and the oracle, who has seen it all."""

    def __init__(self, met: Counter[str], lag: float = 0.0) -> None:
        self.met = met
        self.clock = FakeClock()
        self.ledger = Ledger(self.clock, lag)
        self.keyring = Keyring("old")
        self.shelves: list[Shelf] = []
        self.stacks: list[Callable[[Call], Awaitable[Reply]]] = []
        self.at_hand: list[Callable[[Call], Reply | None]] = []
        self.pass_elsewhere: Callable[[float], None] = lambda seconds: None
        self.refuse: Callable[[int, str], None] = lambda at, what: None
        self.story: list[str] = []
        self._roads: dict[str, Road] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._busy = 0
        self._moves = 0
        self._moved = asyncio.Event()
        # --- the origin
        self._version = 0
        self._serials = count()
        # --- the oracle
        self._told: Counter[int] = Counter()
        self.newest: dict[str, float] = {}  # when what all can find under a key was stored

    def sidecar(self, shelf: Shelf) -> None:
        """Add a sidecar of the same server."""
        slow = SlowShelf(shelf, self)
        self.shelves.append(slow)
        cache = Cache(slow, self.keyring, self.clock, self.spawn, 1 << 20)
        self.at_hand.append(cache.known)
        layers: list[Layer] = [
            cache,
            Coalesce(300.0, self.clock, self.spawn, 1 << 20),
            Invalidate(slow, QUARANTINE, self.spawn),
        ]
        self.stacks.append(join(layers, self.origin))

    # --- when nothing but time, or we, could move anything on

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be left who wants it

    @contextmanager
    def working(self) -> Iterator[None]:
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._moves += 1
            self._moved.set()

    async def quiet(self) -> None:
        moves = -1
        while self._busy or moves != self._moves:
            if self._busy:
                self._moved.clear()
                await within(self._moved.wait())
            moves = self._moves
            await idle()

    # --- the origin

    async def origin(self, call: Call) -> Reply:
        road = self._roads[call.request_id]
        assert NAMES[tuple(call.headers.items())] == road.operation.who
        if isinstance(road.operation, Write):
            return await self._write(road, road.operation.fate)
        seen, says = self._version, road.operation.says
        if says in DENIED:
            seen = self._changed()
        await road.stop("origin")
        if says in DENIED:
            road.change = seen
            return self._says(road, seen, status=DENIED[says], verdict=Verdict.CLIENT_FAULT)
        return self._plain(road, seen, says)

    def _plain(self, road: Road, seen: int, says: str) -> Reply:
        match says:
            case "unreachable":
                raise UpstreamUnreachableError("Nobody listens.")
            case "cut":
                raise UpstreamBrokenError("It was cut.", delivered=Delivery.UNKNOWN)
            case "broken":
                return self._says(road, seen, status=500, verdict=Verdict.UPSTREAM_FAILED)
            case "private" | "no-store":
                return self._says(road, seen, Cache_Control=says)
            case "cookie":
                return self._says(road, seen, Set_Cookie="sid=x")
            case "tool failed":
                return self._says(road, seen, verdict=Verdict.TOOL_FAILED)
            case "asks back":
                return self._says(road, seen, more={"resultType": "input_required"})
        return self._says(road, seen)

    async def _write(self, road: Road, fate: str) -> Reply:
        await road.stop("road")
        if fate == "refused":
            raise UpstreamUnreachableError("Nobody listens.")
        if fate in EXECUTED:
            self._execute(road)
        if fate == "streamed":
            return self._streams(road)
        await road.stop("origin")
        if fate in {"lost", "late"}:
            raise UpstreamTimeoutError("It is silent.", delivered=Delivery.UNKNOWN)
        if fate == "accepted":
            return reply(202, b"", Content_Type="")
        return self._plain(road, self._version, fate)

    def _execute(self, road: Road) -> None:
        road.executed += 1
        road.change = self._changed()

    def _changed(self) -> int:
        self._version += 1
        return self._version

    def _stamp(self, road: Road, seen: int) -> dict[str, Any]:
        return {
            "who": road.operation.who,
            "what": getattr(road.operation, "what", "write"),
            "seen": seen,
            "serial": next(self._serials),
            "at": self.clock.now(),
            "by": road.operation.at,
            "for_one": getattr(road.operation, "says", "") in {*FOR_ONE, *DENIED, *FAILED},
        }

    def _says(
        self,
        road: Road,
        seen: int,
        *,
        status: int = 200,
        verdict: Verdict = Verdict.OK,
        more: dict[str, Any] | None = None,
        **headers: str,
    ) -> Reply:
        stamp = {**self._stamp(road, seen), **(more or {})}
        said: dict[str, Any] = {"jsonrpc": "2.0", "id": road.call.message.id, "result": stamp}
        if road.call.message.id is None:
            said = {"success": verdict is Verdict.OK and not more, "result": stamp}
        return reply(
            status, json.dumps(said).encode(), verdict, Content_Type="application/json", **headers
        )

    def _streams(self, road: Road) -> Reply:
        answer = self._says(road, self._version)
        assert isinstance(answer.body, Whole)
        data = answer.body.data

        async def pieces() -> Any:
            yield b": it works\n\n"
            await road.stop("origin")
            body.verdict = Verdict.OK
            yield b"data: " + data + b"\n\n"

        body = Stream(pieces())
        return reply(200, b"", Content_Type="text/event-stream")._replace(body=body)

    # --- the operations

    async def does(self, operation: Operation) -> None:
        """Do it, wait until all is quiet, and judge what has come."""
        self.story.append(repr(operation))
        match operation:
            case Ask() | Write():
                self._begin(operation)
            case GoOn(which) | Leave(which):
                self._move(operation, which)
            case Late(which):
                self._late(which)
            case Pass(seconds):
                await self._hurry(seconds)
                self.pass_elsewhere(seconds)
                await self.clock.advance(seconds)
            case Refuse():
                self._refuse(operation)
            case _:
                await self._clear(operation)
        await self.quiet()
        self._judge()

    def _begin(self, operation: Ask | Write) -> None:
        number = len(self._roads)
        made = made_call(operation, number)
        road = Road(made, operation, self.clock)
        self._roads[road.name] = road
        self.story[-1] = f"{road.name}: {self.story[-1]}"
        if isinstance(operation, Ask):
            road.floors = self.ledger.floors(operation.who, operation.what, operation.at)
        road.task = self.spawn(self._travel(road), "call")

    async def _travel(self, road: Road) -> tuple[Reply, bytes]:
        travelling.set(road)
        made, at = road.call, road.operation.at
        if isinstance(road.operation, Ask) and road.operation.short:
            made = made._replace(known=self.at_hand[at](made))
            self.met["at hand"] += made.known is not None
        try:
            answer = await self.stacks[at](made)
            data = await self._read(road, answer)
        except ProxyError:
            road.answered = True
            raise
        finally:
            road.ended = self.clock.now()
        road.answered = True
        return answer, data

    async def _read(self, road: Road, answer: Reply) -> bytes:
        if isinstance(answer.body, Whole):
            return answer.body.data
        data = b""
        assert isinstance(answer.body, Stream)
        try:
            async for piece in answer.body:
                if piece.startswith(b"data: "):
                    road.answered, data = True, piece[6:]
        finally:
            await answer.body.aclose()
        return data

    async def _hurry(self, seconds: float) -> None:
        """Let go on, before time passes, what cannot take so long."""
        for road in self._roads.values():
            longest = LONGEST.get(road.operation.hold, inf)
            if road.waits and self.clock.now() + seconds > road.stopped + longest:
                road.go.set()
        await self.quiet()

    def _move(self, operation: GoOn | Leave, which: int) -> None:
        goes = isinstance(operation, GoOn)
        able = [
            road for road in self._roads.values() if (road.waits if goes else not road.task.done())
        ]
        if not able:
            return
        road = able[which % len(able)]
        self.story[-1] += f" ({road.name})"
        if goes:
            road.go.set()
        else:
            road.left = True
            road.task.cancel()

    def _late(self, which: int) -> None:
        able = [
            road
            for road in self._roads.values()
            if getattr(road.operation, "fate", "") in LATER
            and not road.executed
            and road.task.done()
            and not road.waits
            and self.clock.now() < road.ended + QUARANTINE
        ]
        if able:
            road = able[which % len(able)]
            self.story[-1] += f" ({road.name})"
            self._execute(road)
            assert road.warning is not None
            road.warning.late = road.change

    def _refuse(self, operation: Refuse) -> None:
        for at in operation.at:
            self.refuse(at, operation.what)
            self.ledger.refuse(at, operation.what)

    async def _clear(self, operation: Clearing) -> None:
        changed, at = self._changed(), operation.at
        shelf = self.shelves[at]
        match operation:
            case Clear(scope):
                await within(shelf.invalidate(scope))
                self.ledger.finish(at, changed, what=SCOPES[scope])
            case ListChanged():
                await within(shelf.invalidate())
                self.ledger.finish(at, changed)
                assert not shelf.snapshot().get("entries"), "(b) memory keeps what is void"
            case ClearKey(who, what):
                digest = self.keyring.of(made_call(Ask(who, what), 0))
                assert digest is not None
                await within(shelf.invalidate(of_key(digest)))
                self.ledger.finish(at, changed, who={who}, what={what})
            case ClearOlder(seconds):
                await within(shelf.expire(self.clock.epoch() - seconds))
                self.ledger.finish(at).since = self.clock.now() - seconds

    # --- the oracle

    def kept(self, key: str, data: bytes) -> None:
        """Note what has been stored where all can find it."""
        frame = unpack(data)
        assert frame is not None
        self.newest[key] = frame.stored

    def judge_frame(self, data: bytes, newest: float) -> None:
        """Judge what a shelf has found, given what it should have found."""
        frame = unpack(data)
        assert frame is not None, "a shelf found what nobody put there"
        over = frame.age(self.clock.epoch()) >= frame.terms.fresh
        assert not over or frame.stored >= newest, "(f) a newer answer is kept"

    def _judge(self) -> None:
        for road in self._roads.values():
            if not road.over and self._is_over(road):
                road.over = True
                self._finish(road)
        for road in self._roads.values():
            if road.task.done() and not road.judged:
                road.judged = True
                self._judge_end(road)

    def _finish(self, road: Road) -> None:
        at = road.operation.at
        if road.change:
            denied = isinstance(road.operation, Ask)
            self.ledger.finish(at, road.change, who={road.operation.who} if denied else None)
        if getattr(road.operation, "fate", "") in LATER:
            road.warning = self.ledger.finish(at)
            road.warning.quarantine = True

    def _is_over(self, road: Road) -> bool:
        """Tell whether the change that a call made must show from now on."""
        if road.task.done() and not road.waits:
            return True
        if isinstance(road.operation, Write):
            return road.answered
        over = road.task.done() and not road.task.cancelled() and not road.task.exception()
        return over and road.task.result()[0].status in DENIED.values()

    def _judge_end(self, road: Road) -> None:
        if road.task.cancelled():
            self._tells(road, "left")
            assert road.left, f"{road.name} was cancelled though its caller stayed"
            return
        error = road.task.exception()
        if error is not None:
            self._tells(road, type(error).__name__)
            if not isinstance(error, ProxyError):
                raise error
            return
        answer, data = road.task.result()
        self._tells(road, f"{answer.status} {data.decode()} {answer.cache}")
        if data:
            self._judge_answer(road, answer, json.loads(data))

    def _judge_answer(self, road: Road, answer: Reply, said: dict[str, Any]) -> None:
        stamp, note = said["result"], answer.cache
        name, told = road.name, self._told
        told[stamp["serial"]] += 1
        assert said.get("id") == road.call.message.id, f"{name} got another call's id"
        assert stamp["who"] == road.operation.who, f"(a) {name} got another caller's answer"
        if isinstance(road.operation, Write):
            assert road.executed == 1, f"(c) {name} was executed {road.executed} times"
            assert told[stamp["serial"]] == 1, f"(c) {name} got another write's answer"
            return
        assert stamp["what"] == road.operation.what, f"{name} got another tool's answer"
        seen, floors = stamp["seen"], self._floors(road, note)
        assert seen >= floors.seen, (
            f"(b) {name} was told version {seen}; {floors.seen} was finished before"
        )
        if stamp["for_one"]:
            assert told[stamp["serial"]] == 1, f"(d) {name} got an answer that was for one"
        self.met["behind"] += seen < floors.latest
        self.met["cut off"] += floors.silent
        if note is None or not note.hit:
            collapsed = note is not None and note.collapsed
            assert not (floors.silent and collapsed), f"(e) {name} joined a call without Redis"
            self.met["collapsed"] += collapsed
            return
        self.met[note.stale or "hit"] += 1
        self.met["another's"] += stamp["by"] != road.operation.at
        assert not floors.silent, f"(e) {name} got what is kept without Redis"
        assert seen >= floors.kept, f"(b) {name} got what was stored in quarantine"
        assert stamp["at"] >= floors.since, f"(b) {name} got what was cleared by its age"
        assert note.age is not None
        assert note.age == road.ended - stamp["at"], f"{name} got an answer of another age"
        assert note.age < BOUNDS[note.stale], f"{name} got an answer whose time is over"

    def _floors(self, road: Road, note: CacheNote | None) -> Floors:
        """Return what binds an answer; what is told in an outage has been looked at again."""
        outage = note is not None and note.stale == "stale-if-error"
        if outage and road.ended == self.clock.now() and isinstance(road.operation, Ask):
            return self.ledger.floors(road.operation.who, road.operation.what, road.operation.at)
        return road.floors

    def _tells(self, road: Road, what: str) -> None:
        self.story.append(f"    {road.name} {what}")
        self.met[getattr(road.operation, "fate", "asked")] += 1

    async def ends(self) -> None:
        """Let all go on; nothing may hang, and every write that came to the server was executed."""
        self.story.append("the end: all go on")
        for road in self._roads.values():
            road.go.set()
        await self.quiet()
        self._judge()
        for road in self._roads.values():
            assert road.judged, f"{road.name} hangs"
            assert road.executed <= 1, f"(c) {road.name} was executed {road.executed} times"
        # while Redis refuses, what it has missed is still to be told
        left = [task for task in self._tasks if task.get_name() != "tell Redis"]
        assert not left, f"left behind: {left}"

    async def aclose(self) -> None:
        ending = list(self._tasks)
        for task in ending:
            task.cancel()
        await within(asyncio.gather(*ending, return_exceptions=True))
        for shelf in self.shelves:
            await within(shelf.aclose())


def made_call(operation: Ask | Write, number: int) -> Call:
    """Return the call as the edge would read it; its JSON-RPC id is its own."""
    what = operation.what if isinstance(operation, Ask) else "create"
    message = {
        "look": tool_call("look", number),
        "peek": rest_tool("peek", "jira"),
        "list": rpc("tools/list", number),
        "create": tool_call("create", number, x=1),
    }[what]
    made = call(DECISIONS.of(message), message, headers=CALLERS[operation.who])
    return made._replace(request_id=f"#{number}")


async def played(world: World, script: list[Operation]) -> None:
    """Play the operations; a failure tells the story."""
    try:
        for operation in script:
            await world.does(operation)
        await world.ends()
    except AssertionError as error:
        raise AssertionError("\n".join([str(error), *world.story])) from error
    finally:
        await world.aclose()


def thought_up(number: int) -> settings:
    """Take the same examples in each run: a failure is one for everybody."""
    return settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


def assert_met(met: Counter[str], *names: str) -> None:
    """A model in which nothing is ever told again proves nothing."""
    rare = {name: met[name] for name in names}
    assert min(rare.values()) >= 1, rare
