"""One process at least, one at a time, and after failures ever more rarely."""

import asyncio
import os
import shlex
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mcp_proxy.layers.clock import Tasks
from mcp_proxy.stdio.child import Command, Guard
from mcp_proxy.stdio.supervisor import Supervisor
from tests.fakes import FakeClock, Told, settle
from tests.stdio.conftest import child, until


class Doorman:
    """Hears when clients may come."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def opened(self) -> None:
        self.heard.append("opened")

    async def closed(self) -> None:
        self.heard.append("closed")


class Watched:
    """A supervisor at work."""

    def __init__(self, command: str, folder: Path) -> None:
        self.clock, self.told, self.tasks, self.doorman = FakeClock(), Told(), Tasks(), Doorman()
        self.guard = Guard(str(folder / "none"))
        environ = {**os.environ, "LEDGER": str(folder / "ledger")}
        self.supervisor = Supervisor(
            Command(tuple(shlex.split(command)), None, environ),
            self.guard,
            self.clock,
            self.told,
            self.tasks,
        )

    def run(self) -> None:
        self.running = self.tasks(
            self.supervisor.run(self.doorman.opened, self.doorman.closed), "run"
        )

    def told_of(self, name: str) -> list[dict[str, object]]:
        return [fields for event, _, fields in self.told.events if event == name]


@asynccontextmanager
async def watched(command: str, folder: Path) -> AsyncIterator[Watched]:
    one = Watched(command, folder)
    try:
        yield one
    finally:
        one.running.cancel()
        await one.supervisor.end()
        one.guard.close()
        await one.tasks.end()


async def test_a_command_that_cannot_be_started_is_tried_ever_more_rarely(tmp_path: Path) -> None:
    """0.1 s, doubled, up to 5 s; and nobody may come meanwhile."""
    async with watched("/no/such/program", tmp_path) as one:
        one.run()
        await one.clock.advance(22)
        pauses = [fields["pause_seconds"] for fields in one.told_of("child.not_started")]
        assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0]
        assert set(one.doorman.heard) == {"closed"}


async def test_after_a_failure_a_process_must_have_lived_for_a_while(tmp_path: Path) -> None:
    async with watched(child(), tmp_path) as one:
        one.run()
        await until(lambda: one.doorman.heard)
        assert set(one.doorman.heard) == {"opened"}, "the first is believed at once"
        first = one.told_of("child.started")[0]["pid"]
        assert isinstance(first, int)
        os.kill(first, signal.SIGKILL)
        await until(lambda: one.doorman.heard[-1] == "closed")
        assert len(one.told_of("child.started")) == 1, "not before the pause is over"
        await one.clock.advance(0.11)
        await until(lambda: len(one.told_of("child.started")) == 2)
        await settle()
        assert one.doorman.heard[-1] == "closed"
        await one.clock.advance(0.11)
        assert one.doorman.heard[-1] == "opened"


async def test_who_wants_a_process_while_one_begins_gets_that_one(tmp_path: Path) -> None:
    async with watched(child("exclusive"), tmp_path) as one:
        one.run()
        taken = await asyncio.gather(one.supervisor.take())
        await settle()
        assert [fields["pid"] for fields in one.told_of("child.started")] == [taken[0].pid]
        assert one.supervisor.snapshot()["processes"] == 1


async def test_another_is_begun_when_the_last_one_has_ended(tmp_path: Path) -> None:
    """In good order: clients may come all the while."""
    async with watched(child("exclusive"), tmp_path) as one:
        one.run()
        taken = await one.supervisor.take()
        await until((tmp_path / "ledger.lock").exists)
        await one.supervisor.dismiss(taken)
        await until(lambda: len(one.told_of("child.started")) == 2)
        assert one.told_of("child.ended")[0]["expected"]
        assert "closed" not in one.doorman.heard
