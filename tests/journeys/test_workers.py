"""Several processes on one port: what clients and operators see of it (docs/workers.md)."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as read_text

from tests.edge.wire import (
    Client,
    Exchange,
    Upstream,
    answer,
    bound,
    chunk,
    get,
    post,
    result,
    rpc,
    streamed,
    tool,
)
from tests.journeys.conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux spreads connections")


class Sidecar:
    """The command with several workers, and what it says line by line."""

    def __init__(
        self, url: str, workers: int = 2, prelude: tuple[str, ...] = (), **environment: str
    ) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MCP_")}
        clean.pop("REDIS_URL", None)
        self.popen = subprocess.Popen(
            [
                *(sys.executable, *(prelude or ("-m", "mcp_proxy"))),
                *("run", "--upstream", url, "--port", "0"),
            ],
            start_new_session=True,
            env={**clean, "MCP_WORKERS": str(workers), "MCP_RESTART_GRACE": "0", **environment},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.lines: list[bytes] = []
        self._more = threading.Condition()
        self.reads = threading.Event()  # cleared: what is written has to wait
        self.reads.set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self.reads.wait()
            with self._more:
                self.lines.append(line)
                self._more.notify_all()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    def told(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]

    def until(self, name: str, number: int = 1) -> dict[str, Any]:
        """Wait until an event was told so often; return the last of them."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.told(name)) >= number, 20), self.lines
        return self.told(name)[-1]

    @property
    def port(self) -> int:
        return int(self.until("proxy.started")["urls"][0].rpartition(":")[2])

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        path = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def end(self, number: signal.Signals | None = signal.SIGTERM) -> tuple[int, str]:
        """Return the exit code and what it complained of."""
        if number is not None:
            self.popen.send_signal(number)
        assert self.popen.stderr is not None
        complaint = self.popen.stderr.read().decode()
        code = self.popen.wait(20)
        self._reader.join(5)
        return code, complaint

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()
        self.reads.set()
        self._reader.join(5)
        for pipe in (self.popen.stdout, self.popen.stderr):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def rules(tmp_path: Path) -> str:
    file = tmp_path / "rules.toml"
    file.write_text('[tools."read*"]\nread_only = true\n')
    return str(file)


@pytest.fixture
def start(rules: str) -> Iterator[Callable[..., Sidecar]]:
    started: list[Sidecar] = []

    def begin(url: str, workers: int = 2, *prelude: str, **environment: str) -> Sidecar:
        started.append(Sidecar(url, workers, prelude, MCP_CONFIG_FILE=rules, **environment))
        return started[-1]

    yield begin
    for sidecar in started:
        sidecar.kill()


class Pinned:
    """Connections, one to each worker: `X-Request-Id` begins with what is each one's own."""

    def __init__(self, port: int, stack: AsyncExitStack) -> None:
        self._port = port
        self._stack = stack
        self.by_worker: dict[str, Client] = {}

    async def open(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self._port))
        self._stack.push_async_callback(client.close)
        return client

    async def to(self, workers: int) -> list[Client]:
        """Return a connection to each of so many workers."""
        async with asyncio.timeout(20):
            while len(self.by_worker) < workers:
                client = await self.open()
                said = await client.ask(get("/other"))
                self.by_worker.setdefault(said["X-Request-Id"][:8], client)
        return list(self.by_worker.values())


@pytest.fixture
async def pinned() -> AsyncIterator[Callable[[Sidecar], Pinned]]:
    async with AsyncExitStack() as stack:
        yield lambda sidecar: Pinned(sidecar.port, stack)


def call(name: str, **params: Any) -> bytes:
    return post("/api/call-tool", {"service": "s", "tool_name": name, "params": params})


def ok(data: str) -> bytes:
    text = {"success": True, "data": data, "error": None, "timestamp": "t"}
    return answer(json.dumps(text).encode())


async def counting(exchange: Exchange) -> None:
    """A server whose reads tell what its writes have made of it."""
    if b"write" in exchange.asked.body:
        counting.value += 1  # type: ignore[attr-defined]
    await exchange.send(ok(str(counting.value)))  # type: ignore[attr-defined]


def sums(page: bytes) -> dict[str, float]:
    """Return all counters of a page by name and labels."""
    return {
        f"{one.name}{sorted(one.labels.items())}": one.value
        for family in read_text(page.decode())
        if family.type in {"counter", "histogram"}
        for one in family.samples
    }


async def test_both_workers_answer_and_whoever_is_asked_speaks_for_both(
    start: Callable[..., Sidecar], upstream: Upstream, pinned: Callable[[Sidecar], Pinned]
) -> None:
    upstream.plays(ok("x"))
    sidecar = await asyncio.to_thread(start, upstream.url)
    clients = await pinned(sidecar).to(2)
    for number, client in enumerate(clients):
        for _ in range(3 + number):
            assert (await client.ask(call("read"))).status == 200
    for client in clients:
        shown = (await client.ask(get("/api/metrics"))).json
        assert shown["workers"] == {"asked": 2, "answered": 2}
        (row,) = [row for row in shown["tools"] if row["tool"] == "read"]
        assert row["requests"] == 7
        assert row["cache"]["hits"] + row["cache"]["misses"] == 7
        assert row["cache"]["entries"] == 2  # one in each worker's memory
        page = (await client.ask(get("/metrics"))).body
        verdict = [("service", "s"), ("tool", "read"), ("verdict", "ok")]
        assert sums(page)[f"mcp_sidecar_calls_total{verdict}"] == 7
        assert b"\nmcp_sidecar_workers 2.0\n" in page
        health = (await client.ask(get("/api/health"))).json
        assert health["status"] == "healthy"
        assert health["workers"] == {"asked": 2, "answered": 2}
        assert health["cache"]["entries"] == 2
    (started,) = sidecar.told("proxy.started")
    assert started["workers"] == 2
    maps = Path(f"/proc/{sidecar.workers()[0]}/maps").read_text()  # noqa: ASYNC240
    (room,) = {Path(line.split()[-1]).parent for line in maps.splitlines() if "/board" in line}
    code, complaint = await asyncio.to_thread(sidecar.end)
    assert (code, complaint) == (0, "")
    assert not room.exists()


async def test_counters_never_go_back_when_a_worker_is_killed(
    start: Callable[..., Sidecar], upstream: Upstream, pinned: Callable[[Sidecar], Pinned]
) -> None:
    upstream.plays(ok("x"))
    sidecar = await asyncio.to_thread(start, upstream.url)
    connections = pinned(sidecar)
    clients = await connections.to(2)
    for client in clients:
        for number in range(5):
            await client.ask(call("read", n=number))
    last = sums((await clients[0].ask(get("/metrics"))).body)
    victim = sidecar.workers()[0]
    os.kill(victim, signal.SIGKILL)
    told = False
    async with bound(20):
        while not told or not sidecar.told("worker.started"):
            told = True
            client = await connections.open()
            try:
                said = await client.ask(get("/metrics"))
            except (ConnectionError, asyncio.IncompleteReadError):  # it was in the dead one's queue
                continue
            page = sums(said.body)
            fallen = {
                name: (last[name], page.get(name, 0))
                for name in last
                if page.get(name, 0) < last[name]
            }
            assert fallen == {}
            last = page
    assert sidecar.until("worker.ended")["reason"] == "signal 9"
    assert victim not in sidecar.workers()
    assert len(sidecar.workers()) == 2
    connections.by_worker.clear()
    clients = await connections.to(2)
    for client in clients:
        assert (await client.ask(call("read", n=1))).status == 200
    shown = (await clients[0].ask(get("/api/metrics"))).json
    (row,) = [row for row in shown["tools"] if row["tool"] == "read"]
    assert row["requests"] == 12


async def test_no_read_is_older_than_the_answer_of_a_write(
    start: Callable[..., Sidecar], upstream: Upstream, pinned: Callable[[Sidecar], Pinned]
) -> None:
    """DESIGN section 4, Invalidation: before its answer goes out, whichever worker is asked then."""
    counting.value = 0  # type: ignore[attr-defined]
    upstream.plays(counting)
    sidecar = await asyncio.to_thread(start, upstream.url, 3)
    clients = await pinned(sidecar).to(3)
    hits = 0
    for number in range(300):
        writer = clients[number % 3]
        for reader in clients:  # so that all have something old
            await reader.ask(call("read"))
        written = int((await writer.ask(call("write"))).json["data"])
        found = await asyncio.gather(*[reader.ask(call("read")) for reader in clients])
        assert [int(said.json["data"]) for said in found] == [written] * 3
        again = [await reader.ask(call("read")) for reader in clients]
        hits += sum("hit" in said["Cache-Status"] for said in again)
    assert hits == 900, "else nothing was there to be stale"


async def test_a_worker_that_stands_still_is_left_out_and_tells_nothing_old_afterwards(
    start: Callable[..., Sidecar], upstream: Upstream, pinned: Callable[[Sidecar], Pinned]
) -> None:
    counting.value = 0  # type: ignore[attr-defined]
    upstream.plays(counting)
    sidecar = await asyncio.to_thread(start, upstream.url)
    one, other = await pinned(sidecar).to(2)
    for client in (one, other):
        for _ in range(2):
            assert (await client.ask(call("read"))).json["data"] == "0"
    before = sums((await one.ask(get("/metrics"))).body)
    for still in sidecar.workers():
        os.kill(still, signal.SIGSTOP)
        await one.send(call("write"))
        await other.send(call("write"))
        # whoever of them is awake answers; the write of the other waits with it
        waiting = {asyncio.ensure_future(client.hear("POST")): client for client in (one, other)}
        (answered,), asleep = await asyncio.wait(
            waiting, return_when=asyncio.FIRST_COMPLETED, timeout=5
        )
        written = int(answered.result().json["data"])
        awake = waiting[answered]
        page = (await awake.ask(get("/metrics"))).body
        assert b"\nmcp_sidecar_workers_answering 1.0\n" in page
        after = sums(page)
        assert {name for name in before if after.get(name, 0) < before[name]} == set()
        assert (await awake.ask(get("/api/health"))).json["workers"] == {"asked": 2, "answered": 1}
        os.kill(still, signal.SIGCONT)
        (late,) = asleep
        assert int((await late).json["data"]) == written + 1
        for client in (one, other):
            assert int((await client.ask(call("read"))).json["data"]) == written + 1
        before = sums((await one.ask(get("/metrics"))).body)


async def test_a_clear_is_for_all(
    start: Callable[..., Sidecar], upstream: Upstream, pinned: Callable[[Sidecar], Pinned]
) -> None:
    upstream.plays(ok("x"))
    sidecar = await asyncio.to_thread(start, upstream.url)
    clients = await pinned(sidecar).to(2)
    for body in ({}, {"tool": "read"}, {"older_than": 0.001}):
        for client in clients:
            await client.ask(call("read"))
            assert "hit" in (await client.ask(call("read")))["Cache-Status"]
        await asyncio.sleep(0.01)
        cleared = (await clients[0].ask(post("/api/cache/clear", body))).json
        assert cleared["entries"] == 2
        assert cleared["workers"] == {"asked": 2, "answered": 2}
        for client in clients:
            assert "hit" not in (await client.ask(call("read")))["Cache-Status"]


async def events(client: Client, number: int) -> list[dict[str, Any]]:
    """Read so many events of a stream."""
    found: list[dict[str, Any]] = []
    text = b""
    async with bound(10):
        while len(found) < number:
            text += await client.chunk()
            *blocks, text = text.split(b"\n\n")
            found += [
                json.loads(line[6:])
                for block in blocks
                for line in block.split(b"\n")
                if line.startswith(b"data: ")
            ]
    return found


async def test_a_watcher_hears_all_workers_and_loses_nothing_when_it_moves(
    start: Callable[..., Sidecar], upstream: Upstream, pinned: Callable[[Sidecar], Pinned]
) -> None:
    upstream.plays(ok("x"))
    sidecar = await asyncio.to_thread(start, upstream.url)
    connections = pinned(sidecar)
    clients = await connections.to(2)
    for index, client in enumerate(clients):
        await client.ask(call(f"read{index}"))
    watcher = await connections.open()
    await watcher.send(get("/api/events?type=tool.call.completed&replay=2"))
    await watcher.head()
    assert [event["tool"] for event in await events(watcher, 2)] == ["read0", "read1"]
    for index in range(10):
        await clients[index % 2].ask(call(f"live{index}"))
    heard = await events(watcher, 10)
    assert [event["tool"] for event in heard] == [f"live{index}" for index in range(10)]
    seen = heard[6]["id"]
    for index in range(10, 14):
        await clients[index % 2].ask(call(f"live{index}"))
    for _ in range(4):  # at whichever worker
        other = await connections.open()
        await other.send(get(f"/api/events?type=tool.call.completed&last_event_id={seen}"))
        await other.head()
        missed = await events(other, 7)
        assert [event["tool"] for event in missed] == [f"live{index}" for index in range(7, 14)]


async def test_all_calls_under_way_are_finished(
    start: Callable[..., Sidecar], upstream: Upstream, pinned: Callable[[Sidecar], Pinned]
) -> None:
    """F26: 0 calls lost at either worker."""
    go_on = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        if b"slow" in exchange.asked.body:
            await go_on.wait()
        await exchange.send(ok("x"))

    upstream.plays(slow)
    sidecar = await asyncio.to_thread(start, upstream.url)
    connections = pinned(sidecar)
    clients = await connections.to(2)
    before = len(upstream.asked)
    for client in clients:
        await client.send(call("slow"))
    await upstream.until(lambda: len(upstream.asked) == before + 2)
    sidecar.popen.send_signal(signal.SIGTERM)
    await asyncio.to_thread(sidecar.until, "proxy.draining", 2)
    go_on.set()
    for client in clients:
        assert (await client.hear("POST")).status == 200
    assert (await asyncio.to_thread(sidecar.end, None))[0] == 0


async def test_a_call_that_outlasts_the_grace_makes_it_unclean(
    start: Callable[..., Sidecar], upstream: Upstream, pinned: Callable[[Sidecar], Pinned]
) -> None:
    async def never(exchange: Exchange) -> None:
        if b"slow" in exchange.asked.body:
            await exchange.left()
        else:
            await exchange.send(ok("x"))

    upstream.plays(never)
    sidecar = await asyncio.to_thread(start, upstream.url, 2, MCP_SHUTDOWN_GRACE="0.5")
    client, _ = await pinned(sidecar).to(2)
    before = len(upstream.asked)
    await client.send(call("slow"))
    await upstream.until(lambda: len(upstream.asked) == before + 1)
    began = time.monotonic()
    assert (await asyncio.to_thread(sidecar.end))[0] == 3
    assert time.monotonic() - began < 0.5 + 2.0


async def test_a_second_signal_ends_at_once(
    start: Callable[..., Sidecar], upstream: Upstream, pinned: Callable[[Sidecar], Pinned]
) -> None:
    async def never(exchange: Exchange) -> None:
        if b"slow" in exchange.asked.body:
            await exchange.left()
        else:
            await exchange.send(ok("x"))

    upstream.plays(never)
    sidecar = await asyncio.to_thread(start, upstream.url)
    client, _ = await pinned(sidecar).to(2)
    before = len(upstream.asked)
    await client.send(call("slow"))
    await upstream.until(lambda: len(upstream.asked) == before + 1)
    sidecar.popen.send_signal(signal.SIGTERM)
    await asyncio.to_thread(sidecar.until, "proxy.draining", 2)
    began = time.monotonic()
    assert (await asyncio.to_thread(sidecar.end))[0] == 3
    assert time.monotonic() - began < 4.0, "the grace is 8 s"


async def test_a_signal_to_all_processes_is_one_signal(
    start: Callable[..., Sidecar], upstream: Upstream, pinned: Callable[[Sidecar], Pinned]
) -> None:
    """As Ctrl-C sends it, and systemd: the calls under way are finished."""
    go_on = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        if b"slow" in exchange.asked.body:
            await go_on.wait()
        await exchange.send(ok("x"))

    upstream.plays(slow)
    sidecar = await asyncio.to_thread(start, upstream.url)
    client, _ = await pinned(sidecar).to(2)
    before = len(upstream.asked)
    await client.send(call("slow"))
    await upstream.until(lambda: len(upstream.asked) == before + 1)
    os.killpg(sidecar.popen.pid, signal.SIGINT)
    await asyncio.to_thread(sidecar.until, "proxy.draining", 2)
    go_on.set()
    assert (await client.hear("POST")).status == 200
    assert (await asyncio.to_thread(sidecar.end, None))[0] == 0


def test_where_no_worker_can_start_it_ends_and_says_so(start: Callable[..., Sidecar]) -> None:
    broken = "import mcp_proxy.assembly as a; a.Sidecar.start = lambda _: 1 / 0"
    sidecar = start(
        "http://localhost:9", 2, "-c", f"{broken}\nfrom mcp_proxy.cli import main; main()"
    )
    code, complaint = sidecar.end(None)
    assert code == 1
    assert complaint == (
        "mcp-sidecar: the workers cannot start: each one ended within a second, "
        "see what they said before\n"
    )
    assert {event["exception"] for event in sidecar.told("proxy.failed")} == {"ZeroDivisionError"}
    assert len(sidecar.told("worker.ended")) == 5
    assert sidecar.told("proxy.started") == []


async def test_a_worker_that_hangs_is_replaced(
    start: Callable[..., Sidecar], upstream: Upstream
) -> None:
    upstream.plays(counting)
    counting.value = 0  # type: ignore[attr-defined]
    sooner = "import mcp_proxy.workers as w, mcp_proxy.serving as s; w.BEAT = s.BEAT = 0.5"
    code = f"{sooner}\nfrom mcp_proxy.cli import main; main()"
    sidecar = await asyncio.to_thread(start, upstream.url, 2, "-c", code)
    assert sidecar.port
    still, *others = sidecar.workers()
    os.kill(still, signal.SIGSTOP)
    ended = await asyncio.to_thread(sidecar.until, "worker.ended")
    assert (ended["worker"], ended["reason"]) == (0, "it hung, and was killed")
    started = await asyncio.to_thread(sidecar.until, "worker.started")
    assert started["worker"] == 0
    assert still not in sidecar.workers()
    assert set(others) < set(sidecar.workers()), "who is well is left alone"
    assert await asyncio.to_thread(sidecar.end) == (0, "")


async def test_workers_do_not_outlive_their_supervisor(
    start: Callable[..., Sidecar], upstream: Upstream
) -> None:
    sidecar = await asyncio.to_thread(start, upstream.url)
    assert sidecar.port
    workers = sidecar.workers()
    maps = Path(f"/proc/{workers[0]}/maps").read_text()  # noqa: ASYNC240
    (room,) = {Path(line.split()[-1]).parent for line in maps.splitlines() if "/board" in line}
    assert room.stat().st_mode & 0o777 == 0o700
    sidecar.kill()
    async with bound(10):
        while any(Path(f"/proc/{pid}").exists() for pid in workers):  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.02)
    assert not room.exists()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", sidecar.port))


async def test_a_port_in_use_is_said_once(
    start: Callable[..., Sidecar], upstream: Upstream
) -> None:
    """Also where another sidecar has workers: it must not get half of the calls."""
    first = await asyncio.to_thread(start, upstream.url)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for port in (first.port, taken.getsockname()[1]):
            found = await asyncio.to_thread(
                subprocess.run,
                [
                    sys.executable,
                    "-m",
                    "mcp_proxy",
                    "run",
                    "--upstream",
                    "http://localhost:9",
                    "--port",
                    str(port),
                ],
                env={"PATH": "", "MCP_WORKERS": "2"},
                cwd=ROOT,
                capture_output=True,
                timeout=20,
                check=False,
            )
            assert found.returncode == 1
            assert found.stderr.decode() == (
                f"mcp-sidecar: cannot listen on localhost:{port} (Address already in use); "
                "choose another with --host and --port\n"
            )


def test_settings_that_cannot_be_used_are_said_once(start: Callable[..., Sidecar]) -> None:
    sidecar = start("http://localhost:9", 2, MCP_CACHE_TTL="nan")
    code, complaint = sidecar.end(None)
    assert code == 2
    assert complaint.count("MCP_CACHE_TTL") == 1


def test_a_setting_warns_once(start: Callable[..., Sidecar]) -> None:
    sidecar = start("http://localhost:9", 3, MCP_PROT="1")
    assert sidecar.port
    assert sidecar.end()[0] == 0
    assert len(sidecar.told("config.warning")) == 1


class Forgetful:
    """A server of the handshake era that can be made to forget its sessions."""

    def __init__(self) -> None:
        self.opened = 0
        self.known: set[str] = set()
        self.noted: list[tuple[str, str]] = []  # session and method

    async def __call__(self, exchange: Exchange) -> None:
        asked = exchange.asked
        said = asked.json if asked.body else {}
        session = asked.all("Mcp-Session-Id")
        method = said.get("method", "")
        if method == "initialize":
            self.opened += 1
            name = f"session-{self.opened}"
            self.known.add(name)
            kept = {"protocolVersion": "2025-11-25", "capabilities": {}}
            head = (f"Mcp-Session-Id: {name}", "Content-Type: application/json")
            await exchange.send(answer(result(said["id"], **kept), *head))
        elif not session or session[0] not in self.known:
            await exchange.send(answer(b"", status="404 Not Found"))
        else:
            self.noted.append((session[0], method))
            if "id" in said:
                await exchange.send(
                    answer(result(said["id"], tools=[]), "Content-Type: application/json")
                )
            else:
                await exchange.send(answer(b"", status="202 Accepted"))


def in_session(session: str, message: dict[str, Any]) -> bytes:
    return post("/mcp", message, f"Mcp-Session-Id: {session}", *MODERN)


MODERN = ("MCP-Protocol-Version: 2025-11-25", "Accept: application/json, text/event-stream")
HELLO = rpc(
    "initialize",
    protocolVersion="2025-11-25",
    capabilities={},
    clientInfo={"name": "c", "version": "1"},
)


@pytest.mark.parametrize("together", [False, True])
async def test_a_session_that_one_worker_opened_anew_is_open_for_all(
    start: Callable[..., Sidecar],
    upstream: Upstream,
    pinned: Callable[[Sidecar], Pinned],
    together: bool,
) -> None:
    """Whichever worker meets the loss: one handshake, and the client's id goes on at all."""
    server = Forgetful()
    upstream.plays(server)
    sidecar = await asyncio.to_thread(start, upstream.url, 3, MCP_CACHE_ENABLED="false")
    clients = await pinned(sidecar).to(3)
    opened = await clients[0].ask(post("/mcp", HELLO, *MODERN))
    session = opened["Mcp-Session-Id"]
    opened_so_far = server.opened
    for client, message in zip(
        clients,
        (
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            rpc("logging/setLevel", level="info"),
            rpc("resources/subscribe", uri="x:1"),
        ),
        strict=True,
    ):
        assert (await client.ask(in_session(session, message))).status in {200, 202}
    for generation in range(2):
        server.known.clear()
        server.noted.clear()
        ask = [client.ask(in_session(session, rpc("prompts/get", name="p"))) for client in clients]
        found = await asyncio.gather(*ask) if together else [await one for one in ask]
        assert [said.status for said in found] == [200] * 3
        assert server.opened == opened_so_far + 1 + generation
        (now,) = {name for name, _ in server.noted}
        assert sorted(method for _, method in server.noted) == [
            "logging/setLevel",
            "notifications/initialized",
            *["prompts/get"] * 3,
            "resources/subscribe",
        ]
        assert now == f"session-{server.opened}"
    assert (await asyncio.to_thread(sidecar.end))[0] == 0
    assert len(sidecar.told("session.recovered")) == 2


async def test_a_changed_tool_list_is_read_anew_by_all(
    start: Callable[..., Sidecar], upstream: Upstream, pinned: Callable[[Sidecar], Pinned]
) -> None:
    """Heard on a stream at one: another must not go on keeping the answers of a tool that writes now."""
    notice = b'data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n'
    go_on = asyncio.Event()

    async def streams(exchange: Exchange) -> None:
        if exchange.asked.target == "/mcp":
            await exchange.send(streamed())
            await go_on.wait()
            await exchange.send(chunk(notice))
            await exchange.left()
        else:
            await exchange.send(ok("x"))

    def read() -> int:
        """Return how often somebody has begun to read the list."""
        return sum(
            b"server/discover" in look.body or b"tools/list" in look.body for look in upstream.looks
        )

    upstream.plays(streams)
    sidecar = await asyncio.to_thread(start, upstream.url)
    client, _ = await pinned(sidecar).to(2)
    await upstream.until(lambda: read() == 2)
    await client.send(get("/mcp", "Accept: text/event-stream"))
    await client.head()
    go_on.set()
    assert await client.chunk() == notice
    await upstream.until(lambda: read() == 4)


async def test_a_legacy_stream_stays_for_an_answer_that_was_asked_of_another_worker(
    start: Callable[..., Sidecar], upstream: Upstream, pinned: Callable[[Sidecar], Pinned]
) -> None:
    """The drain waits for it as if both were at one process (edge/mail)."""
    answers = asyncio.Event()

    async def legacy(exchange: Exchange) -> None:
        if exchange.asked.target == "/sse":
            await exchange.send(
                streamed(), chunk(b"event: endpoint\ndata: /messages?session_id=1\n\n")
            )
            await answers.wait()
            await exchange.send(chunk(b"event: message\ndata: " + result(7) + b"\n\n"))
            await exchange.left()
        elif exchange.asked.target.startswith("/messages"):
            await exchange.send(answer(b"Accepted", status="202 Accepted"))
        else:
            await exchange.send(ok("x"))

    upstream.plays(legacy)
    sidecar = await asyncio.to_thread(start, upstream.url)
    here, there = await pinned(sidecar).to(2)
    await here.send(get("/sse"))
    await here.head()
    assert b"endpoint" in await here.chunk()
    posted = await there.ask(post("/messages?session_id=1", tool("t", 7)))
    assert posted.status == 202
    sidecar.popen.send_signal(signal.SIGTERM)
    await asyncio.to_thread(sidecar.until, "proxy.draining", 2)
    answers.set()
    assert result(7) in await here.chunk()
    assert (await asyncio.to_thread(sidecar.end, None))[0] == 0


async def test_every_line_is_whole_though_many_write(
    start: Callable[..., Sidecar], upstream: Upstream, pinned: Callable[[Sidecar], Pinned]
) -> None:
    """Batches are larger than a pipe takes in one piece (PIPE_BUF), and who reads is slow."""
    upstream.plays(ok("x"))
    sidecar = await asyncio.to_thread(start, upstream.url, 4, MCP_CAPTURE="redacted")
    clients = await pinned(sidecar).to(4)

    async def busy(client: Client) -> None:
        for number in range(500):
            await client.ask(call("read", text="x" * 300, number=number % 5))

    sidecar.reads.clear()
    await asyncio.gather(*[busy(client) for client in clients])
    sidecar.reads.set()
    assert (await asyncio.to_thread(sidecar.end))[0] == 0
    assert len(sidecar.told("tool.call.completed")) == 2000


NOT_KEPT = '[tools."read*"]\nread_only = true\ncache = false\n'


@pytest.mark.parametrize("by_signal", [True, False])
async def test_new_settings_are_for_all_and_for_those_that_come_later(
    start: Callable[..., Sidecar],
    upstream: Upstream,
    pinned: Callable[[Sidecar], Pinned],
    rules: str,
    *,
    by_signal: bool,
) -> None:
    upstream.plays(ok("x"))
    sidecar = await asyncio.to_thread(start, upstream.url)
    connections = pinned(sidecar)
    clients = await connections.to(2)
    for client in clients:
        assert "stored" in (await client.ask(call("read")))["Cache-Status"]
    Path(rules).write_text(NOT_KEPT)  # noqa: ASYNC240
    if by_signal:
        sidecar.popen.send_signal(signal.SIGHUP)
    else:
        said = (await clients[0].ask(post("/api/config/reload", b""))).json
        assert said["changed"] == ["tools"]
    await asyncio.to_thread(sidecar.until, "config.reloaded", 2)
    for client in clients:
        assert "fwd=bypass" in (await client.ask(call("read")))["Cache-Status"]
    os.kill(sidecar.workers()[0], signal.SIGKILL)
    await asyncio.to_thread(sidecar.until, "worker.started")
    connections.by_worker.clear()
    for client in await connections.to(2):
        assert "fwd=bypass" in (await client.ask(call("read")))["Cache-Status"]
    assert (await asyncio.to_thread(sidecar.end))[0] == 0


async def test_circuits_are_closed_in_all(
    start: Callable[..., Sidecar], upstream: Upstream, pinned: Callable[[Sidecar], Pinned]
) -> None:
    upstream.plays(answer(b"no", status="500 Internal Server Error"))
    sidecar = await asyncio.to_thread(
        start, upstream.url, MCP_CB_FAILURE_THRESHOLD="1", MCP_MAX_RETRIES="0"
    )
    clients = await pinned(sidecar).to(2)
    for client in clients:
        assert (await client.ask(call("write"))).status == 500
        assert (await client.ask(call("write"))).json["error_details"]["code"] == "circuit_open"
    unknown = await clients[0].ask(post("/api/circuits/reset?circuit=nobody", b""))
    assert unknown.status == 404
    said = await clients[0].ask(post("/api/circuits/reset?circuit=tool+s/write", b""))
    assert said.json["reset"] == ["tool s/write"]
    upstream.plays(ok("x"))
    for client in clients:
        assert (await client.ask(call("write"))).status == 200
