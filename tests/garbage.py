"""What waits for the collector: whatever holds itself."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def uncollected() -> Iterator[list[object]]:
    """Collect nothing during the block; give what of ours the collector finds then."""
    found: list[object] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += [one for one in gc.garbage if is_ours(one)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def is_ours(one: object) -> bool:
    if isinstance(one, FrameType):
        return "/mcp_proxy/" in one.f_code.co_filename
    return type(one).__module__.startswith("mcp_proxy")
