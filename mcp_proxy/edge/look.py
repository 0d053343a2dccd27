"""Look at the server on our own account: the health probe's GET, and the discovery's requests."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import orjson
from yarl import URL

from mcp_proxy.edge.failures import FAILURES, failed

# A health page or a tool list that is larger is not read on.
_BODY_LIMIT = 1 << 20


class Trouble(str):
    """The code of what went wrong; `said` is that for people."""

    __slots__ = ("said",)
    said: str

    @classmethod
    def of(cls, failure: BaseException) -> "Trouble":
        """Return what one of FAILURES means."""
        error = failed(failure)
        trouble = cls(error.code)
        trouble.said = str(error)
        return trouble


class Look:
    """Ask the server something small, with a short limit, and never raise."""

    def __init__(
        self, base: str, session: aiohttp.ClientSession, seconds: float, host: str | None = None
    ) -> None:
        self._base = base
        self._host = {"Host": host} if host else {}
        self._session = session
        self._seconds = seconds

    async def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        connect: float | None = None,
    ) -> tuple[int, dict[str, str], bytes] | Trouble:
        """Return status, headers by lower-cased name and body, or the code of what went wrong.

        With `connect`, seconds to connect in beside those for the answer, a server that lets
        nobody connect is told from one that is silent.
        """
        limits = aiohttp.ClientTimeout(total=self._seconds + (connect or 0.0), sock_connect=connect)
        try:
            async with self._asked(method, path, headers, body, limits) as response:
                data = b""
                while len(data) < _BODY_LIMIT and (piece := await response.content.readany()):
                    data += piece
                return response.status, lowered(response.headers), data
        except FAILURES as failure:
            return Trouble.of(failure)

    async def begin(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, patience: float
    ) -> tuple[int, dict[str, str], bytes] | Trouble:
        """Return head and first bytes of a stream, which is then left; none in time is b""."""
        limits = aiohttp.ClientTimeout(sock_connect=patience, sock_read=patience)
        try:
            async with self._asked(method, path, headers, body, limits) as response:
                try:
                    first = await response.content.readany()
                except TimeoutError:
                    first = b""
                response.close()
                return response.status, lowered(response.headers), first
        except FAILURES as failure:
            return Trouble.of(failure)

    def _asked(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        limits: aiohttp.ClientTimeout,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._session.request(
            method,
            URL(self._base + path, encoded=True),
            data=body or None,
            headers={**self._host, **headers},
            allow_redirects=False,
            timeout=limits,
        )


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers by their names in lower case."""
    return {name.lower(): value for name, value in headers.items()}


def fields_in(data: bytes) -> dict[str, Any]:
    """Return the JSON object in a health page, or nothing; one too deep to be told on is nothing."""
    try:
        value = orjson.loads(data)
        orjson.dumps(value)
    except (ValueError, TypeError):
        return {}
    return value if isinstance(value, dict) else {}
