"""The model of the cache on two replicas, each with memory in front of one Redis (DESIGN section 4).

The replica that invalidates sees it at once; the other hears of it within a second after Redis was
told, and tells nothing that is kept while Redis refuses it all.
"""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.stores.tiered import Strategy
from tests.cache.model import assert_met, thought_up
from tests.cache.operations import (
    HARD,
    TROUBLES,
    Ask,
    Clear,
    Clearing,
    ClearOlder,
    GoOn,
    Late,
    Leave,
    Operation,
    Pass,
    Refuse,
    Stage,
    Write,
    scripts,
    shortened,
    turned,
)
from tests.cache.replicas import LAG, Shared
from tests.stores.test_redis import pytestmark as needs_redis

STAGE = Stage(
    replicas=2,
    holds=(
        "edition",
        "get",
        "origin",
        "origin",
        "put",
        "invalidate",
        "far edition",
        "far get",
        "far invalidate",
        "store",
    ),
    steps=(0.5, 0.5, 1),
    troubles=(*TROUBLES, "writes", "writes", "fates", *["refusals"] * 4),
    parts=5,
)
STRATEGIES: tuple[Strategy, ...] = ("write-through", "write-back")
pytestmark = [pytest.mark.redis, needs_redis[1]]


# A replica that starts makes all answers void.
ARRIVED: list[Operation] = [Ask("dan", "list"), Ask("dan", "list", at=1), Pass(LAG)]


def waited(script: list[Operation]) -> list[Operation]:
    """Return the same, with a second in which others hear of each write and clear."""
    return [
        after
        for operation in script
        for after in (
            [operation, Pass(LAG)]
            if isinstance(operation, Write | Clearing | GoOn)
            else [operation]
        )
    ]


# Those that are hard for two tiers; calls are about `look`, and replica 1 is the other one.
HARD_FOR_TIERS: dict[str, list[Operation]] = {
    "another replica hears of a write within a second": [
        Ask("ann", "look"),
        Ask("ann", "look", at=1),
        Write("bob", "done"),
        Ask("ann", "look"),
        Ask("ann", "look", at=1),
        Pass(0.5),
        Ask("ann", "look", at=1),
        Pass(0.5),
        Ask("ann", "look", at=1),
    ],
    "another replica's lease was under way for long": [
        Ask("ann", "look", at=1),
        Pass(1),
        Ask("ann", "look", hold="far edition", at=1),
        Write("bob", "done"),
        Pass(0.5),
        GoOn(0),
        Pass(0.5),
        Ask("ann", "look", at=1),
    ],
    "an edition is being read while it ends": [
        Ask("ann", "look"),
        Pass(1),
        Ask("ann", "look", hold="far edition"),
        Write("bob", "done"),
        GoOn(0),
        Ask("ann", "look"),
    ],
    "somebody else asks while an edition is being read that has ended": [
        Ask("ann", "look"),
        Pass(1),
        Ask("ann", "look", hold="far edition"),
        Write("bob", "done"),
        Ask("ann", "look"),
        GoOn(0),
    ],
    "somebody asks while Redis is being told": [
        Ask("ann", "look"),
        Write("bob", "done", "far invalidate"),
        Ask("ann", "look"),
        GoOn(0),
        Ask("ann", "look"),
    ],
    "the caller of a write leaves while Redis is being told": [
        Ask("ann", "look"),
        Ask("ann", "look", at=1),
        Write("bob", "done", "far invalidate"),
        Leave(0),
        Ask("ann", "look"),
        GoOn(0),
        Ask("ann", "look"),
        Pass(1),
        Ask("ann", "look", at=1),
    ],
    "an answer comes from Redis after a write": [
        Ask("ann", "look"),
        Ask("ann", "look", hold="far get", at=1),
        Write("bob", "done", at=1),
        GoOn(0),
        Ask("ann", "look", at=1),
    ],
    "an answer is stored after a write, in Redis even later": [
        Ask("ann", "look", hold="store"),
        Ask("ann", "look", hold="put", at=1),
        Write("bob", "done"),
        Ask("ann", "look"),
        GoOn(0),
        GoOn(0),
        Pass(1),
        Ask("ann", "look"),
        Ask("ann", "look", at=1),
    ],
    "an answer is over that the other has fetched anew": [
        Ask("ann", "look"),
        Ask("ann", "look", at=1),
        Pass(310),
        Ask("ann", "look", hold="origin"),
        GoOn(0),
        Pass(1),
        Ask("ann", "look", at=1),
    ],
    "what is older is cleared, elsewhere within a second": [
        Ask("ann", "look"),
        Pass(10),
        Ask("ann", "look", at=1),
        ClearOlder(0),
        Ask("ann", "look"),
        Ask("ann", "look", at=1),
        Pass(1),
        Ask("ann", "look", at=1),
    ],
    "what is older is cleared, and came here later": [
        Ask("ann", "look", at=1),
        Pass(10),
        Ask("ann", "look"),
        ClearOlder(5),
        Ask("ann", "peek"),
        Ask("ann", "look"),
    ],
    "what was cleared by its age stays so": [
        Ask("ann", "look"),
        Pass(10),
        ClearOlder(0),
        ClearOlder(15),
        Ask("ann", "look"),
        Pass(1),
        Ask("ann", "look", at=1),
    ],
    "a write of unknown fate is executed late, and others have heard of it": [
        Ask("ann", "peek", at=1),
        Write("bob", "late"),
        Ask("ann", "look", at=1),
        Ask("ann", "look"),
        Pass(1),
        Ask("ann", "look", at=1),
        Ask("ann", "look"),
        Late(0),
        Ask("ann", "look", at=1),
        Ask("ann", "look"),
        Pass(30),
        Ask("ann", "look", at=1),
        Ask("ann", "look"),
    ],
    "Redis refuses all while somebody writes": [
        Ask("ann", "look"),
        Ask("ann", "look", at=1),
        Refuse("all"),
        Write("bob", "done"),
        Ask("ann", "look"),
        Ask("ann", "look", at=1),
        Pass(0.5),
        Ask("ann", "look", at=1),
        Pass(0.5),
        Ask("ann", "look", at=1),
        Refuse("nothing"),
        Ask("ann", "look", at=1),
        Pass(1),
        Ask("ann", "look", at=1),
        Ask("ann", "look", at=1),
        Ask("ann", "look"),
    ],
    "a replica is cut off, and has a lease": [
        Ask("ann", "look", at=1),
        Refuse("all", (1,)),
        Ask("ann", "peek", at=1),
        Write("bob", "done"),
        Ask("ann", "look", at=1),
        Pass(1),
        Ask("ann", "look", at=1),
        Refuse("nothing"),
        Ask("ann", "look", at=1),
        Ask("ann", "look", at=1),
    ],
    "a write that Redis was not told of comes before the next edition": [
        Ask("ann", "look", at=1),
        Ask("ann", "look"),
        Refuse("all", (0,)),
        Write("bob", "late"),
        Refuse("nothing"),
        Ask("ann", "look"),
        Pass(1),
        Ask("ann", "look"),
        Ask("ann", "look"),
        Late(0),
        Ask("ann", "look"),
        Pass(1),
        Ask("ann", "look", at=1),
    ],
    "a write that Redis cannot be told of at first": [
        Ask("ann", "look"),
        Refuse("all", (0,)),
        Write("bob", "late"),
        Pass(1),
        Ask("ann", "look"),
        Refuse("nothing"),
        Pass(1),
        Ask("ann", "look"),
        Ask("ann", "look"),
        Late(0),
        Ask("ann", "look"),
    ],
    "a write that Redis was not told of, and nobody reads there": [
        Ask("ann", "look", at=1),
        Refuse("all", (0,)),
        Write("bob", "done"),
        Pass(1),
        Refuse("nothing"),
        Pass(1),
        Pass(2),
        Ask("ann", "look", at=1),
    ],
    "a second after it refused something Redis is told again": [
        Ask("ann", "look", at=1),
        Refuse("all", (0,)),
        Ask("ann", "peek"),
        Refuse("nothing"),
        Pass(1),
        Write("bob", "done"),
        Pass(1),
        Ask("ann", "look", at=1),
    ],
    "a write that Redis was not told of, as it was not asked": [
        Ask("ann", "look"),
        Refuse("all", (0,)),
        Ask("ann", "peek"),
        Refuse("nothing"),
        Write("bob", "late"),
        Pass(1),
        Ask("ann", "look"),
        Ask("ann", "look"),
        Late(0),
        Ask("ann", "look"),
    ],
    **{
        f"Redis refuses {what} while somebody clears {clear}": [
            Ask("ann", "look"),
            Ask("ann", "look", at=1),
            Pass(1),
            Refuse(what),
            clear,
            Ask("ann", "look"),
            Refuse("nothing"),
            Pass(1),
            Ask("ann", "look"),
            Pass(1),
            Ask("ann", "look", at=1),
        ]
        for what in ("all", "writes", "tokens")
        for clear in (Clear(), Clear("tool:look"), ClearOlder(0))
    },
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("what", HARD)
def test_where_it_is_hard(shared: Shared, strategy: Strategy, what: str) -> None:
    for each in (HARD[what], waited(shortened(turned(HARD[what])))):
        shared.play(ARRIVED + each, Counter(), strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("what", HARD_FOR_TIERS)
def test_where_it_is_hard_for_two_tiers(shared: Shared, strategy: Strategy, what: str) -> None:
    script = HARD_FOR_TIERS[what]
    for each in (script, shortened(script), waited(script)):
        shared.play(ARRIVED + each, Counter(), strategy)


def test_two_replicas_with_two_tiers(shared: Shared) -> None:
    met: dict[Strategy, Counter[str]] = {strategy: Counter() for strategy in STRATEGIES}

    @thought_up(280)
    @given(script=scripts(STAGE), strategy=st.sampled_from(STRATEGIES))
    def run(script: list[Operation], strategy: Strategy) -> None:
        shared.play(script, met[strategy], strategy)

    run()
    for each in met.values():
        assert_met(each, "hit", "another's")
    assert_met(sum(met.values(), Counter()), "collapsed", "at hand", "behind", "cut off")
