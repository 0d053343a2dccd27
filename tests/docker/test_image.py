"""The image: what is in it, what it says of itself, and that it ends in time.

Built by the pair of docker-compose.yml; skipped where that is.
"""

import http.client
import platform
import subprocess
import sys
import threading
import time
from uuid import uuid4

import pytest

from mcp_proxy import __version__
from tests.docker.engine import (
    BUILD,
    HEALTHY,
    LABELS,
    ROOT,
    USER,
    Pair,
    container,
    published,
    until,
)

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]
BASE = "python:3.11-slim"
# Bytes that the sidecar adds to its base; docs/containers.md lists what they are.
OURS, OURS_WITH_SYMBOLS = 34e6, 56e6
DOCKER_GRACE = 10  # seconds; what `docker stop` waits for before it kills
SLOW = 2  # seconds; what a call takes that is under way


@pytest.fixture
def image(pair: Pair) -> str:
    return pair.inspect(pair.container("mcp-proxy"), "Image")


def look(pair: Pair, image: str, code: str) -> str:
    """Return what Python says inside of the image."""
    ran = pair.docker("run", "--rm", "--user", "0", "--entrypoint", "python", image, "-c", code)
    return ran.stdout.strip()


def test_it_says_what_it_is(pair, image):
    settings = pair.inspect(image, "Config")
    prefix = "org.opencontainers.image."
    said = {
        name.removeprefix(prefix): value
        for name, value in settings["Labels"].items()
        if name.startswith(prefix)
    }
    assert said["title"] == "mcp-sidecar"
    assert said["licenses"] == "Apache-2.0"
    assert said["version"] == __version__
    assert said["base.name"] == BASE
    assert said["description"]
    for argument, value in LABELS.items():
        assert said[argument.lower()] == value
    assert settings["User"] == f"{USER}:{USER}"
    assert (settings["Entrypoint"], settings["Cmd"]) == (["mcp-sidecar"], ["run"])


def test_nothing_that_builds_it_is_left(pair, image):
    code = (
        "import os, pathlib; venv = pathlib.Path('/opt/venv'); "
        "places = '/build', '/own', os.path.expanduser('~/.cache'), '/opt/backend'; "
        "left = [place for place in places if os.path.exists(place)]; "
        "left += [str(one) for end in ('c', 'h', 'pyx', 'pyi') for one in venv.rglob('*.' + end)]; "
        "left += [str(one) for one in venv.rglob('pip')]; print(left)"
    )
    assert look(pair, image, code) == "[]"


def test_modules_are_compiled(pair, image):
    """With a read-only root, they would otherwise be compiled at every start."""
    code = (
        "import pathlib, sysconfig; here = pathlib.Path('/opt/venv'); "
        "print(sum(1 for _ in here.rglob('mcp_proxy/__pycache__/cli.*.pyc')), "
        "sum(1 for _ in here.rglob('aiohttp/__pycache__/web.*.pyc')))"
    )
    assert look(pair, image, code) == "1 1"


def test_it_is_as_small_as_the_page_says(pair, image):
    ours = pair.inspect(image, "Size") - pair.inspect(BASE, "Size")
    code = (
        "import pathlib; one = next(pathlib.Path('/opt/venv').rglob('uvloop/loop*.so')); "
        "print(b'.symtab' in one.read_bytes())"
    )
    has_symbols = look(pair, image, code) == "True"
    assert ours < (OURS_WITH_SYMBOLS if has_symbols else OURS)


def test_nothing_in_it_knows_an_architecture():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    built = "\n".join(line for line in lines if not line.startswith("#"))
    for word in (
        "amd64",
        "x86_64",
        "arm64",
        "aarch64",
        "TARGETARCH",
        "TARGETPLATFORM",
        "manylinux",
    ):
        assert word not in built


@pytest.mark.usefixtures("pair")
def test_every_dependency_has_a_wheel_for_the_other_architecture(tmp_path):
    """The image is built from wheels only; asks the package index, as a build does."""
    architecture = "x86_64" if platform.machine() == "aarch64" else "aarch64"
    platforms = (f"manylinux_2_28_{architecture}", f"manylinux2014_{architecture}")
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"),
            *("--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
            *(word for one in platforms for word in ("--platform", one)),
            *("--python-version", "3.11", "--target", str(tmp_path)),
            *("-r", str(ROOT / "requirements" / "runtime-otel.txt")),
        ],
        capture_output=True,
        text=True,
        timeout=BUILD,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_it_writes_nothing_even_where_it_may(pair, image):
    """So a read-only root needs no volume."""
    options = ("-e", "MCP_UPSTREAM_URL=http://basic-server:9000", "-p", "127.0.0.1:0:8000")
    with container(pair, image, *options) as it:
        until(
            lambda: pair.inspect(it, "State", "Health", "Status") == "healthy", HEALTHY, "healthy"
        )
        assert pair.read(port=published(pair, it)).status == 200
        assert pair.docker("diff", it).stdout == ""


def test_its_check_says_when_it_is_not_ready(pair, image):
    with container(pair, image, "--entrypoint", "sleep", command=("60",)) as it:
        check = pair.inspect(it, "Config", "Healthcheck", "Test")[1:]
        told = pair.docker("exec", it, "sh", "-c", f"{' '.join(check)} 2>&1; echo exit $?").stdout
    assert "/readyz" in told
    assert told.strip().endswith("exit 1")


def test_stop_waits_for_a_call_and_ends_before_the_engine_kills(pair, image):
    """As process 1, without an init, under the ten seconds of a plain `docker stop`."""
    server = pair.inspect(pair.container("basic-server"), "Image")
    slow = f"slow-{uuid4().hex[:8]}"
    options = ("-e", f"MCP_UPSTREAM_URL=http://{slow}:9000", "-p", "127.0.0.1:0:8000")
    arguments = ("--slow", str(SLOW), "--allow-host", slow)
    with (
        container(pair, server, "--network-alias", slow, command=arguments) as behind,
        container(pair, image, *options) as it,
    ):
        for one in (behind, it):
            until(
                lambda one=one: pair.inspect(one, "State", "Health", "Status") == "healthy",
                HEALTHY,
                "healthy",
            )
        port = published(pair, it)
        heard: list[int] = []
        calling = threading.Thread(target=lambda: heard.append(pair.read(port=port).status))
        calling.start()
        until(lambda: in_flight(port) == 1, HEALTHY, "the call is under way")
        began = time.monotonic()
        pair.docker("stop", "-t", str(DOCKER_GRACE), it)
        assert time.monotonic() - began < DOCKER_GRACE
        calling.join()
        assert heard == [200]
        assert pair.inspect(it, "State", "ExitCode") == 0


def in_flight(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        return next(
            int(float(line.split()[1]))
            for line in lines
            if line.startswith("mcp_sidecar_calls_in_flight ")
        )
    finally:
        connection.close()
