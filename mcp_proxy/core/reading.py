"""Read JSON only where every parser would read the same thing.

A decision about somebody else's request must not rest on a reading that the server behind may
not share (Go SDK CVE-2026-27896 is this class of mistake). So everything that Python, Node, Go or
orjson are known to read differently is refused here, and the caller treats the body as opaque:
doubled keys, numbers beyond 2**53, `-0`, numbers that overflow, NaN, lone surrogates, NUL escapes, a
BOM, other encodings than UTF-8, depth. Tables of such cases stand in tests/core/test_reading.py.
"""

import json
import re
from contextlib import suppress
from decimal import Decimal
from typing import Any

import orjson

Json = dict[str, Any]

# The largest integer that a double, and so JavaScript, holds exactly (RFC 8259 section 6).
_LARGEST = 2**53
# Read differently: escapes that make NUL or lone surrogates. Two that make one character are what
# Python writes of it by default, and all read them alike.
_PERHAPS_ODD = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_NOT_ODD = re.compile(
    rb"""(?:[^\\]++ | \\[^u] | \\u(?!0000|[dD][89a-fA-F])
    | \\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*+""",
    re.DOTALL | re.VERBOSE,
)


class AmbiguousError(ValueError):
    """The bytes are not JSON, or not JSON that all parsers agree on."""


def _members(pairs: list[tuple[str, Any]]) -> Json:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise AmbiguousError("doubled key")
    return members


def _integer(text: str) -> int:
    # The length goes first: int() of a very long text is slow, and refused from 4300 digits on.
    if len(text) > 17 or text == "-0":
        raise AmbiguousError("integer beyond 2**53, or -0")
    number = int(text)
    if not -_LARGEST <= number <= _LARGEST:
        raise AmbiguousError("integer beyond 2**53")
    return number


def _fraction(text: str) -> Decimal:
    # Kept as it was spelled: two spellings of one double are two calls to a server that reads
    # decimals, and 1e400 is infinite to some parsers and an error to others.
    number = Decimal(text) if len(text) <= 40 else Decimal("Infinity")
    fits_a_double = number.is_finite() and -300 < number.adjusted() < 300
    if not fits_a_double or (number == 0 and text.startswith("-")):
        raise AmbiguousError("number out of range, or -0.0")
    return number


def _constant(text: str) -> Any:
    raise AmbiguousError(text)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members,
    parse_int=_integer,
    parse_float=_fraction,
    parse_constant=_constant,
)


def read_json(data: bytes) -> Any:
    """Return the value that `data` spells; fractions come as Decimal, as they were spelled.

    Raises AmbiguousError for everything that is not JSON or that two parsers could read apart.
    """
    if _PERHAPS_ODD.search(data) and not _NOT_ODD.fullmatch(data):
        raise AmbiguousError("NUL or surrogate escape")
    try:
        # strict UTF-8: json.loads(bytes) would guess UTF-16 and UTF-32 and accept surrogates
        return _decoded(data.decode("utf-8"))
    except (ValueError, ArithmeticError, RecursionError) as error:  # Decimal has bounds, too
        raise AmbiguousError(str(error)) from None


def _decoded(text: str) -> Any:
    """Decode as JSONDecoder does, without its two looks for white space where there is none."""
    if text.startswith("{"):
        value, end = _DECODER.raw_decode(text)
        if end == len(text):
            return value
    return _DECODER.decode(text)


def read_object(data: bytes) -> Json | None:
    """Return the JSON object in `data`, or None when it is anything else or ambiguous."""
    try:
        value = read_json(data)
    except AmbiguousError:
        return None
    return value if isinstance(value, dict) else None


_UNIQUE = json.JSONDecoder(object_pairs_hook=_members)


def read_answer(data: bytes) -> Json | None:
    """Return the JSON object of an answer whose bytes are passed on as they are.

    Its numbers decide nothing, so they may be of any size; its keys may not be doubled, because
    the id and the result are looked up in it.
    """
    try:
        value = _UNIQUE.decode(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_loosely(data: bytes) -> Any:
    """Return the value of an answer that is only judged, if any client could read it.

    orjson refuses what Python and JavaScript write and read: lone surrogates, NaN, 1e400, a BOM.
    A server whose clients are content has not failed. Raises ValueError when nobody could, or
    when it is too deep for us.
    """
    with suppress(ValueError):
        return orjson.loads(data)
    try:
        return json.loads(data.decode("utf-8-sig"), parse_int=_any_integer)
    except RecursionError as error:
        raise ValueError(str(error)) from None


def _any_integer(text: str) -> float:
    # Python refuses to read more than 4300 digits, others do; no double has more than 309
    return int(text) if len(text) < 400 else float(text)


def is_too_deep(data: bytes) -> bool:
    """Tell whether an answer could not be read for its depth, which others may well follow."""
    try:
        json.loads(data.decode("utf-8", "replace"), parse_int=_any_integer)
    except RecursionError:
        return True
    except ValueError:
        pass
    return False


class Vocabulary:
    """The keys that decide something, and the keys that a careless reader takes for them.

    Go's encoding/json matches keys without regard to case, and folds U+017F (long s) and U+212A
    (Kelvin sign) as `casefold` does.
    """

    __slots__ = ("_exact", "_folded")

    def __init__(self, *names: str) -> None:
        self._exact = frozenset(names)
        self._folded = frozenset(map(str.casefold, names))

    def covers(self, members: Json) -> bool:
        """Tell whether there is no key but ours."""
        return self._exact.issuperset(members)

    def is_mimicked(self, members: Json) -> bool:
        """Tell whether a key is one of ours to a careless reader only."""
        return not self.covers(members) and any(
            key not in self._exact and key.casefold() in self._folded for key in members
        )
