"""Real child processes behind a sidecar, and clients that speak plain HTTP to it."""

import asyncio
import io
import json
import os
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mcp_proxy.assembly import Sidecar
from mcp_proxy.edge.serve import listen
from mcp_proxy.signals.logs import Log
from mcp_proxy.signals.said import Said
from mcp_proxy.sources import Loader
from tests.edge.wire import check_event

HERE = Path(__file__).parent
PATIENCE = 30  # seconds; a process that has not done it by then will not
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2025-11-25",
}


def child(*more: str, file: str = "plain_child.py") -> str:
    return shlex.join([sys.executable, str(HERE / file), *more])


class Client:
    """One client's session, spoken by hand."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http = http
        self.url = f"{url}/mcp"
        self.headers = dict(HEADERS)

    async def hello(self) -> tuple[int, list[Any]]:
        return await self.post(
            id=0,
            method="initialize",
            params={
                "protocolVersion": "2025-11-25",
                "capabilities": {"roots": {}},
                "clientInfo": {"name": "test", "version": "1"},
            },
        )

    async def begin(self) -> "Client":
        status, said = await self.hello()
        assert status == 200, said
        assert (await self.post(method="notifications/initialized"))[0] == 202
        return self

    async def post(self, **message: Any) -> tuple[int, list[Any]]:
        """Post a message; return the status, and the messages of the answer."""
        data = io.BytesIO(json.dumps({"jsonrpc": "2.0", **message}).encode())
        async with self.http.post(self.url, data=data, headers=self.headers) as response:
            if "Mcp-Session-Id" in response.headers and message.get("method") == "initialize":
                self.headers["Mcp-Session-Id"] = response.headers["Mcp-Session-Id"]
            text = await response.text()
            if response.content_type == "text/event-stream":
                return response.status, [
                    json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")
                ]
            return response.status, [json.loads(text)] if text else []

    async def call(self, tool: str, number: object = 1, **arguments: Any) -> Any:
        """Call a tool; return its answer."""
        status, said = await self.post(
            id=number, method="tools/call", params={"name": tool, "arguments": arguments}
        )
        assert status == 200, said
        assert said[-1]["id"] == number
        assert type(said[-1]["id"]) is type(number)
        return said[-1]

    async def end(self) -> int:
        async with self.http.delete(self.url, headers=self.headers) as response:
            return response.status


def text(answer: Any) -> str:
    """Return what a tool has said."""
    return str(answer["result"]["content"][0]["text"])


def details(answer: Any) -> Any:
    """Return the failure object of an answer."""
    return answer["result"]["_meta"]["mcp_proxy/error"]


class Door:
    """A sidecar with a command behind it, in this process."""

    def __init__(
        self, sidecar: Sidecar, url: str, http: aiohttp.ClientSession, ledger: Path
    ) -> None:
        self.sidecar = sidecar
        self.url = url
        self.http = http
        self._ledger = ledger
        self._said: list[Said] = []
        sidecar.emit.add(self._said.append)

    async def client(self) -> Client:
        await until(lambda: self.sidecar.catalogue.size, "its tools are known")
        return await Client(self.http, self.url).begin()

    def ledger(self) -> list[str]:
        return self._ledger.read_text().splitlines() if self._ledger.exists() else []

    def did(self, what: str) -> list[str]:
        """Return who did something: the ids of the processes."""
        return [line.split()[0] for line in self.ledger() if line.split()[1] == what]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of a name so far."""
        return [said.fields for said in self._said if said.event == name]


Doors = Callable[..., Awaitable[Door]]


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Doors]:
    """Open sidecars in front of commands."""
    async with AsyncExitStack() as stack:

        async def opened(command: str | None = None, **settings: Any) -> Door:
            return await stack.enter_async_context(_door(command or child(), tmp_path, settings))

        yield opened


@asynccontextmanager
async def _door(command: str, folder: Path, settings: dict[str, Any]) -> AsyncIterator[Door]:
    values = {
        "MCP_UPSTREAM_COMMAND": command,
        "MCP_PORT": "0",
        "MCP_HOST": "127.0.0.1",
        **{name: str(value) for name, value in settings.items()},
    }
    ledger = folder / "ledger"
    environ = {**os.environ, "LEDGER": str(ledger), "OWN_SECRET": "1", **values}
    loaded = Loader({}, values).load()
    with tempfile.TemporaryFile() as told:
        log = Log("debug", told.fileno())
        sidecar = Sidecar(loaded, log, environ=environ)
        runner, urls = await listen(sidecar.inbound, "127.0.0.1", 0)
        sidecar.start()
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as http:
                yield Door(sidecar, urls[0], http, ledger)
        finally:
            await runner.cleanup()
            await sidecar.aclose()
            log.close()
        told.seek(0)
        for line in told:
            check_event(json.loads(line))


async def until(true: Callable[[], Any], what: str = "") -> None:
    """Wait for what another process does: there is no event to wait for."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.02)
    assert true(), what


def lives(pid: int | str) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
