"""Several processes that serve one port, and the one that starts them, stops them, and restarts them.

The supervisor has no loop and no thread, since it forks; it carries nothing that calls wait for. Each
worker holds one end of a pair of sockets: orders come in on it, and it closes when the supervisor
dies, however that happens. Workers take no signals but by their supervisor, as Ctrl-C and systemd
send one to every process.
"""

import os
import selectors
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import orjson

from mcp_proxy.core.beats import BEAT, Beats
from mcp_proxy.core.place import Place
from mcp_proxy.core.restarts import Restarts
from mcp_proxy.layers.clock import SystemClock
from mcp_proxy.serving import FAILED, UNCLEAN, Seat, complain, complain_of_the_port, run, serve
from mcp_proxy.serving import log_to as opened
from mcp_proxy.settings import Settings
from mcp_proxy.signals import foreign
from mcp_proxy.signals.logs import Turns
from mcp_proxy.stores.board import Board, Notice

# Seconds after the grace in which a worker has ended by itself (serving), else it is killed.
_REST = 1.0
# Seconds that are left to it after a second signal.
_HURRY = 0.3
# Memory, not a disk; and writable where the rest of a container is not.
_MEMORY = "/dev/shm"  # noqa: S108 - a private directory is made in it


@dataclass(slots=True)
class _Worker:
    pid: int
    orders: socket.socket
    began: float
    ready: bool = False
    hung: bool = False


class Supervisor:
    """Keep `MCP_WORKERS` processes serving until told to stop."""

    def __init__(self, settings: Settings, warnings: list[str]) -> None:
        self._settings = settings
        self._warnings = warnings
        self._size = settings.server.workers
        self._now = SystemClock().now
        self._restarts = Restarts(self._size)
        self._workers: dict[int, _Worker] = {}
        self._have_died: set[int] = set()
        self._due: dict[int, float] = {}  # when a worker that has died is started again
        self._name = token_hex(4)
        self._stops = 0  # signals that came
        self._told_stops = 0  # and those that the workers were told of
        self._reloads = False  # SIGHUP came
        self._over = float("inf")  # when those that are still there are killed
        self._beats = Beats()
        self._look_at = self._now() + BEAT  # when we see who is silent
        self._worst = 0  # exit code
        self._begun = False  # all were ready at once

    def run(self) -> int:
        """Serve; return the exit code."""
        # here, so that what libraries say when they are imported is told as events; and before the
        # forks, so that all share the memory
        from mcp_proxy import assembly  # noqa: PLC0415, F401
        from mcp_proxy.edge.serve import reserved, terminal_gone  # noqa: PLC0415

        self._gone = terminal_gone()
        server = self._settings.server
        try:
            self._kept = reserved(server.host, server.port)
            self._ops = self._reserved_for_operators()
        except OSError as error:
            complain_of_the_port(self._settings, error)
            return FAILED
        try:
            self._room = tempfile.mkdtemp(prefix="mcp-sidecar-", dir=_memory())
        except OSError as error:
            complain(f"workers need a directory to meet in ({error}); set TMPDIR")
            return FAILED
        try:
            return self._supervise()
        finally:
            shutil.rmtree(self._room, ignore_errors=True)

    def _reserved_for_operators(self) -> list[socket.socket]:
        from mcp_proxy.edge.serve import OpsPortError, reserved  # noqa: PLC0415 - as in run

        server = self._settings.server
        try:
            return reserved(server.host, server.ops_port) if server.ops_port is not None else []
        except OSError as error:
            raise OpsPortError(error.errno, error.strerror) from None

    def _supervise(self) -> int:
        self._wake, wake = socket.socketpair()
        self._wake.setblocking(False)
        wake.setblocking(False)
        self._waking = wake
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            signal.signal(signal.SIGHUP, self._hang_up)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # it wakes us
        self._descriptor = foreign.stdout_alone()
        self._log = opened(self._settings, self._descriptor, self._turns(), at_once=True)
        self._board = Board(self._room, self._size + 1, self._size, self._now)
        self._look = selectors.DefaultSelector()
        self._look.register(self._wake, selectors.EVENT_READ)
        for index in range(self._size):
            self._start(index)
        while self._workers or (self._due and not self._stops):
            self._wait()
            self._reap()
            if self._hopeless:
                return self._give_up()
            self._obey()
            self._end_the_silent()
            self._restart()
        return self._worst

    def _turns(self) -> Callable[[int, bytes], None]:
        return Turns(os.path.join(self._room, "turns")).write  # noqa: PTH118 - a name

    def _stop(self, *_: object) -> None:
        self._stops += 1

    def _hang_up(self, *_: object) -> None:
        if self._gone():
            self._stops += 1
        else:
            self._reloads = True

    def _wait(self) -> None:
        """Wait until somebody dies, says something, is due, or we are told to stop."""
        soonest = min([self._over, self._look_at, *self._due.values()])
        for key, _ in self._look.select(max(0.0, soonest - self._now())):
            if key.data is None:
                with suppress(BlockingIOError):
                    while self._wake.recv(4096):
                        pass
            else:
                self._hear(key.data)

    def _hear(self, index: int) -> None:
        worker = self._workers[index]
        with suppress(OSError):
            if worker.orders.recv(16):
                self._beats.heard(index)
                if worker.ready:
                    return
                worker.ready = True
                if self._begun:
                    self._tell("worker.started", worker=index)
                elif len(self._workers) == self._size and all(
                    one.ready for one in self._workers.values()
                ):
                    self._begun = True
                    self._order(b"started\n")
                return
        self._look.unregister(worker.orders)  # it is about to end

    # --- life and death

    def _start(self, index: int) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if not pid:
            self._become(index, ours, theirs)
        theirs.close()
        ours.setblocking(False)
        self._look.register(ours, selectors.EVENT_READ, index)
        self._workers[index] = _Worker(pid, ours, self._now())

    def _become(self, index: int, ours: socket.socket, theirs: socket.socket) -> None:
        """Be a worker, and end as one."""
        code = FAILED
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # an end that is left open here would hide the supervisor's death from its owner
            for one in (
                ours,
                self._wake,
                self._waking,
                *(w.orders for w in self._workers.values()),
            ):
                one.close()
            self._look.close()
            code = self._serve(index, theirs)
        finally:
            os._exit(code)  # nothing of the supervisor is run here

    def _serve(self, index: int, orders: socket.socket) -> int:
        log = opened(self._settings, self._descriptor, self._turns())
        place = Place(index, self._size, self._name, self._room, again=index in self._have_died)
        warnings = self._warnings if place.speaks else []
        try:
            return run(
                serve(self._settings, warnings, log, Seat(place, self._kept, self._ops, orders))
            )
        except BaseException as mistake:  # noqa: BLE001 - it ends this worker, and is told
            log("proxy.failed", "error", where="main", exception=mistake)
            log.close()
            return FAILED

    @property
    def _hopeless(self) -> bool:
        return self._restarts.hopeless and not any(one.ready for one in self._workers.values())

    def _reap(self) -> None:
        # of those that die together, no more are told of than it takes to give up
        while not self._hopeless:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            # as the first process of a container we are given orphans, too
            index = next((i for i, one in self._workers.items() if one.pid == pid), None)
            if index is not None:
                self._died(index, os.waitstatus_to_exitcode(status))

    def _died(self, index: int, code: int) -> None:
        worker = self._workers.pop(index)
        with suppress(KeyError, ValueError):
            self._look.unregister(worker.orders)
        worker.orders.close()
        self._beats.left(index)
        if self._stops:
            self._worst = max(self._worst, code if code >= 0 else UNCLEAN)
            return
        self._have_died.add(index)
        # it may have been about to tell the others of a write
        self._board.write(Notice(quarantine=self._settings.cache.quarantine))
        lived = self._now() - worker.began
        wait = self._restarts.died(index, lived)
        self._due[index] = self._now() + wait
        self._tell(
            "worker.ended",
            "error",
            worker=index,
            reason=_reason(code, hung=worker.hung),
            lived_s=round(lived, 3),
            restart_s=wait,
        )

    def _end_the_silent(self) -> None:
        """Kill whoever hangs without dying, since connections still come to it; it is restarted."""
        if self._now() < self._look_at:
            return
        self._look_at = self._now() + BEAT
        for index in self._beats.look():
            worker = self._workers[index]
            worker.hung = True
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)

    def _restart(self) -> None:
        due = [index for index, when in self._due.items() if when <= self._now()]
        for index in () if self._stops else due:
            del self._due[index]
            self._start(index)

    def _give_up(self) -> int:
        complain(
            "the workers cannot start: each one ended within a second, see what they said before"
        )
        self._kill()
        return FAILED

    def _kill(self) -> None:
        for worker in self._workers.values():
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)

    # --- orders

    def _obey(self) -> None:
        if self._reloads:
            self._reloads = False
            self._order(b"reload\n")  # whoever reads the settings lets the others read them, too
        if self._stops > self._told_stops:
            again = self._told_stops > 0
            self._told_stops = self._stops
            grace = _HURRY if again else self._settings.server.shutdown_grace + _REST
            self._over = min(self._over, self._now() + grace)
            for worker in self._workers.values():
                with suppress(OSError):
                    worker.orders.send(b"stop\n")
        if self._now() >= self._over:
            self._over = float("inf")
            self._kill()

    def _order(self, said: bytes) -> bool:
        """Say something to one of the workers that serve; tell whether one could be told."""
        for index in sorted(self._workers, key=self._beats.missed):  # who hangs does not obey
            worker = self._workers[index]
            with suppress(OSError):
                if worker.ready and worker.orders.send(said) == len(said):
                    return True
        return False

    def _tell(self, event: str, level: str = "info", **fields: Any) -> None:
        """Let a worker tell an event, so that those who watch live hear of it."""
        said = orjson.dumps({"event": event, "level": level, **fields}) + b"\n"
        if not self._order(said):
            self._log(event, level, **fields)


def _reason(code: int, *, hung: bool) -> str:
    if hung:
        return "it hung, and was killed"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _memory() -> str | None:
    return _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else None
