"""Clients that send what is no request, too much of one, or one very slowly."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from random import Random

from benchmarks.chaos.crowd import Crowd
from benchmarks.soak.calls import CALLERS, asked
from benchmarks.soak.scene import BODY, SLOWEST
from benchmarks.soak.verdicts import SHAPED, Verdicts
from tests.edge.wire import GONE, Said, get, post, read_body, read_head
from tests.kit.seen import see
from tests.kit.sent import ACCEPT, Sent, connected

WRITE = "jira_create_issue"
EVERY = 0.3  # seconds between two of them, on average
_PIECES, _BETWEEN = 8, 0.2  # a slow sender stays well below MCP_HEAD_TIMEOUT between two
_AWAY = {502, 503, 504}  # what was sent on may meet with a server that is away
_LONG = "x" * (300 * 1024)
# What is sent, and the statuses it may be answered with.
MALFORMED: tuple[tuple[bytes, set[int]], ...] = (
    (b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", {400}),
    (post("/api/call-tool", b"{}", "Content-Length: 2", "Content-Length: 3"), {400}),
    (post("/mcp", b"{no json", ACCEPT), {400, *_AWAY}),
    (post("/mcp", b"[" * 20_000, ACCEPT), {400, *_AWAY}),
    (post("/api/call-tool", b"xyz\r\n", "Transfer-Encoding: chunked"), {400}),
    (get("/api/health", "Host: evil.example"), {421}),
    (get("/api/health", "Origin: https://evil.example"), {403}),
    (get("/api/health", f"X-Long: {_LONG}"), {400, 431}),
    (get("/nowhere"), {404, *_AWAY}),
    (post("/api/call-tool", {"pad": "x" * (BODY + 1)}), {413}),
)


class Hostile:
    """Do one of these things now and then."""

    def __init__(self, crowd: Crowd, verdicts: Verdicts, seed: int) -> None:
        self._crowd = crowd
        self._verdicts = verdicts
        self._rng = Random(seed)
        self._numbers = 0
        self._ways: tuple[Callable[[], Awaitable[None]], ...] = (
            *(self.malformed, self.malformed, self.malformed),
            *(self.slow, self.stops_in_the_head, self.stops_in_the_body),
        )

    async def one(self) -> None:
        """Do the next thing."""
        way = self._rng.choice(self._ways)
        self._verdicts.counted[f"hostile: {way.__name__}"] += 1
        await way()

    async def malformed(self) -> None:
        """Send what nobody should answer with a success."""
        raw, statuses = self._rng.choice(MALFORMED)
        what = f"what begins with {raw[:60]!r}"
        self._hold(what, await asked(self._crowd, self._verdicts, what, raw), statuses)

    def _hold(self, what: str, said: Said | None, statuses: set[int]) -> None:
        if said is None:
            self._verdicts.breaks(SHAPED, f"{what}: no answer")
        elif said.status not in statuses:
            self._verdicts.breaks(SHAPED, f"{what}: {said.line}, not {sorted(statuses)}")

    async def slow(self) -> None:
        """Send a good write a few bytes at a time: it is carried out, once."""
        self._numbers += 1
        sent = Sent(f"slow{self._numbers}", WRITE, self._rng.choice(CALLERS))
        self._verdicts.told(see(sent, await self._dribble(sent, sent.rest(), 1.0)))

    async def stops_in_the_head(self) -> None:
        """Send half a head, and wait."""
        raw = get("/api/health", f"X-Long: {_LONG[:200]}")
        self._hold("half a head", await self._dribble("half a head", raw[:150], 0.1), {408})

    async def stops_in_the_body(self) -> None:
        """Send a head and half a body, and wait."""
        body = json.dumps({"service": "jira", "tool_name": WRITE, "params": {}}).encode()
        raw = post("/api/call-tool", body)[:-20]
        self._hold("half a body", await self._dribble("half a body", raw, 0.1), {408})

    async def _dribble(self, what: object, raw: bytes, share: float) -> Said | None:
        """Send it in pieces; return the answer."""
        size = -(-len(raw) // _PIECES)
        try:
            async with connected(self._crowd.port) as client:
                for start in range(0, len(raw), size):
                    await client.send(raw[start : start + size])
                    await asyncio.sleep(_BETWEEN * share)
                async with asyncio.timeout(self._crowd.patience + SLOWEST):
                    said = await read_head(client.reader)
                    await read_body(client.reader, said, to_eof=True)
        except TimeoutError:
            self._verdicts.hung(what, self._crowd.patience + SLOWEST)
            return None
        except GONE:
            self._verdicts.counted["connections that broke"] += 1
            return None
        self._verdicts.answered(what, said)
        return said
