"""The form in which an answer is kept: one versioned piece of bytes, the same in every store.

    magic (4) · length of the head (4, big endian) · head (JSON) · body

The head holds headers, when it was stored (seconds of the epoch, so that several machines
can judge it), on which terms it is kept, and where in the body the JSON-RPC id stood. Never pickle:
a store that others can write to must not be able to run code here.
"""

import json
from dataclasses import dataclass
from math import isfinite

from multidict import CIMultiDict, CIMultiDictProxy

from mcp_proxy.core.call import Headers
from mcp_proxy.core.freshness import Terms
from mcp_proxy.core.headers import is_sound

_MAGIC = b"mcs2"


@dataclass(frozen=True, slots=True)
class Frame:
    """A stored answer."""

    headers: Headers
    body: bytes
    stored: float  # seconds of the epoch
    terms: Terms
    id_span: tuple[int, int] | None = None  # None: there is no id to put in

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
    # json, not orjson: header bytes that are no UTF-8 come as lone surrogates, and must go back
    head = json.dumps(
        [list(frame.headers.items()), frame.stored, *frame.terms, frame.id_span]
    ).encode()
    return b"".join((_MAGIC, len(head).to_bytes(4, "big"), head, frame.body))


def unpack(data: bytes) -> Frame | None:
    """Return the frame in `data`, or None when it is not one of ours: then it is a miss."""
    if data[:4] != _MAGIC:
        return None
    end = 8 + int.from_bytes(data[4:8], "big")
    try:
        headers, stored, fresh, revalidate, on_error, span = json.loads(data[8:end])
        terms = Terms(fresh, revalidate, on_error)
        kept = CIMultiDict((str(name), str(value)) for name, value in headers)
        if not all(map(isfinite, (stored, *terms))) or not is_sound(*kept, *kept.values()):
            return None
        return Frame(
            CIMultiDictProxy(kept),
            data[end:],
            float(stored),
            Terms(*map(float, terms)),
            None if span is None else (int(span[0]), int(span[1])),
        )
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
        return None
