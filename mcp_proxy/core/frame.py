"""The form in which an answer is kept: one versioned piece of bytes, the same in every store.

    magic (4) · numbers (40, _NUMBERS) · header lines, as in HTTP · body

The numbers say when it was stored (seconds of the epoch, so that several machines can judge it),
on which terms it is kept, where in the body the JSON-RPC id stood, and how long the lines are. A hit
reads this each time: fixed places take a third of the time of a JSON head. Never pickle: a store
that others can write to must not be able to run code here.
"""

from functools import lru_cache
from math import isfinite
from struct import Struct, error
from typing import NamedTuple

from multidict import CIMultiDict, CIMultiDictProxy

from mcp_proxy.core.call import Headers
from mcp_proxy.core.freshness import Terms
from mcp_proxy.core.headers import SMALL, as_bytes, as_text, is_sound

_MAGIC = b"mcs3"
# magic; stored, fresh, revalidate, on_error; begin and end of the id (-1: none), length of the lines
_NUMBERS = Struct(">4sddddiiI")
_REMEMBERED = 256
# They are said anew for each answer, and are in no frame of ours.
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding", "x-request-id"})


class Frame(NamedTuple):
    """A stored answer."""

    headers: Headers
    body: bytes
    stored: float  # seconds of the epoch
    terms: Terms
    id_span: tuple[int, int] | None = None  # None: there is no id to put in
    lines: str = ""  # the headers as they are spelled, once that has been worked out

    def age(self, now: float) -> float:
        """Return the seconds since it was stored; a clock that went back makes no answer young."""
        return max(0.0, now - self.stored)

    @property
    def kept(self) -> float:
        """Return the seconds after which it is of no use any more."""
        return self.terms.fresh + max(self.terms.revalidate, self.terms.on_error)

    def body_for(self, id_token: bytes) -> bytes:
        """Return the body with the caller's own id, everything else as the server spelled it."""
        if self.id_span is None:
            return self.body
        start, end = self.id_span
        return b"".join((self.body[:start], id_token, self.body[end:]))


def pack(frame: Frame) -> bytes:
    """Return the bytes of a frame."""
    lines = as_bytes("".join([f"{name}: {value}\r\n" for name, value in frame.headers.items()]))
    numbers = _NUMBERS.pack(
        _MAGIC, frame.stored, *frame.terms, *(frame.id_span or (-1, -1)), len(lines)
    )
    return b"".join((numbers, lines, frame.body))


def unpack(data: bytes) -> Frame | None:
    """Return the frame in `data`, or None when it is not one of ours: then it is a miss."""
    try:
        magic, stored, *terms, begin, end, length = _NUMBERS.unpack_from(data)
    except error:
        return None
    at = _NUMBERS.size + length
    size = len(data) - at
    # a sum of numbers is finite if all are
    if magic != _MAGIC or size < 0 or not isfinite(stored + sum(terms)):
        return None
    spelled = data[_NUMBERS.size : at]
    headers, lines = _met_headers(spelled) if length <= SMALL else _headers(spelled)
    spanned = begin >= 0
    if headers is None or (spanned and not begin < end <= size):
        return None
    span = (begin, end) if spanned else None
    return Frame(headers, data[at:], stored, Terms(*terms), span, lines)


def _headers(spelled: bytes) -> tuple[Headers | None, str]:
    """Return the headers in header lines, and the lines; None when they would inject something."""
    lines = as_text(spelled)
    pairs = []
    for line in lines.split("\r\n")[:-1]:
        name, colon, value = line.partition(": ")
        if not colon or not name or name.lower() in _FRAMING:
            return None, ""
        pairs.append((name, value))
    if not is_sound(lines.replace("\r\n", "")):
        return None, ""
    return CIMultiDictProxy(CIMultiDict(pairs)), lines


# Answers that a server gives within a second often have the same header lines.
_met_headers = lru_cache(_REMEMBERED)(_headers)
