"""Be fair between clients and tools; the only importer of `limits`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil
from typing import Any, NamedTuple

from limits.aio.storage import MemoryStorage, RedisStorage
from limits.errors import StorageError
from multidict import CIMultiDict

from mcp_proxy.core.call import Call, RawHeaders, Reply
from mcp_proxy.core.clock import Clock, Emit
from mcp_proxy.core.condition import Condition
from mcp_proxy.core.errors import ProxyError, RateLimitedError
from mcp_proxy.core.headers import is_small
from mcp_proxy.core.intent import SESSION_END
from mcp_proxy.core.keys import bearer
from mcp_proxy.core.memo import Memo
from mcp_proxy.core.message import Dialect
from mcp_proxy.core.peers import household
from mcp_proxy.core.rates import Rate, Window, rate
from mcp_proxy.layers.chain import Forward

CLIENT, TOOL, CLIENT_TOOL = "client", "tool", "client-tool"
_SPOKEN = {CLIENT: "client", TOOL: "tool", CLIENT_TOOL: "client and tool"}
# Callers make up tokens and names of tools: whoever comes beyond so many, for each limit, shares one
# count. Few enough to cost 3 MB at most, many enough that honest clients seldom do.
KEYS = 10_000
_OTHERS = "others"
_REMEMBERED = 512
# Redis may slow a call by so much in all (as stores/redis, F24), and is left alone for a while when
# it is in trouble.
_TIMEOUT = 0.05  # seconds
_PAUSE = 1.0
_TROUBLE = (StorageError, TimeoutError, OSError, ValueError)
Counts = MemoryStorage | RedisStorage
# They end something, or ask whether we are alive: clients take a `ping` without an answer for a
# dead server.
_FREE = frozenset({"ping", "tasks/cancel"})


@dataclass(frozen=True, slots=True)
class Rates:
    """How often calls may come (core/rates); None is as often as they like."""

    client: str | None = None
    tool: str | None = None
    client_tool: str | None = None


class _Count:
    __slots__ = ("current", "number", "previous")

    def __init__(self, number: int) -> None:
        self.number = number  # of the window, since the clock began
        self.previous = 0
        self.current = 0


class Counters(MemoryStorage):
    """Count in memory: on our clock, without ever waiting, and never more than `most` keys.

    The package's own memory storage looks through all keys after each call (1.1 ms with 10 000),
    and reads the wall clock, whose steps shift its windows. One of these is for one rate, so that
    its keys stand in the order of their windows, and old ones are found at once.
    """

    def __init__(self, now: Callable[[], float], seconds: int, most: int) -> None:
        super().__init__()
        self._now = now
        self._seconds = seconds
        self._most = most
        self._counts: dict[str, _Count] = {}

    def has_place(self, key: str) -> bool:
        """Tell whether a key is counted, or may be from now on; then it has its place."""
        number = int(self._now() // self._seconds)
        if key not in self._counts:
            self._forget(number)
            if len(self._counts) >= self._most:
                return False
        self._count(key, number)
        return True

    def _forget(self, number: int) -> None:
        while self._counts:
            key, oldest = next(iter(self._counts.items()))
            if oldest.number >= number - 1:
                return
            del self._counts[key]

    def _count(self, key: str, number: int) -> _Count:
        count = self._counts.get(key)
        if count is not None and count.number == number:
            return count
        fresh = _Count(number)
        if count is not None:
            del self._counts[key]  # it goes to the end
            fresh.previous = count.current if count.number == number - 1 else 0
        self._counts[key] = fresh
        return fresh

    async def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        """Count a call if it may come."""
        window = Window(*await self.get_sliding_window(key, expiry))
        if Rate(limit, expiry).left(window) < amount:
            return False
        self._counts[key].current += amount
        return True

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return what was counted, as `Window` has it."""
        number, passed = divmod(self._now(), expiry)
        count = self._count(key, int(number))
        return count.previous, expiry - passed, count.current, 2 * expiry - passed


def in_redis(pool: Any, prefix: str) -> RedisStorage:
    """Return a count that all sidecars of one upstream share; `pool` is for whoever made it to end.

    The package would read a URL in its own way: it wants a port, takes `unix://` for Valkey, and its
    pool raises when it is used up.
    """
    return RedisStorage(
        "redis://",
        wrap_exceptions=True,
        implementation="redispy",
        key_prefix=f"{prefix}limits",
        connection_pool=pool,
    )


class _Standing(NamedTuple):
    """Where a call stands with one limit."""

    limit: "_Limit"
    left: int
    wait: float  # seconds until there is one more
    refused: bool


class _Limit:
    """One of the limits: of which kind, how much, and who has come how often."""

    def __init__(self, kind: str, text: str, now: Callable[[], float], most: int) -> None:
        self.kind = kind
        self.text = text
        self.rate = rate(text)
        amount, seconds = self.rate
        self.policy = f'"{kind}";q={amount};w={seconds}'
        self.own = Counters(now, seconds, most)

    def key(self, *parts: str) -> str:
        """Return the key of who or what the parts say; nothing of them shows in it."""
        key = self._spelled(blake2b(ascii(parts).encode(), digest_size=16).hexdigest())
        return key if self.own.has_place(key) else self._spelled("others")

    def _spelled(self, name: str) -> str:
        return f"{self.kind}/{name}/{self.rate.amount}/{self.rate.seconds}"

    async def look(self, counts: Counts, key: str) -> Window:
        """Return what is counted of a key so far."""
        return Window(*await counts.get_sliding_window(key, self.rate.seconds))

    def standing(self, seen: Window) -> _Standing:
        """Return where a call stands that is not counted yet."""
        left = self.rate.left(seen)
        return _Standing(self, left, self.rate.wait(seen), refused=not left)

    async def take(self, counts: Counts, key: str, seen: Window) -> _Standing:
        """Count a call that may come, as far as was seen."""
        if not await counts.acquire_sliding_window_entry(key, *self.rate):
            # somebody else took the last one meanwhile
            return _Standing(self, 0, self.rate.wait(seen), refused=True)
        now = seen._replace(current=seen.current + 1)
        return _Standing(self, self.rate.left(now), self.rate.wait(now), refused=False)


class RateLimit:
    """Refuse the calls of a client, of a tool or of both together that come too often.

    A call that is refused by one limit costs nothing of the others. All say on the answer how much
    is left. With `shared` the counts are those of all sidecars; while that is in trouble, and
    without it, each process has its own.
    """

    def __init__(
        self,
        rates: Rates,
        clock: Clock,
        emit: Emit,
        *,
        shared: Counts | None = None,
        keys: int = KEYS,
    ) -> None:
        self._clock = clock
        self._emit = emit
        self._shared = shared
        self._keys = keys
        self._condition = Condition("redis rate limits", emit)
        self._asked_again = 0.0  # when the shared count may be asked again
        self._client = self._made(CLIENT, rates.client)
        self._client_tool = self._made(CLIENT_TOOL, rates.client_tool)
        self._tool = self._made(TOOL, rates.tool)
        self._ruled: dict[str, _Limit] = {}  # of `[tools]` rules, by what they say
        self._met: Memo[tuple[RawHeaders, str], str] = Memo(_REMEMBERED)

    def _made(self, kind: str, text: str | None) -> _Limit | None:
        return _Limit(kind, text, self._clock.now, self._keys) if text is not None else None

    @property
    def waits(self) -> bool:
        """Tell whether a call may have to wait here: then none can be answered in one step."""
        return self._shared is not None

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Ask on; raises RateLimitedError when the call is one too many."""
        asked = self._asked(call) if is_limited(call) else []
        if not asked:
            return await forward(call)
        standings = await self._counted(asked)
        headers = {
            "RateLimit-Policy": ", ".join([standing.limit.policy for standing in standings]),
            "RateLimit": ", ".join([said(standing) for standing in standings]),
        }
        refused = [standing for standing in standings if standing.refused]
        if refused:
            # the longest: before that, it would be refused again
            worst = max(refused, key=lambda standing: standing.wait)
            raise self._refusal(call, worst, headers)
        try:
            reply = await forward(call)
        except ProxyError as error:
            error.headers = headers
            raise
        return told(reply, headers)

    def _asked(self, call: Call) -> list[tuple[_Limit, str]]:
        """Return the limits that a call comes under, and under which key in each."""
        message = call.message
        asked = []
        if self._client is not None:
            asked.append((self._client, self._client.key(self._who(call))))
        if not message.tool:
            return asked
        called = (message.service, message.tool)
        if self._client_tool is not None:
            asked.append((self._client_tool, self._client_tool.key(self._who(call), *called)))
        tool = self._of_rule(call.intent.rate_limit)
        if tool is not None:
            asked.append((tool, tool.key(*called)))
        return asked

    def _of_rule(self, text: str | None) -> _Limit | None:
        if text is None:
            return self._tool
        if text not in self._ruled:
            self._ruled[text] = _Limit(TOOL, text, self._clock.now, self._keys)
        return self._ruled[text]

    def _who(self, call: Call) -> str:
        head = (call.raw, call.peer.client)
        known = self._met.get(head) if call.raw else None
        if known is None:
            known = bearer(call.headers) or household(call.peer.client)
            if call.raw and is_small(call.raw):
                self._met.keep(head, known)
        return known

    async def _counted(self, asked: list[tuple[_Limit, str]]) -> list[_Standing]:
        if self._shared is not None and self._clock.now() >= self._asked_again:
            try:
                async with self._clock.timeout(_TIMEOUT):
                    standings = await counted(asked, self._shared)
            except _TROUBLE as trouble:
                self._asked_again = self._clock.now() + _PAUSE
                inner = trouble.storage_error if isinstance(trouble, StorageError) else trouble
                self._condition.note(inner)
            else:
                self._condition.note()
                return standings
        return await counted(asked)

    def _refusal(
        self, call: Call, worst: _Standing, headers: Mapping[str, str]
    ) -> RateLimitedError:
        limit = worst.limit
        self._emit(
            "ratelimit.rejected",
            "warning",
            **call.ids,
            service=call.message.service,
            tool=call.message.named,
            limit=f"{limit.kind} {limit.text}",
            retry_after_ms=ceil(worst.wait * 1000),
        )
        error = RateLimitedError(
            f"The limit of {limit.text} for this {_SPOKEN[limit.kind]} is used up; "
            "the call was not sent.",
            retry_after=worst.wait,
        )
        error.headers = headers
        return error


async def counted(asked: list[tuple[_Limit, str]], shared: Counts | None = None) -> list[_Standing]:
    """Count a call under all its limits, or under none if one of them is used up."""
    seen = [(limit, key, await limit.look(shared or limit.own, key)) for limit, key in asked]
    standings = [limit.standing(window) for limit, _, window in seen]
    if any(standing.refused for standing in standings):
        return standings
    return [await limit.take(shared or limit.own, key, window) for limit, key, window in seen]


def said(standing: _Standing) -> str:
    """Return an item of `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).

    `t` is when more is there than now, which in a sliding window is before its end.
    """
    return f'"{standing.limit.kind}";r={standing.left};t={ceil(standing.wait)}'


def told(reply: Reply, headers: Mapping[str, str]) -> Reply:
    """Return an answer with further headers; the one at hand may be a stored or a shared one.

    Both are lists: what the server says of limits of its own stands before ours.
    """
    all_headers = CIMultiDict(reply.headers)
    all_headers.extend(headers)
    lines = reply.lines
    if lines:
        lines += "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return reply._replace(headers=all_headers, lines=lines)


def is_limited(call: Call) -> bool:
    """Tell whether a call counts.

    What answers or ends something does not: refused, it would leave a call of the same client
    open, and a handshake undone. A tool call without an id is no notification that anybody sends.
    """
    message = call.message
    if message.dialect is Dialect.RPC and not message.tool:
        return message.id is not None and message.method not in _FREE
    return not call.intent.ends_elsewhere and call.intent != SESSION_END
