"""New settings in a running sidecar: how they are read, what takes effect, what needs a restart."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mcp_proxy.core.clock import Emit
from mcp_proxy.crew import Crew
from mcp_proxy.edge.neighbours import Answer
from mcp_proxy.settings import RateLimit, Retry, Settings, variables
from mcp_proxy.sources import SettingsError

Path = tuple[str, str]
# What is read anew for each call, or stands in parts that hold no state (assembly builds them anew).
# The others are in sockets, pools, stores, circuits, permits and timers that are at work.
LIVE: frozenset[Path] = frozenset(
    {
        *(("rate_limit", key) for key in RateLimit.model_fields),
        *(("retry", key) for key in Retry.model_fields if key != "hedge_delay"),
        *(("upstream", key) for key in ("connect_timeout", "health_path", "slow_start")),
        ("upstream", "trust_annotations"),
        *(("server", key) for key in ("allowed_hosts", "allowed_origins", "trusted_proxies")),
        *(("server", key) for key in ("admin_token", "public_url", "max_body_bytes")),
        *(("server", key) for key in ("error_status", "tool_error_style", "enrich_responses")),
        *(("server", key) for key in ("sse_keepalive", "shutdown_grace")),
        *(("cache", key) for key in ("ttl", "annotated_ttl", "quarantine")),
        *(("cache", key) for key in ("stale_while_revalidate", "stale_if_error")),
        *(("signals", key) for key in ("debug", "log_level")),
    }
)
# Tables without variables, which take effect as a whole.
_TABLES = ("tools", "failures")


class Change(NamedTuple):
    """What a reload comes to; keys only, no values."""

    settings: Settings  # in force from now on
    changed: list[str]
    restart: list[str]  # they differ, and take effect with the next start


def change(current: Settings, read: Settings) -> Change:
    """Compare the settings in force with those just read."""
    differing = [path for path in variables().values() if _at(current, path) != _at(read, path)]
    live = [path for path in differing if path in LIVE]
    tables = [name for name in _TABLES if getattr(current, name) != getattr(read, name)]
    sections = {
        section: getattr(current, section).model_copy(
            update={path[1]: _at(read, path) for path in live if path[0] == section}
        )
        for section in {path[0] for path in live}
    }
    merged = current.model_copy(
        update={**sections, **{name: getattr(read, name) for name in tables}}
    )
    return Change(
        merged.remembering(dict(_origins(current, read)), read.again),
        [*map(".".join, live), *tables],
        [".".join(path) for path in differing if path not in LIVE],
    )


def _at(settings: Settings, path: Path) -> object:
    section, key = path
    return getattr(getattr(settings, section), key)


def _origins(current: Settings, read: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Return where what is in force comes from: live values by the new word, others by the old."""
    for settings, live in ((current, False), (read, True)):
        for path, origin in settings.origins.items():
            if (path in LIVE or path[0] in _TABLES) is live:
                yield path, origin


class Reload:
    """Read the settings anew, in this process and in the other workers."""

    def __init__(
        self,
        current: Callable[[], Settings],
        adopt: Callable[[Settings], None],
        crew: Crew | None,
        emit: Emit,
    ) -> None:
        self._current = current
        self._adopt = adopt
        self._crew = crew
        self._emit = emit
        self._turn = asyncio.Lock()
        self._done = False

    async def everywhere(self) -> tuple[dict[str, Any], list[str]]:
        """Return what has changed, or what is wrong: then nothing has."""
        found, faults = await self._here()
        if self._crew is not None and not faults:
            await self._crew.neighbours.ask("reload")
        return found, faults

    async def catch_up(self) -> None:
        """Read them if the others have: a worker that comes later was started with older ones."""
        if self._crew and any((await self._crew.neighbours.ask("reloaded")).values()):
            await self._here()

    @property
    def answers(self) -> dict[str, Answer]:
        """Return what this worker does when another one was asked."""
        return {"reload": self._too, "reloaded": self._was}

    async def _too(self, _: Any) -> None:
        await self._here()

    async def _was(self, _: Any) -> bool:
        return self._done

    async def _here(self) -> tuple[dict[str, Any], list[str]]:
        async with self._turn:
            current = self._current()
            try:
                read = await asyncio.to_thread(current.again)
            except SettingsError as error:
                for fault in error.faults:
                    self._emit("config.warning", "warning", message=f"not reloaded: {fault}")
                return {}, error.faults
            found = change(current, read)
            self._adopt(found.settings)
            self._done = True
        keys: dict[str, Any] = {"changed": found.changed, "restart": found.restart}
        self._emit("config.reloaded", "info", **keys)
        for key in found.restart:
            message = f"{key} has another value, which takes effect with the next start"
            self._emit("config.warning", "warning", message=message)
        return keys, []
