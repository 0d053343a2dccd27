"""Is something beside the server well? Told once for each change."""

from mcp_proxy.core.clock import Emit


class Condition:
    """Whether a store is to be used, as far as is known."""

    def __init__(self, store: str, emit: Emit, level: str = "error") -> None:
        self.well = True
        self._store = store  # as people are told of it
        self._emit = emit
        self._level = level  # of its going down

    def note(self, trouble: BaseException | None = None) -> None:
        """Take note of how asking it went."""
        well = trouble is None
        if well == self.well:
            return
        self.well = well
        self._emit(
            "store.state_changed",
            "info" if well else self._level,
            store=self._store,
            before="down" if well else "up",
            after="up" if well else "down",
            reason=None if trouble is None else type(trouble).__name__,
        )
