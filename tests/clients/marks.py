"""Talk to tests/clients/server.py beside MCP; standard library only, for every environment."""

import asyncio
import json
import sys
import urllib.request
from typing import Any

# Longer than the server's own patience, so that its answer is what counts.
PATIENCE_SECONDS = 20


class Marks:
    """What the server and the client tell each other of what they have seen."""

    def __init__(self, address: str) -> None:
        self._address = address
        # No proxy of the environment: the server is on loopback.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def ask(self, method: str, path: str) -> Any:
        request = urllib.request.Request(f"{self._address}{path}", method=method)
        with self._open(request, timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)

    def reached(self, name: str) -> bool:
        """Return whether the server has come here; waits for it."""
        return bool(self.ask("GET", f"/marks/{name}"))

    def reach(self, name: str) -> None:
        self.ask("POST", f"/marks/{name}")

    def grow(self) -> bool:
        """Let the server gain a tool; return whether anybody listened."""
        return bool(self.ask("POST", "/grow"))

    async def later(self, step: Any, *arguments: str) -> Any:
        return await asyncio.to_thread(step, *arguments)


def tell(seen: dict[str, Any]) -> None:
    """Print the one line that the test reads."""
    sys.stdout.write(json.dumps(seen) + "\n")
