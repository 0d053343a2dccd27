"""Listening sockets for a host name and a port."""

import errno
import socket

# An address family that this machine has a name for, but no address of.
ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind every address that the host name stands for, all to the same port.

    `localhost` takes IPv4 and IPv6, or the one of them that exists; port 0 takes a free one.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, address in dict.fromkeys((f, a[:2]) for f, *_, a in found):
            try:
                bound.append(_bound(family, str(address[0]), port))
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                absent = error
            else:
                port = bound[0].getsockname()[1]
    except OSError:
        for listener in bound:
            listener.close()
        raise
    if not bound and absent is not None:
        raise absent
    return bound


def _bound(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    # With the protocol named: asyncio sets TCP_NODELAY only then, else answers wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Else the wildcard address of IPv6 would take the port of IPv4 as well.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
    except OSError:
        listener.close()
        raise
    return listener
