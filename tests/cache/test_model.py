"""Cache > Coalesce > Invalidate against a model: what hypothesis thinks up, in any order (F30, F34-F36).

The oracle knows nothing of keys and generations. The origin stamps each answer with who asked and
which version of the data it saw; every write, clear and list_changed makes a new version. So
(a) an answer bears its caller's name; (b) none is older than what was finished before it was asked
for; (c) each write is executed once, and each answer to one told once; (d) what is for one caller
alone is told once. A failure prints the operations, and what became of each.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_proxy.core.call import Call, Delivery, Reply, Stream, Whole
from mcp_proxy.core.errors import (
    ProxyError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from mcp_proxy.core.intent import Decisions, Policy
from mcp_proxy.core.keys import Keyring
from mcp_proxy.core.rules import Rule, Rules
from mcp_proxy.core.scopes import of_key
from mcp_proxy.core.shelf import Edition, Shelf
from mcp_proxy.core.verdict import Verdict
from mcp_proxy.layers.cache import Cache
from mcp_proxy.layers.chain import join
from mcp_proxy.layers.coalesce import Coalesce
from mcp_proxy.layers.invalidate import Invalidate
from mcp_proxy.stores.memory import MemoryShelf
from mcp_proxy.stores.redis import RedisShelf
from tests.fakes import FakeClock, Told, call, reply, rest_tool, rpc, settle, within
from tests.fakes import tool as tool_call
from tests.stores.test_redis import Server
from tests.stores.test_redis import pytestmark as needs_redis

T = TypeVar("T")

# --- what there is to ask, and who asks

# Each differs from ann in one header.
CALLERS = {
    "ann": {"Authorization": "Bearer 1"},
    "bob": {"Authorization": "Bearer 1", "Cookie": "sid=b"},
    "cyd": {"Authorization": "Bearer 1", "Mcp-Session-Id": "c"},
    "dan": {"Authorization": "Bearer 1", "X-Unheard-Of": "d"},
    "eve": {"Authorization": "Bearer 2"},
}
NAMES = {tuple(headers.items()): name for name, headers in CALLERS.items()}
THINGS = ("look", "peek", "list")  # an MCP tool, a REST tool, tools/list
SCOPES = {
    "": set(THINGS),
    "tool:look": {"look"},
    "tool:peek": {"peek"},
    "service:jira": {"peek"},
    "jira/peek": {"peek"},
}
TTL, REVALIDATE, ON_ERROR, QUARANTINE = 300.0, 30.0, 600.0, 30.0
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
# What the origin may say, beside `plain`.
FOR_ONE = {"private", "no-store", "cookie", "tool failed", "asks back"}
DENIED = {"unauthorized": 401, "forbidden": 403}
FAILED = {"unreachable", "cut", "broken"}
# What may become of a write.
EXECUTED = {"done", "streamed", "tool failed", "cut", "broken"}
LATER = {"late", "accepted"}
FATES = ("done", "streamed", "tool failed", "cut", "broken", "lost", "late", "accepted", "refused")


class Ask(NamedTuple):
    """Ask for something that may be kept; if `hold` is given, the call stops there."""

    who: str
    what: str
    says: str = "plain"
    hold: str = ""
    at: int = 0  # which replica


class Write(NamedTuple):
    """Call a tool that may write: always the same one, with the same arguments."""

    who: str
    fate: str
    hold: str = ""
    at: int = 0


class GoOn(NamedTuple):
    """Let one of the calls that were stopped go on to its end."""

    which: int


class Leave(NamedTuple):
    """Take away the caller of one of the calls that are under way."""

    which: int


class Late(NamedTuple):
    """Execute a write that the server had when its caller was told that nothing is known of it."""

    which: int


class Pass(NamedTuple):
    """Let time pass."""

    seconds: int


class Clear(NamedTuple):
    """Clear what a scope names, since the data changed behind our back."""

    scope: str = ""
    at: int = 0


class ClearKey(NamedTuple):
    """Clear one answer by its key."""

    who: str
    what: str
    at: int = 0


class ClearOlder(NamedTuple):
    """Clear what is older than this many seconds."""

    seconds: int
    at: int = 0


class ListChanged(NamedTuple):
    """Hear `notifications/*/list_changed` on a stream."""

    at: int = 0


Operation = Ask | Write | GoOn | Leave | Late | Pass | Clear | ClearKey | ClearOlder | ListChanged


@st.composite
def scripts(
    draw: st.DrawFn, replicas: int, holds: tuple[str, ...], ages: tuple[int, ...] = (0, 15, 300)
) -> list[Operation]:
    """Think up a list of operations: few callers and things, or nothing would ever be told again.

    Each list draws its troubles first; with all of them at once hardly an answer is stored.
    """
    whos = draw(st.sampled_from([("ann",), *(("ann", who) for who in CALLERS), tuple(CALLERS)]))
    whats = draw(st.sampled_from([*((what,) for what in THINGS), THINGS]))
    who, what, at = st.sampled_from(whos), st.sampled_from(whats), st.integers(0, replicas - 1)
    held, which = st.sampled_from(holds), st.integers(0, 3)
    # Everything is said: what is left out would be thought up from its type.
    plain, freely = st.just("plain"), st.just("")
    unusual = st.sampled_from(tuple(sorted({*FOR_ONE, *DENIED, *FAILED})))
    failing = st.sampled_from(tuple(sorted(FAILED)))
    done, fate = st.just("done"), st.sampled_from(FATES)
    held_write = st.sampled_from(("road", *holds))
    asks = st.builds(Ask, who, what, plain, freely, at)
    held_asks = st.builds(Ask, who, what, plain, held, at)
    troubles = [
        [st.builds(Write, who, done, freely, at), st.builds(Write, who, done, held_write, at)],
        [
            st.builds(Write, who, fate, freely, at),
            st.builds(Write, who, fate, held_write, at),
            st.builds(Late, which),
        ],
        [st.builds(Clear, st.sampled_from(tuple(SCOPES)), at), st.builds(ClearKey, who, what, at)],
        [st.builds(ClearOlder, st.sampled_from(ages), at), st.builds(ListChanged, at)],
        [
            st.builds(Ask, who, what, unusual, freely, at),
            st.builds(Ask, who, what, unusual, held, at),
            st.builds(Ask, who, what, failing, freely, at),
            st.builds(Pass, st.sampled_from((310, 500))),
        ],
        [st.builds(Leave, which)],
        [st.builds(Pass, st.sampled_from((20, 260, 290, 310)))],
    ]
    chosen = draw(st.lists(st.sampled_from(troubles), min_size=1, max_size=3))
    one = st.one_of(
        st.builds(Pass, st.just(10)),
        asks,
        asks,
        asks,
        held_asks,
        st.builds(GoOn, which),
        *(trouble for several in chosen for trouble in several),
    )
    # Three lists: one of up to 36 would be as short as one of up to 12, on average.
    part = st.lists(one, max_size=12)
    return [*draw(part), *draw(part), *draw(part)]


# --- the world in which they happen


class Road:
    """A call on its way, the one place where it stops, and what the oracle must know of it."""

    def __init__(self, call: Call, operation: Ask | Write) -> None:
        self.call = call
        self.operation = operation
        self.name = call.request_id
        self.go = asyncio.Event()
        self.waits = 0
        self.task: asyncio.Task[tuple[Reply, bytes]]
        self.answered = False  # the caller has the answer, or knows that there is none
        self.ended = 0.0
        self.judged = False
        self.left = False
        self.change: int | None = None  # a version that it made, until the oracle demands it
        self.executed = 0
        # --- what was finished when it began
        self.floor = 0  # the version that it must see at least
        self.kept_floor = 0  # the same for a stored answer
        self.since = 0.0  # the moment at which a stored answer must have been given at the earliest

    async def stop(self, where: str) -> None:
        if where == self.operation.hold and not self.go.is_set():
            self.waits += 1
            try:
                await self.go.wait()
            finally:
                self.waits -= 1


travelling: ContextVar[Road | None] = ContextVar("travelling", default=None)


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

    async def _ask(self, work: Awaitable[T]) -> T:
        with self._world.working():
            return await work

    async def edition(self, scopes: tuple[str, ...]) -> Edition | None:
        edition = await self._ask(self._shelf.edition(scopes))
        await stop("edition")
        return edition

    async def get(self, key: str) -> bytes | None:
        frame = await self._ask(self._shelf.get(key))
        await stop("get")
        return frame

    async def put(self, key: str, frame: bytes, seconds: float) -> None:
        await stop("put")
        await self._ask(self._shelf.put(key, frame, seconds))

    async def delete(self, key: str) -> None:
        await self._ask(self._shelf.delete(key))

    async def invalidate(self, scope: str = "", quarantine: float = 0.0) -> int | None:
        async def late() -> int | None:
            await stop("invalidate")
            return await self._ask(self._shelf.invalidate(scope, quarantine))

        # As the port demands: a caller who leaves meanwhile does not stop it.
        return await asyncio.shield(self._world.spawn(late(), "invalidate"))

    async def expire(self, before: float) -> int | None:
        return await self._ask(self._shelf.expire(before))

    def snapshot(self) -> dict[str, object]:
        return self._shelf.snapshot()

    async def aclose(self) -> None:
        await self._shelf.aclose()


class World:
    """Sidecars, their shelves, the origin, the callers; and the oracle, who has seen it all."""

    def __init__(self, met: Counter[str]) -> None:
        self.met = met
        self.clock = FakeClock()
        self.keyring = Keyring("old")
        self.shelves: list[Shelf] = []
        self.stacks: list[Callable[[Call], Awaitable[Reply]]] = []
        self.pass_elsewhere: Callable[[float], None] = lambda seconds: None
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
        self._floors = {(who, what): 0 for who in CALLERS for what in THINGS}
        self._kept_floor = 0
        self._since = 0.0
        self._told: Counter[int] = Counter()

    def sidecar(self, shelf: Shelf) -> None:
        """Add a sidecar of the same server."""
        slow = SlowShelf(shelf, self)
        self.shelves.append(slow)
        layers = [
            Cache(slow, self.keyring, self.clock, self.spawn, 1 << 20),
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
            await settle()

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
                self.pass_elsewhere(seconds)
                await self.clock.advance(seconds)
            case _:
                await self._clear(operation)
        await self.quiet()
        self._judge()

    def _begin(self, operation: Ask | Write) -> None:
        number = len(self._roads)
        made = made_call(operation, number)
        road = Road(made, operation)
        self._roads[road.name] = road
        self.story[-1] = f"{road.name}: {self.story[-1]}"
        if isinstance(operation, Ask):
            road.floor = self._floors[operation.who, operation.what]
            road.kept_floor = self._kept_floor
            road.since = self._since
        road.task = self.spawn(self._travel(road), "call")

    async def _travel(self, road: Road) -> tuple[Reply, bytes]:
        travelling.set(road)
        try:
            answer = await self.stacks[road.operation.at](road.call)
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
            self._kept_floor, road.change = self._version, None

    async def _clear(self, operation: Operation) -> None:
        changed = self._changed()
        match operation:
            case Clear(scope, at):
                await within(self.shelves[at].invalidate(scope))
                self._void(changed, what=SCOPES[scope])
            case ListChanged(at):
                await within(self.shelves[at].invalidate())
                self._void(changed)
            case ClearKey(who, what, at):
                digest = self.keyring.of(made_call(Ask(who, what), 0))
                assert digest is not None
                await within(self.shelves[at].invalidate(of_key(digest)))
                self._void(changed, who={who}, what={what})
            case ClearOlder(seconds, at):
                await within(self.shelves[at].expire(self.clock.epoch() - seconds))
                self._since = max(self._since, self.clock.now() - seconds)

    # --- the oracle

    def _void(
        self, version: int, who: set[str] | None = None, what: set[str] | None = None
    ) -> None:
        for caller, thing in self._floors:
            if caller in (who or CALLERS) and thing in (what or THINGS):
                self._floors[caller, thing] = max(self._floors[caller, thing], version)

    def _judge(self) -> None:
        for road in self._roads.values():
            if road.change is not None and self._is_over(road):
                denied = isinstance(road.operation, Ask)
                self._void(road.change, who={road.operation.who} if denied else None)
                road.change = None
        for road in self._roads.values():
            if road.task.done() and not road.judged:
                road.judged = True
                self._judge_end(road)

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
        assert stamp["seen"] >= road.floor, (
            f"(b) {name} was told version {stamp['seen']}; {road.floor} was finished before"
        )
        if stamp["for_one"]:
            assert told[stamp["serial"]] == 1, f"(d) {name} got an answer that was for one"
        if note is None or not note.hit:
            self.met["collapsed"] += note is not None and note.collapsed
            return
        self.met[note.stale or "hit"] += 1
        assert stamp["seen"] >= road.kept_floor, f"(b) {name} got what was stored in quarantine"
        assert stamp["at"] >= road.since, f"(b) {name} got what was cleared by its age"
        assert note.age == road.ended - stamp["at"], f"{name} got an answer of another age"
        assert note.age < BOUNDS[note.stale], f"{name} got an answer whose time is over"

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
        assert not self._tasks, f"left behind: {self._tasks}"

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


# Those that are known to be hard: each comes first, whatever else is thought up.
HARD: dict[str, list[Operation]] = {
    "an answer that was asked for before a write comes after it": [
        Ask("ann", "look", hold="origin"),
        Write("bob", "done"),
        GoOn(0),
        Ask("ann", "look"),
    ],
    "somebody joins a call that began before a write": [
        Ask("ann", "look", hold="origin"),
        Write("bob", "done"),
        Ask("ann", "look"),
        GoOn(0),
    ],
    "the same before a clear of its tool": [
        Ask("ann", "peek", hold="origin"),
        Clear("service:jira"),
        Ask("ann", "peek"),
        GoOn(0),
        Ask("ann", "peek"),
    ],
    "the invalidation of a write is on its way": [
        Ask("ann", "look"),
        Write("bob", "done", "invalidate"),
        Ask("ann", "look"),
        GoOn(0),
        Ask("ann", "look"),
    ],
    "the invalidation of a streamed write is on its way": [
        Ask("ann", "look"),
        Write("bob", "streamed", "invalidate"),
        Ask("ann", "look"),
        GoOn(0),
        Ask("ann", "look"),
    ],
    "the caller of a write leaves": [
        Ask("ann", "look"),
        Write("bob", "done", "origin"),
        Leave(0),
        Ask("ann", "look"),
    ],
    "the caller of a streamed write leaves": [
        Ask("ann", "look"),
        Write("bob", "streamed", "origin"),
        Leave(0),
        Ask("ann", "look"),
    ],
    "a write of unknown fate is executed late": [
        Write("bob", "late"),
        Ask("ann", "look"),
        Ask("ann", "look", hold="origin"),
        Late(0),
        GoOn(0),
        Ask("ann", "look"),
        Pass(30),
        Ask("ann", "look"),
        Ask("ann", "look"),
    ],
    "a write that was accepted is executed late": [
        Write("bob", "accepted"),
        Ask("ann", "look"),
        Late(0),
        Ask("ann", "look"),
    ],
    "a refresh that began before a write ends after it": [
        Ask("ann", "look"),
        Pass(310),
        Ask("ann", "look", hold="origin"),
        Write("bob", "done"),
        GoOn(0),
        Ask("ann", "look"),
    ],
    "what is over is told while the server fails, and not after a write": [
        Ask("ann", "look"),
        Pass(500),
        Ask("ann", "look", "cut"),
        Ask("ann", "look", "unreachable"),
        Ask("ann", "look", "broken"),
        Write("bob", "done"),
        Ask("ann", "look", "cut"),
    ],
    "a 401 takes back what its caller was told": [
        Ask("ann", "look"),
        Ask("ann", "list"),
        Ask("ann", "peek", "unauthorized"),
        Ask("ann", "look"),
        Ask("ann", "list"),
    ],
    "two join the call of one who leaves": [
        Ask("ann", "look", hold="origin"),
        Ask("ann", "look"),
        Ask("ann", "look"),
        Leave(0),
        GoOn(0),
    ],
    "two join a call whose answer is for one": [
        Ask("ann", "look", "private", "origin"),
        Ask("ann", "look"),
        Ask("ann", "look"),
        GoOn(0),
    ],
    "what is older is cleared": [
        Ask("ann", "look"),
        Pass(10),
        ClearOlder(0),
        Ask("ann", "look"),
        Ask("ann", "look"),
    ],
    "a write that failed was a write": [
        Ask("ann", "look"),
        Write("bob", "tool failed"),
        Ask("ann", "look"),
        Write("bob", "broken"),
        Ask("ann", "look"),
    ],
    "identical writes together": [
        Write("ann", "done", "road"),
        Write("ann", "done", "origin"),
        Write("ann", "done"),
        GoOn(0),
        GoOn(0),
    ],
    **{
        f"what is for one: {says}": [
            operation for what in THINGS for operation in [Ask("ann", what, says)] * 2
        ]
        for says in sorted({*FOR_ONE, *DENIED, *FAILED})
    },
}


def assert_met(met: Counter[str]) -> None:
    """A model in which nothing is ever told again proves nothing."""
    rare = {name: met[name] for name in ("hit", "collapsed", *FATES)}
    assert min(rare.values()) >= 1, rare


def on_memory(script: list[Operation], met: Counter[str]) -> None:
    async def work() -> None:
        world = World(met)
        world.sidecar(MemoryShelf(100, 1 << 20, world.clock.now, world.clock.epoch))
        await played(world, script)

    asyncio.run(work())


@pytest.mark.parametrize("what", HARD)
def test_memory_where_it_is_hard(what: str) -> None:
    on_memory(HARD[what], Counter())


def test_memory() -> None:
    met: Counter[str] = Counter()

    # a put takes effect at once: it cannot come late
    @thought_up(400)
    @given(script=scripts(1, ("edition", "get", "origin", "origin", "invalidate")))
    def run(script: list[Operation]) -> None:
        on_memory(script, met)

    run()
    assert_met(met)


# --- two sidecars that share their answers


class Shared:
    """A redis-server whose time is the fake clock's: what passes is taken from its keys."""

    def __init__(self) -> None:
        self._server = Server()
        self._server.start()
        self._raw = self._server.raw()

    def play(self, script: list[Operation], met: Counter[str]) -> None:
        async def work() -> None:
            world = World(met)
            world.pass_elsewhere = self._advance
            for _ in "ab":
                world.sidecar(
                    RedisShelf(
                        self._server.url,
                        "old",
                        world.clock.now,
                        Told(),
                        world.spawn,
                        epoch=world.clock.epoch,
                        sleep=world.clock.sleep,
                        timeout=2.0,
                    )
                )
            await played(world, script)

        self._raw.flushall()
        asyncio.run(work())

    def _advance(self, seconds: float) -> None:
        for key in list(self._raw.scan_iter()):
            left = self._raw.pttl(key)
            if left < 0:
                continue  # for ever
            left -= int(seconds * 1000)
            if left < 5000:  # all steps are of 10 s; the rest is what the test itself took
                self._raw.delete(key)
            else:
                self._raw.pexpire(key, left)

    def close(self) -> None:
        self._raw.close()
        self._server.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    running = Shared()
    yield running
    running.close()


def turned(script: list[Operation]) -> list[Operation]:
    """Return the same, with all that writes or clears at the other replica."""
    return [
        operation._replace(at=1)
        if isinstance(operation, Write | Clear | ClearKey | ClearOlder | ListChanged)
        else operation
        for operation in script
    ]


@pytest.mark.redis
@needs_redis[1]
@pytest.mark.parametrize("what", HARD)
def test_two_replicas_where_it_is_hard(shared: Shared, what: str) -> None:
    shared.play(HARD[what], Counter())
    shared.play(turned(HARD[what]), Counter())


@pytest.mark.redis
@needs_redis[1]
def test_a_second_clear_by_age_brings_nothing_back(shared: Shared) -> None:
    shared.play(
        [Ask("ann", "look"), Pass(10), ClearOlder(0), ClearOlder(15), Ask("ann", "look")],
        Counter(),
    )


@pytest.mark.redis
@needs_redis[1]
def test_two_replicas_on_redis(shared: Shared) -> None:
    met: Counter[str] = Counter()
    holds = ("edition", "get", "origin", "origin", "put", "invalidate")

    @thought_up(320)
    @given(script=scripts(2, holds))
    def run(script: list[Operation]) -> None:
        shared.play(script, met)

    run()
    assert_met(met)
