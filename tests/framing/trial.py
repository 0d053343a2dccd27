"""Send one hostile request to a sidecar, and hold what came out at both ends against the rules."""

import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import h11

from tests.edge.wire import BOUND, Client, Front, Said, bound, get
from tests.framing.fields import OF_THE_CONNECTION
from tests.framing.hostile import SHAPES, Case
from tests.framing.recording import Recording
from tests.kit.framing import Framing

# Comes behind each case: where the request before it was whole, it ends the connection.
LAST = get("/sentinel", "Connection: close")
# Where no strict reader finds a whole request, the sidecar may wait for more; so long is enough.
GRACE = 0.25  # seconds
_SPACES = re.compile(rb" +(?=HTTP/1\.1\r)")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_ABSOLUTE = re.compile(rb"(?m)^([A-Z]+ )https?://[^/ \r\n]*/?(?=[!-~]* HTTP/1\.1\r)")
RULES = '[tools."look"]\nread_only = true\n'
SETTINGS = {
    "MCP_ALLOWED_HOSTS": "*",
    "MCP_CACHE_TTL": "3000",
    "MCP_CACHE_QUARANTINE": "0",  # or the first write that is broken off would end all hits
    # a body of 2 KiB that is not wanted whole is streamed; so both ways are walked
    "MCP_BUFFER_LIMIT": "2048",
}


@dataclass
class Tally:
    """How cases ended; what is wrong stands there by name."""

    tried: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@dataclass
class Seen:
    """What one case led to."""

    said: bytes = b""  # to the client
    asked: list[Said] = field(default_factory=list)  # of the server
    waited: bool = False  # nothing came within the grace
    ended: bool = False


async def judge_all(front: Front, server: Recording, cases: Iterable[Case]) -> Tally:
    """Try all cases, one after the other."""
    tally = Tally()
    for case in cases:
        tally.tried += 1
        seen = await _sent(front, server, case, GRACE)
        end, wrong = verdict(case, seen, server)
        if end == "hung" and seen.waited:  # or it was slow, as all was just then
            seen = await _sent(front, server, case, BOUND)
            end, wrong = verdict(case, seen, server)
        tally.ends[end] += 1
        tally.wrong += [f"{case.name}: {what}" for what in wrong]
        if wrong:
            tally.wrong[-1] += f"; sent {case.raw[:300]!r}"
            for tape in server.tapes:
                tape.framing.violations.clear()
    return tally


async def _sent(front: Front, server: Recording, case: Case, grace: float) -> Seen:
    seen = Seen()
    strict = Framing()
    strict.feed(as_strict(case.raw + LAST))
    whole = not strict.violations and not strict.unfinished
    async with front.client() as client:
        if case.warm is not None:
            for _ in range(2):
                warmed = await client.ask(SHAPES[case.warm])
                assert warmed.status == 200, warmed
        before = len(server.asked)
        with suppress(ConnectionError):
            await client.send(*case.pieces, LAST)
        await _listen(client, seen, BOUND if whole else grace)
    seen.asked = server.asked[before:]
    return seen


async def _listen(client: Client, seen: Seen, patience: float) -> None:
    """Take what comes until the connection ends; leave, where the sidecar waits for more."""
    try:
        with suppress(TimeoutError):
            async with bound(patience):
                await _read(client, seen)
        if seen.ended:
            return
        seen.waited = True
        with suppress(TimeoutError):
            client.writer.write_eof()
            async with bound(BOUND):
                await _read(client, seen)
    except OSError:
        seen.ended = True


async def _read(client: Client, seen: Seen) -> None:
    while data := await client.reader.read(1 << 16):
        seen.said += data
    seen.ended = True


def verdict(case: Case, seen: Seen, server: Recording) -> tuple[str, list[str]]:
    """Return how a case ended, and what is wrong with that."""
    strict = Framing()
    strict.feed(as_strict(case.raw + LAST))
    whole = list(strict.requests)
    try:
        statuses = answers(seen.said, [said.method for said in whole])
    except h11.RemoteProtocolError as error:
        return "flagged", [f"the client gets no HTTP: {error} in {seen.said[:200]!r}"]
    wrong = [*server.violations, *_smuggled(seen, whole, statuses)]
    for said in seen.asked:
        wrong += _misframed(said, whole)
    if wrong:
        return "flagged", wrong
    if not seen.ended or (seen.waited and strict.count > len(statuses)):
        return "hung", [f"no end: {statuses} for {strict.count} requests"]
    if any(status >= 500 for status in statuses):
        return "5xx", [f"a failure of ours: {seen.said[:300]!r}"]
    if any(said.target != "/sentinel" for said in seen.asked):
        return "forwarded", []
    if seen.waited:
        return "unfinished", []
    # what was asked before is known, and answered without the server
    good = sum(status < 400 for status in statuses) - len(seen.asked)
    return ("answered" if good else "refused"), []


def as_strict(raw: bytes) -> bytes:
    """Return a request without what RFC 9112 (2.2, 3, 3.2.2) lets a reader take, and `Framing` does not.

    So the reading that says which requests there are goes on where the sidecar may go on.
    """
    return _SPACES.sub(b" ", _ABSOLUTE.sub(rb"\1/", raw.lstrip(b"\r\n")))


def answers(said: bytes, methods: list[str]) -> list[int]:
    """Return the statuses of all final answers; raises h11.RemoteProtocolError."""
    statuses = []
    asked = iter(methods)
    while said.removeprefix(_CONTINUE):  # a body that was waited for and did not come
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        method = next(asked, "GET")
        if method == "CONNECT" or _is_unread(said):
            method = "GET"  # its refusal is no tunnel, and may have a body
        connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(said)
        connection.receive_data(b"")
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                statuses.append(event.status_code)
            if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed | type(h11.PAUSED)):
                raise h11.RemoteProtocolError("an answer without end")
        said = connection.trailing_data[0]
    return statuses


def _is_unread(said: bytes) -> bool:
    """Tell whether a 400 is of who could not read the request; then it knows of no HEAD either."""
    head, _, rest = said.partition(b"\r\n\r\n")
    last = b"Connection: close" in head
    return head.startswith(b"HTTP/1.1 400 ") and last and rest.startswith(b"{")


def _smuggled(seen: Seen, whole: list[Said], statuses: list[int]) -> list[str]:
    """A request that the server sees must be one that the client made, and got an answer to."""
    accepted = sum(status < 400 for status in statuses)
    if seen.waited:  # who is left behind gets no answer; but what was not whole stays so
        accepted = max(accepted, len(whole))
    wrong = []
    if len(seen.asked) > accepted:
        lines = [said.line for said in seen.asked]
        wrong.append(f"{lines} at the server, {accepted} whole or answered")
    own = {said.target for said in whole}
    hidden = ("/marker", "/trailer", "/sentinel")
    wrong += [
        f"{said.line} was hidden in another request"
        for said in seen.asked
        if said.target.startswith(hidden) and said.target not in own and said.target != "/sentinel"
    ]
    return wrong


def _misframed(said: Said, whole: list[Said]) -> list[str]:
    """The connection's own fields stay here, and one field says how long a body is."""
    named = {
        name.strip().lower()
        for one in whole
        for line in one.all("Connection")
        for name in line.split(",")
    }
    stay = (OF_THE_CONNECTION - {"transfer-encoding"}) | (named & {"x-hop"}) | {"expect"}
    if said.all("Upgrade") == ["websocket"] and said.all("Connection") == ["Upgrade"]:
        stay -= {"upgrade", "connection"}  # a handshake of our own
    wrong = [f"{name} went on" for name, _ in said.headers if name.lower() in stay]
    lengths = len(said.all("Content-Length")) + len(said.all("Transfer-Encoding"))
    least = said.method in {"POST", "PUT", "PATCH"} or bool(said.body)
    if not least <= lengths <= 1:
        wrong.append(f"{lengths} lengths in {said.line}")
    return wrong
