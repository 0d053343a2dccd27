"""The port to stored answers: what stands behind it has its shape."""

import inspect

import pytest

from mcp_proxy.core.shelf import Shelf
from mcp_proxy.stores.memory import MemoryShelf
from mcp_proxy.stores.redis import RedisShelf

ASKED = [name for name in vars(Shelf) if not name.startswith("_")]


@pytest.mark.parametrize("store", [MemoryShelf, RedisShelf])
@pytest.mark.parametrize("name", ASKED)
def test_every_store_can_be_asked_what_the_port_offers(store: type, name: str) -> None:
    """DESIGN section 2: layers know stores by Protocol."""
    asked = inspect.signature(getattr(Shelf, name)).parameters
    offered = inspect.signature(getattr(store, name)).parameters
    assert [(one.name, one.default) for one in offered.values()] == [
        (one.name, one.default) for one in asked.values()
    ]
