"""A real Chromium, a server whose tools can be broken, and sidecars in front of it."""

import asyncio
import json
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.edge.wire import sidecar as running
from tests.journeys.conftest import ROOT, START_SECONDS, start

__all__ = ["start"]

NPM_SECONDS = 100
RULES = '[tools."look*"]\nread_only = true\n'


class Tools(BaseHTTPRequestHandler):
    """The REST tool API, as the old server has it; tools in `server.broken` answer 500."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, {"status": "healthy"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/api/call-tool":  # the sidecar asks at /mcp what tools there are
            return self._answer(404, {})
        broken = asked["tool_name"] in self.server.broken  # type: ignore[attr-defined]
        return self._answer(500 if broken else 200, {"success": not broken, "result": "x" * 100})

    def _answer(self, status: int, said: dict[str, Any]) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Upstream:
    """The server behind."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Tools)
        self._server.daemon_threads = True
        self.broken: set[str] = set()
        self._server.broken = self.broken  # type: ignore[attr-defined]
        self.url = f"http://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Sidecar:
    """A sidecar on a loop of its own, and the means to use it beside the browser."""

    def __init__(self, url: str, settings: dict[str, str]) -> None:
        # no proxy of the environment: all is on loopback
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self._settings = settings
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(url)))
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            raise AssertionError("the sidecar does not start")

    async def _serve(self, url: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        async with running(url, **self._settings) as front:
            front.sidecar.start()
            self.url = f"http://localhost:{front.port}"
            self._emit = front.sidecar.emit
            self._ready.set()
            await self._over.wait()
            front.sidecar.inbound.draining = True  # ends the streams

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def tell(self, events: int, seconds: float) -> None:
        """Tell so many events, evenly over so many seconds, beside whatever else goes on."""
        at_once = 50

        def some(left: int) -> None:
            for _ in range(at_once):
                self._emit("test.flood", "info", tool="look", duration_ms=1.5)
            if left > at_once:
                self._loop.call_later(seconds * at_once / events, some, left - at_once)

        self._loop.call_soon_threadsafe(some, events)

    def ask(self, path: str, body: Any = None, **headers: str) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers}
        request = urllib.request.Request(f"{self.url}{path}", data, headers)
        with self._open(request, timeout=10) as answer:
            return json.load(answer)

    def call(self, tool: str, times: int = 1, service: str = "jira", **params: Any) -> None:
        """Call a tool, whatever becomes of it."""
        asked = {"service": service, "tool_name": tool, "params": params}
        for _ in range(times):
            with suppress(HTTPError):
                self.ask("/api/call-tool", asked)


Sidecars = Callable[..., Sidecar]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


@pytest.fixture
def sidecar(upstream: Upstream, tmp_path: Path) -> Iterator[Sidecars]:
    """Start a sidecar with these settings."""
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    begun = []

    def begin(**settings: str) -> Sidecar:
        settings = {"MCP_CONFIG_FILE": str(rules), "MCP_MAX_RETRIES": "0", **settings}
        begun.append(Sidecar(upstream.url, settings))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()


# playwright's loop runs in this thread until it is closed: tests of other modules have loops of their own
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium (a Debian package)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Watched:
    """A page, and what went wrong on it."""

    def __init__(self, page: Page, sidecar: Sidecar) -> None:
        self.page = page
        self.sidecar = sidecar
        self.errors: list[str] = []
        self.asked: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._heard)
        page.on("request", lambda request: self.asked.append(request.url))

    def _heard(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)

    def open(self, view: str = "overview") -> Page:
        self.page.goto(f"{self.sidecar.url}/dashboard#/{view}")
        return self.page


Pages = Callable[..., Watched]


@pytest.fixture
def page(browser: Browser) -> Iterator[Pages]:
    """Open a page in a context of its own."""
    contexts = []

    def begin(sidecar: Sidecar, **options: Any) -> Watched:
        options = {"viewport": {"width": 1280, "height": 800}, **options}
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(20_000)
        return Watched(contexts[-1].new_page(), sidecar)

    yield begin
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """Return the source of axe-core, installed on first use."""
    if shutil.which("npm") is None:
        pytest.skip("no npm, which brings axe-core")
    try:
        subprocess.run(
            [str(ROOT / "scripts" / "setup-npm")],
            check=True,
            timeout=NPM_SECONDS,
            capture_output=True,
            text=True,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not install axe-core in time")
    except subprocess.CalledProcessError as failed:
        pytest.skip(f"npm cannot install axe-core: {failed.stderr[-200:]}")
    return (ROOT / ".npm-clients" / "node_modules" / "axe-core" / "axe.min.js").read_text()
