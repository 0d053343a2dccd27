"""Which fault strikes which request."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.kit.faults import Fault, Fine

EVERY_TOOL = "*"
FINE = Fine()
Source = Callable[[], Fault]


@dataclass
class Script:
    """Faults in order, call by call, and what happens to every call after them."""

    faults: deque[Fault]
    then: Fault | Source

    def next(self) -> Fault:
        if self.faults:
            return self.faults.popleft()
        return self.then() if callable(self.then) else self.then


class Scripts:
    """Keep a script for each name; a tool without one follows that of EVERY_TOOL."""

    def __init__(self) -> None:
        self._scripts: dict[str, Script] = {}
        self.played: Counter[str] = Counter()  # by the name of the fault

    def set(self, name: str, faults: tuple[Fault, ...], then: Fault | Source) -> None:
        """Put a script in the place of the name's earlier one."""
        self._scripts[name] = Script(deque(faults), then)

    def clear(self) -> None:
        """Let everything work from now on."""
        self._scripts.clear()

    def next(self, name: str, *, is_tool: bool) -> Fault:
        """Return what happens to the request that has just come."""
        script = self._scripts.get(name)
        if script is None and is_tool:
            script = self._scripts.get(EVERY_TOOL)
        fault = script.next() if script else FINE
        self.played[type(fault).__name__] += 1
        return fault


def mixed(rng: Random, share: float, *faults: Fault) -> Source:
    """Let a share of the calls meet with one of these faults, and answer the others well."""
    return lambda: rng.choice(faults) if rng.random() < share else FINE
