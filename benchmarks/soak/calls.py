"""The ordinary clients: reads and writes in every dialect, at a steady pace."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random

from benchmarks.chaos.crowd import DIALECTS, Crowd, Dialect
from benchmarks.soak.verdicts import Verdicts, with_hint
from tests.edge.wire import GONE, Said
from tests.kit.door import abort
from tests.kit.seen import Fate, Seen, is_stream, see
from tests.kit.sent import Sent, connected
from tests.kit.tools import TOOLS

CALLERS = tuple(f"Bearer caller-{number}" for number in range(24))
WRITES = 0.3  # of the calls
# So many reads ask for one of a few answers, on behalf of a few callers: they may be kept.
POPULAR, NONCES, SOME = 0.4, 3, 4
LEAVES = 0.03  # of the calls are left by their client before the answer
_WRITING = tuple(tool for tool in TOOLS if tool.once)
_READING = tuple(tool for tool in TOOLS if not tool.once)
REPEATS = 3  # at most, of a call that may be repeated
_LONGEST_PAUSE = 2.0  # seconds before one; who is told to wait longer gives up
_HASTE = 0.05  # seconds until a client leaves, at most


class Calls:
    """Make one call after the other, and remember how long those took that nothing disturbed."""

    def __init__(
        self, crowd: Crowd, verdicts: Verdicts, calm: Callable[[], int | None], seed: int
    ) -> None:
        self._crowd = crowd
        self._verdicts = verdicts
        self._calm = calm
        self._rng = Random(seed)
        self._opening: set[str] = set()
        self.clean: list[float] = []  # ms, of calls that the server answered in the present calm

    async def one(self, number: int) -> None:
        """Make the next call, of whatever kind."""
        rng = self._rng
        caller, dialect = rng.choice(CALLERS), rng.choice(DIALECTS)
        chosen = rng.choice(_WRITING if rng.random() < WRITES else _READING)
        popular = chosen.read_only and rng.random() < POPULAR
        if popular:
            caller = rng.choice(CALLERS[:SOME])
        nonce = f"p{rng.randrange(NONCES)}" if popular else f"n{number}"
        sent = Sent(nonce, chosen.name, caller, chosen.service)
        if dialect is Dialect.SESSION and caller not in self._crowd.sessions:
            await self.open_session(caller)
            return
        raw = self._raw(sent, dialect)
        if rng.random() < LEAVES:
            await self._leave(sent, raw)
            return
        await self._ask(sent, raw, dialect, clean=not popular)

    async def open_session(self, caller: str) -> None:
        """Open a session, unless somebody is at it."""
        if caller in self._opening:
            return
        self._opening.add(caller)
        try:
            await self._crowd.open_session(caller)
        except TimeoutError:  # the server is away, or a storm has eaten each handshake
            self._verdicts.counted["handshakes given up"] += 1
        finally:
            self._opening.discard(caller)

    def _raw(self, sent: Sent, dialect: Dialect) -> bytes:
        # so that a sentence on what is wrong leads to the lines of the log
        lines = f"\r\nX-Request-Id: {sent.nonce}\r\n"
        if dialect is Dialect.SESSION:
            raw = sent.mcp(self._crowd.sessions[sent.caller])
        else:
            raw = sent.rest() if dialect is Dialect.REST else sent.stateless()
            if self._rng.random() < 0.5 and sent.nonce.startswith("n"):
                lines += f"Idempotency-Key: {sent.nonce}\r\n"
        return raw.replace(b"\r\n", lines.encode(), 1)

    async def _ask(self, sent: Sent, raw: bytes, dialect: Dialect, *, clean: bool) -> None:
        for _ in range(1 + REPEATS):
            calm, began = self._calm(), time.perf_counter()
            said = await asked(self._crowd, self._verdicts, sent, raw)
            seen = see(sent, said)
            self._verdicts.told(seen if said is None else hinted(seen, said))
            undisturbed = calm is not None and calm == self._calm()
            if clean and undisturbed and seen.fate is Fate.DONE:
                self.clean.append((time.perf_counter() - began) * 1000)
            if dialect is Dialect.SESSION and seen.status == 404:
                self._crowd.sessions.pop(sent.caller, None)
                return
            pause = may_repeat(seen)
            if pause is None:
                return
            await asyncio.sleep(pause)
            self._verdicts.counted["repeated by clients"] += 1

    async def _leave(self, sent: Sent, raw: bytes) -> None:
        """Leave after the whole request or a part of it, with FIN or with RST."""
        part = len(raw) if self._rng.random() < 0.5 else self._rng.randrange(len(raw))
        with suppress(*GONE):
            async with connected(self._crowd.port) as client:
                await client.send(raw[:part])
                await asyncio.sleep(self._rng.random() * _HASTE)
                if self._rng.random() < 0.5:
                    abort(client.writer)
        self._verdicts.counted["left by their client"] += 1
        self._verdicts.told(Seen(sent, Fate.LOST))


async def asked(crowd: Crowd, verdicts: Verdicts, what: object, raw: bytes) -> Said | None:
    """Return the answer after a look at its form; one that does not come at all is told of."""
    began = time.monotonic()
    said = await crowd.ask(raw)
    seconds = time.monotonic() - began
    if said is not None:
        verdicts.answered(what, said)
        cached = any("hit" in value for value in said.all("Cache-Status"))
        verdicts.counted["hits"] += cached
    elif seconds >= crowd.patience:
        verdicts.hung(f"{what}, of which came {crowd.stuck}", seconds)
    else:
        verdicts.counted["connections that broke"] += 1
    return said


def hinted(seen: Seen, said: Said) -> Seen:
    """Return what was seen with the hint in the body, where the head had gone before the failure."""
    streamed = is_stream({name.lower(): value for name, value in said.headers})
    return with_hint(seen) if streamed else seen


def may_repeat(seen: Seen) -> float | None:
    """Return the seconds after which a call that was not delivered may be sent again."""
    if seen.fate is not Fate.NOT_DELIVERED or not seen.details or not seen.details["retryable"]:
        return None
    seconds = float(seen.details["retry_after_ms"]) / 1000
    return seconds if seconds <= _LONGEST_PAUSE else None
