"""A server under control, and sidecars in front of it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.edge.wire import Front, Upstream, sidecar

Opened = Callable[..., Awaitable[Front]]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    server = Upstream()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def front(upstream: Upstream) -> AsyncIterator[Opened]:
    """Open a sidecar with these settings in front of the upstream."""
    async with AsyncExitStack() as stack:

        async def opened(**settings: Any) -> Front:
            url = settings.pop("MCP_UPSTREAM_URL", upstream.url)
            return await stack.enter_async_context(sidecar(url, **settings))

        yield opened
