"""One redis-server for the tests of a module."""

from collections.abc import Iterator

import pytest

from tests.cache.replicas import Shared


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    running = Shared()
    yield running
    running.close()
