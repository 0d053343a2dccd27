"""What `make chaos` does, in small: what is counted there is asserted here (docs/reliability.md)."""

from pathlib import Path

from benchmarks.chaos.amnesia import amnesia
from benchmarks.chaos.at_most_once import PROMISE as AT_MOST_ONCE
from benchmarks.chaos.at_most_once import at_most_once
from benchmarks.chaos.crowd import Dialect
from benchmarks.chaos.failover import failover
from benchmarks.chaos.findings import NOTHING_LEAKED, Finding, leaks_together, table
from benchmarks.chaos.overload import LIMIT, overload
from benchmarks.chaos.overload import PROMISE as OVERLOAD
from benchmarks.chaos.reads_heal import through_a_restart, through_faults
from benchmarks.chaos.recovery import one_probe, returns


def hold(findings: list[Finding]) -> None:
    assert findings
    assert [sentence for one in findings for sentence in one.wrong] == []
    assert all(one.holds for one in findings)


async def test_what_is_not_safe_to_repeat_is_executed_once_at_most() -> None:
    hold(await at_most_once(300))


async def test_a_sidecar_that_repeats_writes_is_found_out(tmp_path: Path) -> None:
    """The scenario can fail: here the operator calls the writes safe to repeat, and they are not."""
    lies = tmp_path / "lies.toml"
    lies.write_text('[tools."write_*"]\nidempotent = true\n')
    found = await at_most_once(150, halves=[False], MCP_CONFIG_FILE=lies)
    assert not any(one.holds for one in found if one.promise == AT_MOST_ONCE)


async def test_reads_heal_from_transient_faults() -> None:
    hold(await through_faults(250))


async def test_reads_survive_a_restart() -> None:
    """F23."""
    hold(await through_a_restart(300, away=0.7))


async def test_reads_of_a_popular_tool_survive_a_restart() -> None:
    hold(await through_a_restart(300, away=0.7, popular=True))


async def test_one_of_two_servers_is_enough() -> None:
    hold(await failover(450))


async def test_the_first_success_follows_the_servers_return() -> None:
    hold(await returns(1))


async def test_one_call_probes_a_half_open_circuit() -> None:
    hold(await one_probe(100, failing=1, dialects=[Dialect.STATELESS]))


async def test_sessions_survive_restarts_and_stay_their_clients_own() -> None:
    hold(await amnesia(10, 30))


async def test_in_an_overload_as_much_is_done_as_at_the_peak() -> None:
    """F48."""
    hold(await overload(2.0, **LIMIT))


async def test_a_limit_that_is_too_wide_is_found_out() -> None:
    """The scenario can fail: here all calls are sent on, and the server answers each too late."""
    found = await overload(1.5, patience=0.5)
    assert not any(one.holds for one in found if one.promise == OVERLOAD)


def test_leaks_of_all_scenarios_make_one_row() -> None:
    kept = Finding("a promise", "this", "that", holds=True)
    tidy = Finding(NOTHING_LEAKED, "one", "", holds=True, reported="0.1")
    leaky = Finding(NOTHING_LEAKED, "two", "", holds=False, reported="8.0", wrong=("two: 1 tasks",))
    first, together = leaks_together([tidy, kept, leaky])
    assert first == kept
    assert not together.holds
    assert "two: 1 tasks" in together.counted
    assert "**DOES NOT HOLD**" in table([together])
