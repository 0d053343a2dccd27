"""Each table of core, filled with ten times what it may hold (F46)."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from multidict import CIMultiDict

from mcp_proxy.core import frame, latency, scopes
from mcp_proxy.core.budget import Budget
from mcp_proxy.core.call import Peer, Whole
from mcp_proxy.core.guesses import CLIENTS, Guesses
from mcp_proxy.core.intent import Decisions, Policy
from mcp_proxy.core.keys import Callers, Keyring
from mcp_proxy.core.latency import Latencies
from mcp_proxy.core.memo import Memo, Sightings
from mcp_proxy.core.origins import Admission
from mcp_proxy.core.session import Left, Session
from mcp_proxy.core.sse import Splitter
from mcp_proxy.core.traffic import Paths, Traffic
from mcp_proxy.core.window import Window
from tests.fakes import call, rest_tool, rpc, tool


class Filled(NamedTuple):
    size: Callable[[], int]
    bound: int
    fill: Callable[[int], object]  # with one more, of this number


def memo() -> Filled:
    table: Memo[int, int] = Memo(100)
    return Filled(lambda: len(table), 100, lambda n: table.keep(n, n))


def sightings() -> Filled:
    table = Sightings(100)
    return Filled(lambda: len(table._hashes), 100, table.again)


def hosts() -> Filled:
    table = Admission("localhost")
    peer = Peer(host="x")
    return Filled(lambda: len(table._memo), 1024, lambda n: table.of(f"h{n}", None, peer))


def decisions() -> Filled:
    table = Decisions(Policy())
    return Filled(lambda: len(table._memo), 4096, lambda n: table.of(tool(f"t{n}")))


def readings() -> Filled:
    table = Traffic(Paths(), Decisions(Policy()), lambda *_: None)

    def read(number: int) -> None:
        body = Whole(b'{"jsonrpc": "2.0", "method": "ping", "id": %d}' % number)
        for _ in range(2):  # what comes once is not remembered
            table.understood("POST", "/mcp", CIMultiDict(), body, ("POST", "/mcp", (), body.data))

    return Filled(lambda: len(table._known), 512, read)


def seen_readings() -> Filled:
    table = Traffic(Paths(), Decisions(Policy()), lambda *_: None)

    def read(number: int) -> None:
        data = b"%d" % number
        table.understood("POST", "/mcp", CIMultiDict(), Whole(data), ("POST", "/mcp", (), data))

    return Filled(lambda: len(table._seen._hashes), 8192, read)


def identities() -> Filled:
    ring = Keyring("old")

    def ask(number: int) -> None:
        raw = ((b"Authorization", b"%d" % number),)
        ring.who(call(message=rpc())._replace(raw=raw))

    return Filled(lambda: len(ring._met), 512, ask)


def large_identities() -> Filled:
    ring = Keyring("old")

    def ask(number: int) -> None:
        raw = ((b"Authorization", b"%d" % number * 4096),)
        ring.who(call(message=rpc())._replace(raw=raw))

    return Filled(lambda: len(ring._met), 0, ask)


def callers() -> Filled:
    table = Callers()
    raws = [((b"Authorization", b"%d" % number),) for number in range(6000)]
    return Filled(lambda: len(table._met), 512, lambda n: table.of(CIMultiDict(), raws[n]))


def latencies() -> Filled:
    table = Latencies()
    return Filled(lambda: len(table._recent), latency._NAMES, lambda n: table.note(f"t{n}", 1.0))


def samples() -> Filled:
    table = Latencies()
    table.note("t", 1.0)
    size = lambda: len(table._recent["t"].samples)  # noqa: E731 - a row of a table
    return Filled(size, latency._SAMPLES, lambda n: table.note("t", n))


def failures() -> Filled:
    window = Window(10.0, 20, 0.5)
    return Filled(lambda: len(window._buckets), 10, lambda n: window.add(n * 0.3, failed=True))


def repeats() -> Filled:
    budget = Budget()
    return Filled(lambda: len(budget._seconds), Budget.WINDOW, lambda n: budget.asked(n * 0.5))


def subscriptions() -> Filled:
    session = Session("s", "ann", b"{}", "s")
    return Filled(
        lambda: len(session.subscriptions),
        50,
        lambda n: session.note(rpc("resources/subscribe", uri=f"x:{n}"), b"{}"),
    )


def streams_left() -> Filled:
    session = Session("s", "ann", b"{}", "s")
    return Filled(
        lambda: len(session.left), 32, lambda n: session.leave(b"%d" % n, Left("s", None))
    )


def guesses() -> Filled:
    table = Guesses()
    return Filled(lambda: len(table), CLIENTS + 1, lambda n: table.wrong(f"c{n}", 0.0))


def answers_headers() -> Filled:
    spelled = [f"X-{number}: 1\r\n".encode() for number in range(3000)]
    size = lambda: frame._met_headers.cache_info().currsize  # noqa: E731
    return Filled(size, frame._REMEMBERED, lambda n: frame._met_headers(spelled[n % 3000]))


def tools_scopes() -> Filled:
    size = lambda: scopes._of_tool.cache_info().currsize  # noqa: E731
    return Filled(size, 1024, lambda n: scopes.scopes(rest_tool(f"t{n}"), "digest"))


def an_event() -> Filled:
    splitter = Splitter(1000)
    size = lambda: sum(map(len, splitter._data)) + len(splitter._rest)  # noqa: E731
    return Filled(size, 1100, lambda n: splitter.feed(b"data: 0123456789\n"))


TABLES = [
    *(memo, sightings, hosts, decisions, readings, seen_readings, identities, large_identities),
    *(callers, latencies, samples, failures, repeats, subscriptions, guesses, answers_headers),
    *(tools_scopes, an_event, streams_left),
]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_ten_times_as_much_is_not_held(table: Callable[[], Filled]) -> None:
    filled = table()
    largest = 0
    for number in range(10 * max(filled.bound, 10)):
        filled.fill(number)
        largest = max(largest, filled.size())
    assert largest <= filled.bound
    assert largest > 0 or filled.bound == 0, "nothing was filled"
    assert filled.size() <= filled.bound


def test_a_session_weighs_what_it_is_called_by() -> None:
    """Ids come from servers and may be long: the bytes of all sessions are bounded by weight."""
    light = Session("s", "ann", b"{}", "s")
    assert Session("s" * 10_000, "ann", b"{}", "s" * 10_000).size > light.size + 19_000
    light.note(rpc("resources/subscribe", uri="x" * 5000), b"{}")
    assert light.size > 5000
