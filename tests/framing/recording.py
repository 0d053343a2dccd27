"""A server that keeps every byte of every connection, and answers each whole request with a 200."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field

from tests.edge.wire import Said, answer
from tests.kit.framing import Framing


@dataclass
class Tape:
    """What came on one connection."""

    raw: bytearray = field(default_factory=bytearray)
    framing: Framing = field(default_factory=Framing)


class Recording:
    """Record what comes; where it is no strict HTTP, close the connection."""

    def __init__(self) -> None:
        self.tapes: list[Tape] = []
        self.asked: list[Said] = []  # that were forwarded, in the order in which they were whole
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def play(self, raw: bytes) -> Tape:
        """Record bytes as if they had come on a connection."""
        tape = Tape(raw=bytearray(raw))
        tape.framing.feed(raw)
        self.tapes.append(tape)
        return tape

    @property
    def violations(self) -> list[str]:
        return [what for tape in self.tapes for what in tape.framing.violations]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tape = Tape()
        self.tapes.append(tape)
        framing = tape.framing
        with suppress(ConnectionError):
            while (data := await reader.read(1 << 16)) and not framing.violations:
                tape.raw += data
                known = framing.count
                framing.feed(data)
                new = framing.count - known
                for said in list(framing.requests)[-new:] if new else ():
                    # the sidecar's own looks at the server have no Via
                    if "Via" in said:
                        self.asked.append(said)
                    writer.write(reply_to(said))
                await writer.drain()
        writer.close()


def reply_to(said: Said) -> bytes:
    """Return an answer that is good in each dialect, with the id of a JSON-RPC request."""
    request_id = None
    with suppress(ValueError, AttributeError, RecursionError):
        request_id = json.loads(said.body).get("id")
    body = json.dumps({
        "jsonrpc": "2.0", "id": request_id, "result": {"content": []},
        "success": True, "data": "done", "error": None,
    }).encode()  # fmt: skip
    if said.method == "HEAD":
        return answer(b"", f"Content-Length: {len(body)}")
    return answer(body)
