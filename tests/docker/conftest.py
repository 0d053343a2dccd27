from collections.abc import Iterator

import pytest

from tests.docker.engine import BUILD, HEALTHY, Pair, compose_programs, until


@pytest.fixture(scope="session")
def pair() -> Iterator[Pair]:
    pair = Pair(compose_programs()[0])
    try:
        pair.compose("build", limit=BUILD)
        pair.compose("up", "-d")
        until(lambda: pair.is_healthy("mcp-proxy"), HEALTHY, "the sidecar is healthy")
        yield pair
    finally:
        pair.compose("down", "-v", "--rmi", "local", "--remove-orphans", "-t", "5")
