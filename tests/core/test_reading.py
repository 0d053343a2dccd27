"""JSON that every parser reads alike, and F16's table of JSON that they do not."""

import json
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.reading import (
    AmbiguousError,
    Vocabulary,
    is_too_deep,
    read_answer,
    read_json,
    read_loosely,
    read_object,
)

ODD = {
    # two members, or one? first or last?
    "doubled key": b'{"a":1,"a":2}',
    "doubled key of equal value": b'{"a":1,"a":1}',
    "doubled key, spelled apart": b'{"a":1,"\\u0061":2}',
    "doubled key, deep": b'{"a":[{"b":{"c":1,"c":2}}]}',
    "doubled empty key": b'{"":1,"":2}',
    # no JSON, and yet read by some
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":Infinity}',
    "-Infinity": b'{"a":-Infinity}',
    "undefined": b'{"a":undefined}',
    "trailing comma": b'{"a":1,}',
    "trailing comma in a list": b'{"a":[1,]}',
    "comment": b'{"a":1/**/}',
    "single quotes": b"{'a':1}",
    "bare key": b"{a:1}",
    "trailing text": b'{"a":1} x',
    "two values": b'{"a":1}{"b":2}',
    "leading zero": b'{"a":01}',
    "leading plus": b'{"a":+1}',
    "bare point": b'{"a":.5}',
    "trailing point": b'{"a":5.}',
    "hexadecimal": b'{"a":0x10}',
    "underscore": b'{"a":1_000}',
    "digits of another script": '{"a":١}'.encode(),
    "raw line feed in a text": b'{"a":"b\nc"}',
    "raw tab in a text": b'{"a":"b\tc"}',
    "unknown escape": b'{"a":"\\x41"}',
    "cut": b'{"a":1',
    "nothing": b"",
    "space of another kind": '{"a":\u00a01}'.encode(),
    "form feed": b'{"a":\x0c1}',
    # numbers that languages round, overflow or lose the sign of
    "-0": b'{"a":-0}',
    "-0.0": b'{"a":-0.0}',
    "-0e5": b'{"a":-0e5}',
    "1e400": b'{"a":1e400}',
    "-1e400": b'{"a":-1e400}',
    "1e-400": b'{"a":1e-400}',
    "an exponent beyond decimals": b'{"a":1e9999999999999999999}',
    "a tiny exponent beyond decimals": b'{"a":1e-9999999999999999999}',
    "zero with an exponent beyond decimals": b'{"a":0e9999999999999999999}',
    "2**53 + 1": b'{"a":9007199254740993}',
    "-2**53 - 1": b'{"a":-9007199254740993}',
    "2**64": b'{"a":18446744073709551616}',
    "5000 digits": b'{"a":' + b"9" * 5000 + b"}",
    "5000 digits behind the point": b'{"a":0.' + b"9" * 5000 + b"}",
    # texts that languages cut, replace or refuse
    "NUL": b'{"a":"\\u0000"}',
    "NUL in a key": b'{"\\u0000decimal":"1"}',
    "raw NUL": b'{"a":"\x00"}',
    "lone high surrogate": b'{"a":"\\ud83d"}',
    "lone low surrogate": b'{"a":"\\uDE00"}',
    "surrogates in the wrong order": b'{"a":"\\ude00\\ud83d"}',
    "lone surrogate behind an escaped backslash": b'{"a":"\\\\ud83d\\ude00"}',
    "lone surrogate behind a pair": b'{"a":"\\ud83d\\ude00\\ude00"}',
    "two high surrogates and a low one": b'{"a":"\\ud83d\\ud83d\\ude00"}',
    "pair with something between": b'{"a":"\\ud83d \\ude00"}',
    "pair and NUL": b'{"a":"\\ud83d\\ude00\\u0000"}',
    "lone surrogate in a key": b'{"\\udfff":1}',
    "surrogate as bytes": b'{"a":"\xed\xa0\xbd"}',
    "overlong slash": b'{"a":"\xc0\xaf"}',
    "latin-1": b'{"a":"caf\xe9"}',
    "cut in a character": b'{"a":"\xe2\x82"}',
    # encodings
    "BOM": b'\xef\xbb\xbf{"a":1}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-16-LE": '{"a":1}'.encode("utf-16-le"),
    "UTF-32-BE": '{"a":1}'.encode("utf-32-be"),
}
DEEP = [b"[" * 10_000, b"[" * 1_000_000, b'{"a":' * 10_000, b"[" * 10_000 + b"]" * 10_000]


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_what_two_parsers_could_read_apart_is_refused(data: bytes) -> None:
    """F16: never decide on a reading that the server may not share."""
    with pytest.raises(AmbiguousError):
        read_json(data)
    assert read_object(data) is None


@pytest.mark.timeout(5)
@pytest.mark.parametrize("data", DEEP, ids=len)
def test_depth_is_refused_at_once(data: bytes) -> None:
    """F17: no 500, and no time lost."""
    with pytest.raises(AmbiguousError):
        read_json(data)
    assert read_answer(data) is None
    with pytest.raises(ValueError):
        read_loosely(data)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b' {"a" : [ 1 , -2 , true , false , null ] }\r\n\t', {"a": [1, -2, True, False, None]}),
        (b'{"a":9007199254740992,"b":-9007199254740992}', {"a": 2**53, "b": -(2**53)}),
        (b'{"a":1.50}', {"a": Decimal("1.50")}),
        (b'{"a":0.0,"b":0}', {"a": Decimal("0.0"), "b": 0}),
        (b'{"a":-2.5e+10}', {"a": Decimal("-2.5E+10")}),
        (b'{"a":"\\u00e9\\n\\"\\\\\\/"}', {"a": 'é\n"\\/'}),
        ('{"é":"\u2028€😀\x7f"}'.encode(), {"é": "\u2028€😀\x7f"}),
        (b'{"a":"\\ud83d\\ude00 \\uD83D\\uDE00"}', {"a": "😀 😀"}),
        (b'{"\\ud83d\\ude00":"\\\\\\ud83d\\ude00"}', {"😀": "\\😀"}),
        (b'{"a":"\\\\ud83d\\\\ude00\\\\u0000"}', {"a": "\\ud83d\\ude00\\u0000"}),
        (b'{"A":1,"a":2}', {"A": 1, "a": 2}),
        (b'{"a":{"a":{"a":1}}}', {"a": {"a": {"a": 1}}}),
        (b"{}", {}),
    ],
)
def test_what_all_parsers_read_alike_is_read(data: bytes, value: Any) -> None:
    read = read_object(data)
    assert repr(read) == repr(value)


@pytest.mark.parametrize("data", [b"[]", b"1", b'"a"', b"null", b"true"])
def test_only_an_object_is_an_object(data: bytes) -> None:
    read_json(data)
    assert read_object(data) is None
    assert read_answer(data) is None


# JSON as somebody could spell it: honest, odd, or broken
_TEXT = st.text(alphabet=st.sampled_from('ab\\"/un0d8ﬁé😀\x00\x1f\ud800'), max_size=5)
_SPELLED_TEXT = st.one_of(
    _TEXT.map(json.dumps),
    _TEXT.map(lambda text: json.dumps(text, ensure_ascii=False)),
    _TEXT.map('"{}"'.format),
)
_SPELLED_NUMBER = st.from_regex(
    r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
) | st.sampled_from(["NaN", "-0", "1.", "9007199254740993", "01"])
_SPACE = st.sampled_from(["", "", "", " ", "\n", "\t", "\x0b", "\ufeff"])


def _in_brackets(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(_SPELLED_TEXT, _SPACE, inner).map(lambda parts: "{}:{}{}".format(*parts))
    return st.lists(inner, max_size=3).map(lambda parts: f"[{','.join(parts)}]") | st.lists(
        member, max_size=3
    ).map(lambda parts: f"{{{','.join(parts)}}}")


spellings = st.builds(
    lambda before, text, after: f"{before}{text}{after}".encode("utf-8", "surrogatepass"),
    _SPACE,
    st.recursive(
        st.sampled_from(["true", "false", "null"]) | _SPELLED_TEXT | _SPELLED_NUMBER, _in_brackets
    ),
    _SPACE,
)


def with_floats(value: Any) -> Any:
    """Read fractions as most languages do."""
    if isinstance(value, dict):
        return {name: with_floats(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [with_floats(inner) for inner in value]
    return float(value) if isinstance(value, Decimal) else value


@given(data=spellings | st.binary())
def test_whatever_is_accepted_is_read_alike_by_others(data: bytes) -> None:
    """F16: 0 cases where our reading differs; types, order and spelling of fractions included."""
    try:
        value = read_json(data)
    except AmbiguousError:
        return
    assert repr(json.loads(data, parse_float=Decimal)) == repr(value)
    assert repr(orjson.loads(data)) == repr(with_floats(value))


@given(data=spellings | st.binary())
def test_no_body_is_too_odd_to_be_looked_at(data: bytes) -> None:
    """F16: whatever comes in is forwarded; an exception here would be a 500."""
    assert read_object(data) is None or isinstance(read_object(data), dict)
    assert read_answer(data) is None or isinstance(read_answer(data), dict)


@pytest.mark.parametrize(
    "data",
    [b'{"id":1,"result":{"n":1e400,"m":9007199254740993,"t":"\\ud83d"}}', b'{"a":-0}'],
)
def test_the_numbers_and_texts_of_an_answer_decide_nothing(data: bytes) -> None:
    assert read_answer(data) is not None


@pytest.mark.parametrize(
    "data",
    [
        b'{"id":1,"id":2}',
        b'{"id":1,"result":{"a":1,"a":2}}',
        b'{"id":1,"\\u0069d":2}',
        b'{"id":1',
        b'\xef\xbb\xbf{"id":1}',
        b'{"a":"caf\xe9"}',
        '{"a":1}'.encode("utf-16"),
    ],
)
def test_an_answer_with_two_readings_is_none(data: bytes) -> None:
    """F15: the id and the result are looked up in it, and it may be stored."""
    assert read_answer(data) is None


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a":"\\ud83d"}', {"a": "\ud83d"}),
        (b'{"a":Infinity}', {"a": float("inf")}),
        (b'{"a":1e400}', {"a": float("inf")}),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'{"id":7,"a":' + b"1" * 5000 + b"}", {"id": 7, "a": float("inf")}),
    ],
)
def test_an_answer_that_clients_can_read_can_be_judged(data: bytes, value: Any) -> None:
    """F14: it passes unchanged; a server whose clients are content has not failed."""
    assert read_loosely(data) == value


@pytest.mark.parametrize(
    ("data", "deep"),
    [*((data, True) for data in DEEP), (b"[" * 300 + b"]" * 300, False), (b"\xff", False)],
)
def test_what_is_too_deep_for_us_is_told_from_what_is_wrong(data: bytes, *, deep: bool) -> None:
    """JavaScript and Go follow deeper than any reader here."""
    assert is_too_deep(data) is deep


@pytest.mark.parametrize("data", [b"", b'{"a":1', b"<html>", b'{"a":"caf\xe9"}', b"{'a':1}"])
def test_what_nobody_can_read_is_not_judged(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_loosely(data)


WORDS = Vocabulary("method", "service", "tokenKey")


@pytest.mark.parametrize("key", ["Method", "METHOD", "\u017fervice", "to\u212aenKey", "tokenkey"])
def test_a_key_that_a_careless_reader_takes_for_ours_is_mimicry(key: str) -> None:
    """F16: Go matches keys without case and folds U+017F and U+212A (CVE-2026-27896)."""
    assert WORDS.is_mimicked({key: 1})
    assert WORDS.is_mimicked({"method": 1, key: 2})
    assert not WORDS.covers({"method": 1, key: 2})


@pytest.mark.parametrize(
    ("members", "covered"),
    [
        ({}, True),
        ({"method": 1, "service": 2}, True),
        ({"method": 1, "methods": 2}, False),
        ({"": 1}, False),
    ],
)
def test_other_keys_are_no_mimicry(members: dict[str, Any], covered: bool) -> None:
    assert not WORDS.is_mimicked(members)
    assert WORDS.covers(members) is covered
