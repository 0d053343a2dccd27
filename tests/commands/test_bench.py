"""`mcp-sidecar bench`: what it asks, what it tells; no test of how fast anything is."""

import json
import urllib.request
from typing import Any

import pytest

from mcp_proxy.commands.load import Round, side
from tests.commands.typed import told
from tests.edge.wire import unused_port


def bench(*arguments: str) -> tuple[int, Any]:
    """Return exit code and JSON of a small run."""
    found = told("bench", "--requests", "10", "--concurrency", "2", "--json", *arguments)
    return found.exit_code, json.loads(found.stdout)


def next_run(url: str, tool: str) -> str:
    """Return what a tool says of its next run."""
    body = json.dumps({"tool_name": tool, "params": {}}).encode()
    with urllib.request.urlopen(f"{url}/api/call-tool", body) as response:
        return str(json.load(response)["result"])


# --- what is asked


def test_by_default_no_tool_is_called(old: str) -> None:
    code, said = bench("--direct", old, "--through", old)
    assert code == 0
    assert (said["direct"]["requests"], said["through"]["requests"]) == (10, 10)
    assert (said["direct"]["failed"], said["faults"]) == (0, [])
    assert "room 1 " in next_run(old, "book")
    assert "look 1" in next_run(old, "weather")


def test_a_sidecar_is_started_and_nothing_is_answered_from_its_cache(old: str) -> None:
    """10 requests and 2 to warm up on each side: a hit or a shared answer would be missing here."""
    code, said = bench("--upstream", old, "--tool", "weather", "--arguments", '{"city": "Rome"}')
    assert code == 0
    assert said["direct"]["url"] == old
    assert said["through"]["url"] != old
    assert said["added_p50_ms"] == round(said["through"]["p50_ms"] - said["direct"]["p50_ms"], 3)
    assert "look 25" in next_run(old, "weather")
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(said["through"]["url"])


def test_a_path_may_be_asked_instead(old: str) -> None:
    code, said = bench("--direct", old, "--through", old, "--path", "/api/health")
    assert (code, said["through"]["failed"]) == (0, 0)


# --- what is told


def test_people_see_a_table(old: str) -> None:
    found = told("bench", "--direct", old, "--through", old, "--requests", "10")
    assert found.exit_code == 0
    lines = found.stdout.splitlines()
    assert lines[0].split() == ["requests", "failed", "per", "second", "p50", "ms", "p99", "ms"]
    assert [line.split()[:3] for line in lines[1:3]] == [
        ["direct", "10", "0"],
        ["through", "10", "0"],
    ]
    assert lines[3].startswith("added: ")


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        (("--max-added-ms", "-10000"), "ms are added, more than -10000"),
        (("--min-throughput-ratio", "10000"), "of the throughput is left, less than 10000"),
    ],
)
def test_a_threshold_that_is_not_met_ends_with_1(
    old: str, threshold: tuple[str, str], words: str
) -> None:
    code, said = bench("--direct", old, "--through", old, *threshold)
    assert code == 1
    assert len(said["faults"]) == 1
    assert said["faults"][0].endswith(words)
    name, value = threshold
    assert bench("--direct", old, "--through", old, name, str(-float(value)))[0] == 0


def test_answers_that_are_errors_are_no_result(old: str) -> None:
    code, said = bench("--direct", old, "--through", old, "--tool", "nothing")
    assert code == 1
    assert said["faults"] == [f"10 of 10 requests to {old} failed"] * 2


def test_nobody_there_is_said(old: str) -> None:
    url = f"http://localhost:{unused_port()}"
    found = told("bench", "--direct", url, "--through", old)
    assert (found.exit_code, found.stdout) == (1, "")
    assert f"{url} speaks no MCP to us; name what to GET there with --path" in found.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--direct", "http://h"),
        ("--upstream", "http://h", "--through", "http://h"),
        ("--upstream", "h:80"),
        ("--upstream", "http://h", "--arguments", "{}"),
        ("--upstream", "http://h", "--tool", "t", "--arguments", "[]"),
        ("--upstream", "http://h", "--tool", "t", "--path", "/"),
        ("--upstream", "http://h", "--path", "x"),
        ("--upstream", "http://h", "--requests", "1"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    assert told("bench", *arguments).exit_code == 2


def test_a_side_is_the_median_of_its_rounds() -> None:
    rounds = [
        Round(seconds, [0.001] * 98 + [p99] * 2, 1) for seconds, p99 in [(1, 9), (2, 2), (4, 5)]
    ]
    assert side("http://h", rounds) == ("http://h", 300, 3, 50.0, 1.0, 5000.0)
