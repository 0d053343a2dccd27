"""What outlives a call, as the settings name it: the stored answers, and the events of replicas."""

import socket
from collections.abc import Sequence
from hashlib import sha256

from mcp_proxy.core.addresses import Address
from mcp_proxy.core.clock import Clock, Emit, Spawn
from mcp_proxy.core.place import Place
from mcp_proxy.core.shelf import Shelf
from mcp_proxy.core.watching import LEVELS
from mcp_proxy.settings import Settings
from mcp_proxy.signals.bus import Bus
from mcp_proxy.signals.events import Events
from mcp_proxy.signals.logs import Renderer
from mcp_proxy.signals.said import Said
from mcp_proxy.stores.board import Board, BoardShelf
from mcp_proxy.stores.fanout import Fanout
from mcp_proxy.stores.memory import MemoryShelf
from mcp_proxy.stores.redis import Connections, RedisShelf, connections, prefix
from mcp_proxy.stores.tiered import TieredShelf


def upstream_name(settings: Settings, addresses: Sequence[Address]) -> str:
    """Return the server's name in cache keys (DESIGN section 4, Key).

    A loopback address or a single label means another server on each machine, so the machine's name
    goes with it: unrelated sidecars on one Redis never share.
    """
    if named := settings.upstream.name:
        return named
    names = ",".join(sorted(one.name for one in addresses))
    if command := settings.upstream.arguments:
        # the program alone is not the server, and arguments may be secrets
        run = "\0".join((*command, settings.upstream.command_cwd or ""))
        names += f"-{sha256(run.encode()).hexdigest()[:16]}"
    local = any(_is_local(one) for one in addresses)
    return f"{names}@{socket.gethostname()}" if local else names


def _is_local(server: Address) -> bool:
    """Tell whether an address means another server on each machine."""
    host = server.origin.partition("//")[2].rpartition(":")[0]
    return "." not in host or host.startswith("127.") or host == "[::1]"


def shelf(
    settings: Settings, server: str, place: Place | None, *, clock: Clock, emit: Emit, spawn: Spawn
) -> Shelf | None:
    """Return where answers of the server of that name are kept; None when none are.

    With several workers each keeps its own, and they tell each other what to drop.
    """
    if not settings.cache.on:
        return None
    own = _own_shelf(settings, server, clock, emit, spawn)
    if place is None:
        return own
    board = Board(place.room, place.workers + 1, place.index, clock.now)
    return BoardShelf(own, board, spawn)


def _own_shelf(
    settings: Settings, server: str, clock: Clock, emit: Emit, spawn: Spawn
) -> MemoryShelf | TieredShelf:
    cache = settings.cache
    memory = MemoryShelf(cache.max_entries, cache.max_bytes, clock.now, clock.epoch)
    if cache.redis_url is None:
        return memory
    redis = RedisShelf(
        cache.redis_url.get_secret_value(),
        server,
        clock.now,
        emit,
        spawn,
        epoch=clock.epoch,
        sleep=clock.sleep,
    )
    return TieredShelf(
        memory, redis, clock.now, spawn, emit, epoch=clock.epoch, strategy=cache.strategy
    )


def counts(settings: Settings) -> Connections | None:
    """Return the way to where calls are counted for all sidecars; None where each counts alone."""
    url = settings.cache.redis_url
    return connections(url.get_secret_value()) if url else None


def fanout(
    settings: Settings,
    server: str,
    replica: str,
    *,
    clock: Clock,
    emit: Bus,
    events: Events,
    renderer: Renderer,
) -> Fanout | None:
    """Return what tells the sidecars on one Redis of each other's events; None if unwanted."""
    url = settings.cache.redis_url
    if url is None or settings.signals.events_fanout != "redis":
        return None
    found = Fanout(url.get_secret_value(), prefix(server), replica, clock, emit, heard=events.hear)

    def tell(said: Said) -> None:
        if LEVELS[said.level] >= LEVELS["info"]:
            fields = {"replica": replica, **said.fields}
            found.tell(renderer.text(said._replace(fields=fields)))

    emit.add(tell)
    return found
