"""Those who only listen: to events, as SSE and over WebSockets, to sessions, or not even that."""

import asyncio
import json
import socket
from contextlib import suppress
from random import Random

import aiohttp

from benchmarks.chaos.crowd import Crowd
from benchmarks.soak.calls import CALLERS
from benchmarks.soak.verdicts import SOUND, Verdicts
from tests.edge.wire import GONE, get, read_head
from tests.kit.door import LOOPBACK
from tests.kit.sent import connected, in_session

_STAY = (5.0, 20.0)  # seconds
_EVERY = 20  # such an event is read: there are many, and clients share the machine
_STALLED = 4096  # bytes of a buffer that nobody reads


class Watchers:
    """Come, listen for a while, leave, and come again, until cancelled."""

    def __init__(self, crowd: Crowd, verdicts: Verdicts, seed: int) -> None:
        self._crowd = crowd
        self._verdicts = verdicts
        self._rng = Random(seed)

    async def over_sse(self) -> None:
        """Read the events of the sidecar."""
        while True:
            with suppress(*GONE, TimeoutError):
                async with connected(self._crowd.port) as client, asyncio.timeout(self._stay()):
                    await client.send(get("/api/events?replay=100"))
                    self._welcome("SSE", (await read_head(client.reader)).status, 200)
                    while line := await client.reader.readline():
                        if line.startswith(b"data:"):
                            self._event(line[5:])

    async def over_websocket(self) -> None:
        """Read the same as messages."""
        url = f"http://{LOOPBACK}:{self._crowd.port}/api/events/ws"
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with (
                    aiohttp.ClientSession() as session,
                    session.ws_connect(url) as found,
                    asyncio.timeout(self._stay()),
                ):
                    self._verdicts.counted["watchers, WebSocket"] += 1
                    async for message in found:
                        self._event(message.data)

    async def asleep(self) -> None:
        """Ask for all events and read none."""
        while True:
            with suppress(*GONE):
                sock = socket.socket()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _STALLED)
                sock.setblocking(False)
                loop = asyncio.get_running_loop()
                try:
                    await loop.sock_connect(sock, (LOOPBACK, self._crowd.port))
                    await loop.sock_sendall(sock, get("/api/events?replay=1000"))
                    self._verdicts.counted["watchers, asleep"] += 1
                    await asyncio.sleep(self._stay())
                finally:
                    sock.close()

    async def in_session(self) -> None:
        """Hold the stream of a session open."""
        while True:
            caller = self._rng.choice(CALLERS)
            session = self._crowd.sessions.get(caller)
            if session is not None:
                with suppress(*GONE, TimeoutError):
                    async with connected(self._crowd.port) as client, asyncio.timeout(self._stay()):
                        headers = (f"Authorization: {caller}", *in_session(session))
                        await client.send(get("/mcp", *headers))
                        await read_head(client.reader)
                        self._verdicts.counted["watchers, session"] += 1
                        while await client.reader.read(1 << 16):
                            pass
            await asyncio.sleep(0.2)

    def _stay(self) -> float:
        return self._rng.uniform(*_STAY)

    def _welcome(self, who: str, status: int, wanted: int) -> None:
        self._verdicts.counted[f"watchers, {who}"] += 1
        if status != wanted:
            self._verdicts.breaks(SOUND, f"{who}: a watcher got {status}")

    def _event(self, text: bytes | str) -> None:
        self._verdicts.counted["events watched"] += 1
        if self._verdicts.counted["events watched"] % _EVERY:
            return
        try:
            json.loads(text)
        except ValueError:
            self._verdicts.breaks(SOUND, f"an event is no JSON: {text[:200]!r}")
