"""Foreign errors become ours at the seam where they arise."""

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from mcp_proxy.core.call import Delivery
from mcp_proxy.core.errors import (
    ProxyError,
    UpstreamBrokenError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)

# Whatever aiohttp raises while it asks a server; TimeoutError is an OSError since Python 3.10.
FAILURES = (aiohttp.ClientError, HttpProcessingError, OSError)

_UNREACHABLE: tuple[tuple[type[BaseException], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "The server's name cannot be resolved."),
    (aiohttp.ClientConnectorCertificateError, "The server's certificate is not valid."),
    (aiohttp.ClientConnectorSSLError, "The server's TLS handshake failed."),
    (aiohttp.ConnectionTimeoutError, "The server did not accept a connection in time."),
    (aiohttp.ClientConnectorError, "The server is unreachable."),
)


def failed(failure: BaseException, *, unsent: bool = False) -> ProxyError:
    """Return our error for one of FAILURES; `unsent` tells that no byte of a body was written."""
    for kind, text in _UNREACHABLE:
        if isinstance(failure, kind):
            error = UpstreamUnreachableError(text)
            cause = getattr(failure, "os_error", None)
            error.refused = isinstance(cause, ConnectionRefusedError)
            return error
    delivered = Delivery.NO if unsent else Delivery.UNKNOWN
    if isinstance(failure, TimeoutError):
        return UpstreamTimeoutError("The server did not answer in time.", delivered=delivered)
    if isinstance(failure, OSError | aiohttp.ServerDisconnectedError):
        return UpstreamBrokenError("The connection to the server broke.", delivered=delivered)
    return UpstreamBrokenError("The server's answer was cut or is no HTTP.", delivered=delivered)
