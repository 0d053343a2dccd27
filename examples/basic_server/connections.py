"""Whether the services behind this server are reachable, as its status pages tell it."""

from dataclasses import dataclass
from typing import Any

from examples.basic_server.timestamps import now


@dataclass(slots=True)
class Connection:
    """The link to one service; the example can be told to lose it."""

    service: str
    connected: bool = True
    last_activity: str | None = None

    @property
    def error(self) -> str | None:
        """Say why the service cannot be used, if it cannot."""
        return None if self.connected else f"{self.service} service not connected"

    def touch(self) -> None:
        """Remember that a tool of the service has just run."""
        self.last_activity = now()

    def state(self) -> dict[str, Any]:
        """Return the fields that health and status have in common."""
        return {
            "connected": self.connected,
            "last_activity": self.last_activity,
            "error": self.error,
        }
