"""What a call may do: every row of the table in DESIGN section 4."""

import tracemalloc
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.intent import Decisions, Intent, Keep, Policy, Stack
from mcp_proxy.core.message import Dialect, Message
from mcp_proxy.core.rules import Annotations, Rule, Rules
from tests.fakes import rest_tool, rpc, tool

LISTED = [
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "server/discover",
]
REPEATED = [
    "prompts/get",
    "completion/complete",
    "tasks/get",
    "tasks/list",
    "tasks/cancel",
    "tasks/result",
    "notifications/initialized",
    "notifications/cancelled",
    "logging/setLevel",
    "resources/subscribe",
    "resources/unsubscribe",
    "ping",  # protocol section 4
]
UNKNOWN = ["tasks/update", "tools/call2", "Tools/List", "tools/list ", "x/y", ""]

READS = Annotations(read_only=True)
IDEMPOTENT = Annotations(idempotent=True)
# the same tool by either dialect; annotations count for MCP only
BOTH = pytest.mark.parametrize("message", [tool("look"), rest_tool("look")], ids=["mcp", "rest"])


def decide(
    message: Message,
    annotations: Annotations | None = None,
    *rules: Rule,
    trust: bool = True,
    ttl: float = 300.0,
) -> Intent:
    policy = Policy(
        cache_ttl=ttl, trust_annotations=trust, rules=Rules(rules), revalidate=0.0, on_error=0.0
    )
    return Decisions(policy).of(message, annotations)


def with_token(message: Message) -> Message:
    return message._replace(params={**message.params, "_meta": {"progressToken": 1}})


@dataclass(frozen=True)
class Row:
    """One row of the table: repeat, cache, coalesce, and whether a write."""

    repeatable: bool = False
    keep: Keep | None = None
    collapsible: bool = False
    writes: bool = True


def row(intent: Intent) -> Row:
    return Row(intent.repeatable, intent.keep, intent.collapsible, intent.writes)


OPAQUE = Row()


@pytest.mark.parametrize("method", LISTED)
@pytest.mark.parametrize(("stateless", "seconds"), [(False, 300.0), (True, 0.0)])
def test_lists_and_resources_are_repeated_kept_and_shared(
    method: str, stateless: bool, seconds: float
) -> None:
    """DESIGN section 4, row 1: `ttlMs`, else MCP_CACHE_TTL, in the 2026-07-28 era 0."""
    message = rpc(method)._replace(stateless=stateless)
    keep = Keep(seconds, obeys_hint=True, in_outage=method == "server/discover")
    assert row(decide(message)) == Row(True, keep, collapsible=True, writes=False)
    assert not decide(with_token(message)).collapsible


@BOTH
@pytest.mark.parametrize(
    ("rule", "ttl", "seconds"),
    [
        (Rule("look", read_only=True), 300.0, 300.0),
        (Rule("look", read_only=True, ttl=0.5), 300.0, 0.5),
        (Rule("look", read_only=True, ttl=900.0), 300.0, 900.0),
        (Rule("look", read_only=True, ttl=60.0), 0.0, 60.0),
    ],
)
def test_a_tool_that_a_rule_calls_read_only_is_repeated_kept_and_shared(
    message: Message, rule: Rule, ttl: float, seconds: float
) -> None:
    """DESIGN section 4, row 2; section 7: MCP_CACHE_TTL=0 leaves the rules' own."""
    expected = Row(True, Keep(seconds), collapsible=True, writes=False)
    assert row(decide(message, None, rule, ttl=ttl)) == expected


@BOTH
@pytest.mark.parametrize(
    ("rule", "ttl"),
    [
        (Rule("look", read_only=True, cache=False), 300.0),
        (Rule("look", read_only=True, ttl=0.0), 300.0),
        (Rule("look", read_only=True), 0.0),
    ],
)
def test_a_read_that_is_not_to_be_kept_is_repeated_and_not_shared(
    message: Message, rule: Rule, ttl: float
) -> None:
    """DESIGN section 7: `cache = false`, and a TTL of 0."""
    assert row(decide(message, None, rule, ttl=ttl)) == Row(True, writes=False)


@pytest.mark.parametrize(
    ("rules", "ttl", "seconds"),
    [
        ([], 300.0, 10.0),
        ([], 4.0, 4.0),
        ([Rule("look", ttl=5.0)], 300.0, 5.0),
        ([Rule("look", ttl=60.0)], 300.0, 10.0),
        ([Rule("look", idempotent=False)], 300.0, 10.0),
        ([Rule("other", read_only=True)], 300.0, 10.0),
    ],
)
def test_a_tool_that_only_its_server_calls_read_only_is_kept_for_seconds(
    rules: list[Rule], ttl: float, seconds: float
) -> None:
    """DESIGN section 4, row 3: at most MCP_CACHE_ANNOTATED_TTL; a rule's shorter TTL counts."""
    expected = Row(True, Keep(seconds), collapsible=True, writes=False)
    assert row(decide(tool(), READS, *rules, ttl=ttl)) == expected


@pytest.mark.parametrize(
    ("rules", "ttl"),
    [([Rule("look", cache=False)], 300.0), ([Rule("look", ttl=0.0)], 300.0), ([], 0.0)],
)
def test_a_rule_can_forbid_to_keep_what_a_server_calls_read_only(
    rules: list[Rule], ttl: float
) -> None:
    """DESIGN section 7: a rule overrides annotations."""
    assert row(decide(tool(), READS, *rules, ttl=ttl)) == Row(True, writes=False)


@pytest.mark.parametrize(
    ("message", "annotations", "rules", "trust"),
    [
        (tool(), READS, [], False),
        (tool(), READS, [Rule("look", read_only=False)], True),
        (rest_tool(), READS, [], True),
        (tool(), None, [], True),
        (tool(), Annotations(), [], True),
        (rest_tool(), None, [Rule("look", read_only=False, ttl=60.0)], True),
    ],
    ids=["distrusted", "overruled", "rest", "unknown", "silent", "rule"],
)
def test_a_tool_is_a_write_until_somebody_who_is_believed_says_otherwise(
    message: Message, annotations: Annotations | None, rules: list[Rule], trust: bool
) -> None:
    """DESIGN section 4, row 6; annotations name tools of the MCP endpoint, not of REST services."""
    assert row(decide(message, annotations, *rules, trust=trust)) == OPAQUE


@pytest.mark.parametrize(
    ("message", "annotations", "rules"),
    [
        (tool(), IDEMPOTENT, []),
        (tool(), None, [Rule("look", idempotent=True)]),
        (rest_tool(), None, [Rule("look", idempotent=True)]),
    ],
)
def test_an_idempotent_tool_is_repeated_and_still_a_write(
    message: Message, annotations: Annotations | None, rules: list[Rule]
) -> None:
    """DESIGN section 4, row 4."""
    assert row(decide(message, annotations, *rules)) == Row(True)


def test_a_rule_can_take_idempotence_back() -> None:
    """DESIGN section 7: rules override annotations."""
    assert row(decide(tool(), IDEMPOTENT, Rule("look", idempotent=False))) == OPAQUE


@pytest.mark.parametrize("method", REPEATED)
def test_a_harmless_method_is_repeated_and_no_more(method: str) -> None:
    """DESIGN section 4, row 5; protocol section 4 for `ping`."""
    assert row(decide(rpc(method))) == Row(True, writes=False)


@pytest.mark.parametrize("method", UNKNOWN)
def test_an_unknown_method_is_a_write(method: str) -> None:
    """DESIGN section 4, row 6."""
    assert row(decide(rpc(method))) == OPAQUE
    assert decide(rpc(method)).stack is Stack.FULL


@pytest.mark.parametrize(
    "method", ["initialize", "notifications/progress", "notifications/roots/list_changed"]
)
def test_some_methods_are_sent_once_although_they_write_nothing(method: str) -> None:
    """Protocol section 4: a second `initialize` leaves an orphan session behind."""
    assert row(decide(rpc(method))) == Row(writes=False)


@pytest.mark.parametrize("key", ["inputResponses", "requestState", "task"])
@pytest.mark.parametrize(
    ("message", "annotations", "writes"),
    [
        (tool(), READS, False),
        (tool(), IDEMPOTENT, True),
        (rpc("resources/read"), None, False),
        (rpc("prompts/get"), None, False),
    ],
)
def test_a_continuation_is_neither_repeated_nor_kept(
    message: Message, annotations: Annotations | None, writes: bool, key: str
) -> None:
    """DESIGN section 4, row of "never": it belongs to one exchange."""
    continued = message._replace(params={**message.params, key: None})
    assert row(decide(continued, annotations)) == Row(writes=writes)


def test_a_rest_argument_of_that_name_continues_nothing() -> None:
    rule = Rule("look", read_only=True)
    message = rest_tool()
    named = message._replace(params={**message.params, "task": 1})
    assert decide(named, None, rule) == decide(message, None, rule)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (tool(request_id=None), OPAQUE),
        (tool(name=""), OPAQUE),
        (rpc("tools/list", None), Row(True, writes=False)),
    ],
    ids=["a tool call", "a call of no tool", "a list"],
)
def test_what_awaits_no_answer_has_none_to_keep(message: Message, expected: Row) -> None:
    """F18: notifications; a tool call without id or name is none that we understand."""
    assert row(decide(message, READS, Rule("*", read_only=True))) == expected


@pytest.mark.parametrize("message", [tool(), rest_tool()])
def test_a_progress_token_keeps_a_call_out_of_shared_flights(message: Message) -> None:
    """DESIGN section 4: coalesced without a progress token; it names one client's stream."""
    intent = decide(with_token(message), None, Rule("look", read_only=True))
    assert intent.keep is not None
    assert not intent.collapsible


def test_a_subscription_is_a_stream() -> None:
    """DESIGN section 2: short stack for long-lived streams."""
    intent = decide(rpc("subscriptions/listen"))
    assert (intent.stack, row(intent)) == (Stack.SHORT, Row(writes=False))


@BOTH
def test_a_rule_can_bound_the_silence_of_a_tool(message: Message) -> None:
    """DESIGN section 7: `attempt_timeout`, also for a tool that nobody calls a read."""
    intent = decide(message, None, Rule("look", attempt_timeout=90.0))
    assert (intent.attempt_timeout, row(intent)) == (90.0, OPAQUE)


@BOTH
def test_a_rule_can_limit_how_often_a_tool_is_called(message: Message) -> None:
    """DESIGN section 7: `rate_limit`, which changes nothing else."""
    intent = decide(message, None, Rule("look", rate_limit="10/second"))
    assert (intent.rate_limit, row(intent)) == ("10/second", OPAQUE)


messages = st.builds(
    Message,
    dialect=st.sampled_from([Dialect.RPC, Dialect.REST]),
    method=st.sampled_from(["tools/call", "tools/list", "ping", "x"]),
    id=st.sampled_from([None, 1]),
    params=st.sampled_from([{}, {"_meta": {"progressToken": 1}}, {"task": {}}]),
    service=st.sampled_from(["", "jira"]),
    tool=st.sampled_from(["look", "save"]),
    stateless=st.booleans(),
)
POLICY = Policy(rules=Rules([Rule("jira/look", read_only=True), Rule("save", idempotent=True)]))


@given(asked=st.lists(st.tuples(messages, st.sampled_from([None, READS, IDEMPOTENT]))))
def test_a_decision_does_not_depend_on_earlier_ones(
    asked: list[tuple[Message, Annotations | None]],
) -> None:
    """Two messages that differ in what matters are never taken for one another."""
    decisions = Decisions(POLICY)
    for message, annotations in asked:
        assert decisions.of(message, annotations) == Decisions(POLICY).of(message, annotations)


def test_names_that_callers_make_up_do_not_fill_the_memory() -> None:
    """F46: every map bounded."""
    decisions = Decisions(POLICY)
    tracemalloc.start()
    try:
        for number in range(20_000):
            decisions.of(tool(str(number)))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 3_000_000


def test_what_an_operator_calls_a_read_may_be_stale_and_what_a_server_does_may_not() -> None:
    """DESIGN section 4, Stale: rule-listed tools, lists and resources."""
    rule = Rules([Rule("look", read_only=True)])
    decisions = Decisions(Policy(rules=rule, revalidate=7.0, on_error=8.0))
    hinted = Annotations(read_only=True)
    stale = {
        name: decisions.of(message, hinted).keep
        for name, message in {
            "rule": tool("look"),
            "annotated": tool("peek"),
            "list": rpc("tools/list"),
            "discover": rpc("server/discover"),
        }.items()
    }
    assert {
        name: (keep.revalidate, keep.on_error, keep.in_outage)
        for name, keep in stale.items()
        if keep
    } == {
        "rule": (7.0, 8.0, False),
        "annotated": (0.0, 0.0, False),
        "list": (7.0, 8.0, False),
        "discover": (7.0, 8.0, True),
    }
