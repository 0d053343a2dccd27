"""The map: which layers stand in which stack, in which order."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mcp_proxy.assembly import Sidecar
from mcp_proxy.core.intent import Stack
from mcp_proxy.core.place import Place
from mcp_proxy.core.trace import Trace
from mcp_proxy.layers.trace import Span, Spans
from mcp_proxy.signals.logs import Log
from mcp_proxy.sources import Loader
from mcp_proxy.stores.board import BoardShelf
from mcp_proxy.stores.memory import MemoryShelf

Assembled = Callable[..., Sidecar]


@pytest.fixture
async def assembled() -> AsyncIterator[Assembled]:
    """Assemble sidecars that are let go of in the end."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    log = Log("info", descriptor)
    made: list[Sidecar] = []

    def assemble(
        spans: Spans | None = None, place: Place | None = None, **environment: str
    ) -> Sidecar:
        environment.setdefault("MCP_UPSTREAM_URL", "http://localhost:9000")
        made.append(Sidecar(Loader({}, environment).load(), log, spans=spans, place=place))
        return made[-1]

    yield assemble
    for sidecar in made:
        await sidecar.aclose()
    log.close()
    os.close(descriptor)


def names(sidecar: Sidecar, stack: Stack) -> list[str]:
    layers = list(sidecar.stacks[stack])
    if stack is not Stack.SHORT:
        layers += sidecar.targets[0].layers
    return [type(layer).__name__.lower() for layer in layers]


async def test_the_layers_stand_in_the_order_of_the_documents(assembled: Assembled) -> None:
    """DESIGN section 2 and docs/order.md."""
    sidecar = assembled()
    full = "observe rescue deadline cache coalesce admit invalidate retry recover breaker"
    assert names(sidecar, Stack.FULL) == full.split()
    assert names(sidecar, Stack.PLAIN) == [
        "observe",
        "rescue",
        "deadline",
        "admit",
        "invalidate",
        "retry",
        "breaker",
    ]
    assert names(sidecar, Stack.SHORT) == ["observe", "rescue", "invalidate", "retry", "recover"]


@pytest.mark.parametrize(
    ("variable", "value", "absent"),
    [
        ("MCP_CACHE_ENABLED", "false", {"cache", "coalesce", "invalidate"}),
        ("MCP_ENABLE_CACHING", "false", {"cache", "coalesce", "invalidate"}),
        ("MCP_MAX_RETRIES", "0", {"retry"}),
        ("MCP_ENABLE_CIRCUIT_BREAKER", "false", {"breaker"}),
        ("MCP_SESSION_RECOVERY", "false", {"recover"}),
    ],
)
async def test_a_layer_that_is_off_is_absent(
    assembled: Assembled, variable: str, value: str, absent: set[str]
) -> None:
    """DESIGN section 2: absent from the list, not an `if`."""
    with_all = names(assembled(), Stack.FULL)
    assert set(with_all) - set(names(assembled(**{variable: value}), Stack.FULL)) == absent


async def test_rate_limits_are_there_when_they_are_wanted(
    assembled: Assembled, tmp_path: Path
) -> None:
    """DESIGN section 2: before the cache, in all stacks; hits over Redis take the usual way."""
    wanted = assembled(MCP_RATE_LIMIT_CLIENT="100/minute")
    for stack, before in (
        (Stack.FULL, "deadline"),
        (Stack.PLAIN, "deadline"),
        (Stack.SHORT, "rescue"),
    ):
        listed = names(wanted, stack)
        assert listed[listed.index(before) + 1] == "ratelimit"
    assert wanted.inbound.express._lane.known is not None
    in_redis = assembled(MCP_RATE_LIMIT_TOOL="1/second", REDIS_URL="redis://localhost:1")
    assert in_redis.inbound.express._lane.known is None
    rules = tmp_path / "rules.toml"
    rules.write_text('[tools.look]\nrate_limit = "1/second"\nmax_concurrency = 3\n')
    assert "ratelimit" in names(assembled(MCP_CONFIG_FILE=str(rules)), Stack.FULL)


async def test_hedging_is_there_when_it_is_wanted(assembled: Assembled) -> None:
    wanted = assembled(MCP_HEDGE_DELAY="p95")
    for stack in (Stack.FULL, Stack.PLAIN):
        listed = names(wanted, stack)
        assert listed[listed.index("retry") + 1] == "hedge"
    assert "hedge" not in names(wanted, Stack.SHORT)


class Untold:
    """Where spans would go."""

    def begin(self, name: str, parent: Trace | None, *, asks: bool = False) -> Span:
        raise NotImplementedError

    async def aclose(self) -> None: ...


async def test_traces_are_told_from_both_ends(assembled: Assembled) -> None:
    """docs/order.md: around everything, and next to the wire; a stream's road has both ends too."""
    wanted = assembled(Untold(), MCP_RATE_LIMIT_CLIENT="100/minute")
    for stack in Stack:
        listed = names(wanted, stack)
        assert listed[:2] == ["tracecall", "observe"]
        if stack is not Stack.SHORT:
            assert listed[-2:] == ["breaker", "tracetry"]
    assert type(wanted.targets[0].outbound.func.__self__).__name__ == "TraceTry"  # type: ignore[attr-defined]
    assert wanted.inbound.express._lane.known is not None
    without = assembled(Untold(), MCP_ENABLE_CIRCUIT_BREAKER="false")
    assert names(without, Stack.FULL)[-1] == "tracetry"


@pytest.mark.parametrize(
    ("environment", "store"),
    [
        ({}, "memory"),
        ({"REDIS_URL": "redis://localhost:1"}, "tiered"),
        ({"REDIS_URL": "redis://localhost:1", "MCP_CACHE_STRATEGY": "write-back"}, "tiered"),
        ({"REDIS_URL": "redis://localhost:1", "MCP_CACHE_ENABLED": "false"}, None),
    ],
)
async def test_answers_are_kept_where_the_settings_say(
    assembled: Assembled, environment: dict[str, str], store: str | None
) -> None:
    """DESIGN section 7: with REDIS_URL in Redis, with memory in front of it."""
    shelf = assembled(**environment).shelf
    assert (shelf.snapshot()["store"] if shelf else None) == store


@pytest.mark.parametrize(("strategy", "waits"), [("write-through", 0), ("write-back", 1)])
async def test_the_strategy_says_when_redis_is_written(
    assembled: Assembled, strategy: str, waits: int
) -> None:
    shelf = assembled(REDIS_URL="redis://localhost:1", MCP_CACHE_STRATEGY=strategy).shelf
    assert shelf is not None
    await shelf.put("k", b"v", 5.0)
    assert shelf.snapshot()["queued"] == waits


async def test_alone_nothing_of_several_workers_is_there(assembled: Assembled) -> None:
    sidecar = assembled()
    assert sidecar.crew is None
    assert isinstance(sidecar.shelf, MemoryShelf)


async def test_each_of_several_workers_has_its_share_of_the_bounds(
    assembled: Assembled, tmp_path: Path
) -> None:
    """What the server bears does not grow with our processes; names and loops are all one's."""
    several = [
        assembled(place=Place(index, 3, "abc", str(tmp_path)), MCP_CONCURRENCY_LIMIT="10")
        for index in range(3)
    ]
    assert {sidecar.admit.snapshot()["limit"] for sidecar in several} == {4}
    assert {sidecar.pseudonym for sidecar in several} == {"mcp-sidecar-abc"}
    assert all(isinstance(sidecar.shelf, BoardShelf) for sidecar in several)
