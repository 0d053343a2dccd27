"""A preview of arguments shows no secret that can be told as one, and is never long."""

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.capture import LIMIT, REDACTED, arguments, nothing, preview
from mcp_proxy.core.message import Dialect, Message

SECRET_NAMES = (
    "password", "Passwd", "passphrase", "pwd", "user_password", "token", "access-token", "API_KEY",
    "apiKey", "x-api-key", "key", "keys", "Authorization", "proxy authorization", "auth", "secret",
    "client.secret", "cookie", "Set-Cookie", "credential", "credentials", "session_id",
    "Mcp-Session-Id", "jwt", "private", "privateKey", "signature", "otp", "pin", "cvv", "dsn",
)  # fmt: skip
HARMLESS_NAMES = (
    "author",
    "authors",
    "name",
    "limit",
    "query",
    "spinning",
    "monkeys2",
    "description",
)
SECRET_TEXTS = (
    "Bearer abc", "basic dXNlcg==", "see: Token abc", "eyJhbGciOiJIUzI1NiJ9.e30.x",
    "http://me:pw@host/", "redis://:pw@host", "postgres://me@host/db", "-----BEGIN RSA PRIVATE KEY-----",
    "sk-abc", "ghp_abc", "github_pat_abc", "AKIAIOSFODNN7EXAMPLE", "AIzaSyA", "xoxb-1-2", "glpat-xyz",
    "password=x", "my token: x", '{"api_key": "x"}', "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "d41d8cd98f00b204e9800998ecf8427e", "8c4a1f0e-0b5e-4c43-a3ff-6f6f0a0a9c11",
    "the one of today is 7f3kq9x1m2n8b4v6c5z0p", "a" * 40,
)  # fmt: skip
HARMLESS_TEXTS = (
    "Acme", "SELECT Id FROM Account LIMIT 10", "001xx000003DGbYAAW", "PROJ-1234", "me@example.com",
    "2026-01-31T12:00:00Z", "https://example.com/", "naïve 日本語", "",
)  # fmt: skip


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_what_stands_under_a_secret_name_is_replaced(name: str) -> None:
    for value in ("hunter2", 1234, ["hunter2"], {"x": "hunter2"}):
        assert json.loads(preview({name: value})) == {name: REDACTED}


@pytest.mark.parametrize("name", HARMLESS_NAMES)
def test_what_stands_under_another_name_is_shown(name: str) -> None:
    assert json.loads(preview({name: "x"})) == {name: "x"}


@pytest.mark.parametrize("text", SECRET_TEXTS)
def test_what_looks_like_a_credential_is_replaced(text: str) -> None:
    assert json.loads(preview({"q": text})) == {"q": REDACTED}
    assert list(json.loads(preview({text: 1}))) == [REDACTED], "as a name, too"


@pytest.mark.parametrize("value", [*HARMLESS_TEXTS, 0, 1, -2.5, 1_700_000_000_000, True, None])
def test_numbers_and_short_texts_stay(value: object) -> None:
    assert json.loads(preview({"q": value})) == {"q": value}


def test_a_number_of_very_many_digits_is_no_number() -> None:
    assert json.loads(preview([10**20, -(10**20), 10**20 - 1])) == [
        REDACTED, REDACTED, 10**20 - 1,
    ]  # fmt: skip


def test_the_structure_is_bounded() -> None:
    assert json.loads(preview({"a": {"b": {"c": {"d": {}}}}})) == {"a": {"b": {"c": {"d": "{…}"}}}}
    assert json.loads(preview([[[[[1]]]]])) == [[[["[…]"]]]]
    assert json.loads(preview(list(range(20)))) == [*range(8), "… 12 more"]
    assert json.loads(preview({f"n{n}": n for n in range(10)}))["…"] == "2 more"


def test_a_long_text_is_cut_and_a_very_long_one_counted() -> None:
    words = "word " * 30
    assert json.loads(preview(words)) == words[:64] + "…"
    assert json.loads(preview("word " * 1000)) == "[5000 characters]"
    assert json.loads(preview({"word " * 1000: 1})) == {"[5000 characters]": 1}


def test_a_secret_after_the_cut_hides_the_text() -> None:
    """Else it would depend on where it stands."""
    assert json.loads(preview("word " * 30 + "Bearer abc")) == REDACTED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=100),
    lambda inner: (
        st.lists(inner, max_size=12) | st.dictionaries(st.text(max_size=40), inner, max_size=12)
    ),
    max_leaves=40,
)
CANARY = "c4nary-7d1f0a93b2e85c64"


@given(JSON)
def test_a_preview_is_one_bounded_text(value: Any) -> None:
    shown = preview(value)
    assert 0 < len(shown) <= LIMIT
    assert "\n" not in shown


@given(st.sampled_from(SECRET_NAMES), JSON, JSON)
def test_nothing_under_a_secret_name_is_ever_seen(name: str, beside: Any, inside: Any) -> None:
    """F42."""
    shown = preview({"x": [beside, {name: [inside, "c4nary"]}], name: {"c4nary": 1}})
    assert "c4nary" not in shown


@given(st.text(string.ascii_letters + " ,;()\"'\n", max_size=60), st.text(" ,;.", max_size=9), JSON)
def test_a_random_text_is_never_seen_wherever_it_stands(
    before: str, after: str, beside: Any
) -> None:
    """F42."""
    text = before + CANARY + after
    assert "7d1f0a93" not in preview({"q": text, "x": [beside, text, {text: text}]})


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (Message(Dialect.RPC, params={"name": "x", "arguments": {"q": 1}}), '{"q":1}'),
        (Message(Dialect.REST, params={"tool_name": "x", "params": {"q": 1}}), '{"q":1}'),
        (Message(Dialect.RPC, params={"name": "x"}), "null"),
    ],
)
def test_the_arguments_of_either_dialect_are_looked_at(message: Message, shown: str) -> None:
    assert arguments(message) == {"arguments": shown}
    assert nothing(message) == {}
