"""What `/api/health` says."""

from dataclasses import replace
from typing import Any

import pytest

from mcp_proxy.core.report import Facts, Standing, health

THERE = Standing(
    target="http://old:9000",
    state="present",
    for_seconds=1.23456,
    healthy=True,
    said={},
    probe={"probe_status": 200},
)
WELL = Facts(
    targets=[THERE],
    circuits={"tool look": {"state": "closed"}},
    cache={"store": "memory", "hits": 1},
    failures={"busy": 2},
    tools=7,
    uptime=60.00049,
    version="1.0",
)


def said(**fields: Any) -> Facts:
    return among(replace(THERE, said=fields))


def among(*targets: Standing) -> Facts:
    return replace(WELL, targets=targets)


def standing(state: str, **more: Any) -> Standing:
    return replace(THERE, state=state, **more)


def test_a_healthy_server_is_reported_with_all_that_we_know() -> None:
    """DESIGN section 6, `GET /api/health`."""
    assert health(WELL) == (
        200,
        {
            "status": "healthy",
            "services": {},
            "available_tools": 7,
            "upstream": {
                "target": "http://old:9000",
                "state": "present",
                "for_seconds": 1.235,
                "probe_status": 200,
            },
            "circuits": {"tool look": {"state": "closed"}},
            "failures": {"busy": 2},
            "cache": {"store": "memory", "hits": 1},
            "uptime_seconds": 60.0,
            "version": "1.0",
        },
    )


@pytest.mark.parametrize(
    ("facts", "code", "status"),
    [
        (WELL, 200, "healthy"),
        (said(status="OK"), 200, "healthy"),
        (said(status="Healthy"), 200, "healthy"),
        (said(status="up"), 200, "healthy"),
        (said(status="pass"), 200, "healthy"),
        (said(status="degraded"), 200, "degraded"),
        (said(status=None), 200, "degraded"),
        (said(status=["healthy"]), 200, "degraded"),
        (among(standing("present", healthy=False)), 200, "degraded"),
        (replace(WELL, circuits={"a": {"state": "half-open"}}), 200, "degraded"),
        (replace(WELL, circuits={"a": {"state": "open"}}), 200, "degraded"),
        (among(standing("lost")), 503, "unhealthy"),
        (among(standing("restarting")), 503, "unhealthy"),
        (among(standing("unknown")), 503, "unhealthy"),
        (among(standing("lost", said={"status": "healthy"})), 503, "unhealthy"),
        (among(THERE, THERE), 200, "healthy"),
        (among(THERE, standing("lost")), 200, "degraded"),
        (among(standing("restarting"), THERE), 200, "degraded"),
        (among(THERE, standing("present", healthy=False)), 200, "degraded"),
        (among(standing("lost"), standing("lost")), 503, "unhealthy"),
    ],
)
def test_the_status_is_ours_and_503_only_without_a_server(
    facts: Facts, code: int, status: str
) -> None:
    """DESIGN section 6: 503 only if no target is reachable."""
    answered, report = health(facts)
    assert (answered, report["status"]) == (code, status)


def test_the_servers_own_fields_are_kept() -> None:
    """DESIGN section 6: our `status` wins, the old one is `upstream_status`."""
    own = {
        "status": "sick",
        "version": "0.9",
        "cache": "warm",
        "timestamp": "2026-01-01",
        "connections": {"jira": {"connected": True}},
        "available_tools": 3,
    }
    _, report = health(said(**own))
    assert report["upstream_status"] == "sick"
    assert report["upstream_version"] == "0.9"
    assert report["upstream_cache"] == "warm"
    assert report["timestamp"] == "2026-01-01"
    assert report["connections"] == report["services"] == {"jira": {"connected": True}}
    assert report["available_tools"] == 3
    assert (report["status"], report["version"]) == ("degraded", "1.0")


@pytest.mark.parametrize("connections", [None, [], "jira"])
def test_services_are_what_is_known_of_connections(connections: Any) -> None:
    _, report = health(said(connections=connections))
    assert report["services"] == {}


def test_a_cache_that_is_off_says_so() -> None:
    _, report = health(replace(WELL, cache=None))
    assert report["cache"] == {"store": "off"}


def test_of_several_targets_each_is_shown_and_one_that_is_there_speaks_for_all() -> None:
    away = standing("lost", target="http://a:9000", said={"version": "a"})
    there = standing("present", target="http://b:9000", said={"version": "b"})
    _, report = health(among(away, there))
    assert report["upstream"]["target"] == "http://b:9000"
    assert report["upstream_version"] == "b"
    assert [(one["target"], one["state"]) for one in report["targets"]] == [
        ("http://a:9000", "lost"),
        ("http://b:9000", "present"),
    ]
