"""Headers as they came: what aiohttp would add to them, or lose of them, is taken back."""

import re

from aiohttp import web
from multidict import CIMultiDict

# What aiohttp invents for an answer that has none. (A Date, too, which RFC 9110 section 6.6.1
# wants of whoever passes an answer on.)
_INVENTED = ("Content-Type", "Server")
_ABSENT = web.ResponseKey("absent", list[str])
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 section 5.5


def as_it_came(response: web.StreamResponse) -> None:
    """Remember what an answer of the server does not have."""
    response[_ABSENT] = [name for name in _INVENTED if name not in response.headers]


async def take_back(_: web.Request, response: web.StreamResponse) -> None:
    """Drop what was invented, as the last act before the head goes out."""
    for name in response.get(_ABSENT, ("Server",)):
        response.headers.pop(name, None)


def is_sound(reason: str | None, headers: CIMultiDict[str]) -> bool:
    """Tell whether an answer's head is free of control characters: they would be injected."""
    return not any(map(_FORBIDDEN.search, (reason or "", *headers.values())))


def sayable(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    """Return the headers such that aiohttp passes all of them on, and their whole values.

    Of two names that differ in case only its client keeps the last, and its writer drops bytes
    that are no UTF-8. Where there are such bytes, they are Latin-1, and are said on as UTF-8.
    """
    if len(headers) == len({name.lower() for name in headers}) and all(
        map(str.isascii, headers.values())
    ):
        return headers
    first: dict[str, str] = {}
    return CIMultiDict(
        (first.setdefault(name.lower(), name), _recoded(value)) for name, value in headers.items()
    )


def _recoded(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value
