"""Answers in Redis or Valkey, shared by all sidecars of one upstream."""

from asyncio import Lock, shield
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from secrets import token_hex
from typing import Any, TypeVar

from aiocache import RedisCache
from aiocache.serializers import BaseSerializer
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from mcp_proxy.core.clock import Emit, Spawn
from mcp_proxy.core.shelf import Edition

T = TypeVar("T")

# A cache that takes longer than this costs more than it saves (F24).
TIMEOUT = 0.05  # seconds
# While Redis is in trouble it is asked once in so many seconds, and calls do without.
_PAUSE = 1.0
_CONNECTIONS = 20
# A narrow generation may be forgotten when no answer from before it can be left: these are kept for
# a day at most, and told for another while the server fails. Callers make scopes, so they must end.
_SCOPE_SECONDS = 3 * 86_400.0


class _Raw(BaseSerializer):  # type: ignore[misc]
    """Hand bytes through; the default decodes what it reads as UTF-8."""

    DEFAULT_ENCODING = None

    def dumps(self, value: Any) -> Any:
        return value

    def loads(self, value: Any) -> Any:
        return value


class RedisShelf:
    """Keep answers in Redis; trouble with it is a miss and never reaches a caller.

    All keys begin with one prefix in braces, so that a cluster keeps them together and other
    applications' keys are never touched: nothing is ever cleared, only renamed by a new token.
    When Redis may have missed an invalidation of ours, a new token is written before any read.
    """

    def __init__(
        self,
        url: str,
        upstream: str,
        now: Callable[[], float],
        emit: Emit,
        spawn: Spawn,
        *,
        timeout: float = TIMEOUT,
    ) -> None:
        # Defaults of redis-py are wrong for a cache: 5 s, ten retries, and a pool that raises.
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=timeout,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = RedisCache(
            serializer=_Raw(), timeout=timeout, connection_pool_class=lambda **_: pool
        )
        self._prefix = f"{{mcp-sidecar:{blake2b(upstream.encode(), digest_size=8).hexdigest()}}}:"
        self._now = now
        self._emit = emit
        self._spawn = spawn
        self._asked_again = 0.0  # when Redis may be asked again
        self._well = True
        # What Redis may have missed, counted: before the next read a new token must pay for it.
        self._debts = 1
        self._paid = 0
        self._paying = Lock()
        self._owed_quarantine = 0.0
        self._failures = 0
        self._invalidations = 0

    async def _ask(self, work: Awaitable[T], otherwise: T) -> T:
        """Return what Redis says, or `otherwise` when it is in trouble."""
        try:
            answer = await work
        except (RedisError, TimeoutError, OSError, ValueError) as trouble:
            self._failures += 1
            self._asked_again = self._now() + _PAUSE
            self._debts += 1
            self._note(well=False, reason=type(trouble).__name__)
            return otherwise
        self._note(well=True)
        return answer

    def _note(self, *, well: bool, reason: str | None = None) -> None:
        if well != self._well:
            self._well = well
            self._emit(
                "store.state_changed",
                "info" if well else "error",
                store="redis",
                before="down" if well else "up",
                after="up" if well else "down",
                reason=reason,
            )

    @property
    def resting(self) -> bool:
        """Tell whether Redis is in trouble and is not asked for the moment."""
        return self._now() < self._asked_again

    async def edition(self, scopes: tuple[str, ...]) -> Edition | None:
        """Return the edition of these scopes as all sidecars see it; None while in trouble."""
        if self.resting:
            return None
        if self._paid < self._debts and not await self._pay():
            return None
        names = [self._generation(scope) for scope in ("", *scopes)]
        keys = [*names, f"{self._prefix}quarantine", f"{self._prefix}since"]
        found = await self._ask(self._redis.multi_get(keys), None)
        if found is None:
            return None
        *tokens, quarantined, since = found
        if tokens[0] is None:  # evicted or expired: never guess an old one
            self._debts += 1
            return await self.edition(scopes)
        text = "".join(token.decode("ascii", "replace") for token in tokens if token)
        return Edition(text, storable=quarantined is None, since=moment(since))

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
        # The quarantine first: nobody may store under the new token who has not seen it.
        if quarantine:
            await self._redis.set(f"{self._prefix}quarantine", b"1", ttl=float(quarantine))
        token = token_hex(8).encode()
        if scope:
            await self._redis.set(self._generation(scope), token, ttl=_SCOPE_SECONDS)
        else:
            await self._redis.set(self._generation(scope), token)
        return True

    def _generation(self, scope: str) -> str:
        return f"{self._prefix}generation:{scope}"

    async def get(self, key: str) -> bytes | None:
        """Return what any sidecar put there, unless its time is over."""
        if self.resting:
            return None
        return await self._ask(self._redis.get(self._prefix + key), None)

    async def put(self, key: str, frame: bytes, seconds: float) -> None:
        """Keep a frame for `seconds`."""
        await self.store(key, frame, seconds)

    async def store(self, key: str, frame: bytes, seconds: float) -> bool:
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
                self._debts += 1
                self._owed_quarantine = max(self._owed_quarantine, quarantine)

    async def expire(self, before: float) -> None:
        """Make what was stored before a moment invalid for all sidecars; while in trouble, all."""
        if self.resting or not await self._ask(self._expire(before), False):
            await self.invalidate()

    async def _expire(self, before: float) -> bool:
        # never back to an earlier moment: what was void would be told again
        since = max(before, moment(await self._redis.get(f"{self._prefix}since")))
        await self._redis.set(f"{self._prefix}since", str(since).encode())
        return True

    def snapshot(self) -> dict[str, object]:
        """Return how the shelf is."""
        return {
            "store": "redis",
            "up": self._well,
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
