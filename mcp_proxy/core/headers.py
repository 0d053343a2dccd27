"""Which headers travel, which stay, and which are ours to set (RFC 9110 section 7.6)."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from multidict import CIMultiDict

from mcp_proxy.core.call import Headers, Peer, RawHeaders
from mcp_proxy.core.trace import PARENT, STATE, Trace

# RFC 9110 section 7.6.1 and RFC 9112: they speak of one connection only.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# Named in `Connection`, these would be stripped and change what the server decides: an attack.
_PROTECTED = frozenset(
    {
        "authorization",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "host",
        "last-event-id",
        "mcp-method",
        "mcp-name",
        "mcp-protocol-version",
        "mcp-session-id",
        "origin",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    }
)
# Ours to set towards the server; what a client claims here is not believed.
_OURS_UPSTREAM = frozenset(
    {
        "host",
        "expect",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
    }
)
_NOT_SENT_ON = HOP_BY_HOP | _OURS_UPSTREAM
# Where we say them; baggage is said by us only where the client's headers have none.
_TRACED_NOT_SENT_ON = _NOT_SENT_ON | {PARENT, STATE}
# What callers say is remembered only below this (bytes), or memories would grow with them.
SMALL = 2048
_PRINTABLE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/+=@")
_REQUEST_ID_LIMIT = 128
# Schemes by which servers know a connection and not a request (RFC 4559 section 6, MS-NTHT, MS-N2HT).
_OF_A_CONNECTION = frozenset({"negotiate", "ntlm", "nego2"})
_CHARSET_UTF_8 = re.compile(r"""\s*charset\s*=\s*("?)utf-?8\1\s*""", re.IGNORECASE)
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 section 5.5
_NO_QUALITY = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*", re.IGNORECASE)


def named_in_connection(headers: Headers) -> frozenset[str]:
    """Return the lower-cased names that `Connection` lists as hop-by-hop."""
    lists = headers.getall("Connection", ())
    if not lists:
        return frozenset()
    return frozenset(name.strip().lower() for line in lists for name in line.split(",")) - {""}


def abuses_connection(headers: Headers) -> bool:
    """Tell whether `Connection` names a header that the server's decision rests on."""
    return not _PROTECTED.isdisjoint(named_in_connection(headers))


def end_to_end(headers: Headers, raw: RawHeaders = ()) -> CIMultiDict[str]:
    """Return a copy with the headers that are meant for the far end, in order.

    `raw` is how they were spelled: aiohttp's parser has its own spelling of the names it knows.
    """
    return CIMultiDict(_travelling(headers, raw, HOP_BY_HOP))


def _travelling(
    headers: Headers, raw: RawHeaders, dropped: frozenset[str]
) -> list[tuple[str, str]]:
    named = named_in_connection(headers)
    if named:
        dropped |= named
    # as `as_text` does, without a call for each of them
    spelled = (
        [
            (name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
            for name, value in raw
        ]
        if raw
        else headers.items()
    )
    return [item for item in spelled if item[0].lower() not in dropped]


def is_small(raw: RawHeaders) -> bool:
    """Tell whether headers may be remembered."""
    return sum(map(len, chain.from_iterable(raw))) <= SMALL


def as_text(data: bytes) -> str:
    """Return bytes of a head as text; what is no UTF-8 can be told from it again."""
    return data.decode("utf-8", "surrogateescape")


def as_bytes(text: str) -> bytes:
    """Return the text of a head as the bytes that it was read from."""
    return text.encode("utf-8", "surrogateescape")


def is_framed_oddly(headers: Headers) -> bool:
    """Tell whether a body is coded for the transfer in another way than by chunks alone.

    Such a coding is between two neighbours (RFC 9112 section 7), and none but `chunked` is undone
    here: passed on without its name, the body would be read as something else.
    """
    codings = headers.getall("Transfer-Encoding", ())
    return bool(codings) and [coding.strip().lower() for coding in codings] != ["chunked"]


def request_headers(
    headers: Headers,
    raw: RawHeaders = (),
    *,
    via: str,
    peer: Peer,
    request_id: str,
    host: str | None = None,
    trace: Trace | None = None,
) -> CIMultiDict[str]:
    """Return what goes upstream: the end-to-end headers in order, then ours.

    `host` is the name by which the server is addressed; None leaves it to the connection.
    """
    traced = trace.headers() if trace is not None else {}
    sent = lasting_headers(headers, raw, via=via, peer=peer, host=host, traced=bool(traced))
    return CIMultiDict([*sent, ("X-Request-Id", request_id), *traced.items()])


def lasting_headers(
    headers: Headers, raw: RawHeaders, *, via: str, peer: Peer, host: str | None, traced: bool
) -> list[tuple[str, str]]:
    """Return what goes upstream with each request that has these headers.

    `traced` tells that the server hears from us where it stands in the trace.
    """
    sent = _travelling(headers, raw, _TRACED_NOT_SENT_ON if traced else _NOT_SENT_ON)
    if host is not None:
        sent.insert(0, ("Host", host))
    sent += [("Via", via), ("X-Forwarded-For", peer.hops), ("X-Forwarded-Proto", peer.scheme)]
    if peer.host is not None:
        sent.append(("X-Forwarded-Host", peer.host))
    return sent


def passed_through(headers: Headers, pseudonym: str) -> bool:
    """Tell whether a request has been here before: our own name stands in `Via`."""
    return any(
        pseudonym in hop.split() for line in headers.getall("Via", ()) for hop in line.split(",")
    )


def harmless_request_id(claimed: str | None) -> str | None:
    """Return a client's request id if it is short and safe to print, else None."""
    if claimed and len(claimed) <= _REQUEST_ID_LIMIT and _PRINTABLE.issuperset(claimed):
        return claimed
    return None


def is_sound(*texts: str) -> bool:
    """Tell whether texts may stand in a head: a control character would be injected."""
    return not any(map(_FORBIDDEN.search, texts))


def claims_connection(headers: Headers) -> bool:
    """Tell whether a server may take all that follows on the connection for said by the same one."""
    said = headers.get("Authorization")
    return said is not None and said.partition(" ")[0].lower() in _OF_A_CONNECTION


def media_type(headers: Headers) -> str:
    """Return the lower-cased type/subtype of `Content-Type`, or an empty text."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def is_plain_json(headers: Headers) -> bool:
    """Tell whether a body is JSON that can be read as it is: UTF-8, no content coding."""
    return media_type(headers) == "application/json" and is_plain_utf8(headers)


def is_plain_utf8(headers: Headers) -> bool:
    """Tell whether all who read the body read it as UTF-8: no content coding, no other charset.

    The TypeScript SDK decodes a request as its charset says (server/sse), and in UTF-7 `+ACI-` is
    the quote that ends a string.
    """
    if "Content-Encoding" in headers:
        return False
    _, _, parameters = ";".join(headers.getall("Content-Type", ())).partition(";")
    return "charset" not in parameters.lower() or bool(_CHARSET_UTF_8.fullmatch(parameters))


def accepts(headers: Headers, kind: str) -> bool:
    """Tell whether `Accept` admits the media type; an absent header admits all.

    The most specific range decides, and `q=0` refuses (RFC 9110 section 12.5.1).
    """
    admitted: dict[str, bool] = {}
    for line in headers.getall("Accept", ("*/*",)):
        for part in line.split(","):
            name, *parameters = part.split(";")
            refused = any(map(_NO_QUALITY.fullmatch, parameters))
            admitted[name.strip().lower()] = not refused
    ranges = (kind, f"{kind.partition('/')[0]}/*", "*/*")
    return next((admitted[name] for name in ranges if name in admitted), False)


def cache_control(headers: Headers) -> frozenset[str]:
    """Return the lower-cased directives of `Cache-Control`, without their arguments."""
    lists = headers.getall("Cache-Control", ())
    if not lists:
        return frozenset()
    return frozenset(directive_names(lists))


def directive_names(lists: Iterable[str]) -> Iterator[str]:
    """Yield each directive's name (RFC 9111 section 5.2)."""
    for line in lists:
        for directive in line.split(","):
            yield directive.partition("=")[0].strip().lower()
