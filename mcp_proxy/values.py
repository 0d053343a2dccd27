"""The kinds of values that settings have, and the words for what a wrong one should have been."""

import re
import shlex
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from mcp_proxy.core.addresses import address
from mcp_proxy.core.origins import hostname, ip_literal
from mcp_proxy.core.peers import network
from mcp_proxy.core.rates import rate
from mcp_proxy.core.scopes import of_pattern

# What a browser sends (RFC 6454 section 6.2; extensions have schemes of their own), and a slash.
_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^\s/?#*]+/?", re.ASCII | re.IGNORECASE)
_PATH = re.compile(r"/[^\s?#]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2


def _listed(value: object) -> object:
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if (isinstance(value, str))
        else value
    )


def _usable_url(value: SecretStr) -> SecretStr:
    try:
        address(value.get_secret_value(), "/")
    except ValueError:  # its text may quote what was meant as a password
        raise ValueError(
            "an http:// or https:// URL with a host, and without query and fragment, "
            "such as http://localhost:9000"
        ) from None
    return value


def _several(value: object) -> object:
    """Read a list of URLs; a comma inside of one belongs to it."""
    if not isinstance(value, str):
        return value
    return re.split(r"\s*,\s*(?=\w+://)", value.strip(", "))


def _distinct(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    if not value or len({address(one.get_secret_value(), "/").name for one in value}) < len(value):
        raise ValueError("one or more URLs of different servers")
    return value


def _usable_command(value: SecretStr) -> SecretStr:
    try:
        words = shlex.split(value.get_secret_value())
    except ValueError:
        words = []
    if not words or not words[0]:
        raise ValueError("a command such as 'python server.py', its quotes in pairs")
    return value


def _usable_redis(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("a URL such as redis://localhost:6379/0, rediss://… or unix://…")
    return value


def _target(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("a path that begins with /")
    return value


def _path(value: str) -> str:
    if not _PATH.fullmatch(value):
        raise ValueError("a path that begins with /, without a query")
    return value


def _each(fits: Callable[[str], object], words: str) -> AfterValidator:
    """Return what refuses a list with a name that does not fit; `words` say what does."""

    def checked(value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(fits, value)):
            raise ValueError(words)
        return value

    return AfterValidator(checked)


def _is_network(text: str) -> bool:
    try:
        network(text)
    except ValueError:
        return False
    return True


def _is_host(name: str) -> bool:
    return name == "*" or hostname(name) is not None or ip_literal(name) is not None


def _sendable(value: SecretStr) -> SecretStr:
    """Refuse what no client can send: HTTP drops blanks around a field (RFC 9110 section 5.5)."""
    token = value.get_secret_value()
    if token != token.strip() or not token.isprintable():
        raise ValueError("a token without blanks around it and without control characters")
    return value


def _host_header(value: str) -> str:
    if hostname(value) is None:
        raise ValueError("upstream, client, or a host name such as mcp.example.com:8080")
    return value


def _public_url(value: str) -> str:
    try:
        address(value, "/")
    except ValueError:
        raise ValueError("a URL such as https://mcp.example.com") from None
    return value


def _rate(value: str) -> str:
    rate(value)  # raises what is expected
    return value


def _delay(value: object) -> object:
    with suppress(ValueError):
        if value == "p95" or 0 <= float(str(value)) <= 86_400:
            return value
    raise ValueError("seconds, or p95")


# one text with commas, or a list
_Listed = str | list[str]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=_Listed)]


def _scopes(value: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in value:
        of_pattern(pattern)
    return value


Scopes = Annotated[tuple[str, ...], AfterValidator(_scopes)]
Networks = Annotated[
    Names, _each(_is_network, "addresses or networks such as 10.0.0.0/8, 192.0.2.7, ::1")
]
Paths = Annotated[Names, _each(_PATH.fullmatch, "paths that begin with /, without a query")]
Hosts = Annotated[Names, _each(_is_host, "host names such as mcp.example.com, or * for any")]
Origins = Annotated[
    Names, _each(_ORIGIN.fullmatch, "origins such as https://app.example.com, or * for any")
]
HeaderNames = Annotated[Names, _each(_TOKEN.fullmatch, "names of headers such as X-Client-Version")]
HostHeader = Annotated[str, AfterValidator(_host_header)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
UrlPath = Annotated[str, AfterValidator(_path)]
Target = Annotated[str, AfterValidator(_target)]  # with a query, perhaps
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
SecondsOrNone = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]  # 0 switches off
Delay = Annotated[
    float | Literal["p95"],
    BeforeValidator(_delay, json_schema_input_type=SecondsOrNone | Literal["p95"]),
]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
CountOrNone = Annotated[int, Field(ge=0, le=1_000_000)]  # 0 switches off
RateText = Annotated[str, AfterValidator(_rate)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=0, le=1 << 40)]
Token = Annotated[SecretStr, AfterValidator(_sendable)]
Url = Annotated[SecretStr, AfterValidator(_usable_url)]  # it may hold a password
Urls = Annotated[
    tuple[Url, ...],
    BeforeValidator(_several, json_schema_input_type=_Listed),
    AfterValidator(_distinct),
]
CommandLine = Annotated[SecretStr, AfterValidator(_usable_command)]  # arguments may be secrets
RedisUrl = Annotated[SecretStr, AfterValidator(_usable_redis)]
