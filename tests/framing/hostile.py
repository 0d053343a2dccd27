"""Requests that no honest client sends: shapes that the sidecar knows, changed in one to three places.

All comes from a seed, so that a case can be had again by its number.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tests.edge.wire import post, tool

LOOK = {"service": "jira", "tool_name": "look", "params": {"key": "OPS-1"}}
# What the express way knows after it was asked once: a hit of the REST API, and one of MCP.
SHAPES = {
    "rest": post("/api/call-tool", LOOK),
    "mcp": post("/mcp", tool("look", 7, key="OPS-1")),
}
_LONG = "a" * 70_000
_CONTROLS = "\x00\x01\x08\x0b\x0c\x1f\x7f\x80\xa0\xff"


@dataclass
class Draft:
    """A request in parts; a mutation changes some of them."""

    line: list[str]  # method, target, version
    fields: list[str]
    body: bytes
    number: int
    marker: bytes = b""  # stands in a body, and so may never be read as a message of its own
    ends: dict[int, str] = field(default_factory=dict)  # line ends that are not CRLF, by line
    before: bytes = b""
    after: bytes = b""

    def __post_init__(self) -> None:
        self.marker = self.marker or (
            b"GET /marker-%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % self.number
        )

    def bytes(self) -> bytes:
        lines = [" ".join(self.line), *self.fields, ""]
        head = "".join(text + self.ends.get(at, "\r\n") for at, text in enumerate(lines))
        return self.before + head.encode("latin-1") + self.body + self.after

    def set(self, name: str, *values: str) -> None:
        """Replace all fields of a name by these; a value may bring its own blanks."""
        self.fields = [one for one in self.fields if not one.lower().startswith(name.lower())]
        self.fields += [f"{name}:{value}" for value in values]


@dataclass(frozen=True)
class Case:
    """What one client sends, and in which pieces."""

    name: str
    pieces: tuple[bytes, ...]
    warm: str | None = None  # the shape that was asked before on this connection

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)


Mutation = Callable[[Draft, random.Random], None]


# --- how long a body is


def both_lengths(draft: Draft, rng: random.Random) -> None:
    chunked = b"0\r\n\r\n" + draft.marker
    draft.body = rng.choice([chunked, draft.body + draft.marker])
    lengths = [str(len(draft.body)), "0", "5", str(len(draft.body) + 1)]
    both = [f"Content-Length: {rng.choice(lengths)}", f"Transfer-Encoding: {_coding(rng)}"]
    draft.set("Content-Length")
    draft.fields += rng.sample(both, 2)


def _coding(rng: random.Random) -> str:
    control = rng.choice(_CONTROLS)
    return rng.choice(
        [
            "chunked", "Chunked", "CHUNKED", "chunked, chunked", "gzip, chunked", "identity",
            "chunked, identity", "xchunked", "chunkedx", '"chunked"', "chunked;q=1", "\tchunked",
            "chunked\t", ",chunked", "chunked,", "", ",", "chu nked", f"chunked{control}",
            f"{control}chunked", "chunked\r\n ", "\r\n chunked", "chunked\n", "chunked\r",
        ]
    )  # fmt: skip


def transfer_coding(draft: Draft, rng: random.Random) -> None:
    draft.body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(draft.body), draft.body)
    draft.set("Content-Length")
    draft.set("Transfer-Encoding", " " + _coding(rng))
    if rng.random() < 0.2:
        draft.fields.append("Transfer-Encoding: " + _coding(rng))


def content_length(draft: Draft, rng: random.Random) -> None:
    size = len(draft.body)
    draft.body += rng.choice([b"", draft.marker])
    control = rng.choice(_CONTROLS)
    value = rng.choice(
        [
            f"+{size}", f"-{size}", "-1", f"0x{size:x}", f"{size}, {size}", f"{size} {size}",
            f"0{size}", f"{size}{control}", f"{control}{size}", f"{size}abc", "", " ", f"{size};",
            str(2**63), str(2**64 + size), "9" * 5000, f"{size}.0", f"{size}_0", "1e2", "0",
            f"\t{size}", f"{size}\t ", f'"{size}"', f"{size},", f"{size}\r\n ", f"\r\n {size}",
            "\xb2", "0b10", str(size + 1), str(len(draft.body)), str(max(size - 1, 0)),
        ]
    )  # fmt: skip
    draft.set("Content-Length", " " + value)


def two_lengths(draft: Draft, rng: random.Random) -> None:
    size = len(draft.body)
    draft.body += draft.marker
    other = rng.choice([size, 0, len(draft.body), size + 1])
    values = [f" {size}", f" {other}"]
    draft.set("Content-Length", *rng.sample(values, 2))
    if rng.random() < 0.3:
        draft.fields[-1] = draft.fields[-1].replace("Content-Length", "content-length")


def no_length(draft: Draft, rng: random.Random) -> None:
    draft.set("Content-Length")
    draft.body = rng.choice([b"", draft.marker])


# --- chunks


def chunks(draft: Draft, rng: random.Random) -> None:
    draft.set("Content-Length")
    draft.set("Transfer-Encoding", " chunked")
    data = draft.body or b"abcde"
    size = f"{len(data):x}"
    control = rng.choice(_CONTROLS)
    line = rng.choice(
        [
            size, f"0x{size}", f"+{size}", f"-{size}", f" {size}", f"{size} ", f"{size};a=b",
            f"{size};", f"{size} ;a", f'{size};a="b\r\n"', f"0000{size}", f"{size}_0",
            "f" * 17, "1" + "0" * 16 + size, f"{size}{control}", f"{size};{control}", f"{size};a\n",
            f"{size}\r", f"{size};{_LONG}", f"{len(data) + 1:x}", f"{max(len(data) - 1, 0):x}", "",
            "g", f"{size};a=b;c", f"{size.upper()}", "0" * 40 + size, f"{size}\t", f"{size};\x00",
        ]
    )  # fmt: skip
    end = rng.choice(["\r\n"] * 4 + ["\n", "\r", "\r\r\n", ""])
    after = rng.choice(["\r\n"] * 6 + ["\n", "\r", "", "XX", "\r\nX"])
    last = rng.choice(["0"] * 6 + ["00", "0;a", "-0", "0x0", "", " 0", "0\x00"])
    body = f"{line}{end}".encode("latin-1") + data + after.encode()
    body += f"{last}\r\n{_trailers(rng)}".encode("latin-1")
    draft.body = body + rng.choice([b"\r\n"] * 6 + [b"\n", b"\r\r\n", b"", b"\r\nX"])


def _trailers(rng: random.Random) -> str:
    return rng.choice(
        [""] * 6
        + [
            "X-Sum: 1\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n",
            "Host: evil\r\n", "X: a\r\n b\r\n", "X : a\r\n", "X: \x00\r\n", "no colon\r\n", ": a\r\n",
            "X: a\n", f"X: {_LONG}\r\n", "X: a\r\n" * 200, "GET /trailer HTTP/1.1\r\n",
        ]
    )  # fmt: skip


def cut_short(draft: Draft, rng: random.Random) -> None:
    """Break off in a body that is streamed: the server may never take it for a whole one."""
    data = draft.marker * 100
    left = rng.randrange(1, len(data))
    draft.set("Content-Length")
    if rng.random() < 0.5:
        draft.set("Content-Length", f" {len(data)}")
        draft.body = data[:left]
    else:
        draft.set("Transfer-Encoding", " chunked")
        chunks_of = b"".join(
            b"%x\r\n%b\r\n" % (len(draft.marker), draft.marker) for _ in range(100)
        )
        draft.body = chunks_of[:left]


def marker_in_chunks(draft: Draft, rng: random.Random) -> None:
    draft.set("Content-Length")
    draft.set("Transfer-Encoding", " chunked")
    data = draft.marker
    shown = rng.choice([len(data), len(data) - 1, len(data) + 2, 0])
    draft.body = b"%x%b\r\n%b\r\n0\r\n\r\n" % (shown, rng.choice([b"", b";a", b" ", b";\n"]), data)


# --- lines


def line_ends(draft: Draft, rng: random.Random) -> None:
    at = rng.randrange(len(draft.fields) + 2)
    draft.ends[at] = rng.choice(
        ["\n", "\r", "\r\r\n", "\n\r", "\n\n", "", "\r\n ", "\x0b", "\r\n\t"]
    )


def folded(draft: Draft, rng: random.Random) -> None:
    at = rng.randrange(len(draft.fields)) if draft.fields else 0
    hidden = rng.choice(["Content-Length: 0", "Transfer-Encoding: chunked", "folded", "\x00", ""])
    draft.fields.insert(at, rng.choice([" ", "\t", "  "]) + hidden)


def odd_field(draft: Draft, rng: random.Random) -> None:
    control = rng.choice(_CONTROLS + "\r\n")
    size = len(draft.body)
    name = rng.choice(["Content-Length", "Transfer-Encoding", "Host", "X-A", "Connection"])
    value = {"Content-Length": str(size), "Transfer-Encoding": "chunked"}.get(name, "localhost")
    odd = rng.choice(
        [
            f"{name} : {value}", f"{name}\t: {value}", f"{name}{control}: {value}",
            f"{control}{name}: {value}", f"{name}:{control}{value}", f"{name}: {value}{control}",
            f"{name} {value}", f": {value}", f"{name}", f"({name}): {value}", f"{name};: {value}",
            f"X: a\r{name}: {value}", f"X: a\n{name}: {value}", f"X: a\r\r\n{name}: {value}",
            f"X: a\x00{name}: {value}", f'"{name}": {value}', f"{name.replace('-', '_')}: {value}",
            f"X\xe9: {value}", f"{name}:: {value}", f"X: \xe9\xff{value}",
        ]
    )  # fmt: skip
    draft.fields.insert(rng.randrange(len(draft.fields) + 1), odd)


def hosts(draft: Draft, rng: random.Random) -> None:
    draft.set(
        "Host",
        *rng.choice(
            [
                [], [" localhost", " evil"], [" localhost", " localhost"], [""], [" a, b"],
                [" localhost@evil"], [" localhost/evil"], [" local host"], [" localhost:99999"],
                [" [::1"], [" localhost#"], [" \x00"], [" localhost:80:80"], [" \xe9"], [" ?"],
            ]
        ),
    )  # fmt: skip


def too_long(draft: Draft, rng: random.Random) -> None:
    kind = rng.randrange(5)
    if kind == 0:
        draft.fields.append(f"X-Long: {_LONG}")
    elif kind == 1:
        draft.fields.append(f"{_LONG}: x")
    elif kind == 2:
        draft.fields += [f"X-{number}: x" for number in range(300)]
    elif kind == 3:
        draft.line[1] += "?" + _LONG
    else:
        draft.line[0] = _LONG


# --- the request line


def target(draft: Draft, rng: random.Random) -> None:
    draft.line[1] = rng.choice(
        [
            "http://evil/", "http://localhost/api/health", "https://localhost/", "*", "evil:443",
            "", "api", "/a b", "/a\tb", "/a\x00b", "/\xe9", "//evil/", "/\\evil", "/#frag", "/?#",
            "/a\rb", "/a\nb", "/%00", "/%0d%0aX:%20y", "?", "http:///", "@evil", "/a\x7f", "/a\x0b",
            "/api/call-tool?a=1", "/mcp#x", "/mcp/", "/.", "/..", "http://localhost:8000@evil/",
        ]
    )  # fmt: skip


def method(draft: Draft, rng: random.Random) -> None:
    draft.line[0] = rng.choice(
        [
            "get", "GE T", "", "CONNECT", "TRACE", "PRI", "GET\t", "G\x00T", "GET,", "PURGE", "OPTIONS",
            "DELETE", "PUT", "PATCH", "FROB", "GET\r\n", "\nGET", "(GET)", "HEAD", "M-SEARCH", "QUERY",
        ]
    )  # fmt: skip


def version(draft: Draft, rng: random.Random) -> None:
    draft.line[2:] = rng.choice(
        [
            ["HTTP/1.0"], ["HTTP/0.9"], ["HTTP/2.0"], ["HTTP/1.10"], ["http/1.1"], ["HTTP/1.1 "],
            [], ["HTTP/1.1x"], ["HTTP/11"], ["HTTP/1,1"], ["HTTP/ 1.1"], ["", "HTTP/1.1"], ["HTTP/1.2"],
            ["HTTP/1.1", "HTTP/1.1"], ["RTSP/1.0"], ["HTTP/1.1\x00"], ["HTTP/-1.1"], ["HTTP/1."],
        ]
    )  # fmt: skip


# --- hop by hop


def hop_by_hop(draft: Draft, rng: random.Random) -> None:
    draft.fields += rng.choice(
        [
            ["Connection: close, X-Hop", "X-Hop: 1"], ["Connection: x-hop", "X-Hop: 1"],
            ["Connection: Content-Length"], ["Connection: host"], ["TE: trailers", "Connection: TE"],
            ["Keep-Alive: timeout=5"], ["Proxy-Connection: keep-alive"], ["Connection: ,,"],
            ["Proxy-Authorization: Basic eA=="], ["Trailer: X-Sum"], ["Connection: authorization"],
            ["Connection: keep-alive", "Connection: close"], ["Connection: transfer-encoding"],
            ["Connection: close"], ["Connection: keep-alive, X-Hop", "X-Hop: 1", "X-Hop: 2"],
        ]
    )  # fmt: skip


def expectation(draft: Draft, rng: random.Random) -> None:
    said = rng.choice(["100-continue", "100-Continue", "200-ok", "", "100-continue, x", "x\x00"])
    draft.fields.append(f"Expect: {said}")


def upgrade(draft: Draft, rng: random.Random) -> None:
    if rng.random() < 0.5:
        draft.line[0] = "GET"
    draft.fields += [
        "Connection: Upgrade" + rng.choice(["", ", HTTP2-Settings", ", close", ",Upgrade"]),
        "Upgrade: "
        + rng.choice(["websocket", "h2c", "WebSocket", "websocket, h2c", "TLS/1.0", ""]),
    ]
    if rng.random() < 0.5:
        draft.fields += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]


# --- around it


def pipelined(draft: Draft, rng: random.Random) -> None:
    more = b"GET /pipelined-%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % draft.number
    draft.after += more * rng.choice([1, 2, 5])
    if rng.random() < 0.3:
        draft.after += rng.choice([*SHAPES.values()])


def garbage_around(draft: Draft, rng: random.Random) -> None:
    junk = rng.choice(
        [b"\r\n", b"\n", b"\r\n\r\n", b"\x00", b" ", b"\x16\x03\x01", b"0\r\n\r\n", b"\r"]
    )
    if rng.random() < 0.5:
        draft.before = junk
    else:
        draft.after = junk + draft.after


MUTATIONS: tuple[Mutation, ...] = (
    both_lengths, transfer_coding, content_length, two_lengths, no_length, chunks, marker_in_chunks,
    cut_short, line_ends, folded, odd_field, hosts, too_long, target, method, version, hop_by_hop, expectation,
    upgrade, pipelined, garbage_around,
)  # fmt: skip


def _drafts(number: int) -> dict[str, Draft]:
    known = {}
    for name, raw in SHAPES.items():
        head, _, body = raw.partition(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        known[name] = Draft(line.split(" "), fields, body, number)
    host = "Host: localhost"
    return known | {
        "get": Draft(["GET", f"/page-{number}", "HTTP/1.1"], [host, "Accept: */*"], b"", number),
        "form": Draft(
            ["POST", f"/form-{number}", "HTTP/1.1"], [host, "Content-Length: 5"], b"a=b&c", number
        ),
    }


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """Change bytes without regard to what they mean, most often in the head."""
    at = rng.randrange(max(1, min(len(raw), 200)))
    kind = rng.randrange(4)
    if kind == 0:
        return raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :]
    if kind == 1:
        return raw[:at] + raw[at + rng.randrange(1, 4) :]
    if kind == 2:
        return raw[:at] + bytes(rng.choices(b"\r\n\x00 :,;\t0a", k=rng.randrange(1, 4))) + raw[at:]
    return raw[:at] + raw[at : at + rng.randrange(1, 40)] + raw[at:]


def pieces_of(raw: bytes, rng: random.Random) -> tuple[bytes, ...]:
    """Return the bytes as they are sent: at once, or so that a boundary falls where it may hurt."""
    kind = rng.randrange(6)
    if kind == 0:
        cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(rng.randrange(1, 4)))
    elif kind == 1:
        cuts = [raw.find(b"\r\n\r\n") + rng.randrange(1, 7)]
    else:
        cuts = []
    edges = [0, *cuts, len(raw)]
    return tuple(raw[a:b] for a, b in itertools.pairwise(edges) if a < b)


def requests(seed: int, count: int) -> Iterator[Case]:
    """Yield so many cases; each kind of change comes first as often as the others."""
    for number in range(count):
        rng = random.Random(f"{seed}.{number}")
        draft_name, draft = rng.choice([*_drafts(number).items()])
        first = MUTATIONS[number % len(MUTATIONS)]
        changes = [first, *rng.sample(MUTATIONS, rng.choice([0, 0, 1, 2]))]
        for change in changes:
            change(draft, rng)
        raw = draft.bytes()
        if rng.random() < 0.2:
            raw = damaged(raw, rng)
        names = "+".join(change.__name__ for change in changes)
        warm = draft_name if draft_name in SHAPES and rng.random() < 0.7 else None
        yield Case(f"{seed}.{number} {draft_name} {names}", pieces_of(raw, rng), warm)


def aligned(seed: int, count: int) -> Iterator[Case]:
    """Yield what stands behind a head that the express way knows, byte for byte."""
    for number in range(count):
        rng = random.Random(f"{seed}.{number}.aligned")
        warm = rng.choice([*SHAPES])
        raw = SHAPES[warm]
        head, _, body = raw.partition(b"\r\n\r\n")
        draft = replace(_drafts(number)[warm])
        raw = rng.choice(
            [
                raw, raw + raw, head + b"\r\n\r\n" + body[:-1] + b"]", raw + draft.marker[:20],
                raw + b"GET /pipelined-%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number,
                head + b"\r\n\r\n" + draft.marker.ljust(len(body))[: len(body)],
                head + b"\r\n\r\n" + body[: len(body) // 2], b"\r\n" + raw,
                head + b"\r\n\r\n" + body[::-1], raw + b"\x00", raw * 5,
                head.replace(b"\r\n", b"\n") + b"\n\n" + body, head + b"\r\n\r\n" + raw,
                head + b"\r\nX: y\r\n\r\n" + body, raw[:-1], head.lower() + b"\r\n\r\n" + body,
            ]
        )  # fmt: skip
        yield Case(f"{seed}.{number} {warm} aligned", pieces_of(raw, rng), warm)
