"""Ports, and what is told of them before they open."""

import resource
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mcp_proxy import ports
from mcp_proxy.cautions import cautions
from mcp_proxy.edge.descriptors import places, raise_limit, refusals
from mcp_proxy.edge.full import SPARE
from mcp_proxy.edge.serve import Limits, OpsPortError
from mcp_proxy.ports import open_ports
from mcp_proxy.settings import Settings
from mcp_proxy.sources import Loader
from tests.edge.wire import sidecar as opened
from tests.edge.wire import unused_port
from tests.test_cli import process

URL = "http://localhost:1"
TOKEN = "a token of some length"


def loaded(**environ: str) -> Settings:
    return Loader({}, {"MCP_UPSTREAM_URL": URL, **environ}).load()


# --- what an operator should know


def test_loopback_is_the_default_and_no_matter_of_concern() -> None:
    assert loaded().server.host == "localhost"
    assert cautions(loaded()) == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.3.2.1", "::1"])
def test_loopback_needs_no_token(host: str) -> None:
    assert cautions(loaded(MCP_HOST=host)) == []


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.1", "sidecar.example", "::ffff:1.2.3.4"]
)
def test_who_opens_it_to_others_is_warned(host: str) -> None:
    """And is told what to do; a token that can be guessed is not enough."""
    (said,) = cautions(loaded(MCP_HOST=host))
    assert host in said
    assert "set MCP_ADMIN_TOKEN" in said
    assert cautions(loaded(MCP_HOST=host, MCP_ADMIN_TOKEN=TOKEN)) == []
    (said,) = cautions(loaded(MCP_HOST=host, MCP_ADMIN_TOKEN="short"))
    assert "guessed" in said
    assert "short" not in said


def test_what_has_no_effect_is_told() -> None:
    (said,) = cautions(loaded(MCP_EVENTS_FANOUT="redis"))
    assert "needs REDIS_URL" in said
    assert cautions(loaded(MCP_EVENTS_FANOUT="redis", REDIS_URL="redis://localhost")) == []


def test_a_url_that_is_that_of_legacy_streams_is_told() -> None:
    (said,) = cautions(loaded(MCP_UPSTREAM_URL="http://localhost:9000/sse"))
    assert "ends in MCP_SSE_PATH (/sse)" in said
    assert cautions(loaded(MCP_UPSTREAM_URL="http://localhost:9000/sse/api")) == []


@pytest.mark.parametrize("form", ["json", "console"])
def test_the_warning_is_an_event_and_can_be_read_on_a_terminal(form: str) -> None:
    # a name of loopback that is not known as one: no test listens to others
    with process(URL, MCP_HOST="127.1", MCP_LOG_FORMAT=form) as sidecar:
        assert sidecar.popen.stdout is not None
        while b"MCP_ADMIN_TOKEN" not in (line := sidecar.popen.stdout.readline()):
            assert line
        if form == "json":
            assert b'"level":"warning"' in line
            assert b'"event":"config.warning"' in line
        else:
            assert b"WARN" in line
            assert b"{" not in line


@pytest.mark.parametrize(
    ("path", "words"),
    [("", None), ("/v1", None), ("/mcp", "dropped"), ("/v1/mcp/", "twice"), ("/v1/xmcp", None)],
)
def test_the_url_of_the_mcp_endpoint_is_told_from_that_of_the_server(
    path: str, words: str | None
) -> None:
    """DESIGN section 7: its path is dropped if it is MCP_PATH, else a prefix."""
    said = cautions(loaded(MCP_UPSTREAM_URL=f"http://localhost:1{path}"))
    assert [words in one for one in said if words] == ([True] if words else [])
    assert len(said) == bool(words)


def test_each_url_ends_where_mcp_is_spoken_at_the_root() -> None:
    assert cautions(loaded(MCP_UPSTREAM_URL="http://localhost:1/v1", MCP_PATH="/")) == []


# --- descriptors


@pytest.fixture
def limit() -> Iterator[tuple[int, int]]:
    was = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield was
    resource.setrlimit(resource.RLIMIT_NOFILE, was)


def test_the_soft_limit_of_descriptors_is_raised(limit: tuple[int, int]) -> None:
    """It is 1024 in many a shell, for programs that use select(2)."""
    soft, hard = 512, limit[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    found = raise_limit()
    assert found > soft
    assert found == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert raise_limit() == found


def test_nobody_is_let_in_who_could_not_be_served() -> None:
    """A call takes two descriptors; the default leaves room for MCP_STREAMS_LIMIT."""
    assert places(25_000, 65_536) == 25_000
    assert places(25_000, 20_000) == 9872
    assert places(25_000, 1024) == 384
    assert places(25_000, 1) == 1
    assert Limits().connections == loaded().server.connections_limit
    assert loaded().server.connections_limit > loaded().upstream.streams_limit


@pytest.mark.parametrize("descriptors", [64, 256, 1024])
def test_a_few_descriptors_are_enough_for_a_few_clients(descriptors: int) -> None:
    """A client of MCP holds a stream and calls beside it; a process needs 16 for itself."""
    clients = places(25_000, descriptors)
    assert clients >= 16
    assert 16 + 2 * clients + refusals(SPARE, descriptors) <= descriptors
    assert refusals(SPARE, 65_536) == SPARE


async def test_refusals_are_bounded_by_the_descriptors_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ports, "raise_limit", lambda: 64)
    async with opened(URL) as front:
        sidecar = front.sidecar

        class Doors:
            connections = sidecar.connections
            inbound = sidecar.inbound
            ops = None

        held = await open_ports(Doors(), loaded(MCP_PORT="0", MCP_HOST="127.0.0.1"))
        limits = held.runners[0].server.limits  # type: ignore[union-attr]
        await held.cleanup()
    assert (limits.connections, limits.refusals) == (16, 8)


def test_who_wants_more_than_the_system_gives_is_told() -> None:
    descriptors = raise_limit()
    (said,) = cautions(loaded(MCP_CONNECTIONS_LIMIT="1000000"))
    assert "ulimit -n" in said
    assert str(descriptors) in said
    assert cautions(loaded(MCP_CONNECTIONS_LIMIT="100")) == []


# --- opening


async def test_both_ports_or_none() -> None:
    async with opened(URL) as front:
        sidecar = front.sidecar
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            settings = loaded(MCP_PORT="0", MCP_OPS_PORT=str(taken), MCP_HOST="127.0.0.1")

            class Doors:
                connections = sidecar.connections
                inbound = sidecar.inbound
                ops = sidecar.inbound

            with pytest.raises(OpsPortError, match="in use"):
                await open_ports(Doors(), settings)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_is_said_which_port_cannot_be_had(workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        environ = {"MCP_OPS_PORT": taken, "MCP_HOST": "127.0.0.1", "MCP_WORKERS": workers}
        with process(URL, **environ) as sidecar:
            assert sidecar.end() == 1
    assert sidecar.complaint == (
        f"mcp-sidecar: cannot listen on 127.0.0.1:{taken} (Address already in use); "
        "choose another with MCP_OPS_PORT\n"
    )


def test_both_urls_are_told() -> None:
    with process(URL, MCP_OPS_PORT="0") as sidecar:
        started = sidecar.until("proxy.started")
        assert started["urls"]
        assert started["ops_urls"]
        assert started["urls"] != started["ops_urls"]


def test_it_does_not_run_without_the_c_parser() -> None:
    """Most framing bugs of aiohttp were in the other parser (notes of its CVEs)."""
    with process(URL, AIOHTTP_NO_EXTENSIONS="1") as sidecar:
        assert sidecar.end() == 1
    assert "C parser" in sidecar.complaint
    assert "Traceback" not in sidecar.complaint


# --- who looks for them


@pytest.mark.parametrize("ops", [False, True])
def test_the_health_check_of_the_image_finds_the_probes(*, ops: bool) -> None:
    """They move to MCP_OPS_PORT, where that is set."""
    main, other = str(unused_port()), str(unused_port())
    environ = {"MCP_OPS_PORT": other} if ops else {}
    with process(URL, port=main, **environ) as sidecar:
        sidecar.until("proxy.started")

        def looked() -> int:
            ran = subprocess.run(
                [sys.executable, "-m", "mcp_proxy", "ready"],
                env={"PATH": "", "HTTP_PROXY": "http://127.0.0.1:9", "MCP_PORT": main, **environ},
                capture_output=True,
                check=False,
            )
            return ran.returncode

        assert looked() == 0
        sidecar.popen.kill()
        sidecar.popen.wait()
        assert looked() == 1
