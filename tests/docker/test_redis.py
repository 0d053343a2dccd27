"""The profile `redis`, with Debian's Redis in the place of the image that the file names."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.docker.engine import (
    BUILD,
    HEALTHY,
    Pair,
    compose_programs,
    container,
    published,
    until,
)

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]
FILE = """\
FROM python:3.11-slim
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null
"""


@pytest.fixture
def image(pair: Pair, tmp_path: Path) -> Iterator[str]:
    """Make a Redis that can be had wherever the base image can ask Debian."""
    name = "mcp-test-redis"
    (tmp_path / "Dockerfile").write_text(FILE)
    try:
        pair.docker("build", "-q", "-t", name, str(tmp_path), limit=BUILD)
    except AssertionError as error:
        pytest.skip(f"no Redis can be installed into an image: {str(error)[-200:]}")
    yield name
    pair.docker("rmi", name)


def test_two_sidecars_share_their_answers(image, tmp_path):
    """In a Redis that is as locked up as the rest: what one has asked for, the other need not."""
    override = tmp_path / "redis.yml"
    override.write_text(f"services: {{redis: {{image: {image}}}}}\n")
    program = [*compose_programs()[0], "-f", "docker-compose.yml", "-f", str(override)]
    shared = {"REDIS_URL": "redis://redis:6379", "MCP_UPSTREAM_NAME": "shared"}
    pair = Pair([*program, "--profile", "redis"], **shared)
    try:
        pair.compose("up", "-d", "--build", limit=BUILD)
        for service in ("redis", "mcp-proxy"):
            until(lambda it=service: pair.is_healthy(it), HEALTHY, f"{service} is healthy")
        redis, sidecar = pair.container("redis"), pair.container("mcp-proxy")
        assert pair.inspect(redis, "HostConfig", "ReadonlyRootfs")
        settings = pair.inspect(sidecar, "Config", "Env")
        options = [option for one in settings for option in ("-e", one)]
        with container(
            pair, pair.inspect(sidecar, "Image"), *options, "-p", "127.0.0.1:0:8000"
        ) as other:
            until(
                lambda: pair.inspect(other, "State", "Health", "Status") == "healthy",
                HEALTHY,
                "the other is healthy",
            )
            port = published(pair, other)

            def shares() -> bool:
                """A sidecar that starts drops what there is, and the first hears it in a second."""
                asked = uuid4().hex
                assert "fwd=miss" in pair.read(asked).headers["Cache-Status"]
                return "; hit" in pair.read(asked, port=port).headers["Cache-Status"]

            until(shares, HEALTHY, "the other knows what the first has asked for")
    finally:
        pair.compose("down", "-v", "--rmi", "local", "--remove-orphans", "-t", "5")
