"""Questions between the workers of one sidecar, over Unix sockets in their private directory.

A question is one connection: a frame there, a frame back. So nothing has to be taken up again when a
worker has died and another stands in its place.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from mcp_proxy.core.clock import Clock, Spawn
from mcp_proxy.core.place import Place

# Seconds after which a worker that has not answered is left out.
PATIENCE = 0.5
_LENGTH = 4
# Bytes; the largest answers are the counts of 500 tools with their last calls, a tenth of this.
_LONGEST = 64 * 1024 * 1024
# Questions that are answered at once; all workers together ask far fewer.
_AT_ONCE = 256

# Takes what is said, and returns what is answered: both as JSON has it.
Answer = Callable[[Any], Awaitable[Any]]


class Neighbours:
    """Ask all other workers something, and answer them."""

    def __init__(
        self, place: Place, clock: Clock, spawn: Spawn, answers: Mapping[str, Answer]
    ) -> None:
        self.place = place
        self._clock = clock
        self._spawn = spawn
        self._answers = answers
        self._server: asyncio.Server | None = None
        self._open = 0

    def _path(self, index: int) -> str:
        return str(Path(self.place.room) / f"{index}.sock")

    async def listen(self) -> None:
        """Begin to answer; whoever stood here before is dead. Raises OSError."""
        path = self._path(self.place.index)
        Path(path).unlink(missing_ok=True)  # noqa: ASYNC240 - in memory, once
        self._server = await asyncio.start_unix_server(self._answered, path)

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _AT_ONCE:
                async with self._clock.timeout(PATIENCE):
                    what, said = await _heard(reader)
                found = await self._answers[what](said)
                await _say(writer, found)
        except (OSError, EOFError, ValueError, TimeoutError):
            pass  # it is gone, or no worker of ours
        finally:
            self._open -= 1
            writer.close()

    async def ask(self, what: str, said: Any = None) -> dict[int, Any]:
        """Ask all others at once; return the answers by index, without those that did not come."""
        others = self.place.others
        asked = [self._spawn(self._asked(index, what, said), "ask a worker") for index in others]
        found = await asyncio.gather(*asked)
        return {index: one[0] for index, one in zip(others, found, strict=True) if one}

    async def _asked(self, index: int, what: str, said: Any) -> Sequence[Any]:
        writer = None
        try:
            async with self._clock.timeout(PATIENCE):
                reader, writer = await asyncio.open_unix_connection(self._path(index))
                await _say(writer, (what, said))
                return [await _heard(reader)]
        except (OSError, EOFError, ValueError, TimeoutError):
            return []
        finally:
            if writer is not None:
                writer.close()

    async def aclose(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()
            with suppress(OSError):
                Path(self._path(self.place.index)).unlink()  # noqa: ASYNC240 - in memory, once


async def _say(writer: asyncio.StreamWriter, said: Any) -> None:
    text = orjson.dumps(said, option=orjson.OPT_NON_STR_KEYS)
    writer.write(len(text).to_bytes(_LENGTH, "big") + text)
    await writer.drain()


async def _heard(reader: asyncio.StreamReader) -> Any:
    length = int.from_bytes(await reader.readexactly(_LENGTH), "big")
    if length > _LONGEST:
        raise ValueError(length)
    return orjson.loads(await reader.readexactly(length))
