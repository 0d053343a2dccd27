"""The live events of a running sidecar, over HTTP: a client of `GET /api/events`."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import aiohttp
from yarl import URL

from mcp_proxy.core.clock import Clock
from mcp_proxy.core.readable import harmless
from mcp_proxy.core.sse import Splitter
from mcp_proxy.edge.admin import (
    NoAnswerError,
    base_of,
    detail_of,
    object_in,
    reason,
    unreachable,
    wants_token,
)

_CONNECT = 5.0  # seconds
# The sidecar sends a comment every 20 s (MCP_SSE_KEEPALIVE): a longer silence is a dead connection.
_SILENCE = 75.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
_EVENT_LIMIT = 1 << 20
_PATH = "/api/events"


class NoEventsError(NoAnswerError):
    """There is no live stream to be had, and what to do about it."""


class Live:
    """Follow the live stream, and take it up again where it broke off."""

    def __init__(
        self,
        url: str,
        query: Mapping[str, str],
        token: str | None,
        clock: Clock,
        tell: Callable[[str], None],
    ) -> None:
        self._url = events_of(url, query)
        self._shown = str(self._url.origin())
        self._token = token
        self._clock = clock
        self._tell = tell  # what goes wrong meanwhile
        self._last_id = ""
        self._was_there = False

    def past(self, last: int | None) -> Iterator[str]:  # noqa: ARG002 - asked for in the query
        """Return nothing: the stream itself begins with the past."""
        return iter(())

    async def coming(self) -> AsyncIterator[str]:
        """Read each event's JSON text; raises NoEventsError when that cannot work."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE)
        pause = _FIRST_PAUSE
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                try:
                    async with session.get(
                        self._url, headers=self._headers(), allow_redirects=False
                    ) as response:
                        await self._check(response)
                        pause = _FIRST_PAUSE
                        async for line in self._events(response):
                            yield line
                    trouble = "the stream has ended"
                except aiohttp.SocketTimeoutError:
                    trouble = "nothing was heard for long"
                except (aiohttp.ClientError, OSError) as failure:
                    trouble = self._retried(failure)
                self._tell(f"{self._shown}: {trouble}; trying again")
                await self._clock.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "text/event-stream"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        return headers

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status in {401, 403} and "WWW-Authenticate" in response.headers:
            raise NoEventsError(wants_token(self._shown))
        if response.status >= 500 and self._was_there:
            response.raise_for_status()
        if response.status != 200 or response.content_type != "text/event-stream":
            said = await _detail(response)
            raise NoEventsError(
                f"{self._shown} answers {_PATH} with {response.status}{said}; "
                "is that the port of an mcp-sidecar?"
            )
        self._was_there = True

    def _retried(self, failure: Exception) -> str:
        """Return what to say of a failure that passes; the first time it is not thought to."""
        if not self._was_there:
            or_else = ", a file, or - for standard input"
            raise NoEventsError(unreachable(self._shown, failure) + or_else) from failure
        return f"connection lost ({reason(failure)})"

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncIterator[str]:
        splitter = Splitter(_EVENT_LIMIT)
        while piece := await response.content.readany():
            for event in splitter.feed(piece):
                if event.id is not None:
                    self._last_id = event.id.decode("utf-8", "replace")
                if event.data:
                    yield event.data.decode("utf-8", "replace")


def events_of(url: str, query: Mapping[str, str]) -> URL:
    """Return where the events of a sidecar are; raises ValueError."""
    base = base_of(url)
    if base.path in {"", "/"}:
        base = base.with_path(_PATH, keep_query=True)
    return base.update_query(query)


async def _detail(response: aiohttp.ClientResponse) -> str:
    """Return what a refusal says, if it says it as we do."""
    said = detail_of(object_in(await response.content.read(1 << 16)))
    return f" ({harmless(said)[:200]})" if said else ""
