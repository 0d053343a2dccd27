"""Headers as they came, towards the server: what aiohttp's client would lose is spelled anew."""

from multidict import CIMultiDict


def sayable(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    """Return the headers such that aiohttp's client sends all of them, and their whole values.

    Of two names that differ in case only its client keeps the last, and its writer drops bytes
    that are no UTF-8. Where there are such bytes, they are Latin-1, and are said on as UTF-8.
    """
    if len(headers) == len(set(map(str.lower, headers))) and "".join(headers.values()).isascii():
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
