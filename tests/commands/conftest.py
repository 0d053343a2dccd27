"""Servers under control, and sidecars in front of them, for the commands to ask."""

import threading
from collections.abc import Iterator

import pytest

from mcp_proxy.demo.server import Exchange, Rooms, Server
from tests.edge.conftest import front, upstream

__all__ = ["front", "upstream"]


@pytest.fixture
def old() -> Iterator[str]:
    """Run the demo's server; return its URL."""

    class Fresh(Exchange):
        rooms = Rooms()

    with Server(("127.0.0.1", 0), Fresh) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
