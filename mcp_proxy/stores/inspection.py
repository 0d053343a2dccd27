"""Look at Redis or Valkey from outside, for `mcp-sidecar doctor`; nothing is written."""

from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from mcp_proxy.stores.redis import TIMEOUT, connections

# An operator waits longer than a call may.
_PATIENCE = 3.0
_PINGS = 5


class Inspected(NamedTuple):
    """What was found."""

    trouble: str = ""  # what was raised, by its type: its text may hold a password
    version: str = ""
    policy: str = ""  # maxmemory_policy
    limit: int = 0  # maxmemory in bytes; 0 is none
    seconds: float = 0.0  # of a PING, the median
    ahead: float = 0.0  # seconds that its clock is ahead of ours

    @property
    def slow(self) -> bool:
        """Tell whether a call would wait for half of the time that Redis gets."""
        return self.seconds > TIMEOUT / 2


async def inspect(url: str, now: Callable[[], float], epoch: Callable[[], float]) -> Inspected:
    """Return what there is; never raises for Redis' sake."""
    pool = connections(url, _PATIENCE)
    client: Redis = Redis(connection_pool=pool)
    try:
        info = await client.info()
        times = []
        for _ in range(_PINGS):
            began = now()
            await client.ping()
            times.append(now() - began)
        before = epoch()
        seconds, micros = await client.time()
        ahead = seconds + micros / 1e6 - (before + epoch()) / 2
    except (RedisError, OSError) as error:
        return Inspected(type(error).__name__)
    finally:
        await pool.aclose()
    return Inspected(
        "",
        str(info.get("valkey_version") or info.get("redis_version", "")),
        str(info.get("maxmemory_policy", "")),
        int(info.get("maxmemory", 0)),
        median(times),
        ahead,
    )
