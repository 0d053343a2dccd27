"""Answers that no honest server gives: a good one, changed in one to three places, from a seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.framing import hostile
from tests.framing.hostile import Draft, Mutation, damaged, pieces_of

# What stands behind an answer, or hidden in one, and may never be taken for the next.
EVIL = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 6\r\n\r\n"EVIL"'
GOOD = (
    b'{"jsonrpc": "2.0", "id": 7, "result": {"content": []}, '
    b'"success": true, "data": "GOOD", "error": null}'
)
_FLOOD = 2000  # interim answers


@dataclass(frozen=True)
class Lie:
    """What a server says, in which pieces, and what it says later, unasked."""

    name: str
    pieces: tuple[bytes, ...]
    late: bytes = b""
    closes: bool = False


def status_line(draft: Draft, rng: random.Random) -> None:
    draft.line = rng.choice(
        [
            ["HTTP/1.1", "200"], ["HTTP/1.1", "", "200", "OK"], ["HTTP/1.1", "abc", "OK"],
            ["HTTP/1.1", "99", "x"], ["HTTP/1.1", "1000", "x"], ["HTTP/1.1", "-1", "x"],
            ["HTTP/2", "200", "OK"], ["HTTP/1.0", "200", "OK"], ["HTTP/0.9", "200", "OK"],
            ["200", "OK"], [""], ["HTTP/1.1", "200", "O\x00K"], ["HTTP/1.1", "200", "O\rK"],
            ["HTTP/1.1\t200\tOK"], ["http/1.1", "200", "ok"], ["HTTP/1.1", "200", "x" * 70_000],
            ["ICY", "200", "OK"], ["HTTP/1.1", "101", "Switching"], ["HTTP/1.1", "100", "Continue"],
            ["HTTP/1.1", "204", "No"], ["HTTP/1.1", "304", "Not"], ["HTTP/1.1", "199", "x"],
            ["HTTP/1.1", "600", "x"], ["HTTP/1.1", "999", "x"], ["HTTP/1.1", "20", "OK"],
            ["HTTP/1.1", "200OK"], ["HTTP/1.1", "205", "Reset"], ["HTTP/1.1", "200", "\xe9"],
            ["HTTP/1.1", "200", "OK\r\nX: y"], ["HTTP/1.1", "+200", "OK"], ["HTTP/1.1", "0", "OK"],
            ["HTTP/1.1", "407", "x"], ["HTTP/1.1", "426", "x"], ["HTTP/1.1", "500", "x"],
        ]
    )  # fmt: skip


def interim(draft: Draft, rng: random.Random) -> None:
    once = rng.choice(
        [
            b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
            b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
            b"HTTP/1.1 150 x\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 100\r\n\r\n",
        ]
    )  # fmt: skip
    draft.before = once * rng.choice([1, 1, 2, _FLOOD])


def behind(draft: Draft, rng: random.Random) -> None:
    draft.after = rng.choice(
        [EVIL, EVIL * 3, b"\x00", b"\r\n", b"EVIL", EVIL[:20], b"0\r\n\r\n", b"\n"]
    )


def unasked(draft: Draft, rng: random.Random) -> None:
    """Say nothing wrong now: what comes late is the point."""


def length_lies(draft: Draft, rng: random.Random) -> None:
    size = len(draft.body)
    draft.set("Content-Length", f" {size + rng.choice([-size, -1, -2, 1, 5, 10**6])}")
    draft.body += rng.choice([b"", draft.marker])


def coded(draft: Draft, rng: random.Random) -> None:
    coding = rng.choice(["gzip", "deflate", "br", "zstd", "identity", "x", "gzip, gzip", "\x00"])
    draft.fields.append(f"Content-Encoding: {coding}")


def events(draft: Draft, rng: random.Random) -> None:
    draft.set("Content-Type", " text/event-stream")
    good = b"data: " + draft.body + b"\n\n"
    draft.body = rng.choice(
        [
            good, good * 2, b"data: {\n\n" + good, b"\xff\xfe\x00\n\n" + good, good[:-2], b":" * 9000,
            b"\r\r\n\n\r" + good, b"data: " + b"[" * 5000 + b"\n\n", b"id: a\x00b\n" + good, b"",
            b"retry: 1e9\n" + good, good.replace(b"7", b'"7"'), good.replace(b"7", b"8"), b"\n" * 3000,
        ]
    )  # fmt: skip
    size = len(draft.body)
    draft.set("Content-Length", *rng.choice([[f" {size}"], [f" {size}"], []]))


LIES: tuple[Mutation, ...] = (
    status_line, interim, behind, unasked, length_lies, coded, events,
    hostile.both_lengths, hostile.transfer_coding, hostile.content_length, hostile.two_lengths,
    hostile.no_length, hostile.chunks, hostile.marker_in_chunks, hostile.line_ends, hostile.folded,
    hostile.odd_field, hostile.too_long, hostile.hop_by_hop, hostile.garbage_around,
)  # fmt: skip


def lies(seed: int, count: int) -> Iterator[Lie]:
    """Yield so many; each kind of change comes first as often as the others."""
    for number in range(count):
        rng = random.Random(f"{seed}.{number}.lie")
        fields = ["Content-Type: application/json", f"Content-Length: {len(GOOD)}"]
        draft = Draft(["HTTP/1.1", "200", "OK"], fields, GOOD, number, EVIL)
        changes = [LIES[number % len(LIES)], *rng.sample(LIES, rng.choice([0, 0, 1, 2]))]
        for change in changes:
            change(draft, rng)
        raw = draft.bytes()
        if rng.random() < 0.1:
            raw = damaged(raw, rng)
        if rng.random() < 0.1:
            raw = raw[: rng.randrange(len(raw))]
        names = "+".join(change.__name__ for change in changes)
        late = rng.choice([b"", b"", b"", EVIL, EVIL[:30], b"\r\n", b"x"])
        yield Lie(
            f"{seed}.{number} {names}",
            pieces_of(raw, rng),
            late,
            closes=not late and rng.random() < 0.8,
        )
