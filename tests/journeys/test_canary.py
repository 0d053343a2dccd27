"""Secrets are planted wherever callers, the server and settings hold some; no output holds one (F42).

A real process in front of a server that does everything wrong. Its output is every byte of stdout
and stderr, what its own endpoints show, and what other callers are answered.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex

import pytest

from tests.edge.collector import Collector
from tests.edge.wire import GONE, Said, get, post, rpc
from tests.journeys.conftest import ROOT, eventually, free_port
from tests.kit.damage import Cut, Fails, Garbage, Status
from tests.kit.faults import Close, Fine, Hang, Reset
from tests.kit.scripts import EVERY_TOOL
from tests.kit.sent import ACCEPT, Sent, connected, in_session, open_session, stateless
from tests.kit.upstream import Upstream

READ, WRITE = "jira_get_issue", "jira_create_issue"
UNTRIED = "salesforce_create"  # its circuit is closed
# Makes a mistake of our own where a caller asks for one: with its data, and in a task that is lost.
BREAKS = """
import asyncio, sys
from mcp_proxy.layers.deadline import Deadline
walk = Deadline.__call__

async def breaks(call):
    raise ValueError(f"{call}")

async def walked(self, call, forward):
    if "X-Break" in call.headers:
        asyncio.get_running_loop().create_task(breaks(call))
        print(call, file=sys.stderr)
        await breaks(call)
    return await walk(self, call, forward)

Deadline.__call__ = walked
from mcp_proxy.cli import main
main()
"""


class Canaries:
    """Secrets that are all different, by where they were planted."""

    def __init__(self) -> None:
        self._planted: dict[str, str] = {}

    def __call__(self, where: str) -> str:
        """Return the one for a place."""
        return self._planted.setdefault(where, f"c4nary{token_hex(12)}")

    def know(self, where: str, secret: str) -> str:
        """Search for a secret that somebody else thought up, too."""
        return self._planted.setdefault(where, secret)

    def found_in(self, outputs: Iterable[tuple[str, bytes]]) -> list[str]:
        """Return which were found where."""
        outputs = list(outputs)
        return [
            f"{where} in {output}"
            for where, secret in self._planted.items()
            for output, said in outputs
            if secret.encode() in said
        ]


class Sidecar:
    """A process, and all that it has told."""

    def __init__(
        self, folder: Path, upstream: str, plant: Canaries, environ: dict[str, str]
    ) -> None:
        self.port = free_port()
        self._folder = folder
        self._plant = plant
        self.told: list[tuple[str, bytes]] = []
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MCP_")}
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-c", BREAKS, "run", "--port", str(self.port)],
                cwd=ROOT, stdout=out, stderr=err,
                env={
                    **clean,
                    "MCP_UPSTREAM_URL": f"http://me:{plant('MCP_UPSTREAM_URL')}@{upstream}",
                    "MCP_ADMIN_TOKEN": plant("MCP_ADMIN_TOKEN"),
                    "REDIS_URL": f"redis://:{plant('REDIS_URL')}@127.0.0.1:{free_port()}",
                    "MCP_CONFIG_FILE": str(ROOT / "config" / "mcp_proxy.toml"),
                    "MCP_ATTEMPT_TIMEOUT": "0.2", "MCP_REQUEST_TIMEOUT": "0.6",
                    "MCP_BACKOFF_BASE": "0.01", "MCP_CB_MIN_VOLUME": "1000",
                    "MCP_CB_FAILURE_THRESHOLD": "11",
                    "MCP_MAX_BODY_BYTES": "20000", "MCP_SHUTDOWN_GRACE": "0.1",
                    "MCP_RESTART_GRACE": "0", "MCP_HEALTH_INTERVAL": "0.2", **environ,
                },
            )  # fmt: skip

    async def is_up(self) -> bool:
        try:
            async with connected(self.port) as client:
                return (await client.ask(get("/livez"))).status == 200
        except OSError:
            return False

    async def ask(self, raw: bytes) -> Said | None:
        """Ask on a connection of one's own; None when that broke off."""
        try:
            async with connected(self.port) as client:
                return await client.ask(raw)
        except (*GONE, TimeoutError):
            return None

    async def overheard(self, what: str, raw: bytes) -> Said | None:
        """Ask as somebody who must see no secret of others, and keep the answer."""
        said = await self.ask(raw)
        if said is not None:
            head = "\n".join([said.line, *(f"{name}: {value}" for name, value in said.headers)])
            self.told.append((what, head.encode() + said.body))
        return said

    def output(self) -> list[tuple[str, bytes]]:
        streams = [(name, (self._folder / name).read_bytes()) for name in ("stdout", "stderr")]
        return streams + self.told

    async def live(self) -> bytes:
        """Return what the live stream has kept of the past."""
        said = b""
        async with connected(self.port) as client:
            key = f"Authorization: Bearer {self._plant('MCP_ADMIN_TOKEN')}"
            await client.send(get("/api/events?replay=100000", key))
            assert (await client.head()).status == 200
            while b"proxy.started" not in said or b"tool.call.completed" not in said:
                said += await client.chunk()
        return said


def secret_headers(plant: Canaries) -> tuple[str, ...]:
    """Return headers as they hold secrets."""
    return (
        f"Authorization: Bearer {plant('Authorization')}",
        f"Cookie: session={plant('Cookie')}",
        f"X-Api-Key: {plant('X-Api-Key')}",
        f"X-Odd: {plant('X-Odd')}",
    )


def requests(plant: Canaries, tool: str, session: str, kind: str = "") -> Iterable[bytes]:
    """Return one call in each dialect, secrets everywhere; each kind has other arguments."""
    headers = secret_headers(plant)
    arguments = {"nonce": plant(f"argument{kind}"), "deep": [{"password": plant("password")}]}
    call = {"service": "jira", "tool_name": tool, "params": arguments}
    yield post(f"/api/call-tool?key={plant('query')}", call, *headers)
    mcp = rpc("tools/call", 1, name=tool, arguments=arguments)
    yield post(f"/mcp?key={plant('query')}", mcp, *headers, *in_session(session))
    yield stateless("tools/call", 1, *headers, name=tool, arguments=arguments)


@asynccontextmanager
async def bench(
    folder: Path, plant: Canaries, **environ: str
) -> AsyncIterator[tuple[Upstream, Sidecar]]:
    async with Upstream().running() as upstream:
        sidecar = Sidecar(folder, f"127.0.0.1:{upstream.port}", plant, environ)
        try:
            await eventually(sidecar.is_up, "it listens")
            yield upstream, sidecar
        finally:
            sidecar.process.kill()
            sidecar.process.wait(20)


async def everything_goes_wrong(upstream: Upstream, sidecar: Sidecar, plant: Canaries) -> None:
    """Make calls of all kinds, and let them end in all ways."""
    async with connected(sidecar.port) as client:
        session = plant.know("session", await open_session(client, *secret_headers(plant)))
    faults = {
        "fine": Fine(), "hang": Hang(), "fails": Fails(plant("error text")),
        "busy": Status(503, "soon"), "cut": Cut(), "no head": Cut(None, reset=True),
        "garbage": Garbage(plant("garbage").encode()), "close": Close(), "reset": Reset(),
        "json": Garbage(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                        b'Content-Length: 37\r\n\r\n{"x": ' + plant("bad answer").encode()),
        "500": Status(500),
    }  # fmt: skip
    for kind, fault in faults.items():
        for tool in (READ, WRITE):
            upstream.plays(EVERY_TOOL, then=fault)
            for raw in requests(plant, tool, session, kind):
                await sidecar.ask(raw)
            # somebody else, whom the server tells nothing, while the circuit may be open
            upstream.plays(EVERY_TOOL, then=Fine())
            other = Sent("other", tool, caller="Bearer bob")
            await sidecar.overheard(f"{kind}: answer to another", other.rest())
            await sidecar.overheard(f"{kind}: MCP answer to another", other.stateless())
    # until the circuit is open
    upstream.plays(EVERY_TOOL, then=Close())
    for _ in range(5):
        for raw in requests(plant, READ, session, "open"):
            await sidecar.ask(raw)
    await sidecar.overheard("open circuit", Sent("other", READ, caller="Bearer bob").rest())
    upstream.plays(EVERY_TOOL, then=Fine())
    headers = secret_headers(plant)
    for odd in (
        post("/mcp", b'{"jsonrpc": ' + plant("bad JSON").encode(), ACCEPT, *headers),
        post("/api/call-tool", plant("no JSON").encode(), *headers),
        post("/api/call-tool", plant("too large").encode() * 2000, *headers),
        get("/nowhere", *headers, f"Origin: http://{plant('Origin')}.example"),
        post("/mcp", rpc("ping"), *headers, f"Mcp-Session-Id: {plant('made-up session')}"),
        post("/api/cache/clear", {}, *headers),
        get("/api/events", *headers),
    ):
        await sidecar.ask(odd)
    bad_host = f"GET / HTTP/1.1\r\nHost: evil.example\r\nCookie: {plant('Cookie')}\r\n\r\n"
    await sidecar.ask(bad_host.encode())
    await sidecar.ask(f"GET / HTTP/9.{plant('no HTTP')}\r\n\r\n".encode())
    # a mistake of our own, with all that a call holds in its text
    for raw in requests(plant, READ, session, "breaks"):
        await sidecar.ask(raw.replace(b"\r\n\r\n", b"\r\nX-Break: 1\r\n\r\n", 1))


async def look_inside(sidecar: Sidecar, plant: Canaries) -> None:
    key = f"Authorization: Bearer {plant('MCP_ADMIN_TOKEN')}"
    for path in (
        "/api/health",
        "/api/metrics",
        "/metrics",
        "/api/events/schema",
        "/readyz",
        "/api/config",
    ):
        for headers in ((key,), (), (key, "Accept: text/plain")):
            await sidecar.overheard(f"{path} {headers[1:]}", get(path, *headers))
    clear = post("/api/cache/clear?tool=x", {}, key)
    await sidecar.overheard("/api/cache/clear", clear)
    sidecar.told.append(("/api/events", await sidecar.live()))


async def drain(upstream: Upstream, sidecar: Sidecar, plant: Canaries) -> None:
    """End it while a call hangs."""
    upstream.plays(EVERY_TOOL, then=Hang())
    arrived = upstream.arrived[UNTRIED]
    call = {"service": "salesforce", "tool_name": UNTRIED, "params": {"nonce": plant("drained")}}
    hanging = asyncio.create_task(sidecar.ask(post("/api/call-tool", call, *secret_headers(plant))))
    await upstream.until(lambda: upstream.arrived[UNTRIED] > arrived)
    sidecar.process.send_signal(signal.SIGTERM)
    await hanging
    await asyncio.to_thread(sidecar.process.wait, 20)


@pytest.mark.parametrize(
    "environ",
    [{}, {"MCP_CAPTURE": "redacted", "MCP_DEBUG": "true"}, {"MCP_LOG_FORMAT": "console"}],
    ids=["as it is", "captured", "console"],
)
async def test_no_output_holds_a_secret(environ: dict[str, str], tmp_path: Path) -> None:
    """F42: canaries in 0 lines of any output."""
    plant = Canaries()
    async with bench(tmp_path, plant, **environ) as (upstream, sidecar):
        await everything_goes_wrong(upstream, sidecar, plant)
        await look_inside(sidecar, plant)
        await drain(upstream, sidecar, plant)
        output = sidecar.output()
    assert plant.found_in(output) == []
    # all of it did happen
    log = dict(output)["stdout"].decode()
    for happened in (
        "tool.call.completed", "circuit.state_changed", "retry.scheduled", "proxy.failed",
        "store.state_changed", "proxy.draining", "library.printed", "upstream_timeout",
        "circuit_open", "upstream_broken", "Task exception was never retrieved",
    ):  # fmt: skip
        assert happened in log, happened
    assert len(output) > 40
    if "MCP_LOG_FORMAT" not in environ:
        lines = [json.loads(line) for line in log.splitlines()]
        assert any("arguments" in line for line in lines) == bool(environ)


async def test_no_span_holds_a_secret(tmp_path: Path) -> None:
    """F42, for what goes to a collector of traces."""
    pytest.importorskip("opentelemetry.sdk", reason="the extra [otel] is not installed")
    plant, collector = Canaries(), Collector()
    async with collector.listening() as endpoint:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        async with bench(tmp_path, plant, **environ) as (upstream, sidecar):
            await everything_goes_wrong(upstream, sidecar, plant)
            await drain(upstream, sidecar, plant)
    spans = [repr(span).encode() for span in collector.spans]
    assert plant.found_in([("spans", b"\n".join(spans))]) == []
    told = {span.name for span in collector.spans}
    assert f"tools/call {READ}" in told, "all of it did happen"
    assert len(collector.spans) > 100


async def test_a_secret_that_is_told_is_found(tmp_path: Path) -> None:
    """The search can fail: the name of a tool is no secret to a log, here it is one to us."""
    plant = Canaries()
    async with bench(tmp_path, plant) as (_, sidecar):
        name = f"tool_{plant('name of a tool')}"
        await sidecar.ask(Sent("n", name).rest())
        await sidecar.overheard("metrics", get(
            "/api/metrics", f"Authorization: Bearer {plant('MCP_ADMIN_TOKEN')}"
        ))  # fmt: skip
        sidecar.told.append(("events", await sidecar.live()))
        sidecar.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(sidecar.process.wait, 20)
        found = plant.found_in(sidecar.output())
    assert found == [f"name of a tool in {output}" for output in ("stdout", "metrics", "events")]
