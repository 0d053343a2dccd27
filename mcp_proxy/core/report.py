"""What `/api/health` says: the server's own fields, kept, and ours beside them (DESIGN section 6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one target."""

    target: str
    state: str  # unknown, present, restarting, lost
    for_seconds: float
    healthy: bool  # it is thought to be, and its last probe was answered below 500
    said: Mapping[str, Any]  # its own health fields, of the last probe that had some
    probe: Mapping[str, Any]

    def shown(self) -> dict[str, Any]:
        """Return it as the report shows it."""
        since = round(self.for_seconds, 3)
        return {"target": self.target, "state": self.state, "for_seconds": since, **self.probe}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rooms know at the moment of asking."""

    targets: Sequence[Standing]
    circuits: Mapping[str, Mapping[str, Any]]
    cache: Mapping[str, Any] | None
    failures: Mapping[str, int]
    tools: int
    uptime: float  # seconds
    version: str


def health(facts: Facts) -> tuple[int, dict[str, Any]]:
    """Return status code and body; 503 only when the server cannot be reached.

    A field of the server that bears the name of one of ours is kept as `upstream_<name>`.
    """
    present = [target for target in facts.targets if target.state == "present"]
    first = (present or facts.targets)[0]
    services = first.said.get("connections")
    defaults = {
        "services": services if isinstance(services, dict) else {},
        "available_tools": facts.tools,
    }
    ours = {
        "status": overall(facts, first) if present else "unhealthy",
        "upstream": first.shown(),
        "circuits": facts.circuits,
        "failures": dict(facts.failures),
        "cache": facts.cache if facts.cache is not None else {"store": "off"},
        "uptime_seconds": round(facts.uptime, 3),
        "version": facts.version,
    }
    if len(facts.targets) > 1:
        ours["targets"] = [target.shown() for target in facts.targets]
    kept = {f"upstream_{name}": first.said[name] for name in ours if name in first.said}
    return (200 if present else 503), {**defaults, **first.said, **kept, **ours}


def overall(facts: Facts, first: Standing) -> str:
    """Return healthy or degraded, for a server that can be reached."""
    troubled = (
        any(target.state != "present" or not target.healthy for target in facts.targets)
        or any(circuit["state"] != "closed" for circuit in facts.circuits.values())
        or str(first.said.get("status", "healthy")).lower() not in {"healthy", "ok", "up", "pass"}
    )
    return "degraded" if troubled else "healthy"
