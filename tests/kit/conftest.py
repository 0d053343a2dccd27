"""A server under test control whose time the test moves, and a recorder before it."""

from collections.abc import AsyncIterator

import pytest

from tests.edge.wire import Client, Said
from tests.fakes import FakeClock
from tests.kit.faults import Fault
from tests.kit.recorder import Recorder
from tests.kit.sent import Sent, connected
from tests.kit.upstream import Upstream

WRITE = Sent("n1", "jira_create_issue")
READ = Sent("n2", "jira_get_issue")


async def struck(upstream: Upstream, fault: Fault, raw: bytes = WRITE.rest()) -> Said:
    """Return what a write gets that this fault strikes, on a connection of its own."""
    upstream.plays(WRITE.tool, fault)
    async with connected(upstream.port) as client:
        return await client.ask(raw)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def upstream(clock: FakeClock) -> AsyncIterator[Upstream]:
    async with Upstream(clock=clock).running() as server:
        yield server


@pytest.fixture
async def client(upstream: Upstream) -> AsyncIterator[Client]:
    """One connection to the server."""
    async with connected(upstream.port) as one:
        yield one


@pytest.fixture
async def recorder(upstream: Upstream) -> AsyncIterator[Recorder]:
    async with Recorder(upstream.port).running() as relay:
        yield relay


@pytest.fixture
async def through(recorder: Recorder) -> AsyncIterator[Client]:
    """One connection to the server, by way of the recorder."""
    async with connected(recorder.port) as one:
        yield one
