"""The command line: what was typed, what is printed, how it ends."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mcp_proxy import __version__, cli
from tests.edge.wire import Upstream, answer, get, post, streamed, unused_port
from tests.fakes import within

# assembly hands aiohttp a callable object where it wants an async function
pytestmark = pytest.mark.filterwarnings("ignore:Bare functions:DeprecationWarning")

ROOT = Path(cli.__file__).parents[1]
URL = "http://localhost:9000"
# A variable of the one who runs the tests must not decide them.
CLEAN: dict[str, Any] = {
    name: None
    for name in os.environ  # noqa: TID251
    if name.startswith("MCP_") or name == "REDIS_URL"
}


def told(*arguments: str, **environ: str) -> Any:
    return CliRunner().invoke(cli.main, arguments, env={**CLEAN, **environ})


# --- help and check


def test_help_names_the_commands() -> None:
    for flag in ("--help", "-h"):
        found = told(flag)
        assert found.exit_code == 0
        assert "run" in found.stdout
        assert "check" in found.stdout
    assert "--upstream URL" in told("run", "--help").stdout


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_told(flag: str) -> None:
    assert told(flag).stdout == f"mcp-sidecar, version {__version__}\n"


def test_usage_errors_end_with_2() -> None:
    assert told("run", "--prot", "1").exit_code == 2
    assert told("nothing").exit_code == 2


def test_check_says_that_settings_can_be_used() -> None:
    found = told("check", "--upstream", URL)
    assert (found.exit_code, found.stdout) == (0, "settings are usable: 0 tool rules\n")
    config = str(ROOT / "config" / "mcp_proxy.toml")
    found = told("check", "--upstream", URL, "--config", config)
    assert (found.exit_code, found.stdout) == (0, "settings are usable: 4 tool rules\n")


def test_one_rule_is_one_rule(tmp_path: Path) -> None:
    config = tmp_path / "mcp.toml"
    config.write_text("[tools.x]\nread_only = true\n")
    assert told("check", MCP_UPSTREAM_URL=URL, MCP_CONFIG_FILE=str(config)).stdout == (
        "settings are usable: 1 tool rule\n"
    )


def test_check_warns_of_unknown_variables() -> None:
    found = told("check", MCP_UPSTREAM_URL=URL, MCP_PROT="1")
    assert found.exit_code == 0
    assert found.stderr == (
        "warning: MCP_PROT (environment): unknown variable; did you mean MCP_PORT?\n"
    )


@pytest.mark.parametrize("command", ["run", "check"])
def test_settings_that_cannot_be_used_end_with_2_and_every_fault(command: str) -> None:
    """DESIGN section 8, F50; what was typed is named as such."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        found = told(command, "--port", "x", MCP_CACHE_TTL="nan", MCP_PROT="1")
    finally:
        for number, action in before.items():
            signal.signal(number, action)
    assert found.exit_code == 2
    assert found.stdout == ""
    lines = found.stderr.splitlines()
    assert lines[0] == (
        "  warning: MCP_PROT (environment): unknown variable; did you mean MCP_PORT?"
    )
    assert lines[1] == "mcp-sidecar: 3 settings cannot be used:"
    assert [line.split(":")[0] for line in lines[2:]] == [
        "  MCP_UPSTREAM_URL",
        "  MCP_PORT (command line)",
        "  MCP_CACHE_TTL (environment)",
    ]


def test_a_single_fault_is_one_setting() -> None:
    found = told("check")
    assert found.exit_code == 2
    assert found.stderr.startswith("mcp-sidecar: 1 setting cannot be used:\n  MCP_UPSTREAM_URL: ")


def test_no_secret_is_printed() -> None:
    """F42."""
    found = told("check", "--upstream", "ftp://me:c4nary@h", "--redis", "http://:c4nary@r")
    assert found.exit_code == 2
    assert "c4nary" not in found.output


# --- serving, as people run it


class Process:
    """`python -m mcp_proxy run`, from its first line to its end."""

    def __init__(self, url: str, *prelude: str, port: str, **environ: str) -> None:
        run = [*(prelude or ("-m", "mcp_proxy")), "run", "--upstream", url, "--port", port]
        self.popen = subprocess.Popen(
            [sys.executable, *run],
            cwd=ROOT,
            env={"PATH": "", "MCP_RESTART_GRACE": "0", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.events: list[dict[str, Any]] = []
        self.complaint = ""

    def until(self, event: str) -> dict[str, Any]:
        assert self.popen.stdout is not None
        limit = threading.Timer(20, self.popen.kill)
        limit.start()
        while not self.events or self.events[-1]["event"] != event:
            self.events.append(json.loads(self.popen.stdout.readline()))
        limit.cancel()
        return self.events[-1]

    @property
    def port(self) -> int:
        return int(self.until("proxy.started")["urls"][0].rpartition(":")[2])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.popen.send_signal(number)

    def end(self) -> int:
        """Wait for its end; return its exit code."""
        out, err = self.popen.communicate(timeout=10)
        self.events += [json.loads(line) for line in out.splitlines()]
        self.complaint = err.decode()
        assert "Traceback" not in self.complaint
        return self.popen.returncode


@contextlib.contextmanager
def process(url: str, *prelude: str, port: str = "0", **environ: str) -> Iterator[Process]:
    started = Process(url, *prelude, port=port, **environ)
    try:
        yield started
    finally:
        started.popen.kill()
        started.popen.communicate()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    server = Upstream()
    await server.start()
    yield server
    await server.stop()


async def test_serving_begins_and_ends_with_an_event() -> None:
    """DESIGN section 6, and exit code 0 when drained."""
    url = f"http://u:c4nary@localhost:{unused_port()}/mcp"
    with process(url, MCP_PROT="1") as sidecar:
        begun = sidecar.until("proxy.started")
        warned = sidecar.events[:-1]
        assert begun["cache"] == "memory"
        assert begun["version"] == __version__
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(get("/livez"))
        assert (await within(reader.readline())).startswith(b"HTTP/1.1 200")
        writer.close()
        sidecar.stop()
        assert await asyncio.to_thread(sidecar.end) == 0
    assert [event["message"] for event in warned] == [
        "MCP_PROT (environment): unknown variable; did you mean MCP_PORT?",
        (
            "the path of MCP_UPSTREAM_URL is MCP_PATH (/mcp): it is dropped, as clients name it "
            "themselves"
        ),
    ]
    assert {event["event"] for event in warned} == {"config.warning"}
    assert sidecar.events[-1]["event"] == "proxy.draining"
    assert "c4nary" not in str(sidecar.events)


def test_a_cache_that_is_off_is_said_so() -> None:
    with process(URL, MCP_ENABLE_CACHING="false") as sidecar:
        assert sidecar.until("proxy.started")["cache"] == "off"


def test_a_port_in_use_ends_with_1_and_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        with process(URL, port=port, MCP_PROT="1") as sidecar:
            assert sidecar.end() == 1
    # what was to be told before is told
    assert [event["event"] for event in sidecar.events] == ["config.warning"]
    assert sidecar.complaint == (
        f"mcp-sidecar: cannot listen on localhost:{port} (Address already in use); "
        "choose another with --host and --port\n"
    )


def test_a_host_that_nobody_has_ends_with_1() -> None:
    with process(URL, MCP_HOST="nobody.invalid") as sidecar:
        assert sidecar.end() == 1
    assert "cannot listen on nobody.invalid:0 (" in sidecar.complaint


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_process_ends_with_0(number: signal.Signals) -> None:
    """F26; the server behind need not be there (F50)."""
    with process(f"http://localhost:{unused_port()}") as sidecar:
        assert sidecar.port
        sidecar.stop(number)
        assert sidecar.end() == 0
    assert "proxy.draining" in [event["event"] for event in sidecar.events]


# Where a signal comes before the port listens, and what hears it there.
EARLY = {
    "settings": "cli.settings_of = lambda _: told()",
    "loop": "async def serve(*_): told()\nserving.serve = serve",
    "port": "async def open_ports(*_): told(); await asyncio.sleep(9)\nports.open_ports = open_ports",
    "finaliser": "class One:\n  __del__ = told\nserving.gc.collect = lambda: One() and None",
}


@pytest.mark.parametrize("place", EARLY)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_does_not_listen_yet_ends_with_0(number: signal.Signals, place: str) -> None:
    """Ctrl-C is no failure, and needs no word; nor is it lost where no exception leads out."""
    code = (
        "import asyncio, os\n"
        "from mcp_proxy import cli, ports, serving\n"
        f"def told(*_): os.kill(os.getpid(), {int(number)})\n"
        f"{EARLY[place]}\n"
        "cli.main()"
    )
    with process(URL, "-c", code) as sidecar:
        assert sidecar.end() == 0
    assert sidecar.complaint == ""
    assert {event["level"] for event in sidecar.events} <= {"info"}


async def test_a_server_whose_tls_fails_is_lost_once_and_it_is_said_why(upstream: Upstream) -> None:
    """Somebody listens there, and still nobody can be asked."""
    with process(
        f"https://localhost:{upstream.port}", MCP_RESTART_GRACE="1", MCP_CONNECT_TIMEOUT="0.3"
    ) as sidecar:
        while True:
            told = await asyncio.to_thread(sidecar.until, "upstream.state_changed")
            if told["before"] != "unknown":
                break
            sidecar.events.append({"event": "seen"})
    assert (told["before"], told["after"]) == ("restarting", "lost")
    assert told["reason"] == "The server did not accept a connection in time."


def test_it_serves_without_uvloop() -> None:
    """It is optional."""
    hide = "import sys; sys.modules['uvloop'] = None; from mcp_proxy.cli import main; main()"
    with process(URL, "-c", hide) as sidecar:
        assert sidecar.port
        sidecar.stop()
        assert sidecar.end() == 0


async def test_a_call_under_way_is_finished_first(upstream: Upstream) -> None:
    """F26: 0 short calls lost."""
    go_on = asyncio.Event()

    async def slow(exchange: Any) -> None:
        await go_on.wait()
        await exchange.send(answer(b"done"))

    upstream.plays(slow)
    with process(upstream.url) as sidecar:
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(post("/api/chat", b"{}"))
        await upstream.until(lambda: bool(upstream.asked))
        sidecar.stop()
        sidecar.until("proxy.draining")
        go_on.set()
        assert b"done" in await within(reader.read())
        writer.close()
        assert sidecar.end() == 0


async def test_a_call_that_outlasts_the_grace_ends_with_3(upstream: Upstream) -> None:
    """DESIGN section 8: unclean drain."""

    async def endless(exchange: Any) -> None:
        await exchange.left()

    upstream.plays(endless)
    with process(upstream.url, MCP_SHUTDOWN_GRACE="0.1") as sidecar:
        _, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(post("/api/chat", b"{}"))
        await upstream.until(lambda: bool(upstream.asked))
        sidecar.stop()
        assert await asyncio.to_thread(sidecar.end) == 3
        writer.close()


async def test_open_streams_do_not_make_the_end_unclean(upstream: Upstream) -> None:
    """F26: they are ended, cleanly and at once."""

    async def endless(exchange: Any) -> None:
        await exchange.send(streamed())
        await exchange.left()

    upstream.plays(endless)
    with process(upstream.url, MCP_SHUTDOWN_GRACE="600") as sidecar:
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(get("/mcp"))
        await within(reader.readuntil(b"\r\n\r\n"))
        sidecar.stop()
        assert await asyncio.to_thread(sidecar.end) == 0
        assert await within(reader.read()) == b"0\r\n\r\n"
        writer.close()


async def test_a_second_signal_ends_at_once(upstream: Upstream) -> None:
    """F26."""

    async def endless(exchange: Any) -> None:
        await exchange.send(streamed())
        await exchange.left()

    upstream.plays(endless)
    with process(upstream.url, MCP_SHUTDOWN_GRACE="600") as sidecar:
        _, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(post("/api/chat", b"{}"))
        await upstream.until(lambda: bool(upstream.asked))
        sidecar.stop()
        sidecar.until("proxy.draining")
        sidecar.stop()
        assert await asyncio.to_thread(sidecar.end) == 3
        writer.close()


def test_a_signal_before_it_listens_ends_with_0(tmp_path: Path) -> None:
    """As first process of a container it would not hear it at all without a handler."""
    config = tmp_path / "mcp.toml"
    os.mkfifo(config)
    # to open it for writing waits until it is read
    with process(URL, MCP_CONFIG_FILE=str(config)) as sidecar, config.open("w"):
        sidecar.stop()
        assert sidecar.end() == 0
    assert sidecar.events == []
