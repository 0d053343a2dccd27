"""What `/api/health` says: the server's own fields, kept, and ours beside them (DESIGN section 6)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rooms know at the moment of asking."""

    target: str
    presence: str  # unknown, present, restarting, lost
    presence_for: float  # seconds
    alive: bool  # the last probe was answered below 500
    said: Mapping[str, Any]  # the server's own health fields, of the last probe that had some
    probe: Mapping[str, Any]
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
    reachable = facts.presence == "present"
    services = facts.said.get("connections")
    defaults = {
        "services": services if isinstance(services, dict) else {},
        "available_tools": facts.tools,
    }
    ours = {
        "status": overall(facts, reachable=reachable),
        "upstream": {
            "target": facts.target,
            "state": facts.presence,
            "for_seconds": round(facts.presence_for, 3),
            **facts.probe,
        },
        "circuits": facts.circuits,
        "failures": dict(facts.failures),
        "cache": facts.cache if facts.cache is not None else {"store": "off"},
        "uptime_seconds": round(facts.uptime, 3),
        "version": facts.version,
    }
    kept = {f"upstream_{name}": facts.said[name] for name in ours if name in facts.said}
    return (200 if reachable else 503), {**defaults, **facts.said, **kept, **ours}


def overall(facts: Facts, *, reachable: bool) -> str:
    """Return healthy, degraded or unhealthy."""
    if not reachable:
        return "unhealthy"
    troubled = (
        not facts.alive
        or any(circuit["state"] != "closed" for circuit in facts.circuits.values())
        or str(facts.said.get("status", "healthy")).lower() not in {"healthy", "ok", "up", "pass"}
    )
    return "degraded" if troubled else "healthy"
