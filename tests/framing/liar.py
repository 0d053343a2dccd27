"""A server that lies in its answers, but for the requests that ask for the truth."""

import asyncio
from contextlib import suppress

from tests.edge.wire import GONE, answer, read_body, read_head
from tests.framing.lies import Lie

TRUTH = "/truth-"


class Liar:
    """Play one lie to all requests, until the next is set."""

    def __init__(self) -> None:
        self.lie = Lie("none", ())
        self._lied: set[asyncio.StreamWriter] = set()  # connections on which it was told
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 20)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def go_on(self) -> None:
        """Say what comes late, wherever the lie was told and the connection is still there."""
        for writer in self._lied:
            if not writer.is_closing():
                writer.write(self.lie.late)
        self._lied.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(*GONE):
            while not writer.is_closing():
                asked = await read_head(reader)
                await read_body(reader, asked, to_eof=False)
                if "Via" not in asked or asked.target.startswith(TRUTH):
                    writer.write(answer(f'"{asked.target}"'.encode()))
                    continue
                for piece in self.lie.pieces:
                    writer.write(piece)
                    await writer.drain()
                if self.lie.closes:
                    break
                self._lied.add(writer)
        self._lied.discard(writer)
        writer.close()
