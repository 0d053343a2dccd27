"""One event, as it is handed from whoever tells it to whoever listens."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Said(NamedTuple):
    """When, how grave, what, and its fields: values that nobody changes any more."""

    when: float  # seconds since 1970
    level: str
    event: str
    fields: dict[str, Any]


Sink = Callable[[Said], None]
