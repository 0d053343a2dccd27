"""Serve in this process: from settings that can be used to the exit code."""

import asyncio
import atexit
import gc
import os
import shutil
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from mcp_proxy import __version__
from mcp_proxy.core.beats import BEAT
from mcp_proxy.core.clock import Emit
from mcp_proxy.core.place import Place
from mcp_proxy.core.readable import Style, wants_colour
from mcp_proxy.layers.clock import Tasks
from mcp_proxy.layers.trace import Spans
from mcp_proxy.settings import Settings
from mcp_proxy.signals import foreign
from mcp_proxy.signals.console import Console
from mcp_proxy.signals.logs import Log, write_all
from mcp_proxy.sources import traces_wanted

if TYPE_CHECKING:
    from mcp_proxy.assembly import Sidecar
    from mcp_proxy.ports import Ports

# Exit codes (DESIGN section 8).
FAILED, UNCLEAN = 1, 3
# Seconds from the drain to the end of the process, lines of the log aside: with a grace of 8 s all
# is over before Docker kills, which it does after 10 s.
_REST = 0.9


Write = Callable[[int, bytes], None]


class Seat(NamedTuple):
    """What one of several workers is given by its supervisor (workers.py)."""

    place: Place
    kept: list[socket.socket]  # the port
    ops: list[socket.socket]  # the operators' port, if there is one
    orders: socket.socket


def open_log(settings: Settings) -> Log:
    """Open the log, for people on a terminal; nothing else is printed from then on."""
    log = log_to(settings, foreign.stdout_alone())
    atexit.register(log.close)
    return log


def log_to(
    settings: Settings, descriptor: int, write: Write = write_all, *, at_once: bool = False
) -> Log:
    """Return a log on a descriptor, to which all goes that would be printed otherwise."""
    terminal = os.isatty(descriptor)
    form = settings.signals.log_format or ("console" if terminal else "json")
    style = Style(wants_colour(os.environ, terminal=terminal))  # noqa: TID251 - handed on
    log = Log(
        settings.signals.lowest_level,
        descriptor,
        Console(style) if form == "console" else None,
        write,
        at_once=at_once,
    )
    foreign.take_over(log)
    return log


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run on uvloop where it is installed (5 to 25 % less CPU), else on asyncio."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return asyncio.run(work)
    return int(uvloop.run(work))


def spans(log: Emit) -> Spans | None:
    """Return where traces go, if OTEL_* says so; nothing of OpenTelemetry is imported otherwise."""
    if not traces_wanted(os.environ)[0]:  # noqa: TID251 - the SDK reads the rest of them itself
        return None
    try:
        from mcp_proxy.signals.traces import over_otlp  # noqa: PLC0415 - optional

        return over_otlp()
    except ImportError:
        message = "OTEL_* asks for traces: install mcp-sidecar[otel]"
    except ValueError:  # its text may quote what was meant as a secret
        message = "OTEL_* has a value that OpenTelemetry cannot use, so no trace is told"
    log("config.warning", "warning", message=message)
    return None


def is_fit() -> bool:
    """Tell whether this installation may face clients; say why not."""
    from mcp_proxy.edge.pool import parser_is_compiled  # noqa: PLC0415 - as in serve

    if parser_is_compiled():
        return True
    complain(
        "aiohttp runs without its C parser, which reads hostile framing more strictly than the "
        "other; install its wheel, and unset AIOHTTP_NO_EXTENSIONS"
    )
    return False


async def serve(settings: Settings, warnings: list[str], log: Log, seat: Seat | None = None) -> int:
    """Serve until told to stop, alone or as one of several; return the exit code."""
    # here, so that what libraries say when they are imported is told as events
    from mcp_proxy.edge.serve import by_signals, until_stopped  # noqa: PLC0415

    opening = Tasks()(_opened(settings, warnings, log, seat), "open the ports")
    if seat is None:
        by_signals(opening.cancel)
    await asyncio.wait([opening])
    if opening.cancelled():  # told to stop before anybody could call
        log.close()
        return 0
    found: tuple[Sidecar, Ports] | None = opening.result()
    if found is None:
        log.close()
        return FAILED
    sidecar, ports = found
    sidecar.start()
    # What is loaded by now lives as long as we do: the collector need not look at it each time.
    gc.collect()
    gc.freeze()
    # A call leaves hardly any cycles behind: looking for them less often saves 3 %.
    gc.set_threshold(10_000)

    def started() -> None:
        sidecar.emit(
            "proxy.started",
            version=__version__,
            **ports.told(),
            upstream=", ".join(target.name for target in sidecar.targets),
            cache=sidecar.shelf.snapshot()["store"] if sidecar.shelf else "off",
            workers=settings.server.workers,
        )

    async def end() -> bool:
        clean = await sidecar.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(_REST):  # noqa: TID251 - sockets and Redis, no decision
                await ports.cleanup()
                await sidecar.aclose()
        return clean

    if seat is None:
        started()
        clean = await until_stopped(end, by_signals)
    else:
        orders = Orders(seat, Duties(started, sidecar.reload_soon, sidecar.emit))
        clean = await until_stopped(end, orders.heard)
        orders.leave()
    log.close()
    if not clean:
        # at once: asyncio would wait for whatever does not want to be cancelled
        os._exit(UNCLEAN)
    return 0


def _assembled(
    settings: Settings, warnings: list[str], log: Log, seat: Seat | None
) -> "Sidecar | None":
    """Join everything; return None where the system does not allow it, which is said."""
    from mcp_proxy.assembly import Sidecar  # noqa: PLC0415 - as in serve
    from mcp_proxy.cautions import cautions  # noqa: PLC0415

    place = seat.place if seat else None
    environ = os.environ  # noqa: TID251 - handed on to a command
    try:
        sidecar = Sidecar(settings, log, spans=spans(log), place=place, environ=environ)
    except OSError as error:  # only a command needs anything of the system by now
        complain(
            f"no directory can be made for the command's socket ({error.strerror or error}); "
            "choose another with TMPDIR"
        )
        return None
    foreign.take_over(sidecar.emit, elsewhere=log)
    if seat is None or seat.place.speaks:
        for warning in (*warnings, *cautions(settings)):
            sidecar.emit("config.warning", "warning", message=warning)
    return sidecar


async def _opened(
    settings: Settings, warnings: list[str], log: Log, seat: Seat | None
) -> "tuple[Sidecar, Ports] | None":
    """Join everything and open the ports; return None where one cannot be had, which is said."""
    from mcp_proxy.ports import open_ports  # noqa: PLC0415

    sidecar = _assembled(settings, warnings, log, seat)
    if sidecar is None:
        return None
    try:
        await sidecar.meet()
        kept = (seat.kept, seat.ops) if seat else None
        return sidecar, await open_ports(sidecar, settings, kept)
    except OSError as error:
        complain_of_the_port(settings, error)
        await sidecar.aclose()
        return None
    except asyncio.CancelledError:
        await sidecar.aclose()
        raise


class Duties(NamedTuple):
    """What a worker does when it is told to."""

    started: Callable[[], None]
    reload: Callable[[], None]
    emit: Emit


class Orders:
    """What the supervisor has to say, a line each; its death is the last of it."""

    def __init__(self, seat: Seat, duties: Duties) -> None:
        self._orders = seat.orders
        self._room = seat.place.room
        self._duties = duties
        self._line = b""
        self._stopping = False
        self._orphaned = False  # the supervisor is dead

    def heard(self, stop: Callable[[], None]) -> None:
        """Listen from now on, and say that we serve: once, and that we still do ever after."""
        self._orders.setblocking(False)
        asyncio.get_running_loop().add_reader(self._orders, self._read, stop)
        self._beat()

    def _beat(self) -> None:
        with suppress(OSError):  # it is dead, or does not listen
            self._orders.send(b".")
        asyncio.get_running_loop().call_later(BEAT, self._beat)

    def leave(self) -> None:
        """Remove what the workers shared, where the supervisor is not left to do it."""
        if self._orphaned:
            shutil.rmtree(self._room, ignore_errors=True)

    def _read(self, stop: Callable[[], None]) -> None:
        try:
            said = self._orders.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._orphaned = True
            asyncio.get_running_loop().remove_reader(self._orders)
            if not self._stopping:
                stop()
        *lines, self._line = (self._line + said).split(b"\n")
        for line in lines:
            self._obey(line, stop)

    def _obey(self, line: bytes, stop: Callable[[], None]) -> None:
        if line == b"stop":
            self._stopping = True
            stop()
        elif line == b"started":
            self._duties.started()
        elif line == b"reload":
            self._duties.reload()
        else:
            self._duties.emit(**orjson.loads(line))


def complain(text: str) -> None:
    """Say on stderr, to whoever typed it, why nothing is served."""
    if sys.__stderr__ is not None:
        sys.__stderr__.write(f"mcp-sidecar: {text}\n")
        sys.__stderr__.flush()


def complain_of_the_port(settings: Settings, error: OSError) -> None:
    """Say that somebody else has a port, and which."""
    from mcp_proxy.edge.serve import OpsPortError  # noqa: PLC0415 - as in serve

    server = settings.server
    of_operators = isinstance(error, OpsPortError)
    port = server.ops_port if of_operators else server.port
    remedy = "MCP_OPS_PORT" if of_operators else "--host and --port"
    complain(
        f"cannot listen on {server.host}:{port} ({error.strerror or error}); choose another with {remedy}"
    )
