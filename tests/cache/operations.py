"""What may happen to a cache: operations, the scripts that hypothesis makes of them, and hard ones."""

from functools import cache
from typing import NamedTuple

from hypothesis import strategies as st

# --- what there is to ask, and who asks

# Each differs from ann in one header.
CALLERS = {
    "ann": {"Authorization": "Bearer 1"},
    "bob": {"Authorization": "Bearer 1", "Cookie": "sid=b"},
    "cyd": {"Authorization": "Bearer 1", "Mcp-Session-Id": "c"},
    "dan": {"Authorization": "Bearer 1", "X-Unheard-Of": "d"},
    "eve": {"Authorization": "Bearer 2"},
}
NAMES = {tuple(headers.items()): name for name, headers in CALLERS.items()}
THINGS = ("look", "peek", "list")  # an MCP tool, a REST tool, tools/list
SCOPES = {
    "": set(THINGS),
    "tool:look": {"look"},
    "tool:peek": {"peek"},
    "service:jira": {"peek"},
    "jira/peek": {"peek"},
}
# What the origin may say, beside `plain`.
FOR_ONE = {"private", "no-store", "cookie", "tool failed", "asks back"}
DENIED = {"unauthorized": 401, "forbidden": 403}
FAILED = {"unreachable", "cut", "broken"}
# What may become of a write.
EXECUTED = {"done", "streamed", "tool failed", "cut", "broken"}
LATER = {"late", "accepted"}
FATES = ("done", "streamed", "tool failed", "cut", "broken", "lost", "late", "accepted", "refused")


class Ask(NamedTuple):
    """Ask for something that may be kept; if `hold` is given, the call stops there."""

    who: str
    what: str
    says: str = "plain"
    hold: str = ""
    at: int = 0  # which replica
    short: bool = False  # whether the short way is tried first (edge/express)


class Write(NamedTuple):
    """Call a tool that may write: always the same one, with the same arguments."""

    who: str
    fate: str
    hold: str = ""
    at: int = 0


class GoOn(NamedTuple):
    """Let one of the calls that were stopped go on to its end."""

    which: int


class Leave(NamedTuple):
    """Take away the caller of one of the calls that are under way."""

    which: int


class Late(NamedTuple):
    """Execute a write that the server had when its caller was told that nothing is known of it."""

    which: int


class Pass(NamedTuple):
    """Let time pass: whole halves of a second."""

    seconds: float


class Clear(NamedTuple):
    """Clear what a scope names, since the data changed behind our back."""

    scope: str = ""
    at: int = 0


class ClearKey(NamedTuple):
    """Clear one answer by its key."""

    who: str
    what: str
    at: int = 0


class ClearOlder(NamedTuple):
    """Clear what is older than this many seconds."""

    seconds: int
    at: int = 0


class ListChanged(NamedTuple):
    """Hear `notifications/*/list_changed` on a stream."""

    at: int = 0


class Refuse(NamedTuple):
    """Let Redis refuse what replicas ask of it, from now on."""

    what: str = "all"  # or "writes", "tokens" (new ones), "nothing"
    at: tuple[int, ...] = (0, 1)


Clearing = Clear | ClearKey | ClearOlder | ListChanged
Operation = Ask | Write | GoOn | Leave | Late | Pass | Clearing | Refuse


TROUBLES = ("writes", "fates", "clears", "ages", "answers", "leaves", "time")


class Stage(NamedTuple):
    """What operations have to do with."""

    replicas: int
    holds: tuple[str, ...]  # where calls may stop
    steps: tuple[float, ...] = (10,)  # seconds that pass now and then
    troubles: tuple[str, ...] = TROUBLES  # up to three of these
    parts: int = 3  # about five operations each


@st.composite
def scripts(draw: st.DrawFn, stage: Stage) -> list[Operation]:
    """Think up a list of operations: few callers and things, or nothing would ever be told again.

    Each list draws its troubles first; with all of them at once hardly an answer is stored.
    """
    alone, pairs = [("ann",)] * 4, [("ann", who) for who in CALLERS if who != "ann"]
    who = draw(st.sampled_from([*alone, *pairs, tuple(CALLERS)]))
    what = draw(st.sampled_from([*((what,) for what in THINGS), THINGS]))
    chosen = draw(st.lists(st.sampled_from(stage.troubles), min_size=1, max_size=3, unique=True))
    part = parts(stage, who, what, tuple(chosen))
    script: list[Operation] = []
    for _ in range(stage.parts):
        script += draw(part)
    return script


@cache  # half of the time went into making them anew for each script
def parts(
    stage: Stage, whom: tuple[str, ...], things: tuple[str, ...], chosen: tuple[str, ...]
) -> st.SearchStrategy[list[Operation]]:
    """Make lists of operations with these callers, things and troubles.

    Scripts are several of them: one of up to 36 would be as short as one of up to 12, on average.
    """
    who, what, held = map(st.sampled_from, (whom, things, stage.holds))
    which, at = st.integers(0, 3), st.integers(0, stage.replicas - 1)
    # Everything is said: what is left out would be thought up from its type.
    plain, freely, short, long = st.just("plain"), st.just(""), st.booleans(), st.just(False)
    unusual = st.sampled_from(tuple(sorted({*FOR_ONE, *DENIED, *FAILED})))
    failing = st.sampled_from(tuple(sorted(FAILED)))
    done, fate = st.just("done"), st.sampled_from(FATES)
    held_write = st.sampled_from(("road", *stage.holds))
    commands = st.sampled_from(("all", "all", "writes", "tokens"))
    some, both = st.sampled_from(((0, 1), (0,), (1,))), st.just((0, 1))
    troubles: dict[str, list[st.SearchStrategy[Operation]]] = {
        "writes": [
            st.builds(Write, who, done, freely, at),
            st.builds(Write, who, done, held_write, at),
        ],
        "fates": [
            st.builds(Write, who, fate, freely, at),
            st.builds(Write, who, fate, held_write, at),
            st.builds(Late, which),
        ],
        "clears": [
            st.builds(Clear, st.sampled_from(tuple(SCOPES)), at),
            st.builds(ClearKey, who, what, at),
        ],
        "ages": [
            st.builds(ClearOlder, st.sampled_from((0, 15, 300)), at),
            st.builds(ListChanged, at),
        ],
        "answers": [
            st.builds(Ask, who, what, unusual, freely, at, short),
            st.builds(Ask, who, what, unusual, held, at, long),
            st.builds(Ask, who, what, failing, freely, at, short),
            st.builds(Pass, st.sampled_from((310, 500))),
        ],
        "leaves": [st.builds(Leave, which)],
        "time": [st.builds(Pass, st.sampled_from((20, 260, 290, 310)))],
        "refusals": [
            st.builds(Refuse, commands, some),
            st.builds(Refuse, st.just("nothing"), both),
        ],
    }
    kinds: list[st.SearchStrategy[Operation]] = [
        st.builds(Pass, st.sampled_from(stage.steps)),
        *[st.builds(Ask, who, what, plain, freely, at, short)] * 3,
        st.builds(Ask, who, what, plain, held, at, long),
        st.builds(GoOn, which),
        *(trouble for name in chosen for trouble in troubles[name]),
    ]
    # not `one_of`: it takes the same kind but once
    one = st.integers(0, len(kinds) - 1).flatmap(kinds.__getitem__)
    return st.lists(one, max_size=12)


# Those that are known to be hard: each comes first, whatever else is thought up.
HARD: dict[str, list[Operation]] = {
    "an answer that was asked for before a write comes after it": [
        Ask("ann", "look", hold="origin"),
        Write("bob", "done"),
        GoOn(0),
        Ask("ann", "look"),
    ],
    "somebody joins a call that began before a write": [
        Ask("ann", "look", hold="origin"),
        Write("bob", "done"),
        Ask("ann", "look"),
        GoOn(0),
    ],
    "the same before a clear of its tool": [
        Ask("ann", "peek", hold="origin"),
        Clear("service:jira"),
        Ask("ann", "peek"),
        GoOn(0),
        Ask("ann", "peek"),
    ],
    "the invalidation of a write is on its way": [
        Ask("ann", "look"),
        Write("bob", "done", "invalidate"),
        Ask("ann", "look"),
        GoOn(0),
        Ask("ann", "look"),
    ],
    "the invalidation of a streamed write is on its way": [
        Ask("ann", "look"),
        Write("bob", "streamed", "invalidate"),
        Ask("ann", "look"),
        GoOn(0),
        Ask("ann", "look"),
    ],
    "the caller of a write leaves": [
        Ask("ann", "look"),
        Write("bob", "done", "origin"),
        Leave(0),
        Ask("ann", "look"),
    ],
    "the caller of a streamed write leaves": [
        Ask("ann", "look"),
        Write("bob", "streamed", "origin"),
        Leave(0),
        Ask("ann", "look"),
    ],
    "a write of unknown fate is executed late": [
        Write("bob", "late"),
        Ask("ann", "look"),
        Ask("ann", "look", hold="origin"),
        Late(0),
        GoOn(0),
        Ask("ann", "look"),
        Pass(30),
        Ask("ann", "look"),
        Ask("ann", "look"),
    ],
    "a write that was accepted is executed late": [
        Write("bob", "accepted"),
        Ask("ann", "look"),
        Late(0),
        Ask("ann", "look"),
    ],
    "a refresh that began before a write ends after it": [
        Ask("ann", "look"),
        Pass(310),
        Ask("ann", "look", hold="origin"),
        Write("bob", "done"),
        GoOn(0),
        Ask("ann", "look"),
    ],
    "what is over is told while the server fails, and not after a write": [
        Ask("ann", "look"),
        Pass(500),
        Ask("ann", "look", "cut"),
        Ask("ann", "look", "unreachable"),
        Ask("ann", "look", "broken"),
        Write("bob", "done"),
        Ask("ann", "look", "cut"),
    ],
    "what is over is asked for while the server fails, and a write comes first": [
        Ask("ann", "look"),
        Pass(500),
        Ask("ann", "look", "cut", "origin"),
        Write("bob", "done"),
        GoOn(0),
    ],
    "a 401 takes back what its caller was told": [
        Ask("ann", "look"),
        Ask("ann", "list"),
        Ask("ann", "peek", "unauthorized"),
        Ask("ann", "look"),
        Ask("ann", "list"),
    ],
    "two join the call of one who leaves": [
        Ask("ann", "look", hold="origin"),
        Ask("ann", "look"),
        Ask("ann", "look"),
        Leave(0),
        GoOn(0),
    ],
    "two join a call whose answer is for one": [
        Ask("ann", "look", "private", "origin"),
        Ask("ann", "look"),
        Ask("ann", "look"),
        GoOn(0),
    ],
    "what is older is cleared": [
        Ask("ann", "look"),
        Pass(10),
        ClearOlder(0),
        Ask("ann", "look"),
        Ask("ann", "look"),
    ],
    "a write that failed was a write": [
        Ask("ann", "look"),
        Write("bob", "tool failed"),
        Ask("ann", "look"),
        Write("bob", "broken"),
        Ask("ann", "look"),
    ],
    "a list has changed": [
        Ask("ann", "list"),
        ListChanged(),
        Ask("ann", "list"),
    ],
    "all ask for all": [Ask(who, what) for what in THINGS for who in CALLERS for _ in "ab"],
    "identical writes together": [
        Write("ann", "done", "road"),
        Write("ann", "done", "origin"),
        Write("ann", "done"),
        GoOn(0),
        GoOn(0),
    ],
    **{
        f"a write is {fate}": [
            Ask("ann", "look"),
            Write("bob", fate),
            Ask("ann", "look"),
            Late(0),
            Ask("ann", "look"),
            Pass(30),
            Ask("ann", "look"),
            Ask("ann", "look"),
        ]
        for fate in FATES
    },
    **{
        f"what is for one: {says}": [
            operation for what in THINGS for operation in [Ask("ann", what, says)] * 2
        ]
        for says in sorted({*FOR_ONE, *DENIED, *FAILED})
    },
}


def turned(script: list[Operation]) -> list[Operation]:
    """Return the same, with all that writes or clears at the other replica."""
    return [
        operation._replace(at=1) if isinstance(operation, Write | Clearing) else operation
        for operation in script
    ]


def shortened(script: list[Operation]) -> list[Operation]:
    """Return the same, with the short way tried for all that is asked."""
    return [
        operation._replace(short=True) if isinstance(operation, Ask) else operation
        for operation in script
    ]
