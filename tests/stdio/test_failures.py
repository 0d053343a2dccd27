"""A command that fails: calls are told the truth, and no write runs twice."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.stdio.conftest import Client, Door, Doors, child, details, lives, text, until


async def test_a_read_outlives_the_end_of_its_process(door: Doors) -> None:
    """kill -9 during it: the session is opened again in a new process, and the read repeated."""
    opened = await door()
    client = await opened.client()
    answer = await client.call("once", act="die_once")
    first, second = opened.did("once")
    assert text(answer).strip() == second != first
    assert [one["after"] for one in opened.events("upstream.state_changed")][-2:] == [
        "restarting",
        "present",
    ]
    ended = [one for one in opened.events("child.ended") if not one["expected"]]
    assert [one["exit_code"] for one in ended] == [-signal.SIGKILL]


async def test_a_write_is_told_that_its_fate_is_unknown_and_runs_once(door: Doors) -> None:
    opened = await door()
    client = await opened.client()
    answer = await client.call("write", act="die")
    found = details(answer)
    assert (found["code"], found["delivered"], found["retryable"]) == (
        "upstream_broken",
        "unknown",
        False,
    )
    assert len(opened.did("write")) == 1
    after = await client.call("write", say="after")
    assert "after" in text(after), "a ping finds the session lost, so the next write is delivered"
    assert len(opened.did("write")) == 2


async def test_a_write_of_which_the_process_read_a_part_is_not_sent_again(door: Doors) -> None:
    opened = await door(child("choking"))
    client = await opened.client()
    found = details(await client.call("write", say="x" * 1_000_000))
    assert (found["delivered"], found["retryable"], found["attempts"]) == ("unknown", False, 1)
    assert len(opened.did("choked")) == 1


async def test_a_process_that_never_answers_keeps_nobody_beyond_the_deadline(
    door: Doors, tmp_path: Path
) -> None:
    opened = await door(MCP_REQUEST_TIMEOUT=4)  # a process may take 1 s to begin
    client = await opened.client()
    found = details(await client.call("write", act="wait", file=str(tmp_path / "never")))
    assert (found["code"], found["delivered"], found["retryable"]) == (
        "deadline_exceeded",
        "unknown",
        False,
    )
    assert "x" in text(await client.call("write", say="x")), "the others are served"


async def test_another_clients_process_is_not_concerned(door: Doors) -> None:
    opened = await door()
    one, two = await opened.client(), await opened.client()
    before = text(await two.call("write"))
    await one.call("write", act="die")
    assert text(await two.call("write")) == before


async def test_a_write_just_after_the_end_of_its_process_is_delivered(door: Doors) -> None:
    """Another client's process keeps the bridge open, so that no refused connection tells of it."""
    opened = await door()
    one, _ = await opened.client(), await opened.client()
    os.kill(int(text(await one.call("write"))), signal.SIGKILL)
    await until(lambda: opened.sidecar.bridge.departures)
    assert "after" in text(await one.call("write", say="after"))
    assert len(opened.did("write")) == 2


async def test_a_hit_needs_no_process(door: Doors) -> None:
    opened = await door()
    client = await opened.client()
    first = await client.call("look", say="x")
    os.kill(int(text(first).split()[0]), signal.SIGKILL)
    assert text(await client.call("look", say="x")) == text(first)
    assert len(opened.did("look")) == 1


async def test_a_command_that_ends_at_once_is_a_server_that_is_away(door: Doors) -> None:
    """It is started again ever more rarely; callers are told that nothing was delivered."""
    opened = await door(child("at_once"), MCP_RESTART_GRACE=0.3)
    await until(lambda: len(opened.events("child.ended")) >= 3)
    await until(lambda: opened.events("upstream.state_changed")[-1]["after"] == "lost")
    found = await _refused(opened)
    assert (found["code"], found["delivered"], found["retryable"]) == ("circuit_open", "no", True)
    assert {one["exit_code"] for one in opened.events("child.ended")} == {3}
    assert opened.sidecar.bridge._supervisor._pause >= 0.4
    async with opened.http.get(f"{opened.url}/api/health") as response:
        assert response.status == 503
        assert (await response.json())["upstream"]["state"] == "lost"


async def test_a_command_that_is_not_there_is_told(door: Doors) -> None:
    opened = await door("/no/such/program --token canary", MCP_RESTART_GRACE=0.3)
    await until(lambda: opened.events("upstream.state_changed")[-1:] != [])
    assert opened.events("child.not_started")[0]["reason"] == "No such file or directory"
    assert (await _refused(opened))["delivered"] == "no"
    assert "canary" not in str(opened._said)


async def test_what_is_no_message_is_ignored_and_counted(door: Doors) -> None:
    opened = await door()
    client = await opened.client()
    assert "x" in text(await client.call("write", act="garbage", say="x"))
    assert opened.sidecar.bridge.snapshot()["lines_ignored"] == 4
    assert [one["reason"] for one in opened.events("child.line_ignored")] == ["no message"]
    assert "Traceback" not in str(opened._said)


async def test_bytes_that_are_no_text_are_ignored_as_well(door: Doors) -> None:
    opened = await door()
    client = await opened.client()
    assert "x" in text(await client.call("write", act="bytes", say="x"))
    assert opened.sidecar.bridge.snapshot()["lines_ignored"] == 1


async def test_a_process_may_say_much_on_stderr(
    door: Doors, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is the operator's as it is: it costs us nothing, delays nobody, and is told nowhere."""
    opened = await door()
    client = await opened.client()
    assert "x" in text(await client.call("write", act="loud", say="x"))
    assert capfd.readouterr().err.count("canary") == 20_000
    assert "canary" not in str(opened._said)


async def test_a_line_without_end_is_dropped_and_held_by_nobody(door: Doors) -> None:
    opened = await door()
    client = await opened.client()
    assert "x" in text(await client.call("write", act="huge", say="x"))
    assert [one["reason"] for one in opened.events("child.line_ignored")] == ["too long"]


async def test_an_answer_that_is_too_long_fails_its_call_and_no_other(door: Doors) -> None:
    opened = await door()
    client = await opened.client()
    lost = await client.call("write", act="huge", where="answer")
    assert details(lost)["delivered"] == "unknown"
    assert text(await client.call("write", say="x")).split() == [opened.did("write")[0], "x"]


async def test_a_process_that_closes_its_stdout_is_ended(door: Doors) -> None:
    opened = await door()
    client = await opened.client()
    lost = await client.call("write", act="close")
    assert details(lost)["delivered"] == "unknown"
    assert not lives(opened.did("write")[0])


async def test_a_process_that_will_not_go_is_killed(door: Doors) -> None:
    opened = await door(child("stubborn"))
    client = await opened.client()
    pid = text(await client.call("write")).strip()
    await client.end()
    await until(lambda: not lives(pid))


async def test_a_guard_that_was_killed_is_followed_by_another(door: Doors) -> None:
    opened = await door()
    guard = opened.sidecar.bridge._guard
    await until(lambda: opened.did("ended"))
    before = guard._process
    before.kill()
    before.wait()
    await opened.client()  # takes the process that waits
    client = await opened.client()
    pid = int(text(await client.call("write")).split()[0])
    assert guard._process is not before
    assert pid in guard._groups


async def _refused(opened: Door) -> Any:
    """Return the failure object that a handshake gets."""
    status, said = await Client(opened.http, opened.url).hello()
    assert status == 200
    return said[0]["error"]["data"]
