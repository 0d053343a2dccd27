"""Ask a sidecar whose server lies, and hold what the client gets against the rules."""

import itertools
import json
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import h11

from tests.edge.wire import Client, Front, bound, get, post, request, tool
from tests.fakes import settle
from tests.framing.liar import TRUTH, Liar
from tests.framing.lies import Lie
from tests.framing.trial import Tally

RULES = '[tools."look"]\nread_only = true\n'
PATIENCE = {
    "MCP_REQUEST_TIMEOUT": "1",
    "MCP_ATTEMPT_TIMEOUT": "0.6",
    "MCP_MAX_RETRIES": "1",
    "MCP_ENABLE_CIRCUIT_BREAKER": "false",
    "MCP_SESSION_RECOVERY": "false",
    "MCP_BUFFER_LIMIT": "2048",
}
_LONGEST = 5.0  # seconds until an answer is whole, or its connection closed


class Heard(NamedTuple):
    """What came as the answer to one request."""

    status: int = 0
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    whole: bool = False  # its framing says so
    hung: bool = False
    wrong: str = ""  # why it is no HTTP


def _asked(number: int) -> bytes:
    """Return a request of each kind in turn, each for something of its own."""
    call = {"service": "jira", "params": {"number": number}}
    return (
        get(f"/page-{number}"),
        post(f"/form-{number}", b"{}"),
        post("/api/call-tool", {**call, "tool_name": "look"}),
        post("/api/call-tool", {**call, "tool_name": "save"}),
        post("/mcp", tool("look", 7, number=number)),
        post("/mcp", tool("save", 7, number=number)),
        request("HEAD", f"/page-{number}"),
    )[number % 7]


async def judge_lies(front: Front, server: Liar, told: Iterable[Lie]) -> Tally:
    """Let all lies be told, one after the other; after each, ask for the truth."""
    tally = Tally()
    numbers = itertools.count()
    for lie in told:
        tally.tried += 1
        server.lie = lie
        asked = _asked(next(numbers))
        async with front.client() as client:
            await client.send(asked)
            heard = await listen(client, asked.partition(b" ")[0])
            server.go_on()
            await settle()
            end, wrong = judged(lie, heard)
            wrong += await _truths(front, client if heard.whole else None, next(numbers))
        tally.ends["flagged" if wrong and end not in {"5xx", "hung"} else end] += 1
        tally.wrong += [
            f"{lie.name}: {what}; {asked[:40]!r} got {heard.status} {heard.body[:200]!r}; "
            f"sent {b''.join(lie.pieces)[:300]!r}, late {lie.late!r}"
            for what in wrong
        ]
    return tally


async def listen(client: Client, method: bytes) -> Heard:
    """Take an answer to its end, or to that of its connection."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    status, headers, body = 0, (), b""
    try:
        async with bound(_LONGEST):
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    data = b""
                    with suppress(ConnectionError):
                        data = await client.reader.read(1 << 16)
                    connection.receive_data(data)
                elif isinstance(event, h11.Response):
                    status, headers = event.status_code, tuple(event.headers)
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    return Heard(status, headers, body, whole=True)
                elif isinstance(event, h11.ConnectionClosed):
                    return Heard(status, headers, body)
    except TimeoutError:
        return Heard(status, headers, body, hung=True)
    except h11.RemoteProtocolError as error:
        # the end of the connection in a body is how a cut answer is told
        cut = status and connection.trailing_data[1]
        return Heard(status, headers, body, wrong="" if cut else str(error))


def judged(lie: Lie, heard: Heard) -> tuple[str, list[str]]:
    """Return how a case ended, and what is wrong with that."""
    if heard.hung:
        return "hung", ["no end"]
    if heard.wrong or not heard.status:
        return "flagged", [f"the client gets no HTTP: {heard.wrong}"]
    names = {name.lower() for name, _ in heard.headers}
    wrong = [
        f"{name} went on" for name in (b"x-hop", b"keep-alive", b"te", b"trailer") if name in names
    ]
    if wrong:
        return "flagged", wrong
    own = str(heard.status).encode() in b"".join(lie.pieces)  # a failure that the server told
    if heard.status >= 500 and heard.body and not own and not _is_ours(heard):
        return "5xx", ["a failure without our structure"]
    if not heard.whole:
        return "cut", []
    return ("refused" if heard.status >= 500 or _is_ours(heard) else "forwarded"), []


def _is_ours(heard: Heard) -> bool:
    """Tell whether an answer is a structured error of the sidecar, in whichever dialect."""
    return b'"code":' in heard.body and b'"request_id":' in heard.body


async def _truths(front: Front, same: Client | None, number: int) -> list[str]:
    """Ask for the truth, on the client's connection and on a new one, in both pools."""
    wrong = []
    async with front.client() as other:
        for client in [one for one in (same, other) if one is not None]:
            for raw in (get(f"{TRUTH}{number}-get"), post(f"{TRUTH}{number}-post", b"{}")):
                target = raw.split(b" ")[1].decode()
                await client.send(raw)
                heard = await listen(client, raw.partition(b" ")[0])
                if heard.status != 200 or not heard.whole or json.loads(heard.body) != target:
                    wrong.append(f"{target} was answered {heard}")
                    return wrong
    return wrong
