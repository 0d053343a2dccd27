"""Foreign errors become ours at the seam where they arise."""

import asyncio
from functools import partial
from typing import Protocol

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from mcp_proxy.core.call import Delivery
from mcp_proxy.core.errors import (
    ProxyError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
    without_frames,
)
from mcp_proxy.edge.exchange import Response

# Whatever aiohttp raises while it asks a server; TimeoutError is an OSError since Python 3.10.
FAILURES = (aiohttp.ClientError, HttpProcessingError, OSError)


class Presence(Protocol):
    """What is known of the server's being there (upstream/presence)."""

    def refused(self) -> bool:
        """Take note of a refused connection; True while a restart is being bridged."""
        ...

    def answered(self, asked: float) -> None:
        """Take note that a request of that time (Clock.now) found a connection."""
        ...


_UNREACHABLE: tuple[tuple[type[BaseException], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "The server's name cannot be resolved."),
    (aiohttp.ClientConnectorCertificateError, "The server's certificate is not valid."),
    (aiohttp.ClientConnectorSSLError, "The server's TLS handshake failed."),
    (aiohttp.ConnectionTimeoutError, "The server did not accept a connection in time."),
    (aiohttp.ClientConnectorError, "The server is unreachable."),
)


def end_with_connection(response: aiohttp.ClientResponse | Response) -> None:
    """Let the reader of a body hear of it when the connection is closed under it.

    When a body stops being HTTP after its head, aiohttp 3.14.5 closes the connection and tells
    nobody (its C parser has let go of the body by then): the reader would wait for ever.
    """
    content, connection = response.content, response.connection
    protocol = connection.protocol if connection is not None else None
    closed = protocol.closed if protocol is not None else None
    if closed is None:
        return  # all of it is in

    end = partial(_end, content)
    closed.remove_done_callback(_heard)  # once for a connection that many requests use
    closed.add_done_callback(_heard)
    closed.add_done_callback(end)
    content.on_eof(partial(_forget, closed, end))


def _end(content: aiohttp.StreamReader, _: "asyncio.Future[None]") -> None:
    """Let the reader of a body hear that no more of it comes."""
    if not content.is_eof() and content.exception() is None:
        content.set_exception(aiohttp.ClientPayloadError("the body is no HTTP"))


def _forget(closed: "asyncio.Future[None]", end: "partial[None]") -> None:
    closed.remove_done_callback(end)


def _heard(closed: "asyncio.Future[None]") -> None:
    """Take the exception, or asyncio reports that nobody did."""
    if not closed.cancelled():
        closed.exception()


def looks_like_a_restart(failure: BaseException) -> bool:
    """Tell whether nobody is there just now: refused, or a container's name that is gone."""
    cause = getattr(failure, "os_error", None)
    return isinstance(failure, aiohttp.ClientConnectorDNSError) or isinstance(
        cause,
        ConnectionRefusedError | FileNotFoundError,  # the latter of a Unix socket
    )


def noted(error: ProxyError, presence: Presence, asked: float) -> ProxyError:
    """Return the error, after telling what it shows of the server's being there."""
    if not isinstance(error, UpstreamUnreachableError):
        presence.answered(asked)
    elif error.refused:
        error.bridged = presence.refused()
    return error


def failed(failure: BaseException, *, unsent: bool = False) -> ProxyError:
    """Return our error for one of FAILURES; `unsent` tells that no byte of a body was written.

    What failed loses its frames: aiohttp's connector holds the error that it raises in one of them.
    """
    without_frames(failure)
    for kind, text in _UNREACHABLE:
        if isinstance(failure, kind):
            error = UpstreamUnreachableError(text)
            error.refused = looks_like_a_restart(failure)
            return error
    delivered = Delivery.NO if unsent else Delivery.UNKNOWN
    if isinstance(failure, TimeoutError):
        return UpstreamTimeoutError("The server did not answer in time.", delivered=delivered)
    if isinstance(failure, OSError | aiohttp.ServerDisconnectedError):
        return UpstreamBrokenError("The connection to the server broke.", delivered=delivered)
    return UpstreamBrokenError("The server's answer was cut or is no HTTP.", delivered=delivered)
