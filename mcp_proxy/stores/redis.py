"""Answers in Redis or Valkey, shared by all sidecars of one upstream."""

from asyncio import Lock, shield
from collections.abc import Awaitable, Callable, Mapping
from hashlib import blake2b
from secrets import token_hex
from typing import Any, TypeVar

from aiocache import RedisCache
from aiocache.serializers import BaseSerializer
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from mcp_proxy.core.clock import Emit, Spawn
from mcp_proxy.core.condition import Condition
from mcp_proxy.core.shelf import Edition, Generations

T = TypeVar("T")

# A cache that takes longer than this costs more than it saves (F24).
TIMEOUT = 0.05  # seconds
# While Redis is in trouble it is asked once in so many seconds, and calls do without.
_PAUSE = 1.0
_CONNECTIONS = 20
# Callers make scopes; beyond so many everything is dropped, which is always right. All are read once a
# second.
_SCOPES_LIMIT = 1000
# Fields beside the scopes, whose names all have a colon or a slash.
_WHOLE, _SINCE, _QUARANTINE = b"generation", b"since", b"quarantine"
_OF_ALL = frozenset({_WHOLE, _SINCE, _QUARANTINE})
# Two clears by age may meet: the later moment stands, or what was void would be told again.
_NEVER_BACK = """
if redis.call("type", KEYS[1]).ok ~= "hash" then redis.call("del", KEYS[1]) end
if tonumber(ARGV[1]) > tonumber(redis.call("hget", KEYS[1], "since") or "0") then
  redis.call("hset", KEYS[1], "since", ARGV[1])
end
"""


class _Raw(BaseSerializer):  # type: ignore[misc]
    """Hand bytes through; the default decodes what it reads as UTF-8."""

    DEFAULT_ENCODING = None

    def dumps(self, value: Any) -> Any:
        return value

    def loads(self, value: Any) -> Any:
        return value


Connections = BlockingConnectionPool


def connections(url: str, timeout: float = TIMEOUT) -> Connections:
    """Return connections to Redis for what must never hold a caller up; none is open yet.

    The defaults of redis-py are wrong for that: 5 s, ten retries, and a pool that raises.
    """
    return Connections.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=timeout,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
    )


def prefix(upstream: str) -> str:
    """Return how all keys of one upstream begin."""
    return f"{{mcp-sidecar:{blake2b(upstream.encode(), digest_size=8).hexdigest()}}}:"


class RedisShelf:
    """Keep answers in Redis; trouble with it is a miss and never reaches a caller.

    All keys begin with one prefix in braces, so that a cluster keeps them together and other
    applications' keys are never touched: nothing is ever cleared, only renamed by a new token.
    When Redis may have missed an invalidation of ours, a new token is written before any read.
    All tokens are fields of one hash: they are read together, and evicted together or not at all.
    """

    def __init__(
        self,
        url: str,
        upstream: str,
        now: Callable[[], float],
        emit: Emit,
        spawn: Spawn,
        *,
        epoch: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        timeout: float = TIMEOUT,
    ) -> None:
        pool = connections(url, timeout)
        self._redis = RedisCache(
            serializer=_Raw(), timeout=timeout, connection_pool_class=lambda **_: pool
        )
        self._prefix = prefix(upstream)
        self._generations = f"{self._prefix}generations"
        self._now = now
        self._epoch = epoch
        self._sleep = sleep
        self._spawn = spawn
        self._asked_again = 0.0  # when Redis may be asked again
        self._condition = Condition("redis", emit)
        # What Redis may have missed, counted: before the next read a new token must pay for it.
        self._debts = 1
        self._paid = 0
        self._paying = Lock()
        self._paying_soon = False
        self._owed_quarantine = 0.0  # seconds
        self._quiet_until = 0.0  # seconds of the epoch: the quarantine that was seen last
        self._failures = 0
        self._invalidations = 0
        self.missed = 0  # invalidations that Redis has not heard of at once

    async def _ask(self, work: Awaitable[T], otherwise: T) -> T:
        """Return what Redis says, or `otherwise` when it is in trouble."""
        try:
            answer = await work
        except (RedisError, TimeoutError, OSError, ValueError) as trouble:
            self._failures += 1
            self._asked_again = self._now() + _PAUSE
            self._debts += 1
            self._condition.note(trouble)
            return otherwise
        self._condition.note()
        return answer

    @property
    def resting(self) -> bool:
        """Tell whether Redis is in trouble and is not asked for the moment."""
        return self._now() < self._asked_again

    async def edition(self, scopes: tuple[str, ...]) -> Edition | None:
        """Return the edition of these scopes as all sidecars see it; None while in trouble."""
        found = await self.generations()
        return found.edition(scopes) if found is not None else None

    async def generations(self) -> Generations | None:
        """Return the editions of all scopes as all sidecars see them; None while in trouble."""
        if self.resting:
            return None
        if self._paid < self._debts and not await self._pay():
            return None
        found = await self._ask(self._tokens("hgetall"), None)
        if found is None:
            return None
        if _WHOLE not in found:  # evicted or expired: never guess an old one
            self._debts += 1
            self._owed_quarantine = max(self._owed_quarantine, self._quiet_until - self._epoch())
            return await self.generations()
        if len(found) > _SCOPES_LIMIT:
            await self._ask(self._begin_anew(found), otherwise=None)
            return await self.generations()
        self._quiet_until = moment(found.get(_QUARANTINE))
        narrow = {
            name.decode("utf-8", "replace"): token.decode("ascii", "replace")
            for name, token in found.items()
            if name not in _OF_ALL
        }
        whole = Edition(
            found[_WHOLE].decode("ascii", "replace"),
            storable=self._epoch() >= self._quiet_until,
            since=moment(found.get(_SINCE)),
        )
        return Generations(whole, narrow)

    def glance(self, scopes: tuple[str, ...]) -> None:
        """Nothing is known without asking."""

    def at_hand(self, key: str) -> None:
        """Nothing is found without asking."""

    async def _pay(self) -> bool:
        """Write the token that is owed; all who would read meanwhile wait for the one who writes."""
        async with self._paying:
            debts, quarantine = self._debts, self._owed_quarantine
            if self._paid == debts:
                return True
            if self.resting:
                return False
            if not await self._ask(self._renew("", quarantine), otherwise=False):
                return False
            self._paid = debts
            if self._debts == debts:
                self._owed_quarantine = 0.0
            return True

    async def _renew(self, scope: str, quarantine: float) -> bool:
        # Both at once: nobody may store under the new token who has not seen the quarantine.
        fields: dict[bytes, bytes] = {scope.encode() or _WHOLE: token_hex(8).encode()}
        if quarantine:
            fields[_QUARANTINE] = str(self._epoch() + quarantine).encode()
        await self._tokens("hset", mapping=fields)
        return True

    async def _tokens(self, command: str, *said: bytes, **named: Any) -> Any:
        """Run a command on the hash of tokens; what bears its name and is none has to go."""
        try:
            return await self._redis.raw(command, self._generations, *said, **named)
        except ResponseError as wrong:
            if not str(wrong).startswith("WRONGTYPE"):
                raise
            await self._redis.raw("delete", self._generations)
            return await self._redis.raw(command, self._generations, *said, **named)

    async def _begin_anew(self, found: Mapping[bytes, bytes]) -> None:
        """Drop everything, and with it all tokens of scopes; at once, for others add to them."""
        begun = self._redis.client.pipeline(transaction=True)
        begun.hdel(self._generations, *(found.keys() - _OF_ALL))
        begun.hset(self._generations, _WHOLE, token_hex(8).encode())
        await begun.execute()

    async def get(self, key: str) -> bytes | None:
        """Return what any sidecar put there, unless its time is over."""
        if self.resting:
            return None
        return await self._ask(self._redis.get(self._prefix + key), None)

    async def put(self, key: str, frame: bytes, seconds: float) -> bool:
        """Keep a frame for `seconds`; tell whether Redis has it."""
        if self.resting:
            return False
        # a whole number would be sent as seconds, a fraction as milliseconds
        work = self._redis.set(self._prefix + key, frame, ttl=float(seconds))
        return bool(await self._ask(work, otherwise=False))

    async def delete(self, key: str) -> None:
        """Forget a frame."""
        if self.resting:  # it is met again
            return
        await self._ask(self._redis.delete(self._prefix + key), None)

    async def invalidate(self, scope: str = "", quarantine: float = 0.0) -> None:
        """Make the answers of a scope invalid for all sidecars."""
        self._invalidations += 1
        await shield(self._spawn(self._invalidate(scope, quarantine), "invalidate"))

    async def _invalidate(self, scope: str, quarantine: float) -> None:
        done = False
        try:
            if not self.resting:
                done = await self._ask(self._renew(scope, quarantine), otherwise=False)
        finally:  # also when we are stopped
            if not done:
                self.owe(quarantine)

    def owe(self, quarantine: float) -> None:
        """Trust nothing that Redis says until it has a new token: it has missed an invalidation."""
        self.missed += 1
        self._debts += 1
        self._owed_quarantine = max(self._owed_quarantine, quarantine)
        self._pay_soon()

    def _pay_soon(self) -> None:
        """See to it that the others hear of what Redis has missed, though nobody may read here."""
        if not self._paying_soon:
            self._paying_soon = True
            self._spawn(self._paid_at_last(), "tell Redis")

    async def _paid_at_last(self) -> None:
        try:
            while self._paid < self._debts:
                await self._sleep(_PAUSE)
                if not self.resting:
                    await self._pay()
        finally:
            self._paying_soon = False

    async def expire(self, before: float) -> None:
        """Make what was stored before a moment invalid for all sidecars; while in trouble, all."""
        if self.resting or not await self._ask(self._expire(before), False):
            await self.invalidate()

    async def _expire(self, before: float) -> bool:
        await self._redis.raw("eval", _NEVER_BACK, 1, self._generations, str(before))
        return True

    def snapshot(self) -> dict[str, object]:
        """Return how the shelf is."""
        return {
            "store": "redis",
            "up": self._condition.well,
            "failures": self._failures,
            "invalidations": self._invalidations,
        }

    def kept(self) -> dict[str, dict[str, int]]:
        """Nothing is kept here."""
        return {}

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.close()


def moment(said: bytes | None) -> float:
    """Return a moment that was written down; what cannot be read is long ago."""
    try:
        return float(said or 0.0)
    except ValueError:
        return 0.0
