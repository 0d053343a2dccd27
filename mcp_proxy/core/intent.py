"""What a call may do: be repeated, be kept, be shared, change something at the server.

The answers come from the bytes, the operator's rules and what the server says of its own tools,
never from a client's word. The table is section 4 of DESIGN; what is not in it is opaque.
"""

from dataclasses import dataclass, field, replace
from enum import Enum

from mcp_proxy.core.memo import Memo
from mcp_proxy.core.message import Dialect, Message
from mcp_proxy.core.rules import Annotations, Rules


class Stack(Enum):
    """Which list of layers a call walks through (DESIGN section 2)."""

    FULL = "full"
    PLAIN = "plain"
    SHORT = "short"


@dataclass(frozen=True, slots=True)
class Keep:
    """For how long an answer may be kept."""

    seconds: float  # where the answer itself says nothing
    obeys_hint: bool = False  # a `ttlMs` in the result decides (MCP 2026-07-28, caching)
    revalidate: float = 0.0  # seconds after that in which it is told on while it is fetched anew
    on_error: float = 0.0  # seconds after that in which it is told on while the server fails
    in_outage: bool = False  # kept for an outage even if it is never fresh


@dataclass(frozen=True, slots=True)
class Intent:
    """The decisions about one call. The default is the careful one: opaque."""

    stack: Stack = Stack.PLAIN
    repeatable: bool = False  # also after it was, or may have been, delivered
    keep: Keep | None = None
    collapsible: bool = False  # may share the answer of an identical call in flight
    writes: bool = True  # may change something at the server
    attempt_timeout: float | None = None  # seconds of silence, of a rule
    max_concurrency: int | None = None  # calls of the tool with the server at once, of a rule
    rate_limit: str | None = None  # how often the tool may be called, of a rule (core/rates)
    # patterns of what it may change; all that is stored, where nobody has said less
    invalidates: tuple[str, ...] = ("*",)
    ends_elsewhere: bool = False  # a call that is open beside it shows what came of it


OPAQUE = Intent()
# On the MCP path, where an unread body may belong to a session too.
UNREAD = Intent(Stack.FULL)
STREAM = Intent(stack=Stack.SHORT, writes=False)
LEGACY_POST = Intent(stack=Stack.SHORT)
SAFE_HTTP = Intent(repeatable=True, writes=False)
# The client's answer to a question of the server's: the call that asked goes on, and ends in sight.
RESPONSE = Intent(Stack.FULL, ends_elsewhere=True)
SESSION_END = Intent(stack=Stack.SHORT, repeatable=True, writes=False)

# The six methods with caching hints in 2026-07-28; they are reads in every revision.
KEPT_METHODS = frozenset(
    {
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "server/discover",
    }
)
REPEATABLE_METHODS = KEPT_METHODS | {
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
    "ping",
}
# Known to write nothing, and yet sent once: a second `initialize` leaves an orphan session behind.
_ONCE = frozenset(
    {
        "initialize",
        "notifications/progress",
        "notifications/roots/list_changed",
    }
)
# A continuation belongs to one exchange: an elicited answer, a token that may be single use.
_CONTINUES = ("inputResponses", "requestState", "task")
# Method and tool names come from callers (core/message bounds them); a full memo forgets all.
_MEMO_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decisions depend on."""

    cache_ttl: float = 300.0  # seconds
    annotated_ttl: float = 10.0  # seconds
    revalidate: float = 30.0  # seconds, MCP_CACHE_STALE_WHILE_REVALIDATE
    on_error: float = 600.0  # seconds, MCP_CACHE_STALE_IF_ERROR
    trust_annotations: bool = True
    rules: Rules = field(default_factory=Rules)


class Decisions:
    """Decide what a message may do; remembers, since only a few facts of a message matter."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._memo: Memo[tuple[object, ...], Intent] = Memo(_MEMO_LIMIT)

    def of(self, message: Message, annotations: Annotations | None = None) -> Intent:
        """Return the intent of an understood message.

        `annotations` is what the server's own `tools/list` says of the tool it calls. They do not
        count for the REST dialect: they name tools of the MCP endpoint, while the services behind
        the REST route are other servers, whose tools may bear the same names.
        """
        continues = message.dialect is Dialect.RPC and any(
            key in message.params for key in _CONTINUES
        )
        facts = (
            message.dialect,
            message.method,
            message.service,
            message.tool,
            message.stateless,
            message.id is None,
            message.has_progress_token,
            continues,
            annotations,
        )
        return self._memo.get(facts) or self._memo.keep(
            facts, self._decide(message, annotations, continues=continues)
        )

    def _decide(
        self, message: Message, annotations: Annotations | None, *, continues: bool
    ) -> Intent:
        if message.dialect is Dialect.REST:
            return self._tool(message, None, continues=False)
        if message.method == "tools/call":
            if not message.tool or message.id is None:
                return Intent(Stack.FULL)
            return self._tool(message, annotations, continues=continues)
        if message.method == "subscriptions/listen":
            return STREAM
        if message.method in REPEATABLE_METHODS:
            return self._known(message, continues=continues)
        return Intent(Stack.FULL, writes=message.method not in _ONCE)

    def _known(self, message: Message, *, continues: bool) -> Intent:
        intent = Intent(Stack.FULL, repeatable=not continues, writes=False)
        if message.method not in KEPT_METHODS or message.id is None or continues:
            return intent
        # absent ttlMs: the operator's TTL in the handshake era, nothing in the stateless one
        keep = Keep(
            0.0 if message.stateless else self._policy.cache_ttl,
            obeys_hint=True,
            revalidate=self._policy.revalidate,
            on_error=self._policy.on_error,
            # any failure of it reads as "this is an old server" (SDK 2.3, mode auto)
            in_outage=message.method == "server/discover",
        )
        return replace(intent, keep=keep, collapsible=not message.has_progress_token)

    def _tool(
        self, message: Message, annotations: Annotations | None, *, continues: bool
    ) -> Intent:
        rule = self._policy.rules.find(message.service, message.tool)
        said = annotations if self._policy.trust_annotations and annotations else Annotations()
        reads = said.read_only if rule.read_only is None else rule.read_only
        idempotent = said.idempotent if rule.idempotent is None else rule.idempotent
        seconds = 0.0
        if reads and rule.cache and not continues:
            seconds = self._tool_seconds(rule.ttl, by_rule=rule.read_only is True)
        keep = self._kept(seconds, by_rule=rule.read_only is True) if seconds > 0 else None
        return Intent(
            Stack.FULL,
            repeatable=(reads or idempotent) and not continues,
            keep=keep,
            collapsible=keep is not None and not message.has_progress_token,
            writes=not reads,
            attempt_timeout=rule.attempt_timeout,
            max_concurrency=rule.max_concurrency,
            rate_limit=rule.rate_limit,
            invalidates=("*",) if rule.invalidates is None else rule.invalidates,
        )

    def _kept(self, seconds: float, *, by_rule: bool) -> Keep:
        if not by_rule:  # never stale: nobody has said that it may be
            return Keep(seconds)
        return Keep(seconds, revalidate=self._policy.revalidate, on_error=self._policy.on_error)

    def _tool_seconds(self, ttl: float | None, *, by_rule: bool) -> float:
        seconds = self._policy.cache_ttl if ttl is None else ttl
        # A status that a client polls must not freeze for minutes because nobody called it a read.
        return seconds if by_rule else min(seconds, self._policy.annotated_ttl)
