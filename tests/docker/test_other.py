"""Another pair, by the last Compose there is: with the profile `redis`.

Debian's Redis stands in the place of the image that the file names.
"""

import json
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
OVERRIDE = "services: {redis: {image: mcp-test-redis}}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("redis")


@pytest.fixture(scope="module")
def trouble(pair: Pair, folder: Path) -> Iterator[str]:
    """Make a Redis that can be had wherever the base image can ask Debian; yield why there is none."""
    (folder / "Dockerfile").write_text(FILE)
    (folder / "redis.yml").write_text(OVERRIDE)
    try:
        pair.docker("build", "-q", "-t", "mcp-test-redis", str(folder), limit=BUILD)
    except AssertionError as error:
        yield f"no Redis can be installed into an image: {str(error)[-200:]}"
        return
    yield ""
    pair.docker("rmi", "mcp-test-redis")


@pytest.fixture(scope="module")
def other(trouble: str, folder: Path) -> Iterator[Pair]:
    program = [*compose_programs()[-1], "-f", "docker-compose.yml", "-f", str(folder / "redis.yml")]
    shared = {"REDIS_URL": "redis://redis:6379", "MCP_UPSTREAM_NAME": "shared"}
    profile = [] if trouble else ["--profile", "redis"]
    pair = Pair([*program, *profile], **({} if trouble else shared))
    try:
        pair.compose("up", "-d", "--build", limit=BUILD)
        until(lambda: pair.is_healthy("mcp-proxy"), HEALTHY, "the sidecar is healthy")
        yield pair
    finally:
        pair.compose("down", "-v", "--rmi", "local", "--remove-orphans", "-t", "5")


def test_the_pair_comes_up_and_its_log_is_json_lines(other):
    assert other.read().status == 200
    logs = other.compose("logs", "--no-color", "mcp-proxy").splitlines()
    lines = [json.loads(line.split("|", 1)[1]) for line in logs if "|" in line]
    assert "proxy.started" in [line["event"] for line in lines]


def test_two_sidecars_share_their_answers(other, trouble):
    """In a Redis that is as locked up as the rest: what one has asked for, the other need not."""
    if trouble:
        pytest.skip(trouble)
    until(lambda: other.is_healthy("redis"), HEALTHY, "redis is healthy")
    redis, sidecar = other.container("redis"), other.container("mcp-proxy")
    assert other.inspect(redis, "HostConfig", "ReadonlyRootfs")
    settings = other.inspect(sidecar, "Config", "Env")
    options = [option for one in settings for option in ("-e", one)]
    with container(
        other, other.inspect(sidecar, "Image"), *options, "-p", "127.0.0.1:0:8000"
    ) as it:
        until(
            lambda: other.inspect(it, "State", "Health", "Status") == "healthy",
            HEALTHY,
            "the other is healthy",
        )
        port = published(other, it)

        def shares() -> bool:
            """A sidecar that starts drops what there is, and the first hears it in a second.

            While a busy machine makes Redis slow (50 ms), nothing is kept.
            """
            asked = uuid4().hex
            if "fwd=miss" not in other.read(asked).headers["Cache-Status"]:
                return False
            return "; hit" in other.read(asked, port=port).headers["Cache-Status"]

        until(shares, HEALTHY, "the other knows what the first has asked for")
