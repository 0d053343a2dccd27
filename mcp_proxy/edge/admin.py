"""A client of a running sidecar's own endpoints, for the commands."""

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
from yarl import URL

from mcp_proxy.core.readable import harmless

# A sidecar answers for itself without asking anybody; to look through Redis may take it a moment.
_TIMEOUT = aiohttp.ClientTimeout(total=15.0, sock_connect=5.0)
# The metrics of 500 tools take 0.4 MB.
_BODY_LIMIT = 16 << 20


class NoAnswerError(Exception):
    """A sidecar does not answer as wished; says in one line what to do about it."""


class RefusedError(NoAnswerError):
    """A sidecar answers, and will not do it."""

    def __init__(self, message: str, status: int, said: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.said = said


class Admin:
    """Ask a running sidecar about itself; everything raises NoAnswerError."""

    def __init__(self, url: str, token: str | None) -> None:
        self._base = base_of(url)
        self._headers = {"Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self.shown = str(self._base).rstrip("/")

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def get(self, path: str, *also: int) -> dict[str, Any]:
        """Return what an endpoint says, with 200 or one of these statuses."""
        return await self._ask("GET", path, None, (200, *also))

    async def post(self, path: str, said: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Let an endpoint do something, and return what it says of it."""
        return await self._ask("POST", path, orjson.dumps(said) if said else None, (200,))

    async def _ask(
        self, method: str, path: str, body: bytes | None, wanted: tuple[int, ...]
    ) -> dict[str, Any]:
        headers = {**self._headers, **({"Content-Type": "application/json"} if body else {})}
        url = self._base.joinpath(path.lstrip("/"))
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as response:
                if response.status in {401, 403} and "WWW-Authenticate" in response.headers:
                    raise NoAnswerError(wants_token(self.shown))
                said = object_in(await response.content.read(_BODY_LIMIT))
                if response.status in wanted and said is not None:
                    return said
                detail = f" ({harmless(found)[:200]})" if (found := detail_of(said)) else ""
                raise RefusedError(
                    f"{self.shown} answers {path} with {response.status}{detail}"
                    + ("" if said else "; is that the port of an mcp-sidecar?"),
                    response.status,
                    said or {},
                )
        except TimeoutError:
            raise NoAnswerError(f"{self.shown} does not answer in time") from None
        except (aiohttp.ClientError, OSError) as failure:
            raise NoAnswerError(unreachable(self.shown, failure)) from None


def base_of(url: str) -> URL:
    """Return where a sidecar is; raises ValueError."""
    base = URL(url)
    if base.scheme not in {"http", "https"} or not base.host:
        raise ValueError("a URL such as http://localhost:8000")
    if base.user or base.password:
        raise ValueError("a URL without user and password; --token or MCP_ADMIN_TOKEN is for them")
    return base


def wants_token(shown: str) -> str:
    """Return what to do where a token is wanted."""
    return f"{shown} wants its MCP_ADMIN_TOKEN: set the variable, or give --token"


def unreachable(shown: str, failure: Exception) -> str:
    """Return what to do where nobody answers."""
    return f"cannot reach {shown} ({reason(failure)}); start `mcp-sidecar run`, or name another URL"


def reason(failure: Exception) -> str:
    """Return what went wrong, in a few harmless words."""
    said: str | None = None
    if isinstance(failure, aiohttp.ClientResponseError):
        said = f"{failure.status} {failure.message}"
    elif isinstance(failure, aiohttp.ClientConnectorError):
        wrong = failure.os_error  # asyncio's own text repeats the address
        number = wrong.errno or 0
        said = os.strerror(number) if number > 0 else wrong.strerror
    return harmless(said or type(failure).__name__)


def object_in(data: bytes) -> dict[str, Any] | None:
    """Return the JSON object that an answer is, or None."""
    try:
        said = orjson.loads(data)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def detail_of(said: Mapping[str, Any] | None) -> str:
    """Return what a refusal says, if it says it as we do."""
    detail = said.get("detail") if said else None
    return detail if isinstance(detail, str) else ""
