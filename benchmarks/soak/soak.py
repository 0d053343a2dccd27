"""One soak, from the start of its processes to what it has shown."""

import asyncio
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from random import Random
from traceback import format_exception
from typing import Any

from benchmarks.chaos.crowd import Crowd
from benchmarks.soak.calls import CALLERS, Calls
from benchmarks.soak.hostile import EVERY as HOSTILE_EVERY
from benchmarks.soak.hostile import Hostile
from benchmarks.soak.ledger import read
from benchmarks.soak.log import LogReader
from benchmarks.soak.official import Official
from benchmarks.soak.report import Report, growths
from benchmarks.soak.samples import AT_REST, DESCRIPTORS, EVERY, MEDIAN, MEMORY, Samples, counts
from benchmarks.soak.scene import TIMEOUT, Scene
from benchmarks.soak.verdicts import SOUND, Verdicts
from benchmarks.soak.watchers import Watchers
from benchmarks.soak.weather import Weather
from tests.kit.ledger import Ledger

MARGIN = 5.0  # seconds beyond its deadline until a call counts as hung
OFFICIAL, ASLEEP, EACH = 3, 2, 2  # clients of each kind
_SAY_EVERY = 30.0  # seconds, where nobody looks at a terminal
_TO_REST = 20.0  # seconds; idle connections to the server end after 4
# Beyond those at rest before the first call: connections to Redis, which are kept (20 for answers,
# those of the fan-out).
_SPARE = 24


class Soak:
    """Everybody who takes part, and the time."""

    def __init__(self, scene: Scene, minutes: float, rate: float, seed: int) -> None:
        self._scene = scene
        self._seconds = minutes * 60
        self._rate = rate
        self._seed = seed
        self._crowd = Crowd(scene.port, TIMEOUT + MARGIN)
        self._verdicts = Verdicts(Ledger())
        self._log: LogReader = scene.read_log(self._verdicts)
        self._samples = Samples(scene.process)
        self._weather = Weather(scene, self._log, self._crowd.ask, Random(seed))
        self._calls = Calls(self._crowd, self._verdicts, lambda: self._weather.calm, seed)
        self._hostile = Hostile(self._crowd, self._verdicts, seed)
        self._made = 0
        self._over = False

    async def run(self) -> Report:
        """Let it all happen."""
        before = await self._rest(0)
        for caller in CALLERS:
            await self._crowd.open_session(caller)
        forever = [asyncio.ensure_future(self._guarded(one)) for one in self._listeners()]
        for_as_long = [asyncio.ensure_future(one) for one in (self._pace(), self._mischief())]
        try:
            await self._weather.blow(self._is_over, self._crowd.leave, self._measure)
        finally:
            self._over = True
            await asyncio.gather(*for_as_long)
            for one in forever:
                one.cancel()
            await asyncio.gather(*forever, return_exceptions=True)
        await self._crowd.leave()
        seconds, cores = self._samples.seconds, self._samples.cores
        own = await self._at_rest(before)
        await self._crowd.leave()
        await self._scene.end_sidecar(self._verdicts)
        self._log.join(10.0)
        self._reloads(own)
        self._scene.end_server(15)
        self._verdicts.close(read(self._scene.ledger))
        return Report(
            seconds,
            self._seed,
            self._verdicts.findings(),
            growths(self._samples.points, self._made / seconds * 3600),
            self._weather.happened,
            self._verdicts.counted,
            self._log.events,
            {**own, "cores": round(cores, 3), "calls made": self._made},
        )

    def _is_over(self) -> bool:
        return self._scene.sidecar.poll() is not None or self._samples.seconds >= self._seconds

    # --- who takes part

    def _listeners(self) -> list[Coroutine[Any, Any, None]]:
        watchers = Watchers(self._crowd, self._verdicts, self._seed)
        url = f"http://127.0.0.1:{self._scene.port}/mcp"
        officials = [
            Official(number, url, self._crowd.patience, self._verdicts)
            for number in range(OFFICIAL)
        ]
        return [
            *(one.come_and_go() for one in officials),
            *(watchers.asleep() for _ in range(ASLEEP)),
            *(watchers.over_sse() for _ in range(EACH)),
            *(watchers.over_websocket() for _ in range(EACH)),
            *(watchers.in_session() for _ in range(EACH)),
            self._look(),
            self._say(),
        ]

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Let a mistake of a client, whatever it is, be told, and the others go on."""
        try:
            await work
        except Exception as mistake:  # noqa: BLE001
            self._verdicts.breaks(SOUND, f"a client broke: {''.join(format_exception(mistake))}")

    async def _pace(self) -> None:
        """Make calls at a steady pace, whether earlier ones were answered or not."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as all_of_them:
            while not self._over:
                await asyncio.sleep(began + self._made / self._rate - time.monotonic())
                self._made += 1
                all_of_them.create_task(self._guarded(self._calls.one(self._made)))

    async def _mischief(self) -> None:
        rng = Random(self._seed)
        async with asyncio.TaskGroup() as all_of_it:
            while not self._over:
                all_of_it.create_task(self._guarded(self._hostile.one()))
                await asyncio.sleep(rng.random() * 2 * HOSTILE_EVERY)

    async def _look(self) -> None:
        while True:
            self._samples.take()
            self._verdicts.counted["samples"] += 1
            await asyncio.sleep(EVERY)

    def _measure(self) -> None:
        took, self._calls.clean = self._calls.clean, []
        self._samples.calm(took)

    async def _say(self) -> None:
        terminal = sys.stderr.isatty()
        while True:
            await asyncio.sleep(EVERY if terminal else _SAY_EVERY)
            samples = self._samples
            line = (
                f"{samples.seconds:5.0f} of {self._seconds:.0f} s: {self._made} calls, "
                f"{self._verdicts.broken.total()} wrong, {samples.last(MEMORY):.1f} MiB, "
                f"{samples.last(DESCRIPTORS):.0f} descriptors, p50 {samples.last(MEDIAN):.1f} ms, "
                f"{samples.cores:.2f} cores"
            )
            print(line, file=sys.stderr, end="\r" if terminal else "\n", flush=True)

    # --- the end

    async def _rest(self, goal: int) -> int:
        """Wait until the sidecar holds no more descriptors than that, not for ever; return them."""
        over = time.monotonic() + (_TO_REST if goal else 2.0)
        held = self._scene.process.descriptors()
        while (held > goal) and time.monotonic() < over:
            await asyncio.sleep(0.2)
            held = self._scene.process.descriptors()
        return held

    async def _at_rest(self, before: int) -> dict[str, float]:
        """Look at what the sidecar still holds when nobody asks; return its own counts."""
        held = await self._rest(before + _SPARE)
        own: dict[str, float] = {}
        with suppress(OSError):  # it has died: its exit code tells
            own = await counts(self._crowd)
        for name in AT_REST:
            if own.get(name) != 0:
                self._verdicts.breaks(SOUND, f"{name} at rest: {own.get(name)}")
        if held > before + _SPARE:
            self._verdicts.breaks(SOUND, f"{held} descriptors at rest, {before} before")
        kept = ("log_lines_dropped_total", "redis_failures_total", "sessions", "cache_entries")
        shown = {name: own[name] for name in kept if name in own}
        return {**shown, "descriptors before": before, "descriptors after": held}

    def _reloads(self, own: dict[str, float]) -> None:
        """Each SIGHUP is answered by an event, unless lines of the log were lost."""
        asked, told = self._weather.happened["SIGHUP"], self._log.events["config.reloaded"]
        if told < asked and not own.get("log_lines_dropped_total"):
            self._verdicts.breaks(SOUND, f"{asked} SIGHUP, {told} reloads")
