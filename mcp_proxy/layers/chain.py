"""The one signature of all layers, and how a list of them becomes a road."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

from mcp_proxy.core.call import Call, Reply

Forward = Callable[[Call], Awaitable[Reply]]


class Layer(Protocol):
    """Answer a call, or ask on with `forward`; never both twice without a reason of its own."""

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        """Return the reply, or raise a ProxyError."""
        ...


def join(layers: Sequence[Layer], origin: Forward) -> Forward:
    """Fold the layers, outermost first, around the origin."""
    forward = origin
    for layer in reversed(layers):
        forward = partial(layer.__call__, forward=forward)
    return forward
