"""Take connections in as they come, however long the turns of the loop are."""

import asyncio
import errno
import socket
from functools import partial
from typing import Any

from aiohttp import web

_BACKLOG = 1024
# Connections that one turn of the loop takes in, so that those which are in get their turn.
_AT_ONCE = 128
# Seconds until it is tried again when there is no room for another (asyncio waits as long).
_PAUSE = 1.0
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Site(web.BaseSite):
    """A socket that clients connect to.

    libuv takes one connection for each turn of the loop (its pull request 3696), and so does uvloop's
    own server. In a storm, whose turns take 60 ms, that is 16 a second: while old connections were
    served within seconds, new ones waited for 14 before a byte of them was read.
    """

    __slots__ = ("_beginning", "_listening", "_loop", "_pause")

    def __init__(self, runner: web.ServerRunner, listening: socket.socket) -> None:
        super().__init__(runner)
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._beginning: set[asyncio.Task[Any]] = set()
        self._pause: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """Return the address, for people."""
        return str(self._listening.getsockname())

    async def start(self) -> None:
        """Begin to take connections. Raises OSError."""
        await super().start()
        self._listening.setblocking(False)
        self._listening.listen(_BACKLOG)
        self._look()

    def _look(self) -> None:
        self._loop.add_reader(self._listening, self._take)

    def _take(self) -> None:
        """Take in all that wait."""
        protocols = self._runner.server
        assert protocols is not None
        for _ in range(_AT_ONCE):
            try:
                taken, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                self._rest(error)
                return
            taken.setblocking(False)
            task = self._loop.create_task(self._loop.connect_accepted_socket(protocols, taken))
            self._beginning.add(task)
            task.add_done_callback(partial(self._begun, taken))

    def _begun(self, taken: socket.socket, task: asyncio.Task[Any]) -> None:
        self._beginning.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        taken.close()
        if not isinstance(error, OSError):  # such a client has gone again
            self._tell("a connection could not begin", error)

    def _rest(self, error: OSError) -> None:
        """Leave them where they are for a while: else the loop would do nothing but ask in vain."""
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(_PAUSE, self._look)
        self._tell("no descriptor is left for another connection", error)

    def _tell(self, message: str, error: BaseException) -> None:
        self._loop.call_exception_handler({"message": message, "exception": error})

    async def stop(self) -> None:
        """Take no more, and give the port back."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()
        await super().stop()
